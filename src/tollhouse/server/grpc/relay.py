"""Encryption in front of the gRPC server, where clients may show a certificate but need not.

The library asks clients for certificates always or never (`grpc.dynamic_ssl_server_credentials`, grpcio 1.85).  Where they are
optional, the port is listened on here, with the TLS of the HTTP listener, and the decrypted bytes are handed on to the library
over a Unix socket of this process.  Who is behind such a connection, the library cannot see; but it tells the name of the
socket that it was called from, and each has a name of its own: it is looked up here.

The socket lies in a folder that only this user may enter, and a connection with a name that was not given here is nobody's.
"""

import asyncio
import os
import shutil
import socket
import ssl
import stat
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import Final, cast
from urllib.parse import quote, unquote

from tollhouse.errors import GatewayError
from tollhouse.policy.peer_certificate import read_peer
from tollhouse.server.grpc.credentials import Client, Context
from tollhouse.server.listener import BACKLOG, Place
from tollhouse.server.tls import GOODBYE_SECONDS, HANDSHAKE_SECONDS, LiveTls
from tollhouse.telemetry import logs

HIGH_WATER_BYTES: Final = 262_144
LOW_WATER_BYTES: Final = 65_536
"""How much waits for a slow reader before the other side is no longer read, and how little before it is again."""
MAX_PATH_BYTES: Final = 90
"""A Unix socket's path has 108 bytes on Linux and 104 on macOS, the final zero included; connections' numbers come after."""
PREFIX: Final = "tollhouse-grpc-"
SOCKET: Final = "server"
"""How a relay's folder begins, and what it calls the socket in it."""
MAX_LOOKED_AT: Final = 10_000
"""How many names in the folder of temporary files are looked at for what others left behind."""
STARTING_SECONDS: Final = 60.0
"""How long a folder may have been without change before it counts as left behind: one that was just made has no socket yet."""

log = logs.get("server")


class TlsRelay:
    """Listens for one gRPC server.  Made and used on its event loop."""

    def __init__(self, place: Place, tls: LiveTls, *, max_connections: int) -> None:
        """Listens nowhere, and makes nothing, until `open`."""
        self._place = place
        self._context = tls.context_for("h2")
        self._max_connections = max_connections
        self._folder: Path | None = None
        self._inner = ""
        self._last = 0
        self._clients: dict[str, Client] = {}
        self._open: set[_Outer] = set()
        self._joining: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    def open(self) -> str:
        """Makes the folder of the socket, and gives the address at which the library is to listen, in its own spelling.

        Raises `GatewayError` when the folder cannot be had.
        """
        try:
            folder = self._folder = Path(tempfile.mkdtemp(prefix=PREFIX))  # 0700
        except OSError as error:
            raise GatewayError(
                f"There is no folder for the gRPC listener's socket: {error.strerror}.",
                hint="Name one that can be written to in TMPDIR.",
            ) from error
        _remove_left_behind(folder.parent)
        self._inner = str(folder / SOCKET)
        if len(self._inner.encode()) > MAX_PATH_BYTES:
            self.close()
            raise GatewayError(
                f"The path of the gRPC listener's socket is too long for a Unix socket: {self._inner}.",
                hint="Name a folder with a shorter path in TMPDIR.",
            )
        return f"unix:{quote(self._inner)}"

    def client_of(self, context: Context) -> Client | None:
        """Whom the relay speaks for in an RPC; `None` for a connection that is not the relay's."""
        return self._clients.get(unquote(context.peer()))

    async def start(self) -> None:
        """Begins to listen; the library has to listen already.  Raises `OSError` when the port cannot be had after all."""
        self._server = await asyncio.get_running_loop().create_server(
            lambda: _Outer(self),
            self._place.host,
            self._place.port,
            reuse_port=True,
            backlog=BACKLOG,
            ssl=self._context,
            ssl_handshake_timeout=HANDSHAKE_SECONDS,
            ssl_shutdown_timeout=GOODBYE_SECONDS,
        )

    def stop_listening(self) -> None:
        """Accepts no more connections; those that are open go on until the library ends them."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def close(self) -> None:
        """Breaks off what is left, and removes the folder."""
        self.stop_listening()
        for task in self._joining:
            task.cancel()
        for outer in tuple(self._open):
            outer.abort()
        # What an interrupted end leaves behind is a socket that nobody listens on, in a folder that nobody else may enter; the
        # next relay removes it.
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    # ------------------------------------------------------------------------------------------- for its connections

    def admit(self, outer: "_Outer") -> bool:
        """Counts a connection in; false when there are too many."""
        if len(self._open) >= self._max_connections:
            return False
        self._open.add(outer)
        task = asyncio.get_running_loop().create_task(self._join(outer))
        self._joining.add(task)
        task.add_done_callback(self._joining.discard)
        return True

    def leave(self, outer: "_Outer") -> None:
        """Forgets a connection."""
        self._open.discard(outer)
        self._clients.pop(outer.name, None)

    async def _join(self, outer: "_Outer") -> None:
        """Connects to the library in a client's name.  The outer edge of the task: it ends the connection when it fails."""
        loop = asyncio.get_running_loop()
        self._last += 1
        name = f"{self._inner}.{self._last}"
        outer.name = f"unix:{name}"
        self._clients[outer.name] = outer.client
        end = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            end.setblocking(False)  # noqa: FBT003  # the name says which
            end.bind(name)
            try:
                await loop.sock_connect(end, self._inner)
            finally:
                os.unlink(name)  # noqa: PTH108  # a moment in memory; the connection keeps its name
            await loop.create_unix_connection(lambda: _Inner(outer), sock=end)
        except OSError as error:
            end.close()
            outer.abort()
            if self._server is not None:
                log.error("a gRPC connection could not be handed on", extra={"why": str(error)})  # noqa: TRY400
        except asyncio.CancelledError:
            end.close()
            raise


