"""OpenAI's Chat Completions, and everything that calls itself compatible with it."""

from tollhouse.dialects.openai_chat.dialect import DIALECT, OpenAIChat
from tollhouse.dialects.openai_chat.traits import OPENAI, OpenAIChatTraits

__all__ = ["DIALECT", "OPENAI", "OpenAIChat", "OpenAIChatTraits"]
