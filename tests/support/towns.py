"""Addresses of this machine that refuse, keep silent, or answer, and resolvers that name them."""

import asyncio
import contextlib
import pathlib
import select
import socket
import threading
from collections.abc import Callable, Iterator

from tollhouse.upstream.dialler import open_socket

SOON = 0.01
"""A stagger that a test is meant to wait for, in seconds."""
NEVER = 3600.0
"""A stagger that no test waits for."""


def has_ipv6() -> bool:
    """Whether this machine has an IPv6 loopback."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6) as trial:
        trial.bind(("::1", 0))
        return True
    return False


def free_port(*hosts: str) -> int:
    """A port that is free on all these addresses."""
    while True:
        with contextlib.ExitStack() as stack:
            port = 0
            try:
                for host in hosts:
                    trial = stack.enter_context(socket.socket(_family(host)))
                    trial.bind((host, port))
                    port = trial.getsockname()[1]
            except OSError:
                continue  # taken on one of them
            return port


@contextlib.contextmanager
def black_hole(host: str, port: int = 0) -> Iterator[int]:
    """A port whose connections are neither accepted nor refused; gives its number.

    A listener whose backlog is full: Linux drops what comes then, as a firewall would.
    """
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket(_family(host)))
        listener.bind((host, port))
        listener.listen(0)
        for _ in range(8):
            filler = stack.enter_context(socket.socket(_family(host)))
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
            # On loopback the kernel has answered, if it does, before `connect` returns.
            if not select.select([], [filler], [], 0.05)[1]:
                break
        else:
            raise AssertionError("this system's backlog is never full")
        yield listener.getsockname()[1]


class Directory:
    """A resolver: a plain function of the test's choice, whose calls are kept."""

    def __init__(self, *answers: tuple[str, ...] | OSError) -> None:
        """Gives one answer a call, the last one again and again."""
        self._answers = answers
        self.asked: list[str] = []
        self.threads: set[str] = set()

    def __call__(self, host: str) -> tuple[str, ...]:
        answer = self._answers[min(len(self.asked), len(self._answers) - 1)]
        self.asked.append(host)
        self.threads.add(threading.current_thread().name)
        if isinstance(answer, OSError):
            raise answer
        return answer


class SilentDirectory:
    """A resolver that hangs until the test says otherwise."""

    def __init__(self, answer: tuple[str, ...] = ("127.0.0.1",)) -> None:
        self._answer = answer
        self._released = threading.Event()
        self._lock = threading.Lock()
        self.asked: list[str] = []

    def __call__(self, host: str) -> tuple[str, ...]:
        with self._lock:
            self.asked.append(host)
        self._released.wait()
        return self._answer

    def release(self) -> None:
        """Lets all look-ups end, those to come too."""
        self._released.set()


class Noted:
    """Opens real sockets, and keeps the addresses in the order in which they were tried."""

    def __init__(self) -> None:
        self.tried: list[str] = []

    async def __call__(self, address: str, port: int) -> asyncio.Transport:
        self.tried.append(address)
        return await open_socket(address, port)


def open_sockets() -> set[str]:
    """The sockets of this process, but those of the Unix family: event loops open and close some of their own."""
    found = set()
    for number in pathlib.Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # the listing's own
            found.add(str(number.readlink()))
    unix = (line.split() for line in pathlib.Path("/proc/self/net/unix").read_text().splitlines()[1:])
    return {name for name in found if name.startswith("socket:")} - {f"socket:[{fields[6]}]" for fields in unix}


async def comes_true(condition: Callable[[], bool]) -> None:
    """Lets the loop and the threads run until it is so; fails the test when it does not come true."""
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110  # of threads and the kernel too, which set no event
            await asyncio.sleep(0.001)


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
