"""What the tests of damage share: small folders of every kind, damage of every kind, and what is done with a folder."""

import dataclasses
import os
import shutil

import numpy as np
from matplotlib.figure import Figure
from sweeping import BASE, OPTIONS

from nail.cli.main import main
from nail.figures import experiment
from nail.sweep.grid import grid
from nail.sweep.points import run_points
from nail.training.config import TrainConfig, run_id

SHORT = [*OPTIONS, "--steps=6"]
SWEEP = ["sweep", "grid", *SHORT, "--vary=seed=0:4", "--runs-per-lot=2", "--no-plot"]
CONFIGS = grid(dataclasses.replace(BASE, steps=6), seed=range(4))
FIRST = dataclasses.replace(CONFIGS[0], method="loglossbc")
BEFORE = {"staged": [["train", *SHORT, "--no-plot", "--method=loglossbc"]]}
"""what is done in a folder before its command"""
COMMANDS = {
    "finished": SWEEP,
    "unfinished": SWEEP,
    "failed": ["sweep", "grid", *SHORT, "--vary=seed=0:2", "--vary=lr=0.1,1e38", "--runs-per-lot=2", "--no-plot"],
    "trained": ["train", *SHORT, "--no-plot", "--seeds=2"],
    "staged": ["train", *SHORT, "--no-plot", f"--start={run_id(FIRST)}"],
    "points": ["figure", "toy", "--preset=smoke"],
}
EXPERT = "expert --task garnet --S 4 --A 2 --H 2 --batch 2 --steps 2 --warmup 0 --n-validation 5".split()
USER = TrainConfig(
    task="garnet", S=4, A=2, H=2, batch=2, steps=2, warmup=0, n_validation=5, expert="", allow_imperfect_expert=True
)


def measure(point):
    return [{**point, "row": i, "y": point["x"] ** 2 / 7} for i in range(2)]


def toy():
    """A figure of six points that takes no time."""

    def compute(_, out):
        return run_points("toy", out, [[{"x": 10 * s + i} for i in range(3)] for s in range(2)], measure)

    claims = [experiment.Claim("claim", "source", "refuted", "measured", True)]
    return experiment.Experiment(
        "toy", "a toy", {"smoke": "0 s"}, compute, lambda rows: rows[["x", "y"]], lambda _: claims, lambda _: Figure()
    )  # fmt: skip


def flipped(at):
    return lambda b: b[: (i := int(at * len(b)))] + bytes([b[i] ^ 4]) + b[i + 1 :]


def other_digit(b):
    """The last digit but ten becomes another one."""
    at = [i for i, c in enumerate(b) if 48 <= c < 58][-10:][:1]
    return b"".join(bytes([48 + (c - 47) % 10]) if i in at else bytes([c]) for i, c in enumerate(b))


CONTENT = {
    "emptied": lambda b: b"",
    "halved": lambda b: b[: len(b) // 2],
    "a little short": lambda b: b[:-2],
    "a line short": lambda b: b.rstrip(b"\n").rpartition(b"\n")[0] + b"\n",
    "twice": lambda b: b + b,
    "flipped at the start": flipped(0.02),
    "flipped amid": flipped(0.5),
    "flipped at the end": flipped(0.93),
    "another digit": other_digit,
    "a byte order mark": lambda b: b"\xef\xbb\xbf" + b,
    "no text": lambda b: b[: len(b) // 2] + b"\xff\xe9" + b[len(b) // 2 :],
    "zeros": lambda b: bytes(len(b)),
    "an empty object": lambda b: b"{}\n",
    "an empty list": lambda b: b"[]\n",
    "null": lambda b: b"null\n",
    "deep": lambda b: b"[" * 100_000,
    "a long field": lambda b: b[: len(b) // 2] + b"9" * 140_000 + b[len(b) // 2 :],
}  # fmt: skip
OTHERS = ("lost", "a folder", "a pipe", "a bare array", "swapped with its like", "swapped with another")
DAMAGES = (*CONTENT, *OTHERS)
CASES = [(kind, how) for kind in ("finished", "unfinished") for how in DAMAGES] + [
    (kind, how) for kind in ("failed", "trained", "staged", "points")
    for how in ("emptied", "halved", "flipped amid", "another digit", "an empty object", "lost", "a folder")
]  # fmt: skip
"""folder and damage; each is tried on one file of every kind"""
SOME = [("unfinished", "another digit"), ("failed", "an empty object"), ("staged", "halved")]
"""those that are tried whenever tests are run"""


def damage(out, path, how):
    """Damage a file; False if there is none to swap it with."""
    if how in CONTENT and not path.stat().st_size:
        return False
    if how in CONTENT:
        path.write_bytes(CONTENT[how](path.read_bytes()))
    elif how.startswith("swapped"):
        like = how == "swapped with its like"
        others = sorted(
            p for p in out.rglob("*") if p.is_file() and p.stat().st_size and p != path
            and like == (p.suffix == path.suffix) and (not like or p.parent.parent.name == path.parent.parent.name
                                                       or p.parent.name == path.parent.name)
        )  # fmt: skip
        if not others:
            return False
        content = path.read_bytes()
        path.write_bytes(others[0].read_bytes())
        others[0].write_bytes(content)
    else:
        path.unlink()
        if how == "a folder":
            path.mkdir()
        elif how == "a pipe":
            os.mkfifo(path)
        elif how == "a bare array":
            with path.open("wb") as file:
                np.save(file, np.arange(3))
    return True


def kinds_in(out):
    """Of each kind of file one: of a lot whose run failed, or that has a checkpoint, if there is one."""
    found = {}
    special = {path.parent.parent for kind in ("failed", "state") for path in out.glob(f"runs/*/{kind}/*")}
    for path in sorted(out.rglob("*"), key=lambda path: (not special & set(path.parents), path)):
        if path.is_file() and path.suffix not in (".png", ".pdf", ".md"):
            kind = path.parent.name if path.parent.parent.parent.name == "runs" else path.name
            found.setdefault("asked" if path.parent.name == "asked" else kind, path)
    return list(found.values())


def table(out, name="rows.csv"):
    return (out / name).read_bytes() if (out / name).is_file() else None


def ends_of(out, command, whole, scratch):
    """(exit code, table) of what is done with a folder."""
    found = [(main(["sweep", "status", str(out)]), None)]
    for joined, part in ((scratch / "joined", out), (scratch / "into", whole)):
        if part is whole:
            shutil.copytree(out, joined, ignore=lambda at, names: [n for n in names if is_pipe(os.path.join(at, n))])
        code = main(["sweep", "merge", str(part), "--out", str(joined)])
        found.append((code, table(joined)))
        shutil.rmtree(joined, ignore_errors=True)
    code = main([*command, "--out", str(out)])
    return [*found, (code, table(out, "toy_rows.csv" if "toy" in command else "rows.csv"))]


def is_pipe(path):
    return not (os.path.isfile(path) or os.path.isdir(path))
