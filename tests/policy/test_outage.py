"""Counting goes on while the shared store is away, within what is stated, and what was counted comes home."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest

from support.counters_contract import (
    DAY,
    DESK,
    MONTH,
    SOFT,
    START_US,
    CountersContract,
    claim,
    minute,
    money,
    seeded,
    tokens,
)
from support.shared_counters import SharedBench
from tollhouse.config.schema import StateSettings
from tollhouse.errors import StoreUnavailable
from tollhouse.policy.counters import (
    Answer,
    Claim,
    Counters,
    Orphan,
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
from tollhouse.policy.outage import OutlivingCounters

SOON = 10.0
ALLOWANCE = 30


class Severable:
    """A shared store and the line to it, which can be cut."""

    def __init__(self, store: Counters) -> None:
        self._store = store
        self.is_cut = False
        self.asked = 0
        """How often anything but a probe was tried."""
        self.forgotten: list[str] = []
        self.gate = asyncio.Event()
        """Endings wait for it."""
        self.gate.set()

    def _try(self) -> None:
        self.asked += 1
        if self.is_cut:
            raise StoreUnavailable("the line is cut")

    async def place(self, claim: Claim, *, extends: bool = False) -> Answer:
        self._try()
        return await self._store.place(claim, extends=extends)

    async def settle(self, claim_id: str, *, cost_nano: int, tokens: int | None) -> Sequence[Spending]:
        await self.gate.wait()
        self._try()
        return await self._store.settle(claim_id, cost_nano=cost_nano, tokens=tokens)

    async def release(self, claim_id: str) -> None:
        await self.gate.wait()
        self._try()
        await self._store.release(claim_id)

    async def seed(self, purse: Purse, *, spent_nano: int, before_us: int, is_confirmed: bool = False) -> int:
        self._try()
        return await self._store.seed(purse, spent_nano=spent_nano, before_us=before_us, is_confirmed=is_confirmed)

    async def forget(self, names: Sequence[str]) -> None:
        self._try()
        self.forgotten += names
        await self._store.forget(names)

    async def is_settled_before(self, moment_us: int) -> bool:
        self._try()
        return await self._store.is_settled_before(moment_us)

    async def orphans(self, at_most: int = 100) -> Sequence[Orphan]:
        self._try()
        return await self._store.orphans(at_most)

    async def purses(self, names: Sequence[str]) -> Sequence[PurseState]:
        if names:
            self._try()
        elif self.is_cut:
            raise StoreUnavailable("the line is cut")
        return await self._store.purses(names)

    async def aclose(self) -> None:
        await self._store.aclose()


class Machines:
    """Two folders: one stands for the store that all machines share, one is this machine's."""

    def __init__(self, folder: Path) -> None:
        self._shared, self._here = SharedBench(folder / "shared"), SharedBench(folder / "here")
        self.is_ledger_complete = True
        self._opened: list[OutlivingCounters] = []

    async def worker(
        self, *, when_lost: str = "open", probe_seconds: float = 0.01
    ) -> tuple[OutlivingCounters, Severable]:
        line = Severable(await self._shared.open())
        assert when_lost in {"open", "closed"}
        settings = StateSettings(
            url="redis://shared",
            when_lost="closed" if when_lost == "closed" else "open",
            budget_allowance_nano=ALLOWANCE,
        )
        counters = OutlivingCounters.start(
            line,
            await self._here.open(),
            settings,
            is_ledger_complete=lambda: self.is_ledger_complete,
            probe_seconds=probe_seconds,
            now=lambda: START_US / 1e6,
        )
        self._opened.append(counters)
        return counters, line

    async def open(self) -> Counters:
        return (await self.worker())[0]

    async def shared(self) -> Counters:
        """What another machine sees."""
        return await self._shared.open()

    async def kill(self, counters: Counters) -> None:
        await counters.aclose()

    def advance(self, seconds: float) -> None:
        self._shared.advance(seconds)
        self._here.advance(seconds)

    async def aclose(self) -> None:
        for counters in self._opened:
            await counters.aclose()
        await self._shared.aclose()
        await self._here.aclose()


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Machines]:
    machines = Machines(tmp_path)
    try:
        yield machines
    finally:
        await machines.aclose()


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(SOON):
        while not is_so():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.002)


async def lose(counters: OutlivingCounters, line: Severable) -> None:
    line.is_cut = True
    await until(lambda: counters.state().status == "lost")


async def find(counters: OutlivingCounters, line: Severable) -> None:
    line.is_cut = False
    await until(lambda: counters.state().status == "ok")


async def seen(counters: OutlivingCounters, purse: Purse) -> None:
    """Returns when the watch has looked at the purse."""
    await until(lambda: counters._known[purse.name].is_seen)


