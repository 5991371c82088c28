"""Where a directory reads the register: one connection that is kept, asked often, and never trusted to live.

Blocks, and belongs to one thread.  SQLite is read through the file, PostgreSQL through a connection and a loop of its own.
"""

import asyncio
import importlib.util
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from tollhouse.errors import NotInstalled, StoreUnavailable
from tollhouse.ledger.address import is_postgresql, sqlite_path
from tollhouse.policy.roll import Delta, HolderRow, KeyRow, Mark, SubjectRow
from tollhouse.policy.transaction import PostgresTransaction, SqliteTransaction, Transaction

if TYPE_CHECKING:
    import asyncpg

ANSWER_SECONDS: Final = 5.0
"""How long the database may take to connect, or for one statement."""
PAGE_ROWS: Final = 2000
"""Rows that are in memory at a time, beside the roll that they go into."""
FORGET_AFTER_US: Final = 30 * 86_400_000_000
"""Keys that ended longer ago are not loaded: their bearers are told that they are unknown, no longer that they have ended."""

T = TypeVar("T")
_MARK: Final = "SELECT epoch, revision FROM identity_state"


class RollSource(Protocol):
    """A register to read.  Every method raises `StoreUnavailable`; the next one connects again."""

    def mark(self) -> Mark:
        """How far the register is.  Cheap: one row."""
        ...

    def read(self, work: Callable[[Transaction], T]) -> T:
        """Runs `work` on the register as it is at one moment."""
        ...

    def close(self) -> None:
        """Lets go of the connection.  May be called twice."""
        ...


def open_source(url: str) -> RollSource:
    """The source for a ledger's address.  Connects to nothing yet; raises `ConfigError` for an address that is none.

    Raises `NotInstalled` for PostgreSQL without its extra.
    """
    if not is_postgresql(url):
        return SqliteSource(sqlite_path(url))
    if importlib.util.find_spec("asyncpg") is None:
        raise NotInstalled("A PostgreSQL ledger needs the `postgres` extra: pip install 'tollhouse[postgres]'.")
    return PostgresSource(url)


def delta(transaction: Transaction, since: Mark | None, now_us: int) -> Delta:
    """What changed since a mark; all there is without one, or if that mark is not of this register's past.

    The mark, tenants and projects are read now; keys and subjects while they are iterated, so within the transaction.
    """
    epoch, revision = transaction.rows(_MARK)[0]
    is_whole = since is None or epoch != since.epoch or revision < since.revision
    after = -1 if since is None or is_whole else since.revision
    return Delta(
        mark=Mark(epoch, revision),
        is_whole=is_whole,
        holders=[
            *(HolderRow(*row) for row in transaction.rows(_TENANTS, after)),
            *(HolderRow(*row) for row in transaction.rows(_PROJECTS, after)),
        ],
        subjects=(SubjectRow(*row) for row in transaction.rows(_SUBJECTS, after)),
        keys=_keys(transaction, after, now_us - FORGET_AFTER_US if is_whole else 0),
    )


def _keys(transaction: Transaction, after: int, ended_after_us: int) -> Iterator[KeyRow]:
    # By revision and name, which is an index of its own: few changes among many keys are found without a scan.
    revision, name = after + 1, ""
    while True:
        rows = [KeyRow(*row) for row in transaction.rows(_KEYS, revision, name, ended_after_us, PAGE_ROWS)]
        yield from rows
        if len(rows) < PAGE_ROWS:
            return
        revision, name = rows[-1].revision, rows[-1].name


_TENANTS: Final = "SELECT name, '', terms, balance_nano, removed_at_us, revision FROM tenants WHERE revision > $1"
_PROJECTS: Final = "SELECT tenant, name, terms, balance_nano, removed_at_us, revision FROM projects WHERE revision > $1"
_SUBJECTS: Final = (
    "SELECT name, tenant, project, expires_at_us, revoked_at_us, cut, terms, balance_nano, revision "
    "FROM subjects WHERE revision > $1"
)
_KEYS: Final = (
    "SELECT name, tenant, project, digest, former_digest, former_until_us, expires_at_us, revoked_at_us, cut, terms, "
    "balance_nano, revision FROM keys WHERE (revision, name) > ($1, $2) "
    "AND coalesce(revoked_at_us, expires_at_us, $3) >= $3 ORDER BY revision, name LIMIT $4"
)


class SqliteSource:
    """A SQLite ledger."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None

    def mark(self) -> Mark:
        """How far the register is."""
        try:
            connection = self._connected()
            return Mark(*connection.execute(_MARK).fetchone())
        except (sqlite3.Error, OSError) as error:
            raise self._failed(error) from error

    def read(self, work: Callable[[Transaction], T]) -> T:
        """Runs `work` on the register as it is at one moment."""
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
            raise StoreUnavailable(f"The register {self._path} was replaced by another file.")
        if self._connection is None:
            self._connection = sqlite3.connect(
                f"{self._path.resolve().as_uri()}?mode=rw",
                uri=True,
                timeout=ANSWER_SECONDS,
                isolation_level=None,
                check_same_thread=False,  # used by one thread at a time: who starts it, then its own, then who stops it
            )
            self._file = file
        return self._connection

    def _failed(self, error: Exception) -> StoreUnavailable:
        self.close()
        return StoreUnavailable(f"The register in {self._path} cannot be read: {error}.")


class PostgresSource:
    """A PostgreSQL ledger."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._runner: asyncio.Runner | None = None
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None

    def mark(self) -> Mark:
        """How far the register is."""
        return self._with(lambda transaction: Mark(*transaction.rows(_MARK)[0]))

    def read(self, work: Callable[[Transaction], T]) -> T:
        """Runs `work` on the register as it is at one moment."""

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
        import asyncpg

        try:
            if self._runner is None:
                self._runner = asyncio.Runner()
            if self._connection is None or self._connection.is_closed():
                self._connection = self._runner.run(
                    asyncpg.connect(self._url, timeout=ANSWER_SECONDS, command_timeout=ANSWER_SECONDS)
                )
            return work(PostgresTransaction(self._connection, self._runner))
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
            self.close()
            raise StoreUnavailable(f"The register cannot be read: {error or type(error).__name__}.") from error
        except BaseException:
            self.close()  # it may be in the middle of a transaction
            raise
