"""`nail …`: thin commands over the library. Options are generated from dataclasses, and bad input is one sentence."""

import dataclasses
import errno
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Annotated

import tyro

from nail.checks import MAX_RUNS, BadInput, printable, require, require_known, say
from nail.cli.figure_command import FigureCommand
from nail.cli.list_command import List
from nail.cli.lm_command import Lm
from nail.cli.nstar_command import n_star_for
from nail.cli.parse import Out, load_plugins, named, parse, require_file, with_config
from nail.cli.plot_command import Plot
from nail.cli.programs import set_up_jax, use_all_cores
from nail.cli.report_command import Log, Report
from nail.cli.sweep_command import sweep_for, with_figure
from nail.cli.theory_command import Theory
from nail.methods import require_trained, trained_methods
from nail.policies.students import PRECISIONS, REUSES
from nail.sweep.stop import Stopped, heeding
from nail.training.config import TrainConfig, config_class, plain, run_id
from nail.training.ranges import check

ABOUT = """Imitation learning from noisy experts. `--import MODULE` (anywhere) imports a module that adds tasks, noise
laws, methods or figures; the options of train, expert and sweep grid are those of the task that --task names.
`nail --version` says which version this is."""


@dataclass(frozen=True)
class Train:
    """Train one method with a number of seeds; writes DIR/rows.csv and resumes where a kill left off."""

    seeds: int = 1
    """runs, with seeds seed, seed+1, …, 1 ≤ seeds ≤ 10,000"""
    plot: bool = True
    """draw DIR/plot.png, .pdf and .csv at the end, as `nail plot DIR` does"""
    out: Out = Path("out")

    def run(self) -> None:
        require(1 <= self.seeds <= MAX_RUNS, "seeds", self.seeds, f"an integer in 1..{MAX_RUNS}")
        first = plain(self)
        seeds = range(first.seed, first.seed + self.seeds)
        configs = tuple(check(dataclasses.replace(first, seed=seed, start="")) for seed in seeds)
        from nail.sweep.bring import bring, chains_from, refuse_other_networks
        from nail.sweep.store import open_folder

        chains = chains_from(self.start, configs, self.out)
        set_up_jax()
        from nail.sweep.plan import refuse_other_configurations
        from nail.sweep.run import run

        refuse_other_networks(chains)
        out = open_folder(self.out)
        refuse_other_configurations(out, chains)
        bring(self.start, (chain[-1] for chain in chains), out)
        rows = run(chains, out, keep_params=True, retry_failed=True)
        last = rows.run.isin([run_id(chain[-1]) for chain in chains]) & (rows.step == first.steps)
        for _, row in rows[last].iterrows():
            print(
                f"{row.method} seed {row.seed}: {row.episodes:,} episodes, full-chain accuracy {row.full_exact:.3f}, "
                f"answer {row.answer_exact:.3f}, clean loss {row.val_loss:.4f} nats/token"
            )
        if self.plot:
            from nail.figures.picture import picture_at_end

            picture_at_end(out)


@dataclass(frozen=True)
class Expert:
    """Train a clean expert (log loss on clean chains) and keep it in DIR for `nail train --expert DIR`."""

    method: Annotated[str, tyro.conf.Suppress] = "loglossbc"
    eta: Annotated[float, tyro.conf.Suppress] = 0.0
    start: Annotated[str, tyro.conf.Suppress] = ""
    steps: int = 10_000
    """updates ≥ 1"""
    out: Out = Path("expert")

    def run(self) -> None:
        from nail.sweep.store import open_folder

        config = check(plain(self))
        out = open_folder(self.out)
        set_up_jax()
        from nail.sweep.plan import load_params, refuse_other_configurations
        from nail.sweep.run import run
        from nail.sweep.trained_expert import measure_expert, save_expert

        refuse_other_configurations(out, (config,))
        run((config,), out, keep_params=True, retry_failed=True)
        params = load_params(out, config)
        seen = measure_expert(config, params)
        save_expert(out, config, params)
        print(
            f"expert in {printable(out)}: full-chain accuracy {float(seen.full_exact):.4f} on the validation prompts, "
            f"clean loss {float(seen.val_loss):.2e} nats/token"
        )


