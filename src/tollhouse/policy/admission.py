"""Whether a call may be made now: limits and budgets, behind one small interface.

A call is admitted before it is sent, which reserves what it can cost at worst (a hold); it is settled once, with what it did
cost.  Every way of the pipeline ends in `settle`, also a client that left and a provider that never answered.
"""

from collections.abc import Callable, Sequence
from typing import Final, Protocol

import msgspec

from tollhouse.errors import Quota
from tollhouse.policy.identity import Principal


class Weight(msgspec.Struct, frozen=True, gc=False):
    """What a call can use."""

    likely_tokens: int
    """Input and output, as they will probably be."""
    most_input_tokens: int
    most_output_tokens: int
    """Over all its choices."""
    worst_nano: int | None
    """What it costs at worst; `None` without a price."""


NO_WEIGHT: Final = Weight(0, 0, 0, 0)
"""Of a call that uses no tokens and costs nothing; it takes a request from the rates all the same."""


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """What a call wants of one candidate, as far as it is known before it is sent."""

    id: str
    """The request id."""
    began_at_us: int
    """Microseconds since the epoch; what budgets' windows go by."""
    principal: Principal
    address: str
    """The caller's IP address; empty when there is none."""
    alias: str
    """The alias or model that the client named."""
    target: str
    """`provider/model` that it is sent to."""
    weigh: Callable[[], Weight]
    """Says how heavy the call is.  Asked only where a limit or a budget wants to know."""
    note: bytes
    """Its ledger row, as far as it is known: what is left of it if this process dies."""


class Hold(Protocol):
    """A reservation.  `settle` is called exactly once."""

    held_nano: int
    """What is held for the worst that the call can cost."""
    waited_seconds: float
    """How long the call waited for its turn."""

    @property
    def quotas(self) -> Sequence[Quota]:
        """The tightest rate of requests and of tokens, for the headers that tell a client of them."""
        ...

    async def extend(self, ask: Ask) -> None:
        """Makes room for another candidate of the same call.  Raises as `admit` does; what is held stays held."""
        ...

    def settle(self, *, cost_nano: int | None, input_tokens: int | None, output_tokens: int | None) -> None:
        """Replaces what was reserved by what was used; `None` means that it is not known."""
        ...


class Admission(Protocol):
    """Lets calls in."""

    async def admit(self, ask: Ask) -> Hold:
        """Raises `RateLimited`, `BudgetExceeded`, `NoPrice`, or `StoreUnavailable`.  May wait for a place."""
        ...

    async def check(self) -> None:
        """Looks after what needs it from time to time; call it about once a second.  Raises `StoreUnavailable`."""
        ...

    async def forget_sums(self) -> None:
        """Has what budgets have spent read from the ledger again: it was rated anew.  Raises `StoreUnavailable`."""
        ...
