"""The audit log in a database, SQLite and PostgreSQL: what it takes, what it refuses, several writers at once."""

import asyncio
import itertools
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import asyncpg
import pytest

from support.postgres import PostgresServer
from tollhouse.errors import ConfigError, StoreUnavailable
from tollhouse.ledger import store
from tollhouse.ledger.audit import GENESIS, Entry, Head, chain, entry
from tollhouse.ledger.audit_postgres import append_postgres
from tollhouse.ledger.audit_store import AuditLog, Filter, append_sqlite, open_audit

NUMBERS = itertools.count(1)
OTHERS = "at_us, actor, action, object, changes, address, outcome, request_id, events"
APPENDER = """
import sys
from tollhouse.ledger.audit import entry
from tollhouse.ledger.audit_store import open_audit
log = open_audit(sys.argv[1], busy_ms=30_000)
for number in range(int(sys.argv[3])):
    log.append([entry(at_us=number, actor=sys.argv[2], action="key.create", object=f"key:{number}")])
log.close()
"""


def made(number: int, **fields: str) -> Entry:
    return entry(**{"at_us": number, "actor": "cli:ada", "action": "key.create", "object": f"key:{number}", **fields})  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def template(postgres_session: PostgresServer) -> str:
    """A PostgreSQL database with an empty ledger.  Migrating takes seconds, copying a database a tenth of one."""
    address = postgres_session.make_database()
    store.prepare(address)
    return address


@pytest.fixture
def postgres_ledger(postgres: PostgresServer, template: str) -> str:
    """A PostgreSQL ledger of the test's own."""
    address = f"{template}_{next(NUMBERS)}"
    name, model = address.rpartition("/")[2], template.rpartition("/")[2]
    Tamperer(f"{template.rpartition('/')[0]}/postgres").run(f"CREATE DATABASE {name} TEMPLATE {model}")
    return address


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty ledger."""
    if request.param == "postgres":
        return str(request.getfixturevalue("postgres_ledger"))
    address = f"sqlite:///{tmp_path / 't.db'}"
    store.prepare(address)
    return address


@pytest.fixture
def log(url: str) -> Iterator[AuditLog]:
    opened = open_audit(url)
    yield opened
    opened.close()


class Tamperer:
    """Somebody with the database's password who first removes the triggers."""

    def __init__(self, url: str) -> None:
        self._url = url

    def disarm(self) -> None:
        names = {
            "sqlite": ("audit_follows", "audit_keeps_updated", "audit_keeps_deleted"),
            "postgresql": ("audit_follows", "audit_keeps_rows", "audit_keeps_all"),
        }[self._url.partition(":")[0]]
        for name in names:
            self.run(f"DROP TRIGGER {name}" + ("" if self._url.startswith("sqlite") else " ON audit"))

    def run(self, statement: str) -> None:
        if self._url.startswith("sqlite"):
            with closing(sqlite3.connect(store.sqlite_path(self._url), isolation_level=None)) as connection:
                connection.execute(statement)
        else:
            asyncio.run(self._run_postgres(statement))

    async def _run_postgres(self, statement: str) -> None:
        connection = await asyncpg.connect(self._url)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()


@pytest.fixture
def tamperer(url: str) -> Tamperer:
    return Tamperer(url)


# -------------------------------------------------------------------------------------------------------- writing, reading


def test_what_was_appended_is_read_back_and_holds(log: AuditLog) -> None:
    first = log.append([made(1), made(2, address="::1", outcome="refused", request_id="req_x")])
    second = log.append([made(3)])
    records = chain(Head(), [made(1), made(2, address="::1", outcome="refused", request_id="req_x"), made(3)])

    assert list(log.records()) == records
    assert (first, second) == (Head(2, records[1].hash), Head(3, records[2].hash))
    assert log.verify(kept=first.hash).kept_at == 2


def test_a_new_log_is_empty_and_whole(log: AuditLog) -> None:
    verdict = log.verify()

    assert (verdict.records, verdict.head, verdict.is_whole) == (0, GENESIS, True)


def test_a_log_of_several_pages_is_read_to_its_end(log: AuditLog) -> None:
    log.append([made(number) for number in range(2001)])

    assert log.verify().records == 2001
    assert [record.seq for record in log.records()] == list(range(1, 2002))


