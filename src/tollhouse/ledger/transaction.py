"""One transaction on the ledger's database, whichever it is, for code that blocks.

Statements are written once: values stand in them as `$1`, `$2` … and nothing else comes from outside.  SQLite takes the same
numbers behind a question mark.  PostgreSQL's driver is asynchronous, so its transaction brings an event loop of its own;
neither is for a thread that runs a loop already.  No SQLAlchemy: it has no driver for PostgreSQL here, and a serving process
may use this.

`transact` connects for one transaction.  A `Reader` keeps its connection, for whoever asks often.
"""

import asyncio
import os
import re
import sqlite3
from collections.abc import Callable, Coroutine
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final, Protocol, TypeAlias, TypeVar

from tollhouse.errors import NotInstalled, StoreUnavailable
from tollhouse.extras import POSTGRES
from tollhouse.ledger.address import is_postgresql, sqlite_path

BUSY_SECONDS: Final = 10.0
"""How long a transaction waits for another process that writes the same file."""
COMMAND_SECONDS: Final = 30.0
"""How long PostgreSQL may take for one statement of `transact`; most of it is waiting for another transaction."""
ANSWER_SECONDS: Final = 5.0
"""How long it may take for one statement of a reader, which waits for nobody."""

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
        return self._execute(statement, values).fetchall()

    def run(self, statement: str, *values: Value) -> None:
        """Carries out a statement that returns nothing."""
        self._execute(statement, values)

    def _execute(self, statement: str, values: tuple[Value, ...]) -> sqlite3.Cursor:
        # Not `?1`: Python 3.12.0 to 3.12.3 warn of each parameter that has a number.
        named = {f"v{number}": value for number, value in enumerate(values, 1)}
        return self.connection.execute(_PLACES.sub(r":v\1", statement), named)


class PostgresTransaction:
    """On a connection that has begun a transaction, with the loop that it lives on."""

    def __init__(
        self, connection: Any, runner: asyncio.Runner
    ) -> None:  # asyncpg's connection, which has no annotations
        self.connection: Final[Any] = connection
        self._runner = runner

    def rows(self, statement: str, *values: Value) -> list[Row]:
        """What a statement returns."""
        return [tuple(row.values()) for row in self._runner.run(self.connection.fetch(statement, *values))]

    def run(self, statement: str, *values: Value) -> None:
        """Carries out a statement that returns nothing."""
        self._runner.run(self.connection.fetch(statement, *values))

    def wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """What a coroutine of this connection returns."""
        return self._runner.run(coroutine)


def transact(url: str, work: Callable[[Transaction], T], *, writes: bool = True) -> T:
    """Runs `work` in one transaction, which is committed when it returns and rolled back when it raises.

    A writing transaction on SQLite excludes other writers from its beginning.  Raises `StoreUnavailable` when the database
    cannot be used, `NotInstalled` for PostgreSQL without its extra, `ConfigError` for an address that is none, and what
    `work` raises.
    """
    if is_postgresql(url):
        return _transact_postgres(url, work, writes=writes)
    return _transact_sqlite(sqlite_path(url), work, writes=writes)


class Reader(Protocol):
    """A kept connection that only reads.  Blocks, and belongs to one thread.

    Every method raises `StoreUnavailable` when the database cannot be used; the next one connects again.
    """

    def rows(self, statement: str) -> list[Row]:
        """What one statement returns."""
        ...

    def read(self, work: Callable[[Transaction], T]) -> T:
        """Runs `work` on the database as it is at one moment."""
        ...

    def close(self) -> None:
        """Lets go of the connection.  May be called twice."""
        ...


def open_reader(url: str, *, answer_seconds: float = ANSWER_SECONDS) -> Reader:
    """The reader of a ledger's address.  Connects to nothing yet; raises `ConfigError` for an address that is none.

    `answer_seconds` is how long PostgreSQL may take for one statement.  Raises `NotInstalled` for PostgreSQL without its extra.
    """
    if not is_postgresql(url):
        return SqliteReader(sqlite_path(url))
    if POSTGRES.missing():
        raise NotInstalled(f"A PostgreSQL ledger needs the `postgres` extra: {POSTGRES.command}.")
    return PostgresReader(url, answer_seconds)


