"""The HTTP/1.1 server alone, with raw bytes on a real socket: what it takes, what it refuses, and how it lets go.

All of it in plain text and over TLS, where reading ahead, back-pressure and leaving are another layer's business too.
"""

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.certificates import Pki
from tollhouse.config.schema import TlsSettings
from tollhouse.server.http.asgi import App, Message, Receive, Scope, Send
from tollhouse.server.http1.connection import MAX_PIPELINED, Connection, Hub, Patience
from tollhouse.server.http1.listener import Http1Listener
from tollhouse.server.listener import Place, reserve
from tollhouse.server.tls import LiveTls

GET = b"GET /x HTTP/1.1\r\nhost: h\r\n\r\n"
BYE = b"GET /bye HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n"


class Encryption:
    """How both sides encrypt."""

    chosen: ClassVar["Encryption | None"] = None

    def __init__(self, folder: Path) -> None:
        pki = Pki(folder)
        pair = pki.server()
        self.server = LiveTls(TlsSettings(cert=str(pair.cert), key=str(pair.key)), "server.tls")
        self.client = pki.client_context()


@pytest.fixture(scope="module", params=["plain", "tls"], autouse=True)
def encryption(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Runs everything twice.  It is the module's, because hypothesis wants no fixture for each test."""
    Encryption.chosen = Encryption(tmp_path_factory.mktemp("tls")) if request.param == "tls" else None
    yield
    Encryption.chosen = None


class Client:
    """A client that sends and reads bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def until(self, end: bytes) -> bytes:
        async with asyncio.timeout(5):
            return await self.reader.readuntil(end)

    async def rest(self) -> bytes:
        """Everything up to the end of the connection."""
        async with asyncio.timeout(5):
            return await self.reader.read()


class Server:
    """A listener and how to reach it."""

    def __init__(self, listener: Http1Listener, place: Place, encryption: Encryption | None) -> None:
        self.listener = listener
        self.place = place
        self.encryption = encryption
        self.writers: list[asyncio.StreamWriter] = []

    async def client(self) -> Client:
        context = None if self.encryption is None else self.encryption.client
        reader, writer = await asyncio.open_connection(self.place.host, self.place.port, ssl=context)
        self.writers.append(writer)
        return Client(reader, writer)

    async def ask(self, data: bytes) -> bytes:
        """What comes back for these bytes, up to the end of the connection."""
        client = await self.client()
        await client.send(data)
        return await client.rest()


@asynccontextmanager
async def serving(app: App, *, patience: Patience | None = None, max_connections: int = 100) -> AsyncIterator[Server]:
    place, held = reserve(Place("127.0.0.1", 0), "gateway")
    encryption = Encryption.chosen
    listener = Http1Listener(
        app,
        place,
        tls=None if encryption is None else encryption.server,
        patience=patience or Patience(),
        max_connections=max_connections,
    )
    await listener.start()
    held.close()
    server = Server(listener, place, encryption)
    try:
        yield server
    finally:
        for writer in server.writers:
            writer.close()
        await listener.stop(5)
        await listener.wait()


async def whole_body(receive: Receive) -> bytes:
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionError("left")
        body += bytes(message["body"])
        if not message["more_body"]:
            return body


async def reply(send: Send, body: bytes, status: int = 200) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [(b"x-a", b"b")]})
    await send({"type": "http.response.body", "body": body})


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with what it was asked."""
    body = await whole_body(receive)
    fields = b",".join(name + b"=" + value for name, value in scope["headers"])
    await reply(send, f"{scope['method']} {scope['path']} {scope['query_string']!r} ".encode() + fields + b" " + body)


def bodies(answer: bytes) -> list[bytes]:
    """The bodies of answers in a row that say their lengths."""
    found = []
    while answer:
        head, _, rest = answer.partition(b"\r\n\r\n")
        length = next(
            int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")
        )
        found.append(rest[:length])
        answer = rest[length:]
    return found


async def test_a_request_reaches_the_app_with_its_path_query_headers_and_body() -> None:
    async with serving(echo) as server:
        answer = await server.ask(
            b"POST /a%20b?q=1 HTTP/1.1\r\nHost: h\r\nX-Y: z\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi"
        )
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\nx-a: b\r\n")
    assert b"connection: close" in head
    assert b"date: " in head
    assert body == b"POST /a b b'q=1' host=h,x-y=z,content-length=2,connection=close hi"


async def test_requests_that_were_sent_ahead_are_answered_in_order() -> None:
    release = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/x":
            await release.wait()
        await echo(scope, receive, send)

    async with serving(app) as server:
        client = await server.client()
        await client.send(GET + GET.replace(b"/x", b"/y") + BYE)
        release.set()
        answer = await client.rest()
    assert [body.split()[1] for body in bodies(answer)] == [b"/x", b"/y", b"/bye"]


async def test_too_many_requests_sent_ahead_cut_the_connection() -> None:
    never = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        del scope, receive, send
        await never.wait()

    async with serving(app) as server:
        assert await server.ask(GET * (MAX_PIPELINED + 2)) == b""
        never.set()


CHUNKED = b"POST / HTTP/1.1\r\nhost: h\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n"


async def test_a_chunked_body_is_put_together_and_its_trailers_never_pass_for_headers() -> None:
    async with serving(echo) as server:
        answer = await server.ask(CHUNKED + b"2\r\nhe\r\n3\r\nllo\r\n0\r\nauthorization: Bearer stolen\r\n\r\n")
    assert answer.endswith(b" hello")
    assert b"stolen" not in answer


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=12))
async def test_however_the_bytes_are_cut_the_request_is_the_same(cuts: list[int]) -> None:
    data = CHUNKED + b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"
    async with serving(echo) as server:
        client = await server.client()
        for cut in cuts:
            piece, data = data[:cut], data[cut:]
            if piece:
                await client.send(piece)
                await asyncio.sleep(0)
        if data:
            await client.send(data)
        assert (await client.rest()).endswith(b" hello")


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n", id="both lengths"),
        pytest.param(b"POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\n", id="two lengths"),
        pytest.param(b"POST / HTTP/1.1\r\nhost: h\r\ncontent-length: +3\r\n\r\n", id="a signed length"),
        pytest.param(b"GET / HTTP/1.1\r\nhost: h\r\nx : y\r\n\r\n", id="a blank before the colon"),
        pytest.param(b"GET / HTTP/1.1\r\nhost: h\r\nx: y\r\n z\r\n\r\n", id="a folded line"),
        pytest.param(b"GET / HTTP/1.1\nhost: h\n\n", id="bare line feeds"),
        pytest.param(b"GET / HTTP/1.1\r\nhost: h\r\nx: a\0b\r\n\r\n", id="a null byte"),
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", id="no host"),
        pytest.param(b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", id="two hosts"),
        pytest.param(b"GET / HTTP/9.9\r\nhost: h\r\n\r\n", id="no such version"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", id="the preface of HTTP/2"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", id="TLS"),
        pytest.param(b"POST / HTTP/1.1\r\nhost: h\r\nconnection: upgrade\r\nupgrade: h2c\r\ncontent-length: 2\r\n\r\nhi", id="an upgrade with a body"),
    ],
)  # fmt: skip
async def test_what_proxies_could_read_differently_is_refused(data: bytes) -> None:
    reached: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        reached.append(scope["path"])
        await echo(scope, receive, send)

    async with serving(app) as server:
        answer = await server.ask(data)
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b'"type":"invalid_request_error"' in answer
    assert not reached


