"""A finished call as a row of the table `calls`.

The columns stand here once; `schema.py` gives them types, the writer binds them in this order, and the journal names
them in the head of each file.  Text is `''` when there is none; a number is NULL when it was not said, which is not
0.
"""

from typing import Final, TypeAlias

import msgspec

from tollhouse.ledger.record import CallRecord

Value: TypeAlias = str | int | None
Row: TypeAlias = tuple[Value, ...]

COLUMNS: Final = (
    "id",
    "started_at_us",
    "door",
    "tenant",
    "project",
    "key",
    "requested_model",
    "provider",
    "model",
    "streamed",
    "lane",
    "status",
    "outcome",
    "finish",
    "input_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "cache_write_1h_tokens",
    "output_tokens",
    "reasoning_tokens",
    "input_audio_tokens",
    "output_audio_tokens",
    "usage_source",
    "cost_nano",
    "price_version",
    "receipt",
    "first_byte_us",
    "duration_us",
    "attempts",
    "attempts_detail",
)

NULLABLE: Final = (
    "input_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "cache_write_1h_tokens",
    "output_tokens",
    "reasoning_tokens",
    "input_audio_tokens",
    "output_audio_tokens",
    "cost_nano",
    "first_byte_us",
    "attempts_detail",
)
"""Those that may say nothing."""

WORDS: Final = (
    "door",
    "tenant",
    "project",
    "key",
    "requested_model",
    "provider",
    "model",
    "lane",
    "outcome",
    "finish",
    "usage_source",
    "price_version",
    "receipt",
)
"""Text that many rows have alike."""

MAX_NAME_CHARS: Final = 200
"""A model's name as the client wrote it is cut here: it can be as long as a body."""
MAX_RECEIPT_CHARS: Final = 500
MAX_DETAILED_ATTEMPTS: Final = 20
MAX_INTEGER: Final = 2**63 - 1


def row_of(record: CallRecord) -> Row:
    """The record's values in the order of `COLUMNS`."""
    usage = record.usage
    return (
        record.id,
        record.started_at_us,
        record.door,
        record.tenant,
        record.project,
        record.key,
        record.requested_model[:MAX_NAME_CHARS],
        record.provider,
        record.model[:MAX_NAME_CHARS],
        1 if record.streamed else 0,
        record.lane,
        record.status,
        record.outcome,
        record.finish,
        usage.input_tokens,
        usage.cache_read_tokens,
        usage.cache_write_tokens,
        usage.cache_write_1h_tokens,
        usage.output_tokens,
        usage.reasoning_tokens,
        usage.input_audio_tokens,
        usage.output_audio_tokens,
        usage.source,
        record.cost_nano,
        record.price_version,
        record.receipt[:MAX_RECEIPT_CHARS],
        record.first_byte_us,
        record.duration_us,
        len(record.attempts),
        _attempts_detail(record),
    )


def storable(row: Row) -> Row:
    """The same row with what no database takes made harmless: integers over 64 bits, text that is not UTF-8, U+0000.

    A provider that reports 10**30 tokens must not keep its neighbours' rows from being written.
    """
    return tuple(_storable_value(value) for value in row)


def _storable_value(value: Value) -> Value:
    if isinstance(value, int):
        return max(-MAX_INTEGER, min(value, MAX_INTEGER))
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode().replace("\0", "\ufffd")
    return value


def _attempts_detail(record: CallRecord) -> str | None:
    """`[[provider, model, outcome, status, duration_us], …]`, only when it says more than the row itself."""
    attempts = record.attempts
    if not attempts or (len(attempts) == 1 and attempts[0].outcome == "ok"):
        return None
    detail = [
        (attempt.provider, attempt.model[:MAX_NAME_CHARS], attempt.outcome, attempt.status, attempt.duration_us)
        for attempt in attempts[:MAX_DETAILED_ATTEMPTS]
    ]
    return msgspec.json.encode(detail).decode()
