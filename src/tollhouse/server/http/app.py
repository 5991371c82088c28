"""The public listener: plain ASGI, one dictionary look-up from path to handler.

Handlers decode what is HTTP about a call (path, credential, body), hand it to the gateway, and frame what comes back.  They
know nothing of providers, prices or routes.
"""

import asyncio
import os
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from tollhouse.dialects.anthropic import encode_count
from tollhouse.dialects.dialect import Dialect
from tollhouse.errors import (
    ClientLeft,
    GatewayError,
    MethodNotAllowed,
    NotFound,
    TollhouseError,
)
from tollhouse.gateway.call import Call
from tollhouse.gateway.count import count_tokens
from tollhouse.gateway.failures import error_headers
from tollhouse.gateway.pipeline import Gateway
from tollhouse.gateway.routing import Router
from tollhouse.policy.access import Networks
from tollhouse.policy.identity import KeyRing, Principal, check_address
from tollhouse.server.http.asgi import Headers, Receive, Scope, Send
from tollhouse.server.http.bodies import discard_body, has_body, read_body
from tollhouse.server.http.callers import FORWARDED, caller_address
from tollhouse.server.http.departure import Departure
from tollhouse.server.running_calls import RunningCalls

JSON: Final = b"application/json"
_MODEL_METHODS: Final = ("GET", "HEAD")


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """What a configuration became.  Swapped as a whole by a reload; calls under way keep the one they began with."""

    gateway: Gateway
    keys: KeyRing
    max_body_bytes: int
    max_concurrent_calls: int
    proxies: Networks | None = None
    """Whose `X-Forwarded-For` says who the caller is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialects:
    """The client-side dialects of this front door."""

    openai_chat: Dialect[Any]
    anthropic: Dialect[Any]


Handler = Callable[["Exchange"], Awaitable[None]]


class OwnRequest(Protocol):
    """What our own server says of a request beyond ASGI, under `scope["tollhouse.request"]`."""

    is_complete: bool
    """Whether all of it has arrived."""
    task: asyncio.Task[None] | None
    """The one that answers it."""

    @property
    def has_departed(self) -> bool:
        """Whether its client has left."""
        ...

    def when_departed(self, callback: Callable[[], object] | None) -> None:
        """Whom to call, once, when its client leaves before the answer is complete; at once if it has left."""
        ...


class Exchange:
    """One HTTP request and the way back to its client.  It is the gateway's `Sink`."""

    __slots__ = (
        "_send",
        "address",
        "arrived",
        "dialect",
        "headers",
        "id",
        "is_begun",
        "is_read",
        "method",
        "path",
        "receive",
        "request",
        "scope",
    )

    def __init__(self, scope: Scope, receive: Receive, send: Send, dialect: Dialect[Any]) -> None:
        self.scope = scope
        self.request: OwnRequest | None = scope.get("tollhouse.request")
        self.receive = receive
        self._send = send
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.headers: Headers = scope["headers"]
        self.dialect = dialect
        self.id = new_request_id()
        self.address = ""
        """The caller's IP address, once `find_address` was called; empty when the server does not know."""
        self.arrived = time.monotonic()
        self.is_begun = False
        self.is_read = False
        """Whether the request's body was read to its end."""

    async def read(self, limit_bytes: int) -> bytes:
        """The request's body; see `read_body`."""
        request = self.request
        body = await read_body(
            self.receive, self.headers, limit_bytes, is_here=request is not None and request.is_complete
        )
        self.is_read = True
        return body

    async def head(self, status: int, headers: Sequence[tuple[bytes, bytes]]) -> None:
        """Begins the answer.  Both SDKs look for the request id, each under a name of its own."""
        request_id = self.id.encode()
        self.is_begun = True
        await self._send(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [*headers, (b"x-request-id", request_id), (b"request-id", request_id)],
            }
        )

    async def body(self, data: bytes, *, more: bool) -> None:
        """Sends a piece of the answer."""
        await self._send({"type": "http.response.body", "body": data, "more_body": more})

    async def reply(self, status: int, data: bytes, content_type: bytes = JSON) -> None:
        """Sends a whole answer; a HEAD request gets its head alone."""
        await self.head(status, [(b"content-type", content_type), (b"content-length", b"%d" % len(data))])
        await self.body(b"" if self.method == "HEAD" else data, more=False)

    async def refuse(self, error: TollhouseError) -> None:
        """Sends an error in the client's dialect, and lets the client finish sending what was not read of its body."""
        headers = error_headers(error)
        if isinstance(error, MethodNotAllowed):
            headers.append((b"allow", ", ".join(error.allowed).encode()))
        data = self.dialect.encode_error(error, self.id)
        if self.is_read or not has_body(self.headers):
            await self.head(error.http_status, headers)
            await self.body(data, more=False)
            return
        # The length tells the client that this is all, while the exchange stays open for the rest of its body.
        await self.head(error.http_status, [*headers, (b"content-length", b"%d" % len(data))])
        await self.body(data, more=True)
        await discard_body(self.receive)
        await self.body(b"", more=False)

    def find_address(self, proxies: Networks | None) -> str:
        """Learns where the caller is: the peer, or whom trusted `proxies` speak for."""
        client = self.scope.get("client")
        peer: str = client[0] if client else ""
        if proxies is not None:
            peer = caller_address(peer, [value for name, value in self.headers if name == FORWARDED], proxies)
        self.address = peer
        return peer

    def credential(self) -> bytes | None:
        """The caller's key, wherever its SDK puts it.  Newer SDKs may send two of the headers; a bearer comes first."""
        other = None
        for name, value in self.headers:
            if name == b"authorization":
                scheme, _, token = value.partition(b" ")
                if scheme.lower() == b"bearer" and token.strip():
                    return token.strip()
            elif name in {b"x-api-key", b"x-goog-api-key"} and value:
                other = value
        return other

    def has_header(self, wanted: bytes) -> bool:
        """Whether a header of that lower-case name was sent."""
        return any(name == wanted for name, _ in self.headers)


