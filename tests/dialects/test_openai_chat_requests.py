"""Requests: everything that OpenAI documents is read, said again, or named in the receipt."""

from dataclasses import replace
from typing import Any, Literal

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.recordings import Recording, by_id, load, recordings
from tollhouse.chat.model import (
    Audio,
    CacheMarker,
    Citation,
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
    Part,
    Reasoning,
    RedactedThinking,
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
from tollhouse.chat.receipt import Receipt
from tollhouse.dialects.dialect import Dialect
from tollhouse.dialects.openai_chat import DIALECT, OPENAI, OpenAIChatTraits
from tollhouse.errors import BadRequest

REQUESTS = [r for r in recordings("openai-chat") if r.request.body is not None]

RICH = replace(
    OPENAI,
    reasoning_field="reasoning_content",
    reasoning_details=True,
    home="openrouter",
    cache_control=True,
    top_k=True,
)
"""A provider that understands everything."""
POOR = OpenAIChatTraits(
    max_tokens_field="max_tokens",
    asks_usage=False,
    reasoning_style="none",
    developer_role=False,
    images=False,
    documents=False,
    audio=False,
    strict_tools=False,
    custom_tools=False,
    json_schema=False,
    json_object=False,
    parallel_tool_calls=False,
    logprobs=False,
    many_choices=False,
    seed=False,
    penalties=False,
    stop=False,
    tool_choice_forced=False,
    text_array_content=False,
    user=False,
    service_tier=False,
    prompt_cache_key=False,
)
"""A provider that understands next to nothing."""


def raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))


def decode(**fields: object) -> Request:
    return DIALECT.decode_request(
        msgspec.json.encode({"model": "m", "messages": [{"role": "user", "content": "hi"}], **fields})
    )


def encode(request: Request, traits: OpenAIChatTraits = OPENAI) -> tuple[dict[str, Any], tuple[str, ...]]:
    receipt = Receipt()
    body = msgspec.json.decode(DIALECT.encode_request(request, traits, receipt))
    return body, receipt.entries


def asked(*messages: Message, **fields: Any) -> Request:
    return Request(model="m", messages=messages or (Message("user", (Text("hi"),)),), **fields)


def content(*parts: Part, traits: OpenAIChatTraits = OPENAI) -> tuple[Any, tuple[str, ...]]:
    body, lost = encode(asked(Message("user", parts)), traits)
    return body["messages"][0]["content"] if body["messages"] else None, lost


def test_the_dialect_is_one():
    dialect: Dialect[OpenAIChatTraits] = DIALECT
    assert dialect.name == "openai_chat"


# ------------------------------------------------------------------------------------------------- recordings


def rich_for(recording: Recording) -> OpenAIChatTraits:
    """Traits with which a recorded request can be said again in full."""
    fields = recording.request_json
    style: Literal["reasoning_effort", "thinking", "enable_thinking", "openrouter"] = "reasoning_effort"
    if "thinking" in fields:
        style = "thinking"
    elif "enable_thinking" in fields:
        style = "enable_thinking"
    elif "reasoning" in fields:
        style = "openrouter"
    return replace(RICH, reasoning_style=style, thinking_effort=True)


@pytest.mark.parametrize("recording", REQUESTS, ids=by_id)
def test_a_recorded_request_survives_both_ways(recording: Recording):
    body = recording.request.body
    assert body is not None
    request = DIALECT.decode_request(body)
    receipt = Receipt()
    returned = DIALECT.decode_request(DIALECT.encode_request(request, rich_for(recording), receipt))
    assert not receipt
    # We always ask for usage; functions go out as tools; options of tools are an error where there are none.
    expected = msgspec.structs.replace(
        request,
        include_usage=request.stream,
        legacy_functions=False,
        parallel_tool_calls=request.parallel_tool_calls if request.tools else None,
    )
    assert returned == expected


@pytest.mark.parametrize("recording", REQUESTS, ids=by_id)
def test_a_recorded_conversation_reaches_the_provider_as_it_was(recording: Recording):
    """Against the recorded JSON, so that a field that decoding forgets cannot hide."""
    body = recording.request.body
    assert body is not None
    sent = encode(DIALECT.decode_request(body), rich_for(recording))[0]
    assert [_meaning(message) for message in sent["messages"]] == [
        _meaning(message) for message in recording.request_json["messages"]
    ]
    said = {tool["function"]["name"]: tool["function"] for tool in recording.request_json.get("tools") or ()}
    assert {tool["function"]["name"]: tool["function"] for tool in sent.get("tools", ()) if said} == said
    same = {"max_tokens": "max_completion_tokens"}
    for name, value in recording.request_json.items():
        if name not in {"messages", "stream", "stream_options", "n", "tools", "functions", "function_call"} and (
            name != "parallel_tool_calls" or said
        ):
            # Mistral takes `any` and `required` for the same.
            assert sent[same.get(name, name)] == ("required" if value == "any" else value)


_MARKS = frozenset({"cache_control", "prompt_cache_breakpoint"})


