"""Every recorded Responses exchange means what it says, and survives the way to a client and back."""

import json
from typing import Any

import msgspec
import pytest

from support import grammar_responses
from support.recordings import Recording, by_id, cuts, recordings
from tollhouse.chat import sse
from tollhouse.chat.events import Event, Failed, Finished, Started, UsageReported
from tollhouse.chat.fold import fold
from tollhouse.chat.grammar import check
from tollhouse.chat.model import Foreign, Message, RedactedThinking, Request, Text, Thinking, ToolCall
from tollhouse.chat.receipt import Receipt
from tollhouse.chat.usage import Usage
from tollhouse.dialects.openai_responses import DIALECT, ResponsesTraits, decode_count
from tollhouse.dialects.openai_responses.encoder import ResponsesEncoder
from tollhouse.dialects.openai_responses.traits import OPENAI
from tollhouse.errors import StreamFailed, UpstreamTruncated

EVERYTHING = recordings("openai-responses")
STREAMS = recordings("openai-responses", stream=True)
WHOLE = recordings("openai-responses", stream=False, error=False)
ERRORS = recordings("openai-responses", error=True)
ASKING = [recording for recording in EVERYTHING if recording.request.body is not None]
FAILS = "error_in_stream"
QUEUED = "status_queued"
ASKED = Request(model="m", messages=(Message("user", (Text("hi"),)),), stream=True)


def traits_of(recording: Recording) -> ResponsesTraits:
    return ResponsesTraits(home=recording.provider)


def decode(body: bytes, traits: ResponsesTraits = OPENAI) -> list[Event]:
    parser, decoder = sse.Parser(), DIALECT.stream_decoder(traits)
    events = [event for frame in [*parser.feed(body), *parser.close()] for event in decoder.feed(frame)]
    return [*events, *decoder.close()]


def encode(events: list[Event], request: Request = ASKED) -> bytes:
    encoder = ResponsesEncoder(request, Receipt(), "ab" * 24)
    return b"".join(encoder.encode(event) for event in events)


def test_all_recordings_are_looked_at():
    assert len(EVERYTHING) >= 38
    assert {recording.id for recording in EVERYTHING} == {each.id for each in [*STREAMS, *WHOLE, *ERRORS]}


# -------------------------------------------------------------------------------------------------------------- streams


@pytest.mark.parametrize("recording", STREAMS, ids=by_id)
def test_a_stream_reads_as_its_last_event_says(recording: Recording):
    events = decode(recording.response.body, traits_of(recording))
    check(events)
    if FAILS in recording.features:
        assert isinstance(events[-1], Failed)
        return
    last = next(
        json.loads(frame.data)["response"]
        for frame in reversed(recording.frames())
        if b'"response.completed"' in frame.data or b'"response.incomplete"' in frame.data
    )
    streamed = fold(events)
    whole = DIALECT.decode_response(json.dumps(last).encode(), traits_of(recording))
    said = [_opened(part) for part in streamed.choices[0].parts if not isinstance(part, Foreign)]
    wanted = [_opened(part) for part in whole.choices[0].parts if not isinstance(part, Foreign)]
    assert said == wanted
    assert streamed.usage == whole.usage
    assert streamed.choices[0].finish == whole.choices[0].finish
    assert isinstance(events[0], Started)
    assert events[0].id == last["id"]


@pytest.mark.parametrize("recording", STREAMS, ids=by_id)
def test_a_stream_that_is_written_again_keeps_the_grammar_and_says_the_same(recording: Recording):
    events = decode(recording.response.body, traits_of(recording))
    body = encode(events)
    grammar_responses.check(body, fails=FAILS in recording.features)
    if FAILS in recording.features:
        return
    after, before = fold(decode(body)), fold(events)
    assert [_bare(part) for part in after.choices[0].parts] == [_bare(part) for part in before.choices[0].parts]
    assert after.choices[0].finish == before.choices[0].finish
    assert after.usage.output_tokens == before.usage.output_tokens


def _opened(part: Any) -> Any:
    """A part without what is encrypted: the same reasoning is encrypted anew for the last event."""
    if isinstance(part, RedactedThinking):
        return RedactedThinking
    return msgspec.structs.replace(part, signature=None) if isinstance(part, Thinking) else part


