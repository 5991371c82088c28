"""The calls log: one JSON line for each call, built from its finished record.

Lines are gathered and written in batches: a line costs an encoding and a list append on the loop, never a system call.  No
prompt, completion or credential is in a record, so none can be in the log.
"""

from collections.abc import Callable
from typing import Final

import msgspec

from tollhouse.ledger.record import Attempt, CallRecord
from tollhouse.telemetry.clock import iso_utc

FLUSH_BYTES: Final = 64 * 1024


class Line(msgspec.Struct, omit_defaults=True):
    """The fields of a line; names are public.  Times in milliseconds, money in nano-USD."""

    at: str
    id: str
    door: str
    outcome: str
    status: int
    duration_ms: float
    tenant: str = ""
    project: str = ""
    key: str = ""
    requested_model: str = ""
    provider: str = ""
    model: str = ""
    streamed: bool = False
    lane: str = ""
    finish: str = ""
    first_byte_ms: float | None = None
    input_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    usage_source: str = "none"
    cost_nano: int | None = None
    price_version: str = ""
    receipt: str = ""
    attempts: tuple[Attempt, ...] = ()


class CallsLog:
    """Encodes records into lines and hands batches of them to `write` (which may block; call `flush` off the loop)."""

    __slots__ = ("_encoder", "_lines", "_size", "_write")

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self._encoder = msgspec.json.Encoder()
        self._lines: list[bytes] = []
        self._size = 0
        self._write = write

    def finished(self, record: CallRecord) -> bool:
        """Takes one record; true when a batch is full and `flush` is due."""
        usage = record.usage
        line = self._encoder.encode(
            Line(
                at=iso_utc(record.started_at_us),
                id=record.id,
                door=record.door,
                outcome=record.outcome,
                status=record.status,
                duration_ms=record.duration_us / 1000,
                tenant=record.tenant,
                project=record.project,
                key=record.key,
                requested_model=record.requested_model,
                provider=record.provider,
                model=record.model,
                streamed=record.streamed,
                lane=record.lane,
                finish=record.finish,
                first_byte_ms=None if record.first_byte_us is None else record.first_byte_us / 1000,
                input_tokens=usage.input_tokens,
                cache_read_tokens=usage.cache_read_tokens,
                cache_write_tokens=usage.cache_write_tokens,
                output_tokens=usage.output_tokens,
                reasoning_tokens=usage.reasoning_tokens,
                usage_source=usage.source,
                cost_nano=record.cost_nano,
                price_version=record.price_version,
                receipt=record.receipt,
                attempts=record.attempts if len(record.attempts) > 1 or record.outcome != "ok" else (),
            )
        )
        self._lines.append(line)
        self._size += len(line) + 1
        return self._size >= FLUSH_BYTES

    def flush(self) -> None:
        """Writes what has been gathered, if anything."""
        if not self._lines:
            return
        lines, self._lines, self._size = self._lines, [], 0
        lines.append(b"")
        self._write(b"\n".join(lines))
