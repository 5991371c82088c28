"""How one provider's, or one model's, form of the Responses API differs from OpenAI's."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponsesTraits:
    """What a provider can say and how.  The defaults are OpenAI's reasoning models."""

    home: str = "openai"
    """Whose encrypted reasoning is sent."""
    asks_encrypted: bool = True
    """Reasoning is asked for in encrypted form, so that it can go on in the next turn wherever the conversation is kept.
    A model that does not reason refuses the option."""
    reasoning: bool = True
    """`reasoning` is understood."""
    reasoning_text: bool = False
    """Earlier reasoning is taken back as plain text (`deepseek/deepseek-responses-stream-tool-result-2c48e0`)."""
    developer_role: bool = True
    """`developer` messages are understood; else they are sent as `system`."""
    images: bool = True
    """`input_image` parts are understood."""
    documents: bool = True
    """`input_file` parts are understood."""
    audio: bool = False
    """`input_audio` parts are understood."""
    custom_tools: bool = True
    """Free-form `custom` tools are understood; else they become functions with one string argument."""
    strict_tools: bool = True
    """`strict` in a tool is understood."""
    json_schema: bool = True
    """`text.format: json_schema` is understood; else `json_object` is asked for."""
    json_object: bool = True
    """`text.format: json_object` is understood."""
    logprobs: bool = False
    """`top_logprobs` is understood; OpenAI's reasoning models refuse it."""
    user: bool = True
    """`safety_identifier` is understood."""
    service_tier: bool = True
    """`service_tier` is understood."""
    prompt_cache_key: bool = True
    """`prompt_cache_key` is understood."""
    cache_breakpoints: bool = False
    """`prompt_cache_breakpoint` in a part is understood (`openai/openai-responses-json-text-be623f`: from GPT-5.6 on)."""
    drop_fields: frozenset[str] = frozenset()
    """Top-level fields that the model refuses, taken out in the same-dialect lane too."""
    renamed_efforts: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({"max": "xhigh"}))
    """Words of effort that the provider knows under another name."""


OPENAI: Final = ResponsesTraits()
"""OpenAI's reasoning models."""
