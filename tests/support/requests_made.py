"""Hypothesis strategies for canonical requests, and every way to change one thing in a value."""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from hypothesis import strategies as st

from tollhouse.chat.model import (
    Audio,
    CacheMarker,
    Document,
    Extra,
    Foreign,
    ForeignTool,
    Image,
    Inline,
    JsonObject,
    JsonSchema,
    Message,
    Opaque,
    Reasoning,
    Remote,
    Request,
    StoredFile,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)

words = st.text(st.characters(codec="utf-8"), max_size=8)
names = st.text("abcdef_", min_size=1, max_size=4)
raws = st.sampled_from([b"{}", b'{"a":1,"b":2}', b'{"b":2,"a":1}', b"[1]", b'"a"', b"1"]).map(msgspec.Raw)
extras = st.none() | st.builds(Extra, names, st.dictionaries(names, raws, min_size=1, max_size=3))
opaques = st.builds(Opaque, names, names)
markers = st.none() | st.builds(CacheMarker, st.sampled_from([None, "5m", "1h"]))
sources = st.builds(Inline, names, names) | st.builds(Remote, names) | st.builds(StoredFile, names, names)
texts = st.builds(Text, words, cache=markers, extra=extras)
parts = st.one_of(
    texts,
    st.builds(Image, sources, st.none() | names, markers, extras),
    st.builds(Document, sources, st.none() | names, st.none() | names, st.booleans(), markers, extras),
    st.builds(Audio, names, names, extras),
    st.builds(Thinking, words, st.none() | opaques, extras),
    st.builds(ToolCall, names, names, words, markers, st.booleans(), extras),
    st.builds(ToolResult, names, st.lists(texts, max_size=2).map(tuple), st.booleans(), markers, extras),
    st.builds(Foreign, names, names, raws),
)
messages = st.builds(
    Message,
    st.sampled_from(["system", "developer", "user", "assistant", "tool"]),
    st.lists(parts, max_size=3).map(tuple),
    st.none() | names,
    extras,
)
tools = st.builds(
    Tool,
    name=names,
    description=st.none() | words,
    schema=st.none() | raws,
    strict=st.none() | st.booleans(),
    custom=st.booleans(),
    extra=extras,
) | st.builds(ForeignTool, names, names, raws)
numbers = st.none() | st.floats(-2, 2)
counts = st.none() | st.integers(0, 100)

FIELDS: Mapping[str, st.SearchStrategy[Any]] = {
    "model": names,
    "messages": st.lists(messages, max_size=3).map(tuple),
    "tools": st.lists(tools, max_size=2).map(tuple),
    "tool_choice": st.none() | st.builds(ToolChoice, st.sampled_from(["auto", "none", "required"])),
    "parallel_tool_calls": st.none() | st.booleans(),
    "max_output_tokens": counts,
    "temperature": numbers,
    "top_p": numbers,
    "top_k": counts,
    "stop": st.lists(words, max_size=2).map(tuple),
    "seed": counts,
    "presence_penalty": numbers,
    "frequency_penalty": numbers,
    "choices": st.integers(1, 4),
    "logprobs": st.booleans(),
    "top_logprobs": counts,
    "response_format": st.none() | st.just(JsonObject()) | st.builds(JsonSchema, schema=raws, name=names),
    "reasoning": st.none() | st.builds(Reasoning, effort=st.none() | names, budget_tokens=counts),
    "stream": st.booleans(),
    "include_usage": st.booleans(),
    "user": st.none() | names,
    "service_tier": st.none() | names,
    "cache": markers,
    "prompt_cache_key": st.none() | names,
    "legacy_functions": st.booleans(),
    "echo": extras,
    "extra": extras,
}
"""A strategy for each field of a request."""

requests = st.builds(Request, **FIELDS)


def changed(value: object) -> Iterator[tuple[str, Any]]:
    """Every value that differs from `value` in one place, with the path of that place."""
    match value:
        case bool():
            yield "", not value
        case int() | float():
            yield "", value + 1
        case str():
            yield "", value + "x"
            if value:
                yield "", value[:-1]
        case bytes():
            yield "", value + b"x"
        case msgspec.Raw():
            yield "", msgspec.Raw(b'{"other":%b}' % bytes(value))
        case tuple():
            for index, item in enumerate(value):
                yield f"[{index}]", (*value[:index], *value[index + 1 :])
                yield f"[{index}]", (*value[: index + 1], *value[index:])
                for path, other in changed(item):
                    yield f"[{index}]{path}", (*value[:index], other, *value[index + 1 :])
        case Mapping():
            yield "", {**value, "and_more": msgspec.Raw(b"1")}
            for key, item in value.items():
                rest = {name: other for name, other in value.items() if name != key}
                yield f".{key}", rest
                yield f".{key}", {**rest, key + "x": item}
                for path, other in changed(item):
                    yield f".{key}{path}", {**value, key: other}
        case msgspec.Struct():
            for field in value.__struct_fields__:
                for path, other in changed(getattr(value, field)):
                    yield f".{field}{path}", msgspec.structs.replace(value, **{field: other})
        case None:
            pass
        case _:
            raise TypeError(f"how to change a {type(value).__name__}?")
