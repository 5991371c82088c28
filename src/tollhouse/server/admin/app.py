"""The admin listener: bound to loopback unless configured otherwise, and apart from the port that clients reach.

Health and metrics are plain ASGI and need no credential.  What is below `/admin/` is the admin API (`api`), which is built when
somebody first asks for it: most of what it needs is imported then.
"""

import asyncio
import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import msgspec

from tollhouse._version import __version__
from tollhouse.config.values import is_loopback
from tollhouse.server.admin.access import check_origin
from tollhouse.server.admin.office import Office
from tollhouse.server.admin.problem import CONTENT_TYPE, Refusal
from tollhouse.server.http.asgi import Message, Receive, Scope, Send
from tollhouse.server.http.bodies import before_and_after, discard_body, has_body

if TYPE_CHECKING:
    from tollhouse.server.admin.api import Api

JSON: Final = "application/json"


class AdminApp:
    """Health, metrics and the admin API."""

    def __init__(
        self,
        *,
        health: Callable[[], bytes],
        is_ready: Callable[[], bool],
        readiness: Callable[[], str],
        metrics: Callable[[], tuple[bytes, str]],
        office: Office | None = None,
    ) -> None:
        """`health` gives the JSON of `/health`, `readiness` the word of `/health/ready` while it is ready, `metrics` the
        exposition text and its content type.

        Without an `office` there is no admin API, and nothing to check where a request comes from.
        """
        self._health = health
        self._is_ready = is_ready
        self._readiness = readiness
        self._metrics = metrics
        self._office = office
        self._api: Api | None = None
        self._building = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        if scope["type"] != "http":
            return
        exchange = _Exchange(scope, receive, send)
        request_id = scope["tollhouse.request_id"] = _new_request_id()
        if self._office is not None:
            settings = self._office.config()
            try:
                check_origin(
                    scope["headers"],
                    names=settings.admin.hosts,
                    checks_host=bool(settings.admin.hosts) or is_loopback(settings.server.admin_host),
                )
            except Refusal as refusal:
                body = msgspec.json.encode(refusal.problem(request_id))
                await exchange.reply(refusal.status, body, CONTENT_TYPE)
                return
            if scope["path"].startswith("/admin/"):
                api = self._api or await self._build(self._office)
                await api(scope, exchange.receive, exchange.send)
                return
        await exchange.reply(*await self._answer(scope["method"], scope["path"]))

    def close(self) -> None:
        """Ends the API's threads, when the listener has stopped.  May be called twice."""
        if self._api is not None:
            self._api.close()
            self._api = None

    async def _build(self, office: Office) -> "Api":
        """Imports in a thread: the loop may have calls to answer meanwhile."""
        async with self._building:
            if self._api is None:
                self._api = (await asyncio.to_thread(_imported))(office)
            return self._api

    async def _answer(self, method: str, path: str) -> tuple[int, bytes, str]:
        if method not in {"GET", "HEAD"}:
            return 405, b'{"error":"only GET is possible here"}', JSON
        match path:
            case "/":
                return 200, _index(has_api=self._office is not None), JSON
            case "/health/live":
                return 200, b'{"status":"live"}', JSON
            case "/health/ready":
                is_ready = self._is_ready()
                word = self._readiness() if is_ready else "not ready"
                return (200 if is_ready else 503), msgspec.json.encode({"status": word}), JSON
            case "/health":
                return (200 if self._is_ready() else 503), self._health(), JSON
            case "/metrics":
                text, content_type = await asyncio.to_thread(self._metrics)
                return 200, text, content_type
            case _:
                return 404, b'{"error":"nothing here; see /"}', JSON


class _Exchange:
    """One request's way in and out: a HEAD request gets no body, and a client may finish sending what nobody read.

    If the connection were closed with bytes of the request unread, the answer could be lost on the way; see `discard_body`.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._is_head = scope["method"] == "HEAD"
        self._is_unread = has_body(scope["headers"])

    async def receive(self) -> Message:
        """A piece of the request's body."""
        message = await self._receive()
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            self._is_unread = False
        return message

    async def send(self, message: Message) -> None:
        """A piece of the answer, which has a `content-length`."""
        if message["type"] != "http.response.body" or message.get("more_body", False):
            await self._send(message)
            return
        body = b"" if self._is_head else message.get("body", b"")
        if self._is_unread:
            first, body = before_and_after(self._scope, body)
            await self._send({"type": "http.response.body", "body": first, "more_body": True})
            await discard_body(self._receive)
        await self._send({"type": "http.response.body", "body": body})

    async def reply(self, status: int, body: bytes, content_type: str) -> None:
        """A whole answer."""
        await self.send(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [
                    (b"content-type", content_type.encode()),
                    (b"content-length", b"%d" % len(body)),
                    (b"cache-control", b"no-store"),
                ],
            }
        )
        await self.send({"type": "http.response.body", "body": body})


def _new_request_id() -> str:
    """`adm_`, the time in milliseconds and 48 random bits, in hexadecimal: unique, and in the order of time."""
    return f"adm_{time.time_ns() // 1_000_000:012x}{os.urandom(6).hex()}"


def _imported() -> "type[Api]":
    from tollhouse.server.admin.api import Api

    return Api


def _index(*, has_api: bool) -> bytes:
    paths = ["/health", "/health/live", "/health/ready", "/metrics"]
    answer: dict[str, Any] = {"service": "tollhouse", "version": __version__, "paths": paths}
    if has_api:
        paths.append("/admin/v1/openapi.json")
    return msgspec.json.encode(answer)
