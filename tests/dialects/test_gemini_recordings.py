"""Every recorded exchange with Gemini: what is read, and what is written of it again, keep what was said."""

from typing import Any

import msgspec
import pytest

from support.grammar_gemini import check_answer, check_error, check_stream
from support.recordings import Recording, by_id, cuts, load, recordings
from tollhouse.chat.fold import fold, unfold
from tollhouse.chat.grammar import checked
from tollhouse.chat.model import Message, Part, Request, Response, Text, Thinking, ToolCall
from tollhouse.chat.receipt import Receipt
from tollhouse.chat.usage import Usage
from tollhouse.dialects.gemini import DIALECT, GeminiTraits
from tollhouse.dialects.gemini.array import ArrayFraming
from tollhouse.dialects.gemini.count import decode_count, encode_count

TRAITS = GeminiTraits()
REQUEST = Request(model="m", messages=(Message("user", (Text("hi"),)),))
STREAMS = recordings("gemini", stream=True, error=False)
ARRAY = load("gemini/gemini-generate-stream-text-21b513")
WHOLE = [r for r in recordings("gemini", stream=False, error=False) if r is not ARRAY]
ASKED = [r for r in recordings("gemini") if r.request.body is not None]


def decoded(body: bytes, frames: list[Any]) -> Response:
    decoder = DIALECT.stream_decoder(TRAITS)
    events = [event for frame in frames for event in decoder.feed(frame)]
    return fold(checked([*events, *decoder.close()]))


def arithmetic(metadata: dict[str, Any]) -> tuple[int, int]:
    """Input and output by Google's own words."""
    prompt = metadata.get("promptTokenCount", 0) + metadata.get("toolUsePromptTokenCount", 0)
    return prompt, metadata["totalTokenCount"] - prompt


@pytest.mark.parametrize("recording", STREAMS, ids=by_id)
def test_a_stream_keeps_the_grammar_and_adds_up(recording: Recording):
    response = decoded(recording.response.body, recording.frames())
    last = msgspec.json.decode(recording.frames()[-1].data)["usageMetadata"]
    usage = response.usage
    assert (usage.input_tokens, usage.output_tokens) == arithmetic(last)
    assert usage.reasoning_tokens == last.get("thoughtsTokenCount")
    assert usage.source == "reported"


@pytest.mark.parametrize("recording", STREAMS, ids=by_id)
def test_a_stream_written_again_says_the_same(recording: Recording):
    before = decoded(recording.response.body, recording.frames())
    encoder = DIALECT.stream_encoder(REQUEST, Receipt())
    body = b"".join(encoder.encode(event) for event in unfold(before))
    check_stream(body)
    after = decoded(body, list(_frames(body)))
    assert said(after) == said(before)
    assert after.usage == before.usage
    assert (after.id, after.model) == (before.id, before.model)


@pytest.mark.parametrize("recording", STREAMS, ids=by_id)
@pytest.mark.parametrize("seed", [1, 2])
def test_an_observed_stream_stays_byte_for_byte(recording: Recording, seed: int):
    expected = decoded(recording.response.body, recording.frames())
    for reads in [recording.reads(), *cuts(recording.response.body, seed=seed, ways=3)]:
        observer = DIALECT.observer(DIALECT.peek(b'{"contents":[]}'), TRAITS)
        out = [observer.feed(read) for read in reads]
        last = observer.close()
        # What says that the answer is finished leaves only once the call is settled.
        assert b'"finishReason"' in last
        assert b'"finishReason"' not in b"".join(out)
        assert b"".join([*out, last]) == recording.response.body
        assert observer.usage() == expected.usage
        assert observer.finish == expected.choices[0].finish
        assert observer.has_content


@pytest.mark.parametrize("recording", WHOLE, ids=by_id)
def test_a_whole_answer_written_again_says_the_same(recording: Recording):
    before = DIALECT.decode_response(recording.response.body, TRAITS)
    body = DIALECT.encode_response(before, REQUEST, Receipt())
    check_answer(body)
    after = DIALECT.decode_response(body, TRAITS)
    assert said(after) == said(before)
    assert after.usage == before.usage
    assert (after.id, after.model, after.created) == (before.id, before.model, before.created)
    assert _plain(after.extra) == _plain(before.extra)
    assert [_plain(choice.extra) for choice in after.choices] == [_plain(choice.extra) for choice in before.choices]


