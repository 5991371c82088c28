"""The door of embeddings in OpenAI's form."""

from tollhouse.chat import receipt as receipts
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
        await front.carry(exchange, "openai_embeddings", _embed)

    route = Route(DIALECT, {"POST": make})
    return Door(routes={"/v1/embeddings": route, "/embeddings": route, "/openai/v1/embeddings": route})


async def _embed(gateway: Gateway, call: Call, exchange: Exchange) -> None:
    outcome = await embed(gateway, call, EMBEDDINGS)
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
