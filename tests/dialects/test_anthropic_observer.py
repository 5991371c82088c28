"""Anthropic streams that are forwarded in their own dialect."""

import pytest

from support.recordings import Recording, by_id, cuts, recordings
from tollhouse.chat.usage import Usage
from tollhouse.dialects.anthropic import DIALECT, AnthropicTraits
from tollhouse.dialects.dialect import MAX_EVENT_BYTES, Observer, Peek
from tollhouse.errors import UpstreamMalformed, UpstreamTooLarge, UpstreamTruncated

STREAMS = recordings("anthropic-messages", stream=True)

START = (
    b'event: message_start\ndata: {"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant",'
    b'"model":"m","content":[],"usage":{"input_tokens":10,"cache_creation_input_tokens":5,"cache_read_input_tokens":20,'
    b'"cache_creation":{"ephemeral_5m_input_tokens":2,"ephemeral_1h_input_tokens":3},"output_tokens":1}}}\n\n'
)
OPEN = b'event: content_block_start\ndata: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}\n\n'
PING = b'event: ping\ndata: {"type": "ping"}\n\n'
CLOSE = b'event: content_block_stop\ndata: {"type":"content_block_stop","index":0}\n\n'
FINISH = (
    b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},'
    b'"usage":{"output_tokens":7}}\n\n'
)
STOP = b'event: message_stop\ndata: {"type":"message_stop"  }\n\n'
ERROR = b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}\n\n'


def delta(text: str) -> bytes:
    return (
        b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"'
        + text.encode()
        + b'"}   }\n\n'
    )


WHOLE = START + OPEN + PING + delta("Hel") + delta("lo") + CLOSE + FINISH + STOP


def observer() -> Observer:
    peek = Peek(fields={}, model="m", stream=True, max_output_tokens=None, include_usage=True, choices=1)
    return DIALECT.observer(peek, AnthropicTraits())


def events(body: bytes) -> list[bytes]:
    return [piece + b"\n\n" for piece in body.split(b"\n\n")[:-1]]


@pytest.mark.parametrize("recording", STREAMS, ids=by_id)
def test_bytes_are_forwarded_unchanged_however_the_network_cuts_them(recording: Recording):
    body = recording.response.body
    whole = observer()
    whole.feed(body)
    whole.close()
    for reads in [*cuts(body, seed=1), recording.reads()]:
        watch = observer()
        forwarded = [watch.feed(read) for read in reads]

        assert all(part == b"" or part.endswith(b"\n\n") for part in forwarded)
        assert watch.is_final
        assert b"message_stop" not in b"".join(forwarded)
        assert b"".join(forwarded) + watch.close() == body
        assert (watch.usage(), watch.finish) == (whole.usage(), whole.finish)
        assert watch.has_content


@pytest.mark.parametrize("recording", STREAMS, ids=by_id)
def test_a_stream_cut_at_any_event_before_its_stop_reason_is_truncated(recording: Recording):
    pieces = events(recording.response.body)
    finish = next(i for i, piece in enumerate(pieces) if b'"message_delta"' in piece)
    for end in range(finish + 1):
        watch = observer()
        watch.feed(b"".join(pieces[:end]))
        with pytest.raises(UpstreamTruncated):
            watch.close()
        assert watch.usage().source == ("rebuilt" if end else "none")


def test_a_stream_that_is_cut_inside_an_event_is_truncated():
    for end in range(len(WHOLE.partition(b"event: message_delta")[0])):
        watch = observer()
        watch.feed(WHOLE[:end])
        with pytest.raises(UpstreamTruncated):
            watch.close()


def test_a_whole_answer_without_its_end_marker_gets_one():
    watch = observer()
    assert watch.feed(START + OPEN + CLOSE + FINISH + b"event: message_st") == START + OPEN + CLOSE + FINISH
    assert watch.close() == b'event: message_stop\ndata: {"type":"message_stop"}\n\n'


def test_a_cut_event_after_the_stop_reason_is_replaced_by_the_end_marker():
    for cut in (b"", b"event: message_stop\ndata: {", b"data: [DONE]\n\n"):
        watch = observer()
        forwarded = watch.feed(START + FINISH + cut) + watch.close()
        assert forwarded.startswith(START + FINISH)
        assert forwarded.endswith(b'event: message_stop\ndata: {"type":"message_stop"}\n\n')
        assert forwarded.count(b"event: message_stop") == 1


