"""Counting a prompt's tokens without asking for an answer.

A provider that can count is asked, and its number is passed on; it costs nothing, but it reached a provider, so it has its row
in the ledger.  For the others the gateway estimates, and says so: an estimate never passes for a count.
"""

from dataclasses import dataclass
from typing import Any

import msgspec

from tollhouse.chat.receipt import Receipt
from tollhouse.chat.usage import Usage
from tollhouse.dialects.counting import CountingDialect
from tollhouse.dialects.dialect import Peek
from tollhouse.gateway.call import Call
from tollhouse.gateway.errand import Answered, Run, expect_success
from tollhouse.gateway.estimate import input_tokens
from tollhouse.gateway.failures import MAX_ERROR_BYTES
from tollhouse.gateway.pipeline import Gateway
from tollhouse.gateway.routing import Candidate, allowed
from tollhouse.ledger.prices import ModelPrice
from tollhouse.policy.admission import NO_WEIGHT, Weight
from tollhouse.policy.redaction.masking import mask
from tollhouse.upstream.transport import Incoming, Outgoing


@dataclass(frozen=True, slots=True)
class Counted:
    """How many tokens a prompt has."""

    input_tokens: int
    is_estimate: bool


async def count_tokens(gateway: Gateway, call: Call) -> Counted:
    """Counts the prompt of `call` for the first candidate of its route.  Raises as a call does."""
    peek = call.peek()
    route = allowed(gateway.router.resolve(peek.model), call.principal).asked_in(call.dialect)
    candidate = route.candidates[0]
    counting = candidate.provider.counting
    if counting is None or candidate.count_target is None:
        return Counted(input_tokens(call.decode()), is_estimate=True)
    route = route.with_candidates([candidate])
    is_same = (
        candidate.provider.dialect is call.dialect
        and gateway.masks is None
        and not call.dialect.holds_sealed(call.body)
    )
    errand = _Counting(gateway, call, peek, counting, is_same)
    lane = "same" if is_same else "translated"
    outcome = await Run(gateway, call, errand, route, model=peek.model, lane=lane).go()
    return Counted(outcome.answer, is_estimate=False)


@dataclass(frozen=True, slots=True)
class _Counting:
    """`tollhouse.gateway.errand.Errand` for one count."""

    gateway: Gateway
    call: Call
    peek: Peek
    counting: CountingDialect[Any]
    is_same: bool
    """Whether the client's own bytes are sent."""

    def request(self, candidate: Candidate, receipt: Receipt) -> Outgoing:
        if self.is_same:
            body = self.counting.patch(self.peek, candidate.model, candidate.traits, receipt)
        else:
            request = msgspec.structs.replace(self.call.decode(), model=candidate.model)
            if self.gateway.masks is not None:
                masked = mask(self.gateway.masks, request)
                request = masked.request
                if masked.values:
                    self.gateway.masked()
            body = self.counting.encode_request(request, candidate.traits, receipt)
        return Outgoing(
            address=candidate.address,
            method=b"POST",
            target=candidate.count_target or candidate.target,
            headers=candidate.provider.headers(self.gateway.wall(), self.call.headers, same_dialect=self.is_same),
            body=body,
        )

    def weigh(self, candidate: Candidate, price: ModelPrice | None) -> Weight:
        del candidate, price
        return NO_WEIGHT

    @property
    def is_free(self) -> bool:
        return True

    def likely(self) -> Usage:
        return Usage()

    def flat_nano(self, candidate: Candidate) -> int | None:
        del candidate
        return None

    async def read(self, incoming: Incoming, candidate: Candidate) -> Answered[int]:
        await expect_success(incoming, candidate, self.gateway.wall())
        return Answered(self.counting.decode_count(await incoming.read_all(MAX_ERROR_BYTES)), Usage())