async def test_an_unknown_transfer_coding_is_not_implemented() -> None:
    async with serving(echo) as server:
        answer = await server.ask(b"POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: gzip, chunked\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 501 ")


@pytest.mark.parametrize("line", [b"x: " + b"y" * 70_000 + b"\r\n", b"x: y\r\n" * 300])
async def test_a_head_over_its_bounds_is_refused(line: bytes) -> None:
    async with serving(echo) as server:
        assert (await server.ask(b"GET / HTTP/1.1\r\nhost: h\r\n" + line + b"\r\n")).startswith(b"HTTP/1.1 431 ")


async def test_an_upgrade_without_a_body_is_ignored_and_the_request_answered() -> None:
    async with serving(echo) as server:
        answer = await server.ask(
            b"GET /x HTTP/1.1\r\nhost: h\r\nconnection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\n\r\n"
        )
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"connection: close" in answer


async def test_the_absolute_form_that_proxies_send_names_the_same_path() -> None:
    async with serving(echo) as server:
        answer = await server.ask(b"GET http://h/a/b?c HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n")
    assert b"GET /a/b b'c'" in answer


async def test_a_client_that_waits_for_a_word_gets_it_when_the_app_wants_the_body() -> None:
    async with serving(echo) as server:
        client = await server.client()
        await client.send(
            b"POST / HTTP/1.1\r\nhost: h\r\nexpect: 100-continue\r\ncontent-length: 2\r\nconnection: close\r\n\r\n"
        )
        assert await client.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await client.send(b"hi")
        assert (await client.rest()).endswith(b" hi")


