"""Requests of the Responses API: read from clients, written for providers, and taken from one dialect to another."""

import json
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.asked import requests
from support.requests_made import requests as any_requests
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
    Reasoning,
    RedactedThinking,
    Refusal,
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
from tollhouse.chat.opaque import holds_sealed
from tollhouse.chat.receipt import Receipt
from tollhouse.dialects import anthropic, gemini, openai_chat
from tollhouse.dialects.anthropic import AnthropicTraits
from tollhouse.dialects.dialect import Dialect
from tollhouse.dialects.gemini import GeminiTraits
from tollhouse.dialects.openai_chat import OpenAIChatTraits
from tollhouse.dialects.openai_responses import COUNTING, DIALECT, ResponsesTraits
from tollhouse.dialects.openai_responses.decode_request import ONE_STRING
from tollhouse.dialects.openai_responses.traits import OPENAI
from tollhouse.dialects.openai_responses.wire import flat_name
from tollhouse.errors import BadRequest, CallerError

Json = dict[str, Any]
NAME = DIALECT.name
POOR = ResponsesTraits(
    home="lab",
    asks_encrypted=False,
    reasoning=False,
    developer_role=False,
    images=False,
    documents=False,
    custom_tools=False,
    strict_tools=False,
    json_schema=False,
    json_object=False,
    user=False,
    service_tier=False,
    prompt_cache_key=False,
    drop_fields=frozenset({"temperature"}),
)
OTHERS: list[tuple[Dialect[Any], Any]] = [
    (openai_chat.DIALECT, OpenAIChatTraits()),
    (anthropic.DIALECT, AnthropicTraits()),
    (gemini.DIALECT, GeminiTraits()),
]
raw = msgspec.Raw


def read(**fields: Any) -> Request:
    return DIALECT.decode_request(json.dumps({"model": "m", "input": "Hi", **fields}).encode())


def write(request: Request, traits: ResponsesTraits = OPENAI, receipt: Receipt | None = None) -> Json:
    body = DIALECT.encode_request(request, traits, Receipt() if receipt is None else receipt)
    value: Json = msgspec.json.decode(body)
    return value


def asking(*messages: Message, **fields: Any) -> Request:
    return Request(model="m", messages=messages, **fields)


def lost(request: Request, traits: ResponsesTraits = OPENAI) -> str:
    receipt = Receipt()
    write(request, traits, receipt)
    return receipt.header()


# --------------------------------------------------------------------------------------------------------- from a client


def test_every_documented_field_is_read():
    request = read(
        instructions="Be terse.",
        max_output_tokens=99,
        temperature=0.5,
        top_p=0.9,
        top_logprobs=3,
        parallel_tool_calls=False,
        reasoning={"effort": "high", "summary": "auto"},
        text={"format": {"type": "json_schema", "name": "n", "schema": {"a": 1}, "strict": True}, "verbosity": "low"},
        safety_identifier="someone",
        service_tier="flex",
        prompt_cache_key="key",
        stream=True,
        store=False,
        metadata={"a": "b"},
        truncation="auto",
        include=["reasoning.encrypted_content", "message.output_text.logprobs", "file_search_call.results"],
        previous_response_id="resp_0",
    )
    assert request.messages == (Message("system", (Text("Be terse."),)), Message("user", (Text("Hi"),)))
    assert request.max_output_tokens == 99
    assert (request.temperature, request.top_p, request.logprobs, request.top_logprobs) == (0.5, 0.9, True, 3)
    assert request.parallel_tool_calls is False
    assert request.reasoning == Reasoning(effort="high", display="summarized")
    assert request.response_format == JsonSchema(schema=raw(b'{"a": 1}'), name="n", strict=True)
    assert (request.user, request.service_tier, request.prompt_cache_key) == ("someone", "flex", "key")
    assert request.stream
    assert request.extra is not None
    assert set(request.extra.fields) == {"text", "truncation", "include"}, "what only this dialect can say"
    assert request.echo is not None
    assert request.echo.fields["previous_response_id"] == raw(b'"resp_0"')
    assert request.echo.fields["store"] == raw(b"false")


