"""Whose a thing at a provider is: noted once, seen by all workers, and not lost with the database."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tollhouse.errors import StoreUnavailable
from tollhouse.ledger import belongings, store
from tollhouse.ledger.belongings import AWAY_SECONDS, MAX_ASKED, MAX_ID_CHARACTERS, Belongings, Note
from tollhouse.ledger.transaction import transact


@pytest.fixture
async def book(any_url: str) -> AsyncIterator[Belongings]:
    made = Belongings(any_url)
    yield made
    await made.aclose()


def note(thing: str, tenant: str = "research", *, provider: str = "openai", at_us: int = 1) -> Note:
    return Note(provider, thing, tenant, "files", at_us)


async def notes_in(url: str) -> int:
    rows = await asyncio.to_thread(transact, url, lambda t: t.rows("SELECT count(*) FROM belongings"), writes=False)
    return int(rows[0][0])


async def test_a_note_is_seen_by_another_worker_at_once(book: Belongings, any_url: str):
    other = Belongings(any_url)
    assert not await other.owners("openai", ["file-1"])
    await book.note([note("file-1"), note("files/a", provider="google")])

    assert await other.owners("openai", ["file-1", "file-2", "files/a"]) == {"file-1": "research"}
    assert await other.owners("google", ["files/a"]) == {"files/a": "research"}
    assert await other.owners("openai", ["file-1"]) == {"file-1": "research"}, "remembered"
    await other.aclose()


async def test_the_first_note_of_a_thing_stays(book: Belongings, any_url: str):
    other = Belongings(any_url)
    await book.note([note("file-1")])
    await other.note([note("file-1", "sales"), note("file-2", "sales")])

    for each in (book, other):
        assert await each.owners("openai", ["file-1", "file-2"]) == {"file-1": "research", "file-2": "sales"}
    await other.aclose()


async def test_what_is_noted_already_is_not_written_again(book: Belongings, any_url: str):
    """Whoever polls a batch is told of the same file each time."""
    await book.note([note("file-1"), note("files/a")])
    await asyncio.to_thread(transact, any_url, lambda t: t.run("DELETE FROM belongings"))
    await book.note([note("file-1")])
    assert await notes_in(any_url) == 0
    await book.note([note("files/a"), note("file-1", "sales")])
    assert await notes_in(any_url) == 2


async def test_who_notes_what_is_just_being_written_is_told_when_it_is(book: Belongings):
    """A thing may be told of in many events, and by two calls at the same time."""
    first = book.note([note("file-1")])
    await asyncio.sleep(0)  # its writing has begun
    second = book.note([note("file-1")])
    async with asyncio.timeout(10):
        await asyncio.gather(first, second)


async def test_many_ids_are_asked_for_in_pieces(book: Belongings):
    names = [f"file-{number}" for number in range(2 * MAX_ASKED + 1)]
    await book.note(map(note, names))

    assert len(await book.owners("openai", [*names, "file-x"])) == len(names)


async def test_a_note_is_taken_back_by_its_own_tenant_alone(book: Belongings):
    await book.note([note("files/a"), note("files/b")])
    await book.forget("openai", "files/a", "sales")
    assert await book.owners("openai", ["files/a"]) == {"files/a": "research"}

    await book.forget("openai", "files/a", "research")
    assert await book.owners("openai", ["files/a", "files/b"]) == {"files/b": "research"}
    await book.note([note("files/a", "sales")])
    assert await book.owners("openai", ["files/a"]) == {"files/a": "sales"}


async def test_a_name_that_was_given_twice_is_whose_it_is_now(book: Belongings, any_url: str):
    """Google lets callers choose the names of files."""
    other = Belongings(any_url)
    await book.note([note("files/a")])
    assert await other.owners("openai", ["files/a"]) == {"files/a": "research"}
    await book.forget("openai", "files/a", "research")
    await book.note([note("files/a", "sales")])

    assert await other.owners("openai", ["files/a"]) == {"files/a": "sales"}
    await other.aclose()


@pytest.mark.parametrize(
    "thing", ["", "x" * (MAX_ID_CHARACTERS + 1), "a\0b", "\ud800"], ids=["none", "long", "nul", "half"]
)
async def test_what_can_be_no_id_is_never_noted(book: Belongings, any_url: str, thing: str):
    await book.note([note(thing)])

    assert not await book.owners("openai", [thing])
    assert await notes_in(any_url) == 0


async def test_too_many_notes_push_out_the_oldest_of_who_has_most(any_url: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(belongings, "TIDY_NOTES", 3)
    book = Belongings(any_url, max_notes=6)
    await book.note([note("old", "sales", at_us=0)])
    await book.note([note(f"file-{number}", at_us=number) for number in range(1, 10)])
    await book.tidy()

    assert await notes_in(any_url) == 4
    other = Belongings(any_url)
    left = await other.owners("openai", ["old", "file-6", "file-7"])
    await other.aclose()
    assert left == {"old": "sales", "file-7": "research"}
    await book.aclose()


async def test_notes_wait_for_a_database_that_is_away(tmp_path: Path):
    """Whoever made the thing can go on with it here, and nobody else is let to it; later it is written."""
    now, url = 0.0, f"sqlite:///{tmp_path / 'late.db'}"
    book = Belongings(url, monotonic=lambda: now)
    with pytest.raises(StoreUnavailable):
        await book.note([note("file-1")])
    with pytest.raises(StoreUnavailable):
        await book.note([note("file-2")])  # said at once

    assert await book.owners("openai", ["file-1", "file-2"]) == {"file-1": "research", "file-2": "research"}
    with pytest.raises(StoreUnavailable):
        await book.owners("openai", ["file-1", "file-3"])
    store.prepare(url)
    now += AWAY_SECONDS
    await book.tidy()
    await book.aclose()
    again = Belongings(url)
    assert await again.owners("openai", ["file-1", "file-2", "file-3"]) == {"file-1": "research", "file-2": "research"}
    await again.aclose()


async def test_the_first_note_stays_also_after_an_outage(tmp_path: Path):
    now, url = 0.0, f"sqlite:///{tmp_path / 'late.db'}"
    book = Belongings(url, monotonic=lambda: now)
    with pytest.raises(StoreUnavailable):
        await book.note([note("file-1")])
    store.prepare(url)
    other = Belongings(url)
    await other.note([note("file-1", "sales")])
    now += AWAY_SECONDS

    assert await book.owners("openai", ["file-1"]) == {"file-1": "sales"}
    await book.aclose()
    assert await other.owners("openai", ["file-1"]) == {"file-1": "sales"}
    await other.aclose()
