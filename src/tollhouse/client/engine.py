"""Carries calls: which way, how often, and how long; on one event loop.

This is all that is asynchronous of the client.  `AsyncClient` runs it on its caller's loop, `Client` on one of its own.
"""

import asyncio
import logging
import os
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from difflib import get_close_matches
from typing import Final, TypeVar

import msgspec

from tollhouse._version import __version__
from tollhouse.chat.embedding import EmbeddingRequest
from tollhouse.chat.events import Event
from tollhouse.chat.fold import failure as failed
from tollhouse.chat.model import Request
from tollhouse.client import versions
from tollhouse.client.answer import Answer, Counted, Embedded, Marks, Models, Reading, ServerInfo, with_attempts
from tollhouse.client.course import Course, Try
from tollhouse.client.doors import Door, GatewayDoor, Live
from tollhouse.client.failures import BadSettings, CallFailed, ClientClosed, NoSuchModel, NotForThisLoop, Unreachable
from tollhouse.client.gateway import gateway_door
from tollhouse.client.health import Health, Monitor
from tollhouse.client.settings import Mode, Settings
from tollhouse.client.translate import Scene, failure, out_of_time
from tollhouse.errors import ConfigError
from tollhouse.upstream.availability import Availability
from tollhouse.upstream.wire import WireSettings, WireTransport

log = logging.getLogger("tollhouse.client")

T = TypeVar("T")

SPARE_CONNECTIONS: Final = 2
"""Beside those for calls: for signs of life and lists."""
SUGGEST_SECONDS: Final = 3.0
"""How long names are looked for that are like one that is not known."""
MAX_NAMED: Final = 5
"""How many models a gateway may have to be named in an error."""
DIRECT_CONNECTIONS: Final = 100
DEFAULT_MODEL: Final = "default"
"""What leaves the choice to the gateway."""


