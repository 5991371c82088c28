"""Streams of whole messages: a line carries them, a reader knows what they say, and `MessageLive` is the stream of both."""

import asyncio
from collections.abc import Sequence
from typing import Final, Protocol

from tollhouse.chat.events import Ended, Event, Failed
from tollhouse.client.answer import Marks
from tollhouse.client.failures import CallFailed

SETTLE_SECONDS: Final = 2.0
"""How long a whole answer may keep back what is said after it."""


class Messages(Protocol):
    """The messages of one stream."""

    async def some(self) -> Sequence[bytes] | None:
        """Those that have arrived; `None` at the clean end, again and again.  Raises `CallFailed`."""
        ...

    def close(self) -> None:
        """Ends it now.  Idempotent."""
        ...


class Reader(Protocol):
    """What the messages of one stream mean."""

    @property
    def marks(self) -> Marks:
        """See `Live.marks`."""
        ...

    def take(self, messages: Sequence[bytes], events: list[Event]) -> None:
        """Adds what they say.  Raises `CallFailed`."""
        ...

    def end(self) -> list[Event]:
        """What the stream's clean end means, if no event has ended it; at least one.  Raises `CallFailed`."""
        ...


class MessageLive:
    """See `Live`."""

    __slots__ = ("_is_over", "_messages", "_reader")

    def __init__(self, messages: Messages, reader: Reader) -> None:
        self._messages = messages
        self._reader = reader
        self._is_over = False

    @property
    def marks(self) -> Marks:
        """See `Live.marks`."""
        return self._reader.marks

    async def more(self) -> Sequence[Event] | None:
        """See `Live.more`."""
        if self._is_over:
            return None
        try:
            events = await self._events()
        except BaseException:
            self.close()
            raise
        last = events[-1]
        if isinstance(last, Ended):
            await self._settle()
        elif isinstance(last, Failed):
            self.close()
        return events

    def close(self) -> None:
        """See `Live.close`."""
        self._is_over = True
        self._messages.close()

    async def _events(self) -> list[Event]:
        events: list[Event] = []
        while not events:
            messages = await self._messages.some()
            if messages is None:
                return self._reader.end()
            self._reader.take(messages, events)
        return events

    async def _settle(self) -> None:
        """Waits for what comes after the answer: what it cost.  The answer is whole, also without it."""
        late: list[Event] = []
        try:
            async with asyncio.timeout(SETTLE_SECONDS):
                while (messages := await self._messages.some()) is not None:
                    self._reader.take(messages, late)
        except (CallFailed, TimeoutError):
            pass
        finally:
            self.close()
