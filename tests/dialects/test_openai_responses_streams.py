"""Streams of the Responses API beyond the recordings: items that overlap, servers that leave things out, what a client gets."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings

from support import grammar_responses
from support.conversations import responses
from tollhouse.chat import sse
from tollhouse.chat.events import (
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
)
from tollhouse.chat.fold import fold, unfold
from tollhouse.chat.grammar import check
from tollhouse.chat.model import (
    Choice,
    Citation,
    Extra,
    Foreign,
    Image,
    Inline,
    Message,
    Opaque,
    RedactedThinking,
    Refusal,
    Request,
    Response,
    Text,
    Thinking,
    TokenLogprob,
    Tool,
    ToolCall,
)
from tollhouse.chat.receipt import Receipt
from tollhouse.dialects.openai_responses import DIALECT
from tollhouse.dialects.openai_responses.decode_request import ONE_STRING
from tollhouse.dialects.openai_responses.decoder import ResponsesDecoder
from tollhouse.dialects.openai_responses.encoder import ResponsesEncoder, encode_response
from tollhouse.dialects.openai_responses.traits import OPENAI
from tollhouse.errors import GatewayError, StreamFailed, UpstreamMalformed, UpstreamTooLarge, UpstreamTruncated

Json = dict[str, Any]
ASKED = Request(model="m", messages=(Message("user", (Text("hi"),)),), stream=True)
IDENTITY = "ab" * 24
RESPONSE = {"id": "resp_1", "object": "response", "created_at": 5, "model": "m", "status": "in_progress", "output": []}


def event(kind: str, **fields: Any) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), json.dumps({"type": kind, **fields}).encode())


def stream(*events: bytes, end: str = "completed", **response: Any) -> bytes:
    created = event("response.created", response=RESPONSE)
    return created + b"".join(events) + event(f"response.{end}", response={**RESPONSE, "status": end, **response})


def added(index: int, **item: Any) -> bytes:
    return event("response.output_item.added", output_index=index, item=item)


def done(index: int, **item: Any) -> bytes:
    return event("response.output_item.done", output_index=index, item=item)


def delta(kind: str, index: int, text: str, **place: Any) -> bytes:
    return event(f"response.{kind}.delta", output_index=index, delta=text, **place)


def decode(body: bytes) -> list[Event]:
    parser, decoder = sse.Parser(), DIALECT.stream_decoder(OPENAI)
    events = [each for frame in [*parser.feed(body), *parser.close()] for each in decoder.feed(frame)]
    events += decoder.close()
    check(events)
    return events


def parts(body: bytes) -> list[Any]:
    return list(fold(decode(body)).choices[0].parts)


def encode(events: list[Event], request: Request = ASKED, receipt: Receipt | None = None) -> bytes:
    encoder = ResponsesEncoder(request, Receipt() if receipt is None else receipt, IDENTITY)
    return b"".join(encoder.encode(each) for each in events)


def json_raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))


def answer(*said: Any, finish: Any = "stop") -> Response:
    return Response(id="x", model="m", created=5, choices=(Choice(parts=said, finish=finish),))


# ---------------------------------------------------------------------------------------------------- from a provider


def test_calls_that_overlap_come_out_one_after_the_other():
    body = stream(
        added(0, type="function_call", call_id="a", name="f", arguments=""),
        added(1, type="function_call", call_id="b", name="g", arguments=""),
        delta("function_call_arguments", 1, '{"b"'),
        delta("function_call_arguments", 0, '{"a"'),
        delta("function_call_arguments", 1, ":1}"),
        done(1, type="function_call", call_id="b", name="g", arguments='{"b":1}'),
        delta("function_call_arguments", 0, ":1}"),
        done(0, type="function_call", call_id="a", name="f", arguments='{"a":1}'),
    )
    assert parts(body) == [ToolCall("a", "f", '{"a":1}'), ToolCall("b", "g", '{"b":1}')]


def test_reasoning_does_not_make_the_answer_wait():
    head = (
        event("response.created", response=RESPONSE)
        + added(0, type="reasoning", summary=[])
        + delta("reasoning_text", 0, "Hm", content_index=0)
        + added(1, type="message", role="assistant", content=[])
        + delta("output_text", 1, "So", content_index=0)
    )
    parser, decoder = sse.Parser(), DIALECT.stream_decoder(OPENAI)
    events = [each for frame in parser.feed(head) for each in decoder.feed(frame)]
    assert events[-1] == Delta(1, "So")

    rest = delta("reasoning_text", 0, " more", content_index=0) + done(0, type="reasoning", encrypted_content="gA")
    rest += done(1, type="message", role="assistant", content=[]) + event(
        "response.completed", response={**RESPONSE, "status": "completed"}
    )
    events += [each for frame in parser.feed(rest) for each in decoder.feed(frame)]
    check(events)
    sealed = Opaque("gA", "openai")
    assert list(fold(events).choices[0].parts) == [Thinking("Hm"), Text("So"), Thinking(" more", sealed)]


def test_what_is_only_said_when_it_is_done_is_not_lost():
    body = stream(
        added(0, type="reasoning", summary=[]),
        done(0, type="reasoning", summary=[{"type": "summary_text", "text": "Hm"}], encrypted_content="gA"),
        added(1, type="message", role="assistant", content=[]),
        done(1, type="message", role="assistant", content=[{"type": "output_text", "text": "So", "annotations": []}]),
        added(2, type="function_call", call_id="a", name="f", arguments=""),
        done(2, type="function_call", call_id="a", name="f", arguments='{"a":1}'),
        done(3, type="custom_tool_call", call_id="b", name="g", input="text"),
    )
    assert parts(body) == [
        Thinking("Hm", Opaque("gA", "openai")),
        Text("So"),
        ToolCall("a", "f", '{"a":1}'),
        ToolCall("b", "g", "text", custom=True),
    ]


def test_a_server_that_streams_nothing_but_its_end_is_understood():
    output = [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "So"}]}]
    assert parts(stream(output=output)) == [Text("So")]


def test_paragraphs_of_a_summary_are_one_thought():
    body = stream(
        added(0, type="reasoning", summary=[]),
        event("response.reasoning_summary_part.added", output_index=0, summary_index=0, part={}),
        delta("reasoning_summary_text", 0, "One", summary_index=0),
        event("response.reasoning_summary_part.added", output_index=0, summary_index=1, part={}),
        delta("reasoning_summary_text", 0, "Two", summary_index=1),
        done(0, type="reasoning", summary=[]),
    )
    assert parts(body) == [Thinking("One\n\nTwo")]


def test_items_that_never_end_end_with_the_response():
    body = stream(
        added(0, type="message", role="assistant", content=[]),
        delta("output_text", 0, "One", content_index=0),
        added(1, type="function_call", call_id="a", name="f", arguments=""),
        delta("function_call_arguments", 1, "{}"),
    )
    assert parts(body) == [Text("One"), ToolCall("a", "f", "{}")]


def test_log_probabilities_come_with_their_words():
    told = {"token": "So", "logprob": -0.5, "bytes": [83, 111], "top_logprobs": [{"token": "So", "logprob": -0.5}]}
    body = stream(
        added(0, type="message", role="assistant", content=[]),
        delta("output_text", 0, "So", content_index=0, logprobs=[told]),
    )
    (choice,) = fold(decode(body)).choices
    assert choice.logprobs == (TokenLogprob("So", -0.5, (83, 111), (TokenLogprob("So", -0.5),)),)


@pytest.mark.parametrize(
    ("last", "reason"),
    [
        ({"end": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}, "length"),
        ({"end": "incomplete", "incomplete_details": {"reason": "content_filter"}}, "content_filter"),
        ({"end": "incomplete", "incomplete_details": {"reason": "bad_weather"}}, "other"),
        ({"end": "completed"}, "stop"),
    ],
)
def test_the_end_says_why(last: Json, reason: str):
    assert [each.reason for each in decode(stream(**last)) if isinstance(each, Finished)] == [reason]


@pytest.mark.parametrize(
    ("broken", "message", "status"),
    [
        (event("error", code="rate_limit_exceeded", message="Slow down.", param=None), "Slow down.", 429),
        (event("error", error={"code": "server_error", "message": "Oops."}), "Oops.", 500),
        (
            event(
                "response.failed", response={**RESPONSE, "status": "failed", "error": {"code": "x", "message": "No."}}
            ),
            "No.",
            None,
        ),
        (event("response.failed", response={**RESPONSE, "status": "failed", "error": None}), "gave up", None),
    ],
)
def test_an_error_is_not_an_end(broken: bytes, message: str, status: int | None):
    body = event("response.created", response=RESPONSE) + broken
    failed = decode(body)[-1]
    assert isinstance(failed, Failed)
    assert message in failed.message
    assert failed.status == status
    observer = DIALECT.observer(DIALECT.peek(b'{"model":"m","input":"x"}'), OPENAI)
    assert observer.feed(body) == body
    assert isinstance(observer.failure, StreamFailed)
    assert message in observer.failure.message


def test_an_observer_waits_for_the_response_that_failed():
    """Codex reads the error there, and nowhere else."""
    observer = DIALECT.observer(DIALECT.peek(b'{"model":"m","input":"x"}'), OPENAI)
    error = event("error", error={"code": "server_error", "message": "Oops."})
    assert observer.feed(error) == error
    assert not observer.is_final
    failed = event("response.failed", response={**RESPONSE, "status": "failed", "error": {"message": "Oops."}})
    assert observer.feed(failed) == failed
    assert observer.is_final


@pytest.mark.parametrize(
    "body",
    [
        b"data: {nonsense}\n\n",
        b"data: [1]\n\n",
        delta("output_text", 0, "x", content_index=0),
        added(0, type="function_call", call_id="a"),
        added(0, type="message") + added(0, type="message"),
        added(0, type="message") + done(0, type="message", content=[7]),
    ],
)
def test_what_is_not_this_dialect_is_malformed(body: bytes):
    with pytest.raises(UpstreamMalformed):
        decode(body)


def test_a_stream_without_its_end_is_cut():
    with pytest.raises(UpstreamTruncated):
        decode(event("response.created", response=RESPONSE) + added(0, type="message"))


def test_items_that_are_begun_without_end_are_bounded():
    decoder = ResponsesDecoder(home="openai", max_waiting_events=3)
    begun = added(0, type="function_call", call_id="a", name="f") + added(
        1, type="function_call", call_id="b", name="f"
    )
    more = delta("function_call_arguments", 1, "x")
    frames = sse.Parser().feed(begun + 3 * more)
    for frame in frames[:-1]:
        decoder.feed(frame)
    with pytest.raises(UpstreamTooLarge):
        decoder.feed(frames[-1])


# -------------------------------------------------------------------------------------------------------- to a client


@given(responses())
@settings(max_examples=150)
def test_any_answer_keeps_the_grammar_and_is_the_same_whole(response: Response):
    for request in (ASKED, Request(model="m", messages=(), logprobs=True)):
        body = encode(list(unfold(response)), request)
        last = grammar_responses.check(body)
        assert last == json.loads(encode_response(response, request, Receipt(), IDENTITY))
    if all(not isinstance(part, Foreign) for part in response.choices[0].parts):
        again = fold(decode(body)).choices[0]
        kinds = (Thinking, Text, Refusal, ToolCall, RedactedThinking)
        assert [type(part) for part in again.parts if isinstance(part, kinds)] == [
            type(part)
            for part in DIALECT.decode_response(json.dumps(last).encode(), OPENAI).choices[0].parts
            if isinstance(part, kinds)
        ]


def test_texts_that_follow_one_another_are_one_message():
    last = grammar_responses.check(encode(list(unfold(answer(Text("One"), Text("Two"), Refusal("No"))))))
    (item,) = last["output"]
    assert [part["type"] for part in item["content"]] == ["output_text", "output_text", "refusal"]


def test_a_message_keeps_its_phase():
    phases = [Extra("openai_responses", {"phase": json_raw(phase)}) for phase in ("commentary", "final_answer")]
    last = grammar_responses.check(encode(list(unfold(answer(*(Text("x", extra=phase) for phase in phases))))))
    assert [item["phase"] for item in last["output"]] == ["commentary", "final_answer"]


def test_a_call_without_arguments_has_an_empty_object_unless_a_limit_cut_it():
    call = ToolCall("a", "f", "")
    (item,) = grammar_responses.check(encode(list(unfold(answer(call, finish="tool_calls")))))["output"]
    assert (item["arguments"], item["status"]) == ("{}", "completed")
    (item,) = grammar_responses.check(encode(list(unfold(answer(call, finish="length")))))["output"]
    assert (item["arguments"], item["status"]) == ("", "incomplete")


def test_a_free_form_call_that_came_as_json_is_text_again():
    tools = (Tool(name="edit", schema=ONE_STRING, custom=True),)
    request = Request(model="m", messages=(), tools=tools)
    for arguments, text in (
        ('{"input":"a\\nb"}', "a\nb"),
        ("no json", "no json"),
        ('{"other":1}', '{"other":1}'),
        ("", ""),
    ):
        said = answer(ToolCall("a", "edit", arguments), finish="tool_calls")
        (item,) = grammar_responses.check(encode(list(unfold(said)), request))["output"]
        assert (item["type"], item["input"]) == ("custom_tool_call", text)


def test_citations_become_annotations_of_their_text():
    cited = Text("According to it.", citations=(Citation(url="https://a.example", title="A"), Citation(quote="q")))
    receipt = Receipt()
    (item,) = grammar_responses.check(encode(list(unfold(answer(cited))), receipt=receipt))["output"]
    (annotation,) = item["content"][0]["annotations"]
    assert annotation == {
        "type": "url_citation",
        "url": "https://a.example",
        "title": "A",
        "start_index": 0,
        "end_index": 16,
    }
    assert "annotations" in receipt.header()


def test_each_delta_carries_the_log_probabilities_of_its_own_tokens():
    request = Request(model="m", messages=(), logprobs=True)
    events: list[Event] = [Started(id="x", model="m", created=1), PartOpened(0, Text(""))]
    for word in ("One", " two"):
        events += [Delta(0, word), LogprobsReported((TokenLogprob(word, -0.5),))]
    events += [PartClosed(0), Finished("stop"), Ended()]
    body = encode(events, request)
    last = grammar_responses.check(body)
    told = [
        (each["delta"], [token["token"] for token in each["logprobs"]])
        for each in grammar_responses.events(body)
        if each["type"] == "response.output_text.delta"
    ]
    assert told == [("One", ["One"]), (" two", [" two"])]
    assert [token["token"] for token in last["output"][0]["content"][0]["logprobs"]] == ["One", " two"]


def test_what_a_response_cannot_hold_is_named():
    receipt = Receipt()
    said = answer(Image(Inline("image/png", "aaaa")), Foreign("anthropic", "server_tool_use", json_raw({})))
    other = Choice(index=1, parts=(Text("x"),), finish="stop")
    response = Response(id="x", model="m", choices=(*said.choices, other))
    grammar_responses.check(encode(list(unfold(response)), receipt=receipt))
    assert "image" in receipt.header()
    assert "server_tool_use" in receipt.header()
    assert "choices[1:]" in receipt.header()


def test_a_refusal_without_words_is_filtered_content():
    last = grammar_responses.check(encode(list(unfold(answer(Text("I"), finish="refusal")))))
    assert last["incomplete_details"] == {"reason": "content_filter"}
    last = grammar_responses.check(encode(list(unfold(answer(Refusal("No."), finish="refusal")))))
    assert last["status"] == "completed"


def test_an_answer_that_its_provider_gave_up_is_an_error():
    with pytest.raises(StreamFailed):
        encode_response(answer(Text("x"), finish="error"), ASKED, Receipt(), IDENTITY)
    grammar_responses.check(encode(list(unfold(answer(Text("x"), finish="error")))), fails=True)


@pytest.mark.parametrize("so_far", [0, 1, 2, 3])
def test_an_error_ends_a_stream_wherever_it_comes(so_far: int):
    begun: list[Event] = [Started(id="x", model="m"), PartOpened(0, Text("")), Delta(0, "x")]
    body = encode([*begun[:so_far], Failed(message="Oops.", provider_code="server_error", status=500)])
    last = grammar_responses.check(body, fails=True)
    assert last["error"] == {"code": "server_error", "message": "Oops."}


def test_an_error_outside_the_encoder_has_both_events():
    body = DIALECT.encode_stream_error(GatewayError("Oops."), "req_1")
    error, failed = grammar_responses.events(body)
    assert error["error"]["message"].startswith("Oops.")
    assert failed["response"]["status"] == "failed"
    assert failed["response"]["error"]["message"] == error["error"]["message"]


def test_a_sign_of_life_is_a_comment():
    encoder = DIALECT.stream_encoder(ASKED, Receipt())
    assert encoder.ping() == encoder.encode(Pinged()) == b": ping\n\n"


def test_each_answer_has_an_id_of_its_own():
    said = list(unfold(answer(Text("x"), ToolCall("a", "f", "{}"))))
    ids = set()
    for _ in range(3):
        encoder = DIALECT.stream_encoder(ASKED, Receipt())
        last = grammar_responses.check(b"".join(encoder.encode(each) for each in said))
        ids |= {last["id"], *(item["id"] for item in last["output"])}
    assert len(ids) == 9
