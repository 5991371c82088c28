"""One call as the pipeline sees it: what a front door hands in, and where the answer goes."""

from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from tollhouse.dialects.dialect import Dialect
from tollhouse.policy.identity import Principal

Headers = Sequence[tuple[bytes, bytes]]


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """A request that was read and whose caller is known."""

    id: str
    door: str
    """The API family for the ledger and metrics: `openai_chat`, `anthropic`, …"""
    dialect: Dialect[Any]
    """The client's dialect.  (`Any`: traits belong to providers; the client's side has none.)"""
    body: bytes
    headers: Headers
    """The request's headers as they came, names in lower case; the provider decides which few it wants to see."""
    principal: Principal
    address: str
    """The caller's IP address; empty when there is none."""
    arrived: float
    """Monotonic seconds."""
    arrived_at_us: int
    """Wall clock, microseconds since the epoch."""


class Sink(Protocol):
    """Where an answer goes.  A front door frames it; back-pressure is in the awaits."""

    async def head(self, status: int, headers: Headers) -> None:
        """Begins the answer.  Called once, before `body`."""
        ...

    async def body(self, data: bytes, *, more: bool) -> None:
        """Sends bytes; `more=False` is the end of the answer."""
        ...
