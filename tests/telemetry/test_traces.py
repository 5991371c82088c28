"""Traces of a whole gateway: what a collector on a real socket is sent of the calls that were really made."""

import asyncio
import io
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc.aio
import msgspec
import pytest

from support import typed_client
from support.clients import CLIENTS
from support.collector import CLIENT, ERROR, SERVER, UNSET, Collector, Seen
from support.fake_provider import FakeProvider
from support.fake_replies import Answer, ErrorAfter, Failure, faulty, words
from support.peer import Peer, Visit
from support.serving import KEY, SERVERS, Running, start
from tollhouse.chat.usage import Usage
from tollhouse.config.schema import TraceSettings
from tollhouse.config.secret import Secret
from tollhouse.ledger.record import Attempt, CallRecord, Trace
from tollhouse.policy.redaction import Redactor
from tollhouse.telemetry.traces import BATCH_SPANS, MAX_WAITING_SPANS, Traces

PATH = CLIENTS["openai"].path
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
AS_US = (b"authorization", b"Bearer " + KEY.encode())
NOWHERE = "http://127.0.0.1:1"
"""Nobody listens there."""


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    async with Collector() as collector:
        yield collector


def settings(fake: FakeProvider, endpoint: str | None, sample: float = 1.0, more: str = "") -> str:
    traces = "" if endpoint is None else f"telemetry: {{traces: {{endpoint: '{endpoint}', sample: {sample}{more}}}}}\n"
    return (
        f"providers:\n  first: {{type: openai, base_url: '{fake.base_url('openai')}', api_key: x}}\n"
        f"  second: {{type: mistral, base_url: '{fake.base_url('mistral')}', api_key: x}}\n"
        "models: {fast: first/gpt-4o-mini, both: [first/gpt-4o-mini, second/mistral-small-latest]}\n"
        f"retry: {{max_attempts: 2, backoff_base: 1ms}}\n{traces}"
    )


@asynccontextmanager
async def gateway(folder: Path, text: str, *, grpc: bool = False) -> AsyncIterator[Running]:
    """One whose traces have come out when the block ends."""
    running = await start(text, folder, SERVERS["own"], grpc=grpc)
    try:
        yield running
    finally:
        await running.close()


def question(model: str = "fast", **fields: object) -> dict[str, object]:
    return CLIENTS["openai"].question(model) | fields


def own(span: Seen) -> dict[str, object]:
    """The attributes, without those that differ from call to call."""
    differing = {"tollhouse.request_id", "tollhouse.time_to_first_token_us", "tollhouse.price_version"}
    return {name: value for name, value in span.attributes.items() if name not in differing}


# ------------------------------------------------------------------------------------------------------------- calls


async def test_a_call_and_its_attempt_are_two_spans_of_one_trace(
    collector: Collector, fake_provider: FakeProvider, tmp_path: Path
):
    async with gateway(tmp_path, settings(fake_provider, collector.url)) as running:
        answer = await running.ask(PATH, question())
        (row,) = running.rows()
    call, attempt = collector.spans

    assert (call.kind, call.name, call.parent_id, call.status) == (SERVER, "chat fast", "", UNSET)
    assert own(call) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "fast",
        "gen_ai.response.model": "gpt-4o-mini",
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.usage.input_tokens": row["input_tokens"],
        "gen_ai.usage.output_tokens": row["output_tokens"],
        "gen_ai.usage.cache_read.input_tokens": row["cache_read_tokens"],
        "gen_ai.usage.reasoning.output_tokens": row["reasoning_tokens"],
        "gen_ai.usage.audio.input_tokens": 0,  # which this provider says
        "gen_ai.usage.audio.output_tokens": 0,
        "http.response.status_code": 200,
        "tollhouse.door": "openai_chat",
        "tollhouse.key": "test",
        "tollhouse.provider": "first",
        "tollhouse.lane": "same",
        "tollhouse.cost_nano_usd": row["cost_nano"],
        "tollhouse.usage_source": "reported",
    }
    assert row["input_tokens"] > 0
    assert row["cost_nano"] > 0
    assert call.attributes["tollhouse.request_id"] == answer.headers["x-request-id"]
    assert call.attributes["tollhouse.price_version"] == row["price_version"]

    assert (attempt.kind, attempt.name, attempt.status) == (CLIENT, "chat gpt-4o-mini", UNSET)
    assert (attempt.trace_id, attempt.parent_id) == (call.trace_id, call.span_id)
    assert own(attempt) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o-mini",
        "http.response.status_code": 200,
        "tollhouse.provider": "first",
        "tollhouse.attempt": 1,
    }
    assert call.start_ns <= attempt.start_ns < attempt.end_ns <= call.end_ns
    assert call.start_ns == row["started_at_us"] * 1000
    assert call.resource["service.name"] == "tollhouse"
    assert {request.target for request in collector.requests} == {"/v1/traces"}


