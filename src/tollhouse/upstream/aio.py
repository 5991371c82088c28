"""The same transport on aiohttp: the oracle that the fault suite holds our own against, and a way out if it fails.

Needs the extra `aiohttp`; this is the only module that imports it.  It costs several times the CPU of `wire`, and with
aiohttp 3.14 (November 2026) three promises are weaker, because the library does not tell the cases apart:

- a body delimited by the connection's close ends cleanly even when the connection was reset;
- a reused connection that breaks after a part of a response head is replaced as if nothing had come;
- bytes behind a complete answer make that answer malformed, where `wire` only gives up the connection.
"""

import asyncio
import io
import ssl
from types import SimpleNamespace

import aiohttp
from aiohttp.client_exceptions import ClientConnectorError, ClientHttpProxyError, ConnectionTimeoutError
from yarl import URL

from tollhouse.errors import (
    ConnectFailed,
    ConnectionLost,
    ProviderError,
    UpstreamMalformed,
    UpstreamTimeout,
    UpstreamTooLarge,
    UpstreamTruncated,
)
from tollhouse.upstream.content import decoded, read_all
from tollhouse.upstream.exchange import MAX_HEAD_BYTES
from tollhouse.upstream.transport import Deadlines, Headers, Incoming, Outgoing
from tollhouse.upstream.wire import JOINED_BODY_BYTES, WireSettings, load_tls

_MAX_READ_BYTES = 65_536


class AioTransport:
    """A `Transport` on aiohttp, with the settings of `wire`.  Belongs to the loop that first calls `send`."""

    def __init__(self, settings: WireSettings | None = None) -> None:
        """Opens nothing.  Raises `ConfigError` if the CA file cannot be read."""
        self._settings = settings or WireSettings()
        self._tls = load_tls(self._settings.ca_file) if self._settings.ca_file else None
        self._session: aiohttp.ClientSession | None = None
        self._fresh: aiohttp.ClientSession | None = None
        self._closed = False

    async def send(self, request: Outgoing, deadlines: Deadlines) -> Incoming:
        """See `Transport.send`."""
        if self._closed:
            raise ConnectFailed(f"Could not connect to {_where(request)}: the gateway is closing its connections.")
        if self._session is None or self._fresh is None:
            self._session, self._fresh = self._make_session(keep_alive=True), self._make_session(keep_alive=False)
        total_at = asyncio.get_running_loop().time() + deadlines.total
        story = _Story()
        try:
            response = await self._request(self._session, request, deadlines, total_at, story)
        except ConnectionLost:
            # aiohttp repeats only idempotent methods by itself.
            if not story.reused:
                raise
            response = await self._request(self._fresh, request, deadlines, total_at, _Story())
        incoming = AioIncoming(response, _where(request), deadlines.between_chunks, total_at)
        return decoded(incoming, incoming.header(b"content-encoding") or b"", _where(request))

    async def aclose(self) -> None:
        """See `Transport.aclose`."""
        self._closed = True
        for session in (self._session, self._fresh):
            if session is not None:
                await session.close()

    def _make_session(self, *, keep_alive: bool) -> aiohttp.ClientSession:
        trace = aiohttp.TraceConfig()
        trace.on_connection_reuseconn.append(_note_reuse)
        trace.on_request_headers_sent.append(_note_sent)
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0,
                limit_per_host=self._settings.connections_per_origin,
                **({"keepalive_timeout": self._settings.idle_seconds} if keep_alive else {"force_close": True}),
            ),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            read_bufsize=_MAX_READ_BYTES,
            max_line_size=MAX_HEAD_BYTES,
            max_field_size=MAX_HEAD_BYTES,
            skip_auto_headers=("accept", "accept-encoding", "user-agent", "content-type"),
            trace_configs=[trace],
        )

    async def _request(
        self,
        session: aiohttp.ClientSession,
        request: Outgoing,
        deadlines: Deadlines,
        total_at: float,
        story: "_Story",
    ) -> aiohttp.ClientResponse:
        where = _where(request)
        address = request.address
        proxy = self._settings.proxies.route(address)
        authorization = proxy.authorization if proxy else None
        if self._tls is None and address.scheme == "https":
            self._tls = load_tls(None)
        try:
            async with asyncio.timeout_at(total_at) as limit:
                return await session.request(
                    request.method.decode("ascii"),
                    URL(f"{address.scheme}://{address.authority.decode()}{request.target.decode()}", encoded=True),
                    headers=[(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers],
                    data=_payload(request.body),
                    allow_redirects=False,
                    ssl=self._tls or True,
                    proxy=f"http://{proxy.where}" if proxy else None,
                    proxy_headers={"proxy-authorization": authorization.decode()} if authorization else None,
                    timeout=aiohttp.ClientTimeout(
                        total=None, connect=deadlines.connect, sock_read=deadlines.first_byte
                    ),
                    trace_request_ctx=story,
                )
        except TimeoutError as error:
            if limit.expired():
                phase = "total"
            elif isinstance(error, ConnectionTimeoutError) or not story.sent:
                phase = "connect"
            else:
                phase = "first_byte"
            raise UpstreamTimeout(f"{where} did not answer in time.", phase=phase) from error
        except (ClientConnectorError, ClientHttpProxyError, ssl.SSLError) as error:
            raise ConnectFailed(f"Could not connect to {where}.") from error
        except aiohttp.ClientResponseError as error:
            raise _bad_head(error, where) from error
        except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, OSError) as error:
            raise ConnectionLost(f"{where} closed the connection before a complete response head.") from error


