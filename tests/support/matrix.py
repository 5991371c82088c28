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


TITLES: Final[Mapping[str, str]] = {
    "openai_chat": "Clients of OpenAI Chat Completions",
    "openai_responses": "Clients of OpenAI Responses",
    "anthropic": "Clients of Anthropic Messages",
    "gemini": "Clients of Google Gemini",
}
READ_BY: Final[Mapping[str, str]] = {
    "openai_chat": "OpenAI's SDK, `chat.completions.create`",
    "openai_responses": "OpenAI's SDK, `responses.create`",
    "anthropic": "Anthropic's SDK, `messages.create` and `messages.stream`",
    "gemini": "Google's SDK, `generate_content` and `generate_content_stream`",
}
INTRODUCTION: Final = """\
# Conformance

What was proved of every client dialect, every provider and every feature, and by what.  This page is written by the tests in
`tests/conformance` out of their own results: `make conformance` writes it anew, and any run of the tests fails where the page
says more or less than they proved.

A recording is an exchange with the real provider (`tests/recorded`, where each one's origin is told).  For **answers**, a fake
provider replays it byte for byte to a running gateway, and the vendor's own SDK of the client's dialect reads the same in it as
the provider's own SDK reads without a gateway: text, reasoning, calls, citations, counts, why it ended.  For **requests**, what
was recorded is asked in the client's dialect, and what then arrives at the provider means the same, or a receipt says what not;
earlier reasoning is what a plain client got from the gateway and sends back.

| mark | meaning |
| --- | --- |
| ● | proved by every recording that has the feature |
| ◐ | proved by some; in others it is lost with a word: see the footnote |
| ○ | lost with a word: the client's or the provider's dialect has no form for it |
| · | no recording has it |

Models lists, token counts and other APIs are at the end.  Embeddings were never recorded; `tests/server/test_embeddings.py` has
them against a made-up provider, with OpenAI's and Google's SDKs, and so they have no mark here.
"""


def page(matrix: Matrix, others: Mapping[str, tuple[str, list[str]]]) -> str:
    """`docs/conformance.md`.  `others` are recordings that no table holds: what they are, and which."""
    count = matrix.count()
    said = ", ".join(f"{mark} {count[mark]}" for mark in "●◐○·")
    lines = [INTRODUCTION, f"Cells in all: {said}.", ""]
    for side, title in TITLES.items():
        lines += [f"## {title}", ""]
        for part, columns, told in (
            ("answers", ANSWERS, f"What {READ_BY[side]}, reads in the answers of a provider."),
            ("requests", REQUESTS, "What a provider is asked."),
        ):
            lines += [f"### {title}: {part}", "", told, "", *_table(matrix, side, part, columns), ""]
    lines += ["## The columns", ""]
    for part, columns in (("Answers", ANSWERS), ("Requests", REQUESTS)):
        lines += [f"**{part}**: " + "; ".join(f"*{name}* is {meaning}" for name, meaning in columns.items()) + ".", ""]
    lines += ["## The recordings behind each row", ""]
    for provider in sorted({provider for _, _, provider, _ in matrix.cells}):
        lines += [f"<details><summary>{provider}</summary>", "", *_behind(matrix, provider), "", "</details>", ""]
    lines += ["## Recordings outside the tables", "", "| recording | reason |", "| --- | --- |"]
    lines += [f"| `{name}` | {why} |" for name, why in sorted(matrix.apart.items())]
    lines += [f"| {', '.join(f'`{each}`' for each in names)} | {what} |" for what, names in others.values()]
    return "\n".join(lines) + "\n"


def _table(matrix: Matrix, side: str, part: str, columns: Mapping[str, str]) -> list[str]:
    providers = sorted({cell[2] for cell in matrix.cells if cell[0] == side and cell[1] == part})
    notes: dict[str, list[str]] = {}
    rows = []
    for provider in providers:
        marks = []
        for feature in columns:
            cell = matrix.cells.get((side, part, provider, feature))
            if cell is None:
                marks.append("·")
                continue
            numbers = []
            for reason, recordings in sorted(cell.losses.items()):
                notes.setdefault(reason, []).extend(recordings)
                numbers.append(str(list(notes).index(reason) + 1))
            marks.append(cell.mark + (f"<sup>{','.join(numbers)}</sup>" if numbers else ""))
        rows.append(f"| {provider} | {' | '.join(marks)} |")
    head = [f"| provider | {' | '.join(columns)} |", f"| --- |{' :-: |' * len(columns)}"]
    footnotes = [
        f"{number}. {reason}: {', '.join(f'`{each}`' for each in sorted(set(recordings)))}"
        for number, (reason, recordings) in enumerate(notes.items(), 1)
    ]
    return [*head, *rows, *(["", *footnotes] if footnotes else [])]


def _behind(matrix: Matrix, provider: str) -> list[str]:
    """Which recordings have which feature; those that lost it somewhere are named in the footnotes above."""
    lines = []
    for part, columns in (("answers", ANSWERS), ("requests", REQUESTS)):
        for feature in columns:
            found: set[str] = set()
            for (_, of_part, of_provider, of_feature), cell in matrix.cells.items():
                if (of_part, of_provider, of_feature) == (part, provider, feature):
                    found |= {*cell.proofs, *(each for lost in cell.losses.values() for each in lost)}
            if found:
                lines.append(f"- {part}, {feature}: {', '.join(f'`{each}`' for each in sorted(found))}")
    return lines
