"""The recorded exchanges on a stage: the fake provider that replays them, the gateway before it, and at both of them the SDKs
of all four dialects.

    async with staged(tmp_path) as stage:
        meant = await stage.means(recording)                   # what the provider's own SDK reads, without a gateway
        seen = await stage.reads(recording, "gemini")          # what a client of that dialect reads through the gateway
"""

import sqlite3
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, Protocol

import openai

from support.fake_provider import FakeProvider
from support.fake_replies import Replay
from support.recordings import Recording, recordings
from support.sdk_gemini import gemini_reader
from support.sdk_responses import ResponsesReader
from support.sdk_views import Seen, readers
from support.serving import KEY, Running, start
from tollhouse.providers.registry import PROVIDER_TYPES
from tollhouse.server.http1.listener import Http1Listener

Side = Literal["openai_chat", "openai_responses", "anthropic", "gemini"]
SIDES: Final[tuple[Side, ...]] = ("openai_chat", "openai_responses", "anthropic", "gemini")
"""The dialects of clients, as the gateway calls them."""

DIALECTS: Final[Mapping[str, Side]] = {
    "openai-chat": "openai_chat",
    "openai-responses": "openai_responses",
    "anthropic-messages": "anthropic",
    "gemini": "gemini",
}
"""The dialects of recorded answers, as the recordings call them."""

EVERY: Final = [recording for name in DIALECTS for recording in recordings(name)]
"""Every recorded answer to a conversation, errors included."""

_TYPES: Final = {"gemini": "google", "azure-openai": "openai"}


def own(recording: Recording) -> Side:
    """The dialect in which the provider answered."""
    return DIALECTS[recording.dialect]


def others(recording: Recording) -> list[Side]:
    """The other three."""
    return [side for side in SIDES if side != own(recording)]


def name_of(recording: Recording) -> str:
    """What `Replay` calls it."""
    return f"{recording.provider}/{recording.id}"


def provider_of(recording: Recording) -> str:
    """Its name in the gateway's configuration: of each of a provider's APIs there is one."""
    match recording.dialect:
        case "openai-responses":
            return f"{recording.provider}-responses"
        case "openai-chat" if recording.provider in {"anthropic", "gemini"}:
            return f"{recording.provider}-chat"
        case _:
            return recording.provider


def type_of(recording: Recording) -> str:
    """The type of that provider: its own where there is one."""
    if provider_of(recording) == "gemini-chat":
        return "google-openai"
    if provider_of(recording) == "anthropic-chat":
        return "openai-compatible"
    kind = _TYPES.get(recording.provider, recording.provider)
    return kind if kind in PROVIDER_TYPES else "openai-compatible"


def model_of(recording: Recording) -> str:
    """The model that was asked; the recording's id where the source does not say it."""
    if own(recording) == "gemini":
        return recording.request.url.partition("/models/")[2].partition(":")[0] or recording.id
    asked = recording.request_json
    return (asked or {}).get("model") or recording.id


def asks_stream(recording: Recording) -> bool:
    """Whether the recorded request was for a stream, which may have been refused."""
    return "stream" in recording.features


def configuration(fake: FakeProvider) -> str:
    """A provider for each that was recorded, of its own type where there is one."""
    lines = ["retry: {max_attempts: 1}", "providers:"]
    by_provider: dict[str, list[Recording]] = {}
    for recording in EVERY:
        by_provider.setdefault(provider_of(recording), []).append(recording)
    for name, recorded in by_provider.items():
        url = {"anthropic": fake.base_url("anthropic"), "gemini": fake.base_url("google")}.get(name, f"{fake.url}/v1")
        lines.append(f"  {name}:")
        lines += [f"    {key}: {value}" for key, value in (("type", type_of(recorded[0])), ("base_url", url))]
        lines += ["    api_key: x", "    models:"]
        api = {"openai_chat": ", api: chat", "openai_responses": ", api: responses"}.get(own(recorded[0]), "")
        models = dict.fromkeys(name for each in recorded for name in (each.id, model_of(each)))
        lines += [f"      - {{name: '{model}'{api}}}" for model in models]
    return "\n".join(lines)


class Reader(Protocol):
    """One SDK."""

    async def read(self, model: str, *, stream: bool, **asked: Any) -> Seen: ...


Readers = Mapping[Side, Reader]


@asynccontextmanager
async def four(openai_url: str, anthropic_url: str, gemini_url: str, key: str) -> AsyncIterator[Readers]:
    """The SDKs of all four dialects."""
    async with readers(openai_url, anthropic_url, key) as both, gemini_reader(gemini_url, key) as google:
        client: openai.AsyncOpenAI = both.openai.client
        yield {
            "openai_chat": both.openai,
            "openai_responses": ResponsesReader(client),
            "anthropic": both.anthropic,
            "gemini": google,
        }


@dataclass
class Stage:
    """See the module."""

    fake: FakeProvider
    gateway: Running
    straight: Readers
    through: Readers
    meanings: dict[str, Seen] = field(default_factory=dict)

    def replay(self, recording: Recording, cuts: int | tuple[int, ...] | None = None) -> None:
        """From now on, the recording is what its model answers."""
        self.fake.reply_to(recording.id, Replay(name=name_of(recording), cuts="recorded" if cuts is None else cuts))

    async def means(self, recording: Recording) -> Seen:
        """What the provider's own SDK reads without a gateway."""
        if recording.id not in self.meanings:
            self.replay(recording)
            reader = self.straight[own(recording)]
            self.meanings[recording.id] = await reader.read(recording.id, stream=asks_stream(recording))
        return self.meanings[recording.id]

    async def reads(
        self,
        recording: Recording,
        side: Side,
        *,
        cuts: int | tuple[int, ...] | None = None,
        stream: bool | None = None,
    ) -> Seen:
        """What a client of one side reads through the gateway, the recording being cut on its way into it."""
        self.replay(recording, cuts)
        return await self.ask(recording, side, stream=stream)

    async def ask(self, recording: Recording, side: Side, *, stream: bool | None = None) -> Seen:
        """The same, whatever the fake provider says for this recording's model now."""
        asked = asks_stream(recording) if stream is None else stream
        return await self.through[side].read(f"{provider_of(recording)}/{recording.id}", stream=asked)

    def receipts(self, seen: Iterable[Seen]) -> list[str]:
        """What the ledger's rows of these calls say of losses."""
        with closing(sqlite3.connect(f"file:{self.gateway.ledger}?mode=ro", uri=True)) as database:
            return [
                str(database.execute("SELECT receipt FROM calls WHERE id = ?", (each.request_id,)).fetchone()[0])
                for each in seen
            ]


@asynccontextmanager
async def staged(folder: Path) -> AsyncIterator[Stage]:
    """The whole stage, on which every recording is the answer of the model that is called by its id."""
    async with AsyncExitStack() as stack:
        fake = await stack.enter_async_context(FakeProvider())
        gateway = await start(configuration(fake), folder, Http1Listener)
        stack.push_async_callback(gateway.close)
        straight = await stack.enter_async_context(
            four(f"{fake.url}/v1", fake.base_url("anthropic"), f"{fake.url}/gemini", "x")
        )
        through = await stack.enter_async_context(four(f"{gateway.url}/v1", gateway.url, gateway.url, KEY))
        yield Stage(fake, gateway, straight, through)