class AioIncoming:
    """An aiohttp response as `Incoming`."""

    __slots__ = ("_between_chunks", "_ended", "_error", "_fields", "_response", "_total_at", "_where")

    def __init__(self, response: aiohttp.ClientResponse, where: str, between_chunks: float, total_at: float) -> None:
        self._response = response
        self._where = where
        self._between_chunks = between_chunks
        self._total_at = total_at
        self._ended = False
        self._error: ProviderError | None = None
        self._fields = [(name.lower(), value) for name, value in response.raw_headers]

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self._response.status

    @property
    def headers(self) -> Headers:
        """Fields in order, names in lower case."""
        return self._fields

    def header(self, name: bytes) -> bytes | None:
        """The first field of that lower-case name."""
        return next((value for field, value in self._fields if field == name), None)

    async def read_some(self) -> bytes:
        """See `Incoming.read_some`."""
        if self._error is not None:
            raise self._error
        if self._ended:
            return b""
        try:
            data = await self._read()
        except asyncio.CancelledError:
            self._error = ConnectionLost(f"The exchange with {self._where} was cancelled.")
            self._response.close()
            raise
        except ProviderError as error:
            self._error = error
            self._response.close()
            raise
        self._ended = not data
        return data

    async def read_all(self, limit_bytes: int) -> bytes:
        """See `Incoming.read_all`."""
        return await read_all(self, limit_bytes, self._where)

    def close(self) -> None:
        """See `Incoming.close`."""
        if self._error is None and not self._ended and not self._response.content.at_eof():
            self._error = ConnectionLost(f"The exchange with {self._where} was closed by the gateway before its end.")
        self._response.close()

    async def _read(self) -> bytes:
        due = asyncio.get_running_loop().time() + self._between_chunks
        try:
            async with asyncio.timeout_at(min(due, self._total_at)):
                return await self._response.content.readany()
        except TimeoutError as error:
            phase = "total" if self._total_at <= due else "between_chunks"
            raise UpstreamTimeout(f"{self._where} sent nothing in time.", phase=phase) from error
        except aiohttp.ClientPayloadError as error:
            if isinstance(error.__cause__, aiohttp.http_exceptions.TransferEncodingError) and "Not enough" not in str(
                error.__cause__
            ):
                raise UpstreamMalformed(f"{self._where} sent something that is not HTTP/1.1.") from error
            raise UpstreamTruncated(f"{self._where} closed the connection in the middle of the body.") from error
        except aiohttp.http_exceptions.HttpProcessingError as error:
            raise UpstreamMalformed(f"{self._where} sent something that is not HTTP/1.1.") from error
        except (aiohttp.ClientError, OSError) as error:
            if self._error is not None:  # `close` was called while this read waited
                raise self._error from error
            raise UpstreamTruncated(f"{self._where} closed the connection in the middle of the body.") from error


class _Story:
    """What happened to one request on the way to its head."""

    __slots__ = ("reused", "sent")

    def __init__(self) -> None:
        self.reused = False
        self.sent = False


async def _note_reuse(_session: aiohttp.ClientSession, context: SimpleNamespace, _params: object) -> None:
    context.trace_request_ctx.reused = True


async def _note_sent(_session: aiohttp.ClientSession, context: SimpleNamespace, _params: object) -> None:
    context.trace_request_ctx.sent = True


def _where(request: Outgoing) -> str:
    address = request.address
    return address.where


def _payload(body: bytes) -> bytes | io.BytesIO | None:
    # aiohttp writes bytes in one go, and warns; a file it writes piece by piece, so that it can be cancelled.
    return io.BytesIO(body) if len(body) > JOINED_BODY_BYTES else body or None


def _bad_head(error: aiohttp.ClientResponseError, where: str) -> ProviderError:
    if isinstance(error.__cause__, aiohttp.http_exceptions.LineTooLong) or "more than" in error.message:
        return UpstreamTooLarge(f"{where} sent a response head of more than {MAX_HEAD_BYTES} bytes.")
    return UpstreamMalformed(f"{where} sent something that is not HTTP/1.1.")
