"""Errors: `{"error": {"code", "message", "status", "details"}}`, as a body and as a stream's last event.

The names are those of `google.rpc.Code`; `details` hold what programs look at: how long to wait (`RetryInfo`), which field is
at fault (`BadRequest`), and a stable word for the reason (`ErrorInfo`).
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from tollhouse.dialects.explanations import BROKE_OFF, MAX_NAME_CHARACTERS, nothing_of, on_one_line, words_of
from tollhouse.dialects.fields import UNREADABLE
from tollhouse.dialects.gemini.wire import Block
from tollhouse.errors import ProviderRefused, StreamFailed, TollhouseError, retry_after

_STATUS_NAMES: Final[Mapping[int, str]] = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    402: "RESOURCE_EXHAUSTED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    405: "UNIMPLEMENTED",
    408: "DEADLINE_EXCEEDED",
    409: "ABORTED",
    413: "INVALID_ARGUMENT",
    415: "INVALID_ARGUMENT",
    422: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    501: "UNIMPLEMENTED",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
    529: "UNAVAILABLE",
}
_STATUS_OF_NAME: Final[Mapping[str, int]] = {
    "CANCELLED": 499,
    "UNKNOWN": 500,
    "INVALID_ARGUMENT": 400,
    "DEADLINE_EXCEEDED": 504,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "PERMISSION_DENIED": 403,
    "RESOURCE_EXHAUSTED": 429,
    "FAILED_PRECONDITION": 400,
    "ABORTED": 409,
    "OUT_OF_RANGE": 400,
    "UNIMPLEMENTED": 501,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
    "DATA_LOSS": 500,
    "UNAUTHENTICATED": 401,
}
"""HTTP statuses as `google/rpc/code.proto` has them."""

_TYPE: Final = "type.googleapis.com/google.rpc."
_DOMAIN: Final = "tollhouse"


def encode_error(error: TollhouseError, request_id: str) -> bytes:
    """The body for an error."""
    return msgspec.json.encode(error_fields(error, request_id))


def encode_stream_error(error: TollhouseError, request_id: str) -> bytes:
    """The event that ends a broken stream, and before it the same as a bare line.

    The bare line is how Google itself breaks off ("When API returns an error message, it comes line by line", google-genai's
    `_api_client.py`), and the only form that Gemini CLI 0.61 knows: after an event it shows the cut answer four times over and
    exits with 0.  Readers of server-sent events skip a line of that name, and have the event.
    """
    body = encode_error(error, request_id)
    return b"%b\r\n\r\ndata: %b\r\n\r\n" % (body, body)


def error_fields(error: TollhouseError, request_id: str) -> Block:
    """The whole object of an error."""
    status = error.http_status
    details: list[Block] = [
        {
            "@type": f"{_TYPE}ErrorInfo",
            "reason": error.code.upper(),
            "domain": _DOMAIN,
            **({"metadata": {"requestId": request_id}} if request_id else {}),
        }
    ]
    wait = retry_after(error)
    if wait is not None:
        details.append({"@type": f"{_TYPE}RetryInfo", "retryDelay": f"{max(0.0, wait):.3f}s"})
    if error.param is not None:
        violation = {"field": error.param, "description": error.message}
        details.append({"@type": f"{_TYPE}BadRequest", "fieldViolations": [violation]})
    name = _STATUS_NAMES.get(status) or ("INTERNAL" if status >= 500 else "INVALID_ARGUMENT")
    return {"error": {"code": status, "message": str(error), "status": name, "details": details}}


def decode_error(status: int, body: bytes) -> ProviderRefused:
    """Whatever came with an error status: this dialect's JSON, another one's, HTML, plain words, nothing."""
    found = _read_json(body)
    if found is None:
        return ProviderRefused(words_of(status, body), status=status)
    message, kind, code, param, _ = found
    return ProviderRefused(
        on_one_line(message) or nothing_of(status), status=status, kind=kind, provider_code=code, param=param
    )


def decode_failure(raw: bytes) -> StreamFailed:
    """The error of a stream's event, or of a 200 body."""
    found = _read_json(raw)
    if found is None:
        return StreamFailed(BROKE_OFF)
    message, kind, code, _, status = found
    if status is None or not 400 <= status <= 599:
        status = _STATUS_OF_NAME.get(kind or "")
    return StreamFailed(on_one_line(message) or BROKE_OFF, status=status, kind=kind, provider_code=code)


_Found = tuple[str, str | None, str | None, str | None, int | None]


def _read_json(body: bytes) -> _Found | None:
    """Message, status name, reason, field and code of an error in JSON of any known shape; `None` if it is no JSON object."""
    try:
        value: object = msgspec.json.decode(body)
    except UNREADABLE:
        return None
    if isinstance(value, list) and value:  # a stream without `alt=sse` has its error in an array of one
        value = value[0]
    if not isinstance(value, dict):
        return None
    error = value.get("error", value)
    if isinstance(error, str):
        return error, _name(value.get("status")), _name(value.get("code")), None, None
    if not isinstance(error, dict):
        return None
    message = next((text for key in ("message", "detail", "msg") if isinstance(text := error.get(key), str)), "")
    kind = _name(error.get("status")) or _name(error.get("type"))
    code = error.get("code")
    reason, field = _details(error.get("details"))
    return message, kind, reason, field, code if isinstance(code, int) and not isinstance(code, bool) else None


def _details(details: object) -> tuple[str | None, str | None]:
    """The reason (`API_KEY_INVALID`) and the field at fault."""
    reason: str | None = None
    field: str | None = None
    for detail in details if isinstance(details, list) else ():
        match detail:
            case {"reason": str(word)}:
                reason = reason or _name(word)
            case {"fieldViolations": [{"field": str(path)}, *_]}:
                field = field or _name(path)
            case _:
                pass
    return reason, field


def _name(value: object) -> str | None:
    return on_one_line(value)[:MAX_NAME_CHARACTERS] if isinstance(value, str) and value else None
