"""Vectors: forwarded or translated, limited and billed like any call."""

import struct
from base64 import b64decode
from typing import Any

import openai
import pytest

from support.fake_provider import FakeProvider
from support.fake_replies import Answer, Cut, Failure, Raw, faulty
from support.serving import KEY, Serving

pytestmark = pytest.mark.parametrize("server", ["own"])
"""What these tests look at does not depend on the server."""

MODEL = "text-embedding-3-small"
NANO_A_TOKEN = 20
"""What the price book has for it: $0.02 for a million tokens."""


def config(fake: FakeProvider, more: str = "") -> str:
    return f"providers: {{openai: {{api_key: k, base_url: '{fake.base_url('openai')}'}}}}\n{more}"


def ask(text: object = "one two three", **fields: object) -> dict[str, object]:
    return {"model": MODEL, "input": text, **fields}


async def test_a_call_for_vectors_is_forwarded_and_billed(serving: Serving, fake_provider: FakeProvider):
    gateway = await serving(config(fake_provider))
    answer = await gateway.ask("/v1/embeddings", ask(["one two", "three"], dimensions=4, unheard_of={"a": 1}))
    assert answer.status == 200
    assert [entry["embedding"][0] for entry in answer.json()["data"]] == [7.0, 5.0]
    assert answer.headers["x-tollhouse-model"] == f"openai/{MODEL}"
    sent = await fake_provider.call(0)
    assert sent.json == ask(["one two", "three"], dimensions=4, unheard_of={"a": 1})
    (row,) = gateway.rows()
    assert (row["door"], row["lane"], row["input_tokens"], row["output_tokens"]) == ("openai_embeddings", "same", 3, 0)
    assert (row["cost_nano"], row["outcome"], row["usage_source"]) == (3 * NANO_A_TOKEN, "ok", "reported")


async def test_openais_sdk_gets_its_vectors(serving: Serving, fake_provider: FakeProvider):
    gateway = await serving(config(fake_provider))
    async with openai.AsyncOpenAI(api_key=KEY, base_url=f"{gateway.url}/v1") as client:
        made = await client.embeddings.create(model=MODEL, input=["abc", "de"])
    assert [entry.embedding for entry in made.data] == [[3.0, 30.0, 300.0, 3000.0], [2.0, 20.0, 200.0, 2000.0]]
    assert made.usage.prompt_tokens == 2
    assert (await fake_provider.call(0)).json["encoding_format"] == "base64"


async def test_tokens_are_embedded_as_they_come(serving: Serving, fake_provider: FakeProvider):
    gateway = await serving(config(fake_provider))
    answer = await gateway.ask("/v1/embeddings", ask([1, 2, 3], encoding_format="base64"))
    assert struct.unpack("<4f", b64decode(answer.json()["data"][0]["embedding"]))[0] == 3.0
    assert (await fake_provider.call(0)).json["input"] == [1, 2, 3]


async def test_the_next_candidate_answers_for_one_that_fails(serving: Serving, fake_provider: FakeProvider):
    gateway = await serving(
        f"""
providers:
  first: {{type: openai-compatible, api_key: a, base_url: '{fake_provider.url}/v1', models: [m]}}
  claude: {{type: anthropic, api_key: c, base_url: '{fake_provider.base_url("anthropic")}'}}
  openai: {{api_key: b, base_url: '{fake_provider.base_url("openai")}'}}
models: {{vectors: {{route: [first/m, claude/claude-opus-5, openai/{MODEL}]}}}}
"""
    )
    fake_provider.reply_to("m", Failure(status=503))
    answer = await gateway.ask("/v1/embeddings", {"model": "vectors", "input": "a b"})
    assert answer.headers["x-tollhouse-model"] == f"openai/{MODEL}"
    (row,) = gateway.rows()
    assert (row["provider"], row["model"], row["requested_model"]) == ("openai", MODEL, "vectors")
    assert (row["attempts"], row["cost_nano"]) == (2, 2 * NANO_A_TOKEN)


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({"model": MODEL}, 400, "input"),
        ({"input": "a"}, 400, "model"),
        ({"model": "claude-opus-5", "input": "a"}, 400, None),
        ({"model": "no-such-model", "input": "a"}, 404, "model"),
    ],
)
async def test_what_cannot_be_embedded_is_refused(
    serving: Serving, fake_provider: FakeProvider, body: dict[str, Any], status: int, param: str | None
):
    gateway = await serving(
        config(fake_provider).replace(
            "providers: {",
            f"providers: {{anthropic: {{api_key: c, base_url: '{fake_provider.base_url('anthropic')}'}}, ",
        )
    )
    answer = await gateway.ask("/v1/embeddings", body)
    assert (answer.status, answer.json()["error"].get("param")) == (status, param)
    assert not fake_provider.calls
    assert gateway.rows() == []


