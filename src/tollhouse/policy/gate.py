"""The gate that every call passes: its claim is placed with the store of counters, and settled when the call has ended.

`rules` says what a call must pass, `counters` counts it.  What is here: waiting for one's turn, telling a store what purses
have spent (and telling it once more when that is certain), the errors that a caller sees, and alerts.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import msgspec

from tollhouse.config.schema import Scope
from tollhouse.errors import BudgetExceeded, NoPrice, Quota, RateLimited, StoreUnavailable
from tollhouse.ledger.moments import moment_at
from tollhouse.policy.admission import NO_WEIGHT, Ask
from tollhouse.policy.counters import (
    MINUTE_NS,
    Answer,
    Claim,
    Counters,
    Parts,
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
from tollhouse.policy.rules import Bound, Budget, Rules
from tollhouse.policy.waits import Waits

SEAT_SECONDS: Final = 0.05
"""How long a call that found no seat waits before it looks again: nobody can say when one becomes free."""
SEAT_RETRY_SECONDS: Final = 1.0
"""What a caller is told to wait who was refused for want of a seat."""
MAX_SEEDINGS: Final = 5
"""How often one call tells the store what it does not know before it gives up."""

PURSES_AT_ONCE: Final = 100
"""Purses that the store is asked about together, which keeps others from it for so long."""


class Spent(Protocol):
    """What the ledger knows of the past."""

    async def spent(self, scope: Scope, from_us: int, before_us: int) -> int:
        """Nano-USD of the calls of a scope that began in that time.  Raises `StoreUnavailable`."""
        ...

    @property
    def is_complete(self) -> bool:
        """Whether every finished call is in it, and none only in a journal."""
        ...


class Settler(Protocol):
    """Ends claims without being waited for."""

    def settle(
        self, claim_id: str, *, cost_nano: int, tokens: int | None, done: Callable[[Sequence[Spending]], None] | None
    ) -> None:
        """Settles a claim, now or soon, and then says what that did to its purses, if anybody wants to hear."""
        ...


@dataclass(frozen=True, slots=True)
class Crossing:
    """A budget has passed one of the fractions at which somebody wants to hear of it.  Amounts in nano-USD."""

    budget: Budget
    fraction: float
    spent_nano: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How calls wait for their turn."""

    max_wait_seconds: float = 0.0
    max_waiting: int = 1000


