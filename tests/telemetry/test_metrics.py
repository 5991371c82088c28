"""Metrics are made from finished records, and nobody outside can make series."""

from prometheus_client import CollectorRegistry

from tollhouse.chat.usage import Usage
from tollhouse.ledger.record import Attempt, CallRecord
from tollhouse.telemetry.metrics import MAX_MODELS, Metrics, render


def record(model: str = "m", outcome: str = "ok", **more: object) -> CallRecord:
    values: dict[str, object] = {
        "id": "r",
        "started_at_us": 0,
        "door": "openai_chat",
        "provider": "p",
        "model": model,
        "outcome": outcome,
        "duration_us": 300_000,
        **more,
    }
    return CallRecord(**values)  # type: ignore[arg-type]


def fresh() -> tuple[CollectorRegistry, Metrics]:
    registry = CollectorRegistry()
    return registry, Metrics(registry)


def test_a_finished_call_is_counted_with_its_tokens_cost_and_times():
    registry, metrics = fresh()
    usage = Usage(input_tokens=100, output_tokens=20, cache_read_tokens=60, reasoning_tokens=5, source="reported")
    metrics.finished(
        record(
            usage=usage,
            cost_nano=2_500_000,
            first_byte_us=120_000,
            attempts=(
                Attempt(provider="q", model="m", outcome="provider_timeout"),
                Attempt(provider="p", model="m", outcome="ok"),
            ),
        )
    )
    labels = {"provider": "p", "model": "m"}
    value = registry.get_sample_value
    assert value("tollhouse_calls_total", {"door": "openai_chat", **labels, "outcome": "ok"}) == 1
    assert value("tollhouse_tokens_total", {**labels, "kind": "input"}) == 100
    assert value("tollhouse_tokens_total", {**labels, "kind": "output"}) == 20
    assert value("tollhouse_tokens_total", {**labels, "kind": "cache_read"}) == 60
    assert value("tollhouse_tokens_total", {**labels, "kind": "reasoning"}) == 5
    assert value("tollhouse_cost_usd_total", labels) == 0.0025
    assert value("tollhouse_call_duration_seconds_sum", {"door": "openai_chat", **labels}) == 0.3
    assert value("tollhouse_time_to_first_token_seconds_sum", {"door": "openai_chat", **labels}) == 0.12
    assert value("tollhouse_attempts_total", {"provider": "q", "outcome": "provider_timeout"}) == 1
    assert value("tollhouse_attempts_total", {"provider": "p", "outcome": "ok"}) == 1


def test_invented_model_names_make_no_series():
    registry, metrics = fresh()
    for number in range(50):
        metrics.finished(record(model=f"typo-{number}", outcome="provider_refused"))
    text = render(registry).decode()
    assert "typo-" not in text
    assert 'model="other",outcome="provider_refused",provider="p"} 50.0' in text


def test_models_that_answered_are_bounded_too():
    registry, metrics = fresh()
    for number in range(MAX_MODELS + 10):
        metrics.finished(record(model=f"m{number}"))
    labels = {"door": "openai_chat", "provider": "p", "outcome": "ok"}
    assert registry.get_sample_value("tollhouse_calls_total", {**labels, "model": "m0"}) == 1
    assert registry.get_sample_value("tollhouse_calls_total", {**labels, "model": "other"}) == 10


def test_a_model_that_failed_first_gets_its_series_when_it_answers():
    registry, metrics = fresh()
    metrics.finished(record(outcome="provider_timeout"))
    metrics.finished(record())
    metrics.finished(record(outcome="provider_timeout"))
    value = registry.get_sample_value
    labels = {"door": "openai_chat", "provider": "p"}
    assert value("tollhouse_calls_total", {**labels, "model": "other", "outcome": "provider_timeout"}) == 1
    assert value("tollhouse_calls_total", {**labels, "model": "m", "outcome": "ok"}) == 1
    assert value("tollhouse_calls_total", {**labels, "model": "m", "outcome": "provider_timeout"}) == 1