class TestOutlivingCounters(CountersContract):
    """While the shared store is there, everything is as if it were asked directly."""


# -------------------------------------------------------------------------------------------------- rates and seats


async def test_a_lost_store_switches_to_this_machine_within_the_call_that_met_it(bench: Machines):
    counters, line = await bench.worker(probe_seconds=60)
    assert isinstance(await counters.place(claim("a", minute("r", 2))), Placed)
    line.is_cut = True
    assert isinstance(await counters.place(claim("b", minute("r", 2))), Placed)
    state = counters.state()
    assert (state.status, state.since_us, state.reason) == ("lost", START_US, "the line is cut")


async def test_while_lost_no_call_asks_the_shared_store(bench: Machines):
    counters, line = await bench.worker()
    await lose(counters, line)
    asked = line.asked
    for i in range(20):
        await counters.place(claim(f"c{i}", DESK, DAY))
        await counters.settle(f"c{i}", cost_nano=1, tokens=None)
        await counters.seed(MONTH, spent_nano=1, before_us=START_US)
        await counters.forget([SOFT.name])
        await counters.is_settled_before(START_US)
        with pytest.raises(StoreUnavailable):
            await counters.purses([DAY.name])  # which was never seen
        await counters.orphans()
    assert line.asked == asked


async def test_open_limits_count_on_this_machine_alone(bench: Machines):
    one, first_line = await bench.worker()
    two, second_line = await bench.worker()
    await one.place(claim("before", minute("r", 2), Seats("s", 1)))
    await lose(one, first_line)
    await lose(two, second_line)
    answers = [await worker.place(claim(f"c{i}", minute("r", 2))) for i, worker in enumerate([one, two, one])]
    assert [type(answer) for answer in answers] == [Placed, Placed, RateFull]
    assert isinstance(await one.place(claim("s1", Seats("s", 1))), Placed)
    assert await two.place(claim("s2", Seats("s", 1))) == SeatsTaken(Seats("s", 1))


async def test_closed_limits_refuse(bench: Machines):
    counters, line = await bench.worker(when_lost="closed")
    await lose(counters, line)
    for part in (minute("r", 2), DESK):
        with pytest.raises(StoreUnavailable, match="the line is cut") as refused:
            await counters.place(claim("a", part))
        assert refused.value.http_status == 503
    assert isinstance(await counters.place(claim("b")), Placed), "what nothing limits goes on"
    assert isinstance(await counters.place(claim("c", DAY, hold=ALLOWANCE)), Placed), "and budgets have their allowance"


# ----------------------------------------------------------------------------------------------------------- purses


async def test_a_budget_never_seen_has_its_allowance(bench: Machines):
    counters, line = await bench.worker()
    await lose(counters, line)
    assert isinstance(await counters.place(claim("a", DAY, hold=20)), Placed)
    refused = await counters.place(claim("b", DAY, hold=11))
    assert refused == PurseEmpty(DAY, spent_nano=100 - ALLOWANCE, held_nano=20, is_allowance=True)
    await counters.settle("a", cost_nano=12, tokens=None)
    assert isinstance(await counters.place(claim("b", DAY, hold=18)), Placed)
    assert isinstance(await counters.place(claim("c", DAY, hold=1)), PurseEmpty)


async def test_a_limit_below_the_allowance_stays_the_limit(bench: Machines):
    counters, line = await bench.worker()
    await lose(counters, line)
    small = Purse("small", 10)
    assert await counters.place(claim("a", small, hold=11)) == PurseEmpty(
        small, spent_nano=0, held_nano=0, is_allowance=True
    )
    assert isinstance(await counters.place(claim("a", small, hold=10)), Placed)


async def test_no_more_is_spent_than_was_left_when_last_seen(bench: Machines):
    counters, line = await bench.worker()
    await seeded(counters, DAY, spent=60)
    await counters.place(claim("held", DAY, hold=25))
    await counters.place(claim("spent", DAY, hold=10))
    await counters.settle("spent", cost_nano=5, tokens=None)
    await until(lambda: counters._known[DAY.name].held_nano == 25 and counters._known[DAY.name].spent_nano == 65)
    await lose(counters, line)
    refused = await counters.place(claim("a", DAY, hold=11))
    assert refused == PurseEmpty(DAY, spent_nano=90, held_nano=0, is_allowance=True), (
        "10 of 100 are left to this machine"
    )
    assert isinstance(await counters.place(claim("a", DAY, hold=10)), Placed)


