"""Google's Gemini API, through its OpenAI-compatible endpoint (ai.google.dev/gemini-api/docs/openai, read November 2026)."""

from typing import Final

from tollhouse.dialects.openai_chat import DIALECT
from tollhouse.dialects.openai_chat.traits import OpenAIChatTraits
from tollhouse.providers.catalogue import by_prefix, facts
from tollhouse.providers.provider import ProviderKind

# An unknown field is 400 "Invalid JSON payload received. Unknown name …".  Users report it for these (2025 and 2026).
_UNKNOWN_FIELDS: Final = frozenset(
    {"frequency_penalty", "presence_penalty", "seed", "top_k", "prompt_cache_key", "logit_bias", "store"}
)

_TRAITS: Final = OpenAIChatTraits(
    max_tokens_field="max_tokens",
    reasoning_outside_output=True,
    developer_role=False,
    documents=False,
    strict_tools=False,
    custom_tools=False,
    logprobs=False,
    seed=False,
    penalties=False,
    user=False,
    service_tier=False,
    prompt_cache_key=False,
    drop_fields=_UNKNOWN_FIELDS,
)


def traits_for(model: str) -> OpenAIChatTraits:
    """The same for every model."""
    del model
    return _TRAITS


_MULTIMODAL: Final = facts(
    "text",
    "images",
    "audio",
    "tools",
    "reasoning",
    "json_schema",
    max_output_tokens=65_536,
    context_tokens=1_048_576,
)

# Limits and `thinking` are Google's own words (`gemini/gemini-models-63babe`).
facts_for: Final = by_prefix(
    {
        "gemini-2.5-flash": _MULTIMODAL,
        "gemini-2.5-pro": _MULTIMODAL,
        "gemini-3": _MULTIMODAL,
        "gemini-flash-latest": _MULTIMODAL,
        "gemini-flash-lite-latest": _MULTIMODAL,
        "gemini-pro-latest": _MULTIMODAL,
        "gemma-4-": facts("text", "images", "tools", "reasoning", max_output_tokens=32_768, context_tokens=262_144),
    }
)

KIND: Final = ProviderKind(
    type="google",
    dialect=DIALECT,
    traits_for=traits_for,
    facts_for=facts_for,
    base_url="https://generativelanguage.googleapis.com/v1beta/openai",
    key_variable="GEMINI_API_KEY",
)
