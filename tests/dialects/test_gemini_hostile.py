"""Whatever stands in a Gemini body, it is read or refused: nothing else may come of it."""

import contextlib

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.checked_streams import unchecked
from tollhouse.chat import sse
from tollhouse.chat.events import PartOpened
from tollhouse.chat.model import Message, Request, Text
from tollhouse.chat.receipt import Receipt
from tollhouse.dialects.gemini import DIALECT, GeminiTraits
from tollhouse.dialects.gemini.embed import EMBEDDING, EMBEDDINGS
from tollhouse.errors import BadRequest, ProviderError, Untranslatable

TRAITS = GeminiTraits()
REQUEST = Request(model="m", messages=(Message("user", (Text("hi"),)),))
# Every name that is looked at, in both spellings.
NAMES = [
    "contents",
    "parts",
    "role",
    "text",
    "thought",
    "thoughtSignature",
    "functionCall",
    "functionResponse",
    "inlineData",
    "inline_data",
    "mimeType",
    "data",
    "fileData",
    "fileUri",
    "name",
    "args",
    "id",
    "response",
    "output",
    "error",
    "systemInstruction",
    "tools",
    "functionDeclarations",
    "parameters",
    "parametersJsonSchema",
    "type",
    "properties",
    "items",
    "anyOf",
    "enum",
    "$ref",
    "$defs",
    "nullable",
    "toolConfig",
    "functionCallingConfig",
    "mode",
    "allowedFunctionNames",
    "generationConfig",
    "generation_config",
    "maxOutputTokens",
    "candidateCount",
    "stopSequences",
    "thinkingConfig",
    "thinkingBudget",
    "thinkingLevel",
    "includeThoughts",
    "responseSchema",
    "responseMimeType",
    "candidates",
    "content",
    "finishReason",
    "index",
    "usageMetadata",
    "promptTokenCount",
    "totalTokenCount",
    "groundingMetadata",
    "groundingChunks",
    "groundingSupports",
    "segment",
    "promptFeedback",
    "blockReason",
    "partialArgs",
    "jsonPath",
    "stringValue",
    "willContinue",
    "logprobsResult",
    "chosenCandidates",
    "token",
    "createTime",
    "responseId",
    "requests",
    "taskType",
    "title",
    "model",
    "generateContentRequest",
]
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(
        ["", "model", "user", "ANY", "STRING", "image/png", "text/plain", "AAAA", "$.a[1].b", "é", "STOP", "#/a"]
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=6),
    max_leaves=30,
)
bodies = st.dictionaries(st.sampled_from(NAMES), values, max_size=8).map(msgspec.json.encode)
# One that gets past the first look.
asked = st.builds(
    lambda parts, rest: msgspec.json.encode({**rest, "contents": [{"parts": parts}]}),
    st.lists(st.dictionaries(st.sampled_from(NAMES), values, max_size=4), min_size=1, max_size=3),
    st.dictionaries(st.sampled_from(NAMES), values, max_size=4),
)
answered = st.builds(
    lambda parts, rest, more: msgspec.json.encode({**more, "candidates": [{**rest, "content": {"parts": parts}}]}),
    st.lists(st.dictionaries(st.sampled_from(NAMES), values, max_size=4), max_size=3),
    st.dictionaries(st.sampled_from(NAMES), values, max_size=4),
    st.dictionaries(st.sampled_from(NAMES), values, max_size=4),
)


@settings(max_examples=60)
@given(bodies | asked)
def test_any_request_is_read_or_refused(body: bytes):
    with contextlib.suppress(BadRequest):
        DIALECT.patch(DIALECT.peek(body), "m", TRAITS, Receipt(), 10)
    try:
        request = DIALECT.decode_request(body)
    except BadRequest:
        return
    written = DIALECT.encode_request(request, TRAITS, Receipt())
    msgspec.json.decode(written)
    for wire in (EMBEDDING, EMBEDDINGS):
        try:
            wire.encode_request(wire.decode_request(body), Receipt())
            wire.patch(wire.peek(body), "m")
        except (BadRequest, Untranslatable):
            pass


@given(
    st.sampled_from(["finishReason", "finishMessage", "logprobsResult", "groundingMetadata", "index", "content"]),
    values,
)
def test_any_field_of_a_candidate_is_read_or_refused(name: str, value: object):
    body = msgspec.json.encode(
        {"candidates": [{"finishReason": "STOP", name: value}], "promptFeedback": {"blockReason": value}}
    )
    with contextlib.suppress(ProviderError):
        DIALECT.decode_response(body, TRAITS)
    with contextlib.suppress(ProviderError):
        DIALECT.decode_response(msgspec.json.encode({"promptFeedback": {"blockReason": value}}), TRAITS)
    with contextlib.suppress(ProviderError):
        DIALECT.glance(body, TRAITS)


@settings(max_examples=60)
@given(bodies | answered)
def test_any_answer_is_read_or_refused(body: bytes):
    try:
        DIALECT.glance(body, TRAITS)
        response = DIALECT.decode_response(body, TRAITS)
        DIALECT.encode_response(response, REQUEST, Receipt())
    except ProviderError:
        pass
    DIALECT.decode_error(500, body)


@settings(max_examples=60)
@given(st.lists(bodies | answered, min_size=1, max_size=4))
def test_any_stream_is_read_or_refused(chunks: list[bytes]):
    stream = b"".join(b"data: " + chunk + b"\r\n\r\n" for chunk in chunks)
    observer = DIALECT.observer(DIALECT.peek(b"{}"), TRAITS)
    try:
        observer.feed(stream)
        observer.close()
    except ProviderError:
        pass
    observer.usage()
    decoder = DIALECT.stream_decoder(TRAITS)
    encoder = DIALECT.stream_encoder(REQUEST, Receipt())
    with unchecked("parts of kinds that Google does not have yet are passed on"), contextlib.suppress(ProviderError):
        for frame in sse.Parser().feed(stream):
            for event in decoder.feed(frame):
                encoder.encode(event)
        for event in decoder.close():
            encoder.encode(event)


def test_an_empty_part_of_an_answer_is_left_out():
    chunk = b'{"candidates":[{"content":{"parts":[{},{"text":"Hi"}]},"finishReason":"STOP"}]}'
    decoder = DIALECT.stream_decoder(TRAITS)
    events = [*decoder.feed(sse.Frame(chunk)), *decoder.close()]
    assert [event.part for event in events if isinstance(event, PartOpened)] == [Text("")]
    assert DIALECT.decode_response(chunk, TRAITS).choices[0].parts == (Text("Hi"),)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (
            b'{"contents":[],"generationConfig":{"maxOutputTokens":90000},"generation_config":{"maxOutputTokens":1}}',
            "generationConfig",
        ),
        (
            b'{"contents":[],"generationConfig":{"max_output_tokens":90000,"maxOutputTokens":1}}',
            "generationConfig.maxOutputTokens",
        ),
        (
            b'{"contents":[],"generation_config":{"candidateCount":1,"candidate_count":8}}',
            "generationConfig.candidateCount",
        ),
    ],
)
def test_no_limit_is_told_twice(body: bytes, param: str):
    """Google's servers read both spellings; a budget is held for what one of them says."""
    with pytest.raises(BadRequest) as caught:
        DIALECT.peek(body)
    assert caught.value.param == param
