"""Watching a stream that is forwarded in its own dialect, where nearly all of it is deltas in one fixed form.

A network read is first taken for nothing but those: one replace and one call of the JSON decoder check all its events at once.
Whatever does not fit (other events, other spellings, other line ends, comments, garbage) is split into events and looked at one
by one.  Bytes are never rewritten.
"""

from typing import ClassVar

from tollhouse.chat.model import FinishReason
from tollhouse.dialects.rebuilt import Tally
from tollhouse.dialects.unfinished import Unfinished, event_ends
from tollhouse.errors import StreamFailed, UpstreamTooLarge


class MostlyDeltas:
    """The part of an observer that finds events in bytes; each dialect's own looks at them."""

    __slots__ = ("_held", "_tally", "_unfinished", "failure", "finish", "has_content", "is_final")

    MAX_EVENT_BYTES: ClassVar[int]
    """Bound on one event."""
    MAX_END_BYTES: ClassVar[int]
    """Bound on the last event and what follows it."""

    def __init__(self) -> None:
        self.finish: FinishReason | None = None
        self.failure: StreamFailed | None = None
        self.is_final = False
        self.has_content = False
        self._tally = Tally()
        self._unfinished = Unfinished(self.MAX_EVENT_BYTES)
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """Takes one network read; gives its whole events and keeps an unfinished one.  See `Observer.feed`."""
        if self.is_final:
            self._hold(data)
            return b""
        buffer = self._unfinished.joined(data) if self._unfinished else data
        end = buffer.rfind(b"\n\n") + 2
        if end > 1:
            whole = buffer if end == len(buffer) else buffer[:end]
            if self._are_plain_deltas(whole):
                self._unfinished.keep(buffer[end:])
                return whole
        elif b"\r" not in buffer:
            self._unfinished.keep(buffer)
            return b""
        return self._look_closely(buffer)

    def _are_plain_deltas(self, events: bytes) -> bool:
        """Whether whole `events` are deltas in their usual form and nothing else; if so, counts them."""
        raise NotImplementedError

    def _see(self, event: bytes) -> object:
        """Looks at one event, in whatever form; sets `is_final` at the last one, and `failure` with it at an error."""
        raise NotImplementedError

    def _look_closely(self, buffer: bytes) -> bytes:
        start = 0
        for end in event_ends(buffer):
            self._see(buffer[start:end])
            if self.is_final:
                if self.failure is not None:
                    return buffer[:end]
                self._hold(buffer[start:])
                return buffer[:start]
            start = end
        self._unfinished.keep(buffer[start:])
        return buffer[:start]

    def _hold(self, data: bytes) -> None:
        self._held += data
        if len(self._held) > self.MAX_END_BYTES:
            raise UpstreamTooLarge(f"More than {self.MAX_END_BYTES} bytes are or follow the end of the stream.")
