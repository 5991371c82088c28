"""The top level of a request is read, patched and otherwise left alone."""

from dataclasses import replace

import msgspec
import pytest

from support.recordings import Recording, by_id, recordings
from tollhouse.chat.receipt import Receipt
from tollhouse.dialects.openai_chat import DIALECT, OPENAI
from tollhouse.errors import BadRequest

REQUESTS = [r for r in recordings("openai-chat") if r.request.body is not None]


@pytest.mark.parametrize("recording", REQUESTS, ids=by_id)
def test_a_recorded_request_changes_in_nothing_but_model_and_usage(recording: Recording):
    body = recording.request.body
    assert body is not None
    sent = msgspec.json.decode(DIALECT.patch(DIALECT.peek(body), "the-model", OPENAI, Receipt()))
    expected = dict(recording.request_json, model="the-model")
    if expected.get("stream"):
        expected["stream_options"] = {**expected.get("stream_options", {}), "include_usage": True}
    assert sent == expected


def test_values_keep_their_very_bytes():
    body = b'{"messages": [ {"role":"user", "content":"\\u00e9"} ],"temperature":1.0e0,"model":"a"}'
    assert DIALECT.patch(DIALECT.peek(body), "b", OPENAI, Receipt()) == body.replace(
        b'"messages": [', b'"messages":['
    ).replace(b'"model":"a"', b'"model":"b"').replace(b'[ {"role"', b'[ {"role"')


def test_other_stream_options_stay():
    peek = DIALECT.peek(b'{"model":"m","stream":true,"stream_options":{"include_obfuscation":false}}')
    sent = msgspec.json.decode(DIALECT.patch(peek, "m", OPENAI, Receipt()))
    assert sent["stream_options"] == {"include_obfuscation": False, "include_usage": True}


def test_a_provider_that_refuses_the_option_is_not_asked():
    peek = DIALECT.peek(b'{"model":"m","stream":true}')
    assert "stream_options" not in msgspec.json.decode(
        DIALECT.patch(peek, "m", replace(OPENAI, asks_usage=False), Receipt())
    )


def test_fields_are_dropped_and_renamed_for_a_provider():
    traits = replace(OPENAI, drop_fields=frozenset({"store"}), rename_fields={"max_completion_tokens": "max_tokens"})
    sent = DIALECT.patch(DIALECT.peek(b'{"model":"m","store":true,"max_completion_tokens":5}'), "m", traits, Receipt())
    assert msgspec.json.decode(sent) == {"model": "m", "max_tokens": 5}
    both = DIALECT.patch(
        DIALECT.peek(b'{"model":"m","max_tokens":3,"max_completion_tokens":5}'), "m", traits, Receipt()
    )
    assert msgspec.json.decode(both) == {"model": "m", "max_tokens": 3}


@pytest.mark.parametrize(
    ("limits", "most"),
    [
        ({"max_tokens": 5}, 5),
        ({"max_completion_tokens": 5}, 5),
        ({"max_tokens": 900, "max_completion_tokens": 5}, 900),
        ({"max_tokens": 5, "max_completion_tokens": 900}, 900),
        ({"max_tokens": 5, "max_completion_tokens": None}, 5),
        ({}, None),
    ],
)
def test_of_two_limits_the_larger_is_what_an_answer_can_cost(limits: dict[str, int | None], most: int | None):
    """Servers that do not know the newer name go by the older one."""
    assert DIALECT.peek(msgspec.json.encode({"model": "m", **limits})).max_output_tokens == most


