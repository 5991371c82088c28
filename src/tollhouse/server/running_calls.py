"""The calls under way in one worker, through whichever front door they came.

All doors share one of these, so that the bound on calls, a drain and a revoked key mean the same over HTTP and over gRPC.  A
call is known by the task that carries it.  The gateway ends a call by cancelling that task, with a message that
`gateway.pipeline` settles it by; the door then finds here what to tell the client.
"""

import asyncio
from typing import Any

from tollhouse.errors import Draining, KeyRevoked, Overloaded, TokenRevoked, TollhouseError
from tollhouse.policy.identity import Principal


class RunningCalls:
    """Counts them, and ends them where the gateway has to."""

    def __init__(self) -> None:
        self.is_draining = False
        """Whether no new calls are taken, because the gateway shuts down."""
        self._running: dict[asyncio.Task[Any], Principal] = {}
        self._ended: dict[asyncio.Task[Any], TollhouseError] = {}
        """Those that the gateway ends, and what their clients are to be told."""

    def __len__(self) -> int:
        """How many there are."""
        return len(self._running)

    def check_open(self) -> None:
        """Raises `Draining` when no calls are taken any more."""
        if self.is_draining:
            raise Draining("The gateway is shutting down.", hint="Try again in a moment; another one may answer.")

    def check_room(self, limit: int) -> None:
        """Raises `Overloaded` when there are `limit` calls already."""
        if len(self._running) >= limit:
            raise Overloaded(f"{limit} calls are being answered already.", hint="Try again in a moment.")

    def begin(self, task: asyncio.Task[Any], principal: Principal) -> None:
        """From now on `task` carries a call of that principal's, until `end`."""
        self._running[task] = principal

    def end(self, task: asyncio.Task[Any]) -> None:
        """The call is over, whatever became of it."""
        del self._running[task]
        if self._ended:
            self._ended.pop(task, None)

    def ending(self, task: asyncio.Task[Any]) -> TollhouseError | None:
        """What to tell the client of a call that was cancelled; `None` when it was not the gateway that ended it.

        Ask before `end`.
        """
        return self._ended.get(task)

    def cut(self) -> None:
        """Ends every running call now: what it used is settled, and its client gets an error, not a clean end."""
        for task in self._running:
            self._end(task, Draining("The gateway was shut down before this answer was complete.", hint="Ask again."))

    def cut_keys(self, keys: frozenset[str]) -> None:
        """Ends the running calls of keys that were revoked, of subjects (`subject:NAME`) and of tokens (`token:JTI`)."""
        for task, principal in self._running.items():
            if principal.key in keys or (principal.token and f"token:{principal.token}" in keys):
                self._end(task, _revoked(principal))

    def _end(self, task: asyncio.Task[Any], error: TollhouseError) -> None:
        self._ended.setdefault(task, error)
        task.cancel(error.code)


def _revoked(principal: Principal) -> TollhouseError:
    if principal.subject:
        return TokenRevoked(f"The token of {principal.subject!r} was revoked while this answer was under way.")
    return KeyRevoked(f"The key {principal.key!r} was revoked while this answer was under way.")
