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

import os
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeAlias

from tollhouse.errors import ConfigError, StoreUnavailable
from tollhouse.policy.counters import (
    MAX_CLAIM_PARTS,
    MAX_LIMIT_NANO,
    MAX_NOTE_BYTES,
    MAX_TOKENS,
    MINUTE_NS,
    Answer,
    Claim,
    Ending,
    Orphan,
    Parts,
    Placed,
    Purse,
    PurseEmpty,
    PurseState,
    RateFull,
    Seats,
    SeatsTaken,
    Spending,
    Unseeded,
)
from tollhouse.policy.shared_memory.berths import (
    MAX_BERTHS,
    MAX_ID_BYTES,
    MAX_PARTS,
    Berth,
    BerthPages,
    berth_numbers,
    is_held,
    reading,
    written,
)
from tollhouse.policy.shared_memory.file import CountersFile
from tollhouse.policy.shared_memory.flights import Flight, Slot, merged
from tollhouse.policy.shared_memory.guard import Guard
from tollhouse.policy.shared_memory.layout import (
    AT_DIRTY,
    AT_MOVED,
    AT_SEEN_NS,
    AT_SERIAL,
    CEILING,
    EARLY,
    EARLY_AT,
    ENDS_AT,
    FLAGS,
    HELD,
    IS_CONFIRMED,
    IS_SEEDED,
    KIND_MASK,
    MAX_NAME_BYTES,
    MOMENT,
    NAME,
    NAME_BYTES,
    PURSE,
    REQUESTS,
    SEATS,
    SEEDED,
    SPENT,
    TOKENS,
    UNSEEDED,
    VALUE,
    Layout,
)
from tollhouse.policy.shared_memory.quick import QUICK, Quick
from tollhouse.policy.shared_memory.sites import MAX_SITES, Sites
from tollhouse.policy.shared_memory.slots import digest_of

PATIENCE_SECONDS: Final = 1.0
"""How long the lock is waited for.  It is held for microseconds."""
FORGET_AFTER_US: Final = 3_600_000_000
"""An ended purse may be forgotten an hour later: calls that began in its window are over by then."""
STALE_AFTER_US: Final = 60_000_000
"""No ledger takes that long to read.  A moment further back is not stale, it is from a wall clock that was set back."""
MAX_DEBT_NS: Final = 86_400_000_000_000
"""However many tokens a provider says it used, a rate is out of debt after a day."""

_PLACED: Final = Placed()
_NEVER_ASKED: Final = 1 << 62


Ended: TypeAlias = tuple[int, Flight, int, int | None]
"""A claim that is being settled: its place among those that are, itself, cost and tokens."""


