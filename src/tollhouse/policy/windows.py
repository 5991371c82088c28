"""The windows of budgets: hours, days, weeks and months of UTC, and one that never ends."""

import calendar
from datetime import datetime, timedelta
from typing import Final, assert_never

import msgspec

from tollhouse.config.schema import Period
from tollhouse.ledger.moments import moment_at, us_of


class Window(msgspec.Struct, frozen=True):
    """One window; times are microseconds since the epoch."""

    label: str
    """Unique among the windows of its period, and readable: `2026-11`, `2026-W47`, `2026-11-21T15`."""
    from_us: int
    ends_at_us: int | None
    """The first moment after it; `None` for the window that never ends."""


FOREVER: Final = Window("ever", 0, None)


def window(period: Period, at_us: int) -> Window:
    """The window of a period that a moment lies in.  Weeks are ISO weeks, which begin on Monday."""
    at = moment_at(at_us)
    match period:
        case "hour":
            begin = at.replace(minute=0, second=0, microsecond=0)
            return _window(f"{begin:%Y-%m-%dT%H}", begin, timedelta(hours=1))
        case "day":
            begin = _midnight(at)
            return _window(f"{begin:%Y-%m-%d}", begin, timedelta(days=1))
        case "week":
            begin = _midnight(at) - timedelta(days=at.weekday())
            year, week, _ = begin.isocalendar()
            return _window(f"{year}-W{week:02}", begin, timedelta(weeks=1))
        case "month":
            begin = _midnight(at).replace(day=1)
            return _window(f"{begin:%Y-%m}", begin, timedelta(days=calendar.monthrange(at.year, at.month)[1]))
        case "total":
            return FOREVER
        case _:
            assert_never(period)


def _midnight(at: datetime) -> datetime:
    return at.replace(hour=0, minute=0, second=0, microsecond=0)


def _window(label: str, begin: datetime, length: timedelta) -> Window:
    return Window(label, us_of(begin), us_of(begin + length))
