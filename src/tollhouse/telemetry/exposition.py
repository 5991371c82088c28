"""A snapshot of the metrics as Prometheus text.  Imported when somebody scrapes; see `metrics`."""

from collections.abc import Iterable, Iterator
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from tollhouse.telemetry.metrics import (
    DURATION_BUCKETS_US,
    FIRST_TOKEN_BUCKETS_US,
    LAG_BUCKETS_US,
    Histogram,
    Snapshot,
)
from tollhouse.telemetry.readings import FAMILIES

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

KINDS: Final = ("input", "cache_read", "cache_write", "output", "reasoning")


class _Counts(Collector):
    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterable[Metric]:
        snapshot = self._snapshot
        calls = CounterMetricFamily(
            "tollhouse_calls",
            "Calls by how they ended: ok, or the stable code of the error that the client saw.",
            labels=("door", "provider", "model", "outcome"),
        )
        duration = HistogramMetricFamily(
            "tollhouse_call_duration_seconds",
            "From a call's arrival to its last byte.",
            labels=("door", "provider", "model"),
        )
        first_token = HistogramMetricFamily(
            "tollhouse_time_to_first_token_seconds",
            "From a call's arrival to the first content for the client.",
            labels=("door", "provider", "model"),
        )
        tokens = CounterMetricFamily(
            "tollhouse_tokens",
            "Model tokens; input and output are totals, the other kinds are parts of them.",
            labels=("door", "provider", "model", "kind"),
        )
        cost = CounterMetricFamily(
            "tollhouse_cost_usd",
            "Cost of calls whose price is known, in dollars.",
            labels=("door", "provider", "model"),
        )
        for series in snapshot.series:
            labels = (series.door, series.provider, series.model)
            for outcome, count in series.outcomes.items():
                calls.add_metric((*labels, outcome), count)
            duration.add_metric(labels, *_buckets(series.duration, DURATION_BUCKETS_US))
            first_token.add_metric(labels, *_buckets(series.first_token, FIRST_TOKEN_BUCKETS_US))
            for kind in KINDS:
                tokens.add_metric((*labels, kind), getattr(series, f"{kind}_tokens"))
            cost.add_metric(labels, series.cost_nano / 1e9)
        attempts = CounterMetricFamily(
            "tollhouse_attempts", "Upstream calls by how they ended.", labels=("provider", "outcome")
        )
        for provider, outcomes in snapshot.attempts.items():
            for outcome, count in outcomes.items():
                attempts.add_metric((provider, outcome), count)
        in_flight = GaugeMetricFamily("tollhouse_calls_in_flight", "Calls being answered now.", snapshot.in_flight)
        loop_lag = HistogramMetricFamily(
            "tollhouse_event_loop_lag_seconds",
            "How much later than it was to the event loop came back to a task that slept, looked at four times a second.",
        )
        loop_lag.add_metric((), *_buckets(snapshot.loop_lag, LAG_BUCKETS_US))
        return (calls, duration, first_token, tokens, cost, attempts, in_flight, loop_lag, *_families(snapshot))


def _families(snapshot: Snapshot) -> Iterator[Metric]:
    """What was read, all families of it: a rule about one of which there is nothing yet is no mistake."""
    for family in FAMILIES:
        kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
        metric = kind(family.name.removesuffix("_total"), family.meaning, labels=family.labels)
        for sample in snapshot.readings.samples.get(family.name, ()):
            metric.add_metric(sample.labels, sample.value)
        yield metric


def _buckets(histogram: Histogram, bounds_us: tuple[int, ...]) -> tuple[list[tuple[str, float]], float]:
    """Cumulative counts under their upper bounds in seconds, and the sum in seconds."""
    return list(_cumulative(histogram.counts, bounds_us)), histogram.total_us / 1e6


def _cumulative(counts: list[int], bounds_us: tuple[int, ...]) -> Iterator[tuple[str, float]]:
    total = 0
    for bound, count in zip((*bounds_us, None), counts, strict=True):
        total += count
        yield ("+Inf" if bound is None else repr(bound / 1e6)), total


def render(snapshot: Snapshot) -> bytes:
    """The exposition text: the gateway's own metrics, and the resources of the process that answers."""
    registry = CollectorRegistry()
    registry.register(_Counts(snapshot))
    ProcessCollector(registry=registry)
    return generate_latest(registry)
