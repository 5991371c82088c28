"""The audit log in the ledger's database: how records are appended, and how they are read back.

An append reads the head and writes the next record within one transaction that no other append can be in: SQLite gives a
writer the whole file (`BEGIN IMMEDIATE`), PostgreSQL (`audit_postgres`) an advisory lock that ends with the transaction.
Should a writer come without that, the table itself refuses: a trigger lets in only the record that follows on the last, and
none lets a record be changed or deleted.  Audit last in a transaction, so that the lock is held for a moment only.

No SQLAlchemy here: serving processes write failures of authentication through this module.
"""

import re
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Protocol, TypeAlias, TypeVar

import msgspec

from tollhouse.errors import StoreUnavailable
from tollhouse.ledger.address import is_postgresql, sqlite_path
from tollhouse.ledger.audit import Entry, Head, Record, Verdict, chain, walk

PAGE: Final = 1000
"""Records read at a time."""
BUSY_MS: Final = 5_000
"""How long an append waits for another process that writes the same file."""

_T = TypeVar("_T")
Row: TypeAlias = tuple[Any, ...]
_COLUMNS: Final = tuple(field.name for field in msgspec.structs.fields(Record))
_SELECT: Final = f"SELECT {', '.join(_COLUMNS)} FROM audit"  # noqa: S608 - our own names
HEAD: Final = "SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1"
INSERT: Final = (
    f"INSERT INTO audit ({', '.join(_COLUMNS)}) VALUES "  # noqa: S608 - our own names
    f"({', '.join(f'${number}' for number in range(1, len(_COLUMNS) + 1))})"
)


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Which records are wanted; what is empty wants all."""

    since_us: int | None = None
    before_seq: int | None = None
    """For paging: only records older than that one."""
    actor: str = ""
    action: str = ""
    """`key.create`, or `key` for all that begin with `key.`."""
    object: str = ""
    outcome: str = ""


class Driver(Protocol):
    """A database that holds an audit log.  Belongs to one thread at a time; every method raises `StoreUnavailable`."""

    def append(self, entries: Sequence[Entry]) -> Head:
        """Commits the entries as the newest records, all or none, and returns the new head."""
        ...

    def fetch(self, statement: str, values: Sequence[object] = ()) -> list[Row]:
        """The rows of a statement, whose values stand in it as `$1`, `$2` …, each once and in order."""
        ...

    def close(self) -> None:
        """Lets go of the connection; it is opened again when needed.  May be called twice."""
        ...


class AuditLog:
    """The audit log of a ledger.  Belongs to one thread at a time; every method raises `StoreUnavailable`."""

    def __init__(self, driver: Driver) -> None:
        """Use `open_audit`."""
        self._driver = driver

    def append(self, entries: Sequence[Entry]) -> Head:
        """Commits the entries as the newest records, all or none, and returns the new head."""
        return self._driver.append(entries)

    def records(self) -> Iterator[Record]:
        """Every record, oldest first, read `PAGE` at a time."""
        after_seq = 0
        while True:
            rows = self._driver.fetch(f"{_SELECT} WHERE seq > $1 ORDER BY seq LIMIT {PAGE}", (after_seq,))
            found = [_record(row) for row in rows]
            yield from found
            if len(found) < PAGE:
                return
            after_seq = found[-1].seq

    def newest(self, wanted: Filter, at_most: int) -> list[Record]:
        """Records that match, newest first."""
        tests: list[str] = []
        values: list[object] = []

        def require(test: str, value: object) -> None:
            values.append(value)
            tests.append(test.format(f"${len(values)}"))

        if wanted.since_us is not None:
            require("at_us >= {}", wanted.since_us)
        if wanted.before_seq is not None:
            require("seq < {}", wanted.before_seq)
        if "." in wanted.action:
            require("action = {}", wanted.action)
        elif wanted.action:
            # No LIKE: its wildcards could come from outside.
            require("substr(action, 1, length({})) = ", f"{wanted.action}.")
            values.append(f"{wanted.action}.")
            tests[-1] += f"${len(values)}"
        for name in ("actor", "object", "outcome"):
            if value := getattr(wanted, name):
                require(f"{name} = {{}}", value)
        where = f" WHERE {' AND '.join(tests)}" if tests else ""
        rows = self._driver.fetch(f"{_SELECT}{where} ORDER BY seq DESC LIMIT ${len(values) + 1}", (*values, at_most))
        return [_record(row) for row in rows]

    def verify(self, *, kept: bytes | None = None) -> Verdict:
        """Walks the whole chain.  `kept` is a head noted down earlier."""
        return walk(self.records(), find=self._find, kept=kept)

    def close(self) -> None:
        """Lets go of the connection; it is opened again when needed.  May be called twice."""
        self._driver.close()

    def _find(self, digest: bytes) -> int | None:
        rows = self._driver.fetch("SELECT seq FROM audit WHERE hash = $1 LIMIT 1", (digest,))
        return int(rows[0][0]) if rows else None


def open_audit(url: str, *, busy_ms: int = BUSY_MS) -> AuditLog:
    """The audit log of a ledger that exists.  Connects to nothing yet.

    Raises `ConfigError` for an address that is none, and `NotInstalled` for PostgreSQL without its extra.
    """
    if is_postgresql(url):
        from tollhouse.ledger.audit_postgres import PostgresAudit

        return AuditLog(PostgresAudit(url))
    return AuditLog(SqliteAudit(sqlite_path(url), busy_ms=busy_ms))


# ----------------------------------------------------------------------------------------------------------------- SQLite


def append_sqlite(connection: sqlite3.Connection, entries: Sequence[Entry]) -> Head:
    """Appends within the caller's transaction, which must have begun with `BEGIN IMMEDIATE`, or have written already.

    Returns the new head.  Raises `sqlite3.Error`; then roll back.
    """
    records = chain(head_of(connection.execute(HEAD).fetchone()), entries)
    connection.executemany(_question_marks(INSERT), [msgspec.structs.astuple(record) for record in records])
    return Head(records[-1].seq, records[-1].hash)


class SqliteAudit:
    """A SQLite ledger."""

    def __init__(self, path: Path, *, busy_ms: int) -> None:
        self._path = path
        self._busy_ms = busy_ms
        self._connection: sqlite3.Connection | None = None

    def append(self, entries: Sequence[Entry]) -> Head:
        """One transaction."""

        def write(connection: sqlite3.Connection) -> Head:
            connection.execute("BEGIN IMMEDIATE")
            try:
                head = append_sqlite(connection, entries)
                connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):  # the failure may have rolled back already
                    connection.execute("ROLLBACK")
                raise
            return head

        return self._with(write)

    def fetch(self, statement: str, values: Sequence[object] = ()) -> list[Row]:
        """Reads."""
        return self._with(lambda connection: connection.execute(_question_marks(statement), values).fetchall())

    def close(self) -> None:
        """Lets go of the file."""
        if self._connection is not None:
            with suppress(sqlite3.Error):  # a connection to a broken file cannot always be closed in good order
                self._connection.close()
            self._connection = None

    def _with(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        try:
            if self._connection is None:
                # `mode=rw`: a ledger that is not there is not made here.
                self._connection = sqlite3.connect(
                    f"{self._path.resolve().as_uri()}?mode=rw",
                    uri=True,
                    timeout=self._busy_ms / 1000,
                    isolation_level=None,
                    check_same_thread=False,  # opened by a writer's thread, closed by whoever joins it
                )
            return work(self._connection)
        except sqlite3.Error as error:
            self.close()
            raise StoreUnavailable(f"The audit log in {self._path} cannot be used: {error}.") from error


def _question_marks(statement: str) -> str:
    return re.sub(r"\$\d+", "?", statement)


def head_of(row: Sequence[Any] | None) -> Head:
    return Head() if row is None else Head(int(row[0]), bytes(row[1]))


def _record(row: Row) -> Record:
    return Record(**dict(zip(_COLUMNS, row, strict=True)))
