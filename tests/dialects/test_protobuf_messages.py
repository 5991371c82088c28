"""The table of messages: held to the `.proto` file, to the canonical model, and to the law that reading undoes writing."""

import base64
from typing import Any

import msgspec
import pytest
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError
from hypothesis import example, given, settings
from hypothesis import strategies as st

from support.typed_values import base64s, events, inlines, values_of
from tollhouse.chat.embedding import EmbeddingRequest
from tollhouse.chat.events import Delta, Event, Failed
from tollhouse.chat.model import Audio, Inline, Request, Tool
from tollhouse.dialects.delimited import delimit
from tollhouse.dialects.protobuf import messages, wire
from tollhouse.dialects.protobuf.failure import event_of, trouble_of_event
from tollhouse.dialects.protobuf.messages import EVENT, Unknown
from tollhouse.dialects.protobuf.reports import Failure, Trouble
from tollhouse.dialects.protobuf.shapes import (
    FLAG,
    INT32,
    INT64,
    REAL,
    WORDS,
    Fault,
    Many,
    OneOf,
    Record,
    Word,
    Wrapped,
)
from tollhouse.dialects.protobuf.wire import Wire
from tollhouse.proto.v1 import gateway_pb2

WIRES = [wire("json"), wire("protobuf")]
TOP: dict[str, Any] = {
    "request": messages.REQUEST,
    "response": messages.RESPONSE,
    "failure": messages.FAILURE,
    "settlement": messages.SETTLEMENT,
    "embed_request": messages.EMBED_REQUEST,
    "embeddings": messages.EMBEDDINGS,
    "token_count": messages.TOKEN_COUNT,
    "models": messages.MODELS,
    "server_info": messages.SERVER_INFO,
}
LEFT_OUT: dict[type, set[str]] = {
    Request: {"include_usage", "legacy_functions", "echo"},
    EmbeddingRequest: {"encoding"},
}
"""Canonical fields that say how the client's own dialect wants its answer."""
PUT_IN_LATER = {"ChatResponse": {"settlement"}, "EmbedResponse": {"settlement"}}

SOME = settings(max_examples=25)
by_wire = pytest.mark.parametrize("form", WIRES, ids=lambda form: form.name)


# ------------------------------------------------------------------------------------------ the table against the others


def every_shape() -> list[Any]:
    """All shapes that are messages, each once."""
    found: dict[int, Any] = {}
    waiting: list[Any] = [*TOP.values(), EVENT]
    while waiting:
        shape = waiting.pop()
        if id(shape) in found:
            continue
        match shape:
            case Record():
                waiting += shape.shapes.values()
            case OneOf():
                waiting += [member for _, member in shape.members.values()]
            case _ if hasattr(shape, "of"):
                waiting.append(shape.of)
            case _:
                continue
        found[id(shape)] = shape
    return list(found.values())


RECORDS = [shape for shape in every_shape() if isinstance(shape, Record)]
ONE_OFS = [shape for shape in every_shape() if isinstance(shape, OneOf)]


def descriptor(message: str) -> Descriptor:
    return gateway_pb2.DESCRIPTOR.message_types_by_name[message]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.message)
def test_a_record_has_every_field_of_its_message_and_of_its_canonical_value(record: Record[Any]):
    wired = {field.name for field in descriptor(record.message).fields} - PUT_IN_LATER.get(record.message, set())
    if record.message in {"Inline", "Audio"}:
        wired.discard("text")  # the other form of `data`
    assert wired == set(record.shapes)
    canonical = {field.name for field in msgspec.structs.fields(record.struct)}
    assert canonical - LEFT_OUT.get(record.struct, set()) == set(record.shapes)


@pytest.mark.parametrize("one_of", ONE_OFS, ids=lambda one_of: one_of.message)
def test_a_union_has_the_members_of_its_message(one_of: OneOf[Any]):
    members = {field.name for field in descriptor(one_of.message).oneofs[0].fields}
    if one_of is messages.ANSWERED:
        assert set(one_of.members) < members
    else:
        assert set(one_of.members) == members


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.message)
def test_scalars_have_the_protocols_types_and_absence_is_told_where_it_means_something(record: Record[Any]):
    types = {
        id(WORDS): FieldDescriptor.TYPE_STRING,
        id(FLAG): FieldDescriptor.TYPE_BOOL,
        id(INT32): FieldDescriptor.TYPE_INT32,
        id(INT64): FieldDescriptor.TYPE_INT64,
        id(REAL): FieldDescriptor.TYPE_DOUBLE,
    }
    defaults = {field.name: field.default for field in msgspec.structs.fields(record.struct)}
    for field in descriptor(record.message).fields:
        shape = record.shapes.get(field.name)
        if shape is None:
            continue
        if isinstance(shape, Many):
            assert field.is_repeated, field.full_name
            shape = shape.of
        if id(shape) in types:
            if record.message not in {"Inline", "Audio"} or field.name != "data":
                assert field.type == types[id(shape)], field.full_name
            if not field.is_repeated and defaults[field.name] not in (msgspec.NODEFAULT, "", 0, False):
                assert field.has_presence, f"{field.full_name} must be optional"
        if isinstance(shape, Word):
            assert field.enum_type is not None
            names = [value.name for value in field.enum_type.values]
            if defaults[field.name] == "none":
                assert names == ["NONE", *shape.names]
            else:
                assert names[1:] == list(shape.names)
            assert [value.number for value in field.enum_type.values] == list(range(len(names)))


