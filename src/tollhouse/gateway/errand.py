"""Calls that are no conversation: vectors, counts, whatever is passed through.

They go the same way as a conversation (admit → attempt → settle), with the same promises: a row for each call that reached a
provider, written before the last byte of its answer leaves; a hold for the worst that it can cost, settled once; the next
candidate where one fails before anything was given.  What differs is only how the request is written and how the answer is
read, which is the errand's.
"""

import asyncio
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from tollhouse.chat.receipt import Receipt
from tollhouse.chat.usage import Usage
from tollhouse.errors import (
    BadRequest,
    BudgetExceeded,
    GatewayError,
    NoPrice,
    ProviderError,
    ProviderRefused,
    RateLimited,
    TollhouseError,
    Untranslatable,
    retry_after,
)
from tollhouse.gateway.call import Call, note_route
from tollhouse.gateway.failures import (
    ending_of,
    for_the_operator,
    is_about_the_candidate,
    refusal,
)
from tollhouse.gateway.parts import Parts
from tollhouse.gateway.plan import Plan, RetryPolicy
from tollhouse.gateway.routing import Candidate, Route
from tollhouse.gateway.under_way import UnderWay
from tollhouse.ledger.prices import ModelPrice, cost
from tollhouse.ledger.record import CallRecord
from tollhouse.policy.admission import Hold, Weight
from tollhouse.upstream.failure import Verdict, verdict
from tollhouse.upstream.transport import Incoming, Outgoing

