"""Looking after the gateway: what is seen, told and shown on an application's own health page."""

import asyncio
import logging
import time
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

import tollhouse
from support.client_town import Town
from support.peer import Peer, answering, response
from tollhouse.client import AsyncClient, Client
from tollhouse.client.asgi import App, health_app
from tollhouse.client.failures import CallFailed, ConnectionRefused, TimedOut
from tollhouse.client.health import Monitor


class Scripted:
    """Signs of life as a test wants them, and a clock that stands still."""

    def __init__(self, *signs: float | CallFailed) -> None:
        self._signs = list(signs)
        self.now = 100.0

    async def probe(self, seconds: float) -> float:
        assert seconds > 0
        sign = self._signs.pop(0)
        self.now += 30.0
        if isinstance(sign, CallFailed):
            raise sign
        return sign

    def clock(self) -> float:
        return self.now


async def test_what_is_seen_is_reported_and_changes_are_logged_with_their_cause(caplog: pytest.LogCaptureFixture):
    refused, late = ConnectionRefused("x"), TimedOut("x", phase="connect")
    world = Scripted(0.004, late, refused, refused, 0.006)
    monitor = Monitor(world.probe, "gw:8080", world.clock)

    with caplog.at_level(logging.INFO, "tollhouse.client"):
        for _ in range(5):
            await monitor.look()

    assert [record.message for record in caplog.records] == [
        "the gateway is up",
        "the gateway is degraded",
        "the gateway is down",
        "the gateway is up",
    ]
    assert [getattr(record, "cause", None) for record in caplog.records] == ["", "timed_out", "connection_refused", ""]
    assert caplog.records[2].__dict__["lasted_seconds"] == 60.0
    report = monitor.report()
    assert (report.state, report.last_error, report.last_response_ms) == ("up", "connection_refused", 6.0)
    assert report.windows["5m"].availability == 0.4
    assert report.windows["1m"].signs == 3


async def seen(client: AsyncClient, state: str) -> None:
    """Waits until that was seen."""
    async with asyncio.timeout(30):
        while (report := client.health().gateway) is None or report.state != state:  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def test_a_watched_gateway_is_up_without_a_token_and_without_a_call(tmp_path: Path):
    live = response(b'{"status":"live"}')
    async with (
        Peer(answering(live)) as peer,
        AsyncClient(peer.url, token="th-secret-token", environ={"HOME": str(tmp_path)}) as client,
    ):
        assert not client.health().is_watched
        client.watch()
        await seen(client, "up")
        health = client.health()

    assert (health.is_watched, health.is_well, health.mode) == (True, True, "proxy")
    assert [(request.target, request.header("authorization")) for request in peer.requests] == [("/health/live", None)]


async def test_an_interval_that_would_be_a_load_is_refused(tmp_path: Path):
    async with AsyncClient("http://localhost:1", environ={"HOME": str(tmp_path)}) as client:
        with pytest.raises(ValueError, match="every 1 seconds at most"):
            client.watch(0.01)


def test_direct_mode_has_nothing_to_watch(town: Town):
    with tollhouse.Client(environ=town.direct_environ()) as client:
        client.watch()
        health = client.health()

    assert (health.mode, health.gateway, health.is_watched, health.is_well) == ("direct", None, False, True)


@pytest.mark.parametrize("way", ["json", "grpc"])
def test_either_kind_of_gateway_can_be_watched(town: Town, way: Any):
    with tollhouse.Client(environ=town.proxy_environ(way)) as client:
        client.watch()
        while (report := client.health().gateway) is None or report.state == "unknown":
            time.sleep(0)  # the portal's thread notes what is read here

        assert report.state == "up"
        assert report.windows["1m"].availability == 1.0


# ------------------------------------------------------------------------------------------------------ the health page


async def get(app: App, path: str, *, method: str = "GET", root: str = "") -> tuple[int, Any]:
    """Asks an application in its own terms."""
    sent: list[MutableMapping[str, Any]] = []

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    await app({"type": "http", "method": method, "path": path, "root_path": root, "headers": []}, receive, send)
    body = sent[1]["body"]
    return sent[0]["status"], msgspec.json.decode(body) if body else None


async def test_the_page_begins_to_watch_and_shows_what_was_seen(tmp_path: Path):
    live = response(b'{"status":"live"}')
    async with (
        Peer(answering(live)) as peer,
        AsyncClient(peer.url, token="th-secret-token", environ={"HOME": str(tmp_path)}) as client,
    ):
        app = health_app(client)
        first, page = await get(app, "/health/proxy")
        await seen(client, "up")
        second, later = await get(app, "/health/proxy")

    assert (first, page["gateway"]["state"]) == (200, "unknown")
    assert (second, later["gateway"]["state"]) == (200, "up")
    assert set(later["gateway"]["windows"]) == {"1m", "5m", "1h"}
    assert "th-secret-token" not in str(later)


async def test_a_gateway_that_is_down_makes_the_page_503(tmp_path: Path):
    async with AsyncClient("http://127.0.0.1:9", environ={"HOME": str(tmp_path)}) as client:
        app = health_app(client)
        client.watch()
        await seen(client, "down")
        status, page = await get(app, "/health/proxy")

    assert (status, page["gateway"]["last_error"]) == (503, "connection_refused")


async def test_the_page_can_be_mounted_anywhere_and_is_the_only_one(tmp_path: Path):
    async with AsyncClient("http://127.0.0.1:9", environ={"HOME": str(tmp_path)}) as client:
        app = health_app(client)

        assert (await get(app, "/svc/health/proxy", root="/svc"))[0] == 200
        assert (await get(app, "/status", root="/status"))[0] == 200
        assert (await get(app, "/health/proxy", method="HEAD")) == (200, None)
        assert (await get(app, "/health/proxy", method="POST"))[0] == 405
        assert (await get(app, "/health"))[0] == 404


async def test_starlette_can_mount_it(tmp_path: Path):
    from starlette.applications import Starlette
    from starlette.routing import Mount

    async with AsyncClient("http://127.0.0.1:9", environ={"HOME": str(tmp_path)}) as client:
        app = Starlette(routes=[Mount("/svc", health_app(client))])

        assert (await get(app, "/svc/health/proxy"))[0] == 200


def test_it_serves_a_synchronous_client_too(town: Town):
    with Client(environ=town.proxy_environ()) as client:
        status, page = asyncio.run(get(health_app(client), "/health/proxy"))

    assert (status, page["mode"]) == (200, "proxy")
