"""The ledger in a SQLite file: plain `sqlite3`, one connection a process.

WAL lets several worker processes and any number of readers share the file.  `synchronous=NORMAL` means that a commit
survives the end of the process, `kill -9` included; the last few may be lost when the machine itself loses power,
never half of one.
"""

import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import Final

from tollhouse.errors import ConfigError, StoreUnavailable
from tollhouse.ledger.revisions import HEAD, known, migrate_apart
from tollhouse.ledger.rows import COLUMNS, NULLABLE, WORDS, Row, Value, storable

SNAPSHOT: Final = Path(__file__).with_name("schema.sql")
MAX_INSERT_ROWS: Final = 64
"""Rows in one statement.  Each size has its own prepared statement, and all stay in the connection's cache."""
FILE_MODE: Final = 0o600
START_BUSY_MS: Final = 10_000
"""How long a starting process waits for another one that creates or migrates the same file."""
FREED_PAGES: Final = 2000
"""Pages given back to the file system in one step of pruning, at most."""
COUNT_ROWS: Final = 256
"""How many rows a connection writes before they are counted into their hours; whoever asks for totals adds up the rest."""

# What `sqlite3` raises for values rather than for the database: not NULL, not bindable (its name changed in 3.12),
# too large, not UTF-8.
_BAD_VALUES: Final = (
    sqlite3.IntegrityError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
    OverflowError,
    UnicodeEncodeError,
)

_PRUNE: Final = (
    "DELETE FROM calls WHERE seq IN (SELECT seq FROM calls WHERE started_at_us < ? ORDER BY started_at_us LIMIT ?)"
)
# A trigger adds the rows that are stepped over to their hours: revision 0009.
_COUNT: Final = "UPDATE hours_state SET counted_seq = (SELECT coalesce(max(seq), 0) FROM calls)"
_UNLESS_THERE: Final = "ON CONFLICT (id) DO NOTHING"


class SqliteStorage:
    """One connection to a SQLite ledger; a `Storage`."""

    piece_rows = MAX_INSERT_ROWS

    def __init__(self, path: Path, *, busy_timeout_ms: int) -> None:
        self._path = path
        self._busy_timeout_ms = busy_timeout_ms
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None
        self._layout = _Layout(NULLABLE, WORDS)
        self._statements: dict[int, str] = {}
        """By the number of rows, in that layout."""
        self._uncounted_rows = 0

    def open(self) -> None:
        """Connects; a file that has gone missing is created anew."""
        self.close()
        try:
            _touch_private(self._path)
            self._connection = _connect(self._path, self._busy_timeout_ms)
            _create_if_empty(self._connection)
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=NORMAL")
            revision = _revision(self._connection, self._path)
            self._file = self._identity()
            if revision == HEAD:
                self._connection.execute(_COUNT)
        except (sqlite3.Error, OSError, ConfigError) as error:
            self.close()
            raise unavailable(self._path, error) from error
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
            raise unavailable(self._path, error) from error
        if identity != self._file:
            # A file that was deleted or replaced still takes commits, into nowhere.
            self.close()
            raise StoreUnavailable(f"The ledger {self._path} was moved or deleted.")
        self._uncounted_rows += len(rows)
        if self._uncounted_rows >= COUNT_ROWS:
            self._count()
        return frozenset(refused)

    def prune(self, before_us: int, at_most: int) -> int:
        """Deletes, and gives the space back to the file system where the file was made for it (`auto_vacuum`)."""
        try:
            connection = self._connected()
            deleted = connection.execute(_PRUNE, (before_us, at_most)).rowcount
            if deleted:
                # It yields a row without columns for each page, and `execute` would stop at the first.
                connection.executescript(f"PRAGMA incremental_vacuum({FREED_PAGES})")
        except sqlite3.Error as error:
            raise unavailable(self._path, error) from error
        return deleted

    def close(self) -> None:
        """Closes the connection; the last process to do so folds the WAL into the file."""
        if self._connection is not None:
            with suppress(sqlite3.Error):  # a connection to a broken file cannot always be closed in good order
                self._connection.close()
            self._connection = None

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None:
            raise StoreUnavailable(f"The ledger {self._path} is not open.")
        return self._connection

    def _execute(self, rows: Sequence[Row]) -> None:
        if not self._layout.fits(rows):
            self._layout = self._layout.widened(rows)
            self._statements.clear()
        statement = self._statements.get(len(rows))
        if statement is None:
            statement = self._statements[len(rows)] = self._layout.statement(len(rows))
        # One step, hence one release of the GIL, whatever the number of rows; with `executemany` it is one a row, and
        # each costs up to a switch interval (5 ms) when the event loop is busy.
        self._connected().execute(statement, self._layout.values(rows))

    def _insert_apart(self, rows: Sequence[Row]) -> Iterator[str]:
        """Saves the neighbours of a bad row, and the row itself if its values can be made storable."""
        for row in rows:
            try:
                self._execute([storable(row)])
            except _BAD_VALUES:
                yield str(row[0])

    def _count(self) -> None:
        """Adds what was written to its hours, which until then is done anew for everyone who asks for them."""
        self._uncounted_rows = 0
        # The rows are safe, whatever becomes of this: when it fails, they are counted with as many more.
        with suppress(sqlite3.Error):
            self._connected().execute(_COUNT)

    def _identity(self) -> tuple[int, int]:
        status = os.stat(self._path)  # noqa: PTH116 - runs for each batch, and is three times cheaper
        return status.st_dev, status.st_ino


