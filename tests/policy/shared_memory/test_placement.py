"""Claims that are not placed, because nobody can mean them."""

import pytest

from support.counters_contract import (
    DESK,
    START_US,
    claim,
    minute,
)
from support.shared_counters import SharedBench
from tollhouse.policy.counters import (
    MAX_CLAIM_PARTS,
    MAX_NOTE_BYTES,
    Claim,
    Seats,
)


@pytest.mark.parametrize(
    "wrong",
    [
        claim(""),
        claim("x" * 65),
        claim("a\0b"),
        claim("a", note=bytes(MAX_NOTE_BYTES + 1)),
        claim("a", *[Seats(f"s{i}", 1) for i in range(MAX_CLAIM_PARTS + 1)]),
        claim("a", hold=-1),
        claim("a", hold=9_000_000_000_000_001),
        claim("a", began=-1),
        claim("a", minute("r", 0)),
        claim("a", minute("r", 1, -1)),
    ],
)
async def test_claims_out_of_bounds_are_refused_whole(bench: SharedBench, wrong: Claim):
    store = await bench.open()
    with pytest.raises(ValueError, match="claim"):
        await store.place(wrong)
    assert await store.is_settled_before(START_US + 10)


async def test_a_claim_stands_once(bench: SharedBench):
    store = await bench.open()
    await store.place(claim("a", DESK))
    with pytest.raises(ValueError, match="'a' stands already"):
        await store.place(claim("a", DESK))
