"""What the public listener does before any provider is asked."""

import asyncio

import pytest

from support.serving import KEY, Serving
from tollhouse.errors import ConfigError
from tollhouse.server.listener import Place, reserve

LAB = "providers: {lab: {type: openai-compatible, base_url: 'http://127.0.0.1:9/v1', api_key: x, models: [big, small]}}"
ALIASES = LAB + "\nmodels: {fast: lab/small, smart: [lab/big, lab/small], default: fast}"
QUESTION = {"model": "fast", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 5}

OPENAI = "/v1/chat/completions"
ANTHROPIC = "/v1/messages"


def error_of(answer, path):
    """The parts that each dialect's SDK reads: type and message."""
    body = answer.json()
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"] == answer.headers["request-id"]
    assert answer.headers["x-request-id"].startswith("req_")
    if path == ANTHROPIC:
        assert body["type"] == "error"
        assert body["request_id"] == answer.headers["request-id"]
    return body["error"]["type"], body["error"]["message"]


@pytest.mark.parametrize("path", [OPENAI, ANTHROPIC])
async def test_no_key_and_a_wrong_key_are_told_apart_in_the_callers_dialect(serving: Serving, path: str):
    gateway = await serving(ALIASES)
    missing = await gateway.ask(path, QUESTION, headers=[])
    wrong = await gateway.ask(path, QUESTION, headers=[(b"authorization", b"Bearer nope")])
    assert (missing.status, wrong.status) == (401, 401)
    assert error_of(missing, path)[0] == error_of(wrong, path)[0] == "authentication_error"
    assert "carries no key" in error_of(missing, path)[1]
    assert "not known" in error_of(wrong, path)[1]


@pytest.mark.parametrize(
    "headers",
    [
        [(b"authorization", b"Bearer " + KEY.encode())],
        [(b"authorization", b"bearer  " + KEY.encode())],
        [(b"x-api-key", KEY.encode())],
        [(b"x-goog-api-key", KEY.encode())],
        # The newer Anthropic SDK may send both; the bearer counts.
        [(b"x-api-key", b"something-else"), (b"authorization", b"Bearer " + KEY.encode())],
        # An Authorization of another scheme is no credential of ours.
        [(b"authorization", b"Basic dTpw"), (b"x-api-key", KEY.encode())],
    ],
)
async def test_the_key_is_found_wherever_an_sdk_puts_it(serving: Serving, headers):
    gateway = await serving(ALIASES)
    assert (await gateway.get("/v1/models", headers=headers)).status == 200


async def test_an_open_gateway_asks_for_no_key(serving: Serving):
    gateway = await serving(ALIASES + "\nauth: {open: true}")
    assert (await gateway.get("/v1/models", headers=[])).status == 200


@pytest.mark.parametrize("path", [OPENAI, ANTHROPIC])
async def test_an_unknown_model_is_404_with_the_nearest_names(serving: Serving, path: str):
    gateway = await serving(ALIASES)
    answer = await gateway.ask(path, {**QUESTION, "model": "fsat"})
    assert answer.status == 404
    assert "'fast'" in error_of(answer, path)[1]
    assert gateway.rows() == []


@pytest.mark.parametrize("path", [OPENAI, ANTHROPIC])
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'"text"',
        b"[" * 100_000,
        b'{"model": 5}',
        b'{"model":"fast","stream":"yes"}',
    ],
)
async def test_a_body_that_is_not_the_dialect_is_a_400_that_says_so(serving: Serving, path: str, body: bytes):
    gateway = await serving(ALIASES)
    answer = await gateway.ask(path, body)
    kind, message = error_of(answer, path)
    assert (answer.status, kind) == (400, "invalid_request_error")
    assert len(message) > 10


@pytest.mark.parametrize("path", [OPENAI, ANTHROPIC])
async def test_a_body_over_the_limit_is_413_whether_or_not_it_says_its_size(serving: Serving, path: str):
    gateway = await serving(ALIASES + "\nserver: {max_body_bytes: 2048}")
    answer = await gateway.ask(path, b'{"model": "' + b"x" * 3000 + b'"}')
    assert answer.status == 413
    assert "larger than" in error_of(answer, path)[1]
    reader, writer = await asyncio.open_connection(*gateway.url.removeprefix("http://").split(":"))
    writer.write(
        f"POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\ntransfer-encoding: chunked\r\n\r\n".encode()
        + b"a00\r\n"
        + b"x" * 2560
        + b"\r\n"
    )
    assert b" 413 " in await reader.readline()
    writer.close()


