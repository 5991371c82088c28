"""What the fake provider can be told to say, and what it can be told to do wrong.  Values only; `fake_provider` has the guide."""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Literal, TypeAlias

_WORDS = ("Toll", "houses", "stood", "where", "roads", "met;", "straße", "東京", "kept", "its", "bridge", "🌉", "and")


def words(count: int) -> str:
    """A text of so many words, always the same, some of them of more than one byte a character."""
    return " ".join(islice(cycle(_WORDS), count))


def pieces(text: str) -> Iterator[str]:
    """A text as a model streams it: each word with the blank before it.  Each piece counts as one token."""
    start = 0
    while start < len(text):
        end = text.find(" ", start + 1)
        end = len(text) if end < 0 else end
        yield text[start:end]
        start = end


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """Token counts as Tollhouse counts: totals hold their parts.  Each provider's own arithmetic is made from it."""

    input: int = 10
    """All prompt tokens, cached ones included."""
    cache_read: int = 0
    cache_write: int = 0
    output: int = 0
    """All generated tokens, reasoning included."""
    reasoning: int = 0

    def __add__(self, other: "Tokens") -> "Tokens":
        return Tokens(
            input=self.input + other.input,
            cache_read=self.cache_read + other.cache_read,
            cache_write=self.cache_write + other.cache_write,
            output=self.output + other.output,
            reasoning=self.reasoning + other.reasoning,
        )


NO_TOKENS = Tokens(input=0)


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call in an answer."""

    name: str
    arguments: str = "{}"
    """JSON text; empty for a call without arguments as Anthropic streams it."""


Finish: TypeAlias = Literal["stop", "length", "tool_calls", "content_filter", "refusal"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer made up in the form of the provider that is asked, streamed or whole as the request wants it."""

    text: str = ""
    thinking: str = ""
    """Shown where the provider shows reasoning; counted in any case."""
    refusal: str = ""
    """OpenAI's own field; Anthropic refuses with a `stop_reason`, so there this is text."""
    calls: tuple[Call, ...] = ()
    finish: Finish | None = None
    """`None`: `tool_calls` if there are calls, `stop` otherwise."""
    tokens: Tokens | None = None
    """What is reported and counted; `None`: 10 of input, and a token for each streamed piece."""

    @property
    def reason(self) -> Finish:
        """Why it ended."""
        return self.finish or ("tool_calls" if self.calls else "stop")

    @property
    def spent(self) -> Tokens:
        """The tokens that it costs."""
        if self.tokens is not None:
            return self.tokens
        thought = sum(1 for _ in pieces(self.thinking))
        said = sum(1 for text in (self.text, self.refusal) for _ in pieces(text))
        called = sum(1 for call in self.calls for _ in argument_pieces(call.arguments))
        return Tokens(output=thought + said + called, reasoning=thought)


def argument_pieces(arguments: str) -> Iterator[str]:
    """Arguments as a model streams them: six characters at a time."""
    for start in range(0, len(arguments), 6):
        yield arguments[start : start + 6]


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """A recorded exchange: its status, its headers (without those of its transfer) and its body, byte for byte."""

    name: str
    """`openai/openai-chat-stream-tool-call-7a4b7c`."""
    cuts: Literal["recorded", "whole", "bytes"] | int | tuple[int, ...] = "recorded"
    """How the body is cut into network writes: as it was read when recorded (whole where that was not kept), not at all,
    into single bytes, at random places of this seed, or at these byte offsets.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """An error in the provider's own shape."""

    status: int
    message: str = "The fake provider was told to fail."
    kind: str | None = None
    """The error's type; `None`: the one that goes with the status."""
    code: str | None = None
    retry_after: str | None = None
    """The header's value as it stands: seconds, or a date."""
    headers: tuple[tuple[str, str], ...] = ()
    in_ok_body: bool = False
    """The status line says 200 and only the body is an error, as OpenRouter does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Raw:
    """Any status, headers and body."""

    status: int = 200
    body: bytes = b""
    content_type: str | None = "application/json"
    headers: tuple[tuple[str, str], ...] = ()


HTML_PAGE = Raw(
    status=502,
    content_type="text/html",
    body=b"<html><head><title>502 Bad Gateway</title></head><body><center>nginx</center></body></html>",
)
EMPTY = Raw()
GARBAGE = Raw(body=bytes(range(256)))
BROKEN_JSON = Raw(body=b'{"id":"chatcmpl-1","choices":[{"index":0,"mess')


def whole_body(text: str) -> Raw:
    """A whole answer of OpenAI's form, also where a stream was asked for: a provider that cannot stream."""
    message = {"role": "assistant", "content": text}
    answer = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "fake",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7},
    }
    return Raw(body=json.dumps(answer).encode())


