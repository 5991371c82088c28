"""The gate: what it tells the store, whom it lets wait, whom it refuses and with which words, and when it raises an alarm.

The counters are the real ones of this machine, under a clock that moves when a test or a waiting call moves it.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest

from support.counters_contract import START_US
from support.shared_counters import SharedBench, audit
from tollhouse.config.schema import BudgetSettings, LimitSettings, Period, RateSettings, Scope, ScopedRates
from tollhouse.errors import BudgetExceeded, NoPrice, RateLimited, StoreUnavailable
from tollhouse.policy.admission import Ask, Weight
from tollhouse.policy.counters import Answer, Claim, Ending, PurseState, Spending, Unseeded
from tollhouse.policy.gate import MAX_SEEDINGS, SEAT_RETRY_SECONDS, Crossing, Gate, GateHold, Patience
from tollhouse.policy.identity import Principal
from tollhouse.policy.rules import Rules
from tollhouse.policy.settling import SettlesNow, SettlesSoon
from tollhouse.policy.shared_memory import SharedCounters
from tollhouse.policy.windows import window

ALL, LAB, DEN = Scope("global"), Scope("provider", "lab"), Scope("provider", "den")
CALLER = Principal(key="dev", tenant="research")
LONG_AGO_US = START_US - 30 * 60 * 1_000_000


def budget(nano: int, scope: Scope = ALL, period: Period = "total", **more: object) -> BudgetSettings:
    return BudgetSettings(scope=scope, period=period, limit_nano=nano, **more)  # type: ignore[arg-type]  # as named


@dataclass
class Ledger:
    """Rows as (scope, when the call began, cost).  A row of the scope `global` is in no other."""

    rows: list[tuple[str, int, int]] = field(default_factory=list)
    is_complete: bool = True
    is_away: bool = False
    asked: list[tuple[str, int, int]] = field(default_factory=list)

    async def spent(self, scope: Scope, from_us: int, before_us: int) -> int:
        self.asked.append((str(scope), from_us, before_us))
        if self.is_away:
            raise StoreUnavailable("The ledger is away.")
        return sum(cost for of, at, cost in self.rows if of == str(scope) and from_us <= at < before_us)


@dataclass
class World:
    """A gateway's gates over one folder of counters."""

    bench: SharedBench
    ledger: Ledger = field(default_factory=Ledger)
    crossings: list[tuple[str, float, int]] = field(default_factory=list)
    slept: list[float] = field(default_factory=list)
    while_sleeping: Callable[[], None] = lambda: None
    allowance_nano: int = 100
    _number: int = 0

    async def gate(
        self,
        *budgets: BudgetSettings,
        limits: LimitSettings | None = None,
        patience: Patience | None = None,
        counters: SharedCounters | None = None,
    ) -> Gate:
        """A gate of a process of its own."""
        store = counters or await self.bench.open()
        return Gate(
            Rules(limits or LimitSettings(), budgets),
            store,
            SettlesNow(store),
            self.ledger,
            patience=patience or Patience(),
            allowance_nano=self.allowance_nano,
            crossed=self._crossed,
            now_us=lambda: self.bench.wall_us,
            monotonic=lambda: self.bench.uptime_ns / 1e9,
            sleep=self._sleep,
        )

    def ask(
        self,
        cost: int | None = 0,
        *,
        tokens: int = 0,
        principal: Principal = CALLER,
        began_at_us: int | None = None,
        target: str = "lab/m",
        name: str = "",
        address: str = "",
    ) -> Ask:
        self._number += 1
        return Ask(
            id=name or f"req_{self._number}",
            began_at_us=self.bench.wall_us if began_at_us is None else began_at_us,
            principal=principal,
            address=address,
            alias="smart",
            target=target,
            weigh=lambda: Weight(tokens, tokens, 0, cost),
            note=b"note",
        )

    def row(self, cost: int, *, scope: str = "global", at: int = LONG_AGO_US) -> None:
        self.ledger.rows.append((scope, at, cost))

    def end(self, hold: GateHold, cost: int, *, began_at_us: int | None = None, tokens: int | None = None) -> None:
        """A call ends as in the pipeline: first its row, then its hold."""
        self.row(cost, at=self.bench.wall_us if began_at_us is None else began_at_us)
        hold.settle(cost_nano=cost, input_tokens=tokens, output_tokens=None)

    def _crossed(self, crossing: Crossing) -> None:
        self.crossings.append((crossing.budget.name, crossing.fraction, crossing.spent_nano))

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.bench.advance(seconds)
        self.while_sleeping()
        await asyncio.sleep(0)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    bench = SharedBench(tmp_path / "counters")
    yield World(bench)
    for counters in bench._opened:
        if not counters._turn.is_closed:
            audit(counters)
            break
    await bench.aclose()


