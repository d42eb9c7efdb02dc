"""Whether all processes of a distributed job are there, with threads of this one."""

import contextlib
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from nail.checks import BadInput
from nail.lm import roll_call


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
        roll_call.join(address, processes, process)


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
