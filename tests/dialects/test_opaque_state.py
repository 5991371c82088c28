"""Signatures come home: out to a client of another dialect, back in its next turn, whole and streamed."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollhouse.chat.fold import unfold
from tollhouse.chat.model import Choice, Opaque, Part, RedactedThinking, Response, Text, Thinking, ToolCall
from tollhouse.chat.receipt import Receipt
from tollhouse.dialects import anthropic, openai_chat
from tollhouse.dialects.dialect import Dialect

Json = dict[str, Any]
HOMES = ["google", "anthropic", "openai", "openrouter", "anthropic-compatible"]
opaques = st.builds(Opaque, st.text(min_size=1, max_size=20), st.sampled_from(HOMES))
calls = st.builds(
    lambda number, signature: ToolCall(f"call_{number}", "f", '{"a":1}', signature=signature),
    st.integers(0, 9),
    st.none() | opaques,
)

ASK: dict[str, Json] = {
    "openai_chat": {"model": "m", "messages": [{"role": "user", "content": "Hi"}]},
    "anthropic": {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]},
}
DIALECTS: dict[str, Dialect[Any]] = {"openai_chat": openai_chat.DIALECT, "anthropic": anthropic.DIALECT}


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


def whole_chat(body: bytes) -> Json:
    message: Json = msgspec.json.decode(body)["choices"][0]["message"]
    return message


def whole_blocks(body: bytes) -> Json:
    return {"role": "assistant", "content": msgspec.json.decode(body)["content"]}


GATHERED: dict[str, Callable[[bytes], Json]] = {"openai_chat": gather_chat, "anthropic": gather_blocks}
WHOLE: dict[str, Callable[[bytes], Json]] = {"openai_chat": whole_chat, "anthropic": whole_blocks}


def returned(name: str, parts: tuple[Part, ...], *, stream: bool) -> tuple[Part, ...]:
    """What the next request of a client that was answered with `parts` says that the assistant said."""
    dialect = DIALECTS[name]
    asked = {**ASK[name], "stream": stream}
    request = dialect.decode_request(msgspec.json.encode(asked))
    response = Response(id="r", model="m", created=1, choices=(Choice(parts=parts, finish="stop"),))
    receipt = Receipt()
    if stream:
        encoder = dialect.stream_encoder(request, receipt)
        message = GATHERED[name](b"".join(encoder.encode(event) for event in unfold(response)))
    else:
        message = WHOLE[name](dialect.encode_response(response, request, receipt))
    assert not receipt, receipt.header()
    following = {**asked, "messages": [*asked["messages"], message, {"role": "user", "content": "Go on"}]}
    return dialect.decode_request(msgspec.json.encode(following)).messages[1].parts


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
    call = ToolCall("call_1", "f", "{}", signature=Opaque("sig", "google"))
    dialect = DIALECTS[name]
    request = dialect.decode_request(msgspec.json.encode(ASK[name]))
    response = Response(id="r", model="m", created=1, choices=(Choice(parts=(call,), finish="tool_calls"),))
    message = WHOLE[name](dialect.encode_response(response, request, Receipt()))
    if name == "openai_chat":
        result: Json = {"role": "tool", "tool_call_id": message["tool_calls"][0]["id"], "content": "3"}
    else:
        identity = message["content"][0]["id"]
        result = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": identity, "content": "3"}]}
    following = {**ASK[name], "messages": [*ASK[name]["messages"], message, result]}
    _, turn, answered = dialect.decode_request(msgspec.json.encode(following)).messages
    assert turn.parts == (call,)
    assert [part.call_id for part in answered.parts if hasattr(part, "call_id")] == ["call_1"]


@by_dialect
def test_who_did_not_sign_gets_no_signature_and_the_receipt_says_so(name: str):
    parts = (
        Thinking("hm", Opaque("sig-1", "google")),
        RedactedThinking(Opaque("sig-2", "google")),
        Text("Hello", signature=Opaque("sig-3", "google")),
        ToolCall("call_1", "f", "{}", signature=Opaque("sig-4", "google")),
    )
    dialect = DIALECTS[name]
    request = dialect.decode_request(msgspec.json.encode(ASK[name]))
    turn = msgspec.structs.replace(request.messages[0], role="assistant", parts=parts)
    traits = anthropic.traits.AnthropicTraits() if name == "anthropic" else openai_chat.traits.OPENAI
    receipt = Receipt()
    body = dialect.encode_request(
        msgspec.structs.replace(request, messages=(*request.messages, turn, *request.messages)), traits, receipt
    )
    assert b"sig-" not in body
    assert len([entry for entry in receipt.entries if "messages[1]" in entry]) >= len(parts) - (name == "openai_chat")