async def stands(gate: Gate, purse: str = "global/total/ever") -> PurseState:
    (found,) = await gate._counters.purses([purse])
    return found


async def money(gate: Gate, purse: str = "global/total/ever") -> tuple[int, int]:
    """Spent and held."""
    found = await stands(gate, purse)
    return found.spent_nano, found.held_nano


# ------------------------------------------------------------------------------------------------------- holds, budgets


async def test_a_call_holds_its_worst_and_settles_to_its_cost(world: World):
    gate = await world.gate(budget(1_000))
    world.row(300)
    hold = await gate.admit(world.ask(200))
    assert await money(gate) == (300, 200)
    assert hold.held_nano == 200
    world.end(hold, 70)
    assert await money(gate) == (370, 0)


async def test_the_past_is_read_once_and_up_to_now(world: World):
    gate = await world.gate(budget(1_000, period="hour"))
    for _ in range(3):
        await gate.admit(world.ask(1))
        world.bench.advance(1)
    begins = window("hour", START_US).from_us
    assert world.ledger.asked == [("global", begins, START_US)]


async def test_what_fits_exactly_is_let_in_and_one_billionth_of_a_dollar_more_is_not(world: World):
    gate = await world.gate(budget(1_000))
    world.row(400)
    await gate.admit(world.ask(500))
    with pytest.raises(BudgetExceeded):
        await gate.admit(world.ask(101))
    await gate.admit(world.ask(100))
    assert await money(gate) == (400, 600)


async def test_a_refusal_says_what_is_left_what_was_needed_and_when_it_begins_anew(world: World):
    gate = await world.gate(budget(1_000, Scope("tenant", "research"), "hour", clamp_output=True))
    ends = window("hour", START_US).ends_at_us
    assert ends is not None
    world.row(250, scope="tenant:research", at=START_US)
    world.row(1_000, scope="tenant:research", at=window("hour", START_US).from_us - 1)
    world.bench.advance(7.5)
    await gate.admit(world.ask(150))
    with pytest.raises(BudgetExceeded) as refused:
        await gate.admit(world.ask(601))
    error = refused.value
    assert (error.budget, error.limit_nano, error.needed_nano) == ("tenant:research/hour", 1_000, 601)
    assert (error.spent_nano, error.left_nano, error.may_clamp) == (400, 600, True)
    assert error.resets_in_seconds == (ends - START_US) / 1e6 - 7.5
    assert error.http_status == 402


async def test_what_never_resets_says_so(world: World):
    gate = await world.gate(budget(1))
    with pytest.raises(BudgetExceeded, match="never resets") as refused:
        await gate.admit(world.ask(2))
    assert refused.value.resets_in_seconds is None
    assert not refused.value.may_clamp


@pytest.mark.parametrize(("limit", "says"), [(100, "Ask for fewer output tokens, or ask"), (0, "Ask whoever runs")])
def test_fewer_tokens_are_only_asked_for_where_something_is_left(limit: int, says: str):
    for resets_at in (None, "2026-11-22 00:00 UTC"):
        error = BudgetExceeded(
            budget="b", spent_nano=0, limit_nano=limit, resets_in_seconds=None, resets_at=resets_at, needed_nano=200
        )
        assert (error.hint or "").startswith(says)


async def test_a_refused_call_has_taken_nothing_anywhere(world: World):
    limits = LimitSettings(overall=RateSettings(requests_per_minute=2, concurrent=2))
    gate = await world.gate(budget(1_000), budget(10, Scope("key", "dev")), limits=limits)
    for _ in range(5):
        with pytest.raises(BudgetExceeded, match="key:dev/total"):
            await gate.admit(world.ask(11))
    assert await money(gate) == (0, 0)
    for _ in range(2):
        await gate.admit(world.ask(1))