class Engine:
    """The ways of one client.  Belongs to the event loop and the process that first use it."""

    def __init__(self, settings: Settings, *, random: Callable[[], float] = random.random) -> None:
        """Opens nothing.  Raises `BadSettings` for certificates and providers that cannot be used."""
        self.settings = settings
        self._random = random
        self._slots = asyncio.Semaphore(settings.connections)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pid = 0
        self._is_closed = False
        self._greeting = asyncio.Lock()
        self._is_greeted = not settings.check_version
        self.server_version = ""
        self._legs: tuple[Mode, ...] = (settings.mode,)
        self._gateway: GatewayDoor | None = None
        self._direct: Door | None = None
        self._pool: WireTransport | None = None
        self._monitor: Monitor | None = None
        try:
            if settings.mode == "proxy":
                self._gateway = gateway_door(settings, self._transport_of_gateway)
                if settings.fallback_to_direct:
                    self._legs = ("proxy", "direct")
            if "direct" in self._legs:
                from tollhouse.client.direct import DirectDoor

                self._direct = DirectDoor(settings, self._transport(DIRECT_CONNECTIONS))
        except ConfigError as error:
            raise BadSettings(error.problems) from error

    def _transport_of_gateway(self) -> WireTransport:
        """One pool, whichever protocols are tried over it."""
        if self._pool is None:
            self._pool = self._transport(self.settings.connections + SPARE_CONNECTIONS)
        return self._pool

    def _transport(self, connections: int) -> WireTransport:
        settings = self.settings
        return WireTransport(
            WireSettings(
                connections_per_origin=connections,
                ca_file=settings.ca_bundle,
                client_cert=settings.client_cert,
                client_key=settings.client_key,
                proxies=settings.proxies,
            )
        )

    # -- what a client asks for

    async def whole(self, request: Request, models: Sequence[str], timeout: float) -> Answer:  # noqa: ASYNC109
        """A whole answer.  Raises `CallFailed`."""

        async def work(door: Door, model: str, until: float) -> Answer:
            return await door.whole(msgspec.structs.replace(request, model=model, stream=False), until)

        answer, course = await self._carry(models, timeout, work)
        return replace(answer, marks=self._final(answer.marks, course))

    async def stream(self, request: Request, models: Sequence[str], timeout: float) -> "Opened":  # noqa: ASYNC109
        """A stream that has begun to say something: until then others may be asked, after it nobody.  Raises `CallFailed`."""

        async def work(door: Door, model: str, until: float) -> Opened:
            asked = msgspec.structs.replace(request, model=model, stream=True)
            return await _opened(await door.stream(asked, until))

        opened, course = await self._carry(models, timeout, work, keeps_slot=True)
        opened.reading.marks = self._final(opened.reading.marks, course)
        opened.complete = lambda marks: self._final(marks, course)
        return opened

    async def count(self, request: Request, models: Sequence[str], timeout: float) -> Counted:  # noqa: ASYNC109
        """The prompt's tokens.  Raises `CallFailed`."""

        async def work(door: Door, model: str, until: float) -> Counted:
            return await door.count(msgspec.structs.replace(request, model=model), until)

        counted, course = await self._carry(models, timeout, work)
        return replace(counted, marks=self._final(counted.marks, course))

    async def embed(self, request: EmbeddingRequest, models: Sequence[str], timeout: float) -> Embedded:  # noqa: ASYNC109
        """Texts as vectors.  Raises `CallFailed`."""

        async def work(door: Door, model: str, until: float) -> Embedded:
            return await door.embed(msgspec.structs.replace(request, model=model), until)

        embedded, course = await self._carry(models, timeout, work)
        return replace(embedded, marks=self._final(embedded.marks, course))

    async def models(self, timeout: float) -> Models:  # noqa: ASYNC109
        """What can be asked.  Raises `CallFailed`."""

        async def work(door: Door, _: str, until: float) -> Models:
            return await door.models(until)

        models, course = await self._carry(("",), timeout, work)
        return replace(models, marks=self._final(models.marks, course))

    async def info(self, timeout: float) -> ServerInfo:  # noqa: ASYNC109
        """Who answers at the gateway's address.  Tried once.  Raises `CallFailed`, and `BadSettings` in direct mode."""
        gateway = self._gateway
        if gateway is None:
            raise BadSettings(["There is no server in direct mode."])
        self._belong()
        async with self._limit(timeout) as until:
            return await gateway.info(until)

    async def probe(self, timeout: float) -> float:  # noqa: ASYNC109
        """The seconds that a sign of life of the gateway took.  Raises as `info`."""
        gateway = self._gateway
        if gateway is None:
            raise BadSettings(["There is no server in direct mode."])
        self._belong()
        async with self._limit(timeout) as until:
            return await gateway.probe(until)

    async def aclose(self) -> None:
        """Closes every connection.  Idempotent."""
        self._is_closed = True
        if self._loop is not None and self._pid != os.getpid():
            return  # they are another process's
        if self._monitor is not None:
            await self._monitor.stop()
        for door in (self._gateway, self._direct):
            if door is not None:
                await door.aclose()

    def watch(self, interval: float) -> None:
        """Begins to look after the gateway every `interval` seconds; nothing in direct mode.  Called on the loop."""
        if self._gateway is None:
            return
        loop = self._belong()
        if self._monitor is None:
            self._monitor = Monitor(self.probe, self.settings.where, loop.time)
        self._monitor.start(interval)

    def health(self) -> Health:
        """How the gateway is, as far as anybody has looked.  From any thread."""
        settings, monitor = self.settings, self._monitor
        is_proxied = settings.mode == "proxy"
        now = time.monotonic()
        report = None
        if is_proxied:
            report = Availability(now).report(now) if monitor is None else monitor.report()
        return Health(
            mode=settings.mode,
            where=settings.where if is_proxied else ", ".join(settings.providers),
            protocol=settings.protocol if is_proxied else "",
            version=self.server_version,
            is_watched=monitor is not None and monitor.is_running,
            gateway=report,
        )

    def soon(self, callback: Callable[[], object]) -> None:
        """Has something let go on the loop that it belongs to, from wherever; not if all is let go already."""
        if self._loop is not None and not self._is_closed and not self._loop.is_closed() and self._pid == os.getpid():
            self._loop.call_soon_threadsafe(callback)

    # -- carrying

    async def _carry(
        self,
        models: Sequence[str],
        timeout: float,  # noqa: ASYNC109  # it bounds tries and the waits between them
        work: Callable[[Door, str, float], Awaitable[T]],
        *,
        keeps_slot: bool = False,
    ) -> tuple[T, Course]:
        loop = self._belong()
        deadline = loop.time() + timeout
        course = Course(self._legs, models, retries=self.settings.retries, deadline=deadline, random=self._random)
        current = course.current
        while True:
            try:
                async with asyncio.timeout_at(deadline):
                    return await self._attempt(current, work, deadline, keeps_slot=keeps_slot), course
            except TimeoutError as late:
                error: CallFailed = out_of_time(self._scene(current), timeout)
                error.__cause__ = late
            except CallFailed as failure_of_try:
                error = failure_of_try
            if isinstance(error, Unreachable):
                self._is_greeted = not self.settings.check_version  # another version may come back in its place
            following = course.after(error, loop.time())
            if following is None:
                error.attempts = course.attempts
                if isinstance(error, NoSuchModel):
                    await self._suggest(error, current)
                raise error
            self._tell(current, following, error)
            if following.wait_seconds:
                await asyncio.sleep(following.wait_seconds)
            current = following

    async def _attempt(
        self, current: Try, work: Callable[[Door, str, float], Awaitable[T]], until: float, *, keeps_slot: bool
    ) -> T:
        if current.mode == "direct":
            return await work(self._door("direct"), current.model, until)
        await self._greet(until)
        slots = self._slots
        await slots.acquire()
        try:
            result = await work(self._door("proxy"), current.model or DEFAULT_MODEL, until)
        except BaseException:
            slots.release()
            raise
        if keeps_slot and isinstance(result, Opened):
            result.release = slots.release
        else:
            slots.release()
        return result

    async def _greet(self, until: float) -> None:
        """Learns the gateway's version before the first call, and refuses to talk past it."""
        if self._is_greeted:
            return
        async with self._greeting:
            await self._ask_version(until)

    async def _ask_version(self, until: float) -> None:
        gateway = self._gateway
        if self._is_greeted or gateway is None:
            return  # another call was quicker
        version = await gateway.version(until)
        versions.check(__version__, version, self.settings.where)
        self.server_version = version
        self._is_greeted = True

    def _door(self, mode: Mode) -> Door:
        door = self._gateway if mode == "proxy" else self._direct
        if door is None:
            raise RuntimeError(f"there is no way {mode}")
        return door

    def _belong(self) -> asyncio.AbstractEventLoop:
        """The loop that everything here belongs to."""
        if self._is_closed:
            raise ClientClosed("This client was closed.", hint="Make another one.")
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop, self._pid = loop, os.getpid()
        elif self._loop is not loop or self._pid != os.getpid():
            raise NotForThisLoop(
                "This AsyncClient belongs to another event loop or another process.",
                hint="Make one in each; `Client` can be used from every thread, and (but over gRPC) after a fork.",
            )
        return loop

    def _limit(self, timeout: float) -> "_Limit":
        return _Limit(timeout, self._scene(Try("proxy", "")))

    def _scene(self, current: Try) -> Scene:
        if current.mode == "direct":
            return Scene(mode="direct", where=current.model.partition("/")[0], model=current.model)
        settings = self.settings
        return Scene(
            mode="proxy",
            where=settings.where,
            model=current.model,
            address=str(settings.server),
            has_token=settings.token is not None,
        )

    def _final(self, marks: Marks, course: Course) -> Marks:
        marks = with_attempts(
            marks,
            course.attempts,
            model=course.is_other_model,
            direct=course.is_elsewhere,
            cause=course.cause,
        )
        if marks.mode == "proxy" and self.server_version and not marks.server_version:
            marks = replace(marks, server_version=self.server_version)
        return marks

    def _tell(self, current: Try, following: Try, error: CallFailed) -> None:
        if following.mode != current.mode:
            log.warning(
                "the gateway is down, so the provider is asked directly",
                extra={"where": self.settings.where, "cause": error.code, "model": following.model},
            )
        elif following.model != current.model:
            log.info(
                "another model is asked",
                extra={"model": following.model, "instead_of": current.model, "cause": error.code},
            )
        else:
            log.info(
                "the call is tried again",
                extra={"where": error.where, "cause": error.code, "wait_seconds": round(following.wait_seconds, 3)},
            )

    async def _suggest(self, error: NoSuchModel, current: Try) -> None:
        """Looks for names that are like the unknown one, where nobody has said any, or for all that there are."""
        if error.nearest or not error.model:
            return
        if not current.model:
            error.message = "No model was named, and the gateway has none for such calls."
            error.hint = "Name one: `model=…`, TOLLHOUSE_MODEL, or `tollhouse ask -m …`."
        try:
            until = asyncio.get_running_loop().time() + SUGGEST_SECONDS
            async with asyncio.timeout_at(until):
                models = await self._door(current.mode).models(until)
        except (CallFailed, TimeoutError):
            return  # the error stands without them
        near = _nearest(error.model, models.ids) if current.model else ()
        if near:
            error.nearest = near
            error.hint = f"Did you mean {' or '.join(repr(name) for name in near)}?"
        elif 0 < len(models.ids) <= MAX_NAMED:
            error.hint = f"{error.hint or ''} It has {', '.join(models.ids)}.".strip()


