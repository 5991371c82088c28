"""Answers of OpenAI-compatible providers, told to clients of Anthropic's dialect: the official SDK reads the same in them."""

import json
from typing import Any

import pytest

from support.anthropic_sdk import read_message, read_stream
from support.recordings import Recording, by_id, recordings
from tollhouse.chat.events import Event, Failed
from tollhouse.chat.fold import fold
from tollhouse.chat.grammar import check
from tollhouse.chat.model import Message, Refusal, Request, Response, Text, Thinking, ToolCall
from tollhouse.chat.receipt import Receipt
from tollhouse.dialects.anthropic import DIALECT
from tollhouse.dialects.openai_chat import DIALECT as OPENAI_CHAT
from tollhouse.dialects.openai_chat import OpenAIChatTraits

TRAITS = OpenAIChatTraits()
REQUEST = Request(model="m", messages=(Message("user", (Text("hi"),)),))
STREAMS = recordings("openai-chat", stream=True, error=False)
WHOLE = [r for r in recordings("openai-chat", stream=False, error=False) if "error_in_200" not in r.features]


def assert_same(message: dict[str, Any], response: Response) -> None:
    """The SDK's message says what the first choice says."""
    choice = response.choices[0]
    said: dict[str, list[Any]] = {"text": [], "thinking": [], "tool_use": []}
    for part in choice.parts:
        match part:
            case Text(text=text) | Refusal(text=text) if text:
                said["text"].append(text)
            case Thinking():
                said["thinking"].append(part.text)
            case ToolCall():
                said["tool_use"].append((part.id, part.name, json.loads(part.arguments or "{}")))
            case _:
                pass
    read: dict[str, list[Any]] = {"text": [], "thinking": [], "tool_use": []}
    for content in message["content"]:
        match content["type"]:
            case "tool_use":
                read["tool_use"].append((content["id"], content["name"], content["input"]))
            case "text" | "thinking" as kind:
                read[kind].append(content[kind])
            case _:
                pass  # `redacted_thinking`, which is opaque
    read["text"] = [text for text in read["text"] if text]
    assert read == said
    assert message["stop_reason"] in {"end_turn", "max_tokens", "tool_use", "refusal", "stop_sequence"}
    if choice.finish == "length":  # also in the middle of a call
        assert message["stop_reason"] == "max_tokens"
    else:
        assert (message["stop_reason"] == "tool_use") == bool(said["tool_use"])
    usage = message["usage"]
    assert usage["output_tokens"] == (response.usage.output_tokens or 0)
    prompt = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
    assert sum(usage[name] for name in prompt) == (response.usage.input_tokens or 0)


@pytest.mark.parametrize("recording", STREAMS, ids=by_id)
def test_a_stream_reads_the_same(recording: Recording):
    decoder = OPENAI_CHAT.stream_decoder(TRAITS)
    events: list[Event] = [event for frame in recording.frames() for event in decoder.feed(frame)]
    events += decoder.close()
    check(events)
    encoder = DIALECT.stream_encoder(REQUEST, Receipt())
    body = b"".join(encoder.encode(event) for event in events)
    if isinstance(events[-1], Failed):
        with pytest.raises(Exception, match=r"'type': 'error'"):
            read_stream(body)
        return
    assert_same(read_stream(body), fold(events))


@pytest.mark.parametrize("recording", WHOLE, ids=by_id)
def test_a_whole_answer_reads_the_same(recording: Recording):
    response = OPENAI_CHAT.decode_response(recording.response.body, TRAITS)
    body = DIALECT.encode_response(response, REQUEST, Receipt())
    assert_same(read_message(body), response)
