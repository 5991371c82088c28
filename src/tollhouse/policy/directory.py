"""What a worker knows of the database's keys, kept up to date.

A thread asks for the register's mark three times a second, which costs one row.  When it has moved, the thread reads what
changed since, makes the next roll and puts it in place by one assignment: so a revoked key is gone from every worker of
every machine well within a second, and nothing is looked up on a call's way.  If the database cannot be reached, the last
roll goes on serving; `state` says so, and when it answers again everything is read anew.  A copy of the roll on disk lets a
gateway start without its database.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from tollhouse.errors import StoreUnavailable
from tollhouse.ledger.address import journal_name
from tollhouse.ledger.transaction import Reader, Transaction, open_reader
from tollhouse.policy.identity import wall_us
from tollhouse.policy.roll import EMPTY, Roll, advance
from tollhouse.policy.roll_file import mark_on_disk, read_roll, write_roll
from tollhouse.policy.roll_rows import delta, mark

POLL_SECONDS: Final = 0.3
COPY_SECONDS: Final = 5.0
"""The least time between two copies to disk, unless a key that is known was changed: that is copied at once."""
START_SECONDS: Final = 30.0
"""How long a start waits for the keys; a hundred thousand take about a second."""
STOP_SECONDS: Final = 10.0

log = logging.getLogger("tollhouse.policy")

Source = Literal["database", "disk", "nothing"]


@dataclass(frozen=True, slots=True)
class DirectoryState:
    """How a directory is, for health and the admin API."""

    source: Source
    """Where the roll in use came from first."""
    problem: str
    """Why the database cannot be read now; empty while it can."""
    revision: int
    keys: int
    unreadable: tuple[str, ...]
    """Keys, tenants and subjects that were written by a newer version; they are closed."""


def _nothing_cut(names: frozenset[str]) -> None:
    del names


def open_directory(url: str, folder: Path, *, on_cut: Callable[[frozenset[str]], None] = _nothing_cut) -> "Directory":
    """The directory of a ledger's address, with its copy in the state folder.

    Connects to nothing yet.  Raises `NotInstalled` for PostgreSQL without its extra.
    """
    return Directory(open_reader(url), copy=folder / f"{journal_name(url)}.keys", on_cut=on_cut)


class Directory:
    """Holds the newest roll.  `start` it before serving, `stop` it after."""

    def __init__(
        self,
        reader: Reader,
        *,
        copy: Path | None = None,
        on_cut: Callable[[frozenset[str]], None] = _nothing_cut,
        poll_seconds: float = POLL_SECONDS,
        now_us: Callable[[], int] = wall_us,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`copy` is the file on disk, in the state folder.

        `on_cut` is told the names of keys whose calls in flight are to be ended.  It is called in the directory's thread,
        after the new roll is in place, and must not block or raise: hand it on with `loop.call_soon_threadsafe`.
        """
        self._reader = reader
        self._copy = copy
        self._on_cut = on_cut
        self._poll_seconds = poll_seconds
        self._now_us = now_us
        self._monotonic = monotonic
        self._came_from: Source = "nothing"
        self._problem = "It was not asked yet."
        self._reads_whole = False
        self._copied_at: float | None = None
        self._owes_copy = False
        self._stopping = threading.Event()
        self._is_loaded = threading.Event()
        self._thread: threading.Thread | None = None
        self.roll: Roll = EMPTY

    def start(self) -> None:
        """Loads all keys, from disk if the database does not answer, and begins to watch.  Blocks for up to some seconds.

        Never fails: without either there are no keys but the configuration's, until the database answers.
        """
        self._thread = threading.Thread(target=self._watch, name="tollhouse-directory", daemon=True)
        self._thread.start()
        self._is_loaded.wait(START_SECONDS)

    def stop(self) -> None:
        """Ends the watching and lets go of the database.  Blocks for some seconds at most; may be called twice."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(STOP_SECONDS)
        if self._thread is None or not self._thread.is_alive():
            self._reader.close()  # else its thread does so, once a statement that hangs has ended

    def state(self) -> DirectoryState:
        """How it is now.  Costs nothing."""
        roll = self.roll
        return DirectoryState(self._came_from, self._problem, roll.mark.revision, len(roll), roll.unreadable)

    def refresh(self) -> bool:
        """One look at the database: takes over what changed.  Returns whether it answered.  Not for two threads at once."""
        try:
            if self._reads_whole or self._came_from != "database" or mark(self._reader) != self.roll.mark:
                self._reader.read(self._take_over)
            if self._owes_copy:
                self._reader.read(self._copy_if_due)
        except StoreUnavailable as error:
            if not self._problem:
                log.warning(
                    "the register of keys cannot be read; the last known keys go on serving", extra={"why": str(error)}
                )
            self._problem = str(error)
            self._reads_whole = True
            return False
        if self._problem and self._came_from == "database":
            log.info("the register of keys is read again")
        self._problem = ""
        self._reads_whole = False
        self._came_from = "database"
        return True

    def _take_over(self, transaction: Transaction) -> None:
        before = self.roll
        changed = delta(transaction, None if self._reads_whole else before.mark, self._now_us())
        after = advance(before, changed)
        self.roll = after.roll
        if after.roll.unreadable and after.roll.unreadable != before.unreadable:
            log.error("keys are closed, a newer version wrote them", extra={"which": list(after.roll.unreadable)})
        if after.cut and before is not EMPTY:
            self._on_cut(after.cut)
        if self._copy is not None:
            self._owes_copy = True
            if after.touches_known:
                self._copied_at = None

    def _copy_if_due(self, transaction: Transaction) -> None:
        """Writes the copy, unless another worker of this machine has done so, or it was written a moment ago."""
        if self._copy is None:
            return
        now = self._monotonic()
        if self._copied_at is not None and now - self._copied_at < COPY_SECONDS:
            return
        self._copied_at = now
        self._owes_copy = False
        whole = delta(transaction, None, self._now_us())
        there = mark_on_disk(self._copy)
        if there is not None and there.epoch == whole.mark.epoch and there.revision >= whole.mark.revision:
            return
        try:
            write_roll(self._copy, whole)
        except OSError as error:
            log.warning("the copy of the keys cannot be written", extra={"why": str(error)})

    def _load_copy(self) -> None:
        if self._copy is None:
            return
        why = self._problem
        try:
            found = read_roll(self._copy)
            if found is not None:
                self.roll = advance(EMPTY, found).roll
                self._came_from = "disk"
        except StoreUnavailable as error:
            why = f"{why} {error}"
        log.warning(
            "the register of keys cannot be read; starting with the keys on disk",
            extra={"keys": len(self.roll), "why": why},
        )

    def _watch(self) -> None:
        try:
            if not self._look():
                self._load_copy()
            self._is_loaded.set()
            while not self._stopping.wait(self._poll_seconds):
                self._look()
            self._copied_at = None
            self._look()
        finally:
            self._reader.close()

    def _look(self) -> bool:
        try:
            return self.refresh()
        except Exception as error:
            # A defect here must not end the watching: a key that is revoked later has to go all the same.
            problem = f"{type(error).__name__} while it was taken over."
            if problem != self._problem:
                log.exception("the register of keys was not taken over")
            self._problem = problem
            self._reads_whole = True
            return False
