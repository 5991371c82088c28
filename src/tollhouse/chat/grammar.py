"""The checker of the event grammar that `tollhouse.chat.events` describes.

Two small machines, each a table: one for the stream, one for each choice.  An event that a table does not list for the state
that the machine is in is a fault; the tables are the whole truth, the loop only runs them.
"""

from collections.abc import Iterable, Iterator
from enum import Enum, auto
from typing import Final

from tollhouse.chat.events import (
    Cited,
    Delta,
    Ended,
    Event,
    Failed,
    Finished,
    LogprobsReported,
    PartClosed,
    PartOpened,
    Pinged,
    Signed,
    Started,
    UsageReported,
)
from tollhouse.chat.model import Foreign, Refusal, Text, Thinking, ToolCall


class GrammarFault(Exception):
    """An event out of place; the message names the state and the event."""


class StreamState(Enum):
    """Where a stream stands."""

    NEW = auto()
    STARTED = auto()
    ENDED = auto()
    FAILED = auto()


class ChoiceState(Enum):
    """Where one choice stands."""

    IDLE = auto()
    """No part is open; parts may follow."""
    OPEN = auto()
    FINISHED = auto()


STREAM: Final[dict[tuple[StreamState, type], StreamState]] = {
    (StreamState.NEW, Started): StreamState.STARTED,
    # A stream may fail before it started: the provider answers 200 and then only an error event.
    (StreamState.NEW, Failed): StreamState.FAILED,
    **{
        (StreamState.STARTED, kind): StreamState.STARTED
        for kind in (PartOpened, Delta, Signed, Cited, PartClosed, LogprobsReported, Finished, UsageReported, Pinged)
    },
    (StreamState.STARTED, Failed): StreamState.FAILED,
    (StreamState.STARTED, Ended): StreamState.ENDED,
}

CHOICE: Final[dict[tuple[ChoiceState, type], ChoiceState]] = {
    (ChoiceState.IDLE, PartOpened): ChoiceState.OPEN,
    (ChoiceState.IDLE, LogprobsReported): ChoiceState.IDLE,
    (ChoiceState.IDLE, Finished): ChoiceState.FINISHED,
    (ChoiceState.OPEN, Delta): ChoiceState.OPEN,
    (ChoiceState.OPEN, Signed): ChoiceState.OPEN,
    (ChoiceState.OPEN, Cited): ChoiceState.OPEN,
    (ChoiceState.OPEN, LogprobsReported): ChoiceState.OPEN,
    (ChoiceState.OPEN, PartClosed): ChoiceState.IDLE,
    (ChoiceState.FINISHED, LogprobsReported): ChoiceState.FINISHED,
}

# Which parts each kind of delta may touch.
TOUCHES: Final[dict[type, tuple[type, ...]]] = {
    Delta: (Text, Thinking, Refusal, ToolCall, Foreign),
    Signed: (Thinking, Text, ToolCall),
    Cited: (Text,),
    PartClosed: (object,),
}


class Grammar:
    """Checks events one by one."""

    __slots__ = ("_choices", "_open", "_parts", "_state")

    def __init__(self) -> None:
        self._state = StreamState.NEW
        self._choices: dict[int, ChoiceState] = {}
        self._parts: dict[int, int] = {}
        self._open: dict[int, type] = {}

    @property
    def is_complete(self) -> bool:
        """Whether the stream has reached its end, good or bad."""
        return self._state in {StreamState.ENDED, StreamState.FAILED}

    def accept(self, event: Event) -> None:
        """Takes one event; raises `GrammarFault` if it may not stand here."""
        kind = type(event)
        state = STREAM.get((self._state, kind))
        if state is None:
            raise GrammarFault(f"{kind.__name__} in a stream that is {self._state.name}")
        if isinstance(event, Ended) and not self._all_finished():
            raise GrammarFault(f"Ended, but choices are {self._names()}")
        self._state = state
        if isinstance(event, PartOpened | Delta | Signed | Cited | PartClosed | LogprobsReported | Finished):
            self._accept_in_choice(event)

    def _accept_in_choice(
        self, event: PartOpened | Delta | Signed | Cited | PartClosed | LogprobsReported | Finished
    ) -> None:
        kind = type(event)
        number = event.choice
        before = self._choices.get(number, ChoiceState.IDLE)
        after = CHOICE.get((before, kind))
        if after is None:
            raise GrammarFault(f"{kind.__name__} in choice {number}, which is {before.name}")
        if isinstance(event, PartOpened):
            expected = self._parts.get(number, 0)
            if event.index != expected:
                raise GrammarFault(f"part {event.index} opened in choice {number} where {expected} was next")
            self._parts[number] = expected + 1
            self._open[number] = type(event.part)
        elif isinstance(event, Delta | Signed | Cited | PartClosed):
            current = self._parts.get(number, 0) - 1
            if event.index != current:
                raise GrammarFault(f"{kind.__name__} for part {event.index} of choice {number} while {current} is open")
            part = self._open[number]
            if not issubclass(part, TOUCHES[kind]):
                raise GrammarFault(f"{kind.__name__} for a {part.__name__} part")
        self._choices[number] = after

    def _all_finished(self) -> bool:
        return bool(self._choices) and all(state is ChoiceState.FINISHED for state in self._choices.values())

    def _names(self) -> str:
        return ", ".join(f"{n} {s.name}" for n, s in sorted(self._choices.items())) or "none at all"


def checked(events: Iterable[Event]) -> Iterator[Event]:
    """The same events; raises `GrammarFault` at the first that is out of place, or at the end if the stream was cut."""
    grammar = Grammar()
    for event in events:
        grammar.accept(event)
        yield event
    if not grammar.is_complete:
        raise GrammarFault("the stream stopped without Ended or Failed")


def check(events: Iterable[Event]) -> None:
    """Raises `GrammarFault` unless `events` are one whole stream."""
    for _ in checked(events):
        pass
