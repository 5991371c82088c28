"""What the writer's thread does: keeps rows in the database or, failing that, in the journal; brings the journal back;
deletes rows that are too old.

Calls wait for their rows, so nothing here may wait long.  A database that failed is tried again in a thread beside this
one, because to connect to a machine that is gone takes seconds, and so does a table that somebody has locked; until
it has taken the first rows of the journal, new ones go there too.  Old rows are deleted in small steps with pauses
between them, in which rows are written, by other processes too.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from typing import Final, TypeAlias

from tollhouse.errors import StoreUnavailable
from tollhouse.ledger.journal import Journal, Replayed
from tollhouse.ledger.rows import Row, Value
from tollhouse.ledger.store import Storage

Failures: TypeAlias = dict[Value, StoreUnavailable]
"""Row id → why neither the database nor the journal has it."""
_Started: TypeAlias = tuple[Iterator[Replayed], Replayed | None]
"""A replay of the journals and its first step."""

MEND_SECONDS: Final = 0.1
"""How long rows wait for a database that failed and is tried again."""
CLOSE_SECONDS: Final = 4.0
"""How long the end waits for one."""
HOUR_US: Final = 3_600_000_000
PRUNED_ROWS: Final = 500
"""Rows deleted in one step: some 5 ms of a SQLite file."""
PRUNE_PAUSE_SECONDS: Final = 0.02
PRUNE_EVERY_SECONDS: Final = 60.0
"""How often it is looked for rows that have become too old."""


def _now_us() -> int:
    return time.time_ns() // 1000


class Clerk:
    """The thread's side of the writer.

    Its counters are read by the loop while the thread writes them; each is one value, and a snapshot may be a batch
    old.
    """

    def __init__(
        self,
        storage: Storage,
        journal: Journal,
        *,
        retry_seconds: float,
        retention_seconds: float | None = None,
        now_us: Callable[[], int] = _now_us,
    ) -> None:
        self._storage = storage
        self._journal = journal
        self._retry_seconds = retry_seconds
        self._retention_us = None if retention_seconds is None else int(retention_seconds * 1_000_000)
        self._now_us = now_us
        self._retry_at = 0.0
        self._prune_at = 0.0
        self._replay: Iterator[Replayed] | None = None
        self._mending: Future[_Started] | None = None
        self._was_opened = False
        self.is_hurried = False
        """Set by the loop when time is up: rows go straight to the journal."""
        self.trouble = ""
        """Why the database takes no rows; empty when it does."""
        self.complaint = ""
        """Why a journal cannot be replayed, or old rows cannot be deleted."""
        self.written = self.journaled = self.replayed = self.torn = self.damaged = self.pruned = 0

    @property
    def piece_rows(self) -> int:
        """How many rows the database likes to get at once."""
        return self._storage.piece_rows

    @property
    def patience_seconds(self) -> float | None:
        """How long to wait for rows before there is something else to do."""
        if self._replay is not None:
            return 0.0
        if self.trouble:
            return max(0.0, self._retry_at - time.monotonic())
        return None if self._retention_us is None else max(0.0, self._prune_at - time.monotonic())

    @property
    def is_behind(self) -> bool:
        """Whether `catch_up` has something to do, however many rows keep coming."""
        return self._replay is not None or (bool(self.trouble) and time.monotonic() >= self._retry_at)

    @property
    def is_untidy(self) -> bool:
        """Whether `prune` has something to do."""
        return self._retention_us is not None and not self.trouble and time.monotonic() >= self._prune_at

    def keep(self, rows: Sequence[Row]) -> Failures:
        """Puts the rows on disk, one way or the other."""
        if self.trouble or self.is_hurried:
            return self._journal_rows(rows)
        try:
            refused = self._storage.insert(rows)
        except StoreUnavailable as error:
            self._fall_back(error)
            return self._journal_rows(rows)
        self.written += len(rows) - len(refused)
        if not refused:
            return {}
        return {name: StoreUnavailable(f"The ledger does not take the row of call {name}.") for name in refused}

    def catch_up(self) -> None:
        """Takes one step towards order: opens the database if need be, and replays the next piece of a journal.

        A database counts as mended when it has taken a piece, for a locked one opens too.
        """
        try:
            if self._replay is None:
                started = self._started()
                if started is None:
                    self._retry_at = time.monotonic() + self._retry_seconds
                    return
                self._replay, step = started
            else:
                step = next(self._replay, None)
        except StoreUnavailable as error:
            self._replay = None
            self._fall_back(error)
            return
        except OSError as error:
            # The journal's trouble, not the database's: rows go on being written.
            self._replay = None
            self.trouble, self.complaint = "", f"A journal cannot be replayed: {error}."
            return
        except Exception as error:  # noqa: BLE001 - the thread's outer edge: without it every call would wait for ever
            self._replay = None
            self._fall_back(StoreUnavailable(f"The ledger's writer failed: {error!r}."))
            return
        self.trouble = ""
        if step is None:
            # Rows that came while the database was being mended are in a file of their own.
            self._replay = self._journal.replay(self._storage.insert) if self._journal.has_rows else None
            self.complaint = ""
            return
        self.replayed += step.rows
        self.torn += step.torn
        self.damaged += step.damaged

    def prune(self) -> None:
        """Takes one step in deleting the calls of whole hours that are past their retention.

        A step that fails is tried again at the next round; whether rows can be written is found out by writing them.
        """
        assert self._retention_us is not None
        before_us = (self._now_us() - self._retention_us) // HOUR_US * HOUR_US
        try:
            deleted = self._storage.prune(before_us, PRUNED_ROWS)
        except Exception as error:  # noqa: BLE001 - the thread's outer edge: without it every call would wait for ever
            deleted = 0
            self.complaint = f"Old rows cannot be deleted: {error}"
        self.pruned += deleted
        is_done = deleted < PRUNED_ROWS
        self._prune_at = time.monotonic() + (PRUNE_EVERY_SECONDS if is_done else PRUNE_PAUSE_SECONDS)

    def end(self) -> None:
        """Closes everything; what is still in the journal stays there for the next process."""
        self._replay = None
        if self._mending is None or _has_ended(self._mending, CLOSE_SECONDS):
            self._storage.close()
        self._journal.close()

    def _started(self) -> _Started | None:
        """A replay with its first step; `None` while the database is still being mended.  Raises what that raised."""
        if not self._was_opened:
            # At the start rows had better wait than go a way around.
            self._was_opened = True
            self._storage.open()
        elif self.trouble:
            if self._mending is None:
                self._mending = _begin(self._mend)
            if not _has_ended(self._mending, MEND_SECONDS):
                return None
            mending, self._mending = self._mending, None
            return mending.result()
        return self._start()

    def _mend(self) -> _Started:
        self._storage.open()
        return self._start()

    def _start(self) -> _Started:
        replay = self._journal.replay(self._storage.insert)
        return replay, next(replay, None)

    def _fall_back(self, error: StoreUnavailable) -> None:
        self.trouble = str(error)
        self._retry_at = time.monotonic() + self._retry_seconds

    def _journal_rows(self, rows: Sequence[Row]) -> Failures:
        try:
            self._journal.append(rows)
        except StoreUnavailable as error:
            return {row[0]: error for row in rows}
        self.journaled += len(rows)
        return {}


def _begin(work: Callable[[], _Started]) -> "Future[_Started]":
    """Runs the work in a thread that the end of the process does not wait for."""
    done: Future[_Started] = Future()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:  # noqa: BLE001 - handed on to whoever asks for the result
            done.set_exception(error)

    threading.Thread(target=run, name="tollhouse-ledger-mend", daemon=True).start()
    return done


def _has_ended(work: "Future[_Started]", seconds: float) -> bool:
    try:
        work.exception(seconds)
    except TimeoutError:
        return False
    return True
