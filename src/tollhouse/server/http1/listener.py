"""A listening socket whose connections speak HTTP/1.1 to an ASGI app."""

import asyncio
import logging
from typing import Final

from tollhouse.errors import TollhouseError
from tollhouse.server.http.asgi import App
from tollhouse.server.http1.connection import MAX_CONNECTIONS, Connection, Hub, Patience
from tollhouse.server.listener import BACKLOG, Place
from tollhouse.server.tls import GOODBYE_SECONDS, HANDSHAKE_SECONDS, Failures, LiveTls

log = logging.getLogger("tollhouse.server")

_PATIENCE: Final = Patience()


class Http1Listener:
    """The `Server` that the gateway uses."""

    def __init__(
        self,
        app: App,
        place: Place,
        *,
        tls: LiveTls | None = None,
        patience: Patience = _PATIENCE,
        max_connections: int = MAX_CONNECTIONS,
    ) -> None:
        """Nothing listens until `start`.  Without `tls` it speaks plain text; its owner keeps that current."""
        loop = asyncio.get_running_loop()
        self._place = place
        self._tls = tls
        failures = Failures()
        self._hub = Hub(
            app,
            loop,
            _failed,
            patience,
            max_connections,
            heard_tls=lambda: failures.tell("it spoke TLS to a port of plain text"),
        )
        self._server: asyncio.Server | None = None
        self._stopped: asyncio.Future[None] = loop.create_future()

    async def start(self) -> None:
        """Begins to listen.  Raises `OSError` when the port cannot be had after all."""
        hub, tls = self._hub, self._tls
        self._server = await hub.loop.create_server(
            lambda: Connection(hub),
            self._place.host,
            self._place.port,
            reuse_port=True,
            backlog=BACKLOG,
            ssl=None if tls is None else tls.context,
            ssl_handshake_timeout=None if tls is None else HANDSHAKE_SECONDS,
            ssl_shutdown_timeout=None if tls is None else GOODBYE_SECONDS,
        )

    async def wait(self) -> None:
        """Returns when `stop` was called and every request has ended."""
        await asyncio.shield(self._stopped)

    async def stop(self, limit_seconds: float) -> bool:
        """Stops accepting and lets requests end; false if some were still running after the limit."""
        hub = self._hub
        hub.is_stopping = True
        if self._server is not None:
            self._server.close()
        for connection in tuple(hub.connections):
            connection.close_when_idle()
        hub.dismiss()
        if hub.tasks:
            await asyncio.wait(hub.tasks, timeout=limit_seconds)
        if hub.tasks:
            return False
        if not self._stopped.done():
            self._stopped.set_result(None)
        return True


def _failed(error: BaseException) -> None:
    # The app tells what it knows of its own errors; what it lets escape begins an answer that cannot be finished.
    if not isinstance(error, TollhouseError):
        log.error("a request was broken off", extra={"error": type(error).__name__})
