"""Why an answer ended: Google's words, their numbers, and ours."""

from collections.abc import Mapping
from typing import Final

from tollhouse.chat.model import FinishReason
from tollhouse.chat.receipt import Receipt

NUMBERS: Final[Mapping[int, str]] = {
    0: "FINISH_REASON_UNSPECIFIED",
    1: "STOP",
    2: "MAX_TOKENS",
    3: "SAFETY",
    4: "RECITATION",
    5: "OTHER",
    6: "LANGUAGE",
    7: "BLOCKLIST",
    8: "PROHIBITED_CONTENT",
    9: "SPII",
    10: "MALFORMED_FUNCTION_CALL",
    11: "IMAGE_SAFETY",
}
"""As `$alt=json;enum-encoding=int` has them (`gemini/gemini-generate-json-misc-60e2cd`)."""

_FILTERS: Final = frozenset(
    {
        "SAFETY",
        "RECITATION",
        "BLOCKLIST",
        "PROHIBITED_CONTENT",
        "SPII",
        "IMAGE_SAFETY",
        "IMAGE_PROHIBITED_CONTENT",
        "IMAGE_RECITATION",
        "MODEL_ARMOR",
        "ESCALATION",
    }
)

_READ: Final[Mapping[str, FinishReason]] = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    **dict.fromkeys(_FILTERS, "content_filter"),
    # The model said something that is no answer; asking again may help, and no stop reason may hide it.
    "MALFORMED_FUNCTION_CALL": "error",
    "MALFORMED_RESPONSE": "error",
    "TOO_MANY_TOOL_CALLS": "error",
    "MISSING_THOUGHT_SIGNATURE": "error",
}

_WRITTEN: Final[Mapping[FinishReason, str]] = {
    "stop": "STOP",
    "tool_calls": "STOP",
    "stop_sequence": "STOP",
    "pause": "STOP",
    "length": "MAX_TOKENS",
    "context_exceeded": "MAX_TOKENS",
    "content_filter": "SAFETY",
    "refusal": "SAFETY",
    "other": "OTHER",
}

PROMPT_BLOCKED: Final = "prompt:"
"""Begins the detail of a finish that is no candidate's: the prompt itself was blocked, for the reason that follows."""

CALLS_MADE: Final = "Model generated function call(s)."
"""What newer models say beside `STOP` (`gemini/gemini-generate-stream-tool-call-547d30`)."""


def finish_word(value: str | int) -> str:
    """A finish reason by its name."""
    return NUMBERS.get(value, str(value)) if isinstance(value, int) else value.upper()


def finish_of(word: str, *, has_calls: bool) -> tuple[FinishReason, str | None]:
    """What a finish reason means, and its own word where that says more."""
    if has_calls and word in {"STOP", "UNEXPECTED_TOOL_CALL"}:
        # After a call of a tool that nobody declared, the client can say so, and the model goes on
        # (`gemini/gemini-generate-json-tool-call-79cde3`).
        return "tool_calls", None if word == "STOP" else word
    reason = _READ.get(word, "other")
    return reason, None if reason in {"stop", "length"} else word


def write_finish(reason: FinishReason, detail: str | None, receipt: Receipt) -> tuple[str, str | None] | None:
    """The word for a reason, and a message that explains it; `None` for an error that no word may stand for.

    Notes what the word hides.
    """
    if detail in _KNOWN and reason in {_READ.get(detail, "other"), "tool_calls"}:
        return detail, None
    match reason:
        case "error":
            return None
        case "refusal":
            return "SAFETY", "The model declined to answer."
        case "other":
            return "OTHER", None if detail is None else detail[:100]
        case "tool_calls":
            return "STOP", CALLS_MADE
        case "pause" | "context_exceeded":
            receipt.changed("finish_reason", f"{reason} is told as {_WRITTEN[reason]}")
        case _:
            pass
    return _WRITTEN[reason], None


_KNOWN: Final = frozenset(
    {*_READ, *NUMBERS.values(), "UNEXPECTED_TOOL_CALL", "IMAGE_OTHER", "NO_IMAGE", "CONTINUATION"}
    - {"STOP", "MAX_TOKENS"}
)
