"""Identical calls in flight share one upstream call; whoever comes, leaves, dawdles or fails, nobody else notices."""

import asyncio
import itertools
import random
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

import msgspec
import pytest

from tollhouse.errors import (
    BudgetExceeded,
    Draining,
    FellBehind,
    GatewayError,
    KeyRevoked,
    NoPrice,
    PermissionDenied,
    RateLimited,
    TollhouseError,
    UpstreamTruncated,
)
from tollhouse.gateway.call import Headers
from tollhouse.gateway.coalesce import MAX_LEAD_BYTES, Coalescer, Flight, Follower, Head, Same, SentAway

SAME = Same(answer=b"k" * 32, dialect="openai_chat", route="smart", streamed=True, includes_usage=False)
JSON: Headers = ((b"content-type", b"application/json"),)
BOUND = 4 * MAX_LEAD_BYTES

Run = Callable[[Flight], Coroutine[Any, Any, None]]


async def turn(times: int = 6) -> None:
    """Lets everything that can go on go on."""
    for _ in range(times):
        await asyncio.sleep(0)


class Provider:
    """A scripted leader's run: it waits for each step, and says what became of it."""

    def __init__(self) -> None:
        self.runs = 0
        self.flight: Flight | None = None
        self.steps: asyncio.Queue[Callable[[Flight], Awaitable[None]]] = asyncio.Queue()
        self.done = 0
        self.cancelled: list[tuple[Any, ...]] = []
        self.ended = 0

    async def run(self, flight: Flight) -> None:
        self.runs += 1
        self.flight = flight
        try:
            while not flight.is_ended:
                step = await self.steps.get()
                await step(flight)
                self.done += 1
        except asyncio.CancelledError as error:
            self.cancelled.append(error.args)
            raise
        finally:
            self.ended += 1

    def _say(self, step: Callable[[Flight], Awaitable[None]]) -> None:
        self.steps.put_nowait(step)

    def head(self, status: int = 200) -> None:
        self._say(lambda flight: flight.head(status, JSON))

    def body(self, data: bytes, *, more: bool = True) -> None:
        self._say(lambda flight: flight.body(data, more=more))

    def fail(self, error: TollhouseError) -> None:
        async def failing(flight: Flight) -> None:
            flight.fail(error)

        self._say(failing)

    def close(self) -> None:
        async def closing(flight: Flight) -> None:
            flight.close()

        self._say(closing)

    def whole(self, *pieces: bytes) -> None:
        self.head()
        for piece in pieces[:-1]:
            self.body(piece)
        self.body(pieces[-1], more=False)


class Client:
    """Copies an answer, as fast as it is let."""

    def __init__(self, *, is_slow: bool = False) -> None:
        self.heads: list[Head] = []
        self.pieces: list[bytes] = []
        self.is_whole = False
        self.error: TollhouseError | None = None
        self.followers: list[Follower] = []
        self.gate = asyncio.Event()
        if not is_slow:
            self.gate.set()

    @property
    def got(self) -> bytes:
        return b"".join(self.pieces)

    async def copy(self, follower: Follower) -> None:
        self.followers.append(follower)
        head = await follower.head()
        if not isinstance(head, Head):
            self.error = head
            return
        self.heads.append(head)
        while not self.is_whole:
            await self.gate.wait()
            copied = await follower.read()
            if isinstance(copied, TollhouseError):
                self.error = copied
                return
            self.pieces.append(copied.data)
            self.is_whole = not copied.more


class Room:
    """A coalescer and its callers, each in a task."""

    def __init__(self) -> None:
        self.unexpected: list[BaseException] = []
        self.coalescer = Coalescer(unexpected=self.unexpected.append, max_flight_bytes=BOUND)
        self.provider = Provider()
        self.tasks: list[asyncio.Task[None]] = []

    def call(self, client: Client, same: Same = SAME, run: Run | None = None) -> asyncio.Task[None]:
        sharing = self.coalescer.share(same, run or self.provider.run, client.copy)
        task = asyncio.get_running_loop().create_task(sharing)
        self.tasks.append(task)
        return task

    async def enter(self, *, is_slow: bool = False) -> tuple[Client, asyncio.Task[None]]:
        client = Client(is_slow=is_slow)
        task = self.call(client)
        await turn()
        return client, task