def _meaning(message: dict[str, Any]) -> dict[str, object]:
    parts = message.get("content") or []
    return {
        "role": message["role"],
        "name": message.get("name"),
        # A marker on the message is put on its last part, which is where Anthropic has it.
        "parts": [{"type": "text", "text": parts}]
        if isinstance(parts, str)
        else [{key: value for key, value in part.items() if key not in _MARKS} for part in parts],
        "calls": [(call["id"], call["function"]) for call in message.get("tool_calls") or ()],
        "answers": message.get("tool_call_id"),
        "reasoning": message.get("reasoning_content") or message.get("reasoning") or None,
    }


# ------------------------------------------------------------------------------------------------------ reading


def test_every_documented_field_is_read():
    request = decode(
        max_completion_tokens=9,
        temperature=0.5,
        top_p=1,
        top_k=3,
        stop=["a", "b"],
        seed=-1,
        presence_penalty=0.1,
        frequency_penalty=-0.1,
        n=2,
        logprobs=True,
        top_logprobs=2,
        reasoning_effort="low",
        user="u",
        service_tier="flex",
        prompt_cache_key="k",
        parallel_tool_calls=False,
        stream=True,
        stream_options={"include_usage": True, "include_obfuscation": False},
        metadata={"a": "b"},
        store=True,
        verbosity="low",
        logit_bias={"5": -1},
    )
    assert request == Request(
        model="m", messages=(Message("user", (Text("hi"),)),), max_output_tokens=9, temperature=0.5, top_p=1.0, top_k=3,
        stop=("a", "b"), seed=-1, presence_penalty=0.1, frequency_penalty=-0.1, choices=2, logprobs=True, top_logprobs=2,
        reasoning=Reasoning(effort="low"), user="u", service_tier="flex", prompt_cache_key="k", parallel_tool_calls=False,
        stream=True, include_usage=True,
        extra=Extra("openai_chat", {
            "metadata": raw({"a": "b"}), "store": raw(True), "verbosity": raw("low"), "logit_bias": raw({"5": -1}),
            "stream_options": raw({"include_obfuscation": False}),
        }),
    )  # fmt: skip
    sent, lost = encode(request, RICH)
    assert not lost
    assert sent["metadata"] == {"a": "b"}
    assert sent["stream_options"] == {"include_obfuscation": False, "include_usage": True}


def test_explicit_nulls_are_absent():
    names = ["tools", "tool_choice", "temperature", "top_p", "top_k", "stop", "seed", "n", "logprobs", "response_format", "reasoning_effort", "stream", "user", "stream_options", "thinking", "reasoning", "functions", "function_call", "max_tokens", "metadata", "parallel_tool_calls"]  # fmt: skip
    assert decode(**dict.fromkeys(names)) == decode()


def test_one_stop_string_is_a_list_of_one():
    assert decode(stop="x").stop == ("x",)


@pytest.mark.parametrize(
    ("fields", "reasoning"),
    [
        ({"reasoning_effort": "none"}, Reasoning(mode="disabled", effort="none")),
        ({"thinking": {"type": "enabled"}}, Reasoning(mode="enabled")),
        ({"thinking": {"type": "disabled"}, "reasoning_effort": "low"}, Reasoning(mode="disabled", effort="low")),
        ({"thinking": {"type": "enabled", "budget_tokens": 5}}, Reasoning(mode="enabled", budget_tokens=5)),
        ({"enable_thinking": False}, Reasoning(mode="disabled")),
        ({"enable_thinking": True, "thinking_budget": 7}, Reasoning(mode="enabled", budget_tokens=7)),
        ({"reasoning": {"effort": "high"}}, Reasoning(effort="high")),
        ({"reasoning": {"max_tokens": 100, "enabled": True}}, Reasoning(mode="enabled", budget_tokens=100)),
    ],
)
def test_every_way_to_ask_for_thinking_is_understood(fields: dict[str, object], reasoning: Reasoning):
    assert decode(**fields).reasoning == reasoning


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("auto", ToolChoice("auto")),
        ("none", ToolChoice("none")),
        ("required", ToolChoice("required")),
        ("any", ToolChoice("required")),
        ({"type": "function", "function": {"name": "f"}}, ToolChoice("named", "f")),
        ({"type": "custom", "custom": {"name": "f"}}, ToolChoice("named", "f")),
        ({"type": "function", "name": "f"}, ToolChoice("named", "f")),
        ({"type": "auto"}, ToolChoice("auto")),
    ],
)
def test_every_tool_choice_is_understood(choice: object, expected: ToolChoice):
    assert decode(tool_choice=choice).tool_choice == expected


def test_allowed_tools_stay_as_they_came():
    choice = {
        "type": "allowed_tools",
        "allowed_tools": {"mode": "auto", "tools": [{"type": "function", "function": {"name": "f"}}]},
    }
    request = decode(tool_choice=choice, tools=[{"type": "function", "function": {"name": "f"}}])
    assert request.tool_choice is None
    assert encode(request)[0]["tool_choice"] == choice


def test_tools_keep_their_schemas_byte_for_byte():
    body = (
        b'{"model":"m","messages":[{"role":"user","content":"x"}],"tools":[{"type":"function","function":'
        b'{"name":"f","description":"d","strict":true,"parameters":{ "type" : "object","x":1.50}}},'
        b'{"type":"custom","custom":{"name":"c","format":{"type":"text"}}},{"type":"web_search"}]}'
    )
    request = DIALECT.decode_request(body)
    tool, custom, search = request.tools
    assert tool == Tool(name="f", description="d", strict=True, schema=msgspec.Raw(b'{ "type" : "object","x":1.50}'))
    assert isinstance(custom, ForeignTool)
    assert isinstance(search, ForeignTool)
    assert (custom.kind, search.kind) == ("custom", "web_search")
    assert b'{ "type" : "object","x":1.50}' in DIALECT.encode_request(request, OPENAI, Receipt())


