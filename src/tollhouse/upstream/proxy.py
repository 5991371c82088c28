"""HTTP proxies on the way to providers: which one, if any, and the CONNECT handshake.

The transport never reads the environment: whoever builds it passes `Proxies`, made by hand or by `proxies_from` out of
a mapping.  An `https` provider is reached through a CONNECT tunnel, so the proxy sees a name and a port, never a
credential; an `http` one through requests in absolute form (RFC 9112, section 3.2.2), because proxies commonly refuse
CONNECT to other ports than 443.
"""

import asyncio
import base64
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from tollhouse.errors import ConnectFailed
from tollhouse.upstream.address import BadAddress, parse_address
from tollhouse.upstream.transport import Address

MAX_HANDSHAKE_BYTES = 65_536
LOOPBACK = (".localhost", "127.0.0.0/8", "::1")
"""Bypass rules for this machine."""


@dataclass(frozen=True, slots=True)
class ProxyServer:
    """An HTTP proxy, spoken to without TLS."""

    host: str
    port: int
    authorization: bytes | None = field(default=None, repr=False)
    """The Proxy-Authorization header's value; a secret."""

    @property
    def where(self) -> str:
        """`host:port`, for messages."""
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxies:
    """Which proxy serves which address."""

    http: ProxyServer | None = None
    https: ProxyServer | None = None
    bypass: tuple[str, ...] = ()
    """Hosts reached directly: `*`, `name`, `.name` (it and all below it), `name:port`, an IP address, or a CIDR block."""

    def route(self, address: Address) -> ProxyServer | None:
        """The proxy for this address, or `None` for a direct way."""
        proxy = self.https if address.scheme == "https" else self.http
        if proxy is None or any(_matches(rule, address) for rule in self.bypass):
            return None
        return proxy


NO_PROXIES = Proxies()
"""Everything is reached directly."""


def parse_proxy(url: str) -> ProxyServer:
    """Reads `http://[user:password@]host[:port]` (port 80 unless said).  Raises `BadAddress`, without the password."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        scheme, rest = "http", url
    credentials, _, place = rest.rpartition("@")
    if scheme.lower() != "http":
        raise BadAddress(
            "A proxy's address must begin with http://; proxies that speak TLS or SOCKS are not supported."
        )
    address = parse_address(f"http://{place}")
    if address.path:
        raise BadAddress("A proxy's address has no path.")
    authorization = None
    if credentials:
        user, _, password = credentials.partition(":")
        authorization = b"Basic " + base64.b64encode(f"{unquote(user)}:{unquote(password)}".encode())
    return ProxyServer(address.host, address.port, authorization)


def proxies_from(environment: Mapping[str, str]) -> Proxies:
    """Reads `https_proxy`, `http_proxy` and `no_proxy` from a mapping; lower case wins, then upper case.

    This machine itself is never reached through a proxy that comes from the environment (Go's rule too): an embedded
    model or a local server must not depend on a company's proxy.  Raises `BadAddress` naming the variable.
    """

    def read(name: str) -> str:
        return (environment.get(name) or environment.get(name.upper()) or "").strip()

    def server(name: str) -> ProxyServer | None:
        url = read(name)
        try:
            return parse_proxy(url) if url else None
        except BadAddress as error:
            raise BadAddress(f"{name.upper()}: {error}") from error

    return Proxies(
        http=server("http_proxy"),
        https=server("https_proxy"),
        bypass=(*LOOPBACK, *(rule.strip().lower() for rule in read("no_proxy").split(",") if rule.strip())),
    )


async def open_tunnel(transport: asyncio.Transport, proxy: ProxyServer, host: str, port: int) -> None:
    """Has the proxy at the other end of `transport` connect to `host:port`.

    The caller owns the transport and sets its next protocol; also when this is cancelled or fails, with `ConnectFailed`.
    """
    handshake = _Handshake(asyncio.get_running_loop(), f"The proxy {proxy.where}")
    transport.set_protocol(handshake)
    name = f"[{host}]" if ":" in host else host
    target = f"{name}:{port}".encode()
    lines = [b"CONNECT ", target, b" HTTP/1.1\r\nhost: ", target, b"\r\n"]
    if proxy.authorization is not None:
        lines += [b"proxy-authorization: ", proxy.authorization, b"\r\n"]
    transport.write(b"".join([*lines, b"\r\n"]))
    await handshake.done


class _Handshake(asyncio.Protocol):
    """Waits for the proxy's answer to CONNECT."""

    def __init__(self, loop: asyncio.AbstractEventLoop, who: str) -> None:
        self.done: asyncio.Future[None] = loop.create_future()
        self._who = who
        self._parser = HttpResponseParser(self)
        self._received = 0
        self._status = 0

    def data_received(self, data: bytes) -> None:
        self._received += len(data)
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            self._fail("did not answer in HTTP", error)
            return
        if 200 <= self._status < 300:
            if not self.done.done():
                self.done.set_result(None)
        elif self._status:
            self._fail(f"refused a tunnel with status {self._status}", None)
        elif self._received > MAX_HANDSHAKE_BYTES:
            self._fail("answered without end", None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail("closed the connection", exc)

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status >= 200:
            self._status = status

    def on_body(self, _data: bytes) -> None:
        # In TLS the client speaks first: bytes behind a 200 are no tunnel's.  (A refusal may have a body.)
        if self._status < 300:
            raise HttpParserError("bytes before the handshake")

    def _fail(self, what: str, cause: Exception | None) -> None:
        if not self.done.done():
            error = ConnectFailed(f"{self._who} {what}.")
            error.__cause__ = cause
            self.done.set_exception(error)


def _matches(rule: str, address: Address) -> bool:
    if rule == "*":
        return True
    try:
        return ipaddress.ip_address(address.host) in ipaddress.ip_network(rule.strip("[]"), strict=False)
    except ValueError:
        pass  # a name on one side or the other
    name, _, port = rule.rpartition(":")
    if name and port.isdigit():
        return int(port) == address.port and _matches(name, address)
    bare = rule.removeprefix("*").removeprefix(".")
    return address.host == bare or address.host.endswith("." + bare)