@pytest.fixture
async def room() -> AsyncIterator[Room]:
    """Whatever a test does, nothing is left over."""
    one = Room()
    yield one
    for task in one.tasks:
        task.cancel()
    await asyncio.gather(*one.tasks, return_exceptions=True)
    await turn()
    assert len(one.coalescer) == 0
    assert one.coalescer._flights == {}
    assert asyncio.all_tasks() == {asyncio.current_task()}


# ---------------------------------------------------------------------------------------------------------------- share


async def test_one_caller_gets_the_answer(room: Room):
    client, task = await room.enter()
    room.provider.whole(b"Hel", b"lo", b".")
    await task
    assert (client.heads, client.got, client.is_whole) == ([Head(200, JSON)], b"Hello.", True)


async def test_callers_share_one_call_and_each_gets_all_of_it(room: Room):
    first, _ = await room.enter()
    room.provider.head()
    room.provider.body(b"Hel")
    second, _ = await room.enter()
    room.provider.body(b"lo")
    third, _ = await room.enter()
    assert (first.got, second.got, third.got) == (b"Hello",) * 3
    room.provider.body(b".", more=False)
    await asyncio.gather(*room.tasks)
    assert room.provider.runs == 1
    for client in (first, second, third):
        assert (client.heads, client.got, client.is_whole) == ([Head(200, JSON)], b"Hello.", True)
    assert [client.followers[0].is_leader for client in (first, second, third)] == [True, False, False]


async def test_who_joins_late_gets_what_there_is_in_one_piece(room: Room):
    await room.enter()
    room.provider.head()
    for _ in range(10):
        room.provider.body(b"ten bytes.")
    second, _ = await room.enter()
    assert second.pieces == [b"ten bytes." * 10]
    room.provider.body(b"", more=False)


