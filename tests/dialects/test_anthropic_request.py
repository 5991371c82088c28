"""Requests in Anthropic's dialect: read from clients, written for providers."""

import contextlib
import itertools
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.recordings import Recording, by_id, recordings
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
from tollhouse.chat.receipt import Receipt
from tollhouse.dialects.anthropic import DIALECT, AnthropicTraits, decode_count, encode_count, encode_count_request
from tollhouse.errors import BadRequest, UpstreamMalformed

TRAITS = AnthropicTraits(temperature_with_top_p=True)
BUDGET = AnthropicTraits(thinking="budget", efforts={})
REQUESTS = [
    r
    for dialect in ("anthropic-messages", "anthropic-count-tokens")
    for r in recordings(dialect)
    if r.request.body is not None and b'"model"' in r.request.body
]

EVERYTHING: dict[str, Any] = {
    "model": "claude",
    "max_tokens": 4_096,
    "system": [
        {"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral", "ttl": "1h", "scope": "global"}}
    ],
    "messages": [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Look", "cache_control": {"type": "ephemeral"}},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}},
                {"type": "image", "source": {"type": "url", "url": "https://x.test/a.png"}, "transformations": {}},
                {"type": "image", "source": {"type": "file", "file_id": "file_1"}},
                {
                    "type": "document",
                    "source": {"type": "base64", "media_type": "application/pdf", "data": "aGk="},
                    "title": "T",
                    "context": "C",
                    "citations": {"enabled": True},
                    "cache_control": {"type": "ephemeral", "ttl": "5m"},
                },
                {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "words"}},
                {"type": "document", "source": {"type": "url", "url": "https://x.test/a.pdf"}},
                {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "a"}]}},
                {"type": "search_result", "source": "s", "title": "t", "content": [{"type": "text", "text": "a"}]},
                {"type": "container_upload", "file_id": "file_2"},
                {"type": "image", "source": {"type": "hologram", "data": "x"}},
            ],
        },
        {"role": "system", "content": "The date is new."},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "Hm", "signature": "c2ln"},
                {"type": "redacted_thinking", "data": "eHg="},
                {
                    "type": "text",
                    "text": "Found",
                    "citations": [
                        {"type": "char_location", "cited_text": "w", "document_index": 0, "document_title": "T"}
                    ],
                },
                {"type": "server_tool_use", "id": "srv_1", "name": "web_search", "input": {"query": "x"}},
                {"type": "web_search_tool_result", "tool_use_id": "srv_1", "content": []},
                {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": [1.0]}, "caller": {"type": "direct"}},
                {"type": "tool_use", "id": "toolu_2", "name": "g", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": "toolu_1",
                    "content": [
                        {"type": "text", "text": "ok"},
                        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}},
                        {"type": "tool_reference", "tool_name": "h"},
                    ],
                    "is_error": True,
                },
                {"type": "tool_result", "tool_use_id": "toolu_2", "content": "plain", "toolset_name": "s"},
                {"type": "text", "text": "Go on"},
            ],
        },
        {"role": "assistant", "content": "{"},
    ],
    "tools": [
        {
            "name": "f",
            "description": "d",
            "input_schema": {"type": "object", "properties": {"a": {"type": "array"}}},
            "strict": True,
            "defer_loading": True,
        },
        {"type": "web_search_20250305", "name": "web_search", "max_uses": 3},
    ],
    "tool_choice": {"type": "tool", "name": "f", "disable_parallel_tool_use": True},
    "stop_sequences": ["END"],
    "temperature": 1.0,
    "top_p": 0.99,
    "thinking": {"type": "adaptive", "display": "summarized"},
    "output_config": {"effort": "high", "format": {"type": "json_schema", "schema": {"type": "object"}}},
    "metadata": {"user_id": "u", "other": 1},
    "service_tier": "auto",
    "stream": True,
    "speed": "fast",
    "inference_geo": "eu",
    "diagnostics": {"previous_message_id": None},
    "context_management": {"edits": [{"type": "clear_thinking_20251015"}]},
    "mcp_servers": [{"type": "url", "url": "https://x.test", "name": "n"}],
    "container": "c_1",
    "from_the_future": {"a": [1, None]},
}


