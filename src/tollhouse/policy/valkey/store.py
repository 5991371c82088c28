"""Claims in, answers out: `Counters` on Valkey or Redis.

What the store must not forget of this process stands here: the claims that are alive, to register them again if the store has
lost them, and the endings that the store has not acknowledged, to repeat them when it is back.  Repeating is harmless, for an
ending of a claim that is not there does nothing.
"""

import asyncio
import logging
import re
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from tollhouse.errors import StoreUnavailable
from tollhouse.policy.counters import (
    MINUTE_NS,
    Answer,
    Claim,
    Orphan,
    Placed,
    Purse,
    PurseEmpty,
    PurseState,
    Rate,
    RateFull,
    SeatsTaken,
    Spending,
    Unseeded,
)
from tollhouse.policy.valkey import ValkeySettings
from tollhouse.policy.valkey.scripts import Name, Script, load
from tollhouse.policy.valkey.session import Command, Session
from tollhouse.policy.valkey.wire import Address, Reply, address_of

MAX_OWED: Final = 100_000
"""Endings that are kept for a store that is away; of more, the oldest is dropped: its claim is then released."""
NAMES_CHUNK: Final = 500
"""Purses that one command names."""
LEAST_VERSION: Final = (6, 2)

_MINUTE_US: Final = MINUTE_NS // 1000
_BYTES_AS_TEXT: Final = "latin-1"
"""The server's reader of msgpack knows text, and no bytes: each byte of a note goes as one character."""
_LOG: Final = logging.getLogger(__name__)
_Ending = tuple[str, str]
"""Cost and tokens as the script wants them; both empty for a release."""


