"""Anthropic streams: a provider's frames to events, and events to a client's frames."""

import json
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings

from support.anthropic_sdk import read_stream
from support.conversations import responses
from support.recordings import Recording, by_id, cuts, recordings
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
    Signed,
    Started,
    UsageReported,
)
from tollhouse.chat.fold import fold, unfold
from tollhouse.chat.grammar import check
from tollhouse.chat.model import (
    Citation,
    Foreign,
    Image,
    Message,
    Opaque,
    Part,
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
from tollhouse.chat.opaque import seal
from tollhouse.chat.receipt import Receipt
from tollhouse.chat.usage import Usage
from tollhouse.dialects.anthropic import DIALECT, AnthropicTraits
from tollhouse.dialects.anthropic.wire import sse as one_event
from tollhouse.errors import StreamFailed, UpstreamMalformed, UpstreamTruncated

TRAITS = AnthropicTraits()
STREAMS = recordings("anthropic-messages", stream=True)
REQUEST = Request(model="asked", messages=(Message("user", (Text("hi"),)),), stream=True)


def decode(body: bytes, reads: Iterable[bytes] | None = None) -> list[Event]:
    """All events of a stream, `close` included."""
    parser, decoder = sse.Parser(), DIALECT.stream_decoder(TRAITS)
    events: list[Event] = []
    for read in reads or [body]:
        for frame in parser.feed(read):
            events += decoder.feed(frame)
    for frame in parser.close():
        events += decoder.feed(frame)
    events += decoder.close()
    return events


def encode(events: Iterable[Event]) -> tuple[bytes, str]:
    """The client's bytes, and what the receipt says."""
    receipt = Receipt()
    encoder = DIALECT.stream_encoder(REQUEST, receipt)
    return b"".join(encoder.encode(event) for event in events), "; ".join(receipt.entries)


def frames(body: bytes) -> list[dict[str, Any]]:
    out = []
    for frame in sse.Parser().feed(body):
        data = json.loads(frame.data)
        assert frame.event.decode() == data["type"]
        out.append(data)
    return out


def wire(*events: dict[str, Any]) -> bytes:
    return b"".join(b"event: %b\ndata: %b\n\n" % (e["type"].encode(), json.dumps(e).encode()) for e in events)


START = {
    "type": "message_start",
    "message": {"id": "msg_1", "model": "claude", "usage": {"input_tokens": 3, "output_tokens": 1}},
}
FINISH = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 9}}
STOP = {"type": "message_stop"}


