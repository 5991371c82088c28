from itertools import product
from typing import get_args

import pytest

from tollhouse.local.lifecycle import TRANSITIONS, Event, IllegalTransition, Restarts, State, advance

STATES: tuple[State, ...] = get_args(State)
EVENTS: tuple[Event, ...] = get_args(Event)


def test_every_step_is_in_the_table_or_is_refused_by_name() -> None:
    for state, event in product(STATES, EVENTS):
        if (state, event) in TRANSITIONS:
            assert advance(state, event) in STATES
        else:
            with pytest.raises(IllegalTransition, match=rf"'{event}'.*'{state}'"):
                advance(state, event)


def test_every_state_can_be_reached_and_left_to_stopped() -> None:
    def reachable(start: State) -> set[State]:
        seen = {start}
        while more := {new for (old, _), new in TRANSITIONS.items() if old in seen} - seen:
            seen |= more
        return seen

    assert reachable("stopped") == set(STATES)
    assert all("stopped" in reachable(state) for state in STATES)
    assert all((state, "stop") in TRANSITIONS for state in STATES)


def test_waits_grow_to_a_cap_and_end() -> None:
    policy = Restarts(first_delay_seconds=1, longest_delay_seconds=5, limit=5)
    assert [policy.delay_seconds(deaths) for deaths in range(1, 7)] == [1, 2, 4, 5, 5, None]


def test_a_process_that_served_long_enough_starts_afresh() -> None:
    policy = Restarts(healthy_seconds=60)
    assert policy.deaths_in_a_row(7, served_seconds=59.9) == 8
    assert policy.deaths_in_a_row(7, served_seconds=60.0) == 1
