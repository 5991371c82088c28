"""Whether a call may be made now: limits and budgets, behind one small interface.

A call is admitted before it is sent, which may reserve what it can cost at worst (a hold); it is settled once, with what it
did cost.  Every way of the pipeline ends in `settle`, also a client that left and a provider that never answered.
"""

from typing import Protocol

import msgspec

from tollhouse.policy.identity import Principal


class Ask(msgspec.Struct, frozen=True):
    """What a call wants, as far as it is known before it is sent."""

    principal: Principal
    model: str
    """The alias or model that the client named."""
    body_bytes: int
    max_output_tokens: int | None
    choices: int


class Hold(Protocol):
    """A reservation.  `settle` is called exactly once."""

    def settle(self, *, cost_nano: int | None, input_tokens: int | None, output_tokens: int | None) -> None:
        """Replaces what was reserved by what was used; `None` means that it is not known."""
        ...


class Admission(Protocol):
    """Lets calls in."""

    def admit(self, ask: Ask) -> Hold:
        """Raises `RateLimited`, `BudgetExceeded` or `PermissionDenied`."""
        ...


class _NoHold:
    __slots__ = ()

    def settle(self, *, cost_nano: int | None, input_tokens: int | None, output_tokens: int | None) -> None:
        pass


class Unlimited:
    """Admits everything and reserves nothing."""

    __slots__ = ()
    _HOLD = _NoHold()

    def admit(self, ask: Ask) -> Hold:
        """Never refuses."""
        del ask
        return self._HOLD