async def test_fifty_megabytes_are_refused_before_they_are_read(serving: Serving):
    gateway = await serving(ALIASES)
    reader, writer = await asyncio.open_connection(*gateway.url.removeprefix("http://").split(":"))
    writer.write(
        f"POST {OPENAI} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\ncontent-length: 52428800\r\n\r\n".encode()
    )
    assert b" 413 " in await reader.readline()
    writer.close()


async def test_a_compressed_body_is_refused_with_a_word(serving: Serving):
    gateway = await serving(ALIASES)
    headers = [(b"authorization", b"Bearer " + KEY.encode()), (b"content-encoding", b"gzip")]
    answer = await gateway.ask(OPENAI, b"\x1f\x8b", headers=headers)
    assert answer.status == 415
    assert "Content-Encoding" in error_of(answer, OPENAI)[1]


async def test_a_wrong_method_names_the_right_one(serving: Serving):
    gateway = await serving(ALIASES)
    answer = await gateway.get(OPENAI)
    assert (answer.status, answer.headers["allow"]) == (405, "POST")
    answer = await gateway.ask("/v1/models/fast", {}, method="DELETE")
    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")


async def test_an_unknown_path_says_where_things_are(serving: Serving):
    gateway = await serving(ALIASES)
    answer = await gateway.ask("/v1/complete", {})
    assert answer.status == 404
    assert "/v1/chat/completions" in answer.json()["error"]["message"]
    answer = await gateway.ask("/v1/messages/batches", {})
    assert answer.json()["type"] == "error", "Anthropic's paths get Anthropic's errors"


async def test_the_model_list_has_the_form_that_the_callers_sdk_reads(serving: Serving):
    gateway = await serving(ALIASES)
    openai = (await gateway.get("/v1/models")).json()
    key = (b"x-api-key", KEY.encode())
    anthropic = (await gateway.get("/v1/models", headers=[key, (b"anthropic-version", b"2026-10-21")])).json()
    names = ["fast", "smart", "default", "lab/big", "lab/small"]
    assert openai["object"] == "list"
    assert [model["id"] for model in openai["data"]] == names
    assert [model["id"] for model in anthropic["data"]] == names
    assert anthropic["has_more"] is False
    assert {model["type"] for model in anthropic["data"]} == {"model"}


async def test_one_model_can_be_looked_up_even_with_a_slash_in_its_name(serving: Serving):
    gateway = await serving(ALIASES)
    assert (await gateway.get("/v1/models/smart")).json()["id"] == "smart"
    assert (await gateway.get("/v1/models/lab/big")).json()["id"] == "lab/big"
    assert (await gateway.get("/v1/models/lab/unlisted")).json()["owned_by"] == "lab"
    assert (await gateway.get("/v1/models/nope")).status == 404


async def test_health_says_version_uptime_and_each_providers_state(serving: Serving):
    gateway = await serving(ALIASES)
    assert (await gateway.get("/health/live", headers=[])).status == 200
    assert (await gateway.get("/health/ready", headers=[])).status == 200
    health = (await gateway.get("/health", headers=[])).json()
    assert health["status"] == "serving"
    assert health["version"]
    assert health["uptime_seconds"] >= 0
    assert health["providers"] == {"lab": "unknown"}
    assert health["ledger"] == "ok", "why it is otherwise is the operator's business"


async def test_metrics_on_the_public_listener_ask_for_a_key(serving: Serving):
    gateway = await serving(ALIASES)
    assert (await gateway.get("/metrics", headers=[])).status == 401
    answer = await gateway.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    assert b"tollhouse_calls_in_flight" in answer.body


async def test_clients_that_say_hello_first_are_answered(serving: Serving):
    gateway = await serving(ALIASES)
    for path in ("/api/hello", "/"):
        assert (await gateway.ask(path, method="HEAD", headers=[])).status == 200


async def test_a_taken_port_is_one_clear_sentence(serving: Serving):
    gateway = await serving(ALIASES)
    host, port = gateway.url.removeprefix("http://").split(":")
    with pytest.raises(ConfigError, match=rf"{port}: something else listens there already.*`server.port`"):
        reserve(Place(host, int(port)), "gateway")


async def test_a_provider_that_cannot_be_reached_is_a_502_and_no_row(serving: Serving):
    gateway = await serving(ALIASES + "\nretry: {max_attempts: 2, backoff_base: 0.01}")
    answer = await gateway.ask(OPENAI, QUESTION)
    assert answer.status == 502
    assert "lab" in answer.json()["error"]["message"] or "127.0.0.1:9" in answer.json()["error"]["message"]
    assert gateway.rows() == [], "nothing reached a provider"
