"""Whole answers: what a provider said reaches a client of any dialect, and a client of this one."""

from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.conversations import responses
from support.recordings import Recording, by_id, load, recordings
from tollhouse.chat import sse
from tollhouse.chat.events import Event
from tollhouse.chat.fold import fold, unfold
from tollhouse.chat.grammar import GrammarFault, checked
from tollhouse.chat.model import (
    Choice,
    Citation,
    Foreign,
    Image,
    Inline,
    Opaque,
    RedactedThinking,
    Refusal,
    Request,
    Response,
    Text,
    Thinking,
    TokenLogprob,
    ToolCall,
)
from tollhouse.chat.receipt import Receipt
from tollhouse.chat.usage import Usage
from tollhouse.dialects.openai_chat import DIALECT, OPENAI
from tollhouse.dialects.openai_chat.counts import read_raw_usage, read_usage, write_usage
from tollhouse.errors import StreamFailed, UpstreamMalformed, UpstreamTruncated

ANSWERS = [r for r in recordings("openai-chat", stream=False, error=False) if "error_in_200" not in r.features]
ASKED = Request(model="m", messages=())
XAI = replace(OPENAI, reasoning_outside_output=True)


def decode(recording: Recording) -> Response:
    traits = XAI if recording.provider in {"xai", "gemini"} else OPENAI
    return DIALECT.decode_response(recording.response.body, traits)


def encode(response: Response, request: Request = ASKED) -> tuple[dict[str, Any], tuple[str, ...]]:
    receipt = Receipt()
    return msgspec.json.decode(DIALECT.encode_response(response, request, receipt)), receipt.entries


def answer(*parts: Any, **fields: Any) -> Response:
    return Response(id="r", model="m", choices=(Choice(parts=parts, **{"finish": "stop", **fields}),))


@pytest.mark.parametrize("recording", ANSWERS, ids=by_id)
def test_the_way_to_a_client_and_back_changes_nothing(recording: Recording):
    response = decode(recording)
    receipt = Receipt()
    body = DIALECT.encode_response(response, ASKED, receipt)
    assert DIALECT.decode_response(body, OPENAI) == response
    assert not receipt


@pytest.mark.parametrize("recording", ANSWERS, ids=by_id)
def test_an_answer_means_what_the_recording_says(recording: Recording):
    response, body = decode(recording), recording.json
    assert (response.id, response.model, response.created) == (body["id"], body["model"], body["created"] or None)
    for choice, said in zip(response.choices, body["choices"], strict=True):
        message = said.get("message") or {}
        parts = choice.parts
        reasoning = message.get("reasoning_content") or message.get("reasoning") or ""
        assert "".join(p.text for p in parts if isinstance(p, Text)) == (message.get("content") or "")
        assert "".join(p.text for p in parts if isinstance(p, Thinking)) == reasoning
        calls = [call["function"] for call in message.get("tool_calls") or ()]
        calls += [message["function_call"]] if message.get("function_call") else []
        assert [{"name": p.name, "arguments": p.arguments} for p in parts if isinstance(p, ToolCall)] == calls
        expected = {"function_call": "tool_calls"}.get(said["finish_reason"], said["finish_reason"])
        assert choice.finish == ("tool_calls" if calls and expected == "stop" else expected)
    assert response.usage.input_tokens == body["usage"]["prompt_tokens"]


def test_a_recorded_function_call_goes_back_in_the_old_form():
    response = decode(load("openai/openai-chat-json-misc-454e7f"))
    body, lost = encode(response, Request(model="m", messages=(), legacy_functions=True))
    choice = body["choices"][0]
    assert choice["finish_reason"] == "function_call"
    assert choice["message"]["function_call"]["name"] == "Joke"
    assert "tool_calls" not in choice["message"]
    assert not lost


def test_a_filtered_choice_without_a_message_is_an_empty_answer():
    choice = decode(load("azure-openai/azure-openai-chat-json-finish-content-filter-ad8f0b")).choices[0]
    assert (choice.parts, choice.finish) == ((), "content_filter")


