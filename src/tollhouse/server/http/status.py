"""How the gateway is: health, metrics, and the greetings that clients send first."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from tollhouse.dialects.anthropic import DIALECT as ANTHROPIC
from tollhouse.dialects.openai_chat import DIALECT as OPENAI_CHAT
from tollhouse.server.http.exchange import Exchange
from tollhouse.server.http.front import Door, Front, Handler, Route


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """What a worker says of itself."""

    health: Callable[[], bytes]
    """The JSON of `/health`."""
    readiness: Callable[[], str]
    """How a gateway that serves is: `ready`, or what it misses."""
    metrics: Callable[[], tuple[bytes, str]]
    """The exposition text and its content type.  It may read files, and runs in a thread."""


def door(front: Front, status: Status) -> Door:
    """`/health` and what is below it, `/metrics`, `/`."""

    async def live(exchange: Exchange) -> None:
        await exchange.reply(200, b'{"status":"live"}')

    async def ready(exchange: Exchange) -> None:
        if front.running.is_draining:
            await exchange.reply(503, b'{"status":"draining"}')
        else:
            # A gateway without one of its stores serves all the same; a balancer that took it out would make an outage of it.
            await exchange.reply(200, b'{"status":"%b"}' % status.readiness().encode())

    async def whole(exchange: Exchange) -> None:
        await exchange.reply(503 if front.running.is_draining else 200, status.health())

    async def metrics(exchange: Exchange) -> None:
        front.identify(exchange)
        text, content_type = await asyncio.to_thread(status.metrics)
        await exchange.reply(200, text, content_type.encode())

    async def hello(exchange: Exchange) -> None:
        await exchange.reply(200, b'{"service":"tollhouse"}')

    def shown(handler: Handler) -> dict[str, Handler]:
        return {"GET": handler, "HEAD": handler}

    return Door(
        routes={
            "/health": Route(OPENAI_CHAT, shown(whole)),
            "/health/live": Route(OPENAI_CHAT, shown(live)),
            "/health/ready": Route(OPENAI_CHAT, shown(ready)),
            "/metrics": Route(OPENAI_CHAT, {"GET": metrics}),
            "/api/hello": Route(ANTHROPIC, shown(hello)),  # Claude Code asks before its first call
            "/": Route(OPENAI_CHAT, shown(hello)),
        }
    )
