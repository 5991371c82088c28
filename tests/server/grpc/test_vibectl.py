"""The service that the tool vibectl calls, by a client of the same protocol."""

import asyncio
import time
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import msgspec
import pytest

from support.clients import settings
from support.fake_provider import FakeProvider
from support.fake_replies import Answer, Cut, ErrorAfter, Failure, Stall, Tokens, faulty, whole_body, words
from support.serving import KEY, Running, Serving
from support.vibectl_client import BEARER, Streamed, calling, prompt
from tollhouse.proto import vibectl_pb2 as wire
from tollhouse.telemetry.bodies_file import BodiesFile

TEXT = words(60)
PRICES = "\nprices: {openai/*: {input: 1, output: 2}}"
ONCE = "\nretry: {max_attempts: 1}"
SCHEMA = (
    b'{"title":"Planner Response!","type":"object","properties":{"action":{"type":"string"}},"required":["action"]}'
)


async def asked(gateway: Running, request: wire.ExecuteRequest, how: str) -> wire.ExecuteError | None:
    """The error of either kind of answer; `None` for a good one."""
    async with calling(gateway) as client:
        if how == "Execute":
            response = await client.execute(request)
            return response.error if response.HasField("error") else None
        streamed = await client.stream(request)
        return streamed.error if streamed.kinds[-1] == "error" else None


# -- answers


async def test_a_whole_answer_says_who_answered_and_what_it_used(serving: Serving, fake_provider: FakeProvider):
    fake_provider.default = Answer(text=TEXT, tokens=Tokens(input=23, output=60))
    gateway = await serving(settings(fake_provider) + PRICES)
    before = int(time.time())
    async with calling(gateway) as client:
        response = await client.execute(prompt())
    row = gateway.rows()[0]
    assert response.request_id == "client-request-1"
    assert response.success.response_text == TEXT
    assert response.success.actual_model_used == "openai/gpt-4o-mini"
    metrics = response.success.metrics
    assert (metrics.input_tokens, metrics.output_tokens, metrics.total_tokens) == (23, 60, 83)
    assert metrics.cost_usd == pytest.approx(row["cost_nano"] / 1e9)
    assert metrics.cost_usd == pytest.approx((23 * 1 + 60 * 2) / 1e6)
    assert metrics.retry_count == 0
    assert metrics.duration_ms == row["duration_us"] // 1000
    assert before <= metrics.timestamp <= int(time.time())
    assert (row["door"], row["outcome"], row["streamed"]) == ("vibectl", "ok", 0)


async def test_a_stream_is_text_then_complete_then_metrics(serving: Serving, fake_provider: FakeProvider):
    fake_provider.default = Answer(text=TEXT, tokens=Tokens(input=23, output=60))
    gateway = await serving(settings(fake_provider) + PRICES)
    async with calling(gateway) as client:
        streamed = await client.stream(prompt())
    assert streamed.kinds == ["text_chunk", "complete", "final_metrics"]
    assert streamed.text == TEXT
    assert len(streamed.chunks) == 62
    assert {chunk.request_id for chunk in streamed.chunks} == {"client-request-1"}
    assert streamed.model == "openai/gpt-4o-mini"
    assert (streamed.metrics.input_tokens, streamed.metrics.output_tokens, streamed.metrics.total_tokens) == (
        23,
        60,
        83,
    )
    assert streamed.metrics.cost_usd == pytest.approx((23 * 1 + 60 * 2) / 1e6)
    assert gateway.rows()[0]["streamed"] == 1


@pytest.mark.parametrize("how", ["Execute", "StreamExecute"])
async def test_retries_are_counted_and_text_is_never_doubled(serving: Serving, fake_provider: FakeProvider, how: str):
    fake_provider.reply(Failure(status=503), Answer(text=TEXT))
    gateway = await serving(settings(fake_provider) + "\nretry: {backoff_base: 0.001}")
    async with calling(gateway) as client:
        if how == "Execute":
            success = (await client.execute(prompt())).success
            text, metrics = success.response_text, success.metrics
        else:
            streamed = await client.stream(prompt())
            text, metrics = streamed.text, streamed.metrics
    assert text == TEXT
    assert metrics.retry_count == 1


async def test_a_price_that_nobody_knows_is_left_out(serving: Serving, fake_provider: FakeProvider):
    gateway = await serving(
        f"providers: {{lab: {{type: openai-compatible, base_url: {fake_provider.url}/v1, api_key: x}}}}"
    )
    async with calling(gateway) as client:
        metrics = (await client.execute(prompt("lab/whatever"))).success.metrics
    assert not metrics.HasField("cost_usd")
    assert metrics.HasField("total_tokens")


