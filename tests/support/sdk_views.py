"""What the official SDKs read in an answer, as values that can be compared across dialects.

    async with readers(f"{gateway.url}/v1", gateway.url, KEY) as sdk:
        seen = await sdk.openai.read("openai/gpt-4o", stream=True)       # a View, or a Refused

`View` says what an answer means in neutral words.  The functions that make one look only at what the SDK's own objects
hold (fields that it has no type for included); they share no code with the gateway's dialects, so they can tell on them.
"""

import json
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final

import anthropic
import httpx2
import openai

from support.sdk_opened import opened, opened_id

MESSAGES: Final[list[Any]] = [{"role": "user", "content": "Where?"}]

OPENAI_FINISH: Final[Mapping[str, str]] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "filtered",
}
ANTHROPIC_FINISH: Final[Mapping[str, str]] = {
    "end_turn": "stop",
    "stop_sequence": "stop_sequence",
    "max_tokens": "length",
    "tool_use": "tool_calls",
    "refusal": "filtered",
}
"""The words of each dialect for why an answer ended.  A word that is not here stands for itself."""


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call."""

    id: str
    name: str
    arguments: object
    """The decoded JSON; nothing at all is `{}`; text that is no JSON (a cut call) stands as it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Token counts whose totals hold their parts."""

    input: int
    output: int
    cache_read: int = 0
    cache_write: int = 0
    reasoning: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """One choice."""

    text: str = ""
    reasoning: str = ""
    refusal: str = ""
    calls: tuple[Call, ...] = ()
    finish: str | None = None
    stop_sequence: str | None = None
    sealed: tuple[str, ...] = ()
    """Signatures and encrypted reasoning: the bare values, sorted, wherever they stand."""
    sources: tuple[str, ...] = ()
    """Addresses that are cited, each once."""
    logprobs: tuple[tuple[str, float], ...] = ()
    others: tuple[str, ...] = ()
    """Kinds of content that only the dialect itself knows: server tools and their results, audio, …"""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """An answer."""

    id: str
    choices: tuple[Said, ...]
    usage: Counts | None
    raw: Any = field(default=None, compare=False, repr=False)
    """All that the SDK read, as plain values."""
    request_id: str | None = field(default=None, compare=False)

    @property
    def first(self) -> Said:
        """The first choice."""
        return self.choices[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """An error that the SDK raised."""

    kind: str
    """The SDK's exception class, which has the same name in both SDKs: `BadRequestError`, …"""
    status: int | None
    message: str = field(compare=False)
    type: str | None = field(default=None, compare=False)
    """The dialect's own name of the error."""
    request_id: str | None = field(default=None, compare=False)


Seen = View | Refused


# ------------------------------------------------------------------------------------------------------------ OpenAI


def of_completion(completion: Any) -> View:
    """A `ChatCompletion`."""
    raw = completion.model_dump(mode="json", warnings=False)
    return replace(_openai([raw]), raw=raw)


def of_chunks(chunks: Iterable[Any]) -> View:
    """The `ChatCompletionChunk`s of a whole stream."""
    raw = [chunk.model_dump(mode="json", warnings=False, exclude_unset=True) for chunk in chunks]
    return replace(_openai(raw), raw=raw)