async def test_a_call_that_cost_more_than_was_held_leaves_nothing_and_the_next_is_refused(world: World):
    gate = await world.gate(budget(100))
    world.end(await gate.admit(world.ask(60)), 130)
    assert await money(gate) == (130, 0)
    with pytest.raises(BudgetExceeded) as refused:
        await gate.admit(world.ask(1))
    assert refused.value.left_nano == 0


async def test_without_a_price_a_hard_budget_refuses_and_a_soft_one_does_not(world: World):
    soft = await world.gate(budget(10, is_hard=False))
    await soft.admit(world.ask(None))
    hard = await world.gate(budget(10), budget(10, is_hard=False))
    with pytest.raises(NoPrice, match="'lab/m'") as refused:
        await hard.admit(world.ask(None))
    assert refused.value.http_status == 402
    other = await world.gate(budget(10, Scope("key", "other")))
    await other.admit(world.ask(None))


async def test_a_soft_budget_refuses_nothing(world: World):
    gate = await world.gate(budget(10, is_hard=False))
    for _ in range(3):
        world.end(await gate.admit(world.ask(50)), 50)
    assert await money(gate, "global/total/ever/soft") == (150, 0)


async def test_a_cost_that_nobody_knows_counts_as_none_and_gives_the_hold_back(world: World):
    gate = await world.gate(budget(100))
    (await gate.admit(world.ask(60))).settle(cost_nano=None, input_tokens=None, output_tokens=None)
    assert await money(gate) == (0, 0)


async def test_a_new_window_begins_empty(world: World):
    gate = await world.gate(budget(100, period="hour"))
    world.end(await gate.admit(world.ask(100)), 100)
    with pytest.raises(BudgetExceeded):
        await gate.admit(world.ask(1))
    world.bench.advance(3_600)
    await gate.admit(world.ask(100))


async def test_settling_across_a_network_gives_the_same_back_and_is_awaited_at_the_end(world: World):
    store = await world.bench.open()
    soon = SettlesSoon(store)
    gate = await world.gate(budget(100, alert_at=(0.5,)), counters=store)
    gate.settler = soon
    hold = await gate.admit(world.ask(60))
    hold.settle(cost_nano=55, input_tokens=1, output_tokens=2)
    await soon.aclose()
    assert await money(gate) == (55, 0)
    assert world.crossings == [("global/total", 0.5, 55)]


async def test_settling_with_a_store_that_is_gone_is_nobodys_error(world: World, caplog: pytest.LogCaptureFixture):
    class Gone:
        def settle_all_now(self, endings: Sequence[Ending]) -> Sequence[Sequence[Spending]]:
            raise StoreUnavailable(f"{endings}")

    told: list[object] = []
    SettlesNow(Gone()).settle("req_1", cost_nano=1, tokens=None, done=told.append)
    assert told == []
    assert "given back late" in caplog.text


async def test_ends_that_are_deferred_are_settled_together_and_each_threshold_is_told_once(world: World):
    store = await world.bench.open()
    gate = await world.gate(budget(100, alert_at=(0.5,)), counters=store)
    deferred: list[Callable[[], None]] = []
    together = gate.settler = SettlesNow(store, defer=deferred.append)
    holds = [await gate.admit(world.ask(20)) for _ in range(4)]
    for hold in holds:
        hold.settle(cost_nano=15, input_tokens=1, output_tokens=1)
    assert await money(gate) == (0, 80)
    assert len(deferred) == 1
    deferred.pop()()
    assert await money(gate) == (60, 0)
    assert world.crossings == [("global/total", 0.5, 60)]

    late = await gate.admit(world.ask(20))
    late.settle(cost_nano=5, input_tokens=1, output_tokens=1)
    await together.aclose()
    assert await money(gate) == (65, 0), "what was deferred when the gateway ends is settled then"


# ------------------------------------------------------------------------------------------------ what the ledger knows


