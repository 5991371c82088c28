"""Where events end, and those whose end has not come yet: for observers, which forward whole events as they came."""

import re
from collections.abc import Iterator
from typing import Final

from tollhouse.errors import UpstreamTooLarge

# Two line ends in a row, each LF, CRLF or CR; a CR at the very end may be half of a CRLF, so it does not count yet.
_END: Final = re.compile(rb"(?:\r\n|\n|\r(?!\n|\Z)){2}")
_MAY_END: Final = re.compile(rb"[\r\n]{2}")
_EDGE_BYTES: Final = 3
"""The longest part of an event's end (two line ends) that can have come before the rest."""


def event_ends(data: bytes) -> Iterator[int]:
    """Where each whole event in `data` ends, its empty line included."""
    if b"\r" in data:
        yield from (match.end() for match in _END.finditer(data))
        return
    end = 0
    # A hundred times quicker, which counts where an event is a picture.
    while (end := data.find(b"\n\n", end) + 2) > 1:
        yield end


class Unfinished:
    """What came of an event so far; falsy for nothing.

    A picture comes in hundreds of reads: nothing is put together, or looked through, before there can be an end.
    """

    __slots__ = ("_edge", "_max_bytes", "_pieces", "_size_bytes")

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._pieces: list[bytes] = []
        self._size_bytes = 0
        self._edge = b""
        """The last bytes of it."""

    def __bool__(self) -> bool:
        return bool(self._pieces)

    def joined(self, data: bytes) -> bytes:
        """All of it with `data` behind; nothing, and `data` is kept, where no event can end in that.

        Raises `UpstreamTooLarge`.
        """
        if self._pieces:
            # Most of a picture holds no line end at all, and that is soon said.
            has_line_end = b"\n" in data or b"\r" in data
            if not _MAY_END.search(self._edge + data if has_line_end else self._edge):
                self.keep(data)
                return b""
        return self.take() + data

    def keep(self, piece: bytes) -> None:
        """Keeps more of it, with no end in it.  Raises `UpstreamTooLarge`."""
        if not piece:
            return
        self._pieces.append(piece)
        self._size_bytes += len(piece)
        self._edge = (self._edge + piece[-_EDGE_BYTES:])[-_EDGE_BYTES:]
        if self._size_bytes > self._max_bytes:
            raise UpstreamTooLarge(f"One streamed event is larger than {self._max_bytes} bytes.")

    def take(self) -> bytes:
        """All of it, which is let go."""
        whole = b"".join(self._pieces)
        self._pieces, self._size_bytes, self._edge = [], 0, b""
        return whole