def test_the_old_functions_are_tools():
    request = decode(
        functions=[{"name": "f", "parameters": {"type": "object"}}],
        function_call={"name": "f"},
        messages=[
            {"role": "user", "content": "x"},
            {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
            {"role": "function", "name": "f", "content": "done"},
        ],
    )
    assert request.legacy_functions
    assert request.tool_choice == ToolChoice("named", "f")
    assert request.messages[1].parts == (ToolCall("call_1", "f", "{}"),)
    assert request.messages[2] == Message("tool", (ToolResult("call_1", (Text("done"),)),))
    assert encode(request)[0]["messages"][2] == {"role": "tool", "tool_call_id": "call_1", "content": "done"}


def test_every_part_is_read():
    request = decode(messages=[{"role": "user", "name": "ann", "content": [
        {"type": "text", "text": "a", "cache_control": {"type": "ephemeral", "ttl": "1h"}},
        {"type": "image_url", "image_url": {"url": "data:image/PNG;base64,AAAA", "detail": "low"}},
        {"type": "image_url", "image_url": "https://a.example/b.png"},
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
        {"type": "file", "file": {"file_data": "data:application/pdf;base64,AAAA", "filename": "a.pdf"}},
        {"type": "file", "file": {"file_data": "AAAA"}},
        {"type": "file", "file": {"file_id": "file-1"}},
        {"type": "file", "file": {"file_data": "data:text/plain;base64,aGVsbG8="}},
        {"type": "video_url", "video_url": {"url": "https://a.example/v"}},
        {"type": "text", "text": "b", "prompt_cache_breakpoint": {"mode": "explicit"}},
    ]}])  # fmt: skip
    assert request.messages == (
        Message("user", (
            Text("a", CacheMarker("1h")),
            Image(Inline("image/png", "AAAA"), "low"),
            Image(Remote("https://a.example/b.png")),
            Audio("AAAA", "wav"),
            Document(Inline("application/pdf", "AAAA"), "a.pdf"),
            Document(Inline("application/pdf", "AAAA")),
            Document(StoredFile("file-1", "openai_chat")),
            Document(Inline("text/plain", "hello")),
            Foreign("openai_chat", "video_url", raw({"type": "video_url", "video_url": {"url": "https://a.example/v"}})),
            Text("b", CacheMarker()),
        ), "ann"),
    )  # fmt: skip


@pytest.mark.parametrize("empty", [None, "", "missing"])
def test_an_assistant_turn_may_have_calls_only(empty: str | None):
    message: dict[str, object] = {
        "role": "assistant",
        "content": empty,
        "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
    }
    if empty == "missing":
        del message["content"]
    request = decode(messages=[message])
    assert request.messages[0].parts == (ToolCall("c", "f", "{}"),)
    assert encode(request)[0]["messages"][0]["content"] is None


def test_replayed_reasoning_is_thinking():
    details = [{"type": "reasoning.text", "text": "hm", "signature": "s"}, {"type": "reasoning.encrypted", "data": "x"}]
    for fields in ({"reasoning_content": "hm"}, {"reasoning": "hm"}, {"reasoning": "hm", "reasoning_content": None}):
        parts = decode(messages=[{"role": "assistant", "content": "a", **fields}]).messages[0].parts
        assert parts == (Thinking("hm"), Text("a"))
    parts = decode(messages=[{"role": "assistant", "content": "a", "reasoning_details": details}]).messages[0].parts
    assert parts == (Thinking("hm", Opaque("s", "openrouter")), RedactedThinking(Opaque("x", "openrouter")), Text("a"))


def test_tool_answers_may_be_text_or_parts():
    for answer in ("ok", [{"type": "text", "text": "ok"}], ["ok"]):
        request = decode(messages=[{"role": "tool", "tool_call_id": "c", "content": answer}])
        assert request.messages == (Message("tool", (ToolResult("c", (Text("ok"),)),)),)
    assert decode(messages=[{"role": "tool", "tool_call_id": "c", "content": None}]).messages[0].parts == (
        ToolResult("c", ()),
    )


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": {}}, "messages"),
        ({"messages": ["hi"]}, "messages[0]"),
        ({"messages": [{"content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": 7}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [7]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "user", "content": [{"text": "x"}]}]}, "messages[0].content[0].type"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content[0].image_url"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x.png"}}]}]}, "messages[0].content[0].image_url.url"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png,xx"}}]}]}, "messages[0].content[0].image_url.url"),
        ({"messages": [{"role": "user", "content": [{"type": "file", "file": {}}]}]}, "messages[0].content[0].file"),
        ({"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_data": "data:text/plain;base64,!"}}]}]}, "messages[0].content[0].file.file_data"),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "x"}}]}]}, "messages[0].content[0].input_audio.format"),
        ({"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "tool_calls": {}}]}, "messages[1].tool_calls"),
        ({"messages": [{"role": "assistant", "tool_calls": [{"id": "c", "function": {}}]}]}, "messages[0].tool_calls[0].function.name"),
        ({"messages": [{"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": 7}}]}]}, "messages[0].tool_calls[0].function.arguments"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
        ({"messages": [{"role": "function", "name": "f", "content": "x"}]}, "messages[0].name"),
        ({"messages": [{"role": "tool", "tool_call_id": "c", "content": [{"type": "input_audio", "input_audio": {"data": "x", "format": "wav"}}]}]}, "messages[0].content"),
        ({"tools": {}}, "tools"),
        ({"tools": [7]}, "tools[0]"),
        ({"tools": [{}]}, "tools[0].type"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name"),
        ({"tools": [{"type": "function", "function": {"name": "f", "parameters": []}}]}, "tools[0].function.parameters"),
        ({"tool_choice": "sometimes"}, "tool_choice"),
        ({"tool_choice": 7}, "tool_choice"),
        ({"response_format": "json"}, "response_format"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}}, "response_format.json_schema.schema"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_logprobs": -1}, "top_logprobs"),
        ({"stop": [7]}, "stop[0]"),
        ({"stop": {}}, "stop"),
        ({"stop": ["x"] * 65}, "stop"),
        ({"thinking": {"type": "maybe"}}, "thinking.type"),
        ({"parallel_tool_calls": "yes"}, "parallel_tool_calls"),
    ],
)  # fmt: skip
def test_a_wrong_request_is_refused_with_its_place(fields: dict[str, object], param: str):
    with pytest.raises(BadRequest) as caught:
        decode(**fields)
    assert caught.value.param == param
    assert param in caught.value.message


