"""The windows of budgets: each moment lies in exactly one of a period's, and they follow on each other without a gap."""

from datetime import UTC, datetime, timedelta, timezone
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollhouse.config.schema import Period
from tollhouse.policy.windows import FOREVER, window

PERIODS: tuple[Period, ...] = get_args(Period)
ENDING = tuple(period for period in PERIODS if period != "total")
LAST_US = 4_102_444_800_000_000
"""The beginning of 2100."""


def us(text: str) -> int:
    """Microseconds of a moment in UTC, as `datetime` reads it."""
    since = datetime.fromisoformat(text).replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    return since // timedelta(microseconds=1)


@pytest.mark.parametrize(
    ("period", "at", "label", "begins", "ends"),
    [
        ("hour", "2026-11-21T15:59:59.999999", "2026-11-21T15", "2026-11-21T15:00", "2026-11-21T16:00"),
        ("hour", "2026-11-21T16:00:00", "2026-11-21T16", "2026-11-21T16:00", "2026-11-21T17:00"),
        ("hour", "2026-12-31T23:30", "2026-12-31T23", "2026-12-31T23:00", "2027-01-01T00:00"),
        ("day", "2026-11-21T00:00", "2026-11-21", "2026-11-21", "2026-11-22"),
        ("day", "2028-02-28T23:59:59.999999", "2028-02-28", "2028-02-28", "2028-02-29"),
        ("day", "2026-12-31T12:00", "2026-12-31", "2026-12-31", "2027-01-01"),
        ("week", "2026-11-21T12:00", "2026-W47", "2026-11-16", "2026-11-23"),
        ("week", "2026-11-22T23:59:59.999999", "2026-W47", "2026-11-16", "2026-11-23"),
        ("week", "2026-11-23T00:00", "2026-W48", "2026-11-23", "2026-11-30"),
        # The year of an ISO week is that of its Thursday.
        ("week", "2024-12-30T00:00", "2025-W01", "2024-12-30", "2025-01-06"),
        ("week", "2024-12-29T23:59:59", "2024-W52", "2024-12-23", "2024-12-30"),
        ("week", "2027-01-01T00:00", "2026-W53", "2026-12-28", "2027-01-04"),
        ("week", "2027-01-03T23:59:59.999999", "2026-W53", "2026-12-28", "2027-01-04"),
        ("week", "2023-01-01T12:00", "2022-W52", "2022-12-26", "2023-01-02"),
        ("month", "2026-11-30T23:59:59.999999", "2026-11", "2026-11-01", "2026-12-01"),
        ("month", "2026-12-31T23:59:59", "2026-12", "2026-12-01", "2027-01-01"),
        ("month", "2027-02-10T00:00", "2027-02", "2027-02-01", "2027-03-01"),
        ("month", "2028-02-29T12:00", "2028-02", "2028-02-01", "2028-03-01"),
        ("month", "2100-02-28T12:00", "2100-02", "2100-02-01", "2100-03-01"),
    ],
)
def test_a_moment_lies_in_the_window_that_people_would_say(period: Period, at: str, label: str, begins: str, ends: str):
    found = window(period, us(at))
    assert (found.label, found.from_us, found.ends_at_us) == (label, us(begins), us(ends))


@pytest.mark.parametrize("at_us", [0, 1, us("2026-11-21T15:00"), LAST_US])
def test_the_total_never_ends(at_us: int):
    assert window("total", at_us) == FOREVER
    assert FOREVER.ends_at_us is None
    assert FOREVER.from_us == 0


@given(st.sampled_from(ENDING), st.integers(0, LAST_US))
def test_windows_hold_their_moments_and_follow_without_gap_or_overlap(period: Period, at_us: int):
    found = window(period, at_us)
    assert found.ends_at_us is not None
    assert found.from_us <= at_us < found.ends_at_us
    assert window(period, found.from_us) == window(period, found.ends_at_us - 1) == found
    after = window(period, found.ends_at_us)
    assert after.from_us == found.ends_at_us
    assert after.label > found.label, "labels sort like time, and no two windows share one"


@given(st.sampled_from(ENDING), st.integers(0, LAST_US))
def test_a_window_has_the_length_of_its_period_whatever_clocks_do_in_spring(period: Period, at_us: int):
    """All is UTC: the hour that a summer time skips and the one that it repeats are hours like others."""
    found = window(period, at_us)
    assert found.ends_at_us is not None
    hours = (found.ends_at_us - found.from_us) / 3_600_000_000
    assert hours in {"hour": {1}, "day": {24}, "week": {168}, "month": {672, 696, 720, 744}}[period]


def test_a_place_with_summer_time_sees_the_same_windows():
    """Two moments an hour apart that a clock in Berlin shows as the same time are in two windows of an hour."""
    berlin_summer, berlin_winter = timezone(timedelta(hours=2)), timezone(timedelta(hours=1))
    first = datetime(2026, 10, 25, 2, 30, tzinfo=berlin_summer)
    second = datetime(2026, 10, 25, 2, 30, tzinfo=berlin_winter)
    labels = [window("hour", int(moment.timestamp()) * 1_000_000).label for moment in (first, second)]
    assert labels == ["2026-10-25T00", "2026-10-25T01"]
