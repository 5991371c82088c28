"""Metrics are made from finished records, and nobody outside can make series."""

import msgspec

from support.scrape import Scrape
from tollhouse.chat.usage import Usage
from tollhouse.ledger.record import Attempt, CallRecord
from tollhouse.telemetry.exposition import render
from tollhouse.telemetry.metrics import MAX_HEARD, MAX_MODELS, Metrics, Snapshot, added


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


def scraped(snapshot: Snapshot) -> Scrape:
    return Scrape(render(snapshot).decode())


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
    scrape = scraped(metrics.snapshot())
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
    scrape = scraped(metrics.snapshot())
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
        scraped(metrics.snapshot()).value(
            "tollhouse_calls_total", door="openai_chat", provider="p", model="other", outcome="provider_refused"
        )
        == 50
    )


def test_models_that_answered_are_bounded_too():
    metrics = Metrics()
    for number in range(MAX_MODELS + 10):
        metrics.finished(record(model=f"m{number}"))
    scrape = scraped(metrics.snapshot())
    labels = {"door": "openai_chat", "provider": "p", "outcome": "ok"}
    assert scrape.value("tollhouse_calls_total", **labels, model="m0") == 1
    assert scrape.value("tollhouse_calls_total", **labels, model="other") == 10


def test_a_model_that_failed_first_gets_its_series_when_it_answers():
    metrics = Metrics()
    metrics.finished(record(outcome="provider_timeout"))
    metrics.finished(record())
    metrics.finished(record(outcome="provider_timeout"))
    scrape = scraped(metrics.snapshot())
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
    first.note_lag(0.0004)
    second.note_lag(3.0)
    # They travel between processes as JSON.
    snapshots = [msgspec.json.decode(msgspec.json.encode(each.snapshot()), type=Snapshot) for each in (first, second)]
    whole = added(snapshots)
    scrape = scraped(whole)
    assert scrape.value("tollhouse_calls_total", **DPM, outcome="ok") == 2
    assert scrape.value("tollhouse_call_duration_seconds_bucket", **DPM, le="0.05") == 1
    assert scrape.value("tollhouse_attempts_total", provider="p", outcome="ok") == 2
    assert scrape.value("tollhouse_calls_in_flight") == 5
    assert sum(series.cost_nano for series in whole.series) == 7
    assert scrape.value("tollhouse_event_loop_lag_seconds_count") == 2
    assert added([first.snapshot()]).series[0] is not first.snapshot().series[0], "the live counts stay untouched"


# ------------------------------------------------------------------------------------------------- what few calls have


def attempt(provider: str, outcome: str = "ok", model: str = "m") -> Attempt:
    return Attempt(provider=provider, model=model, outcome=outcome)


def test_attempts_after_the_first_are_retries_or_fallbacks():
    metrics = Metrics()
    failed = attempt("p", "provider_timeout")
    metrics.finished(record(attempts=(failed, failed, attempt("q", "provider_refused"), attempt("q", model="n"))))
    metrics.finished(record(attempts=(attempt("p"),)))
    scrape = scraped(metrics.snapshot())
    assert scrape.of("tollhouse_retries_total") == {("p",): 1}
    assert scrape.value("tollhouse_fallbacks_total", provider="q", failed="p") == 1
    assert scrape.value("tollhouse_fallbacks_total", provider="q", failed="q") == 1, "to another model of the same"


def test_a_call_that_no_provider_was_asked_for_is_refused_once_however_many_tell_of_it():
    """An errand is handed over with its record, and its door hears of the error too."""
    metrics = Metrics()
    metrics.finished(record(id="errand", outcome="rate_limited"))
    metrics.refused("errand", "rate_limited")
    metrics.refused("never-a-call", "body_too_large")
    metrics.finished(record(id="chat", outcome="rate_limited"))
    metrics.finished(record(id="asked", outcome="provider_timeout", attempts=(attempt("p", "provider_timeout"),)))
    metrics.refused("asked", "provider_timeout")
    metrics.finished(record(id="left", outcome="client_left"))
    metrics.finished(record(id="joined", outcome="provider_timeout", cache="shared"))
    assert scraped(metrics.snapshot()).of("tollhouse_refused_total") == {("rate_limited",): 2, ("body_too_large",): 1}


def test_only_so_many_refused_calls_are_remembered():
    metrics = Metrics()
    for number in range(MAX_HEARD + 1):
        metrics.finished(record(id=f"r{number}", outcome="rate_limited"))
    metrics.refused("r1", "rate_limited")
    assert scraped(metrics.snapshot()).of("tollhouse_refused_total") == {("rate_limited",): MAX_HEARD + 1}
    metrics.refused("r0", "rate_limited")
    assert scraped(metrics.snapshot()).of("tollhouse_refused_total") == {("rate_limited",): MAX_HEARD + 2}


def test_a_stream_is_cut_when_content_had_come_and_its_client_was_still_there():
    metrics = Metrics()
    for outcome, first_byte_us in (("provider_truncated", 9), ("provider_truncated", None), ("client_left", 9)):
        broken = (attempt("p", outcome),)
        metrics.finished(record(outcome=outcome, streamed=True, first_byte_us=first_byte_us, attempts=broken))
    metrics.finished(record(streamed=True, first_byte_us=9, attempts=(attempt("p"),)))
    scrape = scraped(metrics.snapshot())
    assert scrape.of("tollhouse_streams_cut_total") == {("provider_truncated", "p"): 1}


def test_lag_is_counted_by_how_long_it_was_and_never_less_than_nothing():
    metrics = Metrics()
    for seconds in (-0.001, 0.004, 10):
        metrics.note_lag(seconds)
    scrape = scraped(metrics.snapshot())
    name = "tollhouse_event_loop_lag_seconds"
    assert scrape.value(f"{name}_bucket", le="0.001") == 1
    assert scrape.value(f"{name}_bucket", le="0.005") == 2
    assert scrape.value(f"{name}_bucket", le="+Inf") == 3