def test_a_number_that_no_machine_holds_is_refused():
    body = b'{"model":"m","messages":[{"role":"user","content":"x"}],"temperature":1e999}'
    with pytest.raises(BadRequest) as caught:
        DIALECT.decode_request(body)
    assert caught.value.param == "temperature"


# ------------------------------------------------------------------------------------------------------ writing


def test_tool_results_stand_right_after_their_calls():
    """Anthropic's clients send them in a user message, beside other things; Claude Code even puts a system turn between."""
    body, lost = encode(
        asked(
            Message("user", (Text("go"),)),
            Message("assistant", (Text("ok"), ToolCall("c1", "f", "{}"), ToolCall("c2", "g", ""))),
            Message("system", (Text("note"),)),
            Message("user", (Text("before"), ToolResult("c1", (Text("1"),)), ToolResult("c2", ()), Text("after"))),
        )
    )
    assert [message["role"] for message in body["messages"]] == ["user", "assistant", "tool", "tool", "system", "user"]
    assert body["messages"][2:4] == [
        {"role": "tool", "tool_call_id": "c1", "content": "1"},
        {"role": "tool", "tool_call_id": "c2", "content": ""},
    ]
    assert [part["text"] for part in body["messages"][5]["content"]] == ["before", "after"]
    assert body["messages"][1]["tool_calls"][1]["function"] == {"name": "g", "arguments": "{}"}
    assert not lost


def test_a_result_without_its_call_stays_where_it_is():
    body, _ = encode(asked(Message("assistant", (Text("a"),)), Message("user", (ToolResult("lost", (Text("1"),)),))))
    assert [message["role"] for message in body["messages"]] == ["assistant", "tool"]


def test_pictures_in_tool_results_move_into_the_next_user_message():
    body, lost = encode(
        asked(
            Message("assistant", (ToolCall("c1", "f", "{}"), ToolCall("c2", "f", "{}"))),
            Message("tool", (ToolResult("c1", (Text("see"), Image(Inline("image/png", "AAAA")))),)),
            Message("tool", (ToolResult("c2", (Text("2"),)),)),
            Message("user", (Text("what is it?"),)),
        )
    )
    assert [message["role"] for message in body["messages"]] == ["assistant", "tool", "tool", "user"]
    assert [part["type"] for part in body["messages"][3]["content"]] == ["text", "image_url", "text"]
    assert "c1" in body["messages"][3]["content"][0]["text"]
    assert lost == (
        "changed messages[1].content[0].content[1]: moved into a user message: tool messages hold text only",
    )


def test_pictures_that_no_message_follows_get_one():
    body, _ = encode(
        asked(
            Message("assistant", (ToolCall("c1", "f", "{}"),)),
            Message("user", (ToolResult("c1", (Image(Inline("image/png", "AAAA")),)),)),
        )
    )
    assert [message["role"] for message in body["messages"]] == ["assistant", "tool", "user"]


def test_plain_text_is_a_string():
    assert content(Text("a")) == ("a", ())
    assert content(Text("a"), Text("b"))[0] == [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert content(Text("a"), Text("b"), traits=POOR) == ("a\n\nb", ())


def test_parts_are_said_in_openais_form():
    said, lost = content(
        Image(Remote("https://a.example/x.png"), "high"),
        Image(Inline("image/png", "AAAA")),
        Audio("AAAA", "mp3"),
        Document(Inline("application/pdf", "AAAA")),
        Document(Remote("https://a.example/x.pdf"), "x.pdf"),
        Document(StoredFile("file-1", "openai_chat")),
        Document(Inline("text/plain", "hello"), "notes", "of May"),
    )
    assert said == [
        {"type": "image_url", "image_url": {"url": "https://a.example/x.png", "detail": "high"}},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "mp3"}},
        {"type": "file", "file": {"file_data": "data:application/pdf;base64,AAAA", "filename": "document.pdf"}},
        {"type": "file", "file": {"filename": "x.pdf", "file_data": "https://a.example/x.pdf"}},
        {"type": "file", "file": {"file_id": "file-1"}},
        {"type": "text", "text": "notes\nof May\n\nhello"},
    ]
    assert not lost


