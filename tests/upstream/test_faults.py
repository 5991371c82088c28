"""The fault suite that both transports pass, over real sockets, on both event loops.

No test here sleeps or looks at a clock: the peer waits for events, and deadlines that are meant to pass are short.
"""

import asyncio
import dataclasses
import gzip
import zlib
from collections.abc import Awaitable, Callable

import pytest

from support.calls import BRIEF, PATIENT, get, post, read_to_end
from support.peer import (
    HTML_ERROR,
    Certificates,
    Peer,
    Script,
    Visit,
    answering,
    chunk,
    chunked_head,
    connect_proxy,
    html_error,
    raw,
    resetting,
    response,
    stalling,
)
from tollhouse.errors import (
    ConnectFailed,
    ConnectionLost,
    UpstreamMalformed,
    UpstreamTimeout,
    UpstreamTooLarge,
    UpstreamTruncated,
)
from tollhouse.upstream.proxy import Proxies, parse_proxy
from tollhouse.upstream.transport import Transport
from tollhouse.upstream.wire import WireSettings

MakeTransport = Callable[..., Transport]

UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\nconnection: close\r\n\r\n"
SIZED = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n"


async def outcome(transport: Transport, url: str) -> bytes | str:
    """The body, or the code of the error that stood in its place."""
    try:
        return await read_to_end(await transport.send(post(url), PATIENT))
    except (ConnectionLost, UpstreamMalformed, UpstreamTruncated) as error:
        return error.code


# ------------------------------------------------------------------------------------------------------- well-behaved


async def test_a_request_arrives_as_it_was_meant_and_the_answer_as_it_was_sent(transport: Transport):
    answer = response(b'{"ok":true}', status=201, headers=[("X-Request-Id", "r1"), ("x-request-id", "r2")])
    async with Peer(answering(answer)) as peer:
        incoming = await transport.send(post(peer.url, b'{"a":1}', headers=((b"authorization", b"Bearer k"),)), PATIENT)
        assert (incoming.status, await incoming.read_all(1000)) == (201, b'{"ok":true}')
        assert incoming.header(b"x-request-id") == b"r1"
        assert [value for name, value in incoming.headers if name == b"x-request-id"] == [b"r1", b"r2"]
        assert incoming.header(b"absent") is None

        [request] = peer.requests
        assert (request.method, request.target, request.body) == ("POST", "/v1/chat", b'{"a":1}')
        assert request.header("host") == f"127.0.0.1:{peer.port}"
        assert request.header("content-length") == "7"
        assert request.header("authorization") == "Bearer k"
        assert request.header("transfer-encoding") is None


async def test_the_end_of_a_body_is_said_again_and_again(transport: Transport):
    async with Peer(answering(response(b"x"))) as peer:
        incoming = await transport.send(post(peer.url), PATIENT)
        assert [await incoming.read_some(), await incoming.read_some(), await incoming.read_some()] == [b"x", b"", b""]
        incoming.close()
        assert await incoming.read_some() == b""


@pytest.mark.parametrize(
    "answer",
    [
        response(b"hello body"),
        chunked_head() + chunk(b"hello") + chunk(b" body") + chunk(b""),
        chunked_head() + b"5;ext=1\r\nhello\r\n" + chunk(b" body") + b"0\r\nx-trailer: 1\r\n\r\n",
        UNTIL_CLOSE + b"hello body",
        b"HTTP/1.0 200 OK\r\n\r\nhello body",
        b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" + response(b"hello body"),
    ],
    ids=["sized", "chunked", "extension and trailer", "until close", "http/1.0", "1xx first"],
)
async def test_a_body_cut_at_any_byte_reads_the_same(transport: Transport, answer: bytes):
    """Every offset in turn is where one network piece ends and the next begins."""

    def split_at(offset: int) -> Script:
        async def script(visit: Visit) -> None:
            await visit.request()
            await visit.send(answer[:offset])
            await asyncio.sleep(0)
            await visit.send(answer[offset:])
            visit.cut()

        return script

    async with Peer(*(split_at(offset) for offset in range(len(answer)))) as peer:
        for _ in range(len(answer)):
            incoming = await transport.send(post(peer.url), PATIENT)
            assert incoming.status == 200
            assert await read_to_end(incoming) == b"hello body"


