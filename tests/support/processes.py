"""`tollhouse serve` in a process of its own, with its signals and its workers, as a test starts, asks and kills it.

async with started(tmp_path, settings(fake_provider), "--workers", "2") as process:
    assert await process.chat("to-openai") == 200
    os.kill(workers_of(process.child.pid)[0], signal.SIGKILL)
"""

import asyncio
import os
import re
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from support.clients import CLIENTS
from support.serving import KEY
from tollhouse.server.fork_server import NAME
from tollhouse.upstream.address import parse_address
from tollhouse.upstream.transport import Deadlines, Incoming, Outgoing
from tollhouse.upstream.wire import WireTransport

PATIENCE_SECONDS: Final = 60.0
"""How long a test waits for something that comes at once on an idle machine."""
ANNOUNCED: Final = re.compile(r"answers at (https?://\S+) \(admin (https?://[^\s,)]+)")


@dataclass
class Process:
    """A running `tollhouse serve`."""

    child: asyncio.subprocess.Process
    folder: Path
    lines: list[str] = field(default_factory=list)
    """What it printed on either output."""
    url: str = ""
    admin: str = ""
    transport: WireTransport = field(default_factory=WireTransport)
    is_silent: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when nobody is left who could print anything: the process and its workers have ended."""
    _heard: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def listen(self, stream: asyncio.StreamReader | None) -> None:
        """Gathers what the process prints."""
        assert stream is not None
        while line := await stream.readline():
            async with self._heard:
                self.lines.append(line.decode().rstrip("\n"))
                self._heard.notify_all()

    async def says(self, part: str, *, times: int = 1) -> str:
        """Waits until so many lines have this in them, and gives the last."""

        def found() -> list[str]:
            return [line for line in self.lines if part in line]

        async with asyncio.timeout(PATIENCE_SECONDS), self._heard:
            await self._heard.wait_for(lambda: len(found()) >= times)
        return found()[times - 1]

    async def open(self, path: str, body: object = None, *, at: str | None = None, key: str = KEY) -> Incoming:
        """Sends a request (a GET without a body) and gives the answer once its head is there."""
        return await self.transport.send(
            Outgoing(
                address=parse_address(at or self.url),
                method=b"GET" if body is None else b"POST",
                target=path.encode(),
                headers=[(b"authorization", b"Bearer " + key.encode()), (b"content-type", b"application/json")],
                body=b"" if body is None else msgspec.json.encode(body),
            ),
            Deadlines(
                connect=PATIENCE_SECONDS, first_byte=PATIENCE_SECONDS, between_chunks=PATIENCE_SECONDS, total=120
            ),
        )

    async def get(self, path: str, *, at: str | None = None) -> tuple[int, bytes]:
        """Status and body."""
        incoming = await self.open(path, at=at)
        return incoming.status, await incoming.read_all(1 << 20)

    async def chat(self, model: str, client: str = "openai") -> int:
        """The status of one whole answer."""
        asks = CLIENTS[client]
        incoming = await self.open(asks.path, asks.question(model))
        await incoming.read_all(1 << 20)
        return incoming.status

    async def open_apart(self, key: str) -> tuple[WireTransport, Incoming]:
        """A stream on a connection of its own, which is the caller's to close."""
        asks = CLIENTS["openai"]
        transport = self.transport = WireTransport()
        return transport, await self.open(asks.path, asks.question("to-openai", stream=True), key=key)

    async def all_say(self, status: int, key: str, model: str = "to-openai") -> bool:
        """Whether a dozen connections, of which every worker has some, are all answered so."""
        asks = CLIENTS["openai"]
        statuses = set()
        for _ in range(12):
            await self.transport.aclose()
            self.transport = WireTransport()
            incoming = await self.open(asks.path, asks.question(model), key=key)
            await incoming.read_all(1 << 20)
            statuses.add(incoming.status)
        return statuses == {status}

    async def health(self) -> Any:
        """What the admin listener says of everything."""
        return msgspec.json.decode((await self.get("/health", at=self.admin))[1])

    async def metric(self, name: str) -> float:
        """The sum of a metric's series on the admin listener."""
        _, text = await self.get("/metrics", at=self.admin)
        lines = [line for line in text.decode().splitlines() if line.startswith((f"{name} ", f"{name}{{"))]
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines)

    async def ends(self) -> int:
        """The exit status."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self.child.wait()

    def rows(self) -> list[dict[str, Any]]:
        """The ledger as it is on disk."""
        with closing(sqlite3.connect(f"file:{self.folder / 'ledger.db'}?mode=ro", uri=True)) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute("SELECT * FROM calls ORDER BY rowid")]


def ledger_url(folder: Path) -> str:
    """The address of the ledger of a gateway in this folder."""
    return f"sqlite:///{folder / 'ledger.db'}"


def written(folder: Path, text: str) -> Path:
    """The configuration's file; ledger and log are added, and a key where it has none."""
    file = folder / "tollhouse.yaml"
    auth = "" if re.search("^auth:", text, re.MULTILINE) else f"auth: {{keys: [{{name: test, key: {KEY}}}]}}"
    file.write_text(
        f"{text}\n{auth}\nledger: {{url: '{ledger_url(folder)}'}}\nlogging: {{calls: 'off', format: text}}\n"
    )
    return file


