"""Command lines of every command, drawn from its own options, and what comes of one where the long work is left out."""

import contextlib
import dataclasses
import functools
import io
import os
import typing
from pathlib import Path

import pytest
import tyro
from hypothesis import strategies as st

from nail.cli import main as entry
from nail.cli.bench import plans, steps, sweeps
from nail.cli.lm_command import LmEvaluate, LmTrain
from nail.cli.nstar_command import n_star_for
from nail.cli.parse import with_config
from nail.cli.sweep_command import SUBCOMMANDS, Grid
from nail.cli.theory_command import QUANTITIES, question
from nail.counting import nstar
from nail.counting.rows import level_methods
from nail.envs.noises import NOISES
from nail.envs.tasks import TASKS
from nail.figures import experiment
from nail.methods import trained_methods
from nail.sweep import cluster, engine
from nail.sweep.store import open_folder, to_csv
from nail.theory import online, plurality
from nail.training.config import config_class

INTEGERS = ["0", "1", "2", "3", "4", "8", "-1", "100", "65536", "2147483647", "2147483648", "4294967296",
            "9223372036854775808", "1000000000", "-9223372036854775809", "99999999999999999999", "1" + "0" * 400,
            "9" * 5000]  # fmt: skip
FRACTIONS = ["0", "0.1", "0.5", "1", "2", "-1", "-0.0", "1e-9", "1e-45", "1e-320", "1e39", "1e300", "1e308", "1e400",
             "inf", "-inf", "nan", "0.9999999999999999", "64"]  # fmt: skip
TEXTS = ["", " ", "x", "x'y", 'x"y', "é", "日本", "two\nlines", "x" * 5000, "\x1b[31m", "--", "-", "None", "true",
         "1e3", "0x10", "1_0", "a=b", "a=", "=", "1/1", "2/1", "0:3", "eta=0.1,0.2", "seed=0:3", "seed=0:999999999999",
         "method=", "lr=nan", "width=1000000000", "localhost:1", "host", "[x]", "None,None", "%s", "{x}"]  # fmt: skip
PATHS = ["out", "a/b/c", "", ".", "..", "file", "file/x", "made", "full", "figures", "runs", "/proc/x", "/dev/null",
         "x" * 300, "a/" * 3000, "é", "-x", "\udcff", "figures/report.html", "nowhere", "nul\0"]  # fmt: skip
NAMES = [
    *TASKS, *(row.name for row in trained_methods()), *level_methods(), *experiment.names(), "all", "cpu", "smoke",
    "paper", *NOISES, "oracle", "full", "mc", "parallel", "float32", "bfloat16", "on", "off", "lowest",
    "dominated", "tensorboard", "wandb", "queries", "episodes", "local", "follow", "poison-chain", "sweep", "tabular",
]  # fmt: skip
POSITIONAL, SUPPRESSED = (typing.get_args(kind[int])[1] for kind in (tyro.conf.Positional, tyro.conf.Suppress))


class Reached(BaseException):
    """The long work would begin here."""


class Absurd(BaseException):
    """The long work would begin, and can come to no end."""


def _kinds():
    """All commands, with the options of each task."""
    found = {
        (name,): kind for name, kind in entry.commands([]).items() if name not in ("sweep", "theory", "n-star", "lm")
    }
    for task in TASKS:
        for name in ("train", "expert"):
            found[name, "--task", task] = entry.commands([name, "--task", task])[name]
        found["sweep", "grid", "--task", task] = with_config(Grid, config_class(task))
    found |= {("sweep", name): kind for name, kind in SUBCOMMANDS.items() if name != "grid"}
    found |= {("lm", "train"): LmTrain, ("lm", "evaluate"): LmEvaluate}
    found |= {("theory", row.name): question(row) for row in QUANTITIES}
    for name, row in TASKS.items():
        if row.instance:
            found["n-star", "--instance", name] = n_star_for(["n-star", "--instance", name])
    return found


KINDS = _kinds()
"""words of a command → the dataclass of its options"""


@functools.cache
def pools_of(kind):
    """(values likely to be taken, values of the type, values of any sort) for an option of a type."""
    parts = set(typing.get_args(kind) or (kind,))
    of_type = {int: INTEGERS, float: FRACTIONS, str: NAMES, Path: PATHS}
    mild = {int: "123458", float: ["0.1", "0.3", "0.5", "1.5"], Path: ["out", "made", "figures", "runs"]}
    fitting = [value for part, pool in of_type.items() if part in parts for value in pool]
    likely = [value for part, pool in mild.items() if part in parts for value in pool]
    likely += sorted(part for part in parts if isinstance(part, str))  # of a choice among words
    anything = TEXTS if parts <= {str, tuple, ...} else [*TEXTS, *INTEGERS, *FRACTIONS, *NAMES, *PATHS]
    return (*(likely or fitting or TEXTS,) * 6, *(fitting or TEXTS,) * 3, anything)


def options_of(kind):
    """(name, type, whether it must be given) of the positional ones and of the others."""
    hints, places, options = typing.get_type_hints(kind, include_extras=True), [], []
    for field in dataclasses.fields(kind):
        hint = hints[field.name]
        base, *marks = typing.get_args(hint) if hasattr(hint, "__metadata__") else (hint,)
        if SUPPRESSED not in marks:
            needed = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
            (places if POSITIONAL in marks else options).append((field.name.replace("_", "-"), base, needed))
    return places, options


