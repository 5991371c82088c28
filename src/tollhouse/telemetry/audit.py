"""Writes the audit log of a serving process: failures of authentication, and what administrators and signals did to it.

Whoever fails to authenticate decides how often that happens, so it must not decide how much is written.  `Flood` lets the first
few failures of an address through as records of their own and folds the rest of the minute into one record with a count;
addresses beyond the first few are folded together.  So a process writes at most `RECORDS_PER_WINDOW` records a minute whatever
anybody does: some 20 kB, 30 MB a day.

Nothing here waits for a database on the event loop: `Trail` has a thread of its own, which starts with the first record.  What
changes the register is recorded by `RegisterAudit` within the transaction that changes it: either both are there or neither.
"""

import asyncio
import heapq
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

import msgspec

from tollhouse.errors import StoreUnavailable
from tollhouse.ledger.audit import Entry, entry
from tollhouse.ledger.audit_store import AuditLog, append_sqlite, open_audit
from tollhouse.ledger.transaction import PostgresTransaction, SqliteTransaction, Transaction
from tollhouse.policy.registrar import Change
from tollhouse.policy.rules import neighbourhood
from tollhouse.telemetry import logs

WINDOW_SECONDS: Final = 60.0
RECORDS_PER_ADDRESS: Final = 5
"""Failures of one address in a window that get a record of their own."""
OWN_RECORDS: Final = 40
"""Failures of all addresses in a window that get a record of their own."""
SUMMARIES: Final = 19
"""Addresses whose further failures are counted in a record each, the busiest first; one more record counts the rest."""
RECORDS_PER_WINDOW: Final = OWN_RECORDS + SUMMARIES + 1
MAX_ADDRESSES: Final = 2048
"""Addresses that are told apart in a window."""
MAX_QUEUED: Final = 1000
"""Records that may wait for the database; what comes after is only counted, and the count is written when it is back."""
RETRY_SECONDS: Final = 2.0
GATEWAY: Final = "gateway"
"""The actor of what nobody is known to have done."""

log = logs.get("audit")


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody was not let in."""

    at_us: int
    address: str
    """As the caller's; empty when it is not known."""
    code: str
    """The error's code: `unauthenticated`, `permission_denied`."""
    door: str
    """Where: `public` or `admin`."""
    request_id: str


class _Tally:
    """One address in one window."""

    __slots__ = ("addresses", "codes", "doors", "events", "last", "written")

    def __init__(self) -> None:
        self.written = 0
        self.events = 0
        """Failures that have no record of their own."""
        self.codes: Counter[str] = Counter()
        """What they were, and how many of each."""
        self.doors: set[str] = set()
        self.addresses = 1
        self.last: Failure | None = None

    def count(self, failure: Failure) -> None:
        """Takes in a failure that gets no record of its own."""
        self.events += 1
        self.codes[failure.code] += 1
        self.doors.add(failure.door)
        self.last = failure

    def add(self, other: "_Tally") -> None:
        """Takes in an address that gets no count of its own."""
        self.events += other.events
        self.codes += other.codes
        self.doors |= other.doors
        self.addresses += 1
        self.last = self.last or other.last


class Flood:
    """Decides what is written of many failures.  Takes the time in seconds, from a clock that never goes back."""

    def __init__(self) -> None:
        self._ends = 0.0
        self._forget()

    def note(self, failure: Failure, now: float) -> Entry | None:
        """The record to write at once, or `None` when the failure is only counted.  Call `due` first."""
        if not self._tallies:
            self._ends = now + WINDOW_SECONDS
        address = neighbourhood(failure.address)
        tally = self._tallies.get(address)
        if tally is None:
            if len(self._tallies) >= MAX_ADDRESSES:
                tally = self._rest
            else:
                tally = self._tallies[address] = _Tally()
        if tally is not self._rest and tally.written < RECORDS_PER_ADDRESS and self._written < OWN_RECORDS:
            tally.written += 1
            self._written += 1
            return _entry(failure, address=failure.address)
        tally.count(failure)
        return None

    def due(self, now: float, *, is_over: bool = False) -> list[Entry]:
        """What is to be written of a window that has ended, or is ended by `is_over`."""
        if not self._tallies or (now < self._ends and not is_over):
            return []
        counted = [(tally.events, address) for address, tally in self._tallies.items() if tally.events]
        summaries = heapq.nlargest(SUMMARIES, counted)
        named = {address for _, address in summaries}
        entries = [_summary(self._tallies[address], address) for _, address in summaries]
        rest = self._rest
        rest.addresses = 0
        for _, address in counted:
            if address not in named:
                rest.add(self._tallies[address])
        if rest.events:
            entries.append(_summary(rest, ""))
        self._forget()
        return entries

    def seconds_left(self, now: float) -> float | None:
        """Until `due` has something to say; `None` while nothing was noted."""
        return max(0.0, self._ends - now) if self._tallies else None

    def _forget(self) -> None:
        self._written = 0
        self._tallies: dict[str, _Tally] = {}
        self._rest = _Tally()


