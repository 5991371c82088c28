"""The writer against real SQLite files: each acknowledged row is there, once, whatever happens to the database."""

import asyncio
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from support.call_records import ids_in, make_call
from tollhouse.chat.usage import Usage
from tollhouse.errors import StoreUnavailable
from tollhouse.ledger import store
from tollhouse.ledger.clerk import Clerk
from tollhouse.ledger.journal import Journal
from tollhouse.ledger.record import Attempt
from tollhouse.ledger.rows import Row, row_of
from tollhouse.ledger.sqlite import SqliteStorage
from tollhouse.ledger.writer import LedgerWriter, WriterSettings

CHILD = Path(__file__).parents[1] / "support" / "ledger_child.py"


@asynccontextmanager
async def running(path: Path, **options: object) -> AsyncIterator[LedgerWriter]:
    settings = WriterSettings(url=f"sqlite:///{path}", retry_seconds=0.01, busy_timeout_ms=20, **options)  # type: ignore[arg-type]
    writer = LedgerWriter.start(settings, asyncio.get_running_loop())
    try:
        yield writer
    finally:
        await writer.aclose()


async def until(fact: Callable[[], bool]) -> None:
    """Lets the loop run until a fact holds."""
    async with asyncio.timeout(10):
        while not fact():  # noqa: ASYNC110 - what is waited for happens in another thread or process
            await asyncio.sleep(0.005)


def journals_in(folder: Path) -> list[Path]:
    return [*folder.glob("*.jsonl")]


def make_folder(path: Path) -> None:
    path.mkdir()


def size_of(path: Path) -> int:
    return path.stat().st_size


def spoil(path: Path) -> None:
    """Makes the file something that is no database."""
    path.write_bytes(b"this was a ledger once" * 1000)


def move(path: Path, target: Path) -> None:
    path.replace(target)


def delete(path: Path) -> None:
    """Removes a database with its side files."""
    for ending in ("", "-wal", "-shm"):
        path.with_name(path.name + ending).unlink(missing_ok=True)


async def test_an_acknowledged_row_can_be_read_at_once(tmp_path: Path) -> None:
    async with running(tmp_path / "t.db") as writer:
        await writer.write(make_call("a", cost_nano=12))

        with closing(sqlite3.connect(tmp_path / "t.db")) as reader:
            row = reader.execute("SELECT id, input_tokens, cache_write_tokens, cost_nano FROM calls").fetchall()
    assert row == [("a", 1200, None, 12)]


async def test_a_token_class_that_was_not_said_is_null_and_zero_is_zero(tmp_path: Path) -> None:
    async with running(tmp_path / "t.db") as writer:
        await writer.write(make_call("a", usage=Usage(input_tokens=0, source="reported"), cost_nano=None))

    with closing(sqlite3.connect(tmp_path / "t.db")) as reader:
        row = reader.execute("SELECT input_tokens, output_tokens, cost_nano FROM calls").fetchone()
    assert row == (0, None, None)


async def test_the_same_call_written_twice_is_one_row(tmp_path: Path) -> None:
    async with running(tmp_path / "t.db") as writer:
        await asyncio.gather(writer.write(make_call("a")), writer.write(make_call("a")))
        await writer.write(make_call("a"))

    assert ids_in(tmp_path / "t.db") == ["a"]


async def test_a_caller_that_is_cancelled_does_not_lose_its_row(tmp_path: Path) -> None:
    async with running(tmp_path / "t.db") as writer:
        gone = writer.write(make_call("gone"))
        gone.cancel()
        await writer.write(make_call("stays"))

    assert sorted(ids_in(tmp_path / "t.db")) == ["gone", "stays"]


async def test_attempts_are_detailed_only_when_they_say_more_than_the_row(tmp_path: Path) -> None:
    failed = Attempt(provider="openai", model="gpt-4o", outcome="provider_timeout", duration_us=5)
    fine = Attempt(provider="anthropic", model="claude", outcome="ok", status=200, duration_us=7)
    async with running(tmp_path / "t.db") as writer:
        await writer.write(make_call("plain", attempts=(fine,)))
        await writer.write(make_call("moved", attempts=(failed, fine)))

    with closing(sqlite3.connect(tmp_path / "t.db")) as reader:
        rows = dict(reader.execute("SELECT id, attempts_detail FROM calls").fetchall())
    assert rows["plain"] is None
    assert rows["moved"] == '[["openai","gpt-4o","provider_timeout",null,5],["anthropic","claude","ok",200,7]]'


async def test_a_count_that_no_database_holds_does_not_take_its_neighbours_along(tmp_path: Path) -> None:
    async with running(tmp_path / "t.db") as writer:
        absurd = make_call("absurd", usage=Usage(input_tokens=10**30, output_tokens=1, source="reported"))
        surrogate = make_call("surrogate", requested_model="\ud800")
        await asyncio.gather(*(writer.write(call) for call in (make_call("a"), absurd, surrogate, make_call("b"))))
        assert writer.state().status == "ok"

    with closing(sqlite3.connect(tmp_path / "t.db")) as reader:
        rows = dict(reader.execute("SELECT id, input_tokens FROM calls").fetchall())
    assert rows == {"a": 1200, "absurd": 2**63 - 1, "surrogate": 1200, "b": 1200}


