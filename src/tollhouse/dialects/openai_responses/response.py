"""A provider's whole answer, read in full or only glanced at."""

from typing import Final

import msgspec

from tollhouse.chat.model import (
    Choice,
    Foreign,
    Part,
    Refusal,
    Response,
    Text,
    TokenLogprob,
    ToolCall,
)
from tollhouse.chat.opaque import rejoin
from tollhouse.dialects.dialect import Glance
from tollhouse.dialects.openai_chat.failure import words_of
from tollhouse.dialects.openai_chat.logprobs import read_tokens
from tollhouse.dialects.openai_chat.pieces import encoded
from tollhouse.dialects.openai_chat.wire import Json, read
from tollhouse.dialects.openai_responses.counts import read_usage
from tollhouse.dialects.openai_responses.failure import failure_of
from tollhouse.dialects.openai_responses.finish import finish_of
from tollhouse.dialects.openai_responses.reading import Reasoned, kept, read_annotations
from tollhouse.dialects.openai_responses.traits import ResponsesTraits
from tollhouse.dialects.openai_responses.wire import NAME, flat_name
from tollhouse.errors import BadRequest, StreamFailed, UpstreamMalformed


class _Why(msgspec.Struct, gc=False):
    reason: str | None = None


class _Answer(msgspec.Struct):
    id: str | None = None
    model: str | None = None
    created_at: float | None = None
    status: str | None = None
    output: list[Json] | None = None
    usage: Json = None
    incomplete_details: _Why | None = None
    service_tier: str | None = None
    error: Json = None


class _Typed(msgspec.Struct, gc=False):
    type: str = ""


class _Named(msgspec.Struct, gc=False):
    type: str = ""
    content: list[_Typed] | None = None


class _Glanced(msgspec.Struct):
    status: str | None = None
    output: list[_Named] | None = None
    usage: Json = None
    incomplete_details: _Why | None = None
    error: Json = None


_decoder: Final = msgspec.json.Decoder(_Answer)
_glancer: Final = msgspec.json.Decoder(_Glanced)
_json: Final = msgspec.json.Decoder()
_CALLS: Final = frozenset({"function_call", "custom_tool_call"})


def glance(body: bytes) -> Glance:
    """Usage, finish, and the error in disguise if it is one.  Raises `UpstreamMalformed`."""
    answer = read(body, _glancer, _Glanced, "an answer")
    error = _error_in(body, answer.error, answer.status, has_output=answer.output is not None)
    usage = read_usage(answer.usage)
    if error is not None:
        return Glance(usage, None, error)
    if answer.status not in {"completed", "incomplete", None}:
        return Glance(usage, None)
    reason, _ = finish_of(
        answer.status,
        None if answer.incomplete_details is None else answer.incomplete_details.reason,
        has_calls=any(item.type in _CALLS for item in answer.output or ()),
        has_refusal=any(part.type == "refusal" for item in answer.output or () for part in item.content or ()),
    )
    return Glance(usage, reason)


def decode_response(body: bytes, traits: ResponsesTraits) -> Response:
    """Raises `UpstreamMalformed`, or `StreamFailed` for an error in a 200 body or an answer that the provider gave up."""
    answer = read(body, _decoder, _Answer, "an answer")
    error = _error_in(body, answer.error, answer.status, has_output=answer.output is not None)
    if error is not None:
        raise error
    found = read_output(answer.output or [], traits.home)
    why = None if answer.incomplete_details is None else answer.incomplete_details.reason
    reason, detail = finish_of(
        answer.status,
        why,
        has_calls=any(isinstance(part, ToolCall) for part in found.parts),
        has_refusal=any(isinstance(part, Refusal) for part in found.parts),
    )
    return Response(
        id=answer.id or "",
        model=answer.model or "",
        created=int(answer.created_at) if answer.created_at else None,
        service_tier=answer.service_tier,
        choices=(
            Choice(
                parts=rejoin(found.parts),
                finish=reason,
                finish_detail=detail,
                logprobs=tuple(found.logprobs) if found.logprobs else None,
            ),
        ),
        usage=read_usage(answer.usage),
    )


def _error_in(body: bytes, error: Json, status: str | None, *, has_output: bool) -> StreamFailed | None:
    if error is not None or status == "failed":
        return failure_of(_json.decode(body))
    if status in {"queued", "in_progress", "cancelled"}:
        return StreamFailed(f"The provider answered with a response that is {status.replace('_', ' ')}.")
    if has_output:
        return None
    if words_of(_json.decode(body)) is not None:
        return failure_of(_json.decode(body))
    raise UpstreamMalformed("The provider's answer has no `output`.")


# --------------------------------------------------------------------------------------------------------------- output


class Output:
    """The parts that a list of output items holds."""

    __slots__ = ("logprobs", "parts")

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self.logprobs: list[TokenLogprob] = []


def read_output(items: list[Json], home: str) -> Output:
    """The items of an answer.  Raises `UpstreamMalformed`."""
    found = Output()
    for index, item in enumerate(items):
        if not isinstance(item, dict):
            raise UpstreamMalformed(f"The provider's answer has an output item {index} that is no object.")
        try:
            _read_item(item, found, home)
        except BadRequest as error:  # from the readers that clients' items have in common with these
            raise UpstreamMalformed(f"The provider's answer has a faulty output item {index}: {error}.") from error
    return found


def _read_item(item: dict[str, Json], found: Output, home: str) -> None:
    match item.get("type"):
        case "message":
            _read_message(item, found)
        case "reasoning":
            part = Reasoned(item, "output", home).part
            if part is not None:
                found.parts.append(part)
        case "function_call" | "custom_tool_call":
            found.parts.append(read_call(item))
        case str(kind):
            found.parts.append(Foreign(NAME, kind, encoded(item)))
        case _:
            raise UpstreamMalformed("The provider's answer has an output item without a type.")


def _read_message(item: dict[str, Json], found: Output) -> None:
    content = item.get("content")
    for part in content if isinstance(content, list) else ():
        if not isinstance(part, dict):
            raise UpstreamMalformed("The provider's answer has a content part that is no object.")
        match part:
            case {"type": "output_text" | "text", "text": str(text)}:
                citations = read_annotations(part.get("annotations"))
                found.parts.append(Text(text, citations=citations, extra=kept(item, ("phase",))))
                logprobs = part.get("logprobs")
                found.logprobs += read_tokens(logprobs) if isinstance(logprobs, list) else ()
            case {"type": "refusal", "refusal": str(text)}:
                found.parts.append(Refusal(text))
            case {"type": str(kind)}:
                found.parts.append(Foreign(NAME, kind, encoded(part)))
            case _:
                raise UpstreamMalformed("The provider's answer has a content part without a type.")


def read_call(item: dict[str, Json]) -> ToolCall:
    """A call of one of the client's tools, with the text that it has so far.  Raises `UpstreamMalformed`."""
    is_custom = item.get("type") == "custom_tool_call"
    name, namespace = item.get("name"), item.get("namespace")
    call_id = item.get("call_id") or item.get("id")
    text = item.get("input" if is_custom else "arguments")
    if not isinstance(name, str) or not name or not isinstance(call_id, str):
        raise UpstreamMalformed("The provider's answer has a call without a name or an id.")
    if isinstance(text, dict):
        text = bytes(encoded(text)).decode()
    return ToolCall(
        call_id,
        flat_name(namespace, name) if isinstance(namespace, str) and namespace != name else name,
        text if isinstance(text, str) else "",
        custom=is_custom,
    )
