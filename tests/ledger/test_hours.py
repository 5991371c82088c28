"""The hourly totals say what the rows say, in both databases, however the question cuts the hours."""

import asyncio
import random
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import pytest

from support.call_records import NOON_US, make_call
from support.postgres import PostgresServer
from tollhouse.chat.usage import Usage
from tollhouse.config.schema import Scope
from tollhouse.errors import StoreUnavailable
from tollhouse.ledger import migrations, store
from tollhouse.ledger.hours import HOUR_US, MAX_COST_NANO, MAX_TOKENS, NAMES, NUMBERS, OF_A_ROW
from tollhouse.ledger.journal import Journal
from tollhouse.ledger.reading import Statement, read
from tollhouse.ledger.record import CallRecord
from tollhouse.ledger.reports import By, usage
from tollhouse.ledger.rows import COLUMNS, row_of
from tollhouse.ledger.spending import LAST_US, SpendReader
from tollhouse.ledger.sqlite import COUNT_ROWS
from tollhouse.ledger.store import Storage

HOUR = 3600
DATABASES = ["sqlite", "postgresql"]


@pytest.fixture
def url(any_url: str) -> str:
    """An empty ledger."""
    return any_url


@pytest.fixture
def storage(url: str) -> Iterator[Storage]:
    storage = store.storage_of(url)
    storage.open()
    yield storage
    storage.close()


@asynccontextmanager
async def reading(url: str, journals: Path) -> AsyncIterator[SpendReader]:
    reader = SpendReader(url, journals)
    try:
        yield reader
    finally:
        await reader.aclose()


def insert(storage: Storage, calls: Sequence[CallRecord]) -> None:
    assert storage.insert([row_of(call) for call in calls]) == frozenset()


def execute(url: str, script: str) -> None:
    """Changes something behind the ledger's back."""
    if not store.is_postgresql(url):
        with closing(sqlite3.connect(store.sqlite_path(url))) as connection, connection:
            connection.executescript(script)
        return

    async def work() -> None:
        connection = await asyncpg.connect(url)
        await connection.execute(script)
        await connection.close()

    asyncio.run(work())


def hours_of(url: str) -> list[tuple[object, ...]]:
    (answer,) = read(url, [Statement(_summed("spend_hours"))])
    return answer


def _summed(table: str) -> str:
    keys = ", ".join(f'"{name}"' for name in ("hour_us", *NAMES))
    sums = ", ".join(f"CAST(sum({name}) AS bigint)" for name in NUMBERS)
    return f"SELECT {keys}, {sums} FROM {table} GROUP BY 1, 2, 3, 4, 5, 6, 7 ORDER BY 1, 2, 3, 4, 5, 6, 7"


def hours_from_rows(url: str) -> list[tuple[object, ...]]:
    """What the totals should be: the rows, summed anew."""
    keys = ", ".join(OF_A_ROW[name] for name in ("hour_us", *NAMES))
    sums = ", ".join(f"CAST(sum({OF_A_ROW[name]}) AS bigint)" for name in NUMBERS)
    statement = f"SELECT {keys}, {sums} FROM calls GROUP BY 1, 2, 3, 4, 5, 6, 7 ORDER BY 1, 2, 3, 4, 5, 6, 7"
    (answer,) = read(url, [Statement(statement)])
    return answer


def mixed_calls(count: int, seed: int = 7) -> list[CallRecord]:
    """Calls of six hours by several callers, to the microsecond; some fail, some have no known cost."""
    chance = random.Random(seed)
    calls = []
    for number in range(count):
        provider, model = chance.choice([("openai", "gpt"), ("openai", "mini"), ("local", "tiny")])
        said = Usage(input_tokens=chance.choice([None, 0, 100]), output_tokens=chance.choice([None, 7]))
        call = make_call(
            f"{number:05}",
            usage=said,
            # Without input tokens nothing is billed: `prices.cost`.
            cost_nano=chance.choice([None, 0, 1, chance.randrange(10**9)]) if said.input_tokens is not None else None,
            requested_model=chance.choice(["smart", f"{provider}/{model}", model]),
            provider=provider,
            model=model,
            key=chance.choice(["dev", "ci"]),
            tenant=chance.choice(["acme", "", "other"]),
            outcome=chance.choice(["ok", "ok", "provider_refused", "client_left"]),
        )
        call.started_at_us = NOON_US + chance.randrange(6 * HOUR_US)
        calls.append(call)
    return calls


