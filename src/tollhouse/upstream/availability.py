"""How reachable another Tollhouse is, from signs of life that are asked for at regular times: a small state machine and its
memory.  Without I/O and without a clock.

The client keeps one of these for its gateway, and a gateway one for each Tollhouse behind it.
"""

import enum
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

WINDOWS: Final[Mapping[str, float]] = {"1m": 60.0, "5m": 300.0, "1h": 3600.0}
"""What availability is told over, in seconds."""
DOWN_AFTER_FAILURES: Final = 3
"""Failures in a row after which it counts as down."""
MAX_SAMPLES: Final = 3600
"""Bound on what is remembered: the longest window at one sample a second."""


class State(enum.Enum):
    """What the last signs of life come to."""

    UNKNOWN = "unknown"
    """Not asked yet."""
    UP = "up"
    DEGRADED = "degraded"
    """It was up, and the last signs are missing."""
    DOWN = "down"


class Sign(enum.Enum):
    """One sign of life, or the lack of it."""

    ANSWERED = "answered"
    MISSED = "missed"
    MISSED_AGAIN = "missed_again"
    """The `DOWN_AFTER_FAILURES`th in a row, or a later one."""


_NEXT: Final[dict[tuple[State, Sign], State]] = {
    **{(state, Sign.ANSWERED): State.UP for state in State},
    **{(state, Sign.MISSED_AGAIN): State.DOWN for state in State},
    (State.UNKNOWN, Sign.MISSED): State.DOWN,
    (State.UP, Sign.MISSED): State.DEGRADED,
    (State.DEGRADED, Sign.MISSED): State.DEGRADED,
    (State.DOWN, Sign.MISSED): State.DOWN,
}


@dataclass(frozen=True, slots=True)
class Change:
    """A change of state, to be told."""

    before: State
    now: State
    cause: str
    """The code of the error that led there; empty when it is up again."""
    seconds_in_state: float
    """How long the former state lasted."""


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """What one stretch of time came to; `None` where there was no sign in it."""

    signs: int
    availability: float | None
    """The part of them that was answered, 0 to 1."""
    p50_ms: float | None
    """Response times of those that were answered."""
    p95_ms: float | None


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """How it is, for people and for `GET /health`."""

    state: str
    in_state_seconds: float
    last_error: str | None
    """The code of the last failure; kept after it is up again."""
    last_answer_seconds_ago: float | None
    last_response_ms: float | None
    windows: dict[str, Window]
    """By the names of `WINDOWS`."""


class Availability:
    """The memory.  Times are of one monotonic clock, in seconds.  Not for more than one thread that notes."""

    __slots__ = ("_failures", "_last_answer", "_last_error", "_samples", "_since", "state")

    def __init__(self, now: float) -> None:
        self.state = State.UNKNOWN
        self._since = now
        self._failures = 0
        self._last_error: str | None = None
        self._last_answer: tuple[float, float] | None = None
        self._samples: deque[tuple[float, float | None]] = deque(maxlen=MAX_SAMPLES)
        """When, and after how many seconds there was an answer; `None` for none."""

    def answered(self, now: float, seconds: float) -> Change | None:
        """Takes in an answer; gives a change of state, if it is one."""
        self._failures = 0
        self._samples.append((now, seconds))
        self._last_answer = (now, seconds)
        return self._become(_NEXT[self.state, Sign.ANSWERED], now, "")

    def missed(self, now: float, cause: str) -> Change | None:
        """Takes in that there was none; `cause` is a stable code."""
        self._failures += 1
        self._samples.append((now, None))
        self._last_error = cause
        sign = Sign.MISSED_AGAIN if self._failures >= DOWN_AFTER_FAILURES else Sign.MISSED
        return self._become(_NEXT[self.state, sign], now, cause)

    def report(self, now: float) -> Report:
        """How it is now.  From any thread."""
        # In the opposite order of their noting: whoever reads that it is up finds the sign by which it is.
        state = self.state.value
        answer = self._last_answer
        samples = tuple(self._samples)
        return Report(
            state=state,
            in_state_seconds=round(max(0.0, now - self._since), 3),
            last_error=self._last_error,
            last_answer_seconds_ago=None if answer is None else round(max(0.0, now - answer[0]), 3),
            last_response_ms=None if answer is None else round(answer[1] * 1000, 3),
            windows={
                name: _window([seconds for at, seconds in samples if now - at <= length])
                for name, length in WINDOWS.items()
            },
        )

    def _become(self, state: State, now: float, cause: str) -> Change | None:
        if state is self.state:
            return None
        change = Change(self.state, state, cause, max(0.0, now - self._since))
        self.state, self._since = state, now
        return change


def _window(signs: Iterable[float | None]) -> Window:
    every = list(signs)
    answered = sorted(seconds for seconds in every if seconds is not None)
    return Window(
        signs=len(every),
        availability=round(len(answered) / len(every), 4) if every else None,
        p50_ms=_quantile(answered, 0.5),
        p95_ms=_quantile(answered, 0.95),
    )


def _quantile(ordered: list[float], part: float) -> float | None:
    """The nearest-rank quantile, in milliseconds."""
    if not ordered:
        return None
    rank = max(0, -(-int(len(ordered) * part * 1000) // 1000) - 1)
    return round(ordered[min(rank, len(ordered) - 1)] * 1000, 3)
