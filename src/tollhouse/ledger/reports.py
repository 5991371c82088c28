"""Totals over the ledger, through SQLAlchemy Core.  Imported only by the commands that print them."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final, TypeAlias, assert_never

import msgspec
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from tollhouse.errors import NotFound, StoreUnavailable
from tollhouse.ledger import store
from tollhouse.ledger.schema import CALLS

Column: TypeAlias = sa.Column[Any] | sa.Label[Any]

DAY_US: Final = 86_400_000_000
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


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

    Raises `NotFound` if there is no ledger yet and `StoreUnavailable` if it cannot be read; creates nothing.
    """
    if store.revision_of(url) is None:
        raise NotFound(f"There is no ledger at {url} yet.", hint="The first call through the gateway makes one.")
    since_us = None if since is None else _microseconds(since)
    period = sa.true() if since_us is None else CALLS.c.started_at_us >= since_us
    keys = _grouping(by)
    sums = _sums()
    with _connected(url) as connection:
        grouped = connection.execute(sa.select(*keys, *sums).where(period).group_by(*keys)).mappings()
        groups = [Group(_name(by, [row[key.name] for key in keys]), _totals(row)) for row in grouped]
        total = _totals(connection.execute(sa.select(*sums).where(period)).mappings().one())
    if by is By.DAY:
        groups.sort(key=lambda group: group.name)
    else:
        groups.sort(key=lambda group: (-group.totals.cost_nano, -group.totals.calls, group.name))
    return Usage(by, since_us, tuple(groups), total)


def _microseconds(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(microseconds=1)


def _grouping(by: By) -> tuple[Column, ...]:
    columns = CALLS.c
    match by:
        case By.MODEL:
            return (columns.provider, columns.model)
        case By.KEY:
            return (columns.key,)
        case By.DAY:
            # An integer division, on every database; SQLAlchemy's own `//` would round on some.
            return (sa.type_coerce(columns.started_at_us.op("/")(DAY_US), sa.BigInteger).label("day"),)
        case By.PROVIDER:
            return (columns.provider,)
        case By.TENANT:
            return (columns.tenant,)
        case _:
            assert_never(by)


def _name(by: By, values: list[object]) -> str:
    if by is By.DAY:
        (day,) = values
        assert isinstance(day, int)
        return (EPOCH + timedelta(days=day)).date().isoformat()
    return "/".join(str(value) for value in values if value)


def _sums() -> list[Column]:
    """One column for each field of `Totals`, under its name."""
    columns = CALLS.c
    is_error = sa.case((columns.outcome != "ok", 1), else_=0)
    is_unknown = sa.case((columns.cost_nano.is_(None), 1), else_=0)
    return [
        sa.func.count().label("calls"),
        sa.func.coalesce(sa.func.sum(is_error), 0).label("errors"),
        sa.func.sum(columns.input_tokens).label("input_tokens"),
        sa.func.sum(columns.cache_read_tokens).label("cache_read_tokens"),
        sa.func.sum(columns.cache_write_tokens).label("cache_write_tokens"),
        sa.func.sum(columns.output_tokens).label("output_tokens"),
        sa.func.sum(columns.reasoning_tokens).label("reasoning_tokens"),
        sa.func.coalesce(sa.func.sum(columns.cost_nano), 0).label("cost_nano"),
        sa.func.coalesce(sa.func.sum(is_unknown), 0).label("unknown_cost_calls"),
    ]


def _totals(row: sa.RowMapping) -> Totals:
    # SQLAlchemy's names are a kind of `str` of their own.
    return msgspec.convert({str(name): value for name, value in row.items()}, Totals)


@contextmanager
def _connected(url: str) -> Iterator[sa.Connection]:
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    try:
        with engine.connect() as connection:
            yield connection
    except DBAPIError as error:
        raise StoreUnavailable(f"The ledger {url} cannot be read: {error.orig}.") from error
    finally:
        engine.dispose()
