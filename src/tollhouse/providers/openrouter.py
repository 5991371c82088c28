"""OpenRouter: other companies' models behind one address."""

from typing import Final

from tollhouse.dialects.openai_chat import DIALECT
from tollhouse.dialects.openai_chat.embeddings import EMBEDDINGS
from tollhouse.dialects.openai_chat.traits import OpenAIChatTraits
from tollhouse.dialects.openai_responses import ResponsesTraits
from tollhouse.providers import claude
from tollhouse.providers.catalogue import UNKNOWN, ModelFacts
from tollhouse.providers.provider import ProviderKind
from tollhouse.providers.responses_api import on_request

_TRAITS: Final = OpenAIChatTraits(
    home="openrouter",
    call_ids="any",
    max_tokens_field="max_tokens",
    reasoning_field="reasoning",
    reasoning_details=True,
    reasoning_style="openrouter",
    custom_tools=False,
    top_k=True,
    service_tier=False,
    prompt_cache_key=False,
    cache_control=True,
    max_cache_markers=4,  # Anthropic's own bound, which OpenRouter passes on
)


def traits_for(model: str) -> OpenAIChatTraits:
    """The same for every model: OpenRouter leaves out by itself what a model does not know."""
    del model
    return _TRAITS


def facts_for(model: str) -> ModelFacts:
    """What is known of models of companies that we know."""
    owner, _, name = model.partition("/")
    return claude.facts_for(name) if owner == "anthropic" else UNKNOWN


KIND: Final = ProviderKind(
    type="openrouter",
    dialect=DIALECT,
    embeddings=EMBEDDINGS,
    embeddings_path="/embeddings",
    traits_for=traits_for,
    facts_for=facts_for,
    base_url="https://openrouter.ai/api/v1",
    key_variable="OPENROUTER_API_KEY",
    # Whose app this is, for OpenRouter's statistics (openrouter.ai/docs/api-reference/overview, "Headers").
    forward_headers=frozenset({b"http-referer", b"x-title"}),
    other=on_request(
        ResponsesTraits(home="openrouter", custom_tools=False, service_tier=False, prompt_cache_key=False)
    ),
)
