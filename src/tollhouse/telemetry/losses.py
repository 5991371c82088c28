"""What is lost on a way out, counted, and told of now and then."""

import threading
import time
from collections.abc import Callable
from typing import Final

REPORT_SECONDS: Final = 10.0
"""How often losses are told of at most."""


class Losses:
    """Counts from any thread.  Whoever writes says when they can be told of, in a thread where telling may wait."""

    def __init__(self, tell: Callable[[int, str], None], *, monotonic: Callable[[], float] = time.monotonic) -> None:
        """`tell` hears how many were lost since it last heard, and why."""
        self._tell = tell
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._told = 0
        self._tell_after = 0.0
        self.count = 0
        """All that was lost."""

    def add(self, number: int) -> None:
        """So many more are lost."""
        with self._lock:
            self.count += number

    def tell(self, why: str, *, is_last: bool = False) -> None:
        """Tells of what was not told of, unless that was done a moment ago; the last time in any case."""
        with self._lock:
            lost = self.count - self._told
            if not lost or (self._monotonic() < self._tell_after and not is_last):
                return
            self._tell_after = self._monotonic() + REPORT_SECONDS
            self._told += lost
        self._tell(lost, why)
