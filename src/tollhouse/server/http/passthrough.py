"""The door to a provider's other paths: `/{provider}/…`.

A provider's own chat path under its name (`/anthropic/v1/messages`) is a conversation like any other, with that provider alone
to answer it, and so is the counting beside it; everything else is passed through.
"""

import re
import time
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from tollhouse.dialects.anthropic import DIALECT as ANTHROPIC
from tollhouse.dialects.dialect import Dialect
from tollhouse.dialects.gemini import DIALECT as GEMINI
from tollhouse.dialects.openai_chat import DIALECT as OPENAI_CHAT
from tollhouse.errors import Unauthenticated
from tollhouse.gateway.call import Call
from tollhouse.gateway.passthrough import METHODS, TICKET, Request, kept_query, pass_through
from tollhouse.gateway.pipeline import Gateway
from tollhouse.policy.access import Networks
from tollhouse.policy.tickets import MAX_CREDENTIAL_BYTES, NoTicket, seal, unseal
from tollhouse.providers.provider import Provider
from tollhouse.server.http import gemini, responses
from tollhouse.server.http.callers import FORWARDED_SCHEME, caller_scheme
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
_AUTHORITY: Final = re.compile(rb"[A-Za-z0-9._-]+(:\d{1,5})?|\[[0-9A-Fa-f:.]+\](:\d{1,5})?")
_TICKET: Final = TICKET.encode("ascii")


def door(front: Front) -> Door:
    """Every path whose first segment is the name of a configured provider."""

    def find(path: str) -> Route | None:
        name, _, rest = path[1:].partition("/")
        provider = front.serving.gateway.router.providers.get(name)
        if provider is None or not rest:
            return None
        below = rest.removeprefix("openai/").removeprefix("v1/")
        if below == _RESPONSES or below.startswith(f"{_RESPONSES}/"):
            # Answers are kept by the gateway, for each tenant, and gone on from with any provider.
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
            if provider.dialect is GEMINI:
                exchange.query_key = gemini.query_key(exchange)
            if exchange.credential() is None and provider.other_paths is not None:
                exchange.query_key = _ticketed(exchange, provider)
            await front.carry(exchange, "passthrough", partial(_forward, provider, front.serving.proxies))

        methods: dict[str, Handler] = dict.fromkeys(METHODS, forward)
        return Route(provider.dialect if provider.dialect in {ANTHROPIC, GEMINI} else OPENAI_CHAT, methods)

    return Door(prefixes={"/": find})


async def _forward(
    provider: Provider, proxies: Networks | None, gateway: Gateway, call: Call, exchange: Exchange
) -> None:
    request = Request(
        method=exchange.method,
        provider=provider.name,
        path=_path_below(exchange),
        query=exchange.scope["query_string"],
        address_of=partial(_address_of, exchange, provider, proxies),
    )
    await pass_through(gateway, call, request, exchange)


def _path_below(exchange: Exchange) -> str:
    raw: bytes = exchange.scope["raw_path"]
    return "/" + raw.decode("latin-1").removeprefix("/").partition("/")[2]


def _address_of(exchange: Exchange, provider: Provider, proxies: Networks | None, target: str) -> str:
    """Where the caller reaches `target`, below the provider's name; with a ticket, for clients that send no key there."""
    written = next((value for name, value in exchange.headers if name == b"host"), b"")
    host, port = exchange.scope.get("server") or ("localhost", None)
    peer, _ = exchange.scope.get("client") or ("", 0)
    forwarded = [value for name, value in exchange.headers if name == FORWARDED_SCHEME]
    scheme = caller_scheme(exchange.scope["scheme"], peer, forwarded, proxies)
    authority = written.decode("ascii") if _AUTHORITY.fullmatch(written) else host if port is None else f"{host}:{port}"
    address = f"{scheme}://{authority}/{provider.name}{target}"
    credential, secret, now = exchange.credential(), _secret_of(provider), time.time()
    if credential is None or len(credential) > MAX_CREDENTIAL_BYTES or not secret:
        return address
    ticket = seal(credential, secret=secret, address=_signed(provider, target.encode("ascii")), now_seconds=now)
    return f"{address}{'&' if '?' in target else '?'}{TICKET}={ticket}"


def _ticketed(exchange: Exchange, provider: Provider) -> bytes | None:
    """The credential in the ticket of an address that the gateway gave; `None` without one.  Raises `Unauthenticated`."""
    query: bytes = exchange.scope["query_string"]
    pairs = (pair.partition(b"=") for pair in query.split(b"&"))
    ticket = next((value for name, _, value in pairs if name == _TICKET), None)
    if ticket is None:
        return None
    kept = kept_query(query)
    target = _path_below(exchange).encode("latin-1") + (b"?" + kept if kept else b"")
    try:
        return unseal(ticket, secret=_secret_of(provider), address=_signed(provider, target), now_seconds=time.time())
    except NoTicket as error:
        raise Unauthenticated(
            f"The ticket in this address does not open it: {error}.",
            hint="Begin the upload again, or send your key with each piece of it.",
        ) from error


def _signed(provider: Provider, target: bytes) -> bytes:
    return provider.name.encode() + target


def _secret_of(provider: Provider) -> bytes:
    """What all who have this configuration know, and nobody else; empty where there is no such thing."""
    return b"\n".join(value for _, value in provider.authenticate(time.time()))
