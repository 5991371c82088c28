"""One HTTP request and the way back to its client."""

import asyncio
import os
import random
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from tollhouse.dialects.dialect import Dialect
from tollhouse.dialects.head_lines import Fields, HeadLines, write_lines
from tollhouse.errors import BodyTooLarge, MethodNotAllowed, TollhouseError
from tollhouse.gateway.failures import JSON_HEAD, error_headers
from tollhouse.policy.access import Networks
from tollhouse.server.http.asgi import Headers, Receive, Scope, Send
from tollhouse.server.http.bodies import before_and_after, discard_body, has_body, read_body
from tollhouse.server.http.callers import FORWARDED, caller_address

JSON: Final = b"application/json"
_CONTENT_TYPE: Final = b"content-type"
_EVENTS: Final = b"text/event-stream"
_CREDENTIALS: Final = frozenset({b"authorization", b"x-api-key", b"x-goog-api-key"})
_JSON_LINE: Final = write_lines([JSON_HEAD])
_ID_LINES: Final = b"x-request-id: %b\r\nrequest-id: %b\r\n"


class OwnRequest(Protocol):
    """What our own server says of a request beyond ASGI, under `scope["tollhouse.request"]`."""

    is_coded: bool
    """Whether its body has a content coding."""
    is_complete: bool
    """Whether all of it has arrived."""
    task: asyncio.Task[None] | None
    """The one that answers it."""

    @property
    def has_departed(self) -> bool:
        """Whether its client has left."""
        ...

    def take(self) -> bytes:
        """All of its body, once it is complete."""
        ...

    def begin(self, status: int, headers: Fields) -> None:
        """Begins the answer."""
        ...

    def put(self, data: bytes, *, more: bool) -> bool:
        """Sends a piece of the answer; true when the next should wait until it is `drained`."""
        ...

    async def drained(self) -> None:
        """Returns when the client has caught up, or has left."""
        ...

    def when_departed(self, callback: Callable[[], object] | None) -> None:
        """Whom to call, once, when its client leaves before the answer is complete; at once if it has left."""
        ...


class Framing(Protocol):
    """What happens to a streamed answer on its last way to the client."""

    @property
    def media_type(self) -> bytes | None:
        """What comes of server-sent events; `None` where that is what they stay."""
        ...

    def feed(self, data: bytes) -> bytes:
        """The bytes for the client, of the next bytes of events."""
        ...

    def close(self) -> bytes:
        """The last bytes."""
        ...