def decode(body: object) -> Request:
    return DIALECT.decode_request(json.dumps(body).encode())


def encode(request: Request, traits: AnthropicTraits = TRAITS) -> tuple[dict[str, Any], str]:
    """The body for the provider, and what the receipt says."""
    receipt = Receipt()
    return json.loads(DIALECT.encode_request(request, traits, receipt)), "; ".join(receipt.entries)


def asked(*messages: Message, **fields: Any) -> Request:
    return Request(model="m", messages=messages or (Message("user", (Text("hi"),)),), **fields)


def plain(value: object) -> object:
    """Parsed raw JSON, so that spacing does not matter."""
    return json.loads(msgspec.json.encode(value))


# ------------------------------------------------------------------------------------------------------------- its own


@pytest.mark.parametrize("recording", REQUESTS, ids=by_id)
def test_recorded_requests_survive_translation_into_their_own_dialect(recording: Recording):
    body = recording.request.body
    assert body is not None
    request = DIALECT.decode_request(body)
    receipt = Receipt()
    again = DIALECT.encode_request(request, TRAITS, receipt)

    assert not receipt
    assert DIALECT.decode_request(again) == msgspec.structs.replace(
        request, max_output_tokens=request.max_output_tokens or TRAITS.default_max_tokens
    )


def test_every_documented_field_survives_translation_into_its_own_dialect():
    out, receipt = encode(decode(EVERYTHING), AnthropicTraits(temperature_with_top_p=True))
    assert receipt == ""
    assert out == EVERYTHING


def test_what_two_dialects_share_has_a_field():
    request = decode(EVERYTHING)
    system, user, late, assistant, results, prefill = request.messages
    assert system == Message(
        "system",
        (
            Text(
                "Be brief.",
                cache=CacheMarker("1h"),
                extra=Extra("anthropic", {"cache_control": msgspec.Raw(b'{"scope":"global"}')}),
            ),
        ),
    )
    assert user.parts[0] == Text("Look", cache=CacheMarker())
    assert user.parts[1] == Image(Inline("image/png", "aGk="))
    assert isinstance(user.parts[2], Image)
    assert user.parts[2].source == Remote("https://x.test/a.png")
    assert user.parts[3] == Image(StoredFile("file_1", "anthropic"))
    assert user.parts[4] == Document(
        Inline("application/pdf", "aGk="), title="T", context="C", cite=True, cache=CacheMarker("5m")
    )
    assert user.parts[5] == Document(Inline("text/plain", "words"))
    assert user.parts[6] == Document(Remote("https://x.test/a.pdf"))
    assert [p.kind for p in user.parts[7:] if isinstance(p, Foreign)] == [
        "document",
        "search_result",
        "container_upload",
        "image",
    ]
    assert late == Message("system", (Text("The date is new."),))
    assert assistant.parts[0] == Thinking("Hm", Opaque("c2ln", "anthropic"))
    assert assistant.parts[1] == RedactedThinking(Opaque("eHg=", "anthropic"))
    assert isinstance(assistant.parts[2], Text)
    assert assistant.parts[2].citations[0].quote == "w"
    assert isinstance(assistant.parts[5], ToolCall)
    assert assistant.parts[5].arguments == '{"a": [1.0]}'
    assert isinstance(results.parts[0], ToolResult)
    assert results.parts[0].is_error
    assert isinstance(results.parts[0].content[2], Foreign)
    assert isinstance(results.parts[1], ToolResult)
    assert results.parts[1].content == (Text("plain"),)
    assert prefill == Message("assistant", (Text("{"),))
    assert isinstance(request.tools[0], Tool)
    assert request.tools[0].strict
    assert isinstance(request.tools[1], ForeignTool)
    assert (request.tool_choice, request.parallel_tool_calls) == (ToolChoice("named", "f"), False)
    assert request.reasoning == Reasoning(mode="adaptive", effort="high", display="summarized")
    assert request.response_format == JsonSchema(schema=msgspec.Raw(b'{"type": "object"}'))
    assert (request.user, request.stop, request.stream, request.service_tier) == ("u", ("END",), True, "auto")
    assert request.extra is not None
    assert {"speed", "from_the_future", "mcp_servers", "context_management"} <= request.extra.fields.keys()


