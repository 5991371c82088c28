"""What the front doors over HTTP share: who calls, and how a call is carried.

A door is one API family.  It says which paths are its own and what is done at each; the rest is the same for all.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from tollhouse.chat.nesting import is_too_deep
from tollhouse.dialects.dialect import Dialect
from tollhouse.errors import BadRequest, TollhouseError
from tollhouse.gateway.call import Call
from tollhouse.gateway.pipeline import Gateway
from tollhouse.policy.identity import Principal, check_address
from tollhouse.server.http.departure import Departure
from tollhouse.server.http.exchange import Exchange
from tollhouse.server.running_calls import RunningCalls
from tollhouse.server.serving import Serving
from tollhouse.server.tls import peer_of

Handler = Callable[[Exchange], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Route:
    """What is at a path: by method, and the dialect in which its errors are said."""

    dialect: Dialect[Any]
    methods: Mapping[str, Handler]


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """One API family's paths."""

    routes: Mapping[str, Route] = field(default_factory=dict)
    """By the whole path."""
    prefixes: Mapping[str, Callable[[str], Route | None]] = field(default_factory=dict)
    """Paths with variables, by how they begin: what there is at a path, given whole; `None` for nothing."""


Work = Callable[[Gateway, Call, Exchange], Awaitable[None]]
"""What is done with a call that was read."""


class Front:
    """The parts that all doors of a listener share."""

    def __init__(self, serving: Serving, running: RunningCalls) -> None:
        self.serving = serving
        self.running = running

    def identify(self, exchange: Exchange) -> Principal:
        """Who sent the request.  Raises `Unauthenticated`, or `AddressNotAllowed`."""
        peer = peer_of(exchange.scope) if "extensions" in exchange.scope else None
        principal = self.serving.keys.identify(exchange.credential(), peer)
        check_address(principal, exchange.address)
        return principal

    async def carry(
        self,
        exchange: Exchange,
        door: str,
        work: Work,
        *,
        model: str | None = None,
        stream: bool | None = None,
        provider: str | None = None,
    ) -> None:
        """Reads a call and does its work, counted and watched: for the bound on calls, for a drain and for departures.

        `door` is its name in the ledger; `model`, `stream` and `provider` are what its path says.
        """
        serving, running = self.serving, self.running
        # Before a body is read: is the gateway taking calls, and may this caller make one?
        running.check_open()
        principal = self.identify(exchange)
        running.check_room(serving.max_concurrent_calls)
        request = exchange.request
        task = asyncio.current_task() if request is None else request.task
        if task is None:
            raise RuntimeError("a request runs in a task")
        running.begin(task, principal)
        try:
            body = exchange.take(serving.max_body_bytes)
            if body is None:
                body = await exchange.read(serving.max_body_bytes)
            call = Call(
                id=exchange.id,
                door=door,
                dialect=exchange.dialect,
                body=body,
                headers=exchange.headers,
                principal=principal,
                address=exchange.address,
                arrived=exchange.arrived,
                arrived_at_us=time.time_ns() // 1000,
                model=model,
                stream=stream,
                provider=provider,
            )
            if request is None:
                async with Departure(exchange.receive):
                    await work(serving.gateway, call, exchange)
            else:
                request.when_departed(task.cancel)
                await work(serving.gateway, call, exchange)
        except RecursionError as error:
            # Some interpreters decode nearly to the end of their stack, which a later step has less of (`chat.nesting`).
            if exchange.is_begun or body is None or not is_too_deep(body):
                raise
            raise BadRequest("The request is nested too deeply to be read: flatten it.") from error
        except asyncio.CancelledError:
            if request is not None and request.has_departed:
                task.uncancel()  # nobody is there to be told
            elif (ending := running.ending(task)) is not None:
                task.uncancel()
                await _say_goodbye(exchange, ending)
            else:
                raise
        finally:
            if request is not None:
                request.when_departed(None)
            running.end(task)


answer: Final[Work] = Gateway.answer
"""The work of most doors: an answer."""


async def _say_goodbye(exchange: Exchange, error: TollhouseError) -> None:
    if not exchange.is_begun:
        await exchange.refuse(error)
    elif exchange.is_events:
        await exchange.body(exchange.dialect.encode_stream_error(error, exchange.id), more=False)
    else:
        raise error  # in the middle of a sound or a file there is no place for it: the connection is broken
