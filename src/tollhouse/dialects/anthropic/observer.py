"""Watching a stream that is forwarded in its own dialect.

Nearly all of a stream is `content_block_delta` events in one fixed form (`mostly_deltas`).  The blanks that Anthropic pads its
events with reach the client too.
"""

from typing import Final, Literal

import msgspec

from tollhouse.chat import sse
from tollhouse.chat.usage import Usage
from tollhouse.dialects.anthropic.failure import decode_failure
from tollhouse.dialects.anthropic.wire import MESSAGE_STOP, WireUsage, finish_of, usage_of
from tollhouse.dialects.dialect import MAX_EVENT_BYTES
from tollhouse.dialects.fields import NULL, UNREADABLE, describe
from tollhouse.dialects.mostly_deltas import MostlyDeltas
from tollhouse.errors import UpstreamMalformed, UpstreamTruncated


class _Grown(msgspec.Struct):
    text: str | None = None
    thinking: str | None = None
    partial_json: str | None = None


class _PlainDelta(msgspec.Struct):
    type: Literal["content_block_delta"]
    delta: _Grown


class _Block(msgspec.Struct):
    type: str = ""


class _Named(msgspec.Struct):
    type: str = ""
    error: msgspec.Raw = NULL
    content_block: _Block | None = None


class _StartedMessage(msgspec.Struct):
    usage: WireUsage | None = None


class _MessageStart(msgspec.Struct):
    message: _StartedMessage


class _Stopped(msgspec.Struct):
    stop_reason: str | None = None


class _MessageDelta(msgspec.Struct):
    delta: _Stopped | None = None
    usage: WireUsage | None = None


_DELTA_HEAD: Final = b"event: content_block_delta\ndata: "
_DELTAS: Final = msgspec.json.Decoder(_PlainDelta)
_NAMED: Final = msgspec.json.Decoder(_Named)
_MESSAGE_START: Final = msgspec.json.Decoder(_MessageStart)
_MESSAGE_DELTA: Final = msgspec.json.Decoder(_MessageDelta)


class AnthropicObserver(MostlyDeltas):
    """`tollhouse.dialects.dialect.Observer` for this dialect."""

    __slots__ = ("_first", "_last")

    MAX_EVENT_BYTES = MAX_EVENT_BYTES
    MAX_END_BYTES = MAX_EVENT_BYTES

    def __init__(self) -> None:
        super().__init__()
        self._first: WireUsage | None = None
        self._last: WireUsage | None = None

    def close(self) -> bytes:
        """The held-back end; see `Observer.close`.  A stop reason is what makes an answer whole: a missing end is added."""
        if self.failure is not None:
            return b""
        rest = b"" if self.is_final else self._last_piece()
        if self.is_final:
            return self._held or rest
        if self.finish is None:
            raise UpstreamTruncated("The provider's stream stopped before its end.")
        self.is_final = True
        return rest + MESSAGE_STOP

    def usage(self) -> Usage:
        """As reported, once `message_delta` came; else the prompt as reported and the output counted from its text."""
        if self._last is not None and self._last.output_tokens is not None:
            return usage_of(self._first, self._last)
        if self._first is None and not self.has_content:
            return Usage()
        return self._tally.rebuilt(usage_of(self._first, self._last))

    def _last_piece(self) -> bytes:
        """What is left when the provider closes: an event without its blank line, or the beginning of one that was cut."""
        piece = self._unfinished.take()
        if not piece.endswith((b"\n\n", b"\r\r")):
            piece = piece.rstrip(b"\r\n") + b"\n\n"
        try:
            return piece if self._see(piece) else b""
        except UpstreamMalformed:
            return b""

    def _are_plain_deltas(self, events: bytes) -> bool:
        if not events.startswith(_DELTA_HEAD):
            return False
        try:
            deltas = _DELTAS.decode_lines(events.replace(_DELTA_HEAD, b""))
        except UNREADABLE:
            return False
        if len(deltas) != events.count(b"\n\n"):
            return False
        for each in deltas:
            grown = each.delta
            self._count(grown.text or grown.thinking or grown.partial_json)
        return True

    def _count(self, text: str | None) -> None:
        self.has_content = True
        if text:
            self._tally.add(text)

    def _see(self, event: bytes) -> bool:
        """Looks at one event; whether there was any in those bytes (there is none in comments)."""
        frames = sse.Parser(max_event_bytes=MAX_EVENT_BYTES).feed(event)
        for frame in frames:
            try:
                self._see_frame(frame)
            except UNREADABLE as error:
                raise UpstreamMalformed(f"A streamed event is not what Anthropic sends: {describe(error)}.") from error
        return bool(frames)

    def _see_frame(self, frame: sse.Frame) -> None:
        data = frame.data
        if frame.is_bare:
            raise decode_failure(data)  # not an event that a client could read
        if frame.event == b"error":
            self._fail(data)
            return
        if data == b"[DONE]":  # some compatible servers add OpenAI's marker
            return
        named = _NAMED.decode(data)
        match named.type:
            case "message_start":
                self._first = _MESSAGE_START.decode(data).message.usage
            case "content_block_start":
                self.has_content = True
                if named.content_block is not None and named.content_block.type == "tool_use":
                    self._tally.calls += 1
            case "content_block_delta":
                grown = _DELTAS.decode(data).delta
                self._count(grown.text or grown.thinking or grown.partial_json)
            case "message_delta":
                final = _MESSAGE_DELTA.decode(data)
                self._last = final.usage or self._last
                if final.delta is not None and final.delta.stop_reason is not None:
                    self.finish = finish_of(final.delta.stop_reason)
            case "message_stop":
                if self.finish is None:
                    raise UpstreamTruncated("The provider's stream ended without a stop reason.")
                self.is_final = True
            case "error":
                self._fail(data)
            case "" if named.error != NULL:
                self._fail(data)
            case _:
                pass  # `ping`, and whatever comes new: forwarded, and nothing to learn from

    def _fail(self, data: bytes) -> None:
        self.failure = decode_failure(data)
        self.is_final = True