def test_recorded_citations_and_audio_are_kept():
    text = decode(load("openai/openai-chat-json-citations-b8f5ef")).choices[0].parts[0]
    assert isinstance(text, Text)
    assert [c.start for c in text.citations] == sorted(c.start or 0 for c in text.citations)
    assert (
        text.citations[0].url == "https://www.ruby-lang.org/en/news/2025/10/07/ruby-3-4-7-released/?utm_source=openai"
        or text.citations[0].url
    )
    audio = decode(load("openai/openai-chat-json-misc-3c38c8")).choices[0].parts[0]
    assert isinstance(audio, Foreign)
    assert audio.kind == "audio"


def test_an_error_in_a_200_body_fails():
    with pytest.raises(StreamFailed) as caught:
        decode(load("openrouter/openrouter-chat-json-error-in-200-bd1693"))
    assert caught.value.status == 502


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"{}",
        b'{"choices":[]}',
        b'{"choices":[{"message":{"tool_calls":[{"id":"c"}]}}]}',
        b'{"choices":[{"message":{"content":[7]}}]}',
        b'{"choices":[{"message":7}]}',
        b'{"choices":' + b"[" * 5_000,
    ],
)
def test_what_is_no_answer_is_malformed(body: bytes):
    with pytest.raises(UpstreamMalformed):
        DIALECT.decode_response(body, OPENAI)


@pytest.mark.parametrize(
    "body",
    [
        b'{"error":"m"}',
        b'{"object":"error","message":"m"}',
        b'{"choices":[{"message":{"content":"a"},"finish_reason":"error"}]}',
    ],
)
def test_what_says_that_it_failed_fails(body: bytes):
    with pytest.raises(StreamFailed):
        DIALECT.decode_response(body, OPENAI)


def test_mistrals_list_of_parts_is_thinking_and_text():
    body = b'{"id":"r","model":"m","choices":[{"message":{"content":[{"type":"thinking","thinking":[{"type":"text","text":"hm"}]},{"type":"text","text":"a"},{"type":"reference","reference_ids":[1]}]},"finish_reason":"stop"}]}'
    parts = DIALECT.decode_response(body, OPENAI).choices[0].parts
    assert parts[:2] == (Thinking("hm"), Text("a"))
    assert isinstance(parts[2], Foreign)


def test_perplexitys_sources_are_citations():
    body = b'{"id":"r","model":"m","choices":[{"message":{"content":"a"},"finish_reason":"stop"}],"search_results":[{"url":"https://a.example","title":"A","snippet":"s"}]}'
    assert DIALECT.decode_response(body, OPENAI).choices[0].parts == (
        Text("a", citations=(Citation(url="https://a.example", title="A", quote="s"),)),
    )


def test_an_answer_is_said_in_openais_form():
    response = Response(
        id="r", model="m", created=5, service_tier="default",
        choices=(
            Choice(
                parts=(Thinking("hm", Opaque("sig", "openrouter")), RedactedThinking(Opaque("x", "openrouter")), Text("One. "), Text("Two.", citations=(Citation(url="https://a.example"),)), ToolCall("c", "f", "")),
                finish="tool_calls", logprobs=(TokenLogprob("a", -0.5),),
            ),
        ),
        usage=Usage(input_tokens=10, cache_read_tokens=4, cache_write_tokens=2, output_tokens=6, reasoning_tokens=3, source="reported"),
    )  # fmt: skip
    body, lost = encode(response)
    assert body == {
        "id": "r", "object": "chat.completion", "created": 5, "model": "m", "service_tier": "default",
        "choices": [{
            "index": 0, "finish_reason": "tool_calls",
            "logprobs": {"content": [{"token": "a", "logprob": -0.5, "bytes": None, "top_logprobs": []}], "refusal": None},
            "message": {
                "role": "assistant", "content": "One. Two.", "refusal": None, "reasoning_content": "hm",
                "reasoning_details": [
                    {"type": "reasoning.text", "text": "hm", "signature": "sig", "format": "anthropic-claude-v1", "index": 0},
                    {"type": "reasoning.encrypted", "data": "x", "format": "anthropic-claude-v1", "index": 1},
                ],
                "annotations": [{"type": "url_citation", "url_citation": {"url": "https://a.example", "title": "https://a.example", "start_index": 5, "end_index": 9}}],
                "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
            },
        }],
        "usage": {
            "prompt_tokens": 10, "completion_tokens": 6, "total_tokens": 16,
            "prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 2},
            "completion_tokens_details": {"reasoning_tokens": 3},
        },
    }  # fmt: skip
    assert not lost


