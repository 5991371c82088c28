"""The connection's one timer and its writing, on a loop whose clock the test holds."""

import asyncio
from collections.abc import Callable

import pytest

from support.calls import PATIENT
from tollhouse.errors import UpstreamTimeout
from tollhouse.upstream.connection import HEARTBEAT_SECONDS, READ_BUFFER_BYTES, SLICE_BYTES, Connection
from tollhouse.upstream.exchange import Exchange
from tollhouse.upstream.outbox import Outbox
from tollhouse.upstream.pool import Pool
from tollhouse.upstream.transport import Deadlines

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
IDLE = 30.0


class HeldTimer:
    """A call to come, made by `HeldLoop.advance`."""

    def __init__(self, when: float, callback: Callable[[], object]) -> None:
        self.when = when
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class HeldLoop:
    """Time stands still until `advance`."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.timers: list[HeldTimer] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], object], /) -> HeldTimer:
        self.timers.append(HeldTimer(when, callback))
        return self.timers[-1]

    def create_future(self) -> asyncio.Future[None]:
        return asyncio.get_running_loop().create_future()

    @property
    def armed(self) -> list[HeldTimer]:
        return [timer for timer in self.timers if not timer.cancelled]

    def advance(self, seconds: float) -> None:
        """Lets time pass, firing what is due on the way."""
        end = self.now + seconds
        while due := [timer for timer in self.armed if timer.when <= end]:
            first = min(due, key=lambda timer: timer.when)
            self.timers.remove(first)
            self.now = max(self.now, first.when)
            first.callback()
        self.now = end


class Socket(asyncio.Transport):
    """Keeps what is written; full whenever the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.aborted = False
        self.full_after = 10**9
        self.protocol: Connection | None = None

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)
        if len(self.written) >= self.full_after and self.protocol is not None:
            self.protocol.pause_writing()

    def abort(self) -> None:
        self.aborted = True

    def is_closing(self) -> bool:
        return self.aborted


def call_now(callback: Callable[[], None]) -> None:
    callback()


class Line:
    """A connection with its pool, socket and loop."""

    def __init__(self, at_turns_end: Callable[[Callable[[], None]], object] = call_now) -> None:
        self.loop = HeldLoop()
        self.pool: Pool[Connection] = Pool(1)
        assert self.pool.take_slot()
        self.connection = Connection(
            self.loop,
            self.pool,
            "host:1",
            buffer=memoryview(bytearray(READ_BUFFER_BYTES)),
            outbox=Outbox(at_turns_end),
            idle_seconds=IDLE,
            on_lost=lambda _: None,
        )
        self.socket = Socket()
        self.socket.protocol = self.connection
        self.connection.connection_made(self.socket)

    def start(self, deadlines: Deadlines = PATIENT, body: bytes = b"") -> Exchange:
        total_at = self.loop.time() + deadlines.total
        return self.connection.start(b"head", body, deadlines, bodiless=False, total_at=total_at)

    def gone(self) -> bool:
        """Whether the socket was closed."""
        return self.socket.aborted

    def receive(self, data: bytes) -> None:
        self.connection.get_buffer(-1)[: len(data)] = data
        self.connection.buffer_updated(len(data))


async def waiting(group: asyncio.TaskGroup, exchange: Exchange) -> "asyncio.Task[str]":
    """A caller who waits for the head; its result is the phase of the time-out."""

    async def wait() -> str:
        try:
            await exchange.head()
        except UpstreamTimeout as error:
            return error.phase
        return "head"

    task = group.create_task(wait())
    await asyncio.sleep(0)
    return task


@pytest.mark.parametrize(
    ("deadlines", "after", "phase"),
    [
        (Deadlines(first_byte=0.5), 0.5, "first_byte"),
        (Deadlines(first_byte=HEARTBEAT_SECONDS * 3), HEARTBEAT_SECONDS * 3, "first_byte"),
        (Deadlines(first_byte=7, total=7), 7, "total"),
        (Deadlines(first_byte=7, total=6), 6, "total"),
    ],
)
async def test_a_deadline_passes_when_it_is_due_and_not_before(deadlines: Deadlines, after: float, phase: str):
    line = Line()
    async with asyncio.TaskGroup() as group:
        caller = await waiting(group, line.start(deadlines))
        line.loop.advance(after - 0.01)
        assert not line.gone()
        line.loop.advance(0.01)
        assert line.gone()
    assert caller.result() == phase


