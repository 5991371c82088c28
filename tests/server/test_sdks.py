"""The vendors' own SDKs against the gateway: what people's programs do, in each dialect, over providers of each."""

import asyncio
import base64
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Final

import anthropic
import httpx2
import openai
import pydantic
import pytest
import pytest_asyncio

from support.fake_provider import FakeProvider
from support.fake_replies import Answer, Call, ErrorAfter, Failure, Stall, Tokens, faulty, words
from support.sdk_views import MESSAGES, Counts, Readers, Refused, View, readers
from support.serving import KEY, Running, start
from tollhouse.server.http1.listener import Http1Listener

pytestmark = pytest.mark.asyncio(loop_scope="module")

SIDES: Final = ["openai", "anthropic"]
LANES: Final = [(side, model) for side in SIDES for model in ("gpt", "claude")]
by_lane = pytest.mark.parametrize(("side", "model"), LANES, ids=[f"{side}-to-{model}" for side, model in LANES])
by_stream = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])

CONFIGURATION: Final = """
providers:
  openai: {{base_url: '{openai}', api_key: x}}
  anthropic: {{base_url: '{anthropic}', api_key: x}}
  hasty: {{type: openai, base_url: '{openai}', api_key: x, deadlines: {{first_byte: 0.3, between_chunks: 0.3}}}}
  hasty-anthropic: {{type: anthropic, base_url: '{anthropic}', api_key: x, deadlines: {{first_byte: 0.3, between_chunks: 0.3}}}}
models: {{gpt: openai/gpt, claude: anthropic/claude, hasty-gpt: hasty/gpt, hasty-claude: hasty-anthropic/claude}}
retry: {{max_attempts: 1}}
"""


@dataclass
class Stage:
    """The gateway, its providers, and the asynchronous SDKs at it."""

    fake: FakeProvider
    gateway: Running
    sdk: Readers

    @property
    def oai(self) -> openai.AsyncOpenAI:
        return self.sdk.openai.client

    @property
    def claude(self) -> anthropic.AsyncAnthropic:
        return self.sdk.anthropic.client

    async def read(self, side: str, model: str, *, stream: bool) -> View | Refused:
        seen: View | Refused = await getattr(self.sdk, side).read(model, stream=stream)
        return seen

    def keyed(self, key: str) -> tuple[openai.AsyncOpenAI, anthropic.AsyncAnthropic]:
        """Both SDKs with another key."""
        return self.oai.with_options(api_key=key), self.claude.with_options(api_key=key)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    async with AsyncExitStack() as stack:
        fake = await stack.enter_async_context(FakeProvider())
        text = CONFIGURATION.format(openai=fake.base_url("openai"), anthropic=fake.base_url("anthropic"))
        gateway = await start(text, tmp_path_factory.mktemp("sdks"), Http1Listener)
        stack.push_async_callback(gateway.close)
        sdk = await stack.enter_async_context(readers(f"{gateway.url}/v1", gateway.url, KEY))
        yield Stage(fake, gateway, sdk)


@pytest.fixture
def stage(running: Stage) -> Stage:
    """The one gateway of this module, its provider's memory emptied."""
    running.fake.calls.clear()
    running.fake.default = Answer(text=words(8))
    return running


def sync_openai(stage: Stage) -> openai.OpenAI:
    pool = httpx2.Client(verify=False)
    return openai.OpenAI(api_key=KEY, base_url=f"{stage.gateway.url}/v1", max_retries=0, http_client=pool)


def sync_anthropic(stage: Stage) -> anthropic.Anthropic:
    pool = httpx2.Client(verify=False)
    return anthropic.Anthropic(api_key=KEY, base_url=stage.gateway.url, max_retries=0, http_client=pool)


# ------------------------------------------------------------------------------------------------------------- models

ALIASES: Final = ["gpt", "claude", "hasty-gpt", "hasty-claude"]
NAMES: Final = [*ALIASES, "openai/gpt", "anthropic/claude", "hasty/gpt", "hasty-anthropic/claude"]


async def test_models_are_listed_and_found(stage: Stage):
    assert [model.id async for model in stage.oai.models.list()] == NAMES
    assert [model.id async for model in stage.claude.models.list(limit=1000)] == NAMES
    for name in NAMES:
        assert (await stage.oai.models.retrieve(name)).id == name
        assert (await stage.claude.models.retrieve(name)).id == name
    with pytest.raises(openai.NotFoundError):
        await stage.oai.models.retrieve("nothing")
    with pytest.raises(anthropic.NotFoundError):
        await stage.claude.models.retrieve("nothing")


