"""A Tollhouse behind a Tollhouse: calls go through both, and the one in front knows how the one behind is."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from support.fake_gemini import SIGNATURE
from support.fake_provider import FakeProvider
from support.fake_replies import Answer, Call, Failure, words
from support.replaying import ASK, GATHERED, IDS, RESULTS, WHOLE, gone_on
from support.serving import KEY, Running, start
from tollhouse.server.http1.listener import Http1Listener

TEXT = words(8)


@pytest.fixture
async def behind(tmp_path: Path, fake_provider: FakeProvider) -> AsyncIterator[Running]:
    folder = tmp_path / "behind"
    folder.mkdir()
    provider = f"{{type: openai, base_url: '{fake_provider.base_url('openai')}', api_key: sk-of-the-one-behind}}"
    google = f"{{base_url: '{fake_provider.base_url('google')}', api_key: x, models: [gemini-3-flash-preview]}}"
    text = f"providers: {{openai: {provider}, google: {google}}}\nretry: {{max_attempts: 1}}"
    gateway = await start(text, folder, Http1Listener)
    yield gateway
    await gateway.close()


@pytest.fixture
async def front(tmp_path: Path, behind: Running) -> AsyncIterator[Running]:
    folder = tmp_path / "front"
    folder.mkdir()
    provider = f"{{type: tollhouse, base_url: {behind.url}, api_key: {KEY}}}"
    text = f"providers: {{inner: {provider}}}\nmodels: {{smart: inner/openai/gpt-4o-mini}}\nretry: {{max_attempts: 1}}"
    gateway = await start(text, folder, Http1Listener)
    yield gateway
    await gateway.close()


def question(*, stream: bool = False) -> dict[str, object]:
    return {"model": "smart", "stream": stream, "messages": [{"role": "user", "content": "hi"}]}


async def state_of(gateway: Running, state: str) -> None:
    """Waits until the one behind is seen so."""
    async with asyncio.timeout(30):
        while (await gateway.get("/health")).json()["chained"]["inner"] != state:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_call_goes_through_both_and_stands_in_both_ledgers(
    front: Running, behind: Running, fake_provider: FakeProvider, path: str, stream: bool
):
    fake_provider.default = Answer(text=TEXT)
    answer = await front.ask(path, {**question(stream=stream), "max_tokens": 50})

    assert answer.status == 200
    assert fake_provider.calls[0].key == "sk-of-the-one-behind"
    (outer,), (inner,) = front.rows(), behind.rows()
    assert (outer["provider"], outer["model"], inner["provider"]) == ("inner", "openai/gpt-4o-mini", "openai")
    assert (outer["input_tokens"], outer["output_tokens"]) == (inner["input_tokens"], inner["output_tokens"])


@pytest.mark.parametrize("client", ["openai_chat", "anthropic"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_what_a_provider_behind_it_signed_goes_back_through_both(
    front: Running, fake_provider: FakeProvider, client: str, stream: bool
):
    """In the dialect that both speak the one in front forwards bytes, and what is in them was sealed by the one behind."""
    fake_provider.reply(Answer(calls=(Call("f", "{}"),)))
    path = "/v1/messages" if client == "anthropic" else "/v1/chat/completions"
    asked = {**ASK[client], "model": "inner/google/gemini-3-flash-preview", "stream": stream}
    first = await front.ask(path, asked)
    assert first.status == 200, first.body
    turn = GATHERED[client](first.body) if stream else WHOLE[client](first.json())
    answer = await front.ask(path, gone_on(client, asked, turn, RESULTS[client](IDS[client](turn))))

    assert answer.status == 200, answer.body
    sent = fake_provider.calls[-1].json["contents"]
    assert [part["thoughtSignature"] for part in sent[1]["parts"]] == [SIGNATURE]
    assert sent[2]["parts"][0]["functionResponse"]["name"] == "f"
    assert front.rows()[-1]["receipt"] == ""


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
@pytest.mark.parametrize(("status", "asked"), [(503, 3), (429, 3), (400, 1)])
async def test_both_together_ask_a_provider_no_oftener_than_the_one_behind_may(
    tmp_path: Path, fake_provider: FakeProvider, path: str, status: int, asked: int
):
    fake_provider.default = Failure(status=status)
    retry = "retry: {max_attempts: 3, backoff_base: 1ms, backoff_cap: 1ms}"
    provider = f"{{base_url: '{fake_provider.base_url('openai')}', api_key: x}}"
    texts = {"behind": f"providers: {{openai: {provider}}}\nmodels: {{smart: openai/gpt-4o-mini}}\n{retry}"}
    async with AsyncExitStack() as stack:

        async def started(name: str) -> Running:
            (tmp_path / name).mkdir()
            gateway = await start(texts[name], tmp_path / name, Http1Listener)
            stack.push_async_callback(gateway.close)
            return gateway

        inner = f"{{type: tollhouse, base_url: {(await started('behind')).url}, api_key: {KEY}, models: [smart]}}"
        texts["front"] = f"providers: {{inner: {inner}}}\n{retry}"
        front = await started("front")
        answer = await front.ask(path, {**question(), "model": "inner/smart", "max_tokens": 50})

    assert answer.status == status
    assert answer.headers["x-tollhouse-code"] == "provider_refused"
    assert len(fake_provider.calls) == asked


async def test_its_signs_of_life_are_shown_without_a_call(front: Running):
    await state_of(front, "up")

    page = (await front.get("/health")).json()
    assert page["providers"]["inner"] == "unknown"  # which is what calls showed: there was none


async def test_one_that_is_gone_is_noticed_told_and_noticed_when_it_is_back(
    front: Running, behind: Running, caplog: pytest.LogCaptureFixture
):
    await state_of(front, "up")
    caplog.clear()
    chained = front.worker._chained
    behind.worker.drain()
    await behind.worker.wait()

    for _ in range(3):
        await chained.look()

    assert chained.states() == {"inner": "down"}
    assert chained.reports()["inner"].last_error == "provider_unreachable"
    told = [record for record in caplog.records if record.name == "tollhouse.server" and "behind" in record.message]
    assert [(record.levelno, record.__dict__["to"], record.__dict__["cause"]) for record in told] == [
        (logging.WARNING, "degraded", "provider_unreachable"),
        (logging.WARNING, "down", "provider_unreachable"),
    ]


async def test_a_reload_forgets_those_that_are_no_longer_behind(front: Running, tmp_path: Path):
    await state_of(front, "up")
    file = tmp_path / "front" / "tollhouse.yaml"
    text = file.read_text()
    file.write_text(text.replace("{inner:", "{other:").replace("inner/", "other/"))
    front.worker.reload()

    assert list((await front.get("/health")).json()["chained"]) == ["other"]
