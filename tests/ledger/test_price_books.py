"""The prices behind a version stay in the ledger, as they were."""

import asyncio
from pathlib import Path

import msgspec
import pytest

from support.books import BOOK, KINDS, MTOK, ask, keep
from tollhouse.chat.usage import Usage
from tollhouse.errors import ConfigError, StoreUnavailable
from tollhouse.ledger import store
from tollhouse.ledger.price_books import Shelf, keep_soon, kinds_of, read_prices
from tollhouse.ledger.prices import PRICES_FILE, PriceBook, Rates
from tollhouse.ledger.transaction import transact

USED = Usage(input_tokens=1_000_000, output_tokens=0)


def read(url: str, version: str) -> PriceBook | None:
    return transact(url, lambda transaction: read_prices(transaction, version), writes=False)


def test_a_kept_book_says_what_the_one_in_use_said(any_url: str):
    keep(any_url)
    found = read(any_url, BOOK.version)

    assert found is not None
    assert found.version == BOOK.version
    assert found.overrides == BOOK.overrides
    assert found.data == BOOK.data
    assert found.find("openai", "gpt-5.2") == BOOK.find("openai", "gpt-5.2")


def test_a_book_is_kept_once_and_its_list_is_shared_by_all_overrides(any_url: str):
    others = PriceBook.load({"openai/*": Rates(input=1, output=1)})
    for prices in (BOOK, BOOK, others, PriceBook.load()):
        keep(any_url, prices)

    found = {version: (list_version, book is not None) for version, list_version, book in ask(
        any_url, "SELECT version, list_version, book FROM price_books"
    )}  # fmt: skip
    assert found == {
        BOOK.list_version: (BOOK.list_version, True),
        BOOK.version: (BOOK.list_version, False),
        others.version: (BOOK.list_version, False),
    }
    assert ask(any_url, "SELECT max(length(book)) FROM price_books")[0][0] < 40_000


def test_keeping_what_is_kept_writes_nothing(any_url: str):
    keep(any_url)
    before = ask(any_url, "SELECT version, kept_at_us FROM price_books ORDER BY version")
    keep(any_url)

    assert ask(any_url, "SELECT version, kept_at_us FROM price_books ORDER BY version") == before


def test_a_version_that_nobody_kept_is_not_there(url: str):
    assert read(url, "0.9+20300101.00000000") is None


def test_another_book_under_the_same_version_is_refused(url: str):
    keep(url, PriceBook.load())
    edited = PRICES_FILE.read_bytes().replace(b'"gpt-5.2"', b'"gpt-5.3"', 1)

    with pytest.raises(ConfigError, match="another price book under the version"):
        keep(url, PriceBook(edited))


def test_a_damaged_book_is_not_taken_for_a_price(any_url: str):
    keep(any_url)
    blob = "zeroblob(9)" if any_url.startswith("sqlite") else "'\\x0000'::bytea"
    ask(any_url, f"UPDATE price_books SET book = {blob} WHERE version = '{BOOK.list_version}'")

    with pytest.raises(StoreUnavailable, match="cannot be read"):
        read(any_url, BOOK.version)


def test_the_types_that_names_stood_for_are_kept_with_each_version(url: str):
    keep(url)
    keep(url, PriceBook.load(), {"claude": "openai-compatible", "lab": "ollama"})

    def kinds(version: str) -> dict[str, tuple[str, ...]]:
        return transact(url, lambda transaction: kinds_of(transaction, version), writes=False)

    assert kinds(BOOK.version) == {"openai": ("openai",), "claude": ("anthropic",), "lab": ("ollama",)}
    assert kinds(BOOK.list_version)["claude"] == ("openai-compatible",)


def test_a_name_that_stood_for_two_types_has_two_prices(url: str):
    prices = PriceBook.load({"anthropic/*": Rates(input=MTOK, output=0), "openai/*": Rates(input=2 * MTOK, output=0)})
    keep(url, prices, {"main": "anthropic"})
    keep(url, prices, {"main": "openai"})
    book = transact(url, lambda transaction: Shelf().book(transaction, prices.version), writes=False)

    assert book is not None
    assert [cost and cost.total_nano for cost in book.costs("main", "m", USED, 0)] == [MTOK, 2 * MTOK]


def test_the_package_stands_in_for_its_own_version_only(url: str):
    packaged = PriceBook.load()
    shelf = Shelf(packaged=packaged, kinds={"main": "openai"})

    def book(version: str):
        return transact(url, lambda transaction: shelf.book(transaction, version), writes=False)

    found = book(packaged.version)
    assert found is not None
    assert found.prices is packaged
    assert found.kinds == {"main": ("openai",)}
    assert book("another") is None


async def test_a_worker_keeps_its_book_once_the_database_is_there(tmp_path: Path):
    complained = asyncio.Event()
    url = f"sqlite:///{tmp_path / 't.db'}"
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(keep_soon(url, BOOK, KINDS, complain=lambda _: complained.set(), retry_seconds=0.0))
        await complained.wait()
        await asyncio.to_thread(store.prepare, url)

    assert await asyncio.to_thread(read, url, BOOK.version) is not None


async def test_a_worker_gives_up_on_two_books_of_one_version(tmp_path: Path):
    complaints: list[str] = []
    url = f"sqlite:///{tmp_path / 't.db'}"
    store.prepare(url)
    keep(url)
    book = msgspec.json.decode(BOOK.data, type=dict[str, msgspec.Raw])
    edited = PriceBook(msgspec.json.encode({**book, "source": "elsewhere"}), BOOK.overrides)
    await keep_soon(url, edited, KINDS, complain=complaints.append)

    assert "another price book" in complaints[0]
