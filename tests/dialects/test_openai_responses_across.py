"""Answers between the Responses API and the other dialects, both ways: recorded ones, and what only their provider can read."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support import grammar_responses
from support.meaning import seen
from support.recordings import Recording, by_id, recordings
from tollhouse.chat import sse
from tollhouse.chat.events import Event, Failed
from tollhouse.chat.fold import fold, unfold
from tollhouse.chat.grammar import check
from tollhouse.chat.model import (
    Choice,
    Message,
    Opaque,
    Part,
    RedactedThinking,
    Refusal,
    Request,
    Response,
    Text,
    Thinking,
    ToolCall,
)
from tollhouse.chat.opaque import holds_sealed
from tollhouse.chat.receipt import Receipt
from tollhouse.dialects import anthropic, gemini, openai_chat
from tollhouse.dialects.anthropic import AnthropicTraits
from tollhouse.dialects.dialect import Dialect
from tollhouse.dialects.gemini import GeminiTraits
from tollhouse.dialects.openai_chat import OpenAIChatTraits
from tollhouse.dialects.openai_responses import DIALECT, ResponsesTraits
from tollhouse.dialects.openai_responses.traits import OPENAI

REQUEST = Request(model="m", messages=(Message("user", (Text("hi"),)),), include_usage=True)
OTHERS: list[tuple[str, Dialect[Any], Any]] = [
    ("openai-chat", openai_chat.DIALECT, OpenAIChatTraits()),
    ("anthropic-messages", anthropic.DIALECT, AnthropicTraits()),
    ("gemini", gemini.DIALECT, GeminiTraits()),
]
INTO = [
    pytest.param(dialect, traits, recording, id=recording.id)
    for name, dialect, traits in OTHERS
    for recording in recordings(name, error=False)
    if "error_in_200" not in recording.features and not recording.response.body.startswith(b"[")
]
OUT = [
    recording
    for recording in recordings("openai-responses", error=False)
    if not recording.features & {"error_in_stream", "status_queued"}
]
by_other = pytest.mark.parametrize(
    ("dialect", "traits"), [(d, t) for _, d, t in OTHERS], ids=[d.name for _, d, _ in OTHERS]
)


def answer_of(recording: Recording, dialect: Dialect[Any], traits: Any) -> Response | None:
    """What the provider said; `None` for a stream that failed."""
    if not recording.is_stream:
        return dialect.decode_response(recording.response.body, traits)
    events = decode(recording.response.body, dialect, traits)
    return None if isinstance(events[-1], Failed) else fold(events)


def decode(body: bytes, dialect: Dialect[Any], traits: Any) -> list[Event]:
    parser, decoder = sse.Parser(), dialect.stream_decoder(traits)
    events = [event for frame in [*parser.feed(body), *parser.close()] for event in decoder.feed(frame)]
    events += decoder.close()
    check(events)
    return events


def encode(response: Response, dialect: Dialect[Any]) -> bytes:
    encoder = dialect.stream_encoder(REQUEST, Receipt())
    return b"".join(encoder.encode(event) for event in unfold(response))


@pytest.mark.parametrize(("dialect", "traits", "recording"), INTO)
def test_another_dialect_s_answer_reads_the_same_in_responses(dialect: Dialect[Any], traits: Any, recording: Recording):
    response = answer_of(recording, dialect, traits)
    if response is None:
        return
    before = response.choices[0]
    body = encode(response, DIALECT)
    last = grammar_responses.check(body)
    after = fold(decode(body, DIALECT, OPENAI))
    assert seen(after.choices[0].parts) == seen(before.parts)
    assert after.usage.input_tokens == (response.usage.input_tokens or 0 if not response.usage.is_empty else None)
    assert after.usage.reasoning_tokens == (None if response.usage.is_empty else response.usage.reasoning_tokens or 0)
    limits = {"length", "context_exceeded", "content_filter"}
    is_unsaid = before.finish == "refusal" and not any(isinstance(part, Refusal) for part in before.parts)
    assert (last["status"] == "incomplete") == (before.finish in limits or is_unsaid)


@by_other
@pytest.mark.parametrize("recording", OUT, ids=by_id)
def test_an_answer_of_responses_reads_the_same_elsewhere(dialect: Dialect[Any], traits: Any, recording: Recording):
    response = answer_of(recording, DIALECT, ResponsesTraits(home=recording.provider))
    assert response is not None
    before = response.choices[0]
    whole = dialect.decode_response(dialect.encode_response(response, REQUEST, Receipt()), traits)
    streamed = fold(decode(encode(response, dialect), dialect, traits))
    for after in (whole, streamed):
        assert seen(after.choices[0].parts if after.choices else ()) == seen(before.parts)
        assert (after.usage.output_tokens or 0) == (response.usage.output_tokens or 0)
        if before.finish in {"stop", "length", "tool_calls"} and dialect.name != "gemini":
            assert after.choices[0].finish == before.finish


# -------------------------------------------------------------------------------------------------------- opaque state

opaques = st.builds(Opaque, st.text(min_size=1, max_size=20), st.sampled_from(["google", "anthropic", "openai", "xai"]))


@st.composite
def turns(draw: st.DrawFn) -> tuple[Part, ...]:
    hidden = draw(st.none() | opaques)
    count = draw(st.integers(0, 2))
    return (
        Thinking("hm", draw(st.none() | opaques)),
        *(() if hidden is None else (RedactedThinking(hidden),)),
        Text("Hello", signature=draw(st.none() | opaques)),
        Text("again", signature=draw(st.none() | opaques)),
        *(ToolCall(f"call_{n}", "f", '{"a":1}', signature=draw(st.none() | opaques)) for n in range(count)),
    )


@given(turns())
@settings(max_examples=60)
def test_every_signature_comes_back_with_its_home(parts: tuple[Part, ...]):
    """As Codex sends items back: without their ids, and without what it does not know."""
    response = Response(id="r", model="m", choices=(Choice(parts=parts, finish="stop"),))
    last = grammar_responses.check(encode(response, DIALECT))
    known = {"type", "role", "content", "summary", "encrypted_content", "call_id", "name", "arguments"}
    items = [{name: value for name, value in item.items() if name in known} for item in last["output"]]
    body = json.dumps({"model": "m", "input": [{"role": "user", "content": "Hi"}, *items]}).encode()
    assert DIALECT.decode_request(body).messages[1].parts == parts
    homes = {part.signature.home for part in parts if isinstance(part, Text | ToolCall | Thinking) and part.signature}
    homes |= {part.data.home for part in parts if isinstance(part, RedactedThinking)}
    assert holds_sealed(body) == bool(homes - {"openai"}), "what is sealed keeps a request out of the same-dialect lane"


@by_other
@given(value=opaques.filter(lambda each: each.home == "openai"))
@settings(max_examples=20)
def test_openai_s_reasoning_comes_home_through_another_dialect(dialect: Dialect[Any], traits: Any, value: Opaque):
    """Out to a client of that dialect, back in its next turn, and on to OpenAI."""
    response = Response(
        id="r", model="m", choices=(Choice(parts=(Thinking("hm", value), Text("Hello")), finish="stop"),)
    )
    told = dialect.decode_response(dialect.encode_response(response, REQUEST, Receipt()), traits)
    request = Request(model="m", messages=(Message("assistant", told.choices[0].parts),))
    items = json.loads(DIALECT.encode_request(request, OPENAI, Receipt()))["input"]
    assert [item.get("encrypted_content") for item in items if item["type"] == "reasoning"] == [value.value]
