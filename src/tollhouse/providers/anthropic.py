"""Anthropic, and whoever speaks its Messages API."""

from dataclasses import replace
from typing import Final

from tollhouse.dialects.anthropic import COUNTING, DIALECT
from tollhouse.dialects.anthropic.traits import AnthropicTraits
from tollhouse.providers import claude
from tollhouse.providers.credentials import x_api_key
from tollhouse.providers.provider import ProviderKind

VERSION: Final = (b"anthropic-version", b"2023-06-01")
"""The one version of the API that every client sends (docs of 2026); required."""

FORWARDED: Final = frozenset({b"anthropic-beta", b"anthropic-version"})
"""A client whose bytes go on unchanged must also get the version of the API, and the betas, that it wrote them for."""


def without_version(base_url: str) -> str:
    """Anthropic's own tools take the address without `/v1`; many people write it all the same."""
    return base_url.removesuffix("/v1")


KIND: Final = ProviderKind(
    type="anthropic",
    dialect=DIALECT,
    traits_for=claude.traits_for,
    facts_for=claude.facts_for,
    base_url="https://api.anthropic.com",
    key_variable="ANTHROPIC_API_KEY",
    authenticate=x_api_key,
    complete_base_url=without_version,
    chat_path="/v1/messages",
    models_path="/v1/models?limit=1000",
    counting=COUNTING,
    count_tokens_path="/v1/messages/count_tokens",
    fixed_headers=(VERSION,),
    forward_headers=FORWARDED,
)


def _any_traits(model: str) -> AnthropicTraits:
    """A compatible server may serve Claude or anything else; only of Claude is it known what it can be told."""
    return replace(claude.traits_for(model), home=COMPATIBLE.type) if "claude" in model.lower() else _PLAIN


# What all compatible servers seem to know: no effort words, no JSON schema, no system role within the messages.
_PLAIN: Final = AnthropicTraits(
    home="anthropic-compatible",
    system_in_messages=False,
    structured_output="none",
    thinking="budget",
    efforts={},
    temperature_with_top_p=True,
    unsigned_thinking=True,
)

COMPATIBLE: Final = ProviderKind(
    type="anthropic-compatible",
    dialect=DIALECT,
    traits_for=_any_traits,
    facts_for=claude.facts_for,
    base_url=None,
    needs_key=False,
    needs_base_url=True,
    signs_bare=True,
    authenticate=x_api_key,
    complete_base_url=without_version,
    chat_path="/v1/messages",
    models_path="/v1/models?limit=1000",
    counting=COUNTING,
    count_tokens_path="/v1/messages/count_tokens",
    fixed_headers=(VERSION,),
    forward_headers=FORWARDED,
)
