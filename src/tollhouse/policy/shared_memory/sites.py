"""Where the parts of a kind of claim stand in the file of counters: looked up once, and good until a slot was moved."""

import struct
from collections.abc import Collection, Sequence
from typing import Final

from tollhouse.policy.counters import MINUTE_NS, Claim, Parts, Seats, Unseeded
from tollhouse.policy.shared_memory.berths import Part, written
from tollhouse.policy.shared_memory.file import CountersFile
from tollhouse.policy.shared_memory.layout import (
    AT_MOVED,
    CEILING,
    HELD,
    KIND_MASK,
    REQUESTS,
    SEATS,
    SPENT,
    TOKENS,
    UNSEEDED,
    VALUE,
)
from tollhouse.policy.shared_memory.slots import Slot, digest_of

MAX_SITES: Final = 4096
"""Kinds of claims whose sites are remembered."""


class Sites:
    """The words that a claim of one kind reads and writes, each by its index."""

    __slots__ = (
        "_slots",
        "moved",
        "parts",
        "plan",
        "purse_slots",
        "purses",
        "rate_words",
        "rates",
        "row",
        "seats",
        "tokens",
    )

    def __init__(
        self,
        parts: Parts,
        moved: int,
        rates: Sequence[Slot],
        seats: Sequence[Slot],
        purses: Sequence[Slot],
    ) -> None:
        """The slots of all parts.  They are good as long as `AT_MOVED` is `moved`."""
        self.parts: Final = parts
        self.moved: Final = moved
        self._slots: Final = (*rates, *seats, *purses)
        counted = list(zip(rates, parts.rates, strict=True))
        self.rate_words: Final = [at + VALUE for at, _ in rates]
        self.rates: Final = [
            (
                at + VALUE,
                rate.amount * MINUTE_NS // rate.per_minute,
                rate.amount if rate.counts == "tokens" else 0,
                rate.per_minute,
            )
            for (at, _), rate in counted
        ]
        """Of each rate its value; how many nanoseconds a call takes of it, unless it has fewer tokens than follows; its number
        a minute."""
        self.tokens: Final = [
            (at + VALUE, rate.amount, rate.per_minute) for (at, _), rate in counted if rate.counts == "tokens"
        ]
        """Of each rate of tokens its value, the most that a call takes, and how many it has a minute."""
        self.seats: Final = [(at + VALUE, each) for (at, _), each in zip(seats, parts.seats, strict=True)]
        self.purses: Final = [
            (at + SPENT, at + HELD, CEILING if purse.limit_nano is None else purse.limit_nano)
            for (at, _), purse in zip(purses, parts.purses, strict=True)
        ]
        self.purse_slots: Final = [at for at, _ in purses]
        self.row: Final = written(
            [
                *(
                    (at, identity, -rate.amount if rate.counts == "tokens" else rate.amount, rate.per_minute)
                    for (at, identity), rate in counted
                ),
                *((at, identity, 0, 0) for at, identity in seats),
                *((at, identity, -1, 0) for at, identity in purses),
            ]
        )
        """What a berth says of such a claim's parts."""
        self.plan: Final = self._planned()
        """All of this for `quick`."""

    def spelled_out(self, claim: Claim) -> list[Part]:
        """The parts of one claim with all numbers."""
        parts = self.parts
        numbers = [
            *((claim.takes(rate), rate.per_minute) for rate in parts.rates),
            *((0, 0) for _ in parts.seats),
            *((claim.hold_nano, 0) for _ in parts.purses),
        ]
        return [(*slot, *number) for slot, number in zip(self._slots, numbers, strict=True)]

    def _planned(self) -> bytes:
        """The order of `_quick.c`: `Plan`, `RateSite`s, `SeatsSite`s, `PurseSite`s, and the row."""
        numbers = [self.moved, len(self.rates), len(self.seats), len(self.purses)]
        for site in self.rates:
            numbers += site
        for word, each in self.seats:
            numbers += word, min(each.limit, CEILING)
        for purse in self.purses:
            numbers += purse
        return struct.pack(f"={len(numbers)}q", *numbers) + self.row


class SiteMap:
    """Where everything stands that this process has counted.  Asked with the counters' lock in hand."""

    def __init__(self, file: CountersFile) -> None:
        """For the file that all of it is in."""
        self._file = file
        self._words = file.words
        self.known: Final[dict[int, Sites]] = {}
        """By the identity of their parts, which they keep."""

    def find(self, parts: Parts, now_ns: int, *, taken: Collection[Slot] = ()) -> Sites | Unseeded:
        """Where all parts of a claim are, without the seats that it has `taken` already; unless a purse is nowhere.

        Makes the meters that are missing, and raises `StoreUnavailable` when there is no room for one.
        """
        words = self._words
        purses = [self._file.find_purse(purse.name) for purse in parts.purses]
        if None in purses:
            return Unseeded(
                tuple(
                    purse
                    for purse, slot in zip(parts.purses, purses, strict=True)
                    if slot is None or words[slot[0] + SPENT] >= UNSEEDED
                )
            )
        rates: list[Slot] = []
        for rate in parts.rates:
            rates.append(self._open_meter(TOKENS if rate.counts == "tokens" else REQUESTS, rate.name, now_ns, rates))
        seats: list[Slot] = []
        wanted: list[Seats] = []
        for each in parts.seats:
            slot = self._open_meter(SEATS, each.name, now_ns, [*rates, *seats])
            if slot not in taken:
                seats.append(slot)
                wanted.append(each)
        if len(wanted) < len(parts.seats):
            parts = Parts(parts.rates, tuple(wanted), parts.purses)
        sites = Sites(parts, words[AT_MOVED], rates, seats, [slot for slot in purses if slot is not None])
        if not taken:
            if len(self.known) >= MAX_SITES:
                self.known.clear()
            self.known[id(parts)] = sites
        return sites

    def _open_meter(self, kind: int, name: str, now_ns: int, pinned: Sequence[Slot]) -> Slot:
        """Finds or makes a meter.  `pinned` are slots that this claim is about to use, which must not be taken for idle."""
        words = self._words
        digest = digest_of(kind, name)
        at = self._file.meters.find(digest)
        if at is None:

            def is_idle(at: int) -> bool:
                return words[at + VALUE] <= (0 if words[at] & KIND_MASK == SEATS else now_ns)

            at = self._file.meters.add(
                digest, self._file.next_identity(kind), is_idle, pinned={other for other, _ in pinned}
            )
        return at, words[at]
