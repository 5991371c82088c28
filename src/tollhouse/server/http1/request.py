"""One request and its answer, between the parser that pushes bytes in and the ASGI app that pulls them out.

The request's body waits here in pieces.  The answer's head waits for the first piece of its body, so that both leave in one
write, and so that an answer of one piece needs no chunks to say how long it is.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from email.utils import formatdate
from enum import Enum
from http import HTTPStatus
from typing import Final, Protocol

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


class Wire(Protocol):
    """What a request asks of the connection that it came on."""

    is_lost: bool

    def write(self, data: bytes) -> None:
        """Hands bytes to the socket, or to nobody if it is gone."""
        ...

    async def drained(self) -> None:
        """Returns when the socket takes more bytes, or is gone."""
        ...

    def unread(self, size: int) -> None:
        """Hears how many bytes of the body wait to be read."""
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
        "is_complete",
        "keeps_alive",
        "scope",
        "task",
    )

    def __init__(self, wire: Wire, scope: Scope, *, keeps_alive: bool, expects_continue: bool) -> None:
        """`expects_continue`: the client waits for a word before it sends its body."""
        self._wire = wire
        self.scope = scope
        self.task: asyncio.Task[None] | None = None
        """What answers it, once that has begun."""
        self.keeps_alive = keeps_alive
        """Whether the connection can carry another request after this one."""
        self.is_complete = False
        """Whether all of the request has arrived."""
        self.answer = Answer.UNBEGUN
        self._expects_continue = expects_continue
        self._pieces: list[bytes] = []
        self._unread = 0
        self._is_told = False
        """Whether the app knows that the body is complete."""
        self._waiter: asyncio.Future[None] | None = None
        self._departed: Callable[[], object] | None = None
        self._status = 0
        self._head: Iterable[tuple[bytes, bytes]] = ()
        self._framing = Framing.NONE
        self._left = 0
        """Bytes of the announced length that are still to come."""

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
            if self.answer is Answer.ENDED:
                return {"type": "http.disconnect"}
            await self._news()

    async def send(self, message: Message) -> None:
        """Takes the head, then pieces of the body; waits while the client does not read.  Does nothing once it has left.

        Raises `RuntimeError` for messages out of order, for more or less body than announced, and for line breaks in headers.
        """
        match message["type"], self.answer:
            case "http.response.start", Answer.UNBEGUN:
                self._status = message["status"]
                self._head = message["headers"]
                self.answer = Answer.HEADED
                return
            case "http.response.body", Answer.HEADED:
                self._send_head(message.get("body", b""), is_whole=not message.get("more_body", False))
            case "http.response.body", Answer.SENDING:
                self._send_piece(message.get("body", b""), is_last=not message.get("more_body", False))
            case kind, state:
                raise RuntimeError(f"{kind} cannot follow: the answer is {state.value}")
        await self._wire.drained()

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
        self._wake()

    def complete(self) -> None:
        """All of the request is there."""
        self.is_complete = True
        self._wake()

    def lose(self) -> None:
        """The client has left."""
        self._wake()
        departed, self._departed = self._departed, None
        if departed is not None and self.answer is not Answer.ENDED:
            departed()

    # ------------------------------------------------------------------------------------------------------ private

    async def _news(self) -> None:
        if self._expects_continue and not self.is_complete and self.answer is Answer.UNBEGUN:
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
        fields = [_STATUS_LINES.get(self._status) or b"HTTP/1.1 %d Status\r\n" % self._status]
        length: int | None = None
        breaks = 3
        for name, value in self._head:
            fields += (name, b": ", value, b"\r\n")
            breaks += 1
            if name == b"content-length":
                length = int(value)
        framing, line = self._framed(length, len(body) if is_whole else None)
        self._framing = framing
        fields.append(line)
        if not self.keeps_alive:
            fields.append(b"connection: close\r\n")
            breaks += 1
        elif self.scope["http_version"] == "1.0":
            fields.append(b"connection: keep-alive\r\n")
            breaks += 1
        fields.append(_date_line())
        head = b"".join(fields)
        # One look at the whole head in place of one at every field: no line break may be in it but our own.
        if head.count(b"\n") != breaks + bool(line) or head.count(b"\r") != breaks + bool(line) or b"\0" in head:
            raise RuntimeError("a response header contains a line break")
        self.answer = Answer.SENDING
        self._left = length or 0
        if framing is Framing.LENGTH and length is None:
            self._left = len(body)
        if len(body) > JOINED_BYTES:
            self._wire.write(head)
            head = b""
        self._send_piece(body, is_last=is_whole, head=head)

    def _framed(self, length: int | None, whole_bytes: int | None) -> tuple[Framing, bytes]:
        """How the body is framed, and the header that says so, if the app gave none."""
        if self._status in _BODILESS:
            return Framing.NONE, b""
        is_head = self.scope["method"] == "HEAD"
        if length is not None:
            return (Framing.NONE if is_head else Framing.LENGTH), b""
        if is_head:
            return Framing.NONE, b""
        if whole_bytes is not None:
            return Framing.LENGTH, b"content-length: %d\r\n" % whole_bytes
        if self.scope["http_version"] == "1.0":
            self.keeps_alive = False
            return Framing.CLOSE, b""
        return Framing.CHUNKS, b"transfer-encoding: chunked\r\n"

    def _send_piece(self, body: bytes, *, is_last: bool, head: bytes = b"") -> None:
        match self._framing:
            case Framing.CHUNKS:
                end = b"0\r\n\r\n" if is_last else b""
                data = b"%b%x\r\n%b\r\n%b" % (head, len(body), body, end) if body else head + end
            case Framing.LENGTH:
                self._left -= len(body)
                if self._left < 0 or (is_last and self._left):
                    raise RuntimeError("the body is not as long as its content-length says")
                data = head + body if head else body
            case Framing.CLOSE:
                data = head + body
            case Framing.NONE:
                data = head
        if is_last:
            self.answer = Answer.ENDED
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
