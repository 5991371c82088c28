"""What is measured: the kinds of calls, and one run of one kind against one server."""

from dataclasses import dataclass, replace
from typing import Final

from bench.compiled import Load, LoadResult, run_load
from bench.figures import Line, line_through
from bench.gateway import KEY, MODELS
from bench.payloads import Dialect, Stream, end_of, http_request
from bench.procs import Cores, cpu_seconds, cpu_seconds_once_quiet
from bench.subject import Running

PACED_GAP_US: Final = 20_000
"""Between the events of a stream, as of a model that says fifty words a second.

It is long on purpose: on a busy machine a process may wait some milliseconds for its core, and two events of one stream must
not meet meanwhile, or they pass as one.
"""
STREAM_CONNECTIONS: Final = 192
"""Streams at a time: with the gap above some 9,600 events a second: the core has work, and none piles up."""
JSON_CONNECTIONS: Final = 32
PACED_RATE: Final = 2000.0
"""Calls a second, of every server alike: half of what the gateway can do on a core, so that no calls pile up anywhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A kind of call."""

    name: str
    title: str
    client: Dialect
    provider: Dialect
    gap_us: int | None
    """None: the answer is one JSON object; otherwise a stream, with so much between its events."""
    most: float | None
    """The greatest ratio to nginx that the design allows, for a request or for an event."""
    rate: float = 0.0
    """Requests a second, of JSON; 0: each server as many as it can."""


def _streams(name: str, title: str, client: Dialect, provider: Dialect, most: float) -> tuple[Scenario, Scenario]:
    paced = Scenario(
        name=f"{name}-paced",
        title=f"{title}, one by one",
        client=client,
        provider=provider,
        gap_us=PACED_GAP_US,
        most=most,
    )
    burst = Scenario(
        name=f"{name}-burst",
        title=f"{title}, in bursts",
        client=client,
        provider=provider,
        gap_us=0,
        most=None,
    )
    return paced, burst


CHAT: Final = Scenario(
    name="chat",
    title="same dialect, each as fast as it can",
    client=Dialect.OPENAI,
    provider=Dialect.OPENAI,
    gap_us=None,
    most=7.0,
)
SCENARIOS: Final = (
    replace(CHAT, name="chat-paced", title=f"same dialect, both {PACED_RATE:,.0f} a second", rate=PACED_RATE),
    CHAT,
    Scenario(
        name="chat-translated",
        title="OpenAI to Anthropic, each as fast as it can",
        client=Dialect.ANTHROPIC,
        provider=Dialect.OPENAI,
        gap_us=None,
        most=None,
    ),
    *_streams("relayed", "same dialect", Dialect.OPENAI, Dialect.OPENAI, 2.5),
    *_streams("to-anthropic", "OpenAI to Anthropic", Dialect.ANTHROPIC, Dialect.OPENAI, 4.5),
    *_streams("to-openai", "Anthropic to OpenAI", Dialect.OPENAI, Dialect.ANTHROPIC, 4.5),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How much is measured."""

    rounds: int
    slices: int
    """Short measurements of JSON, a round and server; the quietest of all rounds count."""
    requests: int
    """Of JSON, a slice and server."""
    streams: int
    """A round, server and length of stream."""
    few_events: int
    many_events: int
    memory_requests: int
    latency_requests: int
    starts: int


FULL: Final = Effort(
    rounds=5,
    slices=8,
    requests=1500,
    streams=2 * STREAM_CONNECTIONS,
    few_events=50,
    many_events=250,
    memory_requests=50_000,
    latency_requests=500,
    starts=5,
)
QUICK: Final = Effort(
    rounds=1,
    slices=4,
    requests=1000,
    streams=STREAM_CONNECTIONS,
    few_events=20,
    many_events=60,
    memory_requests=2000,
    latency_requests=100,
    starts=2,
)


@dataclass(frozen=True, slots=True)
class Sample:
    """One run: the load generator's view and the server's processor time."""

    cpu_us_per_request: float
    busy_share: float
    """Of the server's core while the load ran."""
    events_per_read: float
    """As the client got them; 1 when every event came alone."""


@dataclass(frozen=True, slots=True)
class StreamSample:
    """Two runs, with short and with long streams."""

    cost: Line
    """In microseconds."""
    busy_share: float
    events_per_read: float


def measure_json(server: Running, scenario: Scenario, effort: Effort, cores: Cores, *, translating: bool) -> Sample:
    """`translating`: the client speaks its own dialect; otherwise the provider's, as a plain relay needs it."""
    return _measure(server, load_of(scenario, server.subject.port, effort.requests, translating=translating), cores)


def measure_stream(
    server: Running, scenario: Scenario, effort: Effort, cores: Cores, *, translating: bool
) -> StreamSample:
    """As `measure_json`, at two lengths of streams."""
    assert scenario.gap_us is not None
    samples = {}
    for events in (effort.few_events, effort.many_events):
        stream = Stream(events, scenario.gap_us)
        samples[events] = _measure(
            server, load_of(scenario, server.subject.port, effort.streams, stream, translating=translating), cores
        )
    few, many = samples[effort.few_events], samples[effort.many_events]
    line = line_through(
        (effort.few_events, few.cpu_us_per_request),
        (effort.many_events, many.cpu_us_per_request),
    )
    return StreamSample(line, many.busy_share, many.events_per_read)


def load_of(
    scenario: Scenario, port: int, requests: int, stream: Stream | None = None, *, translating: bool = False
) -> Load:
    """The load of one run.  The warm-up opens every connection, the server's to the provider included."""
    dialect = scenario.client if translating else scenario.provider
    model = MODELS[scenario.provider]
    connections = STREAM_CONNECTIONS if stream else JSON_CONNECTIONS
    return Load(
        port=port,
        request=http_request(dialect, model=model, key=KEY, stream=stream),
        warmup_request=http_request(dialect, model=model, key=KEY, stream=stream and replace(stream, events=1)),
        end=end_of(dialect, stream),
        requests=requests,
        connections=connections,
        warmup=2 * connections,
        rate=scenario.rate,
    )


def _measure(server: Running, load: Load, cores: Cores) -> Sample:
    before: list[float] = []
    result: LoadResult = run_load(load, cores.others, before=lambda: before.append(cpu_seconds(server.pid)))
    used = cpu_seconds_once_quiet(server.pid) - before[0]
    return Sample(
        cpu_us_per_request=used / result.requests * 1e6,
        busy_share=used / result.seconds,
        events_per_read=result.events / result.reads,
    )
