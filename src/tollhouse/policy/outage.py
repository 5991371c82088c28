"""Counters that outlive the store that several machines share.

Calls are counted in the shared store for as long as it can be reached.  When it cannot, they are counted on this machine alone,
from the next call on; a probe, once a second, says when it is back.  No call waits for a store that is known to be away.

What this machine may let through meanwhile:

- Rates and seats: as many as if it were the only machine, counted from zero (`when_lost: open`), or nothing (`closed`).
- Each hard budget: what was left of it when it was last looked at, but not more than the allowance.  A budget that was never
  looked at has its allowance.  All workers of the machine share it, and each outage has one of its own.
- Soft budgets only count.

What becomes of what was counted here.  The ledger has the rows of these calls, so the shared store is made to forget the purses
that they touched, and those are seeded again from it: when the store is back, and once more when the last of these calls has
ended and the ledger has all rows of this process.  A claim is settled where it was placed.  One that was placed in the shared
store and ended while that was away is settled there later.
"""

import asyncio
import logging
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import msgspec

from tollhouse.config.schema import StateSettings
from tollhouse.errors import StoreUnavailable
from tollhouse.policy.counters import (
    Answer,
    Claim,
    Counters,
    Orphan,
    Parts,
    Placed,
    Purse,
    PurseEmpty,
    PurseState,
    Spending,
    Unseeded,
)

PROBE_SECONDS: Final = 1.0
"""How often a store that is away is tried, and how often purses are looked at while it is not."""
IN_USE_SECONDS: Final = 60.0
"""How long after its last use a purse is still looked at."""
MAX_KNOWN: Final = 2_000
"""Purses of which it is kept what was left; of more, the least recently used is forgotten."""
MAX_OWED: Final = 100_000
"""Endings that are kept for the shared store; of more, the oldest is dropped."""
PAY_TOGETHER: Final = 100
"""Endings that are told to the shared store at once."""
MAX_SEEDINGS: Final = 3
"""How often one call tells this machine's store of its purses before it gives up."""
LOCAL_PREFIX: Final = "while-lost/"
"""Stands before the names of purses in this machine's store."""

_SINCE_EVER_US: Final = 1
_LOG: Final = logging.getLogger("tollhouse.policy")


@dataclass(frozen=True, slots=True, kw_only=True)
class OutageState:
    """How the shared store is, for health pages and metrics."""

    status: Literal["ok", "lost"]
    since_us: int | None = None
    """When it was lost, microseconds since the epoch."""
    reason: str = ""
    owed_endings: int = 0
    """Claims that have ended, of which the shared store does not know it yet."""
    unsure_purses: int = 0
    """Purses that will be seeded once more, because of calls that were counted on this machine."""


class _Known:
    """What was seen of a purse last."""

    __slots__ = ("held_nano", "is_seen", "spent_nano", "used_at")

    def __init__(self) -> None:
        self.used_at = 0.0
        self.is_seen = False
        self.spent_nano = self.held_nano = 0


class _Standing:
    """Where a claim of this process stands."""

    __slots__ = ("is_here", "is_shared", "purses", "purses_here")

    def __init__(self) -> None:
        self.is_shared = self.is_here = False
        self.purses: set[str] = set()
        self.purses_here: set[str] = set()


_ELSEWHERE: Final = _Standing()
"""A claim that this process did not place: the shared store may know it."""
_ELSEWHERE.is_shared = True


class _Ending(msgspec.Struct, frozen=True):
    """How a claim ended."""

    cost_nano: int | None
    """`None`: it was released."""
    tokens: int | None = None


