"""A stream as one JSON array, which is what Google answers where a client does not ask for `alt=sse`.

The array is printed as Google prints it (`gemini/gemini-generate-stream-text-21b513`): one element, a line with a comma, the
next.  The old clients read it as it comes.
"""

from typing import Final

from tollhouse.chat import sse
from tollhouse.dialects.gemini.wire import MAX_CHUNK_BYTES


class ArrayFraming:
    """Turns the bytes of server-sent events into those of an array.  Feed it everything, in any pieces, then `close`."""

    __slots__ = ("_has_begun", "_parser")

    media_type: Final = b"application/json"

    def __init__(self) -> None:
        self._parser = sse.Parser(max_event_bytes=MAX_CHUNK_BYTES)
        self._has_begun = False

    def feed(self, data: bytes) -> bytes:
        """The bytes for the client."""
        return self._written(self._parser.feed(data))

    def close(self) -> bytes:
        """The last bytes: the array is closed, also after an error, which is its last element then."""
        last = self._written(self._parser.close())
        return last + (b"\r\n]\r\n" if self._has_begun else b"[]\r\n")

    def _written(self, frames: list[sse.Frame]) -> bytes:
        out: list[bytes] = []
        for frame in frames:
            if frame.is_bare:
                continue  # the gateway says an error twice, and the array has it once
            out += (b"\r\n,\r\n" if self._has_begun else b"[", frame.data)
            self._has_begun = True
        return b"".join(out)