def test_what_is_null_or_means_nothing_elsewhere_is_no_loss():
    fields = {
        "instructions": None,
        "reasoning": {"summary": "detailed"},
        "tools": None,
        "text": {"format": {"type": "text"}},
        "truncation": "disabled",
        "store": True,
        "metadata": {},
        "include": ["reasoning.encrypted_content"],
        "stream_options": {"include_obfuscation": False},
        "background": False,
    }
    receipt = Receipt()
    openai_chat.DIALECT.encode_request(read(**fields), OpenAIChatTraits(), receipt)
    assert not receipt, receipt.header()


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("auto", ToolChoice("auto")),
        ("none", ToolChoice("none")),
        ("required", ToolChoice("required")),
        ({"type": "function", "name": "f"}, ToolChoice("named", "f")),
        ({"type": "custom", "name": "f"}, ToolChoice("named", "f")),
        ({"type": "function", "name": "f", "namespace": "n"}, ToolChoice("named", "n__f")),
        ({"type": "function", "function": {"name": "f"}}, ToolChoice("named", "f")),
    ],
)
def test_every_tool_choice_is_understood(choice: object, expected: ToolChoice):
    assert read(tool_choice=choice).tool_choice == expected


def test_allowed_tools_stay_as_they_came():
    allowed = {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "f"}]}
    tools = [{"type": "function", "name": "f", "parameters": {}}]
    request = read(tool_choice=allowed, tools=tools)
    assert request.tool_choice is None
    assert write(request)["tool_choice"] == allowed


def test_tools_of_every_kind_are_read():
    schema = '{"type":"object",  "properties":{}}'
    body = (
        '{"model":"m","input":"x","tools":[{"type":"function","name":"f","description":"d","strict":true,"parameters":'
        + schema
        + "},"
        '{"type":"namespace","name":"crm","tools":[{"type":"function","name":"f"},{"type":"custom","name":"c"}]},'
        '{"type":"custom","name":"edit","format":{"type":"text"}},{"type":"web_search"}]}'
    )
    function, spaced, spaced_custom, custom, search = DIALECT.decode_request(body.encode()).tools
    assert function == Tool(name="f", description="d", schema=raw(schema.encode()), strict=True), "byte for byte"
    assert spaced == Tool(name="crm__f")
    assert spaced_custom == Tool(name="crm__c", schema=ONE_STRING, custom=True)
    assert custom == Tool(
        name="edit", schema=ONE_STRING, custom=True, extra=Extra(NAME, {"format": raw(b'{"type":"text"}')})
    )
    assert search == ForeignTool(NAME, "web_search", raw(b'{"type":"web_search"}'))


@given(st.text("abc_-", min_size=1, max_size=80), st.text("abc_-", min_size=1, max_size=80))
def test_flat_names_fit(namespace: str, name: str):
    flat = flat_name(namespace, name)
    assert len(flat) <= 64
    assert flat == flat_name(namespace, name)
    assert flat_name(None, name) == name