def _nearest(name: str, known: Sequence[str]) -> tuple[str, ...]:
    bare = {each.partition("/")[2] or each: each for each in known}
    found = [*get_close_matches(name, known, n=3, cutoff=0.6)]
    found += [bare[each] for each in get_close_matches(name.partition("/")[2] or name, bare, n=3, cutoff=0.6)]
    return tuple(dict.fromkeys(found))[:3]


class Opened:
    """A stream that has begun, and what was read of it."""

    __slots__ = ("_events", "_live", "complete", "reading", "release")

    def __init__(self, live: Live, reading: Reading, events: Sequence[Event]) -> None:
        self._live = live
        self._events: Sequence[Event] | None = events
        self.reading = reading
        self.release: Callable[[], None] = _nothing
        """Gives back the call's place in line; called once."""
        self.complete: Callable[[Marks], Marks] = _as_they_are

    async def more(self) -> Sequence[Event] | None:
        """What has arrived since the last time; `None` at the end.  Raises `CallFailed`; then, too, it is over."""
        events, self._events = self._events, None
        if events is not None:
            return events
        try:
            _check(self.reading, begun=True)
            events = await self._live.more()
            if events is not None:
                self.reading.feed(events)
        except BaseException:
            self.close()
            raise
        if events is None or self.reading.is_ended:
            self.reading.marks = self.complete(self._live.marks)
            self._let_go()
        return events

    def close(self) -> None:
        """Ends it now.  Idempotent."""
        self._live.close()
        self._let_go()

    def _let_go(self) -> None:
        release, self.release = self.release, _nothing
        release()


