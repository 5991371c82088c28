"""Who is asked next when a provider fails, who is not, and what the client and the ledger hear of it."""

import itertools
import socket
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import pytest

from support.clients import CLIENTS, KEYS, LANES, PROVIDERS, settings
from support.fake_provider import FakeProvider
from support.fake_replies import Answer, Failure, Reset, Stall, faulty, redirect
from support.serving import Serving
from tollhouse.ledger.record import Attempt

pytestmark = pytest.mark.parametrize("server", ["own"])
"""What these tests look at does not depend on the server."""
CLIENT_NAMES = list(CLIENTS)
BOTH = {f"from_{name}": f"[{name}/{model}, spare/second]" for name, model in PROVIDERS.items()}
QUICK = "\nretry: {backoff_base: 1ms}"


def attempts_of(row: Mapping[str, Any]) -> list[Attempt]:
    """The attempts as a ledger row lists them."""
    return [
        Attempt(provider=provider, model=model, outcome=outcome, status=status, duration_us=duration_us)
        for provider, model, outcome, status, duration_us in msgspec.json.decode(row["attempts_detail"])
    ]


@pytest.fixture
def nobody() -> Iterator[str]:
    """An address at which connections are refused: the port is held, and nobody listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{held.getsockname()[1]}"


@pytest.mark.parametrize("status", [401, 402, 403, 408, 409, 429, 500, 502, 503, 504, 529])
async def test_a_failure_that_is_not_the_callers_moves_on_to_the_next_candidate(
    serving: Serving, fake_provider: FakeProvider, status: int
):
    for model in PROVIDERS.values():
        fake_provider.reply_to(model, Failure(status=status))
    fake_provider.reply_to("second", Answer(text="Second here."))
    gateway = await serving(settings(fake_provider, **BOTH))
    for (client, provider), stream in itertools.product(LANES, (False, True)):
        asks = CLIENTS[client]
        answer = await gateway.ask(asks.path, asks.question(f"from-{provider}", stream=stream))
        said = asks.read(answer.body) if stream else asks.read_whole(answer.body)
        assert (answer.status, said.text) == (200, "Second here."), (client, provider, stream)
        assert answer.headers["x-tollhouse-model"] == "spare/second"
        row = gateway.rows()[-1]
        assert (row["provider"], row["model"], row["status"], row["outcome"]) == ("spare", "second", 200, "ok")
        first, second = attempts_of(row)
        assert (first.provider, first.status, first.outcome) == (provider, status, "provider_refused")
        assert (second.provider, second.status, second.outcome) == ("spare", 200, "ok")


@pytest.mark.parametrize("status", [400, 404, 413, 422])
async def test_the_callers_own_mistake_is_theirs_and_nobody_else_is_asked(
    serving: Serving, fake_provider: FakeProvider, status: int
):
    fake_provider.default = Failure(status=status, message="max_tokens is too large: 9999999.")
    gateway = await serving(settings(fake_provider, **BOTH))
    for number, (client, provider) in enumerate(LANES, start=1):
        asks = CLIENTS[client]
        answer = await gateway.ask(asks.path, asks.question(f"from-{provider}", stream=True))
        said = asks.read_whole(answer.body)
        assert answer.status == status
        assert said.error is not None
        assert "max_tokens is too large" in said.error
        assert len(fake_provider.calls) == number
        row = gateway.rows()[-1]
        assert (row["status"], row["outcome"], row["attempts"]) == (status, "provider_refused", 1)
        assert (row["cost_nano"], row["usage_source"]) == (0, "none"), "refused before any work was done"


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_a_models_refusal_is_an_answer_and_is_not_asked_around(
    serving: Serving, fake_provider: FakeProvider, stream: bool
):
    fake_provider.default = Answer(text="I cannot help with that.", finish="content_filter")
    gateway = await serving(settings(fake_provider, **BOTH))
    for client, provider in LANES:
        asks = CLIENTS[client]
        answer = await gateway.ask(asks.path, asks.question(f"from-{provider}", stream=stream))
        said = asks.read(answer.body) if stream else asks.read_whole(answer.body)
        assert (answer.status, said.text) == (200, "I cannot help with that.")
        assert said.finish == {"openai": "content_filter", "anthropic": "refusal"}[client]
    assert len(fake_provider.calls) == len(LANES)
    assert {row["attempts"] for row in gateway.rows()} == {1}


@pytest.mark.parametrize("client", CLIENT_NAMES)
async def test_a_refused_connection_moves_on_and_is_no_attempt_that_reached_anybody(
    serving: Serving, fake_provider: FakeProvider, nobody: str, client: str
):
    gateway = await serving(
        f"providers: {{gone: {{type: anthropic-compatible, base_url: '{nobody}', api_key: x}}, "
        f"here: {{type: openai-compatible, base_url: '{fake_provider.url}/v1', api_key: x}}}}\n"
        "models: {both: [gone/m, here/m]}"
    )
    asks = CLIENTS[client]
    answer = await gateway.ask(asks.path, asks.question("both"))
    assert answer.status == 200
    assert answer.headers["x-tollhouse-model"] == "here/m"
    (row,) = gateway.rows()
    assert (row["provider"], row["outcome"], row["status"]) == ("here", "ok", 200)


@pytest.mark.parametrize("fault", [Stall("before_head"), Stall("in_head"), Reset("before_head")], ids=repr)
async def test_silence_and_a_reset_before_the_head_move_on(
    serving: Serving, fake_provider: FakeProvider, fault: Stall | Reset
):
    for model in PROVIDERS.values():
        fake_provider.reply_to(model, faulty(Answer(text="late"), fault))
    fake_provider.reply_to("second", Answer(text="Second here."))
    gateway = await serving(settings(fake_provider, deadlines="{first_byte: 300ms}", **BOTH))
    for client, provider in LANES:
        asks = CLIENTS[client]
        answer = await gateway.ask(asks.path, asks.question(f"from-{provider}"))
        assert (answer.status, asks.read_whole(answer.body).text) == (200, "Second here.")
        first, _ = attempts_of(gateway.rows()[-1])
        assert first.outcome in {"provider_timeout", "provider_connection_lost"}


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_credential_of_ours_is_a_502_that_shows_no_part_of_it(
    serving: Serving, fake_provider: FakeProvider, status: int
):
    for name, model in PROVIDERS.items():
        key = KEYS[name]
        shown = f"Incorrect API key provided: {key}. You sent Bearer {key}, also known as {key[:7]}*******{key[-4:]}."
        fake_provider.reply_to(model, Failure(status=status, message=shown))
    gateway = await serving(settings(fake_provider))
    for client, provider in LANES:
        asks = CLIENTS[client]
        answer = await gateway.ask(asks.path, asks.question(f"to-{provider}"))
        assert answer.status == 502, "a 401 would make the caller change a key that is right"
        said = asks.read_whole(answer.body)
        assert said.error_type not in {"authentication_error", "permission_error"}
        for secret in KEYS.values():
            for start in range(len(secret) - 5):
                assert secret[start : start + 6] not in answer.body.decode(), (client, provider, answer.body)
    assert [call.key for call in fake_provider.calls] == [KEYS[provider] for _, provider in LANES], "asked once each"


@pytest.mark.parametrize("status", [401, 403, 400])
async def test_a_key_of_no_known_form_is_not_shown_either(serving: Serving, fake_provider: FakeProvider, status: int):
    key = "correcthorsebatterystaple"
    fake_provider.default = Failure(status=status, message=f"You said {key}: not valid.")
    text = f"providers: {{lab: {{type: openai-compatible, base_url: '{fake_provider.url}/v1', api_key: {key}}}}}"
    gateway = await serving(text)
    for asks in CLIENTS.values():
        answer = await gateway.ask(asks.path, asks.question("lab/m"))
        assert key not in answer.body.decode()
        assert "lab" in answer.body.decode() or "not valid" in answer.body.decode()


@pytest.mark.parametrize("client", CLIENT_NAMES)
async def test_a_retry_after_is_waited_for_and_the_same_provider_asked_again(
    serving: Serving, fake_provider: FakeProvider, client: str
):
    fake_provider.reply(Failure(status=429, headers=(("retry-after-ms", "20"),)), Answer(text="Now."))
    gateway = await serving(settings(fake_provider) + QUICK)
    asks = CLIENTS[client]
    answer = await gateway.ask(asks.path, asks.question("to-openai"))
    assert (answer.status, asks.read_whole(answer.body).text) == (200, "Now.")
    (row,) = gateway.rows()
    assert row["attempts"] == 2
    assert row["duration_us"] >= 20_000, "not earlier than it was told"


@pytest.mark.parametrize("client", CLIENT_NAMES)
async def test_a_longer_retry_after_is_the_clients_to_wait_for(
    serving: Serving, fake_provider: FakeProvider, client: str
):
    fake_provider.default = Failure(status=429, retry_after="77")
    gateway = await serving(settings(fake_provider) + QUICK)
    asks = CLIENTS[client]
    for provider in PROVIDERS:
        answer = await gateway.ask(asks.path, asks.question(f"to-{provider}"))
        assert (answer.status, answer.headers["retry-after"]) == (429, "77")
        assert asks.read_whole(answer.body).is_broken
    assert len(fake_provider.calls) == len(PROVIDERS)


async def test_no_more_attempts_are_made_than_configured_and_each_is_listed(
    serving: Serving, fake_provider: FakeProvider
):
    fake_provider.default = Failure(status=503)
    both = "[openai/gpt-4o-mini, anthropic/claude-sonnet-4-5]"
    gateway = await serving(settings(fake_provider, both=both) + "\nretry: {max_attempts: 5, backoff_base: 1ms}")
    for asks in CLIENTS.values():
        fake_provider.calls.clear()
        answer = await gateway.ask(asks.path, asks.question("both"))
        assert answer.status == 503
        assert [call.flavour for call in fake_provider.calls] == [
            "openai",
            "anthropic",
            "openai",
            "anthropic",
            "openai",
        ]
        row = gateway.rows()[-1]
        assert row["attempts"] == 5
        assert [attempt.provider for attempt in attempts_of(row)] == [call.flavour for call in fake_provider.calls]
        assert {attempt.status for attempt in attempts_of(row)} == {503}


@pytest.mark.parametrize("client", CLIENT_NAMES)
async def test_a_redirect_is_not_followed_with_our_key(serving: Serving, fake_provider: FakeProvider, client: str):
    fake_provider.default = redirect(f"{fake_provider.url}/elsewhere/v1/chat/completions")
    gateway = await serving(settings(fake_provider) + QUICK)
    asks = CLIENTS[client]
    answer = await gateway.ask(asks.path, asks.question("to-openai"))
    assert answer.status == 502
    assert all("elsewhere" not in call.path for call in (*fake_provider.calls, *fake_provider.other_calls))


LOST: dict[str, tuple[str, dict[str, Any], str]] = {
    "openai": ("anthropic", {"seed": 7}, "seed"),
    "anthropic": ("openai", {"top_k": 5}, "top_k"),
}
"""For each client: a provider of the other dialect, a field that it cannot express, and the word for it."""


@pytest.mark.parametrize("client", CLIENT_NAMES)
async def test_what_cannot_cross_is_in_a_receipt_for_client_and_ledger(
    serving: Serving, fake_provider: FakeProvider, client: str
):
    provider, fields, word = LOST[client]
    gateway = await serving(settings(fake_provider))
    asks = CLIENTS[client]
    for stream in (False, True):
        answer = await gateway.ask(asks.path, asks.question(f"to-{provider}", stream=stream, **fields))
        assert answer.status == 200
        assert word in answer.headers["x-tollhouse-receipt"]
        assert word in gateway.rows()[-1]["receipt"]
    own = await gateway.ask(asks.path, asks.question(f"to-{client}", **fields))
    assert "x-tollhouse-receipt" not in own.headers, "forwarded as it is"
    assert gateway.rows()[-1]["receipt"] == ""


@pytest.mark.parametrize("client", CLIENT_NAMES)
async def test_a_strict_model_refuses_with_a_400_that_names_what_cannot_cross(
    serving: Serving, fake_provider: FakeProvider, client: str
):
    provider, fields, word = LOST[client]
    target = f"{{route: {provider}/{PROVIDERS[provider]}, strict: true}}"
    gateway = await serving(settings(fake_provider, exact=target))
    asks = CLIENTS[client]
    refused = await gateway.ask(asks.path, asks.question("exact", **fields))
    said = asks.read_whole(refused.body)
    assert (refused.status, said.error_type) == (400, "invalid_request_error")
    assert said.error is not None
    assert word in said.error
    assert provider in said.error
    assert (fake_provider.calls, gateway.rows()) == ([], [])
    assert (await gateway.ask(asks.path, asks.question("exact"))).status == 200, "without the field it is served"


async def test_receipts_can_be_kept_from_clients(serving: Serving, fake_provider: FakeProvider):
    gateway = await serving(settings(fake_provider) + "\nserver: {receipts: false}")
    asks = CLIENTS["openai"]
    answer = await gateway.ask(asks.path, asks.question("to-anthropic", seed=7))
    assert "x-tollhouse-receipt" not in answer.headers
    assert "seed" in gateway.rows()[0]["receipt"]


async def test_the_caller_does_not_learn_a_providers_address(serving: Serving):
    gateway = await serving(
        "providers: {lab: {type: openai-compatible, base_url: 'http://127.0.0.1:9/v1', api_key: x}}\n"
        "models: {m: lab/m}\nretry: {max_attempts: 1}"
    )
    answer = await gateway.ask("/v1/chat/completions", {"model": "m", "messages": [{"role": "user", "content": "hi"}]})
    assert answer.status == 502
    assert b"127.0.0.1" not in answer.body
    assert "provider 'lab'" in answer.json()["error"]["message"]


async def test_a_wait_that_one_candidate_asked_for_holds_behind_one_that_cannot_say_it(
    serving: Serving, fake_provider: FakeProvider
):
    """Candidates: one that is busy, and a strict route's second that cannot express `logprobs`."""
    fake_provider.default = Failure(status=429, retry_after="30")
    gateway = await serving(
        f"providers:\n  openai: {{api_key: x, base_url: '{fake_provider.base_url('openai')}'}}\n"
        f"  anthropic: {{api_key: x, base_url: '{fake_provider.base_url('anthropic')}'}}\n"
        "models: {m: {route: [openai/gpt-4o-mini, anthropic/claude-sonnet-4-5], strict: true}}"
    )
    question = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "logprobs": True}
    answer = await gateway.ask("/v1/chat/completions", question)
    assert answer.status == 400
    assert "logprobs" in answer.json()["error"]["message"]
    assert len(fake_provider.calls) == 1, "30 s are the client's to wait"


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_a_candidate_that_cannot_say_it_is_not_billed_for_the_one_before_it(
    serving: Serving, fake_provider: FakeProvider, stream: bool
):
    """The first may have read the prompt before it broke off; the second was never asked."""
    model = PROVIDERS["openai"]
    fake_provider.reply_to(model, faulty(Answer(text="late"), Reset("before_head")))
    exact = f"{{route: [openai/{model}, anthropic/{PROVIDERS['anthropic']}], strict: true}}"
    gateway = await serving(settings(fake_provider, exact=exact) + "\nretry: {max_attempts: 2, backoff_base: 1ms}")
    asks = CLIENTS["openai"]
    refused = await gateway.ask(asks.path, asks.question("exact", stream=stream, seed=7))
    assert refused.status == 400
    assert [call.flavour for call in fake_provider.calls] == ["openai"]
    (row,) = gateway.rows()
    assert (row["attempts"], row["provider"], row["model"], row["lane"]) == (1, "openai", model, "same")
    assert row["receipt"] == ""
    # $0.15 per million tokens.
    assert row["cost_nano"] == row["input_tokens"] * 150
    assert row["input_tokens"] > 0


