"""Where claims count, as it is remembered."""

from pathlib import Path

from support.counters_contract import (
    claim,
    minute,
)
from support.shared_counters import SharedBench
from tollhouse.policy.counters import (
    MAX_CLAIM_PARTS,
    Placed,
)
from tollhouse.policy.shared_memory.sites import MAX_SITES


async def test_a_claim_never_takes_the_slots_of_its_own_parts(tmp_path: Path):
    """All its rates are full and so look idle while it is being placed."""
    bench = SharedBench(tmp_path, meters=128)
    store = await bench.open()
    for generation in range(20):
        parts = [minute(f"{generation}/{i}", 10, 3) for i in range(MAX_CLAIM_PARTS)]
        answer = await store.place(claim(f"c{generation}", *parts))
        assert isinstance(answer, Placed)
        second = await store.place(claim(f"d{generation}", *parts))
        assert isinstance(second, Placed)
        assert {level.remaining for level in second.levels} == {4}
        bench.advance(60)
    await bench.aclose()


async def test_what_is_remembered_about_names_is_bounded(tmp_path: Path):
    bench = SharedBench(tmp_path, meters=128)
    store = await bench.open()
    for i in range(MAX_SITES + 100):
        bench.advance(60)
        await store.place(claim(f"c{i}", minute(f"ip/{i}", 60)))
        await store.settle(f"c{i}", cost_nano=0, tokens=None)
    assert len(store._sites) <= MAX_SITES
    await bench.aclose()
