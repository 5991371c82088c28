"""The ledger in PostgreSQL, through asyncpg (the extra `postgres`).

asyncpg needs an event loop, and the writer has a thread; so the storage runs a loop of its own inside each call.  A few
rows go as arrays in one statement, which is one round trip and one transaction; many go by COPY into a temporary
table and on from there, which takes a third of the CPU a row (measured: arrays win below some 100 rows).

Whatever goes wrong is a `StoreUnavailable`: rows then go to the journal.  Every wait is bounded, because a server that
hangs must not hang the calls.  A commit whose answer was lost may have happened; handing in the rows again is safe,
for their ids are unique.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Final, TypeVar

from tollhouse.errors import ConfigError, NotInstalled, StoreUnavailable
from tollhouse.extras import POSTGRES
from tollhouse.ledger.address import shown
from tollhouse.ledger.revisions import HEAD, known, migrate_apart
from tollhouse.ledger.rows import COLUMNS, Row, storable

try:
    import asyncpg
except ImportError as error:
    raise NotInstalled(f"A PostgreSQL ledger needs the `postgres` extra: {POSTGRES.command}.") from error

T = TypeVar("T")

CONNECT_SECONDS: Final = 3.0
COMMAND_SECONDS: Final = 5.0
"""How long one statement of the writer may take before its rows go to the journal."""
CLOSE_SECONDS: Final = 1.0
COUNT_SECONDS: Final = 300.0
PIECE_ROWS: Final = 1000
COPY_ROWS: Final = 128
"""From here on rows go by COPY."""

_NAMES: Final = ", ".join(f'"{name}"' for name in COLUMNS)
_INCOMING: Final = f"CREATE TEMPORARY TABLE incoming ON COMMIT DELETE ROWS AS SELECT {_NAMES} FROM calls WITH NO DATA"  # noqa: S608 - our own names
_FROM_INCOMING: Final = f"INSERT INTO calls ({_NAMES}) SELECT {_NAMES} FROM incoming ON CONFLICT (id) DO NOTHING"  # noqa: S608 - our own names
_TYPES: Final = (
    "SELECT attname, format_type(atttypid, NULL) FROM pg_attribute "
    "WHERE attrelid = 'calls'::regclass AND attnum > 0 AND NOT attisdropped"
)
_PRUNE: Final = (
    "DELETE FROM calls WHERE seq IN (SELECT seq FROM calls WHERE started_at_us < $1 "
    "ORDER BY started_at_us LIMIT $2 FOR UPDATE SKIP LOCKED)"
)

FAILURES: Final = (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError)
"""What asyncpg raises when the server cannot be used."""
_BAD_VALUES: Final = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    OverflowError,
    TypeError,
    UnicodeEncodeError,
)
"""… and when a value cannot be stored: out of range, not UTF-8, U+0000, NULL where none may be."""


class PostgresStorage:
    """One connection to a PostgreSQL ledger; a `Storage`."""

    piece_rows = PIECE_ROWS

    def __init__(self, url: str, *, command_seconds: float = COMMAND_SECONDS) -> None:
        self._url = url
        self._command_seconds = command_seconds
        self._runner: asyncio.Runner | None = None
        self._connection: Any = None
        self._insert = ""

    def open(self) -> None:
        """Connects; a database without tables or with an older schema is migrated first, in a process of its own."""
        self._drop()
        try:
            found = self._run(self._open())
            if found != HEAD:
                self._drop()
                migrate_apart(self._url)
                found = self._run(self._open())
        except ConfigError as error:
            self._drop()
            raise StoreUnavailable(str(error)) from error
        if found != HEAD:
            self._drop()
            raise StoreUnavailable(f"The ledger {shown(self._url)} has schema {found}; this process writes {HEAD}.")

    def insert(self, rows: Sequence[Row]) -> frozenset[str]:
        """Commits all rows in one transaction, unless one of them is bad."""
        try:
            self._run(self._write(rows))
        except _BadValue:
            return frozenset(self._insert_apart(rows))
        return frozenset()

    def prune(self, before_us: int, at_most: int) -> int:
        """Leaves alone what another gateway is deleting at that moment."""
        status = self._run(self._connected().execute(_PRUNE, before_us, at_most))
        return int(status.rpartition(" ")[2])

    def close(self) -> None:
        """Takes leave of the server, if it listens, and ends the loop."""
        connection, self._connection = self._connection, None
        if self._runner is not None:
            if connection is not None:
                with suppress(*FAILURES):
                    self._runner.run(connection.close(timeout=CLOSE_SECONDS))
            self._runner.close()
            self._runner = None

    async def _open(self) -> str | None:
        self._connection = await connect(self._url, command_seconds=self._command_seconds)
        found = await revision(self._connection, self._url)
        if found == HEAD:
            types = dict(await self._connection.fetch(_TYPES))
            arrays = ", ".join(f"${number}::{types[name]}[]" for number, name in enumerate(COLUMNS, 1))
            self._insert = (
                f"INSERT INTO calls ({_NAMES}) SELECT * FROM unnest({arrays}) "  # noqa: S608 - our own names
                "ON CONFLICT (id) DO NOTHING"
            )
            await self._connection.execute(_INCOMING)
        return found

    async def _write(self, rows: Sequence[Row]) -> None:
        connection = self._connected()
        try:
            if len(rows) < COPY_ROWS:
                await connection.execute(self._insert, *map(list, zip(*rows, strict=True)))
            else:
                async with connection.transaction():
                    await connection.copy_records_to_table("incoming", records=rows, columns=COLUMNS)
                    await connection.execute(_FROM_INCOMING)
        except _BAD_VALUES as error:
            raise _BadValue from error

    def _insert_apart(self, rows: Sequence[Row]) -> Iterator[str]:
        """Saves the neighbours of a bad row, and the row itself if its values can be made storable."""
        for row in rows:
            try:
                self._run(self._write([storable(row)]))
            except _BadValue:
                yield str(row[0])

    def _drop(self) -> None:
        """Leaves without a word: a server that hangs would not hear it."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    def _connected(self) -> Any:  # asyncpg's connection, which has no annotations
        if self._connection is None:
            raise StoreUnavailable(f"The ledger {shown(self._url)} is not open.")
        return self._connection

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        if self._runner is None:
            self._runner = asyncio.Runner()
        try:
            return self._runner.run(work)
        except FAILURES as error:
            self._drop()
            raise unavailable(self._url, error) from error


