"""What we know of each provider from how its calls ended: a small state machine, its table, and a snapshot.

Nothing here sends a probe or holds calls back; it tells people (`GET /health`) and may be asked by routing.
"""

import enum
from collections.abc import Iterable
from typing import Final

import msgspec

from tollhouse.errors import (
    ConnectFailed,
    ConnectionLost,
    ProviderError,
    StreamFailed,
    TollhouseError,
    UpstreamMalformed,
    UpstreamTimeout,
    UpstreamTruncated,
)

DOWN_AFTER_FAULTS: Final = 5
"""Faults in a row after which a provider counts as down."""
MAX_PROVIDERS: Final = 1000
"""Bound of a snapshot; configurations are far below it."""


class State(enum.Enum):
    """A provider's state."""

    UNKNOWN = "unknown"
    """Not called since the start."""
    HEALTHY = "healthy"
    DEGRADED = "degraded"
    """Calls fail, or it refuses our credential or our rate."""
    DOWN = "down"
    """Nothing but faults lately."""


class Signal(enum.Enum):
    """What the end of one call says about the provider."""

    SUCCESS = "success"
    """It answered, be it with a refusal of this one request."""
    REJECTED = "rejected"
    """It is there and turns us away: credential, quota, rate."""
    FAULT = "fault"
    """It could not be reached, broke off, or failed inside."""
    REPEATED_FAULT = "repeated_fault"
    """The `DOWN_AFTER_FAULTS`th fault in a row, or a later one."""
    NOTHING = "nothing"
    """The call ended by our own or our caller's doing."""


_NEXT: Final[dict[tuple[State, Signal], State]] = {
    **{(state, Signal.SUCCESS): State.HEALTHY for state in State},
    **{(state, Signal.REJECTED): State.DEGRADED for state in State},
    **{(state, Signal.NOTHING): state for state in State},
    **{(state, Signal.REPEATED_FAULT): State.DOWN for state in State},
    (State.UNKNOWN, Signal.FAULT): State.DEGRADED,
    (State.HEALTHY, Signal.FAULT): State.DEGRADED,
    (State.DEGRADED, Signal.FAULT): State.DEGRADED,
    (State.DOWN, Signal.FAULT): State.DOWN,
}

_HEALTHY: Final = State.HEALTHY
"""By a name of its own: an enumeration looks its members up in Python each time, and this one is asked for at each call."""

_FAULTS: Final = (ConnectFailed, ConnectionLost, UpstreamTimeout, UpstreamTruncated, UpstreamMalformed, StreamFailed)
_REJECTIONS: Final = frozenset({401, 402, 403, 429})


class ProviderHealth(msgspec.Struct, frozen=True, kw_only=True):
    """One provider in a snapshot, as `GET /health` shows it."""

    provider: str
    state: str
    consecutive_faults: int = 0
    last_error: str | None = None
    """The stable code of the latest error that spoke against the provider."""
    last_success_at_seconds: float | None = None
    """Wall clock, since the epoch."""


def signal(error: TollhouseError | None) -> Signal:
    """What a call's end (`None` means that it went well) says about its provider."""
    if error is None:
        return Signal.SUCCESS
    if not isinstance(error, ProviderError):
        return Signal.NOTHING
    if error.status is not None:
        if error.status in _REJECTIONS:
            return Signal.REJECTED
        return Signal.FAULT if error.status >= 500 else Signal.SUCCESS
    return Signal.FAULT if isinstance(error, _FAULTS) else Signal.NOTHING


class HealthBook:
    """The states of all configured providers.  Not for more than one thread."""

    __slots__ = ("_entries",)

    def __init__(self, providers: Iterable[str]) -> None:
        """Knows exactly these providers; all are `unknown` at first."""
        self._entries = {provider: _Entry() for provider in list(providers)[:MAX_PROVIDERS]}

    def note(self, provider: str, error: TollhouseError | None, *, now_seconds: float) -> State:
        """Takes in how a call ended and gives the provider's new state.  `now_seconds`: wall clock, since the epoch.

        Raises `KeyError` for a provider that is not configured.
        """
        entry = self._entries[provider]
        if error is None and entry.state is _HEALTHY and not entry.faults:
            entry.last_success_at_seconds = now_seconds  # what the table comes to for nearly every call
            return _HEALTHY
        said = signal(error)
        if said is Signal.FAULT:
            entry.faults += 1
            if entry.faults >= DOWN_AFTER_FAULTS:
                said = Signal.REPEATED_FAULT
        elif said is not Signal.NOTHING:
            entry.faults = 0
        if said is Signal.SUCCESS:
            entry.last_success_at_seconds = now_seconds
        elif said is not Signal.NOTHING and error is not None:
            entry.last_error = error.code
        entry.state = _NEXT[entry.state, said]
        return entry.state

    def state(self, provider: str) -> State:
        """The provider's state; `KeyError` for one that is not configured."""
        return self._entries[provider].state

    def snapshot(self) -> tuple[ProviderHealth, ...]:
        """All providers, in the order of the configuration."""
        return tuple(
            ProviderHealth(
                provider=provider,
                state=entry.state.value,
                consecutive_faults=entry.faults,
                last_error=entry.last_error,
                last_success_at_seconds=entry.last_success_at_seconds,
            )
            for provider, entry in self._entries.items()
        )


class _Entry:
    __slots__ = ("faults", "last_error", "last_success_at_seconds", "state")

    def __init__(self) -> None:
        self.state = State.UNKNOWN
        self.faults = 0
        self.last_error: str | None = None
        self.last_success_at_seconds: float | None = None
