"""What a gateway process is to the store: a member with a lease, and a pipeline of commands on one connection.

One task owns the connection.  It sends all commands that wait, together, reads their replies, and looks again: a quiet gateway
waits for nobody, and a busy one pays for one write and one wake-up a batch.  A pool would gain nothing, for the server carries
out one command at a time.

A session is begun by joining (`join.lua`) and goes on while its lease is renewed.  On each new connection the process joins
anew under another name: what the old one had sent and the server has not read yet then finds nobody there.  In the same step
the process says which claims it knows, so that a claim whose placing was never answered does not stay.

A store that is silent or away fails its commands within `call_seconds`, and from then on at once, until a session has begun.
"""

import asyncio
import logging
import re
import secrets
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Final

import msgspec

from tollhouse.errors import StoreUnavailable
from tollhouse.policy.valkey import ValkeySettings
from tollhouse.policy.valkey.scripts import Name, Script
from tollhouse.policy.valkey.wire import Address, Cut, Refused, Reply, Wire, pack

MAX_BATCH: Final = 128
"""Commands that are sent together."""
MAX_WAITING: Final = 10_000
"""Commands that may wait to be sent; more are refused at once."""
MAX_TRIES: Final = 3
"""How often a command is sent that the server could not take as things stood: without its script, or without the session."""
ADOPT_CHUNK: Final = 100
"""Claims that are registered again by one command."""
MAX_REDIRECTS: Final = 3
"""How often in a row a node of a cluster may name another one."""
CLOSE_SECONDS: Final = 2.0
PREFIX: Final = "tollhouse:{counters}"

_LOG: Final = logging.getLogger(__name__)
_ELSEWHERE: Final = frozenset({"READONLY", "MOVED", "MASTERDOWN", "CLUSTERDOWN"})
"""Errors of a server that is not, or no longer, the one to talk to."""
_MENDABLE: Final = frozenset({"JOIN", "NOSCRIPT"})
"""Errors after which a command is sent again: joining brings the scripts too."""
_RUN_ID: Final = re.compile(rb"^run_id:(\w+)", re.MULTILINE)


class Command:
    """A command on its way.  Its future gives the reply, or raises `StoreUnavailable`."""

    __slots__ = ("future", "hear", "name", "tries", "words")

    def __init__(
        self,
        name: Name | None,
        words: Sequence[str | bytes | int],
        *,
        loop: asyncio.AbstractEventLoop,
        hear: Callable[[Reply | StoreUnavailable], None] | None = None,
    ) -> None:
        self.name = name
        """The script; `None` for a plain command."""
        self.words = words
        self.hear = hear
        """Told of the outcome before the future, and also when nobody awaits that any more."""
        self.future: asyncio.Future[Reply] = loop.create_future()
        self.tries = 0

    def end(self, outcome: Reply | StoreUnavailable) -> None:
        """Tells whoever waits."""
        if self.hear is not None:
            self.hear(outcome)
        if self.future.done():
            return
        if isinstance(outcome, StoreUnavailable):
            self.future.set_exception(outcome)
            self.future.exception()  # marks it as seen: who has only asked for `hear` does not await it
        else:
            self.future.set_result(outcome)


