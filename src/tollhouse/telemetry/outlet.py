"""Where lines leave the process: standard error or a file, in a thread of its own.

Whoever reads standard error may stop reading, and a disk may hang: a write on the event loop would stop every call with it.
So `put` only hands lines over.  What waits is bounded; lines beyond that are dropped, counted, and told of once lines get
through again.  A file that was moved away is opened anew at the next write, so that logs can be rotated without a signal.
"""

import os
import queue
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from tollhouse.telemetry.losses import Losses

STDERR: Final = "stderr"
MAX_WAITING_BYTES: Final = 8 * 1024 * 1024
PIPE_BYTES: Final = 4096
"""What a pipe takes in one piece (POSIX `PIPE_BUF` on Linux): lines of several processes then do not run into each other."""
FILE_MODE: Final = 0o600


@dataclass(frozen=True, slots=True)
class OutletState:
    """How an outlet is doing, since its start."""

    waiting_bytes: int
    dropped_lines: int
    """Lines for which there was no room, or which could not be written."""


class Outlet:
    """One way out for lines.  `put` may be called from any thread and never waits."""

    def __init__(
        self,
        place: str,
        *,
        lost: Callable[[int, str], None],
        max_waiting_bytes: int = MAX_WAITING_BYTES,
        descriptor: int | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Opens the file `place`, or takes standard error for `stderr`, and starts the thread.  Raises `OSError`.

        `lost` hears how many lines were lost and why, in the outlet's thread.  `descriptor` stands in for standard error.
        """
        self._path = None if place == STDERR else place
        self._descriptor = self._open() if self._path is not None else 2 if descriptor is None else descriptor
        self._is_pipe = stat.S_ISFIFO(os.fstat(self._descriptor).st_mode)
        self._losses = Losses(lost, monotonic=monotonic)
        self._max_waiting_bytes = max_waiting_bytes
        self._inbox: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._taken_bytes = 0
        self._done_bytes = 0
        self._is_closed = False
        self._thread = threading.Thread(target=self._work, name="tollhouse-outlet", daemon=True)
        self._thread.start()

    def put(self, lines: bytes) -> bool:
        """Takes whole lines, each with its end; false when they were dropped, for lack of room or after `close`."""
        with self._lock:
            waiting = self._taken_bytes - self._done_bytes
            if self._is_closed or (waiting and waiting + len(lines) > self._max_waiting_bytes):
                self._losses.add(lines.count(b"\n"))
                return False
            self._taken_bytes += len(lines)
            self._inbox.put(lines)
        return True

    def state(self) -> OutletState:
        """A snapshot."""
        return OutletState(self._taken_bytes - self._done_bytes, self._losses.count)

    def close(self, deadline_seconds: float = 2.0) -> bool:
        """Takes no more lines, and waits for those that were taken; false if they did not get through in time.

        Blocks: for the end of a process.  May be called twice.
        """
        with self._lock:
            is_first, self._is_closed = not self._is_closed, True
        if is_first:
            self._inbox.put(None)
        self._thread.join(deadline_seconds)
        return not self._thread.is_alive()

    # ------------------------------------------------------------------------------------------------- in the thread

    def _work(self) -> None:
        while (lines := self._inbox.get()) is not None:
            reason = self._write(lines)
            with self._lock:
                self._done_bytes += len(lines)
            self._losses.tell(reason or "they came faster than they could be written")
        if self._path is not None:
            os.close(self._descriptor)

    def _write(self, lines: bytes) -> str:
        """Why the lines, or some of them, were lost; empty when they were not."""
        left = lines
        try:
            self._follow_rotation()
            for piece in _pieces(lines) if self._is_pipe else (lines,):
                written = 0
                while written < len(piece):
                    written += os.write(self._descriptor, piece[written:])
                left = left[len(piece) :]
        except OSError as error:
            self._losses.add(left.count(b"\n"))
            return error.strerror or type(error).__name__
        return ""

    def _follow_rotation(self) -> None:
        if self._path is None:
            return
        opened = os.fstat(self._descriptor)
        with suppress(FileNotFoundError):
            there = os.stat(self._path)  # noqa: PTH116 - for each batch, and three times cheaper
            if (there.st_dev, there.st_ino) == (opened.st_dev, opened.st_ino):
                return
        fresh = self._open()
        os.close(self._descriptor)
        self._descriptor = fresh

    def _open(self) -> int:
        return os.open(self._path or os.devnull, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)


def _pieces(lines: bytes) -> Iterator[bytes]:
    """Whole lines, as many as a pipe takes at once; a longer line by itself."""
    start = 0
    while start < len(lines):
        end = lines.rfind(b"\n", start, start + PIPE_BYTES) + 1
        if not end:
            end = lines.find(b"\n", start) + 1 or len(lines)
        yield lines[start:end]
        start = end
