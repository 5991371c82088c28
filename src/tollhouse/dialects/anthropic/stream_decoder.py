"""A provider's frames to events.

The dialect numbers content blocks and has one open at a time, which is what the canonical grammar does too.  Only a block of
a kind that nobody but Anthropic knows, and whose content streams in deltas of its own kind (compaction), is gathered and
opened when it is whole.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Final

import msgspec

from tollhouse.chat.events import (
    Cited,
    Delta,
    Ended,
    Event,
    Failed,
    Finished,
    PartClosed,
    PartOpened,
    Pinged,
    Signed,
    Started,
    UsageReported,
)
from tollhouse.chat.model import (
    Foreign,
    Text,
    Thinking,
    ToolCall,
)
from tollhouse.chat.opaque import unseal
from tollhouse.chat.sse import Frame
from tollhouse.dialects.anthropic.blocks import (
    Block,
    read_block,
    read_citation,
)
from tollhouse.dialects.anthropic.failure import decode_failure
from tollhouse.dialects.anthropic.wire import NAME, Fields, WireUsage, finish_of, usage_of
from tollhouse.dialects.fields import NULL, UNREADABLE, WireFault, describe
from tollhouse.errors import UpstreamMalformed, UpstreamTruncated


class _WireDelta(msgspec.Struct):
    type: str = ""
    text: str | None = None
    thinking: str | None = None
    partial_json: str | None = None
    signature: str | None = None
    citation: msgspec.Raw = NULL
    stop_reason: str | None = None
    stop_sequence: str | None = None


class _WireMessage(msgspec.Struct):
    id: str = ""
    model: str = ""
    usage: WireUsage | None = None


class _WireEvent(msgspec.Struct):
    type: str = ""
    index: int = 0
    delta: _WireDelta | None = None
    content_block: msgspec.Raw = NULL
    message: _WireMessage | None = None
    usage: WireUsage | None = None
    error: msgspec.Raw = NULL


class _Named(msgspec.Struct):
    type: str = ""


class _RawDelta(msgspec.Struct):
    delta: dict[str, msgspec.Raw]


_EVENT: Final = msgspec.json.Decoder(_WireEvent)
_NAMED: Final = msgspec.json.Decoder(_Named)
_RAW_DELTA: Final = msgspec.json.Decoder(_RawDelta)

# The kind of delta that grows each kind of part.
_GROWS: Final[Mapping[type, str]] = {
    Text: "text_delta",
    Thinking: "thinking_delta",
    ToolCall: "input_json_delta",
    Foreign: "input_json_delta",
}


class AnthropicStreamDecoder:
    """`tollhouse.dialects.dialect.StreamDecoder` for this dialect.  Unknown events and deltas are passed over."""

    __slots__ = (
        "_first",
        "_gathered",
        "_grows",
        "_has_ended",
        "_has_finished",
        "_has_started",
        "_home",
        "_last",
        "_open",
        "_part",
    )

    def __init__(self, home: str = NAME) -> None:
        """`home` is the provider's type."""
        self._home = home
        self._has_started = False
        self._has_finished = False
        self._has_ended = False
        self._first: WireUsage | None = None
        self._last: WireUsage | None = None
        self._part = -1
        """The number of the last part that was opened."""
        self._open: int | None = None
        """The provider's index of the open block."""
        self._grows = ""
        self._gathered: tuple[str, Block] | None = None
        """Type and fields of a block that is opened only when it is whole."""

    def feed(self, frame: Frame) -> Iterable[Event]:
        """The events of one frame.  Raises `UpstreamMalformed`."""
        if self._has_ended or frame.data == b"[DONE]":  # some compatible servers add OpenAI's marker
            return ()
        if frame.event == b"error":
            return self._fail(frame.data)
        try:
            event = _EVENT.decode(frame.data)
            if event.type == "content_block_delta" and self._gathered is None:
                return self._delta(event)
            handle = _HANDLERS.get(event.type)
            if handle is not None:
                return handle(self, event, frame.data)
            return self._fail(frame.data) if not event.type and event.error != NULL else ()
        except WireFault as fault:
            raise UpstreamMalformed(f"A streamed event is not what Anthropic sends: {fault}.") from fault
        except UNREADABLE as error:
            if _is_unknown_event(frame.data):
                return ()
            raise UpstreamMalformed(f"A streamed event is not what Anthropic sends: {describe(error)}.") from error

    def close(self) -> Iterable[Event]:
        """A stop reason is what makes an answer whole; see `StreamDecoder.close`."""
        if self._has_ended:
            return ()
        if not self._has_finished:
            raise UpstreamTruncated("The provider's stream stopped before its end.")
        self._has_ended = True
        return (Ended(),)

    def _start(self, event: _WireEvent, _: bytes) -> Iterable[Event]:
        if self._has_started:  # a known slip of some gateways; the second says nothing new
            return ()
        message = event.message or _WireMessage()
        self._has_started = True
        self._first = message.usage
        usage = usage_of(message.usage)
        return (
            Started(
                id=message.id,
                model=message.model,
                service_tier=message.usage.service_tier if message.usage else None,
                usage=None if usage.is_empty else usage,
            ),
        )

    def _delta(self, event: _WireEvent) -> Iterable[Event]:
        delta = event.delta
        if event.index != self._open or delta is None:
            raise WireFault("index", f"there is a delta for block {event.index}, which is not open")
        if delta.type == self._grows:
            text = delta.text or delta.thinking or delta.partial_json
            return (Delta(self._part, text),) if text else ()
        if delta.type == "signature_delta" and self._grows == "thinking_delta" and delta.signature:
            return (Signed(self._part, unseal(delta.signature, self._home)),)
        if delta.type == "citations_delta" and self._grows == "text_delta" and delta.citation != NULL:
            return (Cited(self._part, read_citation(delta.citation, "delta.citation")),)
        return ()

    def _gather(self, event: _WireEvent, data: bytes) -> Iterable[Event]:
        """A delta for a block that only Anthropic knows: its strings are appended, anything else replaces."""
        if self._gathered is None or event.index != self._open:
            raise WireFault("index", f"there is a delta for block {event.index}, which is not open")
        _, fields = self._gathered
        for name, raw in _RAW_DELTA.decode(data).delta.items():
            value: object = msgspec.json.decode(raw)
            before = fields.get(name)
            if name != "type":
                fields[name] = before + value if isinstance(before, str) and isinstance(value, str) else value
        return ()

    def _open_block(self, event: _WireEvent, _: bytes) -> Iterable[Event]:
        if not self._has_started or self._has_finished:
            raise WireFault("type", "there is a content block before the start or after the end")
        events = self._close_open()
        part = read_block(event.content_block, "content_block", self._home)
        if isinstance(part, ToolCall) and part.arguments == "{}":
            part = msgspec.structs.replace(part, arguments="")  # the arguments follow, or are none
        self._open = event.index
        if isinstance(part, Foreign):
            fields = Fields(part.raw, "content_block").left
            if "input" not in fields:
                whole: dict[str, object] = {name: msgspec.json.decode(raw) for name, raw in fields.items()}
                self._gathered = (part.kind, whole)
                return events
        self._part += 1
        self._grows = _GROWS.get(type(part), "")
        return (*events, PartOpened(self._part, part))

    def _close_block(self, event: _WireEvent, _: bytes) -> Iterable[Event]:
        return self._close_open() if event.index == self._open else ()

    def _close_open(self) -> tuple[Event, ...]:
        if self._open is None:
            return ()
        self._open = None
        self._grows = ""
        if self._gathered is None:
            return (PartClosed(self._part),)
        (kind, fields), self._gathered = self._gathered, None
        self._part += 1
        part = Foreign(NAME, kind, msgspec.Raw(msgspec.json.encode(fields)))
        return (PartOpened(self._part, part), PartClosed(self._part))

    def _end_message(self, event: _WireEvent, _: bytes) -> Iterable[Event]:
        if not self._has_started:
            raise WireFault("type", "there is an end before the start")
        events: list[Event] = []
        word = event.delta.stop_reason if event.delta is not None else None
        if word is not None and not self._has_finished:
            assert event.delta is not None  # the word came from it
            events += self._close_open()
            self._has_finished = True
            finish = finish_of(word)
            events.append(Finished(finish, word if finish == "other" else event.delta.stop_sequence))
        if event.usage is not None:
            self._last = event.usage
            usage = usage_of(self._first, event.usage)
            if not usage.is_empty:
                events.append(UsageReported(usage))
        return events

    def _stop(self, _event: _WireEvent, _: bytes) -> Iterable[Event]:
        if not self._has_started:
            raise WireFault("type", "there is an end before the start")
        if not self._has_finished:
            raise UpstreamTruncated("The provider's stream ended without a stop reason.")
        self._has_ended = True
        return (Ended(),)

    def _ping(self, _event: _WireEvent, _: bytes) -> Iterable[Event]:
        return (Pinged(),) if self._has_started else ()

    def _fail(self, data: bytes) -> Iterable[Event]:
        self._has_ended = True
        error = decode_failure(data)
        return (Failed(message=error.message, kind=error.kind, provider_code=error.provider_code, status=error.status),)

    def _fail_event(self, _: _WireEvent, data: bytes) -> Iterable[Event]:
        return self._fail(data)


def _is_unknown_event(data: bytes) -> bool:
    """Whether something unreadable is an event of a type from the future, whose fields may be anything."""
    try:
        return _NAMED.decode(data).type not in {"", "content_block_delta", *_HANDLERS}
    except UNREADABLE:
        return False


_HANDLERS: Final[Mapping[str, Callable[[AnthropicStreamDecoder, _WireEvent, bytes], Iterable[Event]]]] = {
    "message_start": AnthropicStreamDecoder._start,  # noqa: SLF001  # the class's own table
    "content_block_start": AnthropicStreamDecoder._open_block,  # noqa: SLF001
    "content_block_delta": AnthropicStreamDecoder._gather,  # noqa: SLF001
    "content_block_stop": AnthropicStreamDecoder._close_block,  # noqa: SLF001
    "message_delta": AnthropicStreamDecoder._end_message,  # noqa: SLF001
    "message_stop": AnthropicStreamDecoder._stop,  # noqa: SLF001
    "ping": AnthropicStreamDecoder._ping,  # noqa: SLF001
    "error": AnthropicStreamDecoder._fail_event,  # noqa: SLF001
}