async def test_an_endless_error_body_does_not_hide_its_status(serving: Serving, fake_provider: FakeProvider):
    fake_provider.default = Failure(status=503, message="x" * 400_000)
    gateway = await serving(
        f"providers: {{openai: {{api_key: x, base_url: '{fake_provider.base_url('openai')}'}}}}\n"
        "models: {m: openai/gpt-4o-mini}\nretry: {max_attempts: 2, backoff_base: 0.01}"
    )
    answer = await gateway.ask("/v1/chat/completions", {"model": "m", "messages": [{"role": "user", "content": "hi"}]})
    assert answer.status == 503
    assert len(fake_provider.calls) == 2, "a 503 may pass"
    (row,) = gateway.rows()
    assert (row["outcome"], row["cost_nano"]) == ("provider_refused", 0)


async def test_the_log_has_the_names_of_a_providers_error_but_not_its_words(
    serving: Serving, fake_provider: FakeProvider
):
    """A refusal can quote the prompt."""
    fake_provider.default = Failure(status=400, message="You said: my secret prompt")
    gateway = await serving(
        f"providers: {{openai: {{api_key: x, base_url: '{fake_provider.base_url('openai')}'}}}}\n"
        "models: {m: openai/gpt-4o-mini}"
    )
    answer = await gateway.ask("/v1/chat/completions", {"model": "m", "messages": [{"role": "user", "content": "hi"}]})
    assert "my secret prompt" in answer.json()["error"]["message"]
    await gateway.close()
    line = (gateway.ledger.parent / "calls.log").read_text()
    assert '"outcome":"provider_refused"' in line
    assert "secret" not in line
