"""The admin listener on real sockets, and what it costs those who do not use it."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.admin import ADMIN, AdminDesk, admin_desk
from support.serving import SERVERS, Answer
from tollhouse.server.admin.api import MAX_BODY_BYTES
from tollhouse.server.http.asgi import App, Message
from tollhouse.server.listener import Place, Server, reserve
from tollhouse.upstream.address import parse_address
from tollhouse.upstream.transport import Deadlines, Outgoing
from tollhouse.upstream.wire import WireTransport


@dataclass
class Listening:
    """A desk whose application is reached through a socket."""

    desk: AdminDesk
    url: str
    transport: WireTransport

    async def ask(self, method: str, path: str, body: bytes = b"", *, token: str | None = ADMIN) -> Answer:
        headers = [(b"content-type", b"application/json")] if body else []
        if token is not None:
            headers.append((b"authorization", b"Bearer " + token.encode()))
        incoming = await self.transport.send(
            Outgoing(
                address=parse_address(self.url),
                method=method.encode(),
                target=path.encode(),
                headers=headers,
                body=body,
            ),
            Deadlines(),
        )
        data = await incoming.read_all(1024 * 1024)
        fields = {name.decode(): value.decode("latin-1") for name, value in incoming.headers}
        return Answer(incoming.status, fields, data)


@pytest.fixture
async def listening(tmp_path: Path, server: str) -> AsyncIterator[Listening]:
    async with admin_desk(tmp_path) as desk:
        place, held = reserve(Place("127.0.0.1", 0), "admin listener")
        listen: Callable[[App, Place], Server] = SERVERS[server]
        listener = listen(desk.app, place)
        await listener.start()
        held.close()
        transport = WireTransport()
        yield Listening(desk, place.url, transport)
        await transport.aclose()
        assert await listener.stop(5.0)


async def test_a_key_is_made_through_a_socket(listening: Listening):
    made = await listening.ask("POST", "/admin/v1/keys", b'{"name": "ci"}')
    assert made.status == 201
    assert made.json()["secret"].startswith("th-")
    assert (await listening.ask("GET", "/admin/v1/keys/ci")).json()["name"] == "ci"
    assert (await listening.ask("GET", "/health")).status == 200


async def test_who_is_refused_before_the_body_was_read_hears_why(listening: Listening):
    """By a client that looks for an answer only when it has sent everything."""
    body = b'{"name": "' + b"a" * (4 * 1024 * 1024) + b'"}'
    assert len(body) > MAX_BODY_BYTES

    for token, status in ((b"none", b"401"), (ADMIN.encode(), b"413")):
        address = parse_address(listening.url)
        reader, writer = await asyncio.open_connection(address.host, address.port)
        writer.write(
            b"POST /admin/v1/keys HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            b"Authorization: Bearer %b\r\nContent-Length: %d\r\n\r\n" % (token, len(body))
        )
        for start in range(0, len(body), 65536):
            writer.write(body[start : start + 65536])
            await writer.drain()
        assert (await reader.readline()).split()[1] == status
        writer.close()
        await writer.wait_closed()
    assert (await listening.ask("GET", "/admin/v1/keys")).json()["items"] == []


@pytest.mark.parametrize(
    ("said", "kept"),
    [({"http_version": "1.1"}, 1), ({"http_version": "2"}, 0), ({"http_version": "1.1", "tollhouse.request": None}, 0)],
    ids=["granian", "http2", "own"],
)
async def test_to_other_servers_an_answer_is_whole_only_when_the_request_is(
    tmp_path: Path, said: dict[str, object], kept: int
):
    """They may end the connection as soon as it is; the client still sends then, and never reads it."""
    announced = sent = 0
    missing: list[int] = []

    async def send(message: Message) -> None:
        nonlocal announced, sent
        announced += sum(int(value) for name, value in message.get("headers", ()) if name == b"content-length")
        sent += len(message.get("body", b""))

    async def receive() -> Message:
        missing.append(announced - sent)
        return {"type": "http.request", "body": b"x", "more_body": len(missing) < 3}

    headers = [(b"host", b"127.0.0.1"), (b"content-length", b"3")]
    path = {"method": "POST", "path": "/admin/v1/keys", "raw_path": b"/admin/v1/keys", "query_string": b""}
    scope = {"type": "http", **path, **said, "headers": headers, "client": ("127.0.0.1", 1), "scheme": "http"}
    async with admin_desk(tmp_path) as desk:
        await desk.app(scope, receive, send)

    assert missing == [kept] * 3
    assert announced == sent > 1


async def test_administrators_may_come_at_the_same_time(listening: Listening):
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(listening.ask("POST", "/admin/v1/keys", b'{"name": "k%d"}' % number))
            for number in range(12)
        ]
    assert {task.result().status for task in tasks} == {201}
    assert len((await listening.ask("GET", "/admin/v1/keys")).json()["items"]) == 12


def test_a_gateway_that_nobody_administers_imports_no_framework():
    script = (
        "import sys, tollhouse.server.supervisor, tollhouse.server.admin.office, tollhouse.server.worker\n"
        "print([name for name in ('starlette', 'sqlalchemy', 'alembic', 'click') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"


def test_only_the_api_module_imports_the_framework():
    source = Path(__file__).parents[2] / "src"
    importers = [
        str(path.relative_to(source))
        for path in source.rglob("*.py")
        if any(line.startswith(("from starlette", "import starlette")) for line in path.read_text().splitlines())
    ]

    assert importers == ["tollhouse/server/admin/api.py"]