class SqliteReader:
    """Of a SQLite ledger."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None

    def rows(self, statement: str) -> list[Row]:
        """What one statement returns."""
        try:
            return self._connected().execute(statement).fetchall()
        except (sqlite3.Error, OSError) as error:
            raise self._failed(error) from error

    def read(self, work: Callable[[Transaction], T]) -> T:
        """Runs `work` on the database as it is at one moment."""
        try:
            connection = self._connected()
            connection.execute("BEGIN")
            try:
                return work(SqliteTransaction(connection))
            finally:
                with suppress(sqlite3.Error):  # a failure may have ended it already
                    connection.execute("COMMIT")
        except (sqlite3.Error, OSError) as error:
            raise self._failed(error) from error

    def close(self) -> None:
        """Lets go of the file."""
        if self._connection is not None:
            with suppress(sqlite3.Error):  # a connection to a broken file cannot always be closed in good order
                self._connection.close()
            self._connection = None

    def _connected(self) -> sqlite3.Connection:
        status = os.stat(self._path)  # noqa: PTH116 - at every poll, and three times cheaper
        file = (status.st_dev, status.st_ino)
        if self._connection is not None and file != self._file:
            # A file that was deleted or replaced still answers, with what was in it.
            self.close()
            raise StoreUnavailable(f"The ledger {self._path} was replaced by another file.")
        if self._connection is None:
            self._connection = _open_sqlite(self._path, ANSWER_SECONDS)
            self._file = file
        return self._connection

    def _failed(self, error: Exception) -> StoreUnavailable:
        self.close()
        return _sqlite_unavailable(self._path, error)


class PostgresReader:
    """Of a PostgreSQL ledger."""

    def __init__(self, url: str, answer_seconds: float) -> None:
        self._url = url
        self._answer_seconds = answer_seconds
        self._runner: asyncio.Runner | None = None
        self._connection: Any = None

    def rows(self, statement: str) -> list[Row]:
        """What one statement returns."""
        return self._with(lambda transaction: transaction.rows(statement))

    def read(self, work: Callable[[Transaction], T]) -> T:
        """Runs `work` on the database as it is at one moment."""

        def run(transaction: PostgresTransaction) -> T:
            opened = transaction.connection.transaction(isolation="repeatable_read", readonly=True)
            transaction.wait(opened.start())
            done = work(transaction)
            transaction.wait(opened.rollback())
            return done

        return self._with(run)

    def close(self) -> None:
        """Closes the connection and the loop."""
        connection, self._connection = self._connection, None
        runner, self._runner = self._runner, None
        try:
            if connection is not None:
                connection.terminate()
        finally:
            if runner is not None:
                runner.close()

    def _with(self, work: Callable[[PostgresTransaction], T]) -> T:
        from tollhouse.ledger.postgres import FAILURES, connect, unavailable

        try:
            if self._runner is None:
                self._runner = asyncio.Runner()
            if self._connection is None or self._connection.is_closed():
                self._connection = self._runner.run(connect(self._url, command_seconds=self._answer_seconds))
            return work(PostgresTransaction(self._connection, self._runner))
        except FAILURES as error:
            self.close()
            raise unavailable(self._url, error) from error
        except BaseException:
            self.close()  # it may be in the middle of a transaction
            raise


def _transact_sqlite(path: Path, work: Callable[[Transaction], T], *, writes: bool) -> T:
    try:
        with closing(_open_sqlite(path, BUSY_SECONDS)) as connection:
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
        raise _sqlite_unavailable(path, error) from error


def _transact_postgres(url: str, work: Callable[[Transaction], T], *, writes: bool) -> T:
    from tollhouse.ledger.postgres import FAILURES, connect, unavailable

    try:
        with asyncio.Runner() as runner:
            connection = runner.run(connect(url, command_seconds=COMMAND_SECONDS))
            try:
                # A reader sees one moment, a writer what was committed when it got the lock.
                opened = connection.transaction(
                    isolation="read_committed" if writes else "repeatable_read", readonly=not writes
                )
                runner.run(opened.start())
                done = work(PostgresTransaction(connection, runner))
                runner.run(opened.commit())
                runner.run(connection.close(timeout=ANSWER_SECONDS))
            finally:
                connection.terminate()  # rolls back what was not committed; nothing for a closed one
            return done
    except FAILURES as error:
        raise unavailable(url, error) from error


def _open_sqlite(path: Path, busy_seconds: float) -> sqlite3.Connection:
    return sqlite3.connect(
        f"{path.resolve().as_uri()}?mode=rw",  # a ledger that is not there is not made here
        uri=True,
        timeout=busy_seconds,
        isolation_level=None,
        check_same_thread=False,  # by one thread at a time
    )


def _sqlite_unavailable(path: Path, error: Exception) -> StoreUnavailable:
    return StoreUnavailable(f"The ledger {path} cannot be used: {error}.")
