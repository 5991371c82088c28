"""The lock, and ends that had to wait for it."""

import pytest

from support.counters_contract import (
    DAY,
    DESK,
    MONTH,
    claim,
    minute,
    money,
    seeded,
)
from support.shared_counters import SharedBench, audit, lock_taken
from tollhouse.errors import StoreUnavailable
from tollhouse.policy.counters import (
    Ending,
    Placed,
    Seats,
)

DESK_FOR_ALL = Seats("desk/all", 100)


async def test_a_lock_that_is_not_to_be_had_is_not_waited_for_longer_than_stated(bench: SharedBench):
    store = await bench.open()
    await store.place(claim("a", DESK))
    with lock_taken(bench.folder):
        with pytest.raises(StoreUnavailable, match=r"locked for 0\.2 s"):
            await store.place(claim("b", DESK))
        with pytest.raises(StoreUnavailable, match=r"locked for 0\.01 s"):
            await store.place(claim("b", DESK))
        assert isinstance(await store.place(claim("bare")), Placed), "what changes no counter needs no lock"
        await store.settle("bare", cost_nano=0, tokens=None)
    assert isinstance(await store.place(claim("b", DESK)), Placed)


async def test_an_end_that_could_not_be_written_is_written_first_thing_afterwards(bench: SharedBench):
    store = await bench.open()
    await seeded(store, DAY, MONTH)
    await store.place(claim("settled", DAY, DESK, hold=10))
    await store.place(claim("released", MONTH, DESK, minute("r", 1), hold=10))
    with lock_taken(bench.folder):
        with pytest.raises(StoreUnavailable):
            await store.settle("settled", cost_nano=7, tokens=None)
        with pytest.raises(StoreUnavailable):
            await store.release("released")
    assert isinstance(await store.place(claim("next", DESK, minute("r", 1))), Placed)
    assert [await money(store, purse) for purse in (DAY, MONTH)] == [(7, 0), (0, 0)]


async def test_an_end_that_is_tried_again_is_written_once(bench: SharedBench):
    store = await bench.open()
    await seeded(store, DAY)
    await store.place(claim("a", DAY, hold=10))
    with lock_taken(bench.folder), pytest.raises(StoreUnavailable):
        await store.settle("a", cost_nano=7, tokens=None)
    await store.settle("a", cost_nano=7, tokens=None)
    assert await money(store, DAY) == (7, 0)


async def test_a_claim_whose_end_is_owed_is_not_extended_but_placed_anew(bench: SharedBench):
    store = await bench.open()
    await seeded(store, DAY)
    await store.place(claim("a", DAY, hold=10))
    with lock_taken(bench.folder), pytest.raises(StoreUnavailable):
        await store.settle("a", cost_nano=7, tokens=None)
    await store.place(claim("a", DAY, hold=5), extends=True)
    assert await money(store, DAY) == (7, 5)
    audit(store)


async def test_ends_that_could_not_be_written_together_are_owed_each(bench: SharedBench):
    store = await bench.open()
    await seeded(store, DAY)
    for name in "ab":
        await store.place(claim(name, DAY, DESK_FOR_ALL, hold=10))
    with lock_taken(bench.folder), pytest.raises(StoreUnavailable):
        store.settle_all_now([Ending("a", 3, None), Ending("b", 4, None)])
    assert await money(store, DAY) == (7, 0)
    audit(store)
