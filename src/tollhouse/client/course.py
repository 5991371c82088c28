"""What follows a failed try, decided without I/O.

A call has *legs*: the gateway, and after it, where that was asked for in so many words, the providers.  On a leg there are
models, in the caller's order.  After an error there are four moves, and the table says which of them an error allows:

- `AGAIN`: the same model after a wait, because the call was certainly not begun (no connection, 429, 503 with a wait);
- `NEXT`: the next model, because this one cannot answer it and another may;
- `ELSEWHERE`: the next leg, because the gateway is down;
- none: the error is the call's.

All of this is about calls of which nothing was delivered; after the first content there is no move at all.
"""

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from tollhouse.client.failures import (
    AnswerBroken,
    CallFailed,
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
    Unreachable,
)
from tollhouse.client.settings import Mode
from tollhouse.upstream.failure import backoff_seconds

LONGEST_WAIT_SECONDS: Final = 20.0
"""A server that asks for a longer wait is not waited for: the caller decides."""


class Move(enum.Enum):
    """What may follow an error."""

    AGAIN = "again"
    NEXT = "next"
    ELSEWHERE = "elsewhere"


_ALLOWED: Final[tuple[tuple[type[CallFailed], frozenset[Move]], ...]] = (
    (ServerBusy, frozenset({Move.AGAIN, Move.ELSEWHERE})),
    (OverLimit, frozenset({Move.AGAIN, Move.NEXT})),
    (OverBudget, frozenset({Move.NEXT})),
    (NoSuchModel, frozenset({Move.NEXT})),
    (NotAllowed, frozenset({Move.NEXT})),
    (ProviderFailed, frozenset({Move.NEXT})),
    (AnswerBroken, frozenset({Move.NEXT})),
    (ServerFailed, frozenset()),
    (NotSpoken, frozenset()),
)
"""By type; what is not named allows nothing.  `moves` has the rest of the rules."""


_UNCONNECTED: Final[dict[Mode, frozenset[Move]]] = {
    "proxy": frozenset({Move.AGAIN, Move.ELSEWHERE}),
    "direct": frozenset({Move.AGAIN, Move.NEXT}),
}


def moves(error: CallFailed, mode: Mode) -> frozenset[Move]:
    """What an error allows, on a leg of that mode."""
    is_unconnected = isinstance(error, Unreachable) or (isinstance(error, TimedOut) and error.phase == "connect")
    if is_unconnected:
        # Each model may be another provider's, with an address of its own; a gateway has one for all.
        return _UNCONNECTED[mode]
    if isinstance(error, TimedOut):
        return frozenset() if error.phase == "total" else frozenset({Move.NEXT})
    if isinstance(error, NotAuthenticated):
        return frozenset({Move.NEXT}) if mode == "direct" else frozenset()
    if isinstance(error, ProviderFailed) and error.status == 503 and error.retry_after_seconds is not None:
        allowed = frozenset({Move.AGAIN, Move.NEXT})
    else:
        allowed = next((each for kind, each in _ALLOWED if isinstance(error, kind)), frozenset())
    # Retries over retries would multiply, and the waits between them.
    return allowed - {Move.AGAIN} if error.is_relayed else allowed


@dataclass(frozen=True, slots=True)
class Try:
    """One try: which leg, which model, after which wait."""

    mode: Mode
    model: str
    wait_seconds: float = 0.0


class Course:
    """The way of one call."""

    __slots__ = (
        "_again",
        "_deadline",
        "_leg",
        "_legs",
        "_model",
        "_models",
        "_random",
        "_retries",
        "attempts",
        "cause",
    )

    def __init__(
        self,
        legs: Sequence[Mode],
        models: Sequence[str],
        *,
        retries: int,
        deadline: float,
        random: Callable[[], float],
    ) -> None:
        """`legs` and `models` have at least one each; `deadline` is of the clock that `after` is given."""
        self._legs = legs
        self._models = models
        self._retries = retries
        self._deadline = deadline
        self._random = random
        self._leg = 0
        self._model = 0
        self._again = 0
        self.attempts = 1
        """Tries so far, the current one included."""
        self.cause = ""
        """The code of the error that led away from the first model or the first leg."""

    @property
    def current(self) -> Try:
        """What to try now."""
        return Try(self._legs[self._leg], self._models[self._model])

    @property
    def is_other_model(self) -> bool:
        """Whether the current model is not the one that was asked for."""
        return self._model > 0

    @property
    def is_elsewhere(self) -> bool:
        """Whether the first leg was given up."""
        return self._leg > 0

    def remaining(self, now: float) -> float:
        """Seconds left for everything."""
        return max(0.0, self._deadline - now)

    def after(self, error: CallFailed, now: float) -> Try | None:
        """What follows a failed try; `None` when its error is the call's."""
        allowed = moves(error, self._legs[self._leg])
        if now >= self._deadline:
            return None
        if Move.NEXT in allowed and self._model + 1 < len(self._models):
            return self._go(error, self._leg, self._model + 1)
        if Move.AGAIN in allowed and self._again < self._retries:
            wait = self._wait(error)
            if wait is not None and now + wait < self._deadline:
                self._again += 1
                self.attempts += 1
                return Try(self._legs[self._leg], self._models[self._model], wait)
        if Move.ELSEWHERE in allowed and self._leg + 1 < len(self._legs):
            return self._go(error, self._leg + 1, 0)
        return None

    def _go(self, error: CallFailed, leg: int, model: int) -> Try:
        self._leg, self._model, self._again = leg, model, 0
        self.attempts += 1
        self.cause = error.code
        return self.current

    def _wait(self, error: CallFailed) -> float | None:
        told = error.retry_after_seconds or 0.0
        if told > LONGEST_WAIT_SECONDS:
            return None
        return max(told, backoff_seconds(self._again + 1, self._random))
