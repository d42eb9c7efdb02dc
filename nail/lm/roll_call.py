"""Joining the processes of a `jax.distributed` job: whether all are there is asked over plain sockets beforehand.

JAX ends a process by an abort where a coordinator cannot be reached or a process is missing. So they meet beforehand at
the coordinator's address: process 0 waits there until each of the others has told its number, then answers all of them.
"""

import socket
import time
from contextlib import ExitStack, closing

from nail.checks import BadInput, require

SECONDS = 300.0
"""until all processes have to be there"""
PAUSE = 0.2
"""seconds between two tries to reach process 0"""
MOST = 10_000
"""largest number of processes"""


def join(address: str | None = None, processes: int | None = None, process: int | None = None) -> None:
    """Join a `jax.distributed` job.

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


def parse_address(text: str) -> tuple[str, int]:
    """(host, port) of a text "host:port"; raises `BadInput` if it is anything else."""
    host, colon, port = text.rpartition(":")
    plain = bool(host and colon) and port.isascii() and port.isdecimal() and len(port) <= 5
    require(plain and 1 <= int(port) <= 65535, "coordinator", text, "host:port with a port in 1..65535")
    return host.strip("[]"), int(port)


def meet(address: tuple[str, int], processes: int, process: int, seconds: float | None = None) -> None:
    """Return when all `processes` are there; raises `BadInput` with one sentence if they are not within `seconds`."""
    require(1 <= processes <= MOST, "processes", processes, f"an integer in 1..{MOST}")
    require(0 <= process < processes, "process", process, f"an integer in 0..{processes - 1}")
    host, port = address
    end = time.monotonic() + (SECONDS if seconds is None else seconds)
    try:
        socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise BadInput(f"coordinator must be a host that can be found, and {host} is not ({error})") from error
    if process:
        _call(host, port, processes, process, end)
    else:
        _gather(port, processes, end)


def _gather(port: int, processes: int, end: float) -> None:
    """Process 0: take the numbers of the others, then answer them."""
    there: dict[int, socket.socket] = {}
    with ExitStack() as stack:
        try:
            both = socket.has_dualstack_ipv6()
            family = socket.AF_INET6 if both else socket.AF_INET
            server = stack.enter_context(socket.create_server(("", port), family=family, dualstack_ipv6=both))
        except OSError as error:
            raise BadInput(f"port {port} of the coordinator must be free here, and it is not ({error})") from error
        while len(there) < processes - 1:
            missing = sorted({*range(1, processes)} - set(there))
            try:
                server.settimeout(_left(end))
                caller = stack.enter_context(closing(server.accept()[0]))
            except TimeoutError as error:
                raise BadInput(
                    f"{len(missing)} of {processes} processes did not come to the coordinator in time (the first is "
                    f"process {missing[0]})"
                ) from error
            number = _number(caller, processes, end)
            if number in range(1, processes):
                # one that was started again takes the place of the one before
                there[number] = caller
        for caller in there.values():
            caller.sendall(b"go\n")


def _number(caller: socket.socket, processes: int, end: float) -> int | None:
    """The number that a caller tells; None if it is none of ours."""
    caller.settimeout(min(5.0, _left(end)))
    try:
        name, number, count = caller.recv(64).decode().split()
        return int(number) if (name, int(count)) == ("nail", processes) else None
    except (OSError, ValueError):
        return None


def _call(host: str, port: int, processes: int, process: int, end: float) -> None:
    """Another process: tell process 0 one's number until it answers."""
    problem = "nobody answers"
    while time.monotonic() < end:
        try:
            with socket.create_connection((host, port), timeout=_left(end)) as line:
                line.sendall(f"nail {process} {processes}\n".encode())
                line.settimeout(_left(end))
                if line.recv(64) == b"go\n":
                    return
                problem = "what answers there is no process 0 of this job, or it has another process of this number"
        except OSError as error:
            problem = str(error)
        time.sleep(PAUSE)
    raise BadInput(f"process 0 must be at the coordinator {host}:{port}, and it was not reached in time ({problem})")


def _left(end: float) -> float:
    return max(0.01, end - time.monotonic())
