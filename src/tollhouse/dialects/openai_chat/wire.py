"""The JSON of Chat Completions as types, and how it is read.

Only the fields that we use are declared; msgspec skips the rest without building objects.  Everything that some provider
leaves out or sends as `null` is optional.  Bytes that are not JSON, or JSON of another shape, become `UpstreamMalformed`; the
message names the place, never the content.
"""

import json
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

import msgspec

from tollhouse.errors import UpstreamMalformed

NAME: Final = "openai_chat"

if TYPE_CHECKING:
    Json: TypeAlias = bool | int | float | str | list["Json"] | dict[str, "Json"] | None
    """A plain JSON value."""
else:
    # msgspec cannot follow a recursive alias; what it reads as Any is a plain JSON value all the same.
    Json = Any

T = TypeVar("T")


class FunctionPiece(msgspec.Struct, gc=False):
    """A function call or a piece of one."""

    name: str | None = None
    arguments: str | dict[str, Json] | None = None
    """JSON text; some servers send the object itself."""


class CustomPiece(msgspec.Struct, gc=False):
    """A free-form call or a piece of one."""

    name: str | None = None
    input: str | None = None


class ToolPiece(msgspec.Struct, gc=False):
    """An entry of `tool_calls`."""

    index: int | None = None
    id: str | None = None
    type: str | None = None
    function: FunctionPiece | None = None
    custom: CustomPiece | None = None
    extra_content: dict[str, Json] | None = None
    """Google's place for `thought_signature`."""


class Delta(msgspec.Struct, gc=False):
    """`delta` of a chunk and `message` of a whole answer: the fields are the same."""

    content: str | list[Json] | None = None
    """Text; a list of parts from Mistral's reasoning models (`mistral-chat-stream-text-91c1ea`)."""
    reasoning_content: str | None = None
    reasoning: str | None = None
    reasoning_details: list[Json] | None = None
    refusal: str | None = None
    tool_calls: list[ToolPiece] | None = None
    function_call: FunctionPiece | None = None
    annotations: list[Json] | None = None
    audio: dict[str, Json] | None = None
    extra_content: dict[str, Json] | None = None


class ChunkChoice(msgspec.Struct, gc=False):
    """An entry of a chunk's `choices`."""

    index: int = 0
    delta: Delta | None = None
    finish_reason: str | None = None
    logprobs: dict[str, Json] | None = None


class XGroq(msgspec.Struct, gc=False):
    """Groq's own corner (`groq-chat-stream-finish-length-a251a2`)."""

    usage: dict[str, Json] | None = None


class Chunk(msgspec.Struct, gc=False):
    """The data of one SSE event."""

    choices: list[ChunkChoice] | None = None
    usage: dict[str, Json] | None = None
    id: str | None = None
    model: str | None = None
    created: int | float | None = None
    error: Json = None
    service_tier: str | None = None
    citations: list[Json] | None = None
    search_results: list[Json] | None = None
    x_groq: XGroq | None = None


class AnswerChoice(msgspec.Struct):
    """An entry of a whole answer's `choices`."""

    index: int = 0
    message: Delta | None = None
    finish_reason: str | None = None
    logprobs: dict[str, Json] | None = None


class Answer(msgspec.Struct):
    """A whole answer."""

    choices: list[AnswerChoice] | None = None
    usage: dict[str, Json] | None = None
    id: str | None = None
    model: str | None = None
    created: int | float | None = None
    error: Json = None
    service_tier: str | None = None
    citations: list[Json] | None = None
    search_results: list[Json] | None = None


def read(data: bytes, decoder: "msgspec.json.Decoder[T]", kind: type[T], what: str) -> T:
    """`data` as `kind`; `what` names it in the `UpstreamMalformed` that is raised otherwise.

    Half a surrogate pair, escaped, is JSON by the letter though no character; a server that cuts an emoji in two sends it.
    It is read as U+FFFD rather than failing the answer.
    """
    try:
        return decoder.decode(data)
    except msgspec.ValidationError as error:
        raise UpstreamMalformed(f"The provider sent {what} of an unknown shape: {error}.") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        if b"\\ud" not in data and b"\\uD" not in data:
            raise UpstreamMalformed(f"The provider sent {what} that is not JSON: {_reason(error)}.") from error
    except RecursionError as error:
        raise UpstreamMalformed(f"The provider sent {what} that is nested too deeply.") from error
    try:
        return msgspec.convert(_without_surrogates(json.loads(data)), kind)
    except (ValueError, RecursionError) as error:
        raise UpstreamMalformed(f"The provider sent {what} that is not JSON: {_reason(error)}.") from error


def _reason(error: Exception) -> str:
    # A UnicodeDecodeError's text quotes bytes of the content; its kind is enough.
    return "invalid UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)[:200]


def _without_surrogates(value: Json) -> Json:
    match value:
        case str():
            return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        case list():
            return [_without_surrogates(item) for item in value]
        case dict():
            return {key: _without_surrogates(item) for key, item in value.items()}
        case _:
            return value