async def test_who_joins_very_late_gets_what_there_is_in_bounded_pieces(room: Room):
    await room.enter()
    room.provider.head()
    for _ in range(20):
        room.provider.body(b"x" * (MAX_LEAD_BYTES // 8))
    await turn(60)
    second, _ = await room.enter()
    assert [len(piece) for piece in second.pieces] == [MAX_LEAD_BYTES, MAX_LEAD_BYTES, MAX_LEAD_BYTES // 2]
    room.provider.body(b"", more=False)


async def test_an_answer_can_end_with_nothing(room: Room):
    client, task = await room.enter()
    room.provider.whole(b"Hi", b"")
    await task
    assert (client.got, client.is_whole) == (b"Hi", True)


@pytest.mark.parametrize("field", Same.__struct_fields__)
async def test_calls_that_differ_in_anything_do_not_share(room: Room, field: str):
    value = getattr(SAME, field)
    other = msgspec.structs.replace(SAME, **{field: (not value) if isinstance(value, bool) else value + value[:1]})
    two = Provider()
    first, second = Client(), Client()
    room.call(first)
    room.call(second, other, two.run)
    room.provider.whole(b"one")
    two.whole(b"two")
    await asyncio.gather(*room.tasks)
    assert (first.got, second.got) == (b"one", b"two")


async def test_a_call_after_the_answer_is_another_call(room: Room):
    """Only calls in flight are shared: who asks twice in a row, to see how answers vary, gets two."""
    first, task = await room.enter()
    lingering = asyncio.Event()

    async def run(flight: Flight) -> None:
        await flight.head(200, JSON)
        await flight.body(b"one", more=False)
        await lingering.wait()  # as a run does that reads the end of the provider's framing

    room.provider.fail(UpstreamTruncated("the first is over"))
    await task
    room.call(first := Client(), run=run)
    await turn()
    assert first.is_whole
    second, _ = await room.enter()
    assert not second.is_whole
    room.provider.whole(b"two")
    await turn()
    lingering.set()
    assert second.got == b"two"
    assert room.provider.runs == 2


# --------------------------------------------------------------------------------------------------------------- leaving


async def test_a_leader_that_leaves_does_not_cut_the_others(room: Room):
    first, task = await room.enter()
    second, other = await room.enter()
    room.provider.head()
    room.provider.body(b"Hel")
    await turn()
    task.cancel()
    await turn()
    assert task.cancelled()
    room.provider.body(b"lo", more=False)
    await other
    assert (first.got, second.got, second.is_whole) == (b"Hel", b"Hello", True)
    assert room.provider.cancelled == []


async def test_a_follower_that_leaves_does_not_cut_the_others(room: Room):
    first, task = await room.enter()
    _, other = await room.enter()
    room.provider.head()
    room.provider.body(b"Hel")
    await turn()
    other.cancel()
    room.provider.body(b"lo", more=False)
    await task
    assert (first.got, first.is_whole) == (b"Hello", True)
    assert room.provider.cancelled == []


@pytest.mark.parametrize("why", [(), (KeyRevoked.code,)])
async def test_a_leader_that_is_alone_takes_the_call_along_for_its_own_reason(room: Room, why: tuple[str, ...]):
    _, task = await room.enter()
    room.provider.head()
    await turn()
    task.cancel(*why)
    await turn()
    assert room.provider.cancelled == [why]


@pytest.mark.parametrize(("why", "told"), [((), ()), ((Draining.code,), (Draining.code,)), ((KeyRevoked.code,), ())])
async def test_the_last_to_leave_takes_the_call_along(room: Room, why: tuple[str, ...], told: tuple[str, ...]):
    """The call is the leader's in the books, so that it never ends for what is wrong with another caller alone."""
    _, task = await room.enter()
    _, other = await room.enter()
    room.provider.head()
    await turn()
    task.cancel("the first to leave does not matter")
    await turn()
    assert room.provider.cancelled == []
    other.cancel(*why)
    await turn()
    assert room.provider.cancelled == [told]
    assert len(room.coalescer) == 0


async def test_who_comes_after_all_have_left_calls_anew(room: Room):
    slow_to_settle = asyncio.Event()

    async def run(flight: Flight) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await slow_to_settle.wait()

    task = room.call(Client(), run=run)
    await turn()
    task.cancel()
    await turn()
    second, _ = await room.enter()
    slow_to_settle.set()
    await turn()
    third, _ = await room.enter()
    room.provider.whole(b"anew")
    await asyncio.gather(*room.tasks, return_exceptions=True)
    assert (second.got, third.got) == (b"anew", b"anew")
    assert room.provider.runs == 1


async def test_a_caller_that_leaves_before_its_call_began_still_has_it_settled(room: Room):
    """The run begins, and is cancelled where it first waits: it writes down what it must."""
    task = room.call(Client())
    await asyncio.sleep(0)
    assert room.provider.runs == 0
    task.cancel(Draining.code)
    await turn()
    assert (room.provider.runs, room.provider.cancelled) == (1, [(Draining.code,)])


async def test_a_caller_whose_copying_fails_has_left(room: Room):
    class Gone(Exception):
        pass

    async def copy(follower: Follower) -> None:
        await follower.head()
        raise Gone

    room.provider.head()
    with pytest.raises(Gone):
        await room.coalescer.share(SAME, room.provider.run, copy)
    await turn()
    assert room.provider.cancelled == [()]


def script(provider: Provider) -> None:
    provider.head()
    provider.body(b"one")
    provider.body(b"x" * (MAX_LEAD_BYTES + 1))
    provider.body(b"two")
    provider.body(b"three", more=False)


SCRIPTED = b"one" + b"x" * (MAX_LEAD_BYTES + 1) + b"twothree"


@pytest.mark.parametrize("leader_leaves", [True, False])
@pytest.mark.parametrize("after", range(16))
async def test_leaving_at_any_moment_leaves_the_others_alone(room: Room, after: int, leader_leaves: bool):
    first, one = Client(), None
    one = room.call(first)
    await turn(after // 8)
    second = Client()
    two = room.call(second)
    script(room.provider)
    await turn(after)
    leaving, staying, client = (one, two, second) if leader_leaves else (two, one, first)
    leaving.cancel()
    await staying
    assert (client.got, client.is_whole) == (SCRIPTED, True)
    assert room.provider.cancelled == []
    assert room.provider.runs == 1


@pytest.mark.parametrize("after", range(16))
async def test_when_all_leave_at_any_moment_nothing_is_left_over(room: Room, after: int):
    """The fixture looks for tasks and flights; here the run has ended exactly once, however far it came."""
    callers = [room.call(Client(is_slow=number == 1)) for number in range(3)]
    script(room.provider)
    await turn(after)
    for caller in callers:
        caller.cancel()
    await asyncio.gather(*callers, return_exceptions=True)
    await turn()
    assert room.provider.runs == room.provider.ended <= 1
    assert len(room.coalescer) == 0


# ---------------------------------------------------------------------------------------------------------------- errors


async def test_an_error_before_the_answer_is_everybodys(room: Room):
    first, _ = await room.enter()
    second, _ = await room.enter()
    error = UpstreamTruncated("cut")
    room.provider.fail(error)
    await asyncio.gather(*room.tasks)
    assert (first.error, second.error) == (error, error)
    assert (first.heads, second.heads) == ([], [])


async def test_an_error_in_the_answer_comes_after_all_that_came_before_it(room: Room):
    first, _ = await room.enter()
    second, _ = await room.enter(is_slow=True)
    error = UpstreamTruncated("cut")
    room.provider.head()
    room.provider.body(b"Hel")
    room.provider.body(b"lo")
    room.provider.fail(error)
    await turn()
    second.gate.set()
    await asyncio.gather(*room.tasks)
    for client in (first, second):
        assert (client.got, client.is_whole, client.error) == (b"Hello", False, error)


async def test_a_shared_error_keeps_no_callers_frames(room: Room):
    """It is one object for all; a traceback in it would keep every caller's frames alive as long as any."""
    await room.enter()
    await room.enter()
    error = UpstreamTruncated("cut")
    room.provider.fail(error)
    await asyncio.gather(*room.tasks)
    assert error.__traceback__ is None


async def test_nobody_joins_an_error(room: Room):
    first, _ = await room.enter()
    room.provider.fail(UpstreamTruncated("cut"))
    await turn()
    second, _ = await room.enter()
    room.provider.whole(b"anew")
    await asyncio.gather(*room.tasks)
    assert first.error is not None
    assert (second.error, second.got) == (None, b"anew")


@pytest.mark.parametrize(
    "error",
    [
        RateLimited("full", retry_after_seconds=1),
        BudgetExceeded(budget="key", spent_nano=1, limit_nano=1, resets_in_seconds=None),
        NoPrice("nobody knows what it costs"),
        PermissionDenied("not you"),
    ],
    ids=lambda error: error.code,
)
async def test_what_is_refused_to_the_leader_alone_is_not_refused_to_the_others(room: Room, error: TollhouseError):
    """They call for themselves, and again one for all that are left."""
    first, _ = await room.enter()
    others = [(await room.enter())[0] for _ in range(3)]
    room.provider.fail(error)
    await turn()
    room.provider.whole(b"for the others")
    await asyncio.gather(*room.tasks)
    assert (first.error, first.got) == (error, b"")
    assert [(client.error, client.got) for client in others] == [(None, b"for the others")] * 3
    assert room.provider.runs == 2
    assert [follower.is_leader for client in others for follower in client.followers] == [False, True, *[False] * 4]


async def test_a_refusal_that_the_leader_did_not_wait_for_concerns_nobody(room: Room):
    _, task = await room.enter()
    second, _ = await room.enter()
    task.cancel()
    room.provider.fail(RateLimited("full", retry_after_seconds=1))
    await turn()
    room.provider.whole(b"mine")
    await turn()
    assert (second.error, second.got) == (None, b"mine")


async def test_a_flight_can_be_made_the_leaders_own(room: Room):
    """Admission may turn the call into one that the others did not ask for, with a lower limit of output."""
    first, _ = await room.enter()
    second, _ = await room.enter()
    own = room.provider
    own.close()
    room.provider = Provider()
    await turn()
    third, _ = await room.enter()
    own.whole(b"short")
    await turn()
    assert (first.got, second.got, third.got) == (b"short", b"", b"")
    # Who was sent away leads with the run that it came with, and the third, who came later, has joined it.
    assert own.runs == 2
    own.whole(b"long")
    await asyncio.gather(*room.tasks)
    assert (second.got, third.got) == (b"long", b"long")
    assert room.provider.runs == 0


async def test_an_error_that_nobody_handled_is_told_and_becomes_a_gateway_error(room: Room):
    async def run(flight: Flight) -> None:
        await flight.head(200, JSON)
        raise ZeroDivisionError

    client = Client()
    await room.call(client, run=run)
    assert isinstance(client.error, GatewayError)
    assert [type(error) for error in room.unexpected] == [ZeroDivisionError]


async def test_a_call_that_ends_without_an_answer_is_a_gateway_error(room: Room):
    async def run(flight: Flight) -> None:
        await flight.head(200, JSON)

    client = Client()
    await room.call(client, run=run)
    assert isinstance(client.error, GatewayError)
    assert len(room.unexpected) == 1


async def test_what_fails_after_the_answer_is_told_and_hurts_nobody(room: Room):
    async def run(flight: Flight) -> None:
        await flight.head(200, JSON)
        await flight.body(b"Hi", more=False)
        raise ZeroDivisionError

    client = Client()
    await room.call(client, run=run)
    await turn()
    assert (client.got, client.is_whole, client.error) == (b"Hi", True, None)
    assert len(room.unexpected) == 1


# ------------------------------------------------------------------------------------------------------------------ pace


async def test_the_provider_is_not_read_far_ahead_of_the_fastest(room: Room):
    first, _ = await room.enter(is_slow=True)
    second, _ = await room.enter(is_slow=True)
    room.provider.head()
    for _ in range(40):
        room.provider.body(b"x" * (MAX_LEAD_BYTES // 10))
    room.provider.body(b"", more=False)
    await turn(100)
    # The head, and pieces until the lead is more than what is allowed.
    assert room.provider.done == 11
    second.gate.set()
    await turn(400)
    assert second.is_whole
    assert first.pieces == []
    first.gate.set()
    await asyncio.gather(*room.tasks)
    assert first.got == second.got == b"x" * (40 * (MAX_LEAD_BYTES // 10))


async def test_when_the_fastest_leaves_the_others_go_on(room: Room):
    fast, task = await room.enter()
    slow, _ = await room.enter(is_slow=True)
    room.provider.head()
    for _ in range(5):
        room.provider.body(b"x" * (MAX_LEAD_BYTES // 10))
    await turn(20)
    fast.gate.clear()
    for _ in range(25):
        room.provider.body(b"x" * (MAX_LEAD_BYTES // 10))
    room.provider.body(b"", more=False)
    await turn(100)
    # The provider has waited for the fast one, and waits now for one that has left.
    assert room.provider.done < 31
    task.cancel()
    await turn(100)
    assert room.provider.done < 31
    slow.gate.set()
    await asyncio.gather(*room.tasks, return_exceptions=True)
    assert slow.got == b"x" * (30 * (MAX_LEAD_BYTES // 10))


async def test_beyond_the_bound_nobody_joins_and_nothing_that_all_have_is_kept(room: Room):
    client, task = await room.enter()
    pieces = [bytes([65 + number]) * MAX_LEAD_BYTES for number in range(8)]
    room.provider.head()
    held = []
    for number, piece in enumerate(pieces):
        room.provider.body(piece)
        await turn(20)
        client.pieces.clear()
        assert room.provider.flight is not None
        assert room.provider.flight.is_open == ((number + 1) * MAX_LEAD_BYTES <= BOUND)
        held.append(sum(sys.getrefcount(one) > 3 for one in pieces))
    # While others may join, all of it is kept; after that, not even the last piece is more than the last.
    assert held[:4] == [1, 2, 3, 4]
    assert held[4:] == [1, 1, 1, 1]
    late = Provider()
    other = Client()
    room.call(other, run=late.run)
    late.whole(b"for me alone")
    await turn()
    assert other.got == b"for me alone"
    room.provider.body(b".", more=False)
    await task
    assert client.got == b"."


async def test_who_is_too_far_behind_is_cut_off_and_not_the_others(room: Room):
    fast, _ = await room.enter()
    slow, _ = await room.enter(is_slow=True)
    room.provider.head()
    pieces = [bytes([65 + number]) * MAX_LEAD_BYTES for number in range(7)]
    for piece in pieces:
        room.provider.body(piece)
        await turn(20)
    fast.pieces.clear()
    assert sum(sys.getrefcount(one) > 3 for one in pieces) == 1
    slow.gate.set()
    await turn()
    assert isinstance(slow.error, FellBehind)
    assert slow.got == b""
    room.provider.body(b".", more=False)
    await asyncio.gather(*room.tasks)
    assert (fast.got, fast.error) == (b".", None)


async def test_who_is_as_far_behind_as_is_allowed_is_not_cut_off(room: Room):
    fast, _ = await room.enter()
    slow, _ = await room.enter(is_slow=True)
    room.provider.head()
    for _ in range(4):
        room.provider.body(b"x" * MAX_LEAD_BYTES)
    room.provider.body(b"end", more=False)
    await turn(60)
    assert fast.is_whole
    slow.gate.set()
    await asyncio.gather(*room.tasks)
    assert slow.got == fast.got


async def test_a_piece_over_the_bound_cuts_nobody_off(room: Room):
    """A whole answer is one piece, however large; and a single event may be."""
    first, _ = await room.enter()
    second, _ = await room.enter(is_slow=True)
    room.provider.head()
    room.provider.body(b"x" * (BOUND + 1))
    room.provider.body(b"y" * (BOUND + 1), more=False)
    await turn(20)
    second.gate.set()
    await asyncio.gather(*room.tasks)
    assert first.got == b"x" * (BOUND + 1) + b"y" * (BOUND + 1)
    assert first.is_whole
    # The second had sent nothing of the first piece when the next came: that is too far behind.
    assert isinstance(second.error, FellBehind)


async def test_a_long_answer_is_let_go_without_deep_recursion(room: Room):
    """Its pieces are a chain; a slow follower holds the beginning of it, and lets go of all at once."""
    _, task = await room.enter(is_slow=True)
    room.provider.head()
    for _ in range(60_000):
        room.provider.body(b"x")
    await turn(60_010)
    assert room.provider.done == 60_001
    task.cancel()
    await turn()
    assert room.provider.cancelled == [()]


# ---------------------------------------------------------------------------------------------------------------- shutdown


async def test_closing_cancels_what_is_under_way_and_waits_until_it_is_settled(room: Room):
    settled = []

    async def run(flight: Flight) -> None:
        await flight.head(200, JSON)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError as error:
            await asyncio.sleep(0)
            settled.append(error.args)
            raise

    first, second = Client(), Client()
    room.call(first, run=run)
    room.call(second, run=run)
    await turn()
    await room.coalescer.aclose()
    assert settled == [(Draining.code,)]
    await turn()
    assert isinstance(first.error, Draining)
    assert isinstance(second.error, Draining)


async def test_closing_waits_also_for_a_call_that_has_not_begun(room: Room):
    room.call(Client())
    await asyncio.sleep(0)
    await room.coalescer.aclose()
    assert room.provider.cancelled == [(Draining.code,)]


async def test_closing_an_idle_coalescer_is_harmless(room: Room):
    await room.coalescer.aclose()
    await room.coalescer.aclose()


# ---------------------------------------------------------------------------------------------------------- the table


WAYS: dict[str, tuple[str, ...]] = {
    "opening": (),
    "answering": ("head",),
    "over": ("head", "last"),
    "failed": ("fail",),
}
LEGAL = {("opening", "head"), ("opening", "fail"), ("answering", "body"), ("answering", "last"), ("answering", "fail")}


@pytest.mark.parametrize(("state", "word"), list(itertools.product(WAYS, ["head", "body", "last", "fail"])))
async def test_a_flight_takes_its_steps_in_order(state: str, word: str):
    async def step(flight: Flight, word: str) -> None:
        match word:
            case "head":
                await flight.head(200, JSON)
            case "fail":
                flight.fail(UpstreamTruncated("cut"))
            case _:
                await flight.body(b"x", more=word == "body")

    flight = Flight(lambda _flight, _why: None, BOUND)
    for one in WAYS[state]:
        await step(flight, one)
    if (state, word) in LEGAL:
        await step(flight, word)
    else:
        with pytest.raises(RuntimeError, match=f"{state} got a {word}"):
            await step(flight, word)


async def test_a_flight_that_is_closed_cannot_be_joined():
    flight = Flight(lambda _flight, _why: None, BOUND)
    leader = flight.follower(is_leader=True)
    joined = flight.follower(is_leader=False)
    flight.close()
    with pytest.raises(RuntimeError):
        flight.follower(is_leader=False)
    with pytest.raises(SentAway):
        await joined.head()
    leader.leave()


# ---------------------------------------------------------------------------------------------------------------- chaos


@pytest.mark.parametrize("seed", range(60))
async def test_whatever_happens_who_stays_gets_the_exact_answer(room: Room, seed: int):
    """Callers come and go and dawdle at random; a call is never made twice at once, and nobody gets a wrong byte."""
    source = random.Random(seed)
    answers: dict[int, bytes] = {}
    under_way = 0
    most = 0

    async def run(flight: Flight) -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        number = len(answers)
        answers[number] = b""
        try:
            await turn(source.randint(0, 3))
            await flight.head(200, ((b"number", b"%d" % number),))
            for _ in range(source.randint(0, 30)):
                await turn(source.randint(0, 2))
                piece = source.randbytes(source.choice([0, 1, 50, 9000]))
                answers[number] += piece
                await flight.body(piece, more=True)
            piece = source.randbytes(10)
            answers[number] += piece
            under_way -= 1
            await flight.body(piece, more=False)
            under_way += 1
        finally:
            under_way -= 1

    clients: list[tuple[Client, asyncio.Task[None]]] = []
    for _ in range(source.randint(2, 12)):
        client = Client(is_slow=source.random() < 0.3)
        clients.append((client, room.call(client, run=run)))
        await turn(source.randint(0, 20))
        if source.random() < 0.4:
            source.choice(clients)[1].cancel()
        for other, _ in clients:
            if source.random() < 0.3:
                other.gate.set()
    for client, _ in clients:
        client.gate.set()
    await asyncio.gather(*room.tasks, return_exceptions=True)
    assert room.unexpected == []
    for client, task in clients:
        if task.cancelled():
            continue
        task.result()
        (head,) = client.heads
        assert client.is_whole
        assert client.got == answers[int(dict(head.headers)[b"number"])]
