"""What is written during a turn of the event loop leaves together, at its end.

A busy loop answers a dozen calls in one turn.  Written one by one as they come, with the work of the next call in between,
each message finds its peer asleep again, and waking it costs the sender more than sending does; written one right after the
other they wake it once.  In a JSON chat that is an eighth of the gateway's processor time, in a relayed event a sixth
(`make bench`).  What it costs is a turn of the loop, some ten microseconds where there is nothing else to do.
"""

from collections.abc import Callable
from typing import Final, Protocol

MAX_KEPT_BYTES: Final = 262_144
"""What may wait for the end of a turn, of all sockets together.  More leaves at once, so that who writes it hears from the
socket when that is full."""


class Writable(Protocol):
    """What is used of a socket; `asyncio.Transport` is one."""

    def is_closing(self) -> bool:
        """Whether nothing can be written any more."""
        ...

    def write(self, data: bytes) -> None:
        """Sends, now or as soon as the peer reads."""
        ...


class Outbox:
    """Keeps what is written to the sockets of one loop until the turn is over."""

    __slots__ = ("_defer", "_kept", "_kept_bytes")

    def __init__(self, defer: Callable[[Callable[[], None]], object]) -> None:
        """`defer` is the loop's `call_soon`."""
        self._defer = defer
        self._kept: list[tuple[Writable, bytes]] = []
        self._kept_bytes = 0

    def put(self, socket: Writable, data: bytes) -> None:
        """Sends at the end of this turn, after what was put before.  A socket that is closing by then gets nothing."""
        kept = self._kept
        kept.append((socket, data))
        self._kept_bytes += len(data)
        if self._kept_bytes > MAX_KEPT_BYTES:
            self.flush()
        elif len(kept) == 1:
            self._defer(self.flush)

    def flush(self) -> None:
        """Sends what is kept, now: before a socket is closed, or written to directly."""
        kept, self._kept = self._kept, []
        self._kept_bytes = 0
        for socket, data in kept:
            if not socket.is_closing():
                socket.write(data)