@pytest.mark.parametrize(
    ("part", "path"),
    [
        (Image(Remote("https://a.example/x.png")), "messages[0].content[0]"),
        (Audio("AAAA", "wav"), "messages[0].content[0]"),
        (Document(Inline("application/pdf", "AAAA")), "messages[0].content[0]"),
        (Foreign("anthropic", "container_upload", msgspec.Raw(b"{}")), "messages[0].content[0]"),
        (Text("a", CacheMarker()), "messages[0].content[0].cache_control"),
        (Text("a", extra=Extra("anthropic", {"x": msgspec.Raw(b"1")})), "messages[0].content[0].x"),
    ],
)
def test_a_part_that_a_provider_does_not_take_is_in_the_receipt(part: Part, path: str):
    _, lost = content(part, traits=POOR)
    assert len(lost) == 1
    assert lost[0].startswith(f"dropped {path}:")


def test_another_providers_file_is_dropped_by_name():
    said, lost = content(Document(StoredFile("f", "anthropic")), Image(StoredFile("f", "anthropic")), Text("x"))
    assert said == "x"
    assert len(lost) == 2


def test_citations_and_failed_results_are_named():
    _, lost = encode(
        asked(
            Message("assistant", (Text("a", citations=(Citation(quote="q"),)), ToolCall("c", "f", "{}"))),
            Message("user", (ToolResult("c", (Text("boom"),), is_error=True),)),
            Message("user", (Document(Inline("text/plain", "x"), cite=True),)),
        )
    )
    assert [entry.split(":")[0] for entry in lost] == [
        "dropped messages[0].content[0].citations",
        "dropped messages[1].content[0].is_error",
        "dropped messages[2].content[0].citations",
    ]


def test_paths_count_messages_as_a_caller_with_a_system_prompt_apart_does():
    _, lost = encode(
        asked(Message("system", (Text("s", CacheMarker()),)), Message("user", (Text("a", CacheMarker()),)))
    )
    assert [entry.split(":")[0] for entry in lost] == [
        "dropped system[0].content[0].cache_control",
        "dropped messages[0].content[0].cache_control",
    ]


def test_reasoning_goes_back_as_the_provider_takes_it():
    turn = asked(
        Message(
            "assistant",
            (Thinking("hm", Opaque("sig", "openrouter")), RedactedThinking(Opaque("x", "openrouter")), Text("a")),
        )
    )
    dropped, lost = encode(turn)
    assert dropped["messages"] == [{"role": "assistant", "content": "a"}]
    assert len(lost) == 2
    plain, lost = encode(turn, replace(OPENAI, reasoning_field="reasoning"))
    assert plain["messages"][0]["reasoning"] == "hm"
    assert len(lost) == 2
    rich, lost = encode(turn, RICH)
    assert rich["messages"][0]["reasoning_content"] == "hm"
    assert [detail["type"] for detail in rich["messages"][0]["reasoning_details"]] == [
        "reasoning.text",
        "reasoning.encrypted",
    ]
    assert not lost


@pytest.mark.parametrize(
    ("style", "wanted", "fields", "losses"),
    [
        ("reasoning_effort", Reasoning(effort="high"), {"reasoning_effort": "high"}, 0),
        ("reasoning_effort", Reasoning(effort="max"), {"reasoning_effort": "xhigh"}, 1),
        ("reasoning_effort", Reasoning(mode="enabled", budget_tokens=1024), {"reasoning_effort": "low"}, 1),
        ("reasoning_effort", Reasoning(mode="enabled", budget_tokens=4096), {"reasoning_effort": "medium"}, 1),
        ("reasoning_effort", Reasoning(mode="enabled", budget_tokens=31999), {"reasoning_effort": "high"}, 1),
        ("reasoning_effort", Reasoning(mode="disabled"), {}, 1),
        ("reasoning_effort", Reasoning(mode="adaptive", display="omitted"), {}, 1),
        ("thinking", Reasoning(mode="disabled"), {"thinking": {"type": "disabled"}}, 0),
        ("thinking", Reasoning(effort="none"), {"thinking": {"type": "disabled"}}, 0),
        ("thinking", Reasoning(effort="low"), {"thinking": {"type": "enabled"}}, 1),
        ("thinking", Reasoning(mode="enabled", budget_tokens=5), {"thinking": {"type": "enabled"}}, 1),
        (
            "enable_thinking",
            Reasoning(mode="enabled", budget_tokens=5),
            {"enable_thinking": True, "thinking_budget": 5},
            0,
        ),
        ("enable_thinking", Reasoning(mode="disabled", budget_tokens=5), {"enable_thinking": False}, 0),
        ("enable_thinking", Reasoning(effort="low"), {"enable_thinking": True}, 1),
        ("openrouter", Reasoning(effort="low"), {"reasoning": {"effort": "low"}}, 0),
        ("openrouter", Reasoning(mode="enabled", budget_tokens=5), {"reasoning": {"max_tokens": 5}}, 0),
        ("openrouter", Reasoning(mode="disabled"), {"reasoning": {"enabled": False}}, 0),
        ("openrouter", Reasoning(mode="adaptive"), {"reasoning": {"enabled": True}}, 0),
        ("none", Reasoning(effort="low"), {}, 1),
        ("none", Reasoning(mode="disabled"), {}, 0),
    ],
)
def test_thinking_is_asked_for_in_the_providers_terms(
    style: Any, wanted: Reasoning, fields: dict[str, object], losses: int
):
    body, lost = encode(asked(reasoning=wanted), replace(OPENAI, reasoning_style=style))
    del body["model"], body["messages"]
    assert body == fields
    assert len(lost) == losses