async def test_a_provider_that_does_not_stream_is_streamed_all_the_same(serving: Serving, fake_provider: FakeProvider):
    fake_provider.default = whole_body(words(200))
    gateway = await serving(settings(fake_provider))
    async with calling(gateway) as client:
        streamed = await client.stream(prompt())
    assert streamed.text == words(200)
    assert streamed.kinds == ["text_chunk", "complete", "final_metrics"]
    assert len(streamed.chunks) > 4
    assert streamed.metrics.total_tokens == 7


async def test_a_kept_answer_has_the_id_of_who_asks_and_costs_nothing(serving: Serving, fake_provider: FakeProvider):
    gateway = await serving(settings(fake_provider) + PRICES + "\ncache: {responses: {ttl: 60s}}")
    async with calling(gateway) as client:
        first = await client.stream(prompt())
        again = prompt()
        again.request_id = "client-request-2"
        second = await client.stream(again)
        whole = await client.execute(again)
    assert len(fake_provider.calls) == 1
    assert first.metrics.cost_usd > 0
    assert second.text == first.text == whole.success.response_text
    assert second.kinds == ["text_chunk", "complete", "final_metrics"]
    assert {chunk.request_id for chunk in second.chunks} == {"client-request-2"}
    assert second.model == "openai/gpt-4o-mini" == whole.success.actual_model_used
    assert second.metrics.cost_usd == 0 == whole.success.metrics.cost_usd


async def test_identical_calls_under_way_share_one_and_keep_their_ids(serving: Serving, fake_provider: FakeProvider):
    go = asyncio.Event()
    fake_provider.default = faulty(Answer(text=TEXT), Stall(3, until=go))
    gateway = await serving(settings(fake_provider) + "\ncache: {coalesce: true}")
    async with calling(gateway) as client:
        asking: list[asyncio.Task[Streamed]] = []
        async with asyncio.TaskGroup() as group:
            for number in range(3):
                request = prompt()
                request.request_id = f"client-{number}"
                asking.append(group.create_task(client.stream(request)))
            await fake_provider.call()
            while len(gateway.worker.running) < 3:  # noqa: ASYNC110  # nothing announces a call
                await asyncio.sleep(0.01)
            go.set()
    assert len(fake_provider.calls) == 1
    for number, task in enumerate(asking):
        assert task.result().text == TEXT
        assert {chunk.request_id for chunk in task.result().chunks} == {f"client-{number}"}
        assert task.result().kinds == ["text_chunk", "complete", "final_metrics"]


# -- what the provider gets


async def test_fragments_of_the_system_stay_a_system_prompt(serving: Serving, fake_provider: FakeProvider):
    gateway = await serving(settings(fake_provider))
    async with calling(gateway) as client:
        for model in ("to-openai", "to-anthropic"):
            await client.execute(prompt(model, system=["Be brief.", " ", "Be kind."], user=["Pods?", "", "Now."]))
    openai, anthropic = (call.json for call in fake_provider.calls)
    assert openai["messages"] == [
        {"role": "system", "content": "Be brief.\n\nBe kind."},
        {"role": "user", "content": "Pods?\n\nNow."},
    ]
    assert anthropic["system"] == "Be brief.\n\nBe kind."
    assert [message["role"] for message in anthropic["messages"]] == ["user"]


async def test_a_schema_becomes_structured_output(serving: Serving, fake_provider: FakeProvider):
    gateway = await serving(settings(fake_provider))
    async with calling(gateway) as client:
        await client.execute(prompt(response_model_schema=SCHEMA.decode()))
    sent: Any = fake_provider.calls[0].json["response_format"]
    assert sent["type"] == "json_schema"
    assert sent["json_schema"]["name"] == "Planner_Response"
    assert sent["json_schema"]["schema"] == msgspec.json.decode(SCHEMA)


async def test_a_request_without_a_model_gets_the_default(serving: Serving, fake_provider: FakeProvider):
    gateway = await serving(settings(fake_provider, default="to-openai"))
    async with calling(gateway) as client:
        response = await client.execute(prompt(None))
    assert response.success.actual_model_used == "openai/gpt-4o-mini"


# -- errors


@pytest.mark.parametrize("how", ["Execute", "StreamExecute"])
async def test_an_unknown_model_is_told_with_the_nearest_and_the_available(
    serving: Serving, fake_provider: FakeProvider, how: str
):
    gateway = await serving(settings(fake_provider))
    error = await asked(gateway, prompt("to-opanai"), how)
    assert error is not None
    assert error.error_code == "MODEL_NOT_FOUND"
    assert "'to-opanai' does not exist here" in error.error_message
    assert "Did you mean 'to-openai'" in error.error_message
    assert "Available: " in error.error_details
    assert "to-anthropic" in error.error_details
    assert "Request req_" in error.error_details


