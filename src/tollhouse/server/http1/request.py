"""One request and its answer, between the parser that pushes bytes in and the ASGI app that pulls them out.

The request's body waits here in pieces.  The answer's head waits for the first piece of its body, so that both leave in one
write, and so that an answer of one piece needs no chunks to say how long it is.
"""

import asyncio
import time
from collections.abc import Callable
from email.utils import formatdate
from enum import Enum
from http import HTTPStatus
from typing import Final, Protocol

from tollhouse.dialects.head_lines import Fields, HeadLines, write_lines
from tollhouse.server.http.asgi import Message, Scope

JOINED_BYTES: Final = 65_536
"""Bodies up to this size are copied behind their head and leave in one write."""

_STATUS_LINES: Final = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode("ascii") for status in HTTPStatus
}
_BODILESS: Final = frozenset({204, 304})


class Answer(Enum):
    """How far an answer is."""

    UNBEGUN = "unbegun"
    HEADED = "headed"
    """The app gave the head, which is not written yet."""
    SENDING = "sending"
    ENDED = "ended"


class Framing(Enum):
    """How the client knows where the answer's body ends."""

    LENGTH = "length"
    CHUNKS = "chunks"
    CLOSE = "close"
    """By the end of the connection: HTTP/1.0 knows no chunks."""
    NONE = "none"
    """There is no body: the answer to HEAD, 204, 304."""


# To ask an enumeration for a member takes ten times as long as to ask the module for a name, and these are asked for often.
_UNBEGUN: Final = Answer.UNBEGUN
_HEADED: Final = Answer.HEADED
_SENDING: Final = Answer.SENDING
_ENDED: Final = Answer.ENDED
_LENGTH: Final = Framing.LENGTH
_CHUNKS: Final = Framing.CHUNKS
_CLOSE: Final = Framing.CLOSE
_NONE: Final = Framing.NONE


class Wire(Protocol):
    """What a request asks of the connection that it came on."""

    is_lost: bool
    is_paused: bool
    """Whether the client reads more slowly than it is written to."""
    is_read: bool
    """Whether its socket is; not while too much of what it sent waits."""

    def write(self, data: bytes) -> None:
        """Hands bytes to the socket, or to nobody if it is gone."""
        ...

    async def drained(self) -> None:
        """Returns when the socket takes more bytes, or is gone."""
        ...

    def unread(self, size: int) -> None:
        """Hears how many bytes of the body wait: whenever there are more, and when fewer wait while the socket is not read."""
        ...


