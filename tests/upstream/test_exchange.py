"""An answer's parsing and buffering, without a socket: the same for every way of cutting the bytes."""

import asyncio
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollhouse.errors import UpstreamMalformed, UpstreamTruncated
from tollhouse.upstream.exchange import MAX_UNREAD_BYTES, Exchange


class Recorder:
    """A link that notes what is asked of it."""

    def __init__(self) -> None:
        self.closed = False
        self.pauses: list[bool] = []
        self.due = 0.0

    def watch(self, due: float) -> None:
        self.due = due

    def pause(self) -> None:
        self.pauses.append(True)

    def resume(self) -> None:
        self.pauses.append(False)

    def abort(self) -> None:
        self.closed = True


def exchange_on(link: Recorder) -> Exchange:
    loop = asyncio.get_running_loop()
    total_at = loop.time() + 60
    return Exchange(link, loop, "host:1", bodiless=False, first_byte=30, between_chunks=30, total_at=total_at)


async def read_whole(exchange: Exchange) -> bytes:
    pieces = []
    while piece := await exchange.read_some():
        pieces.append(piece)
    return b"".join(pieces)


ANSWERS = {
    b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello body": b"hello body",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n5;e=1\r\n body\r\n0\r\nt: 1\r\n\r\n": b"hello body",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\nhello body": b"hello body",
    b"HTTP/1.1 204 No Content\r\n\r\n": b"",
}


@given(st.sampled_from(sorted(ANSWERS)), st.lists(st.integers(0, 120), max_size=8))
def test_the_bytes_may_be_cut_anywhere(answer: bytes, cuts: list[int]):
    async def run() -> None:
        exchange = exchange_on(Recorder())
        edges = sorted({0, len(answer), *(cut for cut in cuts if cut < len(answer))})
        for start, end in itertools.pairwise(edges):
            exchange.feed(answer[start:end])
        exchange.lose(None)
        await exchange.head()
        assert await read_whole(exchange) == ANSWERS[answer]

    with asyncio.Runner() as runner:
        runner.run(run())


@given(st.sampled_from(sorted(answer for answer in ANSWERS if b"transfer" in answer or b"length" in answer)), st.data())
def test_a_cut_answer_never_looks_whole(answer: bytes, data: st.DataObject):
    """Whatever was left out at the end, some error comes after the bytes that arrived."""

    async def run() -> None:
        exchange = exchange_on(Recorder())
        head = answer.index(b"\r\n\r\n") + 4
        kept = data.draw(st.integers(head, len(answer) - 1))
        exchange.feed(answer[:kept])
        exchange.lose(None)
        with pytest.raises(UpstreamTruncated):
            await read_whole(exchange)

    with asyncio.Runner() as runner:
        runner.run(run())


async def test_too_much_unread_pauses_the_socket_and_reading_resumes_it():
    link = Recorder()
    exchange = exchange_on(link)
    exchange.feed(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n")
    exchange.feed(b"x" * MAX_UNREAD_BYTES)
    assert link.pauses == []
    exchange.feed(b"x")
    assert link.pauses == [True]
    assert len(await exchange.read_some()) == MAX_UNREAD_BYTES + 1
    assert link.pauses == [True, False]


async def test_an_answer_that_ends_while_paused_leaves_the_socket_readable():
    """A TLS layer may hand over what it had already decrypted; the next exchange must not find the socket paused."""
    link = Recorder()
    exchange = exchange_on(link)
    exchange.feed(b"HTTP/1.1 200 OK\r\ncontent-length: 100001\r\n\r\n" + b"x" * 100_000)
    exchange.feed(b"x")
    assert exchange.ended
    assert link.pauses == [True, False]
    assert len(await exchange.read_some()) == 100_001
    assert link.pauses == [True, False]  # what the connection's next exchange paused stays paused


async def test_bytes_before_an_error_are_handed_out_before_it():
    exchange = exchange_on(Recorder())
    exchange.feed(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\ngood\r\nzz\r\n")
    assert await exchange.read_some() == b"good"
    for _ in range(2):
        with pytest.raises(UpstreamMalformed):
            await exchange.read_some()


async def test_garbage_behind_the_end_forbids_reuse():
    exchange = exchange_on(Recorder())
    exchange.feed(b"HTTP/1.1 204 No Content\r\n\r\ngarbage")
    assert (exchange.ended, exchange.keep_alive) == (True, False)