def new_request_id() -> str:
    """`req_`, the time in milliseconds and 48 random bits, in hexadecimal: unique, and in the order of time.

    The order keeps the ledger's index of ids growing at its end, where a commit touches one page and not one for each row.
    """
    return f"req_{time.time_ns() // 1_000_000:012x}{_chance.getrandbits(48):012x}"


_chance: Final = random.Random(os.urandom(32))  # noqa: S311  # ids are no secrets; asking the kernel each time costs more


class PublicApp:
    """The ASGI application of the public listener."""

    def __init__(
        self,
        serving: Serving,
        dialects: Dialects,
        *,
        health: Callable[[], bytes],
        readiness: Callable[[], str],
        metrics: Callable[[], tuple[bytes, str]],
        unexpected: Callable[[str, BaseException], None],
        refused: Callable[[str, str, TollhouseError], None] = lambda _id, _address, _error: None,
        running: RunningCalls | None = None,
    ) -> None:
        """`readiness` says how a gateway that serves is: `ready`, or what it misses.

        `health` gives the JSON of `/health`, `metrics` the exposition text and its content type.

        `refused` hears of what never became a call (a wrong key, a body too large): request id, caller's address, error.
        `running` are the calls under way in this worker, those of its other doors among them.
        """
        self.serving = serving
        self.running = RunningCalls() if running is None else running
        self._dialects = dialects
        self._health = health
        self._readiness = readiness
        self._metrics = metrics
        self._unexpected = unexpected
        self._refused = refused
        openai, anthropic = dialects.openai_chat, dialects.anthropic
        chat: dict[str, Handler] = {"POST": self._chat}
        # A path's dialect decides in which words its errors are said.
        self._routes: dict[str, tuple[Dialect[Any], dict[str, Handler]]] = {
            "/v1/chat/completions": (openai, chat),
            "/chat/completions": (openai, chat),
            "/openai/v1/chat/completions": (openai, chat),  # the groq SDK adds this prefix itself
            "/v1/messages": (anthropic, {"POST": self._messages}),
            "/v1/messages/count_tokens": (anthropic, {"POST": self._count_tokens}),
            "/v1/models": (openai, {"GET": self._models, "HEAD": self._models}),
            "/health": (openai, {"GET": self._health_all, "HEAD": self._health_all}),
            "/health/live": (openai, {"GET": self._health_live, "HEAD": self._health_live}),
            "/health/ready": (openai, {"GET": self._health_ready, "HEAD": self._health_ready}),
            "/metrics": (openai, {"GET": self._show_metrics}),
            "/api/hello": (
                anthropic,
                {"GET": self._hello, "HEAD": self._hello},
            ),  # Claude Code asks before its first call
            "/": (openai, {"GET": self._hello, "HEAD": self._hello}),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request; nothing escapes but cancellation."""
        if scope["type"] != "http":
            return
        path = scope["path"]
        route = self._routes.get(path)
        if route is not None:
            dialect, methods = route
        elif path.startswith("/v1/models/"):
            dialect, methods = self._dialects.openai_chat, {"GET": self._model, "HEAD": self._model}
        else:
            dialect, methods = self._guess(scope), {}
        exchange = Exchange(scope, receive, send, dialect)
        exchange.find_address(self.serving.proxies)
        try:
            await methods.get(exchange.method, self._lost)(exchange)
        except ClientLeft:
            pass  # nobody is there to be told
        except TollhouseError as error:
            if exchange.is_begun:
                raise  # the server then breaks the connection: a cut answer must not end cleanly
            self._refused(exchange.id, exchange.address, error)
            await exchange.refuse(error)
        except Exception as error:
            self._unexpected(exchange.id, error)
            if exchange.is_begun:
                raise
            await exchange.refuse(
                GatewayError("Something went wrong inside the gateway.", hint="Its log has the details.")
            )

    # -- calls

    async def _chat(self, exchange: Exchange) -> None:
        await self._call(exchange, "openai_chat", _answer)

    async def _messages(self, exchange: Exchange) -> None:
        await self._call(exchange, "anthropic", _answer)

    async def _count_tokens(self, exchange: Exchange) -> None:
        await self._call(exchange, "anthropic_count_tokens", _count)

    async def _call(self, exchange: Exchange, door: str, work: "Work") -> None:
        """Reads a call and does its work, counted and watched: for the bound on calls, for a drain and for departures."""
        serving = self.serving
        principal = self._enter(exchange, serving)
        request = exchange.request
        task = asyncio.current_task() if request is None else request.task
        if task is None:
            raise RuntimeError("a request runs in a task")
        running = self.running
        running.begin(task, principal)
        try:
            body = await exchange.read(serving.max_body_bytes)
            call = self._made(exchange, principal, door, body)
            if request is None:
                async with Departure(exchange.receive):
                    await work(serving.gateway, call, exchange)
            else:
                request.when_departed(task.cancel)
                await work(serving.gateway, call, exchange)
        except asyncio.CancelledError:
            if request is not None and request.has_departed:
                task.uncancel()  # nobody is there to be told
            elif (ending := running.ending(task)) is not None:
                task.uncancel()
                await self._say_goodbye(exchange, ending)
            else:
                raise
        finally:
            if request is not None:
                request.when_departed(None)
            running.end(task)

    @staticmethod
    async def _say_goodbye(exchange: Exchange, error: TollhouseError) -> None:
        if exchange.is_begun:
            await exchange.body(exchange.dialect.encode_stream_error(error, exchange.id), more=False)
        else:
            await exchange.refuse(error)

    def _identify(self, exchange: Exchange) -> Principal:
        principal = self.serving.keys.identify(exchange.credential())
        check_address(principal, exchange.address)
        return principal

    def _enter(self, exchange: Exchange, serving: Serving) -> Principal:
        """Before a body is read: is the gateway taking calls, and may this caller make one?"""
        self.running.check_open()
        principal = self._identify(exchange)
        self.running.check_room(serving.max_concurrent_calls)
        return principal

    def _made(self, exchange: Exchange, principal: Principal, door: str, body: bytes) -> Call:
        return Call(
            id=exchange.id,
            door=door,
            dialect=exchange.dialect,
            body=body,
            headers=exchange.headers,
            principal=principal,
            address=exchange.address,
            arrived=exchange.arrived,
            arrived_at_us=time.time_ns() // 1000,
        )

    # -- model lists

    async def _models(self, exchange: Exchange) -> None:
        router, principal = self._listing(exchange)
        await exchange.reply(200, exchange.dialect.encode_models(router.cards(principal.access)))

    async def _model(self, exchange: Exchange) -> None:
        router, principal = self._listing(exchange)
        name = exchange.path.removeprefix("/v1/models/")
        await exchange.reply(200, exchange.dialect.encode_model(router.card(name, principal)))

    def _listing(self, exchange: Exchange) -> tuple[Router, Principal]:
        """The path is shared by several dialects; their SDKs' headers tell them apart."""
        if exchange.has_header(b"anthropic-version"):
            exchange.dialect = self._dialects.anthropic
        return self.serving.gateway.router, self._identify(exchange)

    # -- the rest

    async def _health_live(self, exchange: Exchange) -> None:
        await exchange.reply(200, b'{"status":"live"}')

    async def _health_ready(self, exchange: Exchange) -> None:
        if self.running.is_draining:
            await exchange.reply(503, b'{"status":"draining"}')
        else:
            # A gateway without one of its stores serves all the same; a balancer that took it out would make an outage of it.
            await exchange.reply(200, b'{"status":"%b"}' % self._readiness().encode())

    async def _health_all(self, exchange: Exchange) -> None:
        await exchange.reply(503 if self.running.is_draining else 200, self._health())

    async def _show_metrics(self, exchange: Exchange) -> None:
        self._identify(exchange)
        text, content_type = await asyncio.to_thread(self._metrics)
        await exchange.reply(200, text, content_type.encode())

    async def _hello(self, exchange: Exchange) -> None:
        await exchange.reply(200, b'{"service":"tollhouse"}')

    def _guess(self, scope: Scope) -> Dialect[Any]:
        anthropic = "/messages" in scope["path"] or any(name == b"anthropic-version" for name, _ in scope["headers"])
        return self._dialects.anthropic if anthropic else self._dialects.openai_chat

    async def _lost(self, exchange: Exchange) -> None:
        path = exchange.path
        _, methods = self._routes.get(path, (None, _MODEL_METHODS if path.startswith("/v1/models/") else ()))
        if methods:
            raise MethodNotAllowed(exchange.method, allowed=sorted(methods))
        raise NotFound(
            f"There is nothing at {exchange.method} {path[:200]!r}.",
            hint="Chat is at /v1/chat/completions and /v1/messages, the models at /v1/models.",
        )


Work = Callable[[Gateway, Call, Exchange], Awaitable[None]]
"""What is done with a call that was read."""


async def _answer(gateway: Gateway, call: Call, exchange: Exchange) -> None:
    await gateway.answer(call, exchange)


async def _count(gateway: Gateway, call: Call, exchange: Exchange) -> None:
    counted = await count_tokens(gateway, call)
    estimated = [(b"x-tollhouse-count", b"estimated")] if counted.is_estimate else []
    await exchange.head(200, [(b"content-type", JSON), *estimated])
    await exchange.body(encode_count(counted.input_tokens), more=False)
