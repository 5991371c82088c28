"""Responses are kept for their tenant alone, found at once, and forgotten in time."""

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tollhouse.errors import BodyTooLarge, StoreUnavailable
from tollhouse.ledger import kept_responses, store
from tollhouse.ledger.kept_responses import KeepingBounds, KeptResponse, ResponseShelf
from tollhouse.ledger.transaction import transact

MANY = 2**20
"""Bytes; more than any conversation here has."""
DAY_US = 86_400_000_000
NOW_US = 2_000_000 * DAY_US // 100
BOUNDS = KeepingBounds(retention_seconds=30 * 86_400.0, max_bytes=2**30, max_response_bytes=2**20)


@pytest.fixture
async def shelf(any_url: str) -> AsyncIterator[ResponseShelf]:
    made = ResponseShelf(any_url)
    yield made
    await made.aclose()


def response(name: str, *, after: str | None = None, at_us: int = NOW_US, body: bytes = b'{"ok":true}') -> KeptResponse:
    return KeptResponse(f"resp_{name}", after and f"resp_{after}", at_us, b'["%b"]' % name.encode(), body)


async def asked(url: str, what: str) -> int:
    """A number from the database; in a thread, where it may block."""
    ((number,),) = await asyncio.to_thread(transact, url, lambda t: t.rows(f"SELECT {what}"), writes=False)
    return int(number)


async def rows(url: str, table: str) -> int:
    return await asked(url, f"count(*) FROM {table}")


async def test_a_kept_response_is_found_by_its_tenant_alone(shelf: ResponseShelf):
    await shelf.keep("research", response("a"))

    assert await shelf.one("research", "resp_a") == response("a")
    assert await shelf.one("sales", "resp_a") is None
    assert await shelf.one("research", "resp_b") is None
    assert not await shelf.chain("sales", "resp_a", MANY)


async def test_a_conversation_is_followed_back_to_its_beginning(shelf: ResponseShelf):
    for name, after in (("a", None), ("b", "a"), ("c", "b"), ("other", "a")):
        await shelf.keep("research", response(name, after=after))
    await shelf.keep("sales", response("a", body=b'{"theirs":true}'))

    found = await shelf.chain("research", "resp_c", MANY)
    assert [each.id for each in found] == ["resp_a", "resp_b", "resp_c"]
    assert found[0] == response("a")


async def test_a_conversation_of_which_something_is_gone_begins_in_the_middle(shelf: ResponseShelf):
    for name, after in (("a", None), ("b", "a"), ("c", "b")):
        await shelf.keep("research", response(name, after=after))
    assert await shelf.remove("research", "resp_a")

    found = await shelf.chain("research", "resp_c", MANY)
    assert [each.id for each in found] == ["resp_b", "resp_c"]
    assert found[0].previous_id == "resp_a"


@pytest.mark.parametrize(
    "body",
    [b'"%b"' % (b"x" * 40_000), b'"%b"' % random.Random(1).randbytes(20_000).hex().encode()],
    ids=["alike", "random"],
)
async def test_a_conversation_is_read_only_as_far_as_its_bound(shelf: ResponseShelf, body: bytes):
    """What compresses well is small on disk and large in memory; what does not is large in both."""
    for name, after in (("a", None), ("b", "a"), ("c", "b")):
        await shelf.keep("research", response(name, after=after, body=body), [f"msg_{name}"])

    assert len(await shelf.chain("research", "resp_c", 3 * len(body) + 100)) == 3
    for most in (10, 2 * len(body)):
        with pytest.raises(BodyTooLarge):
            await shelf.chain("research", "resp_c", most)
        with pytest.raises(BodyTooLarge):
            await shelf.with_items("research", ["msg_a", "msg_b", "msg_c"], most)


async def test_a_circle_of_responses_ends(shelf: ResponseShelf):
    await shelf.keep("research", response("a", after="b"))
    await shelf.keep("research", response("b", after="a"))

    assert len(await shelf.chain("research", "resp_a", MANY)) == kept_responses.MAX_TURNS


async def test_the_first_of_two_with_one_id_stays(shelf: ResponseShelf):
    """Callers who share one answer hand the same response in."""
    await shelf.keep("research", response("a"))
    await shelf.keep("research", response("a", body=b'{"other":1}'))

    assert await shelf.one("research", "resp_a") == response("a")


