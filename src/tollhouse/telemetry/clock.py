"""Times as text."""

from datetime import UTC, datetime
from functools import lru_cache


def iso_utc(at_us: int) -> str:
    """Microseconds since the epoch as RFC 3339 in UTC with milliseconds: `2026-11-21T12:00:00.123Z`."""
    return "%s.%03dZ" % (_whole(at_us // 1_000_000), at_us // 1000 % 1000)  # noqa: UP031 - half the time, for each line


@lru_cache(maxsize=8)  # many lines share a second, and calendars are slow
def _whole(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}"
