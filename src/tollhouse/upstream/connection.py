"""One socket to a provider, and the exchanges that it carries one after the other.

Four things here are unusual, all for exactness at little cost:

- **One timer for a connection's whole life.**  Deadlines and the idle limit are a number (`due`) that the timer compares
  when it fires.  It fires at the latest every `HEARTBEAT_SECONDS`, so a deadline that moves further away costs an
  assignment; only one that moves closer than the next beat sets the timer anew.
- **The request body is written by callbacks** (`resume_writing`), not by a task.  So a response that comes before the
  body is written is simply read, and cancelling needs nothing but `abort`.
- **All connections of a transport read into one buffer** (`asyncio.BufferedProtocol`): the loop fills it and hands it to
  the parser in one step, so nobody else can be in between.  Without it a TLS read allocates 256 KiB and gives them
  back to the kernel at once, which under uvloop 0.23 doubled the CPU time of a streamed event.
- **Every end is an abort.**  A connection is either idle and reusable or of no use at all; a polite TLS shutdown would
  keep the socket, and the provider's work, alive for a round trip or more.
"""

import asyncio
import math
from collections.abc import Callable
from typing import cast

from tollhouse.upstream.exchange import Exchange, Loop, Timer
from tollhouse.upstream.outbox import Outbox
from tollhouse.upstream.pool import Pool
from tollhouse.upstream.transport import Deadlines

HEARTBEAT_SECONDS = 5.0
READ_BUFFER_BYTES = 65_536
SLICE_BYTES = 262_144
"""How much of a large request body is handed to the socket (and encrypted) in one step."""


class Connection(asyncio.BufferedProtocol):
    """One connection, made by `loop.create_connection` and owned by its pool's transport."""

    __slots__ = (
        "_armed_for",
        "_buffer",
        "_due",
        "_exchange",
        "_idle_seconds",
        "_loop",
        "_on_lost",
        "_outbox",
        "_pool",
        "_socket",
        "_timer",
        "_unsent",
        "_writing_paused",
        "closed",
        "served",
        "where",
    )

    def __init__(
        self,
        loop: Loop,
        pool: Pool["Connection"],
        where: str,
        *,
        buffer: memoryview,
        outbox: Outbox,
        idle_seconds: float,
        on_lost: Callable[["Connection"], None],
    ) -> None:
        """Takes over one slot of `pool`, which it vacates when it closes.  `on_lost` is called once the socket is gone.

        `buffer` is where reads go, `outbox` where requests leave; connections of the same loop may share both.
        """
        self._loop = loop
        self._buffer = buffer
        self._outbox = outbox
        self._pool = pool
        self._idle_seconds = idle_seconds
        self._on_lost = on_lost
        self._socket: asyncio.Transport | None = None
        self._exchange: Exchange | None = None
        self._timer: Timer | None = None
        self._armed_for = math.inf
        self._due = math.inf
        self._unsent: memoryview | None = None
        self._writing_paused = False
        self.where = where
        """`host:port`, for messages."""
        self.closed = False
        self.served = 0
        """Exchanges begun; more than one means that the connection is being reused."""

    def start(self, message: bytes, body: bytes, deadlines: Deadlines, *, bodiless: bool, total_at: float) -> Exchange:
        """Writes a request and gives its exchange.  `body` is what `message` does not already contain."""
        assert self._socket is not None
        self.served += 1
        exchange = self._exchange = Exchange(
            self,
            self._loop,
            self.where,
            bodiless,
            deadlines.first_byte,
            deadlines.between_chunks,
            total_at,
        )
        if body:
            self._outbox.put(self._socket, message)
            self._outbox.flush()  # the body goes to the socket directly
            self._unsent = memoryview(body)
            self._write_more()
        else:
            self._outbox.put(self._socket, message)
        return exchange

    @property
    def connected(self) -> bool:
        """Whether there is a socket, in use or closing."""
        return self._socket is not None

    # ------------------------------------------------------------------------------------------- the exchange's link

    def watch(self, due: float) -> None:
        """See `Link.watch`."""
        self._due = due
        if due < self._armed_for and not self.closed:
            if self._timer is not None:
                self._timer.cancel()
            self._arm(due)

    def pause(self) -> None:
        """See `Link.pause`."""
        if self._socket is not None and not self.closed:
            self._socket.pause_reading()

    def resume(self) -> None:
        """See `Link.resume`."""
        if self._socket is not None and not self.closed:
            self._socket.resume_reading()

    def abort(self) -> None:
        """Closes the socket at once; what is unsent is dropped.  Idempotent.  An exchange that runs is not told."""
        if not self.closed:
            self._leave()
            if self._socket is not None:
                self._socket.abort()

    # -------------------------------------------------------------------------------------- asyncio.BufferedProtocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is ready (after the TLS handshake, if there is one)."""
        self._socket = cast("asyncio.Transport", transport)  # uvloop's class is no subclass of asyncio's
        if self.closed:
            self._socket.abort()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  # the interface's; our buffer has one size
        """Where to read into."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """The socket brought bytes."""
        exchange = self._exchange
        if exchange is None or self.closed:
            # Nobody asked: a server's parting word (408 before an idle close), or two answers to one request.
            self.abort()
            return
        exchange.feed(self._buffer[:nbytes])
        if exchange.ended:
            self._finish(exchange)

    def eof_received(self) -> None:
        """The peer will send no more.  Half-open connections are of no use here."""
        self._lose(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone."""
        # An end that we made ourselves must not look like the clean end of a close-delimited body.
        self._lose(ConnectionAbortedError("closed by the gateway") if exc is None and self.closed else exc)
        self._socket = None
        self._on_lost(self)

    def pause_writing(self) -> None:
        """The socket's write buffer is full."""
        self._writing_paused = True

    def resume_writing(self) -> None:
        """The socket's write buffer has room."""
        self._writing_paused = False
        if self._unsent is not None and not self.closed:
            self._write_more()
            if self._exchange is not None:
                self._exchange.progress()

    # ------------------------------------------------------------------------------------------------------ private

    def _write_more(self) -> None:
        assert self._socket is not None
        unsent = self._unsent
        while unsent and not self._writing_paused:
            self._socket.write(unsent[:SLICE_BYTES])
            unsent = unsent[SLICE_BYTES:]
        self._unsent = unsent or None

    def _finish(self, exchange: Exchange) -> None:
        self._exchange = None
        if self.closed:
            return
        if not exchange.keep_alive or self._unsent is not None:
            self.abort()
            return
        self.watch(self._loop.time() + self._idle_seconds)
        self._pool.release(self)

    def _lose(self, cause: Exception | None) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.lose(cause)
        self.abort()

    def _leave(self) -> None:
        """Gives back the slot; from here on nobody else will use this connection."""
        self.closed = True
        self._unsent = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._pool.forget_idle(self)
        self._pool.vacate()

    def _arm(self, due: float) -> None:
        self._armed_for = min(due, self._loop.time() + HEARTBEAT_SECONDS)
        self._timer = self._loop.call_at(self._armed_for, self._beat)

    def _beat(self) -> None:
        self._timer = None
        self._armed_for = math.inf
        now = self._loop.time()
        if now < self._due - 0.001:  # uvloop's clock ticks in milliseconds
            self._arm(self._due)
        elif self._exchange is not None:
            self._exchange.expire(now)
        else:
            self.abort()
