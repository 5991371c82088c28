"""Tools and an embedded model whose chat template knows none: a demand is met in every dialect, the rest has a word."""

import json
import warnings
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, Final

import anthropic
import openai
import pytest
import pytest_asyncio

from support import fake_llama
from support.fake_provider import FakeProvider
from support.fake_replies import Cut, faulty
from support.serving import KEY, Running, start
from tollhouse.config.secret import Secret
from tollhouse.server.http1.listener import Http1Listener
from tollhouse.server.wiring import LocalAddress

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what the SDK's own modules say of each other when they are imported
    from google import genai
    from google.genai import types

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning"),  # of the SDK's own
]

CONFIGURATION: Final = """
providers:
  tiny: {type: local, models: [tiny]}
  able: {type: local, models: [able]}
  moved: {type: openai-compatible, base_url: 'URL/v1', api_key: its-own, models: [m]}
models:
  exact: {route: tiny/tiny, strict: true}
retry: {max_attempts: 1}
"""
PARAMETERS: Final = {
    "type": "object",
    "properties": {"city": {"$ref": "#/$defs/City"}, "days": {"type": "integer"}},
    "required": ["city", "days"],
    "$defs": {"City": {"type": "string"}},
}
ARGUMENTS: Final = {"city": 'Paris "{}', "days": 7}
ASK: Final = "Weather in Paris?"
CALLED: Final = ("weather", ARGUMENTS)
by_stream = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


@dataclass
class Stage:
    """The gateway, what stands for llama.cpp, and the vendors' SDKs."""

    llama: FakeProvider
    gateway: Running
    oai: openai.AsyncOpenAI
    claude: anthropic.AsyncAnthropic
    gemini: Any
    """`genai.Client`; nearly everything in its types may be absent."""
    before: int = field(default=0)

    def row(self) -> dict[str, Any]:
        """The only row that came since the test began."""
        (row,) = self.gateway.rows()[self.before :]
        return row


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    async with AsyncExitStack() as stack:
        llama = await stack.enter_async_context(FakeProvider())
        local = {
            name: LocalAddress(f"{llama.url}/v1", Secret(f"secret-of-{name}"), supports_tools=name == "able")
            for name in ("tiny", "able")
        }
        local["moved"] = LocalAddress("http://127.0.0.1:9/v1", Secret("of the past"), supports_tools=False)
        text = CONFIGURATION.replace("URL", llama.url)
        gateway = await start(text, tmp_path_factory.mktemp("embedded"), Http1Listener, local=local)
        stack.push_async_callback(gateway.close)
        oai = await stack.enter_async_context(
            openai.AsyncOpenAI(api_key=KEY, base_url=f"{gateway.url}/v1", max_retries=0)
        )
        claude = await stack.enter_async_context(
            anthropic.AsyncAnthropic(api_key=KEY, base_url=gateway.url, max_retries=0)
        )
        gemini = genai.Client(api_key=KEY, http_options=types.HttpOptions(base_url=gateway.url))
        stack.push_async_callback(gemini.aio.aclose)
        yield Stage(llama, gateway, oai, claude, gemini)


@pytest.fixture
def stage(running: Stage) -> Stage:
    running.llama.calls.clear()
    running.llama.chooses = fake_llama.answer
    running.before = len(running.gateway.rows())
    return running


# ------------------------------------------------------------------------------------------------ each dialect's own words


def chat(choice: object, *, stream: bool = False, model: str = "tiny/tiny") -> dict[str, Any]:
    tool = {"type": "function", "function": {"name": "weather", "parameters": PARAMETERS}}
    said = [{"role": "user", "content": ASK}]
    return {"model": model, "messages": said, "tools": [tool], "tool_choice": choice, "stream": stream}


async def by_openai(stage: Stage, *, stream: bool) -> tuple[str, object]:
    asked = chat({"type": "function", "function": {"name": "weather"}})
    del asked["stream"]
    if stream:
        async with stage.oai.chat.completions.stream(**asked) as events:
            completion: Any = await events.get_final_completion()
    else:
        completion = await stage.oai.chat.completions.create(**asked)
    (choice,) = completion.choices
    assert choice.finish_reason == "tool_calls"
    (call,) = choice.message.tool_calls
    return call.function.name, json.loads(call.function.arguments)


