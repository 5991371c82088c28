"""Whole answers and model lists in Anthropic's dialect."""

import json

import anthropic
import msgspec
import pytest

from support.anthropic_sdk import read_count, read_message, read_models
from support.recordings import Recording, by_id, recordings
from tollhouse.chat.model import (
    Choice,
    Citation,
    Extra,
    Foreign,
    Image,
    Message,
    Opaque,
    RedactedThinking,
    Refusal,
    Remote,
    Request,
    Response,
    Text,
    Thinking,
    TokenLogprob,
    ToolCall,
)
from tollhouse.chat.receipt import Receipt
from tollhouse.chat.usage import Usage
from tollhouse.dialects.anthropic import DIALECT, AnthropicTraits, encode_count
from tollhouse.dialects.dialect import ModelCard
from tollhouse.errors import RateLimited, StreamFailed, UpstreamMalformed

TRAITS = AnthropicTraits()
WHOLE = recordings("anthropic-messages", stream=False, error=False)
REQUEST = Request(model="asked", messages=(Message("user", (Text("hi"),)),))


def encode(response: Response) -> tuple[bytes, str]:
    receipt = Receipt()
    return DIALECT.encode_response(response, REQUEST, receipt), "; ".join(receipt.entries)


def answer(choice: Choice, **fields: object) -> Response:
    return msgspec.structs.replace(Response(id="msg_1", model="x", choices=(choice,)), **fields)


@pytest.mark.parametrize("recording", WHOLE, ids=by_id)
def test_recorded_answers_survive_translation_into_their_own_dialect(recording: Recording):
    response = DIALECT.decode_response(recording.response.body, TRAITS)
    body, receipt = encode(response)
    assert receipt == ""
    assert DIALECT.decode_response(body, TRAITS) == response
    ours, theirs = read_message(body), read_message(recording.response.body)
    assert {**ours, "usage": None} == {**theirs, "usage": None}
    assert {k: v for k, v in ours["usage"].items() if v} == {k: v for k, v in theirs["usage"].items() if v}


@pytest.mark.parametrize("recording", WHOLE, ids=by_id)
def test_a_glance_sees_what_the_decoder_sees(recording: Recording):
    response = DIALECT.decode_response(recording.response.body, TRAITS)
    glance = DIALECT.glance(recording.response.body, TRAITS)
    assert (glance.usage, glance.finish) == (response.usage, response.choices[0].finish)


def test_an_empty_answer_is_legal():
    body, receipt = encode(answer(Choice(finish="stop")))
    assert read_message(body)["content"] == []
    assert receipt == ""


def test_an_answer_of_another_provider_reads_as_anthropics():
    response = answer(
        Choice(
            parts=(
                Thinking("Hm"),
                RedactedThinking(Opaque("eHg=", "anthropic")),
                Text("Hello", citations=(Citation(url="https://x.test"),)),
                Text(""),
                ToolCall("call_1", "f", '{"a": 1}'),
                ToolCall("call_2", "g", ""),
            ),
            finish="stop",
        ),
        model="",
        usage=Usage(
            input_tokens=100,
            cache_read_tokens=60,
            cache_write_tokens=10,
            cache_write_1h_tokens=4,
            output_tokens=20,
            reasoning_tokens=5,
            source="reported",
        ),
        service_tier="default",
    )
    body, receipt = encode(response)
    assert receipt == ""
    message = read_message(body)
    assert [c["type"] for c in message["content"]] == ["thinking", "redacted_thinking", "text", "tool_use", "tool_use"]
    assert [c["input"] for c in message["content"][3:]] == [{"a": 1}, {}]
    assert (message["model"], message["stop_reason"]) == ("asked", "tool_use")
    usage = message["usage"]
    assert (usage["input_tokens"], usage["cache_read_input_tokens"], usage["cache_creation_input_tokens"]) == (
        30,
        60,
        10,
    )
    assert usage["cache_creation"] == {"ephemeral_5m_input_tokens": 6, "ephemeral_1h_input_tokens": 4}
    assert usage["output_tokens_details"] == {"thinking_tokens": 5}
    assert usage["service_tier"] == "standard"


