"""Errors: out of every shape in which a provider says them, into OpenAI's own.

What a provider writes in an error is passed on to people who are not its customers: it is bounded, pages become one sentence,
and whatever looks like a credential is masked.
"""

import json
import re
from typing import Final, NamedTuple

import msgspec

from tollhouse.dialects.explanations import MAX_MESSAGE_CHARACTERS, MAX_NAME_CHARACTERS, fit, title_of
from tollhouse.dialects.openai_chat.wire import Json
from tollhouse.errors import (
    BudgetExceeded,
    CallerError,
    ModelNotFound,
    NotFound,
    PermissionDenied,
    ProviderRefused,
    RateLimited,
    StreamFailed,
    TollhouseError,
    Unauthenticated,
)

MAX_WRAPPINGS: Final = 8
"""Lists around an error, each of which may say `errors`.  Nobody is known to use more than one."""
_HTML: Final = re.compile(r"<!doctype|<html|<head|<body", re.IGNORECASE)


class Words(NamedTuple):
    """What a provider says of an error."""

    message: str
    kind: str | None
    code: str | None
    param: str | None
    status: int | None


def decode_error(status: int, body: bytes) -> ProviderRefused:
    """The error in whatever came with an error status."""
    words = _words_of_body(body)
    if words is None:
        return ProviderRefused(_plain(status, body), status=status)
    return ProviderRefused(words.message, status=status, kind=words.kind, provider_code=words.code, param=words.param)


def failed(value: Json) -> StreamFailed:
    """The error that an event or a 200 body reports; `value` is the whole object or what its `error` holds."""
    words = words_of(value) or Words("The provider reported an error without saying which.", None, None, None, None)
    return StreamFailed(words.message, status=words.status, kind=words.kind, provider_code=words.code)


def bare_failure(data: bytes) -> StreamFailed:
    """The error in plain JSON that came where events were due."""
    words = _words_of_body(data)
    if words is None:
        return StreamFailed("The provider sent plain JSON where an event stream was due.")
    return StreamFailed(words.message, status=words.status, kind=words.kind, provider_code=words.code)


def words_of(value: Json, wrapped: int = 0) -> Words | None:
    """The words in a decoded error, whatever its shape; `None` if it is not one.  `wrapped` counts the lists around it."""
    if wrapped > MAX_WRAPPINGS:
        return None
    if isinstance(value, str):
        return Words(clean(value), None, None, None, None) if value.strip() else None
    if isinstance(value, list):
        # Google's compatible endpoint wraps its error in a list.
        return words_of(value[0], wrapped + 1) if value else None
    if not isinstance(value, dict):
        return None
    match value:
        case {"error": str(message)} if message.strip():
            # xAI: the sentence in `error`, a phrase in `code` (`xai-chat-json-error-400-bd6f29`).
            return Words(clean(message), None, _name(value.get("code")), None, None)
        case {"error": dict() as inner}:
            return _words_of_object(inner)
        case {"errors": [first, *_]}:
            return words_of(first, wrapped + 1)
        case {"detail": str(message)} if message.strip():
            # Mistral (`mistral-chat-json-error-401-70e77c`) and other FastAPI servers.
            return Words(clean(message), None, None, None, None)
        case {"detail": [{"msg": str(message), "loc": [*place]}, *_]}:
            path = ".".join(str(step) for step in place if step != "body")
            return Words(clean(message), None, None, _name(path), None)
        case dict() if "message" in value:
            return _words_of_object(value)
        case _:
            return None


def encode_error(error: TollhouseError, request_id: str) -> bytes:
    """`{"error": {…}}` in OpenAI's words."""
    return msgspec.json.encode({"error": error_object(error, request_id)})


def encode_stream_error(error: TollhouseError, request_id: str) -> bytes:
    """The event after which a broken stream ends; no `[DONE]` follows, so that it cannot be taken for a whole answer."""
    return b"data: " + encode_error(error, request_id) + b"\n\n"


def error_object(error: TollhouseError, request_id: str) -> dict[str, Json]:
    """The inner object of an error."""
    message = str(error)
    if error.http_status >= 500 and request_id:
        message = f"{message} (request {request_id})"
    kind, code = _type_and_code(error)
    return {"message": message, "type": kind, "param": error.param, "code": code}


