"""Why an answer ended: a status and a reason on the wire, one word of ours."""

from typing import Final, Literal

from tollhouse.chat.model import FinishReason

Status = Literal["completed", "incomplete"]

_INCOMPLETE: Final[dict[FinishReason, str]] = {
    "length": "max_output_tokens",
    "context_exceeded": "max_output_tokens",
    "content_filter": "content_filter",
}
_READ: Final[dict[str, FinishReason]] = {
    "max_output_tokens": "length",
    "max_tokens": "length",
    "content_filter": "content_filter",
}


def status_of(reason: FinishReason, *, has_refusal: bool) -> tuple[Status, str | None]:
    """The status, and the reason if it is `incomplete`.

    A refusal is a complete answer if it says so in words (`openai/openai-responses-stream-refusal-479eef`).
    """
    if reason == "refusal" and not has_refusal:
        return "incomplete", "content_filter"
    why = _INCOMPLETE.get(reason)
    return ("completed", None) if why is None else ("incomplete", why)


def finish_of(
    status: str | None, reason: str | None, *, has_calls: bool, has_refusal: bool
) -> tuple[FinishReason, str | None]:
    """Our word, and the provider's own for one that we do not know."""
    if status == "incomplete":
        found = _READ.get(reason or "")
        return ("other", reason) if found is None else (found, None)
    if has_calls:
        return "tool_calls", None
    return "refusal" if has_refusal else "stop", None
