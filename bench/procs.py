"""What a process and all its descendants have used: processor time and memory, as Linux counts them."""

import ctypes
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PROC: Final = Path("/proc")
_TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK")
_QUIET_SHARE: Final = 0.02
"""A tree that uses less of a core than this has nothing left to do for the requests it was sent."""


@dataclass(frozen=True, slots=True)
class Stat:
    """The fields of `/proc/<pid>/stat` that matter here (proc_pid_stat(5))."""

    parent: int
    reaped_ticks: int
    """User and system time of children that have ended and were waited for, in clock ticks."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident memory of a tree of processes, in bytes."""

    rss: int
    """Sum of each process's resident set: pages that two share count twice."""
    pss: int
    """The same with shared pages divided among those who share them."""
    processes: int


@dataclass(frozen=True, slots=True)
class Cores:
    """Which processors run the measured server, and which run everything else."""

    server: frozenset[int]
    others: frozenset[int]

    @property
    def are_apart(self) -> bool:
        """False on a machine with one core: its figures include the load generator's disturbance."""
        return not self.server & self.others


def choose_cores(available: frozenset[int]) -> Cores:
    """The highest core for the server, as the lowest usually has the interrupts; the rest for the others."""
    server = frozenset({max(available)})
    return Cores(server, available - server or server)


@contextmanager
def running_on(cores: frozenset[int]) -> Iterator[None]:
    """Processes that are started inside the block run on these cores, with their threads and children."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def parse_stat(text: str) -> Stat:
    """Reads `/proc/<pid>/stat`, whose second field is a name in brackets that may hold spaces and brackets."""
    fields = text.rpartition(")")[2].split()
    return Stat(parent=int(fields[1]), reaped_ticks=int(fields[13]) + int(fields[14]))


def tree_of(root: int) -> tuple[int, ...]:
    """The process and all its living descendants."""
    children: dict[int, list[int]] = {}
    for entry in PROC.iterdir():
        if entry.name.isdigit() and (stat := _stat(int(entry.name))) is not None:
            children.setdefault(stat.parent, []).append(int(entry.name))
    tree = [root]
    for pid in tree:
        tree.extend(children.get(pid, ()))
    return tuple(tree)


def cpu_seconds(root: int) -> float:
    """User and system time of the tree since its start: every thread, also ended ones, and every reaped child."""
    return sum(_own_seconds(pid) + _reaped_seconds(pid) for pid in tree_of(root))


def cpu_seconds_once_quiet(root: int, *, patience_seconds: float = 2.0, look_seconds: float = 0.05) -> float:
    """`cpu_seconds` after the tree has stopped working, so that what it put off (batches, logs) is counted too."""
    give_up = time.monotonic() + patience_seconds
    before = cpu_seconds(root)
    while True:
        time.sleep(look_seconds)
        now = cpu_seconds(root)
        if now - before < look_seconds * _QUIET_SHARE or time.monotonic() > give_up:
            return now
        before = now


def memory(root: int) -> Memory:
    """The tree's resident memory now."""
    rss = pss = processes = 0
    for pid in tree_of(root):
        sizes = parse_rollup((PROC / str(pid) / "smaps_rollup").read_text())
        rss += sizes["Rss"]
        pss += sizes["Pss"]
        processes += 1
    return Memory(rss=rss, pss=pss, processes=processes)


def parse_rollup(text: str) -> dict[str, int]:
    """The sizes in `/proc/<pid>/smaps_rollup`, in bytes by name; its first line is an address range."""
    rows = (line.split() for line in text.splitlines()[1:])
    return {row[0].rstrip(":"): int(row[1]) * 1024 for row in rows}


def _stat(pid: int) -> Stat | None:
    try:
        return parse_stat((PROC / str(pid) / "stat").read_text())
    except (FileNotFoundError, ProcessLookupError):  # it ended between the listing and the reading
        return None


def _own_seconds(pid: int) -> float:
    """By the process's own clock, which counts nanoseconds; `/proc` counts hundredths of a second."""
    clock = ctypes.c_int()
    if ctypes.CDLL(None).clock_getcpuclockid(pid, ctypes.byref(clock)):
        return 0.0
    try:
        return time.clock_gettime(clock.value)
    except OSError:  # it ended; its parent has its time now
        return 0.0


def _reaped_seconds(pid: int) -> float:
    stat = _stat(pid)
    return stat.reaped_ticks / _TICKS_PER_SECOND if stat else 0.0
