"""Gemini's streams as they are watched, decoded and written, where they are not as they should be; and errors in its shape."""

import json
from typing import Any

import msgspec
import pytest

from support.grammar_gemini import check_error, check_stream
from support.recordings import cuts, load
from tollhouse.chat import sse
from tollhouse.chat.events import (
    Cited,
    Delta,
    Ended,
    Event,
    Failed,
    Finished,
    LogprobsReported,
    PartClosed,
    PartOpened,
    Pinged,
    Started,
    UsageReported,
)
from tollhouse.chat.fold import fold
from tollhouse.chat.grammar import check
from tollhouse.chat.model import Citation, Image, Inline, Message, Opaque, Request, Text, TokenLogprob, ToolCall
from tollhouse.chat.receipt import Receipt
from tollhouse.chat.usage import Usage
from tollhouse.dialects.dialect import Observer
from tollhouse.dialects.gemini import DIALECT, GeminiTraits
from tollhouse.dialects.gemini.array import ArrayFraming
from tollhouse.dialects.gemini.wire import MAX_CHUNK_BYTES
from tollhouse.errors import (
    BadRequest,
    BudgetExceeded,
    ModelNotFound,
    Overloaded,
    ProviderRefused,
    RateLimited,
    StreamFailed,
    TollhouseError,
    Unauthenticated,
    UpstreamMalformed,
    UpstreamTooLarge,
    UpstreamTruncated,
)

TRAITS = GeminiTraits()
REQUEST = Request(model="m", messages=(Message("user", (Text("hi"),)),))


def event(end: bytes = b"\r\n\r\n", **fields: Any) -> bytes:
    return b"data: " + json.dumps(fields).encode() + end


def text(words: str, index: int = 0, **fields: Any) -> dict[str, Any]:
    return {"content": {"parts": [{"text": words}], "role": "model"}, "index": index, **fields}


def usage(prompt: int, output: int) -> dict[str, int]:
    return {"promptTokenCount": prompt, "candidatesTokenCount": output, "totalTokenCount": prompt + output}


HEL = event(candidates=[text("Hel")], usageMetadata=usage(5, 1), responseId="r", modelVersion="m")
LO = event(candidates=[text("lo", finishReason="STOP")], usageMetadata=usage(5, 2), responseId="r", modelVersion="m")
ERROR = event(error={"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"})


def observer() -> Observer:
    return DIALECT.observer(DIALECT.peek(b'{"contents":[]}'), TRAITS)


def events(body: bytes) -> list[Event]:
    decoder, parser = DIALECT.stream_decoder(TRAITS), sse.Parser(max_event_bytes=MAX_CHUNK_BYTES)
    found = [e for frame in [*parser.feed(body), *parser.close()] for e in decoder.feed(frame)]
    found += decoder.close()
    check(found)
    return found


# ---------------------------------------------------------------------------------------------------------- watching


def test_a_cut_stream_is_an_error_not_an_end():
    watch = observer()
    assert watch.feed(HEL) == HEL
    with pytest.raises(UpstreamTruncated):
        watch.close()
    assert watch.usage() == Usage(input_tokens=5, output_tokens=1, source="rebuilt")
    with pytest.raises(UpstreamTruncated):
        events(HEL)


def test_what_comes_after_a_finish_reason_is_not_left_out_unsaid():
    """It may repeat itself, empty, but not go on: the client would be given the beginning for the whole."""
    assert events(LO + event(candidates=[text("", finishReason="STOP")])) == events(LO)
    for more in (text("more"), {"content": {"parts": [{"functionCall": {"name": "f"}}]}}):
        with pytest.raises(UpstreamMalformed):
            events(LO + event(candidates=[more]))


def test_the_end_is_held_back_with_what_follows_it():
    watch = observer()
    late = event(usageMetadata=usage(5, 3))
    assert watch.feed(HEL + LO) == HEL
    assert watch.feed(late) == b""
    assert watch.close() == LO + late
    assert watch.usage() == Usage(input_tokens=5, output_tokens=3, source="reported")
    assert watch.finish == "stop"


