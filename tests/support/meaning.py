"""What a request and an answer mean, as facts that can be compared one by one after a way through several dialects.

A fact is there only where something was said: `request_facts(before)` and `request_facts(after)` differ in what was lost or
added on the way.  The form in which a dialect says a thing (where results stand, how texts are cut into parts) is no fact.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from tollhouse.chat.model import (
    Audio,
    Document,
    Foreign,
    ForeignTool,
    Image,
    Inline,
    JsonObject,
    JsonSchema,
    Message,
    Part,
    RedactedThinking,
    Refusal,
    Remote,
    Request,
    Response,
    StoredFile,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolResult,
)
from tollhouse.chat.opaque import read_id, rejoin

Facts = Mapping[str, object]

SCALARS: Final = (
    "parallel_tool_calls",
    "max_output_tokens",
    "temperature",
    "top_p",
    "top_k",
    "seed",
    "presence_penalty",
    "frequency_penalty",
    "top_logprobs",
    "user",
    "service_tier",
    "prompt_cache_key",
)


ORDINARY_TIERS: Final = frozenset({"auto", "default", "standard", "standard_only"})


def request_facts(request: Request) -> Facts:
    """What was asked."""
    facts: dict[str, object] = {name: getattr(request, name) for name in SCALARS}
    # What goes without saying, said or not.
    may_call = request.tools and (request.tool_choice is None or request.tool_choice.mode != "none")
    facts["parallel_tool_calls"] = "one at a time" if may_call and request.parallel_tool_calls is False else None
    facts["top_p"] = None if request.top_p == 1 else request.top_p
    facts["service_tier"] = None if request.service_tier in ORDINARY_TIERS else request.service_tier
    parts = [(message, part) for message in request.messages for part in rejoin(message.parts)]
    for role in ("system", "user", "assistant"):
        said = [part for message, part in parts if _role(message) == role]
        words = _joined(_words(part) for part in said)
        # Where a refusal has a field of its own, it stands behind the text.
        facts[f"{role} words"] = "".join(sorted(words)) if role == "assistant" else words
    calls = [part for _, part in parts if isinstance(part, ToolCall)]
    results = [part for _, part in parts if isinstance(part, ToolResult)]
    everything = [part for _, part in parts] + [inner for result in results for inner in result.content]
    numbers = {read_id(call.id)[0]: number for number, call in enumerate(calls)}
    facts["calls"] = [(call.name, arguments(call)) for call in calls]
    facts["results"] = sorted(
        (
            numbers.get(read_id(result.call_id)[0], -1),
            _joined(inner.text for inner in result.content if isinstance(inner, Text)),
        )
        for result in results
    )
    facts["failed results"] = sum(result.is_error for result in results)
    facts["images"] = [_source(part.source) for part in everything if isinstance(part, Image)]
    # Some are told a plain text as what it is.
    documents = [part for part in everything if isinstance(part, Document) and not _plain(part)]
    facts["documents"] = [_source(part.source) for part in documents]
    facts["document titles"] = [part.title for part in documents if part.title]
    facts["document contexts"] = [part.context for part in documents if part.context]
    facts["cited documents"] = sum(part.cite for part in documents)
    facts["audio"] = [part.data for part in everything if isinstance(part, Audio)]
    facts["thoughts"] = _joined(part.text for part in everything if isinstance(part, Thinking))
    facts["sealed"] = _sealed(part for message, part in parts if message.role == "assistant")
    facts["citations"] = sorted(c.url or "" for part in everything if isinstance(part, Text) for c in part.citations)
    facts["parts of one dialect"] = [part.kind for part in everything if isinstance(part, Foreign)]
    facts["names"] = [message.name for message in request.messages if message.name]
    facts["marks"] = sum(getattr(part, "cache", None) is not None for part in everything)
    facts["marks"] += sum(isinstance(tool, Tool) and tool.cache is not None for tool in request.tools)  # type: ignore[operator]
    facts["mark of all"] = request.cache is not None
    own = [tool for tool in request.tools if isinstance(tool, Tool)]
    facts["tools"] = [(tool.name, tool.description or "", tool.custom or _schema(tool.schema)) for tool in own]
    # A call that is forced keeps to its schema in any case, and one that is forbidden needs none.
    is_free = request.tool_choice is None or request.tool_choice.mode == "auto"
    facts["strict tools"] = [tool.name for tool in own if tool.strict and is_free]
    facts["tools of one dialect"] = [tool.kind for tool in request.tools if isinstance(tool, ForeignTool)]
    choice = request.tool_choice
    facts["tool choice"] = None if choice is None or choice.mode == "auto" else choice.mode
    facts["answers"] = request.choices if request.choices > 1 else None
    facts["logprobs"] = request.logprobs
    facts["stop"] = sorted(request.stop)
    match request.response_format:
        case JsonObject():
            facts["format"] = "JSON"
        case JsonSchema(schema=schema):
            facts["format"] = _schema(schema)
    wanted = request.reasoning
    if wanted is not None:
        is_off = wanted.mode == "disabled" or wanted.effort == "none"
        facts["thinking"] = "off" if is_off else wanted.effort or wanted.budget_tokens
    facts["fields of one dialect"] = sorted(request.extra.fields) if request.extra is not None else []
    return {name: value for name, value in facts.items() if value not in (None, False, 0, "", [])}


def answer_facts(response: Response) -> Facts:
    """What was answered, of every choice."""
    facts: dict[str, object] = {}
    for choice in response.choices:
        parts = rejoin(choice.parts)
        here: dict[str, object] = {
            "text": "".join(part.text for part in parts if isinstance(part, Text)),
            "refusal": "".join(part.text for part in parts if isinstance(part, Refusal)),
            "thoughts": "".join(part.text for part in parts if isinstance(part, Thinking)),
            "calls": [
                (read_id(part.id)[0], part.name, arguments(part)) for part in parts if isinstance(part, ToolCall)
            ],
            "sealed": _sealed(parts),
            "citations": sorted(
                {c.url or c.title or c.quote or "" for part in parts if isinstance(part, Text) for c in part.citations}
                - {""}
            ),
            "parts of one dialect": [bytes(part.raw) for part in parts if isinstance(part, Foreign)],
            "finish": choice.finish,
            "stop string": choice.finish_detail if choice.finish == "stop_sequence" else None,
            "logprobs": [(token.token, round(token.logprob, 6)) for token in choice.logprobs or ()],
        }
        facts.update({f"{name} {choice.index}": value for name, value in here.items() if value not in (None, "", [])})
    usage = response.usage
    counts = {
        "input": usage.input_tokens,
        "output": usage.output_tokens,
        "cache reads": usage.cache_read_tokens,
        "cache writes": usage.cache_write_tokens,
        "reasoning": usage.reasoning_tokens,
    }
    return {**facts, **{f"{name} tokens": count for name, count in counts.items() if count}}


def seen(parts: Iterable[Part]) -> dict[str, Any]:
    """What of an answer every client sees: texts and thoughts joined, calls with their arguments."""
    found: dict[str, Any] = {"text": "", "thought": "", "calls": []}
    for part in parts:
        match part:
            case Text(text=text) | Refusal(text=text):
                found["text"] += text
            case Thinking(text=text):
                found["thought"] += text
            case ToolCall():
                found["calls"].append((read_id(part.id)[0], part.name, arguments(part)))
            case _:
                pass
    return found


def arguments(call: ToolCall) -> Any:
    """A call's arguments as every dialect can tell them: an object."""
    if call.custom:
        return {"input": call.arguments}
    try:
        value = json.loads(call.arguments or "{}")
    except ValueError:
        value = None
    return value if isinstance(value, dict) else {"_raw": call.arguments}


