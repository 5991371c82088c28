"""Claims that stand, as the process that answers for them knows them."""

from collections.abc import Iterable
from typing import Self

from tollhouse.policy.shared_memory.berths import Berth, Written
from tollhouse.policy.shared_memory.layout import KIND_MASK, PURSE, SEATS

Slot = tuple[int, int]
"""Where a slot's identity is, and that identity."""
RatePart = tuple[int, int, int, int]
"""Slot, amount taken, per minute."""
PursePart = tuple[int, int, int]
"""Slot, nano-USD held."""


class Flight:
    """A claim of our own, or an orphan that we adopted."""

    __slots__ = ("began_at_us", "berth", "hold_nano", "name", "note", "place", "purses", "rates", "seats")

    def __init__(self, berth: Berth, name: bytes, began_at_us: int) -> None:
        """`name` is the claim's id; it has no place and no parts yet."""
        self.berth = berth
        self.place = -1
        self.name = name
        self.began_at_us = began_at_us
        self.hold_nano = 0
        self.note = b""
        self.rates: list[RatePart] = []
        self.seats: list[Slot] = []
        self.purses: list[PursePart] = []

    @classmethod
    def of(cls, berth: Berth, place: int, written: Written) -> Self:
        """One that stands in a berth."""
        flight = cls(berth, written.id.encode(), written.began_at_us)
        flight.place, flight.hold_nano, flight.note = place, written.hold_nano, written.note
        for at, identity, number, per_minute in written.parts:
            kind = identity & KIND_MASK
            if kind == SEATS:
                flight.seats.append((at, identity))
            elif kind == PURSE:
                flight.purses.append((at, identity, number))
            elif per_minute > 0:
                flight.rates.append((at, identity, number, per_minute))
        return flight

    @property
    def has_parts(self) -> bool:
        """Whether it counts anywhere."""
        return bool(self.purses or self.rates or self.seats)


def row_of(rates: Iterable[RatePart], seats: Iterable[Slot], purses: Iterable[PursePart]) -> list[int]:
    """All parts as their berth has them, four numbers each."""
    row: list[int] = []
    for rate in rates:
        row += rate
    for seat in seats:
        row += seat
        row += (0, 0)
    for purse in purses:
        row += purse
        row.append(0)
    return row


def merged_rates(old: list[RatePart], new: list[RatePart]) -> list[RatePart]:
    """A rate that is taken from again is one part still."""
    merged = {part[:2]: part for part in old}
    for at, identity, amount, per_minute in new:
        _, _, already, _ = merged.get((at, identity), (0, 0, 0, 0))
        merged[at, identity] = at, identity, already + amount, per_minute
    return [*merged.values()]


def merged_purses(old: list[PursePart], new: list[PursePart]) -> list[PursePart]:
    """The holds of one purse are one part."""
    merged = {part[:2]: part for part in old}
    for at, identity, hold in new:
        _, _, already = merged.get((at, identity), (0, 0, 0))
        merged[at, identity] = at, identity, already + hold
    return [*merged.values()]