def _entry(failure: Failure, *, address: str) -> Entry:
    return entry(
        at_us=failure.at_us,
        actor=GATEWAY,
        action="auth.fail",
        object=failure.door,
        changes={"code": failure.code},
        address=address,
        outcome="refused",
        request_id=failure.request_id,
    )


def _summary(tally: _Tally, address: str) -> Entry:
    last = tally.last
    assert last is not None  # events were counted
    codes = dict(sorted(tally.codes.items()))
    what: dict[str, object] = {"code": last.code} if len(codes) == 1 else {"codes": codes}
    changes: dict[str, object] = {**what, "further": True}
    if not address and tally.addresses:
        changes["addresses"] = tally.addresses
    return entry(
        at_us=last.at_us,
        actor=GATEWAY,
        action="auth.fail",
        object=", ".join(sorted(tally.doors)),
        changes=changes,
        address=address,
        outcome="refused",
        request_id=last.request_id,
        events=tally.events,
    )


class RegisterAudit:
    """Records what a registrar changed; its `Audit`."""

    def __init__(self, *, address: str = "", request_id: str = "") -> None:
        """Where the change was asked for; both are empty for a command line."""
        self._address = address
        self._request_id = request_id

    def __call__(self, transaction: Transaction, changes: Sequence[Change]) -> None:
        """Appends within the transaction.  Errors of the database pass through, to undo it."""
        entries = [
            entry(
                at_us=change.at_us,
                actor=change.actor,
                action=change.action,
                object=change.target,
                changes=change.fields,
                address=self._address,
                request_id=self._request_id,
            )
            for change in changes
        ]
        if isinstance(transaction, SqliteTransaction):
            append_sqlite(transaction.connection, entries)
        elif isinstance(transaction, PostgresTransaction):
            from tollhouse.ledger.audit_postgres import append_postgres

            transaction.wait(append_postgres(transaction.connection, entries))
        else:
            raise TypeError(f"{type(transaction).__name__} is not a transaction that can be audited")


class TrailState(msgspec.Struct, frozen=True):
    """How the writing goes.  Counts are records, since the start of this process."""

    written: int
    queued: int
    dropped: int
    """Not written, because too many waited for the database."""
    trouble: str
    """Why the database takes nothing; empty when it does."""


