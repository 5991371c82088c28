import re

import msgspec
import pytest

from tollhouse.chat.model import Opaque, Part, RedactedThinking, Refusal, Text, Thinking, ToolCall
from tollhouse.chat.opaque import (
    GATEWAY,
    SEAL,
    as_signature,
    carried,
    carrier,
    holds_sealed,
    read_id,
    rejoin,
    seal,
    sent,
    signed_id,
    thought,
    unseal,
)


def test_a_value_in_the_dialect_of_its_home_is_bare():
    assert seal(Opaque("EqQB+/=", "anthropic"), "anthropic") == "EqQB+/="
    assert unseal("EqQB+/=", "anthropic") == Opaque("EqQB+/=", "anthropic")


@pytest.mark.parametrize("value", ["EqQB+/=", "", "a.b.c", "line\nbreak", "tollhouse-sealed.openai.x", "é"])
@pytest.mark.parametrize("home", ["google", "anthropic-compatible", "x1"])
def test_a_value_abroad_comes_back_to_its_home(value: str, home: str):
    sealed = seal(Opaque(value, home), "anthropic")
    assert sealed.startswith(SEAL)
    assert unseal(sealed, "anthropic") == Opaque(value, home)


@pytest.mark.parametrize("text", [SEAL, f"{SEAL}x", f"{SEAL}Upper.x", "tollhouse.x.y", f"{SEAL}{'a' * 41}.x"])
def test_what_is_no_seal_is_the_value_itself(text: str):
    assert unseal(text, "openai") == Opaque(text, "openai")


SIGNATURE = Opaque("EqQB+/=", "google")


def test_a_signature_rides_behind_its_part_and_joins_it_again():
    parts = (Thinking("hm"), Text("a", signature=SIGNATURE), ToolCall("c", "f", "{}", signature=SIGNATURE), Text("b"))
    ridden: list[Part] = []
    for part in parts:
        signature = part.signature if isinstance(part, Text | ToolCall) else None
        ridden.append(part if signature is None else msgspec.structs.replace(part, signature=None))
        if signature is not None:
            ridden.append(carrier(signature))
    assert rejoin(ridden) == parts


@pytest.mark.parametrize("before", [(), (Refusal("no"),), (RedactedThinking(SIGNATURE),)])
def test_a_signature_without_its_part_is_nothing(before: tuple[Part, ...]):
    assert rejoin([*before, carrier(SIGNATURE)]) == before


def test_encrypted_reasoning_is_no_carrier():
    assert carried(RedactedThinking(SIGNATURE)) is None
    assert carried(Text("of-the-part-before:")) is None


@pytest.mark.parametrize("identity", ["call_1", "", "toolu_é", "a.b"])
def test_an_id_carries_its_calls_signature(identity: str):
    text = signed_id(identity, SIGNATURE)
    assert re.fullmatch("[A-Za-z0-9_-]+", text)
    assert read_id(text) == (identity, SIGNATURE)


@pytest.mark.parametrize(
    "text", ["call_1", "tollhouse-sealed-", "tollhouse-sealed-!!", "tollhouse-sealed-AAAA", "tollhouse-sealed-_w"]
)
def test_any_other_id_is_itself(text: str):
    assert read_id(text) == (text, None)


def test_what_another_gateway_sealed_comes_back_to_it_closed():
    theirs = seal(SIGNATURE, "openrouter")
    ours = unseal(theirs, GATEWAY)
    assert ours == Opaque(theirs, GATEWAY)
    assert seal(unseal(seal(ours, "anthropic"), "anthropic"), GATEWAY) == theirs
    their_id = signed_id("call_1", SIGNATURE)
    our_id = signed_id(their_id, None)
    assert our_id != their_id
    assert read_id(our_id) == (their_id, None)


@pytest.mark.parametrize("sealed", [seal(SIGNATURE, "anthropic"), signed_id("c", SIGNATURE)])
def test_a_body_with_a_sealed_value_is_seen(sealed: str):
    assert holds_sealed(msgspec.json.encode({"messages": [{"id": sealed}]}))
    assert not holds_sealed(b'{"messages":[{"content":"what does tollhouse-sealed mean?"}]}')


def test_a_provider_is_sent_its_own_values_and_another_gateway_all_of_them():
    assert sent(SIGNATURE, "google") == SIGNATURE.value
    assert sent(SIGNATURE, "anthropic") is None
    assert unseal(str(sent(SIGNATURE, GATEWAY)), "anthropic") == SIGNATURE
    assert sent(Opaque("tollhouse-sealed.google.x", GATEWAY), GATEWAY) == "tollhouse-sealed.google.x"


def test_encrypted_reasoning_can_stand_as_a_signature():
    hidden = RedactedThinking(SIGNATURE)
    assert thought("", as_signature(hidden)) == hidden
    assert thought("words", as_signature(hidden)) == Thinking("words", as_signature(hidden))
    assert thought("", SIGNATURE) == Thinking("", SIGNATURE)
    assert thought("", None) == Thinking("")