def _remove_left_behind(parent: Path) -> None:
    """Removes the folders of relays that were killed: this user's own, unchanged for a while, and nobody listens in them."""
    try:
        with os.scandir(parent) as entries:
            found = [Path(entry.path) for entry in islice(entries, MAX_LOOKED_AT) if entry.name.startswith(PREFIX)]
    except OSError:
        return  # it can be written to and not be read
    for folder in found:
        if _is_left_behind(folder):
            shutil.rmtree(folder, ignore_errors=True)


def _is_left_behind(folder: Path) -> bool:
    try:
        facts = folder.lstat()
    except OSError:
        return False
    is_ours = stat.S_ISDIR(facts.st_mode) and facts.st_uid == os.geteuid()
    if not is_ours or time.time() - facts.st_mtime < STARTING_SECONDS:
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller:
        caller.setblocking(False)  # noqa: FBT003  # a listener whose queue is full says so, and is alive
        try:
            caller.connect(str(folder / SOCKET))
        except (ConnectionRefusedError, FileNotFoundError):
            return True
        except OSError:
            return False
    return False


class _Side(asyncio.Protocol):
    """One end of a connection: what it brings is written to the other end, and it is read no faster than that takes."""

    def __init__(self) -> None:
        self.socket: asyncio.Transport | None = None
        self.other: _Side | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.socket = cast("asyncio.Transport", transport)  # uvloop's class is no subclass of asyncio's
        self.socket.set_write_buffer_limits(high=HIGH_WATER_BYTES, low=LOW_WATER_BYTES)

    def data_received(self, data: bytes) -> None:
        if self.other is not None and self.other.socket is not None:
            self.other.socket.write(data)

    def pause_writing(self) -> None:
        if self.other is not None and self.other.socket is not None and not self.other.socket.is_closing():
            self.other.socket.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None and self.other.socket is not None and not self.other.socket.is_closing():
            self.other.socket.resume_reading()

    def abort(self) -> None:
        if self.socket is not None:
            self.socket.abort()


class _Outer(_Side):
    """The client's end, from the handshake on."""

    def __init__(self, relay: TlsRelay) -> None:
        super().__init__()
        self._relay = relay
        self.name = ""
        self.client = Client("")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        socket = cast("asyncio.Transport", transport)
        encrypted: ssl.SSLObject = socket.get_extra_info("ssl_object")
        if encrypted.selected_alpn_protocol() != "h2":  # as the library itself demands
            socket.abort()
            return
        socket.pause_reading()  # until the other end is there
        der = encrypted.getpeercert(binary_form=True)
        self.client = Client(
            _spelled(socket.get_extra_info("peername")),
            None if der is None else read_peer(ssl.DER_cert_to_PEM_cert(der)),
        )
        if not self._relay.admit(self):
            socket.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone: what the library has not been told yet, it need not hear."""
        del exc
        self.socket = None
        self._relay.leave(self)
        if self.other is not None:
            self.other.abort()


class _Inner(_Side):
    """The library's end."""

    def __init__(self, outer: _Outer) -> None:
        super().__init__()
        self.other: _Outer | None = outer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        outer = self.other
        if outer is None or outer.socket is None:  # gone meanwhile
            transport.close()
            return
        outer.other = self
        outer.socket.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """The library has ended the connection; the client gets what is on its way."""
        del exc
        self.socket = None
        if self.other is not None and self.other.socket is not None:
            self.other.socket.close()


def _spelled(name: object) -> str:
    """A socket's name as gRPC spells it."""
    if not isinstance(name, tuple) or len(name) < 2:
        return ""
    host, port = str(name[0]), int(name[1])
    return f"ipv6:[{host}]:{port}" if ":" in host else f"ipv4:{host}:{port}"