class _BadValue(Exception):
    """A row has a value that the database does not take."""


def prepare(url: str) -> None:
    """Creates or migrates the tables, in a process of its own.  Raises as `store.prepare` does."""
    if revision_of(url) != HEAD:
        migrate_apart(url)


def revision_of(url: str) -> str | None:
    """The schema's revision; `None` if there is no ledger yet.  Blocks."""
    return block_on(_ask(url, lambda connection: revision(connection, url)))


def contents_of(url: str) -> tuple[int, int]:
    """How many calls there are, and how many bytes they take with their indexes.  Blocks."""

    async def count(connection: Any) -> tuple[int, int]:
        found = await connection.fetchrow("SELECT count(*), pg_total_relation_size('calls') FROM calls")
        return found[0], found[1]

    return block_on(_ask(url, count, command_seconds=COUNT_SECONDS))


def block_on(work: Coroutine[Any, Any, T]) -> T:
    """Runs it to its end, also where a loop is running already: a server's start and the admin API's reports block one."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


async def connect(url: str, *, command_seconds: float = COMMAND_SECONDS) -> Any:  # asyncpg's connection
    """Raises `StoreUnavailable` for an address that cannot be read, `FAILURES` when the server cannot be reached."""
    try:
        return await asyncpg.connect(
            url,
            timeout=CONNECT_SECONDS,
            command_timeout=command_seconds,
            server_settings={"application_name": "tollhouse"},
        )
    except ValueError:
        # Some of these quote the address, and with it a part of the password.
        raise StoreUnavailable(
            f"The address {shown(url)} cannot be read.",
            hint="Write postgresql://user:password@host:5432/database, with %40 for an @ in the password.",
        ) from None


def unavailable(url: str, error: BaseException) -> StoreUnavailable:
    """What asyncpg said, as the error that callers know."""
    said = str(error).strip().splitlines()
    reason = (
        said[0].rstrip(".")
        if said
        else ("it did not answer in time" if isinstance(error, TimeoutError) else repr(error))
    )
    return StoreUnavailable(f"The ledger {shown(url)} cannot be used: {reason}.")


async def revision(connection: Any, url: str) -> str | None:
    """The stamped revision; `None` for a database without our tables.  Refuses what is not ours or is too new."""
    if await connection.fetchval("SELECT to_regclass('alembic_version')") is None:
        if await connection.fetchval("SELECT to_regclass('calls')") is not None:
            raise ConfigError(
                [f"ledger.url: {shown(url)} has a table `calls` that is not a ledger's. Choose another database."]
            )
        return None
    stamped = await connection.fetchval("SELECT version_num FROM alembic_version")
    return None if stamped is None else known(str(stamped), url)


async def _ask(
    url: str, question: Callable[[Any], Coroutine[Any, Any, T]], command_seconds: float = COMMAND_SECONDS
) -> T:
    try:
        connection = await connect(url, command_seconds=command_seconds)
        try:
            return await question(connection)
        finally:
            await connection.close(timeout=CLOSE_SECONDS)
    except FAILURES as error:
        raise unavailable(url, error) from error
