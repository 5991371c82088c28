"""Room for names: made by what is idle, refused when there is none."""

from pathlib import Path

from support.counters_contract import (
    claim,
    minute,
    tokens,
)
from support.shared_counters import SharedBench
from tollhouse.errors import StoreUnavailable
from tollhouse.policy.counters import (
    Claim,
    Placed,
    RateFull,
    Seats,
    SeatsTaken,
)
from tollhouse.policy.shared_memory import SharedCounters


async def fits(store: SharedCounters, asked: Claim) -> bool:
    try:
        await store.place(asked)
    except StoreUnavailable:
        return False
    return True


async def test_full_rates_and_empty_seats_make_room_for_new_names(tmp_path: Path):
    bench = SharedBench(tmp_path, meters=128)
    store = await bench.open()
    await store.place(claim("stays", minute("slow", 1), Seats("held", 1)))
    for i in range(1_000):
        bench.advance(0.5)
        name = f"c{i}"
        assert isinstance(await store.place(claim(name, minute(f"ip/{i}", 60), Seats(f"ip/{i}", 1))), Placed)
        if i < 110:
            assert isinstance(await store.place(claim("again", minute("slow", 1))), RateFull)
        await store.settle(name, cost_nano=0, tokens=None)
    assert await store.place(claim("again", Seats("held", 1))) == SeatsTaken(Seats("held", 1))
    await bench.aclose()


async def test_a_full_table_refuses_new_names_and_counts_the_old_ones_rightly(tmp_path: Path):
    bench = SharedBench(tmp_path, meters=256)
    store = await bench.open()
    known = [i for i in range(300) if await fits(store, claim(f"c{i}", minute(f"ip/{i}", 1)))]
    assert 230 < len(known) <= 256, "two choices of a page fill both well"
    for i in known:
        assert isinstance(await store.place(claim(f"d{i}", minute(f"ip/{i}", 1))), RateFull)
    bench.advance(60)
    assert isinstance(await store.place(claim("later", minute("new", 1))), Placed)
    await bench.aclose()


async def test_one_who_remembers_a_slot_notices_that_it_has_become_anothers(tmp_path: Path):
    bench = SharedBench(tmp_path, meters=128)
    one, two = await bench.open(), await bench.open()
    for i in range(30):
        await one.place(claim(f"a{i}", tokens(f"old/{i}", 60, 1), Seats(f"old/{i}", 1)))
    bench.advance(60)
    for i in range(30):
        await one.release(f"a{i}")
        await one.place(claim(f"a{i}", tokens(f"old/{i}", 60, 1)))
    bench.advance(60)
    for i in range(128):
        await two.place(claim(f"b{i}", minute(f"new/{i}", 1)))
    for i in range(30):
        await one.settle(f"a{i}", cost_nano=0, tokens=60_000)  # nobody knows its rates any more
    for i in range(128):
        assert isinstance(await two.place(claim(f"c{i}", minute(f"new/{i}", 1))), RateFull)

    bench.advance(60)
    for i in range(10):
        assert isinstance(await one.place(claim(f"d{i}", tokens(f"old/{i}", 60, 1), Seats(f"old/{i}", 1))), Placed)
    for i in range(28, 128):
        assert isinstance(await two.place(claim(f"e{i}", minute(f"new/{i}", 1))), Placed)
    await bench.aclose()
