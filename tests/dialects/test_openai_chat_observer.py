"""The same-dialect lane forwards what came, sees what happened, and never takes a cut answer for a whole one."""

import msgspec
import pytest

from support.recordings import Recording, by_id, cuts, load, recordings
from tollhouse.dialects.dialect import MAX_EVENT_BYTES
from tollhouse.dialects.openai_chat import DIALECT, OPENAI
from tollhouse.dialects.openai_chat.observer import OpenAIChatObserver
from tollhouse.errors import StreamFailed, UpstreamMalformed, UpstreamTooLarge, UpstreamTruncated

STREAMS = recordings("openai-chat", stream=True)
WHOLE = [recording for recording in STREAMS if "error_in_stream" not in recording.features]
DONE = b"data: [DONE]\n\n"

ASKED = DIALECT.peek(b'{"model":"m","stream":true,"stream_options":{"include_usage":true}}')
NOT_ASKED = DIALECT.peek(b'{"model":"m","stream":true}')

START = b'data: {"id":"1","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}\n\n'
HEL = b'data: {"id":"1","choices":[{"index":0,"delta":{"content":"Hel"},"finish_reason":null}]}\n\n'
LO = b'data: {"id":"1","choices":[{"index":0,"delta":{"content":"lo"},"finish_reason":null}]}\n\n'
STOP = b'data: {"id":"1","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
USAGE = b'data: {"id":"1","choices":[],"usage":{"prompt_tokens":5,"completion_tokens":2,"total_tokens":7}}\n\n'


def observer(*, asked: bool = True) -> OpenAIChatObserver:
    return DIALECT.observer(ASKED if asked else NOT_ASKED, OPENAI)


def whole(body: bytes) -> bytes:
    """What a client shall get for a recording: its bytes, ended properly."""
    body = body.rstrip(b"\n") + b"\n\n"
    return body if b"[DONE]" in body[-20:] else body + DONE


@pytest.mark.parametrize("recording", WHOLE, ids=by_id)
def test_a_recorded_stream_is_forwarded_byte_for_byte_however_it_is_cut(recording: Recording):
    body = recording.response.body
    for reads in ([body], recording.reads(), *cuts(body, seed=7)):
        watch = observer()
        out = [watch.feed(data) for data in reads]
        assert b"".join([*out, watch.close()]) == whole(body)
        assert watch.finish is not None
        assert watch.failure is None
        assert all(piece == b"" or piece.endswith(b"\n\n") for piece in out)


@pytest.mark.parametrize("recording", WHOLE, ids=by_id)
def test_the_end_marker_waits_for_close(recording: Recording):
    watch = observer()
    assert b"[DONE]" not in watch.feed(recording.response.body)
    assert watch.close().endswith(DONE)


@pytest.mark.parametrize("recording", WHOLE, ids=by_id)
def test_a_stream_cut_before_its_finish_is_an_error_not_an_end(recording: Recording):
    events = recording.response.body.split(b"\n\n")
    last_open = max(i for i, e in enumerate(events) if b'"choices"' in e and _finishes(e))
    for end in range(last_open):
        watch = observer()
        if end:
            watch.feed(b"\n\n".join(events[:end]) + b"\n\n")
        if _all_finished(events[:end]):
            continue  # GLM and OpenRouter say their finish twice: after the first the answer is whole.
        with pytest.raises(UpstreamTruncated):
            watch.close()


def _choices(event: bytes) -> list[dict[str, object]]:
    data = event.split(b"data:")[-1].strip()
    if not data.startswith(b"{"):
        return []
    choices: list[dict[str, object]] = msgspec.json.decode(data).get("choices") or []
    return choices


def _finishes(event: bytes) -> bool:
    return any(choice.get("finish_reason") for choice in _choices(event))


def _all_finished(events: list[bytes]) -> bool:
    seen = {choice["index"] for event in events for choice in _choices(event)}
    done = {choice["index"] for event in events for choice in _choices(event) if choice.get("finish_reason")}
    return bool(seen) and seen == done


