"""Budgets in the file of counters: what the ledger told of them, and what was spent from them since.

A purse that is not seeded has `UNSEEDED` spent, more than any limit, so that nothing can be taken from it.  All of this is
asked with the counters' lock in hand.
"""

from collections.abc import Callable
from typing import Final

from tollhouse.policy.counters import Purse, PurseState, Spending
from tollhouse.policy.shared_memory.file import CountersFile
from tollhouse.policy.shared_memory.flights import Flights
from tollhouse.policy.shared_memory.layout import (
    CEILING,
    EARLY,
    EARLY_AT,
    ENDS_AT,
    FLAGS,
    HELD,
    IS_CONFIRMED,
    IS_SEEDED,
    MAX_NAME_BYTES,
    MOMENT,
    NAME,
    NAME_BYTES,
    PURSE,
    SEEDED,
    SPENT,
    UNSEEDED,
)
from tollhouse.policy.shared_memory.slots import Slot, digest_of

FORGET_AFTER_US: Final = 3_600_000_000
"""An ended purse may be forgotten an hour later: calls that began in its window are over by then."""
STALE_AFTER_US: Final = 60_000_000
"""No ledger takes that long to read.  A moment further back is not stale, it is from a wall clock that was set back."""


class Purses:
    """The table of purses."""

    def __init__(self, file: CountersFile, flights: Flights, wall_us: Callable[[], int]) -> None:
        """`flights` tells which claims a sum may lack."""
        self._file = file
        self._words = file.words
        self._flights = flights
        self._wall_us = wall_us
        self._names: dict[Slot, str] = {}
        """Read once each."""

    def seed(self, purse: Purse, name: bytes, *, spent_nano: int, before_us: int, is_confirmed: bool) -> int:
        """`SharedCounters.seed_now`; `name` is the purse's, as `encoded_name` gives it."""
        slot = self._file.find_purse(purse.name)
        at = self._open(purse.name) if slot is None else slot[0]
        words = self._words
        flags = words[at + FLAGS]
        if not flags & IS_SEEDED:
            # A sum that confirms was told for a moment that the store gave out, perhaps long ago; its clock is right.
            late_us = words[at + MOMENT] - before_us
            if late_us > 0 and (is_confirmed or late_us < STALE_AFTER_US):
                return words[at + MOMENT]
            words[at + NAME_BYTES] = len(name)
            self._file.write_text(at + NAME, name)
            words[at + ENDS_AT] = purse.ends_at_us or 0
            words[at + MOMENT] = before_us
        if flags & IS_CONFIRMED or words[at + MOMENT] != before_us:
            return words[at + MOMENT]
        if is_confirmed and flags & IS_SEEDED and self._flights.has_early(words[at + MOMENT], words[at + EARLY_AT]):
            return before_us
        settled = words[at + SPENT] - words[at + SEEDED] - words[at + EARLY] if flags & IS_SEEDED else 0
        words[at + SEEDED] = min(spent_nano, CEILING)
        if is_confirmed:
            words[at + EARLY] = 0  # the sum has them now
            words[at + FLAGS] = IS_SEEDED | IS_CONFIRMED
        else:
            words[at + FLAGS] = IS_SEEDED
        words[at + SPENT] = min(words[at + SEEDED] + settled + words[at + EARLY], CEILING)
        return before_us

    def forget(self, name: str) -> None:
        """Makes a purse unseeded, if it is there."""
        slot = self._file.find_purse(name)
        if slot is not None:
            self.unseed(slot[0])

    def unseed(self, at: int) -> None:
        """Takes from a purse what is known of its spending, and leaves what is held."""
        words = self._words
        words[at + FLAGS] = words[at + SEEDED] = words[at + EARLY] = 0
        words[at + SPENT] = UNSEEDED
        words[at + MOMENT] = self._wall_us()

    def state(self, name: str) -> PurseState | None:
        """How a purse stands; `None` when it is not seeded."""
        slot, words = self._file.find_purse(name), self._words
        if slot is None or not words[slot[0] + FLAGS] & IS_SEEDED:
            return None
        at = slot[0]
        return PurseState(
            name=name,
            spent_nano=words[at + SPENT],
            held_nano=words[at + HELD],
            seeded_before_us=words[at + MOMENT],
            is_confirmed=bool(words[at + FLAGS] & IS_CONFIRMED),
        )

    def spend(self, at: int, cost_nano: int, early_nano: int | None, now_ns: int) -> Spending | None:
        """Counts what was spent from a purse, by claims that began since its moment and, if there are any, before it."""
        words = self._words
        identity, flags, _, early, before, _, _ = self._file.read_purse(at)
        if not flags & IS_SEEDED:
            early_nano, cost_nano = (early_nano or 0) + cost_nano, 0
        if early_nano is not None:
            words[at + EARLY] = min(early + early_nano, CEILING)
            words[at + EARLY_AT] = now_ns
            cost_nano += early_nano
        if not flags & IS_SEEDED:
            return None
        words[at + SPENT] = min(before + cost_nano, CEILING)
        return Spending(self.name_of(at, identity), before, before + cost_nano)

    def name_of(self, at: int, identity: int) -> str:
        """What the purse in that slot is called."""
        name = self._names.get((at, identity))
        if name is None:
            name = self._file.text(at + NAME, self._words[at + NAME_BYTES])
            if len(self._names) >= self._file.layout.purses:
                self._names.clear()
            self._names[at, identity] = name
        return name

    def _open(self, name: str) -> int:
        words, now_us = self._words, self._wall_us()

        def is_idle(at: int) -> bool:
            if words[at + HELD]:
                return False
            if not words[at + FLAGS] & IS_SEEDED:
                return not words[at + EARLY]
            return 0 < words[at + ENDS_AT] < now_us - FORGET_AFTER_US

        at = self._file.purses.add(digest_of(PURSE, name), self._file.next_identity(PURSE), is_idle)
        words[at + SPENT] = UNSEEDED
        return at


def encoded_name(purse: Purse) -> bytes:
    """The name of a purse as its slot has it.  Raises `ValueError` when it is too long for that."""
    name = purse.name.encode("utf-8", "surrogatepass")
    if len(name) > MAX_NAME_BYTES:
        raise ValueError(f"the name of a purse is longer than {MAX_NAME_BYTES} bytes")
    return name
