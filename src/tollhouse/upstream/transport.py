"""What the gateway needs of an HTTP client, and nothing more.

Two implementations pass the same fault suite: `wire` (our own, on httptools) and `aio` (aiohttp).  Both translate their
library's failures into `tollhouse.errors` once, here at the edge:

- `ConnectFailed`: no connection; nothing was sent.
- `ConnectionLost`: the connection broke before a complete response head.
- `UpstreamTimeout`: a deadline passed (`phase` says which).
- `UpstreamTruncated`: the body ended before its framing said so.
- `UpstreamMalformed`: what came is not HTTP.
- `UpstreamTooLarge`: a head or a body over its bound.

Messages name the host, the port and what was waited for; never header values, bodies or credentials.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec

Headers = Sequence[tuple[bytes, bytes]]
"""Header fields in order; names in lower case when they come from a response."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadlines:
    """Time limits of one attempt, in seconds."""

    connect: float = 5.0
    """From the call to a usable connection: waiting for a free one, name look-up, TCP, proxy and TLS included."""
    first_byte: float = 120.0
    """From the request being written to a complete response head (1xx do not count).

    While a large request is being written, it is the longest time without the provider taking a piece of it.
    """
    between_chunks: float = 60.0
    """From the caller beginning to wait for more of the body to the next byte of it; a slow caller is not counted."""
    total: float = 600.0
    """From the call to the last byte.  Also ends an answer that nobody reads."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a provider answers, parsed once from its `base_url`."""

    scheme: str
    """`http` or `https`."""
    host: str
    port: int
    path: str
    """Prefix without a trailing slash: `/v1`."""
    authority: bytes
    """The Host header's value."""

    @property
    def where(self) -> str:
        """`host:port`, as the transports' messages have it; with brackets around IPv6."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Outgoing(msgspec.Struct, frozen=True):
    """One request to a provider, ready to be written."""

    address: Address
    method: bytes
    target: bytes
    """Path and query as they stand in the request line, the address's prefix included."""
    headers: Headers
    """Without host, content-length, transfer-encoding and connection: those are the transport's."""
    body: bytes


class Incoming(Protocol):
    """A response whose head has arrived.  Whoever gets it reads it to the end or calls `close`."""

    @property
    def status(self) -> int:
        """The HTTP status; 1xx are never seen here."""
        ...

    @property
    def headers(self) -> Headers:
        """Fields in order, names in lower case."""
        ...

    def header(self, name: bytes) -> bytes | None:
        """The first field of that lower-case name."""
        ...

    async def read_some(self) -> bytes:
        """The next piece of the body as it came off the network, de-chunked; `b""` at the clean end, again and again.

        A piece is all that has arrived since the last read; gzip and deflate are undone, though never asked for.  Never
        reads ahead of the caller by more than a bounded buffer.  Raises `UpstreamTimeout`, `UpstreamTruncated`,
        `UpstreamMalformed`, after all bytes that came before, and again at every later call.  May be cancelled: the
        connection is then closed at once.  Not for two readers at the same time.
        """
        ...

    async def read_all(self, limit_bytes: int) -> bytes:
        """The whole body; `UpstreamTooLarge` past the limit."""
        ...

    def close(self) -> None:
        """Ends the exchange now; the connection is closed unless the body was read to its end.  Idempotent.

        A `read_some` that is waiting meanwhile raises `ConnectionLost`.
        """
        ...


class Transport(Protocol):
    """A pool of connections to providers."""

    async def send(self, request: Outgoing, deadlines: Deadlines) -> Incoming:
        """Sends and waits for the response head.

        A reused connection that closes before any byte of the response is replaced once by a fresh one, silently.
        Cancelling closes the connection at once, at every stage.
        """
        ...

    async def aclose(self) -> None:
        """Closes every connection, also those in use."""
        ...