async def test_while_the_past_cannot_be_read_a_hard_budget_has_its_allowance_and_no_more(world: World):
    world.ledger.is_away = True
    gate = await world.gate(budget(1_000))
    world.row(950)
    await gate.admit(world.ask(60))
    await gate.admit(world.ask(40))
    with pytest.raises(BudgetExceeded):
        await gate.admit(world.ask(1))
    await gate.check()
    assert not (await stands(gate)).is_confirmed


@pytest.mark.parametrize(("limit", "fits"), [(30, 30), (1_000, 100)])
async def test_the_allowance_is_never_more_than_the_budget(world: World, limit: int, fits: int):
    world.ledger.is_away = True
    gate = await world.gate(budget(limit), budget(10, is_hard=False))
    await gate.admit(world.ask(fits))
    with pytest.raises(BudgetExceeded):
        await gate.admit(world.ask(1))
    assert (await money(gate, "global/total/ever/soft"))[0] == 0


async def test_when_the_past_can_be_read_again_the_truth_takes_the_place_of_the_allowance(world: World):
    world.ledger.is_away = True
    gate = await world.gate(budget(1_000))
    world.row(300)
    hold = await gate.admit(world.ask(60))
    world.ledger.is_away = False
    await gate.check()
    assert (await stands(gate)).is_confirmed
    assert await money(gate) == (300, 60)
    world.end(hold, 50)
    assert await money(gate) == (350, 0)
    await gate.admit(world.ask(600))


async def test_a_sum_is_certain_only_when_all_that_began_before_it_has_ended(world: World):
    """The call under way is in neither the first sum nor the count that begins with the next call."""
    early = await world.gate(budget(500, is_hard=False, scope=Scope("key", "other")))
    running = await early.admit(world.ask(0))
    began = world.bench.wall_us
    world.bench.advance(5)
    gate = await world.gate(budget(1_000))
    await gate.admit(world.ask(10))
    await gate.check()
    assert not (await stands(gate)).is_confirmed
    world.end(running, 200, began_at_us=began)
    assert await money(gate) == (0, 10), "it did not know this purse"
    await gate.check()
    assert (await stands(gate)).is_confirmed
    assert await money(gate) == (200, 10)


async def test_a_sum_is_not_certain_while_rows_wait_in_a_journal(world: World):
    gate = await world.gate(budget(1_000))
    await gate.admit(world.ask(10))
    world.ledger.is_complete = False
    await gate.check()
    assert not (await stands(gate)).is_confirmed
    world.ledger.is_complete = True
    await gate.check()
    assert (await stands(gate)).is_confirmed


async def test_what_is_certain_is_not_asked_for_again(world: World):
    gate = await world.gate(budget(1_000))
    await gate.admit(world.ask(10))
    await gate.check()
    asked = len(world.ledger.asked)
    await gate.check()
    await gate.admit(world.ask(10))
    await gate.check()
    assert len(world.ledger.asked) == asked


async def test_a_sum_that_the_store_did_not_take_is_told_again(world: World):
    """A call that began before the moment can be let in, and end, while the sum is read: then the store takes no confirmation."""
    gate = await world.gate(budget(1_000))
    hold = await gate.admit(world.ask(10))
    world.end(hold, 10)
    late: list[GateHold] = []
    read = world.ledger.spent

    async def reads_slowly(scope: Scope, from_us: int, before_us: int) -> int:
        total = await read(scope, from_us, before_us)
        world.bench.advance(0.01)
        late.append(await gate.admit(world.ask(5, began_at_us=START_US - 1)))
        world.end(late[0], 5, began_at_us=START_US - 1)
        return total

    world.ledger.spent = reads_slowly  # type: ignore[method-assign]  # a ledger in the middle of whose answer a call ends
    await gate.check()
    assert late
    assert not (await stands(gate)).is_confirmed
    world.ledger.spent = read  # type: ignore[method-assign]  # as before
    await gate.check()
    assert (await stands(gate)).is_confirmed
    assert await money(gate) == (15, 0)


