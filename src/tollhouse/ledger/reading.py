"""Reads of the ledger, in whichever database it is: a few statements, as of one moment.

Statements are written once for both databases, with `?` for a value.  Nothing here writes, creates or waits without
end; every failure is a `StoreUnavailable`.
"""

import asyncio
import itertools
import re
import sqlite3
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from tollhouse.ledger import sqlite
from tollhouse.ledger.address import is_postgresql, sqlite_path

if TYPE_CHECKING:
    import asyncpg

Answer: TypeAlias = list[tuple[Any, ...]]
"""The rows of one statement; what their values are, the statement says."""

REPORT_SECONDS: Final = 300.0
"""How long a report may take on PostgreSQL."""
QUESTION_SECONDS: Final = 5.0
"""How long a question of a serving process may."""


class Statement(NamedTuple):
    """A `SELECT` with its values."""

    sql: str
    values: Sequence[int | str] = ()


def read(url: str, statements: Sequence[Statement]) -> list[Answer]:
    """Blocks; for commands and threads.  Raises `StoreUnavailable`."""
    if is_postgresql(url):
        from tollhouse.ledger import postgres

        return postgres.block_on(_read_postgresql_once(url, statements))
    return _read_sqlite(sqlite_path(url), statements)


class Reader:
    """For a serving process: reads without blocking its loop.  Close it when the loop ends."""

    def __init__(self, url: str) -> None:
        """Connects to nothing yet.  Raises `ConfigError` and `NotInstalled` as `store.storage_of` does."""
        self._url = url
        self._lock = asyncio.Lock()
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None
        if is_postgresql(url):
            from tollhouse.ledger import postgres

            self._postgres = postgres
        else:
            self._path = sqlite_path(url)
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="tollhouse-ledger-read")

    async def read(self, statements: Sequence[Statement]) -> list[Answer]:
        """One caller after the other.  Raises `StoreUnavailable`, within seconds if the database does not answer."""
        if not is_postgresql(self._url):
            return await asyncio.get_running_loop().run_in_executor(self._thread, _read_sqlite, self._path, statements)
        async with self._lock:
            try:
                return await self._read_postgresql(statements)
            except self._postgres.FAILURES as error:
                raise self._postgres.unavailable(self._url, error) from error

    async def aclose(self) -> None:
        """Lets go of the database.  May be called twice."""
        if not is_postgresql(self._url):
            self._thread.shutdown(wait=False)
        elif self._connection is not None:
            self._connection.terminate()
            self._connection = None

    async def _read_postgresql(self, statements: Sequence[Statement]) -> list[Answer]:
        while True:
            is_fresh = self._connection is None
            if self._connection is None:
                self._connection = await self._postgres.connect(self._url, command_seconds=QUESTION_SECONDS)
            try:
                return await _read_postgresql(self._connection, statements)
            except BaseException as error:
                self._connection.terminate()
                self._connection = None
                # A connection that was kept may belong to a server that has been started anew since.
                if is_fresh or not isinstance(error, self._postgres.FAILURES):
                    raise


def _read_sqlite(path: Path, statements: Sequence[Statement]) -> list[Answer]:
    try:
        # A connection for each read takes 0.2 ms, and never reads a file that has been replaced.
        with closing(sqlite.read_only(path)) as connection:
            connection.execute("BEGIN")
            return [connection.execute(sql, values).fetchall() for sql, values in statements]
    except sqlite3.Error as error:
        raise sqlite.unavailable(path, error) from error


async def _read_postgresql_once(url: str, statements: Sequence[Statement]) -> list[Answer]:
    from tollhouse.ledger import postgres

    try:
        connection = await postgres.connect(url, command_seconds=REPORT_SECONDS)
        try:
            return await _read_postgresql(connection, statements)
        finally:
            await connection.close(timeout=postgres.CLOSE_SECONDS)
    except postgres.FAILURES as error:
        raise postgres.unavailable(url, error) from error


async def _read_postgresql(
    connection: "asyncpg.Connection[asyncpg.Record]", statements: Sequence[Statement]
) -> list[Answer]:
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        return [[tuple(row) for row in await connection.fetch(_numbered(sql), *values)] for sql, values in statements]


def _numbered(sql: str) -> str:
    """`?` and `?` as `$1` and `$2`.  None of our statements has a question mark in it otherwise."""
    numbers = itertools.count(1)
    return re.sub(r"\?", lambda _: f"${next(numbers)}", sql)