def test_every_message_of_the_protocol_is_in_the_table():
    asked_for_nothing = {"ListModelsRequest", "GetServerInfoRequest"}
    wrapped = {shape.message for shape in every_shape() if isinstance(shape, Wrapped)}
    tabled = {shape.message for shape in RECORDS} | {shape.message for shape in ONE_OFS} | wrapped | {"TokenLogprob"}
    assert tabled | asked_for_nothing == set(gateway_pb2.DESCRIPTOR.message_types_by_name)


# ---------------------------------------------------------------------------------------------------- there and back


@by_wire
@pytest.mark.parametrize("name", TOP)
def test_reading_undoes_writing(form: Wire, name: str):
    shape = TOP[name]

    @SOME
    @given(values_of(shape))
    def law(value: Any) -> None:
        assert form.unpack(shape, form.pack(shape, value)) == value

    law()


@by_wire
@SOME
@given(event=events)
def test_reading_an_event_undoes_writing_it(form: Wire, event: Event):
    said = trouble_of_event(event) if isinstance(event, Failed) else event
    splitter = form.splitter()
    framed = form.say(said)
    (message,) = [*splitter.feed(framed), *splitter.close()]
    heard = form.hear(message)
    assert (event_of(heard) if isinstance(heard, Trouble) else heard) == event


@given(st.integers(0, 2**31 - 1), st.text(st.characters(codec="utf-8"), max_size=300), st.integers(0, 2**31 - 1))
def test_the_delta_written_by_hand_is_what_the_library_writes(index: int, text: str, choice: int):
    binary = wire("protobuf")
    written = binary.say(Delta(index, text, choice))
    delta = {k: v for k, v in {"index": index, "text": text, "choice": choice}.items() if v}
    assert written == binary.frame(gateway_pb2.ChatEvent(delta=delta).SerializeToString())


@given(st.binary(max_size=12).map(lambda tail: b"\x1a" + tail))
@example(b"\x1a\x02\x12\x00")
@example(b"\x1a\x05\x08\x01\x12\x01a")
@example(b"\x1a\x03\x12\x01\xff")
@example(b"\x1a\x04\x08\x85\x12\x00")
@example(b"\x1a\x02\x08\x12")
def test_the_delta_read_by_hand_is_what_the_library_reads(message: bytes):
    try:
        parsed = gateway_pb2.ChatEvent.FromString(message)
    except DecodeError:
        with pytest.raises(Fault):
            wire("protobuf").hear(message)
        return
    heard = wire("protobuf").hear(message)
    if parsed.WhichOneof("event") == "delta":
        assert heard == Delta(parsed.delta.index, parsed.delta.text, parsed.delta.choice)
    else:
        assert not isinstance(heard, Delta)


# The library's own JSON mapping is the oracle for ours.


@pytest.mark.parametrize("name", TOP)
def test_the_librarys_json_reader_reads_our_json(name: str):
    shape = TOP[name]
    message = getattr(gateway_pb2, shape.message)

    @SOME
    @given(values_of(shape))
    def law(value: Any) -> None:
        read = json_format.Parse(wire("json").pack(shape, value), message())
        assert wire("protobuf").unpack(shape, read.SerializeToString()) == value

    law()


@pytest.mark.parametrize("spelling", [True, False], ids=["snake_case", "camelCase"])
@pytest.mark.parametrize("name", sorted(TOP.keys() - {"embeddings"}))  # whose 32-bit numbers it prints shorter
def test_we_read_the_json_that_the_library_writes(name: str, spelling: bool):
    shape = TOP[name]
    message = getattr(gateway_pb2, shape.message)

    @SOME
    @given(values_of(shape))
    def law(value: Any) -> None:
        parsed = message.FromString(wire("protobuf").pack(shape, value))
        text = json_format.MessageToJson(parsed, preserving_proto_field_name=spelling)
        assert wire("json").unpack(shape, text.encode()) == value

    law()