async def test_many_sums_are_made_certain_one_after_the_other_and_none_before_its_time(world: World):
    keys = [Principal(key=f"k{number}", budgets=(budget(10, Scope("key", f"k{number}")),)) for number in range(250)]
    gate = await world.gate()
    running = None
    for number, key in enumerate(keys):
        hold = await gate.admit(world.ask(1, principal=key))
        if number == 200:
            running = hold
        else:
            hold.settle(cost_nano=1, input_tokens=None, output_tokens=None)
        world.bench.advance(0.001)
    await gate.check()
    names = [f"key:k{number}/total/ever" for number in range(250)]
    assert [state.is_confirmed for state in await gate._counters.purses(names)] == [True] * 201 + [False] * 49
    assert running is not None
    running.settle(cost_nano=1, input_tokens=None, output_tokens=None)
    await gate.check()
    assert all(state.is_confirmed for state in await gate._counters.purses(names))


async def test_another_process_makes_certain_what_one_that_died_did_not(world: World):
    first = await world.bench.open()
    gate = await world.gate(budget(1_000), counters=first)
    hold = await gate.admit(world.ask(10))
    world.end(hold, 10)
    await world.bench.kill(first)
    world.bench.advance(1)
    other = await world.gate(budget(1_000))
    world.end(await other.admit(world.ask(10)), 10)
    assert not (await stands(other)).is_confirmed
    await other.check()
    assert (await stands(other)).is_confirmed
    assert await money(other) == (20, 0)


async def test_a_purse_that_was_met_by_failing_over_is_made_certain_too(world: World):
    lab, den = budget(1_000, Scope("provider", "lab")), budget(1_000, Scope("provider", "den"))
    first = await world.bench.open()
    gate = await world.gate(lab, den, counters=first)
    await gate.admit(world.ask(10, target="den/m"))
    await world.bench.kill(first)
    other = await world.gate(lab, den)
    (orphan,) = await other._counters.orphans()
    await other._counters.settle(orphan.id, cost_nano=0, tokens=None)
    hold = await other.admit(world.ask(10, name="moves"))
    await hold.extend(world.ask(10, name="moves", target="den/m"))
    await other.check()
    assert (await stands(other, "provider:den/total/ever")).is_confirmed


async def test_a_check_of_a_store_that_is_away_raises_nothing(world: World):
    store = await world.bench.open()
    gate = await world.gate(budget(1_000), counters=store)
    await gate.admit(world.ask(10))
    await world.bench.kill(store)
    await gate.check()
    with pytest.raises(StoreUnavailable):
        await gate.admit(world.ask(10))


async def test_a_purse_that_was_forgotten_while_a_call_waited_is_told_of_again(world: World):
    """A neighbour died in the middle of counting, say, and this call is failing over."""
    gate = await world.gate(budget(1_000))
    world.end(await gate.admit(world.ask(300)), 300)
    world.bench.advance(1)
    await gate._counters.forget(["global/total/ever"])
    hold = await gate.admit(world.ask(10, began_at_us=START_US - 2_000_000))
    assert await money(gate) == (300, 10)
    await hold.extend(world.ask(20, name=hold.id, began_at_us=START_US - 2_000_000))
    world.end(hold, 7, began_at_us=START_US - 2_000_000)
    assert await money(gate) == (307, 0)
    world.bench.advance(1)
    await gate.check()
    assert await money(gate) == (307, 0)


async def test_a_call_that_took_minutes_tells_a_forgotten_purse_of_all_that_ended_meanwhile(world: World):
    """Providers may be silent for two minutes before a call moves on to the next."""
    gate = await world.gate(budget(1_000, LAB), budget(1_000))
    old = await gate.admit(world.ask(10, name="old"))
    world.bench.advance(60)
    world.end(await gate.admit(world.ask(300)), 300)
    world.bench.advance(90)
    await gate._counters.forget(["global/total/ever"])
    await old.extend(world.ask(20, name="old", target="den/m", began_at_us=START_US))
    assert await money(gate) == (300, 30)


async def test_a_call_of_the_hour_before_is_not_charged_with_what_this_hour_spent(world: World):
    gate = await world.gate(budget(1_000, period="hour"))
    world.bench.advance(3_600)
    world.row(900, at=START_US + 3_600_000_000)
    world.bench.advance(1)
    await gate.admit(world.ask(500, began_at_us=START_US))
    assert (await money(gate, f"global/hour/{window('hour', START_US).label}")) == (0, 500)
    await gate.check()
    assert (await money(gate, f"global/hour/{window('hour', START_US).label}")) == (0, 500)