async def _opened(live: Live) -> Opened:
    """Reads until there is something of the answer, so that whatever fails before it can be tried elsewhere."""
    reading = Reading(live.marks)
    events: list[Event] = []
    try:
        while not (reading.has_content or reading.is_ended):
            some = await live.more()
            if some is None:
                break
            events += some
            reading.feed(some)
            if not reading.has_content:
                _check(reading, begun=False)
    except BaseException:
        live.close()
        raise
    reading.marks = live.marks
    return Opened(live, reading, events)


def _check(reading: Reading, *, begun: bool) -> None:
    """Raises the error that the other side reported in the stream, if it did."""
    if reading.failed is not None:
        marks = reading.marks
        raise failure(failed(reading.failed), _scene_of(marks), request_id=marks.request_id, begun=begun)


def _scene_of(marks: Marks) -> Scene:
    return Scene(mode=marks.mode, where=marks.where, model=marks.requested_model)


def _nothing() -> None:
    pass


def _as_they_are(marks: Marks) -> Marks:
    return marks


class _Limit:
    """A time limit whose passing is a `TimedOut`."""

    __slots__ = ("_scene", "_seconds", "_timeout")

    def __init__(self, seconds: float, scene: Scene) -> None:
        self._seconds = seconds
        self._scene = scene

    async def __aenter__(self) -> float:
        until = asyncio.get_running_loop().time() + self._seconds
        self._timeout = asyncio.timeout_at(until)
        await self._timeout.__aenter__()
        return until

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        try:
            await self._timeout.__aexit__(kind, error, trace)  # type: ignore[arg-type]  # it only passes it on
        except TimeoutError as late:
            raise out_of_time(self._scene, self._seconds) from late
