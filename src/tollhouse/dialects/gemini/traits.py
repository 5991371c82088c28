"""How one provider's, or one model's, form of the Gemini API differs from its plain form."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

LEVELS: Final[Mapping[str, str]] = {
    "none": "MINIMAL",
    "minimal": "MINIMAL",
    "low": "LOW",
    "medium": "MEDIUM",
    "high": "HIGH",
    "xhigh": "HIGH",
    "max": "HIGH",
}
"""`thinkingLevel` for everyone's words of effort (ai.google.dev/gemini-api/docs/thinking, November 2026)."""

EFFORT_BUDGETS: Final[Mapping[str, int]] = {
    "minimal": 1_024,
    "low": 1_024,
    "medium": 8_192,
    "high": 24_576,
    "xhigh": 24_576,
    "max": 24_576,
}
"""`thinkingBudget` for each word of effort, as Google's own OpenAI-compatible endpoint translates `reasoning_effort`
(ai.google.dev/gemini-api/docs/openai, "Thinking"); the words that it does not list are taken for the nearest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GeminiTraits:
    """What a provider of this dialect can be told.  The defaults are Google's newest models."""

    home: str = "google"
    """The provider's type: whose thought signatures it knows as its own."""
    thinking: Literal["level", "budget", "none"] = "level"
    """Whether the model is told how hard to think in words (Gemini 3), in tokens (Gemini 2.5), or not at all."""
    levels: Mapping[str, str] = field(default_factory=lambda: LEVELS)
    """`thinkingLevel` for each word of effort."""
    min_budget: int = 0
    """The least thinking budget over 0 that the model takes."""
    max_budget: int = 24_576
    """The largest thinking budget."""
    can_stop_thinking: bool = True
    """Whether a budget of 0, or the level `MINIMAL`, is taken: the professional models always think."""
    wants_signatures: bool = True
    """Whether function calls of the turn under way are refused without a thought signature (from Gemini 3 on)."""
    json_with_tools: bool = True
    """Whether an answer can be held to a schema while there are tools; before Gemini 3 that is 400."""
    structured_output: bool = True
    """Whether answers can be asked for as JSON at all."""
    validated_mode: bool = True
    """Whether function calls can be held to their schemas without being forced (mode `VALIDATED`)."""
    images: bool = True
    """Pictures are understood."""
    documents: bool = True
    """PDF and text documents are understood."""
    audio: bool = True
    """Sound is understood."""
    tools: bool = True
    """Whether functions can be declared."""
    system: bool = True
    """Whether there is a `systemInstruction`; models without one get it as the user's text."""
    penalties: bool = True
    """`presencePenalty` and `frequencyPenalty` are understood."""
    logprobs: bool = True
    """`responseLogprobs` is understood."""
    seed: bool = True
    """`seed` is understood."""
    max_candidates: int = 8
    """The most answers that can be asked for at once."""
    drop_fields: frozenset[str] = frozenset()
    """Top-level fields that the provider refuses."""
