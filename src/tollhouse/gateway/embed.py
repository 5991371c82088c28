"""Embeddings: vectors for texts, from the first provider of a route that makes them.

What no provider may see is masked in texts as in prompts; then the client's own bytes are not forwarded.
"""

from dataclasses import dataclass
from typing import Final

import msgspec

from tollhouse.chat.embedding import EmbeddingRequest
from tollhouse.chat.receipt import Receipt
from tollhouse.chat.usage import Usage
from tollhouse.dialects.embedding import EmbeddingDialect, EmbeddingPeek
from tollhouse.errors import Untranslatable, UpstreamMalformed
from tollhouse.gateway.call import Call
from tollhouse.gateway.errand import Answered, Outcome, Run, expect_success
from tollhouse.gateway.estimate import BYTES_PER_TOKEN
from tollhouse.gateway.pipeline import Gateway
from tollhouse.gateway.routing import Candidate, allowed
from tollhouse.gateway.weight import worst_cost
from tollhouse.ledger.prices import ModelPrice
from tollhouse.policy.admission import Weight
from tollhouse.policy.redaction.masking import mask_texts
from tollhouse.upstream.transport import Incoming, Outgoing

MAX_ANSWER_BYTES: Final = 256 * 1024 * 1024
"""2,048 vectors of 3,072 numbers, written out, are about 130 MB."""


async def embed(gateway: Gateway, call: Call, wire: EmbeddingDialect) -> Outcome[bytes]:
    """Answers a call for vectors in the caller's form, `wire`.  Raises as a call does."""
    peek = wire.peek(call.body)
    model = call.named(peek.model)
    route = allowed(gateway.router.resolve(model), call.principal)
    able = [candidate for candidate in route.candidates if candidate.provider.embeddings is not None]
    if not able:
        names = " or ".join(sorted({candidate.provider.name for candidate in route.candidates}))
        raise Untranslatable(f"Model {route.name[:200]!r} makes no embeddings: provider {names} has none.")
    route = route.with_candidates(able)
    errand = _Embedding(gateway, call, wire, peek, *_shown(gateway, call, wire))
    lane = "same" if errand.forwards(able[0]) else "translated"
    return await Run(gateway, call, errand, route, model=model, lane=lane).go()


def _shown(gateway: Gateway, call: Call, wire: EmbeddingDialect) -> tuple[EmbeddingRequest | None, bool]:
    """The request as a provider may see it, `None` while nobody had to read it, and whether something in it is masked."""
    if gateway.masks is None:
        return None, False
    request = wire.decode_request(call.body)
    shown = iter(mask_texts(gateway.masks, [text for text in request.inputs if isinstance(text, str)]))
    inputs = tuple(next(shown) if isinstance(given, str) else given for given in request.inputs)
    title = None if request.title is None else mask_texts(gateway.masks, [request.title])[0]
    user = None if request.user is None else mask_texts(gateway.masks, [request.user])[0]
    if (inputs, title, user) == (request.inputs, request.title, request.user):
        return request, False
    gateway.masked()
    return msgspec.structs.replace(request, inputs=inputs, title=title, user=user), True


@dataclass(slots=True)
class _Embedding:
    """`tollhouse.gateway.errand.Errand` for one call."""

    gateway: Gateway
    call: Call
    wire: EmbeddingDialect
    peek: EmbeddingPeek
    shown: EmbeddingRequest | None
    """The request as a provider may see it, once somebody had to read it."""
    is_masked: bool
    """Whether that is not as it came."""

    def forwards(self, candidate: Candidate) -> bool:
        """Whether a candidate gets the client's own bytes, and the client the candidate's."""
        return not self.is_masked and candidate.provider.embeddings is self.wire

    def _read(self) -> EmbeddingRequest:
        if self.shown is None:
            self.shown = self.wire.decode_request(self.call.body)
        return self.shown

    def request(self, candidate: Candidate, receipt: Receipt) -> Outgoing:
        theirs, provider = _wire_of(candidate), candidate.provider
        if self.forwards(candidate):
            body = theirs.patch(self.peek, candidate.model)
        else:
            request = msgspec.structs.replace(self._read(), model=candidate.model)
            body = theirs.encode_request(request, receipt)
        return Outgoing(
            address=candidate.address,
            method=b"POST",
            target=candidate.embeddings_target or candidate.target,
            headers=provider.headers(
                self.gateway.wall(), self.call.headers, same_dialect=provider.dialect is self.call.dialect
            ),
            body=body,
        )

    def weigh(self, candidate: Candidate, price: ModelPrice | None) -> Weight:
        del candidate
        # No tokenizer makes more tokens of a text than it has bytes.
        most = len(self.call.body)
        return Weight(most // BYTES_PER_TOKEN, most, 0, worst_cost(price, most, 0, self.call.arrived_at_us))

    @property
    def is_free(self) -> bool:
        return False

    def likely(self) -> Usage:
        return Usage(input_tokens=len(self.call.body) // BYTES_PER_TOKEN, output_tokens=0, source="estimated")

    def flat_nano(self, candidate: Candidate) -> int | None:
        del candidate
        return None

    async def read(self, incoming: Incoming, candidate: Candidate) -> Answered[bytes]:
        await expect_success(incoming, candidate, self.gateway.wall())
        body = await incoming.read_all(MAX_ANSWER_BYTES)
        theirs = _wire_of(candidate)
        if self.forwards(candidate):
            usage = theirs.glance(body)
        else:
            answer = theirs.decode_response(body)
            request = self._read()
            if len(answer.vectors) != len(request.inputs):
                raise UpstreamMalformed(
                    f"The provider gave {len(answer.vectors)} vectors for {len(request.inputs)} texts."
                )
            usage = answer.usage
            if not answer.model:
                answer = msgspec.structs.replace(answer, model=candidate.model)
            body = self.wire.encode_response(answer, request, Receipt())
        return Answered(body, self.likely() if usage.is_empty else usage)


def _wire_of(candidate: Candidate) -> EmbeddingDialect:
    wire = candidate.provider.embeddings
    if wire is None:
        raise AssertionError("only providers with embeddings are candidates")
    return wire
