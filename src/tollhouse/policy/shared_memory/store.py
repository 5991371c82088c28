"""The store of counters for the workers of one machine.

Every process maps the same file of counters (`layout`, `slots`) and changes it with a lock in hand (`guard`).  Before it
changes any, it writes what it claims into its own berth (`berths`); when the claim has ended and the counters have it back, it
is wiped from the berth.  So what is held and seated is known twice, as sums and claim by claim, and a death at any moment is
mended:

- Died between calls: the sums are right.  The dead process's claims stand in its berth; a neighbour adopts the berth by taking
  its lock, and ends them one by one (`orphans`).
- Died while changing counters: the next to take the lock finds the header marked dirty, adds up holds and seats from all berths
  anew, and forgets what purses have spent, which the ledger knows.  A rate may have been taken for nothing, and refills.
- All died, the machine too: the first process to come back does the same.  If the monotonic clock began anew, the rates are
  moved with it.

A claim without parts changes no counter, so it is written without the lock.  Nothing here waits for anything but that lock, and
that for at most `patience_seconds`; the methods of `Counters` are the synchronous ones (`place_now`, ...) under another name.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Self

from tollhouse.errors import StoreUnavailable
from tollhouse.policy.counters import Answer, Claim, Ending, Orphan, Placed, Purse, PurseState, Spending, Unseeded
from tollhouse.policy.shared_memory.flights import Flight
from tollhouse.policy.shared_memory.joining import Joined, join
from tollhouse.policy.shared_memory.layout import AT_MOVED, AT_SEEN_NS, Layout
from tollhouse.policy.shared_memory.placement import answer_to, check_parts, checked_name, take
from tollhouse.policy.shared_memory.purses import encoded_name
from tollhouse.policy.shared_memory.quick import QUICK, Quick
from tollhouse.policy.shared_memory.settlement import Settlement
from tollhouse.policy.shared_memory.sites import SiteMap, Sites
from tollhouse.policy.shared_memory.turn import Turn

PATIENCE_SECONDS: Final = 1.0
"""How long the lock is waited for.  It is held for microseconds."""

_PLACED: Final = Placed()


class SharedCounters:
    """`Counters` in shared memory.  Belongs to one thread of one process; open it after forking.

    `settle_now` and `release_now` always take effect: when they raise `StoreUnavailable`, the next call that gets the lock does
    first what they could not do.
    """

    def __init__(
        self, folder: Path, joined: Joined, *, is_shared: bool, monotonic_ns: Callable[[], int], quick: Quick | None
    ) -> None:
        """For `open`."""
        self._folder = folder
        self._joined = joined
        self._file = joined.file
        self._flights = joined.flights
        self._purses = joined.purses
        self._monotonic_ns = monotonic_ns
        self._site_map = SiteMap(joined.file)
        self._settlement = Settlement(joined.file, joined.flights, joined.purses, monotonic_ns)
        self._turn = Turn(
            joined.file, joined.guard if is_shared else None, joined.flights, joined.purses, self._settlement
        )
        # What the compiled steps need, at hand: they are on the way of every call, twice.
        self._quick = quick
        self._map = joined.file.map
        self._lock = joined.guard.file if is_shared else -1
        self._berth = joined.flights.own
        self._standing = joined.flights.by_id
        self._sites = self._site_map.known
        self._owed = self._settlement.owed

    @classmethod
    def open(
        cls,
        folder: Path,
        *,
        processes: int,
        meters: int = 65_536,
        purses: int = 16_384,
        patience_seconds: float = PATIENCE_SECONDS,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
        wall_us: Callable[[], int] = lambda: time.time_ns() // 1000,
        quick: Quick | None = QUICK,
    ) -> Self:
        """Joins the processes that count in that folder, which is on a local disk.

        With `processes` 1 it keeps the lock and so shuts others out; a call is then a microsecond cheaper.  `meters` (rates and
        seats) and `purses` are how many can be counted at once; all processes must say the same.  Raises `ConfigError` when the
        folder cannot be used or belongs to processes that do not fit, and `StoreUnavailable` when the lock is not to be had.
        """
        is_alone = processes == 1
        joined = join(
            folder,
            Layout(meters, purses),
            is_alone=is_alone,
            patience_seconds=patience_seconds,
            monotonic_ns=monotonic_ns,
            wall_us=wall_us,
        )
        return cls(folder, joined, is_shared=not is_alone, monotonic_ns=monotonic_ns, quick=quick)

    # ------------------------------------------------------------------------------------------------------- place

    def place_now(self, claim: Claim, *, extends: bool = False) -> Answer:
        """`Counters.place`.  Raises `ValueError` when the claim stands already or is out of bounds."""
        if self._turn.is_closed:
            raise StoreUnavailable("The shared counters are closed.")
        sites = self._sites.get(id(claim.parts))
        if claim.id not in self._standing:
            if sites is not None and self._quick is not None:
                placed = self._place_quickly(self._quick, claim, sites)
                if placed is not None:
                    return placed
        elif not extends:
            raise ValueError(f"claim {claim.id!r} stands already")
        name = checked_name(claim)
        if sites is None:
            check_parts(claim.parts)
            if claim.parts.is_empty:
                self._flights.put(claim, name, None)
                return _PLACED
        with self._turn:
            return self._place(claim, name, sites)

    def _place_quickly(self, quick: Quick, claim: Claim, sites: Sites) -> Placed | None:
        """Places a plain claim in compiled code; `None`, with nothing changed, if it is not plain."""
        berth = self._berth
        if self._owed or not berth.free:
            return None
        place, began_at_us, hold, tokens = berth.free[-1], claim.began_at_us, claim.hold_nano, claim.tokens
        ahead_ns = quick.place(
            self._map,
            berth.map,
            self._lock,
            sites.plan,
            place,
            self._monotonic_ns(),
            began_at_us,
            hold,
            tokens,
            claim.id,
            claim.note,
        )
        if ahead_ns is None:
            return None
        berth.free.pop()
        self._standing[claim.id] = Flight(berth, place, began_at_us, hold, tokens, sites, True)  # noqa: FBT003
        return Placed(claim.parts.rates, ahead_ns)

    def _place(self, claim: Claim, name: bytes, sites: Sites | None) -> Answer:
        words = self._file.words
        words[AT_SEEN_NS] = now_ns = self._monotonic_ns()
        flight = self._standing.get(claim.id)
        if sites is None or sites.moved != words[AT_MOVED] or flight is not None:
            found = self._site_map.find(
                claim.parts,
                now_ns,
                taken=() if flight is None else {part[:2] for part in flight.berth.parts(flight.place)},
            )
            if isinstance(found, Unseeded):
                return found
            sites = found
        answer = answer_to(claim, sites, words, now_ns)
        if isinstance(answer, Placed):
            self._flights.put(claim, name, sites)
            take(answer, claim.hold_nano, sites, words, now_ns)
        return answer

    # --------------------------------------------------------------------------------------------- settle, release

    def settle_now(self, claim_id: str, *, cost_nano: int, tokens: int | None) -> Sequence[Spending]:
        """`Counters.settle`."""
        return self.settle_all_now([Ending(claim_id, cost_nano, tokens)])[0]

    def settle_all_now(self, endings: Sequence[Ending]) -> Sequence[Sequence[Spending]]:
        """Settles several claims, in one step for all others: what that did to purses, for each ending.

        Of claims of one kind it is told together, with one of them.
        """
        if not any((flight := self._standing.get(ending.claim_id)) and flight.counts for ending in endings):
            for ending in endings:
                self._flights.end(ending.claim_id)
            return [[]] * len(endings)
        if self._quick is not None:
            told = self._settle_quickly(self._quick, endings)
            if told is not None:
                return told
        try:
            with self._turn:
                return self._settlement.settle(endings)
        except StoreUnavailable:
            self._owed.extend(endings)
            raise

    def release_now(self, claim_id: str) -> None:
        """`Counters.release`."""
        flight = self._standing.get(claim_id)
        if flight is None or not flight.counts:
            self._flights.end(claim_id)
            return
        try:
            with self._turn:
                self._settlement.release(claim_id)
        except StoreUnavailable:
            self._owed.append(Ending(claim_id, None, None))
            raise

    def _settle_quickly(self, quick: Quick, endings: Sequence[Ending]) -> Sequence[Sequence[Spending]] | None:
        """Settles claims of this process in compiled code; `None`, with nothing changed, if one of them is not plain."""
        flights, berth = self._standing, self._berth
        if self._owed or self._turn.is_closed:
            return None
        ended: list[tuple[int, int, int | None, bool]] = []
        for ending in endings:
            flight = flights.get(ending.claim_id)
            if flight is None or flight.berth is not berth:
                return None
            ended.append((flight.place, ending.cost_nano or 0, ending.tokens, ending.is_watched))
        steps = quick.settle(self._map, berth.map, self._lock, self._monotonic_ns(), ended)
        if steps is None:
            return None
        for ending in endings:
            if (flight := flights.pop(ending.claim_id, None)) is not None:
                berth.free.append(flight.place)
        return [self._told(each) if each else [] for each in steps]

    def _told(self, steps: Sequence[tuple[int, int, int, int]]) -> Sequence[Spending]:
        return [Spending(self._purses.name_of(at, identity), before, after) for at, identity, before, after in steps]

    # ------------------------------------------------------------------------------------------------------ purses

    def seed_now(self, purse: Purse, *, spent_nano: int, before_us: int, is_confirmed: bool = False) -> int:
        """`Counters.seed`.  What is told about a confirmed purse changes nothing: `forget` it first.

        Nor does a sum that was read for a moment before the purse was made unseeded, because it lacks what began after that
        moment and was settled before: the purse stays unseeded, and the moment that is returned is the first that would do.  A
        sum that shall confirm a purse is not taken when it may lack a claim that was placed since this process last asked
        `is_settled_before`.  Raises `ValueError` when the purse's name is longer than 416 bytes.
        """
        name = encoded_name(purse)
        with self._turn:
            return self._purses.seed(purse, name, spent_nano=spent_nano, before_us=before_us, is_confirmed=is_confirmed)

    def forget_now(self, names: Sequence[str]) -> None:
        """`Counters.forget`."""
        with self._turn:
            for name in names:
                self._purses.forget(name)

    def purses_now(self, names: Sequence[str]) -> list[PurseState]:
        """`Counters.purses`."""
        with self._turn:
            return [state for name in names if (state := self._purses.state(name)) is not None]

    # ------------------------------------------------------------------------------------------- what others left

    def is_settled_before_now(self, moment_us: int) -> bool:
        """`Counters.is_settled_before`.  Reads one word for each claim that stands anywhere; meant for once a second."""
        self._check_files()
        return self._flights.is_settled_before(moment_us, self._monotonic_ns())

    def orphans_now(self, at_most: int = 100) -> list[Orphan]:
        """`Counters.orphans`.  A claim that the loss of power damaged comes without its note."""
        self._check_files()
        if len(self._flights.unasked) < at_most:
            with self._turn:
                self._flights.adopt()
        return self._flights.orphans(at_most)

    def _check_files(self) -> None:
        if self._turn.is_closed:
            raise StoreUnavailable("The shared counters are closed.")
        if self._joined.guard.is_deleted():
            raise StoreUnavailable(
                f"The files of the shared counters in {self._folder} were deleted while they were in use.",
                hint="Restart the gateway; workers that start now would count anew.",
            )

    # ---------------------------------------------------------------------------------------------------- the rest

    async def place(self, claim: Claim, *, extends: bool = False) -> Answer:
        """Takes all or none; see `Counters.place`."""
        return self.place_now(claim, extends=extends)

    async def settle(self, claim_id: str, *, cost_nano: int, tokens: int | None) -> Sequence[Spending]:
        """Ends a claim; see `Counters.settle`."""
        return self.settle_now(claim_id, cost_nano=cost_nano, tokens=tokens)

    async def release(self, claim_id: str) -> None:
        """Undoes a claim; see `Counters.release`."""
        self.release_now(claim_id)

    async def seed(self, purse: Purse, *, spent_nano: int, before_us: int, is_confirmed: bool = False) -> int:
        """Tells what a purse has spent; see `Counters.seed`."""
        return self.seed_now(purse, spent_nano=spent_nano, before_us=before_us, is_confirmed=is_confirmed)

    async def forget(self, names: Sequence[str]) -> None:
        """Makes purses unseeded; see `Counters.forget`."""
        self.forget_now(names)

    async def is_settled_before(self, moment_us: int) -> bool:
        """Whether all earlier claims have ended; see `Counters.is_settled_before`."""
        return self.is_settled_before_now(moment_us)

    async def orphans(self, at_most: int = 100) -> Sequence[Orphan]:
        """Claims of the dead; see `Counters.orphans`."""
        return self.orphans_now(at_most)

    async def purses(self, names: Sequence[str]) -> Sequence[PurseState]:
        """How purses stand; see `Counters.purses`."""
        return self.purses_now(names)

    async def aclose(self) -> None:
        """Lets go of the files; see `Counters.aclose`.  May be called twice."""
        if self._turn.is_closed:
            return
        self._turn.is_closed = True
        self._joined.leave()
