"""The two steps of every call, compiled: `_quick.c`.

The module is built when Tollhouse is installed from its source and a C compiler is there.  Without it everything counts the
same, some microseconds a call slower.
"""

import importlib
from mmap import mmap
from typing import Final, Protocol, cast

from tollhouse.policy.shared_memory.layout import VERSION


class Quick(Protocol):
    """What is compiled.  Both steps take the lock without waiting (-1: there is none) and change all or nothing."""

    def place(  # noqa: PLR0917 - named arguments cost more than the step
        self,
        counters: mmap,
        berth: mmap,
        lock: int,
        plan: bytes,
        place: int,
        now_ns: int,
        began_at_us: int,
        hold_nano: int,
        tokens: int,
        claim_id: str,
        note: bytes,
        /,
    ) -> tuple[int, ...] | None:
        """Places a claim of a `Sites.plan`: how far from full its rates are then; `None` if anything is not plain."""
        ...

    def settle(
        self, counters: mmap, berth: mmap, lock: int, now_ns: int, endings: list[tuple[int, int, int | None, bool]], /
    ) -> list[tuple[tuple[int, int, int, int], ...]] | None:
        """Settles claims, each given by its place, cost and tokens, and whether somebody wants to hear more.

        What each did to its purses then: the place of their identity, that identity, and what was spent before and after.
        """
        ...


def _built() -> Quick | None:
    try:
        module = importlib.import_module("tollhouse.policy.shared_memory._quick")
    except ImportError:
        return None
    return cast("Quick", module) if module.LAYOUT_VERSION == VERSION else None


QUICK: Final = _built()
"""`None` when it was not built, or for another layout of the files."""
