"""Rates in the headers that the vendors' own clients read, to the letter."""

import re
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollhouse.dialects import anthropic, openai_chat
from tollhouse.dialects.quotas import anthropic_headers, openai_headers
from tollhouse.errors import Quota

NOON = 1_795_262_400.0
"""21 November 2026, 12:00 UTC."""
QUOTAS = (Quota("requests", 60, 59, 1.0), Quota("tokens", 200_000, 0, 60.0))


def test_openais_are_durations():
    assert [*openai_headers(QUOTAS, NOON)] == [
        (b"x-ratelimit-limit-requests", b"60"),
        (b"x-ratelimit-remaining-requests", b"59"),
        (b"x-ratelimit-reset-requests", b"1s"),
        (b"x-ratelimit-limit-tokens", b"200000"),
        (b"x-ratelimit-remaining-tokens", b"0"),
        (b"x-ratelimit-reset-tokens", b"1m0s"),
    ]


def test_anthropics_are_moments():
    assert [*anthropic_headers(QUOTAS, NOON)] == [
        (b"anthropic-ratelimit-requests-limit", b"60"),
        (b"anthropic-ratelimit-requests-remaining", b"59"),
        (b"anthropic-ratelimit-requests-reset", b"2026-11-21T12:00:01Z"),
        (b"anthropic-ratelimit-tokens-limit", b"200000"),
        (b"anthropic-ratelimit-tokens-remaining", b"0"),
        (b"anthropic-ratelimit-tokens-reset", b"2026-11-21T12:01:00Z"),
    ]


@pytest.mark.parametrize("dialect", [openai_chat.DIALECT, anthropic.DIALECT])
def test_without_rates_there_are_no_headers(dialect: object):
    assert not dialect.encode_quotas((), NOON)  # type: ignore[attr-defined]  # both are dialects


def test_each_dialect_has_its_own():
    assert openai_chat.DIALECT.encode_quotas(QUOTAS, NOON) == openai_headers(QUOTAS, NOON)
    assert anthropic.DIALECT.encode_quotas(QUOTAS, NOON) == anthropic_headers(QUOTAS, NOON)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, b"0ms"),
        (-1.0, b"0ms"),
        (0.0001, b"1ms"),
        (0.12, b"120ms"),
        (0.999, b"999ms"),
        (0.9995, b"1s"),
        (1.0, b"1s"),
        (1.001, b"2s"),
        (59.0, b"59s"),
        (59.5, b"1m0s"),
        (60.0, b"1m0s"),
        (359.2, b"6m0s"),
        (3_599.0, b"59m59s"),
        (3_600.0, b"1h0m0s"),
        (86_399.5, b"24h0m0s"),
        (45_296.0, b"12h34m56s"),
    ],
)
def test_a_duration_is_written_as_go_does_and_rounded_up(seconds: float, text: bytes):
    headers = dict(openai_headers([Quota("tokens", 1, 0, seconds)], NOON))
    assert headers[b"x-ratelimit-reset-tokens"] == text


GO = re.compile(rb"(?:(\d+)h)?(?:(\d+)m)?(\d+)s|(\d+)ms")


@given(st.floats(0, 86_400))
def test_who_waits_as_long_as_is_said_has_waited_long_enough(seconds: float):
    headers = dict(openai_headers([Quota("requests", 1, 0, seconds)], NOON))
    said = GO.fullmatch(headers[b"x-ratelimit-reset-requests"])
    assert said is not None
    hours, minutes, whole, milli = (int(part or 0) for part in said.groups())
    told = hours * 3_600 + minutes * 60 + whole + milli / 1_000
    assert seconds - 1e-9 <= told < seconds + 1
    (moment,) = (
        value for name, value in anthropic_headers([Quota("requests", 1, 0, seconds)], NOON) if b"reset" in name
    )
    at = datetime.fromisoformat(moment.decode()).timestamp()
    assert NOON + seconds - 1e-6 <= at < NOON + seconds + 1