# ------------------------------------------------------------------------------------------------------------ answers


@by_stream
@by_lane
async def test_an_answer_is_read_in_full(stage: Stage, side: str, model: str, stream: bool):
    stage.fake.default = Answer(text=words(12), tokens=Tokens(input=50, cache_read=20, output=12))
    seen = await stage.read(side, model, stream=stream)
    assert isinstance(seen, View)
    assert seen.first.text == words(12)
    assert seen.first.finish == "stop"
    assert seen.usage == Counts(input=50, cache_read=20, output=12)


@by_lane
async def test_the_synchronous_sdks_read_the_same(stage: Stage, side: str, model: str):
    def openai_answers() -> list[str]:
        with sync_openai(stage) as client:
            whole = client.chat.completions.create(model=model, messages=MESSAGES)
            with client.chat.completions.create(model=model, messages=MESSAGES, stream=True) as chunks:
                pieces = [choice.delta.content or "" for chunk in chunks for choice in chunk.choices]
            return [whole.choices[0].message.content or "", "".join(pieces)]

    def anthropic_answers() -> list[str]:
        with sync_anthropic(stage) as client:
            whole = client.messages.create(model=model, max_tokens=100, messages=MESSAGES)
            with client.messages.stream(model=model, max_tokens=100, messages=MESSAGES) as stream:
                return [whole.content[0].model_dump()["text"], "".join(stream.text_stream)]

    answers = await asyncio.to_thread(openai_answers if side == "openai" else anthropic_answers)
    assert answers == [words(8), words(8)]


@pytest.mark.parametrize("model", ["gpt", "claude"])
async def test_the_stream_helpers_gather_text_and_calls(stage: Stage, model: str):
    stage.fake.default = Answer(text=words(3), calls=(Call("add", '{"a":1,"b":"zwei"}'), Call("now", "{}")))
    async with stage.oai.chat.completions.stream(model=model, messages=MESSAGES) as events:
        completion = await events.get_final_completion()
    message = completion.choices[0].message
    assert message.content == words(3)
    assert [(call.function.name, call.function.arguments) for call in message.tool_calls or ()] == [
        ("add", '{"a":1,"b":"zwei"}'),
        ("now", "{}"),
    ]
    async with stage.claude.messages.stream(model=model, max_tokens=100, messages=MESSAGES) as stream:
        text = "".join([piece async for piece in stream.text_stream])
        blocks = [block.model_dump() for block in (await stream.get_final_message()).content]
    assert text == words(3)
    assert [(block["name"], block["input"]) for block in blocks if block["type"] == "tool_use"] == [
        ("add", {"a": 1, "b": "zwei"}),
        ("now", {}),
    ]


@pytest.mark.parametrize("model", ["gpt", "claude"])
async def test_thinking_is_shown_where_the_provider_shows_it(stage: Stage, model: str):
    stage.fake.default = Answer(text=words(3), thinking="hm hm")
    shown = "hm hm" if model == "claude" else ""  # OpenAI only counts it
    for side in SIDES:
        for stream in (False, True):
            seen = await stage.read(side, model, stream=stream)
            assert isinstance(seen, View)
            assert (seen.first.reasoning, seen.first.text) == (shown, words(3)), (side, stream)


async def test_a_stream_has_usage_only_if_the_client_of_openais_dialect_asked(stage: Stage):
    for model in ("gpt", "claude"):
        unasked = await stage.sdk.openai.read(model, stream=True, stream_options={"include_usage": False})
        assert isinstance(unasked, View)
        assert unasked.usage is None
        assert unasked.first.text == words(8)


async def test_tokens_are_counted_by_the_provider_or_else_estimated_with_a_word(stage: Stage):
    asked = await stage.claude.messages.with_raw_response.count_tokens(model="claude", messages=MESSAGES)
    assert (await asked.parse()).input_tokens == 10
    assert "x-tollhouse-count" not in asked.headers
    guessed = await stage.claude.messages.with_raw_response.count_tokens(model="gpt", messages=MESSAGES)
    assert (await guessed.parse()).input_tokens > 0
    assert guessed.headers["x-tollhouse-count"] == "estimated"
    assert stage.fake.calls == []


# -------------------------------------------------------------------------------------------------------------- tools

ADD: Final = {
    "type": "object",
    "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
    "required": ["a", "b"],
}


