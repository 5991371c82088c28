"""What the conformance tests proved, cell by cell, and the page that says it.

A test that passed says so: `matrix.prove(...)` for each feature that its recording has.  `page(matrix)` is then the text of
`docs/conformance.md`; `tests/conformance/test_page.py` compares it with the page on disk.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

ANSWERS: Final[Mapping[str, str]] = {
    "text": "text",
    "stream": "streamed",
    "tool call": "a tool call",
    "parallel calls": "several tool calls at once",
    "reasoning": "reasoning that is shown",
    "sealed": "reasoning that is signed or encrypted",
    "citations": "citations",
    "logprobs": "log-probabilities",
    "answers": "several answers at once",
    "length": "stopped by a limit",
    "stop string": "stopped by a stop string",
    "filtered": "withheld by a filter, or the prompt was blocked",
    "refusal": "a refusal in a field of its own",
    "cached": "cached tokens, read and written",
    "reasoned": "counts of reasoning tokens",
    "own parts": "parts that only the provider's own dialect knows: server-side tools, sound, compaction",
    "error": "refused with an error status",
    "error in stream": "an error after the head of a stream was sent",
}
REQUESTS: Final[Mapping[str, str]] = {
    "system": "a system prompt",
    "turns": "earlier turns of the assistant's",
    "tools": "tools offered",
    "tool results": "tool calls of earlier turns, and their results",
    "forced tool": "a choice of tools: forced, named, none",
    "JSON": "an answer held to JSON, or to a schema",
    "images": "images",
    "documents": "documents",
    "audio": "sound",
    "sampling": "temperature, top-p, top-k, seed, penalties",
    "limit": "a limit of output tokens",
    "stop strings": "stop strings",
    "answers": "several answers asked for",
    "logprobs": "log-probabilities asked for",
    "think": "how hard to think",
    "thoughts": "earlier reasoning sent back, with its signatures",
    "cache marks": "prompt-cache markers and keys",
    "own tools": "server-side tools of the provider's own",
    "own fields": "fields that only the provider's own dialect knows",
}
"""The columns, and what each means."""


@dataclass(slots=True)
class Cell:
    """What is known of one feature of one provider for one client."""

    proofs: list[str] = field(default_factory=list)
    """Recordings in which the feature came through whole."""
    losses: dict[str, list[str]] = field(default_factory=dict)
    """Reasons, each with the recordings in which the feature did not."""

    @property
    def mark(self) -> str:
        """`●` proved, `◐` proved but for some recordings, `○` lost with a word."""
        if not self.losses:
            return "●"
        return "◐" if self.proofs else "○"


@dataclass(slots=True)
class Matrix:
    """Gathers what was proved."""

    cells: dict[tuple[str, str, str, str], Cell] = field(default_factory=dict)
    """By the client's dialect, `answers` or `requests`, the provider, and the feature."""
    seen: dict[str, set[str]] = field(default_factory=dict)
    """Recordings by what was done with them."""
    apart: dict[str, str] = field(default_factory=dict)
    """Recordings that stand outside the tables, with the reason, or with the test that has them."""

    def prove(
        self,
        side: str,
        part: str,
        provider: str,
        recording: str,
        features: Iterable[str],
        lost: Mapping[str, str],
    ) -> None:
        """A recording came through to (or from) a client: its features whole, but those in `lost`, with the reasons."""
        known = ANSWERS if part == "answers" else REQUESTS
        for feature in features:
            if feature not in known:
                raise KeyError(f"no column for {feature!r}")
            cell = self.cells.setdefault((side, part, provider, feature), Cell())
            if feature in lost:
                cell.losses.setdefault(lost[feature], []).append(recording)
            else:
                cell.proofs.append(recording)
        self.seen.setdefault(f"{side} {part}", set()).add(recording)

    def count(self) -> Mapping[str, int]:
        """How many cells have each mark; `·` is for those that no recording has."""
        marks = [cell.mark for cell in self.cells.values()]
        providers = {(part, provider) for _, part, provider, _ in self.cells}
        sides = {side for side, *_ in self.cells}
        possible = sum(len(ANSWERS if part == "answers" else REQUESTS) for part, _ in providers) * len(sides)
        return {**{mark: marks.count(mark) for mark in "●◐○"}, "·": possible - len(marks)}
