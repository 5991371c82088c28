"""Rates calls again: computes their costs anew from their counts with other prices, and keeps what they cost before.

Calls are read in pages, without a lock, and changed two hundred at a time, each time in one transaction: the rows, the
hourly totals (by the database's trigger), the old amounts, and the revision by which workers learn that sums have changed.
A row is changed only if it still costs what the page said.  So a gateway that writes into the same database waits for some
milliseconds at most, a run that was interrupted is finished by running it again, and a run that has nothing to change changes
nothing.

On PostgreSQL the hours of a batch are locked first, in the order in which gateways lock them when they write rows; and
`books_state` before them, so that two runs take turns.

What is left alone: calls without a price in the new book, calls whose counts do not suffice for one, answers that were copied,
and calls that are charged with their hold because their process died.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, NamedTuple

import msgspec

from tollhouse.ledger.audit import Entry, entry
from tollhouse.ledger.audit_store import append_sqlite
from tollhouse.ledger.hours import OF_A_ROW
from tollhouse.ledger.moments import moment_at
from tollhouse.ledger.price_books import KeptBook, Kinds, keep_within
from tollhouse.ledger.reading import REPORT_SECONDS
from tollhouse.ledger.stored_calls import LAST_US, Place, StoredCall, Wanted, page
from tollhouse.ledger.transaction import (
    PostgresTransaction,
    SqliteTransaction,
    Transaction,
    Value,
    open_reader,
    transact,
)

BATCH_ROWS: Final = 200
"""Rows changed in one transaction: some 20 ms of a SQLite file.  With 500, one call in a hundred waited 110 to 130 ms for its
row meanwhile; with 200 it is 35 to 60 ms, at two thirds of the speed."""
PAUSE_SECONDS: Final = 0.01
"""Between two such transactions, for those who wait for SQLite's one lock: it is not handed out in turn."""
MAX_MODELS: Final = 10_000
"""Models that are told apart in the outcome; more are one line."""


def _nobody_waits(calls: int) -> None:
    del calls


class Tally(msgspec.Struct):
    """What a run did to the calls of one model.  Money in nano-USD."""

    calls: int = 0
    changed: int = 0
    left_alone: int = 0
    """Calls that the new prices say nothing about."""
    was_unknown: int = 0
    """Changed calls whose cost was not known before."""
    was_nano: int = 0
    """The sum of all known costs before …"""
    now_nano: int = 0
    """… and after."""


class Outcome(msgspec.Struct, frozen=True):
    """What a run did."""

    version: str
    """The price book that calls were rated with."""
    models: dict[str, Tally]
    """By `provider/model`."""
    overtaken: int
    """Calls that somebody else changed or pruned between the reading and the writing; running again sees to them."""
    rerate: int | None
    """The number under which the old amounts are kept; `None` when nothing was changed."""
    continued: bool
    """Whether it went on with a run that had been interrupted."""

    @property
    def total(self) -> Tally:
        """The sum over all models."""
        total = Tally()
        for tally in self.models.values():
            for name in Tally.__struct_fields__:
                setattr(total, name, getattr(total, name) + getattr(tally, name))
        return total


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be rated again, with what, by whom."""

    wanted: Wanted
    book: KeptBook
    only_overrides: bool
    """Only calls that an override of the book sets the price of; otherwise all that the book has a price for."""
    actor: str
    """For the audit log: `cli:ann`."""

    @property
    def kinds(self) -> Kinds:
        """What is kept with the book: the type of each provider, where there is one."""
        return {provider: kinds[0] for provider, kinds in self.book.kinds.items() if kinds}

    def finishes(self, asked: "Asked") -> bool:
        """Whether this is the order of a run that was interrupted; its times may have been said as "seven days ago"."""
        wanted = self.wanted
        return (wanted.provider, wanted.model, self.only_overrides) == (
            asked.provider,
            asked.model,
            asked.only_overrides,
        )


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What a run was asked for, as it stands in its record."""

    from_us: int
    before_us: int
    provider: str
    model: str
    only_overrides: bool


def rerate(
    url: str,
    order: Order,
    *,
    now_us: Callable[[], int],
    is_dry: bool = False,
    progress: Callable[[int], None] = _nobody_waits,
    pause: Callable[[float], None] = time.sleep,
) -> Outcome:
    """Rates calls again.  Blocks; `is_dry` only reckons.  `progress` is told how many calls more were seen.

    An interrupted run with the same order is gone on with, from its own beginning to its own end at least.  Raises
    `StoreUnavailable`; what was done until then stays done.
    """
    run = _Run(url, order, now_us, pause)
    wanted = order.wanted if is_dry else run.pick_up()
    reader = open_reader(url, answer_seconds=REPORT_SECONDS)
    after: Place | None = None
    try:
        while calls := reader.read(partial(page, wanted=wanted, after=after)):
            run.take(calls, is_dry=is_dry)
            after = Place(calls[-1].started_at_us, calls[-1].seq)
            progress(len(calls))
    finally:
        reader.close()
    if not is_dry:
        run.end()
    return Outcome(order.book.prices.version, run.models, run.overtaken, run.number, run.continued)