async def test_a_stream_tells_when_its_first_piece_came(
    collector: Collector, fake_provider: FakeProvider, tmp_path: Path
):
    fake_provider.default = Answer(text=words(20))
    async with gateway(tmp_path, settings(fake_provider, collector.url)) as running:
        await running.ask(PATH, question(stream=True))
    call, attempt = collector.spans
    assert call.attributes["gen_ai.request.stream"] is attempt.attributes["gen_ai.request.stream"] is True
    first_us = call.attributes["tollhouse.time_to_first_token_us"]
    assert call.attributes["gen_ai.response.time_to_first_chunk"] == first_us / 1e6
    assert 0 < first_us * 1000 <= call.end_ns - call.start_ns
    assert call.attributes["gen_ai.usage.output_tokens"] == 20


async def test_a_failover_is_two_attempts_one_after_the_other(
    collector: Collector, fake_provider: FakeProvider, tmp_path: Path
):
    fake_provider.reply(Failure(status=503))
    async with gateway(tmp_path, settings(fake_provider, collector.url)) as running:
        assert (await running.ask(PATH, question("both"))).status == 200
    call, failed, answered = collector.spans
    assert call.status == UNSET
    assert call.attributes["gen_ai.response.model"] == "mistral-small-latest"
    assert (failed.status, answered.status) == (ERROR, UNSET)
    assert own(failed) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o-mini",
        "error.type": "provider_refused",
        "http.response.status_code": 503,
        "tollhouse.provider": "first",
        "tollhouse.attempt": 1,
    }
    assert (answered.attributes["gen_ai.provider.name"], answered.attributes["tollhouse.attempt"]) == ("mistral_ai", 2)
    assert {failed.parent_id, answered.parent_id} == {call.span_id}
    assert len({call.span_id, failed.span_id, answered.span_id}) == 3
    assert call.start_ns <= failed.start_ns < failed.end_ns <= answered.start_ns < answered.end_ns <= call.end_ns


async def test_an_error_is_told_by_its_code(collector: Collector, fake_provider: FakeProvider, tmp_path: Path):
    fake_provider.default = Failure(status=500, message="the prompt was: secret plans")
    async with gateway(tmp_path, settings(fake_provider, collector.url)) as running:
        answer = await running.ask(PATH, question())
    (call,) = collector.calls
    assert call.status == ERROR
    assert call.attributes["http.response.status_code"] == answer.status >= 500
    assert call.attributes["error.type"] == collector.attempts[0].attributes["error.type"]
    assert "gen_ai.response.model" not in call.attributes
    assert call.words == "server_error", "the name of the provider's error, and not its sentence"
    assert not any(b"secret plans" in body for body in collector.bodies)


async def test_a_stream_that_broke_is_an_error_whatever_its_status_was(
    collector: Collector, fake_provider: FakeProvider, tmp_path: Path
):
    fake_provider.default = faulty(Answer(text=words(9)), ErrorAfter(5, Failure(status=500)))
    async with gateway(tmp_path, settings(fake_provider, collector.url)) as running:
        await running.ask(PATH, question(stream=True))
    (call,) = collector.calls
    assert (call.status, call.attributes["http.response.status_code"]) == (ERROR, 200)
    assert call.attributes["error.type"]


