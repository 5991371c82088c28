"""Servers that speak Chat Completions and of which nothing else is known."""

from typing import Final

from tollhouse.dialects.openai_chat import DIALECT
from tollhouse.dialects.openai_chat.embeddings import EMBEDDINGS
from tollhouse.dialects.openai_chat.traits import OpenAIChatTraits
from tollhouse.dialects.openai_responses import ResponsesTraits
from tollhouse.providers.provider import ProviderKind
from tollhouse.providers.responses_api import on_request

PLAIN: Final = OpenAIChatTraits(
    home="openai-compatible",
    call_ids="any",
    max_tokens_field="max_tokens",
    developer_role=False,
    custom_tools=False,
    service_tier=False,
    prompt_cache_key=False,
)
"""What servers agree on: the older names, the older roles, and none of what only OpenAI sells."""


def traits_for(model: str) -> OpenAIChatTraits:
    """The same for every model."""
    del model
    return PLAIN


KIND: Final = ProviderKind(
    type="openai-compatible",
    dialect=DIALECT,
    embeddings=EMBEDDINGS,
    embeddings_path="/embeddings",
    traits_for=traits_for,
    base_url=None,
    needs_key=False,
    needs_base_url=True,
    other=on_request(
        ResponsesTraits(
            home="openai-compatible",
            asks_encrypted=False,
            reasoning_text=True,
            developer_role=False,
            custom_tools=False,
            service_tier=False,
            prompt_cache_key=False,
        )
    ),
)