async def test_what_other_machines_spend_is_seen_too(bench: Machines):
    counters, line = await bench.worker()
    other = await bench.shared()
    await seeded(counters, DAY)
    await counters.place(claim("a", DAY, hold=1))
    await seen(counters, DAY)
    await other.place(claim("theirs", DAY, hold=90))
    await until(lambda: counters._known[DAY.name].held_nano == 91)
    await lose(counters, line)
    assert isinstance(await counters.place(claim("b", DAY, hold=10)), PurseEmpty)
    assert isinstance(await counters.place(claim("b", DAY, hold=9)), Placed)


async def test_the_workers_of_a_machine_share_its_allowance(bench: Machines):
    one, first_line = await bench.worker()
    two, second_line = await bench.worker()
    await lose(one, first_line)
    await lose(two, second_line)
    answers = [await worker.place(claim(f"c{i}", DAY, hold=10)) for i, worker in enumerate([one, two, one, two])]
    assert [type(answer) for answer in answers] == [Placed, Placed, Placed, PurseEmpty]


async def test_each_outage_has_an_allowance_of_its_own(bench: Machines):
    counters, line = await bench.worker()
    for outage in range(2):
        await lose(counters, line)
        assert isinstance(await counters.place(claim(f"a{outage}", DAY, hold=ALLOWANCE)), Placed)
        assert isinstance(await counters.place(claim(f"b{outage}", DAY, hold=1)), PurseEmpty)
        await counters.settle(f"a{outage}", cost_nano=ALLOWANCE, tokens=None)
        await find(counters, line)
        await until(lambda: counters.state().unsure_purses == 0)


async def test_a_soft_budget_goes_on_counting(bench: Machines):
    counters, line = await bench.worker()
    await seeded(counters, SOFT, spent=500)
    await counters.place(claim("a", SOFT, hold=1))
    await seen(counters, SOFT)
    await lose(counters, line)
    assert isinstance(await counters.place(claim("b", SOFT, hold=10_000)), Placed)
    [held] = await counters.purses([SOFT.name])
    assert (held.spent_nano, held.held_nano, held.is_confirmed) == (500, 10_001, False)
    assert await counters.settle("b", cost_nano=7, tokens=None) == [Spending(SOFT.name, 500, 507)]


async def test_what_the_ledger_says_while_the_store_is_lost_limits_this_machine(bench: Machines):
    counters, line = await bench.worker()
    assert await counters.place(claim("a", DAY, hold=5)) == Unseeded((DAY,))
    line.is_cut = True
    assert await counters.seed(DAY, spent_nano=96, before_us=START_US) == START_US
    assert isinstance(await counters.place(claim("a", DAY, hold=5)), PurseEmpty)
    assert isinstance(await counters.place(claim("a", DAY, hold=4)), Placed)


async def test_nobody_can_say_that_all_is_settled_while_the_store_is_lost(bench: Machines):
    counters, line = await bench.worker()
    assert await counters.is_settled_before(START_US + 5)
    await lose(counters, line)
    assert not await counters.is_settled_before(START_US + 5)


# ------------------------------------------------------------------------------------------------- ending, and back


async def test_a_claim_placed_before_the_outage_is_settled_there_after_it_once(bench: Machines):
    counters, line = await bench.worker()
    other = await bench.shared()
    await seeded(counters, DAY, MONTH)
    await counters.place(claim("a", DESK, DAY, tokens("t", 100, 80), hold=50))
    await counters.place(claim("b", DESK, MONTH, hold=50))
    await lose(counters, line)
    assert list(await counters.settle("a", cost_nano=20, tokens=30)) == []
    await counters.release("b")
    await counters.settle("a", cost_nano=20, tokens=30)
    assert await money(other, DAY) == (0, 50)
    assert counters.state().owed_endings == 2
    await find(counters, line)
    assert counters.state().owed_endings == 0
    assert await other.is_settled_before(START_US + 1)
    assert isinstance(await other.place(claim("s", DESK)), Placed)
    answer = await other.place(claim("t", tokens("t", 100, 70)))
    assert isinstance(answer, Placed)
    assert await other.place(claim("d", DAY, MONTH)) == Unseeded((DAY, MONTH)), "the ledger knows what they spent"


async def test_the_ending_that_meets_the_outage_is_not_lost(bench: Machines):
    counters, line = await bench.worker(probe_seconds=0.05)
    await counters.place(claim("a", DESK))
    line.is_cut = True
    assert list(await counters.settle("a", cost_nano=1, tokens=None)) == []
    await find(counters, line)
    assert await counters.is_settled_before(START_US + 1)


async def test_an_ending_whose_caller_left_is_paid_all_the_same(bench: Machines):
    counters, line = await bench.worker()
    await counters.place(claim("a", DESK))
    line.gate.clear()
    task = asyncio.get_running_loop().create_task(counters.release("a"))
    await until(lambda: counters._paying == {"a"})
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    line.gate.set()
    await until(lambda: counters.state().owed_endings == 0)
    assert await counters.is_settled_before(START_US + 1)


