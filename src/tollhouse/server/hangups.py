"""SIGHUP, which has a gateway read its configuration again, and comes when it comes.

Its default is to end the process.  A service manager that sends it to a gateway that is still starting means no such thing, so
the kernel keeps it back until somebody heeds it.  What it asked for is done then: the configuration may have been read before.
"""

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def held_back() -> Iterator[None]:
    """Keeps SIGHUP back in this process, in threads that it starts and in forks of it, until `heed` or the end of the block.

    What came and was never heeded is forgotten then: there is nothing left to be read again.  For the main thread.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    try:
        yield
    finally:
        handler = signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        signal.signal(signal.SIGHUP, signal.SIG_DFL if handler is None else handler)


def heed(loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
    """Calls back at every SIGHUP from now on, once for those that were kept back.  For the thread that runs the loop."""
    loop.add_signal_handler(signal.SIGHUP, callback)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
