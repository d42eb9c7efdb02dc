"""More machines: processes that share a folder, and Slurm array jobs.

No run crosses a process, so a process needs to know its share only. Nothing is computed together and there is no
barrier: a process that has done its share helps with the rest, which also takes over the share of one that died.
"""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from nail.checks import BadInput, require
from nail.sweep.grid import shard
from nail.training.config import TrainConfig

MOST_PROCESSES = 10_000
"""largest number of processes, and of shards"""
PLACES = (
    ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"),
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"),
)
"""variables in which a launcher says a process's index, their number, and the index among those of the host"""
CPUS = 4
"""cores that a job asks for, unless `cpus-per-task` is among the options"""
NOTICE = 60
"""seconds before the limit of a job at which Slurm sends SIGUSR2"""
MOST_TIMES = 100
"""times that a job which came to its limit is sent again: one whose first chunk is longer would never end"""
FIXED = ("array", "chdir", "dependency", "output", "signal", "wrap")
"""options of sbatch that are not the user's"""
LOOK = (
    "import importlib.util, os, sys, nail; sys.path.append(os.getcwd()); print(importlib.util.find_spec({!r}).origin)"
)
"""a Python program that prints the file of a module, as a job finds it"""
SCRIPT = """#!/bin/bash
# Slurm tells this shell of a job's end, and it tells the command, which then writes a checkpoint
if [ -n "$SLURM_CPUS_PER_TASK" ]; then export JAX_NUM_CPU_DEVICES="${{JAX_NUM_CPU_DEVICES:-$SLURM_CPUS_PER_TASK}}"; fi
shard=$((SLURM_ARRAY_TASK_ID + 1))
{command} &
child=$!
for name in TERM HUP USR1 USR2; do trap "kill -$name $child" $name; done
trap "kill -TERM $child" INT
wait $child
code=$?
while [ $code -gt 128 ] && kill -0 $child 2>/dev/null; do
    wait $child
    code=$?
done
# 140: ended by SIGUSR2 before the job's limit
if [ $code = 140 ] && [ "${{SLURM_RESTART_COUNT:-0}}" -lt {most} ]; then
    scontrol requeue "${{SLURM_ARRAY_JOB_ID}}_$SLURM_ARRAY_TASK_ID"
fi
exit $code
"""


def place(process: int | None, processes: int | None) -> tuple[int, int]:
    """(index of this process, number of processes): as given, or as the launcher says; then one device is its own.

    Raises `BadInput` if neither tells.
    """
    told = [names for names in PLACES if all(os.environ.get(name, "").isdecimal() for name in names)]
    if process is None and processes is None and told:
        process, processes, local = (int(os.environ[name]) for name in told[0])
        _take_one_device(local)
    if process is None or processes is None:
        raise BadInput("distributed needs --process and --processes where no launcher (srun, mpirun) says them")
    require(1 <= processes <= MOST_PROCESSES, "processes", processes, f"an integer in 1..{MOST_PROCESSES}")
    require(0 <= process < processes, "process", process, f"an integer in 0..{processes - 1}")
    return process, processes


def _take_one_device(local: int) -> None:
    """Of several GPUs that the processes of a host see, take one, as JAX does where it joins processes."""
    import jax

    if "," in os.environ.get("CUDA_VISIBLE_DEVICES", ","):
        for name in ("jax_cuda_visible_devices", "jax_rocm_visible_devices"):
            jax.config.update(name, str(local))


def own_share_first(configs: Sequence[TrainConfig], process: int, processes: int) -> list[tuple[TrainConfig, ...]]:
    """What a process of a distributed sweep runs: its share, then the whole (what others are at is waited for)."""
    return [shard(configs, process + 1, processes), tuple(configs)]


def most_shards() -> int:
    """The largest array job that Slurm takes."""
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", _slurm("scontrol", "show", "config"), re.MULTILINE)
    return min(MOST_PROCESSES, int(found[1])) if found else MOST_PROCESSES


