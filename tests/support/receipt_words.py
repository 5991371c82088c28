"""How receipts name the loss of each fact of a request or an answer (`support.meaning`)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from support.four_dialects import TRAITS
from support.meaning import Facts


@dataclass(frozen=True)
class Fact:
    """How the receipt names the loss of one fact, and the column of the matrix that the fact belongs to."""

    named: str
    """A regular expression."""
    feature: str | None = None


FACTS: Final[Mapping[str, Fact]] = {
    "system words": Fact("sent as the user's", "system"),
    "user words": Fact(r"messages\[\d+\]"),
    "assistant words": Fact("(?!)", "turns"),
    "calls": Fact("(?!)", "tool results"),
    "results": Fact(r"messages\[\d+\]", "tool results"),
    "failed results": Fact("is_error", "tool results"),
    "images": Fact(r"image|moved into a user message|fileData|content\[\d+\]", "images"),
    "documents": Fact(r"document|file|content\[\d+\]", "documents"),
    "document titles": Fact(r"document|file|content\[\d+\]", "documents"),
    "document contexts": Fact(r"context|document", "documents"),
    "cited documents": Fact("citations|document", "documents"),
    "audio": Fact("audio", "audio"),
    "citations": Fact("citations"),
    "parts of one dialect": Fact("has no form|of another dialect|cannot be given|has no place", "own tools"),
    "names": Fact(r"\.name"),
    "marks": Fact("cache_control", "cache marks"),
    "mark of all": Fact("cache_control", "cache marks"),
    "prompt_cache_key": Fact("prompt_cache_key", "cache marks"),
    "tools": Fact(r"tools\[\d+\]", "tools"),
    "strict tools": Fact("strict|toolConfig"),
    "tools of one dialect": Fact(r"tools\[\d+\]", "own tools"),
    "tool choice": Fact("tool_choice", "forced tool"),
    "parallel_tool_calls": Fact("parallel_tool_calls", "forced tool"),
    "answers": Fact(r"changed n:|candidateCount", "answers"),
    "logprobs": Fact("logprobs", "logprobs"),
    "top_logprobs": Fact("logprobs", "logprobs"),
    "stop": Fact("stop", "stop strings"),
    "format": Fact("response_format", "JSON"),
    "thinking": Fact("reasoning|thinking", "think"),
    "max_output_tokens": Fact("max_tokens", "limit"),
    "temperature": Fact("temperature", "sampling"),
    "top_p": Fact("top_p", "sampling"),
    "top_k": Fact("top_k", "sampling"),
    "seed": Fact("seed", "sampling"),
    "presence_penalty": Fact("presence_penalty", "sampling"),
    "frequency_penalty": Fact("frequency_penalty", "sampling"),
    "user": Fact("user", "own fields"),
    "service_tier": Fact("service_tier", "own fields"),
    "fields of one dialect": Fact(
        "only .* knows|has no such field|refuses it|no counterpart|changed background", "own fields"
    ),
}
"""Every fact that a request can have."""


def is_made_up(name: str, before: Facts, after: Facts) -> bool:
    """Something more than was said, as a dialect insists on it: nothing is lost by that."""
    match name:
        case "max_output_tokens":  # Anthropic's dialect has no request without
            least: int = TRAITS["anthropic"].default_max_tokens
            return name not in before and isinstance(found := after[name], int) and found >= least
        case "fields of one dialect":  # how Gemini is held to schemas
            return name not in before
        case "document titles" | "user words":  # a file has a name, and a text's title stands above it
            said, found = before.get(name, ""), after.get(name, "")
            if not isinstance(said, str | list) or not isinstance(found, str | list):
                return False
            told = iter(found)
            return all(piece in told for piece in said)
        case _:
            return False


THOUGHTS: Final[Mapping[str, Fact]] = {
    "thoughts": Fact("thinking|reasoning|thought"),
    "sealed": Fact("thinking|reasoning|signature|signed"),
}
"""What `FACTS` leaves out, as clients of other dialects are never told it bare."""

ANSWER_FACTS: Final[Mapping[str, str]] = {
    "citations": "cit|annotations",
    "parts of one dialect": "part|content|output",
    "logprobs": "logprobs",
    "sealed": "signed|signature|reasoning_details",
    "finish": "pause|finish",
}
"""The same for the facts of an answer's first choice; others cannot be lost."""