def _bare(part: Any) -> Any:
    """The original of what only this dialect knows compares by its JSON, not by its spacing."""
    return json.loads(bytes(part.raw)) if isinstance(part, Foreign) else part


@pytest.mark.parametrize("recording", STREAMS, ids=by_id)
def test_an_observer_passes_every_byte_on_and_reads_the_same(recording: Recording):
    events = decode(recording.response.body, traits_of(recording))
    usages = [event.usage for event in events if isinstance(event, UsageReported)]
    finishes = [event.reason for event in events if isinstance(event, Finished)]
    body = recording.response.body
    for pieces in cuts(body, seed=len(body)):
        observer = DIALECT.observer(DIALECT.peek(b'{"model":"m","input":"x"}'), OPENAI)
        out = b""
        for piece in pieces:
            out += observer.feed(piece)
            assert body.startswith(out)
        if FAILS in recording.features:
            assert observer.failure is not None
            assert out == body
            assert observer.is_final
            continue
        assert observer.is_final
        assert b"event: response.completed" not in out, "held back until the row is written"
        assert out + observer.close() == body
        assert [observer.finish] == finishes
        assert [observer.usage()] == usages
        assert observer.has_content


@pytest.mark.parametrize("recording", STREAMS, ids=by_id)
def test_a_cut_stream_never_looks_whole(recording: Recording):
    body = recording.response.body
    end = max(body.rfind(b"event: response.completed"), body.rfind(b"event: response.incomplete"))
    if end < 0:
        return
    for cut in (end, end + 40, end // 2):
        observer = DIALECT.observer(DIALECT.peek(b'{"model":"m","input":"x"}'), OPENAI)
        observer.feed(body[:cut])
        with pytest.raises(Exception, match=r"stopped before|not JSON"):
            observer.close()
        if cut == end:
            with pytest.raises(UpstreamTruncated):
                decode(body[:cut], traits_of(recording))
        else:
            assert observer.usage().source in {"rebuilt", "none"}


# ---------------------------------------------------------------------------------------------------------- whole answers


@pytest.mark.parametrize("recording", WHOLE, ids=by_id)
def test_a_whole_answer_survives_both_ways(recording: Recording):
    traits = traits_of(recording)
    glance = DIALECT.glance(recording.response.body, traits)
    if QUEUED in recording.features:
        assert isinstance(glance.error, StreamFailed)
        with pytest.raises(StreamFailed, match="queued"):
            DIALECT.decode_response(recording.response.body, traits)
        return
    response = DIALECT.decode_response(recording.response.body, traits)
    assert glance.error is None
    assert glance.usage == response.usage
    assert glance.finish == response.choices[0].finish

    body = DIALECT.encode_response(response, ASKED, Receipt())
    after = DIALECT.decode_response(body, OPENAI)
    assert [_bare(part) for part in after.choices[0].parts] == [_bare(part) for part in response.choices[0].parts]
    assert after.choices[0].finish == response.choices[0].finish
    assert after.model == response.model


@pytest.mark.parametrize("recording", WHOLE, ids=by_id)
def test_the_counts_are_the_provider_s(recording: Recording):
    said = recording.json.get("usage")
    usage = DIALECT.glance(recording.response.body, OPENAI).usage
    if said is None:
        assert usage == Usage()
    elif said["output_tokens"] < 0:
        assert usage.output_tokens is None, "a count that cannot be is none"
    else:
        assert usage.input_tokens == said["input_tokens"]
        assert usage.output_tokens == said["output_tokens"]
        assert usage.reasoning_tokens == said["output_tokens_details"]["reasoning_tokens"]
        assert usage.cache_read_tokens == said["input_tokens_details"]["cached_tokens"]
        assert usage.cache_write_tokens == said["input_tokens_details"].get("cache_write_tokens")


@pytest.mark.parametrize("recording", ERRORS, ids=by_id)
def test_an_error_keeps_its_words(recording: Recording):
    error = DIALECT.decode_error(recording.response.status, recording.response.body)
    said = recording.json["error"]
    message = said if isinstance(said, str) else said["message"]
    assert error.message[:30] == message[:30]
    assert error.status == recording.response.status


def test_a_recorded_count_is_read():
    (recording,) = recordings("openai-responses-aux")
    assert decode_count(recording.response.body) == 60


# -------------------------------------------------------------------------------------------------------------- requests


@pytest.mark.parametrize("recording", ASKING, ids=by_id)
def test_a_recorded_request_goes_to_a_provider_as_it_came(recording: Recording):
    """Read and written for a provider of the same kind: the same items in the same order, the same words in them."""
    body = recording.request.body
    assert body is not None
    request = DIALECT.decode_request(body)
    receipt = Receipt()
    traits = ResponsesTraits(home="openai", reasoning_text=True, cache_breakpoints=True, logprobs=True)
    written = msgspec.json.decode(DIALECT.encode_request(request, traits, receipt))
    asked = recording.request_json
    assert bool(receipt) == bool(asked.get("background")), receipt.header()
    assert [_told(item) for item in _items(written)] == [_told(item) for item in _items(asked)]
    for name in asked.keys() - {"input", "store", "include", "stream", "tools", "instructions", "background", "text"}:
        if asked[name] is not None and name != "previous_response_id":
            assert written[name] == asked[name], name
    assert len(written.get("tools") or ()) == len(asked.get("tools") or ())


def _items(body: dict[str, Any]) -> list[dict[str, Any]]:
    given = body["input"]
    items: list[dict[str, Any]] = [{"role": "user", "content": given}] if isinstance(given, str) else list(given)
    if body.get("instructions"):
        items.insert(0, {"role": "system", "content": body["instructions"]})
    # Reasoning of which there is nothing but an id goes nowhere.
    return [
        item
        for item in items
        if item.get("type") != "reasoning"
        or item.get("encrypted_content")
        or item.get("content")
        or item.get("summary")
    ]


def _told(item: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in item.items() if value is not None and name not in {"id", "status"}}
    kept.setdefault("type", "message")
    content = kept.get("content")
    if kept["type"] == "message":
        parts: list[Any] = [{"type": "input_text", "text": content}] if isinstance(content, str) else content or []
        kept["content"] = [_told_part(part) for part in parts]
    if isinstance(kept.get("output"), list):
        kept["output"] = [_told_part(part) for part in kept["output"]]
        if all(part.keys() == {"text"} for part in kept["output"]):
            kept["output"] = "\n\n".join(part["text"] for part in kept["output"])
    if kept["type"] == "reasoning":
        words = [part["text"] for part in [*(kept.pop("content", None) or []), *kept.pop("summary")]]
        kept["words"] = "\n\n".join(words)
    return kept


def _told_part(part: dict[str, Any]) -> dict[str, Any]:
    told = {name: value for name, value in part.items() if value not in (None, []) and name != "logprobs"}
    if told["type"] in {"input_text", "output_text"}:
        del told["type"]  # a string as content says neither
    if told.get("type") == "input_image":
        told.setdefault("detail", "auto")
    return told


@pytest.mark.parametrize("recording", ASKING, ids=by_id)
def test_a_recorded_request_is_forwarded_but_for_the_model(recording: Recording):
    body = recording.request.body
    assert body is not None
    receipt = Receipt()
    patched = msgspec.json.decode(DIALECT.patch(DIALECT.peek(body), "other", OPENAI, receipt, 77))
    asked = recording.request_json
    background = asked.pop("background", None)
    asked.pop("previous_response_id", None)
    assert patched == {**asked, "model": "other", "max_output_tokens": 77}
    assert bool(receipt) == bool(background)


def test_a_turn_is_made_of_the_items_between_two_inputs():
    recording = next(each for each in ASKING if each.id.startswith("xai-responses-stream-tool-call-66dd6f"))
    request = DIALECT.decode_request(recording.request.body or b"")
    roles = [message.role for message in request.messages]
    assert roles == ["system", "user", "assistant", "tool", "assistant", "tool", "assistant", "tool"]
    assert [type(part) for part in request.messages[2].parts] == [Thinking, ToolCall]
