"""A scripted HTTP peer: a real server on 127.0.0.1 that does exactly what a test tells it to, byte by byte.

A *script* is a coroutine function that plays one connection.  It is handed a `Visit` and may read requests, send bytes
in any pieces, wait for an `asyncio.Event`, cut, reset or stall:

    async def half_a_chunk(visit: Visit) -> None:
        await visit.request()
        await visit.send(b"HTTP/1.1 200 OK\\r\\ntransfer-encoding: chunked\\r\\n\\r\\n5\\r\\nhel")
        visit.cut()

    async with Peer(half_a_chunk) as peer:
        ...  # talk to peer.url

The first connection plays the first script, the second the second, and so on; the last script plays all further ones.
When a script returns, its connection is closed.  A script that fails (an assertion, say) fails the test at the end of
the `async with`; one whose client has left just ends.  Nothing here sleeps: a test learns that the client closed from
`Visit.client_closed`.
"""

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import trustme

Script = Callable[["Visit"], Awaitable[None]]

HTML_ERROR = b"<html><head><title>502 Bad Gateway</title></head><body><h1>502</h1></body></html>"


@dataclass(frozen=True, slots=True)
class Request:
    """A request as the peer read it."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    """Names in lower case."""
    body: bytes

    def header(self, name: str) -> str | None:
        """The first field of that lower-case name."""
        return next((value for field, value in self.headers if field == name), None)


class Visit:
    """One connection from a client, as a script sees it."""

    def __init__(self, reader: "_Watched", writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.requests: list[Request] = []
        """Every request read so far."""
        self.client_closed = reader.closed
        """Set when the client's end of the connection is gone.  Not seen while more than 128 KiB lie unread."""
        self.sent_bytes = 0
        """Bytes that `send` and `flood` got rid of."""

    @property
    def reader(self) -> asyncio.StreamReader:
        """For scripts that read what is no HTTP request."""
        return self._reader

    @property
    def writer(self) -> asyncio.StreamWriter:
        """For scripts that need the transport."""
        return self._writer

    async def request(self) -> Request:
        """Reads a whole request (bodies by content-length) and records it.  Ends the script if the client leaves."""
        head = await self.request_head()
        length = int(head.header("content-length") or 0)
        request = Request(head.method, head.target, head.headers, await self._exactly(length))
        self.requests.append(request)
        return request

    async def request_head(self) -> Request:
        """Reads a request's head and leaves its body unread.  Not recorded."""
        try:
            raw = await self._reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as error:
            raise ConnectionResetError("the client left") from error
        first, *lines = raw[:-4].decode("latin-1").split("\r\n")
        method, target, _version = first.split(" ")
        fields = (line.split(":", 1) for line in lines)
        return Request(method, target, tuple((name.lower(), value.strip()) for name, value in fields), b"")

    async def send(self, *pieces: bytes) -> None:
        """Sends the pieces, each in a write of its own, and waits until the socket took them."""
        for piece in pieces:
            self._writer.write(piece)
            await self._writer.drain()
            self.sent_bytes += len(piece)

    async def trickle(self, data: bytes) -> None:
        """Sends one byte at a time, yielding to the client after each."""
        for offset in range(len(data)):
            await self.send(data[offset : offset + 1])
            await asyncio.sleep(0)

    async def answer(
        self,
        body: bytes = b"",
        *,
        status: int = 200,
        headers: Iterable[tuple[str, str]] = (),
        content_type: str = "application/json",
    ) -> None:
        """Sends a complete, well-formed answer with a content-length."""
        await self.send(response(body, status=status, headers=headers, content_type=content_type))

    async def wait(self, event: asyncio.Event) -> None:
        """Waits for the test's word."""
        await event.wait()

    async def stall(self) -> None:
        """Does nothing more until the client leaves or the test ends."""
        await self.client_closed.wait()

    def cut(self) -> None:
        """Closes in good manner (FIN) after what was sent."""
        self._writer.close()

    def reset(self) -> None:
        """Closes with a RST; what the client has not yet been sent is lost."""
        self._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    async def _exactly(self, length: int) -> bytes:
        try:
            return await self._reader.readexactly(length)
        except asyncio.IncompleteReadError as error:
            raise ConnectionResetError("the client left") from error


