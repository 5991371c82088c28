"""What the gateway needs of an HTTP client, and nothing more.

Two implementations pass the same fault suite: `wire` (our own, on httptools) and `aio` (aiohttp).  Both translate their
library's failures into `tollhouse.errors` once, here at the edge:

- `ConnectFailed`: no connection; nothing was sent.
- `ConnectionLost`: the connection broke before a complete response head.
- `UpstreamTimeout`: a deadline passed (`phase` says which).
- `UpstreamTruncated`: the body ended before its framing said so.
- `UpstreamMalformed`: what came is not HTTP.
- `UpstreamTooLarge`: a head or a body over its bound.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

Headers = Sequence[tuple[bytes, bytes]]
"""Header fields in order; names in lower case when they come from a response."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadlines:
    """Time limits of one attempt, in seconds."""

    connect: float = 5.0
    first_byte: float = 120.0
    """From the request being written to the first byte of the response head."""
    between_chunks: float = 60.0
    """Between two reads of the body that bring bytes."""
    total: float = 600.0


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


@dataclass(frozen=True, slots=True)
class Outgoing:
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

        Never reads ahead of the caller by more than a bounded buffer.  Raises `UpstreamTimeout`, `UpstreamTruncated`,
        `UpstreamMalformed`.  May be cancelled: the connection is then closed at once.
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