async def test_a_client_that_waits_is_not_asked_for_a_body_that_was_refused() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        del scope, receive
        await reply(send, b"no", 413)

    async with serving(app) as server:
        answer = await server.ask(b"POST / HTTP/1.1\r\nhost: h\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 413 ")


async def stream(scope: Scope, receive: Receive, send: Send) -> None:
    del scope, receive
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for piece in (b"a", b"", b"bc"):
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def test_a_stream_is_sent_in_chunks_and_the_connection_lives_on() -> None:
    async with serving(stream) as server:
        client = await server.client()
        await client.send(GET)
        assert b"transfer-encoding: chunked" in await client.until(b"\r\n\r\n")
        assert await client.until(b"0\r\n\r\n") == b"1\r\na\r\n2\r\nbc\r\n0\r\n\r\n"
        await client.send(GET)
        await client.until(b"0\r\n\r\n")


async def test_http_1_0_gets_a_stream_up_to_the_end_of_the_connection() -> None:
    async with serving(stream) as server:
        answer = await server.ask(b"GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n")
    assert answer.endswith(b"\r\n\r\nabc")
    assert b"chunked" not in answer


async def test_http_1_0_keeps_its_connection_if_it_asks() -> None:
    async with serving(echo) as server:
        client = await server.client()
        for _ in range(2):
            await client.send(b"GET /x HTTP/1.0\r\nconnection: keep-alive\r\n\r\n")
            assert b"connection: keep-alive" in await client.until(b"keep-alive ")
        await client.send(b"GET /x HTTP/1.0\r\n\r\n")
        assert b"connection: close" in await client.rest()


@pytest.mark.parametrize("status", [204, 304])
async def test_answers_without_a_body_say_no_length(status: int) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        del scope, receive
        await reply(send, b"", status)

    async with serving(app) as server:
        answer = await server.ask(BYE)
    assert b"content-length" not in answer
    assert answer.endswith(b"\r\n\r\n")


async def test_head_gets_the_head_alone() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        del scope, receive
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
        await send({"type": "http.response.body", "body": b""})

    async with serving(app) as server:
        answer = await server.ask(b"HEAD / HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n")
    assert b"content-length: 5\r\n" in answer
    assert answer.endswith(b"\r\n\r\n")


Broken = Callable[[Send], Awaitable[None]]


async def raise_half_way(send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"half", "more_body": True})
    raise ZeroDivisionError


async def return_half_way(send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"half", "more_body": True})


async def send_less_than_announced(send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"9")]})
    await send({"type": "http.response.body", "body": b"half"})


