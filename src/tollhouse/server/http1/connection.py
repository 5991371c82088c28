"""One client's socket: parsed by llhttp, one request answered at a time, in the order in which they came.

What is unusual:

- **One timer for a connection's whole life**, as in `upstream/connection.py`: a deadline is a number that the timer looks
  at with every beat, so moving it costs an assignment.
- **All connections read into one buffer** (`asyncio.BufferedProtocol`): the loop fills it and hands it to the parser in
  one step.
- **A client that ends its side has left.**  That is how a closed browser tab and a killed program look from here, and a
  gateway must notice them at once or it pays for answers that nobody reads.  A client that merely shuts down its sending
  side while it waits (few do; nginx and hyper close on it too) is treated alike.
- **An answer that fails half way breaks the connection**: a cut answer must not end cleanly.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, cast
from urllib.parse import unquote_to_bytes

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from tollhouse.errors import BadRequest, Overloaded
from tollhouse.server.http.asgi import App, Headers, Scope
from tollhouse.server.http1.request import Answer, Request
from tollhouse.server.tls import tls_extension
from tollhouse.upstream.outbox import Outbox

MAX_HEAD_BYTES: Final = 65_536
MAX_HEAD_FIELDS: Final = 256
MAX_UNREAD_BYTES: Final = 1_048_576
"""Body bytes that wait for the app; past it the socket is not read.  One network read may come on top."""
MAX_PIPELINED: Final = 16
"""Requests that may wait behind the one being answered; a client that sends more at once is cut off."""
MAX_IDLE_TASKS: Final = 256
"""Tasks without a request that are kept for the next."""
MAX_CONNECTIONS: Final = 16_384
"""Connections at a time, idle ones included.  How many calls are answered at a time is `server.max_concurrent_calls`."""
TLS_HANDSHAKE: Final = 0x16
"""The first byte of a client that speaks TLS (RFC 8446, section 5.1); no HTTP method begins with it."""
READ_BUFFER_BYTES: Final = 65_536
LOW_WATER_BYTES: Final = 65_536
HIGH_WATER_BYTES: Final = 262_144

_LARGE_HEAD: Final = b"The request's head is larger than 64 KiB."
_BAD_REQUEST: Final = (b"invalid_request_error", BadRequest.code.encode())
_OVERLOADED: Final = (b"server_error", Overloaded.code.encode())
"""The type and the stable code of an error."""
_NO_ANSWER: Final = b'{"error":{"type":"%b","code":"%b","message":"%b"}}'


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long a connection waits for its client, in seconds.  The app has its own deadlines for bodies and answers."""

    heartbeat: float = 5.0
    """How often a connection looks at its deadline; each may pass that much later."""
    idle: float = 75.0
    """For the next request; longer than clients' pools keep a connection (httpx 5 s, undici 4 s, aiohttp 15 s), so that it is
    they who close."""
    head: float = 30.0
    """For a request's head, from its first byte or from the connection's beginning."""
    stall: float = 300.0
    """For a client that leaves an answer unread, once the socket's buffers are full."""


class Hub:
    """What the connections of one listener share."""

    def __init__(
        self,
        app: App,
        loop: asyncio.AbstractEventLoop,
        failed: Callable[[BaseException], None],
        patience: Patience,
        max_connections: int,
        *,
        heard_tls: Callable[[], None] = lambda: None,
    ) -> None:
        """`failed` hears of errors that an app let escape; their connections are broken.

        `heard_tls` is told that a client spoke TLS where plain text is spoken.
        """
        self.app = app
        self.loop = loop
        self.failed = failed
        self.patience = patience
        self.max_connections = max_connections
        self.heard_tls = heard_tls
        self.outbox = Outbox(loop.call_soon)
        """Where answers leave."""
        self.buffer = memoryview(bytearray(READ_BUFFER_BYTES))
        self.connections: set[Connection] = set()
        self.tasks: set[asyncio.Task[None]] = set()
        """One for each request being answered; the listener awaits them."""
        self.is_stopping = False
        self._idle: list[tuple[asyncio.Task[None], asyncio.Future[tuple[Connection, Request]]]] = []
        """Tasks that have answered a request and take another: making one for each costs as much as parsing its head."""

    def begin(self, connection: "Connection", request: Request) -> None:
        """Has a request answered by a task, which stands in `request.task` and `tasks` until it is."""
        idle = self._idle
        while idle:
            task, waiting = idle.pop()
            if not waiting.done():
                waiting.set_result((connection, request))
                break
        else:
            task = self.loop.create_task(self._work(connection, request))
        request.task = task
        self.tasks.add(task)

    def dismiss(self) -> None:
        """Lets go of the tasks that wait.  Those at work end with their requests once `is_stopping`."""
        while self._idle:
            self._idle.pop()[1].cancel()

    async def _work(self, connection: "Connection", request: Request) -> None:
        task = asyncio.current_task()
        while task is not None:
            await connection.answer(request)
            del connection, request
            # One that was asked to end, even in vain, takes nothing more.
            if self.is_stopping or task.cancelling() or len(self._idle) >= MAX_IDLE_TASKS:
                return
            waiting: asyncio.Future[tuple[Connection, Request]] = self.loop.create_future()
            self._idle.append((task, waiting))
            connection, request = await waiting


