"""A gateway for the tests of this folder, on every server that it can run on."""

import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from support.serving import SERVERS, Running, Serving, start


@pytest.fixture(params=list(SERVERS))
def server(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class _Unexpected(logging.Handler):
    """Keeps the log lines that carry an exception: the gateway's word for a fault of its own."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info:
            self.lines.append(logging.Formatter().format(record))


@pytest.fixture(autouse=True)
def nothing_unexpected() -> Iterator[None]:
    """Fails a test in which the gateway, or the event loop, logged an error that nobody caught."""
    handler = _Unexpected()
    loggers = [logging.getLogger(name) for name in ("tollhouse", "asyncio", "_granian", "uvicorn.error")]
    for logger in loggers:
        logger.addHandler(handler)
    yield
    for logger in loggers:
        logger.removeHandler(handler)
    assert not handler.lines, "\n".join(handler.lines)


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
