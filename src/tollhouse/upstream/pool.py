"""Who may use which connection: the bookkeeping of one origin's pool, without sockets.

A *slot* is the right to have one connection open.  Slots are bounded; whoever finds none free waits in line and is
handed either a connection that just became free or the slot of one that closed.  Idle connections are reused last in,
first out: the warmest first, so that the coldest can run into their idle limit.  Every step is O(1).
"""

import asyncio
from typing import Generic, Protocol, TypeVar


class Poolable(Protocol):
    """What the pool asks of a connection."""

    @property
    def closed(self) -> bool:
        """Whether it is of no use any more; its slot is then vacated already."""
        ...


C = TypeVar("C", bound=Poolable)


class Pool(Generic[C]):
    """Slots, idle connections and waiters of one origin.  Not for more than one event loop."""

    __slots__ = ("_idle", "_limit", "_open", "_waiters")

    def __init__(self, limit: int) -> None:
        """`limit` bounds the slots taken at the same time, connections being made included."""
        self._limit = limit
        self._open = 0
        # Dicts are ordered and delete in O(1); a deque would have to be searched.
        self._idle: dict[C, None] = {}
        self._waiters: dict[asyncio.Future[C | None], None] = {}

    @property
    def open_slots(self) -> int:
        """Slots taken: connections in use, idle, or being made."""
        return self._open

    @property
    def idle_connections(self) -> int:
        """Connections that wait for work."""
        return len(self._idle)

    @property
    def waiting(self) -> int:
        """Callers in line."""
        return len(self._waiters)

    def take_idle(self) -> C | None:
        """The connection that became idle last, or `None`."""
        return self._idle.popitem()[0] if self._idle else None

    def take_slot(self) -> bool:
        """Takes a slot for a new connection, if one is free."""
        if self._open >= self._limit:
            return False
        self._open += 1
        return True

    async def wait(self) -> C | None:
        """Waits in line for a connection, or for a slot (`None`).

        A connection may have closed between being handed over and this call's return: look before using it.

        Cancelling leaves the line; what was handed over in the same moment goes to the next in line.
        """
        waiter: asyncio.Future[C | None] = asyncio.get_running_loop().create_future()
        self._waiters[waiter] = None
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                handed = waiter.result()
                if handed is None:
                    self.vacate()
                else:
                    self.release(handed)
            else:
                self._waiters.pop(waiter, None)
            raise

    def release(self, connection: C) -> None:
        """Gives back a connection that can carry another exchange; one that closed meanwhile is dropped."""
        if connection.closed:
            return
        waiter = self._next_waiter() if self._waiters else None
        if waiter is None:
            self._idle[connection] = None
        else:
            waiter.set_result(connection)

    def forget_idle(self, connection: C) -> None:
        """Removes a connection from the idle ones, if it is among them; its slot is still taken."""
        self._idle.pop(connection, None)

    def vacate(self) -> None:
        """Gives back the slot of a connection that closed or was never made."""
        waiter = self._next_waiter()
        if waiter is None:
            self._open -= 1
        else:
            waiter.set_result(None)

    def _next_waiter(self) -> asyncio.Future[C | None] | None:
        while self._waiters:
            waiter = next(iter(self._waiters))
            del self._waiters[waiter]
            if not waiter.done():
                return waiter
        return None