async def test_a_model_of_others_is_told_with_ones_own(serving: Serving, fake_provider: FakeProvider):
    gateway = await serving(
        settings(fake_provider) + f"\nauth: {{keys: [{{name: test, key: {KEY}, models: [to-anthropic]}}]}}"
    )
    error = await asked(gateway, prompt(), "Execute")
    assert error is not None
    assert error.error_code == "MODEL_NOT_ALLOWED"
    assert error.error_details.startswith("Available: to-anthropic.")
    unknown = await asked(gateway, prompt("to-nowhere"), "Execute")
    assert unknown is not None
    assert "to-openai" not in unknown.error_details


async def test_no_model_and_no_default_is_an_error_of_its_own(serving: Serving, fake_provider: FakeProvider):
    gateway = await serving(settings(fake_provider))
    error = await asked(gateway, prompt(None), "Execute")
    assert error is not None
    assert error.error_code == "NO_MODEL"
    assert "Available: " in error.error_details


@pytest.mark.parametrize("how", ["Execute", "StreamExecute"])
@pytest.mark.parametrize(
    ("request_", "param"),
    [
        (prompt(user=[" ", "\n"]), "user_fragments"),
        (prompt(response_model_schema="{nonsense"), "response_model_schema"),
        (prompt(response_model_schema="[1]"), "response_model_schema"),
        (wire.ExecuteRequest(user_fragments=["x"], model_name="to-openai", request_id="i" * 300), "request_id"),
    ],
    ids=["empty", "no JSON", "no object", "endless id"],
)
async def test_what_cannot_be_asked_is_refused(
    serving: Serving, fake_provider: FakeProvider, request_: wire.ExecuteRequest, param: str, how: str
):
    gateway = await serving(settings(fake_provider))
    error = await asked(gateway, request_, how)
    assert error is not None
    assert error.error_code == "INVALID_REQUEST"
    assert param in error.error_message
    assert not fake_provider.calls


@pytest.mark.parametrize("how", ["Execute", "StreamExecute"])
async def test_a_full_limit_says_when_to_try_again(serving: Serving, fake_provider: FakeProvider, how: str):
    gateway = await serving(settings(fake_provider) + "\nlimits: {requests_per_minute: 1}")
    assert await asked(gateway, prompt(), how) is None
    error = await asked(gateway, prompt(), how)
    assert error is not None
    assert error.error_code == "RATE_LIMITED"
    assert "Try again in " in error.error_details


@pytest.mark.parametrize("how", ["Execute", "StreamExecute"])
async def test_an_empty_budget_is_told_with_its_name(serving: Serving, fake_provider: FakeProvider, how: str):
    gateway = await serving(settings(fake_provider) + PRICES + "\nbudgets: [{scope: global, daily: 0.000001}]")
    error = await asked(gateway, prompt(), how)
    assert error is not None
    assert error.error_code == "BUDGET_EXCEEDED"
    assert "global/day" in error.error_message
    assert not fake_provider.calls


@pytest.mark.parametrize("how", ["Execute", "StreamExecute"])
@pytest.mark.parametrize("status", [400, 401, 429, 500])
async def test_a_provider_s_own_words_never_get_through(
    serving: Serving, fake_provider: FakeProvider, status: int, how: str
):
    secret = "sk-very-secret and the prompt, quoted"
    fake_provider.default = Failure(status=status, message=secret, code="context_length_exceeded", retry_after="7")
    gateway = await serving(settings(fake_provider) + ONCE)
    error = await asked(gateway, prompt(), how)
    assert error is not None
    assert error.error_code == "PROVIDER_ERROR"
    assert f"Provider 'openai' refused this call with status {status}" in error.error_message
    assert "secret" not in str(error)
    assert "quoted" not in str(error)
    if status == 429:
        assert "Try again in 8 s." in error.error_details or "Try again in 7 s." in error.error_details


@pytest.mark.parametrize("fault", [Cut(3), ErrorAfter(3, Failure(status=529, message="sk-secret overloaded"))])
async def test_a_stream_that_breaks_keeps_its_text_and_ends_in_an_error(
    serving: Serving, fake_provider: FakeProvider, fault: Cut | ErrorAfter
):
    fake_provider.default = faulty(Answer(text=TEXT), fault)
    gateway = await serving(settings(fake_provider))
    async with calling(gateway) as client:
        streamed = await client.stream(prompt())
    assert streamed.kinds[-1] == "error"
    assert "complete" not in streamed.kinds
    assert "final_metrics" not in streamed.kinds
    assert streamed.error.error_code == "PROVIDER_ERROR"
    assert "secret" not in str(streamed.error)
    assert "Request req_" in streamed.error.error_details
    assert TEXT.startswith(streamed.text)
    assert len(fake_provider.calls) == 1 or not streamed.text


