"""Work that can be cut in shares: a share of it here, or all shares as jobs of a cluster."""

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from nail.checks import BadInput, printable, require, require_known
from nail.cli.parse import imported

MIN_MINUTES, MAX_MINUTES = 5, 365 * 24 * 60
"""limits of a Slurm job: it is told of its end a minute or two before"""


@dataclass(frozen=True, kw_only=True)
class Shares:
    """Work that can be cut in shares, and sent to a cluster."""

    shard: str = "1/1"
    """run share i of n, as i/n with 1 ≤ i ≤ n (into a folder of its own or a shared one)"""
    slurm: bool = False
    """submit the work to Slurm: shards as an array job, then a merge"""
    cluster: str = "slurm"
    """slurm, or local to try --slurm on this machine"""
    shards: int = 4
    """shards of the array job, 1 ≤ shards ≤ 10,000 and at most Slurm's MaxArraySize"""
    partition: str | None = None
    """Slurm's partition"""
    time: int = 24 * 60
    """limit of a Slurm job in minutes, 5 ≤ time ≤ 525,600 (a year); a job that comes to it is sent again, up to 100
    times, and goes on from its last checkpoint"""
    slurm_option: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """further option of sbatch as NAME=VALUE, for example gres=gpu:1, or cpus-per-task=8 (4 without it; without a GPU a
    job has as many devices); may be given again"""

    def submit(
        self, out: Path, runs: dict[str, dict[str, Any]], command: list[str], merge: list[str], what: str
    ) -> None:  # fmt: skip
        """Submit shards of `command`, without its folder, and their merge with the options `merge`; `runs` are the ids
        and fields of all `what`."""
        from nail.sweep import cluster
        from nail.sweep.plan import ask
        from nail.sweep.store import open_folder

        require_known("cluster", self.cluster, ("slurm", "local"))
        require(MIN_MINUTES <= self.time <= MAX_MINUTES, "time", self.time, f"minutes in {MIN_MINUTES}..{MAX_MINUTES}")
        options, local = dict(_pair(option) for option in self.slurm_option), self.cluster == "local"
        most = cluster.MOST_PROCESSES if local else cluster.most_shards()
        require(1 <= self.shards <= most, "shards", self.shards, f"an integer in 1..{most} (Slurm's MaxArraySize)")
        cluster.require_same_source(imported)
        out = open_folder(out).resolve()
        for i in range(self.shards):
            # also of a shard that never begins there is a folder to merge
            open_folder(out / "shards" / f"{i + 1}-of-{self.shards}")
        logs = out / "jobs"
        logs.mkdir(exist_ok=True)
        modules = [part for module in imported for part in ("--import", module)]
        joined = [*modules, "sweep", "merge", *merge, "--out", str(out)]
        scripts = cluster.scripts(out, self.shards, [*modules, *command], joined)
        ask(out, runs)
        said = f"{len(runs)} {what} in {self.shards} shards, logs of the jobs in {printable(logs)}"
        if local:
            print(said)
            cluster.run_here(scripts, self.shards, logs)
        else:
            jobs = cluster.submit(scripts, self.shards, logs, self.time, self.partition, options)
            print(f"{said}: job {jobs[0]}, and their merge {jobs[1]}")
        folder = printable(out)
        print(
            f"nail sweep status {folder} shows how far they are; the table will be rows.csv there, and "
            f"nail plot {folder} draws it"
        )


def given_options(command: Any, kind: type, names: Iterable[str]) -> list[str]:
    """Those of a command's options that are not at their default, as arguments."""
    found: list[str] = []
    for field in dataclasses.fields(kind):
        value = getattr(command, field.name)
        if field.name not in names or value == field.default:
            continue
        option = field.name.replace("_", "-")
        if isinstance(value, bool):
            found.append(f"--{'' if value else 'no-'}{option}")
        else:
            for part in value if isinstance(value, tuple) else (value,):
                found += [f"--{option}", str(part)]
    return found


def _pair(option: str) -> tuple[str, str]:
    name, equals, value = option.partition("=")
    if not equals:
        raise BadInput(f"slurm_option must be NAME=VALUE, got {option}")
    return name, value
