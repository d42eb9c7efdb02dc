"""More machines: processes of one `jax.distributed` job on a shared folder, and Slurm array jobs through submitit.

No run crosses a host, so a host needs to know its share only. Nothing is computed across hosts and there is no barrier:
a process that has done its share helps with the rest, which also takes over the share of a host that died.
"""

import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from nail.checks import BadInput, require
from nail.sweep.grid import shard
from nail.sweep.roll_call import meet, parse_address
from nail.training.config import TrainConfig


def join(address: str | None = None, processes: int | None = None, process: int | None = None) -> tuple[int, int]:
    """Join a `jax.distributed` job; returns (index of this process, number of processes).

    Without arguments JAX asks the cluster's own settings. Call it before JAX is used. Raises `BadInput` if that fails,
    or if not all processes are there in time.
    """
    import jax

    if address is not None:
        place = parse_address(address)
        if processes is not None and process is not None:
            meet(place, processes, process)
    try:
        jax.distributed.initialize(address, processes, process)
    except (ValueError, RuntimeError, TypeError, IndexError) as error:
        sentence = next(iter(str(error).splitlines()), type(error).__name__)
        raise BadInput(f"the processes could not be joined ({sentence}); give --coordinator, --processes, --process") \
            from error  # fmt: skip
    return jax.process_index(), jax.process_count()


def own_share_first(configs: Sequence[TrainConfig], process: int, processes: int) -> list[tuple[TrainConfig, ...]]:
    """What a process of a distributed sweep runs: its share, then the whole (what others are at is waited for)."""
    return [shard(configs, process + 1, processes), tuple(configs)]


def _submitit() -> ModuleType:
    """The module submitit; raises `BadInput` without it.

    Its set-up of the log, when it is imported, closes the handlers of all other libraries; so it is left out.
    """
    level = os.environ.get("SUBMITIT_LOG_LEVEL")
    os.environ["SUBMITIT_LOG_LEVEL"] = "NOCONFIG"
    try:
        return importlib.import_module("submitit")
    except ImportError as error:
        raise BadInput("slurm needs submitit, which is not installed: pip install 'nail[slurm]'") from error
    finally:
        del os.environ["SUBMITIT_LOG_LEVEL"]
        if level is not None:
            os.environ["SUBMITIT_LOG_LEVEL"] = level


def executor(cluster: str, folder: Path, minutes: int, partition: str | None, options: dict[str, str]) -> Any:
    """A submitit executor; raises `BadInput` if submitit or Slurm is not there."""
    submitit = _submitit()
    require(minutes >= 1, "time", minutes, "minutes, at least 1")
    try:
        found = submitit.AutoExecutor(folder, cluster=cluster)
    except RuntimeError as error:
        raise BadInput(f"slurm must be a cluster that jobs can be sent to from here ({error})") from error
    found.update_parameters(timeout_min=minutes, name="nail-sweep")
    if cluster == "slurm":
        # the extra parameters of an #SBATCH header, for example account or gres
        found.update_parameters(slurm_partition=partition, slurm_additional_parameters=dict(options))
    return found


def submit(found: Any, shards: Sequence[Sequence[str]], merge: Sequence[str], options: dict[str, str]) -> list[Any]:
    """Send the commands `shards` of nail as an array job, and `merge` for when they have ended; returns all jobs.

    On Slurm the merge waits there (dependency afterany: also of shards that failed). An executor without dependencies
    (submitit's local one) has this process wait instead.
    """
    from submitit.helpers import CommandFunction

    commands = [CommandFunction([sys.executable, "-m", "nail.cli.main", *command]) for command in (*shards, merge)]
    with found.batch():
        jobs = [found.submit(command) for command in commands[:-1]]
    if found.cluster == "slurm":
        after = ":".join(["afterany", jobs[0].job_id.split("_")[0]])
        found.update_parameters(slurm_additional_parameters={**options, "dependency": after})
    else:
        for job in jobs:
            job.wait()
    return [*jobs, found.submit(commands[-1])]