async def test_what_the_caller_did_wrong_is_no_error_of_the_gateway(
    collector: Collector, fake_provider: FakeProvider, tmp_path: Path
):
    async with gateway(tmp_path, settings(fake_provider, collector.url)) as running:
        assert (await running.ask(PATH, question("no-such-model"))).status == 404
    (call,) = collector.spans
    assert (call.status, call.attributes["error.type"]) == (UNSET, "model_not_found")
    # A caller can make up any number of names; they would be as many names of spans.
    assert (call.name, call.attributes["gen_ai.request.model"]) == ("chat", "no-such-model")


# ------------------------------------------------------------------------------------------------- parents, sampling


@pytest.mark.parametrize(("flag", "sample", "spans"), [("01", 0.0, 2), ("00", 1.0, 0)])
async def test_the_callers_flag_decides(
    collector: Collector, fake_provider: FakeProvider, tmp_path: Path, flag: str, sample: float, spans: int
):
    said = (b"traceparent", f"00-{TRACE}-{PARENT}-{flag}".encode())
    async with gateway(tmp_path, settings(fake_provider, collector.url, sample)) as running:
        await running.ask(PATH, question(), headers=[AS_US, said])
        await running.ask("/v1/messages", question(max_tokens=9), headers=[AS_US, said])
    assert len(collector.spans) == spans * 2
    assert [(call.trace_id, call.parent_id) for call in collector.calls] == [(TRACE, PARENT)] * spans
    line = msgspec.json.decode((tmp_path / "calls.log").read_bytes().splitlines()[0])
    assert line["trace"]["trace_id"] == TRACE, "so that a line is found by what its caller knows"


async def test_calls_that_nobody_decides_are_sampled_by_the_setting(
    collector: Collector, fake_provider: FakeProvider, tmp_path: Path
):
    async with gateway(tmp_path, settings(fake_provider, collector.url, 0.0)) as running:
        await running.ask(PATH, question())
    assert collector.requests == []


async def test_metadata_of_grpc_says_the_same(collector: Collector, fake_provider: FakeProvider, tmp_path: Path):
    metadata = (("authorization", f"Bearer {KEY}"), ("traceparent", f"00-{TRACE}-{PARENT}-01"))
    async with (
        gateway(tmp_path, settings(fake_provider, collector.url, 0.0), grpc=True) as running,
        grpc.aio.insecure_channel(running.grpc) as channel,
    ):
        chat: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/tollhouse.v1.Gateway/Chat")
        await chat(typed_client.written(typed_client.question("fast"), "protobuf"), metadata=metadata)
    call, attempt = collector.spans
    assert (call.trace_id, call.parent_id, call.attributes["tollhouse.door"]) == (TRACE, PARENT, "tollhouse")
    assert attempt.parent_id == call.span_id


async def test_a_gateway_behind_goes_on_with_the_trace_and_no_provider_hears_of_it(
    collector: Collector, fake_provider: FakeProvider, tmp_path: Path
):
    said = (b"traceparent", f"00-{TRACE}-{PARENT}-01".encode())
    for name in ("front", "back"):
        (tmp_path / name).mkdir()
    async with AsyncExitStack() as stack:
        back = await stack.enter_async_context(gateway(tmp_path / "back", settings(fake_provider, collector.url, 0.0)))
        front = await stack.enter_async_context(
            gateway(
                tmp_path / "front",
                f"providers: {{behind: {{type: tollhouse, base_url: '{back.url}', api_key: {KEY}}}}}\n"
                f"models: {{fast: behind/fast, text-embedding-3-small: behind/first/text-embedding-3-small}}\n"
                f"telemetry: {{traces: {{endpoint: '{collector.url}', sample: 0}}}}",
            )
        )
        answers = [
            await front.ask(PATH, question(), headers=[AS_US, said]),
            await front.ask(PATH, question(stream=True), headers=[AS_US, said]),
            await front.ask("/v1/embeddings", {"model": "text-embedding-3-small", "input": "x"}, headers=[AS_US, said]),
            await front.ask(PATH, question()),
        ]
        assert [answer.status for answer in answers] == [200] * 4
    assert {span.trace_id for span in collector.spans} == {TRACE}, "the last one is not sampled behind either"
    by_id = {span.span_id: span for span in collector.spans}
    chains = [_chain(span, by_id) for span in collector.attempts if span.attributes["tollhouse.provider"] == "first"]
    assert chains == [["first", "first", "behind", "behind"]] * 3
    assert not any("traceparent" in call.headers for call in [*fake_provider.calls, *fake_provider.other_calls])


