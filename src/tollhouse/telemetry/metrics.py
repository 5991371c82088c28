"""The gateway's metrics, counted from finished call records.

Counting is a few additions to plain integers; a metrics library costs several microseconds for each of a dozen samples a call,
and a third of the start.  It comes in (`exposition`) when somebody scrapes.  A snapshot of one process is a value, so that
the workers' can be added up by whoever answers the scrape.

Labels are bounded: doors and providers come from our code and the configuration; a model gets a series of its own only once a
call to it succeeded, and only while there are fewer than `MAX_MODELS` of them.  Others count under `other`, so that a client
that invents names cannot make series.
"""

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Final

from tollhouse.errors import ClientLeft
from tollhouse.ledger.record import CallRecord
from tollhouse.telemetry.readings import CUT, FALLBACKS, MASKED, REFUSED, RETRIES, Readings, joined

MAX_MODELS: Final = 200
OTHER: Final = "other"
MAX_HEARD: Final = 1_000
"""Refused calls that are remembered until their door tells of them too."""

DURATION_BUCKETS_US: Final = tuple(
    int(seconds * 1_000_000) for seconds in (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 640)
)
FIRST_TOKEN_BUCKETS_US: Final = tuple(
    int(seconds * 1_000_000) for seconds in (0.02, 0.05, 0.1, 0.25, 0.5, 0.75, 1, 2, 4, 8, 16, 32, 64)
)
LAG_BUCKETS_US: Final = tuple(
    int(seconds * 1_000_000) for seconds in (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
)


@dataclass(slots=True)
class Histogram:
    """Counts by bucket (the last one is everything above), and the sum of what was observed, in microseconds."""

    counts: list[int]
    total_us: int = 0

    def observe(self, value_us: int, bounds_us: tuple[int, ...]) -> None:
        """Counts one value; a value at a bound belongs to that bucket."""
        self.counts[bisect_left(bounds_us, value_us)] += 1
        self.total_us += value_us

    def copied(self) -> "Histogram":
        """These counts, apart from the live ones."""
        return Histogram(list(self.counts), self.total_us)

    def add(self, other: "Histogram") -> None:
        """Adds another process's counts."""
        self.counts = [a + b for a, b in zip(self.counts, other.counts, strict=True)]
        self.total_us += other.total_us


def _empty(bounds_us: tuple[int, ...]) -> Histogram:
    return Histogram([0] * (len(bounds_us) + 1))


@dataclass(slots=True)
class Series:
    """Everything counted for one door, provider and model."""

    door: str
    provider: str
    model: str
    outcomes: dict[str, int] = field(default_factory=dict)
    """Calls by `ok` or the stable code of the error that the client saw."""
    duration: Histogram = field(default_factory=lambda: _empty(DURATION_BUCKETS_US))
    first_token: Histogram = field(default_factory=lambda: _empty(FIRST_TOKEN_BUCKETS_US))
    input_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    cost_nano: int = 0

    def count(self, record: CallRecord) -> None:
        """Counts one call."""
        outcomes = self.outcomes
        outcomes[record.outcome] = outcomes.get(record.outcome, 0) + 1
        self.duration.observe(record.duration_us, DURATION_BUCKETS_US)
        if record.first_byte_us is not None:
            self.first_token.observe(record.first_byte_us, FIRST_TOKEN_BUCKETS_US)
        usage = record.usage
        if usage.input_tokens:
            self.input_tokens += usage.input_tokens
        if usage.output_tokens:
            self.output_tokens += usage.output_tokens
        if usage.cache_read_tokens:
            self.cache_read_tokens += usage.cache_read_tokens
        if usage.cache_write_tokens:
            self.cache_write_tokens += usage.cache_write_tokens
        if usage.reasoning_tokens:
            self.reasoning_tokens += usage.reasoning_tokens
        if record.cost_nano:
            self.cost_nano += record.cost_nano

    def copied(self) -> "Series":
        """These counts, apart from the live ones."""
        return replace(
            self, outcomes=dict(self.outcomes), duration=self.duration.copied(), first_token=self.first_token.copied()
        )

    def add(self, other: "Series") -> None:
        """Adds another process's counts."""
        for outcome, count in other.outcomes.items():
            self.outcomes[outcome] = self.outcomes.get(outcome, 0) + count
        self.duration.add(other.duration)
        self.first_token.add(other.first_token)
        self.input_tokens += other.input_tokens
        self.cache_read_tokens += other.cache_read_tokens
        self.cache_write_tokens += other.cache_write_tokens
        self.output_tokens += other.output_tokens
        self.reasoning_tokens += other.reasoning_tokens
        self.cost_nano += other.cost_nano


@dataclass(slots=True)
class Snapshot:
    """The counts of one process, or of several added up."""

    series: list[Series] = field(default_factory=list)
    attempts: dict[str, dict[str, int]] = field(default_factory=dict)
    """Upstream calls: provider → outcome → how many."""
    in_flight: int = 0
    loop_lag: Histogram = field(default_factory=lambda: _empty(LAG_BUCKETS_US))
    """How much later than it was to the event loop came back to a task that slept."""
    readings: Readings = field(default_factory=Readings)


class Metrics:
    """The counts of this process."""

    def __init__(self) -> None:
        self.in_flight = 0
        """Calls being answered now; the front door keeps it."""
        self.masked = 0
        """Calls in which something was masked."""
        self._refused: dict[str, int] = {}
        self._retries: dict[str, int] = {}
        self._fallbacks: dict[tuple[str, str], int] = {}
        self._cut: dict[tuple[str, str], int] = {}
        self._heard: dict[str, None] = {}
        """Ids of refused calls that are counted, the oldest first."""
        self._lag = _empty(LAG_BUCKETS_US)
        self._series: dict[tuple[str, str, str], Series] = {}
        self._attempts: dict[str, dict[str, int]] = {}
        self._models: set[tuple[str, str]] = set()

    def finished(self, record: CallRecord) -> None:
        """Counts one finished call."""
        series = self._series.get((record.door, record.provider, record.model)) or self._find(record)
        series.count(record)
        for attempt in record.attempts:
            outcomes = self._attempts.get(attempt.provider)
            if outcomes is None:
                outcomes = self._attempts[attempt.provider] = {}
            outcomes[attempt.outcome] = outcomes.get(attempt.outcome, 0) + 1
        if record.outcome != "ok" or len(record.attempts) > 1:
            self._note_trouble(record)

    def refused(self, request_id: str, code: str) -> None:
        """Counts a request that a door refused.  Some doors tell of calls, too, whose record was counted."""
        if request_id in self._heard:
            del self._heard[request_id]
        else:
            self._refused[code] = self._refused.get(code, 0) + 1

    def note_masked(self) -> None:
        """Counts a call in which something was masked."""
        self.masked += 1

    def note_lag(self, seconds: float) -> None:
        """Counts how much later than it was to the event loop came back to a task that slept."""
        self._lag.observe(max(0, int(seconds * 1e6)), LAG_BUCKETS_US)

    def snapshot(self) -> Snapshot:
        """The counts as they are now, which counting goes on without.  May be called from another thread."""
        # Scrapes are rendered off the loop.  Each of these copies is one step of the interpreter, so that no call can be
        # counted in the middle of it.
        return Snapshot(
            [series.copied() for series in list(self._series.values())],
            {provider: dict(outcomes) for provider, outcomes in list(self._attempts.items())},
            self.in_flight,
            self._lag.copied(),
            self._readings(),
        )

    def _readings(self) -> Readings:
        readings = Readings()
        readings.put_all(REFUSED, [((code,), count) for code, count in dict(self._refused).items()])
        readings.put_all(RETRIES, [((provider,), count) for provider, count in dict(self._retries).items()])
        readings.put_all(FALLBACKS, dict(self._fallbacks).items())
        readings.put_all(CUT, dict(self._cut).items())
        readings.put(MASKED, self.masked)
        return readings

    def _note_trouble(self, record: CallRecord) -> None:
        """Counts what few calls have: more than one attempt, or an end that is not well."""
        attempts, outcome = record.attempts, record.outcome
        for before, attempt in pairwise(attempts):
            if (before.provider, before.model) == (attempt.provider, attempt.model):
                self._retries[attempt.provider] = self._retries.get(attempt.provider, 0) + 1
            else:
                pair = (attempt.provider, before.provider)
                self._fallbacks[pair] = self._fallbacks.get(pair, 0) + 1
        if outcome in {"ok", ClientLeft.code}:
            return
        if not attempts and record.cache != "shared":
            self._refused[outcome] = self._refused.get(outcome, 0) + 1
        elif record.streamed and record.first_byte_us is not None:
            cut = (record.provider, outcome)
            self._cut[cut] = self._cut.get(cut, 0) + 1
        self._heard[record.id] = None
        if len(self._heard) > MAX_HEARD:
            del self._heard[next(iter(self._heard))]

    def _find(self, record: CallRecord) -> Series:
        key = (record.door, record.provider, self._model(record))
        series = self._series.get(key)
        if series is None:
            series = self._series[key] = Series(*key)
        return series

    def _model(self, record: CallRecord) -> str:
        name = (record.provider, record.model)
        if name in self._models or not record.model:
            return record.model
        if record.outcome == "ok" and len(self._models) < MAX_MODELS:
            self._models.add(name)
            return record.model
        return OTHER


def added(snapshots: Iterable[Snapshot]) -> Snapshot:
    """The sum of several processes' counts."""
    whole = Snapshot()
    found: dict[tuple[str, str, str], Series] = {}
    readings: list[Readings] = []
    for snapshot in snapshots:
        whole.in_flight += snapshot.in_flight
        whole.loop_lag.add(snapshot.loop_lag)
        readings.append(snapshot.readings)
        for series in snapshot.series:
            key = (series.door, series.provider, series.model)
            mine = found.get(key)
            if mine is None:
                mine = found[key] = Series(*key)
            mine.add(series)
        for provider, outcomes in snapshot.attempts.items():
            sums = whole.attempts.setdefault(provider, {})
            for outcome, count in outcomes.items():
                sums[outcome] = sums.get(outcome, 0) + count
    whole.series = list(found.values())
    whole.readings = joined(readings)
    return whole
