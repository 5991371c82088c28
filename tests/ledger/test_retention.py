"""Rows are kept as long as the operator says, in whole hours; writing goes on meanwhile."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from support.call_records import NOON_US, make_call
from tollhouse.errors import StoreUnavailable
from tollhouse.ledger import store
from tollhouse.ledger.clerk import HOUR_US, PRUNED_ROWS, Clerk
from tollhouse.ledger.journal import Journal
from tollhouse.ledger.reading import Statement, read
from tollhouse.ledger.rows import row_of
from tollhouse.ledger.sqlite import SqliteStorage
from tollhouse.ledger.writer import LedgerWriter, WriterSettings

DAY = 86_400.0


@pytest.fixture
def url(any_url: str) -> str:
    """An empty ledger."""
    return any_url


def clerk_of(url: str, folder: Path, now_us: int, retention_seconds: float | None = DAY) -> Clerk:
    """A clerk with its database open, at that time of day."""
    journal = Journal(folder, "books", max_bytes=1_000_000)
    clerk = Clerk(
        store.storage_of(url),
        journal,
        retry_seconds=0.01,
        retention_seconds=retention_seconds,
        now_us=lambda: now_us,
    )
    clerk.catch_up()
    clerk.catch_up()
    return clerk


def ids_in(url: str) -> list[str]:
    (answer,) = read(url, [Statement("SELECT id FROM calls ORDER BY id")])
    return [name for (name,) in answer]


async def until(fact: Callable[[], bool]) -> None:
    """Lets the loop run until a fact holds."""
    async with asyncio.timeout(10):
        while not fact():  # noqa: ASYNC110 - what is waited for happens in another thread
            await asyncio.sleep(0.005)


def test_only_whole_hours_past_the_retention_are_deleted(url: str, tmp_path: Path) -> None:
    """A day after 13:30 everything before 13:00 goes."""
    clerk = clerk_of(url, tmp_path, NOON_US + 24 * HOUR_US + HOUR_US * 3 // 2)
    clerk.keep([row_of(make_call(f"{minutes:03}", at=minutes * 60)) for minutes in (0, 59, 60, 89, 91)])
    assert clerk.is_untidy
    clerk.prune()
    clerk.end()

    assert ids_in(url) == ["060", "089", "091"]
    assert clerk.pruned == 2


def test_a_pass_takes_bounded_steps_and_then_rests(url: str, tmp_path: Path) -> None:
    clerk = clerk_of(url, tmp_path, NOON_US + 48 * HOUR_US)
    clerk.keep([row_of(make_call(f"{number:04}", at=number % 50)) for number in range(PRUNED_ROWS + 10)])
    clerk.prune()
    assert clerk.pruned == PRUNED_ROWS
    assert not clerk.is_untidy
    assert clerk.patience_seconds is not None
    assert clerk.patience_seconds < 1
    clerk.prune()
    assert clerk.pruned == PRUNED_ROWS + 10
    assert clerk.patience_seconds > 1
    clerk.end()

    assert ids_in(url) == []


def test_without_a_retention_everything_is_kept(tmp_path: Path) -> None:
    address = f"sqlite:///{tmp_path / 't.db'}"
    store.prepare(address)
    clerk = clerk_of(address, tmp_path, NOON_US + 10**6 * HOUR_US, None)
    clerk.keep([row_of(make_call("a"))])

    assert not clerk.is_untidy
    assert clerk.patience_seconds is None
    clerk.end()
    assert ids_in(address) == ["a"]


async def test_the_writer_prunes_by_itself_while_it_writes(url: str, tmp_path: Path) -> None:
    """The calls of the tests began long ago, by the clock of the writer."""
    settings = WriterSettings(url=url, journal_directory=tmp_path / "journals", retention_seconds=1.0)
    storage = store.storage_of(url)
    await asyncio.to_thread(storage.open)
    await asyncio.to_thread(
        storage.insert, [row_of(make_call(f"{number:04}", at=-5000 * 86_400)) for number in range(1200)]
    )
    await asyncio.to_thread(storage.close)
    writer = LedgerWriter.start(settings, asyncio.get_running_loop())
    young = make_call("young")
    young.started_at_us = 2**62
    await writer.write(young)
    await until(lambda: writer.state().pruned_rows == 1200)
    await writer.aclose()

    assert await asyncio.to_thread(ids_in, url) == ["young"]
    (total,) = (await asyncio.to_thread(read, url, [Statement("SELECT sum(calls) FROM spend_hours")]))[0]
    assert int(total[0]) == 1201


def test_pruning_gives_the_space_of_a_file_back(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    storage = SqliteStorage(path, busy_timeout_ms=100)
    storage.open()
    storage.insert([row_of(make_call(f"{number:06}", at=number)) for number in range(20_000)])
    storage.close()
    full = path.stat().st_size
    storage.open()
    while storage.prune(NOON_US + 10**12, 500):
        pass
    storage.close()

    assert path.stat().st_size < full / 10


class Unwilling(SqliteStorage):
    """Writes rows, and cannot delete any."""

    def prune(self, before_us: int, at_most: int) -> int:
        raise StoreUnavailable("no deleting today")


def test_a_database_that_deletes_nothing_still_takes_rows(tmp_path: Path) -> None:
    address = f"sqlite:///{tmp_path / 't.db'}"
    store.prepare(address)
    storage = Unwilling(tmp_path / "t.db", busy_timeout_ms=100)
    clerk = Clerk(storage, Journal(tmp_path, "t.db", max_bytes=1000), retry_seconds=0.01, retention_seconds=DAY)
    clerk.catch_up()
    clerk.catch_up()
    clerk.prune()
    assert "no deleting today" in clerk.complaint
    assert clerk.keep([row_of(make_call("a"))]) == {}
    assert (clerk.trouble, clerk.is_untidy) == ("", False)
    clerk.end()

    assert ids_in(address) == ["a"]