async def by_responses(stage: Stage, *, stream: bool) -> tuple[str, object]:
    asked: Any = {
        "model": "tiny/tiny",
        "input": ASK,
        "tools": [{"type": "function", "name": "weather", "parameters": PARAMETERS, "strict": False}],
        "tool_choice": "required",
    }
    if stream:
        async with stage.oai.responses.stream(**asked) as events:
            response: Any = await events.get_final_response()
    else:
        response = await stage.oai.responses.create(**asked)
    (call,) = response.output
    return call.name, json.loads(call.arguments)


def messages(choice: object) -> Any:
    return {
        "model": "tiny/tiny",
        "max_tokens": 100,
        "messages": [{"role": "user", "content": ASK}],
        "tools": [{"name": "weather", "input_schema": PARAMETERS}],
        "tool_choice": choice,
    }


async def by_anthropic(stage: Stage, *, stream: bool) -> tuple[str, object]:
    asked = messages({"type": "any", "disable_parallel_tool_use": True})
    if stream:
        async with stage.claude.messages.stream(**asked) as events:
            message: Any = await events.get_final_message()
    else:
        message = await stage.claude.messages.create(**asked)
    assert message.stop_reason == "tool_use"
    (block,) = message.content
    return block.name, block.input


async def by_gemini(stage: Stage, *, stream: bool) -> tuple[str, object]:
    asked: Any = {
        "model": "tiny/tiny",
        "contents": ASK,
        "config": {
            "tools": [{"function_declarations": [{"name": "weather", "parameters_json_schema": PARAMETERS}]}],
            "tool_config": {"function_calling_config": {"mode": "ANY"}},
        },
    }
    if stream:
        answers = [answer async for answer in await stage.gemini.aio.models.generate_content_stream(**asked)]
    else:
        answers = [await stage.gemini.aio.models.generate_content(**asked)]
    (call,) = [call for answer in answers for call in answer.function_calls or ()]
    return call.name, call.args


DOORS: Final = {"openai": by_openai, "responses": by_responses, "anthropic": by_anthropic, "gemini": by_gemini}


@by_stream
@pytest.mark.parametrize("door", DOORS)
async def test_a_demanded_call_is_a_call_in_every_dialect(stage: Stage, door: str, stream: bool):
    assert await DOORS[door](stage, stream=stream) == CALLED
    row = stage.row()
    assert (row["outcome"], row["usage_source"], row["receipt"]) == ("ok", "reported", "")
    assert (row["input_tokens"], row["output_tokens"]) == (fake_llama.TOKENS.input, fake_llama.TOKENS.output)
    (seen,) = stage.llama.calls
    assert seen.key == "secret-of-tiny"
    assert "tools" not in seen.json


@by_stream
@pytest.mark.parametrize("choice", ["auto", None])
async def test_tools_that_need_not_be_called_leave_prose_and_a_word(stage: Stage, choice: str | None, stream: bool):
    answer = await stage.gateway.ask("/v1/chat/completions", chat(choice, stream=stream))
    assert answer.status == 200
    assert answer.headers["x-tollhouse-receipt"].startswith("dropped tools: this model cannot choose")
    assert b"talk" in answer.body
    assert b"tool_calls" not in answer.body
    assert stage.row()["receipt"] == answer.headers["x-tollhouse-receipt"]


async def test_the_word_is_there_in_other_dialects_too(stage: Stage):
    raw = await stage.claude.messages.with_raw_response.create(**messages({"type": "auto"}))
    assert raw.headers["x-tollhouse-receipt"].startswith("dropped tools: ")


async def test_a_strict_model_refuses_tools_that_need_not_be_called_and_meets_a_demand(stage: Stage):
    refused = await stage.gateway.ask("/v1/chat/completions", chat("auto", model="exact"))
    assert (refused.status, refused.json()["error"]["code"]) == (400, "untranslatable")
    assert not stage.llama.calls
    met = await stage.gateway.ask("/v1/chat/completions", chat("required", model="exact"))
    assert met.json()["choices"][0]["finish_reason"] == "tool_calls"