async def test_items_are_found_by_their_ids_within_the_tenant(shelf: ResponseShelf):
    await shelf.keep("research", response("a"), ["msg_1", "rs_1"])
    await shelf.keep("research", response("b"), ["msg_2"])

    found = await shelf.with_items("research", ["msg_2", "rs_1", "msg_9"], MANY)
    assert [each.id for each in found] == ["resp_b", "resp_a"]
    assert not await shelf.with_items("sales", ["msg_1"], MANY)


async def test_a_removed_response_leaves_nothing_behind(shelf: ResponseShelf, any_url: str):
    await shelf.keep("research", response("a"), ["msg_1"])

    assert not await shelf.remove("sales", "resp_a")
    assert await shelf.remove("research", "resp_a")
    assert not await shelf.remove("research", "resp_a")
    assert await rows(any_url, "responses") == await rows(any_url, "response_items") == 0


async def test_what_is_too_old_is_forgotten_in_steps(shelf: ResponseShelf, any_url: str):
    old = [response(f"old{n}", at_us=NOW_US - 31 * DAY_US) for n in range(kept_responses.TIDY_ROWS + 20)]
    await asyncio.gather(*(shelf.keep("research", each, [f"msg_{each.id}"]) for each in old))
    await shelf.keep("research", response("young", at_us=NOW_US - 29 * DAY_US), ["msg_young"])

    await shelf.tidy(BOUNDS, NOW_US)
    assert await rows(any_url, "responses") == await rows(any_url, "response_items") == 1
    assert await shelf.one("research", "resp_young")


async def test_the_oldest_of_what_is_too_much_is_forgotten(shelf: ResponseShelf, any_url: str):
    for n in range(5):
        await shelf.keep("research", response(f"r{n}", at_us=NOW_US + n))
    size = await asked(any_url, "max(size_bytes) FROM responses")

    bounds = KeepingBounds(retention_seconds=1e9, max_bytes=2 * size, max_response_bytes=2**20)
    await shelf.tidy(bounds, NOW_US)
    left = [n for n in range(5) if await shelf.one("research", f"resp_r{n}")]
    assert left == [3, 4]


async def test_tidying_is_done_once_a_minute_however_often_it_is_asked_for(url: str):
    clock = [0.0]
    shelf = ResponseShelf(url, monotonic=lambda: clock[0])
    await shelf.tidy(BOUNDS, NOW_US)
    await shelf.keep("research", response("old", at_us=0))
    clock[0] += kept_responses.TIDY_SECONDS / 2
    await shelf.tidy(BOUNDS, NOW_US)
    assert await rows(url, "responses") == 1

    clock[0] += kept_responses.TIDY_SECONDS
    await shelf.tidy(BOUNDS, NOW_US)
    assert await rows(url, "responses") == 0
    await shelf.aclose()


async def test_a_ledger_that_is_away_fails_the_keeping_and_is_left_alone_for_a_while(tmp_path: Path):
    url = f"sqlite:///{tmp_path / 'later.db'}"
    clock = [100.0]
    shelf = ResponseShelf(url, monotonic=lambda: clock[0])
    with pytest.raises(StoreUnavailable):
        await shelf.keep("research", response("a"))
    with pytest.raises(StoreUnavailable):
        await shelf.one("research", "resp_a")

    store.prepare(url)
    clock[0] += kept_responses.AWAY_SECONDS / 2
    with pytest.raises(StoreUnavailable, match="a moment ago"):
        await shelf.keep("research", response("a"))
    clock[0] += kept_responses.AWAY_SECONDS
    await shelf.keep("research", response("a"))
    assert await shelf.one("research", "resp_a")
    await shelf.aclose()


async def test_more_than_may_wait_is_not_taken(url: str):
    shelf = ResponseShelf(url, max_waiting_bytes=30)
    first, second = shelf.keep("research", response("a")), shelf.keep("research", response("b", body=b"x" * 30))

    with pytest.raises(StoreUnavailable, match="Too many"):
        await second
    await first
    await shelf.aclose()


async def test_what_waits_is_written_before_the_shelf_is_closed(url: str):
    shelf = ResponseShelf(url)
    shelf.keep("research", response("a"))
    await shelf.aclose()
    assert await rows(url, "responses") == 1
