"""Mistral.

Anything that the API reference (docs.mistral.ai/api) does not list is 422 `extra_forbidden`; users report it for
`max_completion_tokens` and `stream_options.include_usage`, which common clients always send.  Streams report usage
unasked, in the finish chunk (`mistral/mistral-chat-stream-text-91c1ea`).
"""

import re
from dataclasses import replace
from typing import Final

from tollhouse.dialects.openai_chat import DIALECT
from tollhouse.dialects.openai_chat.embeddings import EMBEDDINGS
from tollhouse.dialects.openai_chat.traits import OpenAIChatTraits
from tollhouse.providers.catalogue import by_prefix, facts
from tollhouse.providers.provider import ProviderKind

_FORBIDDEN: Final = frozenset(
    {
        "logit_bias",
        "logprobs",
        "prompt_cache_key",
        "safety_identifier",
        "service_tier",
        "store",
        "stream_options",
        "top_logprobs",
        "user",
        "verbosity",
    }
)

_TRAITS: Final = OpenAIChatTraits(
    home="mistral",
    max_tokens_field="max_tokens",
    asks_usage=False,
    call_ids="nine",
    reasoning_style="none",
    developer_role=False,
    documents=False,
    audio=False,
    custom_tools=False,
    logprobs=False,
    user=False,
    service_tier=False,
    prompt_cache_key=False,
    drop_fields=_FORBIDDEN,
    rename_fields={"max_completion_tokens": "max_tokens", "seed": "random_seed"},
)
# `mistral/mistral-chat-stream-text-91c1ea` is a small model told to think hard.
_THINKS: Final = re.compile(r"mistral-(small|medium)")
_REASONING: Final = replace(_TRAITS, reasoning_style="reasoning_effort")


def traits_for(model: str) -> OpenAIChatTraits:
    """What one of Mistral's models can be told."""
    return _REASONING if _THINKS.match(model.lower()) else _TRAITS


facts_for: Final = by_prefix(
    {
        "mistral-small": facts("text", "images", "tools", "reasoning", "json_schema"),
        "mistral-medium": facts("text", "images", "tools", "reasoning", "json_schema"),
        "magistral": facts("text", "tools", "reasoning"),
    }
)

KIND: Final = ProviderKind(
    type="mistral",
    dialect=DIALECT,
    embeddings=EMBEDDINGS,
    embeddings_path="/embeddings",
    traits_for=traits_for,
    facts_for=facts_for,
    base_url="https://api.mistral.ai/v1",
    key_variable="MISTRAL_API_KEY",
)