def test_nulls_count_as_absent_everywhere():
    request = decode(
        {
            **dict.fromkeys([*EVERYTHING, "top_k", "cache_control", "output_format"]),
            "model": "m",
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "a", "cache_control": None, "citations": None},
                        {"type": "tool_result", "tool_use_id": "t", "content": None, "is_error": None},
                    ],
                }
            ],
        }
    )
    assert request.messages == (Message("user", (Text("a"), ToolResult("t", ()))),)
    bare = msgspec.structs.replace(request, extra=None, messages=())
    assert bare == Request(model="m", messages=(), include_usage=True)


def test_the_older_output_format_and_the_newest_thinking_are_understood_or_kept():
    body = {"model": "m", "messages": [{"role": "user", "content": "a"}], "max_tokens": 5}
    older = decode({**body, "output_format": {"type": "json_schema", "schema": {}}})
    assert isinstance(older.response_format, JsonSchema)
    assert encode(older)[0]["output_config"] == {"format": {"type": "json_schema", "schema": {}}}
    assert "output_format" in encode(older, AnthropicTraits(structured_output="output_format"))[0]

    between = {**body, "thinking": {"type": "between_tools"}}
    assert encode(decode(between))[0] == between


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"model": 7}, "model"),
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": ["hi"]}, "messages.0"),
        ({"messages": [{"role": "tool", "content": "a"}]}, "messages.0.role"),
        ({"messages": [{"content": "a"}]}, "messages.0.role"),
        ({"messages": [{"role": "user"}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": 7}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": ["a"]}]}, "messages.0.content.0"),
        ({"messages": [{"role": "user", "content": [{"text": "a"}]}]}, "messages.0.content.0.type"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages.0.content.0.text"),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "messages.0.content.0.source"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "base64"}}]}]},
            "messages.0.content.0.source.media_type",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": [{}]}]}]},
            "messages.0.content.0.content.0.type",
        ),
        ({"system": 7}, "system"),
        ({"system": [{"type": "text", "text": 7}]}, "system.0.text"),
        ({"tools": [{"description": "d"}]}, "tools.0.name"),
        ({"tools": [{"name": "f", "strict": "yes"}]}, "tools.0.strict"),
        ({"tool_choice": {"type": "some"}}, "tool_choice.type"),
        ({"tool_choice": "auto"}, "tool_choice"),
        ({"thinking": {"type": "enabled", "budget_tokens": "many"}}, "thinking.budget_tokens"),
        ({"output_config": {"format": {"type": "json_schema"}}}, "output_config.format.schema"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"temperature": "hot"}, "temperature"),
        ({"stop_sequences": [1]}, "stop_sequences"),
        ({"metadata": {"user_id": 7}}, "metadata.user_id"),
        ({"cache_control": {"type": "ephemeral", "ttl": 5}}, "cache_control.ttl"),
    ],
)
def test_a_fault_is_named_by_its_path_in_anthropics_spelling(change: dict[str, Any], param: str):
    with pytest.raises(BadRequest) as caught:
        decode({"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "a"}], **change})
    assert caught.value.param == param
    assert caught.value.message.startswith(f"{param}: ")


@pytest.mark.parametrize("body", [b"", b"[]", b"\xff", b'{"model":"m","messages":[' + b"[" * 100_000])
def test_a_body_that_is_no_object_is_the_callers_mistake(body: bytes):
    with pytest.raises(BadRequest):
        DIALECT.decode_request(body)


def test_nesting_that_is_too_deep_is_the_callers_mistake():
    for depth in (400, 470, 480, 490, 495, 500, 3_000):
        block = b'{"type":"tool_result","tool_use_id":"t","content":[' * depth
        body = b'{"model":"m","messages":[{"role":"user","content":[' + block + b"]}" * depth + b"]}]}"
        with contextlib.suppress(BadRequest):  # what is not too deep is fine; nothing else may be raised
            DIALECT.decode_request(body)
    with pytest.raises(BadRequest, match="too deep"):
        DIALECT.decode_request(body)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["type", "role", "content", "text", "source", "model", "messages", "system", "tools"]), inner)))  # fmt: skip
