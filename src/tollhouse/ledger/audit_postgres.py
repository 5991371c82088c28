"""The audit log in a PostgreSQL ledger, through asyncpg (the extra `postgres`)."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, TypeVar

import msgspec

from tollhouse.errors import StoreUnavailable
from tollhouse.ledger.audit import Entry, Head, chain
from tollhouse.ledger.audit_store import HEAD, INSERT, Row, head_of
from tollhouse.ledger.postgres import FAILURES, connect, unavailable

T = TypeVar("T")

COMMAND_SECONDS: Final = 30.0
"""How long a statement may take; reading back a page of a long log is the slowest."""
LOCK: Final = 0x746F_6C6C_6175_6474
"""The advisory lock of the chain: `tollaudt` in ASCII, one a database."""


async def append_postgres(connection: Any, entries: Sequence[Entry]) -> Head:  # asyncpg's connection has no annotations
    """Appends within the caller's transaction, which must be of PostgreSQL's default isolation (read committed).

    Returns the new head.  Raises one of `postgres.FAILURES`; then roll back.
    """
    await connection.execute("SELECT pg_advisory_xact_lock($1)", LOCK)
    records = chain(head_of(await connection.fetchrow(HEAD)), entries)
    await connection.executemany(INSERT, [msgspec.structs.astuple(record) for record in records])
    return Head(records[-1].seq, records[-1].hash)


class PostgresAudit:
    """A PostgreSQL ledger; a `Driver`.

    Its users are not asynchronous (a command, a writer's thread), so it brings an event loop of its own.  Not for a thread that
    runs a loop already.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._runner: asyncio.Runner | None = None
        self._connection: Any = None

    def append(self, entries: Sequence[Entry]) -> Head:
        """One transaction."""

        async def write(connection: Any) -> Head:
            async with connection.transaction():
                return await append_postgres(connection, entries)

        return self._with(write)

    def fetch(self, statement: str, values: Sequence[object] = ()) -> list[Row]:
        """Reads."""

        async def read(connection: Any) -> list[Row]:
            return [tuple(row.values()) for row in await connection.fetch(statement, *values)]

        return self._with(read)

    def close(self) -> None:
        """Leaves at once: a server that hangs would not hear a good-bye."""
        connection, self._connection = self._connection, None
        runner, self._runner = self._runner, None
        if connection is not None:
            connection.terminate()
        if runner is not None:
            runner.close()

    def _with(self, work: Callable[[Any], Coroutine[Any, Any, T]]) -> T:
        if self._runner is None:
            self._runner = asyncio.Runner()
        try:
            return self._runner.run(self._connected(work))
        except FAILURES as error:
            self.close()
            raise unavailable(self._url, error) from error
        except StoreUnavailable:
            self.close()
            raise

    async def _connected(self, work: Callable[[Any], Coroutine[Any, Any, T]]) -> T:
        if self._connection is None or self._connection.is_closed():
            self._connection = await connect(self._url, command_seconds=COMMAND_SECONDS)
        return await work(self._connection)
