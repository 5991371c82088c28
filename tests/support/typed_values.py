"""Hypothesis strategies for whatever the typed protocol carries, made from its own table of messages.

A field that the table gains is drawn from then on: nobody has to remember it here.
"""

import base64
from typing import Any

import msgspec
from hypothesis import strategies as st

from tollhouse.chat.events import Event, Failed
from tollhouse.chat.model import Inline, Message, Request, TokenLogprob
from tollhouse.dialects.protobuf.messages import EVENT, PART, REQUEST, TOKEN_LOGPROB
from tollhouse.dialects.protobuf.reports import Settlement, Trouble
from tollhouse.dialects.protobuf.request import MAY_SAY
from tollhouse.dialects.protobuf.shapes import (
    FLAG,
    INT32,
    INT64,
    JSON,
    JSON_FIELDS,
    JSON_OBJECT,
    OCTETS,
    REAL,
    REALS,
    WORDS,
    Many,
    OneOf,
    Record,
    Via,
    WithMedia,
    Word,
    Wrapped,
)

words = st.text(st.characters(codec="utf-8"), max_size=8)
objects = st.sampled_from([b"{}", b'{"b": 2, "a":1.0}', b'{"x":[{"y":null}]}', '{"é":"\\u00e9"}'.encode()])
anything = objects | st.sampled_from([b"1", b'"a"', b"null", b"[1, 2]", b"1e3"])
base64s = st.binary(max_size=7).map(lambda octets: base64.b64encode(octets).decode()) | st.sampled_from(
    ["", "====", "QQ", "QQ==\n", "QR==", "not base64!", "_-8="]
)
logprobs = st.builds(
    TokenLogprob,
    words,
    st.floats(-100, 0),
    st.none() | st.binary(max_size=4).map(tuple),
    st.lists(st.builds(TokenLogprob, words, st.floats(-100, 0)), max_size=2).map(tuple),
)
vectors = st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=4).map(tuple)

_SCALARS: dict[int, st.SearchStrategy[Any]] = {
    id(WORDS): words,
    id(FLAG): st.booleans(),
    id(INT32): st.integers(-(2**31), 2**31 - 1),
    id(INT64): st.integers(-(2**63), 2**63 - 1),
    id(REAL): st.floats(allow_nan=False, allow_infinity=False),
    id(REALS): vectors,
    id(JSON): anything.map(msgspec.Raw),
    id(JSON_OBJECT): objects.map(msgspec.Raw),
    id(JSON_FIELDS): st.dictionaries(words, anything.map(msgspec.Raw), max_size=2),
    id(OCTETS): st.binary(max_size=4).map(tuple),
    id(TOKEN_LOGPROB): logprobs,
}


def values_of(shape: Any) -> st.SearchStrategy[Any]:
    """Every kind of value that a shape is for."""
    scalar = _SCALARS.get(id(shape))
    if scalar is not None:
        return scalar
    match shape:
        case Record():
            return _records(shape)
        case WithMedia(of=record):
            return _records(record, data=base64s)
        case OneOf(members=members):
            return st.one_of([values_of(member) for _, member in members.values()])
        case Many(of=item):
            return st.lists(values_of(item), max_size=2).map(tuple)
        case Wrapped(of=content):
            return values_of(content)
        case Via(of=other):
            return values_of(other).map(shape._into)
        case Word():
            return st.sampled_from([shape.read(name) for name in shape.names])
        case _:
            return values_of(shape.of)


def _records(record: Record[Any], **given: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    defaults = {field.name: field for field in msgspec.structs.fields(record.struct)}
    fields: dict[str, st.SearchStrategy[Any]] = {}
    for name, shape in record.shapes.items():
        strategy = given[name] if name in given else values_of(shape)
        default = defaults[name].default
        fields[name] = strategy if default is msgspec.NODEFAULT else st.just(default) | strategy
    return st.builds(record.struct, **fields)


failures = st.builds(
    Failed,
    message=words,
    kind=st.none() | st.sampled_from(["overloaded_error", "server_error"]),
    provider_code=st.none() | st.sampled_from(["a", "b"]),
    status=st.none() | st.integers(400, 599),
)
events: st.SearchStrategy[Event] = st.one_of(
    failures, values_of(EVENT).filter(lambda said: not isinstance(said, Trouble | Settlement))
)
"""Events in no order at all."""

inlines = st.builds(Inline, st.sampled_from(["image/png", "text/plain"]), base64s)


def _turns() -> st.SearchStrategy[Message]:
    """Turns whose parts may stand in them."""
    kinds = {kind: values_of(shape) for kind, shape in PART.members.values()}
    turns = []
    for role, may_say in MAY_SAY.items():
        parts = st.one_of([kinds[kind] for kind in may_say])
        turns.append(st.builds(Message, st.just(role), st.lists(parts, min_size=1, max_size=3).map(tuple)))
    return st.one_of(turns)


requests: st.SearchStrategy[Request] = _records(
    REQUEST,
    model=st.just("m"),
    messages=st.lists(_turns(), min_size=1, max_size=4).map(tuple),
    choices=st.integers(1, 4),
    max_output_tokens=st.none() | st.integers(1, 1000),
)
"""Requests that are right, or nearly so: what is left for `decode_request` to refuse are names that are empty."""