def test_no_json_makes_the_decoder_fail_in_any_other_way(value: object):
    body = {"model": "m", "messages": [{"role": "user", "content": value}], "system": value, "tools": value}
    for candidate in (value, body, {**body, "system": None, "tools": None}):
        try:
            request = decode(candidate)
        except BadRequest:
            continue
        DIALECT.encode_request(request, TRAITS, Receipt())


# ------------------------------------------------------------------------------------------------- from other dialects


def test_the_leading_system_messages_stand_apart():
    out, receipt = encode(
        asked(
            Message("system", (Text("a"),)),
            Message("developer", (Text("b", cache=CacheMarker()),)),
            Message("user", (Text("c"),)),
        )
    )
    assert out["system"] == [
        {"type": "text", "text": "a"},
        {"type": "text", "text": "b", "cache_control": {"type": "ephemeral"}},
    ]
    assert out["messages"] == [{"role": "user", "content": "c"}]
    assert receipt == ""


def test_a_system_message_holds_only_text():
    kept = Foreign("anthropic", "text", msgspec.Raw(b'{"type":"text","text":"b"}'))
    message = Message("system", (Text("", cache=CacheMarker()), Refusal("a"), kept, Image(Remote("u"))))
    out, receipt = encode(asked(message, Message("user", (Text("c"),))))
    assert [block["text"] for block in out["system"]] == ["a", "b"]
    assert receipt == (
        "dropped messages[0].content[0].cache_control: there is no text to mark; "
        "dropped messages[0].content[3]: a system prompt holds only text"
    )


def test_a_later_system_message_keeps_its_role_or_becomes_the_users_text():
    request = asked(Message("user", (Text("a"),)), Message("system", (Text("b"),)))
    assert encode(request)[0]["messages"][1] == {"role": "system", "content": "b"}

    out, receipt = encode(request, AnthropicTraits(system_in_messages=False))
    assert out["messages"] == [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "a"},
                {"type": "text", "text": "<system-reminder>\nb\n</system-reminder>"},
            ],
        }
    ]
    assert receipt.startswith("changed messages[1]")


def test_a_conversation_of_only_a_system_message_becomes_a_users_turn():
    out, receipt = encode(asked(Message("system", (Text("Say hello."),))))
    assert "system" not in out
    assert out["messages"] == [{"role": "user", "content": "Say hello."}]
    assert receipt.startswith("changed messages[0]")


CALLS = Message("assistant", (ToolCall("a", "f", '{"x":1}'), ToolCall("b", "f", "")))


@pytest.mark.parametrize("between", ["system", "user"])
@pytest.mark.parametrize("in_messages", [True, False])
def test_all_results_of_a_turn_come_in_one_user_turn_right_after_it_and_first(between: Any, in_messages: bool):
    out, _ = encode(
        asked(
            Message("user", (Text("go"),)),
            CALLS,
            Message(between, (Text("note"),)),
            Message("tool", (ToolResult("a", (Text("1"),)),)),
            Message("tool", (ToolResult("b", (Text("2"),), is_error=True),)),
            Message("user", (Text("more"),)),
        ),
        AnthropicTraits(system_in_messages=in_messages),
    )
    _, calls, results, *_ = out["messages"]
    assert [block["input"] for block in calls["content"]] == [{"x": 1}, {}]
    assert results["role"] == "user"
    assert results["content"][:2] == [
        {"type": "tool_result", "tool_use_id": "a", "content": "1"},
        {"type": "tool_result", "tool_use_id": "b", "content": "2", "is_error": True},
    ]
    roles = [turn["role"] for turn in out["messages"]]
    assert all(one != other for one, other in itertools.pairwise(roles))
    assert all(not any("note" in str(b) for b in turn["content"]) for turn in out["messages"][:2])


