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
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tollhouse.errors import ConfigError, StoreUnavailable
from tollhouse.policy.counters import (
    MAX_CLAIM_PARTS,
    MAX_LIMIT_NANO,
    MAX_NOTE_BYTES,
    MINUTE_NS,
    Answer,
    Claim,
    Level,
    Orphan,
    Placed,
    Purse,
    PurseEmpty,
    PurseState,
    Rate,
    RateFull,
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
)
from tollhouse.policy.shared_memory.file import CountersFile
from tollhouse.policy.shared_memory.flights import (
    Flight,
    PursePart,
    RatePart,
    Slot,
    merged_purses,
    merged_rates,
    row_of,
)
from tollhouse.policy.shared_memory.guard import Guard
from tollhouse.policy.shared_memory.layout import (
    AT_DIRTY,
    AT_SEEN_NS,
    AT_SERIAL,
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
    SETTLED,
    TOKENS,
    VALUE,
    Layout,
)
from tollhouse.policy.shared_memory.slots import digest_of

PATIENCE_SECONDS: Final = 1.0
"""How long the lock is waited for.  It is held for microseconds."""
FORGET_AFTER_US: Final = 3_600_000_000
"""An ended purse may be forgotten an hour later: calls that began in its window are over by then."""
STALE_AFTER_US: Final = 60_000_000
"""No ledger takes that long to read.  A moment further back is not stale, it is from a wall clock that was set back."""
MAX_DEBT_NS: Final = 86_400_000_000_000
"""However many tokens a provider says it used, a rate is out of debt after a day."""

_CEILING: Final = 1 << 62
"""No sum of a purse passes it; it is also the limit of a purse without one."""
_PLACED: Final = Placed()
_NEVER_ASKED: Final = 1 << 62


