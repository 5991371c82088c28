"""Prompts and answers that are kept, and prompts that leave, through a whole gateway."""

import pytest

from support.clients import CLIENTS, LANES, settings
from support.fake_provider import FakeProvider
from support.fake_replies import Answer, Call
from support.serving import Serving
from tollhouse.telemetry.bodies_file import BodiesFile

pytestmark = pytest.mark.parametrize("server", ["own"])
BOB = "bob@example.com"
CARD = "4111 1111 1111 1111"


@pytest.mark.parametrize("stream", [False, True])
async def test_bodies_are_kept_without_what_is_personal(
    serving: Serving, fake_provider: FakeProvider, stream, tmp_path
):
    fake_provider.default = Answer(text=f"Dear {BOB}, your card {CARD} was refused.")
    gateway = await serving(
        settings(fake_provider) + f"\nlogging: {{bodies: redacted, calls: '{tmp_path / 'calls.log'}'}}"
    )
    ids = []
    for client, provider in LANES:
        asks = CLIENTS[client]
        model = {"openai": "openai/gpt-4o-mini", "anthropic": "anthropic/claude-sonnet-4-5"}[provider]
        answer = await gateway.ask(
            asks.path,
            asks.question(model, stream=stream, user=BOB)
            if client == "openai"
            else asks.question(model, stream=stream),
        )
        assert answer.status == 200
        assert BOB in (asks.read(answer.body) if stream else asks.read_whole(answer.body)).text
        ids.append(answer.headers["x-request-id"])
    bodies = gateway.worker._bodies
    assert bodies is not None
    assert bodies.close(20)
    file = BodiesFile(tmp_path / "bodies.db")
    for name in ids:
        shown = file.read(name)
        assert shown.request
        assert shown.answer
        assert b"[email]" in shown.answer
        assert b"[card]" in shown.answer
        for body in (shown.request, shown.answer):
            assert BOB.encode() not in body
            assert b"4111" not in body
    file.close()


@pytest.mark.parametrize("stream", [False, True])
async def test_a_provider_sees_placeholders(serving: Serving, fake_provider: FakeProvider, stream, tmp_path):
    fake_provider.default = Answer(
        text="Dear [EMAIL_1], [CARD_1] and [CARD_2].", calls=(Call("send", '{"to":"[EMAIL_1]"}'),)
    )
    gateway = await serving(
        settings(fake_provider) + f"\nlogging: {{redact_upstream: true, calls: '{tmp_path / 'calls.log'}'}}"
    )
    for client, provider in LANES:
        asks = CLIENTS[client]
        model = {"openai": "openai/gpt-4o-mini", "anthropic": "anthropic/claude-sonnet-4-5"}[provider]
        question = asks.question(model, stream=stream)
        question["messages"] = [{"role": "user", "content": f"I am {BOB} with {CARD}"}]
        answer = await gateway.ask(asks.path, question)
        said = asks.read(answer.body) if stream else asks.read_whole(answer.body)
        assert said.text == f"Dear {BOB}, {CARD} and [CARD_2]."
        assert BOB in answer.body.decode().replace('", "', "")
        seen = fake_provider.calls[-1].body.decode()
        assert BOB not in seen
        assert CARD not in seen
        assert "I am [EMAIL_1] with [CARD_1]" in seen
