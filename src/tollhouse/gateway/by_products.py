"""What a conversation makes at its provider by the way: the container in which code was run, the files that came out of it.

A client goes on with these in its next turn, or fetches them through the provider's other paths.  So they are noted as what
is made there on purpose.  Most conversations make none, and most gateways have one tenant: then nobody looks.
"""

from typing import Any, Final

import msgspec

from tollhouse.chat import sse
from tollhouse.errors import UpstreamMalformed, UpstreamTooLarge
from tollhouse.gateway.call import Call, Headers, Sink
from tollhouse.gateway.creations import MAX_ANSWER_BYTES, MAX_MADE, strings_at
from tollhouse.gateway.ownership import Ownership
from tollhouse.providers.provider import Provider

MAX_EVENT_BYTES: Final = MAX_ANSWER_BYTES
_MARKS: Final = (b'"code_', b'"container')
"""Of requests that let code be run: Anthropic's `code_execution_…`, OpenAI's `code_interpreter` and `container_auto`."""
_PLACES: Final = (
    # Anthropic: a message, and the events in which its parts come.
    ("container", "id"),
    ("message", "container", "id"),
    ("delta", "container", "id"),
    ("content", "content", "content", "file_id"),
    ("content_block", "content", "content", "file_id"),
    # OpenAI: a response, and the events about its items.
    ("output", "container_id"),
    ("response", "output", "container_id"),
    ("item", "container_id"),
)


def may_make(body: bytes) -> bool:
    """Whether what a conversation asks for may leave something behind."""
    return body.find(_MARKS[0]) >= 0 or body.find(_MARKS[1]) >= 0


class ByProducts:
    """A client's end on whose way it is noted what was made; a `Sink`."""

    __slots__ = ("_answer", "_call", "_made", "_ownership", "_parser", "_provider", "_sink")

    def __init__(self, ownership: Ownership, provider: Provider, call: Call, sink: Sink) -> None:
        """`provider` is the one that is asked.  A later attempt takes the place of an earlier one's."""
        self._ownership = ownership
        self._provider = provider
        self._call = call
        self._sink = sink.inner if isinstance(sink, ByProducts) else sink
        self._answer: bytearray | None = None
        self._parser: sse.Parser | None = None
        self._made: dict[str, None] = {}

    @property
    def inner(self) -> Sink:
        """Where the answer goes from here."""
        return self._sink

    async def head(self, status: int, headers: Headers) -> None:
        if status == 200:
            kind = next((value for name, value in headers if name == b"content-type"), b"")
            if b"event-stream" in kind:
                self._parser = sse.Parser(max_event_bytes=MAX_EVENT_BYTES)
            else:
                self._answer = bytearray()
        await self._sink.head(status, headers)

    async def body(self, data: bytes, *, more: bool) -> None:
        self._look(data)
        if not more:
            await self._note()
        await self._sink.body(data, more=more)

    def _look(self, data: bytes) -> None:
        if self._answer is not None:
            self._answer += data
            if len(self._answer) > MAX_ANSWER_BYTES:
                self._answer = None
        elif self._parser is not None:
            try:
                for frame in self._parser.feed(data):
                    self._take(frame.data)
            except (UpstreamMalformed, UpstreamTooLarge):
                self._parser = None

    async def _note(self) -> None:
        if self._answer is not None:
            self._take(bytes(self._answer))
        await self._ownership.note(self._provider, self._call, "containers", self._made)

    def _take(self, text: bytes) -> None:
        if b"container" not in text and b"file_id" not in text:
            return
        try:
            said: Any = msgspec.json.decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return
        for place in _PLACES:
            for each in strings_at(said, place):
                if len(self._made) < MAX_MADE:
                    self._made[each] = None
