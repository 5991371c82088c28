"""The transport to providers: HTTP/1.1 on httptools (llhttp) and asyncio, plain or uvloop.

    send ──▶ Pool (one per origin: slots, idle connections, waiters)
               └─▶ Connection (one socket: writes the request, holds the timer)
                     └─▶ Exchange (one answer: parsed, bounded, read by the caller)

Why not a library: a gateway must close the provider's connection the moment its client leaves, before the first byte as
well as after, or it pays for answers that nobody reads; and a stream costs a few microseconds a piece here, several
times less than in a general client.  What a general client has and this has not: redirects, cookies, HTTP/2,
decompression of what was not asked for beyond gzip and deflate, and reading the environment.
"""

import asyncio
import ssl
from dataclasses import dataclass
from itertools import chain
from typing import Final

from tollhouse.errors import ConfigError, ConnectFailed, ConnectionLost, GatewayError, UpstreamTimeout
from tollhouse.upstream.connection import READ_BUFFER_BYTES, Connection
from tollhouse.upstream.content import decoded
from tollhouse.upstream.dialler import Dialler, NotReached, Trail
from tollhouse.upstream.names import Names, Unresolved, plain_reason
from tollhouse.upstream.outbox import Outbox
from tollhouse.upstream.pool import Pool
from tollhouse.upstream.proxy import NO_PROXIES, Proxies, ProxyServer, open_tunnel
from tollhouse.upstream.transport import Address, Deadlines, Incoming, Outgoing

JOINED_BODY_BYTES: Final = 65_536
"""Bodies up to this size are written with their head in one piece; larger ones are not copied."""
MAX_REMEMBERED_HEADS: Final = 256
MAX_REMEMBERED_HEAD_BYTES: Final = 8192
"""Heads that are remembered for each origin, and their size; those of one provider's calls are nearly always the same."""
_BODILESS_METHODS: Final = frozenset({b"GET", b"HEAD", b"DELETE", b"OPTIONS"})


@dataclass(frozen=True, slots=True, kw_only=True)
class WireSettings:
    """How a transport connects; one transport has one way of TLS for all its addresses."""

    connections_per_origin: int = 1000
    """Bound for each scheme, host and port.  Past it callers wait in line, within their connect deadline."""
    idle_seconds: float = 30.0
    """How long a connection may stay unused.  Below the 60 s and more after which providers and balancers close."""
    ca_file: str | None = None
    """PEM file of certificate authorities, in place of the system's."""
    client_cert: str | None = None
    """PEM file of the certificate (with its chain) that is shown to a server that asks for one."""
    client_key: str | None = None
    """PEM file of its private key, if that is not in the same file; not encrypted."""
    proxies: Proxies = NO_PROXIES


@dataclass(frozen=True, slots=True, kw_only=True)
class OriginState:
    """The connections to one scheme, host and port."""

    where: str
    """`Address.where`."""
    open: int
    """Those that are being made among them."""
    idle: int
    waiting: int
    """Calls that wait for one."""