@pytest.mark.parametrize(
    "renames", [{}, {"max_completion_tokens": "max_tokens"}, {"max_tokens": "max_completion_tokens"}]
)
@pytest.mark.parametrize(
    "limits",
    [
        {},
        {"max_tokens": 900},
        {"max_completion_tokens": 900},
        {"max_tokens": 900, "max_completion_tokens": None},
        {"max_tokens": None, "max_completion_tokens": 900},
        {"max_tokens": 900, "max_completion_tokens": 800},
    ],
)
def test_a_lowered_limit_takes_the_place_of_every_one_that_was_given(
    limits: dict[str, int | None], renames: dict[str, str]
):
    traits = replace(OPENAI, rename_fields=renames)
    peek = DIALECT.peek(msgspec.json.encode({"model": "m", "messages": [], **limits}))
    sent = msgspec.json.decode(DIALECT.patch(peek, "m", traits, Receipt(), 77))
    left = {sent[name] for name in ("max_tokens", "max_completion_tokens") if sent.get(name) is not None}
    assert left == {77}


def test_of_a_repeated_key_the_last_holds_and_only_it_is_sent():
    peek = DIALECT.peek(b'{"model":"cheap","model":"dear","messages":[1],"messages":[2]}')
    assert peek.model == "dear"
    assert DIALECT.patch(peek, "x", OPENAI, Receipt()) == b'{"model":"x","messages":[2]}'


def test_what_the_gateway_needs_is_read():
    peek = DIALECT.peek(
        b'{"model":"m","stream":true,"n":3,"max_tokens":10,"max_completion_tokens":20,"stream_options":{"include_usage":true}}'
    )
    assert (peek.model, peek.stream, peek.choices, peek.max_output_tokens, peek.include_usage) == (
        "m",
        True,
        3,
        20,
        True,
    )


def test_explicit_nulls_are_absent():
    peek = DIALECT.peek(b'{"model":"m","stream":null,"n":null,"max_tokens":null,"stream_options":null}')
    assert (peek.stream, peek.choices, peek.max_output_tokens, peek.include_usage) == (False, 1, None, False)


@pytest.mark.parametrize(
    ("body", "param", "word"),
    [
        (b"", None, "no body"),
        (b"  \n", None, "no body"),
        (b"{", None, "JSON"),
        (b"[]", None, "object"),
        (b'"x"', None, "object"),
        (b"{} {}", None, "JSON"),
        (b'{"model":NaN}', None, "JSON"),
        (b'{"model":"m","a":"\\ud83d"}', None, "surrogate"),
        (b'{"model":"m","a":"\xff"}', None, "UTF-8"),
        (b'{"\xff":1}', None, "UTF-8"),
        (b'{"model":"m","a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", None, "deep"),
        (b'{"model":7}', "model", "model"),
        (b'{"model":7}', "model", "string"),
        (b'{"model":"' + b"m" * 501 + b'"}', "model", "name"),
        (b'{"model":"m","stream":"yes"}', "stream", "true or false"),
        (b'{"model":"m","n":0}', "n", "between"),
        (b'{"model":"m","n":1.5}', "n", "whole"),
        (b'{"model":"m","n":' + b"9" * 5_000 + b"}", "n", "whole"),
        (b'{"model":"m","max_tokens":0}', "max_tokens", "at least 1"),
        (b'{"model":"m","max_completion_tokens":"5"}', "max_completion_tokens", "whole"),
        (b'{"model":"m","stream_options":[]}', "stream_options", "object"),
        (b'{"model":"m","stream_options":{"include_usage":1}}', "stream_options.include_usage", "true or false"),
    ],
)
def test_a_wrong_request_is_refused_with_its_place(body: bytes, param: str | None, word: str):
    with pytest.raises(BadRequest, match=word) as caught:
        DIALECT.peek(body)
    assert caught.value.param == param


def test_what_a_model_refuses_is_left_out_with_a_word():
    traits = replace(OPENAI, drop_fields=frozenset({"temperature", "top_p", "logit_bias"}))
    receipt = Receipt()
    peek = DIALECT.peek(b'{"model":"m","temperature":0.5,"top_p":null}')
    assert DIALECT.patch(peek, "m", traits, receipt) == b'{"model":"m"}'
    assert receipt.entries == ("dropped temperature: this model refuses it",)