def test_a_provider_that_reads_the_effort_beside_thinking_gets_it():
    body, lost = encode(
        asked(reasoning=Reasoning(effort="low")), replace(OPENAI, reasoning_style="thinking", thinking_effort=True)
    )
    assert (body["thinking"], body["reasoning_effort"], lost) == ({"type": "enabled"}, "low", ())


def test_what_a_poor_provider_cannot_say_is_named_once_each():
    request = asked(
        Message("developer", (Text("d"),)),
        Message("user", (Text("x"),)),
        tools=(Tool(name="f", strict=True), ForeignTool("anthropic", "web_search_20250305", msgspec.Raw(b"{}"))),
        tool_choice=ToolChoice("required"),
        parallel_tool_calls=False,
        top_k=5, seed=1, presence_penalty=0.5, frequency_penalty=0.5, choices=2, logprobs=True, top_logprobs=2,
        stop=("x",), user="u", service_tier="priority", prompt_cache_key="k", cache=CacheMarker(),
        response_format=JsonObject(), max_output_tokens=5,
        extra=Extra("anthropic", {"container": msgspec.Raw(b'"c"')}),
    )  # fmt: skip
    body, lost = encode(request, POOR)
    assert body == {
        "model": "m",
        "messages": [{"role": "system", "content": "d"}, {"role": "user", "content": "x"}],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}],
        "tool_choice": "auto",
        "max_tokens": 5,
    }
    assert sorted(entry.split(":")[0].split()[1] for entry in lost) == sorted(
        [
            "tools[0].strict",
            "tools[1]",
            "tool_choice",
            "parallel_tool_calls",
            "top_k",
            "seed",
            "presence_penalty",
            "frequency_penalty",
            "n",
            "logprobs",
            "top_logprobs",
            "stop",
            "user",
            "service_tier",
            "prompt_cache_key",
            "cache_control",
            "response_format",
            "container",
        ]
    )


def test_a_schema_that_cannot_be_held_becomes_json():
    wanted = asked(
        response_format=JsonSchema(schema=msgspec.Raw(b'{"type":"object"}'), name="n", strict=True, description="d")
    )
    assert encode(wanted)[0]["response_format"] == {
        "type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}, "strict": True, "description": "d"},
    }  # fmt: skip
    body, lost = encode(wanted, replace(OPENAI, json_schema=False))
    assert body["response_format"] == {"type": "json_object"}
    assert len(lost) == 1


def test_a_custom_tool_becomes_a_function_with_one_string():
    tool = ForeignTool(
        "openai_chat", "custom", raw({"type": "custom", "custom": {"name": "patch", "description": "d"}})
    )
    request = asked(
        Message("assistant", (ToolCall("c", "patch", "text", custom=True),)),
        tools=(tool,),
        tool_choice=ToolChoice("named", "patch"),
    )
    body, lost = encode(request)
    assert body["tools"] == [{"type": "custom", "custom": {"name": "patch", "description": "d"}}]
    assert body["tool_choice"] == {"type": "custom", "custom": {"name": "patch"}}
    assert body["messages"][0]["tool_calls"][0]["custom"] == {"name": "patch", "input": "text"}
    assert not lost
    body, lost = encode(request, replace(OPENAI, custom_tools=False))
    assert body["tools"][0]["function"]["parameters"]["required"] == ["input"]
    assert body["tool_choice"] == {"type": "function", "function": {"name": "patch"}}
    assert body["messages"][0]["tool_calls"][0]["function"] == {"name": "patch", "arguments": '{"input":"text"}'}
    assert len(lost) == 1


def test_options_of_tools_are_not_sent_without_tools():
    body, _ = encode(asked(tool_choice=ToolChoice("auto"), parallel_tool_calls=True))
    assert body.keys() == {"model", "messages"}


def test_a_long_user_is_sent_as_its_digest():
    body, lost = encode(asked(user="u" * 65))
    assert len(body["user"]) == 64
    assert body["user"] != "u" * 64
    assert len(lost) == 1
    assert encode(asked(user="u" * 64))[0]["user"] == "u" * 64


def test_anthropics_service_tier_is_said_in_openais_words():
    assert encode(asked(service_tier="standard_only"))[0]["service_tier"] == "default"
    assert encode(asked(service_tier="gold"))[1] == ("dropped service_tier: the provider has none named 'gold'",)


