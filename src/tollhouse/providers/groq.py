"""Groq (console.groq.com/docs/openai, read November 2026)."""

import re
from dataclasses import replace
from typing import Final

from tollhouse.dialects.openai_chat import DIALECT
from tollhouse.dialects.openai_chat.traits import OpenAIChatTraits
from tollhouse.providers.catalogue import by_prefix, facts
from tollhouse.providers.provider import ProviderKind

# Log-probabilities and `logit_bias` are 400 when they are there at all, and so is an `n` over 1; the penalties are
# "not yet supported by any of our models".
_TRAITS: Final = OpenAIChatTraits(
    home="groq",
    reasoning_style="none",
    developer_role=False,
    documents=False,
    audio=False,
    custom_tools=False,
    logprobs=False,
    many_choices=False,
    penalties=False,
    prompt_cache_key=False,
    drop_fields=frozenset({"logit_bias"}),
)
# GPT-OSS and Qwen3 take `reasoning_effort` and read `reasoning` back; the Llamas refuse both.
_THINKS: Final = re.compile(r"openai/gpt-oss|qwen/")
_REASONING: Final = replace(_TRAITS, reasoning_style="reasoning_effort", reasoning_field="reasoning")


def traits_for(model: str) -> OpenAIChatTraits:
    """What one of Groq's models can be told."""
    return _REASONING if _THINKS.match(model.lower()) else _TRAITS


# Groq's own words (`groq/groq-models-cb4d7d`).
facts_for: Final = by_prefix(
    {
        "openai/gpt-oss": facts(
            "text", "tools", "reasoning", "json_schema", max_output_tokens=65_536, context_tokens=131_072
        ),
        "llama-3.1-8b-instant": facts("text", "tools", max_output_tokens=131_072, context_tokens=131_072),
        "llama-3.3-70b-versatile": facts("text", "tools", max_output_tokens=32_768, context_tokens=131_072),
        "qwen/qwen3.6-27b": facts(
            "text", "images", "tools", "reasoning", max_output_tokens=16_384, context_tokens=131_072
        ),
        "groq/compound": facts("text", max_output_tokens=8_192, context_tokens=131_072),
        "allam-2-7b": facts("text", max_output_tokens=4_096, context_tokens=4_096),
    }
)

KIND: Final = ProviderKind(
    type="groq",
    dialect=DIALECT,
    traits_for=traits_for,
    facts_for=facts_for,
    base_url="https://api.groq.com/openai/v1",
    key_variable="GROQ_API_KEY",
)