@dataclass(slots=True)
class _Gathered:
    """What the deltas of one choice add up to."""

    text: str = ""
    reasoning: str = ""
    refusal: str = ""
    calls: dict[object, list[str]] = field(default_factory=dict)
    finish: str | None = None
    sealed: list[str] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    logprobs: list[tuple[str, float]] = field(default_factory=list)
    others: list[str] = field(default_factory=list)

    def take(self, delta: Mapping[str, Any]) -> None:
        content = delta.get("content") or ""
        parts: list[dict[str, Any]] = [{"type": "text", "text": content}] if isinstance(content, str) else content
        for part in parts:
            match part["type"]:
                case "text":
                    self.text += part["text"]
                case "thinking":  # Mistral
                    self.reasoning += "".join(piece["text"] for piece in part["thinking"])
                case kind:
                    self.others.append(kind)
        self._reason(delta)
        self.refusal += delta.get("refusal") or ""
        if delta.get("audio"):
            self.others.append("audio")
        for note in delta.get("annotations") or ():
            self.sources.append(note["url_citation"]["url"])
        for number, call in enumerate(delta.get("tool_calls") or ()):
            self._call(call.get("index", number), call)
        if delta.get("function_call"):
            self._call("function_call", {"function": delta["function_call"]})

    def _reason(self, delta: Mapping[str, Any]) -> None:
        details = delta.get("reasoning_details") or ()
        said = delta.get("reasoning_content") or delta.get("reasoning")
        self.reasoning += said or "".join(detail.get("text") or detail.get("summary") or "" for detail in details)
        self.sealed += [seal for detail in details if (seal := detail.get("signature") or detail.get("data"))]

    def _call(self, place: object, call: Mapping[str, Any]) -> None:
        identity = call.get("id") or ""
        if identity and self.calls.get(place, [identity])[0] not in {identity, ""}:
            place = identity  # Google numbers all parallel calls 0
        known = self.calls.setdefault(place, ["", "", ""])
        known[0] = known[0] or identity
        inner = call.get("function") or call.get("custom") or {}
        known[1] = known[1] or inner.get("name") or ""
        known[2] += inner.get("arguments") or inner.get("input") or ""

    def said(self) -> Said:
        calls: list[Call] = []
        sealed = [opened(seal) for seal in self.sealed]
        for identity, name, text in self.calls.values():
            bare, signatures = opened_id(identity)
            sealed += signatures
            calls.append(Call(bare, name, arguments(text)))
        finish = None if self.finish is None else OPENAI_FINISH.get(self.finish, self.finish)
        # A call that was forced by name, and a refusal, both end with `stop`.
        if finish == "stop" and calls:
            finish = "tool_calls"
        return Said(
            text=self.text,
            reasoning=self.reasoning,
            refusal=self.refusal,
            calls=tuple(calls),
            finish="filtered" if finish == "stop" and self.refusal else finish,
            sealed=tuple(sorted(sealed)),
            sources=tuple(dict.fromkeys(self.sources)),
            logprobs=tuple(self.logprobs),
            others=tuple(self.others),
        )


def _openai(answers: Iterable[Mapping[str, Any]]) -> View:
    choices: dict[int, _Gathered] = {}
    usage: Counts | None = None
    identity = ""
    sources: list[str] = []
    for answer in answers:
        identity = identity or answer.get("id") or ""
        fields = answer.get("usage") or (answer.get("x_groq") or {}).get("usage")
        usage = _openai_counts(fields) if fields else usage
        listed = [found["url"] for found in answer.get("search_results") or ()]
        sources = listed or answer.get("citations") or sources
        for choice in answer.get("choices") or ():
            gathered = choices.setdefault(choice["index"], _Gathered())
            gathered.take(choice.get("delta") or choice.get("message") or {})
            gathered.finish = gathered.finish or choice.get("finish_reason")
            logprobs = choice.get("logprobs") or {}
            for token in logprobs.get("content") or logprobs.get("refusal") or ():
                gathered.logprobs.append((token["token"], token["logprob"]))
    for gathered in choices.values():
        gathered.sources += sources
    return View(id=identity, choices=tuple(choices[index].said() for index in sorted(choices)), usage=usage)


def _openai_counts(usage: Mapping[str, Any]) -> Counts:
    """All providers' arithmetic: what the total has beyond the prompt was generated, whatever `completion_tokens` says."""
    prompt, completion = usage["prompt_tokens"], usage["completion_tokens"]
    read = usage.get("prompt_tokens_details") or {}
    reasoning = (usage.get("completion_tokens_details") or {}).get("reasoning_tokens") or usage.get("reasoning_tokens")
    if (reasoning or 0) > completion:
        completion += reasoning
    return Counts(
        input=prompt,
        output=max(completion, (usage.get("total_tokens") or 0) - prompt),
        cache_read=read.get("cached_tokens") or usage.get("prompt_cache_hit_tokens") or usage.get("cached_tokens") or 0,
        cache_write=read.get("cache_write_tokens") or read.get("cache_creation_tokens") or 0,
        reasoning=reasoning or max(0, (usage.get("total_tokens") or 0) - prompt - completion),
    )


def arguments(text: str) -> object:
    """The decoded arguments of a call; text that is no JSON stands as it is."""
    try:
        return json.loads(text or "{}")
    except ValueError:
        return text


# --------------------------------------------------------------------------------------------------------- Anthropic


