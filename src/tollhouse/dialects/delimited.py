"""Messages one after the other, each behind its length: how protobuf messages are streamed where nothing else frames them.

The length is a base-128 varint, as in protobuf's own `writeDelimitedTo` (https://protobuf.dev/programming-guides/techniques/#streaming).
"""

from typing import Final

MAX_MESSAGE_BYTES: Final = 64 * 1024 * 1024
_MAX_VARINT_BYTES: Final = 5


def delimit(message: bytes) -> bytes:
    """One message behind its length."""
    return varint(len(message)) + message


def varint(number: int) -> bytes:
    """A number from 0 up in base 128, lowest digits first; all bytes but the last have their high bit set."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


class Splitter:
    """Gives the messages back, wherever the bytes were cut on their way."""

    __slots__ = ("_max_bytes", "_missing", "_pieces")

    def __init__(self, *, max_message_bytes: int = MAX_MESSAGE_BYTES) -> None:
        self._pieces: list[bytes] = []
        """Of a message that is not complete; put together once, however many there are."""
        self._missing = 0
        """Bytes that must come before another look makes sense."""
        self._max_bytes = max_message_bytes

    def feed(self, data: bytes) -> list[bytes]:
        """The messages that are complete now.  Raises `ValueError` for a length that is none, or over the bound."""
        if not data:
            return []
        if len(data) < self._missing:
            self._pieces.append(data)
            self._missing -= len(data)
            return []
        if self._pieces:
            data = b"".join((*self._pieces, data))
        messages: list[bytes] = []
        start, end = 0, len(data)
        while True:
            size = shift = 0
            at = start
            while at < end and data[at] > 0x7F:
                size |= (data[at] & 0x7F) << shift
                shift += 7
                at += 1
                if at - start >= _MAX_VARINT_BYTES:
                    raise ValueError("a message's length has too many bytes")
            if at >= end:
                self._missing = 1
                break
            size |= data[at] << shift
            if size > self._max_bytes:
                raise ValueError(f"a message of {size} bytes is over the bound of {self._max_bytes}")
            at += 1
            if at + size > end:
                self._missing = at + size - end
                break
            messages.append(data[at : at + size])
            start = at + size
        self._pieces = [data[start:]] if start < end else []
        return messages