def test_ids_that_anthropic_refuses_are_mapped_alike_for_call_and_result():
    out, receipt = encode(
        asked(Message("assistant", (ToolCall("call:1/é", "f", "{}"),)), Message("tool", (ToolResult("call:1/é", ()),)))
    )
    call, result = out["messages"][0]["content"][0], out["messages"][1]["content"][0]
    assert call["id"] == result["tool_use_id"]
    assert call["id"].startswith("toolu_")
    assert call["id"].replace("_", "").isalnum()
    assert receipt == ""


@pytest.mark.parametrize("arguments", ['{"a": "cu', "[1]", "7", "NaN", '{"a":' + "[" * 5_000])
def test_arguments_that_are_no_object_are_kept_as_text(arguments: str):
    out, receipt = encode(asked(Message("user", (Text("a"),)), Message("assistant", (ToolCall("a", "f", arguments),))))
    assert out["messages"][1]["content"][0]["input"] == {"_raw": arguments}
    assert receipt.startswith("changed messages[1].content[0]")


def test_a_free_form_call_becomes_a_call_with_one_text():
    out, _ = encode(asked(Message("assistant", (ToolCall("a", "f", "*** patch", custom=True),))))
    assert out["messages"][0]["content"][0]["input"] == {"input": "*** patch"}


def test_thinking_goes_back_only_with_its_signature():
    out, receipt = encode(
        asked(
            Message("user", (Text("a"),)),
            Message(
                "assistant",
                (
                    Thinking("unsigned"),
                    Thinking("signed", Opaque("s", "anthropic")),
                    RedactedThinking(Opaque("x", "anthropic")),
                    Text("b"),
                ),
            ),
            Message("user", (Text("c"),)),
        )
    )
    assert [block["type"] for block in out["messages"][1]["content"]] == ["thinking", "redacted_thinking", "text"]
    assert receipt == "dropped messages[1].content[0]: Anthropic takes back only thinking that it signed"


def test_blank_text_is_left_out_and_its_marker_moves_to_what_comes_before():
    out, receipt = encode(
        asked(
            Message("user", (Text("a"), Text("", cache=CacheMarker()))),
            Message("assistant", (Text(""), ToolCall("t", "f", "{}"))),
            Message("tool", (ToolResult("t", (Text(""),)),)),
            Message("assistant", (Text(""),)),
            Message("user", (Text(" \n"), Text("b"))),
        )
    )
    assert out["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}]},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t"}, {"type": "text", "text": "b"}]},
    ]
    assert receipt == "dropped messages[4].content[0]: Anthropic refuses text of blanks only"


def test_a_prefill_loses_its_trailing_blanks():
    out, receipt = encode(asked(Message("user", (Text("a"),)), Message("assistant", (Text("Sure: \n"),))))
    assert out["messages"][1] == {"role": "assistant", "content": "Sure:"}
    assert receipt.startswith("changed messages[-1]")


def test_material_that_anthropic_cannot_take_is_dropped_with_a_word():
    citation = Citation(url="https://x.test")
    out, receipt = encode(
        asked(
            Message(
                "user",
                (
                    Text("a"),
                    Audio("aGk=", "wav"),
                    Image(StoredFile("file-1", "openai_chat")),
                    Document(Inline("text/csv", "aGk=")),
                    Image(Remote("https://x.test/a.png"), detail="low"),
                    Foreign("openai_chat", "x", msgspec.Raw(b"{}")),
                    Document(StoredFile("file-2", "openai_chat")),
                ),
                name="bob",
            ),
            Message("assistant", (Refusal("No."), Text("b", citations=(citation,)), Image(Remote("https://x.test")))),
            Message("user", (Text("c"),), extra=Extra("openai_chat", {"weight": msgspec.Raw(b"1")})),
        )
    )
    assert out["messages"][0]["content"] == [
        {"type": "text", "text": "a"},
        {"type": "image", "source": {"type": "url", "url": "https://x.test/a.png"}},
    ]
    assert [block["text"] for block in out["messages"][1]["content"]] == ["No.", "b"]
    for place in (
        "messages[0].name",
        "messages[0].content[1]",
        "messages[0].content[2]",
        "messages[0].content[3]",
        "messages[0].content[4].detail",
        "messages[0].content[5]",
        "messages[0].content[6]",
        "messages[1].content[1].citations",
        "messages[1].content[2]",
        "messages[2].weight",
    ):
        assert f"dropped {place}:" in receipt