def test_items_between_two_inputs_are_one_turn():
    request = read(
        input=[
            {"role": "developer", "content": "Be terse."},
            {"role": "user", "content": [{"type": "input_text", "text": "Add."}]},
            {
                "type": "reasoning",
                "id": "rs_1",
                "summary": [{"type": "summary_text", "text": "Hm"}],
                "encrypted_content": "gA",
            },
            {"type": "reasoning", "id": "rs_2", "summary": [], "encrypted_content": "gB"},
            {"type": "reasoning", "id": "rs_3", "summary": []},
            {
                "type": "message",
                "role": "assistant",
                "content": [{"type": "output_text", "text": "So"}],
                "status": "completed",
            },
            {"type": "function_call", "id": "fc_1", "call_id": "a", "name": "f", "namespace": "n", "arguments": "{}"},
            {"type": "custom_tool_call", "call_id": "b", "name": "g", "input": "text"},
            {"type": "web_search_call", "id": "ws_1", "action": {"type": "search"}},
            {"type": "function_call_output", "call_id": "a", "output": "1"},
            {"type": "custom_tool_call_output", "call_id": "b", "output": [{"type": "input_text", "text": "2"}]},
            {"role": "assistant", "content": "Done"},
        ]
    )
    assert [message.role for message in request.messages] == [
        "developer",
        "user",
        "assistant",
        "tool",
        "tool",
        "assistant",
    ]
    thought, hidden, words, call, custom, search = request.messages[2].parts
    assert thought == Thinking("Hm", Opaque("gA", "openai"))
    assert hidden == RedactedThinking(Opaque("gB", "openai"))
    assert words == Text("So")
    assert call == ToolCall("a", "n__f", "{}")
    assert custom == ToolCall("b", "g", "text", custom=True)
    assert isinstance(search, Foreign)
    assert request.messages[4].parts == (ToolResult("b", (Text("2"),)),)


def test_every_part_is_read():
    content = [
        {"type": "input_text", "text": "Look", "prompt_cache_breakpoint": {"mode": "explicit"}},
        {"type": "input_image", "image_url": "data:image/png;base64,aaaa", "detail": "low"},
        {"type": "input_image", "image_url": "https://a.example/b.png"},
        {"type": "input_image", "file_id": "file-1"},
        {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,bbbb"},
        {"type": "input_file", "file_data": "data:text/plain;base64,SGk="},
        {"type": "input_file", "file_url": "https://a.example/b.pdf"},
        {"type": "input_file", "file_id": "file-2"},
        {"type": "input_audio", "input_audio": {"data": "cccc", "format": "wav"}},
        {"type": "input_hologram", "data": 1},
    ]
    (message,) = read(input=[{"role": "user", "content": content}]).messages
    assert message.parts[:9] == (
        Text("Look", cache=CacheMarker()),
        Image(Inline("image/png", "aaaa"), "low"),
        Image(Remote("https://a.example/b.png")),
        Image(StoredFile("file-1", NAME)),
        Document(Inline("application/pdf", "bbbb"), "a.pdf"),
        Document(Inline("text/plain", "Hi")),
        Document(Remote("https://a.example/b.pdf")),
        Document(StoredFile("file-2", NAME)),
        Audio("cccc", "wav"),
    )
    assert isinstance(message.parts[9], Foreign)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": None}, "input"),
        ({"input": 7}, "input"),
        ({"input": [7]}, "input[0]"),
        ({"input": [{"content": "x"}]}, "input[0].type"),
        ({"input": [{"role": "wizard", "content": "x"}]}, "input[0].role"),
        ({"input": [{"role": "user", "content": [{"text": "x"}]}]}, "input[0].content[0].type"),
        ({"input": [{"role": "user", "content": [{"type": "input_text"}]}]}, "input[0].content[0].text"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input[0].content[0]"),
        ({"input": [{"role": "user", "content": [{"type": "input_file"}]}]}, "input[0].content[0]"),
        ({"input": [{"type": "function_call", "name": "f"}]}, "input[0].call_id"),
        ({"input": [{"type": "function_call", "call_id": "a"}]}, "input[0].name"),
        ({"input": [{"type": "function_call_output", "output": "x"}]}, "input[0].call_id"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0]"),
        ({"tools": {}}, "tools"),
        ({"tools": [7]}, "tools[0]"),
        ({"tools": [{"name": "f"}]}, "tools[0].type"),
        ({"tools": [{"type": "function"}]}, "tools[0].name"),
        ({"tools": [{"type": "function", "name": "f", "parameters": 1}]}, "tools[0].parameters"),
        ({"tools": [{"type": "namespace", "name": "n", "tools": [{"type": "function"}]}]}, "tools[0].tools[0].name"),
        ({"tool_choice": "perhaps"}, "tool_choice"),
        ({"text": {"format": {"type": "json_schema"}}}, "text.format.schema"),
        ({"reasoning": "much"}, "reasoning"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"max_output_tokens": "x"}, "max_output_tokens"),
        ({"temperature": "hot"}, "temperature"),
        ({"stream": "yes"}, "stream"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"model": "m" * 501}, "model"),
        ({"include": "all"}, "include"),
    ],
)
def test_a_wrong_request_is_refused_with_its_place(fields: Json, param: str):
    with pytest.raises(BadRequest) as caught:
        read(**fields)
    assert caught.value.param == param