async def test_a_body_that_trickles_byte_by_byte_reads_the_same(transport: Transport):
    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.trickle(chunked_head() + chunk(b"hello") + chunk(b" body") + chunk(b""))

    async with Peer(script) as peer:
        assert await outcome(transport, peer.url) == b"hello body"


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        (b"HEAD", b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n"),
        (b"GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        (b"GET", b"HTTP/1.1 304 Not Modified\r\ncontent-length: 500\r\n\r\n"),
    ],
)
async def test_answers_without_a_body_end_at_once_and_leave_the_connection_usable(
    transport: Transport, method: bytes, answer: bytes
):
    async with Peer(answering(answer)) as peer:
        for _ in range(2):
            incoming = await transport.send(get(peer.url, method=method), PATIENT)
            assert await incoming.read_some() == b""
        assert len(peer.visits) == 1


async def test_any_status_is_an_answer_not_an_error(transport: Transport):
    async with Peer(html_error(502)) as peer:
        incoming = await transport.send(post(peer.url), PATIENT)
        assert (incoming.status, incoming.header(b"content-type")) == (502, b"text/html")
        assert await incoming.read_all(10_000) == HTML_ERROR


async def test_read_all_refuses_a_body_over_its_limit_and_closes(transport: Transport):
    async with Peer(stalling(SIZED.replace(b"10", b"1000") + b"x" * 500)) as peer:
        incoming = await transport.send(post(peer.url), PATIENT)
        with pytest.raises(UpstreamTooLarge):
            await incoming.read_all(499)
        await (await peer.visit()).client_closed.wait()


# --------------------------------------------------------------------------------------------------------- connections


async def test_a_connection_is_reused_after_a_body_was_read(transport: Transport):
    async with Peer(answering(response(b"a"), chunked_head() + chunk(b"b") + chunk(b""))) as peer:
        assert [await outcome(transport, peer.url) for _ in range(3)] == [b"a", b"b", b"b"]
        assert len(peer.visits) == 1


@pytest.mark.parametrize(
    "answer",
    [
        response(b"a", headers=[("connection", "close")]),
        b"HTTP/1.0 200 OK\r\ncontent-length: 1\r\n\r\na",
        response(b"a") + response(b"b"),
    ],
    ids=["connection: close", "http/1.0", "an answer too many"],
)
async def test_a_connection_is_not_reused_when_its_state_is_in_doubt(transport: Transport, answer: bytes):
    async with Peer(answering(answer)) as peer:
        for number in range(2):
            assert await outcome(transport, peer.url) == b"a"
            await (await peer.visit(number)).client_closed.wait()
        assert [len(visit.requests) for visit in peer.visits] == [1, 1]


async def test_a_connection_whose_body_was_not_read_to_its_end_is_closed(transport: Transport):
    async with Peer(stalling(SIZED + b"half"), answering(response(b"b"))) as peer:
        incoming = await transport.send(post(peer.url), PATIENT)
        assert await incoming.read_some() == b"half"
        incoming.close()
        incoming.close()
        await (await peer.visit()).client_closed.wait()
        with pytest.raises(ConnectionLost):
            await incoming.read_some()
        assert await outcome(transport, peer.url) == b"b"


async def test_close_wakes_a_reader_that_waits(transport: Transport):
    async with Peer(stalling(SIZED)) as peer:
        incoming = await transport.send(post(peer.url), PATIENT)
        async with asyncio.TaskGroup() as group:
            reader = group.create_task(read_code(incoming.read_some()))
            await asyncio.sleep(0)
            incoming.close()
        assert reader.result() == "provider_connection_lost"