def test_a_candidate_that_goes_on_lets_the_others_end_go():
    first = event(candidates=[text("a", finishReason="MAX_TOKENS"), text("b", 1)])
    last = event(candidates=[text("c", 1, finishReason="STOP")])
    watch = observer()
    assert watch.feed(first) == first
    assert watch.feed(last) == b""
    assert watch.close() == last
    assert watch.finish == "length"
    watch = observer()
    assert watch.feed(first) == first
    with pytest.raises(UpstreamTruncated):
        watch.close()


def test_an_error_event_is_passed_on_and_ends_it():
    watch = observer()
    assert watch.feed(HEL + ERROR + b"data: x\n\n") == HEL + ERROR
    assert isinstance(watch.failure, StreamFailed)
    assert (watch.failure.status, watch.failure.kind) == (503, "UNAVAILABLE")
    assert watch.is_final
    assert watch.close() == b""
    failed = events(HEL + ERROR)[-1]
    assert failed == Failed(message="The model is overloaded.", kind="UNAVAILABLE", status=503)


def test_a_last_event_counts_without_its_blank_line():
    watch = observer()
    assert watch.feed(HEL + LO.rstrip()) == HEL
    assert watch.close() == LO
    watch = observer()
    watch.feed(HEL)
    watch.feed(ERROR.rstrip())
    assert watch.close() == ERROR
    assert watch.failure is not None


@pytest.mark.parametrize("end", [b"\r\n\r\n", b"\n\n", b"\r\r", b"\n\r\n"])
def test_other_line_ends_comments_and_names_are_read(end: bytes):
    body = (
        b": hello"
        + end
        + b"event: message\n"
        + event(end, candidates=[text("a")])
        + event(end, candidates=[text("b", finishReason=1)], usageMetadata=usage(1, 2))
        + b"data: [DONE]"
        + end
    )
    for reads in cuts(body, seed=5):
        watch = observer()
        out = b"".join(watch.feed(read) for read in reads)
        assert out + watch.close() == body
        assert watch.usage() == Usage(input_tokens=1, output_tokens=2, source="reported")
    assert fold(events(body)).choices[0].parts == (Text("ab"),)


def test_garbage_and_too_large_events_are_refused():
    for body in (
        b"data: {\n\n",
        b"data: \xff\n\n",
        b'data: {"candidates":{}}\n\n',
        b"data: " + b"[" * 100_000 + b"\n\n",
    ):
        with pytest.raises(UpstreamMalformed):
            observer().feed(body)
        with pytest.raises(UpstreamMalformed):
            events(body)
    watch = observer()
    watch.feed(b"data: " + b"x" * (MAX_CHUNK_BYTES - 10))
    with pytest.raises(UpstreamTooLarge):
        watch.feed(b"x" * 10)


def test_a_picture_in_hundreds_of_reads_is_one_event():
    data = "iVBORw0KGgo=" * 500_000
    picture = event(
        candidates=[{"content": {"parts": [{"inlineData": {"mimeType": "image/png", "data": data}}]}, "index": 0}]
    )
    body = HEL + picture + LO
    watch = observer()
    out = [watch.feed(body[at : at + 16_384]) for at in range(0, len(body), 16_384)]
    assert [len(piece) for piece in out if piece] == [len(HEL), len(picture)]
    assert b"".join([*out, watch.close()]) == body
    part = fold(events(body)).choices[0].parts[1]
    assert isinstance(part, Image)
    assert part.source == Inline("image/png", data)


def test_a_blocked_prompt_is_a_whole_answer():
    body = event(promptFeedback={"blockReason": "SAFETY"}, usageMetadata={"promptTokenCount": 7, "totalTokenCount": 7})
    watch = observer()
    assert watch.feed(body) == b""
    assert watch.close() == body
    assert (watch.finish, watch.usage().output_tokens) == ("content_filter", 0)
    response = fold(events(body))
    assert (response.choices[0].finish, response.choices[0].finish_detail) == ("content_filter", "prompt:SAFETY")
    encoder = DIALECT.stream_encoder(REQUEST, Receipt())
    told = check_stream(b"".join(encoder.encode(e) for e in events(body)))
    assert told[-1]["promptFeedback"] == {"blockReason": "SAFETY"}


