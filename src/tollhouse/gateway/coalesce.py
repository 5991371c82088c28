"""Identical calls in flight that share one upstream call.

The first caller of a `Same` leads: its call is carried out in a task of its own, a *flight*, which belongs to the coalescer and
to no caller.  Every caller, the first too, *follows* the flight: it copies the answer from its start to its own client, at its
own pace.  Whoever leaves does not disturb the others; when the last one leaves, the flight is cancelled, and what it used is
settled like that of any client that left.

What is shared are the bytes for the client.  So callers share a flight only if they speak the same dialect and asked in the
same way (streamed or not, with usage or not); that is what retries, double clicks and fan-outs of one program do.  Sharing
canonical events instead would let other callers join, at the price of decoding and encoding every event of every call, also of
those that nobody joins.  What differs between callers is not shared: request ids, limits left, the words of errors.

    opening ──head──▶ answering ──last──▶ over
       │                  │
       └──────fail────────┴──────────────▶ failed

**Pace.**  A flight reads from the provider at most `MAX_LEAD_BYTES` ahead of its fastest follower.  All of the answer is kept
while it is below `MAX_FLIGHT_BYTES`, so that others can join; beyond, nobody joins any more, and what every follower has is
forgotten.  A follower that is further behind than that is cut off with an error, for it must neither slow the others down nor
take more memory.  An answer is kept by those who have not sent it yet, and by nobody else.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, Literal

import msgspec

from tollhouse.errors import (
    BudgetExceeded,
    Draining,
    FellBehind,
    GatewayError,
    NoPrice,
    PermissionDenied,
    RateLimited,
    TollhouseError,
    Unauthenticated,
)
from tollhouse.gateway.call import Headers
from tollhouse.ledger.record import CallRecord

MAX_FLIGHT_BYTES: Final = 4 * 1024 * 1024
"""How much of an answer is kept for those who join late, and how far a follower may be behind the newest byte."""
MAX_LEAD_BYTES: Final = 64 * 1024
"""How far the provider is read ahead of the fastest follower."""
MAX_COPY_BYTES: Final = 64 * 1024
"""How much a follower that is behind takes at once; a single piece may be larger."""

PERSONAL: Final = (RateLimited, BudgetExceeded, NoPrice, PermissionDenied, Unauthenticated)
"""Errors that are the leader's own: those who joined are not told them but call for themselves."""


class Same(msgspec.Struct, frozen=True, kw_only=True):
    """Calls that are equal in this get the same bytes."""

    answer: bytes
    """`policy.response_cache.key_of`: the request, what would answer it, and the tenant."""
    dialect: str
    """The client's."""
    route: str
    """The alias and its candidates: two callers may begin with the same one, and only one of them go on to another."""
    streamed: bool
    includes_usage: bool


class SentAway(Exception):
    """The flight is not for those who joined it; they have got nothing and call again.

    It never leaves `Coalescer.share`.
    """


State = Literal["opening", "answering", "over", "failed"]
_NEXT: Final[dict[tuple[State, str], State]] = {
    ("opening", "head"): "answering",
    ("opening", "fail"): "failed",
    ("answering", "body"): "answering",
    ("answering", "last"): "over",
    ("answering", "fail"): "failed",
}


class Head(msgspec.Struct, frozen=True):
    """How an answer begins."""

    status: int
    headers: Headers


class Copied(msgspec.Struct, frozen=True):
    """A stretch of the answer."""

    data: bytes
    more: bool
    """Whether still more follows."""


class _Piece:
    """A piece of the answer and the way to the next.  Whoever has passed it lets it go, and with the last one it is gone."""

    __slots__ = ("data", "end", "next")

    def __init__(self, data: bytes, end: int) -> None:
        self.data = data
        self.end = end
        """Bytes of the answer up to here, with this piece."""
        self.next: _Piece | None = None


