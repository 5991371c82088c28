"""Another Tollhouse: a gateway behind a gateway, and what the client library speaks with one.

It is spoken to in Chat Completions.  What it cannot open stays sealed: a value that comes from it belongs to it, whatever
provider stands behind it, and goes back to it as it came.
"""

from dataclasses import replace
from typing import Final

from tollhouse.dialects.openai_chat import DIALECT
from tollhouse.dialects.openai_chat.embeddings import EMBEDDINGS
from tollhouse.dialects.openai_chat.traits import OPENAI, OpenAIChatTraits
from tollhouse.providers.provider import ProviderKind

TYPE: Final = "tollhouse"
HEALTH_PATH: Final = "/health"
"""Answers without a credential."""
COUNT_PATH: Final = "/v1/messages/count_tokens"
"""Takes Anthropic's request, whatever the model."""

_TRAITS: Final = replace(
    OPENAI,
    home=TYPE,
    # It forwards the bytes of providers that leave reasoning out of the output; where they do not, their totals say so.
    reasoning_outside_output=True,
    reasoning_field="reasoning_content",
    reasoning_details=True,
    reasoning_style="openrouter",
    top_k=True,
    cache_control=True,
)


def traits_for(model: str) -> OpenAIChatTraits:
    """The same for every model: the gateway there leaves out by itself what a model does not know, and says so."""
    del model
    return _TRAITS


def without_version(base_url: str) -> str:
    """The gateway's own address; what OpenAI's tools are given has `/v1` at its end."""
    return base_url.removesuffix("/v1")


KIND: Final = ProviderKind(
    type=TYPE,
    dialect=DIALECT,
    traits_for=traits_for,
    base_url=None,
    needs_key=False,
    needs_base_url=True,
    complete_base_url=without_version,
    chat_path="/v1/chat/completions",
    models_path="/v1/models",
    embeddings=EMBEDDINGS,
    embeddings_path="/v1/embeddings",
)
