"""What is counted before a call may go, and the interface of the store that counts it.

A call brings one `Claim`: every rate, every seat and every purse that it must pass, at all levels.  A store places it whole
or not at all; when the call has ended, the claim is settled: what was reserved is replaced by what was used.  There are two
stores, one for the workers of a machine (`shared_memory`) and one for several machines (`valkey`), and both keep these rules,
which the same tests check:

- **All or nothing.**  A refused claim has changed nothing anywhere.
- **Spent + held ≤ limit** for every purse with a limit, whatever the concurrency.  Settling can exceed it only by what a call
  turned out to cost above its hold (the error of an estimate), never by a race.
- **Holds return to zero.**  A claim ends by `settle`, by `release`, or, when its process died, by `orphans` and `settle`.
- **A rate is a token bucket** that holds one minute's worth and refills evenly.  It is kept as one number, the time at which it
  is full again (GCRA): taking n of r per minute moves that time by n * 60 s / r, and fits if it is then at most 60 s ahead.
  Correcting a take moves it by the difference, so that a rate can be in debt, and never holds more than a minute's worth.

**Spending is the ledger's.**  A store only caches how much a purse has spent.  A purse that it does not know is `Unseeded`: the
caller reads the sum of the ledger's rows that began before now, and tells it with `seed`.  From then on the claims that *began*
at or after that moment add to it.  Claims that began earlier and were still under way are in neither; `is_settled_before` says
when the last of them has ended, and then the sum is read and told once more, which confirms it.  Nothing is counted twice, and
nothing is missed.
"""

from collections.abc import Sequence
from typing import Final, Literal, Protocol

import msgspec

MINUTE_NS: Final = 60_000_000_000
MAX_LIMIT_NANO: Final = 9_000_000_000_000_000
"""9 million dollars: the largest amount that Lua's numbers, which are doubles, count exactly."""
MAX_TOKENS: Final = 1 << 62
MAX_CLAIM_PARTS: Final = 48
"""Rates, seats and purses of one claim, together."""


class Rate(msgspec.Struct, frozen=True):
    """So many a minute."""

    name: str
    """What it counts and whose: `requests/key:dev`.  Unique among rates."""
    per_minute: int
    amount: int
    """How many a call takes; at most `per_minute`, or it could never pass.  Of a rate that counts tokens it is the most that a
    call takes, however many it will use."""
    counts: Literal["requests", "tokens"] = "requests"


class Seats(msgspec.Struct, frozen=True):
    """So many at once.  A call takes one."""

    name: str
    """`concurrent/tenant:research`.  Unique among seats."""
    limit: int


class Purse(msgspec.Struct, frozen=True):
    """A budget in one of its windows."""

    name: str
    """`tenant:research/month/2026-11`.  Unique among purses; another window is another purse."""
    limit_nano: int | None
    """`None` only counts: a soft budget."""
    ends_at_us: int | None = None
    """When its window ends, microseconds since the epoch; a store may forget it some time after that.  `None`: never."""


