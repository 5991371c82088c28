"""How heavy a call is before it is sent: the tokens that it will probably use, and what it can cost at worst.

Nobody but the provider has its tokenizer, so tokens are guessed from bytes, for each model by what its calls turned out to
have.  `Scales` remembers of a model how many tokens a byte usually makes, the most that it has made lately, and how many came
on top of what bytes can make: a provider's own prompt.  The first is for rates, which are corrected afterwards; the others,
with a margin, are for holds, which should not be too small: a call like the last one never weighs less than that was.
What is no text (pictures, documents) is counted by the piece, which needs the request decoded, so it is done only where there
is some.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

import msgspec

from tollhouse.chat.model import Request
from tollhouse.chat.usage import Usage
from tollhouse.gateway import estimate
from tollhouse.ledger.prices import ModelPrice, Rate
from tollhouse.policy.admission import Weight

USUAL_TOKENS_PER_BYTE: Final = 0.25
"""English prose: about four bytes a token with every tokenizer in use.  At worst a byte makes no less than that, whatever a
model's calls have shown: they may have been pictures, of which a megabyte makes a thousand tokens."""
MOST_TOKENS_PER_BYTE: Final = 0.5
"""What is assumed before a model's calls have shown theirs: digits, code and most scripts stay below it."""
MARGIN: Final = 1.15
LEAST_SAMPLES: Final = 20
"""Calls that must have been seen before their worst stands in for the assumption."""
MEMORY: Final = 0.05
"""How much of the usual is the newest call."""
FADING: Final = 0.002
"""How much of a former worst each call takes away."""
USUAL_OUTPUT_TOKENS: Final = 300
DEFAULT_MAX_OUTPUT_TOKENS: Final = 32_768
"""For models of which nobody says how much they can write."""
MEDIA_FACTOR: Final = 3
"""What a picture or a page can cost at worst, over what `estimate` takes it for."""
_ROUNDING_NANO: Final = 4
"""A bill rounds each of its eight lines for itself, by half a nano-USD at most."""
MAX_MODELS: Final = 2_000


@dataclass(slots=True)
class _Pan:
    """What one model's calls have shown."""

    usual: float = USUAL_TOKENS_PER_BYTE
    most: float = 0.0
    extra: float = 0.0
    """Tokens that no byte of the caller's accounts for."""
    output: float = USUAL_OUTPUT_TOKENS
    samples: int = 0

    worst: float = MOST_TOKENS_PER_BYTE
    """Tokens that a byte makes at worst."""


class Scales:
    """Weighs calls, and learns from what they turned out to be.  One for each process; a reload keeps it."""

    def __init__(self) -> None:
        self._pans: dict[str, _Pan] = {}

    def weigh(
        self,
        model: str,
        price: ModelPrice | None,
        *,
        body: bytes,
        may_have_media: bool,
        decoded: Callable[[], Request],
        max_output_tokens: int | None,
        model_output_tokens: int | None,
        choices: int,
        at_us: int,
    ) -> Weight:
        """Weighs a call to `model` (`provider/model`).

        `decoded` gives the request, where it may have media; it may raise what decoding raises.
        """
        pan = self._pans.get(model, _NEW)
        text_bytes, media_tokens = len(body), 0
        if may_have_media:
            request = decoded()
            text_bytes, media_tokens = estimate.measure(request)
            if request.response_format is not None:
                text_bytes += len(msgspec.json.encode(request.response_format))
        most_output = max_output_tokens or model_output_tokens or DEFAULT_MAX_OUTPUT_TOKENS
        most_input = int(text_bytes * pan.worst + pan.extra * MARGIN) + MEDIA_FACTOR * media_tokens + 1
        likely_output = most_output if pan.output > most_output else int(pan.output)
        return Weight(
            likely_tokens=int(text_bytes * pan.usual) + media_tokens + likely_output * choices,
            most_input_tokens=most_input,
            most_output_tokens=most_output * choices,
            worst_nano=worst_cost(price, most_input, most_output * choices, at_us),
        )

    def learn(self, model: str, body_bytes: int, usage: Usage) -> None:
        """Takes in what a call turned out to be; only what its provider reported counts."""
        if usage.source != "reported" or not usage.input_tokens or not body_bytes:
            return
        pan = self._pans.get(model)
        if pan is None:
            if len(self._pans) >= MAX_MODELS:
                self._pans.clear()
            pan = self._pans[model] = _Pan()
        input_tokens, output_tokens = usage.input_tokens, usage.output_tokens
        ratio = input_tokens / body_bytes
        pan.samples += 1
        pan.usual += (ratio - pan.usual) * MEMORY
        if ratio >= pan.most:
            pan.most = ratio
        else:
            pan.most -= (pan.most - ratio) * FADING
        least = MOST_TOKENS_PER_BYTE if pan.samples < LEAST_SAMPLES else USUAL_TOKENS_PER_BYTE
        worst = pan.most * MARGIN
        pan.worst = worst = least if worst < least else min(worst, 1.0)
        pan.extra = max(input_tokens - body_bytes * worst, pan.extra * (1 - FADING))
        if output_tokens is not None:
            pan.output += (output_tokens - pan.output) * MEMORY


_NEW: Final = _Pan()


def worst_cost(price: ModelPrice | None, input_tokens: int, output_tokens: int, at_us: int) -> int | None:
    """The most that so many tokens can cost, in nano-USD: every token of the dearest class of its side.

    `None` without a price.
    """
    if price is None:
        return None
    if price.is_free:
        return 0
    rates = price.rates_at(at_us)
    flat = rates.flat
    if flat is not None:
        most_input, most_output = flat
    else:
        most_input, most_output = (_dearest(input_tokens, side) for side in rates.sides)
    if most_output is None and not output_tokens:
        most_output = 0  # an embedding has no output, and its price says so
    if most_input is None or most_output is None:
        return None
    amount = input_tokens * most_input + output_tokens * most_output
    return (-(-amount // 1_000_000) + _ROUNDING_NANO if amount else 0) + (rates.request or 0)


def _dearest(total_input: int, rates: Iterable[Rate]) -> int | None:
    """The highest of the rates, each at the step that this much input reaches."""
    return max(
        (
            rate if isinstance(rate, int) else max(step for tokens, step in rate if not tokens or total_input > tokens)
            for rate in rates
        ),
        default=None,
    )
