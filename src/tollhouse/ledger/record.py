"""The finished call: the one record from which the ledger row, the log line, the metrics and the traces are built.

The gateway fills it along the way and hands it over once.  It never holds prompts, completions or secrets.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from tollhouse.chat.usage import Usage
from tollhouse.errors import CallLost

NOTHING_USED = Usage()


class Attempt(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One upstream call and how it ended."""

    provider: str
    model: str
    outcome: str
    """`ok`, or the stable code of the error that ended it."""
    status: int | None = None
    """The provider's HTTP status, if an answer came."""
    duration_us: int = 0
    was_sent: bool = True
    """Whether anything went to the provider: not when no connection came about."""
    detail: str = ""
    """What went wrong, for the operator: it may name the provider's address.  Not in the ledger."""
    began_us: int = 0
    """From the request's arrival to the attempt's beginning; only known of calls that have a `trace`."""


class Trace(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Where a call stands among the doings of others: the ids of W3C Trace Context (https://www.w3.org/TR/trace-context/)."""

    trace_id: str
    """32 hexadecimal digits: what the call is a part of."""
    span_id: str
    """16 hexadecimal digits: the call itself."""
    parent_id: str = ""
    """16 hexadecimal digits: the caller's own part, which this call is a part of; empty when the caller named none."""
    is_sampled: bool = False
    """Whether it is sent to the collector."""

    def attempt_id(self, number: int) -> str:
        """The span id of an attempt, counted from 0: known before the attempt is, for it is told to a gateway behind."""
        return f"{int(self.span_id, 16) ^ (number + 1):016x}"


class CallRecord(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Everything we write down about one call.  Times are in microseconds; money in nano-USD."""

    id: str
    """The request id that the client saw."""
    started_at_us: int
    """Wall clock, microseconds since the epoch, UTC."""
    door: str
    """The front door's API: `openai_chat`, `anthropic`, …"""
    tenant: str = ""
    project: str = ""
    key: str = ""
    """The name of the key, never the credential."""
    requested_model: str = ""
    """As the client named it."""
    provider: str = ""
    """The configured name of the provider that answered, or that was tried last; empty when none was reached."""
    model: str = ""
    """The provider's own name of the model."""
    streamed: bool = False
    lane: str = ""
    """`same` (bytes forwarded) or `translated`; `hit` or `shared` when no provider was asked for it (`cache`)."""
    status: int = 0
    """The HTTP status that the client got; 499 when it left before one."""
    outcome: str = "ok"
    """`ok`, or the stable code of the error that the client saw."""
    finish: str = ""
    """The canonical finish reason: `stop`, `length`, `tool_calls`, `refusal`, `content_filter`, …"""
    usage: Usage = NOTHING_USED
    cost_nano: int | None = None
    """`None` when the price or the usage is not known: unknown is not free."""
    price_version: str = ""
    """The version of the price book that `cost_nano` was made with."""
    receipt: str = ""
    """What translation dropped or changed, `; `-joined; empty when nothing."""
    first_byte_us: int | None = None
    """From the request's arrival to the first byte of content for the client (time to first token)."""
    duration_us: int = 0
    attempts: tuple[Attempt, ...] = ()
    # What follows is in the calls log only: the ledger's rows are kept small.
    route: str = ""
    """The alias, or the `provider/model`, that it was routed by."""
    wait_us: int = 0
    """How long it waited for its turn under a limit."""
    held_nano: int | None = None
    """What was held in its budgets before it was sent: the most that it could cost."""
    settled_nano: int | None = None
    """What the hold was settled to."""
    cache: str = ""
    """`hit` when a kept answer was given, `shared` when another call's answer was; empty when a provider answered."""
    message: str = ""
    """What went wrong, in our own words and without a hint.  Never a provider's words: they can quote the prompt."""
    client: str = ""
    """The address that it came from; in the log only its network, where `logging.redact` has `ip`."""
    tags: Mapping[str, str] | None = None
    """What the operator noted about the key."""
    trace: Trace | None = None
    """Its place in a trace, where `telemetry.traces` is on."""


class Opening(msgspec.Struct, array_like=True, frozen=True):
    """What of a record is known before a call is sent: all that is left of it if its process dies."""

    id: str
    started_at_us: int
    door: str
    tenant: str
    project: str
    key: str
    requested_model: str
    provider: str
    model: str
    streamed: bool
    lane: str
    price_version: str
    input_tokens: int
    """As estimated."""


MAX_OPENING_BYTES: Final = 640
"""What a store of counters has room for."""
MIN_OPENING_NAME_BYTES: Final = 64
"""What an opening keeps of a model's name at least, where it cannot keep all: a caller may invent the longest."""
_openings: Final = msgspec.msgpack.Decoder(Opening)
_encoder: Final = msgspec.msgpack.Encoder()


def opening_of(record: CallRecord, input_tokens: int) -> bytes:
    """The note that a store of counters keeps while the call is under way; at most `MAX_OPENING_BYTES`.

    Names of models are kept whole where they fit, for budgets go by them.
    """
    note = _opening(record, record.requested_model, record.model, input_tokens)
    if len(note) <= MAX_OPENING_BYTES:
        return note
    requested, model = record.requested_model.encode(), record.model.encode()
    room = MAX_OPENING_BYTES - (len(note) - len(requested) - len(model))
    kept = max(MIN_OPENING_NAME_BYTES, room - len(model), room // 2)
    requested = requested[:kept]
    model = model[: max(MIN_OPENING_NAME_BYTES, room - len(requested))]
    return _opening(record, requested.decode(errors="ignore"), model.decode(errors="ignore"), input_tokens)


def _opening(record: CallRecord, requested_model: str, model: str, input_tokens: int) -> bytes:
    return _encoder.encode(
        (
            record.id,
            record.started_at_us,
            record.door,
            record.tenant,
            record.project,
            record.key,
            requested_model,
            record.provider,
            model,
            record.streamed,
            record.lane,
            record.price_version,
            input_tokens,
        )
    )


def lost_record(note: bytes, cost_nano: int) -> CallRecord | None:
    """The record of a call whose process died: it may have cost all that was held for it.  `None` for a note that is none."""
    try:
        opening = _openings.decode(note)
    except msgspec.DecodeError:
        return None
    return CallRecord(
        id=opening.id,
        started_at_us=opening.started_at_us,
        door=opening.door,
        tenant=opening.tenant,
        project=opening.project,
        key=opening.key,
        requested_model=opening.requested_model,
        provider=opening.provider,
        model=opening.model,
        streamed=opening.streamed,
        lane=opening.lane,
        status=CallLost.http_status,
        outcome=CallLost.code,
        usage=Usage(input_tokens=opening.input_tokens, source="estimated"),
        cost_nano=cost_nano,
        price_version=opening.price_version,
        attempts=(Attempt(provider=opening.provider, model=opening.model, outcome=CallLost.code),),
    )
