"""The lock around the counters of a machine.

It is taken twice a call, and it is never waited for inside the kernel, so there is no reason to let go of the interpreter's
own lock meanwhile, as `fcntl.flock` does.  Doing that hands the processor to the ledger's thread in the middle of a call, and
back again a commit later: with four such hand-overs a call, calls took a sixth more CPU.  `ctypes.PyDLL` makes the same system
call and keeps the interpreter.
"""

import ctypes
import errno
import fcntl
import os
import time
from collections.abc import Callable
from typing import Final

from tollhouse.errors import StoreUnavailable

_flock: Final = ctypes.PyDLL(None, use_errno=True).flock
_TAKE: Final = fcntl.LOCK_EX | fcntl.LOCK_NB

_YIELDS: Final = 30
"""The lock is held for some microseconds at a time: first its holder gets the processor, then we sleep."""
_FIRST_NAP_SECONDS: Final = 50e-6
_LONGEST_NAP_SECONDS: Final = 250e-6
_SHORT_PATIENCE_SECONDS: Final = 0.01


class Guard:
    """A `flock` on a descriptor of its own.  Not re-entrant, and not for several threads.

    The kernel gives it back when its holder dies.  A holder that is only stopped (SIGSTOP, a debugger) keeps it: then every try
    ends after `patience_seconds`, and after a hundredth of a second from the next one on, so that an event loop is not blocked
    again and again.
    """

    def __init__(self, file: int, *, patience_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Takes over the descriptor."""
        self.file = file
        """The descriptor, for who takes the lock without waiting."""
        self._patience_seconds = patience_seconds
        self._clock = clock
        self._is_stuck = False

    def take(self) -> None:
        """Takes the lock.  Raises `StoreUnavailable` when it is not to be had in time."""
        if _flock(self.file, _TAKE):
            self._wait()

    def give(self) -> None:
        """Gives it back."""
        _flock(self.file, fcntl.LOCK_UN)

    def is_deleted(self) -> bool:
        """Whether somebody removed the file, so that others would lock another one."""
        return os.fstat(self.file).st_nlink == 0

    def close(self) -> None:
        """Gives it back for good."""
        os.close(self.file)

    def _wait(self) -> None:
        _check_errno()
        patience = _SHORT_PATIENCE_SECONDS if self._is_stuck else self._patience_seconds
        give_up_at = self._clock() + patience
        tries, nap = 0, _FIRST_NAP_SECONDS
        while True:
            if not _flock(self.file, _TAKE):
                self._is_stuck = False
                return
            _check_errno()
            if self._clock() >= give_up_at:
                self._is_stuck = True
                raise StoreUnavailable(
                    f"Another process has kept the shared counters locked for {patience:g} s.",
                    hint="A worker is stopped or starved, or another gateway uses the same state folder.",
                )
            tries += 1
            if tries < _YIELDS:
                os.sched_yield()
            else:
                time.sleep(nap)
                nap = min(nap * 2, _LONGEST_NAP_SECONDS)


def _check_errno() -> None:
    """Raises `OSError` for what is wrong with the descriptor rather than with the moment."""
    number = ctypes.get_errno()
    if number not in {errno.EWOULDBLOCK, errno.EINTR}:
        raise OSError(number, os.strerror(number))
