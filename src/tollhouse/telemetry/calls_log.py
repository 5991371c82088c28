"""The calls log: one JSON line for each call, which is its finished record with the time put in words before it.

Lines are gathered and written in batches: a line costs an encoding and a list append on the loop, never a system call.  No
prompt, completion or credential is in a record, so none can be in the log.  The fields are those of
`tollhouse.ledger.record.CallRecord`; what has its default (an empty name, a count that was not said) is left out.
"""

from collections.abc import Callable
from typing import Final

import msgspec

from tollhouse.ledger.record import CallRecord
from tollhouse.telemetry.clock import iso_utc

FLUSH_BYTES: Final = 64 * 1024


class CallsLog:
    """Encodes records into lines and hands batches of them to `write`."""

    __slots__ = ("_encode", "_lines", "_size", "_write")

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self._encode = msgspec.json.Encoder().encode
        self._lines: list[bytes] = []
        self._size = 0
        self._write = write

    def finished(self, record: CallRecord) -> bool:
        """Takes one record; true when a batch is full and `flush` is due."""
        # The encoding leaves defaults out, but `ok` is what one searches a log for.
        outcome = b'"outcome":"ok",' if record.outcome == "ok" else b""
        line = b'{"at":"%b",%b%b' % (iso_utc(record.started_at_us).encode(), outcome, self._encode(record)[1:])
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
