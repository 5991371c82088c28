"""Redacts JSON documents: requests, answers, whatever is kept of them.

Every string is judged, keys too, with its escapes undone, and so are long numbers.  Three things
are left out altogether, because no rule can judge them: pictures and sounds in base64, log-probabilities (an answer once more,
token by token), and what is nested too deep.  A document that cannot be read is refused: it has to be dropped, not kept as it
is.
"""

import re
from typing import Final, TypeAlias

import msgspec

from tollhouse.chat.nesting import MAX_LEVELS
from tollhouse.policy.redaction.redactor import Redactor

MIN_PAYLOAD_CHARACTERS: Final = 512
"""A string of this length without a space in it is a payload, not text."""
MIN_NUMBER: Final = 1_000_000
"""Smaller numbers are neither phones nor cards."""

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"

_PAYLOAD: Final = re.compile(r"(?:data:[\w.+/;=-]{0,100},)?[A-Za-z0-9+/_=%\s-]*")
_DATA_URL: Final = re.compile(r"data:([\w.+/-]{0,60})[\w;=-]{0,40};base64,")
_SPACE: Final = re.compile(r"[ \t]")
_ESCAPE: Final = re.compile(r"\\+u([0-9A-Fa-f]{4})")
_TOKEN_LISTS: Final = frozenset({"logprobs", "top_logprobs", "logprobs_result", "logprobsResult"})


class Unreadable(ValueError):
    """A body that is not JSON: nothing of it may be kept."""


def redact_json(redactor: Redactor, body: bytes) -> bytes:
    """The document with everything personal replaced.  Raises `Unreadable`."""
    try:
        document: Json = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Unreadable(f"{len(body)} bytes that are not JSON") from error
    return msgspec.json.encode(redact_value(redactor, document))


def redact_value(redactor: Redactor, value: Json, depth: int = 0) -> Json:
    """The same for a document that was decoded already."""
    match value:
        case str():
            return _redact_text(redactor, value)
        case dict():
            if depth >= MAX_LEVELS:
                return "[left out: nested too deep]"
            return {
                _redact_text(redactor, name): (
                    "[left out: log-probabilities]"
                    if name in _TOKEN_LISTS and isinstance(inner, dict | list)
                    else redact_value(redactor, inner, depth + 1)
                )
                for name, inner in value.items()
            }
        case list():
            if depth >= MAX_LEVELS:
                return "[left out: nested too deep]"
            return [redact_value(redactor, inner, depth + 1) for inner in value]
        case bool() | None:
            return value
        case _:
            return _redact_number(redactor, value)


def _redact_text(redactor: Redactor, text: str) -> str:
    if len(text) >= MIN_PAYLOAD_CHARACTERS and _is_payload(text):
        kind = _DATA_URL.match(text)
        return f"[left out: {len(text)} characters of {kind[1] if kind is not None and kind[1] else 'base64'}]"
    if "\\u" in text:
        # JSON inside of a string (a tool's arguments), maybe cut off: its escapes hide what they spell.
        spelled = _ESCAPE.sub(lambda found: chr(int(found[1], 16)), text)
        spelled = spelled.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        if (redacted := redactor.redact(spelled)) != spelled:
            return redacted
    return redactor.redact(text)


def _is_payload(text: str) -> bool:
    """Long text has spaces; base64 has none, except for the ends of its lines."""
    head = text[:MIN_PAYLOAD_CHARACTERS]
    if _SPACE.search(head) is not None or _PAYLOAD.fullmatch(head) is None:
        return False
    return _SPACE.search(text) is None and _PAYLOAD.fullmatch(text) is not None


def _redact_number(redactor: Redactor, number: float) -> int | float | str:
    text = digits_of(number)
    redacted = redactor.redact(text)
    return number if redacted == text else redacted


def digits_of(number: float) -> str:
    """A whole number as a person would write it; empty if it is too small to be anybody's, or not whole."""
    if abs(number) < MIN_NUMBER or not (isinstance(number, int) or number.is_integer()):
        return ""
    return str(int(number))
