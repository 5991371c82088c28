"""Encryption in front of the gRPC server: who is told to be there, and that bytes pass as fast as they are taken."""

import asyncio
import os
import socket
import ssl
import stat
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from support.certificates import Pair, Pki
from support.processes import until
from tollhouse.config.schema import TlsSettings
from tollhouse.errors import GatewayError
from tollhouse.server.grpc.relay import TlsRelay
from tollhouse.server.listener import Place, reserve
from tollhouse.server.tls import LiveTls

MEGABYTES_32 = 32 * 1024 * 1024


class Context:
    """What the relay asks of an RPC."""

    def __init__(self, peer: str) -> None:
        self._peer = peer

    def peer(self) -> str:
        return self._peer


class Behind:
    """A relay with something that is no gRPC server behind it."""

    def __init__(self, pki: Pki, *, max_connections: int = 10) -> None:
        self.pki = pki
        pair = pki.server()
        tls = LiveTls(
            TlsSettings(cert=str(pair.cert), key=str(pair.key), client_ca=str(pki.ca), client_auth="optional"), "test"
        )
        self.place, self._held = reserve(Place("127.0.0.1", 0), "gRPC listener")
        self.relay = TlsRelay(self.place, tls, max_connections=max_connections)
        self.inner = Path(unquote(self.relay.open().removeprefix("unix:")))
        self._server: asyncio.Server | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._writers: list[asyncio.StreamWriter] = []

    async def start(self, serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]) -> None:
        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self._writers.append(writer)
            task = asyncio.current_task()
            assert task is not None
            self._tasks.append(task)
            await serve(reader, writer)

        self._server = await asyncio.start_unix_server(connected, self.inner)
        await self.relay.start()

    async def connect(
        self, pair: Pair | None = None, *, alpn: tuple[str, ...] = ("h2",)
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(
            "127.0.0.1", self.place.port, ssl=self.pki.client_context(pair, alpn=alpn), server_hostname="localhost"
        )

    def client_of(self, peer: str) -> Any:
        context: Any = Context(peer)
        return self.relay.client_of(context)

    async def close(self) -> None:
        self.relay.close()
        self._held.close()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=20)
        for writer in self._writers:
            writer.close()
        if self._server is not None:
            self._server.close()


@pytest.fixture
async def behind(tmp_path: Path) -> AsyncIterator[Behind]:
    made = Behind(Pki(tmp_path))
    yield made
    await made.close()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


async def test_bytes_pass_both_ways_and_the_end_does_too(behind: Behind):
    await behind.start(echo)
    reader, writer = await behind.connect()
    writer.write(b"hello")
    assert await reader.readexactly(5) == b"hello"
    behind._writers[0].write(b"and")
    behind._writers[0].close()
    assert await reader.read() == b"and"
    writer.close()


async def test_each_connection_is_known_by_its_own_name_while_it_lasts(behind: Behind):
    names: list[str] = []

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        names.append(f"unix:{writer.get_extra_info('peername')}")
        writer.write(b"!")
        await reader.read()
        writer.close()

    await behind.start(note)
    ends = [await behind.connect(pair) for pair in (None, behind.pki.client("ci"))]
    for reader, _ in ends:
        await reader.readexactly(1)
    anonymous, known = (behind.client_of(name) for name in names)
    assert anonymous.certificate is None
    assert known.certificate.subject == "CN=ci"
    assert known.peer == f"ipv4:127.0.0.1:{ends[1][1].get_extra_info('sockname')[1]}"
    assert list(behind.inner.parent.iterdir()) == [behind.inner]  # names are given, and leave nothing behind
    for _, writer in ends:
        writer.close()

    async def are_forgotten() -> bool:
        return all(behind.client_of(name) is None for name in names)

    await until(are_forgotten)


@pytest.mark.parametrize("peer", ["unix:", "unix:/somewhere/1", "ipv4:127.0.0.1:1"])
async def test_who_was_not_let_in_here_is_nobody(behind: Behind, peer: str):
    assert behind.client_of(peer) is None


async def test_nobody_else_may_enter_the_folder_and_it_goes_with_the_relay(behind: Behind):
    folder = behind.inner.parent
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    await behind.close()
    assert not folder.exists()


