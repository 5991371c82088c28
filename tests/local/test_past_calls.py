"""Earlier calls and their results in words."""

import pytest

from tollhouse.dialects.openai_chat.wire import Json
from tollhouse.local.past_calls import told_in_words


def call(call_id: str, name: str, arguments: str) -> Json:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def result(call_id: str, content: Json) -> Json:
    return {"role": "tool", "tool_call_id": call_id, "content": content}


CALLS: Json = {
    "role": "assistant",
    "content": "Let me see.",
    "tool_calls": [call("a", "x", '{"n":1}'), call("b", "y", "")],
}
SAID: Json = {"role": "assistant", "content": 'Let me see.\nI call x with {"n":1}.\nI call y with {}.'}


def test_a_conversation_without_calls_stays_as_it_is() -> None:
    turns: list[Json] = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "tool"}]},
        {"role": "assistant", "content": "No."},
    ]
    assert told_in_words(turns) == turns


def test_calls_follow_what_was_said_beside_them() -> None:
    assert told_in_words([CALLS]) == [SAID]


def test_results_are_one_turn_of_the_user_s_in_their_order() -> None:
    """Some templates insist on turns of the user and the model, one after the other."""
    told = told_in_words([CALLS, result("b", "2"), result("a", [{"type": "text", "text": "1"}]), result("c", None)])
    assert told == [SAID, {"role": "user", "content": "Result of y: 2\n\nResult of x: 1\n\nResult of the call: "}]


@pytest.mark.parametrize(
    ("content", "whole"),
    [
        ("And?", "Result of x: 1\n\nAnd?"),
        (
            [{"type": "text", "text": "And?"}],
            [{"type": "text", "text": "Result of x: 1"}, {"type": "text", "text": "And?"}],
        ),
    ],
)
def test_what_the_user_says_to_results_is_the_same_turn(content: Json, whole: Json) -> None:
    told = told_in_words([CALLS, result("a", "1"), {"role": "user", "content": content}])
    assert told == [SAID, {"role": "user", "content": whole}]


def test_the_next_turn_of_the_model_s_comes_after_the_results() -> None:
    told = told_in_words([CALLS, result("a", "1"), {"role": "assistant", "content": "One."}])
    assert told[1:] == [{"role": "user", "content": "Result of x: 1"}, {"role": "assistant", "content": "One."}]


@pytest.mark.parametrize("broken", [7, {"role": "assistant", "tool_calls": [7, {"id": "a"}]}, {"role": "tool"}])
def test_what_is_no_message_is_left_to_who_knows_better(broken: Json) -> None:
    assert len(told_in_words([broken])) == 1
