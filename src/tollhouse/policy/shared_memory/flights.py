"""Claims that stand, as the process that answers for them knows them: its own, and those of the dead that it adopted."""

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from tollhouse.errors import StoreUnavailable
from tollhouse.policy.counters import Claim, Orphan
from tollhouse.policy.shared_memory.berths import MAX_PARTS, Berth, BerthPages, Part, berth_numbers, reading, written
from tollhouse.policy.shared_memory.layout import KIND_MASK
from tollhouse.policy.shared_memory.sites import Sites
from tollhouse.policy.shared_memory.slots import Slot

_NEVER_ASKED: Final = 1 << 62


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


class Flights:
    """All claims that this process answers for, and the berths of all processes.

    What changes a claim that counts anywhere, or reads the berths for claims that do, has the counters' lock in hand.
    """

    def __init__(self, folder: Path, own: Berth) -> None:
        """Takes over the berth.  `folder` is where all of them are."""
        self._folder = folder
        self.own: Final = own
        self.by_id: Final[dict[str, Flight]] = {}
        self._adopted: dict[int, Berth] = {}
        self.unasked: Final[deque[tuple[str, bytes]]] = deque()
        """Orphans of adopted berths that nobody has been given yet, and their notes."""
        self._asked_ns = _NEVER_ASKED
        """When somebody last asked whether all earlier claims are settled, and they were."""

    def put(self, claim: Claim, name: bytes, sites: Sites | None) -> None:
        """Writes a claim into the berth, beside the one of its id if that stands; `name` is its id in bytes, and `sites`
        where its parts are.

        Raises `StoreUnavailable` if there is no room; then nothing was written.
        """
        flight = self.by_id.get(claim.id)
        if flight is not None:
            _extend(flight, claim, sites)
            return
        self.own.reserve()
        place = self.own.put(claim, name, b"" if sites is None else sites.row)
        self.by_id[claim.id] = Flight(
            self.own, place, claim.began_at_us, claim.hold_nano, claim.tokens, sites, sites is not None
        )

    def end(self, claim_id: str) -> None:
        """Forgets a claim, if it stands, and what it held nowhere else."""
        flight = self.by_id.pop(claim_id, None)
        if flight is not None:
            self.drop(flight)

    def drop(self, flight: Flight) -> None:
        """Wipes a claim from its berth, whose id is forgotten already.  An adopted berth is given up with its last claim."""
        berth = flight.berth
        berth.drop(flight.place)
        if berth is not self.own and berth.is_empty:
            del self._adopted[berth.number]
            berth.leave()

    def berths(self) -> Iterator[BerthPages]:
        """The berths of all processes, living and dead, each good until the next.  Raises `StoreUnavailable`."""
        yield self.own
        yield from self._adopted.values()
        with self._unreadable():
            for number in self._others():
                with reading(self._folder, number) as pages:
                    if pages is not None:
                        yield pages

    def is_settled_before(self, moment_us: int, now_ns: int) -> bool:
        """`Counters.is_settled_before`, asked at the monotonic `now_ns`."""
        if self._any_began_before(moment_us):
            return False
        self._asked_ns = now_ns
        return True

    def has_early(self, moment_us: int, last_ended_ns: int) -> bool:
        """Whether a claim that began before that moment stands, or ended since somebody was told that none does.

        Such a claim can have been placed, and even settled, after somebody asked whether all are settled and read the sum: its
        call had waited to be let in.  `last_ended_ns` is when the last of them ended.
        """
        return last_ended_ns > self._asked_ns or self._any_began_before(moment_us)

    def orphans(self, at_most: int) -> list[Orphan]:
        """Gives out those that are unasked."""
        handed: list[Orphan] = []
        while self.unasked and len(handed) < at_most:
            claim_id, note = self.unasked.popleft()
            flight = self.by_id[claim_id]
            handed.append(Orphan(claim_id, flight.began_at_us, flight.hold_nano, note))
        return handed

    def adopt(self) -> None:
        """Takes over the berths of the dead in which claims stand.  Raises `StoreUnavailable`."""
        with self._unreadable():
            for number in self._others():
                berth = Berth.take(self._folder, number)
                if berth is None:
                    continue
                if berth.is_empty:
                    berth.leave()
                else:
                    self._adopted[number] = berth
                    self._answer_for(berth)

    def leave(self) -> None:
        """Gives up all berths.  What stands in them is an orphan now."""
        self.by_id.clear()
        for berth in (self.own, *self._adopted.values()):
            berth.leave()

    def _answer_for(self, berth: Berth) -> None:
        for place in berth.standing():
            found = berth.read(place)
            claim_id = found.id
            while claim_id in self.by_id:
                claim_id += "'"  # ids are unique; should they not be, none of the two may be lost
            self.by_id[claim_id] = Flight(berth, place, found.began_at_us, found.hold_nano, 0, None, bool(found.parts))
            self.unasked.append((claim_id, found.note))

    def _others(self) -> Iterator[int]:
        """The numbers of the berths that are not ours."""
        for number in berth_numbers(self._folder):
            if number != self.own.number and number not in self._adopted:
                yield number

    def _any_began_before(self, moment_us: int) -> bool:
        return any((began := pages.oldest()) is not None and began < moment_us for pages in self.berths())

    @contextmanager
    def _unreadable(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreUnavailable(
                f"What other processes have claimed in {self._folder} cannot be read: {error}."
            ) from error


def _extend(flight: Flight, claim: Claim, sites: Sites | None) -> None:
    """Adds a claim to one that stands."""
    standing = flight.berth.read(flight.place)
    parts = standing.parts if sites is None else _merged(standing.parts, sites.spelled_out(claim))
    if len(parts) > MAX_PARTS:
        raise StoreUnavailable(f"A call with its retries counts in more than {MAX_PARTS} places.")
    hold = flight.hold_nano + claim.hold_nano
    flight.berth.rewrite(flight.place, standing.id.encode(), hold, written(parts), claim.note or standing.note)
    flight.hold_nano, flight.sites, flight.counts = hold, None, bool(parts)


def _merged(old: Iterable[Part], new: Iterable[Part]) -> list[Part]:
    """Parts of two claims as one: a rate that is taken from again is one part still, and so are the holds of a purse."""
    parts: dict[Slot, Part] = {part[:2]: part for part in old}
    for at, identity, number, limit in new:
        _, _, already, _ = parts.get((at, identity), (0, 0, 0, 0))
        parts[at, identity] = at, identity, already + number, limit
    return sorted(parts.values(), key=_kind)


def _kind(part: Part) -> int:
    """Rates, seats and purses stay apart, each in their order."""
    return part[1] & KIND_MASK
