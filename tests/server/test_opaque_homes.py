"""What a provider signed or encrypted comes back to it through a client of any dialect, and goes to nobody else."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final

import pytest
import pytest_asyncio

from support import fake_anthropic, fake_gemini, fake_responses
from support.fake_provider import FakeProvider
from support.fake_replies import Answer, Call, Failure, Raw, Reply, words
from support.replaying import ASK, GATHERED, IDS, RESULTS, WHOLE, Json, gone_on, said
from support.serving import Answer as Answered
from support.serving import Running, start
from tollhouse.server.http1.listener import Http1Listener

pytestmark = pytest.mark.asyncio(loop_scope="module")

CONFIGURATION: Final = """
providers:
  anthropic: {{base_url: '{anthropic}', api_key: x}}
  google: {{base_url: '{google}', api_key: x, models: [gemini-3-flash-preview]}}
  openai: {{base_url: '{openai}', api_key: x, models: [gpt-5-codex, gpt-4o]}}
  openrouter: {{base_url: '{openrouter}', api_key: x}}
  lab: {{type: anthropic-compatible, base_url: '{anthropic}'}}
models:
  claude: anthropic/claude-opus-4-8
  gemini: google/gemini-3-flash-preview
  codex: openai/gpt-5-codex
  routed: openrouter/some/model
  claude-or: [anthropic/claude-opus-4-8, openai/gpt-4o]
  gemini-or: [google/gemini-3-flash-preview, openai/gpt-4o]
  codex-or: [openai/gpt-5-codex, anthropic/claude-opus-4-8]
  routed-or: [openrouter/some/model, anthropic/claude-opus-4-8]
  mixed: [lab/large, anthropic/claude-opus-4-8]
  lab: lab/large
  strict: {{route: openai/gpt-4o, strict: true}}
