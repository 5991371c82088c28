"""A Tollhouse behind a Tollhouse: two gateways, each with its own keys, ledger and word on what a call cost."""

from pathlib import Path

import pytest

from support.clients import CLIENTS, settings
from support.fake_provider import FakeProvider
from support.fake_replies import Answer, Cut, faulty
from support.serving import KEY, Running, Serving, start
from support.typed_client import FORMS, Form, ask, question
from tollhouse.providers.registry import PROVIDER_TYPES
from tollhouse.server.http1.listener import Http1Listener

pytestmark = pytest.mark.parametrize("server", ["own"])
"""What these tests look at does not depend on the server."""


async def chained(serving: Serving, fake: FakeProvider, folder: Path) -> tuple[Running, Running]:
    """The gateway that clients call, and the one behind it; the caller closes the second."""
    behind_folder = folder / "behind"
    behind_folder.mkdir()
    behind = await start(settings(fake), behind_folder, Http1Listener)
    front = await serving(
        f"providers: {{hub: {{type: tollhouse, base_url: '{behind.url}', api_key: {KEY}, models: [to-openai, to-anthropic]}}}}"
    )
    return front, behind


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_typed_client_gets_its_answer_through_both(
    serving: Serving, fake_provider: FakeProvider, tmp_path: Path, form: Form, stream: bool
):
    front, behind = await chained(serving, fake_provider, tmp_path)
    try:
        fake_provider.reply(Answer(thinking="Hm.", text="A toll house stood there."))
        reply = await ask(front, question("hub/to-anthropic", stream=stream, top_k=5), form)
        assert reply.status == 200
        (outer,), (inner,) = front.rows(), behind.rows()
        settlement = reply.streamed.settlement if stream else reply.response.settlement
        assert settlement.request_id == outer["id"] != inner["id"]
        assert [attempt.provider for attempt in settlement.attempts] == ["hub"]
        assert (outer["lane"], inner["lane"]) == ("same" if form == "json" else "translated", "translated")
        assert (outer["input_tokens"], outer["output_tokens"]) == (inner["input_tokens"], inner["output_tokens"])
        assert (await fake_provider.call(0)).json["top_k"] == 5
        if stream:
            assert reply.streamed.kinds[-2:] == ["ended", "settled"]
            assert reply.streamed.text.endswith("A toll house stood there.")
        else:
            kinds = [part.WhichOneof("part") for part in reply.response.choices[0].parts]
            assert kinds == ["thinking", "text"]
    finally:
        await behind.close()


@pytest.mark.parametrize(("client", "lane"), [("openai", "same"), ("anthropic", "translated")])
@pytest.mark.parametrize("stream", [False, True])
async def test_other_clients_too_each_in_its_own_dialect(
    serving: Serving, fake_provider: FakeProvider, tmp_path: Path, client: str, lane: str, stream: bool
):
    front, behind = await chained(serving, fake_provider, tmp_path)
    try:
        fake_provider.reply(Answer(text="A toll house stood there."))
        spoken = CLIENTS[client]
        answer = await front.ask(spoken.path, spoken.question("hub/to-openai", stream=stream))
        said = spoken.read(answer.body) if stream else spoken.read_whole(answer.body)
        assert (said.text, said.is_whole) == ("A toll house stood there.", True)
        (outer,), (inner,) = front.rows(), behind.rows()
        assert (outer["lane"], inner["door"]) == (lane, "openai_chat" if client == "openai" else "tollhouse")
    finally:
        await behind.close()


async def test_a_stream_that_breaks_far_behind_is_broken_for_the_client(
    serving: Serving, fake_provider: FakeProvider, tmp_path: Path
):
    front, behind = await chained(serving, fake_provider, tmp_path)
    try:
        fake_provider.reply(faulty(Answer(text="one two three four"), Cut(2)))
        reply = await ask(front, question("hub/to-openai", stream=True), "protobuf")
        assert reply.streamed.kinds[-2:] == ["failed", "settled"]
        assert reply.streamed.settlement.outcome == "provider_stream_error"
    finally:
        await behind.close()


async def test_a_refusal_behind_says_why(serving: Serving, fake_provider: FakeProvider, tmp_path: Path):
    front, behind = await chained(serving, fake_provider, tmp_path)
    try:
        reply = await ask(front, question("hub/nothing-of-the-kind"), "json")
        error = reply.failure.error
        assert (reply.status, error.code, error.kind) == (404, "provider_refused", "model_not_found")
        assert "nothing-of-the-kind" in error.message
    finally:
        await behind.close()


async def test_the_models_of_the_one_behind_can_be_listed(serving: Serving, fake_provider: FakeProvider):
    gateway = await serving(settings(fake_provider))
    kind = PROVIDER_TYPES["tollhouse"]
    answer = await gateway.get(kind.models_path)
    assert {"to-openai", "to-anthropic"} <= set(kind.dialect.decode_models(answer.body))
