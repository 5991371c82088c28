"""What is known of models beyond what the price book says: what they can do and how much they can write.

Each provider's module has a small table of name prefixes; the longest prefix that fits wins.  A model that no prefix
fits is unknown, and stays so: nothing here guesses, and nothing refuses a request because of what stands here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

Capability: TypeAlias = Literal[
    "text",
    "images",
    "documents",
    "audio",
    "tools",
    "reasoning",
    "json_schema",
    "logprobs",
]
"""What goes in (`text`, `images`, `documents`, `audio`) and what can be asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """Facts about a family of models.  `None` is "not known"."""

    capabilities: frozenset[Capability] | None = None
    context_tokens: int | None = None
    """Only where the price book lacks it."""
    max_output_tokens: int | None = None


UNKNOWN: Final = ModelFacts()


def facts(
    *capabilities: Capability, max_output_tokens: int | None = None, context_tokens: int | None = None
) -> ModelFacts:
    """Facts with these capabilities and no others."""
    return ModelFacts(
        capabilities=frozenset(capabilities), context_tokens=context_tokens, max_output_tokens=max_output_tokens
    )


def by_prefix(table: Mapping[str, ModelFacts]) -> Callable[[str], ModelFacts]:
    """A look-up by the longest prefix of the model's name in lower case."""
    prefixes = sorted(table.items(), key=lambda entry: -len(entry[0]))

    def look_up(model: str) -> ModelFacts:
        name = model.lower()
        return next((known for prefix, known in prefixes if name.startswith(prefix)), UNKNOWN)

    return look_up
