"""Claims that stand, and those that the dead leave behind."""

import pytest

from support.claims import claim_of
from support.counters_contract import (
    DAY,
    DESK,
    START_US,
    claim,
    money,
    seeded,
    tokens,
)
from support.shared_counters import SharedBench, audit
from tollhouse.errors import StoreUnavailable
from tollhouse.policy.counters import (
    Orphan,
    Placed,
    RateFull,
    Seats,
)
from tollhouse.policy.shared_memory.berths import MAX_CLAIMS


async def test_orphans_outlive_the_counters_that_they_held_and_give_nothing_back_to_their_heirs(bench: SharedBench):
    store = await bench.open()
    await seeded(store, DAY)
    await store.place(claim("a", DAY, DESK, tokens("r", 10, 5), hold=40))
    await store.aclose()
    (bench.folder / "counters").unlink()
    bench.advance(0.001)  # no two files of counters are made in the same microsecond
    heir = await bench.open()
    await seeded(heir, DAY, spent=7, before=bench.wall_us)
    await heir.place(claim("b", DAY, DESK, tokens("r", 10, 10), hold=1))
    assert [orphan.id for orphan in await heir.orphans()] == ["a"]
    assert await heir.settle("a", cost_nano=40, tokens=0) == []
    assert await money(heir, DAY) == (7, 1)
    assert isinstance(await heir.place(claim("c", tokens("r", 10, 1))), RateFull)
    audit(heir)


async def test_a_claim_that_the_loss_of_power_damaged_gives_back_what_it_held(bench: SharedBench):
    one, two = await bench.open(), await bench.open()
    await seeded(one, DAY)
    await one.place(claim("whole", DESK, note=b"as written"))
    await one.place(claim("torn", DAY, DESK, hold=40, note=b"half of this is gone"))
    await one.aclose()
    path = bench.folder / "berth-000"
    path.write_bytes(path.read_bytes().replace(b"half of this", bytes(12)))

    whole, torn = sorted(await two.orphans(), key=lambda orphan: orphan.note, reverse=True)
    assert whole == Orphan("whole", START_US, 0, b"as written")
    assert (torn.id.split("-")[0], torn.hold_nano, torn.note) == ("damaged", 40, b"")
    for orphan in (whole, torn):
        await two.settle(orphan.id, cost_nano=orphan.hold_nano, tokens=None)
    assert await money(two, DAY) == (40, 0)
    audit(two)


async def test_orphans_of_the_same_name_are_both_ended(bench: SharedBench):
    one, two, three = await bench.open(), await bench.open(), await bench.open()
    await seeded(one, DAY)
    for store in (one, two, three):
        await store.place(claim("same", DAY, hold=10))
    await one.aclose()
    await two.aclose()
    for orphan in await three.orphans():
        await three.settle(orphan.id, cost_nano=1, tokens=None)
    await three.settle("same", cost_nano=1, tokens=None)
    assert await money(three, DAY) == (3, 0)


async def test_more_calls_than_a_berth_began_with_find_room_up_to_its_bound(bench: SharedBench):
    one, two = await bench.open(), await bench.open()
    await seeded(one, DAY)
    for i in range(MAX_CLAIMS):
        if i % 1_000:
            one.place_now(claim_of(id=f"c{i}", began_at_us=START_US + i))
        else:
            one.place_now(claim(f"c{i}", DAY, hold=1, began=START_US + i, note=b"%d" % i))
    for extra in (claim("more"), claim("more", DAY, hold=1)):
        with pytest.raises(StoreUnavailable, match="8,192 calls are under way"):
            await one.place(extra)
    assert await money(two, DAY) == (0, 9)
    assert not await two.is_settled_before(START_US + 1)
    await one.settle("c0", cost_nano=1, tokens=None)
    assert await two.is_settled_before(START_US + 1)
    assert isinstance(await one.place(claim("more")), Placed)
    audit(two)
    await one.aclose()
    orphans = await two.orphans(10_000)
    assert len(orphans) == MAX_CLAIMS
    assert {orphan.note for orphan in orphans if orphan.hold_nano} == {
        b"%d" % i for i in range(1_000, MAX_CLAIMS, 1_000)
    }


async def test_a_call_can_be_extended_only_so_often(bench: SharedBench):
    store = await bench.open()
    await store.place(claim("a", DESK))
    for attempt in range(5):
        await store.place(claim("a", *[Seats(f"{attempt}/{i}", 1) for i in range(20)]), extends=True)
    with pytest.raises(StoreUnavailable, match="in more than 105 places"):
        await store.place(claim("a", *[Seats(f"5/{i}", 1) for i in range(20)]), extends=True)
    audit(store)
    await store.settle("a", cost_nano=0, tokens=None)
    answers = [await store.place(claim(f"{i}/{j}", Seats(f"{i}/{j}", 1))) for i in range(6) for j in range(20)]
    assert {type(answer) for answer in answers} == {Placed}
