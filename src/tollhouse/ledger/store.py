"""Where the ledger lives, whichever database that is: its address, its schema's age, and what a database must be able to
do for us.

`sqlite.py` and `postgres.py` do it; the latter needs the extra `postgres` and is imported only for its addresses.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

from tollhouse.ledger import sqlite
from tollhouse.ledger.address import DEFAULT_URL, is_postgresql, journal_name, shown, sqlite_path, state_folder
from tollhouse.ledger.revisions import HEAD, REVISIONS
from tollhouse.ledger.rows import Row

__all__ = [
    "DEFAULT_URL",
    "HEAD",
    "REVISIONS",
    "Contents",
    "Storage",
    "contents_of",
    "is_postgresql",
    "journal_name",
    "prepare",
    "revision_of",
    "shown",
    "sqlite_path",
    "state_folder",
    "storage_of",
]

BUSY_TIMEOUT_MS: Final = 500


class Contents(NamedTuple):
    """What is in a ledger."""

    calls: int
    """Rows that are there; pruned ones are not."""
    size_bytes: int
    """On disk: of SQLite the file and its log, of PostgreSQL the table of calls with its indexes."""


class Storage(Protocol):
    """What the writer asks of a database.  Called by one thread at a time, and every error is a `StoreUnavailable`."""

    @property
    def piece_rows(self) -> int:
        """How many rows it likes to get at once; `insert` takes any number."""
        ...

    def open(self) -> None:
        """Connects and checks the schema's revision.  Called again after a failure."""
        ...

    def insert(self, rows: Sequence[Row]) -> frozenset[str]:
        """Commits the rows and adds them to their hours; those whose id is there already are left alone.

        Returns the ids of rows that no retry can make acceptable.  When it raises, some rows may have been committed;
        handing in all of them again is safe.
        """
        ...

    def prune(self, before_us: int, at_most: int) -> int:
        """Deletes the oldest calls that started before that moment, at most so many; the hourly totals stay.

        Returns how many it deleted.  A failure says nothing about whether rows can be written.
        """
        ...

    def close(self) -> None:
        """Lets go of the connection.  May be called at any time, twice too."""
        ...


def storage_of(url: str, *, busy_timeout_ms: int = BUSY_TIMEOUT_MS) -> Storage:
    """The database of that address, not yet opened.  Raises `ConfigError` and `NotInstalled`.

    `busy_timeout_ms` is how long SQLite waits for another process's lock.
    """
    if is_postgresql(url):
        from tollhouse.ledger.postgres import PostgresStorage

        return PostgresStorage(url)
    return sqlite.SqliteStorage(sqlite_path(url), busy_timeout_ms=busy_timeout_ms)


def prepare(url: str) -> None:
    """Makes the ledger ready to be written: creates it, or migrates an older one in a process of its own.

    Blocks; meant for the start of a server, before any worker runs.  Several processes may call it at once.  Raises
    `ConfigError` when the database is not a ledger or is from a newer version, `NotInstalled` when the extra for
    PostgreSQL is missing, `StoreUnavailable` when it cannot be used at all; of a PostgreSQL that is merely down, the
    writer makes up for it once it is back.
    """
    if is_postgresql(url):
        from tollhouse.ledger import postgres

        postgres.prepare(url)
    else:
        sqlite.prepare(sqlite_path(url), url)


def revision_of(url: str) -> str | None:
    """The schema's revision; `None` if there is no ledger yet.  Raises as `prepare` does, and changes nothing."""
    if is_postgresql(url):
        from tollhouse.ledger import postgres

        return postgres.revision_of(url)
    return sqlite.revision_of(sqlite_path(url))


def contents_of(url: str) -> Contents:
    """Counts the rows; takes a second for ten million.  Raises `StoreUnavailable`."""
    if is_postgresql(url):
        from tollhouse.ledger import postgres

        return Contents(*postgres.contents_of(url))
    return Contents(*sqlite.contents_of(sqlite_path(url)))
