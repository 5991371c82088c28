"""What the first to come finds wrong, and makes right: with the counters' lock in hand."""

from tollhouse.policy.shared_memory.file import CountersFile
from tollhouse.policy.shared_memory.flights import Flights
from tollhouse.policy.shared_memory.layout import (
    AT_SEEN_NS,
    HELD,
    KIND_MASK,
    MAX_DEBT_NS,
    PURSE,
    SEATS,
    VALUE,
)
from tollhouse.policy.shared_memory.purses import Purses


def add_up(file: CountersFile, flights: Flights, purses: Purses) -> None:
    """Adds up seats and holds from all berths, and forgets what was spent, which the ledger knows.

    For when somebody died in the middle of a change, or may have.  A death in here leaves it to be done anew.  Raises
    `StoreUnavailable`.
    """
    words = file.words
    for at in file.meters.used():
        if words[at] & KIND_MASK == SEATS:
            words[at + VALUE] = 0
    for at in file.purses.used():
        purses.unseed(at)
        words[at + HELD] = 0
    for pages in flights.berths():
        for place in pages.standing():
            for at, identity, number, _ in pages.parts(place):
                if not 0 <= at < len(words) or words[at] != identity:
                    continue
                if identity & KIND_MASK == SEATS:
                    words[at + VALUE] += 1
                elif identity & KIND_MASK == PURSE:
                    words[at + HELD] += number


def wind(file: CountersFile, now_ns: int) -> None:
    """Moves the rates when the monotonic clock has begun anew, which only a restart of the machine does."""
    words = file.words
    seen_ns = words[AT_SEEN_NS]
    if now_ns < seen_ns:
        for at in file.meters.used():
            if words[at] & KIND_MASK != SEATS:
                words[at + VALUE] = now_ns + min(max(words[at + VALUE] - seen_ns, 0), MAX_DEBT_NS)
        words[AT_SEEN_NS] = now_ns
