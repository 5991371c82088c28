"""The door of embeddings in OpenAI's form, and the work of those in every other form."""

from functools import partial

from tollhouse.chat import receipt as receipts
from tollhouse.dialects.embedding import EmbeddingDialect
from tollhouse.dialects.openai_chat import DIALECT
from tollhouse.dialects.openai_chat.embeddings import EMBEDDINGS
from tollhouse.gateway.call import Call
from tollhouse.gateway.embed import embed
from tollhouse.gateway.pipeline import Gateway
from tollhouse.server.http.exchange import JSON, Exchange
from tollhouse.server.http.front import Door, Front, Route


def door(front: Front) -> Door:
    """`/v1/embeddings`."""

    async def make(exchange: Exchange) -> None:
        await front.carry(exchange, "openai_embeddings", partial(give_vectors, EMBEDDINGS))

    route = Route(DIALECT, {"POST": make})
    return Door(routes={"/v1/embeddings": route, "/embeddings": route, "/openai/v1/embeddings": route})


async def give_vectors(wire: EmbeddingDialect, gateway: Gateway, call: Call, exchange: Exchange) -> None:
    """The work of a call for vectors in the form `wire`."""
    outcome = await embed(gateway, call, wire)
    headers = [
        (b"content-type", JSON),
        (b"content-length", b"%d" % len(outcome.answer)),
        (b"x-tollhouse-model", outcome.candidate.label),
        *call.dialect.encode_quotas(outcome.hold.quotas, gateway.wall()),
    ]
    if outcome.receipt and gateway.shows_receipts:
        headers.append((receipts.HEADER.encode(), outcome.receipt.header().encode("ascii")))
    await exchange.head(200, headers)
    await exchange.body(outcome.answer, more=False)
