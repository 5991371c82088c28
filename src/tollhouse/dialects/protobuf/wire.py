"""The two ways in which the messages travel: what both can do, and JSON.

JSON is proto3's own mapping with three freedoms, each of which every reader of that mapping understands: fields are named as
in the `.proto` file (both spellings are read), 64-bit numbers are numbers, and what is JSON text in the protocol may be
written as JSON itself.  The other way is in `binary`, which alone needs the protobuf library.
"""

from typing import Any, Final, Protocol, TypeVar

import msgspec

from tollhouse.chat import sse
from tollhouse.chat.events import Delta
from tollhouse.chat.nesting import is_too_deep
from tollhouse.dialects.dialect import MAX_EVENT_BYTES, Peek
from tollhouse.dialects.protobuf.messages import EVENT, REQUEST, SETTLEMENT, Said
from tollhouse.dialects.protobuf.reports import Settlement
from tollhouse.dialects.protobuf.shapes import Fault, Plain, Shape

T = TypeVar("T")


class MessageShape(Shape[T], Protocol[T]):
    """A shape that is a message of its own."""

    @property
    def message(self) -> str:
        """Its name in `gateway.proto`."""
        ...


class Splitter(Protocol):
    """Cuts a stream into its messages."""

    def feed(self, data: bytes) -> list[bytes]:
        """Those that are complete now.  Raises `UpstreamTooLarge` or `UpstreamMalformed`."""
        ...

    def close(self) -> list[bytes]:
        """The one that the end of the stream completes, if any."""
        ...


class Wire(Protocol):
    """One way in which messages travel."""

    @property
    def name(self) -> str:
        """`json` or `protobuf`."""
        ...

    @property
    def media_type(self) -> bytes:
        """Of one message."""
        ...

    @property
    def stream_media_type(self) -> bytes:
        """Of the events of a stream."""
        ...

    def pack(self, shape: MessageShape[T], value: T) -> bytes:
        """One message.  Raises `Fault` for what the protocol has no room for."""
        ...

    def unpack(self, shape: MessageShape[T], data: bytes) -> T:
        """Raises `Fault`."""
        ...

    def plain(self, shape: MessageShape[Any], data: bytes) -> dict[str, Plain]:
        """A message as a plain value, its fields as they were named.  Raises `Fault`."""
        ...

    def frame(self, message: bytes) -> bytes:
        """A packed event as it stands in a stream."""
        ...

    def say(self, said: Said) -> bytes:
        """An event, packed and framed."""
        ...

    def hear(self, message: bytes) -> Said:
        """The event of one frame.  Raises `Fault`."""
        ...

    def splitter(self) -> Splitter:
        """For one stream."""
        ...

    def peek(self, body: bytes) -> Peek:
        """The top level of a chat request; the values are not checked against each other.  Raises `Fault`."""
        ...

    def patch(self, peek: Peek, model: str, max_output_tokens: int | None) -> bytes:
        """The request that was peeked at, for another model; everything else as it came, unknown fields too."""
        ...

    def settled(self, shape: MessageShape[Any], body: bytes, settlement: Settlement) -> bytes:
        """A packed answer with that settlement in place of whichever it had.  Raises `Fault`."""
        ...


class _QuickDelta(msgspec.Struct):
    text: str = ""
    index: int = 0
    choice: int = 0


class _Quick(msgspec.Struct):
    delta: _QuickDelta | None = None


_quick: Final = msgspec.json.Decoder(_Quick)
_any: Final[msgspec.json.Decoder[Any]] = msgspec.json.Decoder()
_fields: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_encode: Final = msgspec.json.Encoder().encode
_NULL: Final = b"null"


