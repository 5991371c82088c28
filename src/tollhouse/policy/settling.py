"""Two ways of ending claims without being waited for: at once, and soon."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Protocol

from tollhouse.errors import StoreUnavailable
from tollhouse.policy.counters import Counters, Spending

Done = Callable[[Sequence[Spending]], None]

log = logging.getLogger("tollhouse.policy")


class Prompt(Protocol):
    """A store on this machine, which needs no waiting."""

    def settle_now(self, claim_id: str, *, cost_nano: int, tokens: int | None) -> Sequence[Spending]:
        """`Counters.settle`, at once; what it cannot do it does later by itself."""
        ...


class SettlesNow:
    """The `Settler` of a store on this machine."""

    def __init__(self, store: Prompt) -> None:
        self._store = store

    def settle(self, claim_id: str, *, cost_nano: int, tokens: int | None, done: Done) -> None:
        """See `gate.Settler`."""
        try:
            spending = self._store.settle_now(claim_id, cost_nano=cost_nano, tokens=tokens)
        except StoreUnavailable as error:
            log.warning("a hold is given back late", extra={"request_id": claim_id, "why": str(error)})
            return
        done(spending)

    async def aclose(self) -> None:
        """Nothing is under way."""


class SettlesSoon:
    """The `Settler` of a store across the network.  Owns its tasks; `aclose` awaits them."""

    def __init__(self, store: Counters) -> None:
        self._store = store
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()

    def settle(self, claim_id: str, *, cost_nano: int, tokens: int | None, done: Done) -> None:
        """See `gate.Settler`."""
        task = self._loop.create_task(self._settle(claim_id, cost_nano, tokens, done))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _settle(self, claim_id: str, cost_nano: int, tokens: int | None, done: Done) -> None:
        try:
            spending = await self._store.settle(claim_id, cost_nano=cost_nano, tokens=tokens)
        except StoreUnavailable as error:
            log.warning("a hold is given back late", extra={"request_id": claim_id, "why": str(error)})
            return
        done(spending)

    async def aclose(self) -> None:
        """Returns when every settlement has been made.  The store bounds how long that takes."""
        while self._tasks:
            await asyncio.wait(self._tasks)
