"""A model that can only be made to call a tool gets tools where a call is demanded, and the receipt says so where not."""

from dataclasses import replace

import msgspec
import pytest

from tollhouse.chat.receipt import Receipt
from tollhouse.dialects.openai_chat import DIALECT, OPENAI
from tollhouse.dialects.openai_chat.tool_choice import demands_call

ONLY_FORCED = replace(OPENAI, tool_choice_free=False)
TOOL = {"type": "function", "function": {"name": "ping", "parameters": {"type": "object", "properties": {}}}}
NAMED = {"type": "function", "function": {"name": "ping"}}
OF_TOOLS = {"tools", "tool_choice", "parallel_tool_calls", "functions", "function_call"}

FREE = [None, "auto", "none", {"type": "auto"}, {"type": "allowed_tools", "allowed_tools": {"mode": "auto"}}]
DEMANDS = ["required", "any", NAMED, {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [NAMED]}}]


def body(choice: object, **fields: object) -> bytes:
    request = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "tools": [TOOL], **fields}
    if choice is not None:
        request["tool_choice"] = choice
    return msgspec.json.encode(request)


def sent(request: bytes, lane: str) -> tuple[set[str], str]:
    """The fields about tools that reach the model, and the receipt."""
    receipt = Receipt()
    if lane == "same":
        out = DIALECT.patch(DIALECT.peek(request), "m", ONLY_FORCED, receipt)
    else:
        out = DIALECT.encode_request(DIALECT.decode_request(request), ONLY_FORCED, receipt)
    return OF_TOOLS & msgspec.json.decode(out, type=dict[str, msgspec.Raw]).keys(), receipt.header()


@pytest.mark.parametrize("lane", ["same", "translated"])
@pytest.mark.parametrize("choice", FREE)
def test_tools_that_need_not_be_called_are_left_out_with_a_word(choice: object, lane: str) -> None:
    fields, receipt = sent(body(choice, parallel_tool_calls=True), lane)
    assert fields == set()
    assert receipt.startswith("dropped tools: ")
    assert ";" not in receipt


@pytest.mark.parametrize("lane", ["same", "translated"])
@pytest.mark.parametrize("choice", DEMANDS)
def test_tools_of_which_one_must_be_called_reach_the_model_without_a_word(choice: object, lane: str) -> None:
    assert sent(body(choice), lane) == ({"tools", "tool_choice"}, "")


@pytest.mark.parametrize("tools", [[], None])
def test_no_tools_are_no_loss(tools: object) -> None:
    assert sent(body(None, tools=tools), "same") == (set(), "")


def test_functions_from_before_there_were_tools_are_named_too() -> None:
    request = {"model": "m", "messages": [], "functions": [TOOL["function"]], "function_call": {"name": "ping"}}
    fields, receipt = sent(msgspec.json.encode(request), "same")
    assert fields == set()
    assert receipt.count("knows only `tools`") == 2


def test_what_nobody_understands_is_a_demand() -> None:
    """It is left to whoever has to meet it, who says what is wrong with it; dropped, it would be lost."""
    assert demands_call(msgspec.Raw(b"7"))
    assert demands_call(msgspec.Raw(b'{"type":"web_search"}'))