def test_who_sends_a_wrong_input_hears_of_both_forms():
    with pytest.raises(BadRequest, match="`input` must be a text or an array of items"):
        read(input=7)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["type", "id", "x"]), inner, max_size=3)
    ),
    max_leaves=6,
)
items = st.dictionaries(
    st.sampled_from(
        ["type", "role", "content", "call_id", "name", "arguments", "output", "summary", "encrypted_content"]
    ),
    values | st.sampled_from(["message", "user", "assistant", "function_call", "reasoning", "function_call_output"]),
)


@given(
    st.dictionaries(
        st.sampled_from(["instructions", "tools", "tool_choice", "text", "reasoning", "include", "user", "store"]),
        values,
    ),
    st.lists(items, max_size=3) | values,
)
@settings(max_examples=200)
def test_no_json_makes_reading_fail_in_any_other_way(fields: Json, given_items: object):
    body = json.dumps({"model": "m", **fields, "input": given_items}).encode()
    try:
        request = DIALECT.decode_request(body)
    except BadRequest:
        return
    write(request)


@given(st.binary(max_size=40))
def test_no_bytes_make_reading_fail_in_any_other_way(body: bytes):
    for do in (DIALECT.peek, DIALECT.decode_request):
        with suppress(BadRequest):  # `{}` says nothing wrong at its top level
            do(body)


# ---------------------------------------------------------------------------------------------------------- to a provider


def test_a_conversation_of_another_dialect_is_said_in_items():
    request = asking(
        Message("system", (Text("Be terse."),)),
        Message(
            "user", (Text("Look"), Image(Inline("image/png", "aaaa")), Document(Inline("application/pdf", "bbbb")))
        ),
        Message("assistant", (Text("So"), ToolCall("a", "f", ""), ToolCall("b", "g", "text", custom=True))),
        Message(
            "user",
            (
                ToolResult("a", (Text("1"), Text("2"))),
                ToolResult("b", (Image(Inline("image/png", "c")),)),
                Text("And?"),
            ),
        ),
        max_output_tokens=9,
        stream=True,
    )
    assert write(request) == {
        "model": "m",
        "store": False,
        "stream": True,
        "include": ["reasoning.encrypted_content"],
        "max_output_tokens": 9,
        "input": [
            {"type": "message", "role": "system", "content": [{"type": "input_text", "text": "Be terse."}]},
            {
                "type": "message",
                "role": "user",
                "content": [
                    {"type": "input_text", "text": "Look"},
                    {"type": "input_image", "image_url": "data:image/png;base64,aaaa", "detail": "auto"},
                    {"type": "input_file", "filename": "document.pdf", "file_data": "data:application/pdf;base64,bbbb"},
                ],
            },
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "So"}]},
            {"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"},
            {"type": "custom_tool_call", "call_id": "b", "name": "g", "input": "text"},
            {"type": "function_call_output", "call_id": "a", "output": "1\n\n2"},
            {
                "type": "custom_tool_call_output",
                "call_id": "b",
                "output": [{"type": "input_image", "image_url": "data:image/png;base64,c", "detail": "auto"}],
            },
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "And?"}]},
        ],
    }


