"""Errors of every shape are understood, cleaned and said in OpenAI's words."""

import msgspec
import pytest

from support.recordings import Recording, by_id, load, recordings
from tollhouse.dialects.dialect import ModelCard
from tollhouse.dialects.openai_chat import DIALECT, OPENAI
from tollhouse.errors import (
    BadRequest,
    BudgetExceeded,
    ConnectFailed,
    ModelNotFound,
    ProviderRefused,
    RateLimited,
    StreamFailed,
    TollhouseError,
    Unauthenticated,
    UpstreamMalformed,
)

ERRORS = recordings("openai-chat", error=True)


@pytest.mark.parametrize("recording", ERRORS, ids=by_id)
def test_a_recorded_error_says_what_the_provider_said(recording: Recording):
    error = DIALECT.decode_error(recording.response.status, recording.response.body)
    body = recording.json
    inner = body.get("error", body)
    said = inner if isinstance(inner, str) else inner.get("message") or inner.get("detail")
    # The words survive, but for what looks like a key.
    assert error.message[:15] == said[:15]
    assert error.status == recording.response.status


@pytest.mark.parametrize(
    ("name", "kind", "code"),
    [
        ("openai/openai-chat-json-error-401-6216d3", "invalid_request_error", "invalid_api_key"),
        ("glm/glm-chat-json-error-429-71199e", None, "1302"),
        ("xai/xai-chat-json-error-404-7eab87", None, "Some requested entity was not found"),
        ("openrouter/openrouter-chat-json-error-429-c24739", None, "429"),
        ("azure-openai/azure-openai-chat-json-error-401-ea5612", None, "401"),
        ("mistral/mistral-chat-json-error-401-70e77c", None, None),
        ("deepseek/deepseek-chat-json-error-401-566063", "authentication_error", "invalid_request_error"),
    ],
)
def test_kind_and_code_are_the_providers_own(name: str, kind: str | None, code: str | None):
    recording = load(name)
    error = DIALECT.decode_error(recording.response.status, recording.response.body)
    assert (error.kind, error.provider_code) == (kind, code)


def test_a_quoted_upstream_error_is_quoted_on():
    recording = load("openrouter/openrouter-chat-json-error-429-c24739")
    error = DIALECT.decode_error(429, recording.response.body)
    assert error.message.startswith("Provider returned error: deepseek/deepseek-r1:free is temporarily rate-limited")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "The provider answered 503 without saying why."),
        (
            b"<html><head><title>502 Bad\n Gateway</title></head><body>x</body></html>",
            "The provider answered 503 with a web page titled '502 Bad Gateway' instead of an error.",
        ),
        (b"upstream connect error", "upstream connect error"),
        (b"\xff\xfe", "\ufffd\ufffd"),
        (b'[{"error":{"code":400,"message":"bad","status":"INVALID_ARGUMENT"}}]', "bad"),
        (b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}', "Overloaded"),
        (b'{"object":"error","message":"no","type":"invalid","code":3051}', "no"),
        (b'{"detail":[{"loc":["body","messages"],"msg":"field required","type":"missing"}]}', "field required"),
        (b'{"code":"InvalidApiKey","message":"Invalid API-key","request_id":"x"}', "Invalid API-key"),
        (b'{"error":{"message":"","code":"quota"}}', "quota"),
        (b'{"error":{}}', '{"error":{}}'),
        (b'{"error":"<html>no</html>"}', "The provider sent a web page instead of an error message."),
    ],
)
def test_other_shapes_are_understood(body: bytes, message: str):
    assert DIALECT.decode_error(503, body).message == message


def test_a_long_message_is_bounded():
    assert len(DIALECT.decode_error(400, b"x" * 100_000).message) == 2_000
    assert len(DIALECT.decode_error(400, msgspec.json.encode({"error": "y" * 100_000})).message) == 2_000


@pytest.mark.parametrize(
    ("error", "kind", "code", "param"),
    [
        (BadRequest("no", param="messages[0]"), "invalid_request_error", "bad_request", "messages[0]"),
        (Unauthenticated("who"), "authentication_error", "invalid_api_key", None),
        (ModelNotFound("gpt-9"), "invalid_request_error", "model_not_found", "model"),
        (RateLimited("slow", retry_after_seconds=1), "rate_limit_exceeded", "rate_limit_exceeded", None),
        (
            BudgetExceeded(budget="b", spent_nano=1, limit_nano=1, resets_in_seconds=None),
            "insufficient_quota",
            "insufficient_quota",
            None,
        ),
        (ConnectFailed("down"), "server_error", "provider_unreachable", None),
        # The gateway's credential is at fault, not the caller's.
        (
            ProviderRefused("no", status=401, kind="invalid_request_error", provider_code="invalid_api_key"),
            "server_error",
            "provider_refused",
            None,
        ),
        (
            ProviderRefused(
                "long",
                status=400,
                kind="invalid_request_error",
                provider_code="context_length_exceeded",
                param="messages",
            ),
            "invalid_request_error",
            "context_length_exceeded",
            "messages",
        ),
        (ProviderRefused("busy", status=529, kind="overloaded_error"), "server_error", "overloaded_error", None),
        (ProviderRefused("slow", status=429), "rate_limit_exceeded", "provider_refused", None),
        (StreamFailed("boom", kind="overloaded_error"), "server_error", "overloaded_error", None),
    ],
)
def test_an_error_is_said_in_openais_words(error: TollhouseError, kind: str, code: str, param: str | None):
    said = msgspec.json.decode(DIALECT.encode_error(error, "req-1"))["error"]
    assert (said["type"], said["code"], said["param"]) == (kind, code, param)
    assert error.message in said["message"]
    assert ("req-1" in said["message"]) == (error.http_status >= 500)