def test_anthropics_service_tier_is_said_in_openais_words():
    response = msgspec.structs.replace(answer(Text("a")), service_tier="standard")
    assert encode(response)[0]["service_tier"] == "default"
    encoder = DIALECT.stream_encoder(ASKED, Receipt())
    assert b'"service_tier":"default"' in b"".join(encoder.encode(event) for event in unfold(response))


def test_usage_that_nobody_said_is_left_out():
    assert "usage" not in encode(answer(Text("a")))[0]


def test_what_has_no_form_is_in_the_receipt():
    _, lost = encode(
        answer(
            ToolCall("c", "f", "{}"),
            Text("after", citations=(Citation(quote="no address"),)),
            Image(Inline("image/png", "AAAA")),
            Foreign("anthropic", "server_tool_use", msgspec.Raw(b"{}")),
            finish="pause",
        )
    )
    assert len(lost) == 5


@pytest.mark.parametrize(
    ("finish", "word"),
    [("stop", "stop"), ("length", "length"), ("stop_sequence", "stop"), ("content_filter", "content_filter"), ("refusal", "content_filter"),
     ("context_exceeded", "length"), ("error", "error"), ("other", "stop"), (None, "stop")],
)  # fmt: skip
def test_every_finish_has_a_word(finish: Any, word: str):
    assert encode(answer(Text("a"), finish=finish))[0]["choices"][0]["finish_reason"] == word


def test_a_refusal_is_apart_from_the_text_and_stops():
    choice = encode(answer(Refusal("no"), finish="refusal"))[0]["choices"][0]
    assert (choice["message"]["content"], choice["message"]["refusal"], choice["finish_reason"]) == (None, "no", "stop")


# ------------------------------------------------------------------------------------------------------- usage


