"""One listening socket with an ASGI app behind it, served by granian inside our own event loop."""

import asyncio
import errno
import logging
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Protocol

from granian.constants import HTTPModes, Interfaces
from granian.server.embed import Server as Granian

from tollhouse.errors import ConfigError, GatewayError
from tollhouse.server.http.asgi import App

BACKLOG: Final = 2048
MAX_CONNECTIONS: Final = 16_384
"""Connections that are served at a time, idle ones included; by itself granian takes the backlog for it.  How many calls are
answered at a time is `server.max_concurrent_calls`, and a caller over it gets an answer that says so."""
LISTEN_SECONDS: Final = 20.0
"""How long a server may take from its start until it accepts connections."""
PROBE_SECONDS: Final = 0.005


@dataclass(frozen=True, slots=True)
class Place:
    """Where to listen."""

    host: str
    port: int

    @property
    def url(self) -> str:
        """`http://host:port`, with brackets around IPv6."""
        return f"http://[{self.host}]:{self.port}" if ":" in self.host else f"http://{self.host}:{self.port}"


def reserve(place: Place, what: str) -> "tuple[Place, socket.socket]":
    """Makes sure that nobody else listens at `place`, and picks a free port for port 0.

    Returns the exact place and a bound socket that never listens: keep it open until the server listens there too, so that
    nobody takes the port meanwhile.  Raises `ConfigError` with a sentence that says what to do.
    """
    family = socket.AF_INET6 if ":" in place.host else socket.AF_INET
    if place.port:
        # The servers share the port by SO_REUSEPORT, which would also share it with a stranger who set it: a bind without
        # it fails if anyone is there.
        with socket.socket(family, socket.SOCK_STREAM) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            _bind(trial, place, what)
    held = socket.socket(family, socket.SOCK_STREAM)
    try:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        _bind(held, place, what)
    except BaseException:
        held.close()
        raise
    return Place(place.host, held.getsockname()[1]), held


def _bind(trial: socket.socket, place: Place, what: str) -> None:
    try:
        trial.bind((place.host, place.port))
    except OSError as error:
        setting = "server.port" if what == "gateway" else "server.admin_port"
        reason = {
            errno.EADDRINUSE: f"something else listens there already; stop it or change `{setting}`",
            errno.EACCES: f"ports below 1024 need root; change `{setting}`",
            errno.EADDRNOTAVAIL: "this machine has no such address",
        }.get(error.errno or 0, error.strerror or str(error))
        raise ConfigError([f"The {what} cannot listen on {place.host}:{place.port}: {reason}."]) from error
    except (OverflowError, UnicodeError) as error:
        raise ConfigError([f"The {what} cannot listen on {place.host}:{place.port}: {error}."]) from error


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


class Server(Protocol):
    """What a worker needs of an HTTP server.  `Listener` is the one that the gateway uses."""

    def start(self) -> None:
        """Begins to listen."""
        ...

    async def wait(self) -> None:
        """Returns when the server has stopped and every request has ended."""
        ...

    async def stop(self, limit_seconds: float) -> bool:
        """Stops accepting and lets requests end; false if some were still running after the limit."""
        ...


class Listener:
    """Granian behind `Server`: a server that can be started, stopped gracefully, and awaited."""

    def __init__(self, app: App, place: Place) -> None:
        """Nothing listens until `serve`."""
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

    def start(self) -> None:
        """Begins to listen, which takes a moment (see `until_listening`); `wait` says when it is over."""
        self._task = asyncio.get_running_loop().create_task(self._server.serve())

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
