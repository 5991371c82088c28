"""HTTP/1.1 and HTTP/2 by granian, for those who need the second; `http1` costs half the CPU a call.

Granian parses and writes in a thread of its own and hands every message over to the event loop, which costs about 65 us a call
more than a protocol inside the loop does (decision 0006 has the measurements).
"""

import asyncio
import logging
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from granian.constants import HTTPModes, Interfaces, SSLProtocols
from granian.server.embed import Server as Granian

from tollhouse.errors import GatewayError
from tollhouse.server.http.asgi import App
from tollhouse.server.listener import BACKLOG, Place
from tollhouse.server.tls import LiveTls

MAX_CONNECTIONS: Final = 16_384
"""Connections that are served at a time, idle ones included; by itself granian takes the backlog for it."""
LISTEN_SECONDS: Final = 20.0
"""How long a server may take from its start until it accepts connections."""
PROBE_SECONDS: Final = 0.005


class Http2Listener:
    """Granian behind `Server`: a server that can be started, stopped gracefully, and awaited."""

    def __init__(self, app: App, place: Place, *, tls: LiveTls | None = None) -> None:
        """Nothing listens until `start`.  Without `tls` it speaks plain text; its owner keeps that current."""
        self._app = app
        self._place = place
        self._tls = tls
        self._loop = asyncio.get_running_loop()
        logging.getLogger("_granian").setLevel(logging.ERROR)
        self._server: Any = None
        self._tasks: set[asyncio.Task[None]] = set()
        """Of granians that serve or let their last requests end."""
        self._is_stopping = False
        self._stopped: asyncio.Future[None] = self._loop.create_future()
        if tls is not None:
            tls.when_changed(self._renew_soon)

    async def start(self) -> None:
        """Begins to listen, and returns when connections are accepted or when it was stopped before that."""
        task = self._begin()
        await until_listening(self._place, task.done)

    async def wait(self) -> None:
        """Returns when the server has stopped and every request has ended; raises what made it fail."""
        await asyncio.shield(self._stopped)

    async def stop(self, limit_seconds: float) -> bool:
        """Stops accepting and lets requests end; false if some were still running after the limit."""
        self._is_stopping = True
        if self._server is not None:
            self._server.stop()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=limit_seconds)
        if not self._tasks and not self._stopped.done():
            self._stopped.set_result(None)
        return not self._tasks

    def _begin(self) -> asyncio.Task[None]:
        self._server = self._made()
        task = self._loop.create_task(self._server.serve())
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if self._stopped.done():
            return
        if error is not None:
            self._stopped.set_exception(error)
        elif not self._tasks:
            self._stopped.set_result(None)

    def _renew_soon(self) -> None:
        self._loop.call_soon_threadsafe(self._renew)

    def _renew(self) -> None:
        if self._is_stopping or self._server is None:
            return
        former = self._server
        self._begin()
        former.stop()

    def _made(self) -> Any:
        tls = self._tls
        settings = None if tls is None else tls.settings
        return Granian(
            self._app,
            address=self._place.host,
            port=self._place.port,
            interface=Interfaces.ASGINL,
            http=HTTPModes.auto,
            websockets=False,
            backlog=BACKLOG,
            backpressure=MAX_CONNECTIONS,
            log_enabled=False,
            ssl_cert=None if settings is None else Path(settings.cert),
            ssl_key=None if settings is None else Path(settings.key),
            ssl_protocol_min=SSLProtocols.tls12,
            ssl_ca=Path(settings.client_ca) if settings is not None and settings.client_ca is not None else None,
            ssl_client_verify=settings is not None and settings.client_ca is not None,
        )


async def until_listening(place: Place, is_over: Callable[[], bool] = lambda: False) -> None:
    """Returns when connections to `place` are accepted, or when `is_over` says that nobody will do so any more.

    Granian listens from a thread of its own and does not tell when it does, so there is nothing to wait on but the port.
    Raises `GatewayError` after `LISTEN_SECONDS`.
    """
    loop = asyncio.get_running_loop()
    give_up_at = loop.time() + LISTEN_SECONDS
    while not is_over():
        family = socket.AF_INET6 if ":" in place.host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setblocking(False)  # noqa: FBT003  # the name says which
            with suppress(OSError):
                await loop.sock_connect(probe, (place.host, place.port))
                return
        if loop.time() > give_up_at:
            raise GatewayError(f"{place.host}:{place.port} did not begin to listen within {LISTEN_SECONDS:.0f} s.")
        await asyncio.sleep(PROBE_SECONDS)