async def test_a_free_form_tool_beside_functions_leaves_a_word(stage: Stage):
    asked = chat("required")
    asked["tools"].insert(0, {"type": "custom", "custom": {"name": "shell"}})
    answer = await stage.gateway.ask("/v1/chat/completions", asked)
    assert answer.json()["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == "weather"
    assert answer.headers["x-tollhouse-receipt"].startswith("dropped tools[0]: this model can only be made")
    refused = await stage.gateway.ask("/v1/chat/completions", {**asked, "model": "exact"})
    assert (refused.status, refused.json()["error"]["code"]) == (400, "untranslatable")


async def test_the_path_under_its_own_name_is_a_conversation_too_and_leaves_the_word(stage: Stage):
    answer = await stage.gateway.ask("/tiny/v1/chat/completions", chat("auto", model="tiny"))
    assert answer.headers["x-tollhouse-receipt"].startswith("dropped tools: ")
    called = await stage.gateway.ask("/tiny/v1/chat/completions", chat("required", model="tiny"))
    assert called.json()["choices"][0]["finish_reason"] == "tool_calls"


async def test_a_model_that_knows_tools_gets_them_as_they_came(stage: Stage):
    asked = chat("required", model="able/able")
    answer = await stage.gateway.ask("/v1/chat/completions", asked)
    assert "x-tollhouse-receipt" not in answer.headers
    (seen,) = stage.llama.calls
    assert (seen.json["tools"], seen.json["tool_choice"]) == (asked["tools"], "required")
    assert seen.key == "secret-of-able"


async def test_a_provider_that_took_the_name_of_an_embedded_model_is_asked_itself(stage: Stage):
    """A reload may give the name to another one, while the embedded model of before still runs."""
    answer = await stage.gateway.ask("/v1/chat/completions", chat("auto", model="moved/m"))
    assert "x-tollhouse-receipt" not in answer.headers
    (seen,) = stage.llama.calls
    assert (seen.key, "tools" in seen.json) == ("its-own", True)


@by_stream
async def test_a_demand_for_what_is_not_there_is_the_caller_s_mistake_in_their_dialect(stage: Stage, stream: bool):
    named = chat({"type": "function", "function": {"name": "mayor"}}, stream=stream)
    refused = await stage.gateway.ask("/v1/chat/completions", named)
    error = refused.json()["error"]
    assert (refused.status, error["type"], error["param"]) == (400, "invalid_request_error", "tool_choice")
    assert "no function is named 'mayor'" in error["message"]
    with pytest.raises(anthropic.BadRequestError, match="no function is named 'mayor'") as caught:
        await stage.claude.messages.create(**messages({"type": "tool", "name": "mayor"}))
    assert isinstance(caught.value.body, dict)
    assert caught.value.body["error"]["type"] == "invalid_request_error"
    assert not stage.llama.calls
    assert len(stage.gateway.rows()) == stage.before, "what was never sent has no row"


async def test_a_cut_call_does_not_look_whole(stage: Stage):
    stage.llama.chooses = lambda exchange: faulty(fake_llama.answer(exchange), Cut(6))
    answer = await stage.gateway.ask("/v1/chat/completions", chat("required", stream=True))
    assert b"[DONE]" not in answer.body
    assert b'"error"' in answer.body
    assert stage.row()["outcome"] != "ok"


async def test_a_client_reads_the_result_of_its_call_to_the_model(stage: Stage):
    """The loop that tools are for: the next turn has the call and its result, and nothing is demanded any more."""
    asked = chat("required")
    first = (await stage.gateway.ask("/v1/chat/completions", asked)).json()["choices"][0]["message"]
    (call,) = first["tool_calls"]
    result = {"role": "tool", "tool_call_id": call["id"], "content": "18 degrees"}
    next_turn = {**asked, "messages": [*asked["messages"], first, result], "tool_choice": "auto"}
    second = await stage.gateway.ask("/v1/chat/completions", next_turn)
    assert second.json()["choices"][0]["message"]["content"] == fake_llama.PROSE
    said = stage.llama.calls[1].json["messages"]
    assert [message["role"] for message in said] == ["user", "assistant", "user"]
    assert said[1]["content"] == f"I call weather with {call['function']['arguments']}."
    assert said[2]["content"] == "Result of weather: 18 degrees"
