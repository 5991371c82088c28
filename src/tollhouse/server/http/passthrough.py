"""The door to a provider's other paths: `/{provider}/…`.

A provider's own chat path under its name (`/anthropic/v1/messages`) is a conversation like any other, with that provider alone
to answer it, and so is the counting beside it; everything else is passed through.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from tollhouse.dialects.anthropic import DIALECT as ANTHROPIC
from tollhouse.dialects.dialect import Dialect
from tollhouse.dialects.gemini import DIALECT as GEMINI
from tollhouse.dialects.openai_chat import DIALECT as OPENAI_CHAT
from tollhouse.gateway.call import Call
from tollhouse.gateway.passthrough import METHODS, Request, pass_through
from tollhouse.gateway.pipeline import Gateway
from tollhouse.server.http import gemini, responses
from tollhouse.server.http.chat import count
from tollhouse.server.http.exchange import Exchange
from tollhouse.server.http.front import Door, Front, Handler, Route, Work, answer

_UNDERSTOOD: Final[Mapping[str, tuple[Dialect[Any], str, Work]]] = {
    "chat/completions": (OPENAI_CHAT, "openai_chat", answer),
    "messages": (ANTHROPIC, "anthropic", answer),
    "messages/count_tokens": (ANTHROPIC, "anthropic_count_tokens", count),
}
"""By the path below the version: the dialect, the name in the ledger, and what is done."""
_RESPONSES: Final = "responses"


def door(front: Front) -> Door:
    """Every path whose first segment is the name of a configured provider."""

    def find(path: str) -> Route | None:
        name, _, rest = path[1:].partition("/")
        provider = front.serving.gateway.router.providers.get(name)
        if provider is None or not rest:
            return None
        below = rest.removeprefix("openai/").removeprefix("v1/")
        if below == _RESPONSES or below.startswith(f"{_RESPONSES}/"):
            # What is kept at a provider under the gateway's account would be within reach of every tenant.
            return responses.route(front, below.removeprefix(_RESPONSES).removeprefix("/"), provider=name)
        if provider.dialect is GEMINI and (
            called := gemini.route(front, rest.removeprefix("v1beta/").removeprefix("v1/"), provider=name)
        ):
            return called
        understood = _UNDERSTOOD.get(below)
        if understood is not None:
            dialect, ledger_name, work = understood

            async def carry(exchange: Exchange) -> None:
                await front.carry(exchange, ledger_name, work, provider=name)

            return Route(dialect, {"POST": carry})

        async def forward(exchange: Exchange) -> None:
            await front.carry(exchange, "passthrough", partial(_forward, name))

        methods: dict[str, Handler] = dict.fromkeys(METHODS, forward)
        return Route(provider.dialect if provider.dialect in {ANTHROPIC, GEMINI} else OPENAI_CHAT, methods)

    return Door(prefixes={"/": find})


async def _forward(provider: str, gateway: Gateway, call: Call, exchange: Exchange) -> None:
    raw: bytes = exchange.scope["raw_path"]
    path = "/" + raw.decode("latin-1").removeprefix("/").partition("/")[2]
    request = Request(exchange.method, provider, path, exchange.scope["query_string"])
    await pass_through(gateway, call, request, exchange)
