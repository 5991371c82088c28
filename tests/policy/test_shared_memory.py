"""Counters in shared memory: the contract, and what is theirs alone."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.counters_contract import (
    DAY,
    DESK,
    MONTH,
    START_US,
    CountersContract,
    claim,
    minute,
    money,
    seeded,
    state,
    tokens,
)
from support.shared_counters import SharedBench, audit, lock_taken
from tollhouse.errors import ConfigError, StoreUnavailable
from tollhouse.policy.counters import (
    MAX_CLAIM_PARTS,
    MAX_NOTE_BYTES,
    Claim,
    Ending,
    Orphan,
    Parts,
    Placed,
    Purse,
    PurseEmpty,
    RateFull,
    Seats,
    SeatsTaken,
    Unseeded,
    claim_of,
)
from tollhouse.policy.shared_memory import SharedCounters
from tollhouse.policy.shared_memory.berths import MAX_CLAIMS
from tollhouse.policy.shared_memory.layout import CEILING, HELD, VERSION, Layout
from tollhouse.policy.shared_memory.quick import QUICK
from tollhouse.policy.shared_memory.sites import MAX_SITES

HOUR = 3_600
DESK_FOR_ALL = Seats("desk/all", 100)


@pytest.fixture(params=["compiled", "python"])
async def bench(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[SharedBench]:
    """Both ways of counting keep the same contract."""
    if request.param == "compiled" and QUICK is None:
        pytest.skip("the compiled part was not built here")
    made = SharedBench(tmp_path, quick=QUICK if request.param == "compiled" else None)
    yield made
    await made.aclose()


async def fits(store: SharedCounters, asked: Claim) -> bool:
    try:
        await store.place(asked)
    except StoreUnavailable:
        return False
    return True


class TestSharedCounters(CountersContract):
    """All of the contract."""


# ------------------------------------------------------------------------------------------------- opening, closing


async def test_one_process_alone_keeps_the_contract_without_a_lock(tmp_path: Path):
    bench = SharedBench(tmp_path, processes=1)
    store = await bench.open()
    await seeded(store, DAY)
    assert isinstance(await store.place(claim("a", DAY, DESK, minute("r", 1), hold=60)), Placed)
    assert isinstance(await store.place(claim("b", DAY, hold=60)), PurseEmpty)
    await store.settle("a", cost_nano=50, tokens=None)
    assert await money(store, DAY) == (50, 0)
    await bench.aclose()


async def test_one_process_alone_keeps_others_out_until_it_ends(tmp_path: Path):
    alone = SharedBench(tmp_path, processes=1)
    store = await alone.open()
    for other in (alone, SharedBench(tmp_path, processes=4)):
        with pytest.raises(StoreUnavailable, match=r"locked for 0\.2 s"):
            await other.open()
    await store.aclose()
    await (await alone.open()).aclose()


async def test_one_process_alone_is_not_let_into_company(bench: SharedBench):
    await bench.open()
    with pytest.raises(ConfigError, match="1 other processes count in"):
        await SharedBench(bench.folder, processes=1).open()


async def test_a_folder_that_cannot_be_used_is_the_operators_business(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be used for the shared counters"):
        await SharedBench(tmp_path / "file").open()


async def test_the_files_are_nobody_elses_business(bench: SharedBench):
    await bench.open()
    assert {path.name: path.stat().st_mode & 0o077 for path in bench.folder.iterdir()} == {
        "lock": 0,
        "counters": 0,
        "berth-000": 0,
    }


async def test_another_layout_is_refused_beside_the_living_and_starts_fresh_after_them(bench: SharedBench):
    store = await bench.open()
    await store.place(claim("a", minute("r", 1), note=b"kept"))
    other = SharedBench(bench.folder, meters=128)
    with pytest.raises(ConfigError, match="in another way than this one would"):
        await other.open()
    assert isinstance(await store.place(claim("b", minute("r", 1))), RateFull)

    await store.aclose()
    fresh = await other.open()
    assert await fresh.orphans() == [Orphan("a", START_US, 0, b"kept")], "what a ledger row needs outlives the counters"
    assert isinstance(await fresh.place(claim("b", minute("r", 1))), Placed)
    await fresh.settle("a", cost_nano=1, tokens=1)
    assert isinstance(await fresh.place(claim("c", minute("r", 1))), RateFull)
    await other.aclose()


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


@pytest.mark.parametrize("content", [b"", b"x" * 100, b"\xff" * 100_000])
async def test_files_that_are_none_of_ours_are_replaced(bench: SharedBench, content: bytes):
    for name in ("counters", "counters.new", "berth-000", "berth-007"):
        (bench.folder / name).write_bytes(content)
    store = await bench.open()
    assert isinstance(await store.place(claim("a", DESK)), Placed)
    assert await store.orphans() == []
    assert await store.is_settled_before(START_US)


async def test_a_berth_of_a_later_version_is_left_unread(bench: SharedBench):
    store = await bench.open()
    await store.place(claim("a", DESK))
    await store.aclose()
    with (bench.folder / "berth-000").open("r+b") as file:
        file.seek(8)
        file.write((VERSION + 1).to_bytes(8, "little"))
    later = await bench.open()
    assert await later.is_settled_before(START_US + 1)


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


async def test_sizes_that_do_not_fill_pages_are_refused():
    with pytest.raises(ValueError, match="meters come in 128s and purses in 8s"):
        Layout(100, 8)


# ------------------------------------------------------------------------------------------------- restarts, crashes


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


async def test_a_wall_clock_that_was_set_back_does_not_keep_a_purse_unseeded(bench: SharedBench):
    store = await bench.open()
    await seeded(store, DAY)
    await store.forget([DAY.name])
    back = START_US - HOUR * 1_000_000
    assert await store.seed(DAY, spent_nano=7, before_us=back) == back
    assert await money(store, DAY) == (7, 0)


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


async def test_new_processes_leave_the_berths_of_the_dead_alone(bench: SharedBench):
    for name in "abc":
        store = await bench.open()
        await store.place(claim(name))
        await store.aclose()
    last = await bench.open()
    assert sorted(orphan.id for orphan in await last.orphans()) == ["a", "b", "c"]
    for name in "abc":
        await last.release(name)
    again = await bench.open()
    assert len([*bench.folder.glob("berth-*")]) == 4, "an emptied berth is used again"
    assert await again.orphans() == []


# --------------------------------------------------------------------------------------------------------- the lock


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


# ------------------------------------------------------------------------------------------------ ends in one step


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


async def test_ends_that_could_not_be_written_together_are_owed_each(bench: SharedBench):
    store = await bench.open()
    await seeded(store, DAY)
    for name in "ab":
        await store.place(claim(name, DAY, DESK_FOR_ALL, hold=10))
    with lock_taken(bench.folder), pytest.raises(StoreUnavailable):
        store.settle_all_now([Ending("a", 3, None), Ending("b", 4, None)])
    assert await money(store, DAY) == (7, 0)
    audit(store)


# -------------------------------------------------------------------------------------------------------------- room


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


# ------------------------------------------------------------------------------------------------------------ bounds


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


async def test_what_is_remembered_about_names_is_bounded(tmp_path: Path):
    bench = SharedBench(tmp_path, meters=128)
    store = await bench.open()
    for i in range(MAX_SITES + 100):
        bench.advance(60)
        await store.place(claim(f"c{i}", minute(f"ip/{i}", 60)))
        await store.settle(f"c{i}", cost_nano=0, tokens=None)
    assert len(store._sites) <= MAX_SITES
    await bench.aclose()


def test_the_methods_of_the_protocol_need_no_event_loop(tmp_path: Path):
    counters = SharedCounters.open(tmp_path, processes=2)
    assert counters.place_now(claim("a", DESK)) == Placed()
    assert counters.settle_now("a", cost_nano=0, tokens=None) == []