async def openai_loop(client: openai.AsyncOpenAI, model: str) -> str:
    """Calls the tools that the model asks for until it answers."""
    messages: list[Any] = [{"role": "system", "content": "Be exact."}, {"role": "user", "content": "Add 40 and 2."}]
    tools: list[Any] = [{"type": "function", "function": {"name": "add", "parameters": ADD}}]
    while True:
        async with client.chat.completions.stream(model=model, messages=messages, tools=tools) as events:
            message = (await events.get_final_completion()).choices[0].message
        if not message.tool_calls:
            return message.content or ""
        messages.append(message.model_dump(mode="json", exclude_none=True))
        for call in message.tool_calls:
            given = json.loads(call.function.arguments)
            messages.append({"role": "tool", "tool_call_id": call.id, "content": str(given["a"] + given["b"])})


async def anthropic_loop(client: anthropic.AsyncAnthropic, model: str) -> str:
    """The same in Anthropic's way."""
    messages: list[Any] = [{"role": "user", "content": "Add 40 and 2."}]
    tools: list[Any] = [{"name": "add", "input_schema": ADD}]
    while True:
        asked: dict[str, Any] = {"model": model, "max_tokens": 100, "messages": messages, "tools": tools}
        async with client.messages.stream(**asked, system="Be exact.") as stream:
            message = await stream.get_final_message()
        if message.stop_reason != "tool_use":
            return "".join(block.text for block in message.content if block.type == "text")
        messages.append({"role": "assistant", "content": [block.model_dump() for block in message.content]})
        given: list[Any] = [block for block in message.content if block.type == "tool_use"]
        results = [
            {"type": "tool_result", "tool_use_id": call.id, "content": str(call.input["a"] + call.input["b"])}
            for call in given
        ]
        messages.append({"role": "user", "content": results})


def told_openai(request: Any) -> tuple[str, list[Any], list[tuple[str, str]]]:
    """System prompt, calls and results in a request as an OpenAI provider got it."""
    messages = request["messages"]
    calls = [call for message in messages for call in message.get("tool_calls") or ()]
    results = [(m["tool_call_id"], str(m["content"])) for m in messages if m["role"] == "tool"]
    made = [(call["id"], call["function"]["name"], json.loads(call["function"]["arguments"])) for call in calls]
    return messages[0]["content"], made, results


def told_anthropic(request: Any) -> tuple[str, list[Any], list[tuple[str, str]]]:
    """The same of an Anthropic provider."""
    blocks = [block for m in request["messages"] if isinstance(m["content"], list) for block in m["content"]]
    made = [(block["id"], block["name"], block["input"]) for block in blocks if block["type"] == "tool_use"]
    results = [(block["tool_use_id"], text_of(block)) for block in blocks if block["type"] == "tool_result"]
    return text_of({"content": request["system"]}), made, results


def text_of(block: Any) -> str:
    content = block["content"]
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


@by_lane
async def test_a_tool_is_called_and_its_result_comes_back(stage: Stage, side: str, model: str):
    stage.fake.reply(Answer(text="Let me see.", calls=(Call("add", '{"a":40,"b":2}'),)), Answer(text="42"))
    loop: Callable[[], Awaitable[str]] = {
        "openai": lambda: openai_loop(stage.oai, model),
        "anthropic": lambda: anthropic_loop(stage.claude, model),
    }[side]
    assert await loop() == "42"
    _, second = stage.fake.calls
    system, made, results = (told_openai if model == "gpt" else told_anthropic)(second.json)
    assert system == "Be exact."
    ((identity, name, arguments),) = made
    assert (name, arguments) == ("add", {"a": 40, "b": 2})
    assert results == [(identity, "42")]


# ----------------------------------------------------------------------------------------- structured output and images


class Place(pydantic.BaseModel):
    name: str
    bridges: int


@pytest.mark.parametrize("model", ["gpt", "claude"])
async def test_structured_output_is_asked_for_in_the_providers_way_and_parsed(stage: Stage, model: str):
    stage.fake.default = Answer(text='{"name":"Prag","bridges":18}')
    completion = await stage.oai.chat.completions.parse(model=model, messages=MESSAGES, response_format=Place)
    message = await stage.claude.messages.parse(model=model, max_tokens=100, messages=MESSAGES, output_format=Place)
    assert completion.choices[0].message.parsed == message.parsed_output == Place(name="Prag", bridges=18)
    for call in stage.fake.calls:
        if model == "gpt":
            schema = call.json["response_format"]["json_schema"]["schema"]
        else:
            schema = call.json["output_config"]["format"]["schema"]
        assert set(schema["properties"]) == {"name", "bridges"}


PIXEL: Final = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(20)).decode()


