"""Totals over the ledger: whole hours from `spend_hours`, and the hour that a report begins in from rows."""

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

import msgspec

from tollhouse.errors import NotFound, StoreUnavailable
from tollhouse.ledger import store
from tollhouse.ledger.hours import HOUR_US, OF_A_ROW, OF_AN_HOUR
from tollhouse.ledger.moments import EPOCH, us_of
from tollhouse.ledger.reading import Statement, read

DAY_US: Final = 86_400_000_000
FIRST_REVISION: Final = "0002"
"""The schema that has the hours."""


class By(StrEnum):
    """What usage is grouped by."""

    MODEL = "model"
    KEY = "key"
    DAY = "day"
    PROVIDER = "provider"
    TENANT = "tenant"


class Totals(msgspec.Struct, frozen=True):
    """Sums over calls.  A token class that no call said is `None`, which is not 0."""

    calls: int
    errors: int
    """Calls whose client saw anything but an answer."""
    input_tokens: int | None
    """All prompt tokens: fresh, read from caches and written to them."""
    cache_read_tokens: int | None
    cache_write_tokens: int | None
    output_tokens: int | None
    """All generated tokens, reasoning included."""
    reasoning_tokens: int | None
    cost_nano: int
    """The sum of the costs that are known, in nano-USD."""
    unknown_cost_calls: int
    """Calls whose cost is not known, and therefore not in `cost_nano`."""


class Group(msgspec.Struct, frozen=True):
    """The totals of one model, key, day, …"""

    name: str
    """`provider/model`, a key's name, `2026-11-21` (UTC), …; empty where a call has none."""
    totals: Totals


class Usage(msgspec.Struct, frozen=True):
    """A usage report: groups from the dearest down (days in their order), and their sum."""

    by: By
    since_us: int | None
    groups: tuple[Group, ...]
    total: Totals


def usage(url: str, *, by: By, since: datetime | None = None) -> Usage:
    """Sums the ledger's calls that started at `since` or later.

    Where the rows of the hour that `since` lies in were pruned, that hour counts whole.  Blocks.  Raises `NotFound` if
    there is no ledger yet and `StoreUnavailable` if it cannot be read; creates nothing.
    """
    revision = store.revision_of(url)
    if revision is None:
        raise NotFound(
            f"There is no ledger at {store.shown(url)} yet.", hint="The first start of the gateway makes it."
        )
    if revision < FIRST_REVISION:
        raise StoreUnavailable(
            f"The ledger {store.shown(url)} has schema {revision}, which has no totals by the hour.",
            hint="Run `tollhouse ledger migrate`, or start the gateway once.",
        )
    since_us = None if since is None else us_of(since)
    (answer,) = read(url, [_statement(url, by, since_us)])
    width = len(_COLUMNS_OF[by])
    groups = [Group(_name(by, row[:width]), Totals(*row[width:])) for row in answer]
    if by is By.DAY:
        groups.sort(key=lambda group: group.name)
    else:
        groups.sort(key=lambda group: (-group.totals.cost_nano, -group.totals.calls, group.name))
    return Usage(by, since_us, tuple(groups), _sum_of([group.totals for group in groups]))


_COLUMNS_OF: Final = {
    By.MODEL: ("provider", "model"),
    By.KEY: ("key",),
    By.DAY: ("hour_us",),
    By.PROVIDER: ("provider",),
    By.TENANT: ("tenant",),
}
_SUMS: Final = Totals.__struct_fields__


def _statement(url: str, by: By, since_us: int | None) -> Statement:
    parts, values = [], []
    first_us = 0
    if since_us is not None:
        first_us = since_us // HOUR_US * HOUR_US
        if first_us < since_us and _has_rows_of(url, first_us):
            rows = ", ".join((*_group(by, OF_A_ROW), *(f"{OF_A_ROW[name]} AS {name}" for name in _SUMS)))
            first_us += HOUR_US
            parts.append(f"SELECT {rows} FROM calls WHERE started_at_us >= ? AND started_at_us < ?")  # noqa: S608 - our own names
            values += [since_us, first_us]
    hours = ", ".join((*_group(by, OF_AN_HOUR), *_SUMS))
    parts.append(f"SELECT {hours} FROM spend_hours WHERE hour_us >= ?")  # noqa: S608 - our own names
    values.append(first_us)
    groups = [f"group_{number}" for number in range(1, len(_COLUMNS_OF[by]) + 1)]
    sums = (f"CAST(sum({name}) AS bigint)" for name in _SUMS)
    return Statement(
        f"SELECT {', '.join((*groups, *sums))} FROM ({' UNION ALL '.join(parts)}) AS parts GROUP BY {', '.join(groups)}",  # noqa: S608 - our own names
        values,
    )


def _has_rows_of(url: str, hour_us: int) -> bool:
    """Whether the hour's rows, if there ever were any, are still there: pruning takes the oldest first."""
    (((oldest_us,),),) = read(url, [Statement("SELECT min(started_at_us) FROM calls")])
    return oldest_us is not None and oldest_us < hour_us + HOUR_US


def _group(by: By, columns: dict[str, str]) -> list[str]:
    values = [columns[name] for name in _COLUMNS_OF[by]]
    if by is By.DAY:
        values = [f"({value}) / {DAY_US}" for value in values]
    return [f"{value} AS group_{number}" for number, value in enumerate(values, 1)]


def _name(by: By, values: tuple[object, ...]) -> str:
    if by is By.DAY:
        (day,) = values
        assert isinstance(day, int)
        return (EPOCH + timedelta(days=day)).date().isoformat()
    return "/".join(str(value) for value in values if value)


def _sum_of(parts: list[Totals]) -> Totals:
    def total(name: str) -> int | None:
        """A class that no part has said stays unsaid."""
        said = [number for part in parts if (number := getattr(part, name)) is not None]
        return sum(said) if said else None

    return Totals(
        calls=total("calls") or 0,
        errors=total("errors") or 0,
        input_tokens=total("input_tokens"),
        cache_read_tokens=total("cache_read_tokens"),
        cache_write_tokens=total("cache_write_tokens"),
        output_tokens=total("output_tokens"),
        reasoning_tokens=total("reasoning_tokens"),
        cost_nano=total("cost_nano") or 0,
        unknown_cost_calls=total("unknown_cost_calls") or 0,
    )