BELONGS: dict[Scope, Callable[[CallRecord], bool]] = {
    Scope("global"): lambda call: True,
    Scope("tenant", "acme"): lambda call: call.tenant == "acme",
    Scope("tenant", ""): lambda call: call.tenant == "",
    Scope("project", "acme/web"): lambda call: (call.tenant, call.project) == ("acme", "web"),
    Scope("key", "ci"): lambda call: call.key == "ci",
    Scope("provider", "local"): lambda call: call.provider == "local",
    Scope("model", "smart"): lambda call: call.requested_model == "smart",
    Scope("model", "mini"): lambda call: call.requested_model == "mini",
    Scope("model", "openai/mini"): lambda call: (call.provider, call.model) == ("openai", "mini"),
    Scope("key", "nobody"): lambda call: False,
}
WINDOWS = [
    (NOON_US, NOON_US + 6 * HOUR_US),
    (0, LAST_US),
    (0, 2**70),
    (NOON_US + 2 * HOUR_US, NOON_US + 2 * HOUR_US + 1_234_567),
    (NOON_US + 1, NOON_US + 4 * HOUR_US - 1),
    (NOON_US + 61_000_001, NOON_US + 1_800_000_007),
    (NOON_US + HOUR_US - 1, NOON_US + HOUR_US + 1),
    (NOON_US + HOUR_US, NOON_US + HOUR_US),
    (NOON_US + HOUR_US, NOON_US),
]


def test_the_totals_are_those_of_the_rows(url: str, storage: Storage) -> None:
    calls = mixed_calls(2000)
    for start in range(0, len(calls), 50):
        insert(storage, calls[start : start + 50])
    insert(storage, calls[500:1500])

    assert len(hours_of(url)) > 50
    assert hours_of(url) == hours_from_rows(url)


async def test_spending_is_exact_to_the_microsecond_for_every_scope(url: str, storage: Storage, tmp_path: Path) -> None:
    calls = mixed_calls(2000)
    edges = []
    for window in WINDOWS:
        for at in window:
            if NOON_US <= at < NOON_US + 6 * HOUR_US:
                edges += [make_call(f"edge-{at}-{shift}", cost_nano=10**9) for shift in (-1, 0)]
                edges[-2].started_at_us, edges[-1].started_at_us = at - 1, at
    calls += edges
    await asyncio.to_thread(insert, storage, calls)
    async with reading(url, tmp_path / "none") as reader:
        for scope, counts in BELONGS.items():
            for from_us, before_us in WINDOWS:
                found = await reader.spent(scope, from_us, before_us)
                unique = {call.id: call for call in calls}.values()
                mine = [call for call in unique if counts(call) and from_us <= call.started_at_us < before_us]
                assert found == sum(call.cost_nano or 0 for call in mine), (str(scope), from_us, before_us)


async def test_what_waits_in_a_journal_counts_once_before_and_after_its_replay(
    url: str, storage: Storage, tmp_path: Path
) -> None:
    folder = tmp_path / "journals"
    journal = Journal(folder, store.journal_name(url), max_bytes=1_000_000)
    both = make_call("both", cost_nano=1)
    await asyncio.to_thread(insert, storage, [make_call("stored", cost_nano=10), both])
    journal.append([row_of(both), row_of(make_call("waits", cost_nano=100))])
    journal.append([row_of(make_call("other", key="ci", cost_nano=1000)), row_of(make_call("late", at=2 * HOUR))])
    other = Journal(folder, "another-ledger", max_bytes=1_000_000)
    other.append([row_of(make_call("foreign", cost_nano=5000))])
    async with reading(url, folder) as reader:
        for _ in range(2):
            assert await reader.spent(Scope("key", "dev"), NOON_US, NOON_US + HOUR_US) == 111
            assert await reader.spent(Scope("global"), NOON_US, NOON_US + 1) == 1111
            wanted = ["stored", "both", "waits", "foreign", "unknown"]
            assert await reader.costs_of(wanted) == {"stored": 10, "both": 1, "waits": 100}
            await asyncio.to_thread(lambda: [*journal.replay(storage.insert)])
    other.close()