async def test_a_sum_from_before_a_purse_was_forgotten_does_not_make_it_certain(world: World):
    """The purse had been uncertain for minutes, and was forgotten while its old sum was read."""
    gate = await world.gate(budget(1_000))
    await gate.admit(world.ask(0))
    world.ledger.is_complete = False
    world.bench.advance(120)
    world.end(await gate.admit(world.ask(300)), 300)
    world.ledger.is_complete = True
    read = world.ledger.spent

    async def is_overtaken(scope: Scope, from_us: int, before_us: int) -> int:
        total = await read(scope, from_us, before_us)
        world.bench.advance(1)
        await gate._counters.forget(["global/total/ever"])
        return total

    for hold in [*gate._counters._flights.by_id]:  # type: ignore[attr-defined]  # the call that the purse was told for has ended
        await gate._counters.settle(hold, cost_nano=0, tokens=None)
    world.ledger.spent = is_overtaken  # type: ignore[method-assign]  # a ledger in the middle of whose answer it is forgotten
    await gate.check()
    world.ledger.spent = read  # type: ignore[method-assign]  # as before
    await gate.admit(world.ask(0))
    assert (await money(gate))[0] == 300


class Forgetful(SharedCounters):
    """A store that forgets at once what it is told."""

    placed = 0

    async def place(self, claim: Claim, *, extends: bool = False) -> Answer:
        del extends
        self.placed += 1
        return Unseeded(claim.parts.purses)


async def test_a_store_that_forgets_for_ever_is_given_up(world: World):
    store = Forgetful.open(world.bench.folder, processes=2, meters=4_096, purses=512)
    gate = await world.gate(budget(1_000), counters=store)
    with pytest.raises(StoreUnavailable, match="cannot be checked"):
        await gate.admit(world.ask(1))
    assert store.placed == MAX_SEEDINGS + 1
    await store.aclose()


# ------------------------------------------------------------------------------------------------------------ one's turn

SLOW = LimitSettings(overall=RateSettings(requests_per_minute=2))


async def test_who_comes_too_often_is_told_when_to_come_again(world: World):
    gate = await world.gate(limits=SLOW)
    for remaining in (1, 0):
        hold = await gate.admit(world.ask())
        assert [(q.counts, q.limit, q.remaining) for q in hold.quotas] == [("requests", 2, remaining)]
    with pytest.raises(RateLimited) as refused:
        await gate.admit(world.ask())
    error = refused.value
    assert (error.limit, error.retry_after_seconds, error.http_status) == ("requests/global", 30.0, 429)
    assert [(q.counts, q.limit, q.remaining, q.reset_seconds) for q in error.quotas] == [("requests", 2, 0, 60.0)]
    assert "2 requests a minute" in error.message
    world.bench.advance(30)
    await gate.admit(world.ask())


async def test_the_tightest_rate_of_each_kind_is_shown(world: World):
    limits = LimitSettings(
        overall=RateSettings(requests_per_minute=50, tokens_per_minute=1_000),
        per_key=RateSettings(requests_per_minute=3, tokens_per_minute=9_000),
    )
    gate = await world.gate(limits=limits)
    hold = await gate.admit(world.ask(tokens=400))
    assert [(q.counts, q.limit, q.remaining) for q in hold.quotas] == [("requests", 3, 2), ("tokens", 1_000, 600)]


async def test_tokens_are_taken_as_estimated_and_corrected_to_what_was_used(world: World):
    gate = await world.gate(limits=LimitSettings(overall=RateSettings(tokens_per_minute=1_000)))
    hold = await gate.admit(world.ask(tokens=900))
    with pytest.raises(RateLimited, match="tokens/global"):
        await gate.admit(world.ask(tokens=500))
    hold.settle(cost_nano=0, input_tokens=100, output_tokens=50)
    assert (await gate.admit(world.ask(tokens=500))).quotas[0].remaining == 350
    unknown = await gate.admit(world.ask(tokens=350))
    unknown.settle(cost_nano=None, input_tokens=None, output_tokens=None)
    with pytest.raises(RateLimited):
        await gate.admit(world.ask(tokens=1))


