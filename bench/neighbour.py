"""Tells the quiet moments of a shared machine from the others, whatever was measured in them."""

import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from bench.compiled import BINARIES
from bench.procs import running_on

KEPT_SHARE: Final = 4
"""One in so many slices counts."""


class Neighbour:
    """Says how much others have slowed a core; see `native/neighbour.c`."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def lap(self) -> float:
        """Nanoseconds that a step of work has taken since the last lap, as a mean: more while somebody shares the core."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return float(json.loads(self._process.stdout.readline())["nanoseconds"])


@contextmanager
def neighbour_on(cores: frozenset[int]) -> Iterator[Neighbour]:
    """Watches these cores while the block runs."""
    with running_on(cores):
        process = subprocess.Popen([BINARIES / "neighbour"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with process:
        yield Neighbour(process)
        assert process.stdin is not None
        process.stdin.close()


def quietest(disturbances: Sequence[float]) -> list[int]:
    """Which of the slices count: the least disturbed quarter, in the order in which they were measured."""
    by_quiet = sorted(range(len(disturbances)), key=lambda index: disturbances[index])
    return sorted(by_quiet[: max(1, len(disturbances) // KEPT_SHARE)])
