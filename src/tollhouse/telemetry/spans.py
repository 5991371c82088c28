"""From a finished call to its spans: names, times and attributes.  Values in, values out; who sends them is in `traces`.

A call is a span of kind SERVER, and each of its attempts a child of kind CLIENT.  Names are those of OpenTelemetry's
conventions for generative AI (https://github.com/open-telemetry/semantic-conventions-genai, docs/gen-ai/gen-ai-spans.md, in
November 2026; their status is "Development") and for HTTP; what these have no name for begins with `tollhouse.`.  Tokens and
cost are the call's alone: whoever adds up all spans counts nothing twice.

No prompt, answer, credential or address is in a record, and details of failures, which may have an address, are left out here.
Words that a caller can choose go through the redactor, as they do in the calls log.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from tollhouse.errors import ClientLeft
from tollhouse.ledger.record import Attempt, CallRecord, Trace

Value = str | bool | int | float | Sequence[str]

_OPERATIONS: Final[Mapping[str, str]] = {
    "openai_completions": "text_completion",
    "gemini": "generate_content",
    "passthrough": "passthrough",
}
"""`gen_ai.operation.name` by door, where that is no conversation's usual `chat`; the last one is a word of ours."""
_OPERATIONS_BY_END: Final[Mapping[str, str]] = {"_embeddings": "embeddings", "_count_tokens": "count_tokens"}
"""The same by how the door's name ends; the conventions have no word for counting."""
_PROVIDERS: Final[Mapping[str, str]] = {
    "google": "gcp.gemini",
    "google-openai": "gcp.gemini",
    "mistral": "mistral_ai",
    "xai": "x_ai",
}
"""`gen_ai.provider.name` by type of provider, where the conventions call it otherwise than we do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """One span, complete."""

    name: str
    kind: Literal["server", "client"]
    span_id: str
    """16 hexadecimal digits."""
    start_ns: int
    """Nanoseconds since the epoch."""
    end_ns: int
    attributes: Mapping[str, Value]
    error: str | None = None
    """`None` where the span's status is left unset; else the status is an error, and these are its words, if any."""


def operation_of(door: str) -> str:
    """What a front door's calls do, as the conventions have it."""
    for end, operation in _OPERATIONS_BY_END.items():
        if door.endswith(end):
            return operation
    return _OPERATIONS.get(door, "chat")


def spans_of(
    record: CallRecord, trace: Trace, *, type_of: Callable[[str], str], shown: Callable[[str], str]
) -> Iterator[Span]:
    """The call's span, then those of its attempts in their order.

    `type_of` gives the type of a provider by its configured name; `shown` makes free words fit to be seen.
    """
    operation = operation_of(record.door)
    yield _call_span(record, trace, operation, type_of=type_of, shown=shown)
    for number, attempt in enumerate(record.attempts):
        yield _attempt_span(record, trace, number, attempt, operation, type_of=type_of, shown=shown)


def _call_span(
    record: CallRecord, trace: Trace, operation: str, *, type_of: Callable[[str], str], shown: Callable[[str], str]
) -> Span:
    requested = shown(record.requested_model)
    is_ok = record.outcome == "ok"
    said: dict[str, Value | None] = {
        **_head(record, operation, type_of, provider=record.provider, model=requested, outcome=record.outcome),
        "http.response.status_code": record.status or None,
        "gen_ai.response.model": shown(record.model) if is_ok else None,
        "gen_ai.response.finish_reasons": [record.finish] if record.finish else None,
        "gen_ai.response.time_to_first_chunk": (
            record.first_byte_us / 1e6 if record.streamed and record.first_byte_us is not None else None
        ),
        **_usage(record),
        "tollhouse.door": record.door,
        "tollhouse.tenant": record.tenant,
        "tollhouse.project": record.project,
        "tollhouse.key": record.key,
        "tollhouse.route": shown(record.route),
        "tollhouse.lane": record.lane,
        "tollhouse.cache": record.cache,
        "tollhouse.receipt": shown(record.receipt),
        "tollhouse.cost_nano_usd": record.cost_nano,
        "tollhouse.price_version": record.price_version if record.cost_nano is not None else None,
        "tollhouse.usage_source": record.usage.source if not record.usage.is_empty else None,
        "tollhouse.time_to_first_token_us": record.first_byte_us,
        "tollhouse.wait_us": record.wait_us or None,
    }
    start_ns = record.started_at_us * 1000
    return Span(
        # A caller can make up any number of names of models; only those that led to a provider name a span.
        name=f"{operation} {requested}" if requested and record.provider else operation,
        kind="server",
        span_id=trace.span_id,
        start_ns=start_ns,
        end_ns=start_ns + record.duration_us * 1000,
        attributes=_told(said),
        # What is the caller's own fault is no fault of the server's; the conventions for HTTP leave such a span unset.
        error=None if is_ok or 400 <= record.status < 500 else shown(record.message),
    )


def _attempt_span(
    record: CallRecord,
    trace: Trace,
    number: int,
    attempt: Attempt,
    operation: str,
    *,
    type_of: Callable[[str], str],
    shown: Callable[[str], str],
) -> Span:
    model = shown(attempt.model)
    is_ok = attempt.outcome == "ok"
    said: dict[str, Value | None] = {
        **_head(record, operation, type_of, provider=attempt.provider, model=model, outcome=attempt.outcome),
        "http.response.status_code": attempt.status,
        "tollhouse.attempt": number + 1,
        "tollhouse.was_sent": None if attempt.was_sent else False,
    }
    start_ns = (record.started_at_us + attempt.began_us) * 1000
    return Span(
        name=f"{operation} {model}" if model else operation,
        kind="client",
        span_id=trace.attempt_id(number),
        start_ns=start_ns,
        end_ns=start_ns + attempt.duration_us * 1000,
        attributes=_told(said),
        error=None if is_ok or attempt.outcome == ClientLeft.code else "",
    )


def _head(
    record: CallRecord, operation: str, type_of: Callable[[str], str], *, provider: str, model: str, outcome: str
) -> dict[str, Value | None]:
    """What is said of the call and of each attempt alike."""
    kind = type_of(provider) if provider else ""
    return {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": _PROVIDERS.get(kind, kind),
        "gen_ai.request.model": model,
        "gen_ai.request.stream": record.streamed or None,
        "error.type": None if outcome == "ok" else outcome,
        "tollhouse.request_id": record.id,
        "tollhouse.provider": provider,
    }


def _usage(record: CallRecord) -> dict[str, Value | None]:
    usage = record.usage
    # The conventions want these only where the provider itself said them.
    is_reported = usage.source == "reported"
    return {
        "gen_ai.usage.input_tokens": usage.input_tokens,
        "gen_ai.usage.output_tokens": usage.output_tokens,
        "gen_ai.usage.cache_read.input_tokens": usage.cache_read_tokens,
        "gen_ai.usage.cache_creation.input_tokens": usage.cache_write_tokens,
        "gen_ai.usage.reasoning.output_tokens": usage.reasoning_tokens,
        "gen_ai.usage.audio.input_tokens": usage.input_audio_tokens if is_reported else None,
        "gen_ai.usage.audio.output_tokens": usage.output_audio_tokens if is_reported else None,
    }


def _told(said: Mapping[str, Value | None]) -> dict[str, Value]:
    """What there is something to say of."""
    return {name: value for name, value in said.items() if value is not None and value != ""}
