"""The calls log: one JSON line for each call, which is its finished record with the time put in words before it.

Lines are gathered and handed over in batches: a line costs an encoding into what is gathered, never a system call;
writing is the business of an `Outlet`'s thread.  No prompt, completion or credential is in a record.  But some of its words
are a caller's own (the name of a model, an error that quotes it), and a caller can write anything there, its key for one;
these go through the redactor.  The fields are those of `tollhouse.ledger.record.CallRecord`; what has its default (an empty
name, a count that was not said) is left out.
"""

import ipaddress
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Final

import msgspec

from tollhouse.ledger.record import Attempt, CallRecord
from tollhouse.policy.redaction import Redactor
from tollhouse.telemetry.clock import iso_utc

FLUSH_BYTES: Final = 64 * 1024
COMMA: Final = ord(",")
MAX_WORDS_CHARACTERS: Final = 1_000
"""Of a message or a receipt in the log."""
REMEMBERED_WORDS: Final = 2_048
"""Names come again and again, so what the redactor made of them is remembered."""

_FREE_WORDS: Final = ("requested_model", "route", "model", "receipt", "message")


class CallsLog:
    """Encodes records into lines and hands batches of them to `write`."""

    __slots__ = ("_are_plain", "_at", "_encode_into", "_hides_client", "_lines", "_redact", "_second", "_write")

    def __init__(
        self, write: Callable[[bytes], object], redactor: Redactor | None = None, *, hides_client: bool = False
    ) -> None:
        """`redactor` finds credentials unless given.  `hides_client`: of a caller's address only the network is written."""
        self._encode_into = msgspec.json.Encoder(enc_hook=_encodable).encode_into
        self._redact = redact = lru_cache(REMEMBERED_WORDS)((redactor or Redactor(["secrets"])).redact)
        self._are_plain = lru_cache(REMEMBERED_WORDS)(lambda *names: all(redact(name) == name for name in names))
        self._hides_client = hides_client
        self._second = -1
        self._at = b""
        """How a line of a call begins that began in that second, but for the milliseconds."""
        self._lines = bytearray()
        self._write = write

    def finished(self, record: CallRecord) -> bool:
        """Takes one record; true when a batch is full and `flush` is due."""
        second, milli = divmod(record.started_at_us // 1000, 1000)
        if second != self._second:
            self._second, self._at = (
                second,
                b'{"at":"%b%%03dZ",' % iso_utc(second * 1_000_000).removesuffix("000Z").encode(),
            )
        lines = self._lines
        lines += self._at % milli
        if record.outcome == "ok":
            lines += b'"outcome":"ok",'  # the encoding leaves defaults out, but it is what one searches a log for
        # The record's first brace takes the place of the comma before it, and is made that comma.
        joint = len(lines) - 1
        shown = self._shown(record)
        if self._hides_client and shown.client:
            self._append_without_client(shown, joint)
        else:
            self._append(shown, joint)
        lines[joint] = COMMA
        lines += b"\n"
        return len(lines) >= FLUSH_BYTES

    def flush(self) -> None:
        """Hands over what has been gathered, if anything."""
        if self._lines:
            lines = bytes(self._lines)
            self._lines.clear()
            self._write(lines)

    def _shown(self, record: CallRecord) -> CallRecord:
        """The record as the log may show it."""
        redact, model = self._redact, record.model
        if (
            not (record.receipt or record.message)
            and len(record.requested_model) <= MAX_WORDS_CHARACTERS
            and self._are_plain(record.requested_model, record.route, model)
        ):
            for attempt in record.attempts:
                if attempt.detail or attempt.model != model:
                    break
            else:
                return record  # as nearly all are
        changes: dict[str, object] = {}
        for name in _FREE_WORDS:
            words: str = getattr(record, name)
            if words and (shown := redact(words[:MAX_WORDS_CHARACTERS])) != words:
                changes[name] = shown
        if any(
            redact(attempt.detail) != attempt.detail or redact(attempt.model) != attempt.model
            for attempt in record.attempts
        ):
            changes["attempts"] = tuple(self._shown_attempt(attempt) for attempt in record.attempts)
        return msgspec.structs.replace(record, **changes) if changes else record

    def _shown_attempt(self, attempt: Attempt) -> Attempt:
        redact = self._redact
        return msgspec.structs.replace(attempt, detail=redact(attempt.detail), model=redact(attempt.model))

    def _append_without_client(self, record: CallRecord, at: int) -> None:
        """With the network that the client is in.  The record is as it was afterwards; to copy it would cost as much again."""
        client = record.client
        record.client = network_of(client)
        try:
            self._append(record, at)
        finally:
            record.client = client

    def _append(self, record: CallRecord, at: int) -> None:
        """Encodes the record from that place of the gathered lines on."""
        try:
            self._encode_into(record, self._lines, at)
        except UnicodeEncodeError:  # half of a surrogate pair in a caller's words
            fields = {name: _storable(getattr(record, name)) for name in record.__struct_fields__}
            self._encode_into(msgspec.structs.replace(record, **fields), self._lines, at)


@lru_cache(REMEMBERED_WORDS)
def network_of(address: str) -> str:
    """The network of an address, too wide to be one person's: `203.0.113.0/24`, `2001:db8:1::/48`; empty for what is none."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return ""
    return str(ipaddress.ip_network((parsed, 24 if parsed.version == 4 else 48), strict=False))


def _encodable(value: object) -> object:
    if isinstance(value, Mapping):  # a read-only view
        return dict(value)
    raise TypeError(f"{type(value).__name__} cannot be logged")


def _storable(value: object) -> object:
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value
