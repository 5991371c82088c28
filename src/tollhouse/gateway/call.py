"""One call as the pipeline sees it: what a front door hands in, and where the answer goes."""

from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

import msgspec

from tollhouse.chat.model import Extra, Request
from tollhouse.dialects.dialect import Dialect, Peek
from tollhouse.dialects.head_lines import Field, Fields
from tollhouse.errors import ModelMissing
from tollhouse.ledger.record import CallRecord, Trace
from tollhouse.policy.admission import Ask, Weight
from tollhouse.policy.identity import Principal

Headers = Fields
Tracing = Callable[[Sequence[Field]], Trace]
"""Finds or makes up a call's place in a trace, by what its caller's headers say."""

MAX_NOTED_CHARACTERS: Final = 200
"""Of what a client calls a model, as the record has it."""
UNNAMED: Final = frozenset({"", "default"})
"""What a client says that leaves the choice of a model to the configuration."""
TIMER_SECONDS: Final = 0.05
"""How much early a timer may be that waited for a deadline."""


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """A request that was read and whose caller is known."""

    id: str
    door: str
    """The API family for the ledger and metrics: `openai_chat`, `anthropic`, …"""
    dialect: Dialect[Any]
    """The client's dialect.  (`Any`: traits belong to providers; the client's side has none.)"""
    body: bytes
    headers: Sequence[Field]
    """The request's headers as they came, names in lower case; the provider decides which few it wants to see."""
    principal: Principal
    address: str
    """The caller's IP address; empty when there is none."""
    arrived: float
    """Monotonic seconds."""
    arrived_at_us: int
    """Wall clock, microseconds since the epoch."""
    model: str | None = None
    """The model, where the request's path names it and its body does not (Gemini)."""
    provider: str | None = None
    """The one provider that may answer, where the path names it."""
    stream: bool | None = None
    """Whether a stream is asked for, where the path says it and the body does not."""
    echo: Extra | None = None
    """What an answer repeats of the request otherwise than it was asked, where a front door does not do what was asked."""
    deadline: float | None = None
    """When the client stops waiting, in monotonic seconds, where it says so (gRPC)."""
    settled: Callable[[CallRecord], None] | None = None
    """Called once, when the record of the call is complete: before the answer's last byte goes to the sink, or before its
    error does.  For front doors whose last message tells what the call used.  Must not raise or block."""

    def is_out_of_time(self, now: float) -> bool:
        """Whether the client's own deadline has come."""
        return self.deadline is not None and now >= self.deadline - TIMER_SECONDS

    def peek(self) -> Peek:
        """The request's top level.  Raises as the dialect does."""
        peek = self.dialect.peek(self.body)
        if self.model is None and self.stream is None and self.provider is None:
            return peek
        return msgspec.structs.replace(
            peek,
            model=self.named(peek.model),
            stream=peek.stream if self.stream is None else self.stream,
        )

    def decode(self) -> Request:
        """The whole request.  Raises as the dialect does."""
        request = self.dialect.decode_request(self.body)
        if self.echo is not None:
            asked = {} if request.echo is None else request.echo.fields
            echo = Extra(self.echo.dialect, {**asked, **self.echo.fields})
            request = msgspec.structs.replace(request, echo=echo)
        if self.model is None and self.stream is None and self.provider is None:
            return request
        return msgspec.structs.replace(
            request,
            model=self.named(request.model),
            stream=request.stream if self.stream is None else self.stream,
        )

    def named(self, model: str) -> str:
        """The model that is asked for, by what the body says: the path's word comes first, and its provider before it.

        Raises `ModelMissing` where the path names a provider, and neither it nor the body a model.
        """
        if self.model is not None:
            model = self.model
        if self.provider is None:
            return model
        if not model:
            raise ModelMissing  # the default may be another provider's
        return f"{self.provider}/{model}"

    def opened(self, tracing: Tracing | None = None) -> CallRecord:
        """The record of this call, as it begins; `tracing` gives it its place in a trace."""
        principal = self.principal
        record = CallRecord(
            id=self.id,
            started_at_us=self.arrived_at_us,
            door=self.door,
            tenant=principal.tenant,
            project=principal.project,
            key=principal.key,
            client=self.address,
        )
        if principal.tags:
            record.tags = dict(principal.tags)
        if tracing is not None:
            record.trace = tracing(self.headers)
        return record

    def ask(self, route: str, target: str, weigh: Callable[[], Weight], note: bytes) -> Ask:
        """What this call wants of a candidate, `target`, of the route; see `Ask`."""
        return Ask(
            id=self.id,
            began_at_us=self.arrived_at_us,
            principal=self.principal,
            address=self.address,
            alias=route,
            target=target,
            weigh=weigh,
            note=note,
        )


def note_route(record: CallRecord, named: str, route: str) -> None:
    """Writes down which model was asked for, as the client wrote it, and by which route the call goes."""
    record.requested_model = named[:MAX_NOTED_CHARACTERS]
    if route != record.requested_model:
        record.route = route
        if named in UNNAMED:
            # Budgets of an alias count by the name in the row, and this call was meant for it.
            record.requested_model = route[:MAX_NOTED_CHARACTERS]


class Sink(Protocol):
    """Where an answer goes.  A front door frames it; back-pressure is in the awaits."""

    async def head(self, status: int, headers: Headers) -> None:
        """Begins the answer.  Called once, before `body`."""
        ...

    async def body(self, data: bytes, *, more: bool) -> None:
        """Sends bytes; `more=False` is the end of the answer."""
        ...
