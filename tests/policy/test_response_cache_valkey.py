"""Kept answers in a real Valkey or Redis server: shared, bounded, and never in anybody's way."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest

from support.valkey import (
    Server,
    any_valkey,
    any_valkey_server,
    cluster,
    valkey,
    valkey_server,
    wait_until,
)
from tollhouse.chat.model import Choice, Message, Request, Response, Text
from tollhouse.errors import ConfigError, StoreUnavailable
from tollhouse.policy.identity import Principal
from tollhouse.policy.response_cache import LARGEST_SHARE, SILENT, ResponseCache, Target
from tollhouse.policy.response_cache_valkey import (
    ENTRY_OVERHEAD_BYTES,
    KEY_PREFIX,
    MAX_WIRES,
    REST_SECONDS,
    ValkeyAnswers,
)

__all__ = ["any_valkey", "any_valkey_server", "valkey", "valkey_server"]

BRIEF = 0.05
"""A deadline that a test means to meet, in seconds."""


class Clock:
    def __init__(self) -> None:
        self.now = 50.0

    def __call__(self) -> float:
        return self.now


def name(number: int) -> bytes:
    return number.to_bytes(32, "big")


def counted(entry: bytes) -> int:
    return len(entry) + ENTRY_OVERHEAD_BYTES


class Answers(ValkeyAnswers):
    """A store with a clock of its own that remembers why it rested."""

    def __init__(
        self, url: str, *, max_bytes: int = 1 << 40, ttl_seconds: float = 600, timeout_seconds: float = 10
    ) -> None:
        self.clock = Clock()
        self.failures: list[StoreUnavailable] = []
        super().__init__(
            url,
            max_bytes=max_bytes,
            ttl_seconds=ttl_seconds,
            timeout_seconds=timeout_seconds,
            monotonic=self.clock,
            failed=self.failures.append,
        )


@asynccontextmanager
async def answers(server: Server, **settings: Any) -> AsyncIterator[Answers]:
    one = Answers(server.url, **settings)
    try:
        yield one
    finally:
        await one.aclose()


@contextmanager
def paused(server: Server) -> Iterator[None]:
    server.pause()
    try:
        yield
    finally:
        server.resume()


# --------------------------------------------------------------------------------------------------------------- sharing


async def test_what_one_gateway_keeps_another_finds(any_valkey: Server):
    async with answers(any_valkey) as one, answers(any_valkey) as two:
        await one.put(name(1), b"\x00answer\r\n")
        assert await two.get(name(1)) == b"\x00answer\r\n"
        assert await two.get(name(2)) is None
        await two.put(name(1), b"newer")
        assert await one.get(name(1)) == b"newer"
        assert (one.failures, two.failures) == ([], [])


async def test_a_tenant_is_never_given_another_tenants_answer_from_a_shared_store(valkey: Server):
    request = Request(model="m", messages=(Message("user", (Text("Hello"),)),))
    target = Target(provider="p", base_url="https://p.example", model="m")
    response = Response(id="a", model="m", created=1, choices=(Choice(parts=(Text("Hi"),), finish="stop"),))
    async with answers(valkey) as one, answers(valkey) as two:
        mine, other = (
            ResponseCache(store, ttl_seconds=600, scope="tenant", wall=lambda: 1_790_000_000.0) for store in (one, two)
        )
        await mine.keep(mine.key(request, target, Principal(key="a", tenant="research")), response)
        for caller in (Principal(key="a", tenant="sales"), Principal(key="a"), Principal(key="", subject="research")):
            assert await other.find(other.key(request, target, caller), SILENT) is None
        hit = await other.find(other.key(request, target, Principal(key="b", tenant="research")), SILENT)
        assert hit is not None
        assert hit.response == response


async def test_entries_of_another_form_are_not_met(valkey: Server):
    """Every name begins with the form's number, so that an older release's entries are simply not there."""
    async with answers(valkey) as one:
        await one.put(name(1), b"answer")
    for key in valkey.client.scan_iter():
        assert key.startswith(b"tollhouse:{answers}:1:")


async def test_a_server_that_has_forgotten_the_script_is_told_it_again(any_valkey: Server):
    async with answers(any_valkey) as one:
        await one.put(name(1), b"one")
        any_valkey.client.script_flush()
        await one.put(name(2), b"two")
        assert [await one.get(name(1)), await one.get(name(2))] == [b"one", b"two"]
        assert one.failures == []


async def test_many_callers_share_few_connections_and_each_gets_its_own_answer(valkey: Server):
    async with answers(valkey) as one:
        await asyncio.gather(*(one.put(name(number), b"%d" % number) for number in range(100)))
        got = await asyncio.gather(*(one.get(name(number)) for number in range(100)))
        assert got == [b"%d" % number for number in range(100)]
        # One more is the test's own.
        assert len(valkey.client.client_list()) <= MAX_WIRES + 1


# ----------------------------------------------------------------------------------------------------------------- bound


async def test_the_oldest_make_room(any_valkey: Server):
    entry = b"x" * 1000
    async with answers(any_valkey, max_bytes=10 * counted(entry)) as one:
        for number in range(25):
            await one.put(name(number), entry)
        assert [number for number in range(25) if await one.get(name(number))] == list(range(15, 25))
        assert any_valkey.client.hget(KEY_PREFIX + b"sizes", "total") == b"%d" % (10 * counted(entry))


async def test_a_newer_entry_of_a_key_counts_once(valkey: Server):
    async with answers(valkey) as one:
        for length in (1000, 10, 500):
            await one.put(name(1), b"x" * length)
        assert valkey.client.hget(KEY_PREFIX + b"sizes", "total") == b"%d" % counted(b"x" * 500)
        assert valkey.client.zcard(KEY_PREFIX + b"index") == 1


async def test_an_entry_over_its_share_is_not_kept(valkey: Server):
    async with answers(valkey, max_bytes=80_000) as one:
        fitting = b"x" * (80_000 // LARGEST_SHARE - ENTRY_OVERHEAD_BYTES)
        await one.put(name(1), fitting)
        await one.put(name(2), fitting + b"x")
        assert [await one.get(name(1)) is not None, await one.get(name(2))] == [True, None]


async def test_entries_end_with_their_time_and_leave_nothing_behind(any_valkey: Server):
    async with answers(any_valkey, ttl_seconds=0.02) as one:
        for number in range(5):
            await one.put(name(number), b"x")
        wait_until(lambda: any_valkey.client.dbsize() == 0)
        assert await one.get(name(1)) is None


async def test_what_has_expired_no_longer_counts(valkey: Server):
    async with answers(valkey, ttl_seconds=0.02) as brief, answers(valkey) as lasting:
        for number in range(5):
            await brief.put(name(number), b"x")
        await lasting.put(name(9), b"y")
        wait_until(lambda: valkey.client.dbsize() == 3)
        await lasting.put(name(10), b"z")
        assert valkey.client.hget(KEY_PREFIX + b"sizes", "total") == b"%d" % (2 * counted(b"y"))
        assert valkey.client.zcard(KEY_PREFIX + b"index") == 2


async def test_a_gateway_with_a_shorter_time_to_live_does_not_end_the_count(valkey: Server):
    async with answers(valkey, ttl_seconds=0.02) as brief, answers(valkey) as lasting:
        await lasting.put(name(1), b"x")
        await brief.put(name(2), b"x")
        wait_until(lambda: valkey.client.dbsize() == 3)
        await lasting.put(name(3), b"x")
        assert valkey.client.hget(KEY_PREFIX + b"sizes", "total") == b"%d" % (2 * counted(b"x"))


@pytest.mark.parametrize("length", [200, 3000])
async def test_sizes_are_counted_truly(any_valkey: Server, length: int):
    """What the store counts is at least what the server needs, and not much more."""
    async with answers(any_valkey) as one:
        await one.put(name(9999), b"x")
        before = any_valkey.client.info("memory")["used_memory"]
        for number in range(1500):
            await one.put(name(number), number.to_bytes(4, "big") * (length // 4))
        taken = any_valkey.client.info("memory")["used_memory"] - before
        assert taken <= 1500 * (length + ENTRY_OVERHEAD_BYTES) <= 1.6 * taken


# --------------------------------------------------------------------------------------------------------------- trouble


async def test_a_store_that_is_not_there_is_a_miss_and_is_left_alone_for_a_while(valkey: Server):
    async with answers(valkey) as one:
        await one.put(name(1), b"answer")
        valkey.kill()
        assert await one.get(name(1)) is None
        assert one.is_resting
        assert len(one.failures) == 1
        for _ in range(3):
            assert await one.get(name(1)) is None
            await one.put(name(1), b"answer")
        assert len(one.failures) == 1
        valkey.start()
        assert await one.get(name(1)) is None
        one.clock.now += REST_SECONDS
        await one.put(name(2), b"again")
        assert await one.get(name(2)) == b"again"
        assert len(one.failures) == 1


async def test_a_store_that_is_silent_is_a_miss_within_its_time(valkey: Server):
    async with answers(valkey, timeout_seconds=BRIEF) as one:
        with paused(valkey):
            assert await asyncio.gather(*(one.get(name(number)) for number in range(20))) == [None] * 20
            assert len(one.failures) == 1
            assert str(valkey.port) in str(one.failures[0])
            one.clock.now += REST_SECONDS
            await one.put(name(1), b"answer")
            assert len(one.failures) == 2


async def test_an_answer_that_came_too_late_is_not_the_next_ones(valkey: Server):
    """The connection on which it is still to come is given up."""
    async with answers(valkey) as one:
        await one.put(name(1), b"one")
        await one.put(name(2), b"two")
        one._timeout = BRIEF
        with paused(valkey):
            assert await one.get(name(1)) is None
        one._timeout = 10
        one.clock.now += REST_SECONDS
        assert [await one.get(name(2)), await one.get(name(1))] == [b"two", b"one"]


async def test_a_caller_that_leaves_takes_nobody_elses_answer_along(valkey: Server):
    async with answers(valkey) as one:
        await one.put(name(1), b"one")
        await one.put(name(2), b"two")
        with paused(valkey):
            waiting = [asyncio.get_running_loop().create_task(one.get(name(1))) for _ in range(MAX_WIRES + 3)]
            for _ in range(20):
                await asyncio.sleep(0)
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
            assert all(task.cancelled() for task in waiting)
        assert not one.is_resting
        assert [await one.get(name(2)), await one.get(name(1))] == [b"two", b"one"]
        assert one.failures == []


@pytest.mark.parametrize("after", range(8))
async def test_leaving_at_any_moment_leaves_the_store_in_order(valkey: Server, after: int):
    async with answers(valkey) as one:
        for number in range(6):
            task = asyncio.get_running_loop().create_task(one.put(name(number), b"%d" % number))
            for _ in range(after):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await one.put(name(9), b"nine")
        assert await one.get(name(9)) == b"nine"
        assert one.failures == []


async def test_a_server_without_memory_is_a_miss(any_valkey: Server):
    """The script asks for memory before it does anything, for a server lets one that has written go on writing."""
    valkey = any_valkey
    async with answers(valkey) as one:
        valkey.client.config_set("maxmemory", 1)
        await one.put(name(1), b"answer")
        assert "OOM" in str(one.failures[0])
        valkey.client.config_set("maxmemory", 0)
        one.clock.now += REST_SECONDS
        await one.put(name(1), b"answer")
        assert await one.get(name(1)) == b"answer"


async def test_what_is_not_an_entry_is_a_miss(valkey: Server):
    async with answers(valkey) as one:
        await one.put(name(1), b"answer")
        (key,) = (key for key in valkey.client.scan_iter() if key.endswith(b"01"))
        valkey.client.delete(key)
        valkey.client.lpush(key, "a list")
        assert await one.get(name(1)) is None
        assert "WRONGTYPE" in str(one.failures[0])


async def test_after_closing_nothing_is_asked(valkey: Server):
    async with answers(valkey) as one:
        await one.put(name(1), b"answer")
        await one.aclose()
        await one.aclose()
        assert await one.get(name(1)) is None
        assert one.failures == []


@pytest.mark.parametrize("url", ["http://127.0.0.1", "redis://", "redis://127.0.0.1:x/0"])
def test_an_address_that_is_none_is_refused_at_once(url: str):
    with pytest.raises(ConfigError):
        Answers(url)


async def test_a_node_of_a_cluster_names_the_one_that_has_the_answers():
    with cluster() as (_, other):
        async with answers(other) as one:
            assert await one.get(name(1)) is None
            assert "MOVED" in str(one.failures[0])
            one.clock.now += REST_SECONDS
            await one.put(name(1), b"answer")
            assert await one.get(name(1)) == b"answer"
            assert len(one.failures) == 1
