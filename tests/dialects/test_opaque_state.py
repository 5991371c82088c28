"""Signatures come home: out to a client of another dialect, back in its next turn, whole and streamed."""

from base64 import b64encode
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.replaying import ASK, GATHERED, IDS, RESULTS, WHOLE, gone_on, said
from tollhouse.chat.fold import unfold
from tollhouse.chat.model import Choice, Opaque, Part, RedactedThinking, Response, Text, Thinking, ToolCall, ToolResult
from tollhouse.chat.receipt import Receipt
from tollhouse.dialects import anthropic, gemini, openai_chat, openai_responses
from tollhouse.dialects.anthropic.traits import AnthropicTraits
from tollhouse.dialects.dialect import Dialect
from tollhouse.dialects.gemini.traits import GeminiTraits
from tollhouse.providers import openrouter, tollhouse

HOMES = ["google", "anthropic", "openai", "openrouter", "anthropic-compatible", "tollhouse"]
values = st.binary(min_size=1, max_size=20).map(lambda data: b64encode(data).decode())
opaques = st.builds(Opaque, values, st.just("google")) | st.builds(
    Opaque, st.text(min_size=1, max_size=20), st.sampled_from([home for home in HOMES if home != "google"])
)
calls = st.builds(
    lambda number, signature: ToolCall(f"call_{number}", "f", '{"a":1}', signature=signature),
    st.integers(0, 9),
    st.none() | opaques,
)

DIALECTS: dict[str, Dialect[Any]] = {
    "openai_chat": openai_chat.DIALECT,
    "anthropic": anthropic.DIALECT,
    "openai_responses": openai_responses.DIALECT,
    "gemini": gemini.DIALECT,
}
TRAITS: dict[str, Any] = {
    "openai_chat": openai_chat.traits.OPENAI,
    "anthropic": AnthropicTraits(),
    "openai_responses": openai_responses.ResponsesTraits(),
    "gemini": GeminiTraits(),
}


def joined(parts: tuple[Part, ...]) -> tuple[Part, ...]:
    """Texts that came in pieces as one: where it ends is where its signature stands."""
    whole: list[Part] = []
    for part in parts:
        if part == Text(""):  # with which Gemini's streams end
            continue
        last = whole[-1] if whole else None
        match last, part:
            case (Text(begun, signature=None), Text(rest)) | (Thinking(begun, signature=None), Thinking(rest)):
                whole[-1] = msgspec.structs.replace(part, text=begun + rest)
            case _:
                whole.append(part)
    return tuple(whole)


def returned(name: str, parts: tuple[Part, ...], *, stream: bool) -> tuple[Part, ...]:
    """What the next request of a client that was answered with `parts` says that the assistant said."""
    dialect = DIALECTS[name]
    asked = {**ASK[name], "stream": stream}
    request = dialect.decode_request(msgspec.json.encode(asked))
    response = Response(id="r", model="m", created=1, choices=(Choice(parts=parts, finish="stop"),))
    receipt = Receipt()
    if stream:
        encoder = dialect.stream_encoder(request, receipt)
        turn = GATHERED[name](b"".join(encoder.encode(event) for event in unfold(response)))
    else:
        turn = WHOLE[name](msgspec.json.decode(dialect.encode_response(response, request, receipt)))
    assert not receipt, receipt.header()
    return joined(dialect.decode_request(gone_on(name, asked, turn, said(name))).messages[1].parts)


by_dialect = pytest.mark.parametrize("name", DIALECTS)
by_stream = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


@by_dialect
@by_stream
@given(
    thinking=st.none() | opaques,
    hidden=st.none() | opaques,
    said=st.none() | opaques,
    called=st.lists(calls, max_size=2, unique_by=lambda call: call.id),
)
def test_every_signature_comes_back_with_its_home(
    name: str,
    stream: bool,
    thinking: Opaque | None,
    hidden: Opaque | None,
    said: Opaque | None,
    called: list[ToolCall],
):
    parts: tuple[Part, ...] = (
        Thinking("hm", thinking),
        *(() if hidden is None else (RedactedThinking(hidden),)),
        Text("Hello", signature=said),
        *called,
    )
    assert returned(name, parts, stream=stream) == parts


