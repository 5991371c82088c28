"""Shared counters under a clock that stands still until it is moved."""

import fcntl
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.counters_contract import START_US
from tollhouse.policy.counters import Counters
from tollhouse.policy.shared_memory import SharedCounters
from tollhouse.policy.shared_memory.layout import HELD, KIND_MASK, PURSE, SEATS, VALUE
from tollhouse.policy.shared_memory.quick import QUICK, Quick


class SharedBench:
    """A folder, and as many processes' views of it as a test opens, all in this one process.

    A file lock belongs to whoever opened the file, not to a process, so that several views keep each other out just as processes
    do, and one that is closed looks like a process that died.
    """

    def __init__(
        self,
        folder: Path,
        *,
        processes: int = 8,
        meters: int = 4_096,
        purses: int = 512,
        quick: Quick | None = QUICK,
    ) -> None:
        self.folder = folder
        self.quick = quick
        self.processes = processes
        self.meters = meters
        self.purses = purses
        self.wall_us = START_US
        self.uptime_ns = 5_000_000_000_000
        self._opened: list[SharedCounters] = []

    async def open(self) -> SharedCounters:
        """Another view."""
        counters = SharedCounters.open(
            self.folder,
            processes=self.processes,
            meters=self.meters,
            purses=self.purses,
            patience_seconds=0.2,
            monotonic_ns=lambda: self.uptime_ns,
            wall_us=lambda: self.wall_us,
            quick=self.quick,
        )
        self._opened.append(counters)
        return counters

    async def kill(self, counters: Counters) -> None:
        """Closing leaves the same files as dying, as long as it is not in the middle of a change."""
        await counters.aclose()

    def advance(self, seconds: float) -> None:
        """Moves both clocks."""
        self.wall_us += round(seconds * 1e6)
        self.uptime_ns += round(seconds * 1e9)

    async def aclose(self) -> None:
        """Closes what is still open."""
        for counters in self._opened:
            await counters.aclose()


def audit(counters: SharedCounters) -> None:
    """Checks with the lock in hand that every sum of seats and holds is what the claims of all processes add up to."""
    words = counters._file.words
    with counters._turn:
        seats, holds = Counter[int](), Counter[int]()
        for pages in counters._flights.berths():
            for place in pages.standing():
                for at, identity, number, _ in pages.parts(place):
                    if words[at] == identity and identity & KIND_MASK == SEATS:
                        seats[at] += 1
                    elif words[at] == identity and identity & KIND_MASK == PURSE:
                        holds[at] += number
        for at in counters._file.meters.used():
            if words[at] & KIND_MASK == SEATS:
                assert words[at + VALUE] == seats[at]
        for at in counters._file.purses.used():
            assert words[at + HELD] == holds[at]


@contextmanager
def lock_taken(folder: Path) -> Iterator[None]:
    """Somebody is in there, and stays."""
    file = os.open(folder / "lock", os.O_RDWR)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)