def test_what_an_answer_cannot_say_is_listed():
    choice = Choice(
        parts=(
            Text("a", citations=(Citation(title="nowhere"),)),
            Image(Remote("u")),
            Foreign("openai_responses", "web_search_call", msgspec.Raw(b"{}")),
            ToolCall("c", "f", '{"cut'),
        ),
        finish="length",
        logprobs=(TokenLogprob("a", -1.0),),
    )
    response = answer(choice, extra=Extra("openai_chat", {"system_fingerprint": msgspec.Raw(b'"f"')}))
    body, receipt = encode(msgspec.structs.replace(response, choices=(choice, Choice(index=1))))
    message = read_message(body)
    assert message["stop_reason"] == "max_tokens"
    assert message["content"][1]["input"] == {"_raw": '{"cut'}
    for entry in (
        "choices[1:]",
        "logprobs",
        "citations",
        "content: image",
        "content: web_search_call",
        "system_fingerprint",
    ):
        assert f"dropped {entry}" in receipt
    assert "changed tool_use f" in receipt


def test_a_refusal_is_text_and_the_stop_reason():
    message = read_message(encode(answer(Choice(parts=(Refusal("No."),), finish="stop")))[0])
    assert (message["content"][0]["text"], message["stop_reason"]) == ("No.", "refusal")


def test_a_stop_string_is_named():
    message = read_message(encode(answer(Choice(finish="stop_sequence", finish_detail="END")))[0])
    assert (message["stop_reason"], message["stop_sequence"]) == ("stop_sequence", "END")


def test_an_answer_that_its_provider_gave_up_is_no_answer():
    with pytest.raises(StreamFailed):
        encode(answer(Choice(parts=(Text("a"),), finish="error")))


def test_an_answer_without_usage_says_so():
    response = DIALECT.decode_response(b'{"type":"message","id":"m","content":[],"usage":null}', TRAITS)
    assert response.usage == Usage()
    assert response.choices[0].finish is None


def test_an_error_in_a_200_body_is_an_error():
    with pytest.raises(StreamFailed, match="Busy"):
        DIALECT.decode_response(b'{"type":"error","error":{"type":"overloaded_error","message":"Busy"}}', TRAITS)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b'{"choices":[]}',
        b'{"type":"message"}',
        b'{"type":"message","id":"m","content":[7]}',
        b'{"type":"message","id":"m","content":[],"usage":{"input_tokens":"x"}}',
        b'{"type":"message","id":"m","content":' + b"[" * 100_000,
    ],
)
def test_an_answer_in_no_known_form_is_malformed(body: bytes):
    with pytest.raises(UpstreamMalformed):
        DIALECT.decode_response(body, TRAITS)


def test_the_official_sdk_raises_its_own_error_for_ours():
    body = DIALECT.encode_error(RateLimited("Too fast.", retry_after_seconds=1), "req_1")
    with pytest.raises(anthropic.RateLimitError) as caught:
        read_message(body, status=429)
    assert caught.value.body == {
        "type": "error",
        "error": {"type": "rate_limit_error", "message": "Too fast."},
        "request_id": "req_1",
    }


CARDS = (
    ModelCard(id="smart", owner="anthropic", created=1_784_851_200, context_tokens=200_000, max_output_tokens=64_000),
    ModelCard(id="fast", owner="lab", display_name="Fast one"),
)


def test_a_model_list_is_read_by_the_official_sdk():
    first, second = read_models(DIALECT.encode_models(CARDS))
    assert (first["id"], first["created_at"], first["max_tokens"]) == ("smart", "2026-07-24T00:00:00Z", 64_000)
    assert (second["display_name"], second["created_at"]) == ("Fast one", "1970-01-01T00:00:00Z")
    page = json.loads(DIALECT.encode_models(CARDS))
    assert (page["first_id"], page["last_id"], page["has_more"]) == ("smart", "fast", False)
    assert json.loads(DIALECT.encode_model(CARDS[1])) == page["data"][1]
    assert read_models(DIALECT.encode_models(())) == []


def test_a_recorded_model_list_names_its_models():
    (recording,) = recordings("models-list", provider="anthropic")
    names = DIALECT.decode_models(recording.response.body)
    assert names[0] == "claude-opus-5"
    assert len(names) == len(recording.json["data"])
    cards = tuple(ModelCard(id=name, owner="anthropic") for name in names)
    assert DIALECT.decode_models(DIALECT.encode_models(cards)) == names


@pytest.mark.parametrize("body", [b"", b"{}", b'{"data":[{}]}', b"<html>"])
def test_a_model_list_in_no_known_form_is_malformed(body: bytes):
    with pytest.raises(UpstreamMalformed):
        DIALECT.decode_models(body)


def test_a_token_count_is_read_by_the_official_sdk():
    assert read_count(encode_count(42)) == 42