def test_a_last_event_without_its_blank_line_counts():
    watch = observer()
    assert watch.feed(WHOLE.rstrip(b"\n")) + watch.close() == WHOLE


@pytest.mark.parametrize("line_end", [b"\r\n", b"\r"])
def test_other_line_ends_are_forwarded_too(line_end: bytes):
    body = WHOLE.replace(b"\n", line_end)
    for reads in cuts(body, seed=2):
        watch = observer()
        assert b"".join(watch.feed(read) for read in reads) + watch.close() == body
        assert watch.usage().output_tokens == 7


def test_missing_event_names_comments_and_unknown_events_are_tolerated():
    body = b": hello\n\n" + b"".join(event.partition(b"\n")[2] for event in events(WHOLE))
    body = body.replace(b'data: {"type": "ping"}', b'data: {"type":"from_the_future","delta":17}')
    watch = observer()
    assert watch.feed(body) + watch.close() == body
    assert watch.finish == "stop"


def test_usage_is_the_prompt_of_the_start_and_the_output_of_the_end():
    watch = observer()
    watch.feed(WHOLE)
    assert watch.usage() == Usage(
        input_tokens=35,
        cache_read_tokens=20,
        cache_write_tokens=5,
        cache_write_1h_tokens=3,
        output_tokens=7,
        source="reported",
    )


def test_an_aborted_stream_keeps_its_reported_prompt_and_counts_its_output():
    watch = observer()
    watch.feed(START + OPEN + delta("twelve chars") * 10)
    usage = watch.usage()
    assert (usage.input_tokens, usage.output_tokens, usage.source) == (35, 30, "rebuilt")


def test_input_counts_of_zero_at_the_end_do_not_erase_those_of_the_start():
    watch = observer()
    watch.feed(WHOLE.replace(b'"usage":{"output_tokens":7}', b'"usage":{"input_tokens":0,"output_tokens":7}'))
    assert watch.usage().input_tokens == 35


def test_an_error_event_is_forwarded_and_ends_the_stream():
    untyped = b'data: {"error":{"message":"Overloaded"}}\n\n'
    for body in (
        START + ERROR,
        START + OPEN + delta("Hel") + ERROR,
        START + ERROR.partition(b"\n")[2],
        START + untyped,
    ):
        watch = observer()
        assert watch.feed(body + b"trailing") == body
        assert watch.is_final
        assert watch.failure is not None
        assert watch.failure.message == "Overloaded"
        assert watch.feed(b"more") == b""
        assert watch.close() == b""


def test_nothing_of_the_answer_is_content_before_its_first_block():
    watch = observer()
    watch.feed(START + PING)
    assert not watch.has_content
    watch.feed(OPEN)
    assert watch.has_content


@pytest.mark.parametrize(
    "garbage",
    [
        b"event: content_block_delta\ndata: {not json}\n\n",
        b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"te\n\n',
        delta("a").rstrip(b"\n") + b"\n" + delta("b"),
        b'data: {"type":"content_block_delta","delta":{"text":"\xff"}}\n\n',
        b"data: <html>502 Bad Gateway</html>\n\n",
        b"data: [1]\n\n",
        b'data: {"type":"message_start","message":' + b"[" * 100_000 + b"\n\n",
    ],
)
def test_an_event_that_is_not_json_is_malformed(garbage: bytes):
    watch = observer()
    watch.feed(START + OPEN)
    with pytest.raises(UpstreamMalformed):
        watch.feed(delta("a") + garbage)


def test_an_endless_event_is_too_large():
    watch = observer()
    assert watch.feed(b"x" * MAX_EVENT_BYTES) == b""
    with pytest.raises(UpstreamTooLarge):
        watch.feed(b"x")


def test_an_endless_trailer_is_too_large():
    watch = observer()
    watch.feed(WHOLE)
    with pytest.raises(UpstreamTooLarge):
        watch.feed(b"x" * (MAX_EVENT_BYTES + 1))


def test_an_end_marker_without_a_stop_reason_is_a_cut_and_not_an_end():
    watch = DIALECT.observer(
        DIALECT.peek(b'{"model":"m","max_tokens":1,"messages":[],"stream":true}'), AnthropicTraits()
    )
    watch.feed(b'event: message_start\ndata: {"type":"message_start","message":{"usage":{"input_tokens":1}}}\n\n')
    with pytest.raises(UpstreamTruncated):
        watch.feed(STOP)
