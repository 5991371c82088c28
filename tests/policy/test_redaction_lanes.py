"""Masking on the way through every pair of dialects: what the provider sees, and what the client gets back."""

from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support import planted
from tollhouse.chat import sse
from tollhouse.chat.events import Delta, Ended, Event, Finished, PartClosed, PartOpened, Started
from tollhouse.chat.fold import fold
from tollhouse.chat.model import Text, ToolCall
from tollhouse.chat.receipt import Receipt
from tollhouse.dialects import anthropic, openai_chat
from tollhouse.dialects.anthropic.traits import AnthropicTraits
from tollhouse.dialects.dialect import Dialect
from tollhouse.dialects.openai_chat.traits import OPENAI
from tollhouse.policy.redaction import Redactor
from tollhouse.policy.redaction.masking import Masked, Unmasker, mask
from tollhouse.policy.redaction.rules import KINDS

ALL = Redactor(KINDS)
DIALECTS: dict[str, tuple[Dialect[Any], Any]] = {
    "openai": (openai_chat.DIALECT, OPENAI),
    "anthropic": (anthropic.DIALECT, AnthropicTraits()),
}
PAIRS = [(client, provider) for client in DIALECTS for provider in DIALECTS]
TOOL = {"type": "object", "properties": {"to": {"type": "string"}}}


def body(client: str, said: str) -> bytes:
    messages = [{"role": "user", "content": f"Write to {said}."}]
    if client == "openai":
        tool: object = {"type": "function", "function": {"name": "send", "parameters": TOOL}}
        return msgspec.json.encode({"model": "m", "messages": messages, "tools": [tool], "stream": True})
    tool = {"name": "send", "input_schema": TOOL}
    fields = {"model": "m", "max_tokens": 9, "system": f"You work for {said}.", "stream": True}
    return msgspec.json.encode({**fields, "messages": messages, "tools": [tool]})


def provider_stream(provider: str, text: str, arguments: str, cuts: list[int]) -> bytes:
    """A provider's own bytes that say a text and call a tool, cut into deltas."""
    events: list[Event] = [
        Started(id="x", model="m", created=1),
        PartOpened(0, Text("")),
        *(Delta(0, piece) for piece in planted.pieces(text, cuts)),
        PartClosed(0),
        PartOpened(1, ToolCall("call_1", "send", "")),
        *(Delta(1, piece) for piece in planted.pieces(arguments, cuts)),
        PartClosed(1),
        Finished("tool_calls"),
        Ended(),
    ]
    dialect, _ = DIALECTS[provider]
    encoder = dialect.stream_encoder(dialect.decode_request(body(provider, "x")), Receipt())
    return b"".join(encoder.encode(event) for event in events)


def decoded(name: str, data: bytes) -> Iterable[Event]:
    dialect, traits = DIALECTS[name]
    parser, decoder = sse.Parser(), dialect.stream_decoder(traits)
    for frame in [*parser.feed(data), *parser.close()]:
        yield from decoder.feed(frame)
    yield from decoder.close()


def sent(client: str, provider: str, said: str) -> tuple[Masked, bytes]:
    dialect, traits = DIALECTS[provider]
    masked = mask(ALL, DIALECTS[client][0].decode_request(body(client, said)))
    return masked, dialect.encode_request(masked.request, traits, Receipt())


@pytest.mark.parametrize(("client", "provider"), PAIRS)
@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    secret=planted.emails() | planted.cards() | planted.credentials(), cuts=st.lists(st.integers(0, 90), max_size=30)
)
def test_a_provider_sees_placeholders_and_the_client_its_own_values(client, provider, secret, cuts):
    masked, request = sent(client, provider, secret)
    assert msgspec.json.encode(secret)[1:-1] not in request
    placeholders = list(masked.values)
    answer = " and ".join(placeholders)
    stream = provider_stream(provider, f"Done: {answer}.", msgspec.json.encode({"to": answer}).decode(), cuts)

    unmasker = Unmasker(masked.values)
    dialect, _ = DIALECTS[client]
    encoder = dialect.stream_encoder(masked.request, Receipt())
    got = b"".join(encoder.encode(event) for event in unmasker.events(decoded(provider, stream)))

    text, call = fold(decoded(client, got)).choices[0].parts
    restored = " and ".join(masked.values.values())
    assert isinstance(text, Text)
    assert text.text == f"Done: {restored}."
    assert isinstance(call, ToolCall)
    assert msgspec.json.decode(call.arguments) == {"to": restored}
