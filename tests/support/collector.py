"""An OpenTelemetry collector: takes OTLP over HTTP on a real socket, and shows the spans that it was sent.

async with Collector() as collector:
    ...  # a gateway with `telemetry: {traces: {endpoint: collector.url}}`, asked and closed
(call, attempt) = collector.spans
"""

import gzip
from dataclasses import dataclass
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1 import trace_pb2

from support.peer import OnPeer, Peer, Request, Visit

SERVER = trace_pb2.Span.SpanKind.SPAN_KIND_SERVER
CLIENT = trace_pb2.Span.SpanKind.SPAN_KIND_CLIENT
ERROR = trace_pb2.Status.StatusCode.STATUS_CODE_ERROR
UNSET = trace_pb2.Status.StatusCode.STATUS_CODE_UNSET


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One span as the collector has it."""

    name: str
    kind: int
    trace_id: str
    span_id: str
    parent_id: str
    """Empty for the root of a trace."""
    start_ns: int
    end_ns: int
    attributes: dict[str, Any]
    status: int
    words: str
    """Of the status."""
    resource: dict[str, Any]


class Collector(OnPeer):
    """See the module.  An async context manager; usable on the loop that entered it."""

    def __init__(self, status: int = 200) -> None:
        self.status = status
        """What it answers to everything."""
        self.requests: list[Request] = []
        self.bodies: list[bytes] = []
        """What it was sent, uncompressed."""
        self._peer = Peer(self._serve)

    @property
    def url(self) -> str:
        """What a configuration would have as `endpoint`."""
        return self._peer.url

    @property
    def spans(self) -> list[Seen]:
        """All spans, by their beginnings; a call before its attempts."""
        seen = [span for body in self.bodies for span in _read(body)]
        return sorted(seen, key=lambda span: (span.start_ns, span.kind != SERVER))

    @property
    def calls(self) -> list[Seen]:
        """The spans of calls."""
        return [span for span in self.spans if span.kind == SERVER]

    @property
    def attempts(self) -> list[Seen]:
        """The spans of attempts."""
        return [span for span in self.spans if span.kind == CLIENT]

    async def _serve(self, visit: Visit) -> None:
        while True:
            request = await visit.request()
            assert request.header("content-encoding") == "gzip"
            self.requests.append(request)
            self.bodies.append(gzip.decompress(request.body))
            await visit.answer(status=self.status, content_type="application/x-protobuf")


def _read(body: bytes) -> list[Seen]:
    asked = ExportTraceServiceRequest.FromString(body)
    return [
        Seen(
            name=span.name,
            kind=span.kind,
            trace_id=span.trace_id.hex(),
            span_id=span.span_id.hex(),
            parent_id=span.parent_span_id.hex(),
            start_ns=span.start_time_unix_nano,
            end_ns=span.end_time_unix_nano,
            attributes={entry.key: _value(entry.value) for entry in span.attributes},
            status=span.status.code,
            words=span.status.message,
            resource={entry.key: _value(entry.value) for entry in resource.resource.attributes},
        )
        for resource in asked.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    assert kind is not None
    if kind == "array_value":
        return [_value(each) for each in value.array_value.values]
    return getattr(value, kind)