class WireTransport:
    """The `Transport` that the gateway uses.  Belongs to the event loop that first calls `send`; `aclose` it there."""

    def __init__(self, settings: WireSettings | None = None, *, dialler: Dialler | None = None) -> None:
        """Opens nothing.  Raises `ConfigError` if a PEM file cannot be used: before a new configuration is.

        `dialler` opens the sockets, and is closed with the transport.
        """
        self._settings = settings or WireSettings()
        self._dialler = dialler or Dialler()
        self._connecting: set[asyncio.Timeout] = set()
        self._origins: dict[tuple[str, str, int], _Origin] = {}
        self._connections: set[Connection] = set()
        self._buffer = memoryview(bytearray(READ_BUFFER_BYTES))
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._outbox: Outbox | None = None
        self._all_lost: asyncio.Future[None] | None = None
        given = self._settings
        self._tls = (
            load_tls(given.ca_file, given.client_cert, given.client_key) if given.ca_file or given.client_cert else None
        )
        self._tls_loading: asyncio.Future[ssl.SSLContext] | None = None

    async def send(self, request: Outgoing, deadlines: Deadlines) -> Incoming:
        """See `Transport.send`.  Raises `GatewayError` for a header with a line break in it."""
        loop = self._loop
        if loop is None:
            loop = self._loop = asyncio.get_running_loop()  # asked once: each time costs a system call
        total_at = loop.time() + deadlines.total
        origin = self._origin(request.address)
        message, rest = _serialise(origin, request)
        bodiless = request.method == b"HEAD"
        retrying = False
        while True:
            connection = None if retrying else origin.pool.take_idle()
            if connection is None:
                connection = await self._connect(origin, loop, deadlines, total_at)
            exchange = connection.start(message, rest, deadlines, bodiless=bodiless, total_at=total_at)
            try:
                await exchange.head()
            except ConnectionLost:
                # A server closes an idle connection just when we write: nothing came back, so nothing was begun.
                if retrying or exchange.touched or connection.served == 1 or self._closed:
                    raise
                retrying = True
                continue
            if exchange.content_encoding:
                return decoded(exchange, exchange.content_encoding, origin.where)
            return exchange

    @property
    def names(self) -> Names:
        """The names that were looked up."""
        return self._dialler.names

    def pools(self) -> list[OriginState]:
        """How many connections there are, one entry for each origin that was called."""
        # A copy: it is looked at from another thread, too.
        return [
            OriginState(
                where=origin.where,
                open=origin.pool.open_slots,
                idle=origin.pool.idle_connections,
                waiting=origin.pool.waiting,
            )
            for origin in list(self._origins.values())
        ]

    async def aclose(self) -> None:
        """See `Transport.aclose`.  Calls in flight fail with `ConnectionLost`, later ones with `ConnectFailed`.

        So do those that wait for a connection: their deadline is now.
        """
        self._closed = True
        for connection in tuple(self._connections):
            connection.abort()
        for limit in self._connecting:
            if not limit.expired():
                limit.reschedule(0.0)
        self._dialler.close()
        if self._connections:
            if self._all_lost is None:
                self._all_lost = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._all_lost)

    def _origin(self, address: Address) -> "_Origin":
        key = (address.scheme, address.host, address.port)
        origin = self._origins.get(key)
        if origin is None:
            origin = self._origins[key] = _Origin(address, self._settings)
        return origin

    async def _connect(
        self, origin: "_Origin", loop: asyncio.AbstractEventLoop, deadlines: Deadlines, total_at: float
    ) -> Connection:
        """A fresh connection, or one that another call has just finished with."""
        until = min(loop.time() + deadlines.connect, total_at)
        limit = asyncio.timeout_at(until)
        trail = Trail()
        self._connecting.add(limit)
        try:
            async with limit:
                while not origin.pool.take_slot():
                    connection = await origin.pool.wait()
                    if connection is None:
                        break
                    if not connection.closed:
                        return connection
                return await self._open(origin, loop, trail)
        except OSError as error:
            if self._closed:
                raise _closing(origin) from error
            if origin.proxy is None or trail.winner is None:  # a tunnel's trouble is not its address's
                self._dialler.give_up(trail)
            if not limit.expired():  # the kernel's own ETIMEDOUT is a `TimeoutError` too
                raise ConnectFailed(f"Could not connect to {origin.way}: {_reason(error)}.") from error
            phase = "total" if until == total_at else "connect"
            raise UpstreamTimeout(f"No connection to {origin.way} in time: {trail.words}.", phase=phase) from error
        finally:
            self._connecting.discard(limit)

    async def _open(self, origin: "_Origin", loop: asyncio.AbstractEventLoop, trail: Trail) -> Connection:
        """Opens a socket in a slot that is already taken.  On failure and on cancelling, socket and slot are given back."""
        outbox = self._outbox = self._outbox or Outbox(loop.call_soon)
        connection = Connection(
            loop,
            origin.pool,
            origin.where,
            buffer=self._buffer,
            outbox=outbox,
            idle_seconds=self._settings.idle_seconds,
            on_lost=self._lost,
        )
        self._connections.add(connection)
        try:
            await self._establish(connection, origin, loop, trail)
        except BaseException:
            connection.abort()
            if not connection.connected:
                self._lost(connection)
            raise
        return connection

    async def _establish(
        self, connection: Connection, origin: "_Origin", loop: asyncio.AbstractEventLoop, trail: Trail
    ) -> None:
        """Names, TCP, the proxy's tunnel and TLS: each when the one before is done."""
        address, proxy = origin.address, origin.proxy
        if self._closed:
            raise _closing(origin)
        context = await self._tls_context(loop) if address.scheme == "https" else None
        peer = address if proxy is None else proxy
        transport = await self._dialler.dial(peer.host, peer.port, trail)
        # From here on the socket is ours; who is told when it is gone changes with `set_protocol` and `start_tls`.
        try:
            if context is not None and proxy is not None:
                trail.waits_for = "the proxy to open a tunnel"
                await open_tunnel(transport, proxy, address.host, address.port)
            ready: asyncio.Transport | None = transport
            if transport.is_closing():
                ready = None
            elif context is None:
                transport.set_protocol(connection)
            else:
                trail.waits_for = "the TLS handshake"
                ready = await loop.start_tls(transport, connection, context, server_hostname=address.host)
        except BaseException:
            transport.abort()
            raise
        if ready is not None:
            connection.connection_made(ready)
        if ready is None or connection.closed:
            raise ConnectFailed(f"The connection to {origin.way} closed as soon as it was made.")

    async def _tls_context(self, loop: asyncio.AbstractEventLoop) -> ssl.SSLContext:
        """Loads the system's authorities once, off the loop (tens of milliseconds), at the first `https` call."""
        if self._tls is None:
            if self._tls_loading is None:
                self._tls_loading = loop.run_in_executor(None, load_tls, None)
            self._tls = await asyncio.shield(self._tls_loading)
        return self._tls

    def _lost(self, connection: Connection) -> None:
        self._connections.discard(connection)
        if self._all_lost is not None and not self._connections and not self._all_lost.done():
            self._all_lost.set_result(None)


