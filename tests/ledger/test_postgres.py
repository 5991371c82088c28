"""The ledger in a real PostgreSQL: schema, rows, totals, and rows that cannot be stored."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import asyncpg
import pytest

from support.call_records import make_call
from support.postgres import PostgresServer
from tollhouse.chat.usage import Usage
from tollhouse.errors import ConfigError, StoreUnavailable
from tollhouse.ledger import store
from tollhouse.ledger.postgres import COPY_ROWS, PostgresStorage
from tollhouse.ledger.record import CallRecord
from tollhouse.ledger.rows import COLUMNS, row_of

TESTS = Path(__file__).parents[1]


def ask(url: str, statement: str) -> list[tuple[object, ...]]:
    """The answer of the database, on a connection of its own."""

    async def work() -> list[tuple[object, ...]]:
        connection = await asyncpg.connect(url)
        try:
            return [tuple(row) for row in await connection.fetch(statement)]
        finally:
            await connection.close()

    return asyncio.run(work())


@pytest.fixture
def storage(postgres_ledger: str) -> Iterator[PostgresStorage]:
    storage = PostgresStorage(postgres_ledger)
    storage.open()
    yield storage
    storage.close()


def insert(storage: PostgresStorage, calls: Sequence[CallRecord]) -> frozenset[str]:
    return storage.insert([row_of(call) for call in calls])


def test_an_empty_database_is_prepared_and_prepared_again(postgres_url: str) -> None:
    assert store.revision_of(postgres_url) is None
    store.prepare(postgres_url)
    assert store.revision_of(postgres_url) == store.HEAD
    store.prepare(postgres_url)
    assert store.contents_of(postgres_url).calls == 0


async def test_a_server_may_prepare_its_ledger_within_its_loop(postgres_url: str) -> None:
    store.prepare(postgres_url)

    assert store.revision_of(postgres_url) == store.HEAD


def test_several_processes_may_prepare_one_database_at_once(postgres_url: str) -> None:
    script = "import sys; from tollhouse.ledger import store; store.prepare(sys.argv[1])"
    command = [sys.executable, "-c", script, postgres_url]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(2)]

    assert [(process.communicate()[1], process.returncode) for process in processes] == [(b"", 0)] * 2
    assert store.revision_of(postgres_url) == store.HEAD


def test_a_writer_that_finds_no_tables_makes_them(postgres_url: str) -> None:
    storage = PostgresStorage(postgres_url)
    storage.open()
    insert(storage, [make_call("a")])
    storage.close()

    assert ask(postgres_url, "SELECT id FROM calls") == [("a",)]


def test_a_newer_database_is_refused_and_left_alone(postgres_ledger: str, storage: PostgresStorage) -> None:
    ask(postgres_ledger, "UPDATE alembic_version SET version_num = '9999'")

    with pytest.raises(ConfigError, match="newer Tollhouse"):
        store.prepare(postgres_ledger)
    with pytest.raises(StoreUnavailable, match="newer Tollhouse"):
        storage.open()


def test_a_database_of_somebody_else_is_refused(postgres_url: str) -> None:
    ask(postgres_url, "CREATE TABLE calls (whom text)")

    with pytest.raises(ConfigError, match="not a ledger's"):
        store.prepare(postgres_url)


@pytest.mark.parametrize("count", [1, 3, COPY_ROWS - 1, COPY_ROWS, 3 * COPY_ROWS])
def test_every_value_of_every_row_arrives_however_many_there_are(
    postgres_ledger: str, storage: PostgresStorage, count: int
) -> None:
    rows = [row_of(make_call(f"{number:04}", at=number, cost_nano=number or None)) for number in range(count)]
    assert storage.insert(rows) == frozenset()

    names = ", ".join(f'"{name}"' for name in COLUMNS)
    assert ask(postgres_ledger, f"SELECT {names} FROM calls ORDER BY id") == rows


@pytest.mark.parametrize("count", [1, 3 * COPY_ROWS])
def test_rows_that_are_there_are_left_alone_and_counted_once(
    postgres_ledger: str, storage: PostgresStorage, count: int
) -> None:
    calls = [make_call(f"{number}", at=number, cost_nano=7) for number in range(count)]
    insert(storage, calls)
    assert insert(storage, [*calls, make_call("one more", cost_nano=1)]) == frozenset()

    totals = (
        "SELECT count(*)::int, (SELECT sum(calls) FROM spend_hours)::int, (SELECT sum(cost_nano) FROM spend_hours)::int"
    )
    assert ask(postgres_ledger, f"{totals} FROM calls") == [(count + 1, count + 1, 7 * count + 1)]


@pytest.mark.parametrize("neighbours", [2, COPY_ROWS])
def test_what_no_database_holds_does_not_take_its_neighbours_along(
    postgres_ledger: str, storage: PostgresStorage, neighbours: int
) -> None:
    absurd = make_call("absurd", usage=Usage(input_tokens=10**30, source="reported"), cost_nano=10**30)
    broken = make_call("broken")
    broken.door = None  # type: ignore[assignment]
    bad = [absurd, make_call("surrogate", requested_model="\ud800"), make_call("nul", requested_model="a\0b"), broken]
    refused = insert(storage, [*(make_call(f"{number}") for number in range(neighbours)), *bad])

    assert refused == {"broken"}
    found = {row[0]: row[1] for row in ask(postgres_ledger, "SELECT id, requested_model FROM calls")}
    assert len(found) == neighbours + 3
    assert (found["surrogate"], found["nul"]) == ("?", "a\ufffdb")
    assert ask(postgres_ledger, "SELECT input_tokens FROM calls WHERE id = 'absurd'") == [(2**63 - 1,)]


def test_two_storages_write_the_same_hours_at_once(postgres_ledger: str, storage: PostgresStorage) -> None:
    script = (
        "import sys; from support.call_records import make_call; from tollhouse.ledger.rows import row_of\n"
        "from tollhouse.ledger.store import storage_of\n"
        "storage = storage_of(sys.argv[1]); storage.open()\n"
        "keys = ['a', 'b', 'c'] if sys.argv[2] == 'left' else ['c', 'b', 'a']\n"
        "for batch in range(100):\n"
        "    rows = [row_of(make_call(f'{sys.argv[2]}-{batch}-{key}', key=key, cost_nano=1)) for key in keys]\n"
        "    assert not storage.insert(rows)\n"
        "storage.close()"
    )
    command = [sys.executable, "-c", script, postgres_ledger]
    environ = {**os.environ, "PYTHONPATH": str(TESTS)}
    processes = [subprocess.Popen([*command, name], stderr=subprocess.PIPE, env=environ) for name in ("left", "right")]

    assert [(process.communicate()[1], process.returncode) for process in processes] == [(b"", 0)] * 2
    totals = 'SELECT "key", calls::int, cost_nano::int FROM spend_hours ORDER BY "key"'
    assert ask(postgres_ledger, totals) == [("a", 200, 200), ("b", 200, 200), ("c", 200, 200)]


def test_a_stopped_server_is_an_unavailable_store_and_heals(
    postgres: PostgresServer, postgres_ledger: str, storage: PostgresStorage
) -> None:
    insert(storage, [make_call("before")])
    postgres.stop()
    with pytest.raises(StoreUnavailable):
        insert(storage, [make_call("during")])
    with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1"):
        storage.open()
    postgres.start()
    storage.open()
    insert(storage, [make_call("after")])

    assert ask(postgres_ledger, "SELECT id FROM calls ORDER BY seq") == [("before",), ("after",)]


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://me:hunter2@127.0.0.1:1/books",
        "postgresql://me:hunter2@127.0.0.1:port/books",
        "postgresql://me:hunter2/extra@127.0.0.1:1/books",
        "postgresql://me@127.0.0.1:1/books?password=hunter2",
        "postgresql://me:hunter2@127.0.0.1:1/books?port=hunter2",
    ],
)
def test_no_message_shows_the_password(address: str) -> None:
    with pytest.raises(StoreUnavailable) as caught:
        store.prepare(address)
    storage = PostgresStorage(address)
    with pytest.raises(StoreUnavailable) as again:
        storage.open()
    storage.close()

    assert "hunter2" not in f"{caught.value} {again.value} {caught.value.hint}"
