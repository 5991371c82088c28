"""Claims that end: together, and after absurd usage."""

from pathlib import Path

import pytest

from support.counters_contract import (
    DAY,
    MONTH,
    START_US,
    claim,
    minute,
    money,
    seeded,
    state,
    tokens,
)
from support.shared_counters import SharedBench, audit
from tollhouse.policy.counters import (
    Claim,
    Ending,
    Parts,
    Placed,
    Purse,
    PurseEmpty,
    RateFull,
    Seats,
)
from tollhouse.policy.shared_memory.layout import CEILING

HOUR = 3_600
DESK_FOR_ALL = Seats("desk/all", 100)


async def test_claims_that_are_settled_together_end_as_if_one_by_one(tmp_path: Path):
    """Of one kind and of another, one that was extended, one that began too early, one that is not there."""
    ends = [Ending(f"c{i}", 3 * i, None if i == 4 else 10 * i) for i in range(9)]
    results = []
    for is_together in (True, False):
        bench = SharedBench(tmp_path / str(is_together))
        store, other = await bench.open(), await bench.open()
        await seeded(store, DAY, MONTH, before=START_US + 100)
        kinds = [
            Parts((tokens("t", 6_000, 50), minute("r", 60)), (DESK_FOR_ALL,), (DAY, MONTH)),
            Parts((tokens("t", 6_000, 6_000),), (), (MONTH,)),
        ]
        for i in range(8):
            began = START_US + (50 if i == 3 else 200)
            parts = kinds[i % 3 == 1]
            placed = await store.place(Claim(id=f"c{i}", began_at_us=began, parts=parts, tokens=30 + i, hold_nano=i))
            assert isinstance(placed, Placed)
        await store.place(claim("c6", DAY, minute("more", 60), hold=2), extends=True)
        if is_together:
            steps = [step for steps in store.settle_all_now(ends) for step in steps]
        else:
            steps = [
                step
                for end in ends
                for step in store.settle_now(end.claim_id, cost_nano=end.cost_nano or 0, tokens=end.tokens)
            ]
        spent = {
            name: sum(s.after_nano - s.before_nano for s in steps if s.purse == name) for name in (DAY.name, MONTH.name)
        }
        level = await other.place(Claim(id="after", began_at_us=START_US + 200, parts=kinds[0], tokens=0))
        assert isinstance(level, Placed)
        assert isinstance(await other.place(claim("free", *[Seats(DESK_FOR_ALL.name, 2)])), Placed)
        results.append((spent, [await state(other, purse) for purse in (DAY, MONTH)], level.ahead_ns))
        audit(other)
        await bench.aclose()
    assert results[0] == results[1]
    assert results[0][0] == {DAY.name: 48, MONTH.name: 84}


async def test_absurd_usage_puts_a_rate_into_debt_for_a_day_and_breaks_nothing(bench: SharedBench):
    store = await bench.open()
    await seeded(store, DAY)
    rate = tokens("r", 1, 1)
    await store.place(claim("a", rate, DAY, hold=1))
    await store.settle("a", cost_nano=10**30, tokens=10**30)
    refused = await store.place(claim("b", rate))
    assert isinstance(refused, RateFull)
    assert refused.wait_seconds == pytest.approx(24 * HOUR)
    assert isinstance(await store.place(claim("b", DAY)), PurseEmpty)
    for i in range(1_000):
        await store.place(claim(f"c{i}", Purse(DAY.name, None)))
        await store.settle(f"c{i}", cost_nano=10**30, tokens=None)
    assert (await money(store, DAY))[0] == CEILING