# ---------------------------------------------------------------------------------------------------------- decoding


def test_pieces_of_one_kind_are_one_part_and_a_signature_ends_it():
    def piece(**part: Any) -> bytes:
        return event(candidates=[{"content": {"parts": [part]}}], responseId="r", modelVersion="m")

    body = (
        piece(text="I th", thought=True)
        + piece(text="ink", thought=True)
        + piece(text="so")
        + piece(text="", thoughtSignature="c2ln")
        + piece(text="more")
        + piece(executableCode={"language": "PYTHON", "code": "1"})
        + piece(functionCall={"name": "f", "args": {"a": 1}}, thoughtSignature="Y2Fs")
        + piece(functionCall={"name": "f"})
        + event(candidates=[{"finishReason": "STOP"}])
    )
    parts = fold(events(body)).choices[0].parts
    assert [type(part).__name__ for part in parts] == ["Thinking", "Text", "Text", "Foreign", "ToolCall", "ToolCall"]
    assert parts[1] == Text("so", signature=Opaque("c2ln", "google"))
    call, other = parts[4], parts[5]
    assert isinstance(call, ToolCall)
    assert isinstance(other, ToolCall)
    assert (call.id, call.arguments, call.signature) == ("call_r_0_0", '{"a": 1}', Opaque("Y2Fs", "google"))
    assert (other.id, other.arguments, other.signature) == ("call_r_0_1", "", None)


def test_arguments_in_pieces_are_put_in_their_places():
    def call(**fields: Any) -> bytes:
        return event(candidates=[{"content": {"parts": [{"functionCall": fields}]}}])

    body = (
        call(name="f", willContinue=True)
        + call(partialArgs=[{"jsonPath": "$.a.b[1]", "stringValue": "x", "willContinue": True}], willContinue=True)
        + call(
            partialArgs=[{"jsonPath": "$.n", "numberValue": 3}, {"jsonPath": "$.a.b[1]", "stringValue": "y"}],
            willContinue=True,
        )
        + call(
            partialArgs=[
                {"jsonPath": "$['odd.key']", "boolValue": False},
                {"jsonPath": "$.z", "nullValue": "NULL_VALUE"},
            ]
        )
        + event(candidates=[{"finishReason": "STOP"}])
    )
    part = fold(events(body)).choices[0].parts[0]
    assert isinstance(part, ToolCall)
    assert json.loads(part.arguments) == {"a": {"b": [None, "xy"]}, "n": 3, "odd.key": False, "z": None}


def test_hostile_pieces_of_arguments_are_left_out():
    pieces = [
        {"jsonPath": "$.a[999999]", "stringValue": "x"},
        {"jsonPath": "$", "stringValue": "x"},
        {"jsonPath": "$.b", "stringValue": "x"},
        {"jsonPath": "$.b.c", "stringValue": "x"},
        {"jsonPath": "$.b[0]", "stringValue": "x"},
    ]
    body = event(
        candidates=[
            {"content": {"parts": [{"functionCall": {"name": "f", "partialArgs": pieces}}]}, "finishReason": "STOP"}
        ]
    )
    part = fold(events(body)).choices[0].parts[0]
    assert isinstance(part, ToolCall)
    assert json.loads(part.arguments) == {"b": "x"}


def test_grounding_becomes_citations_of_the_text_and_back():
    response = fold(events(load("gemini/gemini-generate-stream-text-8bd6e8").response.body))
    part = response.choices[0].parts[-1]
    assert isinstance(part, Text)
    assert [part.text[c.start : c.end] for c in part.citations] == [
        "The capital of France is Paris",
        "The city is well-known for its famous landmarks, including the Eiffel Tower",
    ]
    assert part.citations[0].quote == "Paris is the capital of France. The Eiffel Tower is a famous landmark in Paris."
    body = DIALECT.encode_response(msgspec.structs.replace(response, extra=None), REQUEST, Receipt())
    again = DIALECT.decode_response(body, TRAITS).choices[0].parts[-1]
    assert again == part