@pytest.mark.parametrize(
    ("fields", "outside", "expected"),
    [
        ({"prompt_tokens": 5, "completion_tokens": 3}, False, (5, None, None, 3, None)),
        ({"prompt_tokens": 0, "completion_tokens": 0}, False, (0, None, None, 0, None)),
        ({"input_tokens": 5, "output_tokens": 3}, False, (5, None, None, 3, None)),
        ({"prompt_tokens": 5, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 2}}, False, (5, 2, None, 3, None)),
        ({"prompt_tokens": 5, "completion_tokens": 3, "prompt_cache_hit_tokens": 2}, False, (5, 2, None, 3, None)),
        ({"prompt_tokens": 5, "completion_tokens": 3, "cached_tokens": 2}, False, (5, 2, None, 3, None)),
        ({"prompt_tokens": 5, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 9, "cache_write_tokens": 9}}, False, (5, 5, 0, 3, None)),
        ({"prompt_tokens": 9, "completion_tokens": 3, "cache_creation_input_tokens": 4, "cache_read_input_tokens": 3}, False, (9, 3, 4, 3, None)),
        ({"prompt_tokens": 5, "completion_tokens": 3, "completion_tokens_details": {"reasoning_tokens": 2}}, False, (5, None, None, 3, 2)),
        ({"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 10, "completion_tokens_details": {"reasoning_tokens": 2}}, False, (5, None, None, 5, 2)),
        ({"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8, "completion_tokens_details": {"reasoning_tokens": 2}}, True, (5, None, None, 3, 2)),
        ({"prompt_tokens": 5, "completion_tokens": 3, "completion_tokens_details": {"reasoning_tokens": 2}}, True, (5, None, None, 5, 2)),
        ({"prompt_tokens": 66, "completion_tokens": 6, "total_tokens": 100}, True, (66, None, None, 34, 28)),
        ({"prompt_tokens": 66, "completion_tokens": 6, "total_tokens": 100}, False, (66, None, None, 6, None)),
        ({"prompt_tokens": 5, "completion_tokens": 3, "completion_tokens_details": {"reasoning_tokens": 7}}, False, (5, None, None, 10, 7)),
        ({"prompt_tokens": -5, "completion_tokens": 3}, False, (None, None, None, 3, None)),
        ({"prompt_tokens": 10**13, "completion_tokens": 3.0}, False, (None, None, None, 3, None)),
        ({"prompt_tokens": "5", "completion_tokens": True}, False, (None, None, None, None, None)),
        ({}, False, (None, None, None, None, None)),
        (None, False, (None, None, None, None, None)),
    ],
)  # fmt: skip
def test_counts_of_every_spelling_are_normalised(fields: Any, outside: bool, expected: tuple[int | None, ...]):
    usage = read_usage(fields, reasoning_outside_output=outside)
    assert (
        usage.input_tokens, usage.cache_read_tokens, usage.cache_write_tokens, usage.output_tokens, usage.reasoning_tokens
    ) == expected  # fmt: skip
    assert usage.source == ("none" if usage.is_empty else "reported")


numbers = (
    st.none()
    | st.booleans()
    | st.integers(-5, 50)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=2)
)
details = st.none() | st.dictionaries(
    st.sampled_from(["cached_tokens", "reasoning_tokens", "audio_tokens", "cache_write_tokens"]), numbers
)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "prompt_tokens": numbers, "completion_tokens": numbers, "total_tokens": numbers, "prompt_tokens_details": details,
            "completion_tokens_details": details, "prompt_cache_hit_tokens": numbers, "cache_creation_input_tokens": numbers,
        },
    ),
    st.booleans(),
)  # fmt: skip
@settings(deadline=None)
def test_parts_never_exceed_their_totals(fields: Any, outside: bool):
    usage = read_usage(fields, reasoning_outside_output=outside)
    for part, whole in (
        (usage.cache_read_tokens, usage.input_tokens),
        (usage.cache_write_tokens, usage.input_tokens),
        (usage.reasoning_tokens, usage.output_tokens),
        (usage.output_audio_tokens, usage.output_tokens),
    ):
        assert part is None or part >= 0
        assert part is None or whole is None or part <= whole
    if usage.input_tokens is not None:
        assert (usage.cache_read_tokens or 0) + (usage.cache_write_tokens or 0) <= usage.input_tokens
    if not usage.is_empty and usage.input_tokens is not None and usage.output_tokens is not None:
        assert read_usage(write_usage(usage), reasoning_outside_output=False) == usage


# -------------------------------------------------------------------------------------------------- properties


@given(responses())
@settings(max_examples=60, deadline=None)
def test_any_answer_can_be_said_whole_and_streamed_alike(response: Response):
    """Whichever way an answer goes out, a client reads the same words, calls and counts."""
    asked = Request(model="m", messages=(), stream=True, include_usage=True)
    whole = DIALECT.decode_response(DIALECT.encode_response(response, asked, Receipt()), OPENAI)
    encoder = DIALECT.stream_encoder(asked, Receipt())
    sent = b"".join(encoder.encode(event) for event in unfold(response))
    streamed = fold(checked(_decoded(sent)))
    assert _words(streamed) == _words(whole)
    assert streamed.usage == whole.usage


def _words(response: Response) -> list[tuple[object, ...]]:
    return [
        (
            choice.index,
            choice.finish,
            "".join(p.text for p in choice.parts if isinstance(p, Text)),
            "".join(p.text for p in choice.parts if isinstance(p, Thinking)),
            "".join(p.text for p in choice.parts if isinstance(p, Refusal)),
            [p.data for p in choice.parts if isinstance(p, RedactedThinking)],
            [(p.id, p.name, p.arguments) for p in choice.parts if isinstance(p, ToolCall)],
            [(c.url, c.start) for p in choice.parts if isinstance(p, Text) for c in p.citations],
            choice.logprobs or None,
        )
        for choice in response.choices
    ]


