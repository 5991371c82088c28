"""Which candidate is tried next, and when: the decision part of failover, without I/O.

Candidates are tried in order.  When the last has failed in a way that may pass, the round starts again after a back-off
(capped, exponential, with full jitter; a provider's Retry-After is honoured), until the number of attempts or the deadline
over all is used up.  A candidate whose credential was refused is not asked twice.  The caller's own mistakes end it at once.
"""

from collections.abc import Callable
from dataclasses import dataclass

from tollhouse.upstream.failure import Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """Bounds of failover; times in seconds."""

    max_attempts: int = 4
    backoff_base: float = 0.25
    backoff_cap: float = 8.0
    longest_retry_after: float = 20.0
    """A longer wait is the client's to decide about: the error goes out with its Retry-After."""
    total: float = 600.0
    """Deadline over all attempts and waits of one call."""


@dataclass(frozen=True, slots=True)
class Next:
    """Try the plan's `current` candidate after waiting."""

    wait_seconds: float


class Plan:
    """The failover of one call."""

    __slots__ = (
        "_attempts",
        "_count",
        "_current",
        "_deadline",
        "_excluded",
        "_policy",
        "_random",
        "_resumes",
        "_rounds",
    )

    def __init__(self, count: int, policy: RetryPolicy, *, now: float, random: Callable[[], float]) -> None:
        self._count = count
        self._policy = policy
        self._deadline = now + policy.total
        self._random = random
        self._current = 0
        self._attempts = 1
        self._rounds = 0
        self._excluded: set[int] = set()
        self._resumes: dict[int, float] = {}

    @property
    def current(self) -> int:
        """The candidate to try now."""
        return self._current

    def remaining(self, now: float) -> float:
        """Seconds left for everything."""
        return max(0.0, self._deadline - now)

    def after(self, verdict: Verdict, retry_after: float | None, now: float) -> Next | None:
        """What follows a failed attempt, and makes its candidate the `current` one; `None` when the error is the call's."""
        if verdict is Verdict.FINAL or self._attempts >= self._policy.max_attempts:
            return None
        if verdict is Verdict.NEXT_CANDIDATE:
            self._excluded.add(self._current)
        if retry_after is not None:
            self._resumes[self._current] = now + retry_after
        following = self._following()
        if following is None:
            return None
        if following <= self._current:
            self._rounds += 1
        wait = self._wait(following, now) if self._rounds else 0.0
        if wait is None or now + wait >= self._deadline:
            return None
        self._attempts += 1
        self._current = following
        return Next(wait)

    def _following(self) -> int | None:
        for step in range(1, self._count + 1):
            index = (self._current + step) % self._count
            if index not in self._excluded:
                return index
        return None

    def _wait(self, index: int, now: float) -> float | None:
        policy = self._policy
        backoff = min(policy.backoff_cap, policy.backoff_base * 2.0 ** (self._rounds - 1)) * self._random()
        told = self._resumes.get(index, now) - now
        if told > policy.longest_retry_after:
            return None
        return max(backoff, told)