# ---------------------------------------------------------------------------------------------------------- versions


@by_wire
def test_fields_of_a_newer_peer_are_passed_over(form: Wire):
    packed = form.pack(messages.FAILURE, Failure(Trouble(code="x", message="y")))
    newer = {
        "json": packed[:-1] + b',"newer":{"a":[1]}}',
        "protobuf": packed + b"\xa2\x06\x02hi\xa8\x06\x01",  # fields 100 and 101
    }[form.name]
    assert form.unpack(messages.FAILURE, newer) == Failure(Trouble(code="x", message="y"))


def test_a_finish_that_only_a_newer_peer_knows_is_another_one():
    newer = gateway_pb2.ChatResponse(id="a", model="m")
    newer.MergeFromString(b"\x1a\x02\x18\x4d")  # a choice whose finish is 77
    (choice,) = wire("protobuf").unpack(messages.RESPONSE, newer.SerializeToString()).choices
    assert choice.finish == "other"
    (choice,) = wire("json").unpack(messages.RESPONSE, b'{"choices":[{"finish":"VANISHED"}]}').choices
    assert choice.finish == "other"


def test_a_role_that_only_a_newer_peer_knows_is_refused_by_name():
    newer = gateway_pb2.ChatRequest(model="m")
    newer.MergeFromString(b"\x12\x02\x08\x4d")  # a message whose role is 77
    with pytest.raises(Fault, match=r"`messages\[0\].role` must be one of SYSTEM"):
        wire("protobuf").unpack(messages.REQUEST, newer.SerializeToString())


def test_an_event_and_a_part_that_only_a_newer_peer_knows_are_no_faults():
    assert wire("json").hear(b'{"hologram":{"depth":3}}') == Unknown()
    assert wire("protobuf").hear(b"\xa2\x06\x02hi") == Unknown()
    answer = b'{"choices":[{"parts":[{"hologram":{"depth":3}},{"text":{"text":"hi"}}]}]}'
    (choice,) = wire("json").unpack(messages.RESPONSE, answer).choices
    assert [type(part).__name__ for part in choice.parts] == ["Foreign", "Text"]


def test_a_part_of_a_request_that_we_do_not_know_is_refused():
    """To leave it out would make the model answer another conversation."""
    with pytest.raises(Fault, match=r"`messages\[0\].parts\[0\]` must have one of text, image"):
        wire("json").unpack(messages.REQUEST, b'{"messages":[{"role":"USER","parts":[{"hologram":{}}]}]}')


# -------------------------------------------------------------------------------------------------------------- media


@given(inlines)
def test_canonical_base64_travels_as_bytes_and_everything_else_as_it_came(inline: Inline):
    source = gateway_pb2.Source.FromString(wire("protobuf").pack(messages.SOURCE, inline)).inline
    if inline.media_type == "text/plain":
        assert source.text == inline.data
    elif source.WhichOneof("content") == "data":
        assert base64.b64encode(source.data).decode() == inline.data
    else:
        assert source.text == inline.data
        assert not is_canonical(inline.data)


def is_canonical(data: str) -> bool:
    try:
        return base64.b64encode(base64.b64decode(data, validate=True)).decode() == data
    except ValueError:
        return False


@given(base64s)
def test_a_sound_comes_back_as_it_was(data: str):
    for form in WIRES:
        assert form.unpack(messages.AUDIO, form.pack(messages.AUDIO, Audio(data, "wav"))) == Audio(data, "wav")


def test_a_plain_text_document_may_be_sent_as_bytes():
    source = gateway_pb2.Source(inline={"media_type": "text/plain", "data": "Grüße".encode()})
    assert wire("protobuf").unpack(messages.SOURCE, source.SerializeToString()) == Inline("text/plain", "Grüße")