@pytest.mark.parametrize("recording", [r for r in WHOLE if "usage_final_chunk_empty_choices" in r.features], ids=by_id)
def test_the_usage_chunk_that_we_asked_for_is_not_shown(recording: Recording):
    body = recording.response.body
    for reads in ([body], recording.reads(), *cuts(body, seed=3)):
        watch = observer(asked=False)
        out = b"".join([*(watch.feed(data) for data in reads), watch.close()])
        hidden = [event for event in whole(body).split(b"\n\n") if event not in out.split(b"\n\n")]
        assert hidden
        assert all(msgspec.json.decode(event.removeprefix(b"data: "))["choices"] == [] for event in hidden)
        assert watch.usage().source == "reported"


def test_an_early_chunk_without_choices_is_shown():
    """Azure begins with its verdict on the prompt, in a chunk with `choices: []`."""
    verdict = b'data: {"id":"","choices":[],"prompt_filter_results":[{"prompt_index":0}]}\n\n'
    watch = observer(asked=False)
    assert watch.feed(verdict + START) == verdict + START


@pytest.mark.parametrize(
    "name", ["groq/groq-chat-stream-error-in-stream-b75f85", "openrouter/openrouter-chat-stream-error-in-stream-322572"]
)
def test_an_error_inside_a_stream_is_forwarded_and_reported(name: str):
    body = load(name).response.body
    for reads in ([body], *cuts(body, seed=5)):
        watch = observer()
        out = b"".join(watch.feed(data) for data in reads)
        assert out.rstrip() == body.rstrip()
        assert watch.is_final
        assert watch.failure is not None
        assert watch.failure.status in {400, 502}


def test_nothing_after_an_error_reaches_the_client():
    watch = observer()
    error = b'data: {"error":{"message":"boom"}}\n\n'
    assert watch.feed(HEL + error + LO + DONE) == HEL + error
    assert watch.feed(STOP) == b""


def test_an_error_that_the_end_of_the_stream_completes_is_raised():
    watch = observer()
    watch.feed(HEL + b'data: {"error":{"message":"boom"}}')
    with pytest.raises(StreamFailed, match="boom"):
        watch.close()


@pytest.mark.parametrize(
    "garbage",
    [
        b'data: {"id":"1","choices":[{"ind\n\n',
        b"data: not json\n\n",
        b"data: {}}\n\n",
        b"<!DOCTYPE html>\n<html>\n\n",
        b"data: [1]\n\n",
        b'data: {"choices":7}\n\n',
        b"data: \xff\xfe\n\n",
        b'data: {"choices":[{"delta":{"content":"\xff"}}]}\n\n',
        b'data: {"a":' + b"[" * 5_000 + b"\n\n",
    ],
)
def test_a_garbage_event_is_an_error(garbage: bytes):
    watch = observer()
    watch.feed(START + HEL)
    with pytest.raises(UpstreamMalformed):
        watch.feed(garbage)


def test_what_is_no_event_stream_at_all_is_an_error_at_its_end():
    watch = observer()
    assert watch.feed(b"<html><body>502 Bad Gateway</body></html>") == b""
    with pytest.raises(UpstreamMalformed):
        watch.close()


def test_a_plain_json_error_under_an_event_stream_says_what_it_says():
    watch = observer()
    watch.feed(b'{"error":{"message":"over capacity","code":503}}')
    with pytest.raises(StreamFailed, match="over capacity"):
        watch.close()


def test_an_endless_event_is_refused():
    watch = observer()
    assert watch.feed(b"data: {" + b"x" * (MAX_EVENT_BYTES - 100)) == b""
    with pytest.raises(UpstreamTooLarge):
        watch.feed(b"x" * 100)