def test_filters_choose_the_newest_first(log: AuditLog) -> None:
    log.append(
        [
            made(1, action="key.create"),
            made(2, action="key.revoke", actor="ops"),
            made(3, action="keyring.open"),
            made(4, action="key.create", outcome="failed"),
            made(5, action="tenant.create", object="tenant:x"),
        ]
    )

    def found(at_most: int = 10, **wanted: object) -> list[int]:
        return [record.seq for record in log.newest(Filter(**wanted), at_most)]  # type: ignore[arg-type]

    assert found() == [5, 4, 3, 2, 1]
    assert found(2) == [5, 4]
    assert found(since_us=3) == [5, 4, 3]
    assert found(before_seq=3) == [2, 1]
    assert found(action="key") == [4, 2, 1]
    assert found(action="key.create") == [4, 1]
    assert found(actor="ops") == [2]
    assert found(object="tenant:x") == [5]
    assert found(outcome="failed", action="key", before_seq=5) == [4]
    assert found(action="k%") == []


# ------------------------------------------------------------------------------------------------------------- append-only


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit SET actor = 'nobody' WHERE seq = 2",
        "DELETE FROM audit WHERE seq = 3",
        "DELETE FROM audit",
        "INSERT INTO audit SELECT * FROM audit WHERE seq = 3",
        f"INSERT INTO audit SELECT 5, {OTHERS}, hash, hash FROM audit WHERE seq = 3",  # leaves out a number
        f"INSERT INTO audit SELECT 4, {OTHERS}, previous, hash FROM audit WHERE seq = 3",  # follows on another record
    ],
)
def test_the_database_refuses_whatever_is_not_the_next_record(
    log: AuditLog, tamperer: Tamperer, statement: str
) -> None:
    log.append([made(1), made(2), made(3)])
    before = list(log.records())
    with pytest.raises((sqlite3.IntegrityError, asyncpg.PostgresError), match=r"append-only|must follow"):
        tamperer.run(statement)

    assert list(log.records()) == before


def test_sqlite_refuses_to_replace_a_record_in_passing(tmp_path: Path) -> None:
    """Its `REPLACE` deletes without asking the triggers of a deletion."""
    url = f"sqlite:///{tmp_path / 't.db'}"
    store.prepare(url)
    with closing(open_audit(url)) as log:
        log.append([made(1)])
    with pytest.raises(sqlite3.IntegrityError, match="must follow"):
        Tamperer(url).run("INSERT OR REPLACE INTO audit SELECT * FROM audit")


def test_postgresql_refuses_to_truncate(postgres_ledger: str) -> None:
    with pytest.raises(asyncpg.PostgresError, match="append-only"):
        Tamperer(postgres_ledger).run("TRUNCATE audit")


# --------------------------------------------------------------------------------------------------------------- tampering


@pytest.mark.parametrize(
    ("statements", "seq", "kind"),
    [
        (["UPDATE audit SET actor = 'nobody' WHERE seq = 2"], 2, "altered"),
        (["UPDATE audit SET at_us = at_us + 1 WHERE seq = 4"], 4, "altered"),
        (["DELETE FROM audit WHERE seq = 3"], 3, "removed"),
        (["DELETE FROM audit WHERE seq <= 2"], 1, "removed"),
        (
            [
                "DELETE FROM audit WHERE seq = 2",
                "UPDATE audit SET seq = seq + 100 WHERE seq > 2",
                "UPDATE audit SET seq = seq - 101 WHERE seq > 2",
            ],
            2,
            "removed",
        ),
        (
            [
                "UPDATE audit SET seq = 99 WHERE seq = 2",
                "UPDATE audit SET seq = 2 WHERE seq = 4",
                "UPDATE audit SET seq = 4 WHERE seq = 99",
            ],
            2,
            "reordered",
        ),
    ],
)
def test_what_was_done_to_the_table_behind_our_back_is_found(
    log: AuditLog, tamperer: Tamperer, statements: list[str], seq: int, kind: str
) -> None:
    log.append([made(number) for number in range(1, 6)])
    tamperer.disarm()
    for statement in statements:
        tamperer.run(statement)

    broken = log.verify().broken
    assert broken is not None
    assert (broken.seq, broken.kind) == (seq, kind)


