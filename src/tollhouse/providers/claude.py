"""Anthropic's models, wherever they are served: which of them wants what.

Names put the version after the family (`claude-sonnet-4-5-20250929`, `claude-opus-4.8`) or before it
(`claude-3-7-sonnet-20250219`).  A name without a version is taken for a new model: old ones do not change any more.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from tollhouse.dialects.anthropic.traits import EFFORTS, AnthropicTraits
from tollhouse.providers.catalogue import UNKNOWN, ModelFacts, facts

Version = tuple[int, int]

# A number of one or two digits between separators; dates have eight.
_NUMBER: Final = re.compile(r"(?<=[-.])\d{1,2}(?![\d])")

_NO_EFFORT: Final[Mapping[str, str]] = {}
_UP_TO_HIGH: Final = {word: said for word, said in EFFORTS.items() if said in {"low", "medium", "high"}}
_UP_TO_HIGH.update(xhigh="high", max="high")
_WITHOUT_XHIGH: Final = {**EFFORTS, "xhigh": "high"}


def version_of(model: str) -> Version | None:
    """`(4, 5)` of `claude-sonnet-4-5-20250929`; `None` where the name has no version."""
    numbers = [int(number) for number in _NUMBER.findall(model)]
    if not numbers:
        return None
    return (numbers[0], numbers[1] if len(numbers) > 1 else 0)


def traits_for(model: str) -> AnthropicTraits:
    """What a Claude model can be told.

    Thinking modes, efforts and structured output are Anthropic's own words of 2026 (`anthropic/anthropic-models-615699`);
    the rest is named where it stands.
    """
    version = version_of(model)
    limit = facts_for(model).max_output_tokens
    traits = _NEWEST if version is None else _of_version(version, model)
    if limit is not None and limit < traits.default_max_tokens:
        traits = replace(traits, default_max_tokens=limit)
    return traits


# From Claude Opus 4.7 on, sampling cannot be steered: other values than the defaults are refused with 400
# (guides to that migration, e.g. openrouter.ai/docs, "Claude 4.7 Migration Guide", 2026).
_NEWEST: Final = AnthropicTraits(thinking="adaptive", drop_fields=frozenset({"temperature", "top_p", "top_k"}))


def _of_version(version: Version, model: str) -> AnthropicTraits:
    if version >= (4, 7):
        # The system role within `messages` came with Opus 4.8 (platform.claude.com, "What's new in Claude 4.8", 2026).
        return replace(_NEWEST, system_in_messages=version >= (4, 8))
    if version >= (4, 6):
        return AnthropicTraits(system_in_messages=False, thinking="any", efforts=_WITHOUT_XHIGH)
    is_opus_4_5 = version == (4, 5) and "opus" in model
    return AnthropicTraits(
        system_in_messages=False,
        thinking="budget" if version >= (3, 7) else "none",
        efforts=_UP_TO_HIGH if is_opus_4_5 else _NO_EFFORT,
        structured_output="output_config" if version >= (4, 1) else "none",
        # From Opus 4.1 on, both at once are 400 (users' reports of 2025, e.g. github.com/open-webui/functions/pull/9).
        temperature_with_top_p=version < (4, 1),
        documents=version >= (3, 5),
    )


def facts_for(model: str) -> ModelFacts:
    """What is known of a Claude model: for the recorded model list's ones, Anthropic's own words."""
    name = model.lower()
    version = version_of(name)
    if "claude" not in name or version is None:
        return UNKNOWN
    capable = facts("text", "images", "documents", "tools", "reasoning", "json_schema")
    if version >= (4, 6):
        return replace(capable, max_output_tokens=128_000)
    if version >= (4, 5):
        return replace(capable, max_output_tokens=64_000)
    if version >= (4, 1):
        return replace(capable, max_output_tokens=32_000)
    # Older models are no longer in the list; these are the figures of their model cards (2024 and 2025).
    if version >= (4, 0):
        limit = 32_000 if "opus" in name else 64_000
        return facts("text", "images", "documents", "tools", "reasoning", max_output_tokens=limit)
    if version >= (3, 7):
        return facts("text", "images", "documents", "tools", "reasoning", max_output_tokens=64_000)
    if version >= (3, 5):
        return facts("text", "images", "documents", "tools", max_output_tokens=8_192)
    if version >= (3, 0):
        return facts("text", "images", "tools", max_output_tokens=4_096)
    return UNKNOWN