class Session:
    """A member of the store.  All methods belong to the loop that it was started on."""

    def __init__(
        self,
        address: Address,
        scripts: Mapping[Name, Script],
        settings: ValkeySettings,
        *,
        claims: Callable[[], Mapping[str, Sequence[bytes]]],
        has_reached: Callable[[], None],
    ) -> None:
        """`claims` tells those that this process knows, packed; `has_reached` hears of each beginning and each beat."""
        self._address = address
        self._scripts = scripts
        self._settings = settings
        self._claims = claims
        self._has_reached = has_reached
        self._lease_us = int(settings.lease_seconds * 1_000_000)
        self._loop = asyncio.get_running_loop()
        self._process = secrets.token_hex(8)
        self._number = 0
        self._name = ""
        self._epoch = ""
        self._has_registered = False
        """Whether the store knows all claims of this process that stand, in this epoch."""
        self._waiting: deque[Command] = deque()
        self._wake = asyncio.Event()
        self._beat: asyncio.TimerHandle | None = None
        self._is_beat_due = False
        self._redirects = 0
        self._is_closing = False
        self._moved_to: Address | None = None
        self.trouble = ""
        """Why commands are refused at once; empty while there is a session, or one is being begun."""
        self._task = self._loop.create_task(self._run(), name="tollhouse-valkey")

    @property
    def name(self) -> str:
        """This session's name in the store."""
        return self._name

    @property
    def epoch(self) -> str:
        """The store's life that it belongs to."""
        return self._epoch

    def send(
        self,
        name: Name | None,
        *words: str | bytes | int,
        hear: Callable[[Reply | StoreUnavailable], None] | None = None,
    ) -> Command:
        """Puts a script's call (or, without a name, a plain command) into the pipeline.

        It is carried out whether its future is awaited or cancelled.
        Raises `StoreUnavailable` at once, and does not tell `hear`, when it cannot be sent.
        """
        if self.trouble:
            raise StoreUnavailable(self.trouble)
        if self._is_closing:
            raise StoreUnavailable("The shared store is closed.")
        if len(self._waiting) >= MAX_WAITING:
            raise StoreUnavailable(f"{MAX_WAITING} commands wait for the shared store already.")
        command = Command(name, words, loop=self._loop, hear=hear)
        self._waiting.append(command)
        self._wake.set()
        return command

    async def aclose(self) -> None:
        """Sends what waits, leaves the store, and ends.  May be called twice."""
        self._is_closing = True
        self._wake.set()
        await asyncio.wait({self._task}, timeout=CLOSE_SECONDS)
        await self.abort()

    async def abort(self) -> None:
        """Ends without a word, as if the process had died."""
        self._is_closing = True
        self._task.cancel()
        await asyncio.wait({self._task})

    # ---------------------------------------------------------------------------------------------------- the task

    async def _run(self) -> None:
        error = StoreUnavailable("The shared store is closed.")
        try:
            while True:
                try:
                    await self._live()
                    return
                except StoreUnavailable as lost:
                    error = lost
                except Exception as bug:  # noqa: BLE001 - the task's outer edge: without it every call would wait for ever
                    _LOG.exception("A session with the shared store failed.")
                    error = StoreUnavailable(f"The session with the shared store failed: {bug!r}.")
                if self._moved_to is not None and self._redirects < MAX_REDIRECTS:
                    self._redirects += 1
                    continue
                self._lose(error)
                if self._is_closing:
                    return
                self._wake.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._settings.retry_seconds):
                        await self._wake.wait()
        finally:
            self._lose(StoreUnavailable("The shared store is closed."))

    async def _live(self) -> None:
        """From a connection to the loss of the store.  Returns when this session was closed."""
        while True:
            address = self._moved_to or self._address
            self._moved_to = None
            wire = await Wire.connect(address, timeout_seconds=self._settings.connect_seconds)
            try:
                await self._join(wire)
                began = self._loop.time()
                try:
                    await self._serve(wire)
                    return
                except Cut:
                    # What waits may still be in time on a new connection; one that is cut over and over is none.
                    if self._loop.time() - began < self._settings.retry_seconds:
                        raise
            finally:
                self._stop_beating()
                await wire.aclose()

    def _lose(self, error: StoreUnavailable) -> None:
        self.trouble = str(error)
        self._redirects = 0
        waiting, self._waiting = self._waiting, deque()
        for command in waiting:
            command.end(error)

    async def _join(self, wire: Wire) -> None:
        seconds = self._settings.connect_seconds
        info, *loaded = await wire.exchange(
            [pack("INFO", "server"), *(pack("SCRIPT", "LOAD", script.source) for script in self._scripts.values())],
            timeout_seconds=seconds,
        )
        run = _run_id(info)
        for reply in loaded:
            self._accept(reply)
        self._number += 1
        before, name = self._name, f"{self._process}.{self._number}"
        candidate = secrets.token_hex(4)
        claims = dict(self._claims())
        words = (before, self._epoch, run, self._lease_us, msgspec.msgpack.encode(list(claims)))
        [reply] = await wire.exchange([self._pack("join", words, epoch=candidate, name=name)], timeout_seconds=seconds)
        [epoch] = self._accept(reply)
        self._has_registered &= self._epoch == epoch.decode()
        self._epoch, self._name = epoch.decode(), name
        if not self._has_registered:
            await self._register(wire, claims)
            self._has_registered = True
        self.trouble = ""
        self._redirects = 0
        self._has_reached()
        self._stop_beating()
        self._beat = self._loop.call_later(self._settings.beat_seconds, self._ring)

    async def _register(self, wire: Wire, claims: Mapping[str, Sequence[bytes]]) -> None:
        """Tells a store that has lost them of the claims that stand."""
        items = list(claims.items())
        for start in range(0, len(items), ADOPT_CHUNK):
            words = [word for name, parts in items[start : start + ADOPT_CHUNK] for word in (name, b"".join(parts))]
            [reply] = await wire.exchange([self._pack("adopt", words)], timeout_seconds=self._settings.connect_seconds)
            self._accept(reply)

    async def _serve(self, wire: Wire) -> None:
        while True:
            batch = self._next_batch()
            if batch:
                await self._exchange(wire, batch)
            elif self._is_closing:
                await wire.exchange([self._pack("leave", ())], timeout_seconds=self._settings.call_seconds)
                return
            else:
                self._wake.clear()
                await self._wake.wait()

    def _ring(self) -> None:
        self._is_beat_due = True
        self._wake.set()

    def _next_batch(self) -> list[Command]:
        batch: list[Command] = []
        if self._is_beat_due:
            self._is_beat_due = False
            self._beat = self._loop.call_later(self._settings.beat_seconds, self._ring)
            batch.append(Command("beat", (self._lease_us,), loop=self._loop, hear=self._hear_beat))
        while self._waiting and len(batch) < MAX_BATCH:
            batch.append(self._waiting.popleft())
        return batch

    def _hear_beat(self, outcome: Reply | StoreUnavailable) -> None:
        if not isinstance(outcome, StoreUnavailable):
            self._has_reached()

    def _stop_beating(self) -> None:
        self._is_beat_due = False
        if self._beat is not None:
            self._beat.cancel()

    async def _exchange(self, wire: Wire, batch: Sequence[Command]) -> None:
        unanswered = deque(batch)
        again: list[Command] = []
        kinds: set[str] = set()
        lost = StoreUnavailable("The shared store is closed.")
        try:
            replies = await wire.exchange(
                [self._pack(command.name, command.words) for command in batch],
                timeout_seconds=self._settings.call_seconds,
            )
            for reply in replies:
                command = unanswered.popleft()
                if not isinstance(reply, Refused):
                    command.end(reply)
                    continue
                kinds.add(reply.kind)
                command.tries += 1
                if reply.kind in _MENDABLE and command.tries < MAX_TRIES:
                    again.append(command)
                else:
                    command.end(self._refusal(reply))
        except StoreUnavailable as error:
            lost = error
            raise
        finally:
            for command in unanswered:
                command.end(lost)
            self._waiting.extendleft(reversed(again))
        if kinds & _ELSEWHERE:
            raise Cut(f"The shared store {self._address} refuses: {', '.join(sorted(kinds))}.")
        if again:
            await self._join(wire)

    def _pack(
        self,
        script: Name | None,
        words: Sequence[str | bytes | int],
        *,
        epoch: str | None = None,
        name: str | None = None,
    ) -> bytes:
        if script is None:
            return pack(*words)
        digest = self._scripts[script].digest
        return pack("EVALSHA", digest, 1, PREFIX, epoch or self._epoch, name or self._name, *words)

    def _accept(self, reply: Reply | Refused) -> Reply:
        if isinstance(reply, Refused):
            raise self._refusal(reply)
        return reply

    def _refusal(self, reply: Refused) -> StoreUnavailable:
        if reply.kind == "MOVED":
            self._moved_to = _moved_to(reply, self._address)
        return StoreUnavailable(f"The shared store {self._address} refuses: {reply.kind} {reply.text}.")


def _run_id(info: Reply) -> str:
    found = _RUN_ID.search(info) if isinstance(info, bytes) else None
    if found is None:
        raise StoreUnavailable("The shared store does not say which run of the server it is (INFO server, run_id).")
    return str(found[1], "ascii")


def _moved_to(reply: Refused, address: Address) -> Address | None:
    """Where a node of a cluster says that the keys are (https://valkey.io/topics/cluster-spec/, "MOVED redirection")."""
    host, _, port = reply.text.rpartition(" ")[2].rpartition(":")
    if not port.isdigit():
        return None
    return msgspec.structs.replace(address, host=host or address.host, port=int(port))
