"""Whole answers: read from a provider, written for a client."""

from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from tollhouse.chat.model import (
    Choice,
    FinishReason,
    Foreign,
    Part,
    RedactedThinking,
    Refusal,
    Request,
    Response,
    Text,
    Thinking,
    ToolCall,
)
from tollhouse.chat.opaque import carrier
from tollhouse.chat.receipt import Receipt
from tollhouse.chat.usage import Usage
from tollhouse.dialects.anthropic.blocks import (
    EMPTY_OBJECT,
    Block,
    input_object,
    merge_extra,
    part_name,
    read_block,
    write_citation,
    write_redacted,
    write_thinking,
)
from tollhouse.dialects.anthropic.failure import decode_failure
from tollhouse.dialects.anthropic.wire import NAME, STOP_REASON, Fields, WireUsage, finish_of, usage_fields, usage_of
from tollhouse.dialects.explanations import GAVE_UP
from tollhouse.dialects.fields import ARRAY, TEXT, UNREADABLE, WireFault, describe
from tollhouse.errors import StreamFailed, UpstreamMalformed

# ------------------------------------------------------------------------------------------------------------- reading


def decode_response(body: bytes, home: str = NAME) -> Response:
    """The answer of a provider of type `home`.  Raises `UpstreamMalformed`, or `StreamFailed` for an error in a 200 body."""
    try:
        answer = Fields(body, "")
        kind = answer.take("type", TEXT)
        if kind == "message":
            return _read(answer, home)
        is_error = kind == "error" or (kind is None and answer.raw("error") is not None)
    except (WireFault, RecursionError) as error:
        raise UpstreamMalformed(f"The answer is not what Anthropic sends: {error}.") from error
    if is_error:
        raise decode_failure(body)
    raise UpstreamMalformed("The answer is JSON, but not a message of Anthropic's dialect.")


def _read(answer: Fields, home: str) -> Response:
    identity, model = answer.text("id"), answer.take("model", TEXT) or ""
    answer.take("role", TEXT)
    blocks = answer.take("content", ARRAY) or ()
    parts = tuple(read_block(raw, f"content.{index}", home) for index, raw in enumerate(blocks))
    word = answer.take("stop_reason", TEXT)
    finish = None if word is None else finish_of(word)
    sequence = answer.take("stop_sequence", TEXT)
    usage, tier = _read_usage(answer)
    return Response(
        id=identity,
        model=model,
        choices=(Choice(parts=parts, finish=finish, finish_detail=word if finish == "other" else sequence),),
        usage=usage_of(usage),
        service_tier=tier,
        extra=answer.rest(),
    )


def _read_usage(answer: Fields) -> tuple[WireUsage | None, str | None]:
    """The counts; what we have no field for (`server_tool_use`, `iterations`, …) stays behind under `usage`."""
    raw = answer.raw("usage")
    if raw is None:
        return None, None
    try:
        usage = msgspec.json.decode(raw, type=WireUsage)
    except UNREADABLE as error:
        raise WireFault("usage", describe(error)) from error
    rest = Fields(raw, "usage")
    for name in WireUsage.__struct_fields__:
        rest.left.pop(name, None)
    answer.put_back("usage", rest)
    return usage, usage.service_tier


# ------------------------------------------------------------------------------------------------------------- writing

_TIERS: Final[Mapping[str | None, str]] = {
    "default": "standard",
    "standard": "standard",
    "priority": "priority",
    "batch": "batch",
}


