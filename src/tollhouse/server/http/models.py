"""The lists of models.  Their path is shared by several dialects; their SDKs' headers tell them apart."""

from tollhouse.dialects.anthropic import DIALECT as ANTHROPIC
from tollhouse.dialects.gemini import DIALECT as GEMINI
from tollhouse.dialects.openai_chat import DIALECT as OPENAI_CHAT
from tollhouse.server.http.exchange import Exchange
from tollhouse.server.http.front import Door, Front, Route
from tollhouse.server.http.gemini import query_key
from tollhouse.server.http.typed import answer_in_protobuf

PATH = "/v1/models"


def door(front: Front) -> Door:
    """`/v1/models` and each model below it: those that the caller may use."""

    async def every(exchange: Exchange) -> None:
        _speak(exchange)
        principal = front.identify(exchange)
        cards = front.serving.gateway.router.cards(principal.access)
        await exchange.reply(200, exchange.dialect.encode_models(cards))

    async def one(exchange: Exchange) -> None:
        _speak(exchange)
        principal = front.identify(exchange)
        card = front.serving.gateway.router.card(exchange.path.removeprefix(f"{PATH}/"), principal)
        await exchange.reply(200, exchange.dialect.encode_model(card))

    single = Route(OPENAI_CHAT, {"GET": one, "HEAD": one})
    return Door(
        routes={PATH: Route(OPENAI_CHAT, {"GET": every, "HEAD": every})},
        prefixes={f"{PATH}/": lambda _: single},
    )


def _speak(exchange: Exchange) -> None:
    if answer_in_protobuf(exchange):
        return
    if exchange.has_header(b"anthropic-version"):
        exchange.dialect = ANTHROPIC
        return
    exchange.query_key = query_key(exchange)
    if exchange.query_key or exchange.has_header(b"x-goog-api-key") or exchange.has_header(b"x-goog-api-client"):
        exchange.dialect = GEMINI