@by_lane
async def test_images_reach_the_provider_in_its_own_form(stage: Stage, side: str, model: str):
    if side == "openai":
        urls = [f"data:image/png;base64,{PIXEL}", "https://example.test/a.png"]
        parts: list[Any] = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
        question: list[Any] = [{"role": "user", "content": [{"type": "text", "text": "What?"}, *parts]}]
        await stage.oai.chat.completions.create(model=model, messages=question)
    else:
        sources = [
            {"type": "base64", "media_type": "image/png", "data": PIXEL},
            {"type": "url", "url": "https://example.test/a.png"},
        ]
        parts = [{"type": "image", "source": source} for source in sources]
        question = [{"role": "user", "content": [{"type": "text", "text": "What?"}, *parts]}]
        await stage.claude.messages.create(model=model, max_tokens=100, messages=question)
    (call,) = stage.fake.calls
    text, *images = call.json["messages"][-1]["content"]
    assert text["text"] == "What?"
    if model == "gpt":
        assert [image["image_url"]["url"] for image in images] == [
            f"data:image/png;base64,{PIXEL}",
            "https://example.test/a.png",
        ]
    else:
        assert [image["source"].get("data") or image["source"]["url"] for image in images] == [
            PIXEL,
            "https://example.test/a.png",
        ]


# ------------------------------------------------------------------------------------------------------------- errors


async def test_a_bad_key_is_an_authentication_error(stage: Stage):
    openai_client, anthropic_client = stage.keyed("nope")
    with pytest.raises(openai.AuthenticationError) as by_openai:
        await openai_client.chat.completions.create(model="gpt", messages=MESSAGES)
    with pytest.raises(anthropic.AuthenticationError) as by_anthropic:
        await anthropic_client.messages.create(model="gpt", max_tokens=9, messages=MESSAGES)
    assert by_openai.value.code == "invalid_api_key"
    assert str(by_openai.value.request_id).startswith("req_")
    assert str(by_anthropic.value.request_id).startswith("req_")


async def test_a_bad_key_is_heard_of_even_under_a_large_body(stage: Stage):
    """The SDKs send all of their request before they read; a connection that closes meanwhile loses them the answer."""
    openai_client, anthropic_client = stage.keyed("nope")
    large: list[Any] = [{"role": "user", "content": "x" * 16_000_000}]
    with pytest.raises(openai.AuthenticationError):
        await openai_client.chat.completions.create(model="gpt", messages=large)
    with pytest.raises(anthropic.AuthenticationError):
        await anthropic_client.messages.create(model="gpt", max_tokens=9, messages=large)


async def test_an_unknown_model_is_not_found(stage: Stage):
    with pytest.raises(openai.NotFoundError, match="hasty-gpt") as raised:
        await stage.oai.chat.completions.create(model="hasty-gtp", messages=MESSAGES)
    assert raised.value.code == "model_not_found"
    with pytest.raises(anthropic.NotFoundError, match="hasty-gpt"):
        await stage.claude.messages.create(model="hasty-gtp", max_tokens=9, messages=MESSAGES)


@pytest.mark.parametrize("model", ["gpt", "claude"])
async def test_a_bad_body_is_a_bad_request_and_reaches_no_provider_of_the_other_dialect(stage: Stage, model: str):
    wrong: list[Any] = [{"role": "user", "content": 7}]
    stage.fake.default = Failure(status=400, message="The provider's own words.")
    with pytest.raises(openai.BadRequestError):
        await stage.oai.chat.completions.create(model=model, messages=wrong)
    with pytest.raises(anthropic.BadRequestError):
        await stage.claude.messages.create(model=model, max_tokens=9, messages=wrong)
    # In the same dialect it is the provider who judges; its judgement is passed on.
    assert [call.flavour for call in stage.fake.calls] == ["openai" if model == "gpt" else "anthropic"]


FIFTY_MEGABYTES: Final = 50 * 1024 * 1024


async def test_fifty_megabytes_are_an_error_that_says_so_and_no_broken_connection(stage: Stage):
    large: list[Any] = [{"role": "user", "content": "x" * FIFTY_MEGABYTES}]
    with pytest.raises(openai.APIStatusError, match="larger than 32 MiB") as by_openai:
        await stage.oai.chat.completions.create(model="gpt", messages=large)
    assert by_openai.value.status_code == 413
    with pytest.raises(anthropic.ContentTooLargeError, match="larger than 32 MiB"):
        await stage.claude.messages.create(model="gpt", max_tokens=9, messages=large)
    with sync_openai(stage) as client, pytest.raises(openai.APIStatusError, match="larger than 32 MiB"):
        await asyncio.to_thread(client.chat.completions.create, model="gpt", messages=large)
    with sync_anthropic(stage) as plain, pytest.raises(anthropic.ContentTooLargeError, match="larger than 32 MiB"):
        await asyncio.to_thread(plain.messages.create, model="gpt", max_tokens=9, messages=large)
    assert stage.fake.calls == []