class Connection(asyncio.BufferedProtocol):
    """One connection, from `connection_made` to `connection_lost`."""

    __slots__ = (
        "_active",
        "_due",
        "_fields",
        "_head_bytes",
        "_hub",
        "_incoming",
        "_is_coded",
        "_is_writable",
        "_parser",
        "_said",
        "_socket",
        "_timer",
        "_url",
        "_waiting",
        "is_lost",
        "is_paused",
        "is_read",
    )

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._socket: asyncio.Transport | None = None
        self._parser = HttpRequestParser(self)
        self._url = b""
        self._fields: Headers = []
        self._head_bytes = 0
        self._is_coded = False
        """Whether the body that arrives has a content coding, or says so."""
        self._incoming: Request | None = None
        """The request whose body is arriving."""
        self._active: Request | None = None
        """The request being answered."""
        self._waiting: deque[Request] = deque()
        self.is_read = True
        self._is_writable: asyncio.Future[None] | None = None
        self.is_paused = False
        self._due = hub.loop.time() + hub.patience.head
        self._timer: asyncio.TimerHandle | None = None
        self._said: dict[str, Any] = {}
        """What the scopes of all its requests have in common."""
        self.is_lost = False

    @property
    def is_idle(self) -> bool:
        """Whether no request is being read or answered."""
        return self._active is None and self._incoming is None and not self._head_bytes

    # -------------------------------------------------------------------------------------- asyncio.BufferedProtocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client connected."""
        socket = self._socket = cast("asyncio.Transport", transport)  # uvloop's class is no subclass of asyncio's
        self._hub.connections.add(self)
        said = self._said = {
            **_SAID,
            "client": _address(socket.get_extra_info("peername")),
            "server": _address(socket.get_extra_info("sockname")),
        }
        encrypted = socket.get_extra_info("ssl_object")
        if encrypted is not None:
            said["scheme"] = "https"
            said["extensions"] = {"tls": tls_extension(encrypted)}
        socket.set_write_buffer_limits(high=HIGH_WATER_BYTES, low=LOW_WATER_BYTES)
        self._timer = self._hub.loop.call_later(self._hub.patience.heartbeat, self._beat)
        if len(self._hub.connections) > self._hub.max_connections:
            self._refuse(503, b"Too many connections are open; try again in a moment.", _OVERLOADED)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  # the interface's; our buffer has one size
        """Where to read into."""
        return self._hub.buffer

    def buffer_updated(self, nbytes: int) -> None:
        """The socket brought bytes."""
        if self.is_lost:
            return
        if self._incoming is None:
            # Counted by reads: where a head shares one with a body or another head, the bound is looser by that read.
            self._head_bytes += nbytes
            if self._head_bytes == nbytes and self._active is None:
                self._due = self._hub.loop.time() + self._hub.patience.head
        try:
            self._parser.feed_data(self._hub.buffer[:nbytes])
        except HttpParserUpgrade:
            # The request itself is fine (`_check` saw to it), and an upgrade may be ignored (RFC 9110, section 7.8).
            # The parser has stopped for good, so the connection ends with this answer.
            self.close_when_idle()
        except HttpParserError as error:
            cause = error.__context__
            if isinstance(cause, _Refused):
                self._refuse(cause.status, cause.sentence)
            elif self._head_bytes == nbytes and self._hub.buffer[0] == TLS_HANDSHAKE and self._said["scheme"] == "http":
                self._hub.heard_tls()
                self._refuse(400, b"This port speaks plain HTTP; use http:// in place of https://.")
            else:
                self._refuse(400, b"This is not HTTP/1.1.")
        else:
            if self._incoming is None and self._head_bytes > MAX_HEAD_BYTES:
                self._refuse(431, _LARGE_HEAD)

    def eof_received(self) -> None:
        """The client will send no more."""
        self._hub.outbox.flush()  # it may still read what was written before it left, and the loop closes the socket next
        self._lose()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # however it went, it is gone
        """The socket is gone."""
        self._hub.connections.discard(self)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._lose()
        self._socket = None

    def pause_writing(self) -> None:
        """The client reads more slowly than the answer comes."""
        self.is_paused = True
        self._due = self._hub.loop.time() + self._hub.patience.stall

    def resume_writing(self) -> None:
        """The socket's buffer has room."""
        self.is_paused = False
        if self._is_writable is not None and not self._is_writable.done():
            self._is_writable.set_result(None)

    # -------------------------------------------------------------------------------------------------- for llhttp

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._incoming is None:  # else a trailer, which must never pass for a header
            self._fields.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        parser = self._parser
        version = parser.get_http_version()
        expects_continue = self._check(version)
        scope = self._scope(parser.get_method().decode("ascii"), version)
        keeps_alive = parser.should_keep_alive() and not self._hub.is_stopping
        request = self._incoming = Request(self, scope, keeps_alive, expects_continue, self._is_coded)
        self._head_bytes = 0
        self._fields = []
        self._url = b""
        if self._active is None:
            self._begin(request)
        else:
            if len(self._waiting) >= MAX_PIPELINED:
                raise _Refused(400, b"Too many requests were sent ahead on one connection.")
            self._waiting.append(request)
            self._pace()

    def on_body(self, body: bytes) -> None:
        if self._incoming is not None:
            self._incoming.feed(body)

    def on_message_complete(self) -> None:
        if self._incoming is not None:
            self._incoming.complete()
            self._incoming = None

    # ---------------------------------------------------------------------------------------------- for its requests

    def write(self, data: bytes) -> None:
        """See `Wire.write`."""
        if self._socket is not None and not self.is_lost:
            self._hub.outbox.put(self._socket, data)

    async def drained(self) -> None:
        """See `Wire.drained`."""
        if self.is_paused and not self.is_lost:
            self._is_writable = self._hub.loop.create_future()
            try:
                await self._is_writable
            finally:
                self._is_writable = None

    def unread(self, size: int) -> None:
        """See `Wire.unread`."""
        if size > MAX_UNREAD_BYTES or not self.is_read:
            self._pace(size)

    # ------------------------------------------------------------------------------------------------- for its owner

    def close_when_idle(self) -> None:
        """Lets the request under way end, and no other begin."""
        for request in (self._active, self._incoming, *self._waiting):
            if request is not None:
                request.keeps_alive = False
        if self.is_idle:
            self._close()

    def abort(self) -> None:
        """Breaks the connection, behind what was written."""
        self._hub.outbox.flush()
        socket = self._socket
        self._lose()
        if socket is not None:
            socket.abort()

    # ------------------------------------------------------------------------------------------------------ private

    def _check(self, version: str) -> bool:
        """Whether the client waits for `100 Continue`.  Refuses what llhttp lets pass and nobody should rely on."""
        fields = self._fields
        if len(fields) > MAX_HEAD_FIELDS:
            raise _Refused(431, b"The request has more than 256 headers.")
        if self._head_bytes > MAX_HEAD_BYTES and (
            # What arrived may be mostly body: then count the head itself.
            len(self._url) + sum(len(name) + len(value) for name, value in fields) > MAX_HEAD_BYTES
        ):
            raise _Refused(431, _LARGE_HEAD)
        expects_continue = has_body = self._is_coded = False
        hosts = 0
        for name, value in fields:
            if name not in _LOOKED_AT:  # as nearly all are not
                continue
            if name == b"host":
                hosts += 1
            elif name == b"content-length":
                has_body = True
            elif name == b"transfer-encoding":
                has_body = True
                if value.strip().lower() != b"chunked":
                    raise _Refused(501, b"Only the transfer coding `chunked` is known here.")
            elif name == b"content-encoding":
                self._is_coded = True
            elif name == b"expect":
                expects_continue = value.strip().lower() == b"100-continue"
        # RFC 9112, section 3.2: exactly one, or proxies before us may have read another.
        if hosts > 1 or (not hosts and version != "1.0"):
            raise _Refused(400, b"A request has one Host header.")
        if has_body and self._parser.should_upgrade():
            raise _Refused(400, b"This server does not switch protocols; leave out the Upgrade header.")
        return expects_continue

    def _scope(self, method: str, version: str) -> Scope:
        target = self._url
        if not target.startswith(b"/"):
            # The absolute form, which proxies send: `http://host/path`.
            _, _, rest = target.partition(b"://")
            target = b"/" + rest.partition(b"/")[2] if rest else target
        raw_path, query = target, b""
        if _QUESTION_MARK in target:
            raw_path, _, query = target.partition(b"?")
        path = unquote_to_bytes(raw_path) if _PERCENT in raw_path else raw_path
        scope = self._said.copy()  # a copy with new values costs half of a new dictionary
        scope["http_version"] = version
        scope["method"] = method
        scope["path"] = path.decode("utf-8", "replace")
        scope["raw_path"] = raw_path
        scope["query_string"] = query.partition(b"#")[0] if query else query
        scope["headers"] = self._fields
        return scope

    def _begin(self, request: Request) -> None:
        self._active = request
        request.scope["tollhouse.request"] = request
        self._hub.begin(self, request)

    async def answer(self, request: Request) -> None:
        """The outer edge of a request: whatever escapes the app breaks the connection and ends here."""
        try:
            await self._hub.app(request.scope, request.receive, request.send)
        except Exception as error:  # noqa: BLE001
            self._hub.failed(error)
            self.abort()
        except asyncio.CancelledError:
            self.abort()
            raise
        else:
            if request.answer is _ENDED:
                self._ended(request)
            else:
                self.abort()
        finally:
            if request.task is not None:
                self._hub.tasks.discard(request.task)
            # The request, its scope and its task refer to each other: a circle, which the collector would have to find.
            del request.scope["tollhouse.request"]
            request.task = None

    def _ended(self, request: Request) -> None:
        self._active = None
        if not request.is_complete:
            # The rest of the body would be read as the next request's head, or thrown away at our cost.
            self._close()
            return
        if not request.keeps_alive:
            self._close()
            return
        self._due = self._hub.loop.time() + self._hub.patience.idle
        if self._waiting:
            self._begin(self._waiting.popleft())
        if not self.is_read:
            self._pace()

    def _pace(self, unread: int = 0) -> None:
        """Reads from the socket only while there is room for what comes."""
        if self._socket is None or self.is_lost:
            return
        reads = not self._waiting and unread <= MAX_UNREAD_BYTES
        if reads != self.is_read:
            self.is_read = reads
            if reads:
                self._socket.resume_reading()
            else:
                self._socket.pause_reading()

    def _refuse(self, status: int, sentence: bytes, error: tuple[bytes, bytes] = _BAD_REQUEST) -> None:
        """Answers bytes that are no request, unless an answer is under way, and closes."""
        if self._active is None and self._socket is not None:
            body = _NO_ANSWER % (*error, sentence)
            self.write(
                b"HTTP/1.1 %d %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n"
                b"x-tollhouse-code: %b\r\nconnection: close\r\n\r\n%b"
                % (status, _REASONS[status], len(body), error[1], body)
            )
            self._close()
        else:
            self.abort()

    def _close(self) -> None:
        """Closes the socket when what was written has left."""
        self._hub.outbox.flush()
        socket = self._socket
        self._lose()
        if socket is not None:
            socket.close()

    def _lose(self) -> None:
        if self.is_lost:
            return
        self.is_lost = True
        if self._is_writable is not None and not self._is_writable.done():
            self._is_writable.set_result(None)
        for request in (self._active, self._incoming):
            if request is not None:
                request.lose()
        self._waiting.clear()
        self._incoming = None

    def _beat(self) -> None:
        self._timer = None
        if self._socket is None:
            return
        now = self._hub.loop.time()
        if now >= self._due and (self._active is None or self.is_paused):
            if self._head_bytes:
                self._refuse(408, b"The request's head did not arrive in time.")
            else:
                self.abort()
        self._timer = self._hub.loop.call_at(now + self._hub.patience.heartbeat, self._beat)


class _Refused(Exception):  # it ends a callback of the parser, and is an answer rather than an error
    """A request that gets no further than its head."""

    def __init__(self, status: int, sentence: bytes) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence


_LOOKED_AT: Final = frozenset({b"host", b"content-length", b"transfer-encoding", b"content-encoding", b"expect"})
_PERCENT, _QUESTION_MARK = b"%?"
_ENDED: Final = Answer.ENDED
_SAID: Final = {
    "type": "http",
    "asgi": {"version": "3.0", "spec_version": "2.5"},
    "http_version": "",
    "method": "",
    "scheme": "http",
    "path": "",
    "raw_path": b"",
    "query_string": b"",
    "root_path": "",
    "headers": (),
}
"""A scope, before anything is known of a request; all of these are there in each."""
_REASONS: Final = {
    400: b"Bad Request",
    408: b"Request Timeout",
    431: b"Request Header Fields Too Large",
    501: b"Not Implemented",
    503: b"Service Unavailable",
}


def _address(name: object) -> tuple[str, int] | None:
    """`(host, port)` of a socket's name; `None` for what has neither."""
    return (str(name[0]), int(name[1])) if isinstance(name, tuple) and len(name) >= 2 else None