def require_same_source(modules: Sequence[str]) -> None:
    """Raise `BadInput` unless a job will import nail, and the `modules` of --import, from the files of this process."""
    for name in ("nail", *modules):
        done = subprocess.run([sys.executable, "-P", "-c", LOOK.format(name)], capture_output=True, text=True)
        here, there = str(sys.modules[name].__spec__.origin), done.stdout.strip() or "missing"
        if os.path.realpath(here) != os.path.realpath(there):
            raise BadInput(f"{name} must be what jobs import too, and it is {here} here and {there} there; install it")


def scripts(out: Path, shards: int, sweep: Sequence[str], merge: Sequence[str]) -> tuple[str, str]:
    """(script of a shard, that of the merge) for the arguments of nail `sweep` and `merge`, each shard in its folder.

    They run what is installed, whatever lies in the working directory.
    """
    nail = [sys.executable, "-P", "-m", "nail.cli.main"]
    parts = [str(out / "shards" / f"{i + 1}-of-{shards}") for i in range(shards)]
    own = f'--shard "$shard/{shards}" --out {shlex.quote(f"{out}/shards/")}"$shard-of-{shards}"'
    joined = shlex.join([*nail, *merge, *parts])
    return (
        SCRIPT.format(command=f"{shlex.join([*nail, *sweep])} {own}", most=MOST_TIMES),
        SCRIPT.format(command=joined, most=0),
    )


def submit(
    scripts: tuple[str, str], shards: int, logs: Path, minutes: int, partition: str | None, options: dict[str, str]
) -> list[str]:
    """Send `scripts`: the shards as an array job, and the merge for when that has ended; returns both ids.

    The merge begins after shards that failed or were cancelled too. Raises `BadInput` in Slurm's words if it takes one
    of them not; then there is none of them.
    """
    for name in FIXED:
        require(name not in options, "slurm_option", name, f"another option of sbatch than {', '.join(FIXED)}")
    # in names of files Slurm replaces % and what follows it
    folder = str(logs).replace("%", "%%")
    common = {"job-name": "nail-sweep", "open-mode": "append", "time": str(minutes), "cpus-per-task": str(CPUS)}
    common |= ({"partition": partition} if partition else {}) | options
    job = {"array": f"0-{shards - 1}", "signal": f"B:USR2@{NOTICE}", "output": f"{folder}/%A_%a.log"}
    array = _sbatch({**common, **job}, scripts[0], "--requeue")
    try:
        after = {"dependency": f"afterany:{array}", "output": f"{folder}/%j.log"}
        return [array, _sbatch({**common, **after}, scripts[1])]
    except BaseException:
        _slurm("scancel", array)
        raise


def run_here(scripts: tuple[str, str], shards: int, logs: Path) -> None:
    """The jobs of `submit`, one after another on this machine; raises `OSError` if one of them fails."""
    for i in range(shards + 1):
        log, script = (logs / f"{i}.log", scripts[0]) if i < shards else (logs / "merge.log", scripts[1])
        with log.open("a") as file:
            environment = {**os.environ, "SLURM_ARRAY_TASK_ID": str(i)}
            code = subprocess.run(["bash", "-c", script], env=environment, stdout=file, stderr=file).returncode
        if code:
            raise OSError(f"a job ended with code {code} ({log})")


def _sbatch(options: dict[str, str], script: str, *flags: str) -> str:
    """The id of a new job."""
    given = [f"--{name}={value}" for name, value in options.items()]
    return _slurm("sbatch", "--parsable", *flags, *given, script=script).strip().split(";")[0]


def _slurm(*words: str, script: str | None = None) -> str:
    """What a command of Slurm prints; raises `BadInput` with what it complains of."""
    try:
        done = subprocess.run(words, input=script, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise BadInput(f"slurm must be a cluster that jobs can be sent to from here, and {words[0]} is not") from error
    if done.returncode:
        lines = [line.removeprefix(f"{words[0]}: ").removeprefix("error: ") for line in done.stderr.splitlines()]
        raise BadInput(f"Slurm refuses ({words[0]}: {'; '.join(filter(None, lines))})")
    return done.stdout