@pytest.mark.parametrize(
    ("word", "finish"),
    [
        ("RECITATION", "content_filter"),
        ("PROHIBITED_CONTENT", "content_filter"),
        ("MALFORMED_FUNCTION_CALL", "error"),
        ("LANGUAGE", "other"),
        ("SOMETHING_NEW", "other"),
        (8, "content_filter"),
        (77, "other"),
    ],
)
def test_reasons_that_no_recording_has(word: str | int, finish: str):
    body = json.dumps({"candidates": [{"content": {}, "finishReason": word}], "modelVersion": "m"}).encode()
    response = DIALECT.decode_response(body, TRAITS)
    assert response.choices[0].finish == finish
    assert DIALECT.glance(body, TRAITS).finish == finish
    # Google's own words come back to Google's own clients.
    again = json.loads(DIALECT.encode_response(response, REQUEST, Receipt()))["candidates"][0]["finishReason"]
    assert again == {8: "PROHIBITED_CONTENT", 77: "OTHER", "SOMETHING_NEW": "OTHER"}.get(word, word)


# ----------------------------------------------------------------------------------------------------------- writing


def written(*told: Event, receipt: Receipt | None = None) -> bytes:
    encoder = DIALECT.stream_encoder(REQUEST, Receipt() if receipt is None else receipt)
    assert encoder.ping() == b""
    return b"".join(encoder.encode(e) for e in told)


def test_nothing_keeps_a_stream_open_that_clients_would_stumble_over():
    body = written(
        Started(id="r", model="m"),
        Pinged(),
        PartOpened(0, Text("")),
        Pinged(),
        Delta(0, "a"),
        PartClosed(0),
        Finished("stop"),
        Ended(),
    )
    assert body.count(b"\r\n\r\n") == 2
    assert [c["candidates"][0]["content"]["parts"] for c in check_stream(body)] == [[{"text": "a"}], [{"text": ""}]]


def test_calls_come_whole_and_citations_and_logprobs_at_the_end():
    receipt = Receipt()
    body = written(
        Started(id="r", model="m"),
        PartOpened(0, Text("See ")),
        Delta(0, "Paris"),
        Cited(0, Citation(url="https://x.example", title="X", start=4, end=9)),
        PartClosed(0),
        LogprobsReported((TokenLogprob("Paris", -0.5, top=(TokenLogprob("Oslo", -2.0),)),)),
        PartOpened(1, ToolCall("c1", "f", "")),
        Delta(1, '{"a"'),
        Delta(1, ": 1}"),
        PartClosed(1),
        PartOpened(2, ToolCall("c2", "g", "")),
        Delta(2, '{"cut'),
        PartClosed(2),
        Finished("length"),
        UsageReported(
            Usage(input_tokens=9, output_tokens=4, reasoning_tokens=1, cache_read_tokens=3, source="reported")
        ),
        Ended(),
        receipt=receipt,
    )
    told = check_stream(body)
    calls = [p["functionCall"] for c in told for p in c["candidates"][0]["content"]["parts"] if "functionCall" in p]
    assert calls == [{"id": "c1", "name": "f", "args": {"a": 1}}, {"id": "c2", "name": "g", "args": {"_raw": '{"cut'}}]
    last = told[-1]["candidates"][0]
    assert last["finishReason"] == "MAX_TOKENS"
    assert last["groundingMetadata"]["groundingSupports"][0]["segment"] == {
        "startIndex": 4,
        "endIndex": 9,
        "text": "Paris",
    }
    assert last["logprobsResult"]["topCandidates"][0]["candidates"][0]["token"] == "Oslo"
    assert told[-1]["usageMetadata"] == {
        "promptTokenCount": 9,
        "cachedContentTokenCount": 3,
        "candidatesTokenCount": 3,
        "thoughtsTokenCount": 1,
        "totalTokenCount": 13,
    }
    assert len(receipt.entries) == 1


def test_a_provider_that_gave_up_is_an_error_not_a_finish():
    body = written(Started(id="r", model="m"), PartOpened(0, Text("a")), PartClosed(0), Finished("error"), Ended())
    assert "error" in check_stream(body)[-1]
    with pytest.raises(StreamFailed):
        DIALECT.encode_response(fold(_gave_up()), REQUEST, Receipt())


