"""Hypothesis strategies for canonical requests: conversations whose tool results answer tool calls."""

import msgspec
from hypothesis import strategies as st

from support.conversations import names, opaques, words
from tollhouse.chat.model import (
    CacheMarker,
    Document,
    Image,
    Inline,
    JsonObject,
    JsonSchema,
    Message,
    Part,
    Reasoning,
    RedactedThinking,
    Refusal,
    Remote,
    Request,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)

markers = st.none() | st.builds(CacheMarker, st.sampled_from([None, "5m", "1h"]))
texts = st.builds(Text, words, cache=markers, signature=st.none() | opaques)
images = st.builds(
    Image,
    st.just(Inline("image/png", "iVBORw0KGgo=")) | st.just(Remote("https://pictures.example/a.png")),
    cache=markers,
)
documents = st.builds(
    Document,
    st.just(Inline("application/pdf", "JVBERg==")) | st.just(Inline("text/plain", "plain words")),
    title=st.none() | names,
)
arguments = st.sampled_from(["", "{}", '{"a": 1}', '{"a": "\\u00e9', '{"b": [1, {"c": null}]}'])
thoughts: st.SearchStrategy[Part] = st.builds(Thinking, words, st.none() | opaques) | st.builds(
    RedactedThinking, opaques
)

SCHEMAS = (
    b'{"type":"object","properties":{"a":{"type":"string"}},"required":["a"]}',
    b'{"type":"object","properties":{"n":{"type":"integer","exclusiveMinimum":0}},"additionalProperties":false}',
    b'{"$schema":"https://json-schema.org/schema","properties":{"x":{"$ref":"#/$defs/X"}},"$defs":{"X":{"const":"only"}}}',
)
schemas = st.sampled_from(SCHEMAS).map(msgspec.Raw)


@st.composite
def _turns(draw: st.DrawFn) -> list[Message]:
    """What a user says, what the model answers, and the results of its calls."""
    said: list[Part] = draw(st.lists(texts | images | documents, min_size=1, max_size=3))
    turns = [Message("user", tuple(said))]
    answered: list[Part] = draw(st.lists(texts | thoughts | st.builds(Refusal, words), max_size=3))
    count = draw(st.integers(0, 2))
    number = draw(st.integers(0, 10**9))
    calls = [
        ToolCall(f"call_{number}_{i}", draw(names), draw(arguments), signature=draw(st.none() | opaques))
        for i in range(count)
    ]
    turns.append(Message("assistant", (*answered, *calls)))
    results = [
        ToolResult(call.id, tuple(draw(st.lists(texts, max_size=2))), is_error=draw(st.booleans())) for call in calls
    ]
    if draw(st.booleans()):
        turns += [Message("tool", (result,)) for result in results]
    elif results:
        turns.append(Message("user", (*results, *draw(st.lists(texts, max_size=1)))))
    return turns


@st.composite
def requests(draw: st.DrawFn) -> Request:
    """Calls for an answer, of one to three turns."""
    system = draw(st.lists(texts, max_size=2))
    tools = draw(
        st.lists(
            st.builds(
                Tool,
                name=names,
                description=st.none() | words,
                schema=st.none() | schemas,
                strict=st.sampled_from([None, True, False]),
                cache=markers,
            ),
            max_size=3,
        )
    )
    late = draw(st.lists(texts, min_size=1, max_size=1)) if draw(st.booleans()) else []
    turns = [turn for _ in range(draw(st.integers(1, 3))) for turn in draw(_turns())]
    return Request(
        model="some-model",
        messages=(
            *([Message("system", tuple(system))] if system else []),
            *turns,
            *([Message("system", tuple(late))] if late else []),
            Message("user", (Text("and now?"),)),
        ),
        tools=tuple(tools),
        tool_choice=draw(
            st.sampled_from([None, ToolChoice("auto"), ToolChoice("none"), ToolChoice("required")])
            | st.sampled_from([ToolChoice("named", tool.name) for tool in tools])
            if tools
            else st.none()
        ),
        parallel_tool_calls=draw(st.sampled_from([None, True, False])),
        max_output_tokens=draw(st.none() | st.integers(1, 100_000)),
        temperature=draw(st.none() | st.floats(0, 2)),
        top_p=draw(st.none() | st.floats(0, 1)),
        top_k=draw(st.none() | st.integers(1, 100)),
        stop=tuple(draw(st.lists(names, max_size=6))),
        seed=draw(st.none() | st.integers(0, 1000)),
        presence_penalty=draw(st.none() | st.floats(-2, 2)),
        choices=draw(st.integers(1, 3)),
        response_format=draw(st.none() | st.just(JsonObject()) | st.builds(JsonSchema, schema=schemas)),
        reasoning=draw(
            st.none()
            | st.builds(Reasoning, effort=st.sampled_from(["none", "minimal", "low", "medium", "high", "max"]))
            | st.builds(Reasoning, mode=st.just("enabled"), budget_tokens=st.integers(1_024, 50_000))
            | st.builds(Reasoning, mode=st.sampled_from(["adaptive", "disabled"]))
        ),
        stream=draw(st.booleans()),
        user=draw(st.none() | names),
        service_tier=draw(st.sampled_from([None, "auto", "default", "priority"])),
        prompt_cache_key=draw(st.none() | names),
        cache=draw(markers),
    )
