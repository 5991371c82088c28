"""xAI: Grok."""

import re
from dataclasses import replace
from typing import Final

from tollhouse.dialects.openai_chat import DIALECT
from tollhouse.dialects.openai_chat.traits import OpenAIChatTraits
from tollhouse.dialects.openai_responses import ResponsesTraits
from tollhouse.providers.catalogue import by_prefix, facts
from tollhouse.providers.provider import ProviderKind
from tollhouse.providers.responses_api import on_request

# `completion_tokens` leaves reasoning out (`xai/xai-chat-stream-reasoning-41781f`).  Nothing is
# known of files or audio in chat.
_OLD: Final = OpenAIChatTraits(
    home="xai",
    reasoning_outside_output=True,
    reasoning_style="none",
    developer_role=False,
    documents=False,
    audio=False,
    custom_tools=False,
    service_tier=False,
    prompt_cache_key=False,
)
# The penalties are refused by all newer models, `stop` by those that reason (measured against the API in May 2026 by the
# authors of modelparams.dev; `grok-4` itself: docs.x.ai/docs/guides/reasoning).
_NOT_REASONING: Final = replace(_OLD, penalties=False)
_REASONING: Final = replace(_NOT_REASONING, stop=False)
# Only these can be told how hard to think; all others answer 400 (`xai/xai-chat-json-error-400-bd6f29`).
_TOLD: Final = replace(_REASONING, reasoning_style="reasoning_effort")

_HAS_EFFORT: Final = re.compile(r"grok-3-mini|grok-4\.[3-9](?!\d)|grok-latest")
_IS_OLD: Final = re.compile(r"grok-[12]|grok-beta|grok-vision|grok-3(?!-mini)")


def traits_for(model: str) -> OpenAIChatTraits:
    """What one of xAI's models can be told."""
    name = model.lower()
    if _HAS_EFFORT.match(name):
        return _TOLD
    if _IS_OLD.match(name):
        return _OLD
    return _NOT_REASONING if "non-reasoning" in name else _REASONING


facts_for: Final = by_prefix(
    {
        "grok-3": facts("text", "tools", "json_schema", "logprobs"),
        "grok-3-mini": facts("text", "tools", "reasoning", "json_schema"),
        "grok-4": facts("text", "images", "tools", "reasoning", "json_schema"),
        "grok-4-fast-non-reasoning": facts("text", "images", "tools", "json_schema"),
        "grok-4-1-fast-non-reasoning": facts("text", "images", "tools", "json_schema"),
        "grok-code": facts("text", "tools", "reasoning", "json_schema"),
    }
)

KIND: Final = ProviderKind(
    type="xai",
    dialect=DIALECT,
    traits_for=traits_for,
    facts_for=facts_for,
    base_url="https://api.x.ai/v1",
    key_variable="XAI_API_KEY",
    other=on_request(
        ResponsesTraits(
            home="xai", developer_role=False, custom_tools=False, service_tier=False, prompt_cache_key=False
        )
    ),
)