def of_message(message: Any) -> View:
    """A `Message`, also the one that the stream helper gathered."""
    raw = message.model_dump(mode="json", warnings=False)
    text = reasoning = ""
    calls: list[Call] = []
    sealed: list[str] = []
    sources: list[str] = []
    others: list[str] = []
    for block in raw["content"]:
        match block["type"]:
            case "text":
                text += block["text"]
                cited = [citation.get("url") for citation in block.get("citations") or ()]
                sources += [url for url in cited if url is not None]
            case "thinking":
                reasoning += block["thinking"]
                sealed += [opened(block["signature"])] if block.get("signature") else []
            case "redacted_thinking":
                sealed.append(opened(block["data"]))
            case "tool_use":
                identity, signatures = opened_id(block["id"])
                sealed += signatures
                calls.append(Call(identity, block["name"], block["input"]))
            case kind:
                others.append(kind)
    said = Said(
        text=text,
        reasoning=reasoning,
        calls=tuple(calls),
        finish=ANTHROPIC_FINISH.get(raw["stop_reason"], raw["stop_reason"]),
        stop_sequence=raw["stop_sequence"],
        sealed=tuple(sorted(sealed)),
        sources=tuple(dict.fromkeys(sources)),
        others=tuple(others),
    )
    return View(id=raw["id"], choices=(said,), usage=_anthropic_counts(raw["usage"]), raw=raw)


def _anthropic_counts(usage: Mapping[str, Any]) -> Counts:
    read, written = usage.get("cache_read_input_tokens") or 0, usage.get("cache_creation_input_tokens") or 0
    return Counts(
        input=usage["input_tokens"] + read + written,
        output=usage["output_tokens"],
        cache_read=read,
        cache_write=written,
        reasoning=(usage.get("output_tokens_details") or {}).get("thinking_tokens") or 0,
    )


# ----------------------------------------------------------------------------------------------------------- clients


@dataclass(frozen=True, slots=True)
class OpenAIReader:
    """OpenAI's SDK."""

    client: openai.AsyncOpenAI

    async def read(self, model: str, *, stream: bool, **asked: Any) -> Seen:
        """What it reads in the answer of a model."""
        asked = {"messages": MESSAGES, **asked}
        try:
            if not stream:
                whole = await self.client.chat.completions.create(model=model, **asked)
                return replace(of_completion(whole), request_id=whole._request_id)
            asked.setdefault("stream_options", {"include_usage": True})
            chunks = await self.client.chat.completions.create(model=model, stream=True, **asked)
            async with chunks:
                seen = of_chunks([chunk async for chunk in chunks])
                return replace(seen, request_id=chunks.response.headers.get("x-request-id"))
        except openai.APIError as error:
            return openai_refusal(error, error.type)


@dataclass(frozen=True, slots=True)
class AnthropicReader:
    """Anthropic's SDK."""

    client: anthropic.AsyncAnthropic

    async def read(self, model: str, *, stream: bool, **asked: Any) -> Seen:
        """What it reads in the answer of a model."""
        asked = {"messages": MESSAGES, "max_tokens": 1000, **asked}
        try:
            if not stream:
                whole = await self.client.messages.create(model=model, **asked)
                return replace(of_message(whole), request_id=whole._request_id)
            async with self.client.messages.stream(model=model, **asked) as events:
                seen = of_message(await events.get_final_message())
                return replace(seen, request_id=events.request_id)
        except anthropic.APIError as error:
            body = error.body
            kind = body.get("error", {}).get("type") if isinstance(body, dict) else None
            return _refused(error, kind, "request-id")


def openai_refusal(error: openai.APIError, kind: str | None) -> Refused:
    """What OpenAI's SDK raised."""
    return _refused(error, kind, "x-request-id")


def _refused(error: openai.APIError | anthropic.APIError, kind: str | None, request_id: str) -> Refused:
    headers: Mapping[str, str] = {}
    status: int | None = None
    if isinstance(error, openai.APIStatusError | anthropic.APIStatusError):
        headers, status = error.response.headers, error.status_code
    return Refused(
        kind=type(error).__name__,
        status=status,
        message=error.message,
        type=kind,
        request_id=headers.get(request_id),
    )


@dataclass(frozen=True, slots=True)
class Readers:
    """Both SDKs at one address."""

    openai: OpenAIReader
    anthropic: AnthropicReader


@asynccontextmanager
async def readers(openai_url: str, anthropic_url: str, key: str) -> AsyncIterator[Readers]:
    """Both SDKs, without retries, sharing a pool of connections.  `openai_url` ends in `/v1`, the other does not."""
    # Without TLS there is no need to load certificates, which is most of what making a client costs.
    async with httpx2.AsyncClient(verify=False, timeout=60) as pool:
        yield Readers(
            OpenAIReader(openai.AsyncOpenAI(api_key=key, base_url=openai_url, max_retries=0, http_client=pool)),
            AnthropicReader(
                anthropic.AsyncAnthropic(api_key=key, base_url=anthropic_url, max_retries=0, http_client=pool)
            ),
        )
