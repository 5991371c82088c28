"""Which candidate is tried next, and after how long."""

import pytest

from tollhouse.gateway.plan import Plan, RetryPolicy
from tollhouse.upstream.failure import Verdict

AGAIN, NEXT, FINAL = Verdict.RETRY_SAME_OR_NEXT, Verdict.NEXT_CANDIDATE, Verdict.FINAL


def plan(count: int, **policy: float) -> Plan:
    return Plan(count, RetryPolicy(**policy), now=100.0, random=lambda: 1.0)  # type: ignore[arg-type]


def step(p: Plan, verdict: Verdict, retry_after: float | None, now: float) -> tuple[int, float] | None:
    """The candidate that follows a failed attempt, and after how many seconds."""
    following = p.after(verdict, retry_after, now)
    return None if following is None else (p.current, following.wait_seconds)


def test_the_next_candidate_is_tried_at_once():
    assert step(plan(2), AGAIN, None, 100.0) == (1, 0.0)


def test_after_the_last_candidate_the_round_starts_again_with_a_back_off():
    p = plan(2, max_attempts=6, backoff_base=0.5)
    assert [step(p, AGAIN, None, 100.0) for _ in range(4)] == [(1, 0.0), (0, 0.5), (1, 0.5), (0, 1.0)]


def test_a_single_candidate_backs_off_each_time_up_to_the_cap():
    p = plan(1, max_attempts=6, backoff_base=1.0, backoff_cap=3.0)
    waits = [step.wait_seconds for _ in range(5) if (step := p.after(AGAIN, None, 100.0))]
    assert waits == [1.0, 2.0, 3.0, 3.0, 3.0]


def test_the_back_off_has_full_jitter():
    p = Plan(1, RetryPolicy(backoff_base=1.0), now=0.0, random=lambda: 0.25)
    assert step(p, AGAIN, None, 0.0) == (0, 0.25)


def test_the_number_of_attempts_is_bounded():
    p = plan(3, max_attempts=2)
    assert step(p, AGAIN, None, 100.0) == (1, 0.0)
    assert p.after(AGAIN, None, 100.0) is None


def test_the_callers_own_mistake_ends_it_at_once():
    assert plan(3).after(FINAL, None, 100.0) is None


def test_a_candidate_that_refused_our_credential_is_not_asked_twice():
    p = plan(2, max_attempts=9)
    assert step(p, NEXT, None, 100.0) == (1, 0.0)
    assert step(p, AGAIN, None, 100.0) == (1, 0.25)
    assert p.after(NEXT, None, 100.0) is None


def test_retry_after_is_waited_for_before_the_same_candidate_is_asked_again():
    assert step(plan(1), AGAIN, 5.0, 100.0) == (0, 5.0)


def test_retry_after_does_not_hold_up_another_candidate():
    p = plan(2)
    assert step(p, AGAIN, 5.0, 100.0) == (1, 0.0)
    assert step(p, AGAIN, None, 102.0) == (0, 3.0)


def test_a_retry_after_beyond_our_patience_is_the_clients_to_wait_for():
    assert plan(1, longest_retry_after=4.0).after(AGAIN, 5.0, 100.0) is None


def test_no_attempt_begins_after_the_deadline_over_all():
    p = plan(1, total=10.0)
    assert p.remaining(104.0) == pytest.approx(6.0)
    assert p.after(AGAIN, 5.0, 106.0) is None
    assert p.remaining(120.0) == 0.0
