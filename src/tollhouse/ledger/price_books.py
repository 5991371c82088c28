"""The price books that calls were priced with, kept in the ledger itself.

A call's row names the version of its price book; with the book at hand its bill can be made again at any time, line by line,
long after the package that brought the book is gone.  A worker keeps its book when it starts and when it reloads, which
costs one short read when it is there already: some 30 KB once for each version of the list, and a few hundred bytes for each
set of overrides.

A book looks models up by the type of their provider, and rows have the provider's configured name.  So the types that names
stood for are kept with the version; where a name stood for several, a row may be priced as any of them.
"""

import asyncio
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec

from tollhouse.chat.usage import Usage
from tollhouse.errors import ConfigError, StoreUnavailable
from tollhouse.ledger.prices import Cost, PriceBook, Rates, cost
from tollhouse.ledger.transaction import Transaction, transact

RETRY_SECONDS: Final = 5.0
"""How often a database that is away is tried again."""
MAX_BOOK_BYTES: Final = 16 * 1024 * 1024
"""A compiled book, inflated."""
OVERRIDES: Final = msgspec.json.Decoder(list[tuple[str, Rates]])

Kinds = Mapping[str, str]
"""Configured name of a provider → its type."""


@dataclass(frozen=True, slots=True)
class KeptBook:
    """A price book and what the names of providers stood for when it was in use."""

    prices: PriceBook
    kinds: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def costs(self, provider: str, model: str, usage: Usage, at_us: int) -> list[Cost | None]:
        """What a call costs by this book, for each type that its provider's name stood for; `None` is "not known".

        A name that is not kept is taken for a type, as the configuration takes it.
        """
        return [
            cost(self.prices.find(kind, model, provider=provider), usage, at_us)
            for kind in self.kinds.get(provider, (provider,))
        ]


def keep(url: str, prices: PriceBook, kinds: Kinds) -> None:
    """Sees to it that the ledger has this book.  Does nothing when it has.  Blocks.

    Raises `StoreUnavailable`, and `ConfigError` when the ledger has another book under the same version: then a price file was
    edited by hand, and bills could not be told apart.
    """
    if transact(url, lambda transaction: is_kept(transaction, prices, kinds), writes=False):
        return
    now_us = time.time_ns() // 1000
    transact(url, lambda transaction: keep_within(transaction, prices, kinds, now_us))


async def keep_soon(
    url: str, prices: PriceBook, kinds: Kinds, *, complain: Callable[[str], None], retry_seconds: float = RETRY_SECONDS
) -> None:
    """The same for a serving process: in a thread, and again until the database is there.  May be cancelled.

    `complain` is told once why it does not work; for `ConfigError` this gives up.
    """
    has_complained = False
    while True:
        try:
            await asyncio.to_thread(keep, url, prices, kinds)
        except ConfigError as error:
            complain(str(error))
            return
        except StoreUnavailable as error:
            if not has_complained:
                complain(str(error))
            has_complained = True
            await asyncio.sleep(retry_seconds)
        else:
            return


def is_kept(transaction: Transaction, prices: PriceBook, kinds: Kinds) -> bool:
    """Whether all of it is there.  Raises `ConfigError` as `keep` does."""
    return (
        _has(transaction, prices.list_version, prices)
        and _has(transaction, prices.version, prices)
        and {*kinds.items()} <= {*_kinds_of(transaction, prices.version)}
    )


def keep_within(transaction: Transaction, prices: PriceBook, kinds: Kinds, now_us: int) -> None:
    """Keeps the book within the caller's transaction.  Raises `ConfigError` as `keep` does."""
    if not _has(transaction, prices.list_version, prices):
        transaction.run(
            f"{_INTO} VALUES ($1, $2, $1, $3, '') ON CONFLICT (version) DO NOTHING",
            prices.list_version,
            now_us,
            zlib.compress(prices.data, 9),
        )
    if not _has(transaction, prices.version, prices):
        transaction.run(
            f"{_INTO} VALUES ($1, $2, $3, NULL, $4) ON CONFLICT (version) DO NOTHING",
            prices.version,
            now_us,
            prices.list_version,
            _encoded(prices),
        )
    for provider, kind in sorted(kinds.items()):
        transaction.run(
            "INSERT INTO price_book_providers (version, provider, kind) VALUES ($1, $2, $3) "
            "ON CONFLICT (version, provider, kind) DO NOTHING",
            prices.version,
            provider,
            kind,
        )


