"""The admin listener: bound to loopback unless configured otherwise, and apart from the port that clients reach."""

import asyncio
from collections.abc import Callable
from typing import Final

import msgspec

from tollhouse._version import __version__
from tollhouse.server.http.asgi import Receive, Scope, Send

JSON: Final = "application/json"


class AdminApp:
    """Health and metrics."""

    def __init__(
        self,
        *,
        health: Callable[[], bytes],
        is_ready: Callable[[], bool],
        metrics: Callable[[], tuple[bytes, str]],
    ) -> None:
        """`health` gives the JSON of `/health`, `metrics` the exposition text and its content type."""
        self._health = health
        self._is_ready = is_ready
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        del receive
        if scope["type"] != "http":
            return
        status, body, content_type = await self._answer(scope["method"], scope["path"])
        await send(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [(b"content-type", content_type.encode()), (b"cache-control", b"no-store")],
            }
        )
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    async def _answer(self, method: str, path: str) -> tuple[int, bytes, str]:
        if method not in {"GET", "HEAD"}:
            return 405, b'{"error":"only GET is possible here"}', JSON
        match path:
            case "/":
                return 200, _index(), JSON
            case "/health/live":
                return 200, b'{"status":"live"}', JSON
            case "/health/ready":
                ready = self._is_ready()
                return (200, b'{"status":"ready"}', JSON) if ready else (503, b'{"status":"not ready"}', JSON)
            case "/health":
                return (200 if self._is_ready() else 503), self._health(), JSON
            case "/metrics":
                text, content_type = await asyncio.to_thread(self._metrics)
                return 200, text, content_type
            case _:
                return 404, b'{"error":"nothing here; see /"}', JSON


def _index() -> bytes:
    return msgspec.json.encode(
        {
            "service": "tollhouse",
            "version": __version__,
            "paths": ["/health", "/health/live", "/health/ready", "/metrics"],
        }
    )
