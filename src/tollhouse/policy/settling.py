"""Two ways of ending claims without being waited for: at once, and soon."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Protocol

from tollhouse.errors import StoreUnavailable
from tollhouse.policy.counters import Counters, Ending, Spending

Done = Callable[[Sequence[Spending]], None] | None

log = logging.getLogger("tollhouse.policy")


def call_now(callback: Callable[[], None]) -> None:
    """Defers nothing."""
    callback()


class Prompt(Protocol):
    """A store on this machine, which needs no waiting."""

    def settle_all_now(self, endings: Sequence[Ending]) -> Sequence[Sequence[Spending]]:
        """Settles claims at once, and says for each what that did to purses; what it cannot do it does later by itself."""
        ...


class SettlesNow:
    """The `Settler` of a store on this machine.

    With `defer`, such as a loop's `call_soon`, the ends that come before its call are settled in one step: rows are written in
    batches, and the calls of a batch end together.  A request that is read afterwards finds them settled.
    """

    def __init__(self, store: Prompt, *, defer: Callable[[Callable[[], None]], object] = call_now) -> None:
        self._store = store
        self._defer = defer
        self._endings: list[Ending] = []
        self._done: list[Done] = []

    def settle(self, claim_id: str, *, cost_nano: int, tokens: int | None, done: Done) -> None:
        """See `gate.Settler`."""
        self._endings.append(Ending(claim_id, cost_nano, tokens, done is not None))
        self._done.append(done)
        if len(self._done) == 1:
            self._defer(self._settle)

    async def aclose(self) -> None:
        """Settles what is left."""
        self._settle()

    def _settle(self) -> None:
        endings, self._endings = self._endings, []
        hear, self._done = self._done, []
        if not endings:
            return
        try:
            told = self._store.settle_all_now(endings)
        except StoreUnavailable as error:
            ids = [ending.claim_id for ending in endings]
            log.warning("holds are given back late", extra={"request_ids": ids, "why": str(error)})
            return
        for done, spending in zip(hear, told, strict=True):
            if spending and done is not None:
                done(spending)


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
            log.warning("holds are given back late", extra={"request_ids": [claim_id], "why": str(error)})
            return
        if done is not None:
            done(spending)

    async def aclose(self) -> None:
        """Returns when every settlement has been made.  The store bounds how long that takes."""
        while self._tasks:
            await asyncio.wait(self._tasks)
