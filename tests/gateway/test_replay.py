"""A stream is recorded beside the relay and said again to whoever asks, in their dialect and in the form they asked for."""

import random
from typing import Any

import msgspec
import pytest

from support.recordings import Recording, by_id, cuts, everything
from tollhouse.chat.fold import Folder
from tollhouse.chat.model import Choice, Message, Request, Response, Text, ToolCall
from tollhouse.chat.receipt import Receipt
from tollhouse.chat.sse import Parser
from tollhouse.dialects import anthropic, openai_chat
from tollhouse.dialects.dialect import Dialect
from tollhouse.errors import ProviderError
from tollhouse.gateway.replay import Recorder, read_whole, replay
from tollhouse.policy.response_cache import Kept, pack, unpack

SIDES: dict[str, tuple[Dialect[Any], Any]] = {
    "openai-chat": (openai_chat.DIALECT, openai_chat.OPENAI),
    "anthropic-messages": (anthropic.DIALECT, anthropic.AnthropicTraits()),
}
ANSWERS = [one for one in everything().values() if one.dialect in SIDES and not one.is_error]
STREAMS = [one for one in ANSWERS if one.is_stream]
WHOLE = [one for one in ANSWERS if not one.is_stream]
ASKED = Request(model="m", messages=(Message("user", (Text("Hello"),)),))


def recorder(recording: Recording, **bounds: int) -> Recorder:
    dialect, traits = SIDES[recording.dialect]
    return Recorder(dialect.stream_decoder(traits), **bounds)


def decoded(body: bytes, dialect: Dialect[Any], traits: Any) -> Response:
    parser, decoder, folder = Parser(), dialect.stream_decoder(traits), Folder()
    for frame in [*parser.feed(body), *parser.close()]:
        for event in decoder.feed(frame):
            folder.feed(event)
    for event in decoder.close():
        folder.feed(event)
    return folder.response()


# -------------------------------------------------------------------------------------------------------------- recorder


@pytest.mark.parametrize("recording", STREAMS, ids=by_id)
def test_a_recorded_answer_is_the_one_in_the_stream_however_it_was_cut(recording: Recording):
    try:
        expected = decoded(recording.response.body, *SIDES[recording.dialect])
    except ProviderError:
        expected = None
    for reads in [recording.reads(), *cuts(recording.response.body, seed=3, ways=2)]:
        one = recorder(recording)
        for data in reads:
            one.feed(data)
        assert one.close() == expected


