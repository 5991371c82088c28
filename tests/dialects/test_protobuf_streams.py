"""Streams in the typed protocol: encoded, decoded, watched; whole, cut and broken."""

import random
from collections.abc import Iterable

import msgspec
import pytest
from hypothesis import given, settings

from support.conversations import responses
from tollhouse.chat.events import (
    Delta,
    Ended,
    Event,
    Failed,
    Finished,
    PartClosed,
    PartOpened,
    Pinged,
    Started,
    UsageReported,
)
from tollhouse.chat.fold import fold, unfold
from tollhouse.chat.model import Request, Response, Text
from tollhouse.chat.receipt import Receipt
from tollhouse.chat.sse import Frame
from tollhouse.chat.usage import Usage
from tollhouse.dialects.protobuf import Form, Typed, TypedTraits, typed
from tollhouse.dialects.protobuf.reports import Settlement
from tollhouse.errors import StreamFailed, UpstreamMalformed, UpstreamTimeout, UpstreamTooLarge, UpstreamTruncated

FORMS: tuple[Form, ...] = ("json", "protobuf")
TRAITS = TypedTraits()
REQUEST = Request(model="m", messages=(), stream=True)
SETTLEMENT = Settlement(request_id="req_0", outcome="ok")
USAGE = Usage(input_tokens=3, output_tokens=2, source="reported")
WHOLE: list[Event] = [
    Started(id="a", model="m", usage=Usage(input_tokens=3, source="reported")),
    PartOpened(0, Text("")),
    Delta(0, "Hel"),
    Delta(0, "lo"),
    PartClosed(0),
    Finished("stop"),
    UsageReported(USAGE),
    Ended(),
]

by_form = pytest.mark.parametrize("form", FORMS)


def written(dialect: Typed, events: Iterable[Event]) -> bytes:
    encoder = dialect.stream_encoder(REQUEST, Receipt())
    return b"".join(map(encoder.encode, events))


def read(dialect: Typed, data: bytes) -> list[Event]:
    splitter = dialect.writes.splitter()
    decoder = dialect.stream_decoder(TRAITS)
    events = [event for m in [*splitter.feed(data), *splitter.close()] for event in decoder.feed(Frame(m))]
    return [*events, *decoder.close()]


@by_form
@settings(max_examples=30)
@given(response=responses())
def test_a_stream_comes_back_as_it_was(form: Form, response: Response):
    dialect = typed(form)
    events = list(unfold(response))
    assert read(dialect, written(dialect, events)) == events
    assert fold(read(dialect, written(dialect, events))) == fold(events)


@by_form
def test_a_settlement_is_no_part_of_the_answer(form: Form):
    dialect = typed(form)
    assert read(dialect, written(dialect, WHOLE) + dialect.say_settled(SETTLEMENT)) == WHOLE


@by_form
def test_what_comes_before_the_start_to_keep_the_connection_is_passed_over(form: Form):
    dialect = typed(form)
    ping = dialect.stream_encoder(REQUEST, Receipt()).ping()
    assert read(dialect, ping + written(dialect, WHOLE)) == WHOLE
    late = [*WHOLE[:3], Pinged(), *WHOLE[3:]]
    assert read(dialect, written(dialect, late)) == late


@by_form
@pytest.mark.parametrize("kept", range(len(WHOLE)))
def test_a_cut_stream_is_an_error_not_an_end(form: Form, kept: int):
    dialect = typed(form)
    with pytest.raises(UpstreamTruncated):
        read(dialect, written(dialect, WHOLE[:kept]))


@by_form
def test_events_out_of_order_are_malformed(form: Form):
    dialect = typed(form)
    for events in ([WHOLE[1]], [WHOLE[0], WHOLE[2]], [*WHOLE[:2], WHOLE[-1]]):
        with pytest.raises(UpstreamMalformed, match="out of order"):
            read(dialect, written(dialect, events))


@by_form
def test_an_error_of_ours_ends_the_stream_of_who_reads_it(form: Form):
    dialect = typed(form)
    error = UpstreamTimeout("Nothing came for 20 s.", phase="between_chunks")
    events = read(dialect, written(dialect, WHOLE[:3]) + dialect.encode_stream_error(error, "req_1"))
    assert events[3:] == [Failed(message="Nothing came for 20 s.", kind="provider_timeout", status=504)]


def test_what_is_no_event_is_malformed():
    junks: tuple[tuple[Form, bytes], ...] = (("json", b"[1]"), ("json", b"<html>"), ("protobuf", b"\xff\xff"))
    for form, junk in junks:
        decoder = typed(form).stream_decoder(TRAITS)
        with pytest.raises(UpstreamMalformed):
            list(decoder.feed(Frame(junk)))


# ----------------------------------------------------------------------------------------------------------- observing


@by_form
def test_a_watched_stream_goes_on_byte_for_byte_and_holds_back_its_end(form: Form):
    dialect = typed(form)
    data = written(dialect, WHOLE)
    end = written(dialect, [Ended()])
    chance = random.Random(1)
    for _ in range(30):
        observer = dialect.observer(
            dialect.peek(dialect.encode_request(msgspec.structs.replace(REQUEST, model="m"), TRAITS, Receipt())), TRAITS
        )
        out, at = b"", 0
        stream = data + dialect.say_settled(SETTLEMENT)
        while at < len(stream) and not observer.is_final:
            step = chance.randint(1, 60)
            out += observer.feed(stream[at : at + step])
            at += step
        assert out + end == data
        assert observer.is_final
        assert observer.close() == end
        assert (observer.finish, observer.usage(), observer.has_content) == ("stop", USAGE, True)


@by_form
def test_a_watched_stream_that_is_cut_is_an_error_and_is_counted(form: Form):
    dialect = typed(form)
    observer = dialect.observer(dialect.peek(b'{"model":"m"}' if form == "json" else b"\x0a\x01m"), TRAITS)
    observer.feed(written(dialect, WHOLE[:4]))
    with pytest.raises(UpstreamTruncated):
        observer.close()
    assert observer.usage() == Usage(input_tokens=3, output_tokens=2, source="rebuilt")


@by_form
def test_an_error_in_a_watched_stream_is_forwarded_and_known(form: Form):
    dialect = typed(form)
    observer = dialect.observer(dialect.peek(b'{"model":"m"}' if form == "json" else b"\x0a\x01m"), TRAITS)
    failed = Failed(message="Overloaded.", kind="overloaded_error", status=529)
    data = written(dialect, [*WHOLE[:3], failed])
    assert observer.feed(data + dialect.say_settled(SETTLEMENT)) == data
    assert observer.is_final
    assert isinstance(observer.failure, StreamFailed)
    assert (observer.failure.kind, observer.failure.status) == ("overloaded_error", 529)


def test_fields_of_a_newer_peer_are_forwarded_in_a_watched_stream():
    dialect = typed("json")
    observer = dialect.observer(dialect.peek(b'{"model":"m"}'), TRAITS)
    newer = b'data: {"delta":{"text":"a","mood":"gay"},"more":1}\n\n'
    assert observer.feed(newer) == newer


def test_an_event_over_the_bound_is_refused_before_it_is_held():
    observer = typed("protobuf").observer(typed("protobuf").peek(b"\x0a\x01m"), TRAITS)
    with pytest.raises(UpstreamTooLarge):
        observer.feed(b"\xff\xff\xff\x7f" + b"x" * 100)
