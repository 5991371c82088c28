"""Errors in Anthropic's dialect, read and written."""

import json

import pytest

from support.recordings import Recording, by_id, recordings
from tollhouse.dialects.anthropic import DIALECT
from tollhouse.errors import (
    BadRequest,
    BodyTooLarge,
    BudgetExceeded,
    ModelNotFound,
    Overloaded,
    ProviderRefused,
    RateLimited,
    StreamFailed,
    TollhouseError,
    Unauthenticated,
    UpstreamTimeout,
    UpstreamTruncated,
)

ERRORS = recordings("anthropic-messages", error=True)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (BadRequest("x"), "invalid_request_error"),
        (Unauthenticated("x"), "authentication_error"),
        (BudgetExceeded(budget="b", spent_nano=1, limit_nano=2, resets_in_seconds=None), "billing_error"),
        (ModelNotFound("m"), "not_found_error"),
        (BodyTooLarge(limit_bytes=1), "request_too_large"),
        (RateLimited("x", retry_after_seconds=1), "rate_limit_error"),
        (ProviderRefused("x", status=401), "api_error"),
        (ProviderRefused("x", status=529), "overloaded_error"),
        (ProviderRefused("x", status=422), "invalid_request_error"),
        (UpstreamTimeout("x", phase="total"), "timeout_error"),
        (UpstreamTruncated("x"), "api_error"),
        (Overloaded("x"), "overloaded_error"),
        (StreamFailed("x", kind="overloaded_error"), "overloaded_error"),
        (StreamFailed("x", kind="authentication_error"), "api_error"),
        (StreamFailed("x", kind="server_exploded"), "api_error"),
    ],
)
def test_errors_carry_anthropics_type_for_their_status(error: TollhouseError, kind: str):
    body = json.loads(DIALECT.encode_error(error, "req_1"))
    assert body == {"type": "error", "error": {"type": kind, "message": str(error)}, "request_id": "req_1"}


def test_a_stream_error_is_an_event_with_its_name():
    event = DIALECT.encode_stream_error(UpstreamTruncated("cut"), "req_1")
    name, data = event.split(b"\n", 1)
    assert name == b"event: error"
    assert data.endswith(b"\n\n")
    assert json.loads(data.removeprefix(b"data: "))["error"] == {"type": "api_error", "message": "cut"}


@pytest.mark.parametrize("recording", ERRORS, ids=by_id)
def test_recorded_errors_keep_their_words_and_type(recording: Recording):
    error = DIALECT.decode_error(recording.response.status, recording.response.body)
    said = recording.json["error"]
    assert (error.message, error.kind, error.status) == (said["message"], said["type"], recording.response.status)


@pytest.mark.parametrize(
    ("body", "message", "kind", "code"),
    [
        (b'{"error":{"message":"m","type":"t","code":"c","param":null}}', "m", "t", "c"),
        (b'{"error":{"code":429,"message":"m","status":"RESOURCE_EXHAUSTED"}}', "m", "RESOURCE_EXHAUSTED", "429"),
        (b'[{"error":{"code":400,"message":"m","status":"INVALID"}}]', "m", "INVALID", "400"),
        (b'{"error":"m"}', "m", None, None),
        (b'{"error":7.5,"message":"m"}', "m", None, None),
        (b'{"error":{"message":7.5,"code":true}}', "no explanation", None, None),
        (b'{"detail":"m"}', "m", None, None),
        (b'{"detail":[{"loc":["body"],"msg":"bad"}]}', '[{"loc":["body"],"msg":"bad"}]', None, None),
        (b"upstream connect error", "upstream connect error", None, None),
        (b"<html><head><title>502 Bad Gateway</title>", "web page: 502 Bad Gateway", None, None),
        (b"<html>", "web page", None, None),
        (b"", "no explanation", None, None),
        (b"{}", "no explanation", None, None),
        (b"null", "null", None, None),
        (b"\xff\xfe", "\ufffd", None, None),
        (b"[" * 100_000, "[[[", None, None),
    ],
)
def test_whatever_comes_with_an_error_status_is_told(body: bytes, message: str, kind: str | None, code: str | None):
    error = DIALECT.decode_error(502, body)
    assert message in error.message
    assert (error.kind, error.provider_code) == (kind, code)


def test_a_message_is_bounded_and_on_one_line():
    error = DIALECT.decode_error(500, json.dumps({"error": {"message": "a\nb " * 5_000}}).encode())
    assert len(error.message) == 2_000
    assert "\n" not in error.message
