"""Every recorded request, asked by clients of all four dialects: the provider is asked the same, or the receipt says what not.

A recorded request is read by its own dialect, written in each client's dialect, and sent to the gateway, which asks the fake
provider.  What arrives there, read by the provider's dialect, means what was recorded, less what one of the two receipts
names: the client's own, of what its dialect cannot even ask, and the gateway's.

Earlier reasoning is left out here: what a client of another dialect holds of it is what the gateway gave it, which
`test_state.py` sends back.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec
import pytest

from support.four_dialects import FOUR, TRAITS
from support.four_sides import EVERY, SIDES, Side, Stage, model_of, own, provider_of
from support.matrix import Matrix
from support.meaning import Facts, request_facts
from support.receipt_words import FACTS, is_made_up
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
