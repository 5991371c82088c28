"""A store of counters against a naive model, in whatever order of calls somebody can think of.

Subclass `CountersMachine`, say how to make a bench, and give its `TestCase` to pytest:

    class SharedMachine(CountersMachine):
        def make_bench(self): ...

    TestShared = SharedMachine.TestCase

The model keeps a ledger of its own: a claim that is settled leaves a row, and purses are seeded and confirmed from these rows as
the gateway does it.  So the rules of money are checked against what was really spent, not against the store's own idea of it.
No claim costs more than its hold here, and then spent and held never exceed a limit.
"""

import asyncio
import itertools
from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from support.claims import claim_of
from support.counters_contract import START_US, Bench
from tollhouse.policy.counters import (
    Answer,
    Claim,
    Counters,
    Level,
    Placed,
    Purse,
    PurseEmpty,
    PurseState,
    Rate,
    RateFull,
    Seats,
    SeatsTaken,
    Unseeded,
)

MINUTE_US = 60_000_000
# All of these take whole microseconds each, so that a store that counts in those agrees to the digit.
RATES = (Rate("requests/a", 6, 1), Rate("requests/b", 60, 1), Rate("tokens/t", 600, 1, "tokens"))
SEATS = (Seats("narrow", 1), Seats("wide", 3))
PURSES = (Purse("hard", 100), Purse("tight", 40), Purse("soft", None))


@dataclass(frozen=True)
class Drawn:
    """What a call asks for."""

    process: int
    rates: tuple[Rate, ...]
    seats: tuple[Seats, ...]
    purses: tuple[Purse, ...]
    hold: int
    waited_us: int
    note: bytes


def replace_amount(rate: Rate, amount: int) -> Rate:
    return Rate(rate.name, rate.per_minute, amount, rate.counts)


processes = st.integers(0, 2)
claims = st.builds(
    Drawn,
    process=processes,
    rates=st.lists(
        st.builds(
            lambda rate, amount: replace_amount(rate, amount * (60 if rate.counts == "tokens" else 1)),
            st.sampled_from(RATES),
            st.sampled_from([1, 2, 5]),
        ),
        max_size=2,
        unique_by=lambda rate: rate.name,
    ).map(tuple),
    seats=st.sampled_from([(), (), SEATS[1:], SEATS]),
    purses=st.sampled_from([PURSES, PURSES[:1], PURSES[1:], PURSES[::2], ()]),
    hold=st.sampled_from([0, 1, 10, 30, 40]),
    waited_us=st.sampled_from([0, 0, 1, 700_000]),
    note=st.binary(max_size=3),
)
pick = st.integers(0, 1_000)
"""Takes one of a list whose length nobody knows yet."""


@dataclass
class Standing:
    """A claim that has not ended."""

    process: int | None
    """Who answers for it; `None` is an orphan that nobody has been handed yet."""
    began: int
    hold: int
    note: bytes
    rates: dict[str, Rate] = field(default_factory=dict)
    seats: set[str] = field(default_factory=set)
    purses: dict[str, int] = field(default_factory=dict)


@dataclass
class Row:
    """What a settled claim left in the ledger."""

    began: int
    cost: int
    purses: frozenset[str]


@dataclass(frozen=True)
class Told:
    """What a purse was seeded with, and what was settled since."""

    moment: int
    sum: int
    settled: int = 0
    is_confirmed: bool = False


@dataclass(frozen=True)
class Reading:
    """A sum that somebody has read and not told yet."""

    purse: Purse
    moment: int
    sum: int