# ------------------------------------------------------------------------------------------------------------- faults


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "It is empty"),
        (b"[]", "It must be an object."),
        (b'{"model":', "It breaks off"),
        (b'{"model": 1}', "`model` must be a string."),
        (b'{"messages": {}}', "`messages` must be a list."),
        (b'{"messages": [null]}', r"`messages\[0\]` must not be null."),
        (b'{"messages": [{"parts": []}]}', r"`messages\[0\].role` is missing."),
        (b'{"temperature": "hot"}', "`temperature` must be a number."),
        (b'{"temperature": 1e999}', "a number that is out of range"),
        (b'{"seed": 99999999999999999999}', "`seed` does not fit into 64 bits."),
        (b'{"seed": true}', "`seed` must be a whole number."),
        (b'{"logprobs": 1}', "`logprobs` must be true or false."),
        (b'{"tools": [{"function": {}, "foreign": {}}]}', r"`tools\[0\]` must have one of function and foreign"),
        (
            b'{"tools": [{"function": {"name": "f", "schema": "{"}}]}',
            r"`tools\[0\].function.schema` must be the text",
        ),
        (b'{"tools": [{"function": {"name": "f", "schema": "{\\"a\\":1},\\"b\\":2"}}]}', "must be the text"),
        (b'{"extra": {"dialect": "x", "fields": {"a": "nope"}}}', "`extra.fields.a` must be the text of JSON"),
        *((b'{"a":' * levels + b"1" + b"}" * levels, "nested too deeply") for levels in (201, 900, 3000, 100_000)),
    ],
)
def test_a_fault_says_where_it_is_and_what_should_be_there(body: bytes, says: str):
    with pytest.raises(Fault) as caught:
        wire("json").unpack(messages.REQUEST, body)
    assert caught.match(says)


@pytest.mark.parametrize("body", [b"\xff", b"\x0a\x02\xff\xfe", b"\x0a\x7f", b'{"model":"m"}'])
def test_what_is_not_protobuf_is_a_fault(body: bytes):
    with pytest.raises(Fault, match=r"is not a protobuf message of type tollhouse.v1.ChatRequest"):
        wire("protobuf").unpack(messages.REQUEST, body)


def test_nesting_is_bounded_in_protobuf_too():
    part = gateway_pb2.Part()
    inner = part
    for _ in range(200):
        inner = inner.tool_result.content.add()
    inner.text.text = "deep"
    request = gateway_pb2.ChatRequest(model="m")
    request.messages.add(role=3).parts.add().CopyFrom(part)
    with pytest.raises(Fault, match="is not a protobuf message"):
        wire("protobuf").unpack(messages.REQUEST, request.SerializeToString())


EMPTY_PARTS = b"\x12\x00" * 500_000
HUGE = {
    "messages": b"\x12\x00" * 500_000,
    "parts": b"\x12" + delimit(b"\x08\x03" + EMPTY_PARTS),
    "parts in the result of a tool": b"\x12" + delimit(b"\x12" + delimit(b"\x4a" + delimit(EMPTY_PARTS))),
    "tools": b"\x1a\x00" * 500_000,
    "stop": b"\x52\x00" * 500_000,
}


@pytest.mark.parametrize("fields", HUGE.values(), ids=HUGE)
def test_a_body_of_next_to_nothing_many_times_over_is_refused_before_it_is_parsed(fields: bytes):
    """Two bytes each would become hundreds in memory, and block everybody else's calls for half a minute."""
    with pytest.raises(Fault, match="holds more than 200,000 fields"):
        wire("protobuf").peek(b"\x0a\x01m" + fields)


def test_nesting_without_end_in_a_large_body_is_refused():
    part = b""
    for _ in range(9_000):
        part = b"\x4a" + delimit(b"\x12" + delimit(part))
    with pytest.raises(Fault, match="is not a protobuf message"):
        wire("protobuf").peek(b"\x0a\x01m" + b"\x12" + delimit(b"\x12" + delimit(part)))


def test_large_contents_are_no_reason_to_refuse():
    parts = [{"text": {"text": "\x12\x00" * 400_000}}, *({"text": {"text": "x" * 100}} for _ in range(2_000))]
    request = gateway_pb2.ChatRequest(model="m", messages=[{"role": "USER", "parts": parts}])
    read = wire("protobuf").unpack(messages.REQUEST, request.SerializeToString())
    assert len(read.messages[0].parts) == 2_001


@given(st.binary(max_size=300))
def test_counting_fields_never_fails_by_itself(data: bytes):
    """What is wrong with a message is for the library to find."""
    from tollhouse.dialects.protobuf import binary

    inner = binary._messages_in(gateway_pb2.DESCRIPTOR.message_types_by_name["ChatRequest"])
    assert binary._count(inner, data, 0, len(data), 1_000) >= 1_000 - len(data)


def test_json_may_stand_for_its_text():
    inline = wire("json").unpack(messages.TOOL, b'{"function":{"name":"f","schema":{"type":"object"}}}')
    assert isinstance(inline, Tool)
    assert inline.schema == msgspec.Raw(b'{"type":"object"}')
    assert wire("json").unpack(messages.EXTRA, b'{"dialect":"d","fields":{"a":[1],"b":"\\"b\\""}}').fields == {
        "a": msgspec.Raw(b"[1]"),
        "b": msgspec.Raw(b'"b"'),
    }


def test_words_of_enums_are_read_in_any_case():
    read = wire("json").unpack(messages.MESSAGE, b'{"role":"user","parts":[]}')
    assert read.role == "user"
