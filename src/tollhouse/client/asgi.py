"""A small ASGI application for services that use the client: how their way to the models is.

    app.mount("/", health_app(client))          # Starlette, FastAPI: GET /health/proxy
    application = health_app(client)            # or alone

It answers 200 while the gateway is up (or nobody has looked yet), 503 while it is down.  It shows no token and no prompt, but
it does show the gateway's address: mount it where your other health pages are.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final, TypeAlias

import msgspec

from tollhouse.client.asynchronous import AsyncClient
from tollhouse.client.health import INTERVAL_SECONDS
from tollhouse.client.synchronous import Client

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

PATH: Final = "/health/proxy"
_JSON: Final = (b"content-type", b"application/json")


def health_app(client: AsyncClient | Client, *, interval: float = INTERVAL_SECONDS) -> App:
    """The application.  The first request begins to watch the gateway, every `interval` seconds, until the client is closed."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _live(receive, send)
            return
        if scope["type"] != "http":
            return
        # Mounted under a prefix, the path has it or has not, as the framework likes; mounted at the page itself it is empty.
        path = scope["path"].removeprefix(scope.get("root_path", "")).rstrip("/")
        if path not in {PATH, ""}:
            await _reply(send, 404, b'{"error":"there is only /health/proxy"}')
        elif scope["method"] not in {"GET", "HEAD"}:
            await _reply(send, 405, b'{"error":"use GET"}', (b"allow", b"GET, HEAD"))
        else:
            client.watch(interval)
            health = client.health()
            body = msgspec.json.encode(health)
            await _reply(send, 200 if health.is_well else 503, b"" if scope["method"] == "HEAD" else body)

    return app


async def _live(receive: Receive, send: Send) -> None:
    """Nothing is to be done at start and end; a server that asks must hear so."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def _reply(send: Send, status: int, body: bytes, *headers: tuple[bytes, bytes]) -> None:
    head = [_JSON, (b"content-length", b"%d" % len(body)), (b"cache-control", b"no-store"), *headers]
    await send({"type": "http.response.start", "status": status, "headers": head})
    await send({"type": "http.response.body", "body": body})
