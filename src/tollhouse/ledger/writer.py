"""Writes finished calls into the ledger: in groups, in a thread of its own, never on the event loop.

The loop and the thread pass one batch back and forth.  While the thread commits, records gather; when it reports,
they are handed over together.  So a quiet gateway commits each row at once, and a busy one pays for a wake-up and a
commit per batch, not per row.  Everything but the batch in flight belongs to the loop, and there is nothing to lock.

A row that the database does not take goes to the journal, and counts as written: it exists, on disk, once.  Only when
both fail does the caller hear of it, as `StoreUnavailable`.
"""

import asyncio
import os
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias

from tollhouse.errors import StoreUnavailable
from tollhouse.ledger.clerk import Clerk, Failures
from tollhouse.ledger.journal import Journal
from tollhouse.ledger.record import CallRecord
from tollhouse.ledger.rows import Row, row_of
from tollhouse.ledger.store import Storage, journal_name, state_folder, storage_of

Waiting: TypeAlias = tuple[Row, "asyncio.Future[None]"]

JOIN_SECONDS: Final = 5.0
"""How long `aclose` waits past its deadline for a thread that is inside a system call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WriterSettings:
    """How the ledger is written."""

    url: str
    journal_directory: Path | None = None
    """By default the folder of a SQLite ledger, and for PostgreSQL the one that `address.state_folder` says."""
    retention_seconds: float | None = None
    """Calls that started longer ago are deleted, hour by hour; the hourly totals stay.  `None` keeps everything."""
    busy_timeout_ms: int = 500
    """How long a commit waits for another process's lock on a SQLite file before its rows go to the journal."""
    max_queued_rows: int = 10_000
    """Rows that may wait for the database; those beyond it go to the journal, as many again may wait for that."""
    journal_max_bytes: int = 256 * 1024 * 1024
    retry_seconds: float = 1.0
    """How often a database that failed is tried again."""
    gather_seconds: float = 0.004
    """How long a busy gateway waits for more rows before it commits.  The answers wait with them, so it is small; a quiet
    gateway does not wait.  A commit of one row costs four times the CPU of one in a group of eight."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerState:
    """How the ledger is, for health pages and metrics.  Counts are since the start of this process."""

    status: Literal["ok", "degraded"]
    """`degraded`: the database takes no rows and the journal does."""
    reason: str = ""
    """Why it is degraded; or, while rows are written, why a journal of earlier rows cannot be replayed."""
    queued_rows: int = 0
    written_rows: int = 0
    journaled_rows: int = 0
    replayed_rows: int = 0
    failed_rows: int = 0
    """Rows that neither took; their callers were told."""
    torn_lines: int = 0
    damaged_lines: int = 0
    pruned_rows: int = 0
    """Rows that this process deleted because of their age."""


class LedgerWriter:
    """The one way into the ledger for a serving process.  All methods belong to the loop that it was started with."""

    def __init__(
        self, storage: Storage, journal: Journal, settings: WriterSettings, loop: asyncio.AbstractEventLoop
    ) -> None:
        """Use `start`."""
        self._settings = settings
        self._loop = loop
        self._journal = journal
        self._inbox: queue.SimpleQueue[list[Waiting] | None] = queue.SimpleQueue()
        self._pending: list[Waiting] = []
        self._overflow: list[Waiting] = []
        self._in_flight = 0
        self._is_overflowing = False
        self._is_scheduled = False
        self._gathers = False
        """Whether the last batch held rows of several calls."""
        self._is_closed = False
        self._failed = 0
        self._overflowed = 0
        self._idle: list[asyncio.Future[None]] = []
        self._clerk = Clerk(
            storage, journal, retry_seconds=settings.retry_seconds, retention_seconds=settings.retention_seconds
        )
        self._thread = threading.Thread(target=self._work, name="tollhouse-ledger", daemon=True)

    @classmethod
    def start(cls, settings: WriterSettings, loop: asyncio.AbstractEventLoop) -> "LedgerWriter":
        """Starts the thread, which opens the database and replays what earlier processes left in their journals.

        A database that cannot be opened makes the writer `degraded`, not absent; call `store.prepare` before, once,
        to refuse what an operator must mend.  Raises `ConfigError` for an address that is none, `NotInstalled` if the
        extra for PostgreSQL is missing.
        """
        storage = storage_of(settings.url, busy_timeout_ms=settings.busy_timeout_ms)
        folder = settings.journal_directory or state_folder(settings.url, None, os.environ)
        journal = Journal(folder, journal_name(settings.url), max_bytes=settings.journal_max_bytes)
        writer = cls(storage, journal, settings, loop)
        writer._thread.start()
        return writer

    def write(self, record: CallRecord) -> "asyncio.Future[None]":
        """Takes the record as it is now; the future is done when its row exists on disk.

        Await it before the last byte of the answer leaves.  Cancelling it, or never awaiting it, does not lose the
        row.  It fails with `StoreUnavailable` when database and journal both refuse the row, or after `aclose`.
        """
        future: asyncio.Future[None] = self._loop.create_future()
        if self._is_closed:
            self._fail(future, StoreUnavailable("The ledger is closed."))
        elif len(self._pending) < self._settings.max_queued_rows:
            self._pending.append((row_of(record), future))
            if not self._is_scheduled and not self._in_flight:
                self._schedule()
        elif len(self._overflow) < self._settings.max_queued_rows:
            self._overflow.append((row_of(record), future))
            if not self._is_overflowing:
                self._is_overflowing = True
                self._loop.call_soon(self._hand_to_journal)
        else:
            self._fail(future, StoreUnavailable("The ledger cannot keep up, and neither can its journal."))
        return future

    async def flush(self) -> None:
        """Returns when every row taken so far, and those taken meanwhile, are written."""
        while self._is_busy:
            waiter: asyncio.Future[None] = self._loop.create_future()
            self._idle.append(waiter)
            await waiter

    async def aclose(self, deadline_seconds: float = 10.0) -> None:
        """Takes no more rows, writes those that wait, and ends the thread.  May be called twice.

        After the deadline what still waits goes to the journal.
        """
        if not self._thread.is_alive():
            self._is_closed = True
            return
        self._is_closed = True
        try:
            async with asyncio.timeout(deadline_seconds):
                await self.flush()
        except TimeoutError:
            self._clerk.is_hurried = True
            try:
                async with asyncio.timeout(JOIN_SECONDS):
                    await self.flush()
            except TimeoutError:
                self._abandon()
        self._inbox.put(None)
        await self._loop.run_in_executor(None, self._thread.join, JOIN_SECONDS)

    def state(self) -> LedgerState:
        """A snapshot; costs a few microseconds."""
        clerk = self._clerk
        return LedgerState(
            status="degraded" if clerk.trouble else "ok",
            reason=clerk.trouble or clerk.complaint,
            queued_rows=len(self._pending) + self._in_flight + len(self._overflow),
            written_rows=clerk.written,
            journaled_rows=clerk.journaled + self._overflowed,
            replayed_rows=clerk.replayed,
            failed_rows=self._failed,
            torn_lines=clerk.torn,
            damaged_lines=clerk.damaged,
            pruned_rows=clerk.pruned,
        )

    @property
    def _is_busy(self) -> bool:
        return bool(self._pending or self._in_flight or self._is_overflowing)

    # ------------------------------------------------------------------------------------------------ on the loop

    def _schedule(self) -> None:
        """Hands the gathered rows over soon: at once when calls come one by one, a moment later when they come together."""
        self._is_scheduled = True
        if self._gathers and not self._is_closed:
            self._loop.call_later(self._settings.gather_seconds, self._hand_over)
        else:
            self._loop.call_soon(self._hand_over)

    def _hand_over(self) -> None:
        self._is_scheduled = False
        if self._pending and not self._in_flight:
            batch, self._pending = self._pending, []
            self._in_flight = len(batch)
            self._gathers = len(batch) > 1
            self._inbox.put(batch)

    def _settle(self, batch: Sequence[Waiting], failures: Failures) -> None:
        self._resolve(batch, failures)
        self._in_flight -= len(batch)
        if not self._in_flight:
            if self._pending and not self._is_scheduled:
                self._schedule()
            self._tell_idle()

    def _hand_to_journal(self) -> None:
        batch, self._overflow = self._overflow, []
        self._loop.run_in_executor(None, self._journal_overflow, batch)

    def _settle_overflow(self, batch: Sequence[Waiting], failures: Failures) -> None:
        self._resolve(batch, failures)
        self._overflowed += len(batch) - len(failures)
        self._is_overflowing = bool(self._overflow)
        if self._overflow:
            self._hand_to_journal()
        else:
            self._inbox.put([])  # an empty batch: brings the thread to replay the journal
        self._tell_idle()

    def _resolve(self, batch: Sequence[Waiting], failures: Failures) -> None:
        if not failures:
            for _, future in batch:
                if not future.done():  # its caller may have been cancelled; the row is there
                    future.set_result(None)
            return
        for row, future in batch:
            error = failures.get(row[0])
            if error is not None:
                self._fail(future, error)
            elif not future.done():
                future.set_result(None)

    def _fail(self, future: "asyncio.Future[None]", error: StoreUnavailable) -> None:
        self._failed += 1
        if not future.done():
            future.set_exception(error)

    def _tell_idle(self) -> None:
        if not self._is_busy:
            waiters, self._idle = self._idle, []
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)

    def _abandon(self) -> None:
        error = StoreUnavailable("The ledger was closed before this row could be written.")
        for _, future in (*self._pending, *self._overflow):
            self._fail(future, error)
        self._pending, self._overflow = [], []

    # ---------------------------------------------------------------------------------------------- in the threads

    def _work(self) -> None:
        clerk = self._clerk
        step = clerk.piece_rows
        clerk.catch_up()
        while True:
            try:
                batch = self._inbox.get(timeout=clerk.patience_seconds)
            except queue.Empty:
                if clerk.is_behind:
                    clerk.catch_up()
                elif clerk.is_untidy:
                    clerk.prune()
                continue
            if batch is None:
                clerk.end()
                return
            # A large batch is settled piece by piece, so that its first callers do not wait for its last row.
            for start in range(0, len(batch), step):
                piece = batch[start : start + step]
                try:
                    failures = clerk.keep([row for row, _ in piece])
                except Exception as error:  # noqa: BLE001 - the thread's outer edge: callers must hear of a bug, not wait for ever
                    bug = StoreUnavailable(f"The ledger's writer failed: {error!r}.")
                    failures = {row[0]: bug for row, _ in piece}
                self._report(self._settle, piece, failures)
            if clerk.is_behind or not batch:
                clerk.catch_up()
            elif clerk.is_untidy:
                clerk.prune()

    def _journal_overflow(self, batch: Sequence[Waiting]) -> None:
        failures: Failures = {}
        try:
            self._journal.append([row for row, _ in batch])
        except StoreUnavailable as error:
            failures = {row[0]: error for row, _ in batch}
        self._report(self._settle_overflow, batch, failures)

    def _report(
        self,
        settle: Callable[[Sequence[Waiting], Failures], None],
        batch: Sequence[Waiting],
        failures: Failures,
    ) -> None:
        try:
            self._loop.call_soon_threadsafe(settle, batch, failures)
        except RuntimeError:
            # The loop was closed without `aclose`; the rows are written, and nobody is left to hear it.
            return