class Shelf:
    """The kept books, each read once.  `read` runs a function in a transaction of the ledger."""

    def __init__(self, *, packaged: PriceBook | None = None, kinds: Kinds | None = None) -> None:
        """`packaged` stands in for its own version where the ledger has none: for calls from before books were kept.

        `kinds` are the types of providers whose version says nothing about them: those of today's configuration.
        """
        self._packaged = packaged
        self._fallback = {provider: (kind,) for provider, kind in (kinds or {}).items()}
        self._found: dict[str, KeptBook | None] = {}

    def book(self, transaction: Transaction, version: str) -> KeptBook | None:
        """The book of a version; `None` if nobody kept it."""
        try:
            return self._found[version]
        except KeyError:
            found = self._found[version] = self._read(transaction, version)
            return found

    def _read(self, transaction: Transaction, version: str) -> KeptBook | None:
        prices = read_prices(transaction, version)
        if prices is None and self._packaged is not None and self._packaged.version == version:
            prices = self._packaged
        return None if prices is None else KeptBook(prices, self._fallback | kinds_of(transaction, version))


def read_prices(transaction: Transaction, version: str) -> PriceBook | None:
    """The kept book of a version; `None` if there is none.  Raises `StoreUnavailable` for one that is damaged."""
    found = transaction.rows(
        "SELECT list.book, own.overrides FROM price_books AS own "
        "JOIN price_books AS list ON list.version = own.list_version WHERE own.version = $1",
        version,
    )
    if not found:
        return None
    (book, overrides), *_ = found
    try:
        prices = PriceBook(_inflated(book), dict(OVERRIDES.decode(overrides)) if overrides else None)
        prices.read_all()
    except (zlib.error, ValueError) as error:
        raise StoreUnavailable(f"The price book {version} in the ledger cannot be read: {error}.") from error
    if prices.version != version:
        raise StoreUnavailable(f"The price book {version} in the ledger is another one: {prices.version}.")
    return prices


def kinds_of(transaction: Transaction, version: str) -> dict[str, tuple[str, ...]]:
    """What the providers' names stood for under a version; names that it does not know have the meaning of the others."""
    kinds: dict[str, tuple[str, ...]] = {}
    others: dict[str, tuple[str, ...]] = {}
    for of, provider, kind in transaction.rows(
        "SELECT version, provider, kind FROM price_book_providers ORDER BY version, provider, kind"
    ):
        into = kinds if of == version else others
        if kind not in into.get(provider, ()):
            into[provider] = (*into.get(provider, ()), kind)
    return others | kinds


_INTO: Final = "INSERT INTO price_books (version, kept_at_us, list_version, book, overrides)"


def _has(transaction: Transaction, version: str, prices: PriceBook) -> bool:
    found = transaction.rows("SELECT book, overrides FROM price_books WHERE version = $1", version)
    if not found:
        return False
    (book, overrides), *_ = found
    is_list = version == prices.list_version
    try:
        is_same = _inflated(book) == prices.data if is_list else overrides == _encoded(prices)
    except zlib.error:
        is_same = False
    if not is_same:
        raise ConfigError(
            [
                (
                    f"prices: the ledger has another price book under the version {version}, so bills could not be told apart. "
                    "Give the book that you changed a version of its own, or put your prices under `prices:`."
                )
            ]
        )
    return True


def _kinds_of(transaction: Transaction, version: str) -> list[tuple[str, str]]:
    rows = transaction.rows("SELECT provider, kind FROM price_book_providers WHERE version = $1", version)
    return [(provider, kind) for provider, kind in rows]


def _encoded(prices: PriceBook) -> str:
    return msgspec.json.encode(sorted(prices.overrides.items())).decode() if prices.overrides else ""


def _inflated(book: bytes) -> bytes:
    inflater = zlib.decompressobj()
    data = inflater.decompress(book, MAX_BOOK_BYTES)
    if not inflater.eof:
        raise zlib.error("it is longer than a price book may be, or was cut")
    return data
