"""A process's turn with the counters, which it has to itself meanwhile."""

from types import TracebackType

from tollhouse.errors import StoreUnavailable
from tollhouse.policy.shared_memory.file import CountersFile
from tollhouse.policy.shared_memory.flights import Flights
from tollhouse.policy.shared_memory.guard import Guard
from tollhouse.policy.shared_memory.layout import AT_DIRTY
from tollhouse.policy.shared_memory.mending import add_up
from tollhouse.policy.shared_memory.purses import Purses
from tollhouse.policy.shared_memory.settlement import Settlement


class Turn:
    """Taken with `with`, again and again.

    It begins with mending what somebody left who died in his, and with paying what is owed.  `StoreUnavailable` is raised in
    there before anything has changed; any other error leaves a mess, for the next to mend.
    """

    __slots__ = ("_file", "_flights", "_guard", "_purses", "_settlement", "is_closed")

    def __init__(
        self, file: CountersFile, guard: Guard | None, flights: Flights, purses: Purses, settlement: Settlement
    ) -> None:
        """Without a guard there is nobody else."""
        self._file = file
        self._guard = guard
        self._flights = flights
        self._purses = purses
        self._settlement = settlement
        self.is_closed = False

    def __enter__(self) -> None:
        if self.is_closed:
            raise StoreUnavailable("The shared counters are closed.")
        if self._guard is not None:
            self._guard.take()
        words = self._file.words
        if words[AT_DIRTY]:
            try:
                add_up(self._file, self._flights, self._purses)
            except BaseException:
                self._give()
                raise
        words[AT_DIRTY] = 1
        if self._settlement.owed:
            self._settlement.pay()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None or issubclass(kind, StoreUnavailable):
            self._file.words[AT_DIRTY] = 0
        self._give()

    def _give(self) -> None:
        if self._guard is not None:
            self._guard.give()
