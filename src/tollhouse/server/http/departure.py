"""Notices that a client leaves while its call is under way, and cancels the call at once.

This is for other servers than our own, which says so by itself.  They tell an application by no other way than `receive`, so
something has to wait on it for as long as the call lasts.  Granian's `receive` gives a future, which costs a callback; where
it is a coroutine (uvicorn), it costs a task, and this object is its owner.
"""

import asyncio
from collections.abc import Coroutine
from types import TracebackType
from typing import Final, Protocol, Self, cast

from tollhouse.server.http.asgi import Message, Receive

UNWATCHED_SECONDS: Final = 0.02
"""How long a call runs before its client is watched.  Waiting on the server costs about 30 us of CPU; a call that is over
sooner is not worth it, and one that is not notices a client that has left meanwhile as soon as it begins to watch."""


class _Waiting(Protocol):
    """A future, or a task around a coroutine."""

    def add_done_callback(self, callback: "object", /) -> object: ...
    def cancel(self) -> bool: ...
    def cancelled(self) -> bool: ...
    def done(self) -> bool: ...
    def exception(self) -> BaseException | None: ...
    def result(self) -> Message: ...


class Departure:
    """`async with Departure(receive) as departure:` cancels the body of the block when the client disconnects.

    The cancellation does not leave the block: `departure.happened` says that it was one.
    """

    __slots__ = ("_call", "_is_over", "_receive", "_timer", "_waiting", "happened")

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._call: asyncio.Task[object] | None = None
        self._waiting: _Waiting | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._is_over = False
        self.happened = False

    async def __aenter__(self) -> Self:
        self._call = asyncio.current_task()
        self._timer = asyncio.get_running_loop().call_later(UNWATCHED_SECONDS, self._wait)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self._is_over = True
        if self._timer is not None:
            self._timer.cancel()
        call, waiting = self._call, self._waiting
        # The server's future is not seen by the garbage collector: a cycle through it would keep the whole call for ever.
        self._call = self._waiting = self._timer = None
        if waiting is not None and not waiting.done():
            waiting.cancel()
        if self.happened and kind is not None and issubclass(kind, asyncio.CancelledError):
            if call is not None:
                call.uncancel()
            return True
        return False

    def _wait(self) -> None:
        waiting: object = self._receive()
        if isinstance(waiting, Coroutine):
            waiting = asyncio.get_running_loop().create_task(waiting)
        self._waiting = cast("_Waiting", waiting)
        self._waiting.add_done_callback(self._heard)

    def _heard(self, waiting: _Waiting) -> None:
        if self._is_over or waiting.cancelled():
            return
        # A server that cannot say any more has lost the client too.
        if waiting.exception() is None and waiting.result()["type"] != "http.disconnect":
            self._wait()  # the empty end of a body that was read by its length
            return
        self.happened = True
        if self._call is not None:
            self._call.cancel()
