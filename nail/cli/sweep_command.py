"""`nail sweep …`: the runs of a figure or a grid, in shares, on more machines; how far they are; joining parts."""

import dataclasses
import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Annotated, Any

import tyro

from nail.checks import BadInput, printable, require, require_known, say
from nail.cli.figure_command import own_grid
from nail.cli.parse import Out, imported, with_config
from nail.cli.programs import set_up_jax
from nail.training.config import TrainConfig, config_class, plain, run_id

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


@dataclass(frozen=True, kw_only=True)
class How(Shares):
    """How a sweep is run; none of it changes a number."""

    out: Out = Path("sweep")
    retry_failed: bool = False
    """run those again that failed"""
    any_revision: bool = False
    """take finished runs that another revision of the source computed"""
    keep_params: bool = False
    """keep the final parameters of each run, for `nail.load`"""
    runs_per_lot: int | None = None
    """runs that are computed together ≥ 1; default: what memory allows, on a CPU 4 a core"""
    distributed: bool = False
    """this is one of several processes that share the folder; each takes all devices that it sees, and one of them
    where a launcher (srun, mpirun) says its index"""
    processes: int | None = None
    """number of processes, 1 ≤ processes ≤ 10,000; default: what the launcher says, and so for the next"""
    process: int | None = None
    """index of this one, 0 ≤ process < processes"""

    def run(self) -> None:
        from nail.sweep.grid import parse_shard

        require(self.runs_per_lot is None or self.runs_per_lot >= 1, "runs_per_lot", self.runs_per_lot, "at least 1")
        index, count = parse_shard(self.shard)
        configs = self.configs()
        if self.slurm:
            return self._submit(configs)
        return self._sweep(configs, index, count)

    def configs(self) -> tuple[TrainConfig, ...]:
        """The whole sweep."""
        raise NotImplementedError

    def command(self) -> list[str]:
        """The arguments that name the sweep."""
        raise NotImplementedError

    def bring(self, out: Path, configs: tuple[TrainConfig, ...]) -> None:
        """Copy into `out` what `configs` start from, where that lies in another folder."""

    def finish(self, out: Path) -> None:
        """What is made of the rows of a folder at the end."""

    def _sweep(self, configs: tuple[TrainConfig, ...], index: int, count: int) -> None:
        from nail.sweep.cluster import own_share_first, place
        from nail.sweep.grid import shard
        from nail.sweep.store import open_folder

        shares = [shard(configs, index, count)]
        if self.distributed:
            shares = own_share_first(shares[0], *place(self.process, self.processes))
        out = open_folder(self.out)
        set_up_jax()
        self.bring(out, shares[-1])
        from nail.sweep.engine import Options, sweep
        from nail.sweep.failures import RunsFailed
        from nail.sweep.finished import table_written

        options = Options(
            keep_params=self.keep_params, retry_failed=self.retry_failed, any_revision=self.any_revision,
            runs_per_lot=self.runs_per_lot,
        )  # fmt: skip
        with table_written(out, self.any_revision, said=True):
            for share in shares:
                outcome = sweep(share, out, options, whole=configs)
                # what failed here just now is not to be tried again with the rest
                options = dataclasses.replace(options, retry_failed=False)
        self.finish(out)
        if outcome.failures:
            raise RunsFailed(outcome.failures, len(shares[-1]), out)

    def _submit(self, configs: tuple[TrainConfig, ...]) -> None:
        how = [
            *self.command(),
            *given_options(self, How, ("retry_failed", "any_revision", "keep_params", "runs_per_lot")),
        ]
        runs = {run_id(config): config.stored for config in configs}
        merge = ["--any-revision"] if self.any_revision else []
        self.submit(self.out, runs, ["sweep", *how], merge, "runs")


@dataclass(frozen=True, kw_only=True)
class FigureSweep(How):
    """Run the training runs of a figure; writes DIR/rows.csv and resumes where a kill left off."""

    name: tyro.conf.Positional[str]
    """figure that is computed from training runs: see `nail list`"""
    preset: str = "cpu"
    """smoke, cpu, laptop or paper"""
    vary: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """an axis or setting of the figure in place of the preset's, as nail figure takes it; may be given again"""
    seeds: int | None = None
    """number of seeds (0, 1, …) in place of the preset's"""
    steps: int | None = None
    """updates of a run in place of the preset's, with as many evaluations"""

    def configs(self) -> tuple[TrainConfig, ...]:
        from nail.figures import experiment
        from nail.figures.own import Own
        from nail.sweep.stages import flat

        require_known("figure", self.name, experiment.names())
        found = experiment.load(self.name)
        if found.runs is None:
            raise BadInput(f"{self.name} is not computed from training runs: nail figure {self.name} computes it")
        experiment.require_preset(found, self.preset)
        own = own_grid(self.name, self.preset, self.vary, self.seeds, self.steps)
        return flat(found.runs(experiment.size_of(found, self.preset, Own(**own)) if own else self.preset))

    def command(self) -> list[str]:
        vary = [word for axis in self.vary for word in ("--vary", axis)]
        return [self.name, "--preset", self.preset, *vary, *given_options(self, FigureSweep, ("seeds", "steps"))]


