"""Calls that end before their answer does: clients that leave, deadlines, revoked keys, a gateway that stops."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import TypeAlias

import grpc
import grpc.aio
import pytest
from google.protobuf.message import Message

from support.clients import settings
from support.fake_provider import FakeProvider
from support.fake_replies import Answer, Stall, faulty, whole_body, words
from support.processes import until
from support.scrape import Scrape
from support.serving import Running, Serving
from support.vibectl_client import BEARER, Streamed, VibectlClient, calling, prompt
from tollhouse.proto import vibectl_pb2 as wire

TEXT = words(60)
STUCK = faulty(Answer(text=TEXT), Stall(3))
SILENT = faulty(Answer(text=TEXT), Stall("before_head"))
ONCE = "\nretry: {max_attempts: 1}"


async def settled(gateway: Running) -> dict[str, object]:
    """The one row, once it is there."""

    async def is_there() -> bool:
        return len(gateway.rows()) == 1 and not len(gateway.worker.running)

    await until(is_there)
    return gateway.rows()[0]


Call: TypeAlias = "grpc.aio.UnaryStreamCall[Message, wire.StreamChunk]"


async def begun(client: VibectlClient) -> tuple[Call, AsyncIterator[wire.StreamChunk]]:
    """A stream of which the first chunk is here, and the rest of it."""
    call = client.stream_rpc(prompt(), metadata=BEARER, timeout=60)
    chunks = aiter(call)
    await anext(chunks)
    return call, chunks


@pytest.mark.parametrize("reply", [STUCK, SILENT], ids=["in the answer", "before the head"])
async def test_a_client_that_cancels_ends_the_call_upstream(serving: Serving, fake_provider: FakeProvider, reply):
    fake_provider.default = reply
    gateway = await serving(settings(fake_provider))
    async with calling(gateway) as client:
        call = client.stream_rpc(prompt(), metadata=BEARER, timeout=60)
        provider = await fake_provider.call()
        call.cancel()
        await provider.client_left.wait()
    row = await settled(gateway)
    assert row["outcome"] == "client_left"
    assert row["usage_source"] in {"rebuilt", "estimated"}


async def test_a_whole_answer_that_nobody_waits_for_is_given_up(serving: Serving, fake_provider: FakeProvider):
    fake_provider.default = SILENT
    gateway = await serving(settings(fake_provider))
    async with calling(gateway) as client:
        call = client.execute_rpc(prompt(), metadata=BEARER, timeout=60)
        provider = await fake_provider.call()
        call.cancel()
        await provider.client_left.wait()
    assert (await settled(gateway))["outcome"] == "client_left"


async def test_a_connection_that_breaks_ends_its_calls_upstream(serving: Serving, fake_provider: FakeProvider):
    fake_provider.default = STUCK
    gateway = await serving(settings(fake_provider))
    async with calling(gateway) as client:
        await begun(client)
    await (await fake_provider.call()).client_left.wait()
    assert (await settled(gateway))["outcome"] == "client_left"


@pytest.mark.parametrize("how", ["Execute", "StreamExecute"])
async def test_a_deadline_is_kept_upstream_and_told_while_the_client_still_listens(
    serving: Serving, fake_provider: FakeProvider, how: str
):
    fake_provider.default = SILENT
    gateway = await serving(settings(fake_provider) + ONCE)
    async with calling(gateway) as client:
        if how == "Execute":
            error = (await client.execute_rpc(prompt(), metadata=BEARER, timeout=0.8)).error
        else:
            chunks = [chunk async for chunk in client.stream_rpc(prompt(), metadata=BEARER, timeout=0.8)]
            error = chunks[-1].error
    assert error.error_code == "PROVIDER_TIMEOUT"
    assert "did not answer in time" in error.error_message
    assert "deadlines." not in error.error_details  # which the operator need not change
    await (await fake_provider.call()).client_left.wait()
    assert (await settled(gateway))["outcome"] == "provider_timeout"


async def test_a_revoked_key_ends_its_streams_with_a_word(serving: Serving, fake_provider: FakeProvider):
    fake_provider.default = STUCK
    gateway = await serving(settings(fake_provider))
    async with calling(gateway) as client:
        call, chunks = await begun(client)
        gateway.worker.running.cut_keys(frozenset({"test"}))
        streamed = Streamed([chunk async for chunk in chunks])
        assert await call.code() == grpc.StatusCode.OK
    assert streamed.error.error_code == "KEY_REVOKED"
    assert (await settled(gateway))["outcome"] == "key_revoked"


async def test_a_client_that_does_not_read_is_never_told_that_a_cut_answer_is_whole(
    serving: Serving, fake_provider: FakeProvider
):
    """There is no room for a last word, so the RPC is broken off."""
    gateway = await serving(settings(fake_provider))
    fake_provider.default = whole_body("x" * 3_000_000)
    async with calling(gateway) as client:
        call, chunks = await begun(client)
        gateway.worker.running.cut_keys(frozenset({"test"}))

        async def is_over() -> bool:
            return not len(gateway.worker.running)

        await until(is_over)
        kinds = []
        with suppress(grpc.aio.AioRpcError, asyncio.CancelledError):
            kinds = [chunk.WhichOneof("chunk_type") async for chunk in chunks]
        assert "complete" not in kinds
        assert await call.code() != grpc.StatusCode.OK or kinds[-1] == "error"


@pytest.mark.parametrize("how", ["Execute", "StreamExecute"])
async def test_a_drain_that_takes_too_long_ends_calls_with_a_word(
    serving: Serving, fake_provider: FakeProvider, how: str
):
    fake_provider.default = STUCK
    gateway = await serving(f"server: {{drain_seconds: 0}}\n{settings(fake_provider)}")
    async with calling(gateway) as client, asyncio.TaskGroup() as group:
        if how == "Execute":
            asking = group.create_task(client.execute(prompt()))
        else:
            streaming = group.create_task(client.stream(prompt()))
        await fake_provider.call()
        gateway.worker.drain()
        await gateway.worker.wait()
    error = asking.result().error if how == "Execute" else streaming.result().error
    assert error.error_code == "DRAINING"
    assert "Ask again." in error.error_details


async def test_a_drain_lets_calls_end_and_takes_no_new_ones(serving: Serving, fake_provider: FakeProvider):
    go = asyncio.Event()
    fake_provider.default = faulty(Answer(text=TEXT), Stall(3, until=go))
    gateway = await serving(settings(fake_provider))
    async with calling(gateway) as client, asyncio.TaskGroup() as group:
        streaming = group.create_task(client.stream(prompt()))
        await fake_provider.call()
        gateway.worker.drain()

        async def is_refused() -> bool:
            try:
                async with calling(gateway) as another:
                    answer = await another.execute_rpc(prompt(), metadata=BEARER, timeout=1)
            except grpc.aio.AioRpcError as error:
                return error.code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}
            return answer.error.error_code == "DRAINING"

        await until(is_refused)
        go.set()
        await gateway.worker.wait()
    assert streaming.result().text == TEXT
    assert streaming.result().kinds[-1] == "final_metrics"
    assert len(fake_provider.calls) == 1


async def test_a_full_gateway_says_so(serving: Serving, fake_provider: FakeProvider):
    fake_provider.reply(STUCK)
    gateway = await serving(f"server: {{max_concurrent_calls: 1}}\n{settings(fake_provider)}")
    async with calling(gateway) as client:
        call, _ = await begun(client)
        refused = (await client.execute(prompt())).error
        call.cancel()
        assert refused.error_code == "OVERLOADED"
        metrics = Scrape((await gateway.get("/metrics")).body.decode())
        assert metrics.of("tollhouse_refused_total") == {("overloaded",): 1}

        async def is_free() -> bool:
            return not len(gateway.worker.running)

        await until(is_free)
        assert (await client.execute(prompt())).success.response_text


async def test_http_and_grpc_share_the_bound_on_calls(serving: Serving, fake_provider: FakeProvider):
    fake_provider.reply(STUCK)
    gateway = await serving(f"server: {{max_concurrent_calls: 1}}\n{settings(fake_provider)}")
    async with calling(gateway) as client:
        call, _ = await begun(client)
        body = {"model": "to-openai", "messages": [{"role": "user", "content": "Hello"}]}
        assert (await gateway.ask("/v1/chat/completions", body)).status == 503
        call.cancel()
    await settled(gateway)