def test_the_hint_is_part_of_the_message():
    said = msgspec.json.decode(DIALECT.encode_error(ModelNotFound("gpt-9"), "r"))["error"]["message"]
    assert "GET /v1/models" in said


def test_a_stream_error_is_one_event_and_no_end_marker():
    event = DIALECT.encode_stream_error(UpstreamMalformed("garbage"), "req-1")
    assert event.startswith(b'data: {"error":{')
    assert event.endswith(b"}\n\n")
    assert b"[DONE]" not in event


def test_an_error_in_a_200_body_is_seen_at_a_glance():
    glance = DIALECT.glance(load("openrouter/openrouter-chat-json-error-in-200-bd1693").response.body, OPENAI)
    assert isinstance(glance.error, StreamFailed)
    assert glance.error.status == 502
    assert "Internal server error" in glance.error.message


@pytest.mark.parametrize("recording", recordings("openai-chat", stream=False, error=False), ids=by_id)
def test_a_whole_answer_is_read_at_a_glance(recording: Recording):
    if "error_in_200" in recording.features:
        return
    glance = DIALECT.glance(recording.response.body, OPENAI)
    body = recording.json
    assert glance.error is None
    assert glance.finish is not None
    assert glance.usage.input_tokens == body["usage"]["prompt_tokens"]
    assert (glance.usage.output_tokens or 0) >= body["usage"]["completion_tokens"]


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"{}", b'{"choices":[]}', b'{"choices":{}}', b'{"choices":[{'])
def test_what_is_no_answer_is_malformed(body: bytes):
    with pytest.raises(UpstreamMalformed):
        DIALECT.glance(body, OPENAI)


def test_model_lists_are_read_in_every_form():
    assert "gpt-4" in DIALECT.decode_models(load("openai/openai-models-4697ee").response.body)
    assert "gemini-2.5-flash" in DIALECT.decode_models(load("gemini/gemini-models-63babe").response.body)
    assert "qwen-max" in DIALECT.decode_models(b'[{"id":"qwen-max"},{"id":"qwen-max"},{"x":1},7]')
    for garbage in (b"<html>", b"{}", b"7", b'{"data":{}}'):
        with pytest.raises(UpstreamMalformed):
            DIALECT.decode_models(garbage)


def test_model_lists_are_written_in_openais_form():
    card = ModelCard(id="fast", owner="openai", created=5, context_tokens=1000)
    assert msgspec.json.decode(DIALECT.encode_models([card])) == {
        "object": "list",
        "data": [{"id": "fast", "object": "model", "created": 5, "owned_by": "openai", "context_window": 1000}],
    }
    assert DIALECT.decode_models(DIALECT.encode_models([card])) == ("fast",)
    assert msgspec.json.decode(DIALECT.encode_model(card))["id"] == "fast"


@pytest.mark.parametrize("levels", [1, 2])
@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"errors":[', b"]}")])
def test_an_error_in_a_list_says_what_it_says(levels: int, opening: bytes, closing: bytes):
    error = DIALECT.decode_error(400, opening * levels + b'{"error":{"message":"no such thing"}}' + closing * levels)
    assert error.message == "no such thing"


@pytest.mark.parametrize("levels", [100, 900, 2000, 9000, 100_000])
@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"errors":[', b"]}"), (b'{"error":', b"}")])
def test_an_error_in_hostile_wrappings_is_an_error_all_the_same(levels: int, opening: bytes, closing: bytes):
    error = DIALECT.decode_error(503, opening * levels + b'"no such thing"' + closing * levels)
    assert error.status == 503


@pytest.mark.parametrize("words", [b'"no such \\ud83d thing"', b'{"message":"no such \\ud83d thing","code":"\\udc00"}'])
def test_half_a_character_in_an_error_can_be_told_on(words: bytes):
    error = DIALECT.decode_error(400, b'{"error":' + words + b"}")
    assert error.message == "no such \N{REPLACEMENT CHARACTER} thing"
    assert "no such" in msgspec.json.decode(DIALECT.encode_error(error, "req_1"))["error"]["message"]
