"""Watching the gateway: a sign of life every so often, and what they come to.

The monitor is a task of the client that owns it; it probes with what needs no credential and costs nothing.  Where no gateway
is used there is nothing to watch, and the report says so.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from tollhouse.client.failures import CallFailed
from tollhouse.upstream.availability import Availability, Change, Report, State

log = logging.getLogger("tollhouse.client")

INTERVAL_SECONDS: Final = 30.0
PROBE_SECONDS: Final = 10.0
"""A sign of life that takes longer is none."""
LEAST_INTERVAL_SECONDS: Final = 1.0


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """How the way to the models is."""

    mode: str
    """`proxy`, or `direct`: then nothing is watched."""
    where: str
    """The gateway's `host:port`."""
    protocol: str
    version: str
    """The gateway's, once it was asked; empty before."""
    is_watched: bool
    """Whether signs of life are asked for."""
    gateway: Report | None
    """`None` in direct mode."""

    @property
    def is_well(self) -> bool:
        """Whether calls can be expected to get through; true while nobody has looked."""
        return self.gateway is None or self.gateway.state != State.DOWN.value


class Monitor:
    """Asks for signs of life until it is stopped.  Belongs to one event loop."""

    __slots__ = ("_availability", "_clock", "_interval", "_probe", "_task", "_where")

    def __init__(self, probe: Callable[[float], Awaitable[float]], where: str, clock: Callable[[], float]) -> None:
        """`probe` takes its time limit and gives the seconds that the answer took; it raises `CallFailed`."""
        self._probe = probe
        self._where = where
        self._clock = clock
        self._availability = Availability(clock())
        self._interval = INTERVAL_SECONDS
        self._task: asyncio.Task[None] | None = None

    @property
    def is_running(self) -> bool:
        """Whether somebody is looking."""
        return self._task is not None and not self._task.done()

    def start(self, interval: float) -> None:
        """Begins to look, at once, or goes on at another pace.  Raises `ValueError` for less than a second."""
        if interval < LEAST_INTERVAL_SECONDS:
            raise ValueError(f"signs of life are asked for every {LEAST_INTERVAL_SECONDS:g} seconds at most")
        self._interval = interval
        if not self.is_running:
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Looks no longer.  Idempotent."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait({task})

    async def look(self) -> None:
        """One look, now."""
        try:
            seconds = await self._probe(PROBE_SECONDS)
        except CallFailed as error:
            self._tell(self._availability.missed(self._clock(), error.code))
        else:
            self._tell(self._availability.answered(self._clock(), seconds))

    def report(self) -> Report:
        """What was seen."""
        return self._availability.report(self._clock())

    async def _run(self) -> None:
        while True:
            await self.look()
            await asyncio.sleep(self._interval)

    def _tell(self, change: Change | None) -> None:
        if change is None:
            return
        told = {
            "where": self._where,
            "from": change.before.value,
            "to": change.now.value,
            "cause": change.cause,
            "lasted_seconds": round(change.seconds_in_state, 1),
        }
        level = logging.INFO if change.now is State.UP else logging.WARNING
        log.log(level, "the gateway is %s", change.now.value, extra=told)
