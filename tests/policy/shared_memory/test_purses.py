"""Budgets: whose sum is taken when, and how long they are kept."""

from pathlib import Path

import pytest

from support.counters_contract import (
    DAY,
    START_US,
    claim,
    money,
    seeded,
    state,
)
from support.shared_counters import SharedBench
from tollhouse.errors import StoreUnavailable
from tollhouse.policy.counters import (
    Purse,
    Unseeded,
)

HOUR = 3_600


async def test_a_sum_that_was_read_before_the_mess_is_not_taken(bench: SharedBench):
    """Somebody was reading the ledger; meanwhile others seeded the purse, spent from it, and it was made unseeded again."""
    store = await bench.open()
    read_at = START_US
    bench.advance(1)
    await seeded(store, DAY, before=START_US + 1_000_000)
    await store.place(claim("a", DAY, hold=5, began=START_US + 1_000_000))
    await store.settle("a", cost_nano=5, tokens=None)
    bench.advance(1)
    await store.forget([DAY.name])

    assert await store.seed(DAY, spent_nano=0, before_us=read_at) == START_US + 2_000_000
    assert await store.place(claim("b", DAY)) == Unseeded((DAY,))
    assert await store.seed(DAY, spent_nano=5, before_us=START_US + 2_000_000) == START_US + 2_000_000
    assert await money(store, DAY) == (5, 0)


@pytest.mark.parametrize("is_over", [True, False])
async def test_a_sum_is_not_confirmed_when_an_earlier_claim_came_since_it_was_asked_for(
    bench: SharedBench, is_over: bool
):
    """Its call had waited to be let in, and the sum that was read lacks it."""
    one, two = await bench.open(), await bench.open()
    await seeded(one, DAY, spent=5, before=START_US + 100)
    assert await one.is_settled_before(START_US + 100)
    bench.advance(0.01)
    await two.place(claim("waited", DAY, hold=30, began=START_US))
    if is_over:
        await two.settle("waited", cost_nano=20, tokens=None)
    await one.seed(DAY, spent_nano=5, before_us=START_US + 100, is_confirmed=True)
    assert not (await state(one, DAY)).is_confirmed
    assert await money(one, DAY) == ((25, 0) if is_over else (5, 30))
    await two.settle("waited", cost_nano=20, tokens=None)

    bench.advance(0.01)
    assert await one.is_settled_before(START_US + 100)
    await one.seed(DAY, spent_nano=25, before_us=START_US + 100, is_confirmed=True)
    assert (await state(one, DAY)).is_confirmed
    assert await money(one, DAY) == (25, 0)


async def test_a_sum_is_not_confirmed_while_a_berth_cannot_be_read(bench: SharedBench):
    store = await bench.open()
    await seeded(store, DAY, spent=5, before=START_US)
    unreadable = bench.folder / "berth-007"
    unreadable.symlink_to(unreadable)
    with pytest.raises(StoreUnavailable, match="cannot be read"):
        await store.seed(DAY, spent_nano=5, before_us=START_US, is_confirmed=True)
    assert await money(store, DAY) == (5, 0), "nothing had to be mended"

    unreadable.unlink()
    await store.seed(DAY, spent_nano=6, before_us=START_US, is_confirmed=True)
    assert (await state(store, DAY)).is_confirmed


async def test_a_wall_clock_that_was_set_back_does_not_keep_a_purse_unseeded(bench: SharedBench):
    store = await bench.open()
    await seeded(store, DAY)
    await store.forget([DAY.name])
    back = START_US - HOUR * 1_000_000
    assert await store.seed(DAY, spent_nano=7, before_us=back) == back
    assert await money(store, DAY) == (7, 0)


async def test_ended_purses_make_room_an_hour_later_unless_something_is_held(tmp_path: Path):
    bench = SharedBench(tmp_path, purses=8)
    store = await bench.open()
    ends = START_US + 1_000_000
    purses = [Purse(f"p{i}", 100, ends) for i in range(8)]
    await seeded(store, *purses)
    await store.place(claim("a", purses[0], hold=5))
    bench.advance(HOUR)
    with pytest.raises(StoreUnavailable, match="table of 8 is full"):
        await seeded(store, Purse("new", 100))
    bench.advance(1.1)
    await seeded(store, Purse("new", 100))
    assert [found.name for found in await store.purses([p.name for p in purses])] == ["p0"]
    await store.place(claim("b", purses[0]))
    for purse in purses[1:]:
        assert await store.place(claim("c", purse)) == Unseeded((purse,))
    assert [(step.purse, step.after_nano) for step in await store.settle("a", cost_nano=5, tokens=None)] == [("p0", 5)]
    await bench.aclose()


async def test_a_purse_that_was_forgotten_under_a_claim_without_a_hold_is_left_alone(tmp_path: Path):
    bench = SharedBench(tmp_path, purses=8)
    store = await bench.open()
    ended = Purse("old", None, START_US + 1)
    await seeded(store, ended)
    await store.place(claim("a", ended))
    bench.advance(HOUR + 1)
    fresh = [Purse(f"p{i}", 100) for i in range(8)]
    await seeded(store, *fresh)
    assert await store.settle("a", cost_nano=5, tokens=None) == []
    assert [await money(store, purse) for purse in fresh] == [(0, 0)] * 8
    await bench.aclose()


async def test_the_name_of_a_purse_is_kept_whole_or_not_at_all(bench: SharedBench):
    store = await bench.open()
    longest = Purse("é" * 208, 10)
    await seeded(store, longest)
    await store.place(claim("a", longest, hold=1))
    await store.aclose()
    later = await bench.open()
    await later.orphans()
    await seeded(later, longest)
    assert [step.purse for step in await later.settle("a", cost_nano=1, tokens=None)] == [longest.name]
    with pytest.raises(ValueError, match="longer than 416 bytes"):
        await seeded(later, Purse("é" * 209, 10))