class _Origin:
    """What is worked out once for each scheme, host and port."""

    __slots__ = ("address", "heads", "host_lines", "pool", "proxy", "target_prefix", "way", "where")

    def __init__(self, address: Address, settings: WireSettings) -> None:
        self.address = address
        self.proxy: ProxyServer | None = settings.proxies.route(address)
        self.pool: Pool[Connection] = Pool(settings.connections_per_origin)
        self.where = address.where
        self.way = self.where if self.proxy is None else f"{self.where} through the proxy {self.proxy.where}"
        """For messages about connecting."""
        self.target_prefix = b""
        self.heads: dict[tuple[bytes | tuple[bytes, bytes], ...], bytes] = {}
        """What `_head` made, by method, target and header fields."""
        self.host_lines = b" HTTP/1.1\r\nhost: " + address.authority + b"\r\n"
        if self.proxy is not None and address.scheme == "http":
            self.target_prefix = b"http://" + address.authority
            if self.proxy.authorization is not None:
                self.host_lines += b"proxy-authorization: " + self.proxy.authorization + b"\r\n"


def _serialise(origin: _Origin, request: Outgoing) -> tuple[bytes, bytes]:
    """The request as the bytes to write first and the rest of a large body."""
    key: tuple[bytes | tuple[bytes, bytes], ...] = (request.method, request.target, *request.headers)
    head = origin.heads.get(key)
    if head is None:
        head = _head(origin, request)
        if len(head) <= MAX_REMEMBERED_HEAD_BYTES:
            if len(origin.heads) >= MAX_REMEMBERED_HEADS:
                origin.heads.clear()
            origin.heads[key] = head
    body = request.body
    if not body and request.method in _BODILESS_METHODS:
        return head + b"\r\n", b""
    if len(body) <= JOINED_BODY_BYTES:
        return b"%bcontent-length: %d\r\n\r\n%b" % (head, len(body), body), b""
    return b"%bcontent-length: %d\r\n\r\n" % (head, len(body)), body


def _head(origin: _Origin, request: Outgoing) -> bytes:
    """A request's head but for what is said of its body.

    Raises `GatewayError` for a line break in a header field, or a blank in the target.
    """
    said = b"".join(chain(*request.headers)) + request.target
    if any(mark in said for mark in (b"\n", b"\r", b"\0")) or b" " in request.target:
        raise GatewayError(
            f"The request to {origin.where} was not sent: {_broken_field(request)} contains a line break or a blank.",
            hint="Look at this provider's `api_key`, `base_url` and `headers` in the configuration.",
        )
    lines = b"".join(b"%b: %b\r\n" % field for field in request.headers)
    return b"%b %b%b%b%b" % (request.method, origin.target_prefix, request.target, origin.host_lines, lines)


def _broken_field(request: Outgoing) -> str:
    for name, value in request.headers:
        if any(mark in value for mark in (b"\r", b"\n", b"\0")):
            return f"the header {name[:100].decode('ascii', 'replace')!r}"
    return "its target or the name of a header"


def load_tls(ca_file: str | None, client_cert: str | None = None, client_key: str | None = None) -> ssl.SSLContext:
    """A verifying client context with the system's authorities, or those of a PEM file.  Raises `ConfigError`."""
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise ConfigError([f"The certificate authorities in {ca_file!r} cannot be used: {_reason(error)}."]) from error
    if client_cert is not None:
        try:
            # A password would be asked for on the terminal; an empty one makes an encrypted key an error.
            context.load_cert_chain(client_cert, client_key, password=lambda: "")
        except (OSError, ValueError) as error:
            why = _reason(error) if isinstance(error, OSError) else "it is encrypted or broken"
            raise ConfigError([f"The client certificate in {client_cert!r} cannot be used: {why}."]) from error
    context.set_alpn_protocols(["http/1.1"])
    return context


def _closing(origin: _Origin) -> ConnectFailed:
    return ConnectFailed(f"Could not connect to {origin.where}: the gateway is closing its connections.")


def _reason(error: OSError) -> str:
    """Why, in words without anything of the request."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate was not accepted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"the TLS handshake failed: {error.reason or 'no reason given'}"
    if isinstance(error, Unresolved):
        return f"its name could not be resolved ({error})"
    if isinstance(error, ConnectionError):  # after the socket was opened: failures before are `NotReached`
        return "the TLS handshake failed: the connection was closed"
    return str(error) if isinstance(error, NotReached) else plain_reason(error)