def block(part: dict[str, Any], *deltas: dict[str, Any], index: int = 0) -> list[dict[str, Any]]:
    return [
        {"type": "content_block_start", "index": index, "content_block": part},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


def streamed(*parts: Part, finish: Finished | None = None) -> list[Event]:
    """The events of an answer with those parts."""
    response = fold([Started(id="m", model="x"), Finished("stop"), Ended()])
    choice = msgspec.structs.replace(response.choices[0], parts=parts)
    events = list(unfold(msgspec.structs.replace(response, choices=(choice,))))
    return [finish if finish and isinstance(event, Finished) else event for event in events]


# ------------------------------------------------------------------------------------------------------------ decoding


@pytest.mark.parametrize("recording", STREAMS, ids=by_id)
def test_recorded_streams_keep_the_grammar_however_the_network_cuts_them(recording: Recording):
    body = recording.response.body
    events = decode(body)
    check(events)
    for reads in [*cuts(body, seed=3), recording.reads()]:
        assert decode(body, reads) == events


@pytest.mark.parametrize("recording", STREAMS, ids=by_id)
def test_recorded_streams_mean_what_the_official_sdk_reads_in_them(recording: Recording):
    response = fold(decode(recording.response.body))
    theirs = read_stream(recording.response.body)

    (choice,) = response.choices
    assert (response.id, response.model) == (theirs["id"], theirs["model"])
    assert len(choice.parts) == len(theirs["content"])
    for part, content in zip(choice.parts, theirs["content"], strict=True):
        match part:
            case Text():
                assert (content["type"], content["text"]) == ("text", part.text)
                assert len(content.get("citations") or ()) == len(part.citations)
            case Thinking():
                assert (content["thinking"], content["signature"]) == (
                    part.text,
                    "" if part.signature is None else seal(part.signature, "anthropic"),
                )
            case RedactedThinking():
                assert content["data"] == seal(part.data, "anthropic")
            case ToolCall():
                assert (content["id"], content["name"]) == (part.id, part.name)
                assert content["input"] == json.loads(part.arguments or "{}")
            case Foreign(kind="mcp_tool_use"):
                # The SDK leaves the streamed input of this kind of block out; we keep it.
                assert msgspec.json.decode(part.raw)["id"] == content["id"]
            case Foreign():
                assert {k: v for k, v in content.items() if v is not None} == {
                    k: v for k, v in msgspec.json.decode(part.raw).items() if v is not None
                }
            case _:
                pytest.fail(f"an answer with {part}")
    usage = theirs["usage"]
    assert response.usage.fresh_input_tokens == usage["input_tokens"]
    assert response.usage.cache_read_tokens == usage["cache_read_input_tokens"]
    assert response.usage.cache_write_tokens == usage["cache_creation_input_tokens"]
    assert response.usage.output_tokens == usage["output_tokens"]
    assert response.usage.source == "reported"
    assert choice.finish_detail == theirs["stop_sequence"]


@pytest.mark.parametrize("recording", STREAMS, ids=by_id)
def test_recorded_streams_survive_translation_into_their_own_dialect(recording: Recording):
    events = [event for event in decode(recording.response.body) if not isinstance(event, Pinged)]
    body, receipt = encode(events)
    assert receipt == ""
    assert fold(decode(body)) == fold(events)
    assert_same_message(read_stream(body), read_stream(recording.response.body))


def assert_same_message(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    for name in ("id", "model", "content", "stop_reason", "stop_sequence"):
        assert ours[name] == theirs[name]
    for name in ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"):
        assert (ours["usage"][name] or 0) == (theirs["usage"][name] or 0)


@pytest.mark.parametrize("recording", STREAMS, ids=by_id)
def test_the_observer_and_the_decoder_agree(recording: Recording):
    watch = DIALECT.observer(DIALECT.peek(b'{"model":"m"}'), TRAITS)
    watch.feed(recording.response.body)
    response = fold(decode(recording.response.body))
    assert (watch.usage(), watch.finish) == (response.usage, response.choices[0].finish)


@pytest.mark.parametrize("recording", STREAMS, ids=by_id)
def test_a_stream_cut_at_any_event_before_its_stop_reason_is_truncated(recording: Recording):
    decoder = DIALECT.stream_decoder(TRAITS)
    for frame in recording.frames():
        if b'"message_delta"' in frame.data:
            break
        list(decoder.feed(frame))
        with pytest.raises(UpstreamTruncated):
            list(decoder.close())


def test_a_stop_reason_without_the_end_marker_is_a_whole_answer():
    events = decode(wire(START, *block({"type": "text", "text": ""}), FINISH))
    check(events)
    assert fold(events).choices[0].finish == "stop"


def test_an_end_marker_without_a_stop_reason_is_a_cut_and_not_an_end():
    start, *rest, _ = block({"type": "text", "text": ""}, {"type": "text_delta", "text": "a"})
    with pytest.raises(UpstreamTruncated):
        decode(wire(START, start, *rest, STOP))


@pytest.mark.parametrize(
    ("word", "finish"),
    [
        ("end_turn", "stop"),
        ("max_tokens", "length"),
        ("tool_use", "tool_calls"),
        ("pause_turn", "pause"),
        ("refusal", "refusal"),
        ("model_context_window_exceeded", "context_exceeded"),
    ],
)
def test_stop_reasons_go_both_ways(word: str, finish: str):
    call = {"type": "tool_use", "id": "t", "name": "f", "input": {}}
    body = wire(START, *block(call), {**FINISH, "delta": {"stop_reason": word}}, STOP)
    events = decode(body)
    assert fold(events).choices[0].finish == finish
    if word != "end_turn":  # with a call, that is told as `tool_use`
        assert frames(encode(events)[0])[-2]["delta"]["stop_reason"] == word


def test_an_unknown_stop_reason_is_kept_as_the_detail_and_told_as_the_end():
    events = decode(wire(START, {**FINISH, "delta": {"stop_reason": "compaction"}}, STOP))
    choice = fold(events).choices[0]
    assert (choice.finish, choice.finish_detail) == ("other", "compaction")
    body, receipt = encode(events)
    assert frames(body)[-2]["delta"]["stop_reason"] == "end_turn"
    assert receipt.startswith("changed finish_reason: 'compaction'")


def test_whatever_the_future_brings_is_passed_over():
    body = wire(
        {"type": "ping"},
        START,
        {"type": "new_event", "delta": 7, "index": "x", "usage": []},
        {**START, "message": {"id": "msg_2"}},
        *block(
            {"type": "text", "text": ""}, {"type": "new_delta", "text": "no"}, {"type": "text_delta", "text": "yes"}
        ),
        *block({"type": "new_block", "size": 1.5}, index=1),
        FINISH,
        STOP,
    )
    nameless = b"".join(line + b"\n" for line in body.split(b"\n") if not line.startswith(b"event:"))
    for candidate in (body, nameless, body + b"data: [DONE]\n\n"):
        events = decode(candidate)
        check(events)
        assert fold(events).id == "msg_1"
        assert fold(events).choices[0].parts == (
            Text("yes"),
            Foreign("anthropic", "new_block", msgspec.Raw(b'{"type":"new_block","size":1.5}')),
        )


def test_a_block_that_streams_in_its_own_way_is_gathered_whole():
    deltas: list[dict[str, Any]] = [
        {"type": "compaction_delta", "content": "Sum"},
        {"type": "compaction_delta", "content": "mary", "n": 1},
    ]
    events = decode(wire(START, *block({"type": "compaction", "content": None}, *deltas), FINISH, STOP))
    check(events)
    (part,) = fold(events).choices[0].parts
    assert isinstance(part, Foreign)
    assert msgspec.json.decode(part.raw) == {"type": "compaction", "content": "Summary", "n": 1}


def test_a_block_that_was_never_closed_is_closed_by_the_next():
    first, second = block({"type": "text", "text": "a"}), block({"type": "text", "text": "b"}, index=1)
    events = decode(wire(START, first[0], second[0], FINISH, STOP))
    check(events)
    assert fold(events).choices[0].parts == (Text("a"), Text("b"))


def test_arguments_that_come_with_the_block_count():
    call = {"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}}
    events = decode(wire(START, *block(call), FINISH, STOP))
    assert fold(events).choices[0].parts == (ToolCall("t", "f", '{"a": 1}'),)


@pytest.mark.parametrize("named", [True, False])
def test_an_error_event_fails_the_stream(named: bool):
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded, sk-ant-api03-abcdef"}}
    body = wire(START, block({"type": "text", "text": ""})[0], error, FINISH)
    if not named:
        body = body.replace(b"event: error\n", b"")
    events = decode(body)
    check(events)
    assert events[-1] == Failed(message="Overloaded, sk-***", kind="overloaded_error", status=529)
    with pytest.raises(StreamFailed):
        fold(events)


def test_an_untyped_error_object_is_an_error():
    (event,) = decode(b'data: {"error":{"message":"Overloaded"}}\n\n')
    assert event == Failed(message="Overloaded")


@pytest.mark.parametrize("data", [b"Overloaded", b"{", b'{"error":{"message":"Overloaded"}}'])
def test_an_error_in_any_form_is_an_error(data: bytes):
    (event,) = decode(b"event: error\ndata: " + data + b"\n\n")
    assert isinstance(event, Failed)


@pytest.mark.parametrize(
    "body",
    [
        b"data: <html>\n\n",
        b"data: {\n\n",
        b"data: [1]\n\n",
        b'data: {"type":"message_start","message":7}\n\n',
        b'data: {"type":"message_start","message":' + b"[" * 100_000 + b"\n\n",
        wire(FINISH),
        wire(STOP),
        wire(*block({"type": "text", "text": ""})),
        wire(START, *block({"type": "text"})),
        wire(START, *block({"type": "text", "text": ""}), block({}, {"type": "text_delta", "text": "late"})[1]),
        wire(START, block({"type": "text", "text": ""})[0], block({}, {"type": "text_delta"}, index=1)[1]),
        wire(START, FINISH, *block({"type": "text", "text": ""})),
        wire(START, block({"type": "compaction"})[0], block({}, {"type": "compaction_delta"}, index=1)[1]),
    ],
)
def test_what_is_no_stream_of_this_dialect_is_malformed(body: bytes):
    with pytest.raises(UpstreamMalformed):
        decode(body)


# ------------------------------------------------------------------------------------------------------------ encoding


def test_an_answer_of_another_provider_has_anthropics_exact_order():
    events: list[Event] = [
        Started(id="chatcmpl-1", model=""),
        PartOpened(0, Thinking("")),
        Delta(0, "Hm"),
        PartClosed(0),
        PartOpened(1, Text("He")),
        Pinged(),
        Delta(1, "llo \u2028\ud7ff\U0001f30a"),
        PartClosed(1),
        PartOpened(2, ToolCall("call_1", "f", "")),
        Delta(2, '{"a":'),
        Delta(2, "1}"),
        PartClosed(2),
        Finished("stop"),
        UsageReported(Usage(input_tokens=10, cache_read_tokens=4, output_tokens=7, reasoning_tokens=2)),
        Ended(),
    ]
    check(events)
    body, receipt = encode(events)
    assert receipt == ""
    assert frames(body) == [
        {
            "type": "message_start",
            "message": {
                "id": "chatcmpl-1",
                "type": "message",
                "role": "assistant",
                "model": "asked",
                "content": [],
                "stop_reason": None,
                "stop_sequence": None,
                "usage": {
                    "input_tokens": 0,
                    "cache_creation_input_tokens": 0,
                    "cache_read_input_tokens": 0,
                    "output_tokens": 0,
                },
            },
        },
        *block(
            {"type": "thinking", "thinking": "", "signature": ""},
            {"type": "thinking_delta", "thinking": "Hm"},
            {"type": "signature_delta", "signature": ""},
        ),
        {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "He"}},
        {"type": "ping"},
        {
            "type": "content_block_delta",
            "index": 1,
            "delta": {"type": "text_delta", "text": "llo \u2028\ud7ff\U0001f30a"},
        },
        {"type": "content_block_stop", "index": 1},
        *block(
            {"type": "tool_use", "id": "call_1", "name": "f", "input": {}},
            {"type": "input_json_delta", "partial_json": '{"a":'},
            {"type": "input_json_delta", "partial_json": "1}"},
            index=2,
        ),
        {
            "type": "message_delta",
            "delta": {"stop_reason": "tool_use", "stop_sequence": None},
            "usage": {
                "input_tokens": 6,
                "cache_creation_input_tokens": 0,
                "cache_read_input_tokens": 4,
                "output_tokens": 7,
                "output_tokens_details": {"thinking_tokens": 2},
            },
        },
        {"type": "message_stop"},
    ]
    message = read_stream(body)
    assert [content["type"] for content in message["content"]] == ["thinking", "text", "tool_use"]
    assert message["content"][2]["input"] == {"a": 1}
    assert message["usage"]["input_tokens"] == 6


@settings(max_examples=40)  # each goes through the SDK's whole client
@given(responses())
def test_whatever_is_answered_the_official_sdk_reads_it(response: Response):
    events = [event for event in unfold(response) if getattr(event, "choice", 0) == 0]
    body, _ = encode(events)
    message = read_stream(body)
    assert message["id"] == response.id
    texts = [part.text for part in response.choices[0].parts if isinstance(part, Text | Refusal)]
    assert [content["text"] for content in message["content"] if content["type"] == "text"] == texts
    check(decode(body))


def test_only_the_first_choice_is_told():
    events: list[Event] = [
        Started(id="m", model="x"),
        PartOpened(0, Text(""), 1),
        PartOpened(0, Text(""), 0),
        Delta(0, "no", 1),
        Delta(0, "yes", 0),
        PartClosed(0, 0),
        PartClosed(0, 1),
        Finished("length", None, 1),
        Finished("stop", None, 0),
        Ended(),
    ]
    body, receipt = encode(events)
    assert read_stream(body)["content"][0]["text"] == "yes"
    assert read_stream(body)["stop_reason"] == "end_turn"
    assert receipt == "dropped choices[1:]: Anthropic's dialect has one answer"


def test_parts_without_a_place_leave_no_gap_in_the_numbers():
    foreign = Foreign("openai_responses", "web_search_call", msgspec.Raw(b"{}"))
    body, receipt = encode(streamed(foreign, Text("a"), Image(Remote("u")), Text("b")))
    message = read_stream(body)
    assert [content["text"] for content in message["content"]] == ["a", "b"]
    assert receipt.count("dropped content") == 2


def test_a_refusal_is_text_and_the_stop_reason():
    message = read_stream(encode(streamed(Refusal("I will not.")))[0])
    assert (message["content"][0]["text"], message["stop_reason"]) == ("I will not.", "refusal")


def test_a_withheld_answer_is_a_refusal():
    message = read_stream(encode(streamed(Text("a"), finish=Finished("content_filter")))[0])
    assert message["stop_reason"] == "refusal"


def test_a_stop_string_is_named():
    message = read_stream(encode(streamed(Text("a"), finish=Finished("stop_sequence", "END")))[0])
    assert (message["stop_reason"], message["stop_sequence"]) == ("stop_sequence", "END")


def test_a_signature_and_citations_are_told():
    own = decode(wire(START, *block({"type": "thinking", "thinking": ""}, {"type": "signature_delta", "signature": "s"}), FINISH, STOP))  # fmt: skip
    assert Signed(0, Opaque("s", "anthropic")) in own
    web = Citation(url="https://x.test", title="T", quote="q")
    body, receipt = encode(
        streamed(Thinking("Hm", Opaque("sig", "anthropic")), Text("a", citations=(web, Citation(title="nowhere"))))
    )
    thinking, text = read_stream(body)["content"]
    assert thinking["signature"] == "sig"
    (citation,) = text["citations"]
    assert (citation["type"], citation["url"], citation["cited_text"]) == (
        "web_search_result_location",
        "https://x.test",
        "q",
    )
    assert receipt.startswith("dropped citations")
    # Sent back to us, it is no citation of Anthropic's own.
    (cited,) = [event for event in decode(body) if isinstance(event, Cited)]
    assert cited.citation == web


def test_a_part_that_opens_with_content_already_in_it_loses_none():
    web = Citation(url="https://x.test")
    for part in (
        Text("a", citations=(web,)),
        Thinking("Hm", Opaque("sig", "anthropic")),
        Refusal("No."),
        ToolCall("c", "f", '{"a":1}'),
    ):
        body, _ = encode([Started(id="m", model="x"), PartOpened(0, part), PartClosed(0), Finished("stop"), Ended()])
        (content,) = read_stream(body)["content"]
        match part:
            case Thinking():
                assert (content["thinking"], content["signature"]) == ("Hm", "sig")
            case ToolCall():
                assert content["input"] == {"a": 1}
            case _:
                assert content["text"] == part.text
                assert len(content["citations"] or ()) == (1 if isinstance(part, Text) else 0)


def test_a_free_form_call_is_told_whole():
    events: list[Event] = [
        Started(id="m", model="x"),
        PartOpened(0, ToolCall("c", "patch", "", custom=True)),
        Delta(0, '*** "'),
        Delta(0, "end"),
        PartClosed(0),
        Finished("tool_calls"),
        Ended(),
    ]
    message = read_stream(encode(events)[0])
    assert message["content"][0]["input"] == {"input": '*** "end'}


def test_log_probabilities_are_dropped_with_a_word():
    events = streamed(Text("a"))
    events.insert(1, LogprobsReported((TokenLogprob("a", -0.1),)))
    assert encode(events)[1] == "dropped logprobs: Anthropic's dialect has none"


def test_a_failure_is_an_error_event_and_no_end():
    body, _ = encode([Started(id="m", model="x"), Failed(message="Busy", kind="overloaded_error", status=529)])
    assert frames(body)[-1]["error"] == {"type": "overloaded_error", "message": "Busy"}
    with pytest.raises(Exception, match="Busy"):
        read_stream(body)


def test_a_provider_that_gives_up_is_an_error_and_no_end():
    body, _ = encode(streamed(Text("a"), finish=Finished("error")))
    assert [frame["type"] for frame in frames(body)][-1] == "error"
    assert b"message_stop" not in body


def test_a_ping_is_an_event_of_its_name():
    assert DIALECT.stream_encoder(REQUEST, Receipt()).ping() == b'event: ping\ndata: {"type": "ping"}\n\n'


def test_raw_json_over_several_lines_stays_one_event() -> None:
    event = one_event("content_block_start", {"x": msgspec.Raw(b'{\n  "a": 1\r\n}')})
    assert event == b'event: content_block_start\ndata: {"x":{"a":1}}\n\n'