def clean(text: str) -> str:
    """Text fit for a caller: no page, no credential, no half of a character, bounded."""
    if not text.isascii():
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if _HTML.search(text[:1_000]):
        text = _page(text)
    return fit(text[: MAX_MESSAGE_CHARACTERS * 2].strip())


# The names are those of OpenAI's own answers; the SDKs look at the status, people and some clients at these.
_OPENAI_TYPES: Final = frozenset(
    {
        "invalid_request_error",
        "authentication_error",
        "permission_error",
        "rate_limit_exceeded",
        "insufficient_quota",
        "server_error",
        "tokens",
        "requests",
    }
)


def _type_and_code(error: TollhouseError) -> tuple[str, str | None]:
    match error:
        case ProviderRefused() | StreamFailed() if error.status in {401, 403}:
            # It is about the gateway's credential: under the provider's own names, callers would go and check theirs.
            return "server_error", error.code
        case ProviderRefused() | StreamFailed():
            kind = error.kind if error.kind in _OPENAI_TYPES else _type_of_status(error.http_status)
            return kind, error.provider_code or error.kind or error.code
        case Unauthenticated():
            return "authentication_error", "invalid_api_key"
        case PermissionDenied():
            return "permission_error", error.code
        case BudgetExceeded():
            return "insufficient_quota", "insufficient_quota"
        case RateLimited():
            return "rate_limit_exceeded", "rate_limit_exceeded"
        case ModelNotFound() | NotFound() | CallerError():
            return "invalid_request_error", error.code
        case _:
            return "server_error", error.code


def _type_of_status(status: int) -> str:
    match status:
        case 401:
            return "authentication_error"
        case 403:
            return "permission_error"
        case 429:
            return "rate_limit_exceeded"
        case _:
            return "invalid_request_error" if 400 <= status < 500 else "server_error"


def _words_of_body(body: bytes) -> Words | None:
    try:
        value: Json = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        try:
            # The standard reader is laxer: NaN, half a surrogate pair.
            value = json.loads(body)
        except (ValueError, RecursionError):
            return None
    return words_of(value)


def _words_of_object(error: dict[str, Json]) -> Words | None:
    message = error.get("message")
    if not isinstance(message, str) or not message.strip():
        message = next((v for k in ("detail", "details", "msg") if isinstance(v := error.get(k), str) and v), "")
    raw = _upstream_words(error.get("metadata"))
    if raw and raw not in message:
        message = f"{message}: {raw}" if message else raw
    kind = _name(error.get("type")) or _name(error.get("status"))
    code = _name(error.get("code"))
    if not message:
        message = code or kind or ""
    if not message:
        return None
    return Words(clean(message), kind, code, _name(error.get("param")), _status(error))


def _upstream_words(metadata: Json) -> str:
    """OpenRouter quotes the provider behind it in `metadata.raw` (`openrouter-chat-json-error-429-c24739`)."""
    match metadata:
        case {"raw": str(raw)}:
            return raw
        case _:
            return ""


def _status(error: dict[str, Json]) -> int | None:
    # Groq says `status_code`, Mistral `raw_status_code`, OpenRouter and Google put it into `code`.
    for key in ("status_code", "raw_status_code", "status", "code"):
        value = error.get(key)
        if isinstance(value, str) and value.isdecimal() and len(value) == 3:
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool) and 400 <= value <= 599:
            return value
    return None


def _name(value: Json) -> str | None:
    if isinstance(value, bool) or value is None or isinstance(value, list | dict):
        return None
    return clean(str(value))[:MAX_NAME_CHARACTERS] or None


def _plain(status: int, body: bytes) -> str:
    text = body[: MAX_MESSAGE_CHARACTERS * 4].decode("utf-8", "replace").strip()
    if not text:
        return f"The provider answered {status} without saying why."
    if _HTML.search(text[:1_000]):
        return f"The provider answered {status} with a web page{_titled(text)} instead of an error."
    return clean(text)


def _page(text: str) -> str:
    return f"The provider sent a web page{_titled(text)} instead of an error message."


def _titled(text: str) -> str:
    title = title_of(text)
    return "" if title is None else f" titled {' '.join(title.split())!r}"