class ValkeyCounters:
    """See `tollhouse.policy.counters.Counters`.  All methods belong to the loop that it was started on."""

    def __init__(self, address: Address, settings: ValkeySettings, scripts: Mapping[Name, Script]) -> None:
        """Use `start`."""
        self._live: dict[str, list[bytes]] = {}
        self._owed: dict[str, _Ending] = {}
        self._untold: list[Orphan] = []
        self._lease_us = int(settings.lease_seconds * 1_000_000)
        self.session: Final = Session(
            address, scripts, settings, claims=lambda: self._live, has_reached=self._repeat_endings
        )

    @classmethod
    def start(cls, settings: ValkeySettings, scripts: Mapping[Name, Script] | None = None) -> "ValkeyCounters":
        """Begins to connect.  Until that has succeeded or failed calls wait; then they are served or refused at once.

        Raises `ConfigError` for an address that is none.
        """
        return cls(address_of(settings.url), settings, load() if scripts is None else scripts)

    @property
    def trouble(self) -> str:
        """Why the store cannot be reached; empty when it can, as far as is known."""
        return self.session.trouble

    async def place(self, claim: Claim, *, extends: bool = False) -> Answer:
        """Takes all parts of the claim or none.

        When it is cancelled, a claim that was placed all the same is released; what an extension added stays with its claim.
        """
        placing = _Placing(self, claim)
        command = self.session.send("place", claim.id, placing.packed, hear=placing.hear)
        del extends  # a claim that stands is extended, and an extension of nothing is a claim
        try:
            reply = await command.future
        except asyncio.CancelledError:
            placing.abandon()
            raise
        return _answer(claim, reply)

    async def settle(self, claim_id: str, *, cost_nano: int, tokens: int | None) -> Sequence[Spending]:
        """Ends a claim.  When the store cannot be reached `StoreUnavailable` says so, and the ending is repeated later."""
        reply = await self._end(claim_id, (str(cost_nano), "" if tokens is None else str(tokens))).future
        return [Spending(name.decode(), before, after) for name, before, after in _groups(reply, 3)]

    async def release(self, claim_id: str) -> None:
        """Ends a claim as if it had never been; what `settle` says of a store that is away holds here too."""
        await self._end(claim_id, ("", "")).future

    async def seed(self, purse: Purse, *, spent_nano: int, before_us: int, is_confirmed: bool = False) -> int:
        """Says what a purse had spent.

        A confirmation changes nothing while a claim stands that began before the moment, or when one ended since
        `is_settled_before` was asked here: ask again, and read the sum again.  `purses` says whether it was taken.
        """
        moment: int = await self.session.send(
            "seed", purse.name, before_us, spent_nano, int(is_confirmed), purse.ends_at_us or 0
        ).future
        return moment

    async def forget(self, names: Sequence[str]) -> None:
        """Makes purses unseeded."""
        for start in range(0, len(names), NAMES_CHUNK):
            await self.session.send("forget", *names[start : start + NAMES_CHUNK]).future

    async def is_settled_before(self, moment_us: int) -> bool:
        """Whether every claim that began before that moment has ended."""
        return bool(await self.session.send("settled", moment_us).future)

    async def orphans(self, at_most: int = 100) -> Sequence[Orphan]:
        """Claims of processes that have died, each to one asker; none in the first seconds after the store was away."""
        if not self._untold:
            await self.session.send("orphans", at_most, self._lease_us, hear=self._hear_orphans).future
        # They are taken from here, and not from the reply: an asker who was cancelled leaves them for the next.
        told, self._untold = self._untold[:at_most], self._untold[at_most:]
        return told

    async def purses(self, names: Sequence[str]) -> Sequence[PurseState]:
        """How these purses stand.  Without names it only tries to reach the store."""
        states: list[PurseState] = []
        for start in range(0, max(1, len(names)), NAMES_CHUNK):
            chunk = names[start : start + NAMES_CHUNK]
            reply = await self.session.send("purses", *chunk).future
            states.extend(
                PurseState(chunk[n], spent, held, before, bool(is_confirmed))
                for n, spent, held, before, is_confirmed in _groups(reply, 5)
            )
        return states

    async def check(self) -> Sequence[str]:
        """What is wrong with how the store is set up, a sentence each, for the log at start."""
        info = (await self.session.send(None, "INFO", "server").future).decode()
        memory = (await self.session.send(None, "INFO", "memory").future).decode()
        return complaints(info + memory)

    async def aclose(self) -> None:
        """Ends the session.  Claims that still stand become orphans, also if the store cannot be told so."""
        await self.session.aclose()

    async def abort(self) -> None:
        """Ends without a word to the store, as if the process had died."""
        await self.session.abort()

    # ------------------------------------------------------------------------------------------------ bookkeeping

    def _end(self, claim_id: str, ending: _Ending) -> Command:
        def hear(outcome: Reply | StoreUnavailable) -> None:
            if isinstance(outcome, StoreUnavailable):
                self._owe(claim_id, ending)
            else:
                self._live.pop(claim_id, None)

        try:
            return self.session.send("settle", claim_id, *ending, hear=hear)
        except StoreUnavailable:
            self._owe(claim_id, ending)
            raise

    def _owe(self, claim_id: str, ending: _Ending) -> None:
        self._owed.setdefault(claim_id, ending)
        if len(self._owed) > MAX_OWED:
            oldest = next(iter(self._owed))
            del self._owed[oldest]
            self._live.pop(oldest, None)  # so that the store releases it when this process joins again
            _LOG.warning("The shared store is away for too long: the end of call %s is dropped.", oldest)

    def _repeat_endings(self) -> None:
        owed, self._owed = self._owed, {}
        for claim_id, ending in owed.items():
            try:
                self._end(claim_id, ending)
            except StoreUnavailable:
                continue  # it is owed again

    def _hear_orphans(self, outcome: Reply | StoreUnavailable) -> None:
        if isinstance(outcome, StoreUnavailable):
            return
        for name, began, hold, note, packed in _groups(outcome, 5):
            orphan = Orphan(name.decode(), began, hold, note.decode().encode(_BYTES_AS_TEXT))
            self._live[orphan.id] = [packed]
            self._untold.append(orphan)