async def test_a_row_that_cannot_be_stored_fails_alone(tmp_path: Path) -> None:
    async with running(tmp_path / "t.db") as writer:
        broken = make_call("broken")
        broken.door = None  # type: ignore[assignment]
        good, bad = writer.write(make_call("good")), writer.write(broken)
        await good
        with pytest.raises(StoreUnavailable, match="broken"):
            await bad
        assert (writer.state().status, writer.state().failed_rows) == ("ok", 1)

    assert ids_in(tmp_path / "t.db") == ["good"]


async def test_a_locked_database_sends_rows_to_the_journal_and_gets_them_back(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    async with running(path) as writer:
        await writer.write(make_call("before"))
        with closing(sqlite3.connect(path, isolation_level=None)) as bully:
            bully.execute("BEGIN IMMEDIATE")
            await asyncio.gather(*(writer.write(make_call(f"during-{number}")) for number in range(100)))
            state = writer.state()
            assert (state.status, state.journaled_rows) == ("degraded", 100)
            assert "locked" in state.reason
            assert ids_in(path) == ["before"]
            bully.execute("ROLLBACK")
        await until(lambda: writer.state().replayed_rows == 100)
        await writer.write(make_call("after"))
        assert writer.state().status == "ok"

    assert sorted(ids_in(path)) == sorted(["before", "after", *(f"during-{number}" for number in range(100))])
    assert journals_in(tmp_path) == []


async def test_a_database_that_is_deleted_while_serving_is_noticed_and_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    async with running(path) as writer:
        await writer.write(make_call("before"))
        delete(path)
        await writer.write(make_call("after"))
        await until(lambda: writer.state().replayed_rows == 1)

    assert ids_in(path) == ["after"]


async def test_a_database_that_is_replaced_while_serving_gets_the_rows_that_come_after(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    store.prepare(f"sqlite:///{tmp_path / 'new.db'}")
    async with running(path) as writer:
        await writer.write(make_call("before"))
        delete(path)
        move(tmp_path / "new.db", path)
        await writer.write(make_call("after"))
        await until(lambda: writer.state().replayed_rows == 1)

    assert ids_in(path) == ["after"]


async def test_a_database_that_is_garbage_does_not_stop_the_writer(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    spoil(path)
    async with running(path) as writer:
        await writer.write(make_call("a"))
        assert writer.state().status == "degraded"
        assert "not a database" in writer.state().reason
        delete(path)
        await until(lambda: writer.state().replayed_rows == 1)

    assert ids_in(path) == ["a"]


async def test_when_database_and_journal_both_refuse_the_caller_hears_it(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    spoil(path)
    async with running(path, journal_max_bytes=10) as writer:
        with pytest.raises(StoreUnavailable, match="bound of 10 bytes"):
            await writer.write(make_call("a"))
        assert writer.state().failed_rows == 1


async def test_rows_beyond_the_queue_go_to_the_journal_and_end_in_the_ledger(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    async with running(path, max_queued_rows=10) as writer:
        futures = [writer.write(make_call(f"{number:02}")) for number in range(25)]
        done = await asyncio.gather(*futures, return_exceptions=True)
        assert [type(result) for result in done] == [*[type(None)] * 20, *[StoreUnavailable] * 5]
        assert writer.state().journaled_rows == 10
        await until(lambda: writer.state().replayed_rows == 10)

    assert sorted(ids_in(path)) == [f"{number:02}" for number in range(20)]


async def test_closing_writes_what_waits_and_refuses_what_comes_after(tmp_path: Path) -> None:
    async with running(tmp_path / "t.db") as writer:
        waiting = [writer.write(make_call(f"{number}")) for number in range(200)]
        await writer.aclose()
        assert all(future.done() and future.exception() is None for future in waiting)
        with pytest.raises(StoreUnavailable, match="closed"):
            await writer.write(make_call("late"))

    assert len(ids_in(tmp_path / "t.db")) == 200


async def test_closing_does_not_wait_for_a_locked_database_past_its_deadline(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    store.prepare(f"sqlite:///{path}")
    with closing(sqlite3.connect(path, isolation_level=None)) as bully:
        bully.execute("BEGIN IMMEDIATE")
        async with running(path, max_queued_rows=1000) as writer:
            waiting = [writer.write(make_call(f"{number}")) for number in range(500)]
            await writer.aclose(deadline_seconds=0.001)
            assert [future.exception() for future in waiting] == [None] * 500
        bully.execute("ROLLBACK")
    assert len(journals_in(tmp_path)) == 1

    async with running(path):
        await until(lambda: len(ids_in(path)) == 500)


async def test_a_journal_that_cannot_be_replayed_does_not_stop_the_writing(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    make_folder(tmp_path / "t.db.journal-1-odd.jsonl")
    async with running(path) as writer:
        await until(lambda: bool(writer.state().reason))
        await writer.write(make_call("a"))
        assert writer.state().status == "ok"
        assert "journal cannot be replayed" in writer.state().reason

    assert ids_in(path) == ["a"]


class Defective:
    """A storage with a fault that nobody thought of."""

    piece_rows = 10

    def open(self) -> None:
        raise TypeError("a defect")

    def insert(self, rows: Sequence[Row]) -> frozenset[str]:
        raise TypeError("a defect")

    def prune(self, before_us: int, at_most: int) -> int:
        raise TypeError("a defect")

    def close(self) -> None:
        pass


class Mending(SqliteStorage):
    """Fails once, and then takes its time with the first rows that it gets."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, busy_timeout_ms=100)
        self.is_down = True
        self.is_tried = threading.Event()
        self.is_mended = threading.Event()

    def insert(self, rows: Sequence[Row]) -> frozenset[str]:
        if self.is_down:
            self.is_down = False
            raise StoreUnavailable("down")
        self.is_tried.set()
        assert self.is_mended.wait(10)
        return super().insert(rows)


def test_rows_that_come_while_the_database_is_mended_do_not_wait_and_are_not_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    store.prepare(f"sqlite:///{path}")
    storage = Mending(path)
    clerk = Clerk(storage, Journal(tmp_path, "t.db", max_bytes=1_000_000), retry_seconds=0.0)
    clerk.catch_up()
    clerk.catch_up()
    clerk.keep([row_of(make_call("before"))])
    clerk.catch_up()
    assert storage.is_tried.wait(10)
    clerk.keep([row_of(make_call("meanwhile"))])
    assert clerk.trouble
    storage.is_mended.set()
    for _ in range(100):
        if clerk.is_behind:
            clerk.catch_up()
    clerk.keep([row_of(make_call("after"))])
    clerk.end()

    assert sorted(ids_in(path)) == ["after", "before", "meanwhile"]
    assert journals_in(tmp_path) == []


async def test_a_defect_in_the_storage_leaves_rows_to_the_journal_and_nobody_waiting(tmp_path: Path) -> None:
    settings = WriterSettings(url=f"sqlite:///{tmp_path / 't.db'}", retry_seconds=0.01)
    journal = Journal(tmp_path, "t.db", max_bytes=1_000_000)
    writer = LedgerWriter(Defective(), journal, settings, asyncio.get_running_loop())
    writer._thread.start()
    await until(lambda: writer.state().status == "degraded")
    async with asyncio.timeout(10):
        await writer.write(make_call("a"))
    assert "a defect" in writer.state().reason
    await writer.aclose()

    store.prepare(settings.url)
    async with running(tmp_path / "t.db"):
        await until(lambda: ids_in(tmp_path / "t.db") == ["a"])


async def test_ten_thousand_usual_rows_take_at_most_300_bytes_each(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    count = 10_000
    async with running(path, max_queued_rows=count) as writer:
        await asyncio.gather(
            *(writer.write(make_call(f"req_{os.urandom(12).hex()}", at=number)) for number in range(count))
        )

    assert size_of(path) / count <= 300


def start_child(path: Path, name: str, count: int, **environ: str) -> "subprocess.Popen[str]":
    """A process that writes calls and prints the acknowledged ones."""
    arguments = [sys.executable, str(CHILD), f"sqlite:///{path}", name, str(count)]
    environment = {**os.environ, "PYTHONPATH": str(CHILD.parents[1]), **environ}
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, env=environment)


def test_two_processes_write_one_file_at_once(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    store.prepare(f"sqlite:///{path}")
    children = [start_child(path, name, 1000) for name in ("left", "right")]
    acknowledged = [line for child in children for line in child.communicate(timeout=60)[0].split()]

    expected = sorted(f"{name}-{number}" for name in ("left", "right") for number in range(1000))
    assert sorted(acknowledged) == expected
    assert sorted(ids_in(path)) == expected


@pytest.mark.parametrize("is_locked", [False, True], ids=["into the database", "into the journal"])
async def test_after_kill_minus_9_every_acknowledged_row_is_there_exactly_once(tmp_path: Path, is_locked: bool) -> None:
    """The process dies in the middle of its load; another one starts and finds all that the first had promised."""
    path = tmp_path / "t.db"
    store.prepare(f"sqlite:///{path}")
    with closing(sqlite3.connect(path, isolation_level=None)) as bully:
        child = start_child(path, "call", 10**9, BUSY_MS="20")
        assert child.stdout is not None
        acknowledged = [child.stdout.readline().strip() for _ in range(500)]
        if is_locked:
            bully.execute("BEGIN IMMEDIATE")
            acknowledged += [child.stdout.readline().strip() for _ in range(3000)]
        child.kill()
        acknowledged += child.stdout.read().split()
        child.wait(10)
        child.stdout.close()
    missing = set(acknowledged) - set(ids_in(path))
    assert bool(missing) is is_locked
    assert bool(journals_in(tmp_path)) is is_locked

    async with running(path):
        await until(lambda: set(acknowledged) <= set(ids_in(path)))
    written = ids_in(path)
    assert len(written) == len(set(written))
    assert journals_in(tmp_path) == []
