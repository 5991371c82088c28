"""Bodies as the caller wants them: whole within a bound, and without a content coding.

We ask for `accept-encoding: identity`, because a compressed stream of events cannot be forwarded piece by piece.  Some
servers and proxies compress all the same, so gzip and deflate are undone here, piece by piece and within bounds: a
small input must not become an endless output.
"""

import zlib
from typing import Protocol

from tollhouse.errors import UpstreamMalformed, UpstreamTooLarge, UpstreamTruncated
from tollhouse.upstream.transport import Headers, Incoming

MAX_PIECE_BYTES = 65_536
"""Bound on one decoded piece."""
MAX_EXPANSION = 250
"""Decoded bytes allowed for each byte received.  Repetitive JSON stays below 100; deflate itself could reach 1,032."""
FREE_BYTES = 1_048_576
"""Decoded bytes below which the expansion is not looked at."""

_GZIP_WBITS = 16 + zlib.MAX_WBITS


class _Readable(Protocol):
    async def read_some(self) -> bytes: ...

    def close(self) -> None: ...


async def read_all(body: _Readable, limit_bytes: int, where: str) -> bytes:
    """Reads to the end.  Past `limit_bytes` it closes the exchange and raises `UpstreamTooLarge`; `where` names the peer."""
    pieces: list[bytes] = []
    size = 0
    while piece := await body.read_some():
        size += len(piece)
        if size > limit_bytes:
            body.close()
            raise UpstreamTooLarge(f"{where} sent a body of more than {limit_bytes} bytes.")
        pieces.append(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def decoded(incoming: Incoming, coding: bytes, where: str) -> Incoming:
    """Gives `incoming` without its content coding.  Closes it and raises `UpstreamMalformed` for one we do not know."""
    name = coding.strip().lower()
    if name in {b"", b"identity"}:
        return incoming
    if name not in {b"gzip", b"x-gzip", b"deflate"}:
        incoming.close()
        raise UpstreamMalformed(f"{where} answered in a content coding that was not asked for.")
    return DecodedIncoming(incoming, deflate=name == b"deflate", where=where)


class PassedOn:
    """What an `Incoming` that changes another's body has in common with that one."""

    __slots__ = ("_incoming",)

    def __init__(self, incoming: Incoming) -> None:
        self._incoming = incoming

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self._incoming.status

    @property
    def headers(self) -> Headers:
        """Fields as they came: coding and length are those of the body before it was changed."""
        return self._incoming.headers

    def header(self, name: bytes) -> bytes | None:
        """The first field of that lower-case name."""
        return self._incoming.header(name)

    def close(self) -> None:
        """See `Incoming.close`."""
        self._incoming.close()


class DecodedIncoming(PassedOn):
    """An `Incoming` whose body is decompressed while it is read."""

    __slots__ = ("_deflate", "_done", "_received", "_rest", "_returned", "_where", "_zlib")

    def __init__(self, incoming: Incoming, *, deflate: bool, where: str) -> None:
        super().__init__(incoming)
        self._deflate = deflate
        self._where = where
        self._zlib: zlib._Decompress | None = None
        self._rest = b""
        self._received = 0
        self._returned = 0
        self._done = False

    async def read_some(self) -> bytes:
        """See `Incoming.read_some`; pieces are at most `MAX_PIECE_BYTES` long."""
        while True:
            if not self._rest:
                self._rest = await self._incoming.read_some()
                if not self._rest:
                    return self._end()
                self._received += len(self._rest)
            if piece := self._step():
                self._returned += len(piece)
                if self._returned > max(FREE_BYTES, self._received * MAX_EXPANSION):
                    raise self._broken("expands without measure")
                return piece

    async def read_all(self, limit_bytes: int) -> bytes:
        """See `Incoming.read_all`; the limit is on decoded bytes."""
        return await read_all(self, limit_bytes, self._where)

    def close(self) -> None:
        """See `Incoming.close`."""
        self._rest = b""
        super().close()

    def _step(self) -> bytes:
        if self._zlib is None:
            if self._done and not self._deflate and self._rest.strip(b"\0") == b"":
                self._rest = b""  # zero padding after the last member (gzip(1) allows it)
                return b""
            self._zlib = self._start(self._rest)
            self._done = False
        try:
            piece = self._zlib.decompress(self._rest, MAX_PIECE_BYTES)
        except zlib.error as error:
            raise self._broken("is not what its content coding says") from error
        self._rest = self._zlib.unconsumed_tail
        if self._zlib.eof:
            # RFC 1952, section 2.2: a gzip file is a series of members.
            self._rest = self._zlib.unused_data
            self._zlib = None
            self._done = True
        return piece

    def _start(self, data: bytes) -> "zlib._Decompress":
        if not self._deflate:
            return zlib.decompressobj(_GZIP_WBITS)
        # RFC 9110, section 8.4.1.2 means zlib's format; some servers send the bare one.  Zlib's begins with method 8.
        return zlib.decompressobj(zlib.MAX_WBITS if data[0] & 0x0F == 8 else -zlib.MAX_WBITS)

    def _end(self) -> bytes:
        if self._zlib is not None:
            raise UpstreamTruncated(f"{self._where} ended its compressed body in the middle.")
        return b""

    def _broken(self, what: str) -> UpstreamMalformed:
        self.close()
        return UpstreamMalformed(f"{self._where} sent a compressed body that {what}.")
