"""From a name to a connection over real sockets: dead and silent addresses, deadlines, cancelling, closing.

What is silent is a listener with a full backlog, which drops what comes as a firewall would.
"""

import asyncio
import contextlib
import dataclasses
import socket
import sys
from collections.abc import AsyncIterator, Iterator

import pytest

from support.calls import BRIEF, PATIENT, post
from support.peer import Certificates, Peer, Visit, answering, connect_proxy, response
from support.towns import (
    NEVER,
    SOON,
    Directory,
    Noted,
    SilentDirectory,
    black_hole,
    comes_true,
    free_port,
    has_ipv6,
    open_sockets,
)
from tollhouse.errors import ConnectFailed, ConnectionLost, TollhouseError, UpstreamMalformed, UpstreamTimeout
from tollhouse.upstream.dialler import Dialler, open_socket
from tollhouse.upstream.names import Names
from tollhouse.upstream.proxy import Proxies, parse_proxy
from tollhouse.upstream.transport import Outgoing
from tollhouse.upstream.wire import WireSettings, WireTransport

FOUR, OTHER_FOUR, THIRD_FOUR, SIX = "127.0.0.1", "127.0.0.2", "127.0.0.3", "::1"
QUICK = dataclasses.replace(PATIENT, connect=4 * BRIEF)
HELLO = answering(response(b"hello"))

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's 127.0.0.0/8, full backlogs and /proc")
needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback")
FAMILIES = [pytest.param(SIX, id="IPv6", marks=needs_ipv6), pytest.param(OTHER_FOUR, id="IPv4")]


class Way:
    """A transport whose names and attempts the test sees."""

    def __init__(
        self,
        directory: Directory | SilentDirectory,
        *,
        stagger: float = NEVER,
        settings: WireSettings | None = None,
    ) -> None:
        self.directory = directory
        self.names = Names(directory)
        self.noted = Noted()
        self.transport = WireTransport(
            settings, dialler=Dialler(self.names, connect=self.noted, stagger_seconds=stagger)
        )

    async def get(self, request: Outgoing) -> bytes:
        return await (await self.transport.send(request, PATIENT)).read_all(1000)

    async def error(self, request: Outgoing, *, quick: bool = False) -> TollhouseError:
        with pytest.raises(TollhouseError) as caught:
            await self.transport.send(request, QUICK if quick else PATIENT)
        return caught.value


@pytest.fixture(autouse=True)
async def nothing_is_left_open() -> AsyncIterator[None]:
    """No socket and no task may outlive a test."""
    before = open_sockets()
    yield
    await comes_true(lambda: asyncio.all_tasks() == {asyncio.current_task()})
    await comes_true(lambda: open_sockets() <= before)


@pytest.fixture
def silent() -> Iterator[SilentDirectory]:
    directory = SilentDirectory((FOUR,))
    yield directory
    directory.release()


def url(port: int, scheme: str = "http", name: str = "provider.example") -> str:
    return f"{scheme}://{name}:{port}"


# ---------------------------------------------------------------------------------------------------- many addresses


@pytest.mark.parametrize("dead", FAMILIES)
async def test_a_dead_address_costs_nothing_but_its_refusal(dead: str):
    async with Peer(HELLO, port=free_port(FOUR, dead)) as peer:
        way = Way(Directory((dead, FOUR)))
        assert await way.get(post(url(peer.port))) == b"hello"
        assert way.noted.tried == [dead, FOUR]
        await way.transport.aclose()


@pytest.mark.parametrize("silent_one", FAMILIES)
async def test_a_silent_address_is_overtaken_and_the_next_connection_does_not_begin_with_it(silent_one: str):
    async with Peer(HELLO, port=free_port(FOUR, silent_one)) as peer:
        with black_hole(silent_one, peer.port):
            way = Way(Directory((silent_one, FOUR)), stagger=SOON)
            for _ in range(2):
                assert await way.get(post(url(peer.port), headers=((b"connection", b"close"),))) == b"hello"
                for connection in tuple(way.transport._connections):
                    connection.abort()
            assert way.noted.tried == [silent_one, FOUR, FOUR]
            await way.transport.aclose()


@needs_ipv6
async def test_a_provider_with_ipv6_alone_is_reached():
    async with Peer(HELLO, host=SIX) as peer:
        way = Way(Directory((SIX,)))
        assert await way.get(post(url(peer.port))) == b"hello"
        assert await way.get(post(url(peer.port, name="[::1]"))) == b"hello"
        assert way.directory.asked == ["provider.example"]
        await way.transport.aclose()