def prepare(path: Path, url: str) -> None:
    """Creates the file, or migrates it in a process of its own.  Raises as `store.prepare` does."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _touch_private(path)
        with closing(_connect(path, START_BUSY_MS)) as connection:
            _create_if_empty(connection)
            revision = _revision(connection, path)
    except (sqlite3.Error, OSError) as error:
        raise unavailable(path, error) from error
    if revision != HEAD:
        migrate_apart(url)


def revision_of(path: Path) -> str | None:
    """The schema's revision; `None` if there is no ledger yet.  Changes nothing."""
    if not path.exists():
        return None
    try:
        with closing(_connect(path, START_BUSY_MS)) as connection:
            return None if _is_empty(connection) else _revision(connection, path)
    except sqlite3.Error as error:
        raise unavailable(path, error) from error


def contents_of(path: Path) -> tuple[int, int]:
    """How many calls there are, and how many bytes the file and its log take.  Raises `StoreUnavailable`."""
    try:
        with closing(read_only(path)) as connection:
            calls = int(connection.execute("SELECT count(*) FROM calls").fetchone()[0])
        return calls, sum(file.stat().st_size for file in (path, path.with_name(f"{path.name}-wal")) if file.exists())
    except (sqlite3.Error, OSError) as error:
        raise unavailable(path, error) from error


def read_only(path: Path, busy_timeout_ms: int = START_BUSY_MS) -> sqlite3.Connection:
    """A connection that creates and changes nothing.  Raises `sqlite3.Error`."""
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro",
        uri=True,
        timeout=busy_timeout_ms / 1000,
        isolation_level=None,
        check_same_thread=False,
    )


def unavailable(path: Path, error: Exception) -> StoreUnavailable:
    """What `sqlite3` or the file system said, as the error that callers know."""
    return StoreUnavailable(f"The ledger {path} cannot be used: {error}.")


def _touch_private(path: Path) -> None:
    """Makes an empty file for its owner alone, if there is none; SQLite gives its WAL the same mode.  Raises `OSError`."""
    # Exclusively: to close a file that is there would drop the locks that this process's connections have on it.
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, FILE_MODE))


def _connect(path: Path, busy_timeout_ms: int) -> sqlite3.Connection:
    # `check_same_thread` off: opened by the writer's thread, closed by whoever joins it.
    return sqlite3.connect(
        path,
        timeout=busy_timeout_ms / 1000,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=MAX_INSERT_ROWS + 16,
    )


class _Layout:
    """How rows are put into one statement: so that little has to be bound, which costs a third of the whole.

    Columns of which no row has brought a value yet are left out: to bind a NULL costs three times as much as a number
    (`sqlite3` looks for an adapter, and makes an exception of not finding one), and most rows are from providers that never
    say some of the counts.  Words cost five times as much as a number.  Those that have never differed among the rows of one
    statement are bound once for all of them: many a gateway has one door, one tenant, one version of prices.
    """

    def __init__(self, unseen: Iterable[str], alike: Iterable[str]) -> None:
        self._unseen = tuple(unseen)
        self._alike = tuple(alike)
        self._each = tuple(name for name in COLUMNS if name not in {*self._unseen, *self._alike})
        self._pick_unseen = _picker(self._unseen)
        self._pick_alike = _picker(self._alike)
        self._pick_each = _picker(self._each)
        self._nothing: Final = {(None,) * len(self._unseen)}

    def fits(self, rows: Sequence[Row]) -> bool:
        """Whether these rows can be written so."""
        return {*map(self._pick_unseen, rows)} == self._nothing and (
            len(rows) == 1 or len({*map(self._pick_alike, rows)}) == 1
        )

    def widened(self, rows: Sequence[Row]) -> "_Layout":
        """A layout that fits these rows too."""
        found = {name: {row[index] for row in rows} for index, name in enumerate(COLUMNS)}
        return _Layout(
            [name for name in self._unseen if found[name] == {None}],
            [name for name in self._alike if len(found[name]) == 1],
        )

    def values(self, rows: Sequence[Row]) -> list[Value]:
        """What is bound to the parameters of `statement`."""
        return [*chain.from_iterable(map(self._pick_each, rows)), *self._pick_alike(rows[0])]

    def statement(self, count: int) -> str:
        """The statement for so many rows."""
        columns = self._each + self._alike
        into = f"INSERT INTO calls ({','.join(columns)})"
        if count == 1:
            return f"{into} VALUES {_marks(columns)} {_UNLESS_THERE}"
        # Not `?1` in each row: Python 3.12.0 to 3.12.3 warn of each parameter that has a number.
        return (
            f"WITH fresh ({','.join(self._each)}) AS (VALUES {','.join([_marks(self._each)] * count)}) "  # noqa: S608 - our own names
            f"{into} SELECT {','.join([*self._each, *('?' for _ in self._alike)])} FROM fresh "
            f"WHERE true {_UNLESS_THERE}"  # without a WHERE, SQLite takes the ON for that of a join
        )


def _marks(columns: Sequence[str]) -> str:
    return f"({','.join('?' * len(columns))})"


def _picker(columns: Sequence[str]) -> Callable[[Row], Row]:
    """Takes these columns out of a row."""
    indexes = [COLUMNS.index(name) for name in columns]
    if len(indexes) > 1:
        return itemgetter(*indexes)
    return lambda row: tuple(row[index] for index in indexes)


def _is_empty(connection: sqlite3.Connection) -> bool:
    return connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone() is None


def _create_if_empty(connection: sqlite3.Connection) -> None:
    if not _is_empty(connection):
        return
    # Only an empty file, not yet in WAL mode, can be told to give space back; an older one needs a VACUUM by hand.
    connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
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
    return None if stamped is None else known(str(stamped[0]), str(path))
