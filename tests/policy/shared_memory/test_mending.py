"""What restarts and deaths leave, and how the next one makes it right."""

import pytest

from support.counters_contract import (
    DAY,
    DESK,
    MONTH,
    claim,
    minute,
    money,
    seeded,
    state,
    tokens,
)
from support.shared_counters import SharedBench, audit
from tollhouse.errors import StoreUnavailable
from tollhouse.policy.counters import (
    Placed,
    RateFull,
    Seats,
    SeatsTaken,
    Unseeded,
)
from tollhouse.policy.shared_memory.layout import HELD


async def test_rates_outlive_a_restart_and_sums_are_read_again(bench: SharedBench):
    store = await bench.open()
    await seeded(store, DAY, spent=30)
    await store.place(claim("a", minute("r", 2, 2), DAY, hold=10))
    await store.settle("a", cost_nano=10, tokens=None)
    await store.aclose()
    bench.advance(3)
    again = await bench.open()
    refused = await again.place(claim("b", minute("r", 2, 1)))
    assert isinstance(refused, RateFull)
    assert refused.wait_seconds == pytest.approx(27)
    assert await again.place(claim("b", DAY)) == Unseeded((DAY,))


@pytest.mark.parametrize(("used", "wait"), [(None, 30), (400, 200)])
async def test_rates_move_with_a_clock_that_begins_anew(bench: SharedBench, used: int | None, wait: int):
    store = await bench.open()
    await store.place(claim("a", tokens("r", 120, 60), DESK))
    await store.settle("a", cost_nano=0, tokens=used)
    await store.place(claim("idle", minute("other", 60)))
    await store.place(claim("seat", DESK))
    await store.aclose()
    bench.uptime_ns = 7_000_000_000
    again = await bench.open()
    refused = await again.place(claim("b", tokens("r", 120, 120)))
    assert isinstance(refused, RateFull)
    assert refused.wait_seconds == pytest.approx(wait)
    assert [type(await again.place(claim(f"s{i}", DESK))) for i in range(2)] == [Placed, SeatsTaken]


class Interrupted(BaseException):
    """What a signal handler might raise, anywhere."""


async def test_one_who_stops_in_the_middle_of_a_change_leaves_a_mess_that_the_next_one_mends(bench: SharedBench):
    one, two = await bench.open(), await bench.open()
    await seeded(one, DAY, MONTH, spent=10)
    await one.place(claim("a", DAY, MONTH, DESK, hold=40))
    await two.place(claim("b", DAY, DESK, minute("r", 5), hold=2))
    words = one._file.words
    at = one._file.find_purse(DAY.name)
    assert at is not None
    words[at[0] + HELD] = 77_777

    def stop() -> int:
        raise Interrupted

    one._monotonic_ns = stop
    with pytest.raises(Interrupted):
        await one.place(claim("c", minute("r", 5)))

    one._monotonic_ns = two._monotonic_ns
    assert await two.place(claim("d", DAY)) == Unseeded((DAY,)), "what was spent is the ledger's to say"
    await seeded(two, DAY, MONTH, spent=10)
    assert [await money(two, purse) for purse in (DAY, MONTH)] == [(10, 42), (10, 40)]
    assert await two.place(claim("d", DESK)) == SeatsTaken(DESK)
    audit(two)
    for store, name in ((one, "a"), (two, "b")):
        await store.settle(name, cost_nano=1, tokens=None)
    assert [await money(two, purse) for purse in (DAY, MONTH)] == [(12, 0), (11, 0)]


async def test_no_room_is_not_a_mess(bench: SharedBench):
    small = SharedBench(bench.folder / "small", meters=128)
    store = await small.open()
    await seeded(store, DAY, spent=1)
    for i in range(128):
        await store.place(claim(f"c{i}", Seats(f"s{i}", 1)))
    with pytest.raises(StoreUnavailable, match=r"table of 128 is full"):
        await store.place(claim("more", Seats("more", 1)))
    assert (await state(store, DAY)).spent_nano == 1
    await small.aclose()
