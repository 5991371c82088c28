"""Errors: `{"type":"error","error":{"type","message"},"request_id"}`, as a body and as a stream's last event."""

from collections.abc import Mapping
from typing import Final

import msgspec

from tollhouse.dialects.anthropic.wire import sse
from tollhouse.dialects.explanations import BROKE_OFF, MAX_NAME_CHARACTERS, nothing_of, on_one_line, words_of
from tollhouse.dialects.fields import UNREADABLE
from tollhouse.errors import ProviderRefused, StreamFailed, TollhouseError

STATUS_OF_TYPE: Final[Mapping[str, int]] = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
"""Anthropic's error types and their statuses (API reference, "Errors", 2026)."""

_TYPE_OF_STATUS: Final[Mapping[int, str]] = {
    **{status: kind for kind, status in STATUS_OF_TYPE.items()},
    408: "timeout_error",
    503: "overloaded_error",
}

# A provider's complaint about a credential is about the gateway's, so its word must not reach our caller as theirs.
_NOT_THE_CALLERS: Final = frozenset({"authentication_error", "permission_error", "billing_error"})


def error_type(error: TollhouseError) -> str:
    """Anthropic's name for an error."""
    if (
        isinstance(error, StreamFailed)
        and error.kind is not None
        and error.kind in STATUS_OF_TYPE.keys() - _NOT_THE_CALLERS
    ):
        return error.kind
    status = error.http_status
    return _TYPE_OF_STATUS.get(status) or ("api_error" if status >= 500 else "invalid_request_error")


def encode_error(error: TollhouseError, request_id: str) -> bytes:
    """The body for an error."""
    return msgspec.json.encode(_fields(error, request_id))


def encode_stream_error(error: TollhouseError, request_id: str | None) -> bytes:
    """The event that ends a broken stream."""
    return sse("error", _fields(error, request_id))


def _fields(error: TollhouseError, request_id: str | None) -> dict[str, object]:
    return {
        "type": "error",
        "error": {"type": error_type(error), "message": str(error)},
        "request_id": request_id,
    }


def decode_error(status: int, body: bytes) -> ProviderRefused:
    """Whatever came with an error status: this dialect's JSON, another one's, HTML, plain words, nothing."""
    found = _read_json(body)
    if found is None:
        return ProviderRefused(words_of(status, body), status=status)
    message, kind, code, param = found
    return ProviderRefused(
        on_one_line(message) or nothing_of(status), status=status, kind=kind, provider_code=code, param=param
    )


def decode_failure(raw: msgspec.Raw | bytes) -> StreamFailed:
    """The error of a stream's event, or of a 200 body: the event's data, or only its `error` object."""
    found = _read_json(bytes(raw))
    if found is None:
        return StreamFailed(on_one_line(bytes(raw).decode("utf-8", "replace")) or BROKE_OFF)
    message, kind, code, _ = found
    return StreamFailed(
        on_one_line(message) or BROKE_OFF, status=STATUS_OF_TYPE.get(kind or ""), kind=kind, provider_code=code
    )


def _read_json(body: bytes) -> tuple[str, str | None, str | None, str | None] | None:
    """Message, type, code and param of an error in JSON of any known shape; `None` if it is no JSON object."""
    try:
        value: object = msgspec.json.decode(body)
    except UNREADABLE:
        return None
    if isinstance(value, list) and value:  # Gemini's streams answer errors as an array of one
        value = value[0]
    if not isinstance(value, dict):
        return None
    outer: dict[str, object] = value
    error = outer.get("error", outer)
    if isinstance(error, str):
        return error, _name(outer.get("type")), _name(outer.get("code")), None
    if not isinstance(error, dict):
        error = outer
    message = next((text for key in ("message", "detail", "msg") if (text := _string(error.get(key)))), "")
    kind = _name(error.get("type")) or _name(error.get("status"))
    return message, kind, _name(error.get("code")), _name(error.get("param"))


def _name(value: object) -> str | None:
    text = _string(value)
    return None if text is None else on_one_line(text)[:MAX_NAME_CHARACTERS]


def _string(value: object) -> str | None:
    match value:
        case str():
            return value or None
        case bool() | None:
            return None
        case int():
            return str(value)
        case list() | dict():
            return msgspec.json.encode(value).decode()
        case _:
            return None