async def test_a_call_may_wait_for_its_turn_and_goes_when_it_comes(world: World):
    gate = await world.gate(limits=SLOW, patience=Patience(max_wait_seconds=40.0))
    await gate.admit(world.ask())
    at_once = await gate.admit(world.ask())
    assert at_once.waited_seconds == 0.0
    hold = await gate.admit(world.ask())
    assert world.slept == [30.0]
    assert hold.waited_seconds == 30.0


async def test_who_would_wait_too_long_is_refused_at_once(world: World):
    gate = await world.gate(limits=SLOW, patience=Patience(max_wait_seconds=29.0))
    for _ in range(2):
        await gate.admit(world.ask())
    with pytest.raises(RateLimited):
        await gate.admit(world.ask())
    assert world.slept == []


async def test_no_more_wait_than_may(world: World):
    gate = await world.gate(limits=SLOW, patience=Patience(max_wait_seconds=90.0, max_waiting=1))
    go = asyncio.Event()

    async def sleep(seconds: float) -> None:
        await go.wait()
        world.bench.advance(seconds)

    gate._sleep = sleep
    for _ in range(2):
        await gate.admit(world.ask())
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        waiting = group.create_task(gate.admit(world.ask()))
        await asyncio.sleep(0)
        for _ in range(2):
            with pytest.raises(RateLimited, match="requests/global"):
                await gate.admit(world.ask())
        go.set()
    assert waiting.result().waited_seconds == 30.0
    assert gate._waiting == 0


async def test_a_call_waits_for_a_seat_until_one_is_free(world: World):
    limits = LimitSettings(per_key=RateSettings(concurrent=1))
    gate = await world.gate(limits=limits, patience=Patience(max_wait_seconds=10.0))
    first = await gate.admit(world.ask())

    def leaves() -> None:
        if len(world.slept) == 4:
            first.settle(cost_nano=0, input_tokens=None, output_tokens=None)

    world.while_sleeping = leaves
    hold = await gate.admit(world.ask())
    assert len(world.slept) == 4
    assert hold.quotas == ()


async def test_who_finds_no_seat_in_time_is_refused(world: World):
    limits = LimitSettings(per_key=RateSettings(concurrent=1))
    gate = await world.gate(limits=limits, patience=Patience(max_wait_seconds=1.0))
    await gate.admit(world.ask())
    with pytest.raises(RateLimited, match="1 calls at a time") as refused:
        await gate.admit(world.ask())
    assert (refused.value.limit, refused.value.retry_after_seconds) == ("concurrent/key:dev", SEAT_RETRY_SECONDS)
    assert sum(world.slept) <= 1.0 + 1e-9


async def test_a_caller_who_leaves_the_queue_has_taken_nothing(world: World):
    gate = await world.gate(limits=SLOW, patience=Patience(max_wait_seconds=90.0))
    for _ in range(2):
        await gate.admit(world.ask())
    asleep = asyncio.Event()

    async def sleep(_seconds: float) -> None:
        asleep.set()
        await asyncio.Event().wait()

    gate._sleep = sleep
    async with asyncio.TaskGroup() as group:
        task = group.create_task(gate.admit(world.ask()))
        await asleep.wait()
        task.cancel()
    assert task.cancelled()
    assert gate._waiting == 0
    world.bench.advance(30)
    await gate.admit(world.ask())


# ------------------------------------------------------------------------------------------------------------ alerts


async def test_each_fraction_is_told_once_however_many_workers_settle(world: World):
    watched = budget(1_000, alert_at=(0.5, 0.8, 1.0))
    gates = [await world.gate(watched) for _ in range(3)]
    holds = [await gates[n % 3].admit(world.ask(50)) for n in range(20)]
    for hold in holds:
        world.end(hold, 50)
    assert world.crossings == [("global/total", 0.5, 500), ("global/total", 0.8, 800), ("global/total", 1.0, 1_000)]


async def test_one_call_may_cross_several_fractions(world: World):
    gate = await world.gate(budget(100, alert_at=(0.5, 0.9), is_hard=False))
    world.end(await gate.admit(world.ask(0)), 95)
    assert [fraction for _, fraction, _ in world.crossings] == [0.5, 0.9]


