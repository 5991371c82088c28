"""A lock between processes, on a file.  The kernel drops it when its holder dies, so it cannot go stale."""

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from tollhouse.errors import LocalModelUnavailable

_POLL_SECONDS: Final = 0.1


class FileLock:
    """An exclusive advisory lock; not re-entrant.  The file itself stays."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @contextlib.contextmanager
    def hold(self, limit_seconds: float, *, while_waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Holds the lock; waits up to `limit_seconds` for it, calling `while_waiting` ten times a second.

        Raises `LocalModelUnavailable` when the time is up.
        """
        handle = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)  # not inheritable (PEP 446)
        try:
            give_up_at = time.monotonic() + limit_seconds
            while not _try_lock(handle):
                if time.monotonic() >= give_up_at:
                    raise LocalModelUnavailable(
                        f"Another process has held {self._path} for {limit_seconds:.0f} s.",
                        hint="It is probably fetching the same model; wait for it or end it.",
                    )
                while_waiting()
                time.sleep(_POLL_SECONDS)
            yield
        finally:
            os.close(handle)  # gives the lock back too


if sys.platform == "win32":
    import msvcrt

    def _try_lock(handle: int) -> bool:
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _try_lock(handle: int) -> bool:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