def test_a_stream_is_always_asked_for_its_usage():
    assert encode(asked(stream=True))[0]["stream_options"] == {"include_usage": True}
    assert "stream_options" not in encode(asked(stream=True), POOR)[0]


def test_fields_are_dropped_and_renamed_for_a_provider():
    traits = replace(OPENAI, drop_fields=frozenset({"seed"}), rename_fields={"max_completion_tokens": "max_out"})
    body, lost = encode(asked(seed=1, max_output_tokens=5), traits)
    assert body["max_out"] == 5
    assert "seed" not in body
    assert lost == ("dropped seed: the provider refuses it",)


def test_cache_markers_pass_where_they_are_understood():
    body, lost = encode(
        asked(
            Message("system", (Text("s", CacheMarker("1h")),)),
            Message("assistant", (ToolCall("c", "f", "{}", CacheMarker()),)),
            tools=(Tool(name="f", cache=CacheMarker()),),
        ),
        RICH,
    )
    assert body["messages"][0]["content"] == [
        {"type": "text", "text": "s", "cache_control": {"type": "ephemeral", "ttl": "1h"}}
    ]
    assert body["messages"][1]["tool_calls"][0]["cache_control"] == {"type": "ephemeral"}
    assert body["tools"][0]["cache_control"] == {"type": "ephemeral"}
    assert not lost


def test_a_marker_on_a_result_or_on_the_whole_prompt_passes_too():
    body, lost = encode(
        asked(
            Message("assistant", (ToolCall("c", "f", "{}"),)),
            Message("tool", (ToolResult("c", (Text("3"),), cache=CacheMarker()),)),
            cache=CacheMarker("1h"),
        ),
        RICH,
    )
    assert body["messages"][1]["content"] == [{"type": "text", "text": "3", "cache_control": {"type": "ephemeral"}}]
    assert body["cache_control"] == {"type": "ephemeral", "ttl": "1h"}
    assert not lost
    whole = decode(cache_control={"type": "ephemeral", "ttl": "1h"})
    assert whole.cache == CacheMarker("1h")


def test_no_more_markers_are_sent_than_the_provider_takes():
    body, lost = encode(
        asked(
            Message("system", (Text("s", CacheMarker()),)),
            *(Message("user", (Text(str(n), CacheMarker()),)) for n in range(5)),
            tools=(Tool(name="f", cache=CacheMarker()),),
        ),
        replace(RICH, max_cache_markers=4),
    )
    places = [*body["tools"], *body["messages"]]
    assert ["cache_control" in str(place) for place in places] == [False, True, False, False, True, True, True]
    assert lost == ("dropped cache_control: 3 of 7 markers, as no more fit",)


def test_openais_breakpoints_stand_for_markers_where_the_model_has_them():
    """Not in the model's own words, of which OpenAI takes none, nor at tools."""
    marked = (Text("a", CacheMarker("1h")),)
    body, lost = encode(
        asked(
            *(
                Message("system", marked),
                Message("user", marked),
                Message("assistant", marked),
                Message("user", marked),
            ),
            tools=(Tool(name="f", cache=CacheMarker()),),
        ),
        replace(OPENAI, cache_breakpoints=True),
    )
    part = {"type": "text", "text": "a", "prompt_cache_breakpoint": {"mode": "explicit"}}
    assert [message["content"] for message in body["messages"]] == [[part], [part], "a", [part]]
    assert "cache_control" not in str(body)
    assert [entry.split(":")[0] for entry in lost] == [
        "changed system[0].content[0].cache_control.ttl",
        "changed messages[0].content[0].cache_control.ttl",
        "dropped messages[1].content[0].cache_control",
        "changed messages[2].content[0].cache_control.ttl",
        "dropped tools[0].cache_control",
    ]


def test_how_long_openai_shall_cache_crosses_from_the_responses_api():
    extra = Extra("openai_responses", {"prompt_cache_retention": raw("24h"), "truncation": raw("auto")})
    body, lost = encode(asked(extra=extra))
    assert body["prompt_cache_retention"] == "24h"
    assert lost == ("dropped truncation: only openai_responses knows it",)
    body, lost = encode(asked(extra=extra), POOR)
    assert "prompt_cache_retention" not in body
    assert len(lost) == 2


def test_openrouters_recorded_cache_markers_are_markers():
    body = load("openrouter/openrouter-chat-stream-cache-control-b5c3b0").request.body
    assert body is not None
    marked = [
        part
        for message in DIALECT.decode_request(body).messages
        for part in message.parts
        if getattr(part, "cache", None)
    ]
    assert marked


# --------------------------------------------------------------------------------------------------- properties

words = st.text(st.characters(codec="utf-8"), min_size=1, max_size=10)
names = st.text("abcdefgh_", min_size=1, max_size=8)
texts = st.builds(Text, words, st.none() | st.builds(CacheMarker, st.sampled_from([None, "5m", "1h"])))
images = st.builds(
    Image,
    st.builds(Inline, st.just("image/png"), st.just("AAAA")) | st.just(Remote("https://a.example/i")),
    st.sampled_from([None, "low"]),
)
documents = st.builds(Document, st.builds(Inline, st.just("application/pdf"), st.just("AAAA")), names)
sounds = st.builds(Audio, st.just("AAAA"), st.sampled_from(["wav", "mp3"]))
user_turns = st.builds(
    lambda parts: (Message("user", tuple(parts)),),
    st.lists(texts | images | documents | sounds, min_size=1, max_size=4),
)
system_turns = st.builds(
    lambda role, parts: (Message(role, tuple(parts)),),
    st.sampled_from(["system", "developer"]),
    st.lists(texts, min_size=1, max_size=2),
)


