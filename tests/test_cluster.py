"""More machines, tried with two processes of this one: jax.distributed, and submitit's local executor."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from sweeping import OPTIONS, finished, nail, prepared_once, table

from nail.checks import BadInput
from nail.cli.main import main
from nail.sweep import cluster, roll_call
from nail.sweep.folder import Folder
from nail.sweep.store import open_folder, read_csv

COMMAND = ["sweep", "grid", *OPTIONS, "--vary", "seed=0:4"]


@pytest.fixture(scope="module", autouse=True)
def cache():
    with prepared_once():
        yield


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, cache):
    """The table of one process."""
    return table(finished(open_folder(tmp_path_factory.mktemp("unbroken") / "out")))


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
    assert sorted(len(seen.lot.ids) for seen in Folder.read(tmp_path).lots) == [2, 2]


class Job:
    """A job of an executor that runs it here and now."""

    job_id = "17_0"

    def wait(self):
        assert self.code == 0


class Here:
    """What submitit's local executor is, without processes: its jobs run in this one when they are submitted."""

    cluster = "local"

    def __init__(self):
        self.sent = []

    def batch(self):
        return contextlib.nullcontext()

    def submit(self, command):
        assert command.command[:3] == [sys.executable, "-m", "nail.cli.main"]
        self.sent.append(command.command[3:])
        job = Job()
        job.code = main(command.command[3:])
        return job


def test_shards_are_submitted_and_merged(tmp_path, unbroken, monkeypatch):
    """The commands that --slurm sends: two shards, each in its folder, and then the merge."""
    here = Here()
    monkeypatch.setattr(cluster, "executor", lambda *_: here)
    slurm = ["--slurm", "--cluster", "local", "--shards", "2", "--time", "5", "--runs-per-lot", "2"]
    assert main([*COMMAND, *slurm, "--out", str(tmp_path)]) == 0
    assert [command[:2] for command in here.sent] == [["sweep", "grid"]] * 2 + [["sweep", "merge"]]
    assert table(read_csv(tmp_path / "rows.csv")) == unbroken
    assert len(list(tmp_path.glob("shards/*/rows.csv"))) == 2


def test_submitit_runs_commands(tmp_path):
    """Its local executor takes what is made for it: a command of nail in a process of its own."""
    found = cluster.executor("local", tmp_path, 5, None, {})
    jobs = cluster.submit(found, [["--help"]], ["theory", "--help"], {})
    assert ["n-star" in job.result() for job in jobs] == [True, False]


HANDLERS = """
import logging, os, sys
from nail.sweep.cluster import executor
closed = []
handler = logging.StreamHandler()
handler.close = lambda: closed.append(handler)
executor("local", sys.argv[1], 5, None, {})
assert "submitit" in sys.modules and not closed and os.environ["SUBMITIT_LOG_LEVEL"] == "DEBUG"
"""


def test_submitit_leaves_the_log_of_others_alone(tmp_path):
    environment = {**os.environ, "SUBMITIT_LOG_LEVEL": "DEBUG"}
    subprocess.run([sys.executable, "-c", HANDLERS, str(tmp_path)], check=True, env=environment)


def test_an_array_job_and_a_merge_that_depends_on_it():
    """On Slurm: one batch of shards, and the merge is sent with a dependency on the array's id."""
    sent, parameters, batches = [], {}, []

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


def free_port():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return free.getsockname()[1]


@pytest.mark.parametrize(
    ("address", "processes", "process", "sentence"),
    [
        ("localhost", 2, 1, "coordinator must be host:port with a port in 1..65535, got localhost"),
        ("localhost:99999", 2, 1, "coordinator must be host:port"),
        ("localhost:1x", 2, 1, "coordinator must be host:port"),
        (":1234", 2, 1, "coordinator must be host:port"),
        ("no.host.invalid:1234", 2, 0, "coordinator must be a host that can be found"),
        ("localhost:1234", 0, 0, "processes must be an integer in 1..10000, got 0"),
        ("localhost:1234", 2, 2, "process must be an integer in 0..1, got 2"),
        ("localhost:1", 2, 1, "process 0 must be at the coordinator localhost:1, and it was not reached in time"),
    ],
)
def test_a_bad_coordinator_is_one_sentence(address, processes, process, sentence, monkeypatch):
    """JAX would end the process by an abort."""
    monkeypatch.setattr(roll_call, "SECONDS", 0.3)
    monkeypatch.setattr("jax.distributed.initialize", lambda *_: pytest.fail("JAX is not asked"))
    with pytest.raises(BadInput, match=f"^{sentence}"):
        cluster.join(address, processes, process)


def test_a_port_that_is_taken_is_one_sentence():
    with socket.create_server(("", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(BadInput, match=f"port {port} of the coordinator must be free here"):
            roll_call.meet(("localhost", port), 2, 0, 0.3)
        with pytest.raises(BadInput, match="was not reached in time"):
            roll_call.meet(("localhost", port), 2, 1, 0.3)


def test_processes_go_on_when_all_are_there():
    """In any order, with a stranger's call among them; one that is missing is named."""
    port = free_port()
    with ThreadPoolExecutor(3) as pool:
        others = [pool.submit(roll_call.meet, ("localhost", port), 3, i, 20.0) for i in (2, 1)]
        roll_call.meet(("localhost", port), 3, 0, 20.0)
        assert [other.result() for other in others] == [None, None]
        first = pool.submit(roll_call.meet, ("localhost", port), 3, 0, 1.0)
        second = pool.submit(roll_call.meet, ("localhost", port), 3, 1, 1.0)
        while not first.done():
            with contextlib.suppress(OSError), socket.create_connection(("localhost", port), timeout=1) as stranger:
                stranger.sendall(b"GET / HTTP/1.1")
            time.sleep(0.05)
        with pytest.raises(BadInput, match=r"^1 of 3 processes did not come to the coordinator in time .*process 2"):
            first.result()
        with pytest.raises(BadInput, match="was not reached in time"):
            second.result()
