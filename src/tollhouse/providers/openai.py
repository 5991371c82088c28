"""OpenAI."""

import re
from dataclasses import replace
from typing import Final

from tollhouse.dialects.openai_chat import DIALECT
from tollhouse.dialects.openai_chat.embeddings import EMBEDDINGS
from tollhouse.dialects.openai_chat.traits import OPENAI, OpenAIChatTraits
from tollhouse.dialects.openai_responses import COUNTING, ResponsesTraits
from tollhouse.dialects.openai_responses import DIALECT as RESPONSES
from tollhouse.providers.catalogue import ModelFacts, by_prefix, facts
from tollhouse.providers.provider import OtherDialect, ProviderKind

# Reasoning models whose sampling is fixed: o1, o3, o4 and GPT-5 itself with its mini, nano, pro and codex forms.  Another
# `temperature` than 1 is 400 `unsupported_value`, and `max_tokens` is 400 `unsupported_parameter`
# (platform.openai.com/docs/guides/reasoning; users' reports of 2025 and 2026).
_FIXED_SAMPLING: Final = re.compile(r"o\d|gpt-5(?!\.|-chat)")
# GPT-5.1 and later sample freely when `reasoning_effort` is `none`, which is their default; which of the two a request
# asks for is its own business (OpenAI's guide as github.com/vercel/ai/issues/10932 quotes it, 2025).
_REASONING: Final = re.compile(r"gpt-5\.")
# Models that do not reason refuse `reasoning_effort` as an unknown argument.
_NOT_REASONING: Final = re.compile(r"gpt-3\.5|gpt-4|chatgpt-4o|gpt-5-chat|gpt-audio")
_HEARS: Final = re.compile(r"gpt-audio|gpt-4o-(mini-)?audio")

# A client that still writes `max_tokens` means the same.
_LIMIT_RENAMED: Final = {"max_tokens": "max_completion_tokens"}

_FIXED: Final = replace(
    OPENAI,
    audio=False,
    penalties=False,
    logprobs=False,
    stop=False,
    drop_fields=frozenset({"temperature", "top_p"}),
    rename_fields=_LIMIT_RENAMED,
)
_CHOOSABLE: Final = replace(OPENAI, audio=False, stop=False, rename_fields=_LIMIT_RENAMED)
_PLAIN: Final = replace(OPENAI, reasoning_style="none", audio=False)


def traits_for(model: str) -> OpenAIChatTraits:
    """What one of OpenAI's models can be told; a fine-tuned one (`ft:gpt-4o:…`) what its base can."""
    name = _bare(model)
    if _FIXED_SAMPLING.match(name):
        return _FIXED
    if _REASONING.match(name):
        return replace(_CHOOSABLE, cache_breakpoints=True) if _CACHES.match(name) else _CHOOSABLE
    if _NOT_REASONING.match(name):
        return replace(_PLAIN, audio=True) if _HEARS.match(name) else _PLAIN
    return OPENAI


# What has no chat endpoint: the models that work long, and those made for coding agents and for computers
# (platform.openai.com/docs/models, "Endpoints" of each, November 2026).
_RESPONSES_ONLY: Final = re.compile(
    r"o[13]-pro|gpt-5(\.\d+)?-pro|gpt-5(\.\d+)?-codex|codex-mini|computer-use|o[34](-mini)?-deep-research"
)
# What the Responses API does not have: sound, the older search, and what is no model of language.
_CHAT_ONLY: Final = re.compile(
    r".*(audio|search-preview|search-api|instruct|realtime|transcribe|tts|embedding|moderation|image)|davinci|babbage"
)
# Explicit cache breakpoints are sold with GPT-5.6 (`openai/openai-responses-json-text-be623f`).
_CACHES: Final = re.compile(r"gpt-5\.([6-9]|\d\d)")

_ASKED_TO_REASON: Final = ResponsesTraits()
_FIXED_REASONING: Final = replace(_ASKED_TO_REASON, drop_fields=frozenset({"temperature", "top_p"}))
_NOT_REASONED: Final = ResponsesTraits(reasoning=False, asks_encrypted=False, logprobs=True)


def responses_traits_for(model: str) -> ResponsesTraits:
    """What one of OpenAI's models can be told by the Responses API."""
    name = _bare(model)
    if _FIXED_SAMPLING.match(name):
        return _FIXED_REASONING
    if _NOT_REASONING.match(name):
        return _NOT_REASONED
    return replace(_ASKED_TO_REASON, cache_breakpoints=True) if _CACHES.match(name) else _ASKED_TO_REASON


def _bare(model: str) -> str:
    return model.lower().removeprefix("ft:")


RESPONSES_API: Final = OtherDialect(
    api="responses",
    dialect=RESPONSES,
    chat_path="/responses",
    counting=COUNTING,
    count_tokens_path="/responses/input_tokens",
    traits_for=responses_traits_for,
    offers=lambda model: _CHAT_ONLY.match(_bare(model)) is None,
    is_only_one=lambda model: _RESPONSES_ONLY.match(_bare(model)) is not None,
)


# Limits as OpenAI's model pages gave them in 2025; later members of a family are taken to keep them.
facts_for: Final = by_prefix(
    {
        "gpt-5": facts("text", "images", "documents", "tools", "reasoning", "json_schema", max_output_tokens=128_000),
        "gpt-5-chat": ModelFacts(max_output_tokens=16_384),
        "gpt-4.1": facts("text", "images", "documents", "tools", "json_schema", "logprobs", max_output_tokens=32_768),
        "gpt-4o": facts("text", "images", "documents", "tools", "json_schema", "logprobs", max_output_tokens=16_384),
        "gpt-4o-audio": facts("text", "audio", "tools", max_output_tokens=16_384),
        "gpt-4o-mini-audio": facts("text", "audio", "tools", max_output_tokens=16_384),
        "gpt-audio": facts("text", "audio", "tools", max_output_tokens=16_384),
        "gpt-4-turbo": facts("text", "images", "tools", "logprobs", max_output_tokens=4_096),
        "gpt-3.5-turbo": facts("text", "tools", "logprobs", max_output_tokens=4_096),
        "o1": facts("text", "images", "documents", "tools", "reasoning", "json_schema", max_output_tokens=100_000),
        "o3": facts("text", "images", "documents", "tools", "reasoning", "json_schema", max_output_tokens=100_000),
        "o3-mini": facts("text", "tools", "reasoning", "json_schema", max_output_tokens=100_000),
        "o4-mini": facts("text", "images", "documents", "tools", "reasoning", "json_schema", max_output_tokens=100_000),
        # Not chat models: nothing that a chat could ask for.
        "gpt-4o-transcribe": ModelFacts(),
        "gpt-4o-mini-transcribe": ModelFacts(),
        "gpt-4o-mini-tts": ModelFacts(),
    }
)

KIND: Final = ProviderKind(
    type="openai",
    dialect=DIALECT,
    embeddings=EMBEDDINGS,
    embeddings_path="/embeddings",
    traits_for=traits_for,
    facts_for=facts_for,
    base_url="https://api.openai.com/v1",
    key_variable="OPENAI_API_KEY",
    other=RESPONSES_API,
)