class Request:
    """A request under way.  `receive` and `send` are the app's, the rest is the connection's."""

    __slots__ = (
        "_departed",
        "_expects_continue",
        "_framing",
        "_head",
        "_is_told",
        "_left",
        "_pieces",
        "_status",
        "_unread",
        "_waiter",
        "_wire",
        "answer",
        "is_coded",
        "is_complete",
        "keeps_alive",
        "scope",
        "task",
    )

    _status: int
    _head: Fields
    _framing: Framing
    _left: int
    """Bytes of the announced length that are still to come.  These four are there once the answer is that far."""

    # All by position: named arguments become a dictionary for each request, which costs as much as half of the rest.
    def __init__(
        self,
        wire: Wire,
        scope: Scope,
        keeps_alive: bool,  # noqa: FBT001
        expects_continue: bool,  # noqa: FBT001
        is_coded: bool = False,  # noqa: FBT001, FBT002
    ) -> None:
        """`expects_continue`: the client waits for a word before it sends its body.  `is_coded`: see there."""
        self._wire = wire
        self.scope = scope
        self.task: asyncio.Task[None] | None = None
        """What answers it, once that has begun."""
        self.keeps_alive = keeps_alive
        """Whether the connection can carry another request after this one."""
        self.is_coded = is_coded
        """Whether its body has a content coding."""
        self.is_complete = False
        """Whether all of the request has arrived."""
        self.answer = _UNBEGUN
        self._expects_continue = expects_continue
        self._pieces: list[bytes] = []
        self._unread = 0
        self._is_told = False
        """Whether the app knows that the body is complete."""
        self._waiter: asyncio.Future[None] | None = None
        self._departed: Callable[[], object] | None = None

    # ----------------------------------------------------------------------------------------------- for the app

    async def receive(self) -> Message:
        """All that has arrived of the body, in one piece; after its end, or when the client leaves, `http.disconnect`."""
        while True:
            if self._pieces:
                body = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
                self._pieces = []
                self._unread = 0
                self._wire.unread(0)
                self._is_told = self.is_complete
                return {"type": "http.request", "body": body, "more_body": not self.is_complete}
            if self._wire.is_lost:
                return {"type": "http.disconnect"}
            if self.is_complete and not self._is_told:
                self._is_told = True
                return {"type": "http.request", "body": b"", "more_body": False}
            if self.answer is _ENDED:
                return {"type": "http.disconnect"}
            await self._news()

    async def send(self, message: Message) -> None:
        """Takes the head, then pieces of the body; waits while the client does not read.  Does nothing once it has left.

        Raises `RuntimeError` for messages out of order, for more or less body than announced, and for line breaks in headers.
        """
        kind = message["type"]
        if kind == "http.response.start":
            self.begin(message["status"], [*message["headers"]])
        elif kind == "http.response.body":
            if self.put(message.get("body", b""), more=message.get("more_body", False)):
                await self.drained()
        else:
            raise self._misplaced(kind)

    # ------------------------------------------------------------------------- for an app that knows whose request it is

    def take(self) -> bytes:
        """All of the body, in place of `receive`, once it is complete."""
        body = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces = []
        self._unread = 0
        if not self._wire.is_read:
            self._wire.unread(0)
        self._is_told = True
        return body

    def begin(self, status: int, headers: Fields) -> None:
        """Takes the head, in place of `send`.  Raises `RuntimeError` when there was one."""
        if self.answer is not _UNBEGUN:
            raise self._misplaced("http.response.start")
        self._status = status
        self._head = headers
        self.answer = _HEADED

    def put(self, data: bytes, *, more: bool) -> bool:
        """Takes a piece of the body, in place of `send`, and raises as it does.

        Returns whether the client reads more slowly than it is written to: then await `drained`.
        """
        if self.answer is _HEADED:
            self._send_head(data, is_whole=not more)
        elif self.answer is _SENDING:
            self._send_piece(data, is_last=not more)
        else:
            raise self._misplaced("http.response.body")
        return self._wire.is_paused

    async def drained(self) -> None:
        """Returns when the client has caught up, or has left."""
        await self._wire.drained()

    def _misplaced(self, kind: str) -> RuntimeError:
        return RuntimeError(f"{kind} cannot follow: the answer is {self.answer.value}")

    @property
    def has_departed(self) -> bool:
        """Whether the client has left."""
        return self._wire.is_lost

    def when_departed(self, callback: Callable[[], object] | None) -> None:
        """Calls back, once, when the client leaves before its answer is complete; at once if it has left.

        `None` calls it off.
        """
        self._departed = callback
        if callback is not None and self._wire.is_lost:
            self.lose()

    # ---------------------------------------------------------------------------------------- for the connection

    def feed(self, data: bytes) -> None:
        """Takes a piece of the body."""
        self._pieces.append(data)
        self._unread += len(data)
        self._wire.unread(self._unread)
        if self._waiter is not None:
            self._wake()

    def complete(self) -> None:
        """All of the request is there."""
        self.is_complete = True
        if self._waiter is not None:
            self._wake()

    def lose(self) -> None:
        """The client has left."""
        self._wake()
        departed, self._departed = self._departed, None
        if departed is not None and self.answer is not _ENDED:
            departed()

    # ------------------------------------------------------------------------------------------------------ private

    async def _news(self) -> None:
        if self._expects_continue and not self.is_complete and self.answer is _UNBEGUN:
            self._expects_continue = False
            self._wire.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if self._waiter is not None:
            raise RuntimeError("two waits for one request at the same time")
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _send_head(self, body: bytes, *, is_whole: bool) -> None:
        given = self._head
        length = None
        if type(given) is HeadLines:
            fields = given.written
        else:
            try:
                fields = write_lines(given)
            except ValueError as error:
                raise RuntimeError("a response header contains a line break") from error
            length = next((int(value) for name, value in given if name == b"content-length"), None)
        lines = [_STATUS_LINES.get(self._status) or b"HTTP/1.1 %d Status\r\n" % self._status, fields]
        is_old = self.scope["http_version"] == "1.0"
        if self._status in _BODILESS or self.scope["method"] == "HEAD":
            self._framing = _NONE
        elif length is not None:
            self._framing, self._left = _LENGTH, length
        elif is_whole:
            self._framing, self._left = _LENGTH, len(body)
            lines.append(b"content-length: %d\r\n" % len(body))
        elif is_old:
            self._framing = _CLOSE
            self.keeps_alive = False
        else:
            self._framing = _CHUNKS
            lines.append(b"transfer-encoding: chunked\r\n")
        if not self.keeps_alive:
            lines.append(b"connection: close\r\n")
        elif is_old:
            lines.append(b"connection: keep-alive\r\n")
        lines.append(_date_line())
        head = b"".join(lines)
        self.answer = _SENDING
        if len(body) > JOINED_BYTES:
            self._wire.write(head)
            head = b""
        self._send_piece(body, is_last=is_whole, head=head)

    def _send_piece(self, body: bytes, *, is_last: bool, head: bytes = b"") -> None:
        framing = self._framing
        if framing is _LENGTH:
            self._left -= len(body)
            if self._left < 0 or (is_last and self._left):
                raise RuntimeError("the body is not as long as its content-length says")
            data = head + body if head else body
        elif framing is _CHUNKS:
            end = b"0\r\n\r\n" if is_last else b""
            data = b"%b%x\r\n%b\r\n%b" % (head, len(body), body, end) if body else head + end
        elif framing is _CLOSE:
            data = head + body
        else:
            data = head
        if is_last:
            self.answer = _ENDED
        if data:
            self._wire.write(data)


_date: tuple[int, bytes] = (0, b"")


def _date_line() -> bytes:
    """The `date` field and the end of a head.  RFC 9110, section 6.6.1: a server with a clock sends it."""
    global _date  # noqa: PLW0603  # a memo of one second: making the text costs as much as parsing a request
    now = int(time.time())
    if now != _date[0]:
        _date = (now, b"date: " + formatdate(now, usegmt=True).encode("ascii") + b"\r\n\r\n")
    return _date[1]
