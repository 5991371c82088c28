"""A call's place in a trace: taken from the caller, or made up.

A caller that traces its own doings says so in the header `traceparent` (W3C Trace Context, level 1:
https://www.w3.org/TR/trace-context/#traceparent-header).  Then the call is a part of the caller's trace, and the caller's flag
decides whether it is sent to the collector.  Of the other calls a fixed part is sent, chosen by the trace's id, as
OpenTelemetry's own sampler `TraceIdRatioBased` chooses.

What is not exactly as the specification has it is taken for nothing: a caller that writes it wrong gets a trace of its own.
"""

import re
from collections.abc import Callable, Sequence
from typing import Final

from tollhouse.ledger.record import Trace

TRACEPARENT: Final = b"traceparent"
MAX_TRACEPARENT_BYTES: Final = 512
"""A later version may have more to say than the 55 bytes of this one; nobody needs to read a book of it."""
_KNOWN: Final = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL)
_SAMPLED: Final = 0x01
_LOW_64: Final = (1 << 64) - 1


class Tracing:
    """Gives each call its place."""

    __slots__ = ("_bits", "_bound")

    def __init__(self, sample: float, bits: Callable[[int], int]) -> None:
        """`sample` is the part of the calls (0 to 1) that is sent; `bits` gives an integer of so many random bits."""
        self._bound = round(sample * (1 << 64))
        self._bits = bits

    def __call__(self, headers: Sequence[tuple[bytes, bytes]]) -> Trace:
        """The place of a call whose caller said this; names in lower case."""
        said = [value for name, value in headers if name == TRACEPARENT]
        span = self._bits(63) | 1 << 63  # far from zero, which is no id, for its attempts' ids too
        found = _read(said[0]) if len(said) == 1 else None
        if found is not None:
            trace_id, parent_id, is_sampled = found
            return Trace(trace_id=trace_id, span_id=f"{span:016x}", parent_id=parent_id, is_sampled=is_sampled)
        trace = self._bits(128) or 1
        return Trace(
            trace_id=f"{trace:032x}",
            span_id=f"{span:016x}",
            is_sampled=trace & _LOW_64 < self._bound,
        )


def traceparent(trace: Trace, attempt: int) -> bytes:
    """What a gateway behind this one is told: that its part belongs to that attempt (counted from 0) of the call."""
    return f"00-{trace.trace_id}-{trace.attempt_id(attempt)}-{trace.is_sampled:02x}".encode("ascii")


def _read(value: bytes) -> tuple[str, str, bool] | None:
    """Trace id, parent id and whether it is sampled; `None` for what is no `traceparent`."""
    parts = _KNOWN.fullmatch(value) if len(value) <= MAX_TRACEPARENT_BYTES else None
    if parts is None:
        return None
    version, trace_id, parent_id, flags, more = parts.groups()
    if version == b"ff" or (version == b"00" and more is not None):
        return None
    if not trace_id.strip(b"0") or not parent_id.strip(b"0"):
        return None  # all zeros: no id
    return trace_id.decode(), parent_id.decode(), bool(int(flags, 16) & _SAMPLED)
