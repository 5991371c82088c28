"""A gateway that answers over gRPC, and a client of it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.serving import Running, Serving, start
from tollhouse.server.http1.listener import Http1Listener


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
