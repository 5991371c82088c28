"""The canonical conversation.

Every dialect decodes to these values and encodes from them, so four dialects need four translations and not sixteen.  The
rule for what stands here: an idea that two dialects share has a field; what only one dialect knows is kept verbatim
(`Extra`, `Foreign`, `ForeignTool`) with that dialect's name, so that it survives the way back into its own dialect and is
listed in the receipt on the way into another.

Values are frozen.  JSON that we only carry (schemas, arguments, unknown fields) stays raw bytes or text: it is neither
parsed nor printed again.
"""

from collections.abc import Mapping
from typing import Literal

import msgspec

from tollhouse.chat.usage import Usage


class Extra(msgspec.Struct, frozen=True):
    """Fields that only one dialect knows, kept as they came."""

    dialect: str
    fields: Mapping[str, msgspec.Raw]


class CacheMarker(msgspec.Struct, frozen=True):
    """A prompt-cache breakpoint: everything up to and with the part that carries it may be cached."""

    ttl: str | None = None
    """`5m` or `1h`; `None` is the provider's default."""


class Opaque(msgspec.Struct, frozen=True):
    """A value that only the provider which made it can read: a signature over reasoning, or reasoning encrypted."""

    value: str
    home: str
    """That provider's type (`anthropic`, `google`, …); sent to any other it is noise, or an error."""


# ---------------------------------------------------------------------------------------------------------------- parts


class Inline(msgspec.Struct, frozen=True, tag="inline"):
    """Media inside the request."""

    media_type: str
    data: str
    """Base64 as it came, not checked and not decoded; plain text when `media_type` is `text/plain` in a `Document`."""


class Remote(msgspec.Struct, frozen=True, tag="remote"):
    """Media that the provider fetches.  The gateway never does."""

    url: str


class StoredFile(msgspec.Struct, frozen=True, tag="file"):
    """A file uploaded to one provider before; its id means nothing to another."""

    id: str
    dialect: str


Source = Inline | Remote | StoredFile


class Citation(msgspec.Struct, frozen=True, kw_only=True):
    """Where a stretch of the answer comes from."""

    url: str | None = None
    title: str | None = None
    quote: str | None = None
    """The cited text of the source."""
    start: int | None = None
    """First character in the answer's text that this supports, where the dialect says it."""
    end: int | None = None
    extra: Extra | None = None
    """The whole original object, so that its own dialect gets it back unchanged."""


class Text(msgspec.Struct, frozen=True, tag="text"):
    """Words."""

    text: str
    cache: CacheMarker | None = None
    citations: tuple[Citation, ...] = ()
    extra: Extra | None = None
    signature: Opaque | None = None
    """Over the reasoning that led here (Gemini's thought signatures)."""


class Image(msgspec.Struct, frozen=True, tag="image"):
    """A picture."""

    source: Source
    detail: str | None = None
    """OpenAI's `low`, `high`, `auto`."""
    cache: CacheMarker | None = None
    extra: Extra | None = None


class Document(msgspec.Struct, frozen=True, tag="document"):
    """A PDF or a text document."""

    source: Source
    title: str | None = None
    """A title or file name."""
    context: str | None = None
    cite: bool = False
    """Whether the answer shall cite it."""
    cache: CacheMarker | None = None
    extra: Extra | None = None


class Audio(msgspec.Struct, frozen=True, tag="audio"):
    """A sound recording."""

    data: str
    """Base64."""
    format: str
    """`wav`, `mp3`, …"""
    extra: Extra | None = None


class Thinking(msgspec.Struct, frozen=True, tag="thinking"):
    """Reasoning that the model shows."""

    text: str
    signature: Opaque | None = None
    """To be sent back unchanged to whom signed it."""
    extra: Extra | None = None


class RedactedThinking(msgspec.Struct, frozen=True, tag="redacted_thinking"):
    """Reasoning that came encrypted, to be sent back unchanged."""

    data: Opaque


class Refusal(msgspec.Struct, frozen=True, tag="refusal"):
    """The model's words for why it will not answer, where a dialect keeps them apart from the text."""

    text: str


class ToolCall(msgspec.Struct, frozen=True, tag="tool_call"):
    """The model calls one of the client's tools."""

    id: str
    name: str
    arguments: str
    """JSON text exactly as generated.  May be empty (means `{}`) or cut off by a length limit."""
    cache: CacheMarker | None = None
    custom: bool = False
    """A free-form call (OpenAI's `custom` tools): `arguments` is plain text, not JSON."""
    extra: Extra | None = None
    signature: Opaque | None = None
    """Over the reasoning that led to this call (Gemini's thought signatures)."""


class ToolResult(msgspec.Struct, frozen=True, tag="tool_result"):
    """What the client's tool answered."""

    call_id: str
    content: "tuple[Text | Image | Document | Foreign, ...]"
    is_error: bool = False
    cache: CacheMarker | None = None
    extra: Extra | None = None


class Foreign(msgspec.Struct, frozen=True, tag="foreign"):
    """A part that only its own dialect understands: server-side tools and their results, compaction, …"""

    dialect: str
    kind: str
    """Its `type` on the wire."""
    raw: msgspec.Raw
    """The whole object."""


