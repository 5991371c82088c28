"""Anthropic requests and whole answers on the same-dialect lane."""

import json

import pytest

from support.recordings import Recording, by_id, recordings
from tollhouse.chat.receipt import Receipt
from tollhouse.dialects.anthropic import DIALECT, AnthropicTraits
from tollhouse.errors import BadRequest, StreamFailed, UpstreamMalformed

WHOLE = [r for r in recordings("anthropic-messages", stream=False, error=False) if r.fidelity["response"] != "absent"]
TRAITS = AnthropicTraits()
FOLDING = AnthropicTraits(system_in_messages=False)


def test_peek_reads_the_top_level_only():
    peek = DIALECT.peek(b'{"model":"smart","stream":true,"max_tokens":99,"messages":"not what they should be"}')
    assert (peek.model, peek.stream, peek.max_output_tokens, peek.choices) == ("smart", True, 99, 1)
    assert peek.include_usage


def test_nulls_count_as_absent():
    peek = DIALECT.peek(b'{"model":"m","stream":null,"max_tokens":null,"system":null}')
    assert (peek.stream, peek.max_output_tokens) == (False, None)


@pytest.mark.parametrize(
    "body", [b'{"model":"a"}', b'{"model":"a","max_tokens":900}', b'{"model":"a","max_tokens":null}']
)
def test_a_lowered_limit_takes_the_place_of_the_clients(body: bytes):
    assert DIALECT.patch(DIALECT.peek(body), "c", TRAITS, Receipt(), 77) == b'{"model":"c","max_tokens":77}'


def test_of_a_repeated_key_the_last_one_is_read_and_sent():
    peek = DIALECT.peek(b'{"model":"a","model":"b","max_tokens":1,"max_tokens":2}')
    assert peek.model == "b"
    assert DIALECT.patch(peek, "c", TRAITS, Receipt()) == b'{"model":"c","max_tokens":2}'


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"", None),
        (b"[]", None),
        (b"null", None),
        (b'{"model":', None),
        (b'{"model":"m"} x', None),
        (b'{"model":7}', "model"),
        (b'{"model":"m","stream":"yes"}', "stream"),
        (b'{"model":"m","max_tokens":"many"}', "max_tokens"),
        (b'{"model":"m","max_tokens":-1}', "max_tokens"),
        (b'{"model":"m","system":"\xff"}', None),
        (b'{"model":"m","x":' + b"[" * 100_000, None),
    ],
)
def test_a_body_that_cannot_be_read_is_the_callers_mistake(body: bytes, param: str | None):
    with pytest.raises(BadRequest) as caught:
        DIALECT.peek(body)
    assert caught.value.param == param


def test_patch_changes_the_model_and_no_other_byte_of_a_value():
    body = (
        b'{"model":"smart","messages": [ {"role":"user", "content":"\xc3\xa9 \\u00e9 1.0e2"} ],"new_thing":{"a" : 1}}'
    )
    patched = DIALECT.patch(DIALECT.peek(body), "claude-x", TRAITS, Receipt())
    assert patched == (
        b'{"model":"claude-x","messages":[ {"role":"user", "content":"\xc3\xa9 \\u00e9 1.0e2"} ],"new_thing":{"a" : 1}}'
    )


def test_patch_leaves_out_what_the_provider_refuses():
    peek = DIALECT.peek(b'{"model":"m","speed":"fast","messages":[]}')
    traits = AnthropicTraits(drop_fields=frozenset({"speed"}))
    assert DIALECT.patch(peek, "m", traits, Receipt()) == b'{"model":"m","messages":[]}'


def test_patch_folds_system_turns_for_a_provider_that_refuses_them():
    """Claude Code sends one after the first user turn for every model name that it does not know."""
    block = {"type": "text", "text": "env", "cache_control": {"type": "ephemeral"}}
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}, {"role": "system", "content": [block]}]}
    peek = DIALECT.peek(json.dumps(body).encode())

    assert json.loads(DIALECT.patch(peek, "m", TRAITS, Receipt())) == body
    folded = json.loads(DIALECT.patch(peek, "m", FOLDING, Receipt()))["messages"]
    assert folded == [
        {"role": "user", "content": "hi"},
        {"role": "user", "content": [{**block, "text": "<system-reminder>\nenv\n</system-reminder>"}]},
    ]


def test_messages_that_cannot_be_folded_are_the_callers_mistake():
    peek = DIALECT.peek(b'{"model":"m","messages":["system"]}')
    with pytest.raises(BadRequest) as caught:
        DIALECT.patch(peek, "m", FOLDING, Receipt())
    assert caught.value.param == "messages.0"


def test_a_folded_system_turn_never_parts_a_tool_call_from_its_result():
    call = {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {}}]}
    result = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t"}]}
    system = {"role": "system", "content": "note"}
    body = {"model": "m", "messages": [call, system, result, call, system]}
    folded = json.loads(DIALECT.patch(DIALECT.peek(json.dumps(body).encode()), "m", FOLDING, Receipt()))["messages"]

    reminder = {"role": "user", "content": "<system-reminder>\nnote\n</system-reminder>"}
    assert folded == [call, result, reminder, call, reminder]


@pytest.mark.parametrize("recording", WHOLE, ids=by_id)
def test_a_glance_reads_usage_and_finish_of_every_recorded_answer(recording: Recording):
    answer = recording.json
    usage = answer["usage"]
    glance = DIALECT.glance(recording.response.body, TRAITS)

    assert glance.error is None
    assert glance.usage.source == "reported"
    assert glance.usage.output_tokens == usage["output_tokens"]
    assert glance.usage.fresh_input_tokens == usage["input_tokens"]
    assert glance.usage.cache_read_tokens == usage["cache_read_input_tokens"]
    assert glance.finish == {"end_turn": "stop", "tool_use": "tool_calls"}[answer["stop_reason"]]


def test_an_error_in_a_200_body_is_an_error():
    glance = DIALECT.glance(b'{"type":"error","error":{"type":"overloaded_error","message":"Busy"}}', TRAITS)
    assert isinstance(glance.error, StreamFailed)
    assert (glance.error.message, glance.error.kind, glance.error.status) == ("Busy", "overloaded_error", 529)


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b'{"choices":[]}', b'{"type":"message","usage":{"input_tokens":"x"}}']
)
def test_an_answer_in_no_known_form_is_malformed(body: bytes):
    with pytest.raises(UpstreamMalformed):
        DIALECT.glance(body, TRAITS)


def test_what_a_model_refuses_is_left_out_with_a_word():
    traits = AnthropicTraits(drop_fields=frozenset({"temperature", "top_k"}))
    receipt = Receipt()
    DIALECT.patch(DIALECT.peek(b'{"model":"m","max_tokens":5,"temperature":0.5,"messages":[]}'), "m", traits, receipt)
    assert receipt.entries == ("dropped temperature: this model refuses it",)


def test_folding_a_system_turn_is_noted_and_the_mere_word_is_not():
    for role, entries in (("system", ("changed messages: system turns became text of the user's",)), ("user", ())):
        receipt = Receipt()
        body = {"model": "m", "messages": [{"role": role, "content": "system"}]}
        DIALECT.patch(DIALECT.peek(json.dumps(body).encode()), "m", FOLDING, receipt)
        assert receipt.entries == entries