class Gate:
    """The `Admission` of a gateway with limits or budgets.  One for each configuration; the store outlives it."""

    def __init__(
        self,
        rules: Rules,
        counters: Counters,
        settler: Settler,
        ledger: Spent,
        *,
        patience: Patience,
        allowance_nano: int,
        crossed: Callable[[Crossing], None],
        now_us: Callable[[], int],
        monotonic: Callable[[], float],
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        waits: Waits | None = None,
    ) -> None:
        """`allowance_nano` is what a hard budget may spend whose past cannot be read just now.

        `waits` counts what limits do to calls.
        """
        self._rules = rules
        self._counters = counters
        self.settler = settler
        self._ledger = ledger
        self._patience = patience
        self._allowance_nano = allowance_nano
        self._crossed = crossed
        self._now_us = now_us
        self._monotonic = monotonic
        self._sleep = sleep
        self._waits = waits or Waits()
        self._waiting = 0
        self._lines: dict[str, int] = {}
        """How many wait for each rate and seat that is full."""
        self._unconfirmed: dict[str, Budget] = {}
        """Purses that this process has met and whose sum may not be certain yet."""
        self._met: set[str] = set()
        rules.when_made(self.meet)

    async def admit(self, ask: Ask) -> "GateHold":
        """See `Admission.admit`."""
        bound, claim = self._claim(ask)
        try:
            answer = await self._counters.place(claim)
            if type(answer) is Placed:
                return GateHold(self, claim.id, claim.hold_nano, answer, [bound], bound.alerts)
            began = self._monotonic()
            answer = await self._insist(bound, claim, answer, extends=False)
        except StoreUnavailable as error:
            raise _unchecked(error) from error
        waited_seconds = self._monotonic() - began
        return GateHold(self, claim.id, claim.hold_nano, answer, [bound], bound.alerts, waited_seconds)

    async def check(self) -> None:
        """Makes certain what was not: call it about once a second.  Raises nothing for a store that is away."""
        try:
            await self._confirm()
        except StoreUnavailable:
            return
        if len(self._met) > 10_000:
            self._met.clear()  # old windows; those of now are met again

    async def forget_sums(self) -> None:
        """See `Admission.forget_sums`."""
        await self._counters.forget(tuple(self._rules.purses()))

    # ------------------------------------------------------------------------------------------------- for its holds

    async def extend(self, hold: "GateHold", ask: Ask) -> None:
        """See `Hold.extend`."""
        bound, claim = self._claim(ask)
        claim = _beside(claim, hold.bounds)
        try:
            answer = await self._counters.place(claim, extends=True)
            if type(answer) is not Placed:
                await self._insist(bound, claim, answer, extends=True)
        except StoreUnavailable as error:
            raise _unchecked(error) from error
        self.meet(bound)
        hold.bounds.append(bound)
        hold.is_watched |= bound.alerts
        hold.held_nano += claim.hold_nano

    def watch(self, bounds: Sequence[Bound], spending: Sequence[Spending]) -> None:
        """Tells of every fraction that a settlement has crossed."""
        for each in spending:
            for bound in bounds:
                budget = bound.budgets.get(each.purse)
                if budget is not None:
                    limit = budget.settings.limit_nano
                    for fraction in budget.alert_at:
                        if each.before_nano < fraction * limit <= each.after_nano:
                            self._crossed(Crossing(budget, fraction, each.after_nano))
                    break

    # ------------------------------------------------------------------------------------------------------ private

    def _claim(self, ask: Ask) -> tuple[Bound, Claim]:
        bound = self._rules.bound(ask.principal, ask.alias, ask.target, ask.began_at_us)
        weight = ask.weigh() if bound.needs_weight else NO_WEIGHT
        if bound.hard is not None and weight.worst_nano is None:
            raise NoPrice(
                f"Nobody knows what {ask.target!r} costs, so the budget {bound.hard!r} could not be kept.",
                hint="Whoever runs this gateway can set its price under `prices`, or make the budget `soft`.",
            )
        return bound, bound.claim(ask, weight)

    async def _insist(self, bound: Bound, claim: Claim, answer: Answer, *, extends: bool) -> Placed:
        """Goes on until the claim is placed or must be refused."""
        give_up_at = self._monotonic() + self._patience.max_wait_seconds
        seedings = 0
        while True:
            match answer:
                case Placed():
                    return answer
                case Unseeded(purses=purses):
                    seedings += 1
                    if seedings > MAX_SEEDINGS:
                        raise StoreUnavailable("The store of counters forgets what it is told.")
                    await self._seed(bound, purses)
                case PurseEmpty():
                    raise self._empty(bound, answer, claim)
                case RateFull(rate=rate, wait_seconds=seconds):
                    # Those who wait already have the places that come free before this one's.
                    ahead = self._lines.get(rate.name, 0) * rate.amount * 60 / rate.per_minute
                    await self._wait(rate.name, seconds + ahead, give_up_at, answer)
                case SeatsTaken(seats=seats):
                    await self._wait(seats.name, SEAT_SECONDS, give_up_at, answer)
            answer = await self._counters.place(claim, extends=extends)

    async def _wait(self, name: str, seconds: float, give_up_at: float, answer: RateFull | SeatsTaken) -> None:
        """Waits, in the line for what is full, until the call may fit; refuses at once if that would be too late."""
        left = give_up_at - self._monotonic()
        if seconds > left or self._waiting >= self._patience.max_waiting:
            self._waits.refuse(name)
            raise _too_fast(answer, seconds) if isinstance(answer, RateFull) else _too_many(answer)
        waits, began = self._waits, self._monotonic()
        waits.began += 1
        waits.now += 1
        self._waiting += 1
        self._lines[name] = self._lines.get(name, 0) + 1
        try:
            await self._sleep(seconds)
        finally:
            waits.now -= 1
            waits.seconds += self._monotonic() - began
            self._waiting -= 1
            self._lines[name] -= 1
            if not self._lines[name]:
                del self._lines[name]

    async def _seed(self, bound: Bound, purses: Sequence[Purse]) -> None:
        # As of now, not of the moment at which this call began, which may be minutes ago: a purse that was made unseeded since
        # has lost what was settled in between, and only the ledger has it.
        for purse in purses:
            budget = bound.budgets[purse.name]
            now_us = self._now_us()
            moment = await self._tell(purse, budget, now_us)
            if moment > now_us and not await self._counters.purses([purse.name]):
                await self._tell(purse, budget, moment)  # it was made unseeded just now
            self._unconfirmed[purse.name] = budget

    async def _tell(self, purse: Purse, budget: Budget, before_us: int) -> int:
        try:
            spent = await self._spent(budget, before_us)
        except StoreUnavailable:
            # The past cannot be read.  A hard budget has its allowance until it can; `check` tells the truth then.
            spent = max(0, budget.settings.limit_nano - self._allowance_nano) if budget.settings.is_hard else 0
        return await self._counters.seed(purse, spent_nano=spent, before_us=before_us)

    async def _spent(self, budget: Budget, before_us: int) -> int:
        ends_at_us = budget.purse.ends_at_us
        return await self._ledger.spent(
            budget.settings.scope, budget.from_us, before_us if ends_at_us is None else min(before_us, ends_at_us)
        )

    async def _confirm(self) -> None:
        names = tuple(self._unconfirmed)
        doubtful: list[PurseState] = []
        for first in range(0, len(names), PURSES_AT_ONCE):
            some = names[first : first + PURSES_AT_ONCE]
            states = {state.name: state for state in await self._counters.purses(some)}
            for name in some:
                state = states.get(name)
                if state is None or state.is_confirmed:
                    self._unconfirmed.pop(name, None)  # whoever meets it unseeded begins again
                else:
                    doubtful.append(state)
        if not self._ledger.is_complete:
            return
        for state in sorted(doubtful, key=lambda state: state.seeded_before_us):
            before, budget = state.seeded_before_us, self._unconfirmed.get(state.name)
            if budget is None:
                continue
            if not await self._counters.is_settled_before(before):
                return  # nor before any later moment
            spent = await self._spent(budget, before)
            # The store takes no sum that a late call is missing from; whether it took this one shows the next time.
            await self._counters.seed(budget.purse, spent_nano=spent, before_us=before, is_confirmed=True)

    def _empty(self, bound: Bound, answer: PurseEmpty, claim: Claim) -> BudgetExceeded:
        budget = bound.budgets[answer.purse.name]
        ends = answer.purse.ends_at_us
        return BudgetExceeded(
            budget=budget.name,
            spent_nano=answer.spent_nano + answer.held_nano,
            limit_nano=budget.settings.limit_nano,
            resets_in_seconds=None if ends is None else max(0.0, (ends - self._now_us()) / 1e6),
            resets_at=None if ends is None else f"{moment_at(ends):%Y-%m-%d %H:%M} UTC",
            is_allowance=answer.is_allowance,
            needed_nano=claim.hold_nano,
            may_clamp=budget.settings.clamp_output,
        )

    def meet(self, bound: Bound) -> None:
        """Looks once at every purse that this process has not seen: another one may have died before it was certain."""
        for name, budget in bound.budgets.items():
            if name not in self._met:
                self._met.add(name)
                self._unconfirmed[name] = budget


