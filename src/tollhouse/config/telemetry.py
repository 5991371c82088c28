"""Reading `telemetry`: where traces are sent, and how many."""

from urllib.parse import urlsplit

from tollhouse.config import values
from tollhouse.config.headers import read_headers
from tollhouse.config.schema import TelemetrySettings, TraceSettings, frozen_map
from tollhouse.config.section import Section
from tollhouse.config.values import Given, Refused


def read_telemetry(section: Section) -> TelemetrySettings:
    """The section; a missing one sends nothing anywhere."""
    traces = _traces(section.section("traces")) if section.has("traces") else None
    section.close()
    return TelemetrySettings(traces=traces)


def _endpoint(given: Given) -> str:
    try:
        return values.base_url(given)
    except Refused as refused:
        raise Refused(refused.sentence.replace("`api_key`", "`headers`")) from refused


def _traces(section: Section) -> TraceSettings | None:
    """`None` when there is no usable `endpoint`, which is reported."""
    defaults = TraceSettings(endpoint="")
    section.require(
        "endpoint",
        "The section has no `endpoint`, the collector's address for OTLP over HTTP: http://127.0.0.1:4318, say.",
    )
    endpoint = section.read_optional("endpoint", _endpoint)
    sample = section.read("sample", values.fraction_or_zero, defaults.sample)
    headers = read_headers(section)
    timeout_seconds = section.read_optional("timeout", values.seconds)
    if not section.has("timeout"):
        section.note_default("timeout", f"{defaults.timeout_seconds:g}s")
    section.close()
    if endpoint is None:
        return None
    parts = urlsplit(endpoint)
    spot = section.get("headers")
    if headers and spot is not None and parts.scheme == "http" and not values.is_loopback(parts.hostname or ""):
        spot.warn("These go to another machine in plain text; an `endpoint` with https:// would hide them on the way.")
    return TraceSettings(
        endpoint=endpoint,
        sample=sample,
        headers=frozen_map(headers),
        timeout_seconds=defaults.timeout_seconds if timeout_seconds is None else timeout_seconds,
    )
