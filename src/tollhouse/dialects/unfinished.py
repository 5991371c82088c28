"""An event whose end has not come yet, for observers, which forward whole events as they came."""

import re
from typing import Final

from tollhouse.errors import UpstreamTooLarge

_MAY_END: Final = re.compile(rb"[\r\n]{2}")
_EDGE_BYTES: Final = 3
"""The longest part of an event's end (two line ends) that can have come before the rest."""


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
        if self._pieces and not _MAY_END.search(self._edge + data):
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