class SharedCounters:
    """`Counters` in shared memory.  Belongs to one thread of one process; open it after forking.

    `settle_now` and `release_now` always take effect: when they raise `StoreUnavailable`, the next call that gets the lock does
    first what they could not do.
    """

    def __init__(
        self,
        folder: Path,
        file: CountersFile,
        guard: Guard,
        berth: Berth,
        *,
        is_shared: bool,
        monotonic_ns: Callable[[], int],
        wall_us: Callable[[], int],
        quick: Quick | None,
    ) -> None:
        """For `open`."""
        self._quick = quick
        self._lock = guard.file if is_shared else -1
        self._folder = folder
        self._file = file
        self._words = file.words
        self._guard = guard
        self._berth = berth
        self._is_shared = is_shared
        self._monotonic_ns = monotonic_ns
        self._wall_us = wall_us
        self._flights: dict[str, Flight] = {}
        self._adopted: dict[int, Berth] = {}
        self._unasked: deque[tuple[str, bytes]] = deque()
        """Orphans of adopted berths that nobody has asked for yet, and their notes."""
        self._owed: deque[Ending] = deque()
        """Ends that could not be written yet, because the lock was not to be had."""
        self._asked_ns = _NEVER_ASKED
        """When somebody last asked whether all earlier claims are settled, and they were."""
        self._sites: dict[int, Sites] = {}
        """By the identity of their parts, which they keep."""
        self._names: dict[Slot, str] = {}
        """Of purses, read once each."""
        self._inside: Final = _Inside(
            file.words, guard if is_shared else None, self._mend_or_give_up, self._owed, self._pay
        )

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
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with ExitStack() as undo:
                lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                guard = Guard(lock, patience_seconds=patience_seconds)
                undo.callback(guard.close)
                guard.take()
                living = _count_living(folder)
                _check_company(folder, processes, living)
                file = _open_file(folder, Layout(meters, purses), may_replace=not living, wall_us=wall_us)
                undo.callback(file.close)
                berth = _own_berth(folder)
                undo.callback(berth.leave)
                counters = cls(
                    folder,
                    file,
                    guard,
                    berth,
                    is_shared=processes > 1,
                    monotonic_ns=monotonic_ns,
                    wall_us=wall_us,
                    quick=quick,
                )
                if not living:
                    file.words[AT_SERIAL] = max(
                        file.words[AT_SERIAL], wall_us()
                    )  # the loss of power may have set it back
                    counters._wind()
                    counters._mend()
                    file.words[AT_DIRTY] = 0
                if processes > 1:
                    guard.give()
                undo.pop_all()
        except OSError as error:
            raise ConfigError([f"The folder {folder} cannot be used for the shared counters: {error}."]) from error
        return counters

    # ------------------------------------------------------------------------------------------------------- place

    def place_now(self, claim: Claim, *, extends: bool = False) -> Answer:
        """`Counters.place`.  Raises `ValueError` when the claim stands already or is out of bounds."""
        if self._inside.is_closed:
            raise StoreUnavailable("The shared counters are closed.")
        sites = self._sites.get(id(claim.parts))
        if claim.id not in self._flights:
            if sites is not None and self._quick is not None:
                placed = self._place_quickly(self._quick, claim, sites)
                if placed is not None:
                    return placed
        elif not extends:
            raise ValueError(f"claim {claim.id!r} stands already")
        name = _checked_name(claim)
        if sites is None:
            _check_parts(claim.parts)
            if claim.parts.is_empty:
                self._put(claim, name, self._flights.get(claim.id), None)
                return _PLACED
        with self._inside:
            return self._place(claim, name, sites)

    def _place_quickly(self, quick: Quick, claim: Claim, sites: Sites) -> Placed | None:
        """Places a plain claim in compiled code; `None`, with nothing changed, if it is not plain."""
        berth = self._berth
        if self._owed or not berth.free:
            return None
        place, began_at_us, hold, tokens = berth.free[-1], claim.began_at_us, claim.hold_nano, claim.tokens
        ahead_ns = quick.place(
            self._file.map,
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
        self._flights[claim.id] = Flight(berth, place, began_at_us, hold, tokens, sites, True)  # noqa: FBT003
        return Placed(claim.parts.rates, ahead_ns)

    def _place(self, claim: Claim, name: bytes, sites: Sites | None) -> Answer:
        words = self._words
        words[AT_SEEN_NS] = now = self._monotonic_ns()
        flight = self._flights.get(claim.id)
        if sites is None or sites.moved != words[AT_MOVED] or flight is not None:
            found = self._find_sites(claim.parts, flight, now)
            if isinstance(found, Unseeded):
                return found
            sites = found
        hold, tokens = claim.hold_nano, claim.tokens
        for spent, held, limit in sites.purses:
            if words[spent] + words[held] + hold > limit:
                return self._refused_by_purse(sites, hold)
        ahead_ns: list[int] = []
        for word, take_ns, most_tokens, per_minute in sites.rates:
            ahead = words[word] - now
            if ahead < 0:  # noqa: PLR1730 - half the time of `max`, and this is the hot path
                ahead = 0
            ahead += take_ns if tokens >= most_tokens else tokens * MINUTE_NS // per_minute
            if ahead > MINUTE_NS:
                return self._refused_by_rate(claim, sites, now)
            ahead_ns.append(ahead)
        for word, seats in sites.seats:
            if words[word] >= seats.limit:
                return SeatsTaken(seats)

        self._put(claim, name, flight, sites)
        for word, ahead in zip(sites.rate_words, ahead_ns, strict=True):
            words[word] = now + ahead
        for word, _ in sites.seats:
            words[word] += 1
        for _, held, _ in sites.purses:
            words[held] += hold
        return Placed(claim.parts.rates, tuple(ahead_ns))

    def _refused_by_purse(self, sites: Sites, hold_nano: int) -> PurseEmpty | Unseeded:
        """Why a claim is refused of which some purse has too little or is unseeded."""
        words, purses = self._words, sites.parts.purses
        unseeded = tuple(
            purse for purse, (spent, _, _) in zip(purses, sites.purses, strict=True) if words[spent] >= UNSEEDED
        )
        if unseeded:
            return Unseeded(unseeded)
        return next(
            PurseEmpty(purse, words[spent], words[held])
            for purse, (spent, held, limit) in zip(purses, sites.purses, strict=True)
            if words[spent] + words[held] + hold_nano > limit
        )

    def _refused_by_rate(self, claim: Claim, sites: Sites, now: int) -> RateFull:
        rates = claim.parts.rates
        ahead_ns = [max(self._words[word] - now, 0) for word in sites.rate_words]
        after_ns = [
            ahead + claim.takes(rate) * MINUTE_NS // rate.per_minute
            for ahead, rate in zip(ahead_ns, rates, strict=True)
        ]
        longest = max(after_ns)
        return RateFull(
            rates,
            tuple(ahead_ns),
            rate=rates[after_ns.index(longest)],
            wait_seconds=(longest - MINUTE_NS) / 1e9,
        )

    def _put(self, claim: Claim, name: bytes, flight: Flight | None, sites: Sites | None) -> None:
        """Writes the claim into the berth.  `StoreUnavailable` if there is no room; then nothing was written."""
        if flight is not None:
            self._put_beside(claim, flight, sites)
            return
        berth, row = self._berth, b"" if sites is None else sites.row
        berth.reserve()
        place = berth.put(claim, name, row)
        self._flights[claim.id] = Flight(
            berth, place, claim.began_at_us, claim.hold_nano, claim.tokens, sites, sites is not None
        )

    def _put_beside(self, claim: Claim, flight: Flight, sites: Sites | None) -> None:
        """Adds a claim to one that stands."""
        standing = flight.berth.read(flight.place)
        parts = standing.parts if sites is None else merged(standing.parts, sites.spelled_out(claim))
        if len(parts) > MAX_PARTS:
            raise StoreUnavailable(f"A call with its retries counts in more than {MAX_PARTS} places.")
        hold = flight.hold_nano + claim.hold_nano
        flight.berth.rewrite(flight.place, standing.id.encode(), hold, written(parts), claim.note or standing.note)
        flight.hold_nano, flight.sites, flight.counts = hold, None, bool(parts)

    # --------------------------------------------------------------------------------------------- settle, release

    def settle_now(self, claim_id: str, *, cost_nano: int, tokens: int | None) -> Sequence[Spending]:
        """`Counters.settle`."""
        return self.settle_all_now([Ending(claim_id, cost_nano, tokens)])[0]

    def settle_all_now(self, endings: Sequence[Ending]) -> Sequence[Sequence[Spending]]:
        """Settles several claims, in one step for all others: what that did to purses, for each ending.

        Of claims of one kind it is told together, with one of them.
        """
        if not any((flight := self._flights.get(ending.claim_id)) and flight.counts for ending in endings):
            for ending in endings:
                self._end_bare(ending.claim_id)
            return [[]] * len(endings)
        if self._quick is not None:
            told = self._settle_quickly(self._quick, endings)
            if told is not None:
                return told
        try:
            with self._inside:
                return self._settle_all(endings)
        except StoreUnavailable:
            self._owed.extend(endings)
            raise

    def release_now(self, claim_id: str) -> None:
        """`Counters.release`."""
        flight = self._flights.get(claim_id)
        if flight is None or not flight.counts:
            self._end_bare(claim_id)
            return
        try:
            with self._inside:
                self._release(claim_id)
        except StoreUnavailable:
            self._owed.append(Ending(claim_id, None, None))
            raise

    def _settle_quickly(self, quick: Quick, endings: Sequence[Ending]) -> Sequence[Sequence[Spending]] | None:
        """Settles claims of this process in compiled code; `None`, with nothing changed, if one of them is not plain."""
        flights, berth = self._flights, self._berth
        if self._owed or self._inside.is_closed:
            return None
        ended: list[tuple[int, int, int | None, bool]] = []
        for ending in endings:
            flight = flights.get(ending.claim_id)
            if flight is None or flight.berth is not berth:
                return None
            ended.append((flight.place, ending.cost_nano or 0, ending.tokens, ending.is_watched))
        steps = quick.settle(self._file.map, berth.map, self._lock, self._monotonic_ns(), ended)
        if steps is None:
            return None
        for ending in endings:
            if (flight := flights.pop(ending.claim_id, None)) is not None:
                berth.free.append(flight.place)
        return [self._told(each) if each else [] for each in steps]

    def _told(self, steps: Sequence[tuple[int, int, int, int]]) -> Sequence[Spending]:
        return [Spending(self._purse_name(at, identity), before, after) for at, identity, before, after in steps]

    def _settle_all(self, endings: Sequence[Ending]) -> list[list[Spending]]:
        words, now = self._words, self._monotonic_ns()
        moved = words[AT_MOVED]
        told: list[list[Spending]] = [[]] * len(endings)
        alike: dict[Sites, list[Ended]] = {}
        for index, ending in enumerate(endings):
            flight = self._flights.pop(ending.claim_id, None)
            if flight is None:
                continue  # it was owed, and paid just now
            ended = index, flight, min(ending.cost_nano or 0, MAX_LIMIT_NANO), ending.tokens
            sites = flight.sites
            if sites is None or sites.moved != moved:
                told[index] = self._settle_apart(ended, now)
            elif sites in alike:
                alike[sites].append(ended)
            else:
                alike[sites] = [ended]
            self._drop(flight)
        for sites, some in alike.items():
            told[some[-1][0]] = self._settle_alike(sites, some, now)
        return told

    def _settle_alike(self, sites: Sites, some: Sequence[Ended], now: int) -> list[Spending]:
        """Settles claims that have the same parts: each word is read and written once."""
        words = self._words
        for word, most, per_minute in sites.tokens:
            full_at = words[word]
            for _, flight, _, tokens in some:
                if tokens is not None:
                    full_at = max(full_at, now) + (tokens - min(flight.tokens, most)) * MINUTE_NS // per_minute
            words[word] = min(full_at, now + MAX_DEBT_NS)
        for word, _ in sites.seats:
            words[word] -= len(some)
        if not sites.purses:
            return []
        oldest, hold, cost = MAX_TOKENS, 0, 0
        for _, flight, each, _ in some:
            oldest = min(oldest, flight.began_at_us)
            hold += flight.hold_nano
            cost += each
        steps: list[Spending] = []
        for at in sites.purse_slots:
            words[at + HELD] -= hold
            moment = words[at + MOMENT]
            if oldest >= moment:
                step = self._spend(at, cost, None, now)
            else:
                early = sum(each for _, flight, each, _ in some if flight.began_at_us < moment)
                step = self._spend(at, cost - early, early, now)
            if step is not None:
                steps.append(step)
        return steps

    def _settle_apart(self, ended: Ended, now: int) -> list[Spending]:
        """Settles a claim by what its berth says."""
        _, flight, cost, tokens = ended
        words = self._words
        steps: list[Spending] = []
        for at, identity, number, per_minute in flight.berth.parts(flight.place):
            if words[at] != identity:
                continue  # it ended long ago, and was forgotten
            kind = identity & KIND_MASK
            if kind == TOKENS and tokens is not None:
                debt = max(words[at + VALUE], now) + (tokens - number) * MINUTE_NS // per_minute
                words[at + VALUE] = min(debt, now + MAX_DEBT_NS)
            elif kind == SEATS:
                words[at + VALUE] -= 1
            elif kind == PURSE:
                words[at + HELD] -= number
                is_early = flight.began_at_us < words[at + MOMENT]
                step = self._spend(at, 0, cost, now) if is_early else self._spend(at, cost, None, now)
                if step is not None:
                    steps.append(step)
        return steps

    def _spend(self, at: int, cost_nano: int, early_nano: int | None, now: int) -> Spending | None:
        """Counts what was spent from a purse, by claims that began since its moment and, if there are any, before it."""
        words = self._words
        identity, flags, _, early, before, _, _ = self._file.read_purse(at)
        if not flags & IS_SEEDED:
            early_nano, cost_nano = (early_nano or 0) + cost_nano, 0
        if early_nano is not None:
            words[at + EARLY] = min(early + early_nano, CEILING)
            words[at + EARLY_AT] = now
            cost_nano += early_nano
        if not flags & IS_SEEDED:
            return None
        words[at + SPENT] = min(before + cost_nano, CEILING)
        return Spending(self._purse_name(at, identity), before, before + cost_nano)

    def _release(self, claim_id: str) -> None:
        flight = self._flights.pop(claim_id, None)
        if flight is None:
            return
        words = self._words
        for at, identity, number, per_minute in flight.berth.parts(flight.place):
            if words[at] != identity:
                continue
            kind = identity & KIND_MASK
            if kind == SEATS:
                words[at + VALUE] -= 1
            elif kind == PURSE:
                words[at + HELD] -= number
            else:
                words[at + VALUE] -= number * MINUTE_NS // per_minute
        self._drop(flight)

    def _end_bare(self, claim_id: str) -> None:
        """Ends a claim that counts nowhere."""
        flight = self._flights.pop(claim_id, None)
        if flight is not None:
            self._drop(flight)

    def _drop(self, flight: Flight) -> None:
        berth = flight.berth
        berth.drop(flight.place)
        if berth is not self._berth and berth.is_empty:
            del self._adopted[berth.number]
            berth.leave()

    # ------------------------------------------------------------------------------------------------------ purses

    def seed_now(self, purse: Purse, *, spent_nano: int, before_us: int, is_confirmed: bool = False) -> int:
        """`Counters.seed`.  What is told about a confirmed purse changes nothing: `forget` it first.

        Nor does a sum that was read for a moment before the purse was made unseeded, because it lacks what began after that
        moment and was settled before: the purse stays unseeded, and the moment that is returned is the first that would do.  A
        sum that shall confirm a purse is not taken when it may lack a claim that was placed since this process last asked
        `is_settled_before`.  Raises `ValueError` when the purse's name is longer than 416 bytes.
        """
        name = purse.name.encode("utf-8", "surrogatepass")
        if len(name) > MAX_NAME_BYTES:
            raise ValueError(f"the name of a purse is longer than {MAX_NAME_BYTES} bytes")
        with self._inside:
            slot = self._find_purse(purse.name)
            at = self._open_purse(purse.name) if slot is None else slot[0]
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
            if is_confirmed and flags & IS_SEEDED and self._is_doubtful(at):
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

    def _is_doubtful(self, at: int) -> bool:
        """Whether the sum that shall confirm a purse may lack a claim that began before its moment.

        Such a claim can have been placed, and even settled, after somebody asked whether all are settled and read the sum: its
        call had waited to be let in.
        """
        words = self._words
        if words[at + EARLY_AT] > self._asked_ns:
            return True
        return any((began := pages.oldest()) is not None and began < words[at + MOMENT] for pages in self._all_berths())

    def forget_now(self, names: Sequence[str]) -> None:
        """`Counters.forget`."""
        with self._inside:
            for name in names:
                slot = self._find_purse(name)
                if slot is not None:
                    self._unseed(slot[0])

    def purses_now(self, names: Sequence[str]) -> list[PurseState]:
        """`Counters.purses`."""
        words = self._words
        found = []
        with self._inside:
            for name in names:
                slot = self._find_purse(name)
                if slot is None or not words[slot[0] + FLAGS] & IS_SEEDED:
                    continue
                at = slot[0]
                found.append(
                    PurseState(
                        name=name,
                        spent_nano=words[at + SPENT],
                        held_nano=words[at + HELD],
                        seeded_before_us=words[at + MOMENT],
                        is_confirmed=bool(words[at + FLAGS] & IS_CONFIRMED),
                    )
                )
        return found

    def _unseed(self, at: int) -> None:
        words = self._words
        words[at + FLAGS] = words[at + SEEDED] = words[at + EARLY] = 0
        words[at + SPENT] = UNSEEDED
        words[at + MOMENT] = self._wall_us()

    # ------------------------------------------------------------------------------------------- what others left

    def is_settled_before_now(self, moment_us: int) -> bool:
        """`Counters.is_settled_before`.  Reads one word for each claim that stands anywhere; meant for once a second."""
        self._check_files()
        try:
            asked_ns = self._monotonic_ns()
            for pages in self._all_berths():
                began = pages.oldest()
                if began is not None and began < moment_us:
                    return False
            self._asked_ns = asked_ns
            return True
        except OSError as error:
            raise self._unreadable(error) from error

    def orphans_now(self, at_most: int = 100) -> list[Orphan]:
        """`Counters.orphans`.  A claim that the loss of power damaged comes without its note."""
        self._check_files()
        if len(self._unasked) < at_most:
            with self._inside:
                try:
                    self._adopt()
                except OSError as error:
                    raise self._unreadable(error) from error
        handed: list[Orphan] = []
        while self._unasked and len(handed) < at_most:
            claim_id, note = self._unasked.popleft()
            flight = self._flights[claim_id]
            handed.append(Orphan(claim_id, flight.began_at_us, flight.hold_nano, note))
        return handed

    def _adopt(self) -> None:
        for number in berth_numbers(self._folder):
            if number == self._berth.number or number in self._adopted:
                continue
            berth = Berth.take(self._folder, number)
            if berth is None:
                continue
            if berth.is_empty:
                berth.leave()
                continue
            self._adopted[number] = berth
            for place in berth.standing():
                found = berth.read(place)
                claim_id = found.id
                while claim_id in self._flights:
                    claim_id += "'"  # ids are unique; should they not be, none of the two may be lost
                self._flights[claim_id] = Flight(
                    berth, place, found.began_at_us, found.hold_nano, 0, None, bool(found.parts)
                )
                self._unasked.append((claim_id, found.note))

    def _all_berths(self) -> Iterator[BerthPages]:
        yield self._berth
        yield from self._adopted.values()
        for number in berth_numbers(self._folder):
            if number != self._berth.number and number not in self._adopted:
                with reading(self._folder, number) as pages:
                    if pages is not None:
                        yield pages

    def _unreadable(self, error: OSError) -> StoreUnavailable:
        return StoreUnavailable(f"What other processes have claimed in {self._folder} cannot be read: {error}.")

    def _check_files(self) -> None:
        if self._inside.is_closed:
            raise StoreUnavailable("The shared counters are closed.")
        if self._guard.is_deleted():
            raise StoreUnavailable(
                f"The files of the shared counters in {self._folder} were deleted while they were in use.",
                hint="Restart the gateway; workers that start now would count anew.",
            )

    # ------------------------------------------------------------------------------------------- entering, mending

    def _pay(self) -> None:
        """Writes the ends that are owed."""
        while self._owed:
            owed = self._owed.popleft()
            if owed.cost_nano is None:
                self._release(owed.claim_id)
            else:
                self._settle_all([owed])

    def _mend_or_give_up(self) -> None:
        try:
            self._mend()
        except BaseException as error:
            if self._is_shared:
                self._guard.give()
            if isinstance(error, OSError):
                raise self._unreadable(error) from error
            raise

    def _mend(self) -> None:
        """Adds up seats and holds from the berths, and forgets what was spent."""
        words = self._words
        for at in self._file.meters.used():
            if words[at] & KIND_MASK == SEATS:
                words[at + VALUE] = 0
        for at in self._file.purses.used():
            self._unseed(at)
            words[at + HELD] = 0
        for pages in self._all_berths():
            for place in pages.standing():
                for at, identity, number, _ in pages.parts(place):
                    if not 0 <= at < len(words) or words[at] != identity:
                        continue
                    if identity & KIND_MASK == SEATS:
                        words[at + VALUE] += 1
                    elif identity & KIND_MASK == PURSE:
                        words[at + HELD] += number

    def _wind(self) -> None:
        """Moves the rates when the monotonic clock has begun anew, which only a restart of the machine does."""
        words = self._words
        now, seen = self._monotonic_ns(), words[AT_SEEN_NS]
        if now < seen:
            for at in self._file.meters.used():
                if words[at] & KIND_MASK != SEATS:
                    words[at + VALUE] = now + min(max(words[at + VALUE] - seen, 0), MAX_DEBT_NS)
            words[AT_SEEN_NS] = now

    # ------------------------------------------------------------------------------------------------------- slots

    def _find_sites(self, parts: Parts, flight: Flight | None, now: int) -> Sites | Unseeded:
        """Where all parts of a claim are, without the seats that it has already; unless a purse is nowhere."""
        words = self._words
        purses = [self._find_purse(purse.name) for purse in parts.purses]
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
            rates.append(self._open_meter(TOKENS if rate.counts == "tokens" else REQUESTS, rate.name, now, rates))
        taken = set() if flight is None else {part[:2] for part in flight.berth.parts(flight.place)}
        seats: list[Slot] = []
        wanted: list[Seats] = []
        for each in parts.seats:
            slot = self._open_meter(SEATS, each.name, now, [*rates, *seats])
            if slot not in taken:
                seats.append(slot)
                wanted.append(each)
        if len(wanted) < len(parts.seats):
            parts = Parts(parts.rates, tuple(wanted), parts.purses)
        sites = Sites(parts, words[AT_MOVED], rates, seats, [slot for slot in purses if slot is not None])
        if flight is None:
            if len(self._sites) >= MAX_SITES:
                self._sites.clear()
            self._sites[id(parts)] = sites
        return sites

    def _find_purse(self, name: str) -> Slot | None:
        at = self._file.purses.find(digest_of(PURSE, name))
        return None if at is None else (at, self._words[at])

    def _open_purse(self, name: str) -> int:
        words, now = self._words, self._wall_us()

        def is_idle(at: int) -> bool:
            if words[at + HELD]:
                return False
            if not words[at + FLAGS] & IS_SEEDED:
                return not words[at + EARLY]
            return 0 < words[at + ENDS_AT] < now - FORGET_AFTER_US

        at = self._file.purses.add(digest_of(PURSE, name), self._file.next_identity(PURSE), is_idle)
        words[at + SPENT] = UNSEEDED
        return at

    def _open_meter(self, kind: int, name: str, now: int, pinned: Sequence[Slot]) -> Slot:
        """Finds or makes a meter.  `pinned` are slots that this claim is about to use, which must not be taken for idle."""
        words = self._words
        digest = digest_of(kind, name)
        at = self._file.meters.find(digest)
        if at is None:

            def is_idle(at: int) -> bool:
                return words[at + VALUE] <= (0 if words[at] & KIND_MASK == SEATS else now)

            at = self._file.meters.add(
                digest, self._file.next_identity(kind), is_idle, pinned={other for other, _ in pinned}
            )
        return at, words[at]

    def _purse_name(self, at: int, identity: int) -> str:
        name = self._names.get((at, identity))
        if name is None:
            name = self._file.text(at + NAME, self._words[at + NAME_BYTES])
            if len(self._names) >= self._file.layout.purses:
                self._names.clear()
            self._names[at, identity] = name
        return name

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
        if self._inside.is_closed:
            return
        self._inside.is_closed = True
        self._flights.clear()
        for berth in (self._berth, *self._adopted.values()):
            berth.leave()
        self._file.close()
        self._guard.close()


class _Inside:
    """With the counters to ourselves.

    `StoreUnavailable` is raised in there before anything has changed; any other error leaves a mess, for the next to mend.
    """

    __slots__ = ("_guard", "_mend", "_owed", "_pay", "_words", "is_closed")

    def __init__(
        self,
        words: "memoryview[int]",
        guard: Guard | None,
        mend: Callable[[], None],
        owed: Collection[Ending],
        pay: Callable[[], None],
    ) -> None:
        """Without a guard there is nobody else.  `mend` is called on a mess, and `pay` when ends are owed."""
        self._words = words
        self._guard = guard
        self._mend = mend
        self._owed = owed
        self._pay = pay
        self.is_closed = False

    def __enter__(self) -> None:
        if self.is_closed:
            raise StoreUnavailable("The shared counters are closed.")
        if self._guard is not None:
            self._guard.take()
        words = self._words
        if words[AT_DIRTY]:
            self._mend()
        words[AT_DIRTY] = 1
        if self._owed:
            self._pay()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None or issubclass(kind, StoreUnavailable):
            self._words[AT_DIRTY] = 0
        if self._guard is not None:
            self._guard.give()


def _count_living(folder: Path) -> int:
    return sum(is_held(folder, number) for number in berth_numbers(folder))


def _check_company(folder: Path, processes: int, living: int) -> None:
    """One who means to be alone would shut the others out."""
    if processes == 1 and living:
        raise ConfigError([f"{living} other processes count in {folder}, where this one expected to be alone."])


def _open_file(folder: Path, layout: Layout, *, may_replace: bool, wall_us: Callable[[], int]) -> CountersFile:
    path = folder / "counters"
    try:
        return CountersFile(path, layout)
    except (ValueError, FileNotFoundError) as error:
        if not may_replace:
            problem = f"Other processes count in {folder}, and in another way than this one would: {error}."
            raise ConfigError(
                [f"{problem} Stop them first, or give this gateway a state folder of its own."]
            ) from error
        return CountersFile.make(path, layout, first_serial=wall_us())


def _own_berth(folder: Path) -> Berth:
    """The first that is free and empty.  Those of the dead are left to whoever asks for orphans."""
    for number in range(MAX_BERTHS):
        berth = Berth.take(folder, number)
        if berth is None:
            continue
        if berth.is_empty:
            return berth
        berth.leave()
    raise ConfigError([f"All {MAX_BERTHS} places for processes in {folder} are taken."])


def _checked_name(claim: Claim) -> bytes:
    """The claim's id in bytes.  Raises `ValueError` for what no caller means, and what the files could not keep."""
    name, hold_nano = claim.id.encode(), claim.hold_nano
    if not 0 < len(name) <= MAX_ID_BYTES or 0 in name:
        raise ValueError(f"the id of a claim has 1 to {MAX_ID_BYTES} bytes")
    if len(claim.note) > MAX_NOTE_BYTES:
        raise ValueError(f"the note of a claim has at most {MAX_NOTE_BYTES} bytes")
    if hold_nano < 0 or hold_nano > MAX_LIMIT_NANO or claim.began_at_us < 0 or not 0 <= claim.tokens <= MAX_TOKENS:
        raise ValueError(f"claim {claim.id!r} holds {hold_nano} for {claim.tokens} tokens from {claim.began_at_us}")
    return name


def _check_parts(parts: Parts) -> None:
    """As `_checked_name`."""
    if len(parts.rates) + len(parts.seats) + len(parts.purses) > MAX_CLAIM_PARTS:
        raise ValueError(f"a claim has at most {MAX_CLAIM_PARTS} parts")
    for rate in parts.rates:
        if rate.per_minute < 1 or rate.amount < 0:
            raise ValueError(f"a claim takes {rate.amount} of {rate.per_minute} a minute")
