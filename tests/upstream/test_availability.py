"""Signs of life: states, windows, and what is told of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollhouse.upstream.availability import DOWN_AFTER_FAILURES, MAX_SAMPLES, Availability, Change, State


def test_states_follow_the_signs_and_every_change_is_told_once_with_its_cause():
    seen = Availability(0.0)

    changes = [
        seen.answered(1.0, 0.01),
        seen.answered(2.0, 0.01),
        seen.missed(3.0, "timed_out"),
        seen.missed(4.0, "timed_out"),
        seen.missed(5.0, "connection_refused"),
        seen.missed(6.0, "connection_refused"),
        seen.answered(7.0, 0.02),
    ]

    assert changes == [
        Change(State.UNKNOWN, State.UP, "", 1.0),
        None,
        Change(State.UP, State.DEGRADED, "timed_out", 2.0),
        None,
        Change(State.DEGRADED, State.DOWN, "connection_refused", 2.0),
        None,
        Change(State.DOWN, State.UP, "", 2.0),
    ]


def test_what_was_never_up_is_down_at_once():
    seen = Availability(0.0)

    assert seen.missed(1.0, "connection_refused") == Change(State.UNKNOWN, State.DOWN, "connection_refused", 1.0)


def test_one_missed_sign_is_no_outage():
    seen = Availability(0.0)
    for turn in range(20):
        seen.answered(2.0 * turn, 0.01)
        seen.missed(2.0 * turn + 1, "timed_out")

    assert seen.state is State.DEGRADED


def test_windows_hold_their_stretch_of_time_and_no_more():
    seen = Availability(0.0)
    seen.missed(0.0, "timed_out")
    for second in range(100, 400, 10):
        seen.answered(float(second), 0.010)
    seen.missed(400.0, "timed_out")
    for second in range(410, 460, 10):
        seen.answered(float(second), 0.030)

    windows = seen.report(459.0).windows

    assert (windows["1m"].signs, windows["1m"].availability) == (6, round(5 / 6, 4))
    assert (windows["1m"].p50_ms, windows["1m"].p95_ms) == (30.0, 30.0)
    assert windows["5m"].signs == 30
    assert windows["1h"].signs == 37
    assert windows["1h"].availability == round(35 / 37, 4)
    assert windows["1h"].p50_ms == 10.0


def test_nothing_seen_is_not_all_well():
    report = Availability(5.0).report(6.5)

    assert (report.state, report.in_state_seconds, report.last_response_ms) == ("unknown", 1.5, None)
    assert all((window.signs, window.availability) == (0, None) for window in report.windows.values())


def test_a_report_says_when_it_was_last_well_and_what_went_wrong():
    seen = Availability(0.0)
    seen.answered(10.0, 0.004)
    seen.missed(40.0, "timed_out")

    report = seen.report(41.0)

    assert (report.last_answer_seconds_ago, report.last_response_ms, report.last_error) == (31.0, 4.0, "timed_out")


@given(st.lists(st.booleans(), max_size=60))
def test_the_state_is_what_the_last_signs_say(signs: list[bool]):
    seen = Availability(0.0)
    for second, answered in enumerate(signs):
        if answered:
            seen.answered(float(second), 0.001)
        else:
            seen.missed(float(second), "timed_out")

    missed = next((count for count, answered in enumerate(reversed(signs)) if answered), len(signs))
    if not signs:
        assert seen.state is State.UNKNOWN
    elif missed == 0:
        assert seen.state is State.UP
    elif missed >= DOWN_AFTER_FAILURES or missed == len(signs):
        assert seen.state is State.DOWN
    else:
        assert seen.state is State.DEGRADED


@pytest.mark.parametrize("count", [MAX_SAMPLES + 500])
def test_memory_is_bounded(count: int):
    seen = Availability(0.0)
    for second in range(count):
        seen.answered(float(second), 0.001)

    assert seen.report(float(count)).windows["1h"].signs <= MAX_SAMPLES
