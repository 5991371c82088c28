"""Whole answers: read from a provider, written for a client."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

import msgspec

from tollhouse.chat.model import (
    Audio,
    Choice,
    Document,
    FinishReason,
    Foreign,
    Image,
    Inline,
    Opaque,
    Part,
    RedactedThinking,
    Refusal,
    Request,
    Response,
    Text,
    Thinking,
    ToolCall,
)
from tollhouse.chat.receipt import Receipt
from tollhouse.dialects.explanations import GAVE_UP
from tollhouse.dialects.fields import LAX_COUNT, NULL, TEXT, UNREADABLE, WireFault, describe
from tollhouse.dialects.gemini.failure import decode_failure
from tollhouse.dialects.gemini.finish import PROMPT_BLOCKED, finish_of, finish_word, write_finish
from tollhouse.dialects.gemini.grounding import CitedText, read_citations, write_citations
from tollhouse.dialects.gemini.lane import blocked
from tollhouse.dialects.gemini.logprobs import WireLogprobs, read_logprobs, write_logprobs
from tollhouse.dialects.gemini.parts import audio_data, call_arguments, inline_data, is_empty, part_name, read_parts
from tollhouse.dialects.gemini.signatures import write_redacted, write_signature
from tollhouse.dialects.gemini.usage import WireUsage, usage_fields, usage_of
from tollhouse.dialects.gemini.wire import HOME, NAME, Block, Fields, merge_extra
from tollhouse.errors import StreamFailed, UpstreamMalformed

# ------------------------------------------------------------------------------------------------------------- reading

_USAGE: Final = msgspec.json.Decoder(WireUsage)
_LOGPROBS: Final = msgspec.json.Decoder(WireLogprobs)


def decode_response(body: bytes, home: str = HOME) -> Response:
    """The answer of a provider of type `home`.  Raises `UpstreamMalformed`, or `StreamFailed` for an error in a 200 body."""
    try:
        answer = Fields(body, "")
        if answer.raw("error") is not None:
            raise decode_failure(body)
        if not answer.left.keys() & {"candidates", "promptFeedback", "usageMetadata"}:
            raise UpstreamMalformed("The answer is JSON, but none of Gemini's dialect.")
        return _read(answer, home)
    except (WireFault, RecursionError) as error:
        raise UpstreamMalformed(f"The answer is not what Gemini sends: {error}.") from error


def _read(answer: Fields, home: str) -> Response:
    identity, model = answer.take("responseId", TEXT) or "", answer.take("modelVersion", TEXT) or ""
    created = created_at(answer.take("createTime", TEXT))
    usage = _read_usage(answer)
    choices = tuple(
        _read_candidate(Fields(raw, path), identity, index, home)
        for index, (path, raw) in enumerate(answer.items("candidates"))
    )
    feedback = answer.left.get("promptFeedback", NULL)
    if not choices and feedback != NULL:
        word = Fields(feedback, "promptFeedback").enum_value("blockReason")
        choices = (Choice(finish="content_filter", finish_detail=blocked(word)),)
    return Response(
        id=identity,
        model=model,
        choices=choices,
        created=created,
        usage=usage_of(usage),
        service_tier=None if usage is None else usage.serviceTier,
        extra=answer.rest(),
    )


def created_at(moment: str | None) -> int | None:
    """Seconds since the epoch of a moment in RFC 3339 (`createTime`, which only Vertex says)."""
    if moment is None:
        return None
    try:
        return int(datetime.fromisoformat(moment).timestamp())
    except ValueError:
        return None


def moment_of(created: int) -> str:
    """A moment in RFC 3339; the end of the year 9999 for what is later."""
    return datetime.fromtimestamp(min(max(created, 0), _LAST_SECOND), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


_LAST_SECOND: Final = 253_402_300_799


def _read_usage(answer: Fields) -> WireUsage | None:
    """The counts.  What they are made up of (`promptTokensDetails`, `trafficType`) repeats in every answer and is let go."""
    raw = answer.raw("usageMetadata")
    if raw is None:
        return None
    try:
        return _USAGE.decode(raw)
    except UNREADABLE as error:
        raise WireFault("usageMetadata", describe(error)) from error


def _read_candidate(candidate: Fields, identity: str, place: int, home: str) -> Choice:
    index = candidate.take("index", LAX_COUNT)
    index = place if index is None else index
    content = candidate.object("content")
    parts = () if content is None else read_parts(content, home)
    parts = tuple(part for part in parts if not is_empty(part))
    parts = tuple(
        msgspec.structs.replace(part, id=invented_id(identity, index, number))
        if isinstance(part, ToolCall) and not part.id
        else part
        for number, part in enumerate(parts)
    )
    told = candidate.enum_value("finishReason")
    has_calls = any(isinstance(part, ToolCall) for part in parts)
    reason: FinishReason | None = None
    detail: str | None = None
    if told is not None:
        reason, detail = finish_of(finish_word(told), has_calls=has_calls)
    if has_calls:
        candidate.raw("finishMessage")
    raw = candidate.raw("logprobsResult")
    try:
        logprobs = None if raw is None else read_logprobs(_LOGPROBS.decode(raw))
    except UNREADABLE as error:
        raise WireFault(candidate.at("logprobsResult"), describe(error)) from error
    return Choice(
        index=index,
        parts=_cited(parts, candidate),
        finish=reason,
        finish_detail=detail,
        logprobs=logprobs,
        extra=candidate.rest(),
    )


def invented_id(answer: str, choice: int, number: int) -> str:
    """An id for a call that came without one: the same for the same answer, unlike in another, at most 40 characters."""
    kept = "".join(c for c in answer if c.isascii() and c.isalnum())[-24:]
    return f"call_{kept}_{choice}_{number}"


def _cited(parts: tuple[Part, ...], candidate: Fields) -> tuple[Part, ...]:
    """The parts, with the candidate's citations on the last text; the metadata itself stays for its own dialect's clients."""
    grounding = candidate.left.get("groundingMetadata", NULL)
    citations = candidate.left.get("citationMetadata", NULL)
    if grounding == NULL and citations == NULL:
        return parts
    last = next((number for number in range(len(parts) - 1, -1, -1) if isinstance(parts[number], Text)), None)
    if last is None:
        return parts
    text = parts[last]
    if not isinstance(text, Text):
        return parts
    cited = msgspec.structs.replace(text, citations=read_citations(grounding, citations, text.text))
    return (*parts[:last], cited, *parts[last + 1 :])


# ------------------------------------------------------------------------------------------------------------- writing


def encode_response(response: Response, request: Request, receipt: Receipt) -> bytes:
    """A whole answer.  Raises `StreamFailed` if the provider gave up in the middle: no finish reason may hide that."""
    fields: Block = {}
    block_reason = next((word for choice in response.choices if (word := prompt_block(choice.finish_detail))), None)
    if block_reason is None:
        fields["candidates"] = [_write_choice(choice, receipt) for choice in response.choices]
    else:
        fields["promptFeedback"] = {"blockReason": block_reason}
    fields["usageMetadata"] = usage_fields(response.usage, response.service_tier)
    fields["modelVersion"] = response.model or request.model
    if response.created is not None:
        fields["createTime"] = moment_of(response.created)
    fields["responseId"] = response.id
    if response.extra is not None and response.extra.dialect != NAME:
        for name in response.extra.fields:
            receipt.dropped(name, "the answer's field has no counterpart in Gemini's dialect")
    merge_extra(fields, response.extra)
    return msgspec.json.encode(fields)


def prompt_block(detail: str | None) -> str | None:
    """Why the prompt was blocked, where a finish's detail says that it was."""
    if detail is None or not detail.startswith(PROMPT_BLOCKED):
        return None
    return detail.removeprefix(PROMPT_BLOCKED)


