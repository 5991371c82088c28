"""Every recorded conversation, through the typed protocol and back."""

from typing import Any, get_args

import msgspec
import pytest

from support.recordings import Recording, recordings
from tollhouse.chat.events import Event
from tollhouse.chat.model import Request
from tollhouse.chat.receipt import Receipt
from tollhouse.chat.sse import Frame
from tollhouse.dialects.anthropic import DIALECT as ANTHROPIC
from tollhouse.dialects.anthropic import AnthropicTraits
from tollhouse.dialects.dialect import Dialect
from tollhouse.dialects.openai_chat import DIALECT as OPENAI_CHAT
from tollhouse.dialects.openai_chat.traits import OPENAI
from tollhouse.dialects.protobuf import Form, TypedTraits, typed
from tollhouse.errors import TollhouseError

FORMS: tuple[Form, ...] = get_args(Form)
TRAITS = TypedTraits()
ASKED = Request(model="m", messages=(), stream=True)
SPOKEN: list[tuple[str, Dialect[Any], Any]] = [
    ("openai-chat", OPENAI_CHAT, OPENAI),
    ("anthropic-messages", ANTHROPIC, AnthropicTraits()),
]

by_form = pytest.mark.parametrize("form", FORMS)
by_dialect = pytest.mark.parametrize(("name", "dialect", "traits"), SPOKEN, ids=[name for name, _, _ in SPOKEN])


def events_of(recording: Recording, dialect: Dialect[Any], traits: Any) -> list[Event]:
    decoder = dialect.stream_decoder(traits)
    return [*(event for frame in recording.frames() for event in decoder.feed(frame)), *decoder.close()]


@by_form
@by_dialect
def test_recorded_requests_come_back_as_they_were(form: Form, name: str, dialect: Dialect[Any], traits: Any):
    came_back = 0
    for recording in recordings(name):
        body = recording.request.body
        try:
            request = dialect.decode_request(body or b"")
        except TollhouseError:
            continue  # one that was meant to be refused, or that the source did not keep
        there = typed(form).encode_request(request, TRAITS, Receipt())
        own = msgspec.structs.replace(request, include_usage=True, legacy_functions=False, echo=None)
        assert typed(form).decode_request(there) == own, recording.id
        came_back += 1
    assert came_back > 15


@by_form
@by_dialect
def test_recorded_answers_come_back_as_they_were(form: Form, name: str, dialect: Dialect[Any], traits: Any):
    came_back = 0
    for recording in recordings(name, error=False):
        try:
            if recording.is_stream:
                events = events_of(recording, dialect, traits)
            else:
                response = dialect.decode_response(recording.response.body, traits)
        except TollhouseError:
            continue  # cut, or an error under a good status
        client = typed(form)
        if recording.is_stream:
            encoder, splitter = client.stream_encoder(ASKED, Receipt()), client.writes.splitter()
            data = b"".join(map(encoder.encode, events))
            decoder = client.stream_decoder(TRAITS)
            heard = [event for m in [*splitter.feed(data), *splitter.close()] for event in decoder.feed(Frame(m))]
            assert [*heard, *decoder.close()] == events, recording.id
        else:
            assert client.decode_response(client.encode_response(response, ASKED, Receipt()), TRAITS) == response
        came_back += 1
    assert came_back > 15