async def test_tls_begins_with_the_winner_and_the_certificate_is_the_names(certificates: Certificates):
    async with Peer(HELLO, tls=certificates.server, port=free_port(FOUR, OTHER_FOUR)) as peer:
        with black_hole(OTHER_FOUR, peer.port):
            settings = WireSettings(ca_file=certificates.ca_file)
            way = Way(Directory((OTHER_FOUR, FOUR)), stagger=SOON, settings=settings)
            assert await way.get(post(url(peer.port, "https", "localhost"))) == b"hello"
            error = await way.error(post(url(peer.port, "https", "elsewhere.example")))
            assert "its certificate was not accepted" in str(error)
            await way.transport.aclose()


async def test_a_proxy_with_a_silent_address_is_reached_and_resolves_the_providers_name(certificates: Certificates):
    async with (
        Peer(HELLO, tls=certificates.server) as provider,
        Peer(connect_proxy(), port=free_port(FOUR, OTHER_FOUR)) as proxy,
    ):
        with black_hole(OTHER_FOUR, proxy.port):
            route = parse_proxy(f"http://user:secret@proxy.example:{proxy.port}")
            settings = WireSettings(ca_file=certificates.ca_file, proxies=Proxies(https=route))
            way = Way(Directory((OTHER_FOUR, FOUR)), stagger=SOON, settings=settings)
            assert await way.get(post(url(provider.port, "https", "localhost"))) == b"hello"
            assert way.directory.asked == ["proxy.example"]
            await way.transport.aclose()


async def test_a_kept_answer_is_asked_for_anew_when_the_provider_has_moved():
    way = Way(directory := Directory((FOUR,), (OTHER_FOUR,)))
    async with Peer(answering(response(b"here"), then_close=True)) as peer:
        assert await way.get(post(url(peer.port))) == b"here"
        port = peer.port
    async with Peer(answering(response(b"there")), host=OTHER_FOUR, port=port):
        assert await way.get(post(url(port))) == b"there"
        assert await way.get(post(url(port))) == b"there"
        assert directory.asked == ["provider.example"] * 2
        await way.transport.aclose()


async def test_a_reused_connection_needs_neither_name_nor_attempt():
    async with Peer(HELLO) as peer:
        way = Way(Directory((FOUR,)))
        for _ in range(5):
            assert await way.get(post(url(peer.port))) == b"hello"
        assert (way.directory.asked, way.noted.tried) == (["provider.example"], [FOUR])
        await way.transport.aclose()


async def test_an_address_whose_handshake_breaks_is_not_the_next_to_be_tried(certificates: Certificates):
    async def breaks(visit: Visit) -> None:
        await visit.reader.readexactly(5)
        visit.reset()

    async with (
        Peer(HELLO, tls=certificates.server, port=free_port(FOUR, OTHER_FOUR)) as peer,
        Peer(breaks, host=OTHER_FOUR, port=peer.port),
    ):
        way = Way(Directory((OTHER_FOUR, FOUR, THIRD_FOUR)), settings=WireSettings(ca_file=certificates.ca_file))
        asked = post(url(peer.port, "https", "localhost"))
        assert isinstance(await way.error(asked), ConnectFailed)
        assert await way.get(asked) == b"hello"
        assert way.noted.tried == [OTHER_FOUR, FOUR]
        await way.transport.aclose()


# ------------------------------------------------------------------------------------------------------------- words


@needs_ipv6
async def test_when_all_fail_the_error_says_why_by_family():
    port = free_port(FOUR, SIX)
    way = Way(Directory((SIX, FOUR, OTHER_FOUR)))
    error = await way.error(post(url(port)))
    assert isinstance(error, ConnectFailed)
    assert str(error) == (
        f"Could not connect to provider.example:{port}: IPv6: connection refused; IPv4: connection refused (2 times)."
    )


async def test_a_name_that_has_no_address_is_told_in_the_systems_words():
    way = Way(Directory(socket.gaierror(socket.EAI_NONAME, "Name or service not known")))
    assert str(await way.error(post(url(1)))) == (
        "Could not connect to provider.example:1: its name could not be resolved (name or service not known)."
    )


async def test_a_proxy_that_is_dead_is_named_without_its_password():
    port = free_port(FOUR)
    settings = WireSettings(proxies=Proxies(http=parse_proxy(f"http://user:secret@proxy.example:{port}")))
    error = await Way(Directory((FOUR,)), settings=settings).error(post(url(80)))
    assert str(error) == (
        f"Could not connect to provider.example:80 through the proxy proxy.example:{port}: connection refused."
    )


