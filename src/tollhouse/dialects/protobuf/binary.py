"""Protobuf itself.  Importing this needs the protobuf library; `wire` does without.

The library's C core parses and prints; between its messages and plain values lies one walk over the fields that are set.
"""

from contextlib import suppress
from functools import cache
from typing import Any, Final, TypeAlias, TypeVar

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError, Message

from tollhouse.chat.events import Delta
from tollhouse.dialects import delimited
from tollhouse.dialects.dialect import MAX_EVENT_BYTES, Peek
from tollhouse.dialects.protobuf.messages import EVENT, SETTLEMENT, Said
from tollhouse.dialects.protobuf.reports import Settlement
from tollhouse.dialects.protobuf.shapes import Fault, Plain
from tollhouse.dialects.protobuf.wire import MessageShape, Splitter, Wire
from tollhouse.errors import UpstreamTooLarge
from tollhouse.proto.v1 import gateway_pb2

T = TypeVar("T")


class BinaryPeek(Peek, frozen=True):
    """A request that the library has parsed; no field of it is JSON."""

    message: gateway_pb2.ChatRequest


class BinaryWire:
    """Protobuf's binary form; the events of a stream stand one after the other, each behind its length."""

    name: Final = "protobuf"
    media_type: Final = b"application/x-protobuf"
    stream_media_type: Final = b"application/x-protobuf; delimited=true"

    def pack(self, shape: MessageShape[T], value: T) -> bytes:
        return _serialised(shape.message, shape.write(value))

    def unpack(self, shape: MessageShape[T], data: bytes) -> T:
        return shape.read(self.plain(shape, data))

    def plain(self, shape: MessageShape[Any], data: bytes) -> dict[str, Plain]:
        return _plain(_parsed(shape.message, data))

    def frame(self, message: bytes) -> bytes:
        return delimited.delimit(message)

    def say(self, said: Said) -> bytes:
        if type(said) is Delta and said.index >= 0 and said.choice >= 0:
            return _delta(said)
        return delimited.delimit(self.pack(EVENT, said))

    def hear(self, message: bytes) -> Said:
        delta = _heard_delta(message)
        if delta is not None:
            return delta
        said: Said = EVENT.read(_plain(_parsed("ChatEvent", message)))
        return said

    def splitter(self) -> Splitter:
        return _Messages()

    def peek(self, body: bytes) -> Peek:
        message: gateway_pb2.ChatRequest = _parsed("ChatRequest", body)
        return BinaryPeek(
            fields={},
            model=message.model,
            stream=message.stream,
            max_output_tokens=message.max_output_tokens if message.HasField("max_output_tokens") else None,
            include_usage=True,
            choices=message.choices if message.HasField("choices") else 1,
            message=message,
        )

    def patch(self, peek: Peek, model: str, max_output_tokens: int | None) -> bytes:
        if not isinstance(peek, BinaryPeek):
            raise TypeError("a request in protobuf is patched by what was peeked at in protobuf")
        message = gateway_pb2.ChatRequest()
        message.CopyFrom(peek.message)
        message.model = model
        message.stream = peek.stream
        if max_output_tokens is not None:
            message.max_output_tokens = max_output_tokens
        return message.SerializeToString()

    def settled(self, shape: MessageShape[Any], body: bytes, settlement: Settlement) -> bytes:
        message = _parsed(shape.message, body)
        message.ClearField("settlement")
        # A field that stands at the end is as good as one that stands in its place.
        return bytes(message.SerializeToString()) + _SETTLEMENT_TAG + self.frame(self.pack(SETTLEMENT, settlement))


BINARY: Final[Wire] = BinaryWire()

SMALL_BYTES: Final = 64 * 1024
"""Messages up to this size hold too little to be counted first."""
MAX_FIELDS: Final = 200_000
"""Of one message and all messages in it; a text in a turn of its own is five."""

_SETTLEMENT_TAG: Final = b"\x7a"
"""Field 15, a length and that many bytes: the same in all messages that have one."""


class _Messages:
    """Messages behind their lengths."""

    def __init__(self) -> None:
        self._splitter = delimited.Splitter(max_message_bytes=MAX_EVENT_BYTES)

    def feed(self, data: bytes) -> list[bytes]:
        try:
            return self._splitter.feed(data)
        except ValueError as error:
            raise UpstreamTooLarge(f"One streamed event is larger than {MAX_EVENT_BYTES} bytes.") from error

    def close(self) -> list[bytes]:
        return []


_SMALL: Final = tuple(bytes((number,)) for number in range(128))


def _varint(number: int) -> bytes:
    return _SMALL[number] if number < 128 else delimited.varint(number)


def _delta(event: Delta) -> bytes:
    """A delta behind its length, by hand: the library takes twice as long, and most events are such."""
    index, choice = event.index, event.choice
    try:
        text = event.text.encode()
    except UnicodeEncodeError as error:
        raise Fault("is not valid Unicode.") from error
    delta = b"\x12" + _varint(len(text)) + text if text else b""
    if index:
        delta = b"\x08" + _varint(index) + delta
    if choice:
        delta += b"\x18" + _varint(choice)
    event_bytes = b"\x1a" + _varint(len(delta)) + delta
    return _varint(len(event_bytes)) + event_bytes


