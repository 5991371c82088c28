"""What the transport tests share: both implementations, both event loops, and certificates."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping

import pytest
import uvloop

from support.peer import Certificates, make_certificates
from tollhouse.upstream.aio import AioTransport
from tollhouse.upstream.transport import Transport
from tollhouse.upstream.wire import WireSettings, WireTransport


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Every test that has a loop runs on the standard library's and on uvloop."""
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture(params=["wire", "aio"])
async def make_transport(request: pytest.FixtureRequest) -> AsyncIterator[Callable[..., Transport]]:
    """Makes transports of one implementation with the settings of the test's choice, and closes them."""
    made: list[Transport] = []

    def make(settings: WireSettings | None = None) -> Transport:
        made.append(WireTransport(settings) if request.param == "wire" else AioTransport(settings))
        return made[-1]

    yield make
    for transport in made:
        await transport.aclose()


@pytest.fixture
def transport(make_transport: Callable[..., Transport]) -> Transport:
    """A transport with default settings."""
    return make_transport()


@pytest.fixture
async def wire() -> AsyncIterator[WireTransport]:
    """Our own transport alone, for what is only its own promise."""
    transport = WireTransport()
    yield transport
    await transport.aclose()