class _Change(NamedTuple):
    call: StoredCall
    now_nano: int


class _Run:
    def __init__(self, url: str, order: Order, now_us: Callable[[], int], pause: Callable[[float], None]) -> None:
        self._url = url
        self._pause = pause
        self._order = order
        self._now_us = now_us
        self._has_begun = False
        """Whether this run has written into the log that it changes something."""
        self._changed = self._was_nano = self._now_nano = 0
        self.number: int | None = None
        self.continued = False
        self.overtaken = 0
        self.models: dict[str, Tally] = {}

    def pick_up(self) -> Wanted:
        """Looks for an interrupted run, and says which calls are to be seen."""
        wanted = self._order.wanted
        found = transact(self._url, self._unfinished, writes=False)
        if found is not None:
            self.number, asked = found
            self.continued = True
            wanted = wanted._replace(
                from_us=min(wanted.from_us, asked.from_us), before_us=max(wanted.before_us, asked.before_us)
            )
        return wanted

    def take(self, calls: Sequence[StoredCall], *, is_dry: bool) -> None:
        """Sees to a page of calls."""
        changes: list[_Change] = []
        for call in calls:
            tally = self._tally(call)
            tally.calls += 1
            tally.was_nano += call.cost_nano or 0
            tally.now_nano += call.cost_nano or 0
            now_nano = self._rated(call)
            if now_nano is None:
                tally.left_alone += 1
            elif now_nano != call.cost_nano:
                changes.append(_Change(call, now_nano))
        for start in range(0, len(changes), BATCH_ROWS):
            batch = changes[start : start + BATCH_ROWS]
            done = batch if is_dry else self._change(batch)
            self.overtaken += len(batch) - len(done)
            for call, now_nano in done:
                tally = self._tally(call)
                tally.changed += 1
                tally.was_unknown += call.cost_nano is None
                tally.now_nano += now_nano - (call.cost_nano or 0)
                self._changed += 1
                self._was_nano += call.cost_nano or 0
                self._now_nano += now_nano

    def end(self) -> None:
        """Closes the run's record, if it changed anything or went on with one that had."""
        if self.number is not None:
            transact(self._url, self._close)

    def _change(self, batch: Sequence[_Change]) -> list[_Change]:
        done = transact(self._url, lambda transaction: self._write(transaction, batch))
        self._pause(PAUSE_SECONDS)
        return done

    def _tally(self, call: StoredCall) -> Tally:
        name = f"{call.provider}/{call.model}"
        tally = self.models.get(name)
        if tally is None:
            if len(self.models) >= MAX_MODELS:
                name = "(others)"
            tally = self.models.setdefault(name, Tally())
        return tally

    def _rated(self, call: StoredCall) -> int | None:
        """What the call costs now; `None` when the new prices say nothing about it."""
        if call.basis != "tokens":
            return None
        book = self._order.book
        if self._order.only_overrides:
            (kind, *_) = book.kinds.get(call.provider, (call.provider,))
            price = book.prices.find(kind, call.model, provider=call.provider)
            if price is None or price.model not in book.prices.overrides:
                return None
        (cost, *_) = call.costs(book)
        return None if cost is None else cost.total_nano

    def _write(self, transaction: Transaction, batch: Sequence[_Change]) -> list[_Change]:
        """Changes what still is as it was read, and returns it.  All of it or, if it raises, nothing."""
        version = self._order.book.prices.version
        transaction.run("UPDATE books_state SET revision = revision + 1")
        if isinstance(transaction, PostgresTransaction):
            _lock_hours(transaction, [change.call.seq for change in batch])
        number = self._begun(transaction) if not self._has_begun else self.number
        assert number is not None
        values: list[Value] = [version]
        rows: list[str] = []
        for call, now_nano in batch:
            at = len(values) + 1
            rows.append(
                f"(CAST(${at} AS bigint), CAST(${at + 1} AS bigint), CAST(${at + 2} AS text), CAST(${at + 3} AS bigint))"
            )
            values += [call.seq, _or_unknown(call.cost_nano), call.price_version, now_nano]
        changed = transaction.rows(
            # Both databases call the columns of VALUES column1, column2 …
            "UPDATE calls SET cost_nano = new.column4, price_version = $1 "  # noqa: S608 - only marks
            f"FROM (VALUES {', '.join(rows)}) AS new WHERE calls.seq = new.column1 "
            f"AND coalesce(calls.cost_nano, {UNKNOWN}) = new.column2 AND calls.price_version = new.column3 "
            "RETURNING calls.seq",
            *values,
        )
        seqs = {seq for (seq,) in changed}
        done = [change for change in batch if change.call.seq in seqs]
        if done:
            _keep_old(transaction, number, done)
            transaction.run(
                "UPDATE rerates SET changed = changed + $1, was_nano = was_nano + $2, now_nano = now_nano + $3 WHERE id = $4",
                len(done),
                sum(change.call.cost_nano or 0 for change in done),
                sum(change.now_nano for change in done),
                number,
            )
        # A commit that fails ends the run, so it does no harm that this is said before it.
        self.number, self._has_begun = number, True
        return done

    def _begun(self, transaction: Transaction) -> int:
        """Writes down, with its first change, that the run goes on; returns its number."""
        order, now_us = self._order, self._now_us()
        keep_within(transaction, order.book.prices, order.kinds, now_us)
        asked = Asked(**order.wanted._asdict(), only_overrides=order.only_overrides)
        number = self.number
        if number is None:
            ((number,),) = transaction.rows("SELECT coalesce(max(id), 0) + 1 FROM rerates")
            transaction.run(
                "INSERT INTO rerates (id, began_at_us, actor, asked, version, changed, was_nano, now_nano) "
                "VALUES ($1, $2, $3, $4, $5, 0, 0, 0)",
                number,
                now_us,
                order.actor,
                msgspec.json.encode(asked).decode(),
                order.book.prices.version,
            )
        names = {name: value for name, value in (("provider", asked.provider), ("model", asked.model)) if value}
        times = {"from": _iso(asked.from_us)} if asked.from_us else {}
        times |= {"to": _iso(asked.before_us)} if asked.before_us < LAST_US else {}
        _append(
            transaction,
            entry(
                at_us=now_us,
                actor=order.actor,
                action="ledger.rerate",
                object=f"rerate:{number}",
                changes={"prices": order.book.prices.version, **times, **names},
            ),
        )
        return int(number)

    def _unfinished(self, transaction: Transaction) -> tuple[int, Asked] | None:
        rows = transaction.rows(
            "SELECT id, asked FROM rerates WHERE ended_at_us IS NULL AND version = $1 ORDER BY id DESC",
            self._order.book.prices.version,
        )
        runs = ((number, msgspec.json.decode(asked, type=Asked)) for number, asked in rows)
        return next((run for run in runs if self._order.finishes(run[1])), None)

    def _close(self, transaction: Transaction) -> None:
        now_us = self._now_us()
        transaction.run("UPDATE rerates SET ended_at_us = $1 WHERE id = $2", now_us, self.number)
        _append(
            transaction,
            entry(
                at_us=now_us,
                actor=self._order.actor,
                action="ledger.rerate_end",
                object=f"rerate:{self.number}",
                changes={"changed": self._changed, "was_nano": self._was_nano, "now_nano": self._now_nano},
            ),
        )


