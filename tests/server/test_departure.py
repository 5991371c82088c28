"""A client that leaves ends its upstream call, at whatever moment, and what was used is written down once."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from support.clients import CLIENTS, LANES, settings
from support.fake_provider import FakeProvider
from support.fake_replies import Answer, Failure, Stall, Tokens, faulty, words
from support.holds import Settlement, watch_holds
from support.serving import Running, Serving
from tollhouse.upstream.transport import Incoming

BOTH_LANES = [("openai", "openai"), ("anthropic", "openai")]
"""One that forwards and one that translates, for what has to be seen on both servers."""
GENEROUS_SECONDS = 10.0
"""Bounds the waits, so that a failing test ends; nothing is measured by it."""


async def within(waiting: Awaitable[object]) -> None:
    async with asyncio.timeout(GENEROUS_SECONDS):
        await waiting


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(GENEROUS_SECONDS):
        while not await condition():  # noqa: ASYNC110  # what is waited for is on disk or behind HTTP
            await asyncio.sleep(0.01)


async def one_row(gateway: Running) -> dict[str, Any]:
    """The only row, which is written right after the call was ended: nobody waits for it, so it has to be waited for."""

    async def is_there() -> bool:
        return bool(gateway.rows())

    await until(is_there)
    await idle(gateway)
    (row,) = gateway.rows()
    return row


async def idle(gateway: Running) -> None:
    """Waits until no call is under way; a leaked one would keep its count for ever."""

    async def is_idle() -> bool:
        text = (await gateway.get("/metrics")).body.decode()
        found = re.search(r"^tollhouse_calls_in_flight(?:\{[^}]*\})? (\S+)$", text, re.MULTILINE)
        assert found, text
        return float(found[1]) == 0

    await until(is_idle)


def leave(asking: "asyncio.Task[Incoming]") -> None:
    """The client's connection is closed: the transport does that at once when a call is cancelled."""
    asking.cancel()


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("lane", BOTH_LANES, ids="-to-".join)
async def test_leaving_before_the_first_byte_closes_the_upstream_call(
    serving: Serving, fake_provider: FakeProvider, lane: tuple[str, str], stream: bool
):
    fake_provider.default = faulty(Answer(), Stall("before_head"))
    gateway = await serving(settings(fake_provider))
    holds = watch_holds(gateway)
    asks = CLIENTS[lane[0]]
    async with asyncio.TaskGroup() as group:
        asking = group.create_task(gateway.open(asks.path, asks.question(f"to-{lane[1]}", stream=stream)))
        call = await fake_provider.call(0)
        leave(asking)
    await within(call.client_left.wait())
    row = await one_row(gateway)
    assert (row["outcome"], row["status"], row["usage_source"]) == ("client_left", 499, "estimated")
    assert row["input_tokens"] > 0, "the prompt was sent, and may have been read"
    assert row["output_tokens"] == 0
    assert row["cost_nano"] > 0
    assert row["attempts"] == 1
    assert len(fake_provider.calls) == 1, "nobody is asked for somebody who left"
    assert holds.settled_once() == [Settlement(row["cost_nano"], row["input_tokens"], 0)]


@pytest.mark.parametrize("lane", BOTH_LANES, ids="-to-".join)
async def test_leaving_between_head_and_first_event_closes_the_upstream_call(
    serving: Serving, fake_provider: FakeProvider, lane: tuple[str, str]
):
    fake_provider.default = faulty(Answer(text=words(3)), Stall(0))
    gateway = await serving(settings(fake_provider))
    asks = CLIENTS[lane[0]]
    async with asyncio.TaskGroup() as group:
        asking = group.create_task(gateway.open(asks.path, asks.question(f"to-{lane[1]}", stream=True)))
        call = await fake_provider.call(0)
        leave(asking)
    await within(call.client_left.wait())
    row = await one_row(gateway)
    assert (row["outcome"], row["status"], row["usage_source"]) == ("client_left", 499, "estimated")


