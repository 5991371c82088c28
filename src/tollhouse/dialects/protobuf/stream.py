"""Streams: events to a client, and those of a Tollhouse behind this one, read or only watched."""

from collections.abc import Iterable

import msgspec

from tollhouse.chat.events import Delta, Ended, Event, Failed, Finished, PartOpened, Pinged, Started, UsageReported
from tollhouse.chat.fold import failure
from tollhouse.chat.grammar import Grammar, GrammarFault
from tollhouse.chat.model import FinishReason
from tollhouse.chat.sse import Frame
from tollhouse.chat.usage import Usage
from tollhouse.dialects.protobuf.failure import event_of, trouble_of_event
from tollhouse.dialects.protobuf.messages import Said, Unknown
from tollhouse.dialects.protobuf.reports import Settlement, Trouble
from tollhouse.dialects.protobuf.shapes import Fault
from tollhouse.dialects.protobuf.wire import Wire
from tollhouse.errors import StreamFailed, UpstreamMalformed, UpstreamTruncated

CHARACTERS_PER_TOKEN = 4
"""For counting what an aborted stream delivered."""


class TypedStreamEncoder:
    """`StreamEncoder` of the typed protocol.  The settlement, which comes last, is the front door's to add."""

    __slots__ = ("_say", "_wire")

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._say = wire.say

    def encode(self, event: Event) -> bytes:
        """One event.  Raises `UpstreamMalformed` for what the protocol has no room for."""
        try:
            return self._say(trouble_of_event(event) if type(event) is Failed else event)
        except Fault as fault:
            raise UpstreamMalformed(f"The provider said what the typed protocol has no room for: {fault}") from fault

    def ping(self) -> bytes:
        """A `ping` event."""
        return self._say(Pinged())


class TypedStreamDecoder:
    """`StreamDecoder` of the typed protocol: its events are the canonical ones, held to their grammar."""

    __slots__ = ("_flowing", "_grammar", "_has_started", "_wire")

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._grammar = Grammar()
        self._has_started = False
        self._flowing: tuple[int, int] | None = None
        """The part (and its choice) of which the last event was a delta: one more of it changes nothing in the grammar."""

    def feed(self, frame: Frame) -> Iterable[Event]:
        """The event of one frame, if it is one of the answer's."""
        said = _heard(self._wire, frame.data)
        if type(said) is Delta and self._flowing == (said.index, said.choice):
            return (said,)
        event = _event(said)
        if event is None or self._grammar.is_complete or (type(event) is Pinged and not self._has_started):
            return ()
        self._has_started = True
        try:
            self._grammar.accept(event)
        except GrammarFault as fault:
            raise UpstreamMalformed(f"The stream's events are out of order: {fault}.") from fault
        self._flowing = (event.index, event.choice) if type(event) is Delta else None
        return (event,)

    def close(self) -> Iterable[Event]:
        """Nothing; raises `UpstreamTruncated` when the answer is cut."""
        if not self._grammar.is_complete:
            raise UpstreamTruncated("The stream stopped before its end.")
        return ()


class TypedObserver:
    """`Observer` of the typed protocol: events are passed on as they came, unknown fields and all.

    The settlement of the Tollhouse behind this one is left out: it is about that one's ledger.
    """

    __slots__ = ("_characters", "_held", "_splitter", "_usage", "_wire", "failure", "finish", "has_content", "is_final")

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._splitter = wire.splitter()
        self._held = b""
        self._characters = 0
        self._usage: Usage | None = None
        self.finish: FinishReason | None = None
        self.failure: StreamFailed | None = None
        self.is_final = False
        self.has_content = False

    def feed(self, data: bytes) -> bytes:
        """Whole events that may go on; the last is held back until `close`."""
        return self._pass_on(self._splitter.feed(data))

    def close(self) -> bytes:
        """The end of the stream; raises `UpstreamTruncated` when it did not come."""
        out = b"" if self.is_final else self._pass_on(self._splitter.close())
        if not self.is_final:
            raise UpstreamTruncated("The stream stopped before its end.")
        return out + self._held

    def usage(self) -> Usage:
        """The reported usage; where the stream broke off before it, the output rebuilt from what was seen."""
        reported = self._usage
        if reported is not None and reported.output_tokens is not None and self.finish is not None:
            return reported
        rebuilt = -(-self._characters // CHARACTERS_PER_TOKEN)
        if reported is None:
            return Usage(output_tokens=rebuilt, source="rebuilt") if self.has_content else Usage()
        return msgspec.structs.replace(
            reported, output_tokens=max(rebuilt, reported.output_tokens or 0), source="rebuilt"
        )

    def _pass_on(self, messages: list[bytes]) -> bytes:
        out: list[bytes] = []
        for message in messages:
            if self.is_final:
                break
            said = _heard(self._wire, message)
            framed = self._wire.frame(message)
            if type(said) is Settlement:
                continue
            if type(said) is Ended:
                self.is_final = True
                self._held = framed
                break
            self._watch(said)
            out.append(framed)
        return b"".join(out)

    def _watch(self, said: Said) -> None:
        match said:
            case Delta():
                self._characters += len(said.text)
                self.has_content = True
            case PartOpened():
                self.has_content = True
            case Started(usage=Usage() as usage) | UsageReported(usage=usage):
                self._usage = usage
            case Finished():
                if said.choice == 0 or self.finish is None:
                    self.finish = said.reason
            case Trouble():
                self.failure = failure(event_of(said))
                self.is_final = True
            case _:
                pass


def _heard(wire: Wire, message: bytes) -> Said:
    try:
        return wire.hear(message)
    except Fault as fault:
        raise UpstreamMalformed(f"An event is not of the typed protocol: {fault}") from fault


def _event(said: Said) -> Event | None:
    """What is part of the answer."""
    if isinstance(said, Trouble):
        return event_of(said)
    if isinstance(said, Settlement | Unknown):
        return None
    return said
