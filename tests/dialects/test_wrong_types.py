"""A value of the wrong type is told by its place and in the caller's words, never in those of the library that reads JSON."""

from typing import Any

import msgspec
import pytest

from tollhouse.dialects import anthropic, gemini
from tollhouse.dialects.gemini.count import patch_count
from tollhouse.dialects.gemini.embed import EMBEDDING, EMBEDDINGS
from tollhouse.errors import BadRequest

USER = {"role": "user", "content": "Hi"}


def asked(**more: object) -> dict[str, object]:
    return {"model": "m", "max_tokens": 9, "messages": [USER], **more}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (asked(model=5), "model: Input should be a string, not a number."),
        (asked(max_tokens="many"), "max_tokens: Input should be a whole number, not a string."),
        (asked(max_tokens=1.5), "max_tokens: Input should be a whole number."),
        (asked(stream="yes"), "stream: Input should be true or false, not a string."),
        (asked(messages="Hi"), "messages: Input should be an array, not a string."),
        (asked(messages=[5]), "messages.0: Input should be an object, not a number."),
        (asked(messages=[{"role": 5, "content": ""}]), "messages.0.role: Input should be a string, not a number."),
        (
            asked(messages=[{"role": "user", "content": {}}]),
            "messages.0.content: Input should be a string or an array, not an object.",
        ),
        (asked(messages=[{"role": "user", "content": [[]]}]), "messages.0.content.0: Input should be an object, not an array."),
        (
            asked(messages=[USER, {"role": "assistant", "content": [{"type": "text"}]}]),
            "messages.1.content.0.text: Field required: give a string.",
        ),
        (asked(stop_sequences=["a", 1]), "stop_sequences: Input should be an array of strings."),
        (asked(stop_sequences=True), "stop_sequences: Input should be an array of strings, not true."),
        (asked(temperature="hot"), "temperature: Input should be a number, not a string."),
        (asked(tools={}), "tools: Input should be an array, not an object."),
        (asked(thinking=[]), "thinking: Input should be an object, not an array."),
    ],
)  # fmt: skip
def test_anthropics_fields(body: dict[str, object], message: str):
    check(anthropic.DIALECT, body, message, message.partition(": ")[0])


def contents(*parts: object, **more: object) -> dict[str, object]:
    return {"contents": [{"role": "user", "parts": list(parts)}], **more}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"contents": "Hi"}, "contents: This must be an array, not a string."),
        (contents(5), "contents[0].parts[0]: This must be an object, not a number."),
        (contents({"text": 5}), "contents[0].parts[0].text: This must be a string, not a number."),
        (
            contents({"text": "Hi"}, generation_config={"stop_sequences": [1]}),
            "generationConfig.stopSequences: This must be an array of strings.",
        ),
        (
            contents({"text": "Hi"}, generationConfig={"maxOutputTokens": "many"}),
            "generationConfig.maxOutputTokens: This must be a whole number, not a string.",
        ),
        (
            contents({"text": "Hi"}, generationConfig={"temperature": "hot"}),
            "generationConfig.temperature: This must be a number, not a string.",
        ),
        (contents({"text": "Hi"}, generationConfig=[]), "generationConfig: This must be an object, not an array."),
        (contents({"text": "Hi"}, model=5), "model: This must be a string, not a number."),
        (
            contents({"text": "Hi"}, toolConfig={"functionCallingConfig": {"mode": []}}),
            "toolConfig.functionCallingConfig.mode: This must be the name of an enum's value, not an array.",
        ),
    ],
)
def test_geminis_fields(body: dict[str, object], message: str):
    check(gemini.DIALECT, body, message, message.partition(": ")[0])


@pytest.mark.parametrize("dialect", [anthropic.DIALECT, gemini.DIALECT])
@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "no body"),
        (b"[]", "JSON but not an object"),
        (b'{"model": ', "not valid JSON: it breaks off"),
        (b'{"model": \xff}', "not UTF-8 (byte 10)"),
        (b'{"a":' + b"[" * 5000, "not valid JSON"),
    ],
)
def test_what_is_no_json_object(dialect: Any, body: bytes, words: str):
    with pytest.raises(BadRequest) as caught:
        dialect.peek(body)
    assert words in caught.value.message or "nested too deeply" in caught.value.message
    check_words(caught.value)


def test_the_other_calls_of_geminis():
    for wire, body, message in (
        (
            EMBEDDING,
            {"content": {"parts": [{"text": 5}]}},
            "content.parts[0].text: This must be a string, not a number.",
        ),
        (EMBEDDINGS, {"requests": [{"content": 5}]}, "requests[0].content: This must be an object, not a number."),
    ):
        with pytest.raises(BadRequest) as caught:
            wire.decode_request(msgspec.json.encode(body))
        assert caught.value.message == message
    peeked = gemini.DIALECT.peek(b'{"generateContentRequest": []}')
    with pytest.raises(BadRequest, match="generateContentRequest: This must be an object, not an array"):
        patch_count(peeked, "m")


def read(dialect: Any, data: bytes) -> None:
    """As a call is read: its top level first."""
    dialect.peek(data)
    dialect.decode_request(data)


def check(dialect: Any, body: dict[str, object], message: str, param: str) -> None:
    data = msgspec.json.encode(body)
    with pytest.raises(BadRequest) as caught:
        read(dialect, data)
    assert (caught.value.message, caught.value.param) == (message, param)
    check_words(caught.value)


def check_words(error: BadRequest) -> None:
    assert "`str`" not in error.message
    assert "$" not in error.message
    assert "Expected" not in error.message