class Trail:
    """The one way into the audit log for a serving process.  Its methods may be called from any thread; none waits."""

    def __init__(
        self,
        audit: AuditLog,
        *,
        wall_us: Callable[[], int] = lambda: time.time_ns() // 1000,
        monotonic: Callable[[], float] = time.monotonic,
        retry_seconds: float = RETRY_SECONDS,
    ) -> None:
        """Starts nothing.  The log is the trail's from here on."""
        self._audit = audit
        self._wall_us = wall_us
        self._monotonic = monotonic
        self._retry_seconds = retry_seconds
        self._inbox: queue.Queue[Entry | None] = queue.Queue(MAX_QUEUED)
        self._lock = threading.Lock()
        """Over the flood, the counts and the thread's beginning."""
        self._flood = Flood()
        self._thread: threading.Thread | None = None
        self._is_closed = False
        self._written = 0
        self._dropped = 0
        self._untold = 0
        self._waiting: list[Entry] = []
        self._trouble = ""

    @classmethod
    def of(cls, url: str) -> "Trail":
        """The trail into a ledger.  Opens nothing; raises `ConfigError` for an address that is none."""
        return cls(open_audit(url))

    def fail(self, *, address: str, code: str, door: str, request_id: str) -> None:
        """Somebody was not let in.  A flood is written down as counts."""
        now = self._monotonic()
        failure = Failure(at_us=self._wall_us(), address=address, code=code, door=door, request_id=request_id)
        with self._lock:
            entries = self._flood.due(now)
            noted = self._flood.note(failure, now)
        for one in entries if noted is None else [*entries, noted]:
            self._put(one)

    def record(self, one: Entry) -> None:
        """Something was done, by somebody who may: a reload, a refusal of what a role does not allow."""
        self._put(one)

    def state(self) -> TrailState:
        """A snapshot."""
        with self._lock:
            return TrailState(self._written, self._inbox.qsize() + len(self._waiting), self._dropped, self._trouble)

    async def aclose(self, deadline_seconds: float = 5.0) -> None:
        """Writes what is left, if the database takes it in time, and ends the thread.  May be called twice."""
        with self._lock:
            self._is_closed = True
            thread = self._thread
        if thread is None:
            return
        await asyncio.get_running_loop().run_in_executor(None, self._end, thread, deadline_seconds)

    def _end(self, thread: threading.Thread, deadline_seconds: float) -> None:
        # A queue that stays full is one that the thread cannot empty: joining it then takes the deadline, and no more.
        with suppress(queue.Full):
            self._inbox.put(None, timeout=deadline_seconds)
        thread.join(deadline_seconds)
        if left := self.state().queued:
            log.error("the audit log was not written to its end", extra={"records": left})

    def _put(self, one: Entry) -> None:
        with self._lock:
            if self._is_closed:
                self._drop(1)
                return
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="tollhouse-audit", daemon=True)
                self._thread.start()
            try:
                self._inbox.put_nowait(one)
            except queue.Full:
                self._drop(1)

    def _drop(self, count: int) -> None:
        self._dropped += count
        self._untold += count

    # ------------------------------------------------------------------------------------------------- in the thread

    def _work(self) -> None:
        is_over = False
        while not is_over:
            try:
                first = self._inbox.get(timeout=self._patience())
                is_over = self._gather(first)
            except queue.Empty:
                pass
            with self._lock:
                self._waiting.extend(self._flood.due(self._monotonic(), is_over=is_over))
            self._write()
        self._audit.close()

    def _patience(self) -> float | None:
        with self._lock:
            left = self._flood.seconds_left(self._monotonic())
            if self._waiting or self._untold:
                return self._retry_seconds if left is None else min(left, self._retry_seconds)
            return left

    def _gather(self, first: Entry | None) -> bool:
        """Takes what is in the queue; true when the end was among it."""
        one = first
        while one is not None:
            with self._lock:
                if len(self._waiting) < MAX_QUEUED:
                    self._waiting.append(one)
                else:
                    self._drop(1)
            try:
                one = self._inbox.get_nowait()
            except queue.Empty:
                return False
        return True

    def _write(self) -> None:
        with self._lock:
            batch, untold = self._waiting[:], self._untold
        if untold:
            batch.append(
                entry(at_us=self._wall_us(), actor=GATEWAY, action="audit.drop", outcome="failed", events=untold)
            )
        if not batch:
            return
        try:
            self._audit.append(batch)
        except StoreUnavailable as error:
            self._complain(str(error))
            return
        except Exception as error:  # noqa: BLE001 - the thread's outer edge: without it nothing would ever be written again
            self._complain(f"The audit log's writer failed: {error!r}.")
            return
        with self._lock:
            del self._waiting[: len(batch) - bool(untold)]
            self._untold -= untold
            self._written += len(batch)
            was_troubled, self._trouble = bool(self._trouble), ""
        if was_troubled:
            log.info("the audit log is written again")

    def _complain(self, trouble: str) -> None:
        with self._lock:
            is_new = not self._trouble
            self._trouble = trouble
        if is_new:
            log.error("the audit log cannot be written; records wait", extra={"reason": trouble})
