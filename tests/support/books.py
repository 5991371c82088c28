"""Ledgers with priced calls, for tests of the books, in both databases."""

import asyncio
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from typing import Any, Final

import asyncpg
import msgspec

from support.call_records import make_call
from tollhouse.chat.usage import Usage
from tollhouse.ledger import price_books, store
from tollhouse.ledger.prices import PriceBook, Rates, cost
from tollhouse.ledger.record import CallRecord
from tollhouse.ledger.rows import row_of

KINDS: Final = {"openai": "openai", "claude": "anthropic"}
"""As a configuration has it: the second has a name that is no type."""
USED: Final = Usage(input_tokens=1_000_000, cache_read_tokens=400_000, output_tokens=100_000, source="reported")
"""A million tokens, so that a reader sees the price in the amount."""
MTOK: Final = 1_000_000_000
"""A dollar in nano-USD; as a rate, a dollar per million tokens."""
BOOK: Final = PriceBook.load(
    {
        "openai/*": Rates(input=2 * MTOK, cache_read=MTOK, output=10 * MTOK),
        "claude/*": Rates(input=3 * MTOK, output=15 * MTOK),
    }
)
"""What calls of these tests were priced with: `USED` costs 2.60 dollars at openai, 4.50 at claude."""


def priced(name: str, *, prices: PriceBook = BOOK, usage: Usage = USED, **fields: Any) -> CallRecord:
    """A call as the gateway writes it, with its cost by the book."""
    call = make_call(name, usage=usage, **fields)
    found = prices.find(KINDS.get(call.provider, call.provider), call.model, provider=call.provider)
    bill = cost(found, usage, call.started_at_us)
    call.cost_nano = None if bill is None else bill.total_nano
    call.price_version = prices.version
    return call


def write(url: str, calls: Iterable[CallRecord]) -> None:
    """Adds calls to a ledger that is there."""
    storage = store.storage_of(url)
    storage.open()
    assert storage.insert([row_of(call) for call in calls]) == frozenset()
    storage.close()


def keep(url: str, prices: PriceBook = BOOK, kinds: Mapping[str, str] | None = None) -> None:
    """What a worker does when it starts."""
    price_books.keep(url, prices, KINDS if kinds is None else kinds)


def ask(url: str, statement: str) -> list[tuple[Any, ...]]:
    """Reads or changes something behind the ledger's back; what is changed is committed."""
    if not store.is_postgresql(url):
        with closing(sqlite3.connect(store.sqlite_path(url))) as connection, connection:
            return connection.execute(statement).fetchall()

    async def work() -> list[tuple[Any, ...]]:
        connection = await asyncpg.connect(url)
        rows = [tuple(row) for row in await connection.fetch(statement)]
        await connection.close()
        return rows

    return asyncio.run(work())


def stored_totals(url: str) -> str:
    """The table that `spend_hours` is read from, with every call counted into it: for whoever spoils the totals."""
    if store.is_postgresql(url):
        return "spend_hours"
    storage = store.storage_of(url)
    storage.open()  # counts what earlier writers left
    storage.close()
    return "counted_hours"


def costs(url: str) -> dict[str, tuple[int | None, str]]:
    """Cost and version of each call, by its id."""
    return {name: (nano, version) for name, nano, version in ask(url, "SELECT id, cost_nano, price_version FROM calls")}


def everything(url: str) -> Sequence[object]:
    """All that a rerating could change."""
    tables = ("calls", "spend_hours", "rerates", "rerated_calls", "books_state", "price_books", "audit")
    return [sorted(ask(url, f"SELECT * FROM {table}"), key=msgspec.json.encode) for table in tables]