class OutlivingCounters:
    """See `tollhouse.policy.counters.Counters`.

    Raises `StoreUnavailable` only where the rules above refuse, or when this machine's store fails too.
    """

    def __init__(
        self,
        shared: Counters,
        here: Counters,
        settings: StateSettings,
        *,
        is_ledger_complete: Callable[[], bool],
        probe_seconds: float,
        now: Callable[[], float],
    ) -> None:
        """Use `start`."""
        self._shared = shared
        self._here = here
        self._settings = settings
        self._is_ledger_complete = is_ledger_complete
        self._probe_seconds = probe_seconds
        self._now = now
        self._loop = asyncio.get_running_loop()
        self._lost: StoreUnavailable | None = None
        self._lost_since_us = 0
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._standing: dict[str, _Standing] = {}
        self._running_here: Counter[str] = Counter()
        """Purse → claims of this process that stand in this machine's store."""
        self._owed: OrderedDict[str, _Ending] = OrderedDict()
        self._paying: set[str] = set()
        """Endings that are being told to the shared store at this moment."""
        self._touched: set[str] = set()
        """Purses of which the shared store may know less than happened in this outage."""
        self._counted_here: dict[str, Purse] = {}
        """Purses of this machine's store from which this process has taken in this outage."""
        self._unsure: set[str] = set()
        """Purses that it has to forget once more."""
        self._watching = self._loop.create_task(self._watch(), name="tollhouse-outage")

    @classmethod
    def start(
        cls,
        shared: Counters,
        here: Counters,
        settings: StateSettings,
        *,
        is_ledger_complete: Callable[[], bool] = lambda: True,
        probe_seconds: float = PROBE_SECONDS,
        now: Callable[[], float] = time.time,
    ) -> "OutlivingCounters":
        """Owns both stores, and closes them.

        `is_ledger_complete` says whether all finished calls of this process are in the ledger, and none only in its journal;
        `now` is the time of day, in seconds.
        """
        return cls(shared, here, settings, is_ledger_complete=is_ledger_complete, probe_seconds=probe_seconds, now=now)

    def state(self) -> OutageState:
        """A snapshot; costs a few microseconds."""
        return OutageState(
            status="ok" if self._lost is None else "lost",
            since_us=None if self._lost is None else self._lost_since_us,
            reason="" if self._lost is None else str(self._lost),
            owed_endings=len(self._owed),
            unsure_purses=len(self._unsure | self._touched),
        )

    # ------------------------------------------------------------------------------------------------ place and end

    async def place(self, claim: Claim, *, extends: bool = False) -> Answer:
        """Takes all parts of the claim or none, in the shared store or, when that is lost, in this machine's."""
        for purse in claim.parts.purses:
            self._use(purse.name)
        if self._lost is None:
            try:
                answer = await self._shared.place(claim, extends=extends)
            except StoreUnavailable as error:
                self._lose(error)
            else:
                if type(answer) is Placed:
                    self._stand(claim).is_shared = True
                elif type(answer) is PurseEmpty:
                    self._see(answer.purse.name, answer.spent_nano, answer.held_nano)
                return answer
        return await self._place_here(claim, extends=extends)

    async def settle(self, claim_id: str, *, cost_nano: int, tokens: int | None) -> Sequence[Spending]:
        """Ends a claim where it was placed.  What the shared store cannot be told now it is told later."""
        return await self._end(claim_id, _Ending(cost_nano, tokens))

    async def release(self, claim_id: str) -> None:
        """Ends a claim as if it had never been, where it was placed."""
        await self._end(claim_id, _Ending(None))

    async def _place_here(self, claim: Claim, *, extends: bool) -> Answer:
        if self._settings.when_lost == "closed" and (claim.parts.rates or claim.parts.seats):
            raise StoreUnavailable(str(self._lost), hint="Limits are closed until it is back (`state.when_lost`).")
        purses = {purse.name: purse for purse in claim.parts.purses}
        parts = Parts(claim.parts.rates, claim.parts.seats, tuple(map(self._purse_here, claim.parts.purses)))
        counted = msgspec.structs.replace(claim, parts=parts)
        answer = await self._here.place(counted, extends=extends)
        for _ in range(MAX_SEEDINGS):
            if not isinstance(answer, Unseeded):
                break
            for purse in answer.purses:
                await self._here.seed(purse, spent_nano=0, before_us=_SINCE_EVER_US)
            answer = await self._here.place(counted, extends=extends)
        match answer:
            case Placed():
                standing = self._stand(claim)
                standing.is_here = True
                for name in purses.keys() - standing.purses_here:
                    self._running_here[name] += 1
                standing.purses_here |= purses.keys()
                # The store may have come back meanwhile.
                (self._unsure if self._lost is None else self._touched).update(purses)
                self._counted_here.update((purse.name, purse) for purse in parts.purses)
            case PurseEmpty(purse=counted_purse, spent_nano=spent, held_nano=held):
                purse = purses[counted_purse.name.removeprefix(LOCAL_PREFIX)]
                # What this machine may not spend counts as spent, so that what is left is what it may.
                beyond = (purse.limit_nano or 0) - (counted_purse.limit_nano or 0)
                return PurseEmpty(purse, beyond + spent, held, is_allowance=True)
            case Unseeded():
                raise StoreUnavailable("This machine's store of counters forgets what it is told.")
        return answer

    def _purse_here(self, purse: Purse) -> Purse:
        """What this machine may spend from a purse."""
        limit = purse.limit_nano
        if limit is not None:
            known = self._known.get(purse.name)
            if known is not None and known.is_seen:
                limit = max(0, limit - known.spent_nano - known.held_nano)
            limit = min(limit, self._settings.budget_allowance_nano)
        return Purse(LOCAL_PREFIX + purse.name, limit, purse.ends_at_us)

    def _stand(self, claim: Claim) -> _Standing:
        standing = self._standing.get(claim.id)
        if standing is None:
            standing = self._standing[claim.id] = _Standing()
        standing.purses.update(purse.name for purse in claim.parts.purses)
        return standing

    async def _end(self, claim_id: str, ending: _Ending) -> Sequence[Spending]:
        standing = self._standing.pop(claim_id, None) or _ELSEWHERE
        if standing.is_shared:
            # Owed before anything is awaited: whoever asks may be cancelled, and it is paid all the same.
            self._owe(claim_id, ending)
            if self._lost is not None:
                self._touched |= standing.purses
        steps = await self._end_here(claim_id, standing, ending) if standing.is_here else []
        if standing.is_shared and self._lost is None:
            self._paying.add(claim_id)
            try:
                told = await _tell(self._shared, claim_id, ending)
            except StoreUnavailable as error:
                self._lose(error)
                self._touched |= standing.purses
            else:
                self._owed.pop(claim_id, None)
                for step in told:
                    self._see_spent(step)
                steps += told
            finally:
                self._paying.discard(claim_id)
        return steps

    async def _end_here(self, claim_id: str, standing: _Standing, ending: _Ending) -> list[Spending]:
        found: list[Spending] = []
        try:
            for step in await _tell(self._here, claim_id, ending):
                name = step.purse.removeprefix(LOCAL_PREFIX)
                known = self._known.get(name)
                before = known.spent_nano if known is not None else 0
                found.append(Spending(name, before + step.before_nano, before + step.after_nano))
        finally:
            for name in standing.purses_here:
                self._running_here[name] -= 1
                if not self._running_here[name]:
                    del self._running_here[name]
            # The ledger has its row by now.  Of an orphan's purses only those are known that have just been told.
            names = standing.purses.union(step.purse for step in found)
            (self._unsure if self._lost is None else self._touched).update(names)
        return found

    def _owe(self, claim_id: str, ending: _Ending) -> None:
        self._owed.setdefault(claim_id, ending)
        if len(self._owed) > MAX_OWED:
            oldest, _ = self._owed.popitem(last=False)
            _LOG.warning("the shared store is away for too long: an ending is dropped", extra={"call": oldest})

    # ------------------------------------------------------------------------------------------------------ purses

    async def seed(self, purse: Purse, *, spent_nano: int, before_us: int, is_confirmed: bool = False) -> int:
        """Says what a purse had spent.  While the shared store is lost it is only remembered for this outage."""
        if self._lost is None:
            try:
                return await self._shared.seed(
                    purse, spent_nano=spent_nano, before_us=before_us, is_confirmed=is_confirmed
                )
            except StoreUnavailable as error:
                self._lose(error)
        known = self._use(purse.name)
        if not known.is_seen:
            self._see(purse.name, spent_nano, 0)
        return before_us

    async def forget(self, names: Sequence[str]) -> None:
        """Makes purses unseeded: now, or as soon as the shared store is back."""
        if self._lost is None:
            try:
                await self._shared.forget(names)
                return
            except StoreUnavailable as error:
                self._lose(error)
        self._touched.update(names)

    async def is_settled_before(self, moment_us: int) -> bool:
        """Whether every claim that began before that moment has ended.  While the shared store is lost nobody knows."""
        if self._lost is None:
            try:
                return await self._shared.is_settled_before(moment_us)
            except StoreUnavailable as error:
                self._lose(error)
        return False

    async def purses(self, names: Sequence[str]) -> Sequence[PurseState]:
        """How these purses stand; while the shared store is lost, how they stood when last seen and what this machine added.

        Raises `StoreUnavailable` when one of them was not seen: leaving it out would say that it is unseeded.
        """
        if self._lost is None:
            try:
                states = await self._shared.purses(names)
            except StoreUnavailable as error:
                self._lose(error)
            else:
                return states
        added = {state.name: state for state in await self._here.purses([LOCAL_PREFIX + name for name in names])}
        found = []
        for name in names:
            known, more = self._known.get(name), added.get(LOCAL_PREFIX + name)
            if known is None or not known.is_seen:
                raise StoreUnavailable(str(self._lost))
            spent = known.spent_nano + (0 if more is None else more.spent_nano)
            held = known.held_nano + (0 if more is None else more.held_nano)
            found.append(PurseState(name, spent, held, seeded_before_us=0, is_confirmed=False))
        return found

    async def orphans(self, at_most: int = 100) -> Sequence[Orphan]:
        """Claims of processes that have died: of this machine's workers, and of any that the shared store knows of."""
        found = list(await self._here.orphans(at_most))
        for orphan in found:
            self._standing.setdefault(orphan.id, _Standing()).is_here = True
        if self._lost is None and len(found) < at_most:
            try:
                shared = await self._shared.orphans(at_most - len(found))
            except StoreUnavailable as error:
                self._lose(error)
            else:
                for orphan in shared:
                    self._standing.setdefault(orphan.id, _Standing()).is_shared = True
                found += shared
        return found

    async def aclose(self) -> None:
        """Closes both stores."""
        self._watching.cancel()
        await asyncio.wait({self._watching})
        await self._shared.aclose()
        await self._here.aclose()

    # ------------------------------------------------------------------------------------------- what was seen last

    def _use(self, name: str) -> _Known:
        known = self._known.get(name)
        if known is None:
            known = self._known[name] = _Known()
            if len(self._known) > MAX_KNOWN:
                self._known.popitem(last=False)
        else:
            self._known.move_to_end(name)
        known.used_at = self._loop.time()
        return known

    def _see(self, name: str, spent_nano: int, held_nano: int) -> None:
        known = self._known.get(name)
        if known is not None:
            known.is_seen = True
            known.spent_nano, known.held_nano = spent_nano, held_nano

    def _see_spent(self, step: Spending) -> None:
        known = self._known.get(step.purse)
        if known is not None:
            known.spent_nano = max(known.spent_nano, step.after_nano)

    # ---------------------------------------------------------------------------------------------- lost and found

    def _lose(self, error: StoreUnavailable) -> None:
        if self._lost is None:
            self._lost = error
            self._lost_since_us = round(self._now() * 1_000_000)
            _LOG.warning(
                "the shared store is lost: limits and budgets are counted on this machine alone",
                extra={"reason": str(error), "when_lost": self._settings.when_lost},
            )

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._probe_seconds)
            try:
                if self._lost is None:
                    await self._look()
                else:
                    await self._return()
            except StoreUnavailable as error:
                self._lose(error)
            except Exception:  # noqa: BLE001 - the task's outer edge: without it no outage would ever end
                _LOG.exception("watching the shared store failed")

    async def _look(self) -> None:
        """Keeps in mind how the purses in use stand, and pays what is still owed."""
        since = self._loop.time() - IN_USE_SECONDS
        names: deque[str] = deque()
        for name in reversed(self._known):
            if self._known[name].used_at < since:
                break
            names.append(name)
        for state in await self._shared.purses(list(names)):
            self._see(state.name, state.spent_nano, state.held_nano)
        await self._pay()
        await self._forget_unsure()

    async def _return(self) -> None:
        """Ends the outage, if the shared store can be reached again."""
        await self._shared.purses(())
        await self._pay()
        forgotten: set[str] = set()
        while waiting := self._touched - forgotten:
            await self._shared.forget(sorted(waiting))
            forgotten |= waiting
        # No wait from here to the end of the outage: no call may touch a purse that was not forgotten.
        _LOG.warning(
            "the shared store is back", extra={"after_seconds": round(self._now() - self._lost_since_us / 1e6, 1)}
        )
        self._lost = None
        is_complete = self._is_ledger_complete()
        self._unsure |= {name for name in self._touched if name in self._running_here or not is_complete}
        self._touched = set()
        await self._renew_allowances()

    async def _renew_allowances(self) -> None:
        """The next outage has allowances of its own.  Holds of calls that still run count against them."""
        counted, self._counted_here = self._counted_here, {}
        try:
            await self._here.forget(list(counted))
            for purse in counted.values():
                await self._here.seed(purse, spent_nano=0, before_us=_SINCE_EVER_US)
        except StoreUnavailable as error:
            _LOG.warning("this machine's counters cannot be reached", extra={"reason": str(error)})

    async def _pay(self) -> None:
        owed = [(claim_id, ending) for claim_id, ending in self._owed.items() if claim_id not in self._paying]
        for start in range(0, len(owed), PAY_TOGETHER):
            chunk = owed[start : start + PAY_TOGETHER]
            outcomes = await asyncio.gather(
                *(_tell(self._shared, claim_id, ending) for claim_id, ending in chunk), return_exceptions=True
            )
            for (claim_id, _), outcome in zip(chunk, outcomes, strict=True):
                if isinstance(outcome, BaseException):
                    raise outcome
                self._owed.pop(claim_id, None)

    async def _forget_unsure(self) -> None:
        if self._unsure and self._is_ledger_complete():
            ready = {name for name in self._unsure if name not in self._running_here}
            if ready:
                await self._shared.forget(sorted(ready))
                self._unsure -= ready


async def _tell(store: Counters, claim_id: str, ending: _Ending) -> Sequence[Spending]:
    if ending.cost_nano is None:
        await store.release(claim_id)
        return []
    return await store.settle(claim_id, cost_nano=ending.cost_nano, tokens=ending.tokens)
