"""What follows a failed try: the table, its bounds, and that nothing unsafe is ever sent twice."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollhouse.client.course import LONGEST_WAIT_SECONDS, Course, Move, Try, moves
from tollhouse.client.failures import (
    AnswerBroken,
    BadCall,
    CallFailed,
    ConnectionRefused,
    NoSuchModel,
    NotAllowed,
    NotAuthenticated,
    NotSpoken,
    OverBudget,
    OverLimit,
    ProviderFailed,
    ServerBusy,
    ServerFailed,
    TimedOut,
    TlsFailed,
    Unreachable,
    VersionMismatch,
)
from tollhouse.client.settings import Mode

A, N, E = Move.AGAIN, Move.NEXT, Move.ELSEWHERE

REFUSED = ConnectionRefused("Nobody is there.")
BROKEN = ProviderFailed("It broke.", status=502)
TABLE: Sequence[tuple[CallFailed, set[Move], set[Move]]] = (
    # the error; what it allows through a gateway; what straight to a provider
    (REFUSED, {A, E}, {A, N}),
    (Unreachable("x"), {A, E}, {A, N}),
    (TlsFailed("x"), set(), set()),
    (TimedOut("x", phase="connect"), {A, E}, {A, N}),
    (TimedOut("x", phase="first_byte"), {N}, {N}),
    (TimedOut("x", phase="total"), set(), set()),
    (ServerBusy("x"), {A, E}, {A, E}),
    (OverLimit("x"), {A, N}, {A, N}),
    (OverBudget("x"), {N}, {N}),
    (NoSuchModel("x", model="m"), {N}, {N}),
    (NotAuthenticated("x"), set(), {N}),
    (NotAllowed("x"), {N}, {N}),
    (BROKEN, {N}, {N}),
    (ProviderFailed("x", status=503), {N}, {N}),
    (ProviderFailed("x", status=503, retry_after_seconds=1), {A, N}, {A, N}),
    (AnswerBroken("x"), {N}, {N}),
    (BadCall("x"), set(), set()),
    (ServerFailed("x"), set(), set()),
    (VersionMismatch("x"), set(), set()),
    (NotSpoken("x"), set(), set()),
)


@pytest.mark.parametrize(("error", "proxied", "direct"), TABLE, ids=lambda value: getattr(value, "code", ""))
def test_an_error_allows_what_the_table_says(error: CallFailed, proxied: set[Move], direct: set[Move]):
    assert moves(error, "proxy") == proxied
    assert moves(error, "direct") == direct


def test_what_a_gateway_has_tried_again_itself_is_not_tried_again():
    for error in (OverLimit("x", retry_after_seconds=1), ProviderFailed("x", status=503, retry_after_seconds=1)):
        error.is_relayed = True
        assert moves(error, "proxy") == {N}


def course(
    *models: str, legs: Sequence[Mode] = ("proxy",), retries: int = 2, deadline: float = 100.0, random: float = 0.5
) -> Course:
    return Course(legs, models or ("m",), retries=retries, deadline=deadline, random=lambda: random)


def test_a_refused_connection_is_tried_again_with_growing_waits_and_then_given_up():
    way = course(retries=3)

    tries = [way.after(REFUSED, 0.0) for _ in range(4)]

    assert tries == [Try("proxy", "m", 0.125), Try("proxy", "m", 0.25), Try("proxy", "m", 0.5), None]
    assert way.attempts == 4


def test_no_retries_means_none():
    assert course(retries=0).after(REFUSED, 0.0) is None


def test_a_wait_that_was_asked_for_is_kept_and_a_longer_one_is_the_callers_to_decide():
    assert course().after(OverLimit("x", retry_after_seconds=3.0), 0.0) == Try("proxy", "m", 3.0)
    assert course().after(OverLimit("x", retry_after_seconds=LONGEST_WAIT_SECONDS + 1), 0.0) is None


def test_nothing_is_waited_for_past_the_deadline():
    assert course(deadline=2.0).after(OverLimit("x", retry_after_seconds=3.0), 0.0) is None
    assert course(deadline=2.0).after(BROKEN, 2.0) is None


def test_the_next_model_is_asked_at_once_and_in_order():
    way = course("a", "b", "c")

    assert way.after(BROKEN, 0.0) == Try("proxy", "b")
    assert way.after(OverLimit("x", retry_after_seconds=60), 0.0) == Try("proxy", "c")
    assert way.after(BROKEN, 0.0) is None
    assert (way.attempts, way.is_other_model, way.cause) == (3, True, "over_limit")


def test_a_dead_gateway_is_no_reason_to_ask_it_for_another_model():
    way = course("a", "b", retries=0)

    assert way.after(REFUSED, 0.0) is None


def test_providers_are_asked_directly_only_where_that_is_a_leg_and_from_the_first_model_on():
    way = course("a", "b", legs=("proxy", "direct"), retries=1)
    way.after(BROKEN, 0.0)

    assert way.after(REFUSED, 0.0) == Try("proxy", "b", 0.125)
    assert way.after(REFUSED, 0.0) == Try("direct", "a")
    assert way.is_elsewhere
    assert way.after(REFUSED, 0.0) == Try("direct", "b")


@pytest.mark.parametrize("error", [TlsFailed("x"), NotAuthenticated("x"), ServerFailed("x"), OverBudget("x"), BROKEN])
def test_only_a_gateway_that_is_down_is_gone_around(error: CallFailed):
    assert course(legs=("proxy", "direct")).after(error, 0.0) is None


@given(
    errors=st.lists(st.sampled_from([error for error, _, _ in TABLE]), max_size=30),
    models=st.integers(1, 4),
    retries=st.integers(0, 4),
    legs=st.sampled_from([("proxy",), ("direct",), ("proxy", "direct")]),
)
def test_a_call_always_comes_to_an_end(errors: list[CallFailed], models: int, retries: int, legs: tuple[Mode, ...]):
    way = course(*(f"m{number}" for number in range(models)), legs=legs, retries=retries)

    tries = 1
    for error in errors:
        if way.after(error, 0.0) is None:
            break
        tries += 1

    assert tries <= len(legs) * models * (1 + retries)
