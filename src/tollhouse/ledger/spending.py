"""What has been spent, for budgets: exact to the microsecond, quick on any number of rows, never blocking the loop.

Whole hours come from `spend_hours`.  Of an hour that is cut, what lies outside is subtracted; so the usual question,
from the start of a day until now, touches no row that is older than a moment.  Where the rows of such an hour have
been pruned, the hour counts whole.

Rows that are still in a journal of this machine count too.  They move from there into the database, never back, so
the journals are read first; and whether their rows are in the database is asked as of the moment of the sum.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Final, TypeVar

from tollhouse.config.schema import Scope
from tollhouse.errors import StoreUnavailable
from tollhouse.ledger.address import journal_name
from tollhouse.ledger.hours import HOUR_US, OF_A_ROW, OF_AN_HOUR, belongs, cost_of, row_belongs, started_at_us
from tollhouse.ledger.journal import waiting_rows
from tollhouse.ledger.reading import Reader, Statement

T = TypeVar("T")

IDS_AT_ONCE: Final = 500
"""Ids looked for in one statement."""
LAST_US: Final = 2**62
"""A moment after all others."""


class SpendReader:
    """Answers from the ledger.  Belongs to one event loop; close it when that ends."""

    def __init__(self, url: str, journals: Path) -> None:
        """Opens nothing yet.  `journals` is the folder of this machine's journals: `address.state_folder`.

        Raises `ConfigError` and `NotInstalled` as `store.storage_of` does.
        """
        self._reader = Reader(url)
        self._journals = journals
        self._journal_name = journal_name(url)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="tollhouse-journals")

    async def spent(self, scope: Scope, from_us: int, before_us: int) -> int:
        """The known cost, in nano-USD, of the calls of a scope that began at `from_us` or later and before `before_us`.

        Calls count once their row was acknowledged.  Raises `StoreUnavailable`, within seconds, when the database does
        not answer, and `ValueError` for a scope that no call is written down under (`ip`).
        """
        before_us = min(before_us, LAST_US)
        if from_us >= before_us:
            return 0
        waiting = await self._in_thread(self._waiting_costs, scope, from_us, before_us)
        ((total,),), *found = await self._reader.read([_sum(scope, from_us, before_us), *_rows_with(list(waiting))])
        present = {name for answer in found for name, _ in answer}
        return int(total) + sum(cost for name, cost in waiting.items() if name not in present)

    async def costs_of(self, ids: Iterable[str]) -> dict[str, int]:
        """Of these request ids those that have a row, in the database or in a journal of this machine, with its cost.

        In nano-USD; 0 where it is not known.  Raises `StoreUnavailable`.
        """
        wanted = frozenset(ids)
        costs = await self._in_thread(self._waiting_costs_of, wanted)
        answers = await self._reader.read(list(_rows_with(list(wanted))))
        # The database knows better: a row may have been priced anew since.
        return costs | {name: int(cost) for answer in answers for name, cost in answer}

    async def aclose(self) -> None:
        """Lets go of the database.  May be called twice."""
        await self._reader.aclose()
        self._thread.shutdown(wait=False)

    def _waiting_costs(self, scope: Scope, from_us: int, before_us: int) -> dict[str, int]:
        return {
            str(row[0]): cost_of(row)
            for row in waiting_rows(self._journals, self._journal_name)
            if from_us <= started_at_us(row) < before_us and row_belongs(scope, row)
        }

    def _waiting_costs_of(self, wanted: frozenset[str]) -> dict[str, int]:
        return {
            str(row[0]): cost_of(row) for row in waiting_rows(self._journals, self._journal_name) if row[0] in wanted
        }

    async def _in_thread(self, work: Callable[..., T], *values: object) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work, *values)
        except OSError as error:
            raise StoreUnavailable(f"The ledger's journals in {self._journals} cannot be read: {error}.") from error


def _sum(scope: Scope, from_us: int, before_us: int) -> Statement:
    first_us = from_us // HOUR_US * HOUR_US
    end_us = -(-before_us // HOUR_US) * HOUR_US
    of_hours, of_rows = belongs(scope, OF_AN_HOUR), belongs(scope, OF_A_ROW)
    hours = f"SELECT sum(cost_nano) FROM spend_hours WHERE hour_us >= ? AND hour_us < ? AND {of_hours.sql}"  # noqa: S608 - our own names
    rows = (
        f"SELECT sum({OF_A_ROW['cost_nano']}) FROM calls "  # noqa: S608 - our own names
        f"WHERE started_at_us >= ? AND started_at_us < ? AND {of_rows.sql}"
    )
    parts = [f"coalesce(({hours}), 0)"]
    values: list[int | str] = [first_us, end_us, *of_hours.values]
    for outside in ((first_us, from_us), (before_us, end_us)):
        if outside[0] < outside[1]:
            parts.append(f"coalesce(({rows}), 0)")
            values += [*outside, *of_rows.values]
    return Statement(f"SELECT CAST({' - '.join(parts)} AS bigint)", values)


def _rows_with(ids: Sequence[str]) -> Iterator[Statement]:
    rest = iter(ids)
    while some := list(islice(rest, IDS_AT_ONCE)):
        marks = ", ".join("?" * len(some))
        yield Statement(f"SELECT id, {OF_A_ROW['cost_nano']} FROM calls WHERE id IN ({marks})", some)  # noqa: S608 - our own names
