"""Google's Gemini API, in its own dialect and through its OpenAI-compatible endpoint.

`google` asks `:generateContent` (ai.google.dev/api/generate-content); `google-openai` is for addresses where only the
compatible endpoint is (ai.google.dev/gemini-api/docs/openai).  Both read November 2026.
"""

import re
from dataclasses import replace
from typing import Final
from urllib.parse import quote, urlsplit

from tollhouse.dialects.gemini import COUNTING, DIALECT, GeminiTraits
from tollhouse.dialects.gemini.embed import EMBEDDINGS
from tollhouse.dialects.gemini.lane import resource_name
from tollhouse.dialects.openai_chat import DIALECT as OPENAI_CHAT
from tollhouse.dialects.openai_chat.embeddings import EMBEDDINGS as OPENAI_EMBEDDINGS
from tollhouse.dialects.openai_chat.traits import OpenAIChatTraits
from tollhouse.providers.catalogue import by_prefix, facts
from tollhouse.providers.credentials import x_goog_api_key
from tollhouse.providers.provider import OtherPaths, ProviderKind

HOME: Final = "google"

_VERSION: Final = re.compile(r"-(\d+)(?:\.(\d+))?n?(?=-|$)")

_NEWEST: Final = GeminiTraits(penalties=False, logprobs=False)
"""Gemini 3: penalties and log-probabilities are 400 (github.com/google-gemini/cookbook/issues/1290, July 2026)."""

# Gemini 3 Pro knows no other words (ai.google.dev/gemini-api/docs/thinking, "Thinking levels").
_PRO_LEVELS: Final = {"none": "LOW", "minimal": "LOW", "low": "LOW", "medium": "MEDIUM", "high": "HIGH"}
_FIRST_PRO_LEVELS: Final = {**_PRO_LEVELS, "medium": "HIGH"}


def traits_for(model: str) -> GeminiTraits:
    """What a model can be told, by the version in its name.  A name without one is taken for a new model."""
    name = model.lower().rpartition("/")[2]
    found = _VERSION.search(name)
    version = (int(found[1]), int(found[2] or 0)) if found else None
    if name.startswith("gemma"):
        return _gemma(version)
    if version is None or version >= (3, 0):
        if "pro" not in name:
            return _NEWEST
        levels = _FIRST_PRO_LEVELS if version == (3, 0) else _PRO_LEVELS
        return replace(_NEWEST, levels={**levels, "xhigh": "HIGH", "max": "HIGH"})
    older = replace(_NEWEST, wants_signatures=False, json_with_tools=False)
    if version >= (2, 5):
        # Budgets by model: ai.google.dev/gemini-api/docs/thinking, "Thinking budgets".
        budget = replace(older, thinking="budget")
        if "pro" in name:
            return replace(budget, min_budget=128, max_budget=32_768, can_stop_thinking=False)
        return replace(budget, min_budget=512) if "lite" in name else budget
    # Penalties and log-probabilities work with these alone (the same report).
    return replace(older, thinking="none", penalties=True, logprobs=version >= (2, 0), validated_mode=False)


def _gemma(version: tuple[int, int] | None) -> GeminiTraits:
    """Open models behind the same API; the third generation takes neither a system prompt, nor tools, nor schemas."""
    if version is None or version >= (4, 0):
        return replace(_NEWEST, wants_signatures=False)
    return replace(
        _NEWEST,
        wants_signatures=False,
        thinking="none",
        system=False,
        tools=False,
        structured_output=False,
        documents=False,
        audio=False,
    )


_MULTIMODAL: Final = facts(
    "text",
    "images",
    "documents",
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


def name_in_path(model: str) -> str:
    """`models/gemini-…`, or another collection's name as it is (`tunedModels/…`); no other slash divides the path."""
    collection, _, name = resource_name(model).partition("/")
    return f"{collection}/{quote(name, safe='')}"


def with_version(base_url: str) -> str:
    """The address with the API's version: people leave it out, or write the compatible endpoint's address."""
    base_url = base_url.removesuffix("/openai")
    return base_url if urlsplit(base_url).path.strip("/") else f"{base_url.rstrip('/')}/v1beta"


# Files are stored under `/upload/`, by the resumable protocol (ai.google.dev/api/files, "Method: media.upload"), and what a
# model made is fetched under `/download/`.  What is new comes in versions of its own (`/v1alpha/`).
_OTHER_PATHS: Final = OtherPaths(
    address_end=re.compile(r"/v\d+[a-z]*\d*$"),
    at_root=re.compile(r"/(upload|download|v\d+(alpha|beta)\d*)/"),
    request_headers=frozenset(
        {
            b"x-goog-upload-command",
            b"x-goog-upload-file-name",
            b"x-goog-upload-header-content-length",
            b"x-goog-upload-header-content-type",
            b"x-goog-upload-offset",
            b"x-goog-upload-protocol",
        }
    ),
    answer_headers=frozenset(
        {b"x-goog-upload-chunk-granularity", b"x-goog-upload-size-received", b"x-goog-upload-status"}
    ),
    session_headers=frozenset({b"x-goog-upload-url", b"x-goog-upload-control-url"}),
)

KIND: Final = ProviderKind(
    type="google",
    dialect=DIALECT,
    traits_for=traits_for,
    facts_for=facts_for,
    base_url="https://generativelanguage.googleapis.com/v1beta",
    key_variable="GEMINI_API_KEY",
    authenticate=x_goog_api_key,
    complete_base_url=with_version,
    chat_path="/{model}:generateContent",
    stream_path="/{model}:streamGenerateContent?alt=sse",
    embeddings=EMBEDDINGS,
    embeddings_path="/{model}:batchEmbedContents",
    models_path="/models?pageSize=1000",
    counting=COUNTING,
    count_tokens_path="/{model}:countTokens",
    name_in_path=name_in_path,
    other_paths=_OTHER_PATHS,
)

# An unknown field is 400 "Invalid JSON payload received. Unknown name …".  Users report it for these (2025 and 2026).
_UNKNOWN_FIELDS: Final = frozenset(
    {"frequency_penalty", "presence_penalty", "seed", "top_k", "prompt_cache_key", "logit_bias", "store"}
)

_OPENAI_TRAITS: Final = OpenAIChatTraits(
    home=HOME,
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


def _openai_traits_for(model: str) -> OpenAIChatTraits:
    """The same for every model."""
    del model
    return _OPENAI_TRAITS


OPENAI: Final = ProviderKind(
    type="google-openai",
    dialect=OPENAI_CHAT,
    traits_for=_openai_traits_for,
    facts_for=facts_for,
    base_url="https://generativelanguage.googleapis.com/v1beta/openai",
    key_variable="GEMINI_API_KEY",
    embeddings=OPENAI_EMBEDDINGS,
    embeddings_path="/embeddings",
)