def redirect(location: str, status: int = 307) -> Raw:
    """An answer that sends the client elsewhere, which no client of a provider should follow with its key."""
    return Raw(status=status, headers=(("location", location),))


# --------------------------------------------------------------------------------------------- faults of what is said


@dataclass(frozen=True, slots=True)
class NoDone:
    """The stream's end marker (`[DONE]`, `message_stop`) is missing."""


@dataclass(frozen=True, slots=True)
class NoUsage:
    """Usage is nowhere, although it was asked for."""


@dataclass(frozen=True, slots=True)
class NoFinish:
    """The stream ends in good manner, but nothing says why the answer ended: it must be taken for cut."""


@dataclass(frozen=True, slots=True)
class DoubledFinish:
    """The finish reason comes twice (`glm/glm-chat-stream-tool-call-3cd78f`)."""


@dataclass(frozen=True, slots=True)
class ErrorAfter:
    """After so many events, an error event in the provider's shape; then the stream ends."""

    events: int
    error: Failure = Failure(status=529, message="Overloaded")


@dataclass(frozen=True, slots=True)
class Inserted:
    """Bytes that do not belong there, after so many events."""

    events: int
    data: bytes

    @classmethod
    def broken_json(cls, events: int) -> "Inserted":
        """An event whose data is cut JSON."""
        return cls(events, b'data: {"choices":[{"index":0,"del\n\n')

    @classmethod
    def garbage(cls, events: int) -> "Inserted":
        """Bytes of no protocol, in an event."""
        return cls(events, b"data: \xff\xfe\x00\x01garbage\n\n")

    @classmethod
    def oversized(cls, events: int, size_bytes: int) -> "Inserted":
        """One event of that size."""
        return cls(events, b'data: {"padding":"' + b"x" * size_bytes + b'"}\n\n')


# ------------------------------------------------------------------------------------------ faults of how it is sent

Position: TypeAlias = Literal["before_head", "in_head"] | int
"""Before the head, in the middle of it, or after so many pieces of the body (events of a stream) and half of the next."""


@dataclass(frozen=True, slots=True)
class Cut:
    """The connection is closed (FIN) there."""

    at: Position
    when: asyncio.Event | None = None
    """If given, what came before is sent and the connection is closed at the test's word."""


@dataclass(frozen=True, slots=True)
class Reset:
    """The connection is reset (RST) there.  Without `when`, the client may lose what it had not read yet."""

    at: Position
    when: asyncio.Event | None = None


@dataclass(frozen=True, slots=True)
class Stall:
    """Nothing comes from there on, until the test's word, or for good."""

    at: Position
    until: asyncio.Event | None = None


@dataclass(frozen=True, slots=True)
class Trickle:
    """Every byte comes in a write of its own."""


Fault: TypeAlias = NoDone | NoUsage | NoFinish | DoubledFinish | ErrorAfter | Inserted | Cut | Reset | Stall | Trickle
Plain: TypeAlias = Answer | Replay | Failure | Raw


@dataclass(frozen=True, slots=True)
class Faulty:
    """A reply with something wrong about it, or several things."""

    reply: Plain
    faults: tuple[Fault, ...]


def faulty(reply: Plain, *faults: Fault) -> Faulty:
    """A reply with these faults."""
    return Faulty(reply, faults)


Reply: TypeAlias = Plain | Faulty


# ---------------------------------------------------------------------------------------------- what goes on the wire

PieceKind: TypeAlias = Literal["content", "finish", "usage", "finish_usage", "done", "comment", "error", "body"]


@dataclass(frozen=True, slots=True)
class Piece:
    """One event of a stream, or a whole body."""

    data: bytes
    kind: PieceKind = "content"
    tokens: int = 0
    """Generated tokens that it delivers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """A reply in a provider's form, before faults of sending."""

    status: int
    headers: tuple[tuple[str, str], ...]
    pieces: tuple[Piece, ...]
    streamed: bool
    tokens: Tokens = NO_TOKENS
    """What the provider bills for it."""
