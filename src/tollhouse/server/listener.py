"""Where the gateway listens, and what it needs of the server that does."""

import asyncio
import errno
import socket
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal, Protocol

from tollhouse.errors import ConfigError

BACKLOG: Final = 2048
Listener = Literal["gateway", "admin listener", "gRPC listener"]


@dataclass(frozen=True, slots=True)
class Place:
    """Where to listen."""

    host: str
    port: int
    is_encrypted: bool = False

    @property
    def address(self) -> str:
        """`host:port`, with brackets around IPv6."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """`http://host:port` or `https://host:port`, with brackets around IPv6."""
        return f"{'https' if self.is_encrypted else 'http'}://{self.address}"


def reserve(place: Place, what: Listener) -> "tuple[Place, socket.socket]":
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
    return replace(place, port=held.getsockname()[1]), held


_SETTINGS: Final[Mapping[Listener, str]] = {
    "gateway": "server.port",
    "admin listener": "server.admin_port",
    "gRPC listener": "server.grpc_port",
}


def _bind(trial: socket.socket, place: Place, what: Listener) -> None:
    try:
        trial.bind((place.host, place.port))
    except OSError as error:
        setting = _SETTINGS[what]
        reason = {
            errno.EADDRINUSE: f"something else listens there already; stop it or change `{setting}`",
            errno.EACCES: f"ports below 1024 need root; change `{setting}`",
            errno.EADDRNOTAVAIL: "this machine has no such address",
        }.get(error.errno or 0, error.strerror or str(error))
        raise ConfigError([f"The {what} cannot listen on {place.host}:{place.port}: {reason}."]) from error
    except (OverflowError, UnicodeError) as error:
        raise ConfigError([f"The {what} cannot listen on {place.host}:{place.port}: {error}."]) from error


class Server(Protocol):
    """What a worker needs of an HTTP server: `http1.listener.Http1Listener`, or `http2.Http2Listener` where it is asked for."""

    async def start(self) -> None:
        """Begins to listen, and returns when connections are accepted."""
        ...

    async def wait(self) -> None:
        """Returns when the server has stopped and every request has ended."""
        ...

    async def stop(self, limit_seconds: float) -> bool:
        """Stops accepting and lets requests end; false if some were still running after the limit."""
        ...


class SilentServer:
    """The `Server` of a gateway that is not to be reached this way: it lives and ends as the others do."""

    def __init__(self) -> None:
        self._stopped = asyncio.Event()

    async def start(self) -> None:
        """Listens to nobody."""

    async def wait(self) -> None:
        """Returns when it was stopped."""
        await self._stopped.wait()

    async def stop(self, limit_seconds: float) -> bool:
        """Has nothing to wait for."""
        del limit_seconds
        self._stopped.set()
        return True