@by_dialect
def test_a_result_belongs_to_its_call_without_the_signature(name: str):
    call = ToolCall("call_1", "f", "{}", signature=Opaque("sig", "anthropic"))
    dialect = DIALECTS[name]
    request = dialect.decode_request(msgspec.json.encode(ASK[name]))
    response = Response(id="r", model="m", created=1, choices=(Choice(parts=(call,), finish="tool_calls"),))
    turn = WHOLE[name](msgspec.json.decode(dialect.encode_response(response, request, Receipt())))
    body = gone_on(name, ASK[name], turn, RESULTS[name](IDS[name](turn)))
    _, made, answered = dialect.decode_request(body).messages
    assert made.parts == (call,)
    assert [part.call_id for part in answered.parts if isinstance(part, ToolResult)] == ["call_1"]


@by_dialect
def test_who_did_not_sign_gets_no_signature_and_the_receipt_says_so(name: str):
    home = "xai"
    parts = (
        Thinking("hm", Opaque("sig-1", home)),
        RedactedThinking(Opaque("sig-2", home)),
        Text("Hello", signature=Opaque("sig-3", home)),
        ToolCall("call_1", "f", "{}", signature=Opaque("sig-4", home)),
    )
    dialect = DIALECTS[name]
    request = dialect.decode_request(msgspec.json.encode(ASK[name]))
    turn = msgspec.structs.replace(request.messages[0], role="assistant", parts=parts)
    receipt = Receipt()
    body = dialect.encode_request(
        msgspec.structs.replace(request, messages=(*request.messages, turn, *request.messages)), TRAITS[name], receipt
    )
    assert b"sig-" not in body
    assert len({entry.split(":")[0] for entry in receipt.entries if "messages[1]" in entry}) == len(parts)


@by_dialect
def test_what_comes_home_is_bare_and_exactly_what_was_made(name: str):
    """Whatever dialect carried it there."""
    traits = TRAITS[name]
    if name == "openai_chat":
        traits = openrouter.KIND.traits_for("m")
    own = Opaque("c2lnbmF0dXJl", traits.home)
    parts: tuple[Part, ...] = (Thinking("hm", own),) if name != "openai_chat" else (RedactedThinking(own),)
    for carrier, dialect in DIALECTS.items():
        back = returned(carrier, parts, stream=False)
        request = dialect.decode_request(msgspec.json.encode(ASK[carrier]))
        turn = msgspec.structs.replace(request.messages[0], role="assistant", parts=back)
        receipt = Receipt()
        body = DIALECTS[name].encode_request(
            msgspec.structs.replace(request, messages=(*request.messages, turn, *request.messages)), traits, receipt
        )
        assert b'"c2lnbmF0dXJl"' in body, carrier
        assert not receipt, carrier


def test_another_gateway_gets_every_value_with_its_home():
    """It has providers of its own, and knows best which of them made what."""
    parts = (
        Thinking("hm", Opaque("c2ln", "anthropic")),
        Text("Hello", signature=Opaque("dGV4dA", "google")),
        ToolCall("call_1", "f", "{}", signature=Opaque("Y2FsbA", "google")),
    )
    request = openai_chat.DIALECT.decode_request(msgspec.json.encode(ASK["openai_chat"]))
    turn = msgspec.structs.replace(request.messages[0], role="assistant", parts=parts)
    asked = msgspec.structs.replace(request, messages=(*request.messages, turn, *request.messages))
    receipt = Receipt()
    body = openai_chat.DIALECT.encode_request(asked, tollhouse.traits_for("m"), receipt)
    assert not receipt
    assert openai_chat.DIALECT.decode_request(body).messages[1].parts == parts


@by_dialect
@pytest.mark.parametrize(
    ("field", "value", "home"),
    [("cachedContent", "cachedContents/x", "gemini"), ("container", "container_1", "anthropic")],
)
def test_an_id_of_one_provider_s_own_store_goes_to_it_alone(name: str, field: str, value: str, home: str):
    request = DIALECTS[home].decode_request(msgspec.json.encode({**ASK[home], field: value}))
    receipt = Receipt()
    body = DIALECTS[name].encode_request(request, TRAITS[name], receipt)
    assert (value.encode() in body) == (name == home)
    assert [entry.split(":")[0] for entry in receipt.entries] == ([] if name == home else [f"dropped {field}"])
