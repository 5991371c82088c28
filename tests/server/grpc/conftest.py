"""A gateway that answers over gRPC, and a client of it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import pytest
import uvloop

from support.serving import Running, Serving, start
from tollhouse.server.http1.listener import Http1Listener


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """What handles sockets itself is tried on uvloop as well, which has transports of its own."""
    factories: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
    if item.path.name == "test_relay.py":
        factories["uvloop"] = uvloop.new_event_loop
    return factories


@pytest.fixture
async def serving(tmp_path: Path) -> AsyncIterator[Serving]:
    running: list[Running] = []

    async def begin(text: str) -> Running:
        gateway = await start(text, tmp_path, Http1Listener, grpc=True)
        running.append(gateway)
        return gateway

    yield begin
    for gateway in running:
        await gateway.close()