class JsonWire:
    """JSON, and server-sent events without names."""

    name: Final = "json"
    media_type: Final = b"application/json"
    stream_media_type: Final = b"text/event-stream; charset=utf-8"

    def pack(self, shape: MessageShape[T], value: T) -> bytes:
        return _printed(shape.write(value))

    def unpack(self, shape: MessageShape[T], data: bytes) -> T:
        return shape.read(_parsed(_any, data))

    def plain(self, shape: MessageShape[Any], data: bytes) -> dict[str, Plain]:  # noqa: ARG002  # it says so itself
        plain = _parsed(_any, data)
        if not isinstance(plain, dict):
            raise Fault("must be an object.")
        return plain

    def frame(self, message: bytes) -> bytes:
        return b"data: " + message + b"\n\n"

    def say(self, said: Said) -> bytes:
        if type(said) is Delta and not said.choice:
            # Nearly all events are such; printing their text is all the work there is.
            try:
                text = _encode(said.text)
            except UnicodeEncodeError as error:
                raise Fault("is not valid Unicode.") from error
            if said.index:
                return b'data: {"delta":{"index":%d,"text":%b}}\n\n' % (said.index, text)
            return b'data: {"delta":{"text":%b}}\n\n' % text
        return self.frame(self.pack(EVENT, said))

    def hear(self, message: bytes) -> Said:
        try:
            delta = _quick.decode(message).delta
        except msgspec.DecodeError:
            delta = None
        if delta is not None:
            return Delta(delta.index, delta.text, delta.choice)
        said: Said = self.unpack(EVENT, message)
        return said

    def splitter(self) -> Splitter:
        return _Events()

    def peek(self, body: bytes) -> Peek:
        fields = self._top(body)
        values: dict[str, Plain] = {}
        for name in ("model", "stream", "max_output_tokens", "maxOutputTokens", "choices"):
            if name in fields:
                values["max_output_tokens" if name == "maxOutputTokens" else name] = _parsed(_any, fields[name])
        known = REQUEST.read(values)
        return Peek(
            fields=fields,
            model=known.model,
            stream=known.stream,
            max_output_tokens=known.max_output_tokens,
            include_usage=True,
            choices=known.choices,
        )

    def patch(self, peek: Peek, model: str, max_output_tokens: int | None) -> bytes:
        fields = dict(peek.fields)
        fields["model"] = msgspec.Raw(_encode(model))
        fields["stream"] = msgspec.Raw(b"true" if peek.stream else b"false")
        if max_output_tokens is not None:
            fields.pop("maxOutputTokens", None)
            fields["max_output_tokens"] = msgspec.Raw(b"%d" % max_output_tokens)
        return _encode(fields)

    def settled(self, shape: MessageShape[Any], body: bytes, settlement: Settlement) -> bytes:  # noqa: ARG002
        fields = self._top(body)
        fields["settlement"] = msgspec.Raw(self.pack(SETTLEMENT, settlement))
        return _encode(fields)

    @staticmethod
    def _top(body: bytes) -> dict[str, msgspec.Raw]:
        if not body.isascii():
            # Raw values go on as they are, and nobody else would look at their encoding.
            try:
                str(body, "utf-8")
            except UnicodeDecodeError as error:
                raise Fault(f"is not UTF-8 (byte {error.start}).") from error
        fields = _parsed(_fields, body)
        return {name: raw for name, raw in fields.items() if bytes(raw) != _NULL}


JSON: Final[Wire] = JsonWire()


class _Events:
    """Server-sent events, of which only the data counts."""

    def __init__(self) -> None:
        self._parser = sse.Parser(max_event_bytes=MAX_EVENT_BYTES)

    def feed(self, data: bytes) -> list[bytes]:
        return [frame.data for frame in self._parser.feed(data)]

    def close(self) -> list[bytes]:
        return [frame.data for frame in self._parser.close()]


def _parsed(decoder: "msgspec.json.Decoder[T]", data: bytes | msgspec.Raw) -> T:
    if not data:
        raise Fault("is empty: send a JSON object.")
    if decoder is _any and is_too_deep(bytes(data)):
        raise Fault("is nested too deeply.")
    try:
        return decoder.decode(data)
    except msgspec.ValidationError as error:
        if "out of range" in str(error):
            raise Fault("holds a number that is out of range.") from error
        raise Fault("must be an object.") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        if "truncated" in str(error):
            # msgspec's word for half an escaped surrogate pair too.
            raise Fault("breaks off in the middle of a value, or holds half of an escaped surrogate pair.") from error
        raise Fault(f"is not valid JSON: {str(error).removeprefix('JSON is malformed: ')}.") from error
    except RecursionError:
        raise Fault("is nested too deeply.") from None


def _printed(plain: Plain) -> bytes:
    try:
        return _encode(plain)
    except UnicodeEncodeError as error:
        raise Fault("holds text that is not valid Unicode.") from error
    except (OverflowError, RecursionError, ValueError) as error:
        raise Fault("holds what JSON has no room for.") from error
