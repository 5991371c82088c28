"""Prometheus metrics, all made from finished call records.

Labels are bounded: doors and providers come from our code and the configuration; a model gets a series of its own only once a
call to it succeeded, and only while there are fewer than `MAX_MODELS` of them.  Others count under `other`, so that a client
that invents names cannot make series.

With several workers the library's multi-process mode sums them: `enable_multiprocess` has to run, in every process, before
this module is imported for the first time.
"""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from tollhouse.ledger.record import CallRecord

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
MAX_MODELS: Final = 200
OTHER: Final = "other"

DURATION_BUCKETS: Final = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 640)
FIRST_TOKEN_BUCKETS: Final = (0.02, 0.05, 0.1, 0.25, 0.5, 0.75, 1, 2, 4, 8, 16, 32, 64)


class _Series:
    """The children of one combination of labels, looked up once."""

    __slots__ = ("cost", "duration", "first_token", "outcomes", "tokens")

    def __init__(self, metrics: "Metrics", door: str, provider: str, model: str) -> None:
        self.duration = metrics.duration.labels(door, provider, model)
        self.first_token = metrics.first_token.labels(door, provider, model)
        self.cost = metrics.cost.labels(provider, model)
        self.tokens = {
            kind: metrics.tokens.labels(provider, model, kind)
            for kind in ("input", "cache_read", "cache_write", "output", "reasoning")
        }
        self.outcomes: dict[str, Counter] = {}


class Metrics:
    """The gateway's metrics of one process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.calls = Counter(
            "tollhouse_calls",
            "Calls by how they ended: ok, or the stable code of the error that the client saw.",
            ("door", "provider", "model", "outcome"),
            registry=registry,
        )
        self.attempts = Counter(
            "tollhouse_attempts", "Upstream calls by how they ended.", ("provider", "outcome"), registry=registry
        )
        self.duration = Histogram(
            "tollhouse_call_duration_seconds",
            "From a call's arrival to its last byte.",
            ("door", "provider", "model"),
            buckets=DURATION_BUCKETS,
            registry=registry,
        )
        self.first_token = Histogram(
            "tollhouse_time_to_first_token_seconds",
            "From a call's arrival to the first content for the client.",
            ("door", "provider", "model"),
            buckets=FIRST_TOKEN_BUCKETS,
            registry=registry,
        )
        self.tokens = Counter(
            "tollhouse_tokens",
            "Model tokens; input and output are totals, the other kinds are parts of them.",
            ("provider", "model", "kind"),
            registry=registry,
        )
        self.cost = Counter(
            "tollhouse_cost_usd",
            "Cost of calls whose price is known, in dollars.",
            ("provider", "model"),
            registry=registry,
        )
        self.in_flight = Gauge(
            "tollhouse_calls_in_flight", "Calls being answered now.", registry=registry, multiprocess_mode="livesum"
        )
        self._series: dict[tuple[str, str, str], _Series] = {}
        self._attempt_children: dict[tuple[str, str], Counter] = {}
        self._models: set[tuple[str, str]] = set()

    def finished(self, record: CallRecord) -> None:
        """Counts one finished call."""
        series = self._find(record)
        outcome = series.outcomes.get(record.outcome)
        if outcome is None:
            model = self._model(record)
            outcome = self.calls.labels(record.door, record.provider, model, record.outcome)
            series.outcomes[record.outcome] = outcome
        outcome.inc()
        series.duration.observe(record.duration_us / 1e6)
        if record.first_byte_us is not None:
            series.first_token.observe(record.first_byte_us / 1e6)
        for attempt in record.attempts:
            self._attempt(attempt.provider, attempt.outcome).inc()
        usage, tokens = record.usage, series.tokens
        if usage.input_tokens:
            tokens["input"].inc(usage.input_tokens)
        if usage.output_tokens:
            tokens["output"].inc(usage.output_tokens)
        if usage.cache_read_tokens:
            tokens["cache_read"].inc(usage.cache_read_tokens)
        if usage.cache_write_tokens:
            tokens["cache_write"].inc(usage.cache_write_tokens)
        if usage.reasoning_tokens:
            tokens["reasoning"].inc(usage.reasoning_tokens)
        if record.cost_nano:
            series.cost.inc(record.cost_nano / 1e9)

    def _find(self, record: CallRecord) -> _Series:
        key = (record.door, record.provider, record.model)
        series = self._series.get(key)
        if series is None:
            model = self._model(record)
            key = (record.door, record.provider, model)
            series = self._series.get(key)
            if series is None:
                series = self._series[key] = _Series(self, *key)
        return series

    def _model(self, record: CallRecord) -> str:
        name = (record.provider, record.model)
        if name in self._models:
            return record.model
        if not record.model:
            return ""
        if record.outcome == "ok" and len(self._models) < MAX_MODELS:
            self._models.add(name)
            return record.model
        return OTHER

    def _attempt(self, provider: str, outcome: str) -> Counter:
        child = self._attempt_children.get((provider, outcome))
        if child is None:
            child = self._attempt_children[provider, outcome] = self.attempts.labels(provider, outcome)
        return child


def render(registry: CollectorRegistry) -> bytes:
    """The exposition text of this process."""
    return generate_latest(registry)


def render_all(directory: str) -> bytes:
    """The exposition text summed over every worker that writes into `directory`."""
    registry = CollectorRegistry()
    MultiProcessCollector(registry, path=directory)  # type: ignore[no-untyped-call]  # the library leaves it untyped
    return generate_latest(registry)
