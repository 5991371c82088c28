"""A conversation that goes on is sent as it was, and then some more: that is all that providers' own caches go by.

OpenAI, DeepSeek and Google cache the beginnings of prompts without being asked, Anthropic at the markers that it is given;
all of them find what they cached only by the same bytes in the same places.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

import msgspec
import pytest

from support.replaying import ASK, RESULTS, WHOLE, Json, gone_on, said
from tollhouse.chat.model import Choice, Opaque, Part, RedactedThinking, Response, Text, Thinking, ToolCall
from tollhouse.chat.receipt import Receipt
from tollhouse.dialects import anthropic, gemini, openai_chat, openai_responses
from tollhouse.dialects.dialect import Dialect
from tollhouse.providers import claude, compatible, deepseek, google, mistral, openai, openrouter

CLIENTS: Final[dict[str, Dialect[Any]]] = {
    "openai_chat": openai_chat.DIALECT,
    "anthropic": anthropic.DIALECT,
    "openai_responses": openai_responses.DIALECT,
    "gemini": gemini.DIALECT,
}
PROVIDERS: Final[dict[str, tuple[Dialect[Any], Any, str]]] = {
    "anthropic": (anthropic.DIALECT, claude.traits_for("claude-opus-4-8"), "messages"),
    "an-older-claude": (anthropic.DIALECT, claude.traits_for("claude-sonnet-4-5"), "messages"),
    "google": (gemini.DIALECT, google.traits_for("gemini-3-flash-preview"), "contents"),
    "openai": (openai_responses.DIALECT, openai.responses_traits_for("gpt-5.2"), "input"),
    "openai-chat": (openai_chat.DIALECT, openai.traits_for("gpt-4o"), "messages"),
    "openrouter": (openai_chat.DIALECT, openrouter.traits_for("m"), "messages"),
    "deepseek": (openai_chat.DIALECT, deepseek.traits_for("deepseek-chat"), "messages"),
    "mistral": (openai_chat.DIALECT, mistral.traits_for("mistral-large"), "messages"),
    "plain": (openai_chat.DIALECT, replace(compatible.PLAIN, text_array_content=False), "messages"),
}
"""A dialect, the traits of a model, and the field in which turns stand."""

SCHEMA: Final = {"type": "object", "properties": {"b": {"type": "integer"}, "a": {"type": "string"}}}
SYSTEM: Final = "Be brief."
HEADS: Final[dict[str, Json]] = {
    "openai_chat": {"tools": [{"type": "function", "function": {"name": "f", "parameters": SCHEMA}}]},
    "anthropic": {"system": SYSTEM, "max_tokens": 100, "tools": [{"name": "f", "input_schema": SCHEMA}]},
    "openai_responses": {
        "instructions": SYSTEM,
        "tools": [{"type": "function", "name": "f", "parameters": SCHEMA, "strict": False}],
    },
    "gemini": {
        "systemInstruction": {"parts": [{"text": SYSTEM}]},
        "tools": [{"functionDeclarations": [{"name": "f", "parametersJsonSchema": SCHEMA}]}],
    },
}


def turns(home: str | None) -> Iterator[tuple[Part, ...]]:
    """What the model says in turn; `home` made the signatures, if any."""

    def signed(value: str) -> Opaque | None:
        return None if home is None else Opaque(value, home)

    for number in range(2):
        hidden = () if home is None else (RedactedThinking(Opaque(f"aGlkZGVu{number}", home)),)
        yield (Thinking("hm", signed("dGhvdWdodA==")), *hidden, Text("Wait."), call(number, signed("Y2FsbA==")))
        yield (call(number + 10, None),)
        yield (Thinking("so", signed("dGhvdWdodA==")), Text("It is 3.", signature=signed("dGV4dA==")))


def call(number: int, signature: Opaque | None) -> ToolCall:
    return ToolCall(f"functions.f:{number}", "f", '{"b":1.50,"a":"x"}', signature=signature)


def conversation(client: str, home: str | None) -> Iterator[bytes]:
    """The requests of one conversation, each with a turn more."""
    dialect = CLIENTS[client]
    field = {"openai_responses": "input", "gemini": "contents"}.get(client, "messages")
    asked = {**ASK[client], **HEADS[client]}
    if client == "openai_chat":
        asked["messages"] = [{"role": "system", "content": SYSTEM}, *asked["messages"]]
    yield msgspec.json.encode(asked)
    for parts in turns(home):
        request = dialect.decode_request(msgspec.json.encode(asked))
        calls = [part for part in parts if isinstance(part, ToolCall)]
        choice = Choice(parts=parts, finish="tool_calls" if calls else "stop")
        response = Response(id="r", model="m", created=1, choices=(choice,))
        turn = WHOLE[client](msgspec.json.decode(dialect.encode_response(response, request, Receipt())))
        following = RESULTS[client](_id_of(client, turn)) if calls else said(client)
        asked = {**asked, field: msgspec.json.decode(gone_on(client, asked, turn, following))[field]}
        yield msgspec.json.encode(asked)


def _id_of(client: str, turn: Json) -> str:
    match client:
        case "openai_chat":
            return str(turn["tool_calls"][0]["id"])
        case "anthropic":
            return next(str(block["id"]) for block in turn["content"] if block["type"] == "tool_use")
        case "openai_responses":
            return next(str(item["call_id"]) for item in turn["items"] if "call_id" in item)
        case _:
            return next(str(part["functionCall"]["id"]) for part in turn["parts"] if "functionCall" in part)


@pytest.mark.parametrize("home", [None, "anthropic", "google", "openai", "openrouter"])
@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("client", CLIENTS)
def test_what_was_said_is_sent_as_it_was(client: str, provider: str, home: str | None):
    dialect, traits, field = PROVIDERS[provider]
    bodies = [
        dialect.encode_request(CLIENTS[client].decode_request(body), traits, Receipt())
        for body in conversation(client, home)
    ]
    assert len(bodies) == 7
    first: dict[str, msgspec.Raw] = {}
    beginning, fewer = b"", 0
    for body in bodies:
        assert body.startswith(beginning)
        given = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
        sent = msgspec.json.decode(given[field], type=list[msgspec.Raw])
        assert len(sent) > fewer
        # All but what closes the list of turns, and what comes behind it.
        beginning, fewer = body[: body.rindex(bytes(sent[-1])) + len(bytes(sent[-1]))], len(sent)
        first = first or {name: raw for name, raw in given.items() if name != field}
        assert {name: raw for name, raw in given.items() if name != field} == first
