"""Claims that stand, as the process that answers for them knows them."""

from collections.abc import Iterable

import msgspec

from tollhouse.policy.shared_memory.berths import Berth, Part
from tollhouse.policy.shared_memory.layout import KIND_MASK
from tollhouse.policy.shared_memory.sites import Sites

Slot = tuple[int, int]
"""Where a slot's identity is, and that identity."""


class Flight(msgspec.Struct):
    """A claim of our own, or an orphan that we adopted.  What it is made of is in its berth."""

    berth: Berth
    place: int
    began_at_us: int
    hold_nano: int
    tokens: int
    sites: Sites | None
    """Where its parts are; `None` when only its berth says that: it was extended, or is an orphan."""
    counts: bool
    """Whether it has parts, and so counts anywhere."""


def merged(old: Iterable[Part], new: Iterable[Part]) -> list[Part]:
    """Parts of two claims as one: a rate that is taken from again is one part still, and so are the holds of a purse."""
    parts: dict[Slot, Part] = {part[:2]: part for part in old}
    for at, identity, number, limit in new:
        _, _, already, _ = parts.get((at, identity), (0, 0, 0, 0))
        parts[at, identity] = at, identity, already + number, limit
    return sorted(parts.values(), key=_kind)


def _kind(part: Part) -> int:
    """Rates, seats and purses stay apart, each in their order."""
    return part[1] & KIND_MASK
