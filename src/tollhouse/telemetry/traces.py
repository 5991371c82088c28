"""Sends the spans of finished calls to an OpenTelemetry collector: OTLP over HTTP, by the library's own batches and thread.

The event loop only makes spans of the calls that are sampled.  What waits is bounded; a collector that is slow or away costs
spans, which are counted and told of, and nothing else: no call waits for it, and no error of it reaches one.

The only module that knows the OpenTelemetry library (extra `otel`).
"""

import logging
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import requests
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.trace import Span as LibrarySpan
from opentelemetry.trace.propagation import set_span_in_context

from tollhouse._version import __version__
from tollhouse.config.schema import TraceSettings
from tollhouse.ledger.record import CallRecord, Trace
from tollhouse.policy.redaction import Redactor
from tollhouse.telemetry.losses import Losses
from tollhouse.telemetry.spans import Span, spans_of

SIGNAL_PATH: Final = "/v1/traces"
MAX_WAITING_SPANS: Final = 2_048
BATCH_SPANS: Final = 512
BATCH_SECONDS: Final = 1.0
"""How long a span waits for others at most, while the collector takes them."""
CLOSE_SECONDS: Final = 3.0
"""How long the end of a process waits for the collector."""
MAX_WORDS_CHARACTERS: Final = 1_000
REMEMBERED_WORDS: Final = 2_048
"""Names come again and again, so what the redactor made of them is remembered."""

_KINDS: Final = {"server": SpanKind.SERVER, "client": SpanKind.CLIENT}


@dataclass(frozen=True, slots=True)
class TracesState:
    """How the sending is doing, in spans, since its start."""

    sent: int
    lost: int
    """For which there was no room, or which the collector did not take."""
    waiting: int