class Peer:
    """The server.  An async context manager; give it `tls` (a server context, see trustme) to speak https."""

    def __init__(
        self, *scripts: Script, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1", port: int = 0
    ) -> None:
        self._scripts = scripts
        self._tls = tls
        self._host = host
        self._tasks: set[asyncio.Task[None]] = set()
        self._arrived = asyncio.Condition()
        self.visits: list[Visit] = []
        """Connections in the order in which they were accepted."""
        self.port = port

    @property
    def url(self) -> str:
        """`http://127.0.0.1:port`; `https://localhost:port` with TLS."""
        return f"http://127.0.0.1:{self.port}" if self._tls is None else f"https://localhost:{self.port}"

    @property
    def requests(self) -> list[Request]:
        """All requests of all visits."""
        return [request for visit in self.visits for request in visit.requests]

    async def visit(self, number: int = 0) -> Visit:
        """Waits for the connection of that number (from 0)."""
        async with self._arrived:
            await self._arrived.wait_for(lambda: len(self.visits) > number)
        return self.visits[number]

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._group = await asyncio.TaskGroup().__aenter__()
        self._server = await loop.create_server(self._protocol, self._host, self.port, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        try:
            if isinstance(error, asyncio.CancelledError):
                await self._group.__aexit__(kind, error, trace)  # perhaps a failed script's doing: the group knows
            else:
                await self._group.__aexit__(None, None, None)  # so that a test's own failure stays as it is
        finally:
            for visit in self.visits:
                visit.writer.transport.abort()
                with contextlib.suppress(OSError):  # how the connection ended is no longer of interest
                    await visit.writer.wait_closed()
            await self._server.wait_closed()

    def _protocol(self) -> asyncio.StreamReaderProtocol:
        reader = _Watched(limit=65_536)
        return asyncio.StreamReaderProtocol(reader, lambda _, writer: self._accept(reader, writer))

    def _accept(self, reader: "_Watched", writer: asyncio.StreamWriter) -> None:
        visit = Visit(reader, writer)
        number = len(self.visits)
        self.visits.append(visit)
        task = self._group.create_task(self._play(self._scripts[min(number, len(self._scripts) - 1)], visit))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _play(self, script: Script, visit: Visit) -> None:
        async with self._arrived:
            self._arrived.notify_all()
        try:
            await script(visit)
        except ConnectionError:
            pass  # the client left while the script was reading or sending
        finally:
            visit.writer.close()


class OnPeer:
    """A server of the tests that is one peer: it listens while it is entered.  Usable on the loop that entered it."""

    _peer: Peer

    async def __aenter__(self) -> Self:
        await self._peer.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._peer.__aexit__(kind, error, trace)


@dataclass(frozen=True, slots=True)
class Certificates:
    """A certificate authority of the test run's own, and what it vouched for."""

    ca_file: str
    """Path of the authority's PEM file, for clients."""
    server: ssl.SSLContext
    """For a peer that is called `localhost`."""


def make_certificates(folder: Path) -> Certificates:
    """Makes an authority and a certificate; takes some 50 ms, so once a test run is enough."""
    authority = trustme.CA()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(server)
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    return Certificates(str(folder / "ca.pem"), server)


class _Watched(asyncio.StreamReader):
    """A stream reader that tells when the other end is gone."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit=limit)
        self.closed = asyncio.Event()

    def feed_eof(self) -> None:
        self.closed.set()
        super().feed_eof()

    def set_exception(self, exc: Exception) -> None:
        self.closed.set()
        super().set_exception(exc)


# ------------------------------------------------------------------------------------------------- bytes and scripts


def response(
    body: bytes = b"",
    *,
    status: int = 200,
    headers: Iterable[tuple[str, str]] = (),
    content_type: str = "application/json",
) -> bytes:
    """A whole answer with a content-length."""
    lines = [f"HTTP/1.1 {status} Scripted", f"content-type: {content_type}", f"content-length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


def chunked_head(*, status: int = 200, content_type: str = "text/event-stream") -> bytes:
    """The head of a chunked answer."""
    return f"HTTP/1.1 {status} Scripted\r\ncontent-type: {content_type}\r\ntransfer-encoding: chunked\r\n\r\n".encode()


def chunk(data: bytes) -> bytes:
    """One chunk; `chunk(b"")` is the last one, with its empty trailer."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def answering(*answers: bytes, then_close: bool = False) -> Script:
    """A keep-alive server: one answer a request, the last one again and again; or closes after them."""

    async def script(visit: Visit) -> None:
        number = 0
        while not (then_close and number == len(answers)):
            await visit.request()
            await visit.send(answers[min(number, len(answers) - 1)])
            number += 1

    return script


def raw(*pieces: bytes) -> Script:
    """Reads one request, sends the pieces, and closes with FIN."""

    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.send(*pieces)

    return script


def resetting(*pieces: bytes, when: asyncio.Event | None = None) -> Script:
    """Reads one request, sends the pieces, waits for `when` if given, and closes with RST."""

    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.send(*pieces)
        if when is not None:
            await when.wait()
        visit.reset()

    return script


def stalling(*pieces: bytes) -> Script:
    """Reads one request, sends the pieces, and then keeps silent."""

    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.send(*pieces)
        await visit.stall()

    return script


def html_error(status: int = 502) -> Script:
    """What a balancer in front of a provider says: an HTML page."""
    return answering(response(HTML_ERROR, status=status, content_type="text/html"))


def connect_proxy(refuse: int | None = None) -> Script:
    """A CONNECT proxy: opens the tunnel that is asked for and relays both ways; or refuses with that status."""

    async def script(visit: Visit) -> None:
        request = await visit.request()
        assert request.method == "CONNECT", request.method
        if refuse is not None:
            await visit.answer(b"no", status=refuse)
            return
        host, _, port = request.target.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            await visit.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
            async with asyncio.TaskGroup() as both:
                both.create_task(_relay(visit.reader, writer))
                both.create_task(_relay(reader, visit.writer))
        finally:
            writer.close()

    return script


async def _relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass  # one side left; the other is told below
    finally:
        writer.close()
