"""Counting a prompt's tokens without asking for an answer.

A provider that can count is asked, and its number is passed on; it costs nothing, but it reached a provider, so it has its row
in the ledger.  For the others the gateway estimates, and says so: an estimate never passes for a count.
"""

from dataclasses import dataclass

from tollhouse.chat.receipt import Receipt
from tollhouse.chat.usage import Usage
from tollhouse.dialects.anthropic import decode_count
from tollhouse.dialects.dialect import Peek
from tollhouse.gateway.call import Call
from tollhouse.gateway.errand import Answered, Run, expect_success
from tollhouse.gateway.estimate import input_tokens
from tollhouse.gateway.failures import MAX_ERROR_BYTES
from tollhouse.gateway.pipeline import Gateway
from tollhouse.gateway.routing import Candidate, allowed
from tollhouse.ledger.prices import ModelPrice
from tollhouse.policy.admission import NO_WEIGHT, Weight
from tollhouse.upstream.address import target
from tollhouse.upstream.transport import Incoming, Outgoing


@dataclass(frozen=True, slots=True)
class Counted:
    """How many tokens a prompt has."""

    input_tokens: int
    is_estimate: bool


async def count_tokens(gateway: Gateway, call: Call) -> Counted:
    """Counts the prompt of `call` for the first candidate of its route.  Raises as a call does."""
    peek = call.peek()
    route = allowed(gateway.router.resolve(peek.model), call.principal)
    candidate = route.candidates[0]
    path = candidate.provider.count_tokens_path
    if candidate.provider.dialect is not call.dialect or path is None:
        return Counted(input_tokens(call.decode()), is_estimate=True)
    route = route.with_candidates([candidate])
    outcome = await Run(gateway, call, _Counting(gateway, call, peek, path), route, model=peek.model, lane="same").go()
    return Counted(outcome.answer, is_estimate=False)


@dataclass(frozen=True, slots=True)
class _Counting:
    """`tollhouse.gateway.errand.Errand` for one count."""

    gateway: Gateway
    call: Call
    peek: Peek
    path: str

    def request(self, candidate: Candidate, receipt: Receipt) -> Outgoing:
        return Outgoing(
            address=candidate.address,
            method=b"POST",
            target=target(candidate.address, self.path),
            headers=candidate.provider.headers(self.gateway.wall(), self.call.headers, same_dialect=True),
            body=self.call.dialect.patch(self.peek, candidate.model, candidate.traits, receipt),
        )

    def weigh(self, candidate: Candidate, price: ModelPrice | None) -> Weight:
        del candidate, price
        return NO_WEIGHT

    @property
    def is_free(self) -> bool:
        return True

    def likely(self) -> Usage:
        return Usage()

    async def read(self, incoming: Incoming, candidate: Candidate) -> Answered[int]:
        await expect_success(incoming, candidate, self.gateway.wall())
        return Answered(decode_count(await incoming.read_all(MAX_ERROR_BYTES)), Usage())
