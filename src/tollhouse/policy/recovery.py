"""What becomes of calls whose process died: each gets its row, and what was held for it is given back.

Nobody can say what such a call has cost.  Its provider may have answered in full, so it is written down with all that was
held for it, as `estimated`, under the outcome `lost`; a budget is never overspent by a crash, and whoever looks at the ledger
sees why.
"""

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Protocol

from tollhouse.errors import StoreUnavailable
from tollhouse.ledger.record import CallRecord, lost_record
from tollhouse.policy.counters import Counters

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


async def recover(counters: Counters, rows: Rows, books: Books, finished: Callable[[CallRecord], None]) -> int:
    """Ends the claims of dead processes, and says how many.  Raises `StoreUnavailable`; what is left is found the next time."""
    ended = 0
    while orphans := await counters.orphans():
        written = await rows.costs_of([orphan.id for orphan in orphans])
        for orphan in orphans:
            cost = written.get(orphan.id)
            if cost is None:
                record = lost_record(orphan.note, orphan.hold_nano)
                if record is not None:
                    await books.write(record)
                    finished(record)
                cost = orphan.hold_nano
            await counters.settle(orphan.id, cost_nano=cost, tokens=None)
            ended += 1
        log.warning("calls of a process that died were written down", extra={"calls": len(orphans)})
    return ended


async def try_to_recover(counters: Counters, rows: Rows, books: Books, finished: Callable[[CallRecord], None]) -> None:
    """`recover`, leaving for later what a store that is away keeps from being done."""
    try:
        await recover(counters, rows, books, finished)
    except StoreUnavailable as error:
        log.info("the calls of a process that died are written down later", extra={"why": str(error)})