@pytest.mark.parametrize("how", ["fin", "rst"])
async def test_a_reused_connection_that_closes_before_any_byte_is_replaced_once(transport: Transport, how: str):
    """A provider's idle time-out and our next request cross on the wire; the caller must not notice."""

    async def closes_on_second(visit: Visit) -> None:
        await visit.request()
        await visit.answer(b"first")
        await visit.request()
        if how == "rst":
            visit.reset()

    async with Peer(closes_on_second, answering(response(b"second"))) as peer:
        assert await outcome(transport, peer.url) == b"first"
        assert await outcome(transport, peer.url) == b"second"
        assert [len(visit.requests) for visit in peer.visits] == [2, 1]


async def test_the_replacement_is_not_replaced_again(transport: Transport):
    async def closes_on_second(visit: Visit) -> None:
        await visit.request()
        await visit.answer(b"first")
        await visit.request()

    async with Peer(closes_on_second, raw()) as peer:
        assert await outcome(transport, peer.url) == b"first"
        assert await outcome(transport, peer.url) == "provider_connection_lost"
        assert len(peer.visits) == 2


async def test_a_fresh_connection_that_closes_is_an_error_at_once(transport: Transport):
    async with Peer(raw(), answering(response(b"never"))) as peer:
        assert await outcome(transport, peer.url) == "provider_connection_lost"
        assert len(peer.visits) == 1


async def test_more_callers_than_connections_take_turns(make_transport: MakeTransport):
    transport = make_transport(WireSettings(connections_per_origin=2))
    async with Peer(answering(response(b"x"))) as peer:
        async with asyncio.TaskGroup() as group:
            calls = [group.create_task(outcome(transport, peer.url)) for _ in range(10)]
        assert [call.result() for call in calls] == [b"x"] * 10
        assert len(peer.visits) <= 2


async def test_waiting_for_a_connection_is_bounded_by_the_connect_deadline(make_transport: MakeTransport):
    transport = make_transport(WireSettings(connections_per_origin=1))
    async with Peer(stalling(SIZED)) as peer:
        holding = await transport.send(post(peer.url), PATIENT)
        with pytest.raises(UpstreamTimeout) as caught:
            await transport.send(post(peer.url), dataclasses.replace(PATIENT, connect=BRIEF))
        assert caught.value.phase == "connect"
        holding.close()


async def test_an_idle_connection_is_closed_after_its_time(make_transport: MakeTransport):
    transport = make_transport(WireSettings(idle_seconds=BRIEF))
    async with Peer(answering(response(b"x"))) as peer:
        assert await outcome(transport, peer.url) == b"x"
        await (await peer.visit()).client_closed.wait()


async def test_a_closed_transport_takes_no_calls_and_has_no_connections(make_transport: MakeTransport):
    transport = make_transport()
    async with Peer(answering(response(b"x")), stalling(SIZED)) as peer:
        busy = await transport.send(post(peer.url), PATIENT)
        assert await busy.read_some() == b"x"
        await transport.aclose()
        await transport.aclose()
        await (await peer.visit()).client_closed.wait()
        with pytest.raises(ConnectFailed):
            await transport.send(post(peer.url), PATIENT)


# ------------------------------------------------------------------------------------------------------- broken answers


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        ((), "provider_connection_lost"),
        ((b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n",), "provider_connection_lost"),
        ((SIZED + b"half",), "provider_truncated"),
        ((chunked_head(),), "provider_truncated"),
        ((chunked_head() + chunk(b"whole"),), "provider_truncated"),
        ((chunked_head() + b"a\r\nhalf",), "provider_truncated"),
        ((chunked_head() + chunk(b"whole") + b"0\r\n",), "provider_truncated"),
    ],
    ids=[
        "nothing",
        "half a head",
        "sized",
        "no chunk",
        "between chunks",
        "inside a chunk",
        "last chunk without its end",
    ],
)
@pytest.mark.parametrize("ending", ["fin", "rst"])
async def test_a_cut_answer_is_an_error_in_every_framing(
    transport: Transport, pieces: tuple[bytes, ...], expected: str, ending: str
):
    if ending == "fin":
        async with Peer(raw(*pieces)) as peer:
            assert await outcome(transport, peer.url) == expected
        return
    # A reset throws away what is still on the way, so it waits until the head was seen, if there is one.
    head_seen = asyncio.Event()

    async def whole(url: str) -> None:
        incoming = await transport.send(post(url), PATIENT)
        head_seen.set()
        await read_to_end(incoming)

    if expected == "provider_connection_lost":
        head_seen.set()
    async with Peer(resetting(*pieces, when=head_seen)) as peer:
        with pytest.raises((ConnectionLost, UpstreamTruncated)) as caught:
            await whole(peer.url)
        assert caught.value.code == expected


