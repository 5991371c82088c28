"""Signatures come home: out to a client of another dialect, back in its next turn, whole and streamed."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollhouse.chat.fold import unfold
from tollhouse.chat.model import Choice, Opaque, Part, RedactedThinking, Response, Text, Thinking, ToolCall, ToolResult
from tollhouse.chat.receipt import Receipt
from tollhouse.dialects import anthropic, gemini, openai_chat, openai_responses
from tollhouse.dialects.anthropic.traits import AnthropicTraits
from tollhouse.dialects.dialect import Dialect
from tollhouse.dialects.gemini.traits import GeminiTraits
from tollhouse.providers import openrouter, tollhouse

Json = dict[str, Any]
HOMES = ["google", "anthropic", "openai", "openrouter", "anthropic-compatible", "tollhouse"]
opaques = st.builds(Opaque, st.text(min_size=1, max_size=20), st.sampled_from(HOMES))
calls = st.builds(
    lambda number, signature: ToolCall(f"call_{number}", "f", '{"a":1}', signature=signature),
    st.integers(0, 9),
    st.none() | opaques,
)

ASK: dict[str, Json] = {
    "openai_chat": {"model": "m", "messages": [{"role": "user", "content": "Hi"}]},
    "anthropic": {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]},
    "openai_responses": {"model": "m", "input": [{"role": "user", "content": "Hi"}]},
    "gemini": {"model": "m", "contents": [{"role": "user", "parts": [{"text": "Hi"}]}]},
}
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


def events_of(body: bytes) -> list[Json]:
    datas = [line.removeprefix(b"data: ") for line in body.split(b"\n") if line.startswith(b"data: ")]
    return [msgspec.json.decode(data) for data in datas if data != b"[DONE]"]


def gather_chat(body: bytes) -> Json:
    """The assistant's message, as a program that adds up deltas keeps it."""
    message: Json = {"role": "assistant", "content": None}
    for event in events_of(body):
        for delta in (choice["delta"] for choice in event["choices"]):
            for name in ("content", "reasoning_content"):
                if delta.get(name):
                    message[name] = (message.get(name) or "") + delta[name]
            message.setdefault("reasoning_details", []).extend(delta.get("reasoning_details") or ())
            for piece in delta.get("tool_calls") or ():
                made = message.setdefault("tool_calls", [])
                if piece["index"] == len(made):
                    made.append(
                        {
                            "id": piece["id"],
                            "type": "function",
                            "function": {"name": piece["function"]["name"], "arguments": ""},
                        }
                    )
                made[piece["index"]]["function"]["arguments"] += piece["function"].get("arguments") or ""
    return message


def gather_blocks(body: bytes) -> Json:
    """The same for Anthropic's blocks."""
    blocks: list[Json] = []
    for event in events_of(body):
        match event["type"]:
            case "content_block_start":
                blocks.append({**event["content_block"], "_json": ""})
            case "content_block_delta":
                delta = {name: text for name, text in event["delta"].items() if name != "type"}
                for name, text in delta.items():
                    key = "_json" if name == "partial_json" else name
                    blocks[-1][key] = blocks[-1][key] + text
    for block in blocks:
        text = block.pop("_json")
        if text:
            block["input"] = msgspec.json.decode(text)
    return {"role": "assistant", "content": blocks}


def gather_items(body: bytes) -> Json:
    """The same for the items of the Responses API, each as it was told when it was done."""
    return {"items": [event["item"] for event in events_of(body) if event["type"] == "response.output_item.done"]}


def gather_parts(body: bytes) -> Json:
    """The same for Gemini's parts: all of them, one after the other, as Google's own client keeps them."""
    contents = [event["candidates"][0]["content"] for event in events_of(body) if event.get("candidates")]
    return {"role": "model", "parts": [part for content in contents for part in content.get("parts", ())]}


GATHERED: dict[str, Callable[[bytes], Json]] = {
    "openai_chat": gather_chat,
    "anthropic": gather_blocks,
    "openai_responses": gather_items,
    "gemini": gather_parts,
}
WHOLE: dict[str, Callable[[Json], Json]] = {
    "openai_chat": lambda answer: answer["choices"][0]["message"],
    "anthropic": lambda answer: {"role": "assistant", "content": answer["content"]},
    "openai_responses": lambda answer: {"items": answer["output"]},
    "gemini": lambda answer: answer["candidates"][0]["content"],
}


def gone_on(name: str, asked: Json, turn: Json, following: Json) -> bytes:
    """The next request of a conversation: what was asked, what was answered, and what comes then."""
    field = {"openai_responses": "input", "gemini": "contents"}.get(name, "messages")
    said = turn["items"] if name == "openai_responses" else [turn]
    return msgspec.json.encode({**asked, field: [*asked[field], *said, following]})


def said(name: str) -> Json:
    """A word of the user's."""
    field = {"openai_responses": "input", "gemini": "contents"}.get(name, "messages")
    turn: Json = ASK[name][field][0]
    return turn


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


RESULTS: dict[str, Callable[[str], Json]] = {
    "openai_chat": lambda identity: {"role": "tool", "tool_call_id": identity, "content": "3"},
    "anthropic": lambda identity: {
        "role": "user",
        "content": [{"type": "tool_result", "tool_use_id": identity, "content": "3"}],
    },
    "openai_responses": lambda identity: {"type": "function_call_output", "call_id": identity, "output": "3"},
    "gemini": lambda identity: {
        "role": "user",
        "parts": [{"functionResponse": {"id": identity, "name": "f", "response": {"output": "3"}}}],
    },
}
IDS: dict[str, Callable[[Json], str]] = {
    "openai_chat": lambda turn: turn["tool_calls"][0]["id"],
    "anthropic": lambda turn: turn["content"][0]["id"],
    "openai_responses": lambda turn: turn["items"][0]["call_id"],
    "gemini": lambda turn: turn["parts"][0]["functionCall"]["id"],
}


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
