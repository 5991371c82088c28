"""The doors of OpenAI's Chat Completions, of what was there before it, and of Anthropic's Messages."""

from collections.abc import Awaitable

from tollhouse.dialects.anthropic import DIALECT as ANTHROPIC
from tollhouse.dialects.anthropic import encode_count
from tollhouse.dialects.openai_chat import DIALECT as OPENAI_CHAT
from tollhouse.dialects.openai_completions import DIALECT as OPENAI_COMPLETIONS
from tollhouse.gateway.call import Call
from tollhouse.gateway.count import count_tokens
from tollhouse.gateway.pipeline import Gateway
from tollhouse.server.http.exchange import JSON, Exchange
from tollhouse.server.http.front import Door, Front, Route, answer
from tollhouse.server.http.settled import ASKS, answer_and_settle


def door(front: Front) -> Door:
    """`/v1/chat/completions`, `/v1/completions`, `/v1/messages` and the counting beside it."""

    def complete(exchange: Exchange) -> Awaitable[None]:
        work = answer_and_settle if exchange.has_header(ASKS) else answer
        return front.carry(exchange, "openai_chat", work)

    def complete_text(exchange: Exchange) -> Awaitable[None]:
        return front.carry(exchange, "openai_completions", answer)

    def message(exchange: Exchange) -> Awaitable[None]:
        return front.carry(exchange, "anthropic", answer)

    async def count_message(exchange: Exchange) -> None:
        await front.carry(exchange, "anthropic_count_tokens", count)

    chat = Route(OPENAI_CHAT, {"POST": complete})
    completions = Route(OPENAI_COMPLETIONS, {"POST": complete_text})
    return Door(
        routes={
            "/v1/chat/completions": chat,
            "/chat/completions": chat,
            "/openai/v1/chat/completions": chat,  # the groq SDK adds this prefix itself
            "/v1/completions": completions,
            "/completions": completions,
            "/v1/messages": Route(ANTHROPIC, {"POST": message}),
            "/v1/messages/count_tokens": Route(ANTHROPIC, {"POST": count_message}),
        }
    )


async def count(gateway: Gateway, call: Call, exchange: Exchange) -> None:
    """The work of counting a prompt's tokens, answered in Anthropic's words."""
    counted = await count_tokens(gateway, call)
    estimated = [(b"x-tollhouse-count", b"estimated")] if counted.is_estimate else []
    await exchange.head(200, [(b"content-type", JSON), *estimated])
    await exchange.body(encode_count(counted.input_tokens), more=False)
