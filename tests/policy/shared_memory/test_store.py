"""Counters in shared memory: the contract, kept by both ways of counting, and what closing does."""

from pathlib import Path

import pytest

from support.counters_contract import (
    DAY,
    DESK,
    START_US,
    CountersContract,
    claim,
)
from support.shared_counters import SharedBench
from tollhouse.errors import StoreUnavailable
from tollhouse.policy.counters import (
    Placed,
)
from tollhouse.policy.shared_memory import SharedCounters


class TestSharedCounters(CountersContract):
    """All of the contract."""


async def test_closed_counters_say_so(bench: SharedBench):
    store = await bench.open()
    await store.place(claim("a", DESK))
    await store.aclose()
    await store.aclose()
    assert await store.settle("a", cost_nano=1, tokens=1) == []
    for attempt in (
        store.place(claim("b")),
        store.place(claim("b", DESK)),
        store.seed(DAY, spent_nano=0, before_us=0),
        store.purses([]),
        store.orphans(),
        store.is_settled_before(0),
    ):
        with pytest.raises(StoreUnavailable, match="closed"):
            await attempt


async def test_deleting_the_files_under_the_living_is_noticed(bench: SharedBench):
    store = await bench.open()
    for path in bench.folder.iterdir():
        path.unlink()
    assert isinstance(await store.place(claim("a", DESK)), Placed)
    with pytest.raises(StoreUnavailable, match="were deleted while they were in use"):
        await store.orphans()
    with pytest.raises(StoreUnavailable, match="were deleted while they were in use"):
        await store.is_settled_before(START_US)


def test_the_methods_of_the_protocol_need_no_event_loop(tmp_path: Path):
    counters = SharedCounters.open(tmp_path, processes=2)
    assert counters.place_now(claim("a", DESK)) == Placed()
    assert counters.settle_now("a", cost_nano=0, tokens=None) == []
