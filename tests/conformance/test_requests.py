"""Every recorded request, asked by clients of all four dialects: the provider is asked the same, or the receipt says what not.

A recorded request is read by its own dialect, written in each client's dialect, and sent to the gateway, which asks the fake
provider.  What arrives there, read by the provider's dialect, means what was recorded, less what one of the two receipts
names: the client's own, of what its dialect cannot even ask, and the gateway's.

Earlier reasoning is left out here: what a client of another dialect holds of it is what the gateway gave it, which
`test_state.py` sends back.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import pytest

from support.four_dialects import FOUR, TRAITS
from support.four_sides import EVERY, SIDES, Side, Stage, model_of, own, provider_of
from support.matrix import Matrix
from support.meaning import Facts, request_facts
from support.recordings import Recording, by_id
from support.sdk_gemini import IGNORED
from tollhouse.chat.model import RedactedThinking, Request, Text, Thinking, ToolCall
from tollhouse.chat.receipt import Receipt

pytestmark = [pytest.mark.asyncio(loop_scope="package"), pytest.mark.filterwarnings(IGNORED)]

APART: Final[Mapping[str, str]] = {
    "anthropic-messages-stream-tool-call-dfbe08": "the recorded request names no model",
    "anthropic-messages-json-error-400-53b062": "the provider refused this request, and so does the gateway: a schema of a tool is no object",
}
"""Recorded requests that cannot be asked."""

ASKED: Final = [each for each in EVERY if each.request.body is not None and each.id not in APART]


@dataclass(frozen=True)
class Fact:
    """How the receipt names the loss of one fact, and the column of the matrix that the fact belongs to."""

    named: str
    """A regular expression."""
    feature: str | None = None


FACTS: Final[Mapping[str, Fact]] = {
    "system words": Fact(r"messages\[\d+\]: sent as the user's", "system"),
    "user words": Fact(r"messages\[\d+\]"),
    "assistant words": Fact("(?!)", "turns"),
    "calls": Fact("(?!)", "tool results"),
    "results": Fact(r"messages\[\d+\]", "tool results"),
    "failed results": Fact("is_error", "tool results"),
    "images": Fact(r"image|moved into a user message|fileData|content\[\d+\]", "images"),
    "documents": Fact(r"document|file|content\[\d+\]", "documents"),
    "document titles": Fact(r"document|file|content\[\d+\]", "documents"),
    "document contexts": Fact(r"context|document", "documents"),
    "cited documents": Fact("citations|document", "documents"),
    "audio": Fact("audio", "audio"),
    "citations": Fact("citations"),
    "parts of one dialect": Fact("has no form|of another dialect|cannot be given|has no place", "own tools"),
    "names": Fact(r"\.name"),
    "marks": Fact("cache_control", "cache marks"),
    "mark of all": Fact("cache_control", "cache marks"),
    "prompt_cache_key": Fact("prompt_cache_key", "cache marks"),
    "tools": Fact(r"tools\[\d+\]", "tools"),
    "strict tools": Fact("strict|toolConfig"),
    "tools of one dialect": Fact(r"tools\[\d+\]", "own tools"),
    "tool choice": Fact("tool_choice", "forced tool"),
    "parallel_tool_calls": Fact("parallel_tool_calls", "forced tool"),
    "answers": Fact(r"changed n:|candidateCount", "answers"),
    "logprobs": Fact("logprobs", "logprobs"),
    "top_logprobs": Fact("logprobs", "logprobs"),
    "stop": Fact("stop", "stop strings"),
    "format": Fact("response_format", "JSON"),
    "thinking": Fact("reasoning|thinking", "think"),
    "max_output_tokens": Fact("max_tokens", "limit"),
    "temperature": Fact("temperature", "sampling"),
    "top_p": Fact("top_p", "sampling"),
    "top_k": Fact("top_k", "sampling"),
    "seed": Fact("seed", "sampling"),
    "presence_penalty": Fact("presence_penalty", "sampling"),
    "frequency_penalty": Fact("frequency_penalty", "sampling"),
    "user": Fact("user", "own fields"),
    "service_tier": Fact("service_tier", "own fields"),
    "fields of one dialect": Fact("only .* knows|has no such field|refuses it|no counterpart", "own fields"),
}
"""Every fact that a request can have."""

PATHS: Final[Mapping[Side, str]] = {
    "openai_chat": "/v1/chat/completions",
    "openai_responses": "/v1/responses",
    "anthropic": "/v1/messages",
    "gemini": "/v1beta/models/{model}:generateContent",
}


def without_thoughts(request: Request) -> Request:
    """The request as one who was never told any reasoning would ask it."""
    messages = []
    for message in request.messages:
        parts = [
            msgspec.structs.replace(part, signature=None) if isinstance(part, Text | ToolCall) else part
            for part in message.parts
            if not isinstance(part, Thinking | RedactedThinking)
        ]
        messages.append(msgspec.structs.replace(message, parts=tuple(parts)))
    return msgspec.structs.replace(request, messages=tuple(each for each in messages if each.parts))


def is_made_up(name: str, before: Facts, after: Facts) -> bool:
    """A limit of output tokens where there was none: Anthropic's dialect insists on one."""
    return name == "max_output_tokens" and name not in before and after[name] == TRAITS["anthropic"].default_max_tokens


@pytest.mark.parametrize("recording", ASKED, ids=by_id)
async def test_a_provider_is_asked_what_clients_of_all_dialects_ask(stage: Stage, matrix: Matrix, recording: Recording):
    provider = own(recording)
    asked = without_thoughts(FOUR[provider].decode_request(recording.request.body or b""))
    asked = msgspec.structs.replace(asked, model=f"{provider_of(recording)}/{model_of(recording)}", stream=False)
    before = request_facts(asked)
    for side in SIDES:
        receipt = Receipt()
        body = FOUR[side].encode_request(asked, TRAITS[side], receipt)
        calls = len(stage.fake.calls)
        answer = await stage.gateway.ask(PATHS[side].format(model=asked.model), body)
        assert len(stage.fake.calls) == calls + 1, answer.body
        after = request_facts(FOUR[provider].decode_request(stage.fake.calls[-1].body))
        # The ledger and the header have the first of many; what a client's dialect lacks is not the gateway's to tell.
        named = [*receipt.entries, *answer.headers.get("x-tollhouse-receipt", "").split("; ")]
        lost: dict[str, str] = {}
        for name in sorted(before.keys() | after.keys()):
            if before.get(name) == after.get(name) or is_made_up(name, before, after):
                continue
            entries = [entry for entry in named if re.search(FACTS[name].named, entry)]
            assert entries, f"{side}: {name}: {before.get(name)!r} became {after.get(name)!r}; {named}"
            lost.setdefault(FACTS[name].feature or "", why(entries[0]))
        matrix.prove(side, "requests", provider_of(recording), recording.id, features(before), lost)
    matrix.apart.update(APART)


def why(entry: str) -> str:
    """The receipt's entry without the places, which differ from request to request."""
    return re.sub(r"\[\d+\]", "[…]", re.sub(r"\b\d[\d.]*\b", "…", entry))


def features(facts: Facts) -> set[str]:
    """The columns of the matrix in which a request stands."""
    return {feature for name in facts if (feature := FACTS[name].feature) is not None}


async def test_every_fact_can_be_named():
    """A fact that is not in the table would fail a test with a `KeyError`, and no receipt could save it."""
    found: set[str] = set()
    for recording in ASKED:
        request: Any = FOUR[own(recording)].decode_request(recording.request.body or b"")
        found |= request_facts(without_thoughts(request)).keys()
    assert found <= FACTS.keys()
