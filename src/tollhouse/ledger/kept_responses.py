"""Responses that callers may go on from: kept with what was asked, each within its tenant.

Off the loop: a thread writes what has gathered since the last time in one transaction.  Whoever hands a response in may wait
for that, for a client that asks at once for what it was just given must find it, whichever worker it meets.

Bounded in every direction: the size of one, of all, of what waits to be written, the length of a conversation, and age.  What
is too much goes oldest first, whichever tenant's it is.
"""

import asyncio
import time
import zlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Final, NamedTuple, TypeVar

from tollhouse.errors import BodyTooLarge, StoreUnavailable
from tollhouse.ledger.transaction import Row, Transaction, transact

T = TypeVar("T")

MAX_WAITING_BYTES: Final = 64 * 1024 * 1024
"""What may wait to be written; a response over that is not kept."""
MAX_TURNS: Final = 1_000
"""The longest conversation that is followed back."""
MAX_ITEMS: Final = 1_000
"""Items of one response that can be named by their ids."""
AWAY_SECONDS: Final = 5.0
"""How long a database that failed is left alone.  Whoever waits for it waits in vain, so nobody does."""
TIDY_SECONDS: Final = 60.0
TIDY_ROWS: Final = 100
"""Deleted in one transaction."""
LEVEL: Final = 1
"""Of deflation: the fastest, which takes conversations to a third."""

_MICROSECONDS: Final = 1_000_000
_INSERT: Final = (
    "INSERT INTO responses (tenant, id, previous_id, created_at_us, size_bytes, input, body) "
    "VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (tenant, id) DO NOTHING"
)
_INSERT_ITEM: Final = (
    "INSERT INTO response_items (tenant, id, response_id) VALUES ($1, $2, $3) ON CONFLICT (tenant, id) DO NOTHING"
)
_COLUMNS: Final = "r.id, r.previous_id, r.created_at_us, r.input, r.body"
# Ids and sizes first, contents after that: how much it is, is known before it is read.
_CHAIN: Final = (
    "WITH RECURSIVE chain (id, previous_id, size, turn) AS ("
    "SELECT id, previous_id, size_bytes, 1 FROM responses WHERE tenant = $1 AND id = $2 "
    "UNION ALL SELECT r.id, r.previous_id, chain.size + r.size_bytes, chain.turn + 1 FROM chain "
    "JOIN responses r ON r.tenant = $1 AND r.id = chain.previous_id WHERE chain.turn < $3 AND chain.size <= $4) "
    "SELECT id, size FROM chain ORDER BY turn DESC"
)
_ONE: Final = f"SELECT {_COLUMNS} FROM responses r WHERE r.tenant = $1 AND r.id = $2"  # noqa: S608  # our own names
_OF_ITEM: Final = (
    "SELECT r.id, r.size_bytes FROM response_items i "
    "JOIN responses r ON r.tenant = i.tenant AND r.id = i.response_id WHERE i.tenant = $1 AND i.id = $2"
)
_OLDEST: Final = "SELECT tenant, id, created_at_us, size_bytes FROM responses ORDER BY created_at_us LIMIT $1"
_DELETE: Final = "DELETE FROM responses WHERE tenant = $1 AND id = $2"
_DELETE_ITEMS: Final = "DELETE FROM response_items WHERE tenant = $1 AND response_id = $2"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepingBounds:
    """How much is kept, and how long."""

    retention_seconds: float
    max_bytes: int
    """Of all responses as they are stored, deflated."""
    max_response_bytes: int
    """Of one with its input, before that."""


class KeptResponse(NamedTuple):
    """A response and what it was given for."""

    id: str
    previous_id: str | None
    created_at_us: int
    input: bytes
    """The items that its call added to the conversation: a JSON array."""
    body: bytes
    """The response: a JSON object."""


class _Waiting(NamedTuple):
    tenant: str
    response: KeptResponse
    item_ids: Sequence[str]
    written: "asyncio.Future[None]"

    @property
    def size_bytes(self) -> int:
        return len(self.response.input) + len(self.response.body)