def _write_choice(choice: Choice, receipt: Receipt) -> Block:
    written = write_finish(settle(choice.finish or "other", choice.parts), choice.finish_detail, receipt)
    if written is None:
        raise gave_up()
    word, message = written
    content: Block = {"role": "model"}
    parts: list[object] = []
    cited: list[CitedText] = []
    for each in choice.parts:
        if isinstance(each, Text) and each.citations:
            cited.append(CitedText(each.text, each.citations, len(parts)))
        if (part := write_part(each, receipt)) is not None:
            parts.append(part)
    if parts:
        content["parts"] = parts
    fields: Block = {"content": content, "finishReason": word, "index": choice.index}
    if message is not None:
        fields["finishMessage"] = message
    if choice.logprobs:
        fields["logprobsResult"] = write_logprobs(choice.logprobs)
    has_own = choice.extra is not None and choice.extra.dialect == NAME
    is_told = has_own and choice.extra is not None and _CITED & choice.extra.fields.keys()
    if not is_told and (grounding := write_citations(cited)):
        fields["groundingMetadata"] = grounding
    merge_extra(fields, choice.extra)
    return fields


_CITED: Final = frozenset({"groundingMetadata", "citationMetadata"})


def settle(finish: FinishReason, parts: Sequence[Part]) -> FinishReason:
    """The reason as Gemini has it: `STOP` after calls too, but with a message that says so."""
    if finish == "stop" and any(isinstance(part, ToolCall) for part in parts):
        return "tool_calls"
    if finish == "tool_calls" and not any(isinstance(part, ToolCall) for part in parts):
        return "stop"
    return finish


