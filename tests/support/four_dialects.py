"""The four dialects, with the traits of a provider of which nothing special is known: what stands for a client, or a provider,
of each where no network is needed."""

from collections.abc import Mapping
from typing import Any, Final

from support.four_sides import Side
from tollhouse.dialects import anthropic, gemini, openai_chat, openai_responses
from tollhouse.dialects.anthropic import AnthropicTraits
from tollhouse.dialects.dialect import Dialect
from tollhouse.dialects.gemini import GeminiTraits
from tollhouse.dialects.openai_chat.traits import OpenAIChatTraits
from tollhouse.dialects.openai_responses import ResponsesTraits

FOUR: Final[Mapping[Side, Dialect[Any]]] = {
    "openai_chat": openai_chat.DIALECT,
    "openai_responses": openai_responses.DIALECT,
    "anthropic": anthropic.DIALECT,
    "gemini": gemini.DIALECT,
}
TRAITS: Final[Mapping[Side, Any]] = {
    "openai_chat": OpenAIChatTraits(),
    "openai_responses": ResponsesTraits(logprobs=True),
    "anthropic": AnthropicTraits(),
    "gemini": GeminiTraits(),
}