async def test_a_slow_reader_holds_up_the_writer_in_either_direction(behind: Behind):
    """Otherwise the relay would keep what one side does not take."""
    is_reading = asyncio.Event()
    heard = 0

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal heard
        await is_reading.wait()
        while heard < MEGABYTES_32:
            heard += len(await reader.read(1 << 20))
        writer.write(bytes(MEGABYTES_32))
        await writer.drain()  # only if it is taken at the other end
        writer.close()

    await behind.start(slow)
    reader, writer = await behind.connect()
    sent = 0
    try:
        while sent < MEGABYTES_32:
            writer.write(bytes(1 << 20))
            sent += 1 << 20
            if not is_reading.is_set():
                try:
                    async with asyncio.timeout(0.5):
                        await writer.drain()
                except TimeoutError:
                    assert sent < MEGABYTES_32 / 2, "32 MiB went to nobody"
                    is_reading.set()
            else:
                await writer.drain()
        assert is_reading.is_set(), "the writer was never held up"
        received = 0
        while data := await reader.read(1 << 20):
            received += len(data)
    finally:
        writer.close()
    assert (heard, received) == (MEGABYTES_32, MEGABYTES_32)


async def test_a_client_that_leaves_is_gone_for_the_server_too(behind: Behind):
    has_ended = asyncio.Event()

    async def wait_for_the_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        has_ended.set()
        writer.close()

    await behind.start(wait_for_the_end)
    _, writer = await behind.connect()
    writer.write(b"hello")
    writer.transport.abort()
    async with asyncio.timeout(20):
        await has_ended.wait()


async def test_what_does_not_speak_http_2_is_not_handed_on(behind: Behind):
    await behind.start(echo)
    for alpn in ((), ("http/1.1",)):
        reader, writer = await behind.connect(alpn=alpn)
        with pytest.raises((ConnectionError, ssl.SSLError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)
        writer.close()
    assert not behind._writers


async def test_connections_over_the_bound_are_refused(tmp_path: Path):
    behind = Behind(Pki(tmp_path), max_connections=1)
    try:
        await behind.start(echo)
        first, second = await behind.connect(), await behind.connect()
        with pytest.raises((ConnectionError, ssl.SSLError, asyncio.IncompleteReadError)):
            await second[0].readexactly(1)
        first[1].write(b"x")
        assert await first[0].readexactly(1) == b"x"
        for _, writer in (first, second):
            writer.close()
    finally:
        await behind.close()


async def test_a_server_that_is_not_there_ends_the_connection(behind: Behind, caplog: pytest.LogCaptureFixture):
    await behind.relay.start()
    reader, writer = await behind.connect()
    with pytest.raises((ConnectionError, ssl.SSLError, asyncio.IncompleteReadError)):
        await reader.readexactly(1)
    writer.close()
    assert "a gRPC connection could not be handed on" in caplog.text


def test_a_folder_whose_path_is_too_long_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    long = tmp_path / ("x" * 100)
    long.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long))
    pki = Pki(tmp_path)
    pair = pki.server()
    tls = LiveTls(TlsSettings(cert=str(pair.cert), key=str(pair.key)), "test")
    with pytest.raises(GatewayError, match="too long for a Unix socket") as refused:
        TlsRelay(Place("127.0.0.1", 1), tls, max_connections=1).open()
    assert "TMPDIR" in str(refused.value.hint)
    assert not list(long.iterdir())


def test_what_relays_that_were_killed_left_behind_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pair = Pki(tmp_path).server()
    tls = LiveTls(TlsSettings(cert=str(pair.cert), key=str(pair.key)), "test")
    with ExitStack() as stack:
        parent = Path(stack.enter_context(tempfile.TemporaryDirectory()))  # a socket's path has to be short
        monkeypatch.setattr("tempfile.tempdir", str(parent))
        dead, empty, alive, new, other = (
            parent / name
            for name in (*(f"tollhouse-grpc-{name}" for name in ("dead", "empty", "alive", "new")), "other")
        )
        for folder in (dead, empty, alive, new, other):
            folder.mkdir(mode=0o700)
        for folder in (dead, alive, new, other):
            bound = stack.enter_context(socket.socket(socket.AF_UNIX))
            bound.bind(str(folder / "server"))
            if folder is alive:
                bound.listen()
        for folder in (dead, empty, alive, other):
            os.utime(folder, (0, 0))
        link = parent / "tollhouse-grpc-link"
        link.symlink_to(other)

        relay = TlsRelay(Place("127.0.0.1", 1), tls, max_connections=1)
        relay.open()
        relay.close()

        assert {*parent.iterdir()} == {alive, new, other, link}
