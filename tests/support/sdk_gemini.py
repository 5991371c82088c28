"""What Google's SDK (google-genai) reads in an answer, as a `View`.

Its objects have a place for every field that Google documents; what it read is looked at as plain values.
"""

import warnings
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final

from support.sdk_opened import opened, opened_id
from support.sdk_views import Call, Counts, Refused, Said, Seen, View

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what the SDK's own modules say of each other when they are imported
    from google import genai
    from google.genai import errors, types

IGNORED: Final = "ignore:Inheritance class AiohttpClientSession:DeprecationWarning"
"""A filter for what the SDK itself causes; each test that uses it needs it."""

_FILTERED: Final = frozenset(
    {"SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "IMAGE_SAFETY", "LANGUAGE"}
)
_KINDS: Final = {
    400: "BadRequestError",
    401: "AuthenticationError",
    403: "PermissionDeniedError",
    404: "NotFoundError",
    429: "RateLimitError",
}
"""What the other SDKs call these errors; this one has a class for the caller's and one for the server's."""


@dataclass(slots=True)
class _Gathered:
    """What the parts of one candidate add up to."""

    text: str = ""
    reasoning: str = ""
    calls: list[Call] = field(default_factory=list)
    finish: str | None = None
    sealed: list[str] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    logprobs: list[tuple[str, float]] = field(default_factory=list)
    others: list[str] = field(default_factory=list)

    def take(self, candidate: Mapping[str, Any]) -> None:
        for part in (candidate.get("content") or {}).get("parts") or ():
            self._part(part)
        self.finish = candidate.get("finish_reason") or self.finish
        for chunk in (candidate.get("grounding_metadata") or {}).get("grounding_chunks") or ():
            place = chunk.get("web") or chunk.get("retrieved_context") or {}
            self.sources += [place["uri"]] if place.get("uri") else []
        for found in (candidate.get("citation_metadata") or {}).get("citations") or ():
            self.sources += [found["uri"]] if found.get("uri") else []
        for token in (candidate.get("logprobs_result") or {}).get("chosen_candidates") or ():
            self.logprobs.append((token["token"], token["log_probability"]))

    def _part(self, part: Mapping[str, Any]) -> None:
        if part.get("thought_signature"):
            self.sealed.append(opened(part["thought_signature"]))
        if part.get("thought"):
            self.reasoning += part.get("text") or ""
        elif part.get("text") is not None:
            self.text += part["text"]
        elif (call := part.get("function_call")) is not None:
            self._call(call)
        else:
            self.others += sorted(part.keys() - {"thought_signature", "thought"})

    def _call(self, call: Mapping[str, Any]) -> None:
        if call.get("name"):
            identity, signatures = opened_id(call.get("id") or "")
            self.sealed += signatures
            self.calls.append(Call(identity, call["name"], call.get("args") or {}))
        for piece in call.get("partial_args") or ():
            given: Any = self.calls[-1].arguments
            name = piece["json_path"].removeprefix("$.")  # all that was recorded is on the first level
            given[name] = given.get(name, "") + piece["string_value"]

    def said(self) -> Said:
        finish = self.finish
        if finish == "STOP":
            finish = "tool_calls" if self.calls else "stop"
        elif finish == "MAX_TOKENS":
            finish = "length"
        elif finish in _FILTERED:
            finish = "filtered"
        return Said(
            text=self.text,
            reasoning=self.reasoning,
            calls=tuple(self.calls),
            finish=finish,
            sealed=tuple(sorted(self.sealed)),
            sources=tuple(dict.fromkeys(self.sources)),
            logprobs=tuple(self.logprobs),
            others=tuple(self.others),
        )


def of_answers(answers: Iterable[Any]) -> View:
    """A `GenerateContentResponse`, or those of a whole stream."""
    candidates: dict[int, _Gathered] = {}
    usage: Counts | None = None
    identity, blocked = "", None
    raw = [answer.model_dump(mode="json", exclude_none=True, exclude={"sdk_http_response"}) for answer in answers]
    for answer in raw:
        identity = identity or answer.get("response_id") or ""
        counts = answer.get("usage_metadata") or {}
        usage = _counts(counts) if any(name.endswith("_token_count") for name in counts) else usage
        blocked = blocked or (answer.get("prompt_feedback") or {}).get("block_reason")
        for candidate in answer.get("candidates") or ():
            candidates.setdefault(candidate.get("index") or 0, _Gathered()).take(candidate)
    choices = tuple(candidates[index].said() for index in sorted(candidates))
    if not choices and blocked:
        choices = (Said(finish="filtered"),)
    return View(id=identity, choices=choices, usage=usage, raw=raw)


def _counts(usage: Mapping[str, Any]) -> Counts:
    thoughts = usage.get("thoughts_token_count") or 0
    return Counts(
        input=(usage.get("prompt_token_count") or 0) + (usage.get("tool_use_prompt_token_count") or 0),
        output=(usage.get("candidates_token_count") or 0) + thoughts,
        cache_read=usage.get("cached_content_token_count") or 0,
        reasoning=thoughts,
    )


@dataclass(frozen=True, slots=True)
class GeminiReader:
    """Google's SDK."""

    client: genai.Client

    async def read(self, model: str, *, stream: bool, **asked: Any) -> Seen:
        """What it reads in the answer of a model."""
        asked = {"contents": "Where?", **asked}
        models = self.client.aio.models
        try:
            if not stream:
                answers = [await models.generate_content(model=model, **asked)]
            else:
                answers = [answer async for answer in await models.generate_content_stream(model=model, **asked)]
        except errors.APIError as error:
            return _refused(error)
        head = answers[0].sdk_http_response if answers else None
        headers = {} if head is None else {name.lower(): value for name, value in (head.headers or {}).items()}
        return replace(of_answers(answers), request_id=headers.get("x-request-id"))


def _refused(error: errors.APIError) -> Refused:
    headers = getattr(error.response, "headers", None) or {}
    return Refused(
        kind=_KINDS.get(error.code, "InternalServerError" if error.code >= 500 else type(error).__name__),
        status=error.code,
        message=error.message or "",
        type=error.status,
        request_id=headers.get("x-request-id"),
    )


@asynccontextmanager
async def gemini_reader(url: str, key: str) -> AsyncIterator[GeminiReader]:
    """The SDK at an address that the API's version follows."""
    client = genai.Client(api_key=key, http_options=types.HttpOptions(base_url=url))
    try:
        yield GeminiReader(client)
    finally:
        await client.aio.aclose()
