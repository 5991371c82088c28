"""A streamed answer as events.

The grammar, for each choice (answers with n > 1 interleave by choice):

    Started  ( PartOpened Delta* PartClosed )*  Finished  …  Ended

- `Started` once, first.  `Ended` or `Failed` once, last; nothing comes after.  A stream that stops without either is cut.
- Parts are numbered 0, 1, 2, … within their choice and one is open at a time; `Delta`, `Signed` and `Cited` name the open one.
- `Finished` once per choice that finishes, with no part open; no part opens after it.
- `UsageReported` anywhere after `Started` and before `Ended`; counts are cumulative and the last one holds.
- `Pinged` and `LogprobsReported` anywhere between `Started` and the end.
- `Ended` needs every opened choice finished.

`tollhouse.chat.grammar` is the checker; decoders must produce it and encoders may rely on it.
"""

from typing import ClassVar

import msgspec

from tollhouse.chat.model import Citation, FinishReason, Opaque, Part, TokenLogprob
from tollhouse.chat.usage import Usage


class Started(msgspec.Struct, frozen=True, kw_only=True):
    """The answer begins."""

    id: str
    model: str
    created: int | None = None
    service_tier: str | None = None
    usage: Usage | None = None
    """What the provider says of the prompt before it answers (Anthropic)."""


class PartOpened(msgspec.Struct, frozen=True):
    """A part begins.  `part` is its value so far: mostly empty text; whole for parts that do not stream."""

    index: int
    part: Part
    choice: int = 0


class Delta(msgspec.Struct, frozen=True):
    """More of the open part: of its text (`Text`, `Thinking`, `Refusal`) or of its JSON arguments.

    Arguments belong to `ToolCall` parts and to `Foreign` parts whose input streams (server-side tools).
    """

    index: int
    text: str
    choice: int = 0


class Signed(msgspec.Struct, frozen=True):
    """The signature of the open `Thinking`, `Text` or `ToolCall` part."""

    index: int
    signature: Opaque
    choice: int = 0


class Cited(msgspec.Struct, frozen=True):
    """A citation for the open `Text` part."""

    index: int
    citation: Citation
    choice: int = 0


class PartClosed(msgspec.Struct, frozen=True):
    """The part is whole."""

    index: int
    choice: int = 0


class LogprobsReported(msgspec.Struct, frozen=True):
    """Log-probabilities of tokens just sent."""

    tokens: tuple[TokenLogprob, ...]
    choice: int = 0


class Finished(msgspec.Struct, frozen=True):
    """A choice is done, and why."""

    reason: FinishReason
    detail: str | None = None
    choice: int = 0


class UsageReported(msgspec.Struct, frozen=True):
    """Token counts so far; the last report holds."""

    usage: Usage


class Pinged(msgspec.Struct, frozen=True):
    """The provider shows that it is alive."""

    kind: ClassVar[str] = "ping"


class Failed(msgspec.Struct, frozen=True, kw_only=True):
    """The provider broke off with an error inside the stream.  The last event."""

    message: str
    kind: str | None = None
    """The provider's own error type, e.g. `overloaded_error`."""
    provider_code: str | None = None
    status: int | None = None
    """The HTTP status that the provider gives for it, where it does."""


class Ended(msgspec.Struct, frozen=True):
    """The answer is complete."""

    kind: ClassVar[str] = "end"


Event = (
    Started
    | PartOpened
    | Delta
    | Signed
    | Cited
    | PartClosed
    | LogprobsReported
    | Finished
    | UsageReported
    | Pinged
    | Failed
    | Ended
)
