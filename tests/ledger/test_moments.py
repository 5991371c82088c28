"""Microseconds since the epoch, both ways."""

from datetime import UTC, datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from tollhouse.ledger.moments import EPOCH, moment_at, us_of


@given(st.integers(0, us_of(datetime(9999, 12, 31, tzinfo=UTC))))
def test_a_moment_comes_back_to_the_microsecond(at_us: int):
    assert us_of(moment_at(at_us)) == at_us


def test_the_zone_of_a_moment_counts():
    assert us_of(EPOCH.astimezone(timezone(timedelta(hours=5)))) == 0
    assert moment_at(1).tzinfo is UTC