def encode_response(response: Response, request: Request, receipt: Receipt) -> bytes:
    """A whole answer.  Raises `StreamFailed` if the provider gave up in the middle: no stop reason may hide that."""
    if len(response.choices) > 1:
        receipt.dropped("choices[1:]", "Anthropic's dialect has one answer")
    choice = response.choices[0] if response.choices else Choice()
    if choice.finish == "error":
        raise gave_up()
    if choice.logprobs:
        receipt.dropped("logprobs", "Anthropic's dialect has none")
    content = [block for part in choice.parts for block in _write_part(part, receipt)]
    finish = settle_finish(
        choice.finish or "other",
        has_calls=any(isinstance(part, ToolCall) for part in choice.parts),
        has_refusal=any(isinstance(part, Refusal) for part in choice.parts),
    )
    fields: Block = {
        "id": response.id,
        "type": "message",
        "role": "assistant",
        "model": response.model or request.model,
        "content": content,
        "stop_reason": stop_reason(finish, choice.finish_detail, receipt),
        "stop_sequence": choice.finish_detail if finish == "stop_sequence" else None,
        "usage": usage_with_tier(response.usage, response.service_tier),
    }
    if response.extra is not None and response.extra.dialect != NAME:
        for name in response.extra.fields:
            receipt.dropped(name, "the answer's field has no counterpart in Anthropic's dialect")
    merge_extra(fields, response.extra)
    return msgspec.json.encode(fields)


def usage_with_tier(usage: Usage, tier: str | None) -> Block:
    """`usage` with `service_tier` inside, where a tier has a name in this dialect."""
    fields = usage_fields(usage)
    if tier in _TIERS:
        fields["service_tier"] = _TIERS[tier]
    return fields


def gave_up() -> StreamFailed:
    """The error of an answer that its provider broke off with a finish reason instead of an error."""
    return StreamFailed(GAVE_UP, kind="api_error")


def settle_finish(finish: FinishReason, *, has_calls: bool, has_refusal: bool) -> FinishReason:
    """The reason as Anthropic's clients need it: they run tools only when told to, and look for a refusal there."""
    if finish == "stop" and has_calls:
        return "tool_calls"  # some providers finish with `stop` even so
    if finish == "stop" and has_refusal:
        return "refusal"
    if finish == "tool_calls" and not has_calls:
        return "stop"
    return finish


def stop_reason(finish: FinishReason, detail: str | None, receipt: Receipt) -> str:
    """Anthropic's word for a reason; notes it if there is none."""
    if finish == "other":
        receipt.changed("finish_reason", f"{(detail or 'no reason')[:40]!r} is told as end_turn")
    return STOP_REASON[finish]


def _write_part(part: Part, receipt: Receipt) -> Iterator[object]:
    block = _block(part, receipt)
    if block is not None:
        yield block
    if isinstance(part, Text | ToolCall) and part.signature is not None:
        yield write_redacted(carrier(part.signature))


def _block(part: Part, receipt: Receipt) -> object | None:
    match part:
        case Text() if part.text or part.citations:
            return _write_text(part, receipt)
        case Text():
            return None
        case Refusal():
            return {"type": "text", "text": part.text} if part.text else None
        case Thinking():
            return write_thinking(part)
        case RedactedThinking():
            return write_redacted(part)
        case ToolCall():
            return _write_call(part, receipt)
        case Foreign() if part.dialect == NAME:
            return part.raw
        case _:
            receipt.dropped("content", f"{part_name(part)} has no place in an answer of Anthropic's dialect")
            return None


def _write_text(part: Text, receipt: Receipt) -> Block:
    block: Block = {"type": "text", "text": part.text}
    citations = [written for citation in part.citations if (written := write_citation(citation)) is not None]
    if len(citations) < len(part.citations):
        receipt.dropped("citations", "a citation without an address has no form in Anthropic's dialect")
    if citations:
        block["citations"] = citations
    merge_extra(block, part.extra)
    return block


def _write_call(part: ToolCall, receipt: Receipt) -> Block:
    arguments: object = custom_input(part.arguments) if part.custom else input_object(part.arguments)
    if arguments is None:
        # Cut off by a length limit, or not an object: the stop reason says the former, the client sees the words.
        receipt.changed(f"tool_use {part.name[:60]}", "arguments that are no JSON object are given as {_raw: text}")
        arguments = {"_raw": part.arguments}
    block: Block = {"type": "tool_use", "id": part.id, "name": part.name, "input": arguments or EMPTY_OBJECT}
    merge_extra(block, part.extra)
    return block


def custom_input(text: str) -> Block:
    """The input of a free-form call, which is plain text, as the object that Anthropic's clients expect."""
    return {"input": text}
