"""One request's answer, as it comes off a connection: parsed by llhttp, buffered within bounds, read by one caller.

The connection pushes bytes in (`feed`), the caller pulls them out (`read_some`).  Between the two stands a list of
pieces and at most one waiting future.  Everything that costs is done once per exchange; per network read there is one
parser call and one append, and the caller gets all that has arrived in one piece.

An exchange ends in exactly one of three ways: `ended` (its framing says that all is there), an error (kept, and raised
from every later read), or `close` by its reader.  Bytes that arrived before an error are handed out before it.
"""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from tollhouse.errors import (
    ConnectionLost,
    ProviderError,
    UpstreamMalformed,
    UpstreamTimeout,
    UpstreamTooLarge,
    UpstreamTruncated,
)
from tollhouse.upstream.content import read_all
from tollhouse.upstream.transport import Headers

MAX_HEAD_BYTES = 65_536
"""Bound on a response head, 1xx heads before it included; also on bytes in a row that bring no body (trailers)."""
MAX_HEAD_FIELDS = 256
MAX_UNREAD_BYTES = 65_536
"""Body bytes kept for a caller who does not read; past it the socket is not read.  One network read may come on top."""


_LOOKED_AT: Final = frozenset({b"content-length", b"transfer-encoding", b"content-encoding"})


class Timer(Protocol):
    """A call to come."""

    def cancel(self) -> None:
        """Calls it off."""
        ...


class Loop(Protocol):
    """What this package's inner parts use of an event loop, so that a test can hold the clock."""

    def time(self) -> float:
        """Monotonic, in seconds."""
        ...

    def call_at(self, when: float, callback: Callable[[], object], /) -> Timer:
        """Calls back at that time."""
        ...

    def create_future(self) -> asyncio.Future[None]:
        """A future of the running loop."""
        ...


class Link(Protocol):
    """What an exchange asks of the connection that it runs on."""

    closed: bool

    def watch(self, due: float) -> None:
        """Sets the loop time at which `Exchange.expire` is called."""
        ...

    def pause(self) -> None:
        """Stops reading from the socket."""
        ...

    def resume(self) -> None:
        """Reads from the socket again."""
        ...

    def abort(self) -> None:
        """Closes the socket at once."""
        ...


