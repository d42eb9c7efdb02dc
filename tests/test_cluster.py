"""More machines, tried with two processes of this one: jax.distributed, and submitit's local executor."""

import socket
import sys

import pytest
from sweeping import OPTIONS, nail, program_cache, rows_of, table

from nail.checks import BadInput
from nail.cli.main import main
from nail.sweep import cluster
from nail.sweep.lot import lots_in
from nail.sweep.store import open_folder, read_csv

COMMAND = ["sweep", "grid", *OPTIONS, "--vary", "seed=0:4"]


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with program_cache(tmp_path_factory.mktemp("programs")):
        yield


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, cache):
    """The table of one process."""
    return table(rows_of(open_folder(tmp_path_factory.mktemp("unbroken") / "out")))


def test_two_processes_of_a_distributed_job(tmp_path, unbroken):
    """Each takes its share into one folder and knows only its own devices; the table is that of one process."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    command = [*COMMAND, "--out", tmp_path, "--distributed", "--coordinator", address, "--processes", "2"]
    both = [nail(*command, "--process", str(i)) for i in range(2)]
    ended = [process.communicate(timeout=120)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], ended
    assert table(read_csv(tmp_path / "rows.csv")) == unbroken
    assert sorted(len(lot.ids) for lot in lots_in(tmp_path)) == [2, 2]


def test_shards_are_submitted_and_merged(tmp_path, unbroken, monkeypatch):
    """submitit runs two shards and then the merge, as processes of this machine."""
    slurm = ["--slurm", "--cluster", "local", "--shards", "2", "--time", "5"]
    assert main([*COMMAND, *slurm, "--out", str(tmp_path)]) == 0
    assert table(read_csv(tmp_path / "rows.csv")) == unbroken
    assert len(list(tmp_path.glob("shards/*/rows.csv"))) == 2


def test_an_array_job_and_a_merge_that_depends_on_it():
    """On Slurm: one batch of shards, and the merge is sent with a dependency on the array's id."""
    sent, parameters, batches = [], {}, []

    class Job:
        job_id = "17_0"

    class Slurm:
        cluster = "slurm"

        def batch(self):
            batches.append(len(sent))
            return open("/dev/null")

        def submit(self, command):
            sent.append((command.command[3:], dict(parameters)))
            return Job()

        def update_parameters(self, **changes):
            parameters.update(changes)

    jobs = cluster.submit(Slurm(), [["a"], ["b"]], ["merge"], {"gres": "gpu:1"})
    assert len(jobs) == 3
    assert batches == [0]
    assert [command for command, _ in sent] == [["a"], ["b"], ["merge"]]
    assert [p.get("slurm_additional_parameters") for _, p in sent[:2]] == [None, None]
    assert sent[2][1]["slurm_additional_parameters"] == {"gres": "gpu:1", "dependency": "afterany:17"}


def test_without_submitit_or_slurm_a_sentence_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BadInput):
        cluster.executor("slurm", tmp_path, 5, None, {})
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(BadInput, match="pip install"):
        cluster.executor("local", tmp_path, 5, None, {})
