"""What becomes of calls whose process died: each gets its row, and what was held for it is given back.

Nobody can say what such a call has cost.  Its provider may have answered in full, so it is written down with all that was
held for it, as `estimated`, under the outcome `lost`; a budget is never overspent by a crash, and whoever looks at the ledger
sees why.  Where nothing was held, because no budget was meant for it or nobody knew its price, its cost is not known.
"""

import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Final, Protocol

from tollhouse.ledger.record import CallRecord, lost_record
from tollhouse.policy.counters import Counters, Orphan

MAX_AT_ONCE: Final = 100
"""Calls that are looked for in the ledger together."""

log = logging.getLogger("tollhouse.policy")


class Rows(Protocol):
    """What the ledger has."""

    async def costs_of(self, ids: Iterable[str]) -> Mapping[str, int]:
        """The cost, in nano-USD, of those of the calls that have a row; 0 where it is not known.

        Raises `StoreUnavailable`.
        """
        ...


class Books(Protocol):
    """Where rows are written."""

    def write(self, record: CallRecord) -> Awaitable[None]:
        """Takes the record; what it returns is done when the row is safe."""
        ...


class Recovery:
    """Ends the claims of dead processes.  One for each process; it goes on where it was interrupted.

    A store hands each orphan out once, so those that could not be ended yet are kept here.  Should this process die too, the
    store hands them to another.
    """

    def __init__(self, counters: Counters, rows: Rows, books: Books) -> None:
        self._counters = counters
        self._rows = rows
        self._books = books
        self._waiting: deque[Orphan] = deque()

    async def recover(self, finished: Callable[[CallRecord], None]) -> int:
        """Ends all that there are, and says how many.  `finished` hears of each row that was written.

        Raises `StoreUnavailable`; what is left is ended the next time.
        """
        ended = 0
        while self._waiting or await self._ask():
            ended += await self._end_some(finished)
        return ended

    async def _ask(self) -> bool:
        self._waiting.extend(await self._counters.orphans(MAX_AT_ONCE))
        return bool(self._waiting)

    async def _end_some(self, finished: Callable[[CallRecord], None]) -> int:
        written = await self._rows.costs_of([orphan.id for orphan in self._waiting])
        ended = 0
        while self._waiting:
            orphan = self._waiting[0]
            cost = written.get(orphan.id)
            if cost is None:
                await self._write(orphan, finished)
                cost = orphan.hold_nano
            await self._counters.settle(orphan.id, cost_nano=cost, tokens=None)
            self._waiting.popleft()
            ended += 1
        log.warning("calls of a process that died were written down", extra={"calls": ended})
        return ended

    async def _write(self, orphan: Orphan, finished: Callable[[CallRecord], None]) -> None:
        record = lost_record(orphan.note, orphan.hold_nano)
        if record is None:
            return
        if not orphan.hold_nano:
            record.cost_nano = None
        await self._books.write(record)
        finished(record)