@dataclass(frozen=True, kw_only=True)
class Grid(How):
    """Run the product of some axes around one configuration; writes DIR/rows.csv, resumes where a kill left off."""

    vary: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """an axis, as FIELD=VALUE,VALUE,… or FIELD=FROM:TO (integers below TO); may be given again"""
    plot: bool = True
    """draw DIR/plot.png, .pdf and .csv at the end, as `nail plot DIR` does"""

    def configs(self) -> tuple[TrainConfig, ...]:
        from nail.sweep.bring import chains_from
        from nail.sweep.grid import grid, parse_axis

        base = dataclasses.replace(plain(self), start="")
        axes = [parse_axis(text, base) for text in self.vary]
        if len({name for name, _ in axes}) < len(axes):
            raise BadInput(f"vary must name a field once, got {', '.join(name for name, _ in axes)}")
        return tuple(chain[-1] for chain in chains_from(self.start, grid(base, **dict(axes)), self.out))

    def bring(self, out: Path, configs: tuple[TrainConfig, ...]) -> None:
        from nail.sweep.bring import bring

        bring(self.start, configs, out)

    def finish(self, out: Path) -> None:
        if self.plot:
            from nail.figures.picture import picture_at_end

            picture_at_end(out)

    def command(self) -> list[str]:
        kind = config_class(self.task)
        names = tuple(field.name for field in dataclasses.fields(kind))
        task = ["--task", self.task]
        axes = [argument for axis in self.vary for argument in ("--vary", axis)]
        own = [*given_options(self, kind, names), *axes, *given_options(self, Grid, ("plot",))]
        return ["grid", *task, *own]


@dataclass(frozen=True)
class Merge:
    """Join parts of a sweep (shards, also unfinished ones) in one folder; writes DIR/rows.csv."""

    parts: tyro.conf.Positional[tuple[Path, ...]]
    """output folders"""
    out: Out = Path("sweep")
    any_revision: bool = False
    """mix runs of several revisions of the source"""

    def run(self) -> None:
        if not self.parts:
            raise BadInput("merge must be given one part or more")
        from nail.sweep.merge import merge
        from nail.sweep.status import status

        rows = merge(self.parts, self.out, self.any_revision)
        if rows:
            say(f"wrote {len(rows)} rows to {self.out / 'rows.csv'}")
        found = status(self.out)
        print(f"{found.asked} runs: {found.done} done, {found.failed} failed, {found.running + found.missing} missing")


@dataclass(frozen=True)
class StatusCommand:
    """Show how far a sweep is: runs done, running, missing, failed; rate and time left."""

    out: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DIR", help="output folder of a sweep")]
    json: bool = False
    """one JSON object instead of text"""

    def run(self) -> None:
        from nail.sweep.status import status

        found = status(self.out)
        if self.json:
            failures = [failure._asdict() for failure in found.failures]
            text = json.dumps({**found._asdict(), "failures": failures}, ensure_ascii=False)
            print("".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text))
            return
        print(
            f"{found.asked} runs: {found.done} done, {found.running} running, {found.missing} missing, {found.failed} "
            f"failed; {found.rows} rows"
        )
        if found.waiting:
            print(f"waiting for the run that they start from: {found.waiting} of the missing")
        if found.episodes_per_s is not None:
            left = "" if found.seconds_left is None else f", about {found.seconds_left / 60:.1f} minutes left"
            print(f"{found.episodes_per_s:,.0f} episodes/s{left}")
        if found.other_sources:
            print(f"{found.other_sources} runs of other revisions of the source are kept apart")
        for failure in found.failures:
            print(printable(f"failed: {failure.name}: {failure.error} ({failure.time})"))


SUBCOMMANDS = {"figure": FigureSweep, "grid": Grid, "merge": Merge, "status": StatusCommand}


@dataclass(frozen=True)
class Sweep:
    """Run many configurations: `nail sweep NAME` for those of a figure, or grid; merge, status."""

    def run(self) -> None:
        self.what.run()


def sweep_for(config: type[TrainConfig]) -> type:
    """The command, with the options of a task's configurations under `grid`."""
    kinds = {**SUBCOMMANDS, "grid": with_config(Grid, config)}
    named = (Annotated[kind, tyro.conf.subcommand(name, prefix_name=False)] for name, kind in kinds.items())
    body = {"__annotations__": {"what": reduce(or_, named)}, "__doc__": Sweep.__doc__, "__module__": __name__}
    return dataclass(frozen=True)(type("Sweep", (Sweep,), body))


def with_figure(arguments: list[str]) -> list[str]:
    """`sweep NAME …` means `sweep figure NAME …`."""
    if arguments[:1] == ["sweep"] and len(arguments) > 1:
        first = arguments[1]
        if first not in SUBCOMMANDS and not first.startswith("-"):
            return ["sweep", "figure", *arguments[1:]]
    return arguments


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
