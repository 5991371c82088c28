"""What a provider's cache gave and took, as each client's dialect counts it, and in the ledger."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Final

import pytest
import pytest_asyncio

from support.fake_provider import FakeProvider
from support.fake_replies import Answer, Tokens, words
from support.replaying import ASK, Json, events_of
from support.serving import Running, start
from tollhouse.server.http1.listener import Http1Listener

pytestmark = pytest.mark.asyncio(loop_scope="module")

CONFIGURATION: Final = """
providers:
  anthropic: {{base_url: '{anthropic}', api_key: x}}
  google: {{base_url: '{google}', api_key: x, models: [gemini-3-flash-preview]}}
  openai: {{base_url: '{openai}', api_key: x, models: [gpt-5-codex]}}
  deepseek: {{base_url: '{deepseek}', api_key: x}}
models:
  claude: anthropic/claude-opus-4-8
  gemini: google/gemini-3-flash-preview
  codex: openai/gpt-5-codex
  deep: deepseek/deepseek-chat
"""
WRITERS: Final = {"claude", "codex"}
"""Who tells what was written to a cache."""


@dataclass
class Stage:
    fake: FakeProvider
    gateway: Running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    async with AsyncExitStack() as stack:
        fake = await stack.enter_async_context(FakeProvider())
        addresses = {name: fake.base_url(name) for name in ("anthropic", "google", "openai", "deepseek")}
        gateway = await start(CONFIGURATION.format(**addresses), tmp_path_factory.mktemp("cached"), Http1Listener)
        stack.push_async_callback(gateway.close)
        yield Stage(fake, gateway)


def chat_counts(usage: Json) -> tuple[int, ...]:
    """Cached tokens are a part of the prompt's."""
    details = usage["prompt_tokens_details"]
    return usage["prompt_tokens"], details["cached_tokens"], details.get("cache_write_tokens") or 0


def block_counts(usage: Json) -> tuple[int, ...]:
    """Cached tokens stand beside the prompt's."""
    read, written = usage["cache_read_input_tokens"], usage["cache_creation_input_tokens"]
    return usage["input_tokens"] + read + written, read, written


def item_counts(usage: Json) -> tuple[int, ...]:
    details = usage["input_tokens_details"]
    return usage["input_tokens"], details["cached_tokens"], details.get("cache_write_tokens") or 0


def part_counts(usage: Json) -> tuple[int, ...]:
    """Google has no word for what was written."""
    return usage["promptTokenCount"], usage["cachedContentTokenCount"]


COUNTS: Final[Mapping[str, Callable[[Json], tuple[int, ...]]]] = {
    "openai_chat": chat_counts,
    "anthropic": block_counts,
    "openai_responses": item_counts,
    "gemini": part_counts,
}
PATHS: Final = {
    "openai_chat": "/v1/chat/completions",
    "anthropic": "/v1/messages",
    "openai_responses": "/v1/responses",
}


def reported(client: str, events: list[Json]) -> Json:
    """The last usage of a stream; Anthropic's begins with the prompt's."""
    found: Json = {}
    for event in events:
        for holder in (event, event.get("message") or {}, event.get("response") or {}):
            found |= holder.get("usage" if client != "gemini" else "usageMetadata") or {}
    return found


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("model", ["claude", "gemini", "codex", "deep"])
@pytest.mark.parametrize("client", ASK)
async def test_each_client_counts_cached_tokens_as_its_dialect_does(
    stage: Stage, client: str, model: str, stream: bool
):
    written = 20 if model in WRITERS else 0
    stage.fake.default = Answer(text=words(8), tokens=Tokens(input=100, cache_read=60, cache_write=written, output=8))
    body: dict[str, Any] = {**ASK[client], "model": model}
    if client == "gemini":
        method = "streamGenerateContent?alt=sse" if stream else "generateContent"
        answer = await stage.gateway.ask(f"/v1beta/models/{model}:{method}", body)
    else:
        body["stream"] = stream
        if client == "openai_chat" and stream:
            body["stream_options"] = {"include_usage": True}
        answer = await stage.gateway.ask(PATHS[client], body)
    assert answer.status == 200, answer.body
    usage = reported(client, events_of(answer.body) if stream else [answer.json()])
    assert COUNTS[client](usage) == (100, 60, written)[: 2 if client == "gemini" else 3]
    row = stage.gateway.rows()[-1]
    assert (row["input_tokens"], row["cache_read_tokens"], row["cache_write_tokens"] or 0) == (100, 60, written)