class _Placing:
    """A claim on its way to the store, which may be abandoned before or after it gets there."""

    __slots__ = ("_claim_id", "_is_abandoned", "_is_new", "_is_placed", "_store", "packed")

    def __init__(self, store: ValkeyCounters, claim: Claim) -> None:
        self._store = store
        self._claim_id = claim.id
        self._is_new = claim.id not in store._live  # noqa: SLF001 - a part of the store
        self._is_placed = self._is_abandoned = False
        self.packed = _packed(claim)

    def hear(self, outcome: Reply | StoreUnavailable) -> None:
        if isinstance(outcome, StoreUnavailable) or outcome[0] != 0:
            return
        self._is_placed = True
        self._store._live.setdefault(self._claim_id, []).append(self.packed)  # noqa: SLF001
        self._undo()

    def abandon(self) -> None:
        self._is_abandoned = True
        self._undo()

    def _undo(self) -> None:
        if self._is_placed and self._is_abandoned and self._is_new:
            try:
                self._store._end(self._claim_id, ("", ""))  # noqa: SLF001
            except StoreUnavailable:
                return  # it is owed


def complaints(info: str) -> Sequence[str]:
    """What is wrong with a server that says this about itself (`INFO server` and `INFO memory`)."""
    said = dict(re.findall(r"^(\w+):(.*?)\r?$", info, re.MULTILINE))
    found = []
    version = said.get("redis_version", "")
    if tuple(int(number) for number in re.findall(r"\d+", version)[:2]) < LEAST_VERSION:
        found.append(f"The shared store is version {version or 'unknown'}; it must be Valkey, or Redis 6.2 or newer.")
    policy = said.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        found.append(
            f"The shared store drops keys when its memory is full (maxmemory-policy {policy}): limits and budgets would be "
            "forgotten.  Set maxmemory-policy to noeviction."
        )
    return found


def _packed(claim: Claim) -> bytes:
    """A part of a claim as the scripts read it (`ending.lua`)."""
    parts = claim.parts
    return msgspec.msgpack.encode(
        (
            claim.began_at_us,
            claim.hold_nano,
            claim.note.decode(_BYTES_AS_TEXT),
            [(rate.name, rate.per_minute, claim.takes(rate), int(rate.counts == "tokens")) for rate in parts.rates],
            [(seats.name, seats.limit) for seats in parts.seats],
            [
                (purse.name, -1 if purse.limit_nano is None else purse.limit_nano, purse.ends_at_us or 0)
                for purse in parts.purses
            ],
        )
    )


def _answer(claim: Claim, reply: Reply) -> Answer:
    """What `place.lua` has answered."""
    parts = claim.parts
    match reply:
        case [0, *missing]:
            return Placed(parts.rates, _ahead(parts.rates, missing))
        case [1, *missing]:
            waits = [
                ((lacking + claim.takes(rate) * _MINUTE_US) / rate.per_minute - _MINUTE_US) / 1e6
                for rate, lacking in zip(parts.rates, missing, strict=True)
            ]
            longest = max(waits)
            slowest = parts.rates[waits.index(longest)]
            return RateFull(parts.rates, _ahead(parts.rates, missing), rate=slowest, wait_seconds=longest)
        case [2, n]:
            return SeatsTaken(parts.seats[n - 1])
        case [3, n, spent, held]:
            return PurseEmpty(parts.purses[n - 1], spent, held)
        case [4, *unseeded]:
            return Unseeded(tuple(parts.purses[n - 1] for n in unseeded))
        case _:
            raise StoreUnavailable(f"The shared store answers what is no answer: {reply!r}.")


def _ahead(rates: Sequence[Rate], missing: Sequence[int]) -> tuple[int, ...]:
    """How far rates are from full, in nanoseconds, by the microseconds' worth of each that is missing."""
    return tuple(lacking * 1000 // rate.per_minute for rate, lacking in zip(rates, missing, strict=True))


def _groups(reply: Sequence[Reply], size: int) -> Sequence[Sequence[Reply]]:
    return [reply[start : start + size] for start in range(0, len(reply), size)]
