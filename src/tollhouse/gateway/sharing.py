"""Calls that need not be made: an answer that was kept, and an identical call that is under way.

This stands in front of the run of a call (`gateway.pipeline`).  Which candidates a caller may use is settled before it looks,
so that a kept answer is given only to whom a fresh one would be.  It takes a request from the caller's rates as any other; a
call that joins another under way does not.

A call that cannot be read in full goes its way as if this were not here: in the same-dialect lane, only its provider may be
able to say what is wrong with it.
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import msgspec

from tollhouse.chat import receipt as receipts
from tollhouse.chat.model import Request, Response
from tollhouse.chat.receipt import Receipt
from tollhouse.dialects.dialect import Peek
from tollhouse.errors import RateLimited, TollhouseError
from tollhouse.gateway.call import Call, Headers, Sink, Tracing, note_route
from tollhouse.gateway.coalesce import Coalescer, Flight, Same
from tollhouse.gateway.failures import JSON_HEAD, error_headers
from tollhouse.gateway.follow import Copying
from tollhouse.gateway.replay import replay
from tollhouse.gateway.routing import Candidate, Route
from tollhouse.ledger.record import CallRecord
from tollhouse.policy.admission import NO_WEIGHT, Admission, Hold
from tollhouse.policy.response_cache import (
    Directives,
    Hit,
    ResponseCache,
    ScopeKind,
    Target,
    directives_of,
    key_of,
    scope_of,
)
from tollhouse.providers.provider import MAX_FORWARDED_BYTES

SSE_HEAD: Final = ((b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache"))
HEADER: Final = b"x-tollhouse-cache"
"""`hit`: a kept answer.  `miss`: a fresh one, though a kept one was looked for or may be kept.  `shared`: that of another call
which was under way.  `off`: the caller asked to be left out of it, or the call cannot be kept."""
_HIT: Final = (HEADER, b"hit")
_MISS: Final = (HEADER, b"miss")
_SHARED: Final = (HEADER, b"shared")
_OFF: Final = (HEADER, b"off")


@dataclass(slots=True)
class Shares:
    """What came of sharing, counted for whoever watches the gateway.  The counts outlive a reload."""

    hits: int = 0
    misses: int = 0
    off: int = 0
    """Calls that were not to be looked for, or cannot be kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sharing:
    """What calls share; at least one of both."""

    cache: ResponseCache | None = None
    coalescer: Coalescer | None = None
    flight_scope: ScopeKind = "tenant"
    """Within which callers share calls under way: never wider than a tenant."""
    shares: Shares = field(default_factory=Shares)


class Asked(msgspec.Struct, frozen=True):
    """A call that was read and may be shared."""

    call: Call
    peek: Peek
    request: Request
    route: Route
    directives: Directives

    def target(self, candidate: Candidate) -> Target:
        """What answers, if that candidate does."""
        provider, call = candidate.provider, self.call
        headers: tuple[tuple[bytes, bytes], ...] = ()
        if provider.dialect is call.dialect:
            headers = tuple(
                (name, value)
                for name, value in call.headers
                if name in provider.forward_headers and len(value) <= MAX_FORWARDED_BYTES
            )
        return Target(
            provider=provider.name,
            base_url=provider.base_url,
            model=candidate.model,
            headers=headers,
            strict=self.route.strict,
        )


class Keeper(msgspec.Struct, frozen=True):
    """Keeps the answer of one call, if it turns out to be one to be kept."""

    cache: ResponseCache
    asked: Asked

    async def keep(self, candidate: Candidate, response: Response | None, lost: str) -> None:
        """`response` is the whole answer of `candidate`; `None` where it could not be read.

        It is kept for those whose first choice that candidate is.
        """
        if response is not None:
            asked = self.asked
            key = self.cache.key(asked.request, asked.target(candidate), asked.call.principal)
            await self.cache.keep(key, response, lost=lost)


Carry = Callable[[Call, Sink, Asked | None, Keeper | None], Coroutine[Any, Any, None]]
"""The run of a call: to that sink, with what was read of it, and what keeps its answer."""


class Parts(Protocol):
    """What is needed of a gateway."""

    @property
    def admission(self) -> Admission: ...
    @property
    def shows_receipts(self) -> bool: ...
    @property
    def monotonic(self) -> Callable[[], float]: ...
    @property
    def wall(self) -> Callable[[], float]: ...
    @property
    def tracing(self) -> Tracing | None: ...
    def write(self, record: CallRecord) -> "asyncio.Future[None]":
        """Hands a finished record to the books and to telemetry."""
        ...


