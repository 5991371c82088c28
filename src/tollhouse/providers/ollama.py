"""Ollama, on the operator's own machine (docs.ollama.com/api/openai-compatibility, read November 2026)."""

from dataclasses import replace
from typing import Final
from urllib.parse import urlsplit

from tollhouse.dialects.openai_chat import DIALECT
from tollhouse.dialects.openai_chat.embeddings import EMBEDDINGS
from tollhouse.dialects.openai_chat.traits import OpenAIChatTraits
from tollhouse.providers.compatible import PLAIN
from tollhouse.providers.provider import ProviderKind

# `n`, `logit_bias`, `user` and parallel calls are not among the fields that it reads.
_TRAITS: Final = replace(
    PLAIN,
    reasoning_field="reasoning",
    documents=False,
    audio=False,
    parallel_tool_calls=False,
    many_choices=False,
    user=False,
)


def traits_for(model: str) -> OpenAIChatTraits:
    """The same for every model."""
    del model
    return _TRAITS


def with_version(base_url: str) -> str:
    """Ollama's own tools take the address without `/v1`, so people write it that way."""
    return base_url if urlsplit(base_url).path.strip("/") else f"{base_url}/v1"


KIND: Final = ProviderKind(
    type="ollama",
    dialect=DIALECT,
    embeddings=EMBEDDINGS,
    embeddings_path="/embeddings",
    traits_for=traits_for,
    base_url="http://127.0.0.1:11434/v1",
    # Ignored by a local server; ollama.com asks for one.
    key_variable="OLLAMA_API_KEY",
    needs_key=False,
    complete_base_url=with_version,
)
