"""Workers learn that calls were rated again, once each time."""

import asyncio
from pathlib import Path

import pytest

from support.books import ask
from support.postgres import postgres, postgres_ledger, postgres_session
from tollhouse.ledger import store
from tollhouse.ledger.books_state import BooksWatch
from tollhouse.ledger.reading import Reader

__all__ = ["postgres", "postgres_ledger", "postgres_session"]


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgresql":
        address: str = request.getfixturevalue("postgres_ledger")
        return address
    store.prepare(f"sqlite:///{tmp_path / 't.db'}")
    return f"sqlite:///{tmp_path / 't.db'}"


async def test_a_change_is_seen_once(url: str):
    reader = Reader(url)
    watch = BooksWatch(reader)
    seen = [await watch.has_changed(), await watch.has_changed()]
    await asyncio.to_thread(ask, url, "UPDATE books_state SET revision = revision + 2")
    seen += [await watch.has_changed(), await watch.has_changed()]
    await reader.aclose()

    assert seen == [False, False, True, False]