class ResponseShelf:
    """The kept responses of one ledger, for a serving process.  All its methods belong to one event loop."""

    def __init__(
        self, url: str, *, max_waiting_bytes: int = MAX_WAITING_BYTES, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """Connects to nothing yet."""
        self._url = url
        self._max_waiting_bytes = max_waiting_bytes
        self._monotonic = monotonic
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="tollhouse-responses-write")
        self._reader = ThreadPoolExecutor(2, thread_name_prefix="tollhouse-responses-read")
        self._waiting: list[_Waiting] = []
        self._waiting_bytes = 0
        self._writing: asyncio.Task[None] | None = None
        self._tidy_at = 0.0
        self._away_until = 0.0

    def keep(self, tenant: str, response: KeptResponse, item_ids: Iterable[str] = ()) -> "asyncio.Future[None]":
        """Takes a response; the future is done when it can be found, and fails with `StoreUnavailable`.

        The future may be left alone.  A response whose id the tenant has already is the same one, and stays as it is.
        """
        loop = asyncio.get_running_loop()
        waiting = _Waiting(tenant, response, tuple(item_ids)[:MAX_ITEMS], loop.create_future())
        waiting.written.add_done_callback(_heard)
        if self._monotonic() < self._away_until:
            waiting.written.set_exception(StoreUnavailable("The ledger could not be used a moment ago."))
            return waiting.written
        if self._waiting_bytes + waiting.size_bytes > self._max_waiting_bytes:
            waiting.written.set_exception(StoreUnavailable("Too many responses wait to be kept."))
            return waiting.written
        self._waiting.append(waiting)
        self._waiting_bytes += waiting.size_bytes
        if self._writing is None:
            self._writing = loop.create_task(self._write_all())
        return waiting.written

    async def chain(self, tenant: str, response_id: str, max_bytes: int) -> Sequence[KeptResponse]:
        """The conversation that ends with a response, oldest first; empty if the tenant has none of that id.

        A conversation of which something is gone begins in the middle: its first response has a `previous_id`.  Raises
        `StoreUnavailable`, and `BodyTooLarge` for one of more than `max_bytes`.
        """

        def work(transaction: Transaction) -> list[KeptResponse]:
            found = transaction.rows(_CHAIN, tenant, response_id, MAX_TURNS, max_bytes)
            sizes = [int(size) for _, size in found]
            return _read(transaction, tenant, [name for name, _ in found], max(sizes, default=0), max_bytes)

        return await self._read(work)

    async def one(self, tenant: str, response_id: str) -> KeptResponse | None:
        """A response, if the tenant has it.  Raises `StoreUnavailable`."""
        found = await self._read(lambda transaction: transaction.rows(_ONE, tenant, response_id))
        return _inflated(found[0], None) if found else None

    async def with_items(self, tenant: str, item_ids: Sequence[str], max_bytes: int) -> Sequence[KeptResponse]:
        """The responses that hold these items, as far as the tenant has them, each once.  Raises as `chain` does."""

        def work(transaction: Transaction) -> list[KeptResponse]:
            rows = (row for item_id in item_ids for row in transaction.rows(_OF_ITEM, tenant, item_id))
            sizes = {str(name): int(size) for name, size in rows}
            return _read(transaction, tenant, list(sizes), sum(sizes.values()), max_bytes)

        return await self._read(work)

    async def remove(self, tenant: str, response_id: str) -> bool:
        """Forgets a response; whether there was one.  Raises `StoreUnavailable`."""

        def work(transaction: Transaction) -> bool:
            if not transaction.rows(_ONE, tenant, response_id):
                return False
            _delete(transaction, tenant, response_id)
            return True

        return await self._run(self._writer, partial(transact, self._url, work))

    async def tidy(self, bounds: KeepingBounds, now_us: int) -> None:
        """Forgets what is too old, and the oldest of what is too much.  Does nothing most of the time it is called."""
        if self._monotonic() < self._tidy_at:
            return
        self._tidy_at = self._monotonic() + TIDY_SECONDS
        oldest_us = now_us - int(bounds.retention_seconds * _MICROSECONDS)
        # Others write between the steps, and mostly there are none: to look takes no lock from them.
        look = partial(transact, self._url, partial(_is_untidy, bounds, oldest_us), writes=False)
        step = partial(transact, self._url, partial(_tidy, bounds, oldest_us))
        while await self._run(self._writer, look):
            await self._run(self._writer, step)

    async def aclose(self) -> None:
        """Writes what waits, and lets go of the threads."""
        if self._writing is not None:
            await self._writing
        self._writer.shutdown(wait=False)
        self._reader.shutdown(wait=False)

    async def _write_all(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, []
                try:
                    await self._run(self._writer, partial(transact, self._url, partial(_insert, batch)))
                except StoreUnavailable as error:
                    self._away_until = self._monotonic() + AWAY_SECONDS
                    for each in batch:
                        each.written.set_exception(StoreUnavailable(error.message))
                else:
                    for each in batch:
                        each.written.set_result(None)
                finally:
                    self._waiting_bytes -= sum(each.size_bytes for each in batch)
        finally:
            self._writing = None

    async def _read(self, work: Callable[[Transaction], T]) -> T:
        return await self._run(self._reader, partial(transact, self._url, work, writes=False))

    async def _run(self, thread: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(thread, work)


def _insert(batch: Sequence[_Waiting], transaction: Transaction) -> None:
    for each in batch:
        response = each.response
        asked, body = zlib.compress(response.input, LEVEL), zlib.compress(response.body, LEVEL)
        transaction.run(
            _INSERT,
            each.tenant,
            response.id,
            response.previous_id,
            response.created_at_us,
            len(asked) + len(body),
            asked,
            body,
        )
        for item_id in each.item_ids:
            transaction.run(_INSERT_ITEM, each.tenant, item_id, response.id)


def _delete(transaction: Transaction, tenant: str, response_id: str) -> None:
    transaction.run(_DELETE_ITEMS, tenant, response_id)
    transaction.run(_DELETE, tenant, response_id)


def _excess(bounds: KeepingBounds, transaction: Transaction) -> int:
    ((total,),) = transaction.rows("SELECT coalesce(sum(size_bytes), 0) FROM responses")
    return int(total) - bounds.max_bytes


def _is_untidy(bounds: KeepingBounds, oldest_us: int, transaction: Transaction) -> bool:
    old = transaction.rows("SELECT 1 FROM responses WHERE created_at_us < $1 LIMIT 1", oldest_us)
    return bool(old) or _excess(bounds, transaction) > 0


def _tidy(bounds: KeepingBounds, oldest_us: int, transaction: Transaction) -> None:
    """Takes one step."""
    excess = _excess(bounds, transaction)
    for tenant, response_id, created_at_us, size_bytes in transaction.rows(_OLDEST, TIDY_ROWS):
        if created_at_us >= oldest_us and excess <= 0:
            return
        _delete(transaction, tenant, response_id)
        excess -= size_bytes


def _read(
    transaction: Transaction, tenant: str, names: Sequence[str], stored_bytes: int, max_bytes: int
) -> list[KeptResponse]:
    """The responses of these names.  What is stored says little of what it inflates to, so both are bounded."""
    if stored_bytes > max_bytes:
        raise BodyTooLarge(limit_bytes=max_bytes)
    found: list[KeptResponse] = []
    left = max_bytes
    for name in names:
        for row in transaction.rows(_ONE, tenant, name):
            response = _inflated(row, left)
            left -= len(response.input) + len(response.body)
            if left < 0:
                raise BodyTooLarge(limit_bytes=max_bytes)
            found.append(response)
    return found


def _inflated(row: Row, most_bytes: int | None) -> KeptResponse:
    """A row as it was handed in; a little more than `most_bytes` of it at most."""
    response_id, previous_id, created_at_us, asked, body = row
    try:
        if most_bytes is None:
            texts = zlib.decompress(asked), zlib.decompress(body)
        else:
            texts = _some(asked, most_bytes), _some(body, most_bytes)
    except zlib.error as error:
        raise StoreUnavailable("The ledger holds a response that cannot be read.") from error
    return KeptResponse(response_id, previous_id, created_at_us, *texts)


def _some(deflated: bytes, most_bytes: int) -> bytes:
    return zlib.decompressobj().decompress(deflated, most_bytes + 1)


def _heard(written: "asyncio.Future[None]") -> None:
    """Looks at the error of a response that nobody waits for, so that asyncio does not complain that nobody did."""
    if not written.cancelled():
        written.exception()
