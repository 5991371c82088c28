"""A request that names no model gets `models.default`, whatever its dialect, and else hears how to come by one."""

from typing import Any, Final

import msgspec
import pytest

from support.clients import KEYS
from support.fake_provider import FakeProvider
from support.fake_replies import Answer
from support.serving import KEY, Serving

pytestmark = pytest.mark.parametrize("server", ["own"])
"""What these tests look at does not depend on the server."""

TURNS: Final = [{"role": "user", "content": "Hello"}]
BODIES: Final[dict[str, dict[str, Any]]] = {
    "/v1/chat/completions": {"messages": TURNS},
    "/v1/messages": {"messages": TURNS, "max_tokens": 50},
    "/v1/messages/count_tokens": {"messages": TURNS},
    "/v1/responses": {"input": "Hello"},
    "/v1/completions": {"prompt": "Hello"},
    "/v1/embeddings": {"input": "Hello"},
    "/v1/chat": {"messages": [{"role": "USER", "parts": [{"text": {"text": "Hello"}}]}]},
    "/v1/embed": {"inputs": ["Hello"]},
}
TYPED: Final = frozenset({"/v1/chat", "/v1/embed"})


def config(fake: FakeProvider, models: str = "") -> str:
    providers = ", ".join(
        f"{name}: {{type: {name}, base_url: '{fake.base_url(name)}', api_key: {key}}}" for name, key in KEYS.items()
    )
    return f"providers: {{{providers}}}\n{models}"


@pytest.mark.parametrize("path", list(BODIES))
@pytest.mark.parametrize("named", [{}, {"model": ""}, {"model": None}], ids=["absent", "empty", "null"])
async def test_the_default_answers(serving: Serving, fake_provider: FakeProvider, path: str, named: dict[str, None]):
    fake_provider.default = Answer(text="well")
    model = "text-embedding-3-small" if "embed" in path else "gpt-4o-mini"
    gateway = await serving(config(fake_provider, f"models: {{default: openai/{model}}}"))
    answer = await gateway.ask(path, {**BODIES[path], **named})
    assert answer.status == 200, answer.body
    for call in fake_provider.calls:
        assert call.json["model"] == model
    for row in gateway.rows():
        assert (row["requested_model"], row["model"]) == (f"openai/{model}", model)


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v1/responses", "/v1/chat"])
@pytest.mark.parametrize("stream", [False, True])
async def test_the_answer_says_which_model_it_was(
    serving: Serving, fake_provider: FakeProvider, path: str, provider: str, stream: bool
):
    fake_provider.default = Answer(text="well")
    model = {"openai": "gpt-4o-mini", "anthropic": "claude-sonnet-4-5"}[provider]
    gateway = await serving(config(fake_provider, f"models: {{default: [{provider}/{model}]}}"))
    answer = await gateway.ask(path, {**BODIES[path], "stream": stream})
    assert answer.status == 200, answer.body
    assert (await fake_provider.call(0)).json["model"] == model
    said = answer.body.replace(b'": "', b'":"')
    assert b'"model":""' not in said
    assert b'"model":"' in said
    (row,) = gateway.rows()
    assert (row["requested_model"], row["model"], row["outcome"]) == ("default", model, "ok")


@pytest.mark.parametrize("path", list(BODIES))
async def test_without_one_a_person_hears_what_is_missing(serving: Serving, fake_provider: FakeProvider, path: str):
    gateway = await serving(config(fake_provider))
    answer = await gateway.ask(path, BODIES[path])
    assert answer.status == 400
    assert answer.headers["x-tollhouse-code"] == "model_missing"
    said = msgspec.json.decode(answer.body)
    words = str(said["error"] if path not in TYPED else said)
    assert "set `model`" in words
    assert "`models.default`" in words
    assert not fake_provider.calls


async def test_a_provider_that_the_path_names_is_not_left_for_the_default(
    serving: Serving, fake_provider: FakeProvider
):
    lab = f"providers: {{lab: {{type: openai-compatible, base_url: '{fake_provider.url}/v1'}}}}"
    gateway = await serving(f"{lab}\nmodels: {{default: lab/small}}")
    answer = await gateway.ask("/lab/v1/responses", BODIES["/v1/responses"])
    assert answer.status == 400
    assert "set `model`" in answer.json()["error"]["message"]
    assert not fake_provider.calls


async def test_a_key_that_may_not_use_the_default_does_not(serving: Serving, fake_provider: FakeProvider):
    gateway = await serving(
        config(fake_provider, "models: {default: openai/gpt-4o-mini}")
        + f"\nauth: {{keys: [{{name: test, key: {KEY}, models: [anthropic/claude-sonnet-4-5]}}]}}"
    )
    answer = await gateway.ask("/v1/chat/completions", BODIES["/v1/chat/completions"])
    assert answer.status == 403
    assert not fake_provider.calls