async def answer(
    sharing: Sharing, parts: Parts, call: Call, sink: Sink, *, route: Callable[[str], Route], carry: Carry
) -> None:
    """Carries one call to its end: from the cache, with others, or alone.  `route` raises as it does in a run."""
    asked = _asked(call, route)
    if asked is None or not asked.directives.keeps:
        if sharing.cache is not None:
            sharing.shares.off += 1
        await carry(call, _marked(sink, sharing, _OFF), asked, None)
        return
    cache, coalescer = sharing.cache, sharing.coalescer
    target = asked.target(asked.route.candidates[0])
    key = b"" if cache is None else cache.key(asked.request, target, call.principal)
    if cache is not None:
        hit = await cache.find(key, asked.directives)
        if hit is not None:
            hold = await _admitted(asked, parts)
            if hold is None:
                await carry(call, sink, asked, None)  # which is refused in the caller's own words
                return
            sharing.shares.hits += 1
            try:
                await _give(hit, asked, parts, sink)
            finally:
                hold.settle(cost_nano=0, input_tokens=0, output_tokens=0)
            return
        sharing.shares.misses += 1
    keeper = None if cache is None else Keeper(cache, asked)
    if coalescer is None or not asked.directives.shares:
        await carry(call, _marked(sink, sharing, _MISS), asked, keeper)
        return
    same = Same(
        answer=key_of(asked.request, target, scope_of(sharing.flight_scope, call.principal)),
        dialect=call.dialect.name,
        route=" ".join([asked.route.name, *(candidate.name for candidate in asked.route.candidates)]),
        streamed=asked.peek.stream,
        includes_usage=asked.peek.include_usage,
    )

    def run(flight: Flight) -> Coroutine[Any, Any, None]:
        return carry(call, flight, asked, keeper)

    leads: Headers = () if cache is None else (_MISS,)
    copying = Copying(
        call=call,
        sink=sink,
        record=_record(asked, "shared", parts),
        write=parts.write,
        error_headers=lambda error: _error_headers(call, error, parts),
        headers=lambda is_leader: leads if is_leader else (_SHARED,),
        monotonic=parts.monotonic,
    )
    await coalescer.share(same, run, copying.copy)


def _asked(call: Call, route: Callable[[str], Route]) -> Asked | None:
    try:
        peek = call.peek()
        found = route(peek.model)
        return Asked(call, peek, call.decode(), found, directives_of(call.headers))
    except TollhouseError:
        return None  # the run will say what is wrong, if anything is


def _record(asked: Asked, how: str, parts: Parts) -> CallRecord:
    call, candidate = asked.call, asked.route.candidates[0]
    record = call.opened(parts.tracing)
    note_route(record, asked.peek.model, asked.route.name)
    record.provider, record.model = candidate.provider.name, candidate.model
    record.streamed = asked.peek.stream
    record.lane = record.cache = how
    record.cost_nano = 0
    return record


async def _admitted(asked: Asked, parts: Parts) -> Hold | None:
    """Takes a request from the caller's rates, and a seat; it uses no tokens and costs nothing.  `None` when it is refused."""
    route = asked.route
    ask = asked.call.ask(route.name, route.candidates[0].name, lambda: NO_WEIGHT, b"")
    try:
        return await parts.admission.admit(ask)
    except TollhouseError:
        return None


async def _give(hit: Hit, asked: Asked, parts: Parts, sink: Sink) -> None:
    """Answers with what was kept; the row is there before the last byte, as always."""
    call, candidate = asked.call, asked.route.candidates[0]
    record = _record(asked, "hit", parts)
    receipt = Receipt()
    body = replay(hit.response, asked.request, call.dialect, receipt)
    lost = "; ".join(filter(None, (hit.lost, receipt.header())))
    record.status = 200
    record.finish = hit.response.choices[0].finish or ""
    record.receipt = lost
    record.first_byte_us = record.duration_us = int((parts.monotonic() - call.arrived) * 1e6)
    await parts.write(record)
    if call.settled is not None:
        call.settled(record)
    headers = [
        *(SSE_HEAD if asked.peek.stream else (JSON_HEAD,)),
        (b"x-tollhouse-model", candidate.label),
        _HIT,
        (b"age", b"%d" % hit.age_seconds),
    ]
    if lost and parts.shows_receipts:
        headers.append((receipts.HEADER.encode(), lost[: receipts.MAX_HEADER_CHARACTERS].encode("ascii")))
    await sink.head(200, headers)
    await sink.body(body, more=False)


def _error_headers(call: Call, error: TollhouseError, parts: Parts) -> Headers:
    headers = error_headers(error)
    if isinstance(error, RateLimited):
        headers += call.dialect.encode_quotas(error.quotas, parts.wall())
    return headers


def _marked(sink: Sink, sharing: Sharing, mark: tuple[bytes, bytes]) -> Sink:
    return sink if sharing.cache is None else _Marked(sink, mark)


class _Marked:
    """A sink whose answers say what the cache had to do with them."""

    __slots__ = ("_mark", "_sink")

    def __init__(self, sink: Sink, mark: tuple[bytes, bytes]) -> None:
        self._sink = sink
        self._mark = mark

    async def head(self, status: int, headers: Headers) -> None:
        await self._sink.head(status, [*headers, self._mark])

    async def body(self, data: bytes, *, more: bool) -> None:
        await self._sink.body(data, more=more)