@dataclass(frozen=True, slots=True)
class _Owed:
    """An end that could not be written yet, because the lock was not to be had."""

    claim_id: str
    cost_nano: int | None
    """`None`: release it."""
    tokens: int | None


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
    ) -> None:
        """For `open`."""
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
        self._unasked: deque[str] = deque()
        """Orphans of adopted berths that nobody has asked for yet."""
        self._owed: deque[_Owed] = deque()
        self._asked_ns = _NEVER_ASKED
        """When somebody last asked whether all earlier claims are settled, and they were."""
        self._rates: dict[str, Slot] = {}
        self._seats: dict[str, Slot] = {}
        self._purses: dict[str, Slot] = {}
        self._names: dict[Slot, str] = {}
        """Of purses, read once each."""
        self._inside: Final = _Inside(self)
        self._is_closed = False

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
                    folder, file, guard, berth, is_shared=processes > 1, monotonic_ns=monotonic_ns, wall_us=wall_us
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
        if self._is_closed:
            raise StoreUnavailable("The shared counters are closed.")
        if claim.id in self._flights and not extends:
            raise ValueError(f"claim {claim.id!r} stands already")
        _check(claim)
        if not (claim.rates or claim.seats or claim.purses):
            self._put(claim, self._flights.get(claim.id), [], [], [])
            return _PLACED
        with self._inside:
            return self._place(claim)

    def _place(self, claim: Claim) -> Answer:
        flight = self._flights.get(claim.id)
        words, read_purse = self._words, self._file.read_purse
        hold = claim.hold_nano
        unseeded: list[Purse] = []
        empty: PurseEmpty | None = None
        purses: list[PursePart] = []
        for purse in claim.purses:
            slot = self._purses.get(purse.name)
            if slot is None or words[slot[0]] != slot[1]:
                slot = self._find_purse(purse.name)
            if slot is None:
                unseeded.append(purse)
                continue
            at, identity = slot
            _, flags, seeded, settled, early, held, _ = read_purse(at)
            if not flags & IS_SEEDED:
                unseeded.append(purse)
                continue
            spent = seeded + settled + early
            if empty is None and spent + held + hold > (_CEILING if purse.limit_nano is None else purse.limit_nano):
                empty = PurseEmpty(purse, spent, held)
            purses.append((at, identity, hold))
        if unseeded:
            return Unseeded(tuple(unseeded))
        if empty is not None:
            return empty

        words[AT_SEEN_NS] = now = self._monotonic_ns()
        wait = 0
        slowest: Rate | None = None
        rates: list[RatePart] = []
        moves: list[tuple[int, int]] = []
        levels: list[Level] = []
        for rate in claim.rates:
            slot = self._rates.get(rate.name)
            if slot is None or words[slot[0]] != slot[1]:
                slot = self._open_meter(self._rates, _kind_of(rate), rate.name, now, rates)
            at, identity = slot
            full_at = words[at + VALUE]
            if full_at < now:  # noqa: PLR1730 - half the time of `max`, and this is the hot path
                full_at = now
            full_at += rate.amount * MINUTE_NS // rate.per_minute
            ahead = full_at - now
            if ahead - MINUTE_NS > wait:
                wait, slowest = ahead - MINUTE_NS, rate
            rates.append((at, identity, rate.amount, rate.per_minute))
            moves.append((at + VALUE, full_at))
            levels.append(_level(rate, ahead))
        if slowest is not None:
            levels = [
                _level(rate, max(words[part[0] + VALUE] - now, 0))
                for rate, part in zip(claim.rates, rates, strict=True)
            ]
            return RateFull(slowest, wait / 1e9, tuple(levels))

        seats: list[Slot] = []
        for some in claim.seats:
            slot = self._seats.get(some.name)
            if slot is None or words[slot[0]] != slot[1]:
                slot = self._open_meter(self._seats, SEATS, some.name, now, [*rates, *seats])
            if flight is not None and slot in flight.seats:
                continue
            if words[slot[0] + VALUE] >= some.limit:
                return SeatsTaken(some)
            seats.append(slot)

        self._put(claim, flight, rates, seats, purses)
        for word, full_at in moves:
            words[word] = full_at
        for at, _ in seats:
            words[at + VALUE] += 1
        for at, _, _ in purses:
            words[at + HELD] += hold
        return Placed(tuple(levels))

    def _put(
        self,
        claim: Claim,
        flight: Flight | None,
        rates: list[RatePart],
        seats: list[Slot],
        purses: list[PursePart],
    ) -> None:
        """Writes the claim into the berth.  `StoreUnavailable` if there is no room; then nothing was written."""
        if flight is None:
            flight = Flight(self._berth, claim.id.encode(), claim.began_at_us)
            flight.rates, flight.seats, flight.purses = rates, seats, purses
            flight.hold_nano, flight.note = claim.hold_nano, claim.note
            self._berth.reserve()
            flight.place = self._berth.put(
                flight.name, flight.began_at_us, flight.hold_nano, flight.note, row_of(rates, seats, purses)
            )
            self._flights[claim.id] = flight
            return
        rates = merged_rates(flight.rates, rates)
        seats = [*flight.seats, *seats]
        purses = merged_purses(flight.purses, purses)
        if len(rates) + len(seats) + len(purses) > MAX_PARTS:
            raise StoreUnavailable(f"A call with its retries counts in more than {MAX_PARTS} places.")
        hold, note = flight.hold_nano + claim.hold_nano, claim.note or flight.note
        flight.berth.rewrite(flight.place, flight.name, hold, note, row_of(rates, seats, purses))
        flight.rates, flight.seats, flight.purses, flight.hold_nano, flight.note = rates, seats, purses, hold, note

    # --------------------------------------------------------------------------------------------- settle, release

    def settle_now(self, claim_id: str, *, cost_nano: int, tokens: int | None) -> Sequence[Spending]:
        """`Counters.settle`."""
        flight = self._flights.get(claim_id)
        if flight is None:
            return []
        if not flight.has_parts:
            self._drop(claim_id, flight)
            return []
        try:
            with self._inside:
                return self._settle(claim_id, cost_nano, tokens)
        except StoreUnavailable:
            self._owed.append(_Owed(claim_id, cost_nano, tokens))
            raise

    def release_now(self, claim_id: str) -> None:
        """`Counters.release`."""
        flight = self._flights.get(claim_id)
        if flight is None:
            return
        if not flight.has_parts:
            self._drop(claim_id, flight)
            return
        try:
            with self._inside:
                self._release(claim_id)
        except StoreUnavailable:
            self._owed.append(_Owed(claim_id, None, None))
            raise

    def _settle(self, claim_id: str, cost_nano: int, tokens: int | None) -> list[Spending]:
        flight = self._flights.get(claim_id)
        if flight is None:
            return []  # it was owed, and paid just now
        words, now = self._words, self._monotonic_ns()
        if tokens is not None:
            for at, identity, amount, per_minute in flight.rates:
                if words[at] == identity and identity & KIND_MASK == TOKENS:
                    debt = max(words[at + VALUE], now) + (tokens - amount) * MINUTE_NS // per_minute
                    words[at + VALUE] = min(debt, now + MAX_DEBT_NS)
        steps = []
        cost_nano = min(cost_nano, MAX_LIMIT_NANO)
        for at, identity, _ in flight.purses:
            found, flags, seeded, settled, early, _, moment = self._file.read_purse(at)
            if found != identity:
                continue  # it ended long ago, and was forgotten
            if flags & IS_SEEDED and flight.began_at_us >= moment:
                words[at + SETTLED] = min(settled + cost_nano, _CEILING)
            else:
                words[at + EARLY] = min(early + cost_nano, _CEILING)
                words[at + EARLY_AT] = now
            if flags & IS_SEEDED:
                before = seeded + settled + early
                steps.append(Spending(self._purse_name(at, identity), before, before + cost_nano))
        self._give_back(claim_id, flight)
        return steps

    def _release(self, claim_id: str) -> None:
        flight = self._flights.get(claim_id)
        if flight is None:
            return
        words = self._words
        for at, identity, amount, per_minute in flight.rates:
            if words[at] == identity:
                words[at + VALUE] -= amount * MINUTE_NS // per_minute
        self._give_back(claim_id, flight)

    def _give_back(self, claim_id: str, flight: Flight) -> None:
        """Gives back what the claim occupied, and ends it."""
        words = self._words
        for at, identity in flight.seats:
            if words[at] == identity:
                words[at + VALUE] -= 1
        for at, identity, hold in flight.purses:
            if words[at] == identity:
                words[at + HELD] -= hold
        self._drop(claim_id, flight)

    def _drop(self, claim_id: str, flight: Flight) -> None:
        berth = flight.berth
        berth.drop(flight.place)
        del self._flights[claim_id]
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
            words[at + SEEDED] = min(spent_nano, _CEILING)
            if is_confirmed:
                words[at + EARLY] = 0  # the sum has them now
                words[at + FLAGS] = IS_SEEDED | IS_CONFIRMED
            else:
                words[at + FLAGS] = IS_SEEDED
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
                        spent_nano=words[at + SEEDED] + words[at + SETTLED] + words[at + EARLY],
                        held_nano=words[at + HELD],
                        seeded_before_us=words[at + MOMENT],
                        is_confirmed=bool(words[at + FLAGS] & IS_CONFIRMED),
                    )
                )
        return found

    def _unseed(self, at: int) -> None:
        words = self._words
        words[at + FLAGS] = words[at + SEEDED] = words[at + SETTLED] = words[at + EARLY] = 0
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
            claim_id = self._unasked.popleft()
            flight = self._flights[claim_id]
            handed.append(Orphan(claim_id, flight.began_at_us, flight.hold_nano, flight.note))
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
                written = berth.read(place)
                claim_id = written.id
                while claim_id in self._flights:
                    claim_id += "'"  # ids are unique; should they not be, none of the two may be lost
                self._flights[claim_id] = Flight.of(berth, place, written)
                self._unasked.append(claim_id)

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
        if self._is_closed:
            raise StoreUnavailable("The shared counters are closed.")
        if self._guard.is_deleted():
            raise StoreUnavailable(
                f"The files of the shared counters in {self._folder} were deleted while they were in use.",
                hint="Restart the gateway; workers that start now would count anew.",
            )

    # ------------------------------------------------------------------------------------------- entering, mending

    def _enter(self) -> None:
        """For `_Inside`."""
        if self._is_closed:
            raise StoreUnavailable("The shared counters are closed.")
        if self._is_shared:
            self._guard.take()
        words = self._words
        if words[AT_DIRTY]:
            self._mend_or_give_up()
        words[AT_DIRTY] = 1
        if self._owed:
            self._pay()

    def _leave(self, *, is_sound: bool) -> None:
        """For `_Inside`.  What is not sound is mended by the next to enter."""
        if is_sound:
            self._words[AT_DIRTY] = 0
        if self._is_shared:
            self._guard.give()

    def _pay(self) -> None:
        while self._owed:
            owed = self._owed.popleft()
            if owed.cost_nano is None:
                self._release(owed.claim_id)
            else:
                self._settle(owed.claim_id, owed.cost_nano, owed.tokens)

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

    def _find_purse(self, name: str) -> Slot | None:
        at = self._file.purses.find(digest_of(PURSE, name))
        return None if at is None else self._remember(self._purses, name, at)

    def _open_purse(self, name: str) -> int:
        words, now = self._words, self._wall_us()

        def is_idle(at: int) -> bool:
            if words[at + HELD]:
                return False
            if not words[at + FLAGS] & IS_SEEDED:
                return not words[at + EARLY]
            return 0 < words[at + ENDS_AT] < now - FORGET_AFTER_US

        at = self._file.purses.add(digest_of(PURSE, name), self._file.next_identity(PURSE), is_idle)
        return self._remember(self._purses, name, at)[0]

    def _open_meter(
        self, known: dict[str, Slot], kind: int, name: str, now: int, pinned: Sequence[Sequence[int]]
    ) -> Slot:
        """Finds or makes a meter.  `pinned` are slots that this claim is about to use, which must not be taken for idle."""
        words = self._words
        digest = digest_of(kind, name)
        at = self._file.meters.find(digest)
        if at is None:

            def is_idle(at: int) -> bool:
                return words[at + VALUE] <= (0 if words[at] & KIND_MASK == SEATS else now)

            at = self._file.meters.add(
                digest, self._file.next_identity(kind), is_idle, pinned={part[0] for part in pinned}
            )
        return self._remember(known, name, at)

    def _remember(self, known: dict[str, Slot], name: str, at: int) -> Slot:
        if len(known) >= self._file.layout.meters:
            known.clear()
        known[name] = slot = at, self._words[at]
        return slot

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
        if self._is_closed:
            return
        self._is_closed = True
        self._flights.clear()
        for berth in (self._berth, *self._adopted.values()):
            berth.leave()
        self._file.close()
        self._guard.close()


