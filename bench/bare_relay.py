"""The gateway's parts without the gateway: its server in front, its transport behind, bytes passed on unread.

What this costs above nginx is the price of Python, the server and the transport; what the gateway costs above this is its own
work.  `python -m bench.bare_relay PORT PROVIDER_PORT` runs it.
"""

import asyncio
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import uvloop

from bench.subject import LIVE_PATH, Subject
from tollhouse.server.http.asgi import Receive, Scope, Send
from tollhouse.server.http1.listener import Http1Listener
from tollhouse.server.listener import Place
from tollhouse.upstream.address import parse_address
from tollhouse.upstream.transport import Deadlines, Outgoing
from tollhouse.upstream.wire import WireTransport

_NOT_PASSED_ON: Final = frozenset({b"host", b"content-length", b"transfer-encoding", b"connection"})


class Relay:
    """An ASGI app that sends each request on and its answer back."""

    def __init__(self, provider_port: int) -> None:
        self._address = parse_address(f"http://127.0.0.1:{provider_port}")
        self._transport = WireTransport()
        self._deadlines = Deadlines()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["path"] == LIVE_PATH:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b""})
            return
        request = Outgoing(
            address=self._address,
            method=scope["method"].encode(),
            target=scope["path"].encode(),
            headers=_passed_on(scope["headers"], _NOT_PASSED_ON),
            body=await _whole_body(receive),
        )
        answer = await self._transport.send(request, self._deadlines)
        try:
            headers = _passed_on(answer.headers, {b"transfer-encoding", b"connection"})
            await send({"type": "http.response.start", "status": answer.status, "headers": headers})
            if answer.header(b"content-length") is not None:
                await send({"type": "http.response.body", "body": await answer.read_all(1 << 20)})
                return
            while piece := await answer.read_some():
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        finally:
            answer.close()


def bare_relay(*, folder: Path, port: int, provider_port: int) -> Subject:
    """How to start it."""
    return Subject(
        name="bare relay",
        command=(sys.executable, "-m", "bench.bare_relay", str(port), str(provider_port)),
        port=port,
        log=folder / "bare-relay.log",
        environment={"PYTHONPATH": str(Path(__file__).parent.parent)},
    )


def _passed_on(headers: Iterable[tuple[bytes, bytes]], without: Iterable[bytes]) -> list[tuple[bytes, bytes]]:
    return [(name, value) for name, value in headers if name not in without]


async def _whole_body(receive: Receive) -> bytes:
    pieces = []
    while True:
        message = await receive()
        pieces.append(message["body"])
        if not message.get("more_body"):
            return b"".join(pieces)


async def _serve(port: int, provider_port: int) -> None:
    listener = Http1Listener(Relay(provider_port), Place("127.0.0.1", port))
    await listener.start()
    await listener.wait()


if __name__ == "__main__":
    uvloop.install()
    asyncio.run(_serve(int(sys.argv[1]), int(sys.argv[2])))
