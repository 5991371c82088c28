"""Streams: every provider's recording keeps the grammar, means what it says, and survives the way to a client and back."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from support.recordings import Recording, by_id, cuts, load, recordings
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
from tollhouse.chat.fold import Folder, fold, unfold
from tollhouse.chat.grammar import check
from tollhouse.chat.model import (
    Citation,
    Foreign,
    Image,
    Inline,
    Opaque,
    Part,
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
from tollhouse.dialects.openai_chat import DIALECT, OPENAI, OpenAIChatTraits
from tollhouse.errors import StreamFailed, UpstreamMalformed, UpstreamTruncated

STREAMS = recordings("openai-chat", stream=True)
WHOLE = [recording for recording in STREAMS if "error_in_stream" not in recording.features]
ASKED = Request(model="m", messages=(), stream=True, include_usage=True)
XAI = replace(OPENAI, reasoning_outside_output=True)


def traits_of(recording: Recording) -> OpenAIChatTraits:
    return XAI if recording.provider in {"xai", "gemini"} else OPENAI


def decode(reads: Iterable[bytes], traits: OpenAIChatTraits = OPENAI) -> list[Event]:
    parser, decoder = sse.Parser(), DIALECT.stream_decoder(traits)
    events: list[Event] = []
    for data in reads:
        for frame in parser.feed(data):
            events += decoder.feed(frame)
    for frame in parser.close():
        events += decoder.feed(frame)
    return [*events, *decoder.close()]


def encode(events: Iterable[Event], request: Request = ASKED, receipt: Receipt | None = None) -> bytes:
    encoder = DIALECT.stream_encoder(request, Receipt() if receipt is None else receipt)
    return b"".join(encoder.encode(event) for event in events)


def chunks(body: bytes) -> list[dict[str, Any]]:
    parser = sse.Parser()
    frames = [*parser.feed(body), *parser.close()]
    return [msgspec.json.decode(frame.data) for frame in frames if frame.data != b"[DONE]"]


def line(delta: str = "{}", finish: str = "null", index: int = 0, more: str = "") -> bytes:
    return b'data: {"id":"r-1","model":"m","choices":[{"index":%d,"delta":%s,"finish_reason":%s}]%s}\n\n' % (
        index,
        delta.encode(),
        finish.encode(),
        more.encode(),
    )


STOP = line(finish='"stop"')
DONE = b"data: [DONE]\n\n"


def settled(response: Response) -> Response:
    """Without what the wire has no words for: empty arguments are `{}`, a citation without a place cites its whole text."""
    choices = []
    for choice in response.choices:
        parts: list[Part] = []
        for part in choice.parts:
            if isinstance(part, ToolCall) and not part.arguments and choice.finish != "length":
                parts.append(msgspec.structs.replace(part, arguments="{}"))
            elif isinstance(part, Text):
                cited = tuple(Citation(url=c.url, title=c.title or c.url) for c in part.citations)
                parts.append(msgspec.structs.replace(part, citations=cited))
            else:
                parts.append(part)
        choices.append(msgspec.structs.replace(choice, parts=tuple(parts)))
    return msgspec.structs.replace(
        response, choices=tuple(choices), id=response.id or "chatcmpl-unnamed", created=response.created or None
    )


# ------------------------------------------------------------------------------------------------- recordings


@pytest.mark.parametrize("recording", STREAMS, ids=by_id)
def test_a_recorded_stream_keeps_the_grammar(recording: Recording):
    check(decode([recording.response.body], traits_of(recording)))


@pytest.mark.parametrize("recording", STREAMS, ids=by_id)
def test_cutting_a_stream_anywhere_gives_the_same_events(recording: Recording):
    body = recording.response.body
    expected = decode([body])
    for reads in (recording.reads(), *cuts(body, seed=1, ways=2)):
        assert decode(reads) == expected


@pytest.mark.parametrize("recording", WHOLE, ids=by_id)
def test_the_way_to_a_client_and_back_changes_nothing(recording: Recording):
    events = decode([recording.response.body], traits_of(recording))
    receipt = Receipt()
    sent = encode(events, receipt=receipt)
    assert settled(fold(decode([sent]))) == settled(fold(events))
    assert not receipt
    assert sent.endswith(DONE)


@pytest.mark.parametrize("recording", WHOLE, ids=by_id)
def test_the_events_mean_what_the_recording_says(recording: Recording):
    """Against a reading of the recording that shares no code with the decoder."""
    response = fold(decode([recording.response.body], traits_of(recording)))
    for choice in response.choices:
        said = _naive(recording, choice.index)
        parts = choice.parts
        assert "".join(p.text for p in parts if isinstance(p, Text)) == said["content"]
        assert "".join(p.text for p in parts if isinstance(p, Thinking)) == said["reasoning"]
        assert "".join(p.text for p in parts if isinstance(p, Refusal)) == said["refusal"]
        assert [(p.name, p.arguments) for p in parts if isinstance(p, ToolCall)] == said["calls"]
        assert choice.finish == ("refusal" if said["refusal"] else said["finish"])


def _naive(recording: Recording, index: int) -> dict[str, object]:
    content = reasoning = refusal = ""
    calls: dict[int, list[str]] = {}
    finish = None
    for chunk in chunks(recording.response.body):
        for choice in chunk["choices"]:
            if choice["index"] != index:
                continue
            finish = choice.get("finish_reason") or finish
            delta = choice.get("delta") or {}
            text = delta.get("content") or ""
            if isinstance(text, list):
                reasoning += "".join(t["text"] for p in text if p["type"] == "thinking" for t in p["thinking"])
                text = "".join(p["text"] for p in text if p["type"] == "text")
            content += text
            reasoning += delta.get("reasoning_content") or delta.get("reasoning") or ""
            refusal += delta.get("refusal") or ""
            for call in delta.get("tool_calls") or ():
                known = calls.setdefault(call["index"], ["", ""])
                known[0] = known[0] or call["function"].get("name") or ""
                known[1] += call["function"].get("arguments") or ""
    return {
        "content": content,
        "reasoning": reasoning,
        "refusal": refusal,
        "calls": [tuple(call) for _, call in sorted(calls.items())],
        "finish": finish,
    }


@pytest.mark.parametrize("recording", WHOLE, ids=by_id)
def test_a_stream_cut_at_any_event_before_its_finish_is_an_error(recording: Recording):
    frames = recording.frames()
    for end in range(len(frames)):
        decoder = DIALECT.stream_decoder(OPENAI)
        folder = Folder()
        for frame in frames[:end]:
            for event in decoder.feed(frame):
                folder.feed(event)
        seen, done = set(), set()
        for frame in frames[:end]:
            if frame.data != b"[DONE]":
                for choice in msgspec.json.decode(frame.data)["choices"]:
                    seen.add(choice["index"])
                    done |= {choice["index"]} if choice.get("finish_reason") else set()
        if seen and seen == done:
            [*decoder.close()]
        else:
            with pytest.raises(UpstreamTruncated):
                [*decoder.close()]
            with pytest.raises(UpstreamTruncated):
                folder.response()


@pytest.mark.parametrize("recording", WHOLE, ids=by_id)
def test_observer_and_decoder_report_the_same(recording: Recording):
    traits = traits_of(recording)
    observer = DIALECT.observer(DIALECT.peek(b'{"model":"m","stream":true}'), traits)
    observer.feed(recording.response.body)
    observer.close()
    response = fold(decode([recording.response.body], traits))
    if response.usage.is_empty:
        assert observer.usage().source == "rebuilt"
    else:
        assert observer.usage() == response.usage
    # The observer says what stands on the wire; the decoder also knows of the refusal before it.
    assert observer.finish == ("stop" if response.choices[0].finish == "refusal" else response.choices[0].finish)


@pytest.mark.parametrize(
    ("name", "usage"),
    [
        ("xai/xai-chat-stream-reasoning-41781f", (818, 79, 54)),
        ("vercel-gateway/vercel-gateway-chat-stream-tool-call-09ea07", (28, 70, 61)),
        ("deepseek/deepseek-chat-stream-parallel-tool-calls-4c6a8a", (492, 108, 30)),
        ("groq/groq-chat-stream-finish-length-a251a2", (15, 16, None)),
    ],
)
def test_output_includes_reasoning_wherever_the_provider_counts_it(name: str, usage: tuple[int, int, int | None]):
    for traits in (XAI, OPENAI) if name.startswith("xai") else (OPENAI,):
        counted = fold(decode([load(name).response.body], traits)).usage
        assert (counted.input_tokens, counted.output_tokens, counted.reasoning_tokens) == usage


def test_errors_inside_recorded_streams_end_them():
    for recording in recordings("openai-chat", stream=True, feature="error_in_stream"):
        events = decode([recording.response.body])
        assert isinstance(events[-1], Failed)
        sent = encode(events)
        assert b"[DONE]" not in sent
        with pytest.raises(StreamFailed):
            fold(decode([sent]))


# --------------------------------------------------------------------------------------------------- decoding


def parts_of(*body: bytes) -> tuple[object, ...]:
    events = decode([b"".join(body) + DONE])
    check(events)
    return fold(events).choices[0].parts


def test_azures_empty_first_chunk_does_not_name_the_answer():
    verdict = b'data: {"id":"","model":"","choices":[],"prompt_filter_results":[]}\n\n'
    assert decode([verdict + line('{"content":"a"}') + STOP])[0] == Started(id="r-1", model="m")


def test_a_whole_call_and_its_finish_may_share_a_chunk():
    call = '{"tool_calls":[{"index":0,"id":"c1","function":{"name":"f","arguments":"{}"}}]}'
    assert parts_of(line(call, '"tool_calls"')) == (ToolCall("c1", "f", "{}"),)


def test_calls_may_follow_a_finish_that_came_with_a_call():
    first = '{"tool_calls":[{"index":0,"id":"c1","function":{"name":"f","arguments":"{}"}}]}'
    second = '{"tool_calls":[{"index":1,"id":"c2","function":{"name":"g","arguments":"{}"}}]}'
    parts = parts_of(line(first, '"tool_calls"'), line(second, '"tool_calls"'), line("{}", '"tool_calls"'))
    assert parts == (ToolCall("c1", "f", "{}"), ToolCall("c2", "g", "{}"))


@pytest.mark.parametrize("later", ['"id":"c1",', '"id":"",', '"id":null,', ""])
@pytest.mark.parametrize("name", ['"name":null,', '"name":"",', '"name":"f",', ""])
def test_later_pieces_may_repeat_empty_or_leave_out_id_and_name(later: str, name: str):
    first = '{"tool_calls":[{"index":0,"id":"c1","function":{"name":"f","arguments":""}}]}'
    second = '{"tool_calls":[{"index":0,' + later + '"function":{' + name + '"arguments":"{}"}}]}'
    assert parts_of(line(first), line(second), line("{}", '"tool_calls"')) == (ToolCall("c1", "f", "{}"),)


def test_parallel_calls_may_all_have_the_number_zero():
    first = '{"tool_calls":[{"index":0,"id":"c1","function":{"name":"f","arguments":"1"}}]}'
    second = '{"tool_calls":[{"index":0,"id":"c2","function":{"name":"f","arguments":"2"}}]}'
    assert parts_of(line(first), line(second), STOP) == (ToolCall("c1", "f", "1"), ToolCall("c2", "f", "2"))


def test_calls_may_come_without_numbers_and_ids():
    first = '{"tool_calls":[{"function":{"name":"f","arguments":"1"}}]}'
    more = '{"tool_calls":[{"function":{"arguments":"1"}}]}'
    second = '{"tool_calls":[{"function":{"name":"g","arguments":"2"}}]}'
    parts = parts_of(line(first), line(more), line(second), STOP)
    assert parts == (ToolCall("call_r-1_0_0", "f", "11"), ToolCall("call_r-1_0_1", "g", "2"))


def test_a_call_may_get_its_name_late():
    first = '{"tool_calls":[{"index":0,"id":"c1","function":{"arguments":"{"}}]}'
    second = '{"tool_calls":[{"index":0,"function":{"name":"f","arguments":"}"}}]}'
    assert parts_of(line(first), line(second), STOP) == (ToolCall("c1", "f", "{}"),)


def test_a_call_that_never_gets_a_name_is_malformed():
    with pytest.raises(UpstreamMalformed):
        decode([line('{"tool_calls":[{"index":0,"id":"c1"}]}') + STOP + DONE])


def test_arguments_as_an_object_are_text():
    call = '{"tool_calls":[{"index":0,"id":"c1","function":{"name":"f","arguments":{"a":1}}}]}'
    assert parts_of(line(call), STOP) == (ToolCall("c1", "f", '{"a":1}'),)


def test_a_piece_for_a_closed_call_is_malformed():
    first = '{"tool_calls":[{"index":0,"id":"c1","function":{"name":"f","arguments":"1"}}]}'
    second = '{"tool_calls":[{"index":1,"id":"c2","function":{"name":"g","arguments":"2"}}]}'
    late = '{"tool_calls":[{"index":0,"function":{"arguments":"3"}}]}'
    with pytest.raises(UpstreamMalformed, match="over"):
        decode([line(first) + line(second) + line(late)])


def test_an_unnumbered_piece_of_the_first_call_is_no_new_call():
    first = '{"tool_calls":[{"id":"c1","function":{"name":"f","arguments":"1"}}]}'
    second = '{"tool_calls":[{"id":"c2","function":{"name":"g","arguments":"2"}}]}'
    late = '{"tool_calls":[{"id":"c1","function":{"name":"f","arguments":"3"}}]}'
    assert parts_of(line(first), line(second), STOP) == (ToolCall("c1", "f", "1"), ToolCall("c2", "g", "2"))
    with pytest.raises(UpstreamMalformed, match="over"):
        decode([line(first) + line(second) + line(late)])


def test_an_empty_late_piece_is_nothing():
    first = '{"tool_calls":[{"index":0,"id":"c1","function":{"name":"f","arguments":"1"}}]}'
    second = '{"tool_calls":[{"index":1,"id":"c2","function":{"name":"g","arguments":"2"}}]}'
    late = '{"tool_calls":[{"index":0,"function":{"arguments":""}}]}'
    assert len(parts_of(line(first), line(second), line(late), STOP)) == 2


def test_words_after_the_finish_are_malformed():
    with pytest.raises(UpstreamMalformed, match="after its finish"):
        decode([line('{"content":"a"}') + STOP + line() + line('{"content":"b"}')])


def test_the_old_function_call_is_a_call():
    first = '{"role":"assistant","content":null,"function_call":{"name":"f","arguments":""}}'
    more = '{"function_call":{"arguments":"{}"}}'
    events = decode([line(first) + line(more) + line("{}", '"function_call"') + DONE])
    assert fold(events).choices[0].parts == (ToolCall("call_r-1_0_0", "f", "{}"),)
    assert fold(events).choices[0].finish == "tool_calls"


def test_a_custom_call_is_text():
    first = '{"tool_calls":[{"index":0,"id":"c1","type":"custom","custom":{"name":"patch","input":"ab"}}]}'
    more = '{"tool_calls":[{"index":0,"custom":{"input":"c"}}]}'
    assert parts_of(line(first), line(more), STOP) == (ToolCall("c1", "patch", "abc", custom=True),)


def test_googles_thought_signature_stays_with_its_call():
    call = '{"tool_calls":[{"index":0,"id":"c1","function":{"name":"f","arguments":"{}"},"extra_content":{"google":{"thought_signature":"s"}}}]}'
    events = decode([line(call) + STOP + DONE])
    assert b'"extra_content":{"google":{"thought_signature":"s"}}' in encode(events)


def test_signed_and_encrypted_reasoning_is_kept():
    text = '{"reasoning":"hm","reasoning_details":[{"type":"reasoning.text","text":"hm","index":0}]}'
    signed = '{"reasoning_details":[{"type":"reasoning.text","text":"","signature":"sig","index":0}]}'
    secret = '{"reasoning_details":[{"type":"reasoning.encrypted","data":"xyz"}]}'
    parts = parts_of(line(text), line(signed), line(secret), line('{"content":"a"}'), STOP)
    assert parts == (Thinking("hm", Opaque("sig", "openai")), RedactedThinking(Opaque("xyz", "openai")), Text("a"))


def test_encrypted_reasoning_does_not_tear_a_call_apart():
    call = '{"tool_calls":[{"index":0,"id":"c1","function":{"name":"f","arguments":"{"}}]}'
    secret = '{"reasoning_details":[{"type":"reasoning.encrypted","data":"xyz"}]}'
    more = '{"tool_calls":[{"index":0,"function":{"arguments":"}"}}]}'
    assert parts_of(line(call), line(secret), line(more), STOP) == (
        ToolCall("c1", "f", "{}"),
        RedactedThinking(Opaque("xyz", "openai")),
    )


def test_a_finish_that_means_failure_fails():
    for word in ("error", "insufficient_system_resource", "network_error"):
        events = decode([line('{"content":"a"}') + line("{}", f'"{word}"') + DONE])
        check(events)
        assert events[-1] == Failed(message=f"The provider gave up in mid-answer ({word}).", provider_code=word)


def test_an_unknown_finish_keeps_its_word():
    events = decode([line('{"content":"a"}') + line("{}", '"tired"') + DONE])
    assert Finished("other", "tired") in events
    assert chunks(encode(events))[-1]["choices"][0]["finish_reason"] == "tired"


def test_a_forced_call_that_stops_is_still_a_call():
    call = '{"tool_calls":[{"index":0,"id":"c1","function":{"name":"f","arguments":"{}"}}]}'
    assert Finished("tool_calls") in decode([line(call) + STOP + DONE])


@pytest.mark.parametrize(
    ("event", "failed"),
    [
        (
            b'data: {"error":{"message":"m","type":"t","code":"c","status_code":400}}',
            Failed(message="m", kind="t", provider_code="c", status=400),
        ),
        (b'data: {"error":"m","code":"c"}', Failed(message="m", provider_code="c")),
        (b'data: {"error":{"message":"m","code":502}}', Failed(message="m", provider_code="502", status=502)),
        (b'event: error\ndata: {"message":"m"}', Failed(message="m")),
        (
            b'data: {"object":"error","message":"m","type":"t","code":400}',
            Failed(message="m", kind="t", provider_code="400", status=400),
        ),
        (
            b'data: {"id":"r","error":{"message":"m"},"choices":[{"index":0,"delta":{"content":"x"},"finish_reason":"error"}]}',
            Failed(message="m"),
        ),
        (b'data: {"error":{}}', Failed(message="The provider reported an error without saying which.")),
    ],
)
def test_errors_of_every_shape_end_a_stream(event: bytes, failed: Failed):
    events = decode([line('{"content":"a"}') + event + b"\n\n" + STOP + DONE])
    check(events)
    assert events[-1] == failed


@pytest.mark.parametrize(
    "event",
    [
        b"data: <html>\n\n",
        b"data: []\n\n",
        b'data: {"choices":{}}\n\n',
        b'data: {"choices":[{"index":-1,"delta":{"content":"a"}}]}\n\n',
        b'data: {"choices":[{"index":9999,"delta":{"content":"a"}}]}\n\n',
        b'data: {"id":"1","choices":[{"delta":{"content":[{"x":1}]}}]}\n\n',
        b'data: {"choices":[{"delta":{"content":"\xff"}}]}\n\n',
        b'data: {"a":' + b"[" * 5000 + b"}\n\n",
    ],
)
def test_garbage_is_malformed(event: bytes):
    with pytest.raises(UpstreamMalformed):
        decode([line('{"content":"a"}') + event])


def test_half_a_surrogate_pair_becomes_a_replacement_character():
    assert parts_of(line('{"content":"a\\ud83d"}'), STOP) == (Text("a\ufffd"),)


def test_usage_may_come_anywhere_and_the_last_holds():
    usage = ',"usage":{"prompt_tokens":%d,"completion_tokens":%d}'
    body = line('{"content":"a"}', more=usage % (5, 1)) + line('{"content":"b"}', more=usage % (5, 1))
    events = decode(
        [body + STOP + b'data: {"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":2}}\n\n' + DONE]
    )
    assert [event.usage.output_tokens for event in events if isinstance(event, UsageReported)] == [1, 2]


def test_an_empty_chunk_shows_that_the_provider_lives():
    assert Pinged() in decode([line('{"content":"a"}') + line() + STOP])


def test_nothing_counts_after_the_end():
    assert decode([line('{"content":"a"}') + STOP + DONE + line('{"content":"b"}')])[-1] == Ended()


def test_logprobs_are_read():
    token = '{"token":"a","logprob":-0.5,"bytes":[97],"top_logprobs":[{"token":"b","logprob":-1,"bytes":null}]}'
    body = (
        b'data: {"id":"r","choices":[{"index":0,"delta":{"content":"a"},"logprobs":{"content":[%s]}}]}\n\n'
        % token.encode()
    )
    expected = TokenLogprob("a", -0.5, (97,), (TokenLogprob("b", -1.0),))
    events = decode([body + STOP])
    assert LogprobsReported((expected,)) in events
    assert fold(decode([encode(events)])).choices[0].logprobs == (expected,)


# --------------------------------------------------------------------------------------------------- encoding


def test_every_chunk_has_the_same_head():
    events = unfold(
        Response(
            id="r",
            model="m",
            created=7,
            service_tier="default",
            choices=(fold(decode([line('{"content":"a"}') + STOP])).choices[0],),
        )
    )
    for chunk in chunks(encode(events)):
        assert (chunk["id"], chunk["created"], chunk["model"], chunk["object"], chunk["service_tier"]) == (
            "r",
            7,
            "m",
            "chat.completion.chunk",
            "default",
        )


def test_the_first_chunk_has_the_role_and_the_last_the_usage():
    events: list[Event] = [
        Started(id="r", model="m"),
        PartOpened(0, Text("")),
        Delta(0, "a"),
        PartClosed(0),
        Finished("stop"),
        UsageReported(Usage(input_tokens=1, output_tokens=2, source="reported")),
        Ended(),
    ]
    said = chunks(encode(events))
    assert said[0]["choices"][0]["delta"]["role"] == "assistant"
    assert said[-1]["choices"] == []
    assert said[-1]["usage"] == {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    assert all(chunk["usage"] is None for chunk in said[:-1])
    unasked = chunks(encode(events, Request(model="m", messages=(), stream=True)))
    assert not any("usage" in chunk for chunk in unasked)


def test_nothing_is_sent_before_something_came():
    encoder = DIALECT.stream_encoder(ASKED, Receipt())
    assert encoder.encode(Started(id="r", model="m")) == b""
    assert encoder.ping() == encoder.encode(Pinged()) == b": ping\n\n"


def test_a_call_without_arguments_gets_an_empty_object():
    events: list[Event] = [
        Started(id="r", model="m"),
        PartOpened(0, ToolCall("c", "f", "")),
        Delta(0, ""),
        PartClosed(0),
        Finished("tool_calls"),
        Ended(),
    ]
    assert fold(decode([encode(events)])).choices[0].parts == (ToolCall("c", "f", "{}"),)
    cut = [*events[:-2], Finished("length"), Ended()]
    assert fold(decode([encode(cut)])).choices[0].parts == (ToolCall("c", "f", ""),)


def test_a_client_of_the_old_form_gets_a_function_call():
    request = Request(model="m", messages=(), stream=True, legacy_functions=True)
    receipt = Receipt()
    events: list[Event] = [Started(id="r", model="m")]
    for index in range(2):
        events += [PartOpened(index, ToolCall(f"c{index}", "f", "")), Delta(index, '{"a":1}'), PartClosed(index)]
    sent = chunks(encode([*events, Finished("tool_calls"), Ended()], request, receipt))
    assert not any("tool_calls" in chunk["choices"][0]["delta"] for chunk in sent)
    assert sent[1]["choices"][0]["delta"] == {"function_call": {"name": "f", "arguments": ""}}
    assert sent[2]["choices"][0]["delta"] == {"function_call": {"arguments": '{"a":1}'}}
    assert sent[-1]["choices"][0]["finish_reason"] == "function_call"
    assert len(receipt.entries) == 1


def test_a_signature_crosses_as_a_reasoning_detail():
    events: list[Event] = [
        Started(id="r", model="m"),
        PartOpened(0, Thinking("")),
        Delta(0, "hm"),
        Signed(0, Opaque("sig", "anthropic")),
        PartClosed(0),
        PartOpened(1, RedactedThinking(Opaque("xyz", "anthropic"))),
        PartClosed(1),
        PartOpened(2, Text("")),
        Delta(2, "a"),
        PartClosed(2),
        Finished("stop"),
        Ended(),
    ]
    assert fold(decode([encode(events)])) == fold(events)


def test_a_citation_is_placed_in_the_whole_text():
    events: list[Event] = [
        Started(id="r", model="m"),
        PartOpened(0, Text("")),
        Delta(0, "One. "),
        PartClosed(0),
        PartOpened(1, Text("")),
        Delta(1, "Two."),
        Cited(1, Citation(url="https://a.example", title="A")),
        PartClosed(1),
        Finished("stop"),
        Ended(),
    ]
    annotations = [
        c["choices"][0]["delta"]["annotations"]
        for c in chunks(encode(events))
        if b"annotations" in msgspec.json.encode(c)
    ]
    assert annotations == [
        [
            {
                "type": "url_citation",
                "url_citation": {"url": "https://a.example", "title": "A", "start_index": 5, "end_index": 9},
            }
        ]
    ]


def test_what_has_no_form_is_in_the_receipt_once():
    receipt = Receipt()
    events: list[Event] = [
        Started(id="r", model="m"),
        PartOpened(0, Foreign("anthropic", "server_tool_use", msgspec.Raw(b'{"type":"server_tool_use"}'))),
        Delta(0, "{}"),
        PartClosed(0),
        PartOpened(1, Foreign("anthropic", "server_tool_use", msgspec.Raw(b'{"type":"server_tool_use"}'))),
        PartClosed(1),
        PartOpened(2, Image(Inline("image/png", "AAAA"))),
        PartClosed(2),
        PartOpened(3, Text("")),
        Cited(3, Citation(quote="no address")),
        PartClosed(3),
        Finished("pause"),
        Ended(),
    ]
    assert fold(decode([encode(events, receipt=receipt)])).choices[0].finish == "stop"
    assert len(receipt.entries) == 4


def test_audio_in_an_answer_passes():
    body = line('{"audio":{"id":"a","data":"AAAA"}}') + STOP + DONE
    assert b'"audio":{"id":"a","data":"AAAA"}' in encode(decode([body]))