def _chain(span: Seen, by_id: dict[str, Seen]) -> list[str]:
    """The providers of a span and of those that it is inside of."""
    outer = by_id.get(span.parent_id)
    return [span.attributes["tollhouse.provider"], *([] if outer is None else _chain(outer, by_id))]


async def test_nothing_is_traced_unless_it_is_asked_for(fake_provider: FakeProvider, tmp_path: Path):
    said = (b"traceparent", f"00-{TRACE}-{PARENT}-01".encode())
    async with gateway(tmp_path, settings(fake_provider, None)) as running:
        await running.ask(PATH, question(), headers=[AS_US, said])
    assert b"trace" not in (tmp_path / "calls.log").read_bytes()


# ----------------------------------------------------------------------------------------------------- the collector


async def test_a_collector_that_is_away_costs_spans_and_nothing_else(
    fake_provider: FakeProvider, tmp_path: Path, telemetry_log: io.StringIO
):
    more = ", timeout: 100ms, headers: {x-team: t0p-secret-t0ken}"
    async with gateway(tmp_path, settings(fake_provider, NOWHERE, more=more)) as running:
        answers = [await running.ask(PATH, question()) for _ in range(3)]
    assert [answer.status for answer in answers] == [200] * 3
    lines = [line for line in _lines(telemetry_log) if line["event"] == "spans were lost"]
    assert sum(line["spans"] for line in lines) == 6
    assert lines[-1]["reason"].endswith("the collector was not reached: ConnectionError")
    assert "t0p-secret" not in telemetry_log.getvalue()


async def test_a_collector_that_refuses_costs_the_same(
    fake_provider: FakeProvider, tmp_path: Path, telemetry_log: io.StringIO
):
    async with (
        Collector(status=401) as collector,
        gateway(tmp_path, settings(fake_provider, collector.url)) as running,
    ):
        await running.ask(PATH, question())
        await running.close()
        (line,) = [line for line in _lines(telemetry_log) if line["event"] == "spans were lost"]
    assert (line["spans"], line["reason"]) == (2, "the collector answered 401")


async def test_what_the_collector_wants_to_see_is_sent_to_it_alone(fake_provider: FakeProvider, tmp_path: Path):
    elsewhere: list[str] = []

    async def another(visit: Visit) -> None:
        elsewhere.append((await visit.request()).target)

    async def redirecting(visit: Visit) -> None:
        request = await visit.request()
        assert request.header("x-team") == "t0ken"
        await visit.answer(status=307, headers=[("location", other.url)])

    async with Peer(another) as other, Peer(redirecting) as collector:
        more = ", headers: {X-Team: t0ken}, timeout: 1s"
        async with gateway(tmp_path, settings(fake_provider, f"{collector.url}/v1/traces", more=more)) as running:
            await running.ask(PATH, question())
        assert collector.visits
    assert elsewhere == []


def _lines(log: io.StringIO) -> list[dict[str, Any]]:
    return [msgspec.json.decode(line) for line in log.getvalue().splitlines()]


def _traces(endpoint: str, lost: Callable[[int, str], None], headers: dict[str, Secret] | None = None) -> Traces:
    return Traces(
        TraceSettings(endpoint=endpoint, headers=headers or {}, timeout_seconds=5.0),
        Redactor(["secrets"]),
        type_of=lambda name: name,
        lost=lost,
        monotonic=lambda: 0.0,
    )


def finished(number: int, **fields: object) -> CallRecord:
    record = CallRecord(
        id=f"req-{number}",
        started_at_us=1_795_262_400_000_000 + number,
        door="openai_chat",
        requested_model="fast",
        provider="openai",
        model="gpt-4o-mini",
        status=200,
        duration_us=9,
        attempts=(Attempt(provider="openai", model="gpt-4o-mini", outcome="ok", status=200, duration_us=5),),
        trace=Trace(trace_id=f"{number + 1:032x}", span_id=f"{(number << 8) + (1 << 60):016x}", is_sampled=True),
    )
    return msgspec.structs.replace(record, **fields)