async def test_what_was_crossed_before_this_process_began_is_not_told_again(world: World):
    world.row(600)
    gate = await world.gate(budget(1_000, alert_at=(0.5, 0.9)))
    world.end(await gate.admit(world.ask(100)), 100)
    assert world.crossings == []


async def test_a_soft_budget_tells_when_it_is_used_up_though_nobody_asked_for_it(world: World):
    gate = await world.gate(budget(100, is_hard=False))
    world.end(await gate.admit(world.ask(0)), 99)
    assert world.crossings == []
    world.end(await gate.admit(world.ask(0)), 1)
    assert world.crossings == [("global/total", 1.0, 100)]


async def test_a_new_window_is_told_of_anew(world: World):
    gate = await world.gate(budget(100, period="hour", alert_at=(0.5,)))
    for _ in range(2):
        world.end(await gate.admit(world.ask(60)), 60)
        world.bench.advance(3_600)
    assert [spent for _, _, spent in world.crossings] == [60, 60]


# ---------------------------------------------------------------------------------------------------------- failover

BOTH = LimitSettings(
    overall=RateSettings(requests_per_minute=10, concurrent=5),
    per_ip=RateSettings(requests_per_minute=10, concurrent=5),
    scopes=(
        ScopedRates(scope=Scope("provider", "lab"), rates=RateSettings(requests_per_minute=10, concurrent=5)),
        ScopedRates(scope=Scope("provider", "den"), rates=RateSettings(requests_per_minute=1, concurrent=5)),
    ),
)


async def test_another_candidate_is_held_for_beside_the_first_and_takes_no_second_turn(world: World):
    gate = await world.gate(budget(1_000), budget(1_000, LAB), budget(1_000, DEN), limits=BOTH)
    hold = await gate.admit(world.ask(100, name="moves", address="192.0.2.1"))
    await hold.extend(world.ask(30, name="moves", address="192.0.2.1", target="den/m"))
    assert await money(gate) == (0, 130)
    assert await money(gate, "provider:lab/total/ever") == (0, 100)
    assert await money(gate, "provider:den/total/ever") == (0, 30)
    assert hold.held_nano == 130
    assert hold.quotas[0].remaining == 9
    after = await gate.admit(world.ask(1, address="192.0.2.1"))
    assert after.quotas[0].remaining == 8, "one turn a call, not one a candidate"
    after.settle(cost_nano=0, input_tokens=None, output_tokens=None)
    hold.settle(cost_nano=25, input_tokens=None, output_tokens=None)
    assert await money(gate) == (25, 0)
    assert await money(gate, "provider:den/total/ever") == (25, 0)
    with pytest.raises(RateLimited, match="requests/provider:den"):
        await gate.admit(world.ask(1, target="den/m"))


async def test_a_candidate_that_cannot_be_held_for_leaves_what_stands(world: World):
    gate = await world.gate(budget(1_000), budget(20, DEN), limits=BOTH)
    hold = await gate.admit(world.ask(100, name="moves"))
    with pytest.raises(BudgetExceeded, match="provider:den/total"):
        await hold.extend(world.ask(30, name="moves", target="den/m"))
    assert await money(gate) == (0, 100)
    assert hold.held_nano == 100
    hold.settle(cost_nano=40, input_tokens=None, output_tokens=None)
    assert await money(gate) == (40, 0)


async def test_what_the_second_candidate_costs_is_watched_in_its_own_budget(world: World):
    gate = await world.gate(budget(50, DEN, alert_at=(0.5,)), limits=BOTH)
    hold = await gate.admit(world.ask(10, name="moves"))
    await hold.extend(world.ask(30, name="moves", target="den/m"))
    hold.settle(cost_nano=30, input_tokens=None, output_tokens=None)
    assert world.crossings == [("provider:den/total", 0.5, 30)]


async def test_an_asked_for_weight_is_not_asked_for_without_need(world: World):
    gate = await world.gate(limits=SLOW)

    def weigh() -> Weight:
        raise AssertionError("nobody wants to know")

    await gate.admit(msgspec.structs.replace(world.ask(), weigh=weigh))
