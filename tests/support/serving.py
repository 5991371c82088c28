"""A whole gateway in the test's own event loop: real sockets, a real SQLite file, a configuration as a person writes it.

    async def test_something(serving):
        gateway = await serving(f"providers: {{lab: {{type: openai-compatible, base_url: {fake.url}/v1, api_key: x}}}}")
        response = await gateway.post("/v1/chat/completions", {...})

The fixture runs on our own server, on granian (the one with HTTP/2) and on uvicorn, so that the server stays replaceable.
"""

import asyncio
import re
import sqlite3
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec
import uvicorn

from tollhouse.config.load import load
from tollhouse.config.overrides import NOTHING_OVERRULED, Overrides
from tollhouse.ledger.store import prepare
from tollhouse.providers.registry import defaults_by_type
from tollhouse.server.http.asgi import App
from tollhouse.server.http1.listener import Http1Listener
from tollhouse.server.http2 import Http2Listener, until_listening
from tollhouse.server.listener import Place, Server, reserve
from tollhouse.server.wiring import LocalAddress
from tollhouse.server.worker import Job, Worker
from tollhouse.upstream.address import parse_address
from tollhouse.upstream.transport import Deadlines, Incoming, Outgoing
from tollhouse.upstream.wire import WireTransport

KEY = "th-test-key-0123456789"


class UvicornListener:
    """uvicorn behind the gateway's `Server` protocol."""

    def __init__(self, app: App, place: Place) -> None:
        self._place = place
        config = uvicorn.Config(
            app,
            host=place.host,
            port=place.port,
            lifespan="off",
            log_level="error",
            timeout_graceful_shutdown=5,
        )
        self._server = uvicorn.Server(config)
        self._server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        task = self._task = asyncio.get_running_loop().create_task(self._server._serve())
        await until_listening(self._place, task.done)

    async def wait(self) -> None:
        if self._task is not None:
            await asyncio.shield(self._task)

    async def stop(self, limit_seconds: float) -> bool:
        if self._task is None:
            return True
        self._server.should_exit = True
        done, _ = await asyncio.wait({self._task}, timeout=limit_seconds)
        return bool(done)


SERVERS: dict[str, type[Server]] = {"own": Http1Listener, "granian": Http2Listener, "uvicorn": UvicornListener}


@dataclass(frozen=True)
class Answer:
    """A whole HTTP answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return msgspec.json.decode(self.body)


@dataclass
class Running:
    """A gateway that answers at `url`."""

    url: str
    worker: Worker
    ledger: Path
    grpc: str = ""
    """Where gRPC answers, `host:port`; empty where it does not."""
    transport: WireTransport = field(default_factory=WireTransport)

    async def open(
        self,
        path: str,
        body: object = None,
        *,
        method: str = "POST",
        headers: Sequence[tuple[bytes, bytes]] | None = None,
    ) -> Incoming:
        """Sends a request and gives the answer once its head is there.  Carries the test's key unless `headers` are given."""
        if headers is None:
            headers = [(b"authorization", b"Bearer " + KEY.encode()), (b"content-type", b"application/json")]
        data = body if isinstance(body, bytes) else b"" if body is None else msgspec.json.encode(body)
        return await self.transport.send(
            Outgoing(
                address=parse_address(self.url),
                method=method.encode(),
                target=path.encode(),
                headers=list(headers),
                body=data,
            ),
            Deadlines(),
        )

    async def ask(
        self,
        path: str,
        body: object = None,
        *,
        method: str = "POST",
        headers: Sequence[tuple[bytes, bytes]] | None = None,
    ) -> Answer:
        """The whole answer."""
        incoming = await self.open(path, body, method=method, headers=headers)
        data = await incoming.read_all(64 * 1024 * 1024)
        fields = {name.decode(): value.decode("latin-1") for name, value in incoming.headers}
        return Answer(incoming.status, fields, data)

    async def get(self, path: str, *, headers: Sequence[tuple[bytes, bytes]] | None = None) -> Answer:
        return await self.ask(path, method="GET", headers=headers)

    def rows(self) -> list[dict[str, Any]]:
        """The ledger's rows as they are on disk now, oldest first."""
        connection = sqlite3.connect(f"file:{self.ledger}?mode=ro", uri=True)
        connection.row_factory = sqlite3.Row
        try:
            return [dict(row) for row in connection.execute("SELECT * FROM calls ORDER BY rowid")]
        finally:
            connection.close()

    async def close(self) -> None:
        await self.transport.aclose()
        self.worker.drain()
        await self.worker.wait()
        await self.worker.aclose()


Serving = Callable[[str], Awaitable[Running]]
"""The fixture: starts a gateway from a configuration's text."""


async def start(
    text: str,
    folder: Path,
    listen: type[Server] | None,
    *,
    grpc: bool = False,
    overrides: Overrides = NOTHING_OVERRULED,
    local: Mapping[str, LocalAddress] = MappingProxyType({}),
) -> Running:
    """Starts a gateway from a configuration's text; `auth`, `ledger` and `logging` are added where it has none.

    `listen` is the HTTP server; by default the one that the configuration asks for, which alone speaks TLS.  `local` says
    where the embedded models are.
    """
    ledger = folder / "ledger.db"
    if re.search("^auth:", text, re.MULTILINE) is None:
        text += f"\nauth: {{keys: [{{name: test, key: {KEY}}}]}}"
    if "ledger:" not in text:
        text += f"\nledger: {{url: 'sqlite:///{ledger}'}}"
    if "logging:" not in text:
        text += f"\nlogging: {{calls: '{folder / 'calls.log'}'}}"
    file = folder / "tollhouse.yaml"
    file.write_text(text)
    config = overrides.over(load(file, {}, defaults_by_type()))
    prepare(config.ledger.url)
    place, held = reserve(Place("127.0.0.1", 0, is_encrypted=config.server.tls is not None), "gateway")
    rpc, held_rpc = reserve(Place("127.0.0.1", 0), "gRPC listener") if grpc else (None, None)
    worker = await Worker.open(
        Job(config_file=str(file), place=place, local=local, grpc=rpc, overrides=overrides), config, {}, listen=listen
    )
    await worker.start()
    for each in (held, held_rpc):
        if each is not None:
            each.close()
    return Running(url=place.url, worker=worker, ledger=ledger, grpc=rpc.address if rpc else "")
