"""How an Anthropic-compatible provider, or one model of Anthropic's own, differs from the dialect's plain form."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

EFFORT_BUDGETS: Final[Mapping[str, int]] = {
    "minimal": 1_024,
    "low": 2_048,
    "medium": 8_192,
    "high": 16_384,
    "xhigh": 24_576,
    "max": 32_768,
}
"""Thinking tokens for each word of effort, for models that only know budgets.  Ours: no documentation gives such a table."""

EFFORTS: Final[Mapping[str, str]] = {
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "xhigh",
    "max": "max",
}
"""The words of effort that `output_config.effort` takes, by everyone's words (Messages API reference, October 2026)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnthropicTraits:
    """What a provider of this dialect can be told.  The defaults are Anthropic's newest models."""

    home: str = "anthropic"
    """The provider's type: whose signatures over reasoning it knows as its own."""
    default_max_tokens: int = 8_192
    """`max_tokens` must be given; this is used where the client's dialect did not ask for any limit."""
    system_in_messages: bool = True
    """Whether the system role may stand within `messages`; where not, it becomes text of a user turn."""
    images: bool = True
    documents: bool = True
    structured_output: Literal["output_config", "output_format", "none"] = "output_config"
    """Where a JSON schema for the answer goes: `output_config.format`, the older beta's `output_format`, or nowhere."""
    thinking: Literal["any", "adaptive", "budget", "none"] = "any"
    """Whether the model is told how hard to think in words, in tokens, as the client has it, or not at all.

    Of Anthropic's own models the newest know only `adaptive`, Claude 4.6 both ways, those before only budgets
    (`anthropic/anthropic-models-615699`).
    """
    efforts: Mapping[str, str] = field(default_factory=lambda: EFFORTS)
    """What to say for each word of effort; a word that is missing is left out.  Empty where effort is not known."""
    min_thinking_budget: int = 1_024
    unsigned_thinking: bool = False
    """Whether earlier thinking is taken back without a signature; Anthropic itself refuses that."""
    max_temperature: float = 1.0
    temperature_with_top_p: bool = False
    """Whether both may be given at once; Anthropic refuses that from Claude 4.5 on."""
    max_cache_markers: int = 4
    """0 where the provider has no `cache_control`."""
    drop_fields: frozenset[str] = frozenset()
    """Top-level fields that the provider refuses."""