def gave_up() -> StreamFailed:
    """The error of an answer that its provider broke off with a finish reason instead of an error."""
    return StreamFailed(GAVE_UP, status=500, kind="INTERNAL")


def write_part(part: Part, receipt: Receipt) -> object | None:
    """A part of an answer; `None` for what Gemini's clients cannot be given, which is noted, and for empty text."""
    block: Block
    match part:
        case Text():
            if not part.text and part.signature is None:
                return None
            block = {"text": part.text}
            _sign(block, part.signature)
            merge_extra(block, part.extra)
        case Refusal():
            return {"text": part.text} if part.text else None
        case Thinking():
            block = {"text": part.text, "thought": True}
            _sign(block, part.signature)
            merge_extra(block, part.extra)
        case RedactedThinking():
            return {"text": "", "thought": True, "thoughtSignature": write_redacted(part)}
        case ToolCall():
            block = write_call(part, receipt)
        case Image(source=Inline(media_type=media_type, data=data)):
            block = inline_data(media_type, data)
            merge_extra(block, part.extra)
        case Document(source=Inline(media_type=media_type, data=data)) if media_type != "text/plain":
            block = inline_data(media_type, data)
            merge_extra(block, part.extra)
        case Audio():
            block = audio_data(part)
            merge_extra(block, part.extra)
        case Foreign(dialect=dialect) if dialect == NAME:
            return part.raw
        case _:
            receipt.dropped("content", f"{part_name(part)} has no place in an answer of Gemini's dialect")
            return None
    return block


def write_call(part: ToolCall, receipt: Receipt) -> Block:
    """A function call, with its id: clients that know ids send it back, the others go by the name."""
    arguments, is_own = call_arguments(part)
    if not is_own:
        # Cut off by a length limit, or not an object: the finish reason says the former, the client sees the words.
        receipt.changed(f"functionCall {part.name[:60]}", "arguments that are no JSON object are given as {_raw: text}")
    block: Block = {"functionCall": {"id": part.id, "name": part.name, "args": arguments}}
    _sign(block, part.signature)
    merge_extra(block, part.extra)
    return block


def _sign(block: Block, signature: Opaque | None) -> None:
    if signature is not None:
        block["thoughtSignature"] = write_signature(signature)