async def test_bytes_that_are_no_message_are_refused(serving: Serving, fake_provider: FakeProvider):
    gateway = await serving(settings(fake_provider))
    async with calling(gateway) as client:
        raw: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = client.channel.unary_unary(
            "/vibectl.llm_proxy.VibectlLLMProxy/Execute"
        )
        answer = wire.ExecuteResponse.FromString(await raw(b"\xff\xff\xff", metadata=BEARER, timeout=60))
    assert answer.error.error_code == "INVALID_REQUEST"
    assert answer.request_id.startswith("req_")


# -- the server


async def test_the_server_lists_what_the_caller_may_use(serving: Serving, fake_provider: FakeProvider):
    text = settings(fake_provider, default="to-openai")
    gateway = await serving(
        f"server: {{max_body_bytes: 1MiB, advertised_version: 0.11.6}}\n{text}"
        f"\nauth: {{keys: [{{name: test, key: {KEY}, limits: {{requests_per_minute: 90, concurrent: 4}}}},"
        " {name: narrow, key: th-narrow-0123456789, models: [to-anthropic]}]}"
        "\nlimits: {requests_per_minute: 60}\ndeadlines: {total: 120s}"
    )
    async with calling(gateway) as client:
        info = await client.info()
        narrow = await client.info((("authorization", "Bearer th-narrow-0123456789"),))
    listed = {model.model_id: model for model in info.available_models}
    assert {"to-openai", "to-anthropic", "openai/gpt-4o-mini"} <= listed.keys()
    assert listed["to-openai"].provider == "openai"
    assert listed["to-openai"].supports_streaming
    assert info.model_aliases["to-openai"] == "openai/gpt-4o-mini"
    assert info.model_aliases["gpt-4o-mini"] == "openai/gpt-4o-mini"
    assert set(info.model_aliases.values()) <= listed.keys()
    assert list(listed["openai/gpt-4o-mini"].aliases)
    assert info.default_model == "to-openai"
    assert (info.server_name, info.server_version) == ("tollhouse", "0.11.6")
    assert info.limits == wire.ServerLimits(
        max_requests_per_minute=60,
        max_concurrent_requests=4,
        max_input_length=1024 * 1024,
        request_timeout_seconds=120,
    )
    assert narrow.limits.max_concurrent_requests == 2000  # the gateway's own bound, where the caller has none
    assert [model.model_id for model in narrow.available_models] == ["to-anthropic"]
    assert not narrow.default_model
    assert not narrow.model_aliases


async def test_every_listed_name_is_answered(serving: Serving, fake_provider: FakeProvider):
    gateway = await serving(settings(fake_provider))
    async with calling(gateway) as client:
        info = await client.info()
        for name in [*(model.model_id for model in info.available_models), *info.model_aliases]:
            assert (await client.execute(prompt(name))).success.response_text, name


async def test_an_answer_s_metadata_names_the_request_and_the_model(serving: Serving, fake_provider: FakeProvider):
    gateway = await serving(settings(fake_provider))
    async with calling(gateway) as client:
        call = client.execute_rpc(prompt(), metadata=BEARER, timeout=60)
        await call
        trailing = {str(name): value for name, value in (await call.trailing_metadata() or ())}
    assert trailing["x-request-id"] == gateway.rows()[0]["id"]
    assert trailing["x-tollhouse-model"] == "openai/gpt-4o-mini"


async def test_an_unknown_method_is_unimplemented(serving: Serving, fake_provider: FakeProvider):
    gateway = await serving(settings(fake_provider))
    async with calling(gateway) as client:
        unknown: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = client.channel.unary_unary(
            "/vibectl.llm_proxy.VibectlLLMProxy/Nothing"
        )
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await unknown(b"", metadata=BEARER, timeout=60)
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED


# -- what is kept of it


async def test_prompts_and_answers_are_kept_redacted_like_those_of_other_doors(
    serving: Serving, fake_provider: FakeProvider, tmp_path: Path
):
    fake_provider.default = Answer(text="Write to ann@example.com soon.")
    gateway = await serving(
        settings(fake_provider)
        + f"\nlogging: {{calls: 'off', bodies: redacted, bodies_path: '{tmp_path / 'bodies.db'}'}}"
    )
    async with calling(gateway) as client:
        await client.execute(prompt(user=["Who is bob@example.com?"]))
        await client.stream(prompt(user=["And eve@example.com?"]))
        await client.execute(prompt("nothing"))
    ids = [row["id"] for row in gateway.rows()]
    await gateway.close()
    kept = [BodiesFile(tmp_path / "bodies.db").read(call_id) for call_id in ids]
    for one, asked, said in zip(kept, ("Who is [email]?", "And [email]?"), ("success", '"complete":true'), strict=True):
        assert one is not None
        assert asked in str(one.request)
        assert "Write to [email] soon." in str(one.answer)
        assert said in str(one.answer)
        assert "@example.com" not in f"{one.request!r}{one.answer!r}"