class Parts(msgspec.Struct, frozen=True):
    """What all calls of a kind must pass.  At most `MAX_CLAIM_PARTS` of them; none at all is possible.

    Make it once for a kind of call and use it again: a store works out once where it keeps what an object of these counts.
    """

    rates: tuple[Rate, ...] = ()
    seats: tuple[Seats, ...] = ()
    purses: tuple[Purse, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to pass."""
        return not (self.rates or self.seats or self.purses)


class Claim(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One call's wish to pass."""

    id: str
    """The request id.  Unique; a store remembers it until the claim ends."""
    began_at_us: int
    """When the call began, microseconds since the epoch: `CallRecord.started_at_us`."""
    parts: Parts
    tokens: int = MAX_TOKENS
    """How many the call will probably use.  Every rate that counts them gives as many, at most its `amount`."""
    hold_nano: int = 0
    """The worst that the call can cost.  Held in every purse."""
    note: bytes = b""
    """What a ledger row would need, should this process die: at most `MAX_NOTE_BYTES`, the store does not read it."""

    def takes(self, rate: Rate) -> int:
        """How many it takes of one of its rates."""
        return rate.amount if rate.counts == "requests" else min(self.tokens, rate.amount)


MAX_NOTE_BYTES: Final = 640


class Level(msgspec.Struct, frozen=True):
    """How full a rate is after a claim."""

    rate: Rate
    remaining: int
    reset_seconds: float
    """Until it is full again."""


class _Rates(msgspec.Struct, frozen=True, gc=False):
    """How the rates of a claim are."""

    rates: tuple[Rate, ...] = ()
    """Those of the claim, in its order."""
    ahead_ns: tuple[int, ...] = ()
    """How far each of them is from full, in nanoseconds."""

    @property
    def levels(self) -> tuple[Level, ...]:
        """How full they are, one for each."""
        return tuple(map(level_of, self.rates, self.ahead_ns))


class Placed(_Rates, frozen=True, gc=False):
    """The claim stands."""


def level_of(rate: Rate, ahead_ns: int) -> Level:
    """The level of a rate that is so far from full."""
    return Level(rate, max(0, (MINUTE_NS - ahead_ns) * rate.per_minute // MINUTE_NS), ahead_ns / 1e9)


class RateFull(_Rates, frozen=True, kw_only=True, gc=False):
    """Refused by a rate: the one that needs the longest wait.  The rates are untouched."""

    rate: Rate
    wait_seconds: float
    """Until the claim would fit."""


class SeatsTaken(msgspec.Struct, frozen=True):
    """Refused: that many are in flight."""

    seats: Seats


class PurseEmpty(msgspec.Struct, frozen=True):
    """Refused by a budget: the first that has too little left."""

    purse: Purse
    spent_nano: int
    held_nano: int
    is_allowance: bool = False
    """Whether only what this machine may spend while the shared store is away is used up."""


class Unseeded(msgspec.Struct, frozen=True):
    """Nothing was placed: the store does not know what these purses have spent.  `seed` them and place again."""

    purses: tuple[Purse, ...]


Answer = Placed | RateFull | SeatsTaken | PurseEmpty | Unseeded


class Ending(msgspec.Struct, frozen=True, gc=False):
    """How a claim ended."""

    claim_id: str
    cost_nano: int | None
    """`None`: it was released."""
    tokens: int | None
    is_watched: bool = True
    """Whether somebody wants to hear what that did to its purses."""


class Spending(msgspec.Struct, frozen=True, gc=False):
    """What settling did to a purse.

    No two settlements see the same step, so whoever sees a threshold crossed is the only one.
    """

    purse: str
    before_nano: int
    after_nano: int


class Orphan(msgspec.Struct, frozen=True):
    """A claim whose process has died.  Whoever gets it must `settle` it (or `release` it) in its place."""

    id: str
    began_at_us: int
    hold_nano: int
    note: bytes


class PurseState(msgspec.Struct, frozen=True):
    """How a purse stands."""

    name: str
    spent_nano: int
    held_nano: int
    seeded_before_us: int
    """The moment from which on the store counts by itself."""
    is_confirmed: bool
    """Whether its sum was told once more when all earlier claims had ended."""


class Counters(Protocol):
    """A store of counters.  Every method raises `StoreUnavailable` when the store cannot be reached in its bounded time.

    Awaiting may be cancelled: then `place` has either placed nothing or the claim is released by the store itself; `settle` and
    `release` go on to their end.
    """

    async def place(self, claim: Claim, *, extends: bool = False) -> Answer:
        """Takes all parts of the claim or none.

        `extends` adds the parts to the claim of the same id that stands already (a call moves on to another provider): its hold
        grows by `hold_nano` in the purses that it has and that are named again, and starts with it in those that are new.
        """
        ...

    async def settle(self, claim_id: str, *, cost_nano: int, tokens: int | None) -> Sequence[Spending]:
        """Ends a claim: seats and holds are given back, and `cost_nano` is spent from its purses.

        Rates that count tokens are corrected to `tokens` (`None`: leave the estimate).  Ending a claim that is not there
        does nothing.
        """
        ...

    async def release(self, claim_id: str) -> None:
        """Ends a claim as if it had never been: rates are given back too."""
        ...

    async def seed(self, purse: Purse, *, spent_nano: int, before_us: int, is_confirmed: bool = False) -> int:
        """Says what a purse had spent by the rows that began before `before_us`, and returns the moment that holds.

        The first to seed a purse sets its moment; telling another moment later changes nothing, and telling the same one again
        replaces the sum.  What was settled meanwhile by claims that began at or after the moment is kept.
        """
        ...

    async def forget(self, names: Sequence[str]) -> None:
        """Makes purses unseeded, so that their sums are read again: after an outage, or when the ledger was rated again.

        What is held in them stays held.
        """
        ...

    async def is_settled_before(self, moment_us: int) -> bool:
        """Whether every claim that began before that moment has ended, in every process that shares the store."""
        ...

    async def orphans(self, at_most: int = 100) -> Sequence[Orphan]:
        """Claims of processes that have died.

        Each is handed to one asker only; one that is not ended by an asker who dies in turn is handed out again.
        """
        ...

    async def purses(self, names: Sequence[str]) -> Sequence[PurseState]:
        """How these purses stand; those that the store does not know are left out."""
        ...

    async def aclose(self) -> None:
        """Lets go of the store.  Claims that still stand become orphans."""
        ...