@pytest.mark.parametrize(
    "answer",
    [
        b"\x16\x03\x01\x00\xa5 this is not HTTP\r\n\r\n",
        b"<html>no head</html>\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nbad header line\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: ten\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
    ],
)
async def test_garbage_in_place_of_a_head_is_malformed(transport: Transport, answer: bytes):
    async with Peer(stalling(answer)) as peer:
        with pytest.raises(UpstreamMalformed):
            await transport.send(post(peer.url), PATIENT)
        await (await peer.visit()).client_closed.wait()


async def test_garbage_in_place_of_a_chunk_is_malformed(transport: Transport):
    async with Peer(stalling(chunked_head() + chunk(b"good") + b"zz\r\nbad\r\n")) as peer:
        with pytest.raises(UpstreamMalformed):
            await read_to_end(await transport.send(post(peer.url), PATIENT))
        await (await peer.visit()).client_closed.wait()


async def test_a_head_without_end_is_too_large(transport: Transport):
    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.send(b"HTTP/1.1 200 OK\r\n")
        while True:
            await visit.send(b"x-filler: " + b"a" * 4000 + b"\r\n")

    async with Peer(script) as peer:
        with pytest.raises((UpstreamTooLarge, UpstreamMalformed)):
            await transport.send(post(peer.url), PATIENT)
        await (await peer.visit()).client_closed.wait()


# ----------------------------------------------------------------------------------------------------------- deadlines


async def test_a_head_that_does_not_come_is_a_first_byte_time_out(transport: Transport):
    async with Peer(stalling()) as peer:
        with pytest.raises(UpstreamTimeout) as caught:
            await transport.send(post(peer.url), dataclasses.replace(PATIENT, first_byte=BRIEF))
        assert caught.value.phase == "first_byte"
        await (await peer.visit()).client_closed.wait()


async def test_a_body_that_stops_is_a_time_out_between_chunks_after_its_bytes_were_read(transport: Transport):
    async with Peer(stalling(chunked_head() + chunk(b"so far"))) as peer:
        incoming = await transport.send(post(peer.url), dataclasses.replace(PATIENT, between_chunks=BRIEF))
        assert await incoming.read_some() == b"so far"
        with pytest.raises(UpstreamTimeout) as caught:
            await incoming.read_some()
        assert caught.value.phase == "between_chunks"
        await (await peer.visit()).client_closed.wait()


async def test_the_total_deadline_holds_before_the_head(transport: Transport):
    async with Peer(stalling()) as peer:
        with pytest.raises(UpstreamTimeout) as caught:
            await transport.send(post(peer.url), dataclasses.replace(PATIENT, total=BRIEF))
        assert caught.value.phase == "total"
        await (await peer.visit()).client_closed.wait()


async def test_the_total_deadline_ends_a_body_that_keeps_coming(transport: Transport):
    async def endless(visit: Visit) -> None:
        await visit.request()
        await visit.send(chunked_head())
        while True:
            await visit.send(chunk(b"more"))
            await asyncio.sleep(0)

    async with Peer(endless) as peer:
        incoming = await transport.send(post(peer.url), dataclasses.replace(PATIENT, total=4 * BRIEF))
        with pytest.raises(UpstreamTimeout) as caught:
            await read_to_end(incoming)
        assert caught.value.phase == "total"
        await (await peer.visit()).client_closed.wait()