@pytest.mark.parametrize("end", [b"\r\n", b"\r", b"\n"])
def test_other_line_ends_are_the_same_stream(end: bytes):
    body = (START + HEL + LO + STOP + USAGE + DONE).replace(b"\n", end)
    shown = body.replace(USAGE.replace(b"\n", end), b"")
    for reads in ([body], *cuts(body, seed=11)):
        watch = observer(asked=False)
        out = b"".join([*(watch.feed(data) for data in reads), watch.close()])
        assert out.rstrip() == shown.rstrip()
        assert watch.usage().output_tokens == 2
        assert watch.finish == "stop"


def test_mixed_line_ends_and_comments_are_forwarded():
    body = b": hello\n\n" + START.replace(b"\n", b"\r\n") + HEL + b"event: message\n" + LO + STOP + DONE
    for reads in ([body], *cuts(body, seed=2)):
        watch = observer()
        assert b"".join([*(watch.feed(data) for data in reads), watch.close()]) == body


def test_half_a_surrogate_pair_does_not_end_the_stream():
    emoji = b'data: {"id":"1","choices":[{"index":0,"delta":{"content":"\\ud83d"},"finish_reason":null}]}\n\n'
    watch = observer()
    assert watch.feed(START + emoji + STOP) == START + emoji + STOP
    assert watch.close() == DONE


def test_an_end_marker_without_a_finish_is_a_cut_answer():
    watch = observer()
    watch.feed(START + HEL + DONE)
    with pytest.raises(UpstreamTruncated):
        watch.close()


def test_a_choice_that_never_finishes_is_a_cut_answer():
    other = HEL.replace(b'"index":0', b'"index":1')
    watch = observer()
    watch.feed(HEL + other + STOP + DONE)
    with pytest.raises(UpstreamTruncated):
        watch.close()


def test_content_is_seen_with_the_first_word():
    watch = observer()
    watch.feed(START)
    assert not watch.has_content
    watch.feed(HEL)
    assert watch.has_content


def test_a_stream_that_broke_off_is_counted_from_its_chunks():
    watch = observer()
    watch.feed(START + HEL + LO)
    usage = watch.usage()
    assert (usage.input_tokens, usage.output_tokens, usage.source) == (None, 2, "rebuilt")


def test_the_count_of_a_stream_that_broke_off_is_near_what_it_would_have_reported():
    """Over all recorded streams that report; hidden reasoning cannot be counted and is left out on both sides."""
    counted = reported = 0
    for recording in WHOLE:
        watch = observer()
        watch.feed(recording.response.body)
        said = watch.usage()
        if said.source == "reported" and not said.reasoning_tokens:
            reported += said.output_tokens or 0
            counted += watch._tally.tokens
    assert reported > 1_000
    assert abs(counted / reported - 1) < 0.1


def test_a_report_that_came_early_still_gives_the_input():
    early = HEL.replace(b'"choices"', b'"usage":{"prompt_tokens":9,"completion_tokens":1},"choices"')
    watch = observer()
    watch.feed(early + LO + LO)
    usage = watch.usage()
    assert (usage.input_tokens, usage.output_tokens, usage.source) == (9, 3, "rebuilt")


def test_an_explicit_zero_is_a_report():
    zero = USAGE.replace(b'"completion_tokens":2', b'"completion_tokens":0')
    watch = observer()
    watch.feed(START + HEL + STOP + zero + DONE)
    assert (watch.usage().output_tokens, watch.usage().source) == (0, "reported")


def test_nothing_seen_is_nothing_counted():
    assert observer().usage().is_empty


def test_groqs_own_corner_is_a_report_where_nothing_else_is():
    stop = STOP.replace(b'"id"', b'"x_groq":{"usage":{"prompt_tokens":3,"completion_tokens":4}},"id"')
    watch = observer()
    watch.feed(HEL + stop + DONE)
    assert (watch.usage().input_tokens, watch.usage().output_tokens, watch.usage().source) == (3, 4, "reported")