def command_line(choose):
    """A command, most of what it must have, a few of its options with values of all sorts, sometimes a word too much.

    `choose` takes one out of a sequence.
    """
    words, kind = choose(list(KINDS.items()))
    words, (places, options) = list(words), options_of(kind)
    for _, base, _ in places:
        if choose(range(10)):
            words.append(choose(choose(pools_of(str if base is str else Path))))
    for name, base, needed in options:
        if (needed and choose(range(20))) or choose(range(len(options))) < 2:
            if base is bool:
                words.append(choose([f"--{name}", f"--no-{name}"]))
            else:
                value = choose(choose(pools_of(base)))
                words += choose([[f"--{name}", value], [f"--{name}={value}"]])
    if not choose(range(15)):
        words.insert(choose(range(len(words) + 1)), choose([*TEXTS, *NAMES, "--nothing", "--import"]))
    return words


@st.composite
def command_lines(draw):
    """What `command_line` gives."""
    return command_line(lambda sequence: draw(st.sampled_from(sequence)))


def folders(root):
    """What the paths among the values stand for: our folder, another's, figures, runs, a file."""
    (root / "file").write_text("a file\n")
    (root / "full").mkdir()
    (root / "full" / "foreign.txt").write_text("of somebody\n")
    open_folder(root / "made")
    (root / "figures").mkdir()
    claim = {"claim": "c", "source": "s", "refutes": "r", "measured": "m", "holds": "holds"}
    (root / "figures" / "fig2_claims.csv").write_text(to_csv([claim]))
    (root / "runs").mkdir()
    row = {"run": "0123456789ab", "method": "nail-f", "step": 0, "episodes": 0, "full_exact": 0.5}
    (root / "runs" / "rows.csv").write_text(to_csv([row]))


def reached(*_, **__):
    """In the place of the long work."""
    raise Reached


def lengths_of(config):
    """Tokens of a chain (a prompt has as many), and of the vocabulary, by hand."""
    return {
        "modadd": lambda: (config.m, config.p + 1), "s5": lambda: (7 * config.m, 8), "defclass": lambda: (13, 26)
    }[config.task]()  # fmt: skip


def _training(there, out, configs, *_):
    """In the place of compiling: the largest arrays of a run, by hand, are to fit into this machine's memory."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for config in configs:
        if hasattr(config, "width"):
            chain, actions = lengths_of(config)
            positions, width = 2 * chain, config.width
            parameters = 12 * config.layers * width**2 + width * (positions + actions)
            scores = config.batch * config.heads * chain * positions
            needed = 12 * parameters + 4 * max(scores, config.batch * chain * (actions + 4 * width))
        else:
            needed = 4 * config.H * config.A * (3 + config.batch)
        if config.method == "dagger":
            needed += (config.dagger_buffer or config.batch * config.steps) * 2
        if needed > memory or len(configs) > 10**6:
            raise Absurd(f"{needed} bytes, {len(configs)} runs")
    raise Reached


def _bounded(function, work):
    """`function`, or the end of a command line where it would take more than a moment."""

    def call(*arguments, **named):
        if work(*arguments) > 10**6:
            raise Reached
        return function(*arguments, **named)

    return call


@contextlib.contextmanager
def without_long_work():
    """Nothing is compiled, measured, sent to a cluster or computed for long."""
    real = experiment.load
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TERM", "xterm")
        patch.setattr(engine, "_planned", _training)
        patch.setattr(experiment, "load", lambda name: _without_points(real(name)))
        patch.setattr(nstar, "crossing", reached)
        for module, name in (
            (steps, "_measure"),
            (plans, "_plan"),
            (sweeps, "_measure"),
            (cluster, "submit"),
            (cluster, "run_here"),
        ):
            patch.setattr(module, name, reached)
        patch.setattr("nail.cli.bench.counts.best_seconds", reached)
        patch.setattr("jax.distributed.initialize", reached)
        patch.setattr(plurality, "_split_block", _bounded(plurality._split_block, lambda A, low, high, rows: A * rows))
        patch.setattr(online, "two_class_table", _bounded(online.two_class_table, lambda q, labels, *_: labels * 1000))
        patch.setattr(
            online, "_simulated_level", _bounded(online._simulated_level, lambda law, labels, ties, r, *_: labels * r)
        )
        yield


def _without_points(found):
    """A figure whose rows are not computed, unless they are those of training runs."""
    return found if found.runs else found._replace(compute=reached)


class Terminal(io.StringIO):
    """Standard output as a terminal with colours is it."""

    encoding = "utf-8"

    def isatty(self):
        return True


def outcome(words, terminal=True):
    """What comes of a command line: "done", "reached", "refused", or what must not be."""
    out, err = (Terminal() if terminal else io.StringIO()), io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = entry.main(words)
    except Reached:
        return "reached"
    except Absurd as error:
        return f"absurd: {error}"
    except SystemExit as end:
        code = end.code or 0
        if code:
            return f"exit {code}"
    if code == 0:
        return "done"
    lines = err.getvalue().splitlines()
    if code != 2:
        return f"code {code}: {err.getvalue()[-300:]}"
    last = lines[-1] if lines else ""
    if not all(line.startswith("nail: ") for line in lines) or not last or not is_sentence(last):
        return f"box: {err.getvalue()[:400]}"
    return "refused"


def is_sentence(line):
    """Whether a line is for people: no box, no help text of the parser, no page of text."""
    drawn = any(mark in line for mark in ("│", "╭", "╰", "─", "| ", "--- ", "\x1b"))
    return not drawn and len(line) < 600 and "For full helptext" not in line and len(line) > len("nail: ") + 8
