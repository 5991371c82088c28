"""What the admin API works with, given by the process that holds the admin listener: a worker, or the supervisor of several."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from tollhouse.config.schema import Config, Scope
from tollhouse.errors import StoreUnavailable
from tollhouse.policy.counters import PurseState
from tollhouse.telemetry.audit import Trail
from tollhouse.upstream.health import ProviderHealth

T = TypeVar("T")

LOOP_SECONDS: Final = 5.0
"""How long a thread waits for what the event loop looks up for it: counters, sums."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Office:
    """Everything that an operation may use."""

    config: Callable[[], Config]
    """The configuration that serves now; a reload changes what it returns."""
    config_file: Path
    environ: Mapping[str, str]
    ledger_url: str
    """The ledger that this process began with: a reload does not move it."""
    reload: Callable[[], None]
    """Reads the configuration file again and swaps it in, as SIGHUP does.  Called on the event loop."""
    providers: Callable[[], Sequence[ProviderHealth]]
    purses: Callable[[Sequence[str]], Awaitable[Sequence[PurseState]]]
    """How purses stand, by their names; those that the counters do not know are left out.  Called on the event loop."""
    spent: Callable[[Scope, int, int], Awaitable[int]]
    """What a scope has spent from one moment until another, in nano-USD, as the ledger has it.  Called on the event loop."""
    trail: Trail
    loop: asyncio.AbstractEventLoop

    def wait_for(self, work: Callable[[], Awaitable[T]]) -> T:
        """What `work` gives on the event loop, for a thread that waits for it.  Raises `StoreUnavailable` if it takes long."""

        async def run() -> T:
            async with asyncio.timeout(LOOP_SECONDS):
                return await work()

        try:
            return asyncio.run_coroutine_threadsafe(run(), self.loop).result(2 * LOOP_SECONDS)
        except TimeoutError as error:
            raise StoreUnavailable(f"There was no answer within {LOOP_SECONDS:.0f} s.") from error

    def on_loop(self, look: Callable[[], T]) -> T:
        """The same for what only the event loop's own thread may look at."""

        async def run() -> T:
            return look()

        return self.wait_for(run)
