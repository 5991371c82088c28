"""Where the ledger lives: its address, its schema's age, and the few things that a database must be able to do for us.

SQLite is here; plain `sqlite3`, one connection a process.  WAL lets several worker processes and any number of
readers share the file.  `synchronous=NORMAL` means that a commit survives the end of the process, `kill -9` included;
the last few may be lost when the machine itself loses power, never half of one.
"""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Final, Protocol

from tollhouse.errors import ConfigError, NotInstalled, StoreUnavailable
from tollhouse.ledger.rows import COLUMNS, Row, storable

REVISIONS: Final = ("0001", "0002", "0003")
"""The schema's revisions, oldest first; a database at any of them can be brought to the last."""
HEAD: Final = REVISIONS[-1]

SNAPSHOT: Final = Path(__file__).with_name("schema.sql")
DEFAULT_URL: Final = "sqlite:///tollhouse.db"
MAX_INSERT_ROWS: Final = 64
"""Rows in one statement.  Each size has its own prepared statement, and all stay in the connection's cache."""
MIGRATION_SECONDS: Final = 3600.0
START_BUSY_MS: Final = 10_000
"""How long a starting process waits for another one that creates or migrates the same file."""


# What `sqlite3` raises for values rather than for the database: not NULL, not bindable (its name changed in 3.12),
# too large, not UTF-8.
_BAD_VALUES: Final = (
    sqlite3.IntegrityError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
    OverflowError,
    UnicodeEncodeError,
)


class Storage(Protocol):
    """What the writer asks of a database.  Called by one thread, and every error is a `StoreUnavailable`."""

    def open(self) -> None:
        """Connects and checks the schema's revision.  Called again after a failure."""
        ...

    def insert(self, rows: Sequence[Row]) -> frozenset[str]:
        """Commits the rows; those whose id is there already are left alone.

        Returns the ids of rows that no retry can make acceptable.  When it raises, some rows may have been committed;
        handing in all of them again is safe.
        """
        ...

    def close(self) -> None:
        """Lets go of the connection.  May be called at any time, twice too."""
        ...


def sqlite_path(url: str) -> Path:
    """The file of a `sqlite:///relative` or `sqlite:////absolute` address.

    Raises `NotInstalled` for PostgreSQL, which comes with an extra, and `ConfigError` for anything else.
    """
    if url.startswith(("postgresql://", "postgres://")):
        raise NotInstalled(
            "A PostgreSQL ledger needs the `postgres` extra: pip install 'tollhouse[postgres]'.",
            hint="This version writes SQLite only: use ledger.url sqlite:///tollhouse.db.",
        )
    path = url.removeprefix("sqlite:///")
    if path == url or not path or path.startswith(":memory:") or "?" in path:
        raise ConfigError(
            (
                (
                    f"ledger.url: {_without_password(url)!r} is not an address of a ledger. Write sqlite:///tollhouse.db, or "
                    "sqlite:////var/lib/tollhouse/ledger.db (four slashes) for an absolute path."
                ),
            )
        )
    return Path(path)


def prepare(url: str) -> None:
    """Makes the ledger ready to be written: creates it, or migrates an older one in a process of its own.

    Blocks; meant for the start of a server, before any worker runs.  Several processes may call it at once.  Raises
    `ConfigError` when the file is not a ledger or is from a newer version, `StoreUnavailable` when it cannot be used
    at all.
    """
    path = sqlite_path(url)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with closing(_connect(path, START_BUSY_MS)) as connection:
            _create_if_empty(connection)
            revision = _revision(connection, path)
    except (sqlite3.Error, OSError) as error:
        raise _unavailable(path, error) from error
    if revision != HEAD:
        _migrate_apart(url)


def revision_of(url: str) -> str | None:
    """The schema's revision; `None` if there is no ledger yet.  Raises as `prepare` does, and changes nothing."""
    path = sqlite_path(url)
    if not path.exists():
        return None
    try:
        with closing(_connect(path, START_BUSY_MS)) as connection:
            return None if _is_empty(connection) else _revision(connection, path)
    except sqlite3.Error as error:
        raise _unavailable(path, error) from error


def count_rows(path: Path) -> int:
    """How many calls a ledger holds.  Raises `StoreUnavailable`."""
    try:
        with closing(_connect(path, START_BUSY_MS)) as connection:
            return int(connection.execute("SELECT count(*) FROM calls").fetchone()[0])
    except sqlite3.Error as error:
        raise _unavailable(path, error) from error