class Traces:
    """One way out for spans; each process has its own.  `finished` never waits and never raises."""

    def __init__(
        self,
        settings: TraceSettings,
        redactor: Redactor,
        *,
        type_of: Callable[[str], str],
        lost: Callable[[int, str], None],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Starts the thread; connects to nothing yet.

        `type_of` gives the type of a provider by its configured name.  `lost` hears how many spans were lost and why, in any
        thread.
        """
        self._type_of = type_of

        @lru_cache(REMEMBERED_WORDS)
        def shown(words: str) -> str:
            # Half of a surrogate pair in a caller's words cannot be encoded, and the whole batch would be lost with it.
            return redactor.redact(words[:MAX_WORDS_CHARACTERS]).encode("utf-8", "replace").decode()

        self._shown = shown
        self._ids = _Ids()
        self._way_out = _WayOut(settings, lost, monotonic)
        _hush()
        self._provider = TracerProvider(
            sampler=ALWAYS_ON,  # what comes here was chosen before
            resource=_resource(),
            shutdown_on_exit=False,
            id_generator=self._ids,
        )
        self._provider.add_span_processor(
            BatchSpanProcessor(
                self._way_out,
                max_queue_size=MAX_WAITING_SPANS,
                schedule_delay_millis=BATCH_SECONDS * 1000,
                max_export_batch_size=BATCH_SPANS,
            )
        )
        self._tracer = self._provider.get_tracer("tollhouse", __version__)

    def finished(self, record: CallRecord) -> None:
        """Takes a finished call; one that is not sampled is none of its business."""
        trace = record.trace
        if trace is None or not trace.is_sampled:
            return
        number = 1 + len(record.attempts)
        if not self._way_out.has_room_for(number):
            self._way_out.refuse(number, "they came faster than the collector took them")
            return
        try:
            self._end(trace, list(spans_of(record, trace, type_of=self._type_of, shown=self._shown)))
        except Exception as error:  # noqa: BLE001  # another's code, called at the end of every call: no call may fail by it
            self._way_out.refuse(number, type(error).__name__)

    def state(self) -> TracesState:
        """A snapshot."""
        return self._way_out.state()

    def close(self, deadline_seconds: float = CLOSE_SECONDS) -> bool:
        """Takes no more spans and sends those that wait; false if some were not sent in time.

        Blocks: for the end of a process.  May be called twice.
        """
        self._way_out.give_up_in(deadline_seconds)
        ending = threading.Thread(target=self._provider.shutdown, name="tollhouse-traces-end", daemon=True)
        ending.start()
        ending.join(deadline_seconds)
        return self._way_out.close()

    def _end(self, trace: Trace, spans: Sequence[Span]) -> None:
        call, attempts = spans[0], spans[1:]
        outer = self._start(trace, call, _parent_of(trace))
        if not outer.is_recording():
            return  # the operator's own environment has switched the library off: OTEL_SDK_DISABLED
        self._way_out.take(len(spans))
        within = set_span_in_context(outer, Context())
        for attempt in attempts:
            self._start(trace, attempt, within).end(attempt.end_ns)
        outer.end(call.end_ns)

    def _start(self, trace: Trace, span: Span, context: Context) -> LibrarySpan:
        self._ids.following = int(trace.trace_id, 16), int(span.span_id, 16)
        started = self._tracer.start_span(
            span.name, context, _KINDS[span.kind], span.attributes, start_time=span.start_ns
        )
        if span.error is not None:
            started.set_status(Status(StatusCode.ERROR, span.error or None))
        return started


class _Ids(IdGenerator):
    """Gives the ids that a call has already."""

    def __init__(self) -> None:
        self.following = (0, 0)
        """Trace and span of the span that is started next."""

    def generate_trace_id(self) -> int:
        return self.following[0]

    def generate_span_id(self) -> int:
        return self.following[1]

    def is_trace_id_random(self) -> bool:
        return True


class _WayOut(SpanExporter):
    """The library's exporter, with what goes through it counted."""

    def __init__(
        self, settings: TraceSettings, lost: Callable[[int, str], None], monotonic: Callable[[], float]
    ) -> None:
        self._session = _Session()
        self._exporter = OTLPSpanExporter(
            endpoint=settings.endpoint.removesuffix(SIGNAL_PATH) + SIGNAL_PATH,
            headers={name: value.reveal() for name, value in settings.headers.items()},
            timeout=settings.timeout_seconds,
            compression=Compression.Gzip,
            session=self._session,
        )
        self._losses = Losses(lost, monotonic=monotonic)
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._taken = 0
        self._sent = 0
        self._failed = 0
        """Taken and not sent."""
        self._gives_up_at: float | None = None

    def has_room_for(self, spans: int) -> bool:
        return self._gives_up_at is None and self.state().waiting + spans <= MAX_WAITING_SPANS

    def take(self, spans: int) -> None:
        with self._lock:
            self._taken += spans

    def refuse(self, spans: int, why: str) -> None:
        self._losses.add(spans)
        self._tell(why)

    def state(self) -> TracesState:
        return TracesState(self._sent, self._losses.count, self._taken - self._sent - self._failed)

    def give_up_in(self, seconds: float) -> None:
        self._gives_up_at = self._monotonic() + seconds

    def close(self) -> bool:
        """What has not come through by now is lost.  Ends what the exporter may still be waiting for."""
        self.shutdown()
        with self._lock:
            left = self._taken - self._sent - self._failed
            self._lose(left)
        self._tell("the gateway ended before the collector had taken them" if left else "", is_last=True)
        return not left

    # ------------------------------------------------------------------------------------- in the library's thread

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        gives_up_at = self._gives_up_at
        if gives_up_at is not None and self._monotonic() >= gives_up_at:
            return SpanExportResult.FAILURE  # `close` counts them
        result = self._exporter.export(spans)
        is_sent = result is SpanExportResult.SUCCESS
        with self._lock:
            left = self._taken - self._sent - self._failed
            if left < len(spans):
                return result  # `close` has given them up
            if is_sent:
                self._sent += len(spans)
            else:
                self._lose(len(spans))
        if not is_sent:
            self._tell("")
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()  # type: ignore[no-untyped-call]  # the library's own signature says nothing

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)

    def _lose(self, spans: int) -> None:
        self._failed += spans
        self._losses.add(spans)

    def _tell(self, why: str, *, is_last: bool = False) -> None:
        """`why`, and how the last request ended, which is often the reason of the reason."""
        self._losses.tell("; ".join(filter(None, (why, self._session.said))), is_last=is_last)


class _Session(requests.Session):
    """Remembers how the last request ended, in words that hold neither address nor credential.

    The environment does not say where requests go or with which credential (`HTTP_PROXY`, `.netrc`): the configuration does.
    """

    def __init__(self) -> None:
        super().__init__()
        self.trust_env = False
        self.said = ""

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        """Raises `requests.RequestException`, also for a redirect: the credentials are for the collector and nobody else."""
        try:
            response = super().send(request, **{**options, "allow_redirects": False})
        except requests.RequestException as error:
            self.said = f"the collector was not reached: {type(error).__name__}"
            raise
        self.said = f"the collector answered {response.status_code}"
        if response.is_redirect:
            raise requests.TooManyRedirects
        return response


def _parent_of(trace: Trace) -> Context:
    if not trace.parent_id:
        return Context()
    parent = SpanContext(
        int(trace.trace_id, 16), int(trace.parent_id, 16), is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED)
    )
    return set_span_in_context(NonRecordingSpan(parent), Context())


def _resource() -> Resource:
    """Who sends: what the operator's environment says (`OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`) comes first."""
    own = {"service.name": "tollhouse", "service.version": __version__, "service.instance.id": str(uuid.uuid4())}
    return Resource.create(own).merge(OTELResourceDetector().detect())


def _hush() -> None:
    """Keeps the library from writing to standard error by itself: what it has to say is that spans were lost."""
    library = logging.getLogger("opentelemetry")
    if not library.handlers:
        library.addHandler(logging.NullHandler())
        library.propagate = False
