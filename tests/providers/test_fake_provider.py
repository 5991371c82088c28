"""The fake provider is itself held to what it promises, with the vendors' own clients where they can tell."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import anthropic
import httpx2
import openai
import pytest

from support.fake_openai import FLAVOURS
from support.fake_provider import Exchange, FakeProvider
from support.fake_replies import (
    EMPTY,
    GARBAGE,
    HTML_PAGE,
    Answer,
    Call,
    Cut,
    DoubledFinish,
    ErrorAfter,
    Failure,
    Inserted,
    NoDone,
    NoFinish,
    NoUsage,
    Replay,
    Reply,
    Reset,
    Stall,
    Tokens,
    Trickle,
    faulty,
    redirect,
    words,
)
from support.recordings import load
from tollhouse.chat import sse
from tollhouse.errors import ConnectionLost, TollhouseError, UpstreamTruncated
from tollhouse.upstream.address import parse_address, target
from tollhouse.upstream.transport import Deadlines, Incoming, Outgoing
from tollhouse.upstream.wire import WireTransport

MESSAGES: list[Any] = [{"role": "user", "content": "Where?"}]
ALL = [*FLAVOURS, "anthropic"]


@pytest.fixture
async def fake() -> AsyncIterator[FakeProvider]:
    async with FakeProvider() as running:
        yield running


@pytest.fixture
async def transport() -> AsyncIterator[WireTransport]:
    opened = WireTransport()
    yield opened
    await opened.aclose()


def openai_client(fake: FakeProvider, flavour: str) -> openai.AsyncOpenAI:
    # Without TLS there is no need to load certificates, which is most of what making a client costs.
    plain = httpx2.AsyncClient(verify=False)
    return openai.AsyncOpenAI(api_key="k", base_url=fake.base_url(flavour), max_retries=0, http_client=plain)


def anthropic_client(fake: FakeProvider) -> anthropic.AsyncAnthropic:
    plain = httpx2.AsyncClient(verify=False)
    return anthropic.AsyncAnthropic(api_key="k", base_url=fake.base_url("anthropic"), max_retries=0, http_client=plain)


def asking(fake: FakeProvider, flavour: str, *, stream: bool = True, model: str = "m", key: str = "k") -> Outgoing:
    body: dict[str, Any] = {"model": model, "messages": MESSAGES, "stream": stream}
    if flavour == "anthropic":
        address, path = parse_address(fake.base_url(flavour)), "/v1/messages"
        body["max_tokens"] = 100
    else:
        address, path = parse_address(fake.base_url(flavour)), "/chat/completions"
        if stream:
            body["stream_options"] = {"include_usage": True}
    return Outgoing(
        address=address,
        method=b"POST",
        target=target(address, path),
        headers=[(b"authorization", b"Bearer " + key.encode())],
        body=json.dumps(body).encode(),
    )


async def ask(
    fake: FakeProvider, transport: WireTransport, flavour: str = "openai", *replies: Reply, **asked: Any
) -> Incoming:
    fake.reply(*replies)
    return await transport.send(asking(fake, flavour, **asked), Deadlines())


async def body_of(incoming: Incoming) -> bytes:
    return await incoming.read_all(50_000_000)


def frames(body: bytes) -> list[sse.Frame]:
    parser = sse.Parser()
    return [*parser.feed(body), *parser.close()]


def chunks(body: bytes) -> list[dict[str, Any]]:
    return [json.loads(frame.data) for frame in frames(body) if frame.data != b"[DONE]"]


# -------------------------------------------------------------------------------------------------- what clients read

TALK = Answer(text=words(7), thinking="let me see", tokens=Tokens(input=50, cache_read=20, output=13, reasoning=3))
TWO_CALLS = Answer(calls=(Call("add", '{"a":1,"b":"zwei"}'), Call("now", "{}")))


@pytest.mark.parametrize("flavour", FLAVOURS)
async def test_openai_s_client_reads_every_flavour_s_stream(fake, flavour):
    fake.reply(TALK)
    async with openai_client(fake, flavour) as client:
        stream = await client.chat.completions.create(
            model="m", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
        )
        read = [chunk async for chunk in stream]

    said = [choice.delta.content or "" for chunk in read for choice in chunk.choices]
    usage = [chunk.usage for chunk in read if chunk.usage is not None]
    assert "".join(said) == TALK.text
    assert [c.finish_reason for chunk in read for c in chunk.choices if c.finish_reason] == ["stop"]
    assert usage[-1].prompt_tokens == 50
    assert usage[-1].total_tokens == 63
    assert usage[-1].completion_tokens == (10 if FLAVOURS[flavour].reasoning_outside_output else 13)


@pytest.mark.parametrize("flavour", FLAVOURS)
async def test_openai_s_client_reads_every_flavour_s_calls(fake, flavour):
    fake.reply(TWO_CALLS)
    async with openai_client(fake, flavour) as client:
        stream = await client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
        arguments: dict[int, str] = {}
        names: dict[int, str] = {}
        async for chunk in stream:
            for choice in chunk.choices:
                for call in choice.delta.tool_calls or ():
                    assert call.function is not None
                    names[call.index] = names.get(call.index) or call.function.name or ""
                    arguments[call.index] = arguments.get(call.index, "") + (call.function.arguments or "")

    assert names == {0: "add", 1: "now"}
    assert arguments == {0: '{"a":1,"b":"zwei"}', 1: "{}"}


@pytest.mark.parametrize("flavour", FLAVOURS)
async def test_openai_s_client_reads_every_flavour_s_whole_answer(fake, flavour):
    fake.reply(TALK, TWO_CALLS)
    async with openai_client(fake, flavour) as client:
        talk = await client.chat.completions.create(model="m", messages=MESSAGES)
        called = await client.chat.completions.create(model="m", messages=MESSAGES)

    assert talk.choices[0].message.content == TALK.text
    assert talk.usage is not None
    assert talk.usage.total_tokens == 63
    calls = called.choices[0].message.tool_calls or ()
    assert [call.function.name for call in calls if call.type == "function"] == ["add", "now"]
    assert called.choices[0].finish_reason == "tool_calls"


async def test_anthropic_s_client_reads_the_stream(fake):
    fake.reply(Answer(text=words(5), thinking="hm hm", calls=(Call("add", '{"a":1}'), Call("now", ""))))
    async with (
        anthropic_client(fake) as client,
        client.messages.stream(model="m", max_tokens=99, messages=MESSAGES) as stream,
    ):
        message = await stream.get_final_message()

    kinds = [block.type for block in message.content]
    assert kinds == ["thinking", "text", "tool_use", "tool_use"]
    assert message.stop_reason == "tool_use"
    assert message.content[2].model_dump()["input"] == {"a": 1}
    assert message.content[3].model_dump()["input"] == {}
    assert message.usage.output_tokens == 2 + 5 + 2


async def test_anthropic_s_client_reads_the_whole_answer(fake):
    fake.reply(Answer(text="Hello", tokens=Tokens(input=50, cache_read=20, cache_write=5, output=1)))
    async with anthropic_client(fake) as client:
        message = await client.messages.create(model="m", max_tokens=99, messages=MESSAGES)
        counted = await client.messages.count_tokens(model="m", messages=MESSAGES)
        listed = [model.id async for model in client.models.list()]

    assert message.content[0].model_dump()["text"] == "Hello"
    assert (message.usage.input_tokens, message.usage.cache_read_input_tokens) == (25, 20)
    assert counted.input_tokens == 10
    assert listed == list(fake.models)
    assert len(fake.calls) == 1
    assert len(fake.other_calls) == 2


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 413, 422, 429, 500, 502, 503, 529])
async def test_both_clients_take_failures_for_what_they_are(fake, status):
    fake.reply(Failure(status=status), Failure(status=status))
    async with openai_client(fake, "openai") as client:
        with pytest.raises(openai.APIStatusError) as caught:
            await client.chat.completions.create(model="m", messages=MESSAGES)
    async with anthropic_client(fake) as other:
        with pytest.raises(anthropic.APIStatusError) as caught_too:
            await other.messages.create(model="m", max_tokens=9, messages=MESSAGES)

    assert caught.value.status_code == caught_too.value.status_code == status
    assert caught.value.body["message"] == "The fake provider was told to fail."  # type: ignore[index]  # a JSON object
    assert fake.totals().tokens == Tokens(input=0)


# ------------------------------------------------------------------------------------------------------- how it frames


@pytest.mark.parametrize("flavour", ALL)
async def test_the_same_answer_is_framed_the_same_again(fake, transport, flavour):
    first = await body_of(await ask(fake, transport, flavour, TALK))

    assert await body_of(await ask(fake, transport, flavour, TALK)) == first


@pytest.mark.parametrize(
    ("flavour", "recorded"),
    [
        ("openai", "openai/openai-chat-stream-tool-call-7a4b7c"),
        ("deepseek", "deepseek/deepseek-chat-stream-text-cf1273"),
        ("qwen", "qwen/qwen-chat-stream-tool-call-76453c"),
        ("glm", "glm/glm-chat-stream-tool-call-758796"),
        ("groq", "groq/groq-chat-stream-tool-call-0a741d"),
        ("xai", "xai/xai-chat-stream-tool-call-97078a"),
        ("openrouter", "openrouter/openrouter-chat-stream-text-a11194"),
        ("mistral", "mistral/mistral-chat-stream-tool-call-ec41b5"),
        ("cerebras", "cerebras/cerebras-chat-stream-tool-call-15de93"),
    ],
)
async def test_a_flavour_puts_finish_and_usage_where_the_recording_has_them(fake, transport, flavour, recorded):
    recording = load(recorded)
    shown = "tool-call" in recorded
    made = await body_of(await ask(fake, transport, flavour, TWO_CALLS if shown else Answer(text="a b c")))
    real = recording.response.body

    assert _ending(made) == _ending(real)
    assert (frames(made)[-1].data == b"[DONE]") == (frames(real)[-1].data == b"[DONE]")
    assert _says_null_usage(made) == _says_null_usage(real)


def _ending(body: bytes) -> list[tuple[bool, bool, bool]]:
    """From the finish chunk on: whether there are choices, a finish reason, usage."""
    marks: list[tuple[bool, bool, bool]] = []
    for chunk in chunks(body):
        choices = chunk.get("choices") or []
        finished = any(choice.get("finish_reason") for choice in choices)
        if finished or marks:
            marks.append((bool(choices), finished, chunk.get("usage") is not None))
    # GLM and OpenRouter sometimes repeat the finish reason; the fake has a fault for that.
    return marks[-2:] if len(marks) > 2 else marks


def _says_null_usage(body: bytes) -> bool:
    return any("usage" in chunk and chunk["usage"] is None for chunk in chunks(body))


async def test_usage_comes_only_when_asked_for_where_the_provider_wants_to_be_asked(fake):
    async with openai_client(fake, "openai") as client:
        stream = await client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
        unasked = [chunk async for chunk in stream]
    async with openai_client(fake, "groq") as client:
        stream = await client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
        groq = [chunk async for chunk in stream]

    assert all(chunk.usage is None and chunk.choices for chunk in unasked)
    assert groq[-1].usage is not None


# --------------------------------------------------------------------------------------------------------- recordings


@pytest.mark.parametrize("cuts", ["recorded", "whole", "bytes", 7, (1, 2, 1000)])
async def test_a_recording_is_replayed_byte_for_byte_however_it_is_cut(fake, transport, cuts):
    name = "glm/glm-chat-stream-tool-call-758796"
    incoming = await ask(fake, transport, "glm", Replay(name=name, cuts=cuts))

    assert incoming.header(b"content-type") == load(name).response.headers["content-type"].encode()
    assert await body_of(incoming) == load(name).response.body


async def test_a_recording_can_be_asked_for_by_model(fake, transport):
    name = "deepseek/deepseek-chat-json-error-401-566063"
    incoming = await ask(fake, transport, "deepseek", model=f"replay:{name}")

    assert incoming.status == 401
    assert await body_of(incoming) == load(name).response.body


# -------------------------------------------------------------------------------------------------------------- faults


async def stream_of(fake: FakeProvider, transport: WireTransport, flavour: str, reply: Reply) -> bytes:
    return await body_of(await ask(fake, transport, flavour, reply))


@pytest.mark.parametrize("flavour", ALL)
async def test_faults_of_what_is_said(fake, transport, flavour):
    answer = Answer(text=words(3))
    whole = await stream_of(fake, transport, flavour, answer)

    async def with_fault(*faults: Any) -> bytes:
        return await stream_of(fake, transport, flavour, faulty(answer, *faults))

    finish = b'"stop_reason":"end_turn"' if flavour == "anthropic" else b'"finish_reason":"stop"'
    assert whole.count(finish) == 1
    assert (await with_fault(NoFinish())).count(finish) == 0
    assert (await with_fault(DoubledFinish())).count(finish) == 2
    assert b"completion_tokens" not in await with_fault(NoUsage())
    last = b"message_stop" if flavour == "anthropic" else b"[DONE]"
    assert last not in await with_fault(NoDone())
    failed = frames(await with_fault(ErrorAfter(2, Failure(status=529, message="Overloaded"))))
    assert b"Overloaded" in failed[-1].data
    assert len(frames(await with_fault(Inserted.broken_json(1)))) == len(frames(whole)) + 1
    assert b"\xff\xfe" in await with_fault(Inserted.garbage(1))
    assert len(await with_fault(Inserted.oversized(1, 100_000))) > 100_000


async def test_bodies_that_no_provider_should_send(fake, transport):
    page = await ask(fake, transport, "openai", HTML_PAGE)
    assert (page.status, page.header(b"content-type")) == (502, b"text/html")
    assert (await body_of(page)).startswith(b"<html>")
    assert await body_of(await ask(fake, transport, "openai", EMPTY)) == b""
    assert await body_of(await ask(fake, transport, "openai", GARBAGE)) == bytes(range(256))
    moved = await ask(fake, transport, "openai", redirect("http://127.0.0.1:1/"))
    assert (moved.status, moved.header(b"location")) == (307, b"http://127.0.0.1:1/")
    hidden = await ask(fake, transport, "openrouter", Failure(status=502, in_ok_body=True), stream=False)
    assert hidden.status == 200
    assert b'"code": 502' in await body_of(hidden)


async def read_until_broken(incoming: Incoming) -> tuple[bytes, TollhouseError]:
    read = b""
    try:
        while data := await incoming.read_some():
            read += data
    except TollhouseError as error:
        return read, error
    raise AssertionError("the stream ended in good manner")


@pytest.mark.parametrize("flavour", ALL)
async def test_a_cut_comes_after_so_many_events_and_half_of_the_next(fake, transport, flavour):
    whole = await stream_of(fake, transport, flavour, TALK)
    read, error = await read_until_broken(await ask(fake, transport, flavour, faulty(TALK, Cut(3))))

    assert isinstance(error, UpstreamTruncated)
    assert whole.startswith(read)
    assert read.count(b"\n\n") == 3
    assert len(read) > len(b"\n\n".join(whole.split(b"\n\n")[:3])) + 2
    call = await fake.call(1)
    await call.done.wait()
    assert (call.is_complete, call.left_early) == (False, False)


async def test_a_reset_can_wait_until_the_test_has_read(fake, transport):
    word = asyncio.Event()
    incoming = await ask(fake, transport, "openai", faulty(TALK, Reset(2, when=word)))
    read = b""
    while read.count(b"\n\n") < 2:
        read += await incoming.read_some()
    word.set()
    _, error = await read_until_broken(incoming)

    assert isinstance(error, UpstreamTruncated)


@pytest.mark.parametrize("fault", [Cut("before_head"), Cut("in_head"), Reset("before_head"), Reset("in_head")])
async def test_a_connection_can_break_around_the_head(fake, transport, fault):
    with pytest.raises(ConnectionLost):
        # The transport repeats once what a reused connection lost, so a fresh one is what the fault is shown on.
        await ask(fake, transport, "openai", faulty(TALK, fault))

    assert (await fake.call(0)).status is None


@pytest.mark.parametrize("at", ["before_head", "in_head", 2])
async def test_a_stall_ends_at_the_test_s_word(fake, transport, at):
    word = asyncio.Event()
    fake.reply(faulty(TALK, Stall(at, until=word)), TALK)
    async with asyncio.TaskGroup() as group:
        asked = group.create_task(transport.send(asking(fake, "openai"), Deadlines()))
        call = await fake.call(0)
        assert not call.done.is_set()
        word.set()
        stalled = await body_of(await asked)

    assert stalled == await body_of(await ask(fake, transport, "openai"))
    assert call.is_complete


@pytest.mark.parametrize("at", ["before_head", 3])
async def test_a_client_that_leaves_a_stalled_stream_is_noticed(fake, transport, at):
    fake.reply(faulty(TALK, Stall(at)))
    async with asyncio.TaskGroup() as group:
        asked = group.create_task(transport.send(asking(fake, "openai"), Deadlines()))
        call: Exchange = await fake.call(0)
        if at == "before_head":
            asked.cancel()
        else:
            (await asked).close()
    await call.client_left.wait()
    await call.done.wait()

    assert call.left_early
    assert not call.is_complete
    assert call.tokens == TALK.spent  # the provider bills what it was asked to do


async def test_a_trickled_stream_is_the_same_stream(fake, transport):
    whole = await stream_of(fake, transport, "anthropic", TALK)

    assert await stream_of(fake, transport, "anthropic", faulty(TALK, Trickle())) == whole


# ---------------------------------------------------------------------------------------------------- what it remembers


async def test_replies_come_in_order_then_the_default(fake, transport):
    fake.default = Answer(text="default")
    fake.reply_to("special", Answer(text="one"), Answer(text="two"))
    fake.reply(Answer(text="next"))

    async def said(model: str) -> str:
        incoming = await transport.send(asking(fake, "openai", model=model, stream=False), Deadlines())
        content: str = json.loads(await body_of(incoming))["choices"][0]["message"]["content"]
        return content

    assert [await said(model) for model in ("special", "special", "special", "m", "m")] == [
        "one",
        "two",
        "two",
        "next",
        "default",
    ]
    assert fake.connections == 1


async def test_calls_are_kept_and_billed_by_key_and_model(fake, transport):
    answer = Answer(text=words(4), tokens=Tokens(input=9, cache_read=2, output=4))
    fake.default = answer
    for model, key in (("a", "blue"), ("a", "red"), ("b", "red")):
        await body_of(await ask(fake, transport, "openai", model=model, key=key))
    await body_of(await ask(fake, transport, "openai", Failure(status=500), model="a", key="red"))
    await read_until_broken(await ask(fake, transport, "openai", faulty(answer, Cut(3)), model="c", key="red"))

    assert fake.totals().calls == 5
    assert fake.totals(key="red").tokens == Tokens(input=27, cache_read=6, output=12)
    assert fake.totals(model="a").tokens == Tokens(input=18, cache_read=4, output=8)
    assert fake.totals(model="c").delivered_tokens == 2  # the first event has the role only
    first = await fake.call(0)
    assert (first.model, first.key, first.streamed, first.status) == ("a", "blue", True, 200)
    assert first.json["messages"] == MESSAGES
    assert first.path == "/v1/chat/completions"


async def test_an_unknown_path_is_a_404_in_the_provider_s_shape(fake, transport):
    address = parse_address(fake.base_url("xai"))
    request = Outgoing(address=address, method=b"GET", target=target(address, "/nothing"), headers=[], body=b"")
    incoming = await transport.send(request, Deadlines())

    assert incoming.status == 404
    assert json.loads(await body_of(incoming))["error"] == "There is no /v1/nothing."


@pytest.mark.parametrize(
    ("path", "flavour"),
    [("/v1/chat/completions", "compatible"), ("/v1/messages", "anthropic"), ("/v1/models", "compatible")],
)
async def test_an_address_without_a_flavour_is_a_compatible_server(fake, transport, path, flavour):
    body = json.dumps({"model": "m", "messages": MESSAGES}).encode()
    method = b"GET" if path.endswith("models") else b"POST"
    request = Outgoing(address=parse_address(fake.url), method=method, target=path.encode(), headers=[], body=body)
    incoming = await transport.send(request, Deadlines())
    await body_of(incoming)

    call: Exchange = (fake.calls + fake.other_calls)[0]
    assert incoming.status == 200
    assert (call.flavour, call.path) == (flavour, path)