class _Inside:
    """With the counters to ourselves.

    `StoreUnavailable` is raised in there before anything has changed; any other error leaves a mess.
    """

    __slots__ = ("_counters",)

    def __init__(self, counters: SharedCounters) -> None:
        self._counters = counters

    def __enter__(self) -> None:
        self._counters._enter()  # noqa: SLF001 - they are two halves of one thing

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._counters._leave(is_sound=kind is None or issubclass(kind, StoreUnavailable))  # noqa: SLF001


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


def _check(claim: Claim) -> None:
    """Raises `ValueError` for what no caller means, and what the files could not keep."""
    if not 0 < len(claim.id.encode()) <= MAX_ID_BYTES or "\0" in claim.id:
        raise ValueError(f"the id of a claim has 1 to {MAX_ID_BYTES} bytes")
    if len(claim.note) > MAX_NOTE_BYTES:
        raise ValueError(f"the note of a claim has at most {MAX_NOTE_BYTES} bytes")
    if len(claim.rates) + len(claim.seats) + len(claim.purses) > MAX_CLAIM_PARTS:
        raise ValueError(f"a claim has at most {MAX_CLAIM_PARTS} parts")
    for rate in claim.rates:
        if rate.per_minute < 1 or rate.amount < 0:
            raise ValueError(f"claim {claim.id!r} takes {rate.amount} of {rate.per_minute} a minute")
    if not 0 <= claim.hold_nano <= MAX_LIMIT_NANO or claim.began_at_us < 0:
        raise ValueError(f"claim {claim.id!r} holds {claim.hold_nano} from {claim.began_at_us}")


def _kind_of(rate: Rate) -> int:
    return TOKENS if rate.counts == "tokens" else REQUESTS


def _level(rate: Rate, ahead: int) -> Level:
    """`ahead` is how far it is from full, in nanoseconds."""
    remaining = (MINUTE_NS - ahead) * rate.per_minute // MINUTE_NS
    return Level(rate, max(remaining, 0), ahead / 1e9)
