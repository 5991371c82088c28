"""A gateway for the tests of this folder, on both servers."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.serving import SERVERS, Running, Serving, start


@pytest.fixture(params=list(SERVERS))
def server(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def serving(tmp_path: Path, server: str) -> AsyncIterator[Serving]:
    running: list[Running] = []

    async def begin(text: str) -> Running:
        gateway = await start(text, tmp_path, SERVERS[server])
        running.append(gateway)
        return gateway

    yield begin
    for gateway in running:
        await gateway.close()
