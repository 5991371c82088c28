"""The embedded model: llama.cpp in a process of its own, whose address and key are known once it runs."""

from dataclasses import replace
from typing import Final

from tollhouse.dialects.openai_chat import DIALECT
from tollhouse.dialects.openai_chat.traits import OpenAIChatTraits
from tollhouse.providers.compatible import PLAIN
from tollhouse.providers.provider import ProviderKind

_TRAITS: Final = replace(
    PLAIN,
    reasoning_style="none",
    images=False,
    documents=False,
    audio=False,
    top_k=True,
    user=False,
)

_TOOLLESS: Final = replace(_TRAITS, tool_choice_free=False)


def traits_for(model: str) -> OpenAIChatTraits:
    """The same for every model: they are small, and only read text."""
    del model
    return _TRAITS


def traits_without_tools(model: str) -> OpenAIChatTraits:
    """Those of a model whose chat template knows no tools: it is made to call one where that is demanded."""
    del model
    return _TOOLLESS


KIND: Final = ProviderKind(
    type="local",
    dialect=DIALECT,
    traits_for=traits_for,
    base_url=None,
    needs_key=False,
    own_model="smollm2-135m-instruct",  # `tollhouse.local.catalogue.DEFAULT_MODEL`, of a room further down
    options=("path", "slots", "context_tokens", "threads"),
)
