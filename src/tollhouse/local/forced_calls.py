"""The way to a model that knows no tools: a transport that makes demanded tool calls of it, and folds its answers back.

What is sent goes through `tollhouse.local.tools` first, and so does what comes back, whole or streamed.  Whoever sends need
not know: it asks for a tool call in OpenAI's words and gets one.
"""

from dataclasses import dataclass
from typing import Final

import msgspec

from tollhouse.chat.sse import Frame, Parser
from tollhouse.errors import UpstreamTooLarge
from tollhouse.local.tools import Fold, rewrite_request
from tollhouse.upstream.content import PassedOn, read_all
from tollhouse.upstream.transport import Deadlines, Incoming, Outgoing, Transport

CHAT_PATH: Final = b"/chat/completions"
"""How the target of a conversation ends; other requests and their answers pass as they are."""
MAX_WHOLE_BYTES: Final = 16 * 1024 * 1024
"""Bound on a whole answer that is read in pieces; `read_all` has its caller's.  A call is far smaller: a slot's context."""


@dataclass(frozen=True, slots=True)
class ForcedCalls:
    """A `Transport` to one embedded model whose chat template knows no tools.  It has no state of its own."""

    transport: Transport
    """What it goes through; the owner of that closes it, and `aclose` here does the same."""

    async def send(self, request: Outgoing, deadlines: Deadlines) -> Incoming:
        """See `Transport.send`.  Raises `BadRequest`, with nothing sent, for a demand that no tool of the request meets."""
        if not request.target.endswith(CHAT_PATH):
            return await self.transport.send(request, deadlines)
        body, fold = rewrite_request(request.body)
        incoming = await self.transport.send(msgspec.structs.replace(request, body=body), deadlines)
        if fold is None or incoming.status != 200:
            return incoming
        where = request.address.where
        if (incoming.header(b"content-type") or b"").lstrip().lower().startswith(b"text/event-stream"):
            return FoldedStream(incoming, fold, where)
        return FoldedAnswer(incoming, fold)

    async def aclose(self) -> None:
        """See `Transport.aclose`."""
        await self.transport.aclose()


class FoldedAnswer(PassedOn):
    """A whole answer whose forced JSON is a tool call again."""

    __slots__ = ("_fold", "_is_read")

    def __init__(self, incoming: Incoming, fold: Fold) -> None:
        super().__init__(incoming)
        self._fold = fold
        self._is_read = False

    async def read_some(self) -> bytes:
        """See `Incoming.read_some`; there is one piece, once all of it has come."""
        if self._is_read:
            return b""
        return await self.read_all(MAX_WHOLE_BYTES)

    async def read_all(self, limit_bytes: int) -> bytes:
        """See `Incoming.read_all`; the limit is on what came."""
        body = await self._incoming.read_all(limit_bytes)
        self._is_read = True
        return self._fold.response(body)


class FoldedStream(PassedOn):
    """A streamed answer whose forced JSON is a tool call again, event by event."""

    __slots__ = ("_failure", "_is_read", "_parser", "_stream", "_where")

    def __init__(self, incoming: Incoming, fold: Fold, where: str) -> None:
        super().__init__(incoming)
        self._stream = fold.stream()
        self._parser = Parser()
        self._where = where
        self._is_read = False
        self._failure: UpstreamTooLarge | None = None

    async def read_some(self) -> bytes:
        """See `Incoming.read_some`.  Also raises `UpstreamTooLarge` for an event over the parser's bound, and closes."""
        while not self._is_read:
            if self._failure is not None:
                raise self._failure
            piece = await self._incoming.read_some()
            self._is_read = not piece
            try:
                frames = self._parser.feed(piece) if piece else self._parser.close()
            except UpstreamTooLarge as error:
                self._failure = error
                self.close()
                raise
            if out := b"".join(map(self._folded, frames)):
                return out
        return b""

    async def read_all(self, limit_bytes: int) -> bytes:
        """See `Incoming.read_all`; the limit is on folded bytes."""
        return await read_all(self, limit_bytes, self._where)

    def _folded(self, frame: Frame) -> bytes:
        if frame.is_bare:
            return frame.data + b"\n\n"  # no event at all: whoever reads it must see that
        name = b"event: " + frame.event + b"\n" if frame.event else b""
        payloads = self._stream.feed(frame.data)
        return b"".join(name + b"data: " + payload.replace(b"\n", b"\ndata: ") + b"\n\n" for payload in payloads)
