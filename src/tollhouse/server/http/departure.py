"""Notices that a client leaves while its call is under way, and cancels the call at once.

Before the first byte a server does not tell the application by any other way than `receive`, so something has to wait on it.
This owns the one task that does, for as long as the call lasts.
"""

import asyncio
from types import TracebackType
from typing import Self

from tollhouse.server.http.asgi import Receive


class Departure:
    """`async with Departure(receive) as departure:` cancels the body of the block when the client disconnects.

    The cancellation does not leave the block: `departure.happened` says that it was one.
    """

    __slots__ = ("_call", "_receive", "_watcher", "happened")

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._call: asyncio.Task[object] | None = None
        self._watcher: asyncio.Task[None] | None = None
        self.happened = False

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._call = asyncio.current_task()
        self._watcher = loop.create_task(self._watch())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if self._watcher is not None and not self._watcher.done():
            self._watcher.cancel()
        if self.happened and kind is not None and issubclass(kind, asyncio.CancelledError):
            if self._call is not None:
                self._call.uncancel()
            return True
        return False

    async def _watch(self) -> None:
        # The body was read to its end: the only message that can still come is the disconnect.
        message = await self._receive()
        while message["type"] != "http.disconnect":
            message = await self._receive()
        self.happened = True
        if self._call is not None:
            self._call.cancel()
