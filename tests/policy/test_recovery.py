"""Calls whose process died: each gets one row, none stays held, and no store that is away for a while changes that."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from support.call_records import make_call
from support.counters_contract import START_US, claim, money, seeded
from support.shared_counters import SharedBench, audit
from tollhouse.errors import StoreUnavailable
from tollhouse.ledger.record import CallRecord, opening_of
from tollhouse.policy.counters import Purse, Seats
from tollhouse.policy.recovery import MAX_AT_ONCE, Recovery
from tollhouse.policy.shared_memory import SharedCounters

DAY = Purse("global/day/2026-11-21", 1_000_000)
SEATS = Seats("concurrent/global", 500)


@dataclass
class Ledger:
    """Rows by id, and what goes wrong with them."""

    rows: dict[str, CallRecord] = field(default_factory=dict)
    written: list[str] = field(default_factory=list)
    told: list[CallRecord] = field(default_factory=list)
    cannot_be_read: bool = False
    takes: int = 1_000_000
    """Rows that it takes before it is away."""

    async def costs_of(self, ids: Iterable[str]) -> Mapping[str, int]:
        if self.cannot_be_read:
            raise StoreUnavailable("The ledger is away.")
        return {name: self.rows[name].cost_nano or 0 for name in ids if name in self.rows}

    def write(self, record: CallRecord) -> "asyncio.Future[None]":
        done = asyncio.get_running_loop().create_future()
        if len(self.written) >= self.takes:
            done.set_exception(StoreUnavailable("The ledger takes no rows."))
            return done
        self.written.append(record.id)
        self.rows[record.id] = record
        done.set_result(None)
        return done


@dataclass
class Aftermath:
    """A process that died with calls under way, the one that looks after them, and the ledger."""

    bench: SharedBench
    dead: SharedCounters
    counters: SharedCounters
    ledger: Ledger
    recovery: Recovery

    async def recover(self) -> int:
        return await self.recovery.recover(self.ledger.told.append)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[SharedBench]:
    made = SharedBench(tmp_path / "counters")
    yield made
    await made.aclose()


async def aftermath(bench: SharedBench, calls: int, *, hold: int = 100, note: bytes | None = None) -> Aftermath:
    """So many calls that were under way when their process died."""
    ledger = Ledger()
    counters, dead = await bench.open(), await bench.open()
    await seeded(counters, DAY)
    for number in range(calls):
        opening = opening_of(make_call(f"req_{number}", outcome=""), 250) if note is None else note
        parts = (DAY, SEATS) if hold else (SEATS,)
        await dead.place(claim(f"req_{number}", *parts, hold=hold, note=opening))
    await bench.kill(dead)
    return Aftermath(bench, dead, counters, ledger, Recovery(counters, ledger, ledger))


async def test_each_call_that_was_under_way_gets_one_row_with_all_that_was_held(bench: SharedBench):
    after = await aftermath(bench, 3)
    assert await after.recover() == 3
    assert after.ledger.written == ["req_0", "req_1", "req_2"]
    assert after.ledger.told == list(after.ledger.rows.values())
    row = after.ledger.rows["req_0"]
    assert (row.outcome, row.cost_nano, row.usage.source, row.usage.input_tokens) == ("lost", 100, "estimated", 250)
    assert (row.key, row.tenant, row.provider, row.started_at_us) == (
        make_call("x").key,
        "acme",
        "openai",
        make_call("x").started_at_us,
    )
    assert await money(after.counters, DAY) == (300, 0)
    audit(after.counters)
    assert await after.recover() == 0


async def test_a_call_whose_row_was_written_before_the_process_died_gets_no_second_one(bench: SharedBench):
    after = await aftermath(bench, 2)
    after.ledger.rows["req_1"] = make_call("req_1", cost_nano=17)
    assert await after.recover() == 2
    assert after.ledger.written == ["req_0"]
    assert await money(after.counters, DAY) == (117, 0)


async def test_a_row_whose_cost_nobody_knows_is_a_row_all_the_same(bench: SharedBench):
    after = await aftermath(bench, 1)
    after.ledger.rows["req_0"] = make_call("req_0", cost_nano=None)
    await after.recover()
    assert after.ledger.written == []
    assert await money(after.counters, DAY) == (0, 0)


async def test_what_a_call_cost_for_which_nothing_was_held_is_not_known_and_so_not_nothing(bench: SharedBench):
    after = await aftermath(bench, 1, hold=0)
    assert await after.recover() == 1
    assert after.ledger.rows["req_0"].cost_nano is None


async def test_a_damaged_note_leaves_no_row_and_no_hold(bench: SharedBench):
    after = await aftermath(bench, 1, note=b"\xc1 what the loss of power left")
    assert await after.recover() == 1
    assert after.ledger.written == []
    assert await money(after.counters, DAY) == (100, 0)


async def test_calls_that_were_found_while_the_ledger_was_away_are_ended_when_it_is_back(bench: SharedBench):
    after = await aftermath(bench, 2)
    after.ledger.cannot_be_read = True
    for _ in range(3):
        with pytest.raises(StoreUnavailable):
            await after.recover()
    assert await money(after.counters, DAY) == (0, 200), "held until it is known what became of them"
    after.ledger.cannot_be_read = False
    assert await after.recover() == 2
    assert await money(after.counters, DAY) == (200, 0)
    assert after.ledger.written == ["req_0", "req_1"]


async def test_a_row_that_could_not_be_written_is_written_later_and_those_before_it_not_again(bench: SharedBench):
    after = await aftermath(bench, 3)
    after.ledger.takes = 1
    with pytest.raises(StoreUnavailable):
        await after.recover()
    assert await money(after.counters, DAY) == (100, 200)
    after.ledger.takes = 3
    assert await after.recover() == 2
    assert after.ledger.written == ["req_0", "req_1", "req_2"]
    assert await money(after.counters, DAY) == (300, 0)


async def test_who_dies_between_the_row_and_the_hold_leaves_both_to_the_next_who_writes_no_second_row(
    bench: SharedBench,
):
    after = await aftermath(bench, 2)

    class DiesThen(Ledger):
        def write(self, record: CallRecord) -> "asyncio.Future[None]":
            done = super().write(record)
            after.counters._turn.is_closed = True  # the next thing that it does, it does no more
            return done

    ledger = DiesThen()
    with pytest.raises(StoreUnavailable):
        await Recovery(after.counters, ledger, ledger).recover(ledger.told.append)
    after.counters._turn.is_closed = False
    await bench.kill(after.counters)
    heir = await bench.open()
    bench.advance(1)
    await seeded(heir, DAY, before=START_US + 1)
    survivor = Ledger(rows=ledger.rows)
    assert await Recovery(heir, survivor, survivor).recover(survivor.told.append) == 2
    assert survivor.written == ["req_1"]
    assert await money(heir, DAY) == (200, 0)
    audit(heir)


async def test_more_calls_than_are_asked_for_at_once_are_all_ended(bench: SharedBench):
    after = await aftermath(bench, MAX_AT_ONCE + 30)
    assert await after.recover() == MAX_AT_ONCE + 30
    assert await money(after.counters, DAY) == (100 * (MAX_AT_ONCE + 30), 0)


async def test_of_two_neighbours_only_one_writes_a_row(bench: SharedBench):
    after = await aftermath(bench, 5)
    neighbour = await bench.open()
    other = Recovery(neighbour, after.ledger, after.ledger)
    ended = [await after.recover(), await other.recover(after.ledger.told.append)]
    assert sorted(ended) == [0, 5]
    assert len(after.ledger.written) == 5
