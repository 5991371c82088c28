"""Workers learn that calls were rated again, once each time."""

import asyncio

import pytest

from support.books import ask
from tollhouse.ledger.books_state import BooksWatch
from tollhouse.ledger.reading import Reader


@pytest.fixture
def url(any_url: str) -> str:
    return any_url


async def test_a_change_is_seen_once(url: str):
    reader = Reader(url)
    watch = BooksWatch(reader)
    seen = [await watch.has_changed(), await watch.has_changed()]
    await asyncio.to_thread(ask, url, "UPDATE books_state SET revision = revision + 2")
    seen += [await watch.has_changed(), await watch.has_changed()]
    await reader.aclose()

    assert seen == [False, False, True, False]
