"""A stream says what it cost to those who ask, and to nobody else."""

import msgspec
import openai
import pytest

from support.clients import CLIENTS, LANES, settings
from support.fake_provider import FakeProvider
from support.fake_replies import Answer, Failure, Reset, faulty, words
from support.serving import KEY, Running, Serving

pytestmark = pytest.mark.parametrize("server", ["own"])
"""What these tests look at does not depend on the server."""

ASKING = [(b"authorization", b"Bearer " + KEY.encode()), (b"x-tollhouse-settlement", b"event")]
TEXT = words(8)
TO = [provider for client, provider in LANES if client == "openai"]


async def streamed(gateway: Running, provider: str, headers: list[tuple[bytes, bytes]] | None = None) -> bytes:
    body = CLIENTS["openai"].question(f"to-{provider}", stream=True)
    return (await gateway.ask("/v1/chat/completions", body, headers=headers)).body


@pytest.mark.parametrize("provider", TO)
async def test_the_settlement_comes_behind_the_end(serving: Serving, fake_provider: FakeProvider, provider: str):
    fake_provider.default = Answer(text=TEXT)
    gateway = await serving(settings(fake_provider))
    plain = await streamed(gateway, provider)
    asked = await streamed(gateway, provider, ASKING)
    assert plain.endswith(b"data: [DONE]\n\n")
    answer, _, rest = asked.partition(b"data: [DONE]\n\n")
    assert CLIENTS["openai"].read(answer + b"data: [DONE]\n\n").text == TEXT
    name, _, data = rest.partition(b"\ndata: ")
    assert name == b"event: tollhouse.settlement"
    settlement = msgspec.json.decode(data)
    row = gateway.rows()[1]
    assert int(settlement["cost_nano_usd"]) == row["cost_nano"] > 0
    assert (settlement["request_id"], settlement["outcome"]) == (row["id"], "ok")
    assert not any(b"settlement" in name.encode() for call in fake_provider.calls for name in call.headers)


async def test_openais_sdk_reads_the_answer_all_the_same(serving: Serving, fake_provider: FakeProvider):
    fake_provider.default = Answer(text=TEXT)
    gateway = await serving(settings(fake_provider))
    async with openai.AsyncOpenAI(api_key=KEY, base_url=f"{gateway.url}/v1") as client:
        stream = await client.chat.completions.create(
            model="to-openai",
            messages=[{"role": "user", "content": "Hi"}],
            stream=True,
            extra_headers={"x-tollhouse-settlement": "event"},
        )
        assert "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices]) == TEXT


async def test_a_stream_that_breaks_is_settled_behind_its_error(serving: Serving, fake_provider: FakeProvider):
    fake_provider.default = faulty(Answer(text=TEXT), Reset(5))
    gateway = await serving(settings(fake_provider))
    body = await streamed(gateway, "openai", ASKING)
    assert b"[DONE]" not in body
    assert body.index(b'"error"') < body.index(b"event: tollhouse.settlement")


async def test_an_error_in_one_piece_and_a_whole_answer_have_no_such_event(
    serving: Serving, fake_provider: FakeProvider
):
    fake_provider.reply(Failure(status=400, message="No."), Answer(text=TEXT))
    gateway = await serving(settings(fake_provider))
    assert "error" in msgspec.json.decode(await streamed(gateway, "openai", ASKING))
    whole = await gateway.ask("/v1/chat/completions", CLIENTS["openai"].question("to-openai"), headers=ASKING)
    assert CLIENTS["openai"].read_whole(whole.body).text == TEXT