@dataclass(frozen=True)
class Bench:
    """Measure speed on this machine: ms a step, trajectories/s, products alone, and their ratio."""

    preset: str = "small"
    """small: p=7, m=10, width 64, or paper: p=7, m=31, width 512, both with batch 64; smoke: tiny, for the tests;
    sweep: 45 small runs by the sweep engine, beside the same one after the other on one core;
    tabular: simulated steps per second of NAIL-F on the poison chain, beside numpy's labels"""
    methods: str = ""
    """comma-separated methods; default: all"""
    precision: str = "float32"
    """float32, fast-float32 or bfloat16"""
    reuse: str = "on"
    """on, or off: compute the forward pass of the loss again, and no table for the first block"""
    seconds: float = 2.0
    """time spent on each measurement, 0 < seconds ≤ 3600"""
    plan: bool = False
    """compile only: operations, memory and time to compile of each method's program"""
    out: Annotated[Path | None, tyro.conf.arg(help="file to write the table to, as CSV")] = None

    def run(self) -> None:
        require_known("preset", self.preset, ("smoke", "small", "paper", "tabular", "sweep"))
        require_known("precision", self.precision, PRECISIONS)
        require_known("reuse", self.reuse, REUSES)
        require(0 < self.seconds <= 3600, "seconds", self.seconds, "above 0 and at most 3600")
        methods = tuple(self.methods.split(",") if self.methods else (row.name for row in trained_methods()))
        for name in methods:
            require_trained(name)
        require_file(self.out)
        from nail.training.devices import require_devices

        # programs are not kept: the sweep's measurement is one of compiling too
        use_all_cores()
        require_devices()
        if self.preset == "sweep":
            from nail.cli.bench.sweeps import bench_sweep

            bench_sweep(out=self.out)
            return
        if self.preset == "tabular":
            from nail.cli.bench.counts import bench_steps

            bench_steps(self.seconds, out=self.out)
            return
        if self.plan:
            from nail.cli.bench.plans import bench_plan

            bench_plan(self.preset, methods, self.precision, self.reuse, self.out)
            return
        from nail.cli.bench.steps import bench

        bench(self.preset, methods, self.precision, self.reuse, self.seconds, self.out)


def commands(arguments: list[str]) -> dict[str, type]:
    """The commands, with the options of the task (or of the instance) that the arguments name."""
    config = config_class(named("--task", arguments, TrainConfig().task))
    return {
        "list": List,
        "train": with_config(Train, config),
        "expert": with_config(Expert, config),
        "figure": FigureCommand,
        "sweep": sweep_for(config),
        "plot": Plot,
        "theory": Theory,
        "n-star": n_star_for(arguments),
        "bench": Bench,
        "lm": Lm,
        "report": Report,
        "log": Log,
    }


BAD_PATHS = {errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM, errno.EROFS}
"""errors of the system that are those of a path that was given"""


ENVIRONMENT = ("jax._src.config", "matplotlib", "tqdm.utils")
"""modules that read variables of the environment"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point: 0 done, 1 failed with a sentence, 2 bad input, 130 interrupted, 141 nobody reads what is printed,
    128 + n ended by the signal n."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # it was closed
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w"))
    if hasattr(sys.stdout, "reconfigure"):
        # what a terminal cannot show is a question mark
        sys.stdout.reconfigure(errors="replace")
    try:
        given = list(sys.argv[1:] if arguments is None else arguments)
        if given == ["--version"]:
            print(version())
            return 0
        given = with_figure(load_plugins(given))
        with heeding():
            parse(commands(given), given, ABOUT).run()
        sys.stdout.flush()
    except BadInput as error:
        return _say(error, 2)
    except KeyboardInterrupt:
        return _say("interrupted; the same command goes on from the last checkpoint", 130)
    except Stopped as stopped:
        return _say(stopped, stopped.code)
    except BrokenPipeError:
        # and nothing is flushed into the pipe when Python ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno())
        return 141
    except OSError as error:
        if error.errno in BAD_PATHS:
            return _say(f"{error.filename} must be a path that can be used here, and it is not ({error.strerror})", 2)
        return _say(f"{error}; what was written is kept, and the same command goes on from there", 1)
    except ArithmeticError as error:
        return _say(error, 1)
    except ValueError as error:
        if not _is_of_environment(error):
            raise
        return _say(f"a variable of the environment must be one that its library takes ({error})", 2)
    return 0


def version() -> str:
    """This package and what its numbers depend on, on one line, without loading any of it."""
    return f"nail {metadata.version('nail')} (Python {platform.python_version()}, jax {metadata.version('jax')})"


def _is_of_environment(error: ValueError) -> bool:
    """Whether an error was raised where a library reads its variables of the environment."""
    walk = error.__traceback__
    while walk is not None and walk.tb_next is not None:
        walk = walk.tb_next
    return walk is not None and walk.tb_frame.f_globals.get("__name__") in ENVIRONMENT


def _say(sentence: BaseException | str, code: int) -> int:
    """Print a sentence for the user on standard error; returns the exit code."""
    say(sentence)
    return code


if __name__ == "__main__":
    sys.exit(main())