UNKNOWN: Final = -1
"""In place of a cost that is not known: SQL compares NULL with nothing, and no cost is below 0."""


def _or_unknown(cost_nano: int | None) -> int:
    return UNKNOWN if cost_nano is None else cost_nano


def _iso(at_us: int) -> str:
    return moment_at(at_us).isoformat()


def _keep_old(transaction: Transaction, number: int, done: Sequence[_Change]) -> None:
    values: list[Value] = [number]
    rows = []
    for call, now_nano in done:
        at = len(values) + 1
        rows.append(f"(${at}, $1, ${at + 1}, ${at + 2}, ${at + 3})")
        values += [call.seq, call.cost_nano, call.price_version, now_nano]
    # A run that is continued may meet a call again that was changed by somebody else since: the first old amount stays.
    transaction.run(
        "INSERT INTO rerated_calls (seq, rerate, was_nano, was_version, now_nano) "  # noqa: S608 - only marks
        f"VALUES {', '.join(rows)} ON CONFLICT (seq, rerate) DO UPDATE SET now_nano = excluded.now_nano",
        *values,
    )


def _lock_hours(transaction: Transaction, seqs: Sequence[int]) -> None:
    keys = ("hour_us", "tenant", "project", "key", "alias", "provider", "model")
    of_hours = ", ".join(f'spend_hours."{name}"' for name in keys)
    of_calls = ", ".join(OF_A_ROW[name] for name in keys)
    places = ", ".join(f"${number}" for number in range(1, len(seqs) + 1))
    transaction.rows(
        f"SELECT 1 FROM spend_hours WHERE ({of_hours}) IN (SELECT {of_calls} FROM calls WHERE seq IN ({places})) "  # noqa: S608 - our own names
        f"ORDER BY {of_hours} FOR UPDATE",
        *seqs,
    )


def _append(transaction: Transaction, one: Entry) -> None:
    if isinstance(transaction, SqliteTransaction):
        append_sqlite(transaction.connection, [one])
        return
    assert isinstance(transaction, PostgresTransaction)
    from tollhouse.ledger.audit_postgres import append_postgres

    transaction.wait(append_postgres(transaction.connection, [one]))