@pytest.mark.parametrize("recording", WHOLE, ids=by_id)
def test_a_glance_sees_what_a_whole_reading_sees(recording: Recording):
    response = DIALECT.decode_response(recording.response.body, TRAITS)
    glance = DIALECT.glance(recording.response.body, TRAITS)
    assert (glance.usage, glance.finish, glance.error) == (response.usage, response.choices[0].finish, None)
    if "totalTokenCount" in recording.json["usageMetadata"]:
        usage = response.usage
        assert (usage.input_tokens, usage.output_tokens) == arithmetic(recording.json["usageMetadata"])
    else:
        assert response.usage == Usage()


@pytest.mark.parametrize("recording", ASKED, ids=by_id)
def test_a_request_written_again_asks_the_same(recording: Recording):
    body = recording.request.body or b""
    before = DIALECT.decode_request(body)
    # Told in tokens, as the recorded clients did; how levels are told is another test's.
    traits = GeminiTraits(thinking="budget", max_budget=32_768, wants_signatures=False)
    receipt = Receipt()
    after = DIALECT.decode_request(DIALECT.encode_request(before, traits, receipt))
    assert receipt.entries == ()
    assert _request(after) == _request(before)
    assert _plain(after.extra) == _plain(before.extra)


@pytest.mark.parametrize("recording", recordings("gemini", error=True), ids=by_id)
def test_an_error_is_read_with_googles_words(recording: Recording):
    error = DIALECT.decode_error(recording.response.status, recording.response.body)
    said = recording.json["error"]
    assert error.status == said["code"]
    assert error.kind == said["status"]
    assert error.message == " ".join(said["message"].split())
    check_error(msgspec.json.decode(DIALECT.encode_error(error, "req_1")))


def test_a_stream_becomes_the_array_that_google_sends():
    """The recorded array as events, framed again, is the same array."""
    expected = msgspec.json.decode(ARRAY.response.body)
    body = b"".join(b"data: " + msgspec.json.encode(chunk) + b"\r\n\r\n" for chunk in expected)
    for reads in cuts(body, seed=3):
        framing = ArrayFraming()
        out = b"".join([*(framing.feed(read) for read in reads), framing.close()])
        assert msgspec.json.decode(out) == expected
    response = decoded(body, list(_frames(body)))
    assert response.choices[0].parts == (Text("Your name is Alice.\n"),)
    assert response.choices[0].finish == "stop"  # said as the number 1
    assert (response.usage.input_tokens, response.usage.output_tokens) == (17, 6)


def test_arguments_that_stream_in_pieces_come_together():
    response = decoded(b"", load("gemini/gemini-generate-stream-parallel-tool-calls-c2fc21").frames())
    calls = [part for part in response.choices[0].parts if isinstance(part, ToolCall)]
    assert [(call.name, call.arguments) for call in calls] == [
        ("read_theme", ""),
        ("read_screen", '{"id":"A"}'),
        ("read_screen", '{"id":"B"}'),
        ("read_screen", '{"id":"C"}'),
    ]
    assert len({call.id for call in calls}) == 4
    assert [call.signature is not None for call in calls] == [True, False, False, False]


def test_thoughts_and_text_of_two_candidates_stay_apart():
    response = DIALECT.decode_response(load("gemini/gemini-generate-json-reasoning-a15489").response.body, TRAITS)
    assert [[type(part) for part in choice.parts] for choice in response.choices] == [
        [Thinking, Text, Thinking, Text],
        [Thinking, Text],
    ]
    assert response.usage.output_tokens == response.usage.reasoning_tokens == 84


def test_a_count_is_read_and_written():
    recording = load("gemini/gemini-count-tokens-json-misc-682bbe")
    assert decode_count(recording.response.body) == 7
    assert decode_count(encode_count(7)) == 7


def test_a_model_list_is_read_without_the_collections_name():
    names = DIALECT.decode_models(load("gemini/gemini-models-63babe").response.body)
    assert names[:2] == ("gemini-2.5-flash", "gemini-2.5-pro")
    assert not any(name.startswith("models/") for name in names)


def said(response: Response) -> list[Any]:
    """What clients see; no arguments and an empty object mean the same."""
    return [
        (choice.index, choice.finish, choice.finish_detail, [_part(part) for part in choice.parts], choice.logprobs)
        for choice in response.choices
    ]


def _part(part: Part) -> Part:
    return msgspec.structs.replace(part, arguments=part.arguments or "{}") if isinstance(part, ToolCall) else part


def _plain(extra: Any) -> Any:
    return None if extra is None else {name: msgspec.json.decode(raw) for name, raw in extra.fields.items()}


def _request(request: Request) -> Request:
    """A request but for the model, which only some clients repeat, and what only Gemini knows."""
    return msgspec.structs.replace(request, model="", extra=None)


def _frames(body: bytes) -> list[Any]:
    from tollhouse.chat import sse

    parser = sse.Parser()
    return [*parser.feed(body), *parser.close()]
