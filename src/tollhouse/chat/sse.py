"""Server-sent events, read by the rules of the WHATWG HTML standard (section 9.2, "Server-sent events").

A parser here is fed bytes cut anywhere (inside an event, inside a character, between CR and LF) and gives the same frames
for every way of cutting.  Three things go beyond the standard, because providers need them: the last event counts even
without its blank line (`gemini/gemini-chat-stream-text-5acf78`), sizes are bounded, and lines of bare JSON are an error.  By
the standard these would be skipped, and a broken answer would end like a whole one: Google breaks off like that ("When API
returns an error message, it comes line by line", google-genai's `_api_client.py`).
"""

from typing import Final

import msgspec

from tollhouse.errors import UpstreamTooLarge

DEFAULT_MAX_EVENT_BYTES: Final = 4 * 1024 * 1024

_BOM: Final = b"\xef\xbb\xbf"


class Frame(msgspec.Struct, frozen=True):
    """One dispatched event."""

    data: bytes
    """The data lines, joined with LF."""
    event: bytes = b""
    """The event's name; empty means `message`."""
    is_bare: bool = False
    """Whether it came as plain lines of JSON and is no event at all; its name is `error` then."""


class Parser:
    """Splits a byte stream into frames.  Comments, `id` and `retry` are read and dropped."""

    __slots__ = (
        "_bare",
        "_buffer",
        "_data",
        "_event",
        "_max_bytes",
        "_more",
        "_more_bytes",
        "_size",
        "_skip_lf",
        "_started",
    )

    def __init__(self, *, max_event_bytes: int = DEFAULT_MAX_EVENT_BYTES) -> None:
        self._buffer = b""
        """The beginning of a line that has no end yet."""
        self._more: list[bytes] = []
        """What came of it later."""
        self._more_bytes = 0
        self._data: list[bytes] = []
        self._bare: list[bytes] = []
        """Lines of JSON that are no field's."""
        self._event = b""
        self._size = 0
        self._skip_lf = False
        self._started = False
        self._max_bytes = max_event_bytes

    def feed(self, data: bytes) -> list[Frame]:
        """The frames completed by `data`.  Raises `UpstreamTooLarge` for an event over the bound."""
        buffer = data
        if self._buffer:
            if self._started and b"\n" not in data and b"\r" not in data:
                # A picture is one line in hundreds of reads: it is put together once.
                self._more.append(data)
                self._more_bytes += len(data)
                self._check_size()
                return []
            buffer = self._line_so_far() + data
        if not self._started:
            if len(buffer) < len(_BOM) and _BOM.startswith(buffer):
                self._buffer = buffer
                return []
            self._started = True
            buffer = buffer.removeprefix(_BOM)
        if self._skip_lf and buffer:
            # The last piece ended in CR; an LF now belongs to it.
            buffer = buffer.removeprefix(b"\n")
            self._skip_lf = False
        if b"\r" in buffer:
            # CR alone also ends a line; rewriting it here keeps the common LF path simple.
            self._skip_lf = buffer.endswith(b"\r")
            buffer = buffer.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        frames: list[Frame] = []
        start = 0
        while (end := buffer.find(b"\n", start)) >= 0:
            if end != start:
                self._line(buffer[start:end])
            elif self._bare:
                frames += self._dispatch_all()
            elif self._data:
                frames.append(self._dispatch())
            else:
                self._event = b""
            start = end + 1
        self._buffer = buffer[start:]
        self._check_size()
        return frames

    def close(self) -> list[Frame]:
        """The frame that the end of the stream completes, if any."""
        if self._buffer:
            self._line(self._line_so_far())
            self._buffer = b""
        return self._dispatch_all()

    def _line_so_far(self) -> bytes:
        if not self._more:
            return self._buffer
        line = b"".join([self._buffer, *self._more])
        self._more, self._more_bytes = [], 0
        return line

    def _check_size(self) -> None:
        if self._size + len(self._buffer) + self._more_bytes > self._max_bytes:
            raise UpstreamTooLarge(f"One streamed event is larger than {self._max_bytes} bytes.")

    def _line(self, line: bytes) -> None:
        name, colon, value = line.partition(b":")
        if colon and value.startswith(b" "):
            value = value[1:]
        if name == b"data":
            self._grow(value)
            self._data.append(value)
        elif name == b"event":
            self._event = value
        elif self._bare or line.startswith((b"{", b"[")):
            self._grow(line)
            self._bare.append(line)

    def _grow(self, line: bytes) -> None:
        self._size += len(line) + 1
        if self._size > self._max_bytes:
            raise UpstreamTooLarge(f"One streamed event is larger than {self._max_bytes} bytes.")

    def _dispatch_all(self) -> list[Frame]:
        """The event whose end has come, and before it the lines of JSON among its own: an end must not come before an error."""
        frames = []
        if self._bare:
            frames.append(Frame(b"\n".join(self._bare), b"error", is_bare=True))
            self._bare = []
            self._size = 0
        if self._data:
            frames.append(self._dispatch())
        return frames

    def _dispatch(self) -> Frame:
        frame = Frame(self._data[0] if len(self._data) == 1 else b"\n".join(self._data), self._event)
        self._data = []
        self._event = b""
        self._size = 0
        return frame