async def test_many_ids_are_looked_for_in_pieces(url: str, storage: Storage, tmp_path: Path) -> None:
    await asyncio.to_thread(
        insert, storage, [make_call(f"{number}", cost_nano=number if number % 2 else None) for number in range(1200)]
    )
    async with reading(url, tmp_path / "none") as reader:
        found = await reader.costs_of(str(number) for number in range(600, 2000))
        assert found == {str(number): number if number % 2 else 0 for number in range(600, 1200)}
        assert await reader.costs_of([]) == {}


async def test_a_ledger_that_does_not_answer_says_nothing_about_spending(
    postgres: PostgresServer, postgres_ledger: str, tmp_path: Path
) -> None:
    async with reading(postgres_ledger, tmp_path) as reader:
        assert await reader.spent(Scope("global"), 0, LAST_US) == 0
        await asyncio.to_thread(postgres.stop)
        with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1"):
            await reader.spent(Scope("global"), 0, LAST_US)
        await asyncio.to_thread(postgres.start)
        assert await reader.spent(Scope("global"), 0, LAST_US) == 0
    async with reading(f"sqlite:///{tmp_path / 'none.db'}", tmp_path) as reader:
        with pytest.raises(StoreUnavailable, match=r"none\.db"):
            await reader.spent(Scope("global"), 0, LAST_US)


async def test_a_server_that_was_restarted_is_asked_again_without_an_error(
    postgres: PostgresServer, postgres_ledger: str, tmp_path: Path
) -> None:
    async with reading(postgres_ledger, tmp_path) as reader:
        assert await reader.costs_of(["a"]) == {}
        await asyncio.to_thread(postgres.stop)
        await asyncio.to_thread(postgres.start)
        assert await reader.costs_of(["a"]) == {}


@pytest.mark.parametrize("by", [*By])
def test_a_report_that_begins_within_an_hour_counts_its_rows_from_there(url: str, storage: Storage, by: By) -> None:
    calls = mixed_calls(1000)
    insert(storage, calls)
    since_us = NOON_US + HOUR_US + 1_234_567
    report = usage(url, by=by, since=datetime.fromtimestamp(0, UTC) + timedelta(microseconds=since_us))

    mine = [call for call in calls if call.started_at_us >= since_us]
    assert report.total.calls == len(mine)
    assert report.total.errors == sum(call.outcome != "ok" for call in mine)
    assert report.total.cost_nano == sum(call.cost_nano or 0 for call in mine)
    assert report.total.unknown_cost_calls == sum(call.cost_nano is None for call in mine)
    assert report.total.input_tokens == sum(call.usage.input_tokens or 0 for call in mine)
    assert report.total.cache_read_tokens is None
    assert sum(group.totals.cost_nano for group in report.groups) == report.total.cost_nano


