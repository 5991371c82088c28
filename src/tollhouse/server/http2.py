"""HTTP/1.1 and HTTP/2 by granian, for those who need the second; `http1` costs half the CPU a call.

Granian parses and writes in a thread of its own and hands every message over to the event loop, which costs about 65 us a call
more than a protocol inside the loop does (decision 0006 has the measurements).
"""

import asyncio
import logging
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from granian.constants import HTTPModes, Interfaces
from granian.server.embed import Server as Granian

from tollhouse.errors import GatewayError
from tollhouse.server.http.asgi import App
from tollhouse.server.listener import BACKLOG, Place

MAX_CONNECTIONS: Final = 16_384
"""Connections that are served at a time, idle ones included; by itself granian takes the backlog for it."""
LISTEN_SECONDS: Final = 20.0
"""How long a server may take from its start until it accepts connections."""
PROBE_SECONDS: Final = 0.005


class Http2Listener:
    """Granian behind `Server`: a server that can be started, stopped gracefully, and awaited."""

    def __init__(self, app: App, place: Place) -> None:
        """Nothing listens until `serve`."""
        self._place = place
        logging.getLogger("_granian").setLevel(logging.ERROR)
        self._server: Any = Granian(
            app,
            address=place.host,
            port=place.port,
            interface=Interfaces.ASGINL,
            http=HTTPModes.auto,
            websockets=False,
            backlog=BACKLOG,
            backpressure=MAX_CONNECTIONS,
            log_enabled=False,
        )
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begins to listen, and returns when connections are accepted or when it was stopped before that."""
        task = self._task = asyncio.get_running_loop().create_task(self._server.serve())
        await until_listening(self._place, task.done)

    async def wait(self) -> None:
        """Returns when the server has stopped and every request has ended; raises what made it fail."""
        if self._task is not None:
            await asyncio.shield(self._task)

    async def stop(self, limit_seconds: float) -> bool:
        """Stops accepting and lets requests end; false if some were still running after the limit."""
        if self._task is None:
            return True
        self._server.stop()
        done, _ = await asyncio.wait({self._task}, timeout=limit_seconds)
        return bool(done)


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