def test_providers_without_images_documents_or_schemas_get_none():
    traits = AnthropicTraits(images=False, documents=False, structured_output="none", max_cache_markers=0)
    schema = msgspec.Raw(b"{}")
    message = Message("user", (Text("a", cache=CacheMarker()), Image(Remote("u")), Document(Remote("u"))))
    out, receipt = encode(
        asked(
            message,
            tools=(Tool(name="f", strict=True),),
            response_format=JsonSchema(schema=schema),
            cache=CacheMarker(),
        ),
        traits,
    )
    assert out["messages"] == [{"role": "user", "content": "a"}]
    assert "strict" not in out["tools"][0]
    assert not {"output_config", "cache_control"} & out.keys()
    for place in (
        "messages[0].content[1]",
        "messages[0].content[2]",
        "tools[0].strict",
        "response_format",
        "cache_control",
    ):
        assert f"dropped {place}:" in receipt


def test_of_many_cache_markers_those_remain_that_cover_most():
    """The last one of what all conversations share, and the last ones; an hour never behind five minutes."""
    marked = CacheMarker()
    request = asked(
        Message("system", (Text("s", cache=marked),)),
        *(Message("user", (Text(str(n), cache=marked),)) for n in range(3)),
        tools=(Tool(name="f", cache=marked), Tool(name="g", cache=marked)),
    )
    out, receipt = encode(request)
    assert json.dumps(out).count("cache_control") == 4
    assert "cache_control" not in str(out["tools"])
    assert receipt == "dropped cache_control: 2 of 6 markers, as no more fit"

    with_top_level, receipt = encode(msgspec.structs.replace(request, cache=CacheMarker("1h")))
    assert json.dumps(with_top_level).count("cache_control") == 4
    assert "cache_control" in str(with_top_level["system"])
    assert "cache_control" not in str(with_top_level["messages"][0]["content"][0])
    assert with_top_level["cache_control"] == {"type": "ephemeral"}
    assert receipt == (
        "dropped cache_control: 3 of 7 markers, as no more fit; "
        "changed cache_control: an hour is said as five minutes behind a marker of five, as longer ones come first"
    )


def test_cache_markers_in_order_stay_as_they_are():
    request = asked(
        Message("system", (Text("s", cache=CacheMarker("1h")),)),
        Message("user", (Text("a", cache=CacheMarker("5m")),)),
        tools=(Tool(name="f", cache=CacheMarker("1h")),),
        cache=CacheMarker(),
    )
    out, receipt = encode(request)
    assert out["tools"][0]["cache_control"] == out["system"][0]["cache_control"] == {"type": "ephemeral", "ttl": "1h"}
    assert out["messages"][0]["content"][0]["cache_control"] == {"type": "ephemeral", "ttl": "5m"}
    assert out["cache_control"] == {"type": "ephemeral"}
    assert receipt == ""


@pytest.mark.parametrize(
    ("choice", "parallel", "expected"),
    [
        (None, None, None),
        (None, True, None),
        (None, False, {"type": "auto", "disable_parallel_tool_use": True}),
        (ToolChoice("auto"), None, {"type": "auto"}),
        (ToolChoice("required"), False, {"type": "any", "disable_parallel_tool_use": True}),
        (ToolChoice("none"), False, {"type": "none"}),
        (ToolChoice("named", "f"), True, {"type": "tool", "name": "f", "disable_parallel_tool_use": False}),
    ],
)
def test_tool_choice(choice: ToolChoice | None, parallel: bool | None, expected: object):
    out, receipt = encode(asked(tools=(Tool(name="f"),), tool_choice=choice, parallel_tool_calls=parallel))
    assert out.get("tool_choice") == expected
    assert out["tools"] == [{"name": "f", "input_schema": {"type": "object", "properties": {}}}]
    assert receipt == ""