def test_an_hour_whose_rows_were_pruned_counts_whole_in_a_report(url: str, storage: Storage) -> None:
    insert(storage, [make_call("old", at=10, cost_nano=1), make_call("young", at=HOUR, cost_nano=2)])
    since = datetime.fromtimestamp(NOON_US // 1_000_000 + 60, UTC)
    assert usage(url, by=By.KEY, since=since).total.cost_nano == 2
    assert storage.prune(NOON_US + HOUR_US, 10) == 1

    assert usage(url, by=By.KEY, since=since).total.cost_nano == 3
    assert usage(url, by=By.KEY).total.cost_nano == 3


def test_pruning_takes_the_oldest_first_and_leaves_the_totals(url: str, storage: Storage) -> None:
    insert(storage, [make_call(f"{number:02}", at=number * HOUR // 4) for number in reversed(range(20))])
    before = hours_of(url)
    assert storage.prune(NOON_US + 2 * HOUR_US, 5) == 5
    (left,) = read(url, [Statement("SELECT id FROM calls ORDER BY id")])
    assert left == [(f"{number:02}",) for number in range(5, 20)]
    assert storage.prune(NOON_US + 2 * HOUR_US, 5) == 3
    assert storage.prune(NOON_US + 2 * HOUR_US, 5) == 0

    assert hours_of(url) == before


def test_a_new_price_changes_the_hour_with_the_row(url: str, storage: Storage) -> None:
    insert(storage, mixed_calls(500))
    execute(url, "UPDATE calls SET cost_nano = 5 WHERE cost_nano IS NULL AND input_tokens = 0 AND \"key\" = 'dev'")
    execute(url, "UPDATE calls SET cost_nano = NULL WHERE cost_nano = 1")
    execute(url, "UPDATE calls SET cost_nano = cost_nano + 1, price_version = 'new'")

    assert hours_of(url) == hours_from_rows(url)


def test_absurd_numbers_stay_within_what_can_be_summed(url: str, storage: Storage) -> None:
    absurd = Usage(input_tokens=2**63 - 1, output_tokens=MAX_TOKENS, source="reported")
    insert(storage, [make_call(f"{number}", usage=absurd, cost_nano=2**63 - 1) for number in range(3)])

    (row,) = hours_of(url)
    assert (row[NUMBERS.index("input_tokens") + 7], row[NUMBERS.index("cost_nano") + 7]) == (
        3 * MAX_TOKENS,
        3 * MAX_COST_NANO,
    )
    assert hours_of(url) == hours_from_rows(url)


def test_names_that_callers_make_up_do_not_fill_the_totals(url: str, storage: Storage) -> None:
    """Rows go when they are old, totals stay: what a provider refused under a made-up name is counted without it."""
    made_up = [
        make_call(
            f"{number}",
            requested_model=f"openai/x{number}",
            model=f"x{number}",
            usage=Usage(),
            cost_nano=None,
            outcome="provider_refused",
        )
        for number in range(50)
    ]
    insert(storage, [*made_up, make_call("real", requested_model="openai/gpt", model="gpt")])

    assert [(row[4], row[5], row[6], row[7]) for row in hours_of(url)] == [
        ("", "openai", "", 50),
        ("", "openai", "gpt", 1),
    ]


def seqs(path: Path) -> tuple[int, int]:
    """Up to which row the hours of a SQLite ledger are counted, and the last row."""
    with closing(sqlite3.connect(path)) as connection:
        counted, last = connection.execute(
            "SELECT counted_seq, (SELECT coalesce(max(seq), 0) FROM calls) FROM hours_state"
        ).fetchone()
    return counted, last


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[tuple[str, Path, Storage]]:
    """An open SQLite ledger and where it is."""
    path = tmp_path / "counted.db"
    address = f"sqlite:///{path}"
    store.prepare(address)
    storage = store.storage_of(address)
    storage.open()
    yield address, path, storage
    storage.close()


def test_rows_are_counted_into_their_hours_when_some_hundred_have_come(ledger: tuple[str, Path, Storage]) -> None:
    """All of them, so that a question reads few rows; and as the rows say."""
    url, path, storage = ledger
    for start in range(0, COUNT_ROWS, 32):
        assert seqs(path) == (0, start)
        insert(storage, mixed_calls(COUNT_ROWS)[start : start + 32])

    assert seqs(path) == (COUNT_ROWS, COUNT_ROWS)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute(_summed("counted_hours")).fetchall() == hours_from_rows(url)
    assert hours_of(url) == hours_from_rows(url)


def test_rows_that_two_processes_write_by_turns_are_counted_once(ledger: tuple[str, Path, Storage]) -> None:
    url, path, storage = ledger
    other = store.storage_of(url)
    other.open()
    calls = mixed_calls(3 * COUNT_ROWS)
    for start in range(0, len(calls), 16):
        insert(storage if start % 32 else other, calls[start : start + 16])
        insert(other, calls[max(0, start - 8) : start + 8])  # as a journal that is replayed
    other.close()

    assert seqs(path)[0] > COUNT_ROWS
    assert hours_of(url) == hours_from_rows(url)


def test_rows_that_a_process_left_uncounted_are_counted_by_the_next(ledger: tuple[str, Path, Storage]) -> None:
    url, path, storage = ledger
    insert(storage, mixed_calls(20))
    assert seqs(path) == (0, 20)
    storage.open()

    assert seqs(path) == (20, 20)
    assert hours_of(url) == hours_from_rows(url)


def test_a_row_that_goes_before_it_was_counted_stays_in_the_totals(ledger: tuple[str, Path, Storage]) -> None:
    """Also when the number of the last row is given to another one."""
    url, path, storage = ledger
    insert(storage, mixed_calls(30))
    before = hours_of(url)
    execute(url, "DELETE FROM calls WHERE seq > 10")
    assert hours_of(url) == before
    assert seqs(path) == (10, 10)
    insert(storage, [make_call("next", cost_nano=7, key="its-own")])
    assert seqs(path) == (10, 11)

    assert [row for row in hours_of(url) if row not in before] == [row for row in hours_of(url) if row[3] == "its-own"]
    assert len(hours_of(url)) == len(before) + 1
    execute(url, "DELETE FROM calls")
    assert seqs(path) == (0, 0)
    assert sum(int(str(row[7])) for row in hours_of(url)) == 31


@pytest.mark.parametrize("counted", [0, 10, 20])
def test_a_new_price_changes_the_hour_once_counted_or_not(ledger: tuple[str, Path, Storage], counted: int) -> None:
    url, path, storage = ledger
    insert(storage, mixed_calls(counted))
    storage.open()
    insert(storage, mixed_calls(20)[counted:])
    assert seqs(path) == (counted, 20)
    execute(url, "UPDATE calls SET cost_nano = 5 WHERE cost_nano IS NULL")
    execute(url, "UPDATE calls SET cost_nano = cost_nano * 3 + 1")
    assert hours_of(url) == hours_from_rows(url)
    storage.open()

    assert seqs(path) == (20, 20)
    assert hours_of(url) == hours_from_rows(url)


def test_names_that_look_alike_when_joined_are_counted_apart(ledger: tuple[str, Path, Storage]) -> None:
    url, _, storage = ledger
    names = ["", '"', '","', "\\", "a", 'a","', "\0", "a\0b", "\n", "null", "1"]
    insert(storage, [make_call(f"{tenant!r}{key!r}", tenant=tenant, key=key) for tenant in names for key in names])
    storage.open()

    assert len(hours_of(url)) == len(names) ** 2
    assert hours_of(url) == hours_from_rows(url)


@pytest.mark.parametrize("revision", ["0002", "0008"])
def test_a_ledger_whose_hours_a_trigger_kept_is_counted_once(tmp_path: Path, revision: str) -> None:
    """A migration keeps the totals of rows that were pruned, and what follows is added to them."""
    path = tmp_path / "old.db"
    address = f"sqlite:///{path}"
    migrations.upgrade(address, revision)
    names = ", ".join(f'"{name}"' for name in COLUMNS)
    calls = mixed_calls(60)
    with closing(sqlite3.connect(path)) as connection, connection:
        marks = ", ".join("?" * len(COLUMNS))
        connection.executemany(f"INSERT INTO calls ({names}) VALUES ({marks})", [row_of(call) for call in calls[:40]])
    before = hours_of(address)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM calls WHERE seq <= 5")
    store.prepare(address)
    assert hours_of(address) == before
    storage = store.storage_of(address)
    storage.open()
    insert(storage, calls)  # and so the five come back, as new ones
    storage.close()

    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executemany("DELETE FROM calls WHERE id = ?", [(call.id,) for call in calls[:5]])
    assert sum(int(str(row[7])) for row in hours_of(address)) == 65


@pytest.mark.parametrize("database", DATABASES)
def test_the_calls_of_an_older_ledger_are_counted_by_its_migration(
    database: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """As version 0.1 left them: the table of calls alone."""
    address = f"sqlite:///{tmp_path / 'old.db'}"
    if database == "postgresql":
        address = request.getfixturevalue("postgres_url")
    migrations.upgrade(address, "0001")
    names = ", ".join(f'"{name}"' for name in COLUMNS)
    rows = (", ".join("NULL" if value is None else repr(value) for value in row_of(call)) for call in mixed_calls(300))
    execute(address, "; ".join(f"INSERT INTO calls ({names}) VALUES ({row})" for row in rows))
    with pytest.raises(StoreUnavailable, match="has no totals"):
        usage(address, by=By.KEY)
    store.prepare(address)

    assert hours_of(address) == hours_from_rows(address)
    assert usage(address, by=By.KEY).total.calls == 300