async def test_a_deadline_nearer_than_the_next_beat_is_kept():
    """The timer was armed for a beat; a later, shorter wish must not wait for it."""
    line = Line()
    exchange = line.start(Deadlines(first_byte=100, between_chunks=1))
    async with asyncio.TaskGroup() as group:
        await waiting(group, exchange)
        line.receive(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n")
    reading = asyncio.gather(exchange.read_some(), return_exceptions=True)
    await asyncio.sleep(0)
    line.loop.advance(0.99)
    assert not line.gone()
    line.loop.advance(0.01)
    assert line.gone()
    [error] = await reading
    assert isinstance(error, UpstreamTimeout)


async def test_requests_on_a_reused_connection_set_no_timers():
    """The point of having one timer for the connection's life."""
    line = Line()
    for _ in range(50):
        async with asyncio.TaskGroup() as group:
            await waiting(group, line.start())
            line.receive(ANSWER)
        assert line.pool.take_idle() is line.connection
    assert len(line.loop.timers) == 1


async def test_the_total_deadline_holds_when_an_earlier_wait_has_long_ended():
    line = Line()
    async with asyncio.TaskGroup() as group:
        await waiting(group, line.start(Deadlines(first_byte=2, total=20)))
        line.receive(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n")
    line.loop.advance(19.9)
    assert not line.gone()
    line.loop.advance(0.1)
    assert line.gone()


async def test_an_idle_connection_closes_after_its_time_and_gives_back_its_slot():
    line = Line()
    async with asyncio.TaskGroup() as group:
        await waiting(group, line.start(Deadlines(first_byte=1, total=2)))
        line.receive(ANSWER)
    line.loop.advance(IDLE - 0.01)
    assert (line.gone(), line.pool.open_slots, line.pool.idle_connections) == (False, 1, 1)
    line.loop.advance(0.01)
    assert (line.gone(), line.pool.open_slots, line.pool.idle_connections) == (True, 0, 0)
    assert line.loop.armed == []


async def test_every_piece_that_the_provider_takes_renews_its_time():
    line = Line()
    body = b"x" * (SLICE_BYTES * 4)
    line.socket.full_after = 0
    exchange = line.start(Deadlines(first_byte=10), body)
    async with asyncio.TaskGroup() as group:
        caller = await waiting(group, exchange)
        for _ in range(4):
            line.loop.advance(9)
            line.connection.resume_writing()
        assert line.socket.written == b"head" + body
        line.loop.advance(9.9)
        assert not line.gone()
        line.loop.advance(0.1)
    assert caller.result() == "first_byte"


async def test_a_large_request_leaves_behind_what_was_put_before_it():
    """A provider that answers before it was asked frees the connection while the request still waits for the turn's end."""
    turn: list[Callable[[], None]] = []
    line = Line(turn.append)
    line.start()
    line.receive(ANSWER)
    assert line.pool.take_idle() is line.connection
    line.start(body=b"x" * SLICE_BYTES)
    for callback in turn:
        callback()
    assert line.socket.written == b"head" * 2 + b"x" * SLICE_BYTES


async def test_an_answer_before_the_end_of_the_request_makes_the_connection_useless():
    line = Line()
    line.socket.full_after = 0
    line.start(body=b"x" * SLICE_BYTES)
    line.receive(ANSWER)
    assert line.gone()
    assert line.pool.idle_connections == 0


async def test_a_connection_that_was_given_up_while_it_was_made_is_closed_when_it_is():
    line = Line()
    late = Connection(
        line.loop,
        line.pool,
        "host:1",
        buffer=memoryview(bytearray(1)),
        outbox=Outbox(call_now),
        idle_seconds=IDLE,
        on_lost=lambda _: None,
    )
    late.abort()
    socket = Socket()
    late.connection_made(socket)
    assert socket.aborted