# --------------------------------------------------------------------------------------------------------- deadlines


async def test_a_look_up_that_hangs_ends_with_the_connect_deadline(silent: SilentDirectory):
    way = Way(silent)
    error = await way.error(post(url(80)), quick=True)
    assert isinstance(error, UpstreamTimeout)
    assert error.phase == "connect"
    assert str(error) == (
        "No connection to provider.example:80 in time: waited for the name provider.example to be resolved."
    )
    await way.transport.aclose()


async def test_silent_addresses_end_with_the_connect_deadline_and_the_name_is_asked_for_anew():
    with black_hole(FOUR) as port, black_hole(OTHER_FOUR, port):
        way = Way(directory := Directory((FOUR, OTHER_FOUR), (THIRD_FOUR,)), stagger=SOON)
        error = await way.error(post(url(port)), quick=True)
        assert isinstance(error, UpstreamTimeout)
        assert error.phase == "connect"
        assert "waited for an answer from 2 IPv4 addresses" in str(error)
        assert "connection refused" in str(await way.error(post(url(port))))
        assert directory.asked == ["provider.example"] * 2
        await way.transport.aclose()


async def test_an_address_whose_handshake_is_silent_is_not_the_next_to_be_tried(certificates: Certificates):
    async def silent(visit: Visit) -> None:
        await visit.stall()

    async with (
        Peer(HELLO, tls=certificates.server, port=free_port(FOUR, OTHER_FOUR)) as peer,
        Peer(silent, host=OTHER_FOUR, port=peer.port),
    ):
        way = Way(Directory((OTHER_FOUR, FOUR, THIRD_FOUR)), settings=WireSettings(ca_file=certificates.ca_file))
        asked = post(url(peer.port, "https", "localhost"))
        assert str(await way.error(asked, quick=True)).endswith("in time: waited for the TLS handshake.")
        assert await way.get(asked) == b"hello"
        await way.transport.aclose()


async def test_a_proxy_that_keeps_silent_is_named(certificates: Certificates):
    async def silent(visit: Visit) -> None:
        await visit.request()
        await visit.stall()

    async with Peer(silent) as proxy:
        route = parse_proxy(f"http://user:secret@127.0.0.1:{proxy.port}")
        way = Way(Directory((FOUR,)), settings=WireSettings(ca_file=certificates.ca_file, proxies=Proxies(https=route)))
        assert str(await way.error(post(url(443, "https")), quick=True)) == (
            f"No connection to provider.example:443 through the proxy 127.0.0.1:{proxy.port} in time: "
            "waited for the proxy to open a tunnel."
        )
        await (await proxy.visit()).client_closed.wait()
        await way.transport.aclose()


# ------------------------------------------------------------------------------------------------ peers that misbehave


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("how", ["closes", "resets", "speaks first"])
async def test_a_peer_that_ends_or_speaks_at_once_is_an_error(how: str, scheme: str, certificates: Certificates):
    async def script(visit: Visit) -> None:
        if how == "resets":
            visit.reset()
        elif how == "speaks first":
            await visit.send(b"220 mail.example ESMTP\r\n")
            await visit.stall()

    async with Peer(script) as peer:
        way = Way(Directory((FOUR,)), settings=WireSettings(ca_file=certificates.ca_file))
        for _ in range(5):
            error = await way.error(post(url(peer.port, scheme)))
            assert isinstance(error, ConnectFailed | ConnectionLost | UpstreamMalformed)
            if scheme == "https":
                assert "the TLS handshake failed: " in str(error)
        await way.transport.aclose()


async def test_a_socket_that_has_no_owner_yet_closes_when_the_peer_speaks_or_leaves():
    async def speaks(visit: Visit) -> None:
        await visit.send(b"220 mail.example ESMTP\r\n")
        await visit.stall()

    async def leaves(visit: Visit) -> None:
        visit.cut()

    async with Peer(speaks, leaves) as peer:
        for _ in range(2):
            transport = await open_socket(FOUR, peer.port)
            await comes_true(transport.is_closing)


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_socket_that_closed_before_it_was_taken_over_is_a_failed_connection(
    scheme: str, certificates: Certificates
):
    async def closing(address: str, port: int) -> asyncio.Transport:
        transport = await open_socket(address, port)
        transport.abort()
        return transport

    async with Peer(HELLO) as peer:
        dialler = Dialler(Names(Directory((FOUR,))), connect=closing)
        transport = WireTransport(WireSettings(ca_file=certificates.ca_file), dialler=dialler)
        with pytest.raises(ConnectFailed, match="closed as soon as it was made"):
            await transport.send(post(url(peer.port, scheme)), PATIENT)
        await transport.aclose()