def test_a_choice_without_tools_is_left_out():
    assert encode(asked(tool_choice=ToolChoice("auto")))[1] == ""
    foreign = ForeignTool("openai_responses", "web_search", msgspec.Raw(b"{}"))
    out, receipt = encode(asked(tools=(foreign,), tool_choice=ToolChoice("required")))
    assert not {"tools", "tool_choice"} & out.keys()
    assert "dropped tools[0]:" in receipt
    assert "dropped tool_choice:" in receipt


def test_a_tools_schema_gets_the_type_that_anthropic_demands():
    out, _ = encode(asked(tools=(Tool(name="f", schema=msgspec.Raw(b'{"properties":{}}')),)))
    assert out["tools"][0]["input_schema"] == {"type": "object", "properties": {}}


@pytest.mark.parametrize(
    ("reasoning", "traits", "expected", "noted"),
    [
        (
            Reasoning(effort="low"),
            TRAITS,
            {"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}},
            False,
        ),
        (
            Reasoning(effort="minimal"),
            TRAITS,
            {"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}},
            True,
        ),
        (Reasoning(effort="none"), TRAITS, {"thinking": {"type": "disabled"}}, False),
        (Reasoning(effort="utmost"), TRAITS, {"thinking": {"type": "adaptive"}}, True),
        (
            Reasoning(mode="enabled", budget_tokens=8_000),
            TRAITS,
            {"thinking": {"type": "enabled", "budget_tokens": 8_000}},
            False,
        ),
        (
            Reasoning(mode="enabled", budget_tokens=8_000),
            AnthropicTraits(thinking="adaptive"),
            {"thinking": {"type": "adaptive"}, "output_config": {"effort": "medium"}},
            True,
        ),
        (Reasoning(effort="low"), BUDGET, {"thinking": {"type": "enabled", "budget_tokens": 2_048}}, False),
        (Reasoning(effort="high"), BUDGET, {"thinking": {"type": "enabled", "budget_tokens": 5_000}}, True),
        (
            Reasoning(mode="enabled", budget_tokens=10, display="omitted"),
            BUDGET,
            {"thinking": {"type": "enabled", "budget_tokens": 1_024, "display": "omitted"}},
            False,
        ),
        (Reasoning(effort="low"), AnthropicTraits(thinking="none"), {}, True),
        (Reasoning(effort="none"), AnthropicTraits(thinking="none"), {}, False),
    ],
)
def test_how_hard_to_think_is_told_in_the_providers_terms(
    reasoning: Reasoning, traits: AnthropicTraits, expected: dict[str, Any], noted: bool
):
    out, receipt = encode(asked(reasoning=reasoning, max_output_tokens=10_000), traits)
    assert {name: out[name] for name in ("thinking", "output_config") if name in out} == expected
    assert bool(receipt) == noted


def test_thinking_never_takes_the_whole_output_limit():
    out, _ = encode(asked(reasoning=Reasoning(effort="high")), BUDGET)
    assert out["max_tokens"] > out["thinking"]["budget_tokens"]
    out, receipt = encode(asked(reasoning=Reasoning(effort="high"), max_output_tokens=1_500), BUDGET)
    assert "thinking" not in out
    assert "dropped reasoning: the output limit" in receipt


def test_thinking_is_left_out_where_anthropic_would_refuse_it():
    tools = (Tool(name="f"),)
    out, receipt = encode(
        asked(reasoning=Reasoning(effort="low"), tools=tools, tool_choice=ToolChoice("required")), BUDGET
    )
    assert "thinking" not in out
    assert "forced" in receipt

    under_way = (Message("user", (Text("a"),)), CALLS, Message("tool", (ToolResult("a", ()),)))
    out, receipt = encode(asked(*under_way, reasoning=Reasoning(effort="low"), tools=tools), BUDGET)
    assert "thinking" not in out
    assert "under way" in receipt


def test_sampling_is_brought_into_range():
    out, receipt = encode(asked(temperature=1.7, top_p=0.5, top_k=3), AnthropicTraits())
    assert (out["temperature"], out["top_k"]) == (1.0, 3)
    assert "top_p" not in out
    assert "changed temperature: 1.7" in receipt
    assert "dropped top_p" in receipt

    out, receipt = encode(asked(temperature=0.2, top_p=0.5, top_k=3, reasoning=Reasoning(effort="low")))
    assert not {"temperature", "top_p", "top_k"} & out.keys()
    assert receipt.count("dropped") == 3


def test_what_anthropic_has_no_field_for_is_listed():
    out, receipt = encode(
        asked(
            seed=1,
            presence_penalty=0.5,
            frequency_penalty=0.5,
            logprobs=True,
            choices=2,
            prompt_cache_key="k",
            service_tier="flex",
            user="me@x.test",
            stop=(" ", "END"),
            response_format=JsonObject(),
            extra=Extra("openai_chat", {"logit_bias": msgspec.Raw(b"{}")}),
        )
    )
    assert out == {
        "model": "m",
        "max_tokens": 8_192,
        "messages": [{"role": "user", "content": "hi"}],
        "stop_sequences": ["END"],
    }
    for name in (
        "seed",
        "presence_penalty",
        "frequency_penalty",
        "logprobs",
        "n",
        "prompt_cache_key",
        "service_tier",
        "user",
        "stop",
        "response_format",
        "logit_bias",
    ):
        assert f" {name}:" in receipt


def test_priority_is_asked_for_in_anthropics_way():
    out, receipt = encode(asked(service_tier="priority"))
    assert out["service_tier"] == "auto"
    assert receipt.startswith("changed service_tier")


def test_a_tools_own_extras_of_another_dialect_are_listed():
    tool = Tool(name="f", extra=Extra("openai_chat", {"x": msgspec.Raw(b"1")}))
    assert encode(asked(tools=(tool,)))[1] == "dropped tools[0].x: Anthropic's dialect has no such field"


def test_harmless_defaults_of_other_dialects_are_no_loss():
    out, receipt = encode(
        asked(
            presence_penalty=0.0, frequency_penalty=0.0, temperature=0.3, top_p=1.0, service_tier="default", user="u"
        ),
        AnthropicTraits(),
    )
    assert receipt == ""
    assert (out["temperature"], out["service_tier"], out["metadata"]) == (0.3, "standard_only", {"user_id": "u"})


def test_fields_that_the_provider_refuses_are_dropped_with_a_word():
    out, receipt = encode(asked(temperature=0.5), AnthropicTraits(drop_fields=frozenset({"temperature", "top_k"})))
    assert "temperature" not in out
    assert receipt == "dropped temperature: the provider refuses it"


# ------------------------------------------------------------------------------------------------------------ counting


def test_a_format_from_the_future_is_kept():
    body = {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "a"}]}
    future = {**body, "output_config": {"format": {"type": "xml_schema", "schema": "x"}}}
    assert encode(decode(future))[0] == future


def test_a_count_asks_only_what_its_endpoint_takes():
    receipt = Receipt()
    out = json.loads(encode_count_request(decode(EVERYTHING), TRAITS, receipt))
    assert out["messages"] == EVERYTHING["messages"]
    assert not {"max_tokens", "stream", "temperature", "metadata", "stop_sequences", "service_tier"} & out.keys()


def test_a_count_is_read_and_written():
    (recording,) = recordings("anthropic-count-tokens")
    assert decode_count(recording.response.body) == 671
    assert decode_count(encode_count(671)) == 671
    for bad in (b"", b"{}", b"[]", b'{"input_tokens":"x"}'):
        with pytest.raises(UpstreamMalformed):
            decode_count(bad)