async def test_a_tls_handshake_that_does_not_answer_is_a_connect_time_out(
    make_transport: MakeTransport, certificates: Certificates
):
    async def silent(visit: Visit) -> None:
        await visit.stall()

    transport = make_transport(WireSettings(ca_file=certificates.ca_file))
    async with Peer(silent) as peer:
        with pytest.raises(UpstreamTimeout) as caught:
            await transport.send(
                post(f"https://localhost:{peer.port}"), dataclasses.replace(PATIENT, connect=4 * BRIEF)
            )
        assert caught.value.phase == "connect"
        await (await peer.visit()).client_closed.wait()


# -------------------------------------------------------------------------------------------------------- cancellation


async def cancelled(task: asyncio.Task[object]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def read_code(reading: Awaitable[bytes]) -> str:
    """The code of the error that a read ends with."""
    with pytest.raises((ConnectionLost, UpstreamTruncated)) as caught:
        await reading
    return caught.value.code


async def test_cancelling_during_the_tls_handshake_closes_the_socket(
    make_transport: MakeTransport, certificates: Certificates
):
    async def silent(visit: Visit) -> None:
        await visit.stall()

    transport = make_transport(WireSettings(ca_file=certificates.ca_file))
    async with Peer(silent) as peer:
        async with asyncio.TaskGroup() as group:
            call = group.create_task(transport.send(post(f"https://localhost:{peer.port}"), PATIENT))
            visit = await peer.visit()
            await visit.reader.readexactly(5)  # the client's hello is under way
            await cancelled(call)
        await visit.client_closed.wait()


async def test_cancelling_before_the_head_closes_the_socket(transport: Transport):
    """Or the provider goes on working, and charging, for somebody who has left."""
    arrived = asyncio.Event()

    async def script(visit: Visit) -> None:
        await visit.request()
        arrived.set()
        await visit.stall()

    async with Peer(script) as peer:
        async with asyncio.TaskGroup() as group:
            call = group.create_task(transport.send(post(peer.url), PATIENT))
            await arrived.wait()
            await cancelled(call)
        await (await peer.visit()).client_closed.wait()


async def test_cancelling_before_the_head_on_a_reused_connection_closes_the_socket(transport: Transport):
    arrived = asyncio.Event()

    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.answer(b"first")
        await visit.request()
        arrived.set()
        await visit.stall()

    async with Peer(script) as peer:
        assert await outcome(transport, peer.url) == b"first"
        async with asyncio.TaskGroup() as group:
            call = group.create_task(transport.send(post(peer.url), PATIENT))
            await arrived.wait()
            await cancelled(call)
        await (await peer.visit()).client_closed.wait()
        assert len(peer.visits) == 1


async def test_cancelling_in_the_middle_of_a_body_closes_the_socket(transport: Transport):
    async with Peer(stalling(chunked_head() + chunk(b"so far"))) as peer:
        incoming = await transport.send(post(peer.url), PATIENT)
        assert await incoming.read_some() == b"so far"
        async with asyncio.TaskGroup() as group:
            reading = group.create_task(incoming.read_some())
            await asyncio.sleep(0)
            await cancelled(reading)
        await (await peer.visit()).client_closed.wait()


async def test_cancelling_while_a_large_body_is_written_closes_the_socket(transport: Transport):
    head_seen = asyncio.Event()

    async def reads_nothing(visit: Visit) -> None:
        await visit.request_head()
        head_seen.set()
        await released.wait()
        while await visit.reader.read(65_536):
            pass
        await visit.stall()

    released = asyncio.Event()
    async with Peer(reads_nothing) as peer:
        async with asyncio.TaskGroup() as group:
            call = group.create_task(transport.send(post(peer.url, b"x" * 50_000_000), PATIENT))
            await head_seen.wait()
            await cancelled(call)
        released.set()
        await (await peer.visit()).client_closed.wait()


async def test_a_caller_cancelled_in_line_leaves_the_line(make_transport: MakeTransport):
    transport = make_transport(WireSettings(connections_per_origin=1))
    async with Peer(stalling(SIZED), answering(response(b"second"))) as peer:
        holding = await transport.send(post(peer.url), PATIENT)
        async with asyncio.TaskGroup() as group:
            first = group.create_task(transport.send(post(peer.url), PATIENT))
            second = group.create_task(outcome(transport, peer.url))
            await asyncio.sleep(0)
            await cancelled(first)
            holding.close()
        assert second.result() == b"second"


# ------------------------------------------------------------------------------------------------- bytes under way


async def test_a_reader_that_does_not_read_stops_the_provider(transport: Transport):
    """The peer floods until its socket is full; then it can send no more until somebody reads."""
    total = 64 * 1_048_576
    piece = b"x" * 65_536
    full = asyncio.Event()

    async def flood(visit: Visit) -> None:
        await visit.request()
        visit.writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % total)
        visit.writer.transport.set_write_buffer_limits(0)
        while visit.sent_bytes < total:
            sending = asyncio.ensure_future(visit.send(piece))  # noqa: TID251  # its waiting is what is observed
            done, _ = await asyncio.wait({sending}, timeout=4 * BRIEF)
            if not done:
                full.set()
            await sending

    async with Peer(flood) as peer:
        incoming = await transport.send(post(peer.url), PATIENT)
        await full.wait()
        assert peer.visits[0].sent_bytes < total // 2
        size = 0
        while data := await incoming.read_some():
            size += len(data)
            assert len(data) <= 1_048_576
        assert size == total


