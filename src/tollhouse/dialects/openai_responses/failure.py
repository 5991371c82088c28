"""Errors: the bodies are those of OpenAI's family, the events of a stream are this dialect's own."""

from typing import Final

import msgspec

from tollhouse.dialects.explanations import GAVE_UP
from tollhouse.dialects.openai_chat.failure import error_object, failed, words_of
from tollhouse.dialects.openai_chat.wire import Json
from tollhouse.errors import StreamFailed, TollhouseError

_STATUS: Final = {
    # The codes that platform.openai.com documents for `response.error`; others say nothing of a status.
    "server_error": 500,
    "rate_limit_exceeded": 429,
    "insufficient_quota": 429,
    "invalid_prompt": 400,
    "invalid_image": 400,
    "context_length_exceeded": 400,
}


def gave_up() -> StreamFailed:
    """The error of an answer that its provider broke off with a finish reason instead of an error."""
    return StreamFailed(GAVE_UP, provider_code="server_error")


def failure_of(value: Json) -> StreamFailed:
    """The error in a response that failed, or in an `error` event, whose words stand in `error` or beside its type."""
    if isinstance(value, dict) and value.get("error") is None and words_of(value) is None:
        return StreamFailed("The provider gave up without saying why.", provider_code="server_error")
    error = failed(value)
    if error.status is None:
        status = _STATUS.get(error.provider_code or "")
        return StreamFailed(error.message, status=status, kind=error.kind, provider_code=error.provider_code)
    return error


BROKEN: Final = b'event: error\ndata: {"type":"error","error":'
"""How an end begins that was written outside the encoder.  One of a provider's, or of an encoder, has a number there."""


def encode_stream_error(error: TollhouseError, request_id: str) -> bytes:
    """The events after which a stream ends that broke outside the encoder; `numbering` makes them fit the stream.

    Most clients look for the error; Codex looks for the response that failed.
    """
    told = error_object(error, request_id)
    code = told["code"]
    response: Json = {
        "id": f"resp_{request_id}",
        "object": "response",
        "status": "failed",
        "error": {"code": code or "server_error", "message": told["message"]},
        "output": [],
    }
    return encode_event("error", {"type": "error", "error": told}) + encode_event(
        "response.failed", {"type": "response.failed", "response": response}
    )


def encode_event(name: str, fields: object) -> bytes:
    """One event of a stream."""
    return b"event: %b\ndata: %b\n\n" % (name.encode(), msgspec.json.encode(fields))
