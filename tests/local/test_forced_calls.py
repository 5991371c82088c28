"""The transport to a model without tools, over real sockets to what stands for llama.cpp."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from support import fake_llama
from support.fake_provider import FakeProvider
from support.fake_replies import Answer, Cut, Failure, Fault, Inserted, Raw, Stall, Trickle, faulty
from tollhouse.chat.sse import Parser
from tollhouse.errors import BadRequest, ConnectionLost, UpstreamTooLarge, UpstreamTruncated
from tollhouse.local.forced_calls import ForcedCalls
from tollhouse.upstream.address import parse_address, target
from tollhouse.upstream.transport import Deadlines, Incoming, Outgoing
from tollhouse.upstream.wire import WireTransport

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
FORCED: dict[str, object] = {"tools": [WEATHER], "tool_choice": "required"}
STREAMED: dict[str, object] = {**FORCED, "stream": True}
ARGUMENTS = {"city": 'Paris "{}'}
CALL = json.dumps({"name": "get_weather", "arguments": ARGUMENTS})


@pytest.fixture
async def transport() -> AsyncIterator[ForcedCalls]:
    transport = ForcedCalls(WireTransport())
    yield transport
    await transport.aclose()


@pytest.fixture
def llama(fake_provider: FakeProvider) -> FakeProvider:
    fake_provider.chooses = fake_llama.answer
    return fake_provider


def request(fake: FakeProvider, fields: dict[str, object], *, path: str = "/chat/completions") -> Outgoing:
    address = parse_address(f"{fake.url}/v1")
    body = {"model": "m", "messages": [{"role": "user", "content": "Weather in Paris?"}], **fields}
    headers = ((b"content-type", b"application/json"),)
    encoded = msgspec.json.encode(body)
    return Outgoing(address=address, method=b"POST", target=target(address, path), headers=headers, body=encoded)


def payloads(body: bytes) -> list[bytes]:
    parser = Parser()
    return [frame.data for frame in [*parser.feed(body), *parser.close()]]


def streamed_call(body: bytes) -> tuple[str, Any, str]:
    """The name, the arguments and the finish reason that the chunks of a stream add up to."""
    *chunks, end = payloads(body)
    assert end == b"[DONE]"
    choices = [choice for chunk in chunks for choice in msgspec.json.decode(chunk)["choices"]]
    functions = [call["function"] for choice in choices for call in choice["delta"].get("tool_calls", ())]
    arguments = "".join(function["arguments"] for function in functions)
    return functions[0]["name"], json.loads(arguments), choices[-1]["finish_reason"]


@pytest.mark.parametrize("in_pieces", [False, True])
async def test_a_whole_answer_is_a_call(llama: FakeProvider, transport: ForcedCalls, in_pieces: bool):
    incoming = await transport.send(request(llama, FORCED), Deadlines())
    body = await incoming.read_some() if in_pieces else await incoming.read_all(1 << 20)
    (choice,) = msgspec.json.decode(body)["choices"]
    function = choice["message"]["tool_calls"][0]["function"]
    assert (function["name"], json.loads(function["arguments"])) == ("get_weather", ARGUMENTS)
    assert choice["finish_reason"] == "tool_calls"
    assert await incoming.read_some() == b""
    assert llama.calls[0].json.keys().isdisjoint({"tools", "tool_choice"})


async def test_a_stream_is_a_call_however_it_was_cut(llama: FakeProvider, transport: ForcedCalls):
    llama.chooses = lambda exchange: faulty(fake_llama.answer(exchange), Trickle())
    asked = request(llama, {**STREAMED, "stream_options": {"include_usage": True}})
    incoming = await transport.send(asked, Deadlines())
    body = await incoming.read_all(1 << 20)
    assert streamed_call(body) == ("get_weather", ARGUMENTS, "tool_calls")
    assert msgspec.json.decode(payloads(body)[-2])["usage"]["completion_tokens"] == fake_llama.TOKENS.output


async def test_the_bound_of_a_stream_that_is_read_whole_is_kept(llama: FakeProvider, transport: ForcedCalls):
    incoming = await transport.send(request(llama, STREAMED), Deadlines())
    with pytest.raises(UpstreamTooLarge):
        await incoming.read_all(100)


@pytest.mark.parametrize("stream", [False, True])
async def test_prose_passes_where_nothing_is_demanded(llama: FakeProvider, transport: ForcedCalls, stream: bool):
    asked = request(llama, {"tools": [WEATHER], "tool_choice": "auto", "stream": stream})
    incoming = await transport.send(asked, Deadlines())
    body = await incoming.read_all(1 << 20)
    assert b"tool_calls" not in body
    assert b"talk" in body


async def test_earlier_calls_and_results_reach_the_model_as_words(llama: FakeProvider, transport: ForcedCalls):
    call = {"id": "c1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city":"Paris"}'}}
    messages = [
        {"role": "user", "content": "Weather in Paris?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "18 degrees"},
    ]
    incoming = await transport.send(request(llama, {"messages": messages}), Deadlines())
    assert b"talk" in await incoming.read_all(1 << 20)
    assert llama.calls[0].json["messages"] == [
        {"role": "user", "content": "Weather in Paris?"},
        {"role": "assistant", "content": 'I call get_weather with {"city":"Paris"}.'},
        {"role": "user", "content": "Result of get_weather: 18 degrees"},
    ]


async def test_a_demand_that_nothing_meets_is_refused_before_anything_is_sent(
    llama: FakeProvider, transport: ForcedCalls
):
    with pytest.raises(BadRequest, match="there is none"):
        await transport.send(request(llama, {"tools": [], "tool_choice": "required"}), Deadlines())
    assert llama.connections == 0


async def test_an_error_is_not_folded(llama: FakeProvider, transport: ForcedCalls):
    llama.reply(Failure(status=400, message="too long"))
    incoming = await transport.send(request(llama, STREAMED), Deadlines())
    assert incoming.status == 400
    assert msgspec.json.decode(await incoming.read_all(1 << 20))["error"]["message"] == "too long"


async def test_other_paths_pass_as_they_are(llama: FakeProvider, transport: ForcedCalls):
    outgoing = request(llama, {**FORCED, "input": ["x"]}, path="/embeddings")
    await (await transport.send(outgoing, Deadlines())).read_all(1 << 20)
    assert llama.calls[0].body == outgoing.body


async def test_lines_that_are_no_event_stay_what_they_are(llama: FakeProvider, transport: ForcedCalls):
    """As events they would look like an answer; bare, whoever reads them sees an error that broke off the stream."""
    lines = b'{"error":{"message":"out of memory"}}'
    llama.reply(Raw(body=b'data: {"choices":[]}\n\n' + lines + b"\n\n", content_type="text/event-stream"))
    incoming = await transport.send(request(llama, STREAMED), Deadlines())
    parser = Parser()
    event, bare = parser.feed(await incoming.read_all(1 << 20))
    assert not event.is_bare
    assert (bare.is_bare, bare.data) == (True, lines)


async def broken(llama: FakeProvider, transport: ForcedCalls, fault: Fault) -> BaseException:
    """What the reader of a stream with this fault meets, twice."""
    llama.reply(faulty(Answer(text=CALL), fault))
    incoming = await transport.send(request(llama, STREAMED), Deadlines())
    errors: list[BaseException] = []
    while len(errors) < 2:
        try:
            assert await incoming.read_some()
        except (UpstreamTruncated, UpstreamTooLarge, ConnectionLost) as error:
            errors.append(error)
    assert type(errors[0]) is type(errors[1])
    return errors[0]


async def test_a_cut_stream_is_an_error_and_no_end(llama: FakeProvider, transport: ForcedCalls):
    assert isinstance(await broken(llama, transport, Cut(3)), UpstreamTruncated)


async def test_an_event_without_measure_closes_the_exchange(llama: FakeProvider, transport: ForcedCalls):
    assert isinstance(await broken(llama, transport, Inserted.oversized(2, 5_000_000)), UpstreamTooLarge)
    async with asyncio.timeout(10):
        await llama.calls[0].client_left.wait()


async def how_it_ends(incoming: Incoming) -> type[BaseException] | None:
    try:
        while await incoming.read_some():
            pass
    except (ConnectionLost, asyncio.CancelledError) as error:
        return type(error)
    return None


@pytest.mark.parametrize("by_closing", [False, True])
async def test_whoever_leaves_ends_the_computation(llama: FakeProvider, transport: ForcedCalls, by_closing: bool):
    llama.reply(faulty(Answer(text=CALL), Stall(3)))
    incoming = await transport.send(request(llama, STREAMED), Deadlines())
    async with asyncio.TaskGroup() as tasks:
        reading = tasks.create_task(how_it_ends(incoming))
        asyncio.get_running_loop().call_soon(incoming.close if by_closing else reading.cancel)
    assert reading.result() is (ConnectionLost if by_closing else asyncio.CancelledError)
    async with asyncio.timeout(10):
        await llama.calls[0].client_left.wait()
