"""Addresses, fresh files, old files, foreign files, files of the future."""

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.script import ScriptDirectory

from support.call_records import ids_in, make_call
from tollhouse.chat.usage import Usage
from tollhouse.errors import ConfigError, StoreUnavailable
from tollhouse.ledger import migrations, store
from tollhouse.ledger.rows import COLUMNS, NULLABLE, row_of
from tollhouse.ledger.schema import CALLS
from tollhouse.ledger.sqlite import SqliteStorage


def shape(path: Path) -> list[tuple[str, ...]]:
    """Everything that a database consists of, without the white space of its statements."""
    with closing(sqlite3.connect(path)) as connection:
        found = connection.execute("SELECT type, name, tbl_name, coalesce(sql, '') FROM sqlite_master").fetchall()
        columns = connection.execute("SELECT * FROM pragma_table_xinfo('calls')").fetchall()
        stamped = connection.execute("SELECT * FROM alembic_version").fetchall()
    parts = [(*rest, " ".join(sql.split())) for *rest, sql in found]
    return sorted(parts) + [tuple(map(str, row)) for row in (*columns, *stamped)]


def url(path: Path) -> str:
    return f"sqlite:///{path}"


def test_a_fresh_file_is_for_its_owner_alone_and_an_old_one_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    store.prepare(url(path))
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o640)
    store.prepare(url(path))
    storage = SqliteStorage(path, busy_timeout_ms=1000)
    storage.open()
    assert {file.stat().st_mode & 0o777 for file in tmp_path.iterdir()} == {0o640}
    storage.close()


def test_a_file_that_the_writer_makes_anew_is_for_its_owner_alone(tmp_path: Path) -> None:
    storage = SqliteStorage(tmp_path / "t.db", busy_timeout_ms=1000)
    storage.open()
    assert {file.stat().st_mode & 0o777 for file in tmp_path.iterdir()} == {0o600}
    storage.close()


def test_the_snapshot_and_the_migrations_make_the_same_database(tmp_path: Path) -> None:
    store.prepare(url(tmp_path / "snapshot.db"))
    migrations.upgrade(url(tmp_path / "migrated.db"))

    assert shape(tmp_path / "snapshot.db") == shape(tmp_path / "migrated.db")


def test_the_tables_for_reports_are_those_of_the_database(tmp_path: Path) -> None:
    store.prepare(url(tmp_path / "t.db"))
    engine = sa.create_engine(url(tmp_path / "t.db"), poolclass=sa.NullPool)
    found = sa.inspect(engine).get_columns("calls")
    engine.dispose()

    wanted = [(column.name, str(column.type.dialect_impl(engine.dialect)), column.nullable) for column in CALLS.columns]
    assert [(column["name"], str(column["type"]), column["nullable"]) for column in found] == wanted
    assert tuple(column.name for column in CALLS.columns)[1:] == COLUMNS


def test_the_known_revisions_are_those_of_the_migrations() -> None:
    script = ScriptDirectory.from_config(migrations.config("sqlite://"))

    assert [revision.revision for revision in reversed([*script.walk_revisions()])] == [*store.REVISIONS]
    assert script.get_heads() == [store.HEAD]


def test_preparing_again_changes_nothing_and_keeps_the_rows(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "down" / "t.db"
    store.prepare(url(path))
    storage = SqliteStorage(path, busy_timeout_ms=100)
    storage.open()
    storage.insert([row_of(make_call("a"))])
    storage.close()
    before = shape(path)
    store.prepare(url(path))

    assert shape(path) == before
    assert ids_in(path) == ["a"]


def test_an_older_database_is_migrated_in_a_process_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(
            "CREATE TABLE alembic_version ( version_num VARCHAR(32) NOT NULL, "
            "CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num) )"
        )
    assert store.revision_of(url(path)) is None
    store.prepare(url(path))

    store.prepare(url(tmp_path / "fresh.db"))
    assert shape(path) == shape(tmp_path / "fresh.db")


def test_two_migrations_at_once_are_one_after_the_other(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    script = "import sys; from tollhouse.ledger import migrations; migrations.upgrade(sys.argv[1])"
    command = [sys.executable, "-c", script, url(path)]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(2)]

    assert [(process.communicate()[1], process.returncode) for process in processes] == [(b"", 0)] * 2
    store.prepare(url(tmp_path / "fresh.db"))
    assert shape(path) == shape(tmp_path / "fresh.db")


def test_a_newer_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    store.prepare(url(path))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")

    with pytest.raises(ConfigError, match="newer Tollhouse"):
        store.prepare(url(path))
    with pytest.raises(StoreUnavailable, match="newer Tollhouse"):
        SqliteStorage(path, busy_timeout_ms=100).open()


def test_a_database_of_somebody_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE recipes (name TEXT)")

    with pytest.raises(ConfigError, match="not a ledger of Tollhouse"):
        store.prepare(url(path))


def test_a_file_that_is_no_database_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "t.db").write_bytes(b"hello" * 1000)

    with pytest.raises(StoreUnavailable, match="not a database"):
        store.prepare(url(tmp_path / "t.db"))


def test_several_processes_may_prepare_one_file_at_once(tmp_path: Path) -> None:
    script = "import sys; from tollhouse.ledger import store; store.prepare(sys.argv[1])"
    command = [sys.executable, "-c", script, url(tmp_path / "t.db")]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(4)]

    assert [(process.communicate()[1], process.returncode) for process in processes] == [(b"", 0)] * 4


def test_a_process_that_serves_imports_neither_sqlalchemy_nor_alembic() -> None:
    script = (
        "import sys, tollhouse.ledger.writer, tollhouse.ledger.store, tollhouse.ledger.prices\n"
        "print([name for name in sys.modules if name.split('.')[0] in {'sqlalchemy', 'alembic', 'genai_prices'}])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"


def test_a_full_disk_is_an_unavailable_store_and_heals(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    storage = SqliteStorage(path, busy_timeout_ms=100)
    storage.open()
    assert storage._connection is not None
    storage._connection.execute("PRAGMA max_page_count = 10")  # SQLite's own disk, as full as a real one
    rows = [row_of(make_call(f"{number:03}")) for number in range(200)]
    with pytest.raises(StoreUnavailable, match="full"):
        storage.insert(rows)
    storage.open()
    storage.insert(rows)
    storage.close()

    assert sorted(ids_in(path)) == [f"{number:03}" for number in range(200)]


def test_a_column_that_said_nothing_for_a_while_keeps_what_it_says_later(tmp_path: Path) -> None:
    storage = SqliteStorage(tmp_path / "t.db", busy_timeout_ms=1000)
    storage.open()
    quiet = row_of(make_call("quiet", usage=Usage(input_tokens=5, output_tokens=3)))
    loud = tuple(
        900 + place if name in NULLABLE and value is None else value
        for place, (name, value) in enumerate(zip(COLUMNS, row_of(make_call("loud")), strict=True))
    )
    again = row_of(make_call("again", usage=Usage()))
    for batch in ([quiet], [quiet, loud], [again]):
        assert storage.insert(batch) == frozenset()
    storage.close()
    with closing(sqlite3.connect(tmp_path / "t.db")) as connection:
        kept = connection.execute(f"SELECT {', '.join(COLUMNS)} FROM calls ORDER BY seq").fetchall()
    assert [tuple(str(value) for value in row) for row in kept] == [
        tuple(str(value) for value in row) for row in (quiet, loud, again)
    ]
