"""What OpenAI's SDK reads in an answer of the Responses API, as a `View`."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import openai

from support.sdk_opened import opened, opened_id
from support.sdk_views import Call, Counts, Refused, Said, Seen, View, arguments, openai_refusal

QUESTION: Final = "Where?"
_WHY: Final = {"max_output_tokens": "length", "content_filter": "filtered"}
_SILENT: Final = frozenset({"response.created", "response.in_progress", "response.queued"})


def of_response(response: Any) -> View:
    """A `Response`."""
    raw: dict[str, Any] = response.model_dump(mode="json", warnings=False)
    return _view(raw, raw["output"])


def of_events(events: Iterable[Any]) -> View:
    """The events of a whole stream: the items as each was done, which the last event and the deltas must agree with."""
    dumped = [event.model_dump(mode="json", warnings=False) for event in events]
    ends = [event["response"] for event in dumped if "response" in event and event["type"] not in _SILENT]
    items = [event["item"] for event in dumped if event["type"] == "response.output_item.done"]
    assert len(ends) == 1, f"{len(ends)} last events"
    view = _view(ends[0], items)
    if ends[0]["output"]:
        repeated = _view(ends[0], ends[0]["output"])
        # Reasoning is encrypted anew each time (`azure-openai/azure-openai-responses-stream-tool-call-d3d42c`).
        assert without_seals(repeated) == without_seals(view), "the last event does not repeat the items"
    _assert_deltas(dumped, view)
    return view


def without_seals(view: View) -> View:
    """The view without what only the provider can read."""
    return replace(view, choices=tuple(replace(said, sealed=()) for said in view.choices))


def _assert_deltas(events: list[dict[str, Any]], view: View) -> None:
    said: dict[str, str] = {}
    for event in events:
        if event["type"].endswith(".delta") and isinstance(event["delta"], str):
            said[event["type"]] = said.get(event["type"], "") + event["delta"]
    assert said.get("response.output_text.delta", "") == view.first.text
    assert said.get("response.refusal.delta", "") == view.first.refusal
    # DeepSeek streams reasoning as text that it repeats as a summary.
    thought = said.get("response.reasoning_summary_text.delta", ""), said.get("response.reasoning_text.delta", "")
    assert view.first.reasoning in {*thought, "".join(thought)}


def _view(raw: Mapping[str, Any], items: list[dict[str, Any]]) -> View:
    text = reasoning = refusal = ""
    calls: list[Call] = []
    sealed: list[str] = []
    sources: list[str] = []
    logprobs: list[tuple[str, float]] = []
    others: list[str] = []
    for item in items:
        match item["type"]:
            case "message":
                for part in item["content"]:
                    text += part.get("text") or ""
                    refusal += part.get("refusal") or ""
                    sources += [note["url"] for note in part.get("annotations") or () if note.get("url")]
                    logprobs += [(token["token"], token["logprob"]) for token in part.get("logprobs") or ()]
            case "reasoning":
                told = [*(item.get("summary") or ()), *(item.get("content") or ())]
                reasoning += "".join(piece["text"] for piece in told)
                sealed += [opened(item["encrypted_content"])] if item.get("encrypted_content") else []
            case "function_call" | "custom_tool_call" as kind:
                identity, signatures = opened_id(item["call_id"])
                sealed += signatures
                given = arguments(item["arguments"]) if kind == "function_call" else item["input"]
                calls.append(Call(identity, item["name"], given))
            case kind:
                others.append(kind)
    why = str((raw.get("incomplete_details") or {}).get("reason"))
    match raw["status"]:
        case "incomplete":
            finish = _WHY.get(why, why)
        case "completed":
            finish = "tool_calls" if calls else "filtered" if refusal else "stop"
        case status:
            finish = status
    said = Said(
        text=text,
        reasoning=reasoning,
        refusal=refusal,
        calls=tuple(calls),
        finish=finish,
        sealed=tuple(sorted(sealed)),
        sources=tuple(dict.fromkeys(sources)),
        logprobs=tuple(logprobs),
        others=tuple(others),
    )
    return View(id=raw["id"], choices=(said,), usage=_counts(raw.get("usage")), raw=raw)


def _counts(usage: Mapping[str, Any] | None) -> Counts | None:
    if usage is None:
        return None
    read = usage.get("input_tokens_details") or {}
    return Counts(
        input=usage["input_tokens"],
        output=usage["output_tokens"],
        cache_read=read.get("cached_tokens") or 0,
        cache_write=read.get("cache_write_tokens") or 0,
        reasoning=(usage.get("output_tokens_details") or {}).get("reasoning_tokens") or 0,
    )


@dataclass(frozen=True, slots=True)
class ResponsesReader:
    """OpenAI's SDK at the Responses API."""

    client: openai.AsyncOpenAI

    async def read(self, model: str, *, stream: bool, **asked: Any) -> Seen:
        """What it reads in the answer of a model."""
        asked = {"input": QUESTION, **asked}
        try:
            if not stream:
                whole = await self.client.responses.create(model=model, **asked)
                return replace(of_response(whole), request_id=whole._request_id)
            events = await self.client.responses.create(model=model, stream=True, **asked)
            async with events:
                gathered = [event async for event in events]
                request_id = events.response.headers.get("x-request-id")
            return _failed(gathered, request_id) or replace(of_events(gathered), request_id=request_id)
        except openai.APIError as error:
            return openai_refusal(error, error.type)


def _failed(events: list[Any], request_id: str | None) -> Refused | None:
    """An error that the SDK hands on as an event."""
    last: Any = events[-1] if events else None
    if last is None or last.type != "response.failed":
        return None
    error = last.response.error
    return Refused(kind="APIError", status=None, message=error.message, type=error.code, request_id=request_id)
