"""The messages of `gateway.proto`, each with the canonical value that it stands for.

`tests/dialects/test_protobuf_messages.py` holds this table to the `.proto` file and to the canonical model: a field that one of
them gains and the others do not have is found there.
"""

from typing import Any, Final, get_args

import msgspec

from tollhouse.chat.embedding import EmbeddingRequest, Embeddings, EmbeddingTask
from tollhouse.chat.events import (
    Cited,
    Delta,
    Ended,
    Event,
    Finished,
    LogprobsReported,
    PartClosed,
    PartOpened,
    Pinged,
    Signed,
    Started,
    UsageReported,
)
from tollhouse.chat.model import (
    Audio,
    CacheMarker,
    Choice,
    Citation,
    Document,
    Extra,
    FinishReason,
    Foreign,
    ForeignTool,
    Image,
    Inline,
    JsonObject,
    JsonSchema,
    Message,
    Opaque,
    Part,
    Reasoning,
    RedactedThinking,
    Refusal,
    Remote,
    Request,
    Response,
    Source,
    StoredFile,
    Text,
    Thinking,
    TokenLogprob,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from tollhouse.chat.usage import Usage
from tollhouse.dialects.protobuf.reports import (
    Attempted,
    Failure,
    Limits,
    Listed,
    Models,
    ServerInfo,
    Settlement,
    TokenCount,
    Trouble,
)
from tollhouse.dialects.protobuf.shapes import (
    FLAG,
    INT32,
    INT64,
    JSON,
    JSON_FIELDS,
    JSON_OBJECT,
    OCTETS,
    REAL,
    REALS,
    REQUIRED,
    WORDS,
    Fault,
    Many,
    OneOf,
    Plain,
    Record,
    Shape,
    Via,
    WithMedia,
    Word,
    Wrapped,
)

NAME: Final = "tollhouse"
"""The wire format's name, for what only it knows."""

# ---------------------------------------------------------------------------------------------------------------- parts

EXTRA: Final = Record("Extra", Extra, dialect=WORDS, fields=JSON_FIELDS)
CACHE: Final = Record("CacheMarker", CacheMarker, ttl=WORDS)
OPAQUE: Final = Record("Opaque", Opaque, value=WORDS, home=WORDS)
SOURCE: Final[OneOf[Source]] = OneOf(
    "Source",
    {
        "inline": (Inline, WithMedia(Record("Inline", Inline, media_type=WORDS, data=WORDS))),
        "remote": (Remote, Record("Remote", Remote, url=WORDS)),
        "file": (StoredFile, Record("StoredFile", StoredFile, id=WORDS, dialect=WORDS)),
    },
)
CITATION: Final = Record("Citation", Citation, url=WORDS, title=WORDS, quote=WORDS, start=INT64, end=INT64, extra=EXTRA)
TEXT: Final = Record("Text", Text, text=WORDS, cache=CACHE, citations=Many(CITATION), extra=EXTRA, signature=OPAQUE)
IMAGE: Final = Record("Image", Image, source=SOURCE, detail=WORDS, cache=CACHE, extra=EXTRA)
DOCUMENT: Final = Record(
    "Document", Document, source=SOURCE, title=WORDS, context=WORDS, cite=FLAG, cache=CACHE, extra=EXTRA
)
AUDIO: Final = WithMedia(Record("Audio", Audio, data=WORDS, format=WORDS, extra=EXTRA))
THINKING: Final = Record("Thinking", Thinking, text=WORDS, signature=OPAQUE, extra=EXTRA)
REDACTED_THINKING: Final = Record("RedactedThinking", RedactedThinking, data=OPAQUE)
REFUSAL: Final = Record("Refusal", Refusal, text=WORDS)
TOOL_CALL: Final = Record(
    "ToolCall", ToolCall, id=WORDS, name=WORDS, arguments=WORDS, cache=CACHE, custom=FLAG, extra=EXTRA, signature=OPAQUE
)
FOREIGN: Final = Record("Foreign", Foreign, dialect=WORDS, kind=WORDS, raw=JSON_OBJECT)

Answered = Text | Image | Document | Foreign
ANSWERED: Final[OneOf[Answered]] = OneOf(
    "Part",
    {"text": (Text, TEXT), "image": (Image, IMAGE), "document": (Document, DOCUMENT), "foreign": (Foreign, FOREIGN)},
)
"""What may stand in the result of a tool."""
TOOL_RESULT: Final = Record(
    "ToolResult", ToolResult, call_id=WORDS, content=Many(ANSWERED), is_error=FLAG, cache=CACHE, extra=EXTRA
)
_PARTS: Final[dict[str, tuple[type, Shape[Any]]]] = {
    "text": (Text, TEXT),
    "image": (Image, IMAGE),
    "document": (Document, DOCUMENT),
    "audio": (Audio, AUDIO),
    "thinking": (Thinking, THINKING),
    "redacted_thinking": (RedactedThinking, REDACTED_THINKING),
    "refusal": (Refusal, REFUSAL),
    "tool_call": (ToolCall, TOOL_CALL),
    "tool_result": (ToolResult, TOOL_RESULT),
    "foreign": (Foreign, FOREIGN),
}


def _unknown_part(kind: str, content: Plain) -> Foreign:
    try:
        raw = msgspec.json.encode(content if isinstance(content, dict) else {})
    except (ValueError, OverflowError):
        raw = b"{}"
    return Foreign(NAME, kind, msgspec.Raw(raw))


PART: Final[OneOf[Part]] = OneOf("Part", _PARTS)
ANSWER_PART: Final[OneOf[Part]] = OneOf("Part", _PARTS, unknown=_unknown_part)
"""A part of an answer: a newer gateway's new kind of part must not cost the rest of it."""

# --------------------------------------------------------------------------------------------------------------- request

MESSAGE: Final = Record(
    "Message",
    Message,
    role=Word("system", "developer", "user", "assistant", "tool"),
    parts=Many(PART),
    name=WORDS,
    extra=EXTRA,
)
FUNCTION_TOOL: Final = Record(
    "FunctionTool",
    Tool,
    name=WORDS,
    description=WORDS,
    schema=JSON,
    strict=FLAG,
    custom=FLAG,
    cache=CACHE,
    extra=EXTRA,
)
FOREIGN_TOOL: Final = Record("ForeignTool", ForeignTool, dialect=WORDS, kind=WORDS, raw=JSON_OBJECT)
TOOL: Final[OneOf[Tool | ForeignTool]] = OneOf(
    "Tool", {"function": (Tool, FUNCTION_TOOL), "foreign": (ForeignTool, FOREIGN_TOOL)}
)
TOOL_CHOICE: Final = Record("ToolChoice", ToolChoice, mode=Word("auto", "none", "required", "named"), name=WORDS)
RESPONSE_FORMAT: Final[OneOf[JsonObject | JsonSchema]] = OneOf(
    "ResponseFormat",
    {
        "json_object": (JsonObject, Record("JsonObject", JsonObject)),
        "json_schema": (
            JsonSchema,
            Record("JsonSchema", JsonSchema, schema=JSON, name=WORDS, description=WORDS, strict=FLAG),
        ),
    },
)
REASONING: Final = Record(
    "Reasoning",
    Reasoning,
    mode=Word("enabled", "disabled", "adaptive"),
    effort=WORDS,
    budget_tokens=INT64,
    display=WORDS,
)
REQUEST: Final = Record(
    "ChatRequest",
    Request,
    model=WORDS,
    messages=Many(MESSAGE),
    tools=Many(TOOL),
    tool_choice=TOOL_CHOICE,
    parallel_tool_calls=FLAG,
    max_output_tokens=INT64,
    temperature=REAL,
    top_p=REAL,
    top_k=INT64,
    stop=Many(WORDS),
    seed=INT64,
    presence_penalty=REAL,
    frequency_penalty=REAL,
    choices=INT32,
    logprobs=FLAG,
    top_logprobs=INT32,
    response_format=RESPONSE_FORMAT,
    reasoning=REASONING,
    stream=FLAG,
    user=WORDS,
    service_tier=WORDS,
    cache=CACHE,
    prompt_cache_key=WORDS,
    extra=EXTRA,
)
"""Without what only says how the client's own dialect wants its answer (`include_usage`, `legacy_functions`, `echo`)."""

# ---------------------------------------------------------------------------------------------------------------- answer

USAGE: Final = Record(
    "Usage",
    Usage,
    input_tokens=INT64,
    cache_read_tokens=INT64,
    cache_write_tokens=INT64,
    cache_write_1h_tokens=INT64,
    output_tokens=INT64,
    reasoning_tokens=INT64,
    input_audio_tokens=INT64,
    output_audio_tokens=INT64,
    source=Word("reported", "rebuilt", "estimated", unknown="none"),
)
FINISH: Final[Word[FinishReason]] = Word(
    "stop",
    "length",
    "tool_calls",
    "stop_sequence",
    "content_filter",
    "refusal",
    "pause",
    "context_exceeded",
    "error",
    "other",
    unknown="other",
)


class _Logprob:
    """`TokenLogprob`, which holds others of its kind."""

    message: Final = "TokenLogprob"
    blank: Final = REQUIRED

    def write(self, value: TokenLogprob) -> Plain:
        return _logprob_record().write(value)

    def read(self, plain: Plain) -> TokenLogprob:
        # The model nests one level, and what nests deeper has no meaning.
        if isinstance(plain, dict):
            for other in tops if isinstance(tops := plain.get("top"), list) else ():
                if isinstance(other, dict) and other.get("top"):
                    raise Fault("must not hold others of its kind in turn.").under("top")
        return _logprob_record().read(plain)


TOKEN_LOGPROB: Final = _Logprob()
_LOGPROB: Final = Record("TokenLogprob", TokenLogprob, token=WORDS, logprob=REAL, bytes=OCTETS, top=Many(TOKEN_LOGPROB))


def _logprob_record() -> Record[TokenLogprob]:
    return _LOGPROB


CHOICE: Final = Record(
    "Choice",
    Choice,
    index=INT32,
    parts=Many(ANSWER_PART),
    finish=FINISH,
    finish_detail=WORDS,
    logprobs=Wrapped("Logprobs", "tokens", Many(TOKEN_LOGPROB)),
    extra=EXTRA,
)
RESPONSE: Final = Record(
    "ChatResponse",
    Response,
    id=WORDS,
    model=WORDS,
    choices=Many(CHOICE),
    created=INT64,
    usage=USAGE,
    service_tier=WORDS,
    extra=EXTRA,
)
"""Without the settlement, which is put in at the very end."""
ATTEMPT: Final = Record(
    "Attempt", Attempted, provider=WORDS, model=WORDS, outcome=WORDS, status=INT32, duration_us=INT64
)
SETTLEMENT: Final = Record(
    "Settlement",
    Settlement,
    request_id=WORDS,
    outcome=WORDS,
    usage=USAGE,
    cost_nano_usd=INT64,
    duration_us=INT64,
    first_byte_us=INT64,
    attempts=Many(ATTEMPT),
    receipt=WORDS,
    provider=WORDS,
    model=WORDS,
    cache=WORDS,
)
TROUBLE: Final = Record(
    "Error",
    Trouble,
    code=WORDS,
    message=WORDS,
    hint=WORDS,
    param=WORDS,
    status=INT32,
    retry_after_seconds=REAL,
    request_id=WORDS,
    kind=WORDS,
    provider_code=WORDS,
    suggestions=Many(WORDS),
)
FAILURE: Final = Record("Failure", Failure, error=TROUBLE, settlement=SETTLEMENT)

# ---------------------------------------------------------------------------------------------------------------- stream


class Unknown(msgspec.Struct, frozen=True):
    """An event that only a newer peer knows.  It is passed over."""


Said = Event | Trouble | Settlement | Unknown
"""What one event of a stream says.  A canonical `Failed` travels as a `Trouble`."""


EVENT: Final[OneOf[Any]] = OneOf(
    "ChatEvent",
    {
        "started": (
            Started,
            Record("Started", Started, id=WORDS, model=WORDS, created=INT64, service_tier=WORDS, usage=USAGE),
        ),
        "part_opened": (
            PartOpened,
            Record("PartOpened", PartOpened, index=INT32, part=ANSWER_PART, choice=INT32),
        ),
        "delta": (Delta, Record("Delta", Delta, index=INT32, text=WORDS, choice=INT32)),
        "signed": (Signed, Record("Signed", Signed, index=INT32, signature=OPAQUE, choice=INT32)),
        "cited": (Cited, Record("Cited", Cited, index=INT32, citation=CITATION, choice=INT32)),
        "part_closed": (PartClosed, Record("PartClosed", PartClosed, index=INT32, choice=INT32)),
        "logprobs": (
            LogprobsReported,
            Record("LogprobsReported", LogprobsReported, tokens=Many(TOKEN_LOGPROB), choice=INT32),
        ),
        "finished": (Finished, Record("Finished", Finished, reason=FINISH, detail=WORDS, choice=INT32)),
        "usage": (UsageReported, Via(USAGE, lambda event: event.usage, UsageReported)),
        "ping": (Pinged, Record("Pinged", Pinged)),
        "failed": (Trouble, TROUBLE),
        "ended": (Ended, Record("Ended", Ended)),
        "settled": (Settlement, SETTLEMENT),
    },
    unknown=lambda _kind, _content: Unknown(),
)
"""Writes and reads a `Said`."""

# --------------------------------------------------------------------------------------------------------- other methods


class _EmbedInput:
    """A text, or tokens."""

    blank: Final = REQUIRED
    of: Final[OneOf[Any]] = OneOf(
        "EmbedInput", {"text": (str, WORDS), "tokens": (tuple, Wrapped("TokenIds", "ids", Many(INT64)))}
    )

    def write(self, value: str | tuple[int, ...]) -> Plain:
        return self.of.write(value)

    def read(self, plain: Plain) -> str | tuple[int, ...]:
        if isinstance(plain, str):  # in JSON a text may stand for itself
            return plain
        found: str | tuple[int, ...] = self.of.read(plain)
        return found


EMBED_REQUEST: Final = Record(
    "EmbedRequest",
    EmbeddingRequest,
    model=WORDS,
    inputs=Many(_EmbedInput()),
    dimensions=INT64,
    user=WORDS,
    task=Word(*get_args(EmbeddingTask)),
    title=WORDS,
    extra=EXTRA,
)
"""Without `encoding`, which only says how OpenAI's clients want their vectors."""
EMBEDDINGS: Final = Record(
    "EmbedResponse",
    Embeddings,
    model=WORDS,
    vectors=Many(Wrapped("Embedding", "values", REALS)),
    usage=USAGE,
)

TOKEN_COUNT: Final = Record("TokenCount", TokenCount, input_tokens=INT64, is_estimate=FLAG)
LISTED: Final = Record(
    "Model",
    Listed,
    id=WORDS,
    owner=WORDS,
    created=INT64,
    display_name=WORDS,
    context_tokens=INT64,
    max_output_tokens=INT64,
)
MODELS: Final = Record("ListModelsResponse", Models, models=Many(LISTED))
LIMITS: Final = Record(
    "Limits",
    Limits,
    requests_per_minute=INT64,
    tokens_per_minute=INT64,
    concurrent=INT64,
    request_bytes=INT64,
    call_seconds=REAL,
)
SERVER_INFO: Final = Record(
    "ServerInfo",
    ServerInfo,
    name=WORDS,
    version=WORDS,
    protocols=Many(WORDS),
    media_types=Many(WORDS),
    tenant=WORDS,
    key=WORDS,
    limits=LIMITS,
    models=Many(LISTED),
    default_model=WORDS,
)
