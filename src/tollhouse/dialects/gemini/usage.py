"""Token counts.

Google's prompt count has the cached tokens in it and leaves out what its own tools put into the prompt; its candidates' count
leaves out the thoughts; the total is the sum of all four.  A count of zero is not written at all
(`gemini/gemini-generate-json-reasoning-a15489` has no candidates' count, and a total that is prompt and thoughts).
"""

from collections.abc import Iterable
from typing import Final

import msgspec

from tollhouse.chat.usage import Usage
from tollhouse.dialects.fields import NULL, UNREADABLE
from tollhouse.dialects.gemini.wire import Block

_Count = int | float | None


class ModalityCount(msgspec.Struct):
    """Tokens of one modality; its name, or its number in protobuf's order."""

    modality: str | int | None = None
    tokenCount: _Count = None  # noqa: N815  # the wire's name


class WireUsage(msgspec.Struct):
    """`usageMetadata`."""

    promptTokenCount: _Count = None  # noqa: N815
    cachedContentTokenCount: _Count = None  # noqa: N815
    candidatesTokenCount: _Count = None  # noqa: N815
    toolUsePromptTokenCount: _Count = None  # noqa: N815
    thoughtsTokenCount: _Count = None  # noqa: N815
    totalTokenCount: _Count = None  # noqa: N815
    promptTokensDetails: list[ModalityCount] | None = None  # noqa: N815
    candidatesTokensDetails: list[ModalityCount] | None = None  # noqa: N815
    serviceTier: str | None = None  # noqa: N815


_AUDIO: Final = frozenset({"AUDIO", 4})


_COUNTS: Final = msgspec.json.Decoder(WireUsage)


def read_counts(raw: msgspec.Raw) -> WireUsage | None:
    """The counts of a chunk, which repeat in each and are only looked at when they matter; `None` where there are none."""
    try:
        return None if raw == NULL else _COUNTS.decode(raw)
    except UNREADABLE:
        return None


def usage_of(counts: WireUsage | None) -> Usage:
    """The counts with inclusive totals."""
    if counts is None:
        return Usage()
    prompt = _whole(counts.promptTokenCount)
    total = _whole(counts.totalTokenCount)
    if prompt is None and total is None:
        return Usage()
    from_tools = _whole(counts.toolUsePromptTokenCount) or 0
    visible, thoughts = _whole(counts.candidatesTokenCount), _whole(counts.thoughtsTokenCount)
    output: int | None = None
    if visible is not None or thoughts is not None:
        output = (visible or 0) + (thoughts or 0)
    elif total is not None:
        output = max(0, total - (prompt or 0) - from_tools)
    return Usage(
        input_tokens=(prompt or 0) + from_tools,
        cache_read_tokens=_whole(counts.cachedContentTokenCount),
        output_tokens=output,
        reasoning_tokens=thoughts,
        input_audio_tokens=_audio(counts.promptTokensDetails),
        output_audio_tokens=_audio(counts.candidatesTokensDetails),
        source="reported",
    )


_TIERS: Final = {"default": "standard", "standard": "standard", "flex": "flex", "priority": "priority"}


def usage_fields(usage: Usage, tier: str | None = None) -> Block:
    """`usageMetadata` for a client, with the service tier inside; without counts where none are known."""
    told: Block = {"serviceTier": _TIERS[tier]} if tier in _TIERS else {}
    if usage.is_empty:
        return told
    fields: Block = {"promptTokenCount": usage.input_tokens or 0, **told}
    if usage.cache_read_tokens:
        fields["cachedContentTokenCount"] = usage.cache_read_tokens
    if usage.output_tokens is not None:
        fields["candidatesTokenCount"] = usage.visible_output_tokens
    if usage.reasoning_tokens:
        fields["thoughtsTokenCount"] = usage.reasoning_tokens
    fields["totalTokenCount"] = (usage.input_tokens or 0) + (usage.output_tokens or 0)
    for name, audio, whole in (
        ("promptTokensDetails", usage.input_audio_tokens, usage.input_tokens),
        ("candidatesTokensDetails", usage.output_audio_tokens, usage.visible_output_tokens),
    ):
        if audio:
            rest = max(0, (whole or 0) - audio)
            fields[name] = [
                *([{"modality": "TEXT", "tokenCount": rest}] if rest else []),
                {"modality": "AUDIO", "tokenCount": audio},
            ]
    return fields


def _whole(count: _Count) -> int | None:
    return None if count is None else max(0, int(count))


def _audio(details: Iterable[ModalityCount] | None) -> int | None:
    found = [_whole(detail.tokenCount) or 0 for detail in details or () if detail.modality in _AUDIO]
    return sum(found) if found else None