async def listen(process: Process) -> None:
    """Gathers what is printed on both outputs, until both are closed."""
    async with asyncio.TaskGroup() as group:
        group.create_task(process.listen(process.child.stdout))
        group.create_task(process.listen(process.child.stderr))
    process.is_silent.set()


@asynccontextmanager
async def serving(folder: Path, *arguments: str, command: str = "serve", **environ: str) -> AsyncIterator[Process]:
    """A command with these arguments, from its start; it is killed at the end if it still runs then."""
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tollhouse", command, *arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=folder,
        # Its workers are in a group with it, and end with it whatever happens.
        start_new_session=True,
        env={**kept_environment(), "HOME": str(folder), "TMPDIR": str(folder), **environ},
    )
    process = Process(child, folder)
    async with asyncio.TaskGroup() as group:
        group.create_task(listen(process))
        try:
            yield process
        finally:
            await process.transport.aclose()
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            await child.wait()


def kept_environment() -> dict[str, str]:
    """What the process needs to find Python; no keys of whoever runs the tests."""
    return {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}


@asynccontextmanager
async def started(folder: Path, text: str, *arguments: str) -> AsyncIterator[Process]:
    """A process that has announced its addresses."""
    file = written(folder, text)
    ports = ("--port", "0", "--admin-port", "0", "--grpc-port", "0")  # a later option comes before an earlier one
    async with serving(folder, "--config", str(file), *ports, *arguments) as process:
        announced = ANNOUNCED.search(await process.says("answers at"))
        assert announced is not None
        process.url, process.admin = announced[1], announced[2]
        yield process


async def until(fact: Callable[[], Awaitable[bool]]) -> None:
    """Waits for something that nothing announces."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await fact():  # noqa: ASYNC110  # a port, a file or a process has no event to wait on
            await asyncio.sleep(0.02)


def workers_of(parent: int) -> list[int]:
    """The worker processes of a supervisor: those that were forked for it, and those that it started itself."""
    forks = fork_server_of(parent)
    return [pid for pid in children_of(parent) if pid != forks] + ([] if forks is None else children_of(forks))


def fork_server_of(parent: int) -> int | None:
    """The process that a supervisor's workers are forked from."""
    for pid in children_of(parent):
        with suppress(FileNotFoundError):
            if Path(f"/proc/{pid}/comm").read_text().strip() == NAME:
                return pid
    return None


def children_of(parent: int) -> list[int]:
    """The processes that this one started and that have not been buried."""
    text = Path(f"/proc/{parent}/task/{parent}/children").read_text()
    return [int(pid) for pid in text.split()]
