"""Gemini and the other dialects, through the canonical conversation, both ways, for recorded and for made-up answers and requests."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings

from support.anthropic_sdk import read_message, read_stream
from support.asked import requests
from support.conversations import responses
from support.grammar_gemini import check_answer, check_stream
from support.meaning import arguments, seen
from support.recordings import Recording, by_id, load, recordings
from tollhouse.chat.events import Event, Failed
from tollhouse.chat.fold import fold, unfold
from tollhouse.chat.grammar import check
from tollhouse.chat.model import (
    Choice,
    Message,
    Opaque,
    RedactedThinking,
    Request,
    Response,
    Text,
    Thinking,
    ToolCall,
)
from tollhouse.chat.receipt import Receipt
from tollhouse.chat.sse import Parser
from tollhouse.dialects.anthropic import DIALECT as ANTHROPIC
from tollhouse.dialects.anthropic import AnthropicTraits
from tollhouse.dialects.dialect import Dialect
from tollhouse.dialects.gemini import DIALECT, GeminiTraits
from tollhouse.dialects.openai_chat import DIALECT as OPENAI_CHAT
from tollhouse.dialects.openai_chat import OpenAIChatTraits
from tollhouse.dialects.openai_responses import DIALECT as RESPONSES
from tollhouse.dialects.openai_responses import ResponsesTraits

TRAITS = GeminiTraits()
REQUEST = Request(model="m", messages=(Message("user", (Text("hi"),)),), include_usage=True)
OTHERS: list[tuple[str, Dialect[Any], Any]] = [
    ("openai-chat", OPENAI_CHAT, OpenAIChatTraits()),
    ("anthropic-messages", ANTHROPIC, AnthropicTraits()),
    ("openai-responses", RESPONSES, ResponsesTraits()),
]
STREAMS = [
    pytest.param(dialect, traits, recording, id=recording.id)
    for name, dialect, traits in OTHERS
    for recording in recordings(name, stream=True, error=False)
]
WHOLE = [
    pytest.param(dialect, traits, recording, id=recording.id)
    for name, dialect, traits in OTHERS
    for recording in recordings(name, stream=False, error=False)
    if "error_in_200" not in recording.features and b'"status": "queued"' not in recording.response.body
]


def read(body: bytes, dialect: Dialect[Any] = DIALECT, traits: Any = TRAITS) -> list[Event]:
    parser, decoder = Parser(), dialect.stream_decoder(traits)
    frames = [*parser.feed(body), *parser.close()]
    events = [event for frame in frames for event in decoder.feed(frame)]
    events += decoder.close()
    check(events)
    return events


def write(events: list[Event], dialect: Dialect[Any] = DIALECT) -> bytes:
    encoder = dialect.stream_encoder(REQUEST, Receipt())
    return b"".join(encoder.encode(event) for event in events)


def finish_seen(choice: Choice) -> str:
    """A finish reason as Gemini can tell it."""
    calls = any(isinstance(part, ToolCall) for part in choice.parts)
    match choice.finish:
        case "stop" | "tool_calls" | "stop_sequence" | "pause":
            return "tool_calls" if calls else "stop"
        case "length" | "context_exceeded":
            return "length"
        case "content_filter" | "refusal":
            return "content_filter"
        case _:
            return "other"


def assert_same(after: Response, before: Response) -> None:
    assert len(after.choices) == len(before.choices)
    for told, choice in zip(after.choices, before.choices, strict=True):
        assert seen(told.parts) == seen(choice.parts)
        assert told.finish == finish_seen(choice)
    assert after.usage.input_tokens == before.usage.input_tokens
    assert after.usage.output_tokens == before.usage.output_tokens
    assert (after.usage.cache_read_tokens or 0) == (before.usage.cache_read_tokens or 0)
    assert (after.usage.reasoning_tokens or 0) == (before.usage.reasoning_tokens or 0)


@pytest.mark.parametrize(("dialect", "traits", "recording"), STREAMS)
def test_another_dialects_stream_reads_the_same_in_gemini(dialect: Dialect[Any], traits: Any, recording: Recording):
    decoder = dialect.stream_decoder(traits)
    events = [event for frame in recording.frames() for event in decoder.feed(frame)]
    events += decoder.close()
    body = write(events)
    chunks = check_stream(body)
    if isinstance(events[-1], Failed):
        assert "error" in chunks[-1]
        assert isinstance(read(body)[-1], Failed)
        return
    assert_same(fold(read(body)), fold(events))


@pytest.mark.parametrize(("dialect", "traits", "recording"), WHOLE)
def test_another_dialects_answer_reads_the_same_in_gemini(dialect: Dialect[Any], traits: Any, recording: Recording):
    before = dialect.decode_response(recording.response.body, traits)
    body = DIALECT.encode_response(before, REQUEST, Receipt())
    check_answer(body)
    assert_same(DIALECT.decode_response(body, TRAITS), before)


@pytest.mark.parametrize("recording", recordings("gemini", stream=True, error=False), ids=by_id)
def test_geminis_stream_reads_the_same_in_the_others(recording: Recording):
    events = read(recording.response.body)
    before = fold(events)
    message = read_stream(write(events, ANTHROPIC))
    choice = before.choices[0]
    assert (
        "".join(block["text"] for block in message["content"] if block["type"] == "text") == seen(choice.parts)["text"]
    )
    assert [block["input"] for block in message["content"] if block["type"] == "tool_use"] == [
        said for _, _, said in seen(choice.parts)["calls"]
    ]
    assert message["usage"]["output_tokens"] == before.usage.output_tokens
    for dialect, traits in ((OPENAI_CHAT, OpenAIChatTraits()), (RESPONSES, ResponsesTraits())):
        told = fold(read(write(events, dialect), dialect, traits))
        assert seen(told.choices[0].parts)["text"] == seen(choice.parts)["text"]
        assert [call[1:] for call in seen(told.choices[0].parts)["calls"]] == [
            call[1:] for call in seen(choice.parts)["calls"]
        ]
        assert told.choices[0].finish == choice.finish
        assert told.usage.output_tokens == before.usage.output_tokens


def test_geminis_safety_stop_is_no_ordinary_end_elsewhere():
    before = DIALECT.decode_response(load("gemini/gemini-generate-json-finish-safety-824436").response.body, TRAITS)
    assert read_message(ANTHROPIC.encode_response(before, REQUEST, Receipt()))["stop_reason"] == "refusal"
    chat = msgspec.json.decode(OPENAI_CHAT.encode_response(before, REQUEST, Receipt()))
    assert chat["choices"][0]["finish_reason"] == "content_filter"
    blocked = DIALECT.decode_response(load("gemini/gemini-generate-json-prompt-blocked-f9bb79").response.body, TRAITS)
    chat = msgspec.json.decode(OPENAI_CHAT.encode_response(blocked, REQUEST, Receipt()))
    assert chat["choices"][0]["finish_reason"] == "content_filter"


@given(responses())
def test_any_answer_is_a_whole_one_in_gemini(response: Response):
    receipt = Receipt()
    body = DIALECT.encode_response(response, REQUEST, receipt)
    check_answer(body)
    after = DIALECT.decode_response(body, TRAITS)
    assert [seen(choice.parts) for choice in after.choices] == [seen(choice.parts) for choice in response.choices]
    assert_opaque_kept(after, response)


@given(responses())
def test_any_stream_keeps_geminis_grammar(response: Response):
    body = write(list(unfold(response)))
    check_stream(body)
    after = fold(read(body))
    assert [seen(choice.parts) for choice in after.choices] == [seen(choice.parts) for choice in response.choices]
    assert_opaque_kept(after, response)


def assert_opaque_kept(after: Response, before: Response) -> None:
    """Signatures and encrypted reasoning come back with their homes."""
    assert _opaques(after) == _opaques(before)


def _opaques(response: Response) -> list[Opaque]:
    found: list[Opaque] = []
    for choice in response.choices:
        for part in choice.parts:
            match part:
                case RedactedThinking(data=value):
                    found.append(value)
                case Thinking(signature=Opaque() as value) | Text(signature=Opaque() as value):
                    found.append(value)
                case ToolCall(signature=Opaque() as value):
                    found.append(value)
                case _:
                    pass
    return found


@settings(max_examples=50)
@given(requests())
def test_any_request_is_one_that_gemini_takes(request: Request):
    receipt = Receipt()
    body = msgspec.json.decode(DIALECT.encode_request(request, TRAITS, receipt))
    turns = body["contents"]
    assert turns
    assert turns[-1]["role"] == "user"
    owed: list[str] = []
    for turn in turns:
        assert turn["parts"]
        kinds = [next(iter(part.keys() - {"thought", "thoughtSignature"})) for part in turn["parts"]]
        if owed:
            # All responses to the calls of a turn, in their order, and nothing else.
            assert set(kinds) == {"functionResponse"}
            assert [part["functionResponse"]["id"] for part in turn["parts"]] == owed
            assert all(part["functionResponse"]["name"] for part in turn["parts"])
        else:
            assert "functionResponse" not in kinds
        owed = [part["functionCall"]["id"] for part in turn["parts"] if "functionCall" in part]
    calls = [part for turn in turns for part in turn["parts"] if "functionCall" in part]
    homes = {
        part.signature.home
        for message in request.messages
        for part in message.parts
        if isinstance(part, ToolCall) and part.signature is not None
    }
    if homes - {"google"}:
        assert any("signature" in entry for entry in receipt.entries)
    if calls:
        assert all(isinstance(part["functionCall"]["args"], dict) for part in calls)
    assert DIALECT.decode_request(msgspec.json.encode(body)).messages


@settings(max_examples=50)
@given(requests())
def test_any_request_goes_from_gemini_to_the_others(request: Request):
    """Written for Gemini, read as a Gemini client's, and written for the others: nobody stumbles."""
    asked = DIALECT.decode_request(DIALECT.encode_request(request, TRAITS, Receipt()))
    asked = msgspec.structs.replace(asked, model="m")
    for _, dialect, traits in OTHERS:
        again = dialect.decode_request(dialect.encode_request(asked, traits, Receipt()))
        calls = [part for message in asked.messages for part in message.parts if isinstance(part, ToolCall)]
        told = [part for message in again.messages for part in message.parts if isinstance(part, ToolCall)]
        assert [(call.name, arguments(call)) for call in told] == [(call.name, arguments(call)) for call in calls]
