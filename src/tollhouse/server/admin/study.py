"""Where a process that answers no calls itself looks up what those that do have counted and spent.

A supervisor's `Study` joins the counters that its workers share and reads the ledger; nothing is opened until somebody asks for
budgets.  A command's `Glance` only looks: joining the counters of a gateway that is gone would be a start of its own, and mend
what the dead left.
"""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path

from tollhouse.config.schema import Config, Scope
from tollhouse.ledger.address import counters_folder, state_folder
from tollhouse.ledger.spending import SpendReader
from tollhouse.policy import purses_at_rest
from tollhouse.policy.counters import Counters, PurseState
from tollhouse.policy.valkey import ValkeySettings, open_counters
from tollhouse.server.counting import join_counters


class Study:
    """Belongs to one event loop; `aclose` it."""

    def __init__(self, config: Config, environ: Mapping[str, str]) -> None:
        """`config` is the one that the workers began with: a reload moves neither the ledger nor the counters."""
        self._config = config
        self._url = config.ledger.url
        self._folder = state_folder(config.ledger.url, config.ledger.state_folder, environ)
        self._opening = asyncio.Lock()
        self._counters: Counters | None = None
        self._reader: SpendReader | None = None

    async def purses(self, names: Sequence[str]) -> Sequence[PurseState]:
        """How these purses stand; those that nobody has counted in are left out.

        Raises `StoreUnavailable` and `ConfigError` as the stores do.
        """
        async with self._opening:
            if self._counters is None:
                self._counters = await self._open()
        return await self._counters.purses(names)

    async def spent(self, scope: Scope, from_us: int, before_us: int) -> int:
        """See `SpendReader.spent`."""
        if self._reader is None:
            self._reader = SpendReader(self._url, self._folder)
        return await self._reader.spent(scope, from_us, before_us)

    async def aclose(self) -> None:
        """Lets go of what was opened.  May be called twice."""
        if self._counters is not None:
            await self._counters.aclose()
        if self._reader is not None:
            await self._reader.aclose()
        self._counters = self._reader = None

    async def _open(self) -> Counters:
        address = self._config.state.url
        if address is not None:
            return await open_counters(ValkeySettings(url=address))
        return join_counters(self._url, self._folder)


class Glance:
    """What a command sees, whether a gateway runs or not; it changes nothing.  Belongs to one event loop; `aclose` it."""

    def __init__(self, url: str, folder: Path, state_url: str | None) -> None:
        """`folder` is `ledger.address.state_folder`; `state_url` is `state.url`."""
        self._counters_folder = counters_folder(url, folder)
        self._state_url = state_url
        self._reader = SpendReader(url, folder)

    async def purses(self, names: Sequence[str]) -> Sequence[PurseState]:
        """As `Study.purses`.  While calls settle, the numbers of this machine's counters need not fit together to the last."""
        if self._state_url is not None:
            counters = await open_counters(ValkeySettings(url=self._state_url))
            try:
                return await counters.purses(names)
            finally:
                await counters.aclose()
        if not await asyncio.to_thread((self._counters_folder / "counters").exists):
            return ()  # nobody has counted here yet
        wanted = frozenset(names)
        found = await asyncio.to_thread(purses_at_rest.read_seeded_purses, self._counters_folder)
        return [state for state in found if state.name in wanted]

    async def spent(self, scope: Scope, from_us: int, before_us: int) -> int:
        """See `SpendReader.spent`."""
        return await self._reader.spent(scope, from_us, before_us)

    async def aclose(self) -> None:
        """Lets go of what was opened.  May be called twice."""
        await self._reader.aclose()