@st.composite
def assistant_turns(draw: st.DrawFn) -> tuple[Message, ...]:
    parts: list[Part] = []
    if draw(st.booleans()):
        parts.append(Thinking(draw(words), draw(st.none() | st.builds(Opaque, names, st.just("openrouter")))))
    parts += draw(st.lists(texts, max_size=2))
    calls = [
        ToolCall(f"call_{draw(names)}_{n}", draw(names), draw(st.sampled_from(["{}", '{"a": 1}', '{"a": "\u00e9'])))
        for n in range(draw(st.integers(0 if parts else 1, 2)))
    ]
    results = (Message("tool", (ToolResult(call.id, tuple(draw(st.lists(texts, max_size=2)))),)) for call in calls)
    return (Message("assistant", (*parts, *calls)), *results)


@st.composite
def requests(draw: st.DrawFn) -> Request:
    """What OpenAI's form can say, in the form in which it is read back."""
    turns = draw(st.lists(user_turns | system_turns | assistant_turns(), min_size=1, max_size=5))
    return Request(
        model=draw(names),
        messages=tuple(message for turn in turns for message in turn),
        tools=tuple(draw(st.lists(st.builds(Tool, name=names, description=st.none() | words, schema=st.just(raw({"type": "object"})), strict=st.none() | st.booleans()), min_size=1, max_size=2))),
        tool_choice=draw(st.sampled_from([None, ToolChoice("auto"), ToolChoice("none"), ToolChoice("required"), ToolChoice("named", "f")])),
        parallel_tool_calls=draw(st.none() | st.booleans()),
        max_output_tokens=draw(st.none() | st.integers(1, 10**6)),
        temperature=draw(st.none() | st.floats(0, 2)),
        stop=tuple(draw(st.lists(words, max_size=3))),
        seed=draw(st.none() | st.integers(-(2**60), 2**60)),
        choices=draw(st.integers(1, 3)),
        response_format=draw(st.sampled_from([None, JsonObject(), JsonSchema(schema=raw({}), name="x", strict=True)])),
        reasoning=draw(st.none() | st.builds(Reasoning, effort=st.sampled_from(["low", "high"]))),
        stream=(stream := draw(st.booleans())),
        include_usage=stream,
        extra=draw(st.sampled_from([None, Extra("openai_chat", {"metadata": raw({"a": "b"})})])),
    )  # fmt: skip


@given(requests())
@settings(max_examples=80, deadline=None)
def test_what_openai_can_say_comes_back_as_it_was(request: Request):
    receipt = Receipt()
    assert DIALECT.decode_request(DIALECT.encode_request(request, RICH, receipt)) == request
    assert not receipt


@given(requests())
@settings(max_examples=50, deadline=None)
def test_a_poor_provider_gets_a_valid_request_and_the_caller_a_receipt(request: Request):
    receipt = Receipt()
    DIALECT.decode_request(DIALECT.encode_request(request, POOR, receipt))
    assert len(set(receipt.entries)) == len(receipt.entries)


KEYS = st.sampled_from(
    [
        "model",
        "messages",
        "role",
        "content",
        "type",
        "text",
        "image_url",
        "url",
        "input_audio",
        "data",
        "format",
        "file",
        "file_data",
        "file_id",
        "tool_calls",
        "id",
        "function",
        "name",
        "arguments",
        "tool_call_id",
        "custom",
        "input",
        "tools",
        "parameters",
        "tool_choice",
        "response_format",
        "json_schema",
        "schema",
        "stop",
        "n",
        "stream",
        "reasoning",
        "thinking",
        "reasoning_content",
        "reasoning_details",
        "function_call",
        "functions",
        "stream_options",
        "cache_control",
    ]
)
WORDS = st.sampled_from(
    ["user", "assistant", "tool", "function", "system", "text", "image_url", "file", "custom", "data:image/png;base64,AAAA",
     "json_schema", "", "auto", "enabled", "input_audio", "refusal", "\u00e9"]
)  # fmt: skip
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=25,
)


@given(st.dictionaries(KEYS, values, max_size=6), st.lists(st.dictionaries(KEYS, values, max_size=5), max_size=3))
@settings(max_examples=150, deadline=None)
def test_no_json_makes_reading_fail_in_any_other_way(fields: dict[str, object], messages: list[object]):
    body = msgspec.json.encode({"model": "m", **fields, "messages": messages})
    try:
        request = DIALECT.decode_request(body)
    except BadRequest:
        return
    DIALECT.encode_request(request, POOR, Receipt())


@given(st.binary(max_size=200))
@settings(deadline=None)
def test_no_bytes_make_reading_fail_in_any_other_way(body: bytes):
    with pytest.raises(BadRequest):
        DIALECT.decode_request(body)