async def test_a_large_request_body_arrives_whole(transport: Transport):
    body = bytes(range(256)) * 20_000
    async with Peer(answering(response(b"thanks"))) as peer:
        incoming = await transport.send(post(peer.url, body), PATIENT)
        assert await read_to_end(incoming) == b"thanks"
        assert peer.requests[0].body == body


async def test_an_answer_that_comes_before_the_request_is_written_is_delivered(transport: Transport):
    """A provider that refuses an oversized body answers from its head alone."""

    async def refuses(visit: Visit) -> None:
        await visit.request_head()
        await visit.answer(b"too large", status=413)
        await visit.stall()

    async with Peer(refuses) as peer:
        incoming = await transport.send(post(peer.url, b"x" * 50_000_000), PATIENT)
        assert (incoming.status, await incoming.read_all(1000)) == (413, b"too large")
        incoming.close()


# ------------------------------------------------------------------------------------------------------------ TLS, proxy


async def test_tls_works_with_the_operators_authority_and_connections_are_reused(
    make_transport: MakeTransport, certificates: Certificates
):
    transport = make_transport(WireSettings(ca_file=certificates.ca_file))
    async with Peer(answering(response(b"secret")), tls=certificates.server) as peer:
        assert [await outcome(transport, peer.url) for _ in range(2)] == [b"secret", b"secret"]
        assert len(peer.visits) == 1


async def test_an_unknown_certificate_is_a_failed_connection(transport: Transport, certificates: Certificates):
    async with Peer(answering(response(b"never")), tls=certificates.server) as peer:
        with pytest.raises(ConnectFailed):
            await transport.send(post(peer.url), PATIENT)
        assert peer.requests == []


async def test_a_certificate_of_another_name_is_a_failed_connection(
    make_transport: MakeTransport, certificates: Certificates
):
    transport = make_transport(WireSettings(ca_file=certificates.ca_file))
    async with Peer(answering(response(b"never")), tls=certificates.server) as peer:
        with pytest.raises(ConnectFailed):
            await transport.send(post(f"https://127.0.0.1:{peer.port}"), PATIENT)


async def test_a_cut_tls_stream_is_truncated(make_transport: MakeTransport, certificates: Certificates):
    transport = make_transport(WireSettings(ca_file=certificates.ca_file))
    async with Peer(raw(chunked_head() + chunk(b"so far")), tls=certificates.server) as peer:
        assert await outcome(transport, peer.url) == "provider_truncated"


async def test_a_refused_connection_is_a_failed_connection(transport: Transport):
    async with Peer(raw()) as peer:
        url = peer.url
    with pytest.raises(ConnectFailed, match=r"127\.0\.0\.1"):
        await transport.send(post(url), PATIENT)


