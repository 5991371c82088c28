"""The file that prompts and answers are kept in: SQLite, readable for its owner only, apart from the ledger.

Several workers may write it.  What is deleted is overwritten (`secure_delete`), and the file shrinks with it.
"""

import os
import sqlite3
import zlib
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from tollhouse.config.schema import Config
from tollhouse.errors import NotFound, StoreUnavailable
from tollhouse.ledger.address import state_folder

FILE_NAME: Final = "bodies.db"
"""In the state folder, unless `logging.bodies_path` says otherwise."""
FILE_MODE: Final = 0o600
BUSY_SECONDS: Final = 5.0
PRUNE_ROWS: Final = 200
"""Rows deleted in one transaction, so that another worker's writes do not wait long."""
VACUUM_PAGES: Final = 2_000
MARK: Final = 0x746F_6262
"""SQLite's `application_id` of such a file: no other database is ever taken for one."""

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS bodies (
    id TEXT PRIMARY KEY, at_us INTEGER NOT NULL, door TEXT NOT NULL, tenant TEXT NOT NULL, key TEXT NOT NULL,
    status INTEGER NOT NULL, form TEXT NOT NULL, request BLOB, answer BLOB
)
"""


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """One call's bodies, compressed with zlib; `None` for one that could not be kept."""

    id: str
    at_us: int
    door: str
    tenant: str
    key: str
    status: int
    form: str
    request: bytes | None
    answer: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """One call's bodies, as a person reads them."""

    id: str
    at_us: int
    door: str
    tenant: str
    key: str
    status: int
    form: str
    """`redacted` or `full`."""
    request: bytes | None
    answer: bytes | None

    @property
    def bodies(self) -> tuple[tuple[str, bytes | None], ...]:
        """Both by name, in the order of the call."""
        return ("request", self.request), ("answer", self.answer)


def path_of(config: Config, environ: Mapping[str, str]) -> Path:
    """Where the file is: `logging.bodies_path`, else `bodies.db` in the state folder."""
    if config.logging.bodies_path is not None:
        return Path(config.logging.bodies_path)
    return state_folder(config.ledger.url, config.ledger.state_folder, environ) / FILE_NAME


class BodiesFile:
    """One connection, opened when it is first needed and again after a failure.  Errors are `StoreUnavailable`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None

    def write(self, rows: Sequence[Kept]) -> None:
        """Commits the rows; those whose id is there already are left alone."""
        try:
            with closing(self._opened().cursor()) as cursor:
                cursor.execute("BEGIN IMMEDIATE")
                cursor.executemany(
                    "INSERT INTO bodies VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
                    [msgspec.structs.astuple(row) for row in rows],
                )
                cursor.execute("COMMIT")
        except (sqlite3.Error, OSError, UnicodeEncodeError) as error:
            raise self._failed(error) from error

    def prune(self, before_us: int) -> bool:
        """Deletes some of what is older; true while there is more."""
        if self._connection is None and not self._path.exists():
            return False
        try:
            connection = self._opened()
            deleted = connection.execute(
                "DELETE FROM bodies WHERE rowid IN (SELECT rowid FROM bodies WHERE at_us < ? ORDER BY at_us LIMIT ?)",
                (before_us, PRUNE_ROWS),
            ).rowcount
            if deleted:
                # `execute` would free one page only: it takes one step of a statement that has no columns.
                connection.executescript(f"PRAGMA incremental_vacuum({VACUUM_PAGES})")
        except (sqlite3.Error, OSError) as error:
            raise self._failed(error) from error
        return deleted == PRUNE_ROWS

    def count(self) -> int:
        """How many calls there are."""
        try:
            return int(self._opened().execute("SELECT count(*) FROM bodies").fetchone()[0])
        except (sqlite3.Error, OSError) as error:
            raise self._failed(error) from error

    def read(self, call_id: str) -> Shown:
        """One call's bodies.  Raises `NotFound`."""
        try:
            row = self._opened().execute("SELECT * FROM bodies WHERE id = ?", (call_id,)).fetchone()
        except (sqlite3.Error, OSError) as error:
            raise self._failed(error) from error
        if row is None:
            raise NotFound(
                f"No bodies are kept of call {call_id[:80]!r}.",
                hint="They were pruned, could not be redacted, or `logging.bodies` was off when it was made.",
            )
        *words, request, answer = row
        names = ("id", "at_us", "door", "tenant", "key", "status", "form")
        return Shown(
            **dict(zip(names, words, strict=True)),
            request=None if request is None else zlib.decompress(request),
            answer=None if answer is None else zlib.decompress(answer),
        )

    def close(self) -> None:
        """Closes the connection."""
        if self._connection is not None:
            with suppress(sqlite3.Error):  # a connection to a broken file cannot always be closed in good order
                self._connection.close()
            self._connection = None

    def _opened(self) -> sqlite3.Connection:
        if self._connection is not None and self._path.exists():
            return self._connection
        self.close()
        # SQLite gives its side files the mode of the main one, so it must be right before there is a word in it.
        self._path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE))
        connection = sqlite3.connect(self._path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        try:
            self._claim(connection)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("PRAGMA secure_delete = ON")
            connection.execute(_SCHEMA)
            connection.execute("CREATE INDEX IF NOT EXISTS bodies_at ON bodies (at_us)")
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        return connection

    def _claim(self, connection: sqlite3.Connection) -> None:
        """Makes an empty file one of bodies; refuses another's."""
        (mark,) = connection.execute("PRAGMA application_id").fetchone()
        if mark == MARK:
            return
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if tables:
            raise sqlite3.DatabaseError("it is a database of something else; choose another file")
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute(f"PRAGMA application_id = {MARK}")

    def _failed(self, error: Exception) -> StoreUnavailable:
        self.close()
        return StoreUnavailable(f"The bodies in {self._path} cannot be used: {error}.")
