"""Ending claims: what was reserved is given back, and what was used is counted."""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

from tollhouse.policy.counters import MAX_LIMIT_NANO, MAX_TOKENS, MINUTE_NS, Ending, Spending
from tollhouse.policy.shared_memory.file import CountersFile
from tollhouse.policy.shared_memory.flights import Flight, Flights
from tollhouse.policy.shared_memory.layout import (
    AT_MOVED,
    HELD,
    KIND_MASK,
    MAX_DEBT_NS,
    MOMENT,
    PURSE,
    SEATS,
    TOKENS,
    VALUE,
)
from tollhouse.policy.shared_memory.purses import Purses
from tollhouse.policy.shared_memory.sites import Sites

Ended: TypeAlias = tuple[int, Flight, int, int | None]
"""A claim that is being settled: its place among those that are, itself, cost and tokens."""


class Settlement:
    """Ends claims of this process, with the counters' lock in hand."""

    def __init__(self, file: CountersFile, flights: Flights, purses: Purses, monotonic_ns: Callable[[], int]) -> None:
        """`flights` are those that it ends."""
        self._words = file.words
        self._flights = flights
        self._purses = purses
        self._monotonic_ns = monotonic_ns
        self.owed: Final[deque[Ending]] = deque()
        """Ends that could not be written yet, because the lock was not to be had."""

    def pay(self) -> None:
        """Writes the ends that are owed."""
        while self.owed:
            owed = self.owed.popleft()
            if owed.cost_nano is None:
                self.release(owed.claim_id)
            else:
                self.settle([owed])

    def settle(self, endings: Sequence[Ending]) -> list[list[Spending]]:
        """`SharedCounters.settle_all_now`."""
        words, now_ns = self._words, self._monotonic_ns()
        moved = words[AT_MOVED]
        told: list[list[Spending]] = [[]] * len(endings)
        alike: dict[Sites, list[Ended]] = {}
        for index, ending in enumerate(endings):
            flight = self._flights.by_id.pop(ending.claim_id, None)
            if flight is None:
                continue  # it was owed, and paid just now
            ended = index, flight, min(ending.cost_nano or 0, MAX_LIMIT_NANO), ending.tokens
            sites = flight.sites
            if sites is None or sites.moved != moved:
                told[index] = self._settle_apart(ended, now_ns)
            elif sites in alike:
                alike[sites].append(ended)
            else:
                alike[sites] = [ended]
            self._flights.drop(flight)
        for sites, some in alike.items():
            told[some[-1][0]] = self._settle_alike(sites, some, now_ns)
        return told

    def release(self, claim_id: str) -> None:
        """Gives all back that a claim took, rates too."""
        flight = self._flights.by_id.pop(claim_id, None)
        if flight is None:
            return
        words = self._words
        for at, identity, number, per_minute in flight.berth.parts(flight.place):
            if words[at] != identity:
                continue
            kind = identity & KIND_MASK
            if kind == SEATS:
                words[at + VALUE] -= 1
            elif kind == PURSE:
                words[at + HELD] -= number
            else:
                words[at + VALUE] -= number * MINUTE_NS // per_minute
        self._flights.drop(flight)

    def _settle_alike(self, sites: Sites, some: Sequence[Ended], now_ns: int) -> list[Spending]:
        """Settles claims that have the same parts: each word is read and written once."""
        words = self._words
        for word, most, per_minute in sites.tokens:
            full_at = words[word]
            for _, flight, _, tokens in some:
                if tokens is not None:
                    full_at = max(full_at, now_ns) + (tokens - min(flight.tokens, most)) * MINUTE_NS // per_minute
            words[word] = min(full_at, now_ns + MAX_DEBT_NS)
        for word, _ in sites.seats:
            words[word] -= len(some)
        if not sites.purses:
            return []
        oldest, hold, cost = MAX_TOKENS, 0, 0
        for _, flight, each, _ in some:
            oldest = min(oldest, flight.began_at_us)
            hold += flight.hold_nano
            cost += each
        steps: list[Spending] = []
        for at in sites.purse_slots:
            words[at + HELD] -= hold
            moment = words[at + MOMENT]
            if oldest >= moment:
                step = self._purses.spend(at, cost, None, now_ns)
            else:
                early = sum(each for _, flight, each, _ in some if flight.began_at_us < moment)
                step = self._purses.spend(at, cost - early, early, now_ns)
            if step is not None:
                steps.append(step)
        return steps

    def _settle_apart(self, ended: Ended, now_ns: int) -> list[Spending]:
        """Settles a claim by what its berth says."""
        _, flight, cost, tokens = ended
        words = self._words
        steps: list[Spending] = []
        for at, identity, number, per_minute in flight.berth.parts(flight.place):
            if words[at] != identity:
                continue  # it ended long ago, and was forgotten
            kind = identity & KIND_MASK
            if kind == TOKENS and tokens is not None:
                debt = max(words[at + VALUE], now_ns) + (tokens - number) * MINUTE_NS // per_minute
                words[at + VALUE] = min(debt, now_ns + MAX_DEBT_NS)
            elif kind == SEATS:
                words[at + VALUE] -= 1
            elif kind == PURSE:
                words[at + HELD] -= number
                is_early = flight.began_at_us < words[at + MOMENT]
                step = (
                    self._purses.spend(at, 0, cost, now_ns) if is_early else self._purses.spend(at, cost, None, now_ns)
                )
                if step is not None:
                    steps.append(step)
        return steps
