"""What every call under way owes, whatever it asks for: its attempts noted, its hold settled, and one row.

Conversations (`pipeline`) and errands (`errand`) differ in how a request is written and an answer is read.  What is here is the
same for both, and so are these rules:

- a call that reached a provider has a ledger row, handed over once, when what it used and cost is known;
- what is held for it stays held until that row is safe: whoever adds up the ledger and the holds misses nothing;
- an attempt is noted when it ends, however that is, and what its caller is told of it has no address and no credential.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Final

import msgspec

from tollhouse.chat.receipt import Receipt
from tollhouse.chat.usage import Usage
from tollhouse.errors import ProviderError, ProviderRefused, TollhouseError
from tollhouse.gateway.call import Call
from tollhouse.gateway.failures import blame, for_the_operator, heard, is_unsent
from tollhouse.gateway.parts import Parts
from tollhouse.gateway.routing import Candidate, Route
from tollhouse.ledger.record import Attempt, opening_of
from tollhouse.policy.admission import Hold, Weight
from tollhouse.telemetry.trace_context import TRACEPARENT, traceparent
from tollhouse.upstream.transport import Deadlines, Outgoing

MAX_DETAIL_CHARACTERS: Final = 200


class UnderWay:
    """One call under way."""

    __slots__ = (
        "_began",
        "_call",
        "_former",
        "_gateway",
        "_has_reached",
        "_held_for",
        "_hold",
        "_is_attempting",
        "_may_be_billed",
        "_receipt",
        "_record",
    )

    def __init__(self, gateway: Parts, call: Call) -> None:
        self._gateway = gateway
        self._call = call
        self._record = call.opened(gateway.tracing)
        self._receipt = Receipt()
        self._hold: Hold | None = None
        self._held_for: tuple[str, ...] = ()
        """The candidates that the hold is for."""
        self._former: tuple[str, str, str] | None = None
        """Provider, model and lane of the last attempt that failed."""
        self._began = 0.0
        """When the current attempt began, in monotonic seconds."""
        self._is_attempting = False
        self._has_reached = False
        """Whether an attempt that was noted went to its provider: then the call has a ledger row."""
        self._may_be_billed = False
        """Whether an attempt failed in a way after which the provider may still bill it."""

    # -- before an attempt

    def _within(self, deadlines: Deadlines, left: float) -> Deadlines:
        """Those deadlines, with no more in all than what is left, for the gateway or for the client."""
        if self._call.deadline is not None:
            left = min(left, max(0.0, self._call.deadline - self._gateway.monotonic()))
        return deadlines if left >= deadlines.total else replace(deadlines, total=left)

    async def _place(self, route: Route, candidate: Candidate, weigh: Callable[[], Weight], likely_tokens: int) -> None:
        """Makes room for a candidate: within rates, and for the worst that it can cost.

        `likely_tokens` are its input's.  Raises as `Admission.admit`.
        """
        record, target = self._record, candidate.name
        ask = self._call.ask(route.name, target, weigh, opening_of(record, likely_tokens))
        if self._hold is None:
            hold = self._hold = await self._gateway.admission.admit(ask)
            if hold.waited_seconds:
                record.wait_us = int(hold.waited_seconds * 1e6)
        elif target not in self._held_for:
            await self._hold.extend(ask)
        self._held_for += (target,)

    def _turn_back(self) -> None:
        """A candidate is not asked after all: what was used until now, if anything, was the former one's."""
        if self._former is not None:
            record = self._record
            record.provider, record.model, record.lane = self._former

    def _traced(self, outgoing: Outgoing, candidate: Candidate) -> Outgoing:
        """The request of the next attempt, told which trace it is in where its provider goes on with traces."""
        trace = self._record.trace
        if trace is None or not candidate.provider.continues_traces:
            return outgoing
        field = (TRACEPARENT, traceparent(trace, len(self._record.attempts)))
        return msgspec.structs.replace(outgoing, headers=[*outgoing.headers, field])

    # -- what became of an attempt

    def _note_failure(self, candidate: Candidate, error: TollhouseError, status: int | None) -> None:
        """Writes down how an attempt failed, for the record and the provider's health, and makes the error fit to be told."""
        gateway, record = self._gateway, self._record
        gateway.health.note(candidate.provider.name, error, now_seconds=gateway.wall())
        detail = for_the_operator(error)
        if isinstance(error, ProviderError):
            blame(error, candidate, is_clients_time=self._call.is_out_of_time(gateway.monotonic()))
        was_sent = not is_unsent(error)
        # A provider that refuses does not bill; one that went silent or broke off may have read the whole prompt.
        self._may_be_billed |= was_sent and not isinstance(error, ProviderRefused)
        self._former = (record.provider, record.model, record.lane)
        self._note_attempt(error.code, status, detail, was_sent=was_sent)

    def _note_attempt(self, outcome: str, status: int | None, detail: str = "", *, was_sent: bool = True) -> None:
        record, began = self._record, self._began
        self._is_attempting = False
        if was_sent:
            self._has_reached = True
        record.attempts += (
            Attempt(
                provider=record.provider,
                model=record.model,
                outcome=outcome,
                status=status,
                duration_us=int((self._gateway.monotonic() - began) * 1e6),
                was_sent=was_sent,
                detail=detail[:MAX_DETAIL_CHARACTERS],
                began_us=0 if record.trace is None else int((began - self._call.arrived) * 1e6),
            ),
        )

    # -- settlement

    def _hand_over(self, usage: Usage) -> "asyncio.Future[None] | None":
        """Completes the record, whose cost stands in it, and hands it over.  The future is done when its row is safe.

        Whoever gets one sees to it that `_give_back` is called then; there is none for a call without a row.
        """
        gateway, record, hold = self._gateway, self._record, self._hold
        record.usage = usage
        # An answer can lose something too, which for a stream is only known at its end.
        if self._receipt.losses:
            record.receipt = gateway.shown(self._receipt.header())
        record.duration_us = self._elapsed_us()
        waiting = gateway.books.write(record) if self._has_reached else None
        if hold is not None:
            if hold.held_nano:
                record.held_nano, record.settled_nano = hold.held_nano, record.cost_nano
            if waiting is None:
                self._give_back()
        gateway.finished(record)
        if self._call.settled is not None:
            self._call.settled(record)
        return waiting

    async def _until_safe(self, waiting: "asyncio.Future[None] | None") -> None:
        """Returns when a record that was handed over is safe."""
        if waiting is not None:
            try:
                await waiting
            finally:
                self._give_back()

    def _give_back_when_safe(self, waiting: "asyncio.Future[None] | None") -> None:
        """In place of `_until_safe`, for a call whose end nobody waits for."""
        if waiting is not None:
            waiting.add_done_callback(heard)
            waiting.add_done_callback(self._give_back)

    def _give_back(self, _written: object = None) -> None:
        """Replaces what is held by what was used."""
        record, hold = self._record, self._hold
        if hold is None:
            return
        usage = record.usage
        if not self._has_reached or (record.cost_nano == 0 and usage.is_empty):
            hold.settle(cost_nano=0, input_tokens=0, output_tokens=0)
        else:
            hold.settle(cost_nano=record.cost_nano, input_tokens=usage.input_tokens, output_tokens=usage.output_tokens)

    def _elapsed_us(self) -> int:
        """Microseconds since the request arrived."""
        return int((self._gateway.monotonic() - self._call.arrived) * 1e6)