class Exchange:
    """One HTTP request and the way back to its client.  It is the gateway's `Sink`."""

    __slots__ = (
        "_send",
        "address",
        "arrived",
        "dialect",
        "headers",
        "id",
        "is_begun",
        "is_events",
        "is_read",
        "media_types",
        "method",
        "path",
        "query_key",
        "receive",
        "reframe",
        "request",
        "scope",
    )

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, dialect: Dialect[Any], proxies: Networks | None = None
    ) -> None:
        """`proxies` are those that are trusted to say whom they speak for."""
        self.scope = scope
        self.request: OwnRequest | None = scope.get("tollhouse.request")
        self.receive = receive
        self._send = send
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.headers: Headers = scope["headers"]
        self.dialect = dialect
        self.id = new_request_id()
        client = scope.get("client")
        self.address: str = client[0] if client else ""
        """The caller's IP address; empty when the server does not know."""
        if proxies is not None:
            forwarded = [value for name, value in self.headers if name == FORWARDED]
            self.address = caller_address(self.address, forwarded, proxies)
        self.arrived = time.monotonic()
        self.is_begun = False
        self.is_events = False
        """Whether the answer that has begun is made of events, in whatever framing, so that one of them can be an error."""
        self.is_read = False
        """Whether the request's body was read to its end."""
        self.media_types: Mapping[bytes, bytes] | None = None
        """How a door that does not speak JSON calls what the gateway calls JSON and events, by the gateway's word."""

        self.query_key: bytes | None = None
        """A key in the query, where the door's API allows one there; never logged."""
        self.reframe: Framing | None = None
        """What a stream goes through where its dialect wants it: a client that does not read events, an end to be numbered.

        Whole answers and errors stay as they are.
        """

    def take(self, limit_bytes: int) -> bytes | None:
        """The request's body, if all of it is here already and can be read as it is.  Raises `BodyTooLarge`."""
        request = self.request
        if request is None or not request.is_complete or request.is_coded:
            return None
        body = request.take()
        if len(body) > limit_bytes:
            raise BodyTooLarge(limit_bytes=limit_bytes)
        self.is_read = True
        return body

    async def read(self, limit_bytes: int) -> bytes:
        """The request's body, once it is here; see `read_body`."""
        body = await read_body(self.receive, self.headers, limit_bytes)
        self.is_read = True
        return body

    async def head(self, status: int, headers: Fields) -> None:
        """Begins the answer.  Both SDKs look for the request id, each under a name of its own."""
        request_id = self.id.encode()
        self.is_begun = True
        # Most answers say that they are JSON, and say it first.
        is_json = type(headers) is HeadLines and headers.written.startswith(_JSON_LINE)
        self.is_events = not is_json and any(
            name == _CONTENT_TYPE and value.startswith(_EVENTS) for name, value in headers
        )
        names = self.media_types
        if self.reframe is not None:
            if self.is_events:
                kind = self.reframe.media_type
                if kind is not None:
                    headers = [(name, kind if name == _CONTENT_TYPE else value) for name, value in headers]
            else:
                self.reframe = None
        if names is not None:
            headers = [(name, names.get(value, value) if name == _CONTENT_TYPE else value) for name, value in headers]
        if type(headers) is HeadLines:
            headers = HeadLines(headers.written + _ID_LINES % (request_id, request_id))
        else:
            headers = [*headers, (b"x-request-id", request_id), (b"request-id", request_id)]
        if self.request is not None:
            self.request.begin(status, headers)
        else:
            await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def body(self, data: bytes, *, more: bool) -> None:
        """Sends a piece of the answer."""
        if self.reframe is not None:
            data = self.reframe.feed(data) if more else self.reframe.feed(data) + self.reframe.close()
        if self.request is not None:
            if self.request.put(data, more=more):
                await self.request.drained()
        else:
            await self._send({"type": "http.response.body", "body": data, "more_body": more})

    async def reply(self, status: int, data: bytes, content_type: bytes = JSON) -> None:
        """Sends a whole answer; a HEAD request gets its head alone."""
        await self.head(status, [(b"content-type", content_type), (b"content-length", b"%d" % len(data))])
        await self.body(b"" if self.method == "HEAD" else data, more=False)

    async def refuse(self, error: TollhouseError) -> None:
        """Sends an error in the client's dialect, and lets the client finish sending what was not read of its body."""
        headers = error_headers(error)
        if isinstance(error, MethodNotAllowed):
            headers.append((b"allow", ", ".join(error.allowed).encode()))
        data = self.dialect.encode_error(error, self.id)
        has_arrived = self.request is not None and self.request.is_complete
        if self.is_read or has_arrived or not has_body(self.headers):
            await self.head(error.http_status, headers)
            await self.body(data, more=False)
            return
        # The length tells the client that this is all, while the exchange stays open for the rest of its body.
        await self.head(error.http_status, [*headers, (b"content-length", b"%d" % len(data))])
        first, last = before_and_after(self.scope, data)
        await self.body(first, more=True)
        await discard_body(self.receive)
        await self.body(last, more=False)

    def credential(self) -> bytes | None:
        """The caller's key, wherever its SDK puts it.  Newer SDKs may send two of the headers; a bearer comes first."""
        other = self.query_key
        for name, value in self.headers:
            if name not in _CREDENTIALS:  # as nearly all are not
                continue
            if name == b"authorization":
                if value[:7].lower() == b"bearer " and (token := value[7:].strip()):
                    return token
            elif value:
                other = value
        return other

    def has_header(self, wanted: bytes) -> bool:
        """Whether a header of that lower-case name was sent."""
        for name, _ in self.headers:  # noqa: SIM110  # asked of nearly every call, and what is shorter takes longer
            if name == wanted:
                return True
        return False


def new_request_id() -> str:
    """`req_`, the time in milliseconds and 48 random bits, in hexadecimal: unique, and in the order of time.

    The order keeps the ledger's index of ids growing at its end, where a commit touches one page and not one for each row.
    """
    return "req_" + (time.time_ns() // 1_000_000 << 48 | _chance.getrandbits(48)).to_bytes(12, "big").hex()


_chance: Final = random.Random(os.urandom(32))  # noqa: S311  # ids are no secrets; asking the kernel each time costs more

if hasattr(os, "register_at_fork"):
    # Or workers that are forked from one process would all make the same ids.
    os.register_at_fork(after_in_child=lambda: _chance.seed(os.urandom(32)))