AnswerT = TypeVar("AnswerT")
AnswerT_co = TypeVar("AnswerT_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Answered(Generic[AnswerT_co]):
    """What came back, and what it used."""

    answer: AnswerT_co
    usage: Usage
    status: int = 200
    """The status that the client sees."""
    error: ProviderRefused | None = None
    """Where the provider refused, and its own words are the answer."""
    began_at: float | None = None
    """When the first of it went to the client, in monotonic seconds; `None` where all of it is still to go."""


class Errand(Protocol[AnswerT_co]):
    """How one kind of call is written, weighed and read."""

    def request(self, candidate: Candidate, receipt: Receipt) -> Outgoing:
        """The request for a candidate.  Raises `Untranslatable` where this one cannot be asked; another is tried then."""
        ...

    def weigh(self, candidate: Candidate, price: ModelPrice | None) -> Weight:
        """The most that it can use there."""
        ...

    @property
    def is_free(self) -> bool:
        """Whether it is known to cost nothing when nothing is said of its usage."""
        ...

    def likely(self) -> Usage:
        """What it probably used, where its provider took it and never said."""
        ...

    def flat_nano(self, candidate: Candidate) -> int | None:
        """What a budget that held money for it is charged where neither usage nor price tell; `None` for nothing."""
        ...

    async def read(self, incoming: Incoming, candidate: Candidate) -> "Answered[AnswerT_co]":
        """Reads an answer; `expect_success` first, where an error is no answer.  Raises `ProviderError`.

        Once it has given something to the client, it raises nothing that another candidate could mend.
        """
        ...


async def expect_success(incoming: Incoming, candidate: Candidate, now_seconds: float) -> None:
    """Raises `ProviderRefused` for an error status; `now_seconds` is wall clock."""
    if incoming.status >= 300:
        raise await refusal(incoming, candidate, now_seconds)


@dataclass(frozen=True, slots=True)
class Outcome(Generic[AnswerT_co]):
    """An answer whose row is written."""

    answer: AnswerT_co
    hold: Hold
    """Settled; it still knows how the caller's rates stand."""
    record: CallRecord
    receipt: Receipt
    candidate: Candidate


class Run(UnderWay, Generic[AnswerT]):
    """One errand under way."""

    __slots__ = ("_candidate", "_errand", "_retry", "_route")

    def __init__(
        self,
        gateway: Parts,
        call: Call,
        errand: Errand[AnswerT],
        route: Route,
        *,
        model: str,
        lane: str,
        retry: RetryPolicy | None = None,
    ) -> None:
        """`route` has the candidates that the caller may use; `model` is the name that the caller wrote.

        `lane` is for the record; `retry` takes the place of the gateway's own policy.
        """
        super().__init__(gateway, call)
        self._retry = retry or gateway.retry
        self._errand = errand
        self._route = route
        self._record.lane = lane
        self._record.price_version = gateway.prices.version
        note_route(self._record, model, route.name)
        self._candidate = route.candidates[0]

    async def go(self) -> Outcome[AnswerT]:
        """Carries it to its end.  Raises what the caller is to be told."""
        try:
            answered = await self._attempts()
        except TollhouseError as error:
            self._record.outcome, self._record.status = error.code, error.http_status
            if not isinstance(error, BadRequest):  # which may quote the request
                self._record.message = for_the_operator(error)
            self._break_off(error.code)
            await self._until_safe(self._settle_failed())
            raise
        except asyncio.CancelledError as error:
            why = ending_of(error)
            self._record.outcome, self._record.status = why.code, why.http_status
            self._break_off(why.code)
            self._give_back_when_safe(self._settle_failed())
            raise
        except Exception:
            self._record.outcome, self._record.status = GatewayError.code, GatewayError.http_status
            self._break_off(GatewayError.code)
            await self._until_safe(self._settle_failed())
            raise
        self._record.status = answered.status
        if answered.error is not None:
            self._record.outcome, self._record.message = answered.error.code, for_the_operator(answered.error)
        else:
            began_at = self._gateway.monotonic() if answered.began_at is None else answered.began_at
            self._record.first_byte_us = int((began_at - self._call.arrived) * 1e6)
        if self._hold is None:
            raise AssertionError("an answered errand was admitted")
        usage, is_known = answered.usage, self._errand.is_free or answered.error is not None
        if usage.is_empty and not is_known and self._hold.held_nano:
            # An answer of which nothing is known would cost a budget nothing, and could be asked for without end.
            usage = self._errand.likely()
        await self._until_safe(self._settle(usage, is_known=is_known))
        return Outcome(answered.answer, self._hold, self._record, self._receipt, self._candidate)

    async def _attempts(self) -> Answered[AnswerT]:
        gateway, candidates = self._gateway, self._route.candidates
        self._began = gateway.monotonic()
        plan = Plan(len(candidates), self._retry, now=self._began, random=gateway.random)
        while True:
            candidate = candidates[plan.current]
            try:
                return await self._attempt(candidate, plan)
            except (Untranslatable, RateLimited, BudgetExceeded, NoPrice) as error:
                if self._is_attempting or not is_about_the_candidate(error):
                    raise  # of an answer that came, it is about how it is given on
                following = plan.after(Verdict.NEXT_CANDIDATE, None, gateway.monotonic())
                if following is None:
                    raise
            except ProviderError as error:
                self._note_failure(candidate, error, error.status)
                following = plan.after(verdict(error), retry_after(error), gateway.monotonic())
                if following is None:
                    raise
            if following.wait_seconds:
                await asyncio.sleep(following.wait_seconds)
            self._began = gateway.monotonic()

    async def _attempt(self, candidate: Candidate, plan: Plan) -> Answered[AnswerT]:
        gateway, record = self._gateway, self._record
        receipt = Receipt()
        outgoing = self._errand.request(candidate, receipt)
        if self._route.strict and receipt:
            raise Untranslatable(
                f"Model {self._route.name!r} is strict, and {candidate.provider.name!r} cannot express: {receipt.header()}.",
                lost=receipt.entries,
            )
        record.provider, record.model = candidate.provider.name, candidate.model

        def weigh() -> Weight:
            return self._errand.weigh(candidate, candidate.price)

        try:
            await self._place(self._route, candidate, weigh, self._errand.likely().input_tokens or 0)
            ownership, principal = gateway.ownership, self._call.principal
            # What is passed through was asked about before; what it names, only its path and its form tell.
            if record.lane != "passed" and ownership is not None and ownership.guards(candidate.provider, principal):
                await ownership.permit_conversation(candidate.provider, principal, outgoing.body)
        except (TollhouseError, asyncio.CancelledError):
            self._turn_back()
            raise
        self._candidate, self._receipt = candidate, receipt
        self._is_attempting = True
        deadlines = self._within(candidate.deadlines, plan.remaining(gateway.monotonic()))
        incoming = await candidate.transport.send(self._traced(outgoing, candidate), deadlines)
        try:
            answered = await self._errand.read(incoming, candidate)
        finally:
            incoming.close()
        gateway.health.note(candidate.provider.name, answered.error, now_seconds=gateway.wall())
        self._note_attempt("ok" if answered.error is None else answered.error.code, incoming.status)
        return answered

    def _break_off(self, outcome: str) -> None:
        """Ends the attempt that is under way, if one is, by no fault of its provider's, which may bill it."""
        if self._is_attempting:
            self._may_be_billed = True
            self._note_attempt(outcome, None)

    # -- settlement

    def _settle_failed(self) -> "asyncio.Future[None] | None":
        billed = self._may_be_billed
        usage = self._errand.likely() if billed else Usage()
        return self._settle(usage, is_known=not billed or self._errand.is_free)

    def _settle(self, usage: Usage, *, is_known: bool) -> "asyncio.Future[None] | None":
        """`is_known` says that an empty usage means nothing was used; otherwise it means that nobody said."""
        if self._has_reached:
            self._record.cost_nano = 0 if usage.is_empty and is_known else self._cost(usage)
        return self._hand_over(usage)

    def _cost(self, usage: Usage) -> int | None:
        bill = cost(self._candidate.price, usage, self._record.started_at_us)
        return bill.total_nano if bill is not None else self._flat_nano()

    def _flat_nano(self) -> int | None:
        """What it is taken to cost where nobody knows, and a budget held so much for it."""
        is_held = self._hold is not None and self._hold.held_nano
        return self._errand.flat_nano(self._candidate) if is_held else None
