"""What a plain client of each dialect keeps of an answer, and sends back with its next turn.

Nothing here knows the gateway: what a client does not understand, it keeps as it came.  The names of the dialects are the
gateway's.
"""

from collections.abc import Callable
from typing import Any, Final

import msgspec

Json = dict[str, Any]

ASK: Final[dict[str, Json]] = {
    "openai_chat": {"model": "m", "messages": [{"role": "user", "content": "Hi"}]},
    "anthropic": {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]},
    "openai_responses": {"model": "m", "input": [{"role": "user", "content": "Hi"}]},
    "gemini": {"model": "m", "contents": [{"role": "user", "parts": [{"text": "Hi"}]}]},
}
"""A first request."""


def events_of(body: bytes) -> list[Json]:
    datas = [line.removeprefix(b"data: ") for line in body.split(b"\n") if line.startswith(b"data: ")]
    return [msgspec.json.decode(data) for data in datas if data != b"[DONE]"]


def gather_chat(body: bytes) -> Json:
    """The assistant's message, as a program that adds up deltas keeps it."""
    message: Json = {"role": "assistant", "content": None}
    for event in events_of(body):
        for delta in (choice["delta"] for choice in event["choices"]):
            for name in ("content", "reasoning_content", "reasoning"):
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


GATHERED: Final[dict[str, Callable[[bytes], Json]]] = {
    "openai_chat": gather_chat,
    "anthropic": gather_blocks,
    "openai_responses": gather_items,
    "gemini": gather_parts,
}
WHOLE: Final[dict[str, Callable[[Json], Json]]] = {
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


RESULTS: Final[dict[str, Callable[[str], Json]]] = {
    "openai_chat": lambda identity: {"role": "tool", "tool_call_id": identity, "content": "3"},
    "anthropic": lambda identity: {
        "role": "user",
        "content": [{"type": "tool_result", "tool_use_id": identity, "content": "3"}],
    },
    "openai_responses": lambda identity: {"type": "function_call_output", "call_id": identity, "output": "3"},
    "gemini": lambda identity: {
        "role": "user",
        "parts": [
            {"functionResponse": {**({"id": identity} if identity else {}), "name": "f", "response": {"output": "3"}}}
        ],
    },
}
IDS: Final[dict[str, Callable[[Json], str]]] = {
    "openai_chat": lambda turn: turn["tool_calls"][0]["id"],
    "anthropic": lambda turn: next(block["id"] for block in turn["content"] if block["type"] == "tool_use"),
    "openai_responses": lambda turn: next(item["call_id"] for item in turn["items"] if "call_id" in item),
    "gemini": lambda turn: next(part["functionCall"].get("id", "") for part in turn["parts"] if "functionCall" in part),
}
"""The id of a turn's first tool call; empty where it has none, as Google's."""