def _decoded(body: bytes) -> list[Event]:
    parser, decoder = sse.Parser(), DIALECT.stream_decoder(OPENAI)
    events: list[Event] = []
    for frame in parser.feed(body):
        events += decoder.feed(frame)
    return [*events, *decoder.close()]


pieces = st.fixed_dictionaries(
    {},
    optional={
        "role": st.sampled_from(["assistant", None]),
        "content": st.sampled_from(["", "a", None]) | st.just([{"type": "text", "text": "x"}]),
        "reasoning_content": st.sampled_from(["", "b", None]),
        "refusal": st.sampled_from(["", "c", None]),
        "tool_calls": st.none() | st.lists(
            st.fixed_dictionaries(
                {},
                optional={
                    "index": st.none() | st.integers(0, 2), "id": st.sampled_from(["", "c1", "c2", None]),
                    "function": st.fixed_dictionaries({}, optional={"name": st.sampled_from(["f", "", None]), "arguments": st.sampled_from(["", "{", None])}),
                },
            ),
            max_size=2,
        ),
        "reasoning_details": st.none() | st.lists(st.sampled_from([{"type": "reasoning.encrypted", "data": "x"}, {"type": "reasoning.text", "text": "y", "signature": "s"}]), max_size=2),
        "annotations": st.none() | st.just([{"type": "url_citation", "url_citation": {"url": "https://a.example"}}]),
        "function_call": st.none() | st.just({"name": "f", "arguments": "{}"}),
    },
)  # fmt: skip
wire_chunks = st.fixed_dictionaries(
    {"choices": st.lists(st.fixed_dictionaries({"index": st.integers(0, 1), "delta": st.none() | pieces, "finish_reason": st.sampled_from([None, None, "stop", "tool_calls", "error"])}), max_size=2)},
    optional={"id": st.sampled_from(["r", "", None]), "usage": st.none() | st.just({"prompt_tokens": 1, "completion_tokens": 1}), "error": st.sampled_from([None, None, None, "boom"])},
)  # fmt: skip


@given(st.lists(wire_chunks, max_size=8), st.booleans())
@settings(max_examples=400, deadline=None)
def test_whatever_a_provider_streams_is_a_grammatical_stream_or_a_named_error(stream: list[Any], done: bool):
    body = b"".join(b"data: " + msgspec.json.encode(chunk) + b"\n\n" for chunk in stream) + (
        b"data: [DONE]\n\n" if done else b""
    )
    parser, decoder = sse.Parser(), DIALECT.stream_decoder(OPENAI)
    grammar: list[Event] = []
    encoder = DIALECT.stream_encoder(Request(model="m", messages=(), stream=True), Receipt())
    try:
        for frame in parser.feed(body):
            grammar += decoder.feed(frame)
        grammar += decoder.close()
    except (UpstreamMalformed, UpstreamTruncated):
        with pytest.raises(GrammarFault, match="without Ended"):
            [*checked(grammar)]
    else:
        [*checked(grammar)]
    for event in grammar:
        encoder.encode(event)


@given(
    st.dictionaries(
        st.sampled_from(["prompt_tokens", "completion_tokens", "total_tokens", "reasoning_tokens", "cached_tokens"]),
        st.none() | st.integers(-2, 40) | st.floats(0, 9) | st.text(max_size=2),
    ),
    st.none()
    | st.dictionaries(st.sampled_from(["cached_tokens", "audio_tokens", "other"]), st.none() | st.integers(-1, 30)),
    st.none() | st.dictionaries(st.sampled_from(["reasoning_tokens", "audio_tokens"]), st.none() | st.integers(0, 30)),
    st.booleans(),
)
def test_the_quick_way_to_read_counts_says_what_the_thorough_one_says(
    totals: dict[str, Any], inputs: dict[str, Any] | None, outputs: dict[str, Any] | None, is_outside: bool
):
    fields = {**totals, "prompt_tokens_details": inputs, "completion_tokens_details": outputs}
    raw = msgspec.Raw(msgspec.json.encode(fields))
    assert read_raw_usage(raw, reasoning_outside_output=is_outside) == read_usage(
        fields, reasoning_outside_output=is_outside
    )