@pytest.mark.parametrize("recording", STREAMS, ids=by_id)
def test_a_cut_stream_leaves_no_answer(recording: Recording):
    body = recording.response.body
    one = recorder(recording)
    one.feed(body[: len(body) // 2])
    assert one.close() is None


def test_what_follows_the_end_of_a_stream_is_not_part_of_the_answer():
    recording = STREAMS[0]
    one = recorder(recording)
    one.feed(recording.response.body)
    again = recorder(recording)
    again.feed(recording.response.body + b"data: what is this?\n\n")
    again.feed(b"\xff\xff\n\n")
    assert again.close() == one.close() is not None


def test_a_stream_over_the_bound_leaves_no_answer():
    recording = STREAMS[0]
    size = len(recording.response.body)
    for bound, is_kept in ((size, True), (size - 1, False)):
        one = recorder(recording, max_bytes=bound)
        for data in (recording.response.body[:100], recording.response.body[100:]):
            one.feed(data)
        assert (one.close() is not None) == is_kept


def test_an_answer_is_taken_once():
    one = recorder(STREAMS[0])
    one.feed(STREAMS[0].response.body)
    assert one.close() is not None
    assert one.close() is None


@pytest.mark.parametrize("recording", STREAMS[::3], ids=by_id)
def test_no_stream_is_too_broken_to_listen_to(recording: Recording):
    """It runs beside a relay that forwards what only the client may be able to read, and must not disturb it."""
    source = random.Random(11)
    body = recording.response.body
    for _ in range(60):
        damaged = bytearray(body)
        for _ in range(source.randint(1, 4)):
            at = source.randrange(len(damaged))
            match source.randrange(3):
                case 0:
                    damaged[at] = source.randrange(256)
                case 1:
                    del damaged[at : at + source.randint(1, 400)]
                case _:
                    damaged[at:at] = damaged[source.randrange(len(damaged)) :][: source.randint(1, 400)]
        one = recorder(recording)
        middle = source.randrange(len(damaged))
        one.feed(bytes(damaged[:middle]))
        one.feed(bytes(damaged[middle:]))
        one.close()


# ----------------------------------------------------------------------------------------------------------- whole answers


@pytest.mark.parametrize("recording", WHOLE, ids=by_id)
def test_a_whole_answer_is_read_or_is_none(recording: Recording):
    dialect, traits = SIDES[recording.dialect]
    try:
        expected = dialect.decode_response(recording.response.body, traits)
    except ProviderError:
        expected = None
    assert read_whole(recording.response.body, dialect, traits) == expected


@pytest.mark.parametrize("body", [b"", b"<html>", b"{}", b"[]", b"\xff", b"null", b'{"choices":[]}'])
@pytest.mark.parametrize("side", sorted(SIDES))
def test_what_is_no_answer_is_none(side: str, body: bytes):
    assert read_whole(body, *SIDES[side]) is None


# ---------------------------------------------------------------------------------------------------------------- replay


def answers() -> list[tuple[str, Response]]:
    found = []
    for recording in ANSWERS:
        dialect, traits = SIDES[recording.dialect]
        try:
            if recording.is_stream:
                response = decoded(recording.response.body, dialect, traits)
            else:
                response = dialect.decode_response(recording.response.body, traits)
        except ProviderError:
            continue
        if response.created is None:
            response = msgspec.structs.replace(response, created=1_790_000_000)  # as the cache does
        entry = pack(Kept(response=response, kept_at=0.0))
        kept = None if entry is None else unpack(entry)
        assert kept is not None
        found.append((recording.id, kept.response))
    return found


def sayable(response: Response) -> Any:
    """What every form of an answer has: its words, calls and finishes."""
    return [
        (
            choice.finish,
            "".join(part.text for part in choice.parts if isinstance(part, Text)),
            [(part.name, part.arguments or "{}") for part in choice.parts if isinstance(part, ToolCall)],
        )
        for choice in response.choices
    ]


@pytest.mark.parametrize("side", sorted(SIDES))
@pytest.mark.parametrize(("name", "response"), [pytest.param(*found, id=found[0]) for found in answers()])
def test_a_kept_answer_is_the_same_as_a_stream_and_as_a_whole(name: str, response: Response, side: str):
    """For clients of either dialect, whichever provider's answer it was; and it says the same every time."""
    dialect, traits = SIDES[side]
    whole = replay(response, ASKED, dialect, Receipt())
    streaming = msgspec.structs.replace(ASKED, stream=True, include_usage=True)
    stream = replay(response, streaming, dialect, Receipt())
    assert whole == replay(response, ASKED, dialect, Receipt())
    assert stream == replay(response, streaming, dialect, Receipt())
    from_whole, from_stream = dialect.decode_response(whole, traits), decoded(stream, dialect, traits)
    assert sayable(from_stream) == sayable(from_whole)
    assert from_stream.usage == from_whole.usage
    assert (from_stream.id, from_stream.model, from_stream.created) == (
        from_whole.id,
        from_whole.model,
        from_whole.created,
    )


def test_a_replayed_stream_has_usage_only_for_who_asked_for_it():
    response = Response(id="a", model="m", created=1, choices=(Choice(parts=(Text("Hi"),), finish="stop"),))
    response = msgspec.structs.replace(
        response, usage=msgspec.structs.replace(response.usage, input_tokens=3, output_tokens=1, source="reported")
    )
    streaming = msgspec.structs.replace(ASKED, stream=True)
    without = replay(response, streaming, openai_chat.DIALECT, Receipt())
    having = replay(response, msgspec.structs.replace(streaming, include_usage=True), openai_chat.DIALECT, Receipt())
    assert b'"prompt_tokens":3' not in without
    assert b'"prompt_tokens":3' in having


def test_a_replay_ends_like_any_stream_of_its_dialect():
    response = Response(id="a", model="m", created=1, choices=(Choice(parts=(Text("Hi"),), finish="stop"),))
    streaming = msgspec.structs.replace(ASKED, stream=True)
    assert replay(response, streaming, openai_chat.DIALECT, Receipt()).endswith(b"data: [DONE]\n\n")
    assert b"event: message_stop" in replay(response, streaming, anthropic.DIALECT, Receipt())


def test_what_the_clients_dialect_cannot_say_of_a_kept_answer_is_in_the_receipt():
    two = tuple(Choice(index=index, parts=(Text("Hi"),), finish="stop") for index in range(2))
    receipt = Receipt()
    replay(Response(id="a", model="m", created=1, choices=two), ASKED, anthropic.DIALECT, receipt)
    assert receipt