class GateHold(msgspec.Struct, eq=False):
    """The `Hold` of a claim that stands."""

    gate: Gate
    id: str
    held_nano: int
    placed: Placed
    bounds: list[Bound]
    is_watched: bool
    """Whether somebody wants to hear of one of its budgets."""
    waited_seconds: float = 0.0

    @property
    def quotas(self) -> Sequence[Quota]:
        """See `Hold.quotas`."""
        return _tightest(self.placed.rates, self.placed.ahead_ns)

    async def extend(self, ask: Ask) -> None:
        """See `Hold.extend`."""
        await self.gate.extend(self, ask)

    def settle(self, *, cost_nano: int | None, input_tokens: int | None, output_tokens: int | None) -> None:
        """See `Hold.settle`."""
        tokens = None if input_tokens is None and output_tokens is None else (input_tokens or 0) + (output_tokens or 0)
        done = self.spent if self.is_watched else None
        self.gate.settler.settle(self.id, cost_nano=cost_nano or 0, tokens=tokens, done=done)

    def spent(self, spending: Sequence[Spending]) -> None:
        """What settling did."""
        if spending:
            self.gate.watch([bound for bound in self.bounds if bound.alerts], spending)


def _beside(claim: Claim, standing: Sequence[Bound]) -> Claim:
    """A claim that extends one, without what stands already."""
    rates = {rate.name for other in standing for rate in other.parts.rates}
    seats = {each.name for other in standing for each in other.parts.seats}
    parts = claim.parts
    more = Parts(
        tuple(rate for rate in parts.rates if rate.name not in rates and "/ip:" not in rate.name),
        tuple(each for each in parts.seats if each.name not in seats and "/ip:" not in each.name),
        parts.purses,
    )
    return msgspec.structs.replace(claim, parts=more)


def _tightest(rates: Sequence[Rate], ahead_ns: Sequence[int]) -> tuple[Quota, ...]:
    """Of requests and of tokens the rate with the least left."""
    quotas: list[Quota] = []
    for index, rate in enumerate(rates):
        ahead, per_minute = ahead_ns[index], rate.per_minute
        remaining = (MINUTE_NS - ahead) * per_minute // MINUTE_NS if ahead < MINUTE_NS else 0
        quotas.append(Quota(rate.counts, per_minute, remaining, ahead / 1e9))
    if len(quotas) < 2 or (len(quotas) == 2 and quotas[0].counts != quotas[1].counts):
        return tuple(quotas)
    found: dict[str, Quota] = {}
    for quota in quotas:
        if quota.counts not in found or quota.remaining < found[quota.counts].remaining:
            found[quota.counts] = quota
    return tuple(found.values())


def _too_fast(answer: RateFull, wait_seconds: float) -> RateLimited:
    rate = answer.rate
    return RateLimited(
        f"{rate.per_minute} {rate.counts} a minute are used up (limit {rate.name!r}). There is room again in "
        f"{max(1, -(-wait_seconds // 1)):.0f} s.",
        retry_after_seconds=wait_seconds,
        limit=rate.name,
        quotas=_tightest(answer.rates, answer.ahead_ns),
    )


def _too_many(answer: SeatsTaken) -> RateLimited:
    return RateLimited(
        f"{answer.seats.limit} calls at a time are under way already (limit {answer.seats.name!r}). Try again when one has "
        "ended.",
        retry_after_seconds=SEAT_RETRY_SECONDS,
        limit=answer.seats.name,
    )


def _unchecked(error: StoreUnavailable) -> StoreUnavailable:
    """What a caller hears of a store that is away; where it is and why is the operator's business."""
    return StoreUnavailable(
        "Limits and budgets cannot be checked just now.", hint=error.hint or "Try again in a moment; nothing was sent."
    )