async def split_the_head(send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x", b"a\r\nset-cookie: b")]})
    await send({"type": "http.response.body", "body": b""})


@pytest.mark.parametrize("broken", [raise_half_way, return_half_way, send_less_than_announced, split_the_head])
async def test_an_answer_that_fails_half_way_never_ends_cleanly(broken: Broken) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        del scope, receive
        await broken(send)

    async with serving(app) as server:
        client = await server.client()
        await client.send(GET)
        try:
            answer = await client.rest()
        except ConnectionResetError:
            return
    assert not answer.endswith(b"0\r\n\r\n")
    assert b"set-cookie" not in answer


async def test_the_app_hears_at_once_that_the_client_left() -> None:
    begun, left = asyncio.Event(), asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        del receive, send
        scope["tollhouse.request"].when_departed(left.set)
        begun.set()
        await left.wait()

    async with serving(app) as server:
        client = await server.client()
        await client.send(GET)
        await begun.wait()
        client.writer.close()
        async with asyncio.timeout(5):
            await left.wait()


class Line(asyncio.Transport):
    """The socket of a connection that the test drives."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)

    def is_closing(self) -> bool:
        return self.closed

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        del high, low

    def close(self) -> None:
        self.closed = True


async def test_what_was_answered_before_the_client_ended_its_side_reaches_it() -> None:
    """The answer waits for the end of the loop's turn, in which the end of the client's side may be heard, too."""
    loop, line = asyncio.get_running_loop(), Line()
    errors: list[BaseException] = []
    hub = Hub(echo, loop, errors.append, Patience(), 10)
    connection = Connection(hub)
    connection.connection_made(line)
    connection.get_buffer(-1)[: len(GET)] = GET
    connection.buffer_updated(len(GET))
    await asyncio.sleep(0)
    assert connection.is_idle
    assert not line.written, "the turn is not over"
    connection.eof_received()
    line.close()  # as the loop does next
    connection.connection_lost(None)
    await asyncio.sleep(0)
    assert line.written.endswith(b"GET /x b'' host=h ")
    assert not errors
    hub.dismiss()


async def test_receive_tells_that_the_client_left() -> None:
    messages: list[Message] = []
    begun, over = asyncio.Event(), asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        del scope, send
        messages.append(await receive())
        begun.set()
        messages.append(await receive())
        over.set()

    async with serving(app) as server:
        client = await server.client()
        await client.send(GET)
        await begun.wait()
        client.writer.close()
        async with asyncio.timeout(5):
            await over.wait()
    assert [message["type"] for message in messages] == ["http.request", "http.disconnect"]


async def test_a_client_that_does_not_read_stops_the_stream() -> None:
    sent = 0
    is_stuck = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal sent
        del scope, receive
        await send({"type": "http.response.start", "status": 200, "headers": []})

        async def push() -> None:
            await send({"type": "http.response.body", "body": b"x" * 65_536, "more_body": True})

        while True:
            waiting = asyncio.get_running_loop().create_task(push())
            done, _ = await asyncio.wait({waiting}, timeout=0.3)
            if not done:
                is_stuck.set()
                await waiting
                return
            sent += 65_536

    async with serving(app) as server:
        client = await server.client()
        await client.send(GET)
        async with asyncio.timeout(20):
            await is_stuck.wait()
        client.writer.transport.abort()
    assert sent < 64 * 1024 * 1024  # what the kernel buffers, and not what the app has


async def test_an_upload_waits_for_the_app_to_read() -> None:
    size = 8 * 1024 * 1024
    read = 0

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal read
        del scope
        message: Message = {"more_body": True}
        while message["more_body"]:
            message = await receive()
            assert len(message["body"]) <= 1_048_576 + 65_536
            read += len(message["body"])
            await asyncio.sleep(0)
        await reply(send, b"done")

    async with serving(app) as server:
        answer = await server.ask(
            b"POST / HTTP/1.1\r\nhost: h\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % size + b"x" * size
        )
    assert answer.endswith(b"done")
    assert read == size


QUICK = Patience(heartbeat=0.02, idle=0.05, head=0.05, stall=0.05)


async def test_an_idle_connection_is_closed() -> None:
    async with serving(echo, patience=QUICK) as server:
        client = await server.client()
        await client.send(GET)
        assert (await client.rest()).startswith(b"HTTP/1.1 200 OK")


async def test_half_a_head_is_not_waited_for() -> None:
    async with serving(echo, patience=QUICK) as server:
        assert (await server.ask(b"GET / HTTP/1.1\r\nhost")).startswith(b"HTTP/1.1 408 ")


async def test_a_client_that_never_reads_is_let_go() -> None:
    over = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        del scope, receive
        await send({"type": "http.response.start", "status": 200, "headers": []})
        try:
            for _ in range(1000):
                await send({"type": "http.response.body", "body": b"x" * 65_536, "more_body": True})
        finally:
            over.set()

    async with serving(app, patience=QUICK) as server:
        client = await server.client()
        await client.send(GET)
        async with asyncio.timeout(10):
            await over.wait()


async def test_more_connections_than_the_bound_are_refused() -> None:
    async with serving(echo, max_connections=1) as server:
        first = await server.client()
        await first.send(GET)
        await first.until(b"host=h ")
        answer = await server.ask(b"")
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nx-tollhouse-code: overloaded\r\n" in answer, (
            "clients try again where it is the gateway that is busy"
        )
        assert b'"type":"server_error","code":"overloaded"' in answer


async def test_a_stop_lets_requests_end_and_closes_what_is_idle() -> None:
    begun, release = asyncio.Event(), asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        begun.set()
        await release.wait()
        await echo(scope, receive, send)

    async with serving(app) as server:
        idle, busy = await server.client(), await server.client()
        await busy.send(GET)
        await begun.wait()
        assert not await server.listener.stop(0.01)
        assert await idle.rest() == b""
        release.set()
        assert b"connection: close" in await busy.rest()
        assert await server.listener.stop(5)
        with pytest.raises(OSError, match=r"refused|Connect"):
            await asyncio.open_connection(server.place.host, server.place.port)


async def test_an_answered_request_leaves_nothing_for_the_collector() -> None:
    left: list[weakref.ref[object]] = []

    class Mark:
        """Lives as long as the request's scope."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope["mark"] = mark = Mark()
        left.append(weakref.ref(mark))
        await echo(scope, receive, send)

    gc.disable()
    try:
        async with serving(app) as server:
            client = await server.client()
            for _ in range(2):
                await client.send(GET)
                await client.until(b"\r\n\r\n")
            await client.send(BYE)
            await client.rest()
            assert [mark() for mark in left] == [None, None, None]
    finally:
        gc.enable()


async def test_a_task_answers_one_request_after_another_and_ends_with_its_server() -> None:
    answering: list[asyncio.Task[None] | None] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        answering.append(asyncio.current_task())
        await echo(scope, receive, send)

    async with serving(app) as server:
        client = await server.client()
        for _ in range(3):
            await client.send(GET)
            await client.until(b"\r\n\r\n")
    assert len({*answering}) == 1
    task = answering[0]
    assert task is not None
    await asyncio.wait([task], timeout=10)
    assert task.done()


async def test_a_task_that_was_cancelled_takes_no_other_request() -> None:
    answering: list[asyncio.Task[None]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        task = asyncio.current_task()
        assert task is not None
        answering.append(task)
        if len(answering) == 1:
            task.cancel()  # comes in vain: nothing is awaited after it
        await echo(scope, receive, send)

    async with serving(app) as server:
        client = await server.client()
        for _ in range(2):
            await client.send(GET)
            await client.until(b"\r\n\r\n")
    assert answering[0].done()
    assert answering[0] is not answering[1]