class Flight:
    """One upstream call and its followers.  It is the `Sink` of the call that makes it."""

    __slots__ = (
        "_drained",
        "_error",
        "_first",
        "_followers",
        "_furthest",
        "_head",
        "_last",
        "_left",
        "_max_bytes",
        "_state",
        "leader_headers",
        "record",
    )

    def __init__(self, left: Callable[["Flight", tuple[str, ...]], None], max_bytes: int) -> None:
        """`left` is called when nobody follows any more, with the message of the last one's cancellation."""
        self._left = left
        self._max_bytes = max_bytes
        self._state: State = "opening"
        self._head: Head | None = None
        self._error: TollhouseError | None = None
        self._last = _Piece(b"", 0)
        self._first: _Piece | None = self._last
        """Where those who join begin; `None` when nobody may any more."""
        self._followers: dict[Follower, None] = {}
        """In the order in which they came."""
        self._furthest = 0
        """How much of the answer the fastest follower has sent."""
        self._drained: asyncio.Future[None] | None = None
        self.record: CallRecord | None = None
        """The record of the call that is carried out, for those who joined to copy from.  Set by its run."""
        self.leader_headers: Headers = ()
        """What the head has for the leader alone: what is left of its limits.  Set by the run before the head."""

    # -- the run's side

    async def head(self, status: int, headers: Headers) -> None:
        """Begins the answer, without anything that is the leader's own."""
        self._step("head")
        self._head = Head(status, headers)
        self._wake()

    async def body(self, data: bytes, *, more: bool) -> None:
        """Takes a piece; returns when the fastest follower is near."""
        self._step("body" if more else "last")
        self._cut_off_the_slow()
        piece = _Piece(data, self._last.end + len(data))
        self._last.next = piece
        self._last = piece
        if not more or piece.end > self._max_bytes:
            self._first = None
        self._wake()
        while more and piece.end - self._furthest > MAX_LEAD_BYTES:
            self._drained = asyncio.get_running_loop().create_future()
            await self._drained

    def fail(self, error: TollhouseError) -> None:
        """Ends the answer with an error that each follower says in its own words."""
        is_personal = self._state == "opening" and isinstance(error, PERSONAL)
        self._step("fail")
        self._first = None
        self._error = error
        if is_personal:
            self._send_joiners_away()
        self._wake()

    def close(self) -> None:
        """Makes the flight the leader's alone: nobody joins any more, and who waits for it to begin is sent away."""
        self._first = None
        if self._state == "opening":
            self._send_joiners_away()

    # -- the owner's and the followers' side

    @property
    def is_open(self) -> bool:
        """Whether others may join."""
        return self._first is not None

    @property
    def is_ended(self) -> bool:
        """Whether the whole answer, or its error, is there."""
        return self._state in {"over", "failed"}

    def follower(self, *, is_leader: bool) -> "Follower":
        """One more follower, at the start of the answer."""
        if self._first is None:
            raise RuntimeError("a flight that nobody may join was joined")
        follower = Follower(self, self._first, is_leader=is_leader)
        self._followers[follower] = None
        return follower

    @property
    def opened(self) -> "Head | TollhouseError | None":
        """The head, once it is there, or the error that came instead."""
        return self._error if self._head is None else self._head

    @property
    def error(self) -> TollhouseError | None:
        """What the answer ended with, if that was an error."""
        return self._error

    def after(self, piece: _Piece) -> tuple[list[bytes], _Piece]:
        """What came after a piece, as much as is copied at once, and where that ends."""
        pieces: list[bytes] = []
        start = piece.end
        while (following := piece.next) is not None and (not pieces or following.end - start <= MAX_COPY_BYTES):
            pieces.append(following.data)
            piece = following
        return pieces, piece

    def is_last(self, piece: _Piece) -> bool:
        """Whether the answer is complete with this piece."""
        return self._state == "over" and piece.next is None

    def sent(self, end: int) -> None:
        """A follower has sent that many bytes of the answer."""
        if end > self._furthest:
            self._furthest = end
            if self._drained is not None and not self._drained.done():
                self._drained.set_result(None)

    def leave(self, follower: "Follower", why: tuple[str, ...]) -> None:
        """A follower is gone.  Why is the leader's own matter, unless the gateway ends all calls."""
        self._followers.pop(follower, None)
        if not self._followers and not self.is_ended:
            self._first = None
            self._left(self, why if follower.is_leader or Draining.code in why else ())

    # -- inside

    def _step(self, word: str) -> None:
        state = _NEXT.get((self._state, word))
        if state is None:
            raise RuntimeError(f"a flight that is {self._state} got a {word}")
        self._state = state

    def _send_joiners_away(self) -> None:
        for follower in [one for one in self._followers if not one.is_leader]:
            follower.send_away()

    def _cut_off_the_slow(self) -> None:
        newest = self._last.end
        if newest <= self._max_bytes:
            return
        for follower in [one for one in self._followers if newest - one.sent_bytes > self._max_bytes]:
            self._followers.pop(follower, None)
            follower.cut_off()

    def _wake(self) -> None:
        for follower in self._followers:
            follower.wake()