@by_stream
@by_lane
async def test_a_full_rate_is_a_rate_limit_error_with_its_wait(stage: Stage, side: str, model: str, stream: bool):
    stage.fake.default = Failure(status=429, message="Slow down.", retry_after="7")
    asked: Callable[[], Awaitable[object]] = {
        "openai": lambda: stage.oai.chat.completions.create(model=model, messages=MESSAGES, stream=stream),
        "anthropic": lambda: stage.claude.messages.create(model=model, max_tokens=9, messages=MESSAGES, stream=stream),
    }[side]
    with pytest.raises((openai.RateLimitError, anthropic.RateLimitError), match=r"Slow down\.") as raised:
        await asked()
    error = raised.value
    assert isinstance(error, openai.RateLimitError | anthropic.RateLimitError)
    assert error.response.headers["retry-after"] == "7"


@pytest.mark.parametrize("status", [500, 502, 503, 529])
@by_lane
async def test_a_providers_failure_is_a_status_error_of_the_server_class(
    stage: Stage, side: str, model: str, status: int
):
    stage.fake.default = Failure(status=status, message="Out of order.")
    for stream in (False, True):
        seen = await stage.read(side, model, stream=stream)
        assert isinstance(seen, Refused)
        assert seen.status == status
        assert "Out of order." in seen.message


# ------------------------------------------------------------------------------------------------ stalls and departures


@by_stream
@by_lane
async def test_a_provider_that_stalls_before_it_answers_is_a_504(stage: Stage, side: str, model: str, stream: bool):
    stage.fake.default = faulty(Answer(text=words(8)), Stall("before_head"))
    seen = await stage.read(side, f"hasty-{model}", stream=stream)
    assert isinstance(seen, Refused)
    assert seen.status == 504


@by_lane
async def test_a_provider_that_stalls_inside_a_stream_is_an_error_and_no_end(stage: Stage, side: str, model: str):
    stage.fake.default = faulty(Answer(text=words(30)), Stall(20))
    pieces: list[str] = []
    with pytest.raises((openai.APIError, anthropic.APIError), match="sent nothing in time"):
        await gather(text_of_stream(stage, side, f"hasty-{model}"), pieces)
    assert words(30).startswith("".join(pieces))
    assert pieces


@by_lane
async def test_an_error_inside_a_stream_is_raised_after_what_came_before(stage: Stage, side: str, model: str):
    stage.fake.default = faulty(Answer(text=words(30)), ErrorAfter(20, Failure(status=529, message="Overloaded.")))
    pieces: list[str] = []
    with pytest.raises((openai.APIError, anthropic.APIError), match=r"Overloaded\."):
        await gather(text_of_stream(stage, side, model), pieces)
    assert words(30).startswith("".join(pieces))
    assert pieces


@by_lane
async def test_a_client_that_leaves_in_mid_stream_ends_the_providers_work(stage: Stage, side: str, model: str):
    stage.fake.default = faulty(Answer(text=words(30)), Stall(20))
    stream = text_of_stream(stage, side, model)
    assert await anext(stream)
    await stream.aclose()
    async with asyncio.timeout(30):
        await (await stage.fake.call()).client_left.wait()
    # The call is written down before the provider's connection is closed.
    await stage.gateway.worker.stores.books.flush()
    row = stage.gateway.rows()[-1]
    assert row["outcome"] == "client_left"
    assert row["usage_source"] in {"rebuilt", "estimated"}
    assert row["output_tokens"] > 0


async def gather(stream: AsyncIterator[str], into: list[str]) -> None:
    """Keeps the pieces, also when an error follows them."""
    async for piece in stream:
        into.append(piece)


async def text_of_stream(stage: Stage, side: str, model: str) -> AsyncGenerator[str]:
    """The pieces of an answer's text as they come; closing it leaves the stream."""
    if side == "openai":
        chunks = await stage.oai.chat.completions.create(model=model, messages=MESSAGES, stream=True)
        async with chunks:
            async for chunk in chunks:
                for choice in chunk.choices:
                    if choice.delta.content:
                        yield choice.delta.content
    else:
        async with stage.claude.messages.stream(model=model, max_tokens=100, messages=MESSAGES) as stream:
            async for text in stream.text_stream:
                yield text