@pytest.mark.parametrize("lane", LANES, ids="-to-".join)
async def test_leaving_in_mid_stream_closes_the_upstream_call_and_counts_what_was_delivered(
    serving: Serving, fake_provider: FakeProvider, lane: tuple[str, str]
):
    fake_provider.default = faulty(Answer(text=words(40), tokens=Tokens(input=30, output=40)), Stall(20))
    gateway = await serving(settings(fake_provider))
    asks = CLIENTS[lane[0]]
    holds = watch_holds(gateway)
    incoming = await gateway.open(asks.path, asks.question(f"to-{lane[1]}", stream=True))
    assert await incoming.read_some()
    call = await fake_provider.call(0)
    incoming.close()
    await within(call.client_left.wait())
    row = await one_row(gateway)
    assert (row["outcome"], row["status"], row["usage_source"]) == ("client_left", 200, "rebuilt")
    assert 0 < row["output_tokens"] < 40
    assert row["input_tokens"] > 0
    assert row["cost_nano"] > 0
    assert row["finish"] == ""
    assert holds.settled_once() == [Settlement(row["cost_nano"], row["input_tokens"], row["output_tokens"])]


@pytest.mark.parametrize("client", list(CLIENTS))
async def test_leaving_during_a_back_off_asks_nobody_again_and_owes_nothing(
    serving: Serving, fake_provider: FakeProvider, client: str
):
    fake_provider.default = Failure(status=429, retry_after="15")
    gateway = await serving(settings(fake_provider))
    asks = CLIENTS[client]
    holds = watch_holds(gateway)

    async def has_failed() -> bool:
        health = (await gateway.get("/health")).json()
        return bool(health["providers"]["openai"] != "unknown")

    async with asyncio.TaskGroup() as group:
        asking = group.create_task(gateway.open(asks.path, asks.question("to-openai", stream=True)))
        await until(has_failed)
        leave(asking)
    row = await one_row(gateway)
    assert (row["outcome"], row["status"], row["attempts"]) == ("client_left", 499, 1)
    assert (row["cost_nano"], row["usage_source"]) == (0, "none"), "a refused attempt is not billed"
    assert len(fake_provider.calls) == 1
    assert holds.settled_once() == [Settlement(0, 0, 0)]


async def test_a_client_that_sends_half_a_request_and_leaves_reaches_nobody(
    serving: Serving, fake_provider: FakeProvider
):
    gateway = await serving(settings(fake_provider) + "\nauth: {open: true}")
    reader, writer = await asyncio.open_connection(*gateway.url.removeprefix("http://").split(":"))
    writer.write(b'POST /v1/messages HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n{"model": "to-')
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    del reader
    await idle(gateway)
    assert (gateway.rows(), fake_provider.calls) == ([], [])


@pytest.mark.parametrize("lane", BOTH_LANES, ids="-to-".join)
async def test_many_that_leave_at_once_leak_no_task_and_no_connection(
    serving: Serving, fake_provider: FakeProvider, lane: tuple[str, str]
):
    fake_provider.default = faulty(Answer(text=words(9)), Stall(5))
    gateway = await serving(settings(fake_provider))
    asks = CLIENTS[lane[0]]
    await idle(gateway)
    before = asyncio.all_tasks()
    streams = await asyncio.gather(
        *(gateway.open(asks.path, asks.question(f"to-{lane[1]}", stream=True)) for _ in range(12))
    )
    for stream in streams:
        stream.close()
    for call in fake_provider.calls:
        await within(call.client_left.wait())

    async def all_written() -> bool:
        return len(gateway.rows()) == 12

    await until(all_written)
    await idle(gateway)
    assert {row["outcome"] for row in gateway.rows()} == {"client_left"}

    async def nothing_is_left() -> bool:
        return not {task for task in asyncio.all_tasks() - before if "tollhouse" in repr(task.get_coro())}

    await until(nothing_is_left)
