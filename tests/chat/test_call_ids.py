"""The ids of tool calls in the form that each provider takes."""

import re
from collections.abc import Callable
from typing import get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollhouse.chat.call_ids import Form, fitted
from tollhouse.chat.receipt import Receipt
from tollhouse.dialects import anthropic, openai_chat
from tollhouse.dialects.anthropic.traits import AnthropicTraits
from tollhouse.dialects.openai_chat.traits import OPENAI
from tollhouse.providers import compatible, mistral

PATTERNS: dict[Form, str] = {
    "any": r"(?s).*",
    "plain": r"[a-zA-Z0-9_-]+",
    "up_to_64": r"(?s).{0,64}",
    "up_to_40": r"(?s).{0,40}",
    "nine": r"[a-zA-Z0-9]{9}",
}
FORMS: tuple[Form, ...] = get_args(Form)
by_form = pytest.mark.parametrize("form", FORMS)

# Moonshot's, vLLM's, Anthropic's, OpenAI's and Mistral's own.
SEEN = [
    "functions.weather:0",
    "chatcmpl-tool-" + "0f" * 16,
    "toolu_01AbCdEfGhIjKlMnOpQrStUv",
    "call_" + "a" * 24,
    "D681PevKs",
]


@by_form
@given(st.text(max_size=100))
def test_an_id_fits_whatever_it_was(form: Form, identity: str):
    assert re.fullmatch(PATTERNS[form], fitted(identity, form))
    assert fitted(fitted(identity, form), form) == fitted(identity, form)


@by_form
@given(st.sets(st.text(max_size=60), min_size=2, max_size=20))
def test_ids_stay_apart(form: Form, identities: set[str]):
    assert len({fitted(identity, form) for identity in identities}) == len(identities)


@by_form
@pytest.mark.parametrize("identity", SEEN)
def test_an_id_that_fits_stays_as_it_is(form: Form, identity: str):
    if re.fullmatch(PATTERNS[form], identity):
        assert fitted(identity, form) == identity


def chat_body(identity: str) -> bytes:
    call = {"id": identity, "type": "function", "function": {"name": "f", "arguments": '{"x": 1.50}'}}
    messages = [
        {"role": "user", "content": 'say "tool_call_id": "no id"'},
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": identity, "content": "3"},
    ]
    return msgspec.json.encode({"model": "m", "messages": messages})


def block_body(identity: str) -> bytes:
    call = {"type": "tool_use", "id": identity, "name": "f", "input": {"x": msgspec.Raw(b"1.50e3"), "id": "a.b"}}
    messages = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": [{"type": "text", "text": "I"}, call]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": identity, "content": "3"}]},
    ]
    return msgspec.json.encode({"model": "m", "max_tokens": 9, "messages": messages})


def chat_passed_on(body: bytes, provider: str) -> bytes:
    traits = {"mistral": mistral.traits_for("m"), "openai": OPENAI, "vllm": compatible.PLAIN}[provider]
    return openai_chat.DIALECT.patch(openai_chat.DIALECT.peek(body), "m", traits, Receipt())


def chat_translated(body: bytes, provider: str) -> bytes:
    traits = {"mistral": mistral.traits_for("m"), "openai": OPENAI, "vllm": compatible.PLAIN}[provider]
    return openai_chat.DIALECT.encode_request(openai_chat.DIALECT.decode_request(body), traits, Receipt())


@pytest.mark.parametrize("identity", SEEN)
@pytest.mark.parametrize(("provider", "form"), [("mistral", "nine"), ("openai", "up_to_40"), ("vllm", "any")])
@pytest.mark.parametrize("way", [chat_passed_on, chat_translated])
def test_a_chat_provider_gets_ids_that_it_takes(
    way: Callable[[bytes, str], bytes], provider: str, form: Form, identity: str
):
    body = chat_body(identity)
    out = way(body, provider)
    _, turn, answered = msgspec.json.decode(out)["messages"]
    assert turn["tool_calls"][0]["id"] == answered["tool_call_id"] == fitted(identity, form)
    assert turn["tool_calls"][0]["function"]["arguments"] == '{"x": 1.50}'
    if way is chat_passed_on and fitted(identity, form) == identity:
        assert out == body


@pytest.mark.parametrize("identity", SEEN)
def test_anthropic_gets_ids_that_it_takes(identity: str):
    dialect, body = anthropic.DIALECT, block_body(identity)
    passed_on = dialect.patch(dialect.peek(body), "m", AnthropicTraits(), Receipt())
    translated = dialect.encode_request(dialect.decode_request(body), AnthropicTraits(), Receipt())
    for out in (passed_on, translated):
        _, turn, answered = msgspec.json.decode(out)["messages"]
        assert turn["content"][1]["id"] == answered["content"][0]["tool_use_id"] == fitted(identity, "plain")
        assert b'{"x":1.50e3,"id":"a.b"}' in out, "arguments are nobody's ids"
    if fitted(identity, "plain") == identity:
        assert passed_on == body


@pytest.mark.parametrize("messages", [3, "x", [3], [{"tool_call_id": 7}], [{"tool_call_id": "é" * 9, "tool_calls": 3}]])
def test_what_is_no_conversation_is_left_to_the_provider(messages: object):
    body = msgspec.json.encode({"model": "m", "messages": messages})
    assert msgspec.json.decode(chat_passed_on(body, "mistral"))["messages"] == messages
    blocks = msgspec.json.decode(body.replace(b"tool_call_id", b"tool_use_id"))
    dialect = anthropic.DIALECT
    out = dialect.patch(dialect.peek(msgspec.json.encode(blocks)), "m", AnthropicTraits(), Receipt())
    assert msgspec.json.decode(out)["messages"] == blocks["messages"]


def test_an_escaped_id_is_read_as_it_is_meant():
    body = chat_body("D681PevKs").replace(b"D681PevKs", rb"D681\u0050evKs")
    assert msgspec.json.decode(chat_passed_on(body, "mistral"))["messages"][2]["tool_call_id"] == "D681PevKs"
