import itertools
import re
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollhouse.errors import BadRequest
from tollhouse.local.tools import CallScanner, Fold, rewrite_request

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"$ref": "#/$defs/City"}},
            "required": ["city"],
            "$defs": {"City": {"type": "string"}},
        },
    },
}
PING = {"type": "function", "function": {"name": "ping"}}
NAMED = {"type": "function", "function": {"name": "get_weather"}}
ASK = {"role": "user", "content": "Weather in Paris?"}
CALL = '{\n "name": "get_weather" ,\n "arguments" : {"city": "}\\"{", "days": [1, {"a": []}]}\n }'
ARGUMENTS = '{"city": "}\\"{", "days": [1, {"a": []}]}'


def rewritten(**fields: object) -> tuple[dict[str, Any], Fold | None]:
    body, fold = rewrite_request(msgspec.json.encode({"model": "m", "messages": [ASK], **fields}))
    request: dict[str, Any] = msgspec.json.decode(body)
    return request, fold


def call_schema(request: dict[str, Any]) -> Any:
    return request["response_format"]["json_schema"]["schema"]


def test_a_request_without_tools_is_left_alone_byte_for_byte() -> None:
    body = b'{ "model" : "m", "messages": [], "seed": 12345678901234567890 }'
    assert rewrite_request(body) == (body, None)


@pytest.mark.parametrize("choice", [None, "auto", "none", {"type": "allowed_tools", "allowed_tools": {"mode": "auto"}}])
def test_tools_that_need_not_be_called_are_left_out(choice: object) -> None:
    request, fold = rewritten(tools=[WEATHER], tool_choice=choice, parallel_tool_calls=True, max_tokens=5)
    assert fold is None
    assert request == {"model": "m", "messages": [ASK], "max_tokens": 5}


@pytest.mark.parametrize(
    "choice",
    [
        NAMED,
        {"type": "tool", "name": "get_weather"},
        {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [NAMED]}},
    ],
)
def test_a_named_tool_becomes_the_only_possible_answer(choice: object) -> None:
    request, fold = rewritten(tools=[PING, WEATHER], tool_choice=choice, response_format={"type": "text"})
    assert fold is not None
    assert "tools" not in request
    assert "tool_choice" not in request
    schema = call_schema(request)
    assert schema["properties"]["name"] == {"const": "get_weather"}
    assert schema["required"] == ["name", "arguments"]


def test_references_in_parameters_follow_them_to_their_new_place() -> None:
    schema = call_schema(rewritten(tools=[WEATHER], tool_choice="required")[0])
    target = schema["properties"]["arguments"]["properties"]["city"]["$ref"]
    assert target == "#/properties/arguments/$defs/City"
    assert schema["properties"]["arguments"]["$defs"]["City"] == {"type": "string"}

    both = call_schema(rewritten(tools=[PING, WEATHER], tool_choice="required")[0])
    weather = both["anyOf"][1]["properties"]["arguments"]
    assert weather["properties"]["city"]["$ref"] == "#/anyOf/1/properties/arguments/$defs/City"


def test_a_tool_without_parameters_takes_an_empty_object_and_not_any_json() -> None:
    schema = call_schema(rewritten(tools=[PING], tool_choice="required")[0])
    assert schema["properties"]["arguments"] == {"type": "object", "properties": {}, "additionalProperties": False}


def test_the_model_is_told_what_it_may_call() -> None:
    request, _ = rewritten(tools=[WEATHER, PING], tool_choice="required")
    assert request["messages"][1:] == [ASK]
    assert request["messages"][0]["role"] == "system"
    assert "get_weather: The weather of a city" in request["messages"][0]["content"]
    assert "ping" in request["messages"][0]["content"]


def test_the_client_s_own_system_prompt_stays_first() -> None:
    request, _ = rewritten(
        messages=[{"role": "system", "content": "Be brief."}, ASK], tools=[PING], tool_choice="required"
    )
    assert [message["role"] for message in request["messages"]] == ["system", "user"]
    assert re.match(r"Be brief\.\n\n.*ping", request["messages"][0]["content"], re.DOTALL)