def test_strictness_is_always_said_for_its_default_is_another_here():
    tools = (Tool(name="f", schema=raw(b"{}")), Tool(name="g", strict=True))
    body = write(asking(Message("user", (Text("x"),)), tools=tools, response_format=JsonSchema(schema=raw(b"{}"))))
    assert [tool["strict"] for tool in body["tools"]] == [False, True]
    assert body["text"]["format"]["strict"] is False


def test_only_its_own_reasoning_goes_back_to_a_provider():
    own, other = Opaque("gA", "openai"), Opaque("sig", "anthropic")
    request = asking(
        Message(
            "assistant", (Thinking("Hm", own), RedactedThinking(own), Thinking("No", other), RedactedThinking(other))
        ),
        Message("assistant", (Text("x", signature=other), ToolCall("a", "f", "{}", signature=other))),
    )
    receipt = Receipt()
    body = write(request, receipt=receipt)
    thoughts = [item for item in body["input"] if item["type"] == "reasoning"]
    assert [item["encrypted_content"] for item in thoughts] == ["gA", "gA"]
    assert "sig" not in json.dumps(body)
    assert len(receipt.entries) == 4
    shown = write(asking(Message("assistant", (Thinking("No", other),))), ResponsesTraits(reasoning_text=True))
    assert shown["input"][0]["content"] == [{"type": "reasoning_text", "text": "No"}]


@pytest.mark.parametrize(
    "wanted", [{"summary": "detailed"}, {"effort": "low", "summary": "concise"}, {"effort": "low"}]
)
def test_how_a_summary_is_asked_for_stays_as_it_was(wanted: Json):
    assert write(read(reasoning=wanted))["reasoning"] == wanted


@pytest.mark.parametrize(
    ("wanted", "sent"),
    [
        (Reasoning(effort="max"), {"effort": "xhigh"}),
        (Reasoning(effort="none", mode="disabled"), {"effort": "none"}),
        (Reasoning(mode="enabled", budget_tokens=20_000), {"effort": "high", "summary": "auto"}),
        (Reasoning(mode="adaptive"), {"summary": "auto"}),
        (Reasoning(mode="enabled", budget_tokens=100, display="omitted"), {"effort": "low"}),
        (Reasoning(mode="disabled"), None),
    ],
)
def test_thinking_is_asked_for_in_words(wanted: Reasoning, sent: Json | None):
    assert write(asking(Message("user", (Text("x"),)), reasoning=wanted)).get("reasoning") == sent


def test_what_the_api_has_no_word_for_is_named_once_each():
    request = asking(
        Message("user", (Text("x", cache=CacheMarker()),), name="ann"),
        top_k=3,
        stop=("x",),
        seed=1,
        presence_penalty=0.1,
        frequency_penalty=0.1,
        choices=2,
        logprobs=True,
        cache=CacheMarker(),
        extra=Extra("anthropic", {"container": raw(b"1")}),
    )
    entries = lost(request)
    for word in ("top_k", "stop", "seed", "presence_penalty", "frequency_penalty", " n:", "logprobs", "cache_control"):
        assert word in entries, word
    assert "container" in entries
    assert "name" in entries


def test_what_chat_says_under_the_same_name_is_passed_on():
    body = openai_chat.DIALECT.decode_request(
        b'{"model":"m","messages":[{"role":"user","content":"x"}],"metadata":{"a":"b"},"verbosity":"low","store":true,'
        b'"prediction":{"type":"content"}}'
    )
    receipt = Receipt()
    written = write(body, receipt=receipt)
    assert written["metadata"] == {"a": "b"}
    assert written["text"] == {"verbosity": "low"}
    assert written["store"] is True
    assert "prediction" in receipt.header()