async def test_a_name_that_does_not_exist_is_a_failed_connection(transport: Transport):
    """The top-level domain `invalid` is reserved never to exist (RFC 2606)."""
    with pytest.raises(ConnectFailed):
        await transport.send(post("http://provider.invalid"), PATIENT)


async def test_an_https_provider_is_reached_through_a_connect_tunnel(
    make_transport: MakeTransport, certificates: Certificates
):
    async with (
        Peer(answering(response(b"through")), tls=certificates.server) as provider,
        Peer(connect_proxy()) as proxy,
    ):
        route = parse_proxy(f"http://user:pass@127.0.0.1:{proxy.port}")
        transport = make_transport(WireSettings(ca_file=certificates.ca_file, proxies=Proxies(https=route)))
        assert [await outcome(transport, provider.url) for _ in range(2)] == [b"through", b"through"]
        await transport.aclose()
        [connect] = proxy.requests
        assert (connect.method, connect.target) == ("CONNECT", f"localhost:{provider.port}")
        assert connect.header("proxy-authorization") == "Basic dXNlcjpwYXNz"
        assert [request.header("proxy-authorization") for request in provider.requests] == [None, None]


async def test_a_proxy_that_refuses_is_a_failed_connection(make_transport: MakeTransport, certificates: Certificates):
    async with Peer(connect_proxy(refuse=403)) as proxy:
        route = parse_proxy(f"http://127.0.0.1:{proxy.port}")
        transport = make_transport(WireSettings(ca_file=certificates.ca_file, proxies=Proxies(https=route)))
        with pytest.raises(ConnectFailed):
            await transport.send(post("https://provider.example"), PATIENT)


async def test_an_http_provider_is_asked_for_in_absolute_form(make_transport: MakeTransport):
    async with Peer(answering(response(b"through"))) as proxy:
        route = parse_proxy(f"http://127.0.0.1:{proxy.port}")
        transport = make_transport(WireSettings(proxies=Proxies(http=route)))
        assert await outcome(transport, "http://provider.example:8000/base") == b"through"
        [request] = proxy.requests
        assert request.target == "http://provider.example:8000/base/v1/chat"
        assert request.header("host") == "provider.example:8000"


# ------------------------------------------------------------------------------------------------------ content codings


def raw_deflate(data: bytes) -> bytes:
    squeezer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return squeezer.compress(data) + squeezer.flush()


@pytest.mark.parametrize(
    ("coding", "coded"),
    [
        ("gzip", gzip.compress(b"hello body")),
        ("x-gzip", gzip.compress(b"hello ") + gzip.compress(b"body")),
        ("deflate", zlib.compress(b"hello body")),
        ("deflate", raw_deflate(b"hello body")),
        ("identity", b"hello body"),
    ],
    ids=["gzip", "two-members", "deflate", "raw-deflate", "identity"],
)
async def test_a_compressed_body_is_decompressed_however_it_is_cut(transport: Transport, coding: str, coded: bytes):
    answer = response(coded, headers=[("content-encoding", coding)])
    head = answer[: -len(coded)]

    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.send(head)
        await visit.trickle(coded)

    async with Peer(answering(answer), script) as peer:
        for _ in range(2):
            assert await outcome(transport, peer.url) == b"hello body"


@pytest.mark.parametrize(
    ("coding", "coded", "expected"),
    [
        ("br", b"...", "provider_malformed"),
        ("gzip", b"this is not gzip", "provider_malformed"),
        ("gzip", gzip.compress(b"hello body", mtime=0)[:-9], "provider_truncated"),
        ("gzip", gzip.compress(b"\0" * 50_000_000, mtime=0), "provider_malformed"),
    ],
    ids=["unknown", "not gzip", "half", "bomb"],
)
async def test_a_compressed_body_that_cannot_be_trusted_is_an_error(
    transport: Transport, coding: str, coded: bytes, expected: str
):
    async with Peer(answering(response(coded, headers=[("content-encoding", coding)]))) as peer:
        assert await outcome(transport, peer.url) == expected