@pytest.mark.parametrize(
    ("tools", "choice", "reason"),
    [
        ([PING], NAMED, "no function is named 'get_weather'"),
        ([], "required", "there is none"),
        ([{"type": "web_search"}], "required", "there is none"),
        ("many", "required", "cannot be read"),
        ([PING], 7, "cannot be read"),
        ([{"type": "custom", "custom": {"name": "get_weather"}}], {"type": "custom"}, "there is none"),
        ([PING], {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": []}}, "there is none"),
    ],
)
def test_a_demand_that_no_tool_meets_is_the_caller_s_mistake(tools: object, choice: object, reason: str) -> None:
    with pytest.raises(BadRequest, match=reason):
        rewritten(tools=tools, tool_choice=choice)


def test_a_demand_without_any_tools_is_the_caller_s_mistake() -> None:
    with pytest.raises(BadRequest, match="there is none"):
        rewritten(tool_choice="required")


@pytest.mark.parametrize("choice", ["always", {"type": "function"}])
def test_a_demand_that_nobody_understands_is_refused_and_not_forgotten(choice: object) -> None:
    with pytest.raises(BadRequest):
        rewritten(tools=[PING], tool_choice=choice)


def test_a_system_prompt_in_parts_gets_one_more() -> None:
    parts = [{"type": "text", "text": "Be brief."}]
    request, _ = rewritten(messages=[{"role": "system", "content": parts}, ASK], tools=[PING], tool_choice="required")
    first, *rest = request["messages"]
    assert first["content"][:-1] == parts
    assert "ping" in first["content"][-1]["text"]
    assert rest == [ASK]


def test_a_schema_of_absurd_depth_is_refused() -> None:
    schema: dict[str, object] = {"type": "object"}
    for _ in range(100):
        schema = {"type": "object", "properties": {"x": schema}}
    deep = {"type": "function", "function": {"name": "deep", "parameters": schema}}
    with pytest.raises(BadRequest, match="deep"):
        rewritten(tools=[deep], tool_choice="required")


@given(st.sets(st.integers(1, len(CALL) - 1)))
def test_a_call_reads_the_same_however_it_is_cut(cuts: set[int]) -> None:
    scanner = CallScanner()
    edges = [0, *sorted(cuts), len(CALL)]
    arguments = "".join(scanner.feed(CALL[start:end]) for start, end in itertools.pairwise(edges))
    assert (scanner.name, arguments, scanner.is_complete, scanner.take_unread()) == ("get_weather", ARGUMENTS, True, "")


def test_arguments_that_are_a_bare_value_end_before_the_call_does() -> None:
    scanner = CallScanner()
    assert scanner.feed('{"name":"n","arguments":5}') == "5"
    assert scanner.is_complete


def answer(content: str | None, finish: str = "stop") -> bytes:
    message = {"role": "assistant", "content": content}
    choice = {"index": 0, "finish_reason": finish, "message": message}
    return msgspec.json.encode({"id": "chatcmpl-abc", "choices": [choice], "usage": {"prompt_tokens": 3}})


def test_a_whole_answer_becomes_a_tool_call() -> None:
    folded = msgspec.json.decode(Fold().response(answer(CALL)))
    assert folded["usage"] == {"prompt_tokens": 3}
    assert folded["choices"] == [
        {
            "index": 0,
            "finish_reason": "tool_calls",
            "message": {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {
                        "id": "call_abc_0",
                        "type": "function",
                        "function": {"name": "get_weather", "arguments": ARGUMENTS},
                    }
                ],
            },
        }
    ]


def test_a_call_that_the_length_limit_cut_stays_cut() -> None:
    folded = msgspec.json.decode(Fold().response(answer(CALL[:60], "length")))["choices"][0]
    assert folded["finish_reason"] == "length"
    assert ARGUMENTS.startswith(folded["message"]["tool_calls"][0]["function"]["arguments"])


@pytest.mark.parametrize(
    "body", [b'{"error":{"code":400,"message":"too long"}}', b"<html>", b"[]", answer('{"na', "length"), answer(None)]
)
def test_what_is_no_call_passes_unchanged(body: bytes) -> None:
    passed = Fold().response(body)
    assert passed == body or msgspec.json.decode(passed) == msgspec.json.decode(body)


def chunk(delta: dict[str, object], finish: str | None = None) -> bytes:
    return msgspec.json.encode(
        {"id": "chatcmpl-abc", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}
    )


def folded_stream(pieces: list[str], finish: str = "stop") -> list[dict[str, Any]]:
    stream = Fold().stream()
    payloads = [chunk({"role": "assistant", "content": None}), *(chunk({"content": piece}) for piece in pieces)]
    payloads += [chunk({}, finish), b'{"choices":[],"usage":{"prompt_tokens":3}}', b"[DONE]"]
    out = [data for payload in payloads for data in stream.feed(payload)]
    assert out[-2:] == payloads[-2:]
    return [msgspec.json.decode(data)["choices"][0] for data in out[:-2]]


@given(st.sets(st.integers(1, len(CALL) - 1)))
def test_a_streamed_answer_becomes_a_streamed_tool_call(cuts: set[int]) -> None:
    edges = [0, *sorted(cuts), len(CALL)]
    choices = folded_stream([CALL[start:end] for start, end in itertools.pairwise(edges)])

    assert choices[0]["delta"] == {"role": "assistant", "content": None}
    calls = [choice["delta"]["tool_calls"][0] for choice in choices[1:-1]]
    assert (calls[0]["id"], calls[0]["type"], calls[0]["function"]["name"]) == ("call_abc_0", "function", "get_weather")
    assert all(call["index"] == 0 and "id" not in call for call in calls[1:])
    assert "".join(call["function"]["arguments"] for call in calls) == ARGUMENTS
    assert (choices[-1]["delta"], choices[-1]["finish_reason"]) == ({}, "tool_calls")


def test_a_stream_cut_before_it_became_a_call_gives_its_text() -> None:
    choices = folded_stream(["{", '"na'], finish="length")
    assert [choice["delta"].get("content") for choice in choices] == [None, '{"na', None]
    assert [choice["finish_reason"] for choice in choices] == [None, None, "length"]


def test_a_stream_that_is_no_call_is_not_held_back_for_ever() -> None:
    """However it comes to that; the grammar forbids it."""
    pieces = ["word " * 500] * 3
    choices = folded_stream(pieces)
    said = [choice["delta"].get("content") or "" for choice in choices]
    assert said == ["", "word " * 1000, "word " * 500, ""]
    assert choices[-1]["finish_reason"] == "stop"


def test_a_stream_cut_within_the_arguments_says_length() -> None:
    choices = folded_stream([CALL[:60]], finish="length")
    assert choices[-1]["finish_reason"] == "length"