class SqliteStorage:
    """One connection to a SQLite ledger."""

    def __init__(self, path: Path, *, busy_timeout_ms: int) -> None:
        self._path = path
        self._busy_timeout_ms = busy_timeout_ms
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None
        self._statements: dict[int, str] = {}

    def open(self) -> None:
        """Connects; a file that has gone missing is created anew."""
        self.close()
        try:
            self._connection = _connect(self._path, self._busy_timeout_ms)
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=NORMAL")
            _create_if_empty(self._connection)
            revision = _revision(self._connection, self._path)
            self._file = self._identity()
        except (sqlite3.Error, OSError, ConfigError) as error:
            self.close()
            raise _unavailable(self._path, error) from error
        if revision != HEAD:
            self.close()
            raise StoreUnavailable(
                f"The ledger {self._path} has schema {revision or 'none'}; this process writes {HEAD}."
            )

    def insert(self, rows: Sequence[Row]) -> frozenset[str]:
        """Commits in statements of at most `MAX_INSERT_ROWS`, each a transaction of its own."""
        refused: set[str] = set()
        try:
            for start in range(0, len(rows), MAX_INSERT_ROWS):
                batch = rows[start : start + MAX_INSERT_ROWS]
                try:
                    self._execute(batch)
                except _BAD_VALUES:
                    refused.update(self._insert_apart(batch))
            identity = self._identity()
        except (sqlite3.Error, OSError) as error:
            self.close()
            raise _unavailable(self._path, error) from error
        if identity != self._file:
            # A file that was deleted or replaced still takes commits, into nowhere.
            self.close()
            raise StoreUnavailable(f"The ledger {self._path} was moved or deleted.")
        return frozenset(refused)

    def close(self) -> None:
        """Closes the connection; the last process to do so folds the WAL into the file."""
        if self._connection is not None:
            with suppress(sqlite3.Error):  # a connection to a broken file cannot always be closed in good order
                self._connection.close()
            self._connection = None

    def _execute(self, rows: Sequence[Row]) -> None:
        if self._connection is None:
            raise StoreUnavailable(f"The ledger {self._path} is not open.")
        statement = self._statements.get(len(rows))
        if statement is None:
            statement = self._statements[len(rows)] = _insert_statement(len(rows))
        # One step, hence one release of the GIL, whatever the number of rows; with `executemany` it is one a row, and
        # each costs up to a switch interval (5 ms) when the event loop is busy.
        self._connection.execute(statement, [value for row in rows for value in row])

    def _insert_apart(self, rows: Sequence[Row]) -> Iterator[str]:
        """Saves the neighbours of a bad row, and the row itself if its values can be made storable."""
        for row in rows:
            try:
                self._execute([storable(row)])
            except _BAD_VALUES:
                yield str(row[0])

    def _identity(self) -> tuple[int, int]:
        status = os.stat(self._path)  # noqa: PTH116 - runs for each batch, and is three times cheaper
        return status.st_dev, status.st_ino


def _connect(path: Path, busy_timeout_ms: int) -> sqlite3.Connection:
    # `check_same_thread` off: opened by the writer's thread, closed by whoever joins it.
    return sqlite3.connect(
        path,
        timeout=busy_timeout_ms / 1000,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=MAX_INSERT_ROWS + 16,
    )


def _insert_statement(count: int) -> str:
    values = f"({','.join('?' * len(COLUMNS))})"
    return (
        f"INSERT INTO calls ({','.join(COLUMNS)}) VALUES {','.join([values] * count)} "  # noqa: S608 - our own names
        "ON CONFLICT (id) DO NOTHING"
    )


def _is_empty(connection: sqlite3.Connection) -> bool:
    return connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone() is None


def _create_if_empty(connection: sqlite3.Connection) -> None:
    if not _is_empty(connection):
        return
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("BEGIN IMMEDIATE")
    try:
        if _is_empty(connection):  # another process may have been first
            script = SNAPSHOT.read_text(encoding="utf-8")
            for statement in script.split(";\n"):
                connection.execute(statement)
        connection.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):  # the failure that brought us here may have rolled back already
            connection.execute("ROLLBACK")
        raise


def _revision(connection: sqlite3.Connection, path: Path) -> str | None:
    """The stamped revision; `None` for a ledger that has no revision yet.  Refuses what is not ours or is too new."""
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if "alembic_version" not in tables:
        raise ConfigError([f"ledger.url: {path} is a database, but not a ledger of Tollhouse. Choose another file."])
    stamped = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    if stamped is None:
        return None
    revision = str(stamped[0])
    if revision not in REVISIONS:
        raise ConfigError(
            (
                (
                    f"ledger.url: {path} has schema {revision!r}, and the newest that this version knows is {HEAD!r}. It was "
                    f"written by a newer Tollhouse: upgrade this one, or use another ledger."
                ),
            )
        )
    return revision


def _migrate_apart(url: str) -> None:
    """Migrates in a child, so that a serving process never imports SQLAlchemy and Alembic."""
    arguments = [sys.executable, "-m", "tollhouse", "ledger", "migrate", "--ledger", url]
    try:
        done = subprocess.run(  # noqa: S603 - our own interpreter and a checked address
            arguments, capture_output=True, text=True, check=False, timeout=MIGRATION_SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise StoreUnavailable(f"Migrating {url} took more than {MIGRATION_SECONDS:.0f} s.") from error
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()
        raise StoreUnavailable(
            f"Migrating {url} failed: {said[-1] if said else f'exit status {done.returncode}'}",
            hint="Run `tollhouse ledger migrate` to see all of it; the database is as it was.",
        )


def _unavailable(path: Path, error: Exception) -> StoreUnavailable:
    return StoreUnavailable(f"The ledger {path} cannot be used: {error}.")


def _without_password(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    return f"{scheme}{separator}…@{rest.rpartition('@')[2]}" if "@" in rest else url