def test_a_cut_tail_is_found_with_the_head_that_was_kept(log: AuditLog, tamperer: Tamperer) -> None:
    head = log.append([made(number) for number in range(1, 6)])
    tamperer.disarm()
    tamperer.run("DELETE FROM audit WHERE seq > 3")

    verdict = log.verify(kept=head.hash)
    assert verdict.is_whole
    assert verdict.kept_at is None


# ---------------------------------------------------------------------------------------------------------- several writers


def test_processes_that_write_at_once_make_one_chain(url: str, log: AuditLog) -> None:
    command = [sys.executable, "-c", APPENDER, url]
    processes = [subprocess.Popen([*command, f"writer-{number}", "50"], stderr=subprocess.PIPE) for number in range(3)]
    assert [(process.communicate()[1], process.returncode) for process in processes] == [(b"", 0)] * 3

    verdict = log.verify()
    assert (verdict.records, verdict.broken) == (150, None)
    for number in range(3):
        own = [record.at_us for record in log.records() if record.actor == f"writer-{number}"]
        assert own == list(range(50))


def test_a_record_is_part_of_the_transaction_that_it_is_about(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 't.db'}"
    store.prepare(url)
    log = open_audit(url)
    with closing(sqlite3.connect(tmp_path / "t.db", isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        append_sqlite(connection, [made(1)])
        connection.execute("ROLLBACK")
        assert log.verify().records == 0
        connection.execute("BEGIN IMMEDIATE")
        append_sqlite(connection, [made(2)])
        connection.execute("COMMIT")
    assert [record.at_us for record in log.records()] == [2]
    log.close()


async def test_a_postgresql_transaction_takes_its_record_with_it_and_lets_others_wait(postgres_ledger: str) -> None:
    one, other = await asyncpg.connect(postgres_ledger), await asyncpg.connect(postgres_ledger)

    async def append_other() -> Head:
        async with other.transaction():
            return await append_postgres(other, [made(2)])

    first = one.transaction()
    await first.start()
    await append_postgres(one, [made(1)])
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(append_other())
        await one.fetch("SELECT 1")
        assert not waiting.done()
        await first.rollback()
    assert waiting.result() == Head(1, chain(Head(), [made(2)])[0].hash)
    await one.close()
    await other.close()


# ----------------------------------------------------------------------------------------------------------------- trouble


def test_an_address_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="is not an address of a ledger"):
        open_audit("mysql://x/y")


def test_a_ledger_that_is_not_there_is_unavailable_and_not_made(tmp_path: Path) -> None:
    log = open_audit(f"sqlite:///{tmp_path / 't.db'}")
    with pytest.raises(StoreUnavailable, match="audit log"):
        log.append([made(1)])

    assert not (tmp_path / "t.db").exists()


def test_a_database_that_is_not_there_is_unavailable(postgres_ledger: str) -> None:
    log = open_audit(f"{postgres_ledger}_that_is_not_there")
    with pytest.raises(StoreUnavailable, match="does not exist"):
        log.append([made(1)])


def test_a_log_works_again_after_its_server_was_away(postgres: PostgresServer, postgres_ledger: str) -> None:
    log = open_audit(postgres_ledger)
    log.append([made(1)])
    postgres.stop()
    with pytest.raises(StoreUnavailable):
        log.append([made(2)])
    postgres.start()
    log.append([made(3)])

    assert [record.at_us for record in log.records()] == [1, 3]
    log.close()


def test_records_are_small(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 't.db'}"
    store.prepare(url)
    log = open_audit(url)
    empty = (tmp_path / "t.db").stat().st_size
    many: list[Entry] = [
        entry(
            at_us=1_700_000_000_000_000 + number,
            actor="gateway",
            action="auth.fail",
            object="public",
            changes={"code": "unauthenticated"},
            address="2001:db8::1234:5678",
            outcome="refused",
            request_id="req_018bcfe568000123456789ab",
        )
        for number in range(2000)
    ]
    log.append(many)
    log.close()

    assert ((tmp_path / "t.db").stat().st_size - empty) / len(many) < 350
