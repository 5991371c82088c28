"""An event loop in a thread of its own, for programs that have none.

One loop serves all threads of the program: each hands in a coroutine and sleeps until it is done, so calls of several threads
run at the same time over the same connections, and every rule of the asynchronous client holds for them without a second
copy of it.  The price is two switches of threads a call (some 50 µs), and one for each read of a stream.

A fork leaves the loop behind: its thread does not exist in the child.  `Client` makes another one there and never touches the
old one, whose sockets are still the parent's.
"""

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from tollhouse.client.failures import ClientClosed, NotForThisLoop

T = TypeVar("T")


class Portal:
    """The loop and its thread.  The thread begins with the first call and does not keep the program alive."""

    def __init__(self) -> None:
        """Starts nothing."""
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._pid = os.getpid()
        self._is_closed = False

    @property
    def is_begun(self) -> bool:
        """Whether anything was ever asked of it."""
        return self._loop is not None

    def call(self, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Runs a coroutine there to its end, and gives its result or raises its error.

        A Ctrl-C while it waits cancels the coroutine.  Raises `ClientClosed` after `close`, and `NotForThisLoop` on the loop's
        own thread, where waiting would never end.
        """
        loop = self._running()
        if threading.current_thread() is self._thread:
            raise NotForThisLoop("A Client cannot be used inside of its own event loop.", hint="Use AsyncClient there.")
        future = asyncio.run_coroutine_threadsafe(make(), loop)
        try:
            return future.result()
        except asyncio.CancelledError:
            raise ClientClosed("The client was closed during the call.") from None
        except BaseException:
            future.cancel()
            raise

    def soon(self, callback: Callable[[], object]) -> None:
        """Has something done there without waiting for it; nothing, if the loop is gone."""
        loop = self._loop
        if loop is not None and not self._is_closed and self._pid == os.getpid():
            # If it is closed in this moment, what should be done is done with it.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(callback)

    def close(self, last: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Runs `last` there, cancels what is left, and ends the thread.  Idempotent; nothing in a forked child."""
        with self._lock:
            loop, thread = self._loop, self._thread
            is_closed, self._is_closed = self._is_closed, True
        if is_closed or loop is None or thread is None or self._pid != os.getpid():
            return
        try:
            asyncio.run_coroutine_threadsafe(_ending(last), loop).result()
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

    def _running(self) -> asyncio.AbstractEventLoop:
        if self._pid != os.getpid():
            raise NotForThisLoop("This began in another process.", hint="Begin it anew after the fork.")
        with self._lock:
            if self._is_closed:
                raise ClientClosed("This client was closed.", hint="Make another one.")
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._loop.run_forever, name="tollhouse-client", daemon=True)
                self._thread.start()
            return self._loop


async def _ending(last: Callable[[], Coroutine[Any, Any, None]]) -> None:
    await last()
    others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_default_executor()