Part = Text | Image | Document | Audio | Thinking | RedactedThinking | Refusal | ToolCall | ToolResult | Foreign

Role = Literal["system", "developer", "user", "assistant", "tool"]


class Message(msgspec.Struct, frozen=True):
    """One turn.

    Tool results are `ToolResult` parts: in a `tool` message (one result each, as OpenAI has it) or in a `user` message
    (any number, beside other parts, as Anthropic has it).  Encoders regroup them.
    """

    role: Role
    parts: tuple[Part, ...]
    name: str | None = None
    extra: Extra | None = None


# ---------------------------------------------------------------------------------------------------------------- tools


class Tool(msgspec.Struct, frozen=True, kw_only=True):
    """A function of the client's that the model may call."""

    name: str
    description: str | None = None
    schema: msgspec.Raw | None = None
    """JSON schema of the arguments, verbatim; `None` when not given (no arguments)."""
    strict: bool | None = None
    custom: bool = False
    """A free-form tool (OpenAI's `custom`): its input is plain text.  `schema` has it as an object with one string,
    `input`, for dialects without the idea."""
    cache: CacheMarker | None = None
    extra: Extra | None = None


class ForeignTool(msgspec.Struct, frozen=True):
    """A tool that one provider runs itself or that only one dialect can describe (web search, code execution, …)."""

    dialect: str
    kind: str
    raw: msgspec.Raw


class ToolChoice(msgspec.Struct, frozen=True):
    """Whether the model must, may or must not call tools."""

    mode: Literal["auto", "none", "required", "named"]
    name: str | None = None
    """The tool of `named`."""


class JsonObject(msgspec.Struct, frozen=True, tag="json_object"):
    """The answer shall be some JSON object."""


class JsonSchema(msgspec.Struct, frozen=True, kw_only=True, tag="json_schema"):
    """The answer shall be JSON of this schema."""

    schema: msgspec.Raw
    name: str = "answer"
    description: str | None = None
    strict: bool | None = None


class Reasoning(msgspec.Struct, frozen=True, kw_only=True):
    """How much the model shall think, in whichever terms the client used; encoders convert and say so."""

    mode: Literal["enabled", "disabled", "adaptive"] | None = None
    effort: str | None = None
    """`none`, `minimal`, `low`, `medium`, `high`, `xhigh`, `max`."""
    budget_tokens: int | None = None
    display: str | None = None
    """Anthropic's `summarized` or `omitted`."""


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One call for an answer."""

    model: str
    messages: tuple[Message, ...]
    """In order, leading system and developer messages included (Anthropic's top-level `system` comes first)."""
    tools: tuple[Tool | ForeignTool, ...] = ()
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    max_output_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    choices: int = 1
    """How many answers (`n`)."""
    logprobs: bool = False
    top_logprobs: int | None = None
    response_format: JsonObject | JsonSchema | None = None
    reasoning: Reasoning | None = None
    stream: bool = False
    include_usage: bool = False
    """Whether the client of a stream asked for a usage chunk (OpenAI); the gateway always asks the provider."""
    user: str | None = None
    """The client's own id of its end user."""
    service_tier: str | None = None
    cache: CacheMarker | None = None
    """Anthropic's top-level `cache_control`: mark the last cacheable part."""
    prompt_cache_key: str | None = None
    legacy_functions: bool = False
    """The client speaks OpenAI's old `functions`; the answer must use `function_call`."""
    echo: Extra | None = None
    """Fields of the request, as they came, that its own dialect repeats in the answer; no provider need see them."""
    extra: Extra | None = None


# ------------------------------------------------------------------------------------------------------------- response

FinishReason = Literal[
    "stop",  # the model was done
    "length",  # the output limit
    "tool_calls",  # the client shall run tools
    "stop_sequence",  # one of the client's stop strings; dialects without the idea say `stop`
    "content_filter",  # the provider withheld the answer
    "refusal",  # the model declined
    "pause",  # Anthropic's `pause_turn`: send the answer back to go on
    "context_exceeded",  # the context window is full
    "error",  # the provider gave up in mid-answer
    "other",  # a reason we do not know; the dialect's own word is in `Choice.finish_detail`
]


class TokenLogprob(msgspec.Struct, frozen=True):
    """One token and how likely it was (natural logarithm)."""

    token: str
    logprob: float
    bytes: tuple[int, ...] | None = None
    top: "tuple[TokenLogprob, ...]" = ()


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """One answer."""

    index: int = 0
    parts: tuple[Part, ...] = ()
    finish: FinishReason | None = None
    finish_detail: str | None = None
    """The stop string that was hit, or the dialect's own word for an `other` reason."""
    logprobs: tuple[TokenLogprob, ...] | None = None
    extra: Extra | None = None


class Response(msgspec.Struct, frozen=True, kw_only=True):
    """A whole answer."""

    id: str
    model: str
    choices: tuple[Choice, ...]
    created: int | None = None
    """Seconds since the epoch, where the dialect says it."""
    usage: Usage = Usage()
    service_tier: str | None = None
    extra: Extra | None = None
