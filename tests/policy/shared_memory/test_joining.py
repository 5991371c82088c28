"""Who may count in a folder, and what of its files is used again."""

from pathlib import Path

import pytest

from support.counters_contract import (
    DAY,
    DESK,
    START_US,
    claim,
    minute,
    money,
    seeded,
)
from support.shared_counters import SharedBench
from tollhouse.errors import ConfigError, StoreUnavailable
from tollhouse.policy.counters import (
    Orphan,
    Placed,
    PurseEmpty,
    RateFull,
)
from tollhouse.policy.shared_memory.layout import VERSION, Layout


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


async def test_sizes_that_do_not_fill_pages_are_refused():
    with pytest.raises(ValueError, match="meters come in 128s and purses in 8s"):
        Layout(100, 8)


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
