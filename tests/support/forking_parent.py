"""A parent of one thread that imports what workers need, as the command line does, and forks workers that say what they are.

Run as `python -m support.forking_parent`; prints a `Found` as JSON.  The tests' own process has too many threads to be forked.
"""

import asyncio
import gc
import os
import random
import signal
import socket
import sqlite3
import ssl
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from tollhouse.server.fork_server import ForkServer
from tollhouse.server.http.exchange import new_request_id
from tollhouse.server.worker import live

WORKERS: Final = 3
MODULES: Final = (
    "re2",
    "encodings.idna",
    "tollhouse.telemetry.exposition",
    "tollhouse.server.grpc.services",
    "tollhouse.server.http2",
    "tollhouse.ledger.postgres",
    "tollhouse.policy.valkey.store",
    "tollhouse.policy.tokens.signatures",
    "tollhouse.telemetry.traces",
)
"""All that `late_imports` can ever name."""
FAILS: Final = 3
"""The exit status of a worker that fails; its number is one that no other worker has."""
RAISES: Final = 101
KILLED: Final = 102


class Said(msgspec.Struct):
    """What a worker says of itself right after the fork."""

    threads: int
    """As the system counts them, those of libraries included."""
    living: list[str]
    """What must not outlive a fork and is there all the same."""
    opened: int
    """File descriptors."""
    modules: list[str]
    """Of those that it was to find imported, the ones that it found."""
    chances: list[int]
    """What each generator of random numbers gives next."""
    request_id: str
    blocked: list[int]
    """The signals that do not reach it."""
    stdin: str


class Found(msgspec.Struct):
    """What came of all of them."""

    workers: list[Said]
    statuses: dict[str, int]
    lost: str
    """What a caller is told when the fork server was killed."""


def speak(line: socket.socket) -> int:
    """A worker that says what it is, and ends when it is told how."""
    gc.unfreeze()  # what is frozen is not among the objects that can be asked for
    things = gc.get_objects()
    unsafe = (ssl.SSLContext, sqlite3.Connection, asyncio.AbstractEventLoop)
    said = Said(
        threads=sum(1 for _ in Path("/proc/self/task").iterdir()),
        living=[type(thing).__name__ for thing in things if isinstance(thing, unsafe)],
        opened=sum(1 for _ in Path("/proc/self/fd").iterdir()) - 1,  # one is opened to look
        modules=[name for name in MODULES if name in sys.modules],
        chances=[
            thing.getrandbits(64)
            for thing in things
            if isinstance(thing, random.Random) and not isinstance(thing, random.SystemRandom)
        ],
        request_id=new_request_id(),
        blocked=[int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, [])],
        stdin=str(Path("/proc/self/fd/0").readlink()),
    )
    line.sendall(msgspec.json.encode(said) + b"\n")
    match line.recv(16):
        case b"raise":
            raise RuntimeError("a fault of the worker's own")
        case b"fail":
            return FAILS
        case b"wait":
            signal.pause()
    return 0


async def ask(
    forks: ForkServer, number: int, word: bytes, then: Callable[[int], None] = lambda _: None
) -> tuple[Said, int]:
    """What a new worker says, and its status when it was told `word` and has ended."""
    ours, theirs = socket.socketpair()
    with theirs:
        pid = await forks.fork(number, theirs)
    heard, line = await asyncio.open_connection(sock=ours)
    said = msgspec.json.decode(await heard.readline(), type=Said)
    line.write(word)
    then(pid)
    with suppress(ConnectionError):  # it was killed before it had read the word
        await heard.read()
    line.close()
    return said, await forks.status_of(pid)


async def found(forks: ForkServer) -> Found:
    """Has workers forked, and ends them in every way."""
    answers = await asyncio.gather(*(ask(forks, number, b"end") for number in range(1, WORKERS + 1)))
    statuses = {
        "ended": answers[0][1],
        "failed": (await ask(forks, FAILS, b"fail"))[1],
        "raised": (await ask(forks, RAISES, b"raise"))[1],
        "killed": (await ask(forks, KILLED, b"wait", lambda pid: os.kill(pid, signal.SIGKILL)))[1],
    }
    if forks.pid is not None:
        os.kill(forks.pid, signal.SIGKILL)
    lost = ""
    try:
        await ask(forks, 1, b"end")
    except Exception as error:  # noqa: BLE001 - which one it is, the test says
        lost = type(error).__name__
    return Found([said for said, _ in answers], statuses, lost)


def main() -> None:
    forks = ForkServer.start(MODULES, speak)
    assert forks is not None
    threading.Thread(target=threading.Event().wait, daemon=True).start()
    # In a process with threads nobody may begin to fork.
    assert ForkServer.start((), live) is None
    sys.stdout.buffer.write(msgspec.json.encode(asyncio.run(found(forks))))
    forks.close()


if __name__ == "__main__":
    main()