def _heard_delta(message: bytes) -> Delta | None:
    """A short delta of the first choice, as `_delta` writes it; `None` for everything else, which the library reads.

    `1a n 12 n text` or `1a n 08 index 12 n text`, where every number is a single byte.
    """
    size = len(message)
    if size < 4 or message[0] != 0x1A or message[1] != size - 2 or size > 0x7F:
        return None
    index, at = 0, 2
    if message[2] == 0x08 and size > 6:
        index, at = message[3], 4
    if message[at] != 0x12 or message[at + 1] != size - at - 2 or index > 0x7F:
        return None
    try:
        return Delta(index, message[at + 2 :].decode())
    except UnicodeDecodeError as error:
        raise Fault("holds text that is not UTF-8.") from error


def _parsed(name: str, data: bytes) -> Any:
    if len(data) > SMALL_BYTES:
        # What is nested so deeply that counting gives up is refused by the library as soon as it gets there.
        with suppress(RecursionError):
            _count(_messages_in(gateway_pb2.DESCRIPTOR.message_types_by_name[name]), data, 0, len(data), MAX_FIELDS)
    try:
        return getattr(gateway_pb2, name).FromString(data)
    except DecodeError as error:
        raise Fault(f"is not a protobuf message of type tollhouse.v1.{name}.") from error


_Inner: TypeAlias = "dict[int, _Inner]"
"""The fields of a message that are messages, each with its own, by number."""


@cache
def _messages_in(message: Descriptor) -> _Inner:
    found: _Inner = {}
    _FOUND[message.full_name] = found
    for field in message.fields:
        of = field.message_type
        if of is not None:
            inner = _FOUND.get(of.full_name)
            found[field.number] = _messages_in(of) if inner is None else inner
    return found


_FOUND: Final[dict[str, _Inner]] = {}


def _count(messages: _Inner, data: bytes, at: int, end: int, left: int) -> int:
    """How many of `left` fields remain after those between two places; raises `Fault` when there are more.

    It hops from field to field and leaves everything that is wrong to the library.  Without it, a body of empty messages, two
    bytes each, would become gigabytes of objects.
    """
    while at < end:
        left -= 1
        if left < 0:
            raise Fault(f"holds more than {MAX_FIELDS:,} fields.")
        tag, at = _varint_at(data, at, end)
        kind = tag & 7
        if kind == _LENGTH:
            size, at = _varint_at(data, at, end)
            inner = messages.get(tag >> 3)
            if inner is not None and size:
                left = _count(inner, data, at, min(at + size, end), left)
            at += size
        elif kind == _NUMBER:
            _, at = _varint_at(data, at, end)
        elif kind in _FIXED:
            at += _FIXED[kind]
        else:
            return left  # a group, or nothing at all
    return left


_NUMBER, _LENGTH = 0, 2
_FIXED: Final = {1: 8, 5: 4}


def _varint_at(data: bytes, at: int, end: int) -> tuple[int, int]:
    """A number and where it ends; what is cut ends at `end`."""
    number = shift = 0
    while at < end:
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80 or shift > 63:
            break
        shift += 7
    return number, at


def _serialised(name: str, plain: Plain) -> bytes:
    if not isinstance(plain, dict):
        raise TypeError("messages are made from dictionaries")
    try:
        return bytes(getattr(gateway_pb2, name)(**plain).SerializeToString())
    except UnicodeEncodeError as error:
        raise Fault("holds text that is not valid Unicode.") from error
    except (ValueError, TypeError) as error:
        # The library's own words can quote a value.
        raise Fault("holds what protobuf has no room for.") from error


_FIELDS: Final[dict[FieldDescriptor, tuple[str, int]]] = {}
"""The name of each field that was met, and how it is walked: the table grows to the size of the protocol and no further."""
_SCALAR, _REPEATED, _MAP, _MESSAGE, _MESSAGES = range(5)


def _plain(message: Message) -> dict[str, Plain]:
    plain: dict[str, Plain] = {}
    for field, value in message.ListFields():
        known = _FIELDS.get(field)
        if known is None:
            known = _FIELDS[field] = (field.name, _kind(field))
        name, kind = known
        if kind == _SCALAR:
            plain[name] = value
        elif kind == _MESSAGE:
            plain[name] = _plain(value)
        elif kind == _MESSAGES:
            plain[name] = [_plain(item) for item in value]
        elif kind == _REPEATED:
            plain[name] = list(value)
        else:
            plain[name] = dict(value)
    return plain


def _kind(field: FieldDescriptor) -> int:
    of = field.message_type
    if of is None:
        return _REPEATED if field.is_repeated else _SCALAR
    if of.GetOptions().map_entry:
        return _MAP
    return _MESSAGES if field.is_repeated else _MESSAGE
