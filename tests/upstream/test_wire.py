"""What only our own transport promises, on top of the fault suite."""

import asyncio
import dataclasses
import gc
from pathlib import Path

import pytest

from support.calls import BRIEF, PATIENT, get, post, read_to_end
from support.peer import Certificates, Peer, Visit, answering, chunk, chunked_head, resetting, response, stalling
from tollhouse.errors import (
    ConfigError,
    ConnectFailed,
    ConnectionLost,
    GatewayError,
    UpstreamMalformed,
    UpstreamTimeout,
    UpstreamTooLarge,
    UpstreamTruncated,
)
from tollhouse.upstream.exchange import Exchange
from tollhouse.upstream.wire import WireSettings, WireTransport


async def test_a_reused_connection_that_breaks_after_the_first_byte_is_not_replaced(wire: WireTransport):
    """Part of an answer means that the provider has begun the work: doing it twice would be paid twice."""

    async def breaks_in_second(visit: Visit) -> None:
        await visit.request()
        await visit.answer(b"first")
        await visit.request()
        await visit.send(b"HTTP/1.1 200 OK\r\ncontent-le")

    async with Peer(breaks_in_second, answering(response(b"never"))) as peer:
        assert await read_to_end(await wire.send(post(peer.url), PATIENT)) == b"first"
        with pytest.raises(ConnectionLost):
            await wire.send(post(peer.url), PATIENT)
        assert len(peer.visits) == 1


async def test_a_close_delimited_body_that_is_reset_is_truncated(wire: WireTransport):
    seen = asyncio.Event()
    head = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n"
    async with Peer(resetting(head + b"so far", when=seen)) as peer:
        incoming = await wire.send(post(peer.url), PATIENT)
        assert await incoming.read_some() == b"so far"
        seen.set()
        for _ in range(2):
            with pytest.raises(UpstreamTruncated):
                await incoming.read_some()