async def test_a_budget_holds_the_worst_and_is_given_back_the_rest(serving: Serving, fake_provider: FakeProvider):
    budgets = "budgets: [{scope: global, daily: 0.000001}]"
    gateway = await serving(config(fake_provider, budgets))
    assert (await gateway.ask("/v1/embeddings", ask("a"))).status == 200
    refused = await gateway.ask("/v1/embeddings", ask("word " * 1000))
    assert (refused.status, refused.json()["error"]["code"]) == (402, "insufficient_quota")
    assert (await gateway.ask("/v1/embeddings", ask("a"))).status == 200, "what was held and not used is free again"
    assert [row["cost_nano"] for row in gateway.rows()] == [NANO_A_TOKEN, NANO_A_TOKEN]


async def test_an_answer_that_says_no_usage_is_billed_by_its_size(serving: Serving, fake_provider: FakeProvider):
    gateway = await serving(config(fake_provider))
    fake_provider.reply(Raw(status=200, body=b'{"object":"list","data":[{"embedding":[1]}],"model":"m"}'))
    assert (await gateway.ask("/v1/embeddings", ask("a" * 400))).status == 200
    (row,) = gateway.rows()
    assert row["usage_source"] == "estimated"
    assert row["input_tokens"] > 100


@pytest.mark.parametrize(
    "reply", [Raw(status=200, body=b"<html>"), Raw(status=200, body=b'{"data":'), faulty(Answer(), Cut("in_head"))]
)
async def test_what_is_no_answer_is_an_error_and_has_its_row(serving: Serving, fake_provider: FakeProvider, reply: Any):
    gateway = await serving(config(fake_provider, "retry: {max_attempts: 1}"))
    fake_provider.reply(reply)
    answer = await gateway.ask("/v1/embeddings", ask())
    assert answer.status == 502
    (row,) = gateway.rows()
    assert row["outcome"] != "ok"
    assert row["usage_source"] == "estimated", "it may have done the work"


async def test_a_call_without_a_model_counts_for_the_default_alias(serving: Serving, fake_provider: FakeProvider):
    """Budgets of an alias are added up by the name in the row."""
    gateway = await serving(config(fake_provider, f"models: {{default: vectors, vectors: openai/{MODEL}}}"))
    assert (await gateway.ask("/v1/embeddings", ask() | {"model": "default"})).status == 200
    (row,) = gateway.rows()
    assert row["requested_model"] == "vectors"


async def test_a_provider_sees_placeholders_in_texts_too(serving: Serving, fake_provider: FakeProvider):
    gateway = await serving(config(fake_provider, "logging: {redact_upstream: true}"))
    texts = ["Write to bob@example.com", "Nothing here"]
    answer = await gateway.ask("/v1/embeddings", ask(texts, encoding_format="base64", unheard_of=1))
    assert answer.status == 200
    assert struct.unpack("<4f", b64decode(answer.json()["data"][1]["embedding"]))[0] == 12.0
    sent = (await fake_provider.call(0)).json
    assert sent["input"] == ["Write to [EMAIL_1]", "Nothing here"]
    assert sent["unheard_of"] == 1
    assert (await gateway.ask("/v1/embeddings", ask("Nothing here"))).status == 200
    assert [row["lane"] for row in gateway.rows()] == ["translated", "same"]


async def test_a_text_without_its_vector_is_an_error(serving: Serving, fake_provider: FakeProvider):
    """A client that asks in Gemini's form would be given an empty vector for an answer."""
    gateway = await serving(config(fake_provider))
    fake_provider.reply_to(MODEL, Raw(status=200, body=b'{"object":"list","data":[],"model":"m"}'))
    answer = await gateway.ask(f"/v1beta/models/{MODEL}:embedContent", {"content": {"parts": [{"text": "one"}]}})
    assert answer.status == 502
    assert "0 vectors for 1 texts" in answer.json()["error"]["message"]