def _gave_up() -> list[Event]:
    return [Started(id="r", model="m"), PartOpened(0, Text("a")), PartClosed(0), Finished("error"), Ended()]


def test_an_array_is_closed_whatever_comes():
    framing = ArrayFraming()
    assert framing.close() == b"[]\r\n"
    framing = ArrayFraming()
    assert json.loads(framing.feed(HEL) + framing.feed(ERROR) + framing.close())[1]["error"]["code"] == 503


# ------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("error", "code", "status"),
    [
        (BadRequest("Wrong.", param="contents[0]"), 400, "INVALID_ARGUMENT"),
        (Unauthenticated("Who?"), 401, "UNAUTHENTICATED"),
        (ModelNotFound("x"), 404, "NOT_FOUND"),
        (RateLimited("Slow down.", retry_after_seconds=1.5), 429, "RESOURCE_EXHAUSTED"),
        (
            BudgetExceeded(budget="b", spent_nano=1, limit_nano=1, resets_in_seconds=60.0),
            402,
            "RESOURCE_EXHAUSTED",
        ),
        (Overloaded("Full."), 503, "UNAVAILABLE"),
        (UpstreamTruncated("Cut."), 502, "UNAVAILABLE"),
        (StreamFailed("Gone.", status=529), 529, "UNAVAILABLE"),
        (ProviderRefused("No.", status=418), 418, "INVALID_ARGUMENT"),
    ],
)
def test_errors_have_googles_shape(error: TollhouseError, code: int, status: str):
    body = json.loads(DIALECT.encode_error(error, "req_1"))
    check_error(body)
    said = body["error"]
    assert (said["code"], said["status"], said["message"]) == (code, status, str(error))
    assert said["details"][0]["reason"] == error.code.upper()
    waits = [detail["retryDelay"] for detail in said["details"] if detail["@type"].endswith("RetryInfo")]
    assert waits == {429: ["1.500s"], 402: ["60.000s"]}.get(code, [])
    in_a_stream = DIALECT.encode_stream_error(error, "req_1")
    check_stream(in_a_stream)
    # Gemini CLI knows no other form of a failure than a bare line.
    assert in_a_stream.startswith(DIALECT.encode_error(error, "req_1") + b"\r\n")


@pytest.mark.parametrize(
    ("body", "message", "kind", "code"),
    [
        (b"", "The provider answered with status 400 and no explanation.", None, None),
        (b"<html><title>Bad</title>", "The provider answered with status 400 and a web page: Bad.", None, None),
        (b'[{"error":{"message":"a","status":"INVALID_ARGUMENT"}}]', "a", "INVALID_ARGUMENT", None),
        (b'{"error":{"message":"b","details":[{"reason":"API_KEY_INVALID"}]}}', "b", None, "API_KEY_INVALID"),
        (b'{"error":"plain"}', "plain", None, None),
        (b"no key AIzaSyA1234567890abc here", "no key AIza*** here", None, None),
        (b'{"error":{"code":400}}', "The provider answered with status 400 and no explanation.", None, None),
    ],
)
def test_a_providers_errors_are_read_in_any_shape(body: bytes, message: str, kind: str | None, code: str | None):
    error = DIALECT.decode_error(400, body)
    assert (error.message, error.kind, error.provider_code) == (message, kind, code)


def test_an_error_in_a_200_body_is_one():
    body = b'{"error":{"code":429,"message":"Slow down.","status":"RESOURCE_EXHAUSTED"}}'
    glance = DIALECT.glance(body, TRAITS)
    assert isinstance(glance.error, StreamFailed)
    assert glance.error.http_status == 429
    with pytest.raises(StreamFailed):
        DIALECT.decode_response(body, TRAITS)
    for other in (b"{}", b"[]", b"<html>", b'{"choices":[]}'):
        with pytest.raises(UpstreamMalformed):
            DIALECT.glance(other, TRAITS)
        with pytest.raises(UpstreamMalformed):
            DIALECT.decode_response(other, TRAITS)
