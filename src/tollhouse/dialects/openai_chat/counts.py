"""Token counts: from every provider's spelling to `Usage`, and to OpenAI's spelling.

OpenAI's totals are inclusive, as ours are: `prompt_tokens` holds cached tokens, `completion_tokens` holds reasoning.  Not
everyone follows.  Where the provider's own arithmetic gives it away, that is believed before the trait:

- `total_tokens` = prompt + completion + reasoning: reasoning is outside (xAI, `xai-chat-stream-reasoning-41781f`).
- reasoning is more than completion: it cannot be a part of it (`vercel-gateway-chat-stream-tool-call-09ea07`: 61 of 9).
"""

from collections.abc import Mapping
from typing import Annotated, Final

import msgspec

from tollhouse.chat.usage import Usage
from tollhouse.dialects.openai_chat.wire import Json

MAX_COUNT: Final = 10**12
"""A count over this is a provider's fault and is treated as not said."""

_Count = Annotated[int, msgspec.Meta(ge=0, le=MAX_COUNT)]


class _InputParts(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    cached_tokens: _Count | None = None
    audio_tokens: _Count | None = None


class _OutputParts(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    reasoning_tokens: _Count | None = None
    audio_tokens: _Count | None = None
    accepted_prediction_tokens: _Count | None = None
    rejected_prediction_tokens: _Count | None = None


class _Plain(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """`usage` as OpenAI itself writes it, and nothing else."""

    prompt_tokens: _Count
    completion_tokens: _Count
    total_tokens: _Count
    prompt_tokens_details: _InputParts | None = None
    completion_tokens_details: _OutputParts | None = None


_NO_INPUTS: Final = _InputParts()
_NO_OUTPUTS: Final = _OutputParts()
_plain: Final = msgspec.json.Decoder(_Plain)
_any: Final[msgspec.json.Decoder[Json]] = msgspec.json.Decoder()


def read_raw_usage(raw: msgspec.Raw, *, reasoning_outside_output: bool) -> Usage:
    """`read_usage` of JSON.  In OpenAI's own spelling it costs a third, and nearly all answers are in it."""
    try:
        said = _plain.decode(raw)
    except msgspec.ValidationError:
        fields = _any.decode(raw)
        return read_usage(
            fields if isinstance(fields, dict) else None, reasoning_outside_output=reasoning_outside_output
        )
    prompt, output = said.prompt_tokens, said.completion_tokens
    inputs, outputs = said.prompt_tokens_details or _NO_INPUTS, said.completion_tokens_details or _NO_OUTPUTS
    reasoning = outputs.reasoning_tokens
    if reasoning_outside_output or (reasoning and said.total_tokens != prompt + output):
        output, reasoning = _whole_output(
            prompt, output, reasoning, said.total_tokens, is_outside=reasoning_outside_output
        )
    cached, heard, spoken = inputs.cached_tokens, inputs.audio_tokens, outputs.audio_tokens
    return Usage(
        input_tokens=prompt,
        cache_read_tokens=_within(cached, prompt) if cached else cached,
        output_tokens=output,
        reasoning_tokens=_within(reasoning, output) if reasoning else reasoning,
        input_audio_tokens=_within(heard, prompt) if heard else heard,
        output_audio_tokens=_within(spoken, output) if spoken else spoken,
        source="reported",
    )


def read_usage(fields: Mapping[str, Json] | None, *, reasoning_outside_output: bool) -> Usage:
    """The counts of a `usage` object; an empty `Usage` if it says nothing."""
    if not fields:
        return Usage()
    prompt = _first(fields, "prompt_tokens", "input_tokens")
    completion = _first(fields, "completion_tokens", "output_tokens")
    if prompt is None and completion is None:
        return Usage()
    prompt_parts = _object(fields, "prompt_tokens_details", "input_tokens_details")
    completion_parts = _object(fields, "completion_tokens_details", "output_tokens_details")
    # OpenAI; Together (`together-chat-json-text-4d6038`); DeepSeek; gateways in front of Anthropic.
    read = _first(prompt_parts, "cached_tokens")
    if read is None:
        read = _first(fields, "prompt_cache_hit_tokens", "cached_tokens", "cache_read_input_tokens")
    written = _first(prompt_parts, "cache_write_tokens", "cache_creation_tokens")
    if written is None:
        written = _first(fields, "cache_creation_input_tokens")
    reasoning = _first(completion_parts, "reasoning_tokens")
    if reasoning is None:
        reasoning = _first(fields, "reasoning_tokens")
    if completion is not None:
        total = _first(fields, "total_tokens")
        completion, reasoning = _whole_output(
            prompt or 0, completion, reasoning, total, is_outside=reasoning_outside_output
        )
    read = _within(read, prompt)
    return Usage(
        input_tokens=prompt,
        cache_read_tokens=read,
        cache_write_tokens=_within(written, None if prompt is None else prompt - (read or 0)),
        output_tokens=completion,
        reasoning_tokens=_within(reasoning, completion),
        input_audio_tokens=_within(_first(prompt_parts, "audio_tokens"), prompt),
        output_audio_tokens=_within(_first(completion_parts, "audio_tokens"), completion),
        source="reported",
    )


def write_usage(usage: Usage) -> dict[str, Json]:
    """OpenAI's `usage` object.  A count that nobody said is 0 there: the object has no way to leave totals out."""
    prompt, completion = usage.input_tokens or 0, usage.output_tokens or 0
    fields: dict[str, Json] = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }
    prompt_parts = _said(
        cached_tokens=usage.cache_read_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        audio_tokens=usage.input_audio_tokens,
    )
    completion_parts = _said(reasoning_tokens=usage.reasoning_tokens, audio_tokens=usage.output_audio_tokens)
    if prompt_parts:
        fields["prompt_tokens_details"] = prompt_parts
    if completion_parts:
        fields["completion_tokens_details"] = completion_parts
    return fields


def _whole_output(
    prompt: int, completion: int, reasoning: int | None, total: int | None, *, is_outside: bool
) -> tuple[int, int | None]:
    """Output with its reasoning in it, and the reasoning."""
    hidden = reasoning or 0
    if is_outside:
        if total is None:
            return completion + hidden, reasoning
        beyond = max(0, total - prompt - completion)
        return completion + beyond, (beyond or reasoning) if reasoning is None or beyond > hidden else reasoning
    if hidden and (hidden > completion or total == prompt + completion + hidden):
        return completion + hidden, reasoning
    return completion, reasoning


def _count(value: Json) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if 0 <= value <= MAX_COUNT else None


def _first(fields: Mapping[str, Json], *names: str) -> int | None:
    for name in names:
        value = fields.get(name)
        if type(value) is int and 0 <= value <= MAX_COUNT:  # what all but odd providers say; this runs on each answer
            return value
        if value is not None and (count := _count(value)) is not None:
            return count
    return None


def _object(fields: Mapping[str, Json], *names: str) -> Mapping[str, Json]:
    for name in names:
        value = fields.get(name)
        if isinstance(value, dict):
            return value
    return {}


def _within(part: int | None, whole: int | None) -> int | None:
    return part if part is None or whole is None else min(part, max(0, whole))


def _said(**counts: int | None) -> dict[str, Json]:
    return {name: count for name, count in counts.items() if count is not None}