retry: {{max_attempts: 2}}
"""

ROUTED_SIGNATURE: Final = "b3BlbnJvdXRlciBzaWduYXR1cmU="


def routed(*, stream: bool) -> Raw:
    """An answer of OpenRouter's with a signature, as its guide to reasoning tokens has it; the fake provider has none."""
    detail = {"type": "reasoning.text", "format": "anthropic-claude-v1", "index": 0}
    call = {"id": "toolu_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    thought = {**detail, "text": "hm", "signature": ROUTED_SIGNATURE}
    if not stream:
        message = {"role": "assistant", "content": None, "reasoning": "hm", "reasoning_details": [thought]}
        choice = {"index": 0, "finish_reason": "tool_calls", "message": {**message, "tool_calls": [call]}}
        return Raw(body=json.dumps({"id": "gen-1", "model": "some/model", "choices": [choice]}).encode())
    deltas: list[Json] = [
        {"role": "assistant", "content": "", "reasoning": "hm", "reasoning_details": [{**detail, "text": "hm"}]},
        {"content": "", "reasoning_details": [{**detail, "signature": ROUTED_SIGNATURE}]},
        {"tool_calls": [{**call, "index": 0}]},
    ]
    choices: list[Json] = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
    choices.append({"index": 0, "delta": {}, "finish_reason": "tool_calls"})
    chunks = [json.dumps({"id": "gen-1", "model": "some/model", "choices": [choice]}) for choice in choices]
    body = "".join(f"data: {chunk}\n\n" for chunk in [*chunks, "[DONE]"])
    return Raw(body=body.encode(), content_type="text/event-stream")


VALUES: Final[Mapping[str, str]] = {
    "claude": fake_anthropic.SIGNATURE,
    "gemini": fake_gemini.SIGNATURE,
    "codex": fake_responses.ENCRYPTED,
    "routed": ROUTED_SIGNATURE,
}
"""What each provider gives to be sent back."""

by_client = pytest.mark.parametrize("client", ASK)
by_maker = pytest.mark.parametrize("maker", VALUES)
by_stream = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


def given_back(maker: str, body: Json) -> list[str]:
    """The opaque values in a request, where their provider looks for them."""
    match maker:
        case "claude":
            blocks = [
                block for turn in body["messages"] if isinstance(turn["content"], list) for block in turn["content"]
            ]
            return [block["signature"] for block in blocks if block["type"] == "thinking"]
        case "gemini":
            parts = [part for content in body["contents"] for part in content["parts"]]
            return [part["thoughtSignature"] for part in parts if "functionCall" in part]
        case "codex":
            return [item["encrypted_content"] for item in body["input"] if item.get("type") == "reasoning"]
        case _:
            details = [detail for turn in body["messages"] for detail in turn.get("reasoning_details", ())]
            return [detail["signature"] for detail in details if detail.get("signature")]


@dataclass
class Stage:
    """The gateway, its providers, and plain clients of all dialects."""

    fake: FakeProvider
    gateway: Running

    async def ask(self, client: str, body: bytes, model: str, *, stream: bool = False) -> Answered:
        """A call as a client of that dialect makes it."""
        if client == "gemini":
            method = "streamGenerateContent?alt=sse" if stream else "generateContent"
            return await self.gateway.ask(f"/v1beta/models/{model}:{method}", body)
        path = {"openai_chat": "/v1/chat/completions", "anthropic": "/v1/messages"}.get(client, "/v1/responses")
        return await self.gateway.ask(path, {**json.loads(body), "model": model, "stream": stream})

    async def begun(self, client: str, maker: str, *, stream: bool = False) -> bytes:
        """The second request of a conversation whose first turn `maker` answered."""
        reply: Reply = Answer(thinking="hm", calls=(Call("f", "{}"),))
        self.fake.reply(routed(stream=stream) if maker == "routed" else reply)
        asked = {**ASK[client], **ASKED[client]}
        answer = await self.ask(client, json.dumps(asked).encode(), maker, stream=stream)
        assert answer.status == 200, answer.body
        turn = GATHERED[client](answer.body) if stream else WHOLE[client](answer.json())
        return gone_on(client, asked, turn, RESULTS[client](IDS[client](turn)))

    def sent(self) -> bytes:
        """The last body that a provider got."""
        return self.fake.calls[-1].body

    def receipt(self) -> str:
        """What the ledger says was lost in the last call."""
        return str(self.gateway.rows()[-1]["receipt"])


SCHEMA: Final = {"type": "object", "properties": {}}
ASKED: Final[Mapping[str, Json]] = {
    "openai_chat": {"tools": [{"type": "function", "function": {"name": "f", "parameters": SCHEMA}}]},
    "anthropic": {"max_tokens": 100, "tools": [{"name": "f", "input_schema": SCHEMA}]},
    "openai_responses": {
        "tools": [{"type": "function", "name": "f", "parameters": SCHEMA, "strict": False}],
        "include": ["reasoning.encrypted_content"],
        "store": False,
    },
    "gemini": {"tools": [{"functionDeclarations": [{"name": "f", "parametersJsonSchema": SCHEMA}]}]},
}
"""What the clients ask for."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    async with AsyncExitStack() as stack:
        fake = await stack.enter_async_context(FakeProvider())
        addresses = {name: fake.base_url(name) for name in ("anthropic", "google", "openai", "openrouter")}
        gateway = await start(CONFIGURATION.format(**addresses), tmp_path_factory.mktemp("homes"), Http1Listener)
        stack.push_async_callback(gateway.close)
        yield Stage(fake, gateway)


@pytest.fixture
def stage(running: Stage) -> Stage:
    running.fake.calls.clear()
    running.fake.default = Answer(text=words(8))
    return running


@by_client
@by_maker
@by_stream
async def test_a_value_comes_back_to_whom_made_it_as_it_was(stage: Stage, client: str, maker: str, stream: bool):
    body = await stage.begun(client, maker, stream=stream)
    answer = await stage.ask(client, body, maker, stream=stream)
    assert answer.status == 200, answer.body
    assert given_back(maker, json.loads(stage.sent())) == [VALUES[maker]]
    assert b"tollhouse" not in stage.sent()
    # What Gemini shows of its thinking has no signature, and does not go back.
    assert stage.receipt().count("dropped") == (maker == "gemini" != client), stage.receipt()


def is_told(receipt: str) -> bool:
    """Whether a receipt says that a value stayed behind."""
    return "takes it back" in receipt or "signs thinking only" in receipt or "earlier reasoning" in receipt


@by_client
@by_maker
async def test_a_value_is_not_sent_to_another_model_of_the_clients_choice(stage: Stage, client: str, maker: str):
    body = await stage.begun(client, maker)
    for other in VALUES.keys() - {maker}:
        answer = await stage.ask(client, body, other)
        assert answer.status == 200, (other, answer.body)
        assert VALUES[maker].encode() not in stage.sent(), other
        assert b"tollhouse" not in stage.sent(), other
        assert is_told(answer.headers["x-tollhouse-receipt"]), (other, answer.headers)
        assert is_told(stage.receipt()), (other, stage.receipt())


@by_client
@by_maker
async def test_a_value_is_not_sent_to_whom_the_call_falls_back(stage: Stage, client: str, maker: str):
    body = await stage.begun(client, maker)
    stage.fake.reply(Failure(status=503), Answer(text="from the other"))
    answer = await stage.ask(client, body, f"{maker}-or")
    assert answer.status == 200, answer.body
    assert b"from the other" in answer.body
    mine, theirs = stage.fake.calls[-2:]
    assert given_back(maker, mine.json) == [VALUES[maker]]
    assert VALUES[maker].encode() not in theirs.body
    assert b"tollhouse" not in theirs.body
    assert is_told(answer.headers["x-tollhouse-receipt"]), answer.headers
    assert is_told(stage.receipt())


@by_stream
async def test_two_that_speak_anthropics_dialect_on_one_route_do_not_get_each_others_signatures(
    stage: Stage, stream: bool
):
    """Bare they could not be told apart, so what the compatible server signs is sealed, to Anthropic's own clients too."""
    body = await stage.begun("anthropic", "mixed", stream=stream)
    thought = json.loads(body)["messages"][1]["content"][0]
    assert (thought["thinking"], thought["signature"][:34]) == ("hm", "tollhouse-sealed.anthropic-compati")
    await stage.ask("anthropic", body, "mixed")
    assert given_back("claude", json.loads(stage.sent())) == [fake_anthropic.SIGNATURE]
    stage.fake.reply(Failure(status=503), Answer(text="from Anthropic"))
    answer = await stage.ask("anthropic", body, "mixed")
    assert b"from Anthropic" in answer.body
    assert given_back("claude", json.loads(stage.sent())) == []
    assert is_told(answer.headers["x-tollhouse-receipt"])

    # Back at the server, what Anthropic signed is sent as thinking without a signature, of which it takes any.
    history = await stage.begun("anthropic", "claude")
    answer = await stage.ask("anthropic", history, "mixed")
    assert given_back("claude", json.loads(stage.sent())) == [""]
    assert is_told(answer.headers["x-tollhouse-receipt"])


async def test_a_compatible_server_on_its_own_gets_the_clients_bytes(stage: Stage):
    body = await stage.begun("anthropic", "lab")
    await stage.ask("anthropic", body, "lab")
    assert given_back("claude", json.loads(stage.sent())) == [fake_anthropic.SIGNATURE]
    assert stage.gateway.rows()[-1]["lane"] == "same"


@by_client
async def test_a_strict_model_refuses_a_conversation_that_would_lose_one(stage: Stage, client: str):
    body = await stage.begun(client, "gemini")
    calls = len(stage.fake.calls)
    answer = await stage.ask(client, body, "strict")
    assert answer.status == 400
    assert len(stage.fake.calls) == calls, "nothing was sent"


@by_maker
async def test_a_kept_answer_has_the_value_for_the_next_turn(stage: Stage, maker: str):
    """A client of the Responses API that says no more than the id of the answer before."""
    stage.fake.reply(routed(stream=False) if maker == "routed" else Answer(thinking="hm", calls=(Call("f", "{}"),)))
    asked = {**ASK["openai_responses"], **ASKED["openai_responses"], "store": True}
    first = (await stage.ask("openai_responses", json.dumps(asked).encode(), maker)).json()
    result = RESULTS["openai_responses"](IDS["openai_responses"]({"items": first["output"]}))
    following = json.dumps({**asked, "input": [result, said("openai_responses")], "previous_response_id": first["id"]})
    answer = await stage.ask("openai_responses", following.encode(), maker)
    assert answer.status == 200, answer.body
    assert given_back(maker, json.loads(stage.sent())) == [VALUES[maker]]
    assert first["id"].encode() not in stage.sent()

    other = next(each for each in VALUES if each != maker)
    answer = await stage.ask("openai_responses", following.encode(), other)
    assert answer.status == 200, answer.body
    assert VALUES[maker].encode() not in stage.sent()
    assert first["id"].encode() not in stage.sent()
    assert is_told(answer.headers["x-tollhouse-receipt"])