async def test_closing_the_transport_is_no_clean_end_of_a_close_delimited_body(wire: WireTransport):
    async with Peer(stalling(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nso far")) as peer:
        incoming = await wire.send(post(peer.url), PATIENT)
        assert await incoming.read_some() == b"so far"
        await wire.aclose()
        with pytest.raises(UpstreamTruncated):
            await incoming.read_some()


async def test_closing_an_answer_that_arrived_whole_does_not_touch_the_next_exchange(wire: WireTransport):
    """Its connection may be at work for somebody else by then."""
    go_on = asyncio.Event()

    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.answer(b"first")
        await visit.request()
        await visit.send(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n" + b"hello")
        await go_on.wait()
        await visit.send(b" body")

    async with Peer(script) as peer:
        unread = await wire.send(post(peer.url), PATIENT)
        other = await wire.send(post(peer.url), PATIENT)
        unread.close()
        with pytest.raises(ConnectionLost):
            await unread.read_some()
        go_on.set()
        assert await read_to_end(other) == b"hello body"
        assert len(peer.visits) == 1


async def test_garbage_behind_a_complete_answer_costs_the_connection_not_the_answer(wire: WireTransport):
    async with Peer(answering(response(b"a") + b"garbage")) as peer:
        for number in range(2):
            assert await read_to_end(await wire.send(post(peer.url), PATIENT)) == b"a"
            await (await peer.visit(number)).client_closed.wait()
        assert len(peer.visits) == 2


async def test_bytes_on_an_idle_connection_close_it(wire: WireTransport):
    """A server's 408 before it closes must not be taken for the answer to the next request."""

    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.answer(b"first")
        await visit.send(response(b"too slow", status=408))
        await visit.stall()

    async with Peer(script, answering(response(b"second"))) as peer:
        assert await read_to_end(await wire.send(post(peer.url), PATIENT)) == b"first"
        await (await peer.visit()).client_closed.wait()
        assert await read_to_end(await wire.send(post(peer.url), PATIENT)) == b"second"


async def test_a_body_behind_a_head_request_is_not_taken_for_an_answer(wire: WireTransport):
    """Some servers send one all the same."""
    async with Peer(stalling(response(b"should not be here")), answering(response(b"ok"))) as peer:
        incoming = await wire.send(get(peer.url, method=b"HEAD"), PATIENT)
        assert await incoming.read_some() == b""
        await (await peer.visit()).client_closed.wait()
        assert await read_to_end(await wire.send(get(peer.url), PATIENT)) == b"ok"


async def test_switching_protocols_unasked_is_malformed(wire: WireTransport):
    answer = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\nPRI"
    async with Peer(stalling(answer)) as peer:
        with pytest.raises(UpstreamMalformed):
            await wire.send(post(peer.url), PATIENT)
        await (await peer.visit()).client_closed.wait()


async def test_an_offer_to_upgrade_is_ignored(wire: WireTransport):
    """Apache and nginx say `Upgrade: h2` on ordinary answers."""
    answer = response(b"plain", headers=[("upgrade", "h2,h2c"), ("connection", "Upgrade")])
    async with Peer(answering(answer)) as peer:
        assert await read_to_end(await wire.send(post(peer.url), PATIENT)) == b"plain"


@pytest.mark.parametrize(
    "start",
    [
        b"HTTP/1.1 200 OK\r\nx-filler: ",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 3000,
        chunked_head() + chunk(b"body") + b"0\r\nx-trailer: ",
        chunked_head() + chunk(b"body") + b"5;extension=",
    ],
    ids=["one field", "a word", "1xx for ever", "a trailer", "a chunk extension"],
)
async def test_what_never_becomes_body_is_bounded(wire: WireTransport, start: bytes):
    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.send(start)
        while True:
            await visit.send(b"HTTP/1.1 100 Continue\r\n\r\n" * 200 if b"100" in start else b"a" * 4096)

    async with Peer(script) as peer:
        with pytest.raises((UpstreamTooLarge, UpstreamMalformed)):
            await read_to_end(await wire.send(post(peer.url), PATIENT))
        await (await peer.visit()).client_closed.wait()


async def test_too_many_fields_are_too_large(wire: WireTransport):
    answer = response(b"x", headers=[(f"x-{number}", "1") for number in range(300)])
    async with Peer(answering(answer)) as peer:
        with pytest.raises(UpstreamTooLarge):
            await wire.send(post(peer.url), PATIENT)


async def test_a_large_body_right_behind_a_small_head_is_not_a_large_head(wire: WireTransport):
    async with Peer(answering(response(b"x" * 500_000))) as peer:
        assert len(await read_to_end(await wire.send(post(peer.url), PATIENT))) == 500_000


async def test_a_provider_that_takes_no_request_body_is_a_first_byte_time_out(wire: WireTransport):
    async def script(visit: Visit) -> None:
        await visit.request_head()
        await asyncio.Event().wait()

    async with Peer(script) as peer:
        with pytest.raises(UpstreamTimeout) as caught:
            await wire.send(post(peer.url, b"x" * 20_000_000), dataclasses.replace(PATIENT, first_byte=BRIEF))
        assert caught.value.phase == "first_byte"


async def test_the_total_deadline_ends_an_answer_that_nobody_reads(wire: WireTransport):
    async with Peer(stalling(chunked_head() + chunk(b"so far"))) as peer:
        incoming = await wire.send(post(peer.url), dataclasses.replace(PATIENT, total=4 * BRIEF))
        await (await peer.visit()).client_closed.wait()
        assert await incoming.read_some() == b"so far"
        with pytest.raises(UpstreamTimeout) as caught:
            await incoming.read_some()
        assert caught.value.phase == "total"


async def test_the_connection_used_last_is_used_first(wire: WireTransport):
    async with Peer(answering(response(b"x"))) as peer:
        first, second = await asyncio.gather(*(wire.send(post(peer.url), PATIENT) for _ in range(2)))
        for incoming in (first, second):
            await read_to_end(incoming)
        for _ in range(3):
            await read_to_end(await wire.send(post(peer.url), PATIENT))
        assert sorted(len(visit.requests) for visit in peer.visits) == [1, 4]


async def test_cancelling_many_calls_leaves_no_slot_taken():
    transport = WireTransport(WireSettings(connections_per_origin=3))
    async with Peer(stalling(), stalling(), stalling(), answering(response(b"ok"))) as peer:
        calls = [asyncio.ensure_future(transport.send(post(peer.url), PATIENT)) for _ in range(10)]  # noqa: TID251
        for number in range(3):
            await peer.visit(number)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        results = await asyncio.gather(*(transport.send(post(peer.url), PATIENT) for _ in range(6)))
        assert [await read_to_end(incoming) for incoming in results] == [b"ok"] * 6
        await transport.aclose()


@pytest.mark.parametrize("steps", range(12))
async def test_cancelling_at_any_step_of_a_tls_call_leaves_nothing_behind(certificates: Certificates, steps: int):
    """Cancels after each number of turns of the loop, so that every await on the way to the head is met."""
    transport = WireTransport(WireSettings(ca_file=certificates.ca_file, connections_per_origin=1))
    async with Peer(answering(response(b"ok")), tls=certificates.server) as peer:
        call = asyncio.ensure_future(transport.send(post(peer.url), PATIENT))  # noqa: TID251
        for _ in range(steps):
            await asyncio.sleep(0)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        # With one slot only, this would time out if the cancelled call had kept it.
        assert await read_to_end(await transport.send(post(peer.url), PATIENT)) == b"ok"
        await transport.aclose()


async def test_closing_the_transport_ends_calls_in_every_stage():
    transport = WireTransport(WireSettings(connections_per_origin=1))
    async with Peer(stalling()) as peer:
        calls = [asyncio.ensure_future(transport.send(post(peer.url), PATIENT)) for _ in range(2)]  # noqa: TID251
        await peer.visit()
        await transport.aclose()
        waiting_for_head, in_line = await asyncio.gather(*calls, return_exceptions=True)
        assert isinstance(waiting_for_head, ConnectionLost)
        assert isinstance(in_line, ConnectFailed)


async def test_two_readers_of_one_answer_are_a_bug_that_is_named(wire: WireTransport):
    async with Peer(stalling(chunked_head())) as peer:
        incoming = await wire.send(post(peer.url), PATIENT)
        async with asyncio.TaskGroup() as group:
            reading = group.create_task(incoming.read_some())
            await asyncio.sleep(0)
            with pytest.raises(RuntimeError):
                await incoming.read_some()
            reading.cancel()


@pytest.mark.parametrize(
    "headers",
    [((b"authorization", b"Bearer key\n"),), ((b"x\r\ninjected", b"1"),), ((b"a", b"1\0"),)],
)
async def test_a_line_break_in_a_header_is_refused_before_anything_is_sent(
    wire: WireTransport, headers: tuple[tuple[bytes, bytes], ...]
):
    """A key that was read from a file with its line end is the usual case."""
    async with Peer(answering(response(b"never"))) as peer:
        with pytest.raises(GatewayError) as caught:
            await wire.send(post(peer.url, headers=headers), PATIENT)
        assert "Bearer" not in str(caught.value)
        assert peer.visits == []


async def test_a_post_without_a_body_says_so_and_a_get_says_nothing(wire: WireTransport):
    async with Peer(answering(response(b"x"))) as peer:
        for request in (post(peer.url, b""), get(peer.url)):
            await read_to_end(await wire.send(request, PATIENT))
        assert [request.header("content-length") for request in peer.requests] == ["0", None]


async def test_the_finished_exchange_leaves_no_garbage(wire: WireTransport):
    """Reference cycles at every request would be paid in pauses of the garbage collector."""
    async with Peer(answering(response(b"x"))) as peer:
        await read_to_end(await wire.send(post(peer.url), PATIENT))
        gc.collect()
        gc.disable()
        try:
            for _ in range(20):
                await read_to_end(await wire.send(post(peer.url), PATIENT))
            assert sum(isinstance(thing, Exchange) for thing in gc.get_objects()) <= 1
        finally:
            gc.enable()


def test_a_missing_ca_file_is_a_configuration_error_at_once(tmp_path: Path):
    with pytest.raises(ConfigError, match="certificate authorities"):
        WireTransport(WireSettings(ca_file=str(tmp_path / "absent.pem")))


def test_a_ca_file_without_certificates_is_a_configuration_error(tmp_path: Path):
    (tmp_path / "empty.pem").write_text("no certificate here")
    with pytest.raises(ConfigError, match="certificate authorities"):
        WireTransport(WireSettings(ca_file=str(tmp_path / "empty.pem")))
