"""Moments as everything is written down with: whole microseconds since the epoch.  Exact both ways, unlike `timestamp()`."""

from datetime import UTC, datetime, timedelta
from typing import Final

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def us_of(moment: datetime) -> int:
    """Microseconds since the epoch of a moment that knows its zone."""
    return (moment - EPOCH) // _MICROSECOND


def moment_at(at_us: int) -> datetime:
    """The moment, in UTC.  Raises `OverflowError` beyond the year 9999."""
    return EPOCH + at_us * _MICROSECOND