def _role(message: Message) -> str:
    return {"developer": "system", "tool": "user"}.get(message.role, message.role)


def _plain(document: Document) -> str:
    source = document.source
    return source.data if isinstance(source, Inline) and source.media_type == "text/plain" else ""


def _words(part: Part) -> str:
    match part:
        case Text() | Refusal():
            return part.text
        case Document():
            return _plain(part)
        case _:
            return ""


def _joined(texts: Iterable[str]) -> str:
    """Words without the blanks between them, which belong to the form."""
    return "".join("".join(text.split()) for text in texts)


def _sealed(parts: Iterable[Part]) -> list[tuple[str, str]]:
    found = []
    for part in parts:
        value = part.data if isinstance(part, RedactedThinking) else getattr(part, "signature", None)
        if value is not None:
            found.append((value.home, value.value))
        if isinstance(part, ToolCall) and (inside := read_id(part.id)[1]) is not None:
            found.append((inside.home, inside.value))
    return sorted(found)


def _source(source: Inline | Remote | StoredFile) -> str:
    match source:
        case Inline():
            return source.data if source.media_type == "text/plain" else f"{source.media_type} {source.data}"
        case Remote():
            return source.url
        case StoredFile():
            return source.id


def _schema(schema: msgspec.Raw | None) -> str:
    """A schema with its keys in order; no arguments at all are an empty object."""
    value = {} if schema is None else msgspec.json.decode(schema)
    value = _ordinary({name: inner for name, inner in value.items() if name not in {"$schema", "title"}})
    if value in ({}, {"type": "object"}, {"type": "object", "properties": {}}):
        return "{}"
    return json.dumps(value, sort_keys=True)


def _ordinary(value: Any) -> Any:
    """A schema in the words that every dialect has: `const` is an `enum` of one, and a bound of integers is inclusive."""
    if isinstance(value, list):
        return [_ordinary(item) for item in value]
    if not isinstance(value, dict):
        return value
    plain = {name: _ordinary(inner) for name, inner in value.items()}
    if "const" in plain:
        plain["enum"] = [plain.pop("const")]
    if plain.get("type") == "integer" and isinstance(plain.get("exclusiveMinimum"), int):
        plain["minimum"] = plain.pop("exclusiveMinimum") + 1
    if isinstance(plain.get("properties"), dict):
        plain.setdefault("type", "object")
    return plain
