"""One transaction on the ledger's database, whichever it is, for code that blocks.

Statements are written once: values stand in them as `$1`, `$2` … and nothing else comes from outside.  SQLite takes the
same numbers behind a question mark.  PostgreSQL's driver is asynchronous, so its transaction brings an event loop of its
own; neither is for a thread that runs a loop already.  No SQLAlchemy: it has no driver for PostgreSQL here, and takes half
a second to import.
"""

import asyncio
import re
import sqlite3
from collections.abc import Callable, Coroutine
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias, TypeVar

from tollhouse.errors import NotInstalled, StoreUnavailable
from tollhouse.ledger.address import is_postgresql, sqlite_path

if TYPE_CHECKING:
    import asyncpg

BUSY_SECONDS: Final = 10.0
"""How long a transaction waits for another process that writes the same file."""
COMMAND_SECONDS: Final = 30.0
"""How long PostgreSQL may take to connect, or for one statement."""

T = TypeVar("T")
Value: TypeAlias = str | int | float | bytes | None
Row: TypeAlias = tuple[Any, ...]
_PLACES: Final = re.compile(r"\$(\d+)")


class Transaction(Protocol):
    """An open transaction.  Errors of the database pass through; whoever opened it turns them into `StoreUnavailable`."""

    def rows(self, statement: str, *values: Value) -> list[Row]:
        """What a statement returns."""
        ...

    def run(self, statement: str, *values: Value) -> None:
        """Carries out a statement that returns nothing."""
        ...


class SqliteTransaction:
    """On a connection that has begun a transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection: Final = connection

    def rows(self, statement: str, *values: Value) -> list[Row]:
        """What a statement returns."""
        return self.connection.execute(_PLACES.sub(r"?\1", statement), values).fetchall()

    def run(self, statement: str, *values: Value) -> None:
        """Carries out a statement that returns nothing."""
        self.connection.execute(_PLACES.sub(r"?\1", statement), values)


class PostgresTransaction:
    """On a connection that has begun a transaction, with the loop that it lives on."""

    def __init__(self, connection: "asyncpg.Connection[asyncpg.Record]", runner: asyncio.Runner) -> None:
        self.connection: Final = connection
        self._runner = runner

    def rows(self, statement: str, *values: Value) -> list[Row]:
        """What a statement returns."""
        return [tuple(row.values()) for row in self.wait(self._fetched(statement, values))]

    def run(self, statement: str, *values: Value) -> None:
        """Carries out a statement that returns nothing."""
        self.wait(self._fetched(statement, values))

    def wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """What a coroutine of this connection returns."""
        return self._runner.run(coroutine)

    async def _fetched(self, statement: str, values: tuple[Value, ...]) -> "list[asyncpg.Record]":
        rows: list[asyncpg.Record] = await self.connection.fetch(statement, *values)
        return rows


def transact(url: str, work: Callable[[Transaction], T], *, writes: bool = True) -> T:
    """Runs `work` in one transaction, which is committed when it returns and rolled back when it raises.

    A writing transaction on SQLite excludes other writers from its beginning.  Raises `StoreUnavailable` when the database
    cannot be used, `NotInstalled` for PostgreSQL without its extra, `ConfigError` for an address that is none, and what
    `work` raises.
    """
    if is_postgresql(url):
        return _transact_postgres(url, work, writes=writes)
    return _transact_sqlite(sqlite_path(url), work, writes=writes)


def _transact_sqlite(path: Path, work: Callable[[Transaction], T], *, writes: bool) -> T:
    try:
        # `mode=rw`: a ledger that is not there is not made here.
        address = f"{path.resolve().as_uri()}?mode=rw"
        with closing(sqlite3.connect(address, uri=True, timeout=BUSY_SECONDS, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE" if writes else "BEGIN")
            try:
                done = work(SqliteTransaction(connection))
                connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):  # the failure may have rolled back already
                    connection.execute("ROLLBACK")
                raise
            return done
    except sqlite3.Error as error:
        raise StoreUnavailable(f"The ledger {path} cannot be used: {error}.") from error


def _transact_postgres(url: str, work: Callable[[Transaction], T], *, writes: bool) -> T:
    try:
        import asyncpg
    except ImportError as error:
        raise NotInstalled(
            "A PostgreSQL ledger needs the `postgres` extra: pip install 'tollhouse[postgres]'."
        ) from error
    try:
        with asyncio.Runner() as runner:
            connection = runner.run(asyncpg.connect(url, timeout=COMMAND_SECONDS, command_timeout=COMMAND_SECONDS))
            try:
                # A reader sees one moment, a writer what was committed when it got the lock.
                opened = connection.transaction(
                    isolation="read_committed" if writes else "repeatable_read", readonly=not writes
                )
                runner.run(opened.start())
                done = work(PostgresTransaction(connection, runner))
                runner.run(opened.commit())
                runner.run(connection.close(timeout=COMMAND_SECONDS))
            finally:
                connection.terminate()  # rolls back what was not committed; nothing for a closed one
            return done
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
        raise StoreUnavailable(f"The ledger cannot be used: {error or type(error).__name__}.") from error
