"""Metrics are made from finished records, and nobody outside can make series."""

import msgspec
from prometheus_client.parser import text_string_to_metric_families

from tollhouse.chat.usage import Usage
from tollhouse.ledger.record import Attempt, CallRecord
from tollhouse.telemetry.exposition import render
from tollhouse.telemetry.metrics import MAX_MODELS, Metrics, Snapshot, added


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


def samples(snapshot: Snapshot) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """What a scraper reads, by name and labels."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(render(snapshot).decode())
        for sample in family.samples
    }


class Scrape:
    def __init__(self, snapshot: Snapshot) -> None:
        self.samples = samples(snapshot)

    def value(self, name: str, **labels: str) -> float | None:
        return self.samples.get((name, frozenset(labels.items())))


PM = {"provider": "p", "model": "m"}
DPM = {"door": "openai_chat", **PM}


def test_a_finished_call_is_counted_with_its_tokens_cost_and_times():
    metrics = Metrics()
    usage = Usage(input_tokens=100, output_tokens=20, cache_read_tokens=60, reasoning_tokens=5, source="reported")
    attempts = (
        Attempt(provider="q", model="m", outcome="provider_timeout"),
        Attempt(provider="p", model="m", outcome="ok"),
    )
    metrics.finished(record(usage=usage, cost_nano=2_500_000, first_byte_us=120_000, attempts=attempts))
    scrape = Scrape(metrics.snapshot())
    assert scrape.value("tollhouse_calls_total", **DPM, outcome="ok") == 1
    assert scrape.value("tollhouse_tokens_total", **DPM, kind="input") == 100
    assert scrape.value("tollhouse_tokens_total", **DPM, kind="output") == 20
    assert scrape.value("tollhouse_tokens_total", **DPM, kind="cache_read") == 60
    assert scrape.value("tollhouse_tokens_total", **DPM, kind="reasoning") == 5
    assert scrape.value("tollhouse_cost_usd_total", **DPM) == 0.0025
    assert scrape.value("tollhouse_call_duration_seconds_sum", **DPM) == 0.3
    assert scrape.value("tollhouse_time_to_first_token_seconds_sum", **DPM) == 0.12
    assert scrape.value("tollhouse_attempts_total", provider="q", outcome="provider_timeout") == 1
    assert scrape.value("tollhouse_attempts_total", provider="p", outcome="ok") == 1


def test_histogram_buckets_are_cumulative_and_a_bound_belongs_to_its_bucket():
    metrics = Metrics()
    for duration_us in (50_000, 50_001, 10**9):
        metrics.finished(record(duration_us=duration_us))
    scrape = Scrape(metrics.snapshot())
    name = "tollhouse_call_duration_seconds"
    assert scrape.value(f"{name}_bucket", **DPM, le="0.05") == 1
    assert scrape.value(f"{name}_bucket", **DPM, le="0.1") == 2
    assert scrape.value(f"{name}_bucket", **DPM, le="640.0") == 2
    assert scrape.value(f"{name}_bucket", **DPM, le="+Inf") == 3
    assert scrape.value(f"{name}_count", **DPM) == 3


def test_invented_model_names_make_no_series():
    metrics = Metrics()
    for number in range(50):
        metrics.finished(record(model=f"typo-{number}", outcome="provider_refused"))
    assert b"typo-" not in render(metrics.snapshot())
    assert (
        Scrape(metrics.snapshot()).value(
            "tollhouse_calls_total", door="openai_chat", provider="p", model="other", outcome="provider_refused"
        )
        == 50
    )


def test_models_that_answered_are_bounded_too():
    metrics = Metrics()
    for number in range(MAX_MODELS + 10):
        metrics.finished(record(model=f"m{number}"))
    scrape = Scrape(metrics.snapshot())
    labels = {"door": "openai_chat", "provider": "p", "outcome": "ok"}
    assert scrape.value("tollhouse_calls_total", **labels, model="m0") == 1
    assert scrape.value("tollhouse_calls_total", **labels, model="other") == 10


def test_a_model_that_failed_first_gets_its_series_when_it_answers():
    metrics = Metrics()
    metrics.finished(record(outcome="provider_timeout"))
    metrics.finished(record())
    metrics.finished(record(outcome="provider_timeout"))
    scrape = Scrape(metrics.snapshot())
    labels = {"door": "openai_chat", "provider": "p"}
    assert scrape.value("tollhouse_calls_total", **labels, model="other", outcome="provider_timeout") == 1
    assert scrape.value("tollhouse_calls_total", **labels, model="m", outcome="ok") == 1
    assert scrape.value("tollhouse_calls_total", **labels, model="m", outcome="provider_timeout") == 1


def test_a_snapshot_stays_as_it_was_while_counting_goes_on():
    """It is rendered in another thread, where a count that grows meanwhile would break the loop over it."""
    metrics = Metrics()
    metrics.finished(record(attempts=(Attempt(provider="p", model="m", outcome="ok"),)))
    snapshot = metrics.snapshot()
    before = msgspec.json.encode(snapshot)
    failed = Attempt(provider="p", model="m", outcome="provider_timeout")
    metrics.finished(record(outcome="provider_timeout", first_byte_us=9, attempts=(failed,)))
    metrics.finished(record("other-model", attempts=(Attempt(provider="q", model="n", outcome="ok"),)))
    assert msgspec.json.encode(snapshot) == before
    assert len(metrics.snapshot().series) == 2


def test_the_counts_of_several_processes_add_up():
    first, second = Metrics(), Metrics()
    first.finished(record(attempts=(Attempt(provider="p", model="m", outcome="ok"),)))
    second.finished(record(attempts=(Attempt(provider="p", model="m", outcome="ok"),), duration_us=10))
    second.finished(record(model="n", cost_nano=7))
    first.in_flight, second.in_flight = 2, 3
    # They travel between processes as JSON.
    snapshots = [msgspec.json.decode(msgspec.json.encode(each.snapshot()), type=Snapshot) for each in (first, second)]
    whole = added(snapshots)
    scrape = Scrape(whole)
    assert scrape.value("tollhouse_calls_total", **DPM, outcome="ok") == 2
    assert scrape.value("tollhouse_call_duration_seconds_bucket", **DPM, le="0.05") == 1
    assert scrape.value("tollhouse_attempts_total", provider="p", outcome="ok") == 2
    assert scrape.value("tollhouse_calls_in_flight") == 5
    assert sum(series.cost_nano for series in whole.series) == 7
    assert added([first.snapshot()]).series[0] is not first.snapshot().series[0], "the live counts stay untouched"