def test_a_free_form_tool_keeps_its_grammar_both_ways():
    grammar = {"type": "grammar", "syntax": "lark", "definition": "start: x"}
    request = read(
        tools=[{"type": "custom", "name": "edit", "description": "d", "format": grammar}], tool_choice="auto"
    )
    chat: Json = msgspec.json.decode(openai_chat.DIALECT.encode_request(request, OpenAIChatTraits(), Receipt()))
    (tool,) = chat["tools"]
    assert tool["custom"]["format"] == {"type": "grammar", "grammar": {"syntax": "lark", "definition": "start: x"}}
    chat["messages"] = [{"role": "user", "content": "x"}]
    back = openai_chat.DIALECT.decode_request(json.dumps(chat).encode())
    (tool,) = write(back)["tools"]
    assert tool == {"type": "custom", "name": "edit", "description": "d", "format": grammar}


def test_a_free_form_tool_is_a_function_where_there_is_none():
    request = read(tools=[{"type": "custom", "name": "edit"}])
    (tool,) = write(request, POOR)["tools"]
    assert tool == {"type": "function", "name": "edit", "parameters": json.loads(bytes(ONE_STRING))}
    assert "free-form" in lost(request, POOR)
    (call,) = write(asking(Message("assistant", (ToolCall("a", "edit", "x", custom=True),))), POOR)["input"]
    assert (call["type"], call["arguments"]) == ("function_call", '{"input":"x"}')


def test_files_go_to_whoever_has_them():
    parts = (
        Document(StoredFile("file-1", "openai_chat"), "a.pdf"),
        Document(StoredFile("file-2", "anthropic")),
        Document(Remote("https://a.example/b.pdf"), "b.pdf"),
        Image(StoredFile("file-3", NAME)),
        Document(Inline("text/plain", "words"), "notes", "about"),
    )
    receipt = Receipt()
    (message,) = write(asking(Message("user", parts)), receipt=receipt)["input"]
    assert message["content"] == [
        {"type": "input_file", "file_id": "file-1"},
        {"type": "input_file", "file_url": "https://a.example/b.pdf"},
        {"type": "input_image", "file_id": "file-3", "detail": "auto"},
        {"type": "input_text", "text": "notes\nabout\n\nwords"},
    ]
    assert "uploaded to anthropic" in receipt.header()


def test_an_id_that_is_too_long_is_told_by_its_digest_in_both_places():
    long = "x" * 65
    request = asking(
        Message("assistant", (ToolCall(long, "f", "{}"),)), Message("tool", (ToolResult(long, (Text("1"),)),))
    )
    call, result = write(request)["input"]
    assert call["call_id"] == result["call_id"]
    assert len(call["call_id"]) <= 64


def test_a_turn_of_which_nothing_is_left_still_stands():
    (message,) = write(asking(Message("user", (Image(Inline("image/png", "a")),))), POOR)["input"]
    assert message["content"][0]["text"]


def test_citations_and_refusals_stay_in_the_assistant_s_turn():
    turn = Message("assistant", (Text("So", citations=(Citation(url="https://a.example"), Citation())), Refusal("No")))
    receipt = Receipt()
    (message,) = write(asking(turn), receipt=receipt)["input"]
    assert message["content"][0]["annotations"][0]["url"] == "https://a.example"
    assert message["content"][1] == {"type": "refusal", "refusal": "No"}
    assert "citations" in receipt.header()


def test_json_without_a_schema_is_asked_for():
    assert write(asking(Message("user", (Text("x"),)), response_format=JsonObject()))["text"] == {
        "format": {"type": "json_object"}
    }


def test_a_count_is_asked_for_with_what_the_endpoint_takes():
    request = asking(Message("user", (Text("x"),)), temperature=0.5, stream=True, max_output_tokens=5)
    asked = msgspec.json.decode(COUNTING.encode_request(request, OPENAI, Receipt()))
    assert set(asked) == {"model", "input"}
    body = b'{"model":"a","input":"x","store":true,"instructions":"Be terse."}'
    patched = COUNTING.patch(DIALECT.peek(body), "b", OPENAI, Receipt())
    assert msgspec.json.decode(patched) == {"model": "b", "input": "x", "instructions": "Be terse."}