class Follower:
    """One caller's place in the answer."""

    __slots__ = ("_at", "_flight", "_has_left", "_is_sent_away", "_waiter", "is_leader", "sent_bytes")

    def __init__(self, flight: Flight, start: _Piece, *, is_leader: bool) -> None:
        self._flight = flight
        self._at: _Piece | None = start
        self._is_sent_away = False
        self._waiter: asyncio.Future[None] | None = None
        self._has_left = False
        self.is_leader = is_leader
        self.sent_bytes = 0
        """How much of the answer this caller has sent."""

    @property
    def record(self) -> CallRecord | None:
        """The record of the call that is carried out, as far as it has come; whoever joined copies from it."""
        return self._flight.record

    @property
    def own_headers(self) -> Headers:
        """What the run has to say to this follower alone; once there is a head."""
        return self._flight.leader_headers if self.is_leader else ()

    # An error is returned and not raised: all followers get the same object, and none may leave its traceback in it.

    async def head(self) -> "Head | TollhouseError":
        """The answer's head, or the error that came instead.  Raises `SentAway`."""
        while not self._is_sent_away:
            opened = self._flight.opened
            if opened is not None:
                return opened
            await self._wait()
        raise SentAway

    async def read(self) -> "Copied | TollhouseError":
        """More of the answer; after all of it the error that ended it, if one did.  What was read before counts as sent."""
        while self._at is not None:
            self.sent_bytes = self._at.end
            self._flight.sent(self.sent_bytes)
            pieces, self._at = self._flight.after(self._at)
            if pieces:
                data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
                return Copied(data, not self._flight.is_last(self._at))
            if self._flight.error is not None:
                return self._flight.error
            await self._wait()
        return FellBehind(
            "This client read too slowly to share the answer of an identical call.",
            hint="Ask again, or send `Cache-Control: no-cache`, and the call is made for you alone.",
        )

    def leave(self, *why: str) -> None:
        """Ends following; harmless twice.  `why` is the message of the caller's cancellation, which the flight's may become."""
        if self._has_left:
            return
        self._has_left = True
        self._flight.leave(self, why)

    def send_away(self) -> None:
        """The flight is not for this follower."""
        self._is_sent_away = True
        self.wake()

    def cut_off(self) -> None:
        """This follower is too far behind."""
        self._at = None
        self.wake()

    def wake(self) -> None:
        """There is something new."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _wait(self) -> None:
        # A future of its own: a shared one would be cancelled for all when one caller is.
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None


class Coalescer:
    """Owns the flights.  One for a process; it outlives reloads."""

    __slots__ = ("_flights", "_max_bytes", "_tasks", "_unexpected", "joined")

    def __init__(
        self, *, unexpected: Callable[[BaseException], None], max_flight_bytes: int = MAX_FLIGHT_BYTES
    ) -> None:
        """`unexpected` hears of errors that a run should have handled itself."""
        self._unexpected = unexpected
        self._max_bytes = max_flight_bytes
        self._flights: dict[Same, Flight] = {}
        self._tasks: dict[Flight, _Carrier] = {}
        self.joined = 0
        """Calls that joined a flight, those among them that were sent away again."""

    def __len__(self) -> int:
        """Flights under way."""
        return len(self._tasks)

    async def share(
        self,
        same: Same,
        run: Callable[[Flight], Coroutine[Any, Any, None]],
        copy: Callable[[Follower], Awaitable[None]],
    ) -> None:
        """Answers one caller: joins the flight of an identical call, or leads one.

        `run` carries the call out with the flight as its sink, admission and settlement included.  It handles all errors
        itself, by `Flight.fail`; being cancelled means that nobody wants the answer any more.  `copy` takes the answer to the
        caller's client.  It raises `SentAway` as it got it, and is then called again with another follower.
        """
        while True:
            follower = self._join(same) or self._lead(same, run)
            try:
                await copy(follower)
            except SentAway:
                continue
            except asyncio.CancelledError as error:
                follower.leave(*error.args)
                raise
            finally:
                follower.leave()
            return

    async def aclose(self) -> None:
        """Cancels what is still under way, and waits until all of it is settled."""
        carriers = list(self._tasks.values())
        for carrier in carriers:
            carrier.cancel((Draining.code,))
        await asyncio.gather(*(carrier.task for carrier in carriers), return_exceptions=True)

    def _join(self, same: Same) -> Follower | None:
        flight = self._flights.get(same)
        if flight is None or not flight.is_open:
            return None
        self.joined += 1
        return flight.follower(is_leader=False)

    def _lead(self, same: Same, run: Callable[[Flight], Coroutine[Any, Any, None]]) -> Follower:
        flight = Flight(self._abandon, self._max_bytes)
        follower = flight.follower(is_leader=True)
        self._flights[same] = flight
        self._tasks[flight] = carrier = _Carrier(flight, run, self._unexpected)
        carrier.task.add_done_callback(lambda _: self._landed(same, flight))
        return follower

    def _abandon(self, flight: Flight, why: tuple[str, ...]) -> None:
        self._tasks[flight].cancel(why)

    def _landed(self, same: Same, flight: Flight) -> None:
        del self._tasks[flight]
        if self._flights.get(same) is flight:
            del self._flights[same]


class _Carrier:
    """The task of a flight."""

    __slots__ = ("_cancelled", "_flight", "_has_begun", "_run", "_unexpected", "task")

    def __init__(
        self,
        flight: Flight,
        run: Callable[[Flight], Coroutine[Any, Any, None]],
        unexpected: Callable[[BaseException], None],
    ) -> None:
        self._flight = flight
        self._run = run
        self._unexpected = unexpected
        self._has_begun = False
        self._cancelled: tuple[str, ...] | None = None
        self.task = asyncio.get_running_loop().create_task(self._carry())

    def cancel(self, why: tuple[str, ...]) -> None:
        """Cancels the run; one that has not begun is cancelled where it first waits, so that it settles like any other."""
        if self._has_begun:
            self.task.cancel(*why)
        else:
            self._cancelled = why

    async def _carry(self) -> None:
        self._has_begun = True
        if self._cancelled is not None:
            self.task.cancel(*self._cancelled)
        flight = self._flight
        try:
            await self._run(flight)
        except asyncio.CancelledError:
            if not flight.is_ended:
                flight.fail(Draining("The gateway was shut down before this answer was complete.", hint="Ask again."))
            raise
        except Exception as error:  # noqa: BLE001  # the outer edge of a task: it is logged and this flight ends
            self._failed(error)
        else:
            if not flight.is_ended:
                self._failed(RuntimeError("a call came to its end without an answer"))

    def _failed(self, error: Exception) -> None:
        self._unexpected(error)
        if not self._flight.is_ended:
            self._flight.fail(GatewayError("Something went wrong inside the gateway.", hint="Its log has the details."))