async def test_what_a_provider_does_in_a_tunnel_is_not_blamed_on_the_proxys_address(certificates: Certificates):
    async with (
        Peer(HELLO, tls=certificates.server) as provider,
        Peer(connect_proxy(), port=free_port(FOUR, OTHER_FOUR)) as proxy,
        Peer(connect_proxy(), host=OTHER_FOUR, port=proxy.port),
    ):
        route = parse_proxy(f"http://proxy.example:{proxy.port}")
        # Only `localhost` is in the certificate: by its number the handshake fails.
        settings = WireSettings(ca_file=certificates.ca_file, proxies=Proxies(https=route))
        way = Way(Directory((FOUR, OTHER_FOUR)), settings=settings)
        bad = post(url(provider.port, "https", FOUR))
        assert "its certificate was not accepted" in str(await way.error(bad))
        assert await way.get(post(url(provider.port, "https", "localhost"))) == b"hello"
        await way.error(bad)
        assert way.noted.tried == [FOUR, OTHER_FOUR, FOUR]
        await way.transport.aclose()


# ------------------------------------------------------------------------------------------------ cancelling, closing


@pytest.mark.parametrize("stage", ["look-up", "attempt", "race", "handshake", "line"])
async def test_closing_ends_those_who_wait_for_a_connection(
    stage: str, silent: SilentDirectory, certificates: Certificates
):
    """At once, not at their deadline; and `aclose` returns when their sockets are gone."""

    async def stalls(visit: Visit) -> None:
        await visit.stall()

    async with Peer(stalls) as peer:
        with contextlib.ExitStack() as holes:
            port = holes.enter_context(black_hole(FOUR))
            if stage == "race":
                holes.enter_context(black_hole(OTHER_FOUR, port))
            directory = silent if stage == "look-up" else Directory((FOUR, OTHER_FOUR)[: 2 if stage == "race" else 1])
            settings = WireSettings(ca_file=certificates.ca_file, connections_per_origin=1)
            way = Way(directory, stagger=SOON, settings=settings)
            asked = post(url(peer.port, "https") if stage == "handshake" else url(port))
            async with asyncio.TaskGroup() as group:
                callers = [group.create_task(way.error(asked)) for _ in range(2 if stage == "line" else 1)]
                if stage == "look-up":
                    await comes_true(lambda: silent.asked == ["provider.example"])
                elif stage == "handshake":
                    await (await peer.visit()).reader.readexactly(5)
                else:
                    await comes_true(lambda: len(way.noted.tried) == (2 if stage == "race" else 1))
                await way.transport.aclose()
                assert way.transport._connections == set()
                assert way.names.under_way == 0
            for caller in callers:
                assert isinstance(caller.result(), ConnectFailed)
                assert "the gateway is closing its connections" in str(caller.result())


@pytest.mark.parametrize("scheme", ["http", "https", "https through a proxy"])
async def test_a_call_that_is_cancelled_after_any_number_of_steps_leaves_nothing_open(
    scheme: str, certificates: Certificates
):
    """Each number of turns of the loop, until one call came through; the fixture looks for sockets and tasks."""
    tls = certificates.server if scheme != "http" else None
    async with (
        Peer(HELLO, tls=tls, port=free_port(FOUR, OTHER_FOUR)) as peer,
        Peer(connect_proxy(), port=free_port(FOUR, OTHER_FOUR)) as proxy,
    ):
        route = parse_proxy(f"http://proxy.example:{proxy.port}") if "proxy" in scheme else None
        settings = WireSettings(ca_file=certificates.ca_file, connections_per_origin=1, proxies=Proxies(https=route))
        way = Way(Directory((OTHER_FOUR, FOUR)), stagger=0, settings=settings)
        asked = post(url(peer.port, scheme[:5].strip(), "localhost"))
        came_through = False
        for steps in range(2000):
            async with asyncio.TaskGroup() as group:
                call = group.create_task(way.get(asked))
                for _ in range(steps):
                    await asyncio.sleep(0)
                call.cancel()
                await asyncio.wait([call])
            came_through = not call.cancelled()
            if came_through:
                break
            for origin in way.transport._origins.values():  # an answer that arrived in the last moment leaves one idle
                assert origin.pool.open_slots == origin.pool.idle_connections
                if not origin.pool.idle_connections:
                    for visit in (*peer.visits, *proxy.visits):
                        await visit.client_closed.wait()
            assert way.transport._connecting == set()
        assert came_through
        await way.transport.aclose()
