"""A provider's state follows from how its calls ended."""

import itertools

import pytest

from tollhouse.errors import (
    BadRequest,
    ConnectFailed,
    ProviderRefused,
    StreamFailed,
    TollhouseError,
    UpstreamTimeout,
    UpstreamTooLarge,
)
from tollhouse.upstream.health import _NEXT, DOWN_AFTER_FAULTS, HealthBook, Signal, State, signal

FAULT = ConnectFailed("x")


def states(*errors: TollhouseError | None) -> list[str]:
    book = HealthBook(["p"])
    return [book.note("p", error, now_seconds=float(number)).value for number, error in enumerate(errors)]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (None, Signal.SUCCESS),
        (ProviderRefused("x", status=400), Signal.SUCCESS),
        (ProviderRefused("x", status=404), Signal.SUCCESS),
        (ProviderRefused("x", status=401), Signal.REJECTED),
        (ProviderRefused("x", status=429), Signal.REJECTED),
        (ProviderRefused("x", status=529), Signal.FAULT),
        (StreamFailed("x"), Signal.FAULT),
        (UpstreamTimeout("x", phase="first_byte"), Signal.FAULT),
        (UpstreamTooLarge("x"), Signal.NOTHING),
        (BadRequest("x"), Signal.NOTHING),
    ],
)
def test_what_an_end_says_about_the_provider(error: TollhouseError | None, expected: Signal):
    assert signal(error) is expected


def test_the_table_has_a_rule_for_every_state_and_signal():
    assert set(_NEXT) == set(itertools.product(State, Signal))


def test_faults_degrade_and_then_bring_down_and_one_success_heals():
    assert states(None, *[FAULT] * DOWN_AFTER_FAULTS, FAULT, None) == (
        ["healthy"] + ["degraded"] * (DOWN_AFTER_FAULTS - 1) + ["down", "down", "healthy"]
    )


def test_only_faults_in_a_row_bring_down():
    assert "down" not in states(*[*[FAULT] * (DOWN_AFTER_FAULTS - 1), None] * 3)
    assert "down" not in states(*[*[FAULT] * (DOWN_AFTER_FAULTS - 1), ProviderRefused("x", status=429)] * 3)


def test_our_own_mistakes_change_nothing():
    assert states(BadRequest("x"), None, BadRequest("x"), FAULT, BadRequest("x")) == [
        "unknown",
        "healthy",
        "healthy",
        "degraded",
        "degraded",
    ]


def test_the_snapshot_says_what_people_need():
    book = HealthBook(["one", "two"])
    book.note("one", None, now_seconds=5.0)
    book.note("one", UpstreamTimeout("x", phase="total"), now_seconds=6.0)
    one, two = book.snapshot()
    assert (one.provider, one.state, one.consecutive_faults, one.last_error, one.last_success_at_seconds) == (
        "one",
        "degraded",
        1,
        "provider_timeout",
        5.0,
    )
    assert (two.provider, two.state, two.last_error, two.last_success_at_seconds) == ("two", "unknown", None, None)
    assert book.state("two") is State.UNKNOWN


def test_a_provider_that_is_not_configured_is_not_taken_in():
    with pytest.raises(KeyError):
        HealthBook(["p"]).note("q", None, now_seconds=0.0)