# ------------------------------------------------------------------------------------------ from one dialect to another


@given(any_requests)
@settings(max_examples=60)
def test_any_request_at_all_can_be_written(request: Request):
    for traits in (OPENAI, POOR):
        body = write(request, traits)
        assert set(body) >= {"model", "input"}


@given(requests())
@settings(max_examples=60)
def test_any_conversation_comes_back_as_it_was(request: Request):
    again = DIALECT.decode_request(DIALECT.encode_request(request, OPENAI, Receipt()))
    assert said(again) == said(request)
    assert (again.max_output_tokens, again.temperature, again.stream) == (
        request.max_output_tokens,
        request.temperature,
        request.stream,
    )
    if request.tools:
        assert [tool.name for tool in again.tools if isinstance(tool, Tool)] == [
            tool.name for tool in request.tools if isinstance(tool, Tool)
        ]


@given(requests())
@settings(max_examples=40)
def test_any_conversation_goes_from_here_to_the_others_and_back(request: Request):
    """Written for a Responses client, read from it, written for the others, read from them: calls and words are the same."""
    asked = DIALECT.decode_request(DIALECT.encode_request(request, OPENAI, Receipt()))
    for dialect, traits in OTHERS:
        body = dialect.encode_request(asked, traits, Receipt())
        assert not holds_sealed(body), "a provider is sent nothing that is sealed"
        try:
            there = msgspec.structs.replace(dialect.decode_request(body), model="m")
        except CallerError:
            assert dialect is gemini.DIALECT
            continue
        back = DIALECT.decode_request(DIALECT.encode_request(there, OPENAI, Receipt()))
        assert calls(back) == calls(asked), dialect.name


def calls(request: Request) -> list[tuple[str, Any]]:
    found = []
    for message in request.messages:
        for part in message.parts:
            if isinstance(part, ToolCall):
                try:
                    value = json.loads(part.arguments or "{}")
                except ValueError:
                    value = {"_raw": part.arguments}
                found.append((part.name, value))
    return found


def said(request: Request) -> list[tuple[str, str]]:
    """Who said what, in order, as far as every provider is told it."""
    found = []
    for message in request.messages:
        for part in message.parts:
            match part:
                case Text(text=text) | Refusal(text=text):
                    found.append((message.role.replace("tool", "user"), text))
                case Document(source=Inline(media_type="text/plain", data=data)):
                    about = [line for line in (part.title, part.context) if line]
                    found.append(("user", "\n".join([*about, "", data]) if about else data))
                case ToolCall():
                    found.append(("call", f"{part.id} {part.name} {part.arguments or '{}'}"))
                case ToolResult():
                    words = "\n\n".join(inner.text for inner in part.content if isinstance(inner, Text))
                    found.append(("result", f"{part.call_id} {words}"))
                case _:
                    pass
    # Tools' answers come before what is said beside them.
    return sorted(found, key=lambda each: each[0]) if any(kind == "result" for kind, _ in found) else found


@pytest.mark.parametrize(
    ("dialect", "traits"),
    [
        (DIALECT, OPENAI),
        (openai_chat.DIALECT, OpenAIChatTraits()),
        (anthropic.DIALECT, AnthropicTraits()),
        (gemini.DIALECT, GeminiTraits()),
    ],
    ids=["responses", "chat", "anthropic", "gemini"],
)
def test_who_wants_an_answer_in_the_background_is_told_that_it_is_given_at_once(dialect: Dialect[Any], traits: Any):
    asked = DIALECT.decode_request(json.dumps({"model": "m", "input": "Hi", "background": True}).encode())
    receipt = Receipt()
    sent = json.loads(dialect.encode_request(asked, traits, receipt))
    assert "background" not in sent
    assert "background" in receipt.header()
