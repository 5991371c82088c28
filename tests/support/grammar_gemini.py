"""The grammar of a Gemini stream, from its documentation and its clients: what a stream that we send must keep.

Of Google's reference (ai.google.dev/api/generate-content): every chunk is a `GenerateContentResponse`; a candidate's pieces come
in order; a part has exactly one kind of data; a function call is whole, its `args` an object; the finish reason comes once for
each candidate and nothing of it comes after.  Of the clients: no comments, no event names, no `[DONE]` (Gemini CLI breaks on the
first), the last chunk has the finish reasons and the counts (without the former, Gemini CLI asks again), and all chunks have the
same `responseId`.
"""

import json
import re
from typing import Any

_BASE64 = re.compile(r"[A-Za-z0-9+/_-]+={0,2}")

DATA = {
    "text",
    "inlineData",
    "fileData",
    "functionCall",
    "functionResponse",
    "executableCode",
    "codeExecutionResult",
    "toolCall",
    "toolResponse",
}
METADATA = {"thought", "thoughtSignature", "videoMetadata", "partMetadata", "mediaResolution"}
FINISHES = {
    "STOP",
    "MAX_TOKENS",
    "SAFETY",
    "RECITATION",
    "LANGUAGE",
    "OTHER",
    "BLOCKLIST",
    "PROHIBITED_CONTENT",
    "SPII",
    "MALFORMED_FUNCTION_CALL",
    "UNEXPECTED_TOOL_CALL",
    "IMAGE_SAFETY",
}


class GrammarFault(AssertionError):
    """The bytes are not a stream of this dialect."""


def _demand(is_so: object, fault: str) -> None:
    if not is_so:
        raise GrammarFault(fault)


def chunks(body: bytes) -> list[dict[str, Any]]:
    """The chunks of a stream, framed as all clients can read it."""
    _demand(body.endswith((b"\r\n\r\n", b"\n\n")), "the last event is not ended by a blank line")
    events = body.replace(b"\r\n", b"\n").removesuffix(b"\n\n").split(b"\n\n")
    if len(events) > 1 and events[-2].startswith(b'{"error":'):  # a failure is said as a bare line too, for Gemini CLI
        _demand(events[-1] == b"data: " + events.pop(-2), "the bare line and the event of a failure differ")
    for event in events:
        _demand(event.startswith(b"data: {"), f"an event begins with {event[:20]!r}")
        _demand(b"\n" not in event, "an event has several lines")
    return [json.loads(event[6:]) for event in events]


def check_stream(body: bytes) -> list[dict[str, Any]]:
    """Raises `GrammarFault` unless the bytes are one whole stream; gives its chunks."""
    said = chunks(body)
    finished: dict[int, str] = {}
    opened: set[int] = set()
    identities = {chunk.get("responseId") for chunk in said if "error" not in chunk}
    _demand(len(identities) <= 1, f"several response ids: {identities}")
    for number, chunk in enumerate(said):
        is_last = number == len(said) - 1
        if "error" in chunk:
            check_error(chunk)
            _demand(is_last, "something follows an error")
            return said
        _demand(chunk.get("modelVersion"), "a chunk names no model")
        feedback = chunk.get("promptFeedback")
        for candidate in chunk.get("candidates", ()):
            index = candidate.get("index", 0)
            _demand(index not in finished, f"candidate {index} goes on after its finish reason")
            opened.add(index)
            content = candidate.get("content", {})
            _demand(content.get("role", "model") == "model", "an answer's role is not the model")
            for part in content.get("parts", ()):
                check_part(part)
            reason = candidate.get("finishReason")
            if reason is not None:
                _demand(reason in FINISHES, f"no finish reason: {reason!r}")
                _demand(is_last, "a finish reason comes before the last chunk")
                finished[index] = reason
        if is_last:
            _demand(feedback or opened, "nothing was answered")
            _demand(opened == set(finished), f"no finish reason for {sorted(opened - set(finished))}")
            _demand("usageMetadata" in chunk, "the last chunk has no counts")
            check_usage(chunk["usageMetadata"])
        if feedback:
            _demand(feedback.get("blockReason") and not opened, "a blocked prompt has an answer")
    return said


def check_part(part: dict[str, Any]) -> None:
    """One part of an answer."""
    kinds = part.keys() & DATA
    _demand(len(kinds) == 1, f"a part has {len(kinds)} kinds of data: {sorted(part)}")
    _demand(part.keys() <= DATA | METADATA, f"unknown fields in a part: {sorted(part.keys() - DATA - METADATA)}")
    if part.get("thought"):
        _demand(kinds == {"text"}, "a thought is not text")
    if (signature := part.get("thoughtSignature")) is not None:
        # The field holds bytes: the SDKs decode it.
        _demand(_BASE64.fullmatch(signature), f"a signature is not base64: {signature[:40]!r}")
    if (call := part.get("functionCall")) is not None:
        _demand(call.get("name"), "a call has no name")
        _demand(isinstance(call.get("args"), dict), "a call's args are no object")
    if (blob := part.get("inlineData")) is not None:
        _demand(blob.get("mimeType") and isinstance(blob.get("data"), str), "a blob is not whole")


def check_usage(counts: dict[str, Any]) -> None:
    """The arithmetic of the counts."""
    if "totalTokenCount" not in counts:
        return
    parts = ("promptTokenCount", "candidatesTokenCount", "thoughtsTokenCount", "toolUsePromptTokenCount")
    _demand(counts["totalTokenCount"] == sum(counts.get(name, 0) for name in parts), f"the total is no sum: {counts}")
    _demand(counts.get("cachedContentTokenCount", 0) <= counts.get("promptTokenCount", 0), "more is cached than asked")


def check_error(body: dict[str, Any]) -> None:
    """An error, as a body and as a stream's last chunk."""
    _demand(body.keys() == {"error"}, f"an error has other fields: {sorted(body)}")
    error = body["error"]
    _demand(isinstance(error.get("code"), int) and 400 <= error["code"] <= 599, "an error's code is no HTTP status")
    _demand(isinstance(error.get("message"), str) and error["message"], "an error has no message")
    _demand(
        isinstance(error.get("status"), str) and error["status"].isupper(), "an error's status is no name of a code"
    )


def check_answer(body: bytes) -> dict[str, Any]:
    """A whole answer."""
    answer: dict[str, Any] = json.loads(body)
    _demand(answer.get("modelVersion"), "an answer names no model")
    _demand(answer.get("candidates") or answer.get("promptFeedback"), "nothing was answered")
    for candidate in answer.get("candidates", ()):
        for part in candidate["content"].get("parts", ()):
            check_part(part)
        _demand(candidate["finishReason"] in FINISHES, f"no finish reason: {candidate['finishReason']!r}")
    check_usage(answer.get("usageMetadata", {}))
    return answer