class CountersMachine(RuleBasedStateMachine):
    """Three processes, one after another dying and coming back, and a clock."""

    def make_bench(self) -> AbstractAsyncContextManager[Bench]:
        """A fresh bench for one example."""
        raise NotImplementedError

    @initialize()
    def open(self) -> None:
        self.runner = asyncio.Runner()
        self.stack = AsyncExitStack()
        self.bench: Bench = self.runner.run(self.stack.enter_async_context(self.make_bench()))
        self.stores: list[Counters] = [self.runner.run(self.bench.open()) for _ in range(3)]
        self.now = START_US
        self.names = itertools.count()
        self.full_at: dict[str, int] = {}
        self.standing: dict[str, Standing] = {}
        self.ledger: list[Row] = []
        self.told: dict[str, Told] = {}
        self.early = dict.fromkeys((purse.name for purse in PURSES), 0)
        self.readings: list[Reading] = []
        for number, purse in enumerate(PURSES):
            self.read(purse)
            self.tell(number, 0)

    # ------------------------------------------------------------------------------------------------- claims

    @rule(claims=st.lists(claims, min_size=1, max_size=4))
    def place(self, claims: list[Drawn]) -> None:
        """Several at a time, because rules are drawn alike and most need something that stands."""
        for drawn in claims:
            claim = claim_of(
                id=f"c{next(self.names)}",
                began_at_us=self.now - drawn.waited_us,
                rates=drawn.rates,
                seats=drawn.seats,
                purses=drawn.purses,
                hold_nano=drawn.hold,
                note=drawn.note,
            )
            new = Standing(drawn.process, claim.began_at_us, 0, b"")
            self.check(claim, self.runner.run(self.stores[drawn.process].place(claim)), new)
            self.the_store_knows_what_the_model_knows()

    @precondition(lambda self: self.owned())
    @rule(which=pick, drawn=claims)
    def extend(self, which: int, drawn: Drawn) -> None:
        name, found, store = self.one_of_ours(which)
        claim = claim_of(
            id=name,
            began_at_us=found.began,
            rates=drawn.rates,
            seats=drawn.seats,
            purses=drawn.purses,
            hold_nano=drawn.hold,
            note=drawn.note,
        )
        self.check(claim, self.runner.run(store.place(claim, extends=True)), found)

    def check(self, claim: Claim, answer: Answer, standing: Standing) -> None:
        """Says what the answer must be, and takes the claim into the model when it was placed."""
        unknown = tuple(purse for purse in claim.parts.purses if purse.name not in self.told)
        if unknown:
            assert answer == Unseeded(unknown)
            return
        for purse in claim.parts.purses:
            spent, held = self.spent(purse.name), self.held(purse.name)
            if purse.limit_nano is not None and spent + held + claim.hold_nano > purse.limit_nano:
                assert answer == PurseEmpty(purse, spent, held)
                return
        after = {
            rate.name: self.ahead(rate.name) + rate.amount * MINUTE_US // rate.per_minute for rate in claim.parts.rates
        }
        if max(after.values(), default=0) > MINUTE_US:
            slowest = max(claim.parts.rates, key=lambda rate: after[rate.name])
            assert isinstance(answer, RateFull)
            assert answer.rate == slowest
            assert answer.wait_seconds == pytest.approx((after[slowest.name] - MINUTE_US) / 1e6, abs=1e-5)
            self.check_levels(
                answer.levels, claim.parts.rates, {rate.name: self.ahead(rate.name) for rate in claim.parts.rates}
            )
            return
        for seats in claim.parts.seats:
            if seats.name not in standing.seats and self.taken(seats.name) >= seats.limit:
                assert answer == SeatsTaken(seats)
                return
        assert isinstance(answer, Placed)
        self.check_levels(answer.levels, claim.parts.rates, after)
        for rate in claim.parts.rates:
            self.full_at[rate.name] = self.now + after[rate.name]
            already = standing.rates.get(rate.name)
            standing.rates[rate.name] = replace_amount(rate, rate.amount + (already.amount if already else 0))
        standing.seats |= {seats.name for seats in claim.parts.seats}
        for purse in claim.parts.purses:
            standing.purses[purse.name] = standing.purses.get(purse.name, 0) + claim.hold_nano
        standing.hold += claim.hold_nano
        standing.note = claim.note or standing.note
        self.standing[claim.id] = standing

    def check_levels(self, levels: tuple[Level, ...], rates: tuple[Rate, ...], aheads: dict[str, int]) -> None:
        assert [level.rate for level in levels] == list(rates)
        for level in levels:
            ahead = aheads[level.rate.name]
            assert level.remaining == max((MINUTE_US - ahead) * level.rate.per_minute // MINUTE_US, 0)
            assert level.reset_seconds == pytest.approx(ahead / 1e6, abs=1e-5)

    @precondition(lambda self: self.owned())
    @rule(which=pick, share=st.sampled_from([0, 1, 3, 10]), used=st.none() | st.sampled_from([0, 60, 300, 900]))
    def settle(self, which: int, share: int, used: int | None) -> None:
        name, found, store = self.one_of_ours(which)
        # Of a purse that was named in only some extensions, only a part of the hold is held.
        cost = min(found.purses.values(), default=found.hold) * share // 10
        steps = self.runner.run(store.settle(name, cost_nano=cost, tokens=used))
        expected = {
            purse: (self.spent(purse), self.spent(purse) + cost) for purse in found.purses if purse in self.told
        }
        assert {step.purse: (step.before_nano, step.after_nano) for step in steps} == expected
        assert len(steps) == len(expected)
        for rate in found.rates.values():
            if rate.counts == "tokens" and used is not None:
                self.move(rate, used - rate.amount)
        for purse in found.purses:
            told = self.told.get(purse)
            if told is not None and (told.is_confirmed or found.began >= told.moment):
                self.told[purse] = replace(told, settled=told.settled + cost)
            else:
                self.early[purse] += cost
        self.ledger.append(Row(found.began, cost, frozenset(found.purses)))
        del self.standing[name]

    @precondition(lambda self: self.owned())
    @rule(which=pick)
    def release(self, which: int) -> None:
        name, found, store = self.one_of_ours(which)
        self.runner.run(store.release(name))
        for rate in found.rates.values():
            self.move(rate, -rate.amount)
        del self.standing[name]

    # ------------------------------------------------------------------------------------------------- purses

    @rule(purse=st.sampled_from(PURSES))
    def read(self, purse: Purse) -> None:
        """The first half of seeding: between reading the ledger and telling the sum anything may happen."""
        self.advance(1)
        self.readings.append(Reading(purse, self.now, self.rows(purse.name, self.now)))

    @precondition(lambda self: self.readings)
    @rule(process=processes, which=pick)
    def tell(self, process: int, which: int) -> None:
        reading = self.readings.pop(which % len(self.readings))
        name = reading.purse.name
        moment = self.runner.run(
            self.stores[process].seed(reading.purse, spent_nano=reading.sum, before_us=reading.moment)
        )
        told = self.told.setdefault(name, Told(reading.moment, reading.sum))
        assert moment == told.moment

    @precondition(lambda self: self.told)
    @rule(process=processes, which=pick)
    def confirm(self, process: int, which: int) -> None:
        name = sorted(self.told)[which % len(self.told)]
        told = self.told[name]
        store = self.stores[process]
        is_settled = self.runner.run(store.is_settled_before(told.moment))
        assert is_settled == all(found.began >= told.moment for found in self.standing.values())
        if not is_settled or told.is_confirmed:
            return
        total = self.rows(name, told.moment)
        [purse] = [purse for purse in PURSES if purse.name == name]
        answer = self.runner.run(store.seed(purse, spent_nano=total, before_us=told.moment, is_confirmed=True))
        assert answer == told.moment
        self.told[name] = replace(told, sum=total, is_confirmed=True)
        self.early[name] = 0

    @rule(process=processes, purses=st.lists(st.sampled_from(PURSES), min_size=1, max_size=2, unique=True))
    def forget(self, process: int, purses: list[Purse]) -> None:
        self.runner.run(self.stores[process].forget([purse.name for purse in purses]))
        for purse in purses:
            self.told.pop(purse.name, None)
            self.early[purse.name] = 0
        # Whoever tells a sum that was read before this would leave out what was settled since.
        self.readings = [reading for reading in self.readings if reading.purse not in purses]

    # ----------------------------------------------------------------------------------------- time and death

    @rule(milliseconds=st.sampled_from([100, 1_000, 7_500, 61_000]))
    def wait(self, milliseconds: int) -> None:
        self.advance(milliseconds)

    def advance(self, milliseconds: int) -> None:
        self.bench.advance(milliseconds / 1_000)
        self.now += milliseconds * 1_000

    @rule(process=processes)
    def die(self, process: int) -> None:
        self.runner.run(self.bench.kill(self.stores[process]))
        for found in self.standing.values():
            if found.process == process:
                found.process = None
        self.stores[process] = self.runner.run(self.bench.open())

    @rule(process=processes, at_most=st.integers(1, 3))
    def ask_for_orphans(self, process: int, at_most: int) -> None:
        self.take_orphans(process, at_most)

    def take_orphans(self, process: int, at_most: int) -> int:
        orphans = self.runner.run(self.stores[process].orphans(at_most))
        assert len(orphans) <= at_most
        for orphan in orphans:
            found = self.standing[orphan.id]
            assert found.process is None, "handed out twice, or not an orphan"
            assert (orphan.began_at_us, orphan.hold_nano, orphan.note) == (found.began, found.hold, found.note)
            found.process = process
        return len(orphans)

    # --------------------------------------------------------------------------------------------- invariants

    @invariant()
    def the_store_knows_what_the_model_knows(self) -> None:
        states = self.runner.run(self.stores[0].purses([purse.name for purse in PURSES]))
        assert list(states) == [
            PurseState(
                name=purse.name,
                spent_nano=self.spent(purse.name),
                held_nano=self.held(purse.name),
                seeded_before_us=self.told[purse.name].moment,
                is_confirmed=self.told[purse.name].is_confirmed,
            )
            for purse in PURSES
            if purse.name in self.told
        ]

    @invariant()
    def nothing_that_was_spent_is_missing_from_a_purse(self) -> None:
        for name, told in self.told.items():
            assert self.spent(name) >= self.truth(name)
            if told.is_confirmed:
                assert self.spent(name) == self.truth(name)

    @invariant()
    def what_was_spent_and_is_held_stays_within_a_hard_limit(self) -> None:
        for purse in PURSES:
            if purse.limit_nano is not None:
                assert self.truth(purse.name) + self.held(purse.name) <= purse.limit_nano

    def teardown(self) -> None:
        if not hasattr(self, "runner"):
            return
        with self.runner:
            try:
                self.check_that_it_comes_to_rest()
            finally:
                self.runner.run(self.stack.aclose())

    def check_that_it_comes_to_rest(self) -> None:
        while sum(self.take_orphans(process, 100) for process in range(3)):
            pass
        assert all(found.process is not None for found in self.standing.values()), "an orphan was never handed out"
        while self.owned():
            self.settle(0, 10, None)
        for number, purse in enumerate(PURSES):
            if purse.name not in self.told:
                self.read(purse)
                self.readings = self.readings[-1:]
                self.tell(number, 0)
            self.confirm(0, sorted(self.told).index(purse.name))
            assert self.told[purse.name].is_confirmed
        self.the_store_knows_what_the_model_knows()
        self.nothing_that_was_spent_is_missing_from_a_purse()
        for seats in SEATS:
            for place in range(seats.limit + 1):
                claim = claim_of(id=f"{seats.name}{place}", began_at_us=self.now, seats=(seats,))
                answer = self.runner.run(self.stores[place % 3].place(claim))
                assert isinstance(answer, Placed if place < seats.limit else SeatsTaken)

    # ---------------------------------------------------------------------------------------------- the model

    def owned(self) -> list[str]:
        return [name for name, found in self.standing.items() if found.process is not None]

    def one_of_ours(self, which: int) -> tuple[str, Standing, Counters]:
        owned = self.owned()
        name = owned[which % len(owned)]
        found = self.standing[name]
        assert found.process is not None
        return name, found, self.stores[found.process]

    def ahead(self, rate: str) -> int:
        return max(self.full_at.get(rate, 0) - self.now, 0)

    def move(self, rate: Rate, more: int) -> None:
        self.full_at[rate.name] = self.now + self.ahead(rate.name) + more * MINUTE_US // rate.per_minute

    def taken(self, seats: str) -> int:
        return sum(seats in found.seats for found in self.standing.values())

    def held(self, purse: str) -> int:
        return sum(found.purses.get(purse, 0) for found in self.standing.values())

    def spent(self, purse: str) -> int:
        told = self.told[purse]
        return told.sum + told.settled + self.early[purse]

    def truth(self, purse: str) -> int:
        return self.rows(purse, self.now + 1)

    def rows(self, purse: str, before: int) -> int:
        return total(row.cost for row in self.ledger if purse in row.purses and row.began < before)


def total(amounts: Iterable[int]) -> int:
    return sum(amounts)