async def test_purses_touched_in_an_outage_are_read_from_the_ledger_again(bench: Machines):
    counters, line = await bench.worker()
    await seeded(counters, DAY, MONTH)
    await lose(counters, line)
    await counters.place(claim("a", DAY, hold=10))
    await counters.settle("a", cost_nano=10, tokens=None)
    await find(counters, line)
    assert await counters.place(claim("b", DAY, MONTH)) == Unseeded((DAY,))
    assert counters.state().unsure_purses == 0


async def test_a_call_that_outlasts_the_outage_makes_its_purses_unsure_until_it_ends(bench: Machines):
    counters, line = await bench.worker()
    await seeded(counters, DAY)
    await lose(counters, line)
    await counters.place(claim("long", DAY, DESK, hold=10))
    await find(counters, line)
    await seeded(counters, DAY)
    assert isinstance(await counters.place(claim("b", DAY)), Placed), "not forgotten while it runs"
    assert counters.state().unsure_purses == 1
    assert await counters.settle("long", cost_nano=7, tokens=None) == [Spending(DAY.name, 0, 7)]
    await until(lambda: counters.state().unsure_purses == 0)
    assert await counters.place(claim("c", DAY)) == Unseeded((DAY,))


async def test_purses_are_read_once_more_when_the_ledger_is_complete(bench: Machines):
    counters, line = await bench.worker()
    bench.is_ledger_complete = False
    await lose(counters, line)
    await counters.place(claim("a", DAY, hold=10))
    await counters.settle("a", cost_nano=10, tokens=None)
    await find(counters, line)
    await seeded(counters, DAY)
    line.forgotten.clear()
    assert isinstance(await counters.place(claim("b", DAY)), Placed)
    bench.is_ledger_complete = True
    await until(lambda: counters.state().unsure_purses == 0)
    assert line.forgotten == [DAY.name]


async def test_what_is_to_be_forgotten_in_an_outage_is_forgotten_after_it(bench: Machines):
    counters, line = await bench.worker()
    await seeded(counters, DAY)
    await lose(counters, line)
    await counters.forget([DAY.name])
    await find(counters, line)
    assert list(await counters.purses([DAY.name])) == []


@pytest.mark.parametrize("begins_lost", [True, False], ids=["lost-then-back", "there-then-lost"])
async def test_a_call_that_is_extended_elsewhere_ends_in_both_stores(bench: Machines, begins_lost: bool):
    counters, line = await bench.worker()
    other = await bench.shared()
    await seeded(counters, DAY, MONTH)
    if begins_lost:
        await lose(counters, line)
    assert isinstance(await counters.place(claim("a", DAY, DESK, hold=10)), Placed)
    if begins_lost:
        await find(counters, line)
        await seeded(counters, DAY)
    else:
        await lose(counters, line)
    assert isinstance(await counters.place(claim("a", MONTH, Seats("more", 1), hold=10), extends=True), Placed)
    await counters.settle("a", cost_nano=5, tokens=None)
    if not begins_lost:
        await find(counters, line)
    await until(lambda: counters.state().unsure_purses == 0 and counters.state().owed_endings == 0)
    assert await other.is_settled_before(START_US + 1)
    assert [type(await other.place(claim(n, Seats("more", 1)))) for n in "xy"] == [Placed, SeatsTaken]
    await lose(counters, line)
    answers = [await counters.place(claim(n, DESK)) for n in "uvw"]
    assert [type(answer) for answer in answers] == [Placed, Placed, SeatsTaken]


async def test_orphans_of_both_stores_are_handed_out_and_end_where_they_stand(bench: Machines):
    dead, dead_line = await bench.worker()
    counters, _ = await bench.worker()
    await seeded(dead, DAY)
    await dead.place(claim("there", Seats("one", 1), hold=3, note=b"n"))
    await lose(dead, dead_line)
    await dead.place(claim("here", DAY, Seats("two", 1), hold=4))
    await bench.kill(dead)
    found = sorted(await counters.orphans(), key=lambda orphan: orphan.id)
    assert found == [Orphan("here", START_US, 4, b""), Orphan("there", START_US, 3, b"n")]
    for orphan in found:
        await counters.settle(orphan.id, cost_nano=1, tokens=None)
    assert isinstance(await counters.place(claim("x", Seats("one", 1))), Placed)
    await until(lambda: counters.state().unsure_purses == 0)
    assert await counters.place(claim("y", DAY)) == Unseeded((DAY,)), (
        "what the dead worker let through is in the ledger"
    )
