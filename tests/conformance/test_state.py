"""Reasoning that only its provider can read: from the recorded answer out to a client of any dialect, and back in its next turn.

The clients are plain ones: they keep what they were given and send it back (`support.replaying`).
"""

from typing import Any, Final

import msgspec
import pytest

from support.four_dialects import FOUR
from support.four_sides import EVERY, SIDES, Side, Stage, own, provider_of
from support.matrix import Matrix
from support.meaning import request_facts
from support.recordings import Recording, by_id
from support.replaying import ASK, GATHERED, WHOLE, gone_on, said
from support.sdk_gemini import IGNORED
from support.sdk_views import View

pytestmark = [pytest.mark.asyncio(loop_scope="package"), pytest.mark.filterwarnings(IGNORED)]

PATHS: Final[dict[Side, str]] = {
    "openai_chat": "/v1/chat/completions",
    "openai_responses": "/v1/responses",
    "anthropic": "/v1/messages",
    "gemini": "/v1beta/models/{model}:{method}",
}
KEPT: Final[dict[tuple[str, Side], str]] = {
    ("gemini-generate-stream-parallel-tool-calls-c2fc21", "gemini"): (
        "Google streams arguments in pieces, which its clients have to put together themselves"
    ),
    **{
        ("vercel-gateway-chat-stream-tool-call-09ea07", side): (
            "a provider of type `openai-compatible` is not known to take reasoning back"
        )
        for side in SIDES
        if side != "openai_chat"
    },
}
"""Where reasoning does not come back, and why."""

SIGNED: Final = frozenset(
    {"reasoning_signature", "encrypted_reasoning", "redacted_thinking", "reasoning_details_field"}
)


def path_of(side: Side, model: str, *, stream: bool) -> str:
    return PATHS[side].format(model=model, method="streamGenerateContent?alt=sse" if stream else "generateContent")


@pytest.mark.parametrize("recording", [each for each in EVERY if each.features & SIGNED], ids=by_id)
async def test_what_a_provider_signed_comes_back_to_it_through_every_dialect(
    stage: Stage, matrix: Matrix, recording: Recording
):
    meant = await stage.means(recording)
    if not isinstance(meant, View) or not meant.choices or not meant.first.sealed:
        return  # only its request had signatures
    stage.replay(recording)
    model = f"{provider_of(recording)}/{recording.id}"
    for side in SIDES:
        if (lost := KEPT.get((recording.id, side))) is not None:
            matrix.prove(side, "requests", provider_of(recording), recording.id, {"thoughts"}, {"thoughts": lost})
            continue
        asked: dict[str, Any] = {**ASK[side], "model": model, "stream": recording.is_stream}
        if side == "gemini":
            del asked["model"], asked["stream"]
        answer = await stage.gateway.ask(path_of(side, model, stream=recording.is_stream), asked)
        turn = GATHERED[side](answer.body) if recording.is_stream else WHOLE[side](msgspec.json.decode(answer.body))
        await stage.gateway.ask(path_of(side, model, stream=False), gone_on(side, asked, turn, said(side)))
        sent: Any = request_facts(FOUR[own(recording)].decode_request(stage.fake.calls[-1].body)).get("sealed", [])
        back = sorted(value.replace("-", "+").replace("_", "/") for _, value in sent)
        assert back == sorted(meant.first.sealed), side
        matrix.prove(side, "requests", provider_of(recording), recording.id, {"thoughts"}, {})