async def test_what_waits_is_bounded_and_the_rest_is_counted():
    """The collector takes a connection and says nothing; then the gateway ends, and does not wait for it either."""
    lost: list[tuple[int, str]] = []
    reached = asyncio.Event()

    async def silent(visit: Visit) -> None:
        await visit.request_head()
        reached.set()
        await visit.stall()

    async with Peer(silent) as peer:
        traces = _traces(peer.url, lambda spans, why: lost.append((spans, why)))
        for number in range(BATCH_SPANS):
            traces.finished(finished(number))
        await reached.wait()
        for number in range(BATCH_SPANS, MAX_WAITING_SPANS):
            traces.finished(finished(number))
        assert traces.state().waiting == MAX_WAITING_SPANS
        assert traces.state().lost == MAX_WAITING_SPANS
        assert lost[0] == (2, "they came faster than the collector took them")
        assert not await asyncio.to_thread(traces.close, 0.01)
    assert traces.state().sent == 0
    assert sum(spans for spans, _ in lost) == 2 * MAX_WAITING_SPANS
    assert traces.close(0.01), "a second time there is nothing left to lose"


async def test_everything_that_was_taken_is_sent_before_the_end(collector: Collector):
    lost: list[int] = []
    traces = _traces(collector.url, lambda spans, _: lost.append(spans))
    for number in range(700):
        traces.finished(finished(number))
    assert await asyncio.to_thread(traces.close)
    assert (traces.state().sent, traces.state().lost, lost) == (1400, 0, [])
    assert len({span.span_id for span in collector.spans}) == 1400


async def test_words_that_no_encoding_has_do_not_cost_a_batch(collector: Collector):
    traces = _traces(collector.url, lambda spans, why: pytest.fail(f"{spans} {why}"))
    traces.finished(finished(0, requested_model="half \ud83d of a pair", receipt="x" * 5000))
    assert await asyncio.to_thread(traces.close)
    (call,) = collector.calls
    assert call.attributes["gen_ai.request.model"] == "half ? of a pair"
    assert len(call.attributes["tollhouse.receipt"]) == 1000


async def test_counts_that_were_not_reported_say_so(collector: Collector):
    traces = _traces(collector.url, lambda spans, why: pytest.fail(f"{spans} {why}"))
    usage = Usage(input_tokens=9, output_tokens=0, input_audio_tokens=3, source="estimated")
    traces.finished(finished(0, usage=usage, cost_nano=0, door="openai_embeddings", cache="hit", attempts=()))
    assert await asyncio.to_thread(traces.close)
    (call,) = collector.spans
    assert call.name == "embeddings fast"
    assert call.attributes["tollhouse.usage_source"] == "estimated"
    assert call.attributes["tollhouse.cost_nano_usd"] == 0
    assert call.attributes["tollhouse.cache"] == "hit"
    assert call.attributes["gen_ai.usage.output_tokens"] == 0
    assert "gen_ai.usage.audio.input_tokens" not in call.attributes


# --------------------------------------------------------------------------------------------------------- the extra

_WITHOUT = """
import sys
sys.modules["opentelemetry.exporter"] = None  # as where it is not installed
from tollhouse.cli import main
main()
"""


@pytest.mark.parametrize("command", [("serve",), ("config", "check")])
def test_a_missing_extra_is_told_of_in_one_line(tmp_path: Path, command: Sequence[str]):
    file = tmp_path / "tollhouse.yaml"
    file.write_text(
        "server: {port: 0, admin_port: 0, grpc_port: none}\nauth: {open: true}\n"
        f"ledger: {{url: 'sqlite:///{tmp_path}/ledger.db'}}\n"
        "providers: {lab: {type: openai-compatible, base_url: 'http://127.0.0.1:1/v1'}}\n"
        f"telemetry: {{traces: {{endpoint: '{NOWHERE}'}}}}\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT, *command, "--config", str(file)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"HOME": str(tmp_path), "PATH": ""},
    )
    assert done.returncode != 0
    (line,) = [line for line in (done.stdout + done.stderr).splitlines() if "otel" in line]
    assert re.search(r"telemetry\.traces.*pip install 'tollhouse\[otel\]'", line)