class Exchange:
    """The `Incoming` of the wire transport.  Made by `Connection.start`; `head` is awaited once before anything else."""

    __slots__ = (
        "_between_chunks",
        "_bodiless",
        "_buffered",
        "_error",
        "_fields",
        "_first_byte",
        "_link",
        "_loop",
        "_parser",
        "_paused",
        "_phase",
        "_pieces",
        "_refused",
        "_stray_bytes",
        "_total_at",
        "_until_close",
        "_waiter",
        "_where",
        "content_encoding",
        "ended",
        "keep_alive",
        "status",
        "touched",
    )

    # All by position: named arguments become a dictionary for each exchange, which costs as much as half of the rest.
    def __init__(  # noqa: PLR0917
        self,
        link: Link,
        loop: Loop,
        where: str,
        bodiless: bool,  # noqa: FBT001
        first_byte: float,
        between_chunks: float,
        total_at: float,
    ) -> None:
        """`where` is `host:port` for messages; `bodiless` is true for HEAD; times in seconds, `total_at` loop time."""
        self._link = link
        self._loop = loop
        self._where = where
        self._bodiless = bodiless
        self._first_byte = first_byte
        self._between_chunks = between_chunks
        self._total_at = total_at
        self._phase = "first_byte"
        # Parser and exchange refer to each other; whoever ends the exchange drops the parser, so that no garbage is left.
        self._parser: HttpResponseParser | None = HttpResponseParser(self)
        self._fields: list[tuple[bytes, bytes]] = []
        self._pieces: list[bytes] = []
        self._buffered = 0
        self._stray_bytes = 0
        self._paused = False
        self._until_close = False
        self._waiter: asyncio.Future[None] | None = None
        self._error: ProviderError | None = None
        self._refused: ProviderError | None = None
        self.status = 0
        """0 until the final head is there."""
        self.content_encoding = b""
        self.ended = False
        """Whether the whole answer has arrived (not: has been read)."""
        self.keep_alive = False
        """Whether the connection may carry another exchange after this one ended."""
        self.touched = False
        """Whether any byte of an answer arrived."""

    # ------------------------------------------------------------------------------------------------ for the caller

    @property
    def headers(self) -> Headers:
        """Fields in order, names in lower case."""
        return self._fields

    def header(self, name: bytes) -> bytes | None:
        """The first field of that lower-case name."""
        for field, value in self._fields:
            if field == name:
                return value
        return None

    async def head(self) -> None:
        """Waits for the final head.  Raises what the transport's protocol says; cancelling closes the connection."""
        if not self.status and self._error is None:
            try:
                await self._next(self._first_byte)
            except asyncio.CancelledError:
                self._give_up()
                raise
        if self._error is not None and not self.status:
            raise self._error

    async def read_some(self) -> bytes:
        """See `Incoming.read_some`."""
        pieces = self._pieces
        if not pieces:
            if self._error is None and not self.ended:
                try:
                    await self._next(self._between_chunks)
                except asyncio.CancelledError:
                    self._give_up()
                    raise
            if not pieces:
                if self._error is not None:
                    raise self._error
                return b""
        return self._take()

    async def read_all(self, limit_bytes: int) -> bytes:
        """See `Incoming.read_all`."""
        if self.ended and self._error is None and self._buffered <= limit_bytes:  # as short answers are by now
            return self._take()
        return await read_all(self, limit_bytes, self._where)

    def close(self) -> None:
        """See `Incoming.close`."""
        if self._error is None and (self._pieces or not self.ended):
            self._pieces.clear()
            self._fail(ConnectionLost(f"The exchange with {self._where} was closed by the gateway before its end."))

    # -------------------------------------------------------------------------------------------- for the connection

    def feed(self, data: bytes | memoryview) -> None:
        """Takes what the socket brought.  Afterwards `ended` says whether the connection is free."""
        parser = self._parser
        if parser is None:
            return
        self.touched = True
        had = self._buffered
        self._stray_bytes += len(data)
        try:
            parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            self._stop_parsing(error)
            return
        if self.ended:
            return
        if self._buffered == had:
            if self._stray_bytes > MAX_HEAD_BYTES:
                self._fail(self._too_large())
            return
        self._stray_bytes = 0
        if self._buffered > MAX_UNREAD_BYTES and not self._paused:
            self._paused = True
            self._link.pause()

    def lose(self, cause: Exception | None) -> None:
        """The socket ended: cleanly if `cause` is `None`, else by that error."""
        if self.ended or self._error is not None:
            return
        if not self.status:
            error: ProviderError = ConnectionLost(
                f"{self._where} closed the connection before a complete response head."
            )
        elif self._until_close and cause is None:
            self._end()
            return
        else:
            error = UpstreamTruncated(f"{self._where} closed the connection in the middle of the body.")
        error.__cause__ = cause
        self._fail(error)

    def progress(self) -> None:
        """A piece of the request was taken by the provider: the wait for the head begins anew."""
        if self._waiter is not None and not self.status:
            self._watch(self._first_byte)

    def expire(self, now: float) -> None:
        """The time set by `Link.watch` has come."""
        if now >= self._total_at - 0.001:
            self._fail(UpstreamTimeout(f"The call to {self._where} took longer than its total limit.", phase="total"))
        elif self._waiter is not None:
            waited_for = "a response head" if self._phase == "first_byte" else "more of the body"
            self._fail(
                UpstreamTimeout(f"{self._where} sent nothing in time: waited for {waited_for}.", phase=self._phase)
            )
        else:
            # A wait that has ended leaves its time behind rather than pay for moving it; only the total is left.
            self._link.watch(self._total_at)

    # -------------------------------------------------------------------------------------------------- for llhttp

    def on_message_begin(self) -> None:
        """A second final answer after the end is nobody's: `feed` turns this into a connection that is not reused."""
        if self.ended:
            raise HttpParserError("bytes after the end")

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.status:  # else a trailer: read past, bounded by `_stray_bytes`
            self._fields.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        parser = self._parser
        assert parser is not None
        status = parser.get_status_code()
        fields = self._fields
        if status < 200:
            if status == 101:
                self._refuse(UpstreamMalformed(f"{self._where} switched protocols unasked."))
            fields.clear()
            return
        if len(fields) > MAX_HEAD_FIELDS or (
            # What arrived may be mostly body: then count the fields themselves.
            self._stray_bytes > MAX_HEAD_BYTES
            and sum(len(name) + len(value) for name, value in fields) > MAX_HEAD_BYTES
        ):
            self._refuse(self._too_large())
        chunked = sized = False
        for name, value in fields:
            if name not in _LOOKED_AT:  # as nearly all are not
                continue
            if name == b"transfer-encoding":
                chunked = value.strip().lower() == b"chunked"
                if not chunked:
                    self._refuse(UpstreamMalformed(f"{self._where} used a transfer coding other than chunked."))
            elif name == b"content-length":
                sized = True
            elif name == b"content-encoding":
                self.content_encoding = value
        self._until_close = not (chunked or sized)
        self.keep_alive = parser.should_keep_alive()
        self._phase = "between_chunks"
        self.status = status
        if self._bodiless:
            self._end()
        self._wake()

    def on_body(self, data: bytes) -> None:
        if self._bodiless:
            raise HttpParserError("a body where none may be")
        self._pieces.append(data)
        self._buffered += len(data)
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            if not waiter.done():
                waiter.set_result(None)

    def on_message_complete(self) -> None:
        if self.status:
            self._end()

    # ------------------------------------------------------------------------------------------------------ private

    def _take(self) -> bytes:
        pieces = self._pieces
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        self._buffered = 0
        if self._paused:
            self._paused = False
            self._link.resume()
        return data

    def _next(self, seconds: float) -> "asyncio.Future[None]":
        """Done when more has come, or the end.  Whoever waits for it gives up when cancelled."""
        if self._waiter is not None:
            raise RuntimeError("two reads of one answer at the same time")
        waiter = self._waiter = self._loop.create_future()
        self._watch(seconds)
        return waiter

    def _give_up(self) -> None:
        self._waiter = None
        self._pieces.clear()
        if not self.ended:
            self._fail(ConnectionLost(f"The exchange with {self._where} was cancelled."))

    def _watch(self, seconds: float) -> None:
        due = self._loop.time() + seconds
        self._link.watch(min(due, self._total_at))

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            if not waiter.done():
                waiter.set_result(None)

    def _end(self) -> None:
        self.ended = True
        self._parser = None
        if self._paused:
            self._paused = False
            self._link.resume()
        self._wake()

    def _fail(self, error: ProviderError) -> None:
        self._error = error
        self._parser = None
        if not self.ended:  # else the connection is free already, and perhaps somebody else's
            self._link.abort()
        self._wake()

    def _refuse(self, error: ProviderError) -> None:
        """Leaves a parser callback: llhttp stops, and `feed` fails with `error` rather than with llhttp's words."""
        self._refused = error
        raise HttpParserError("refused")

    def _stop_parsing(self, cause: Exception) -> None:
        if self.ended:
            self.keep_alive = False  # the answer is whole; what follows it is not ours to read
            return
        error = self._refused or UpstreamMalformed(f"{self._where} sent something that is not HTTP/1.1.")
        error.__cause__ = cause
        self._fail(error)

    def _too_large(self) -> UpstreamTooLarge:
        return UpstreamTooLarge(f"{self._where} sent a response head or trailer of more than {MAX_HEAD_BYTES} bytes.")
