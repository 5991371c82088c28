"""Keeps prompts and answers, where an operator wants them: in a file of their own, never in the ledger.

A call only collects its bytes (`Tap`) and hands them over when it ends.  A thread does the rest: it folds a stream into the
answer that its events make, redacts, cuts, compresses, writes, and deletes what is too old.  What waits for it is bounded in
bytes; a body for which there is no room is dropped and counted.

In doubt nothing is kept: a body that cannot be read, or whose redaction fails in whichever way, is counted, logged without
a word of its content, and gone.
"""

import queue
import threading
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal, Protocol

import msgspec

from tollhouse.chat import sse
from tollhouse.chat.events import Failed
from tollhouse.chat.fold import Folder
from tollhouse.dialects.dialect import StreamDecoder
from tollhouse.dialects.head_lines import Fields
from tollhouse.errors import StoreUnavailable, TollhouseError
from tollhouse.policy.redaction import Redactor
from tollhouse.policy.redaction.documents import Json, Unreadable, redact_json
from tollhouse.telemetry import logs
from tollhouse.telemetry.bodies_file import BodiesFile, Kept

MAX_KEPT_BYTES: Final = 256 * 1024
MAX_READ_BYTES: Final = 8 * 1024 * 1024
MAX_WAITING_BYTES: Final = 32 * 1024 * 1024
BATCH: Final = 32
PRUNE_SECONDS: Final = 60.0
TELL_SECONDS: Final = 10.0
OVERHEAD_BYTES: Final = 1024
"""What an entry weighs in the queue beside its bodies."""

Form = Literal["redacted", "full"]
Headers = Fields
Decoders = Mapping[str, Callable[[], StreamDecoder]]
"""How to read the streams of each client's dialect, by the dialect's name."""

log = logs.get("telemetry")


class Readable(Protocol):
    """Makes JSON of the bodies of a dialect that is none: only then can they be redacted, and read by people.

    May raise anything for a body that it cannot read; nothing is kept of that.
    """

    def request(self, body: bytes) -> bytes:
        """A request."""
        ...

    def answer(self, body: bytes, *, is_stream: bool, is_error: bool) -> bytes:
        """An answer, as far as it came."""
        ...


Readables = Mapping[str, Callable[[], Readable]]
"""By the dialect's name."""


class Sink(Protocol):
    """Where an answer goes."""

    async def head(self, status: int, headers: Headers) -> None: ...
    async def body(self, data: bytes, *, more: bool) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class BodySettings:
    """What is kept, where, and for how long."""

    path: Path
    form: Form
    retention_seconds: float
    max_kept_bytes: int = MAX_KEPT_BYTES
    """Of one body, as it is stored but before compression; what is longer is cut, with a mark."""
    max_read_bytes: int = MAX_READ_BYTES
    """A longer body is not looked at; only its length is kept."""
    max_waiting_bytes: int = MAX_WAITING_BYTES


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One call, as it was handed over."""

    id: str
    at_us: int
    door: str
    dialect: str
    tenant: str
    key: str
    request: bytes
    answer: bytes
    status: int
    is_stream: bool
    is_cut: bool
    """Whether the answer is longer than what was collected, or its end did not come."""

    @property
    def weight(self) -> int:
        return len(self.request) + len(self.answer) + OVERHEAD_BYTES


@dataclass(frozen=True, slots=True)
class BodiesState:
    """How the store is doing, since its start."""

    waiting_bytes: int
    kept: int
    """Calls that were written."""
    dropped: int
    """Calls for which there was no room, or that could not be written."""
    refused: int
    """Bodies that were not kept because they could not be redacted."""
    trouble: str
    """Why nothing can be written; empty when it can."""


class Tap:
    """Collects one call's answer on its way.  It is a sink before the client's own."""

    __slots__ = ("_collected", "_entry", "_is_ended", "_is_over", "_is_stream", "_parts", "_sink", "_status", "_store")

    def __init__(self, store: "BodyStore", entry: Entry, sink: Sink) -> None:
        """Use `BodyStore.tap`."""
        self._store = store
        self._entry = entry
        self._sink = sink
        self._parts: list[bytes] = []
        self._collected = 0
        self._is_over = False
        self._is_stream = False
        self._is_ended = False
        self._status = 0

    async def head(self, status: int, headers: Headers) -> None:
        """Passes the head on."""
        self._status = status
        self._is_stream = any(
            name == b"content-type" and value.startswith(b"text/event-stream") for name, value in headers
        )
        await self._sink.head(status, headers)

    async def body(self, data: bytes, *, more: bool) -> None:
        """Passes a piece on."""
        if self._collected + len(data) <= self._store.max_read_bytes:
            self._parts.append(data)
            self._collected += len(data)
        else:
            self._is_over = True
        self._is_ended |= not more
        await self._sink.body(data, more=more)

    def finish(self) -> None:
        """The call has ended, one way or another: hands over what there is.  Never waits, never raises."""
        self._store.take(
            msgspec.structs.replace(
                self._entry,
                answer=b"".join(self._parts),
                status=self._status,
                is_stream=self._is_stream,
                is_cut=self._is_over or not self._is_ended,
            )
        )


class BodyStore:
    """The one way into the file for a serving process.  `tap` and `take` belong to its loop."""

    def __init__(
        self,
        settings: BodySettings,
        redactor: Redactor,
        decoders: Decoders,
        *,
        readables: Readables = MappingProxyType({}),
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Use `start`."""
        self.max_read_bytes = settings.max_read_bytes
        self._settings = settings
        self._inbox: queue.SimpleQueue[Entry | None] = queue.SimpleQueue()
        self._taken_bytes = 0
        self._done_bytes = 0
        self._dropped = 0
        self._is_closed = False
        self._clerk = _Clerk(settings, _Shower(settings, redactor, decoders, readables), wall, monotonic)
        self._thread = threading.Thread(target=self._work, name="tollhouse-bodies", daemon=True)

    @classmethod
    def start(
        cls,
        settings: BodySettings,
        redactor: Redactor,
        decoders: Decoders,
        readables: Readables = MappingProxyType({}),
    ) -> "BodyStore":
        """Starts the thread, which opens the file; one that cannot be opened is told of, and tried again."""
        store = cls(settings, redactor, decoders, readables=readables)
        store._thread.start()
        return store

    def tap(
        self,
        sink: Sink,
        *,
        call_id: str,
        at_us: int,
        door: str,
        dialect: str,
        tenant: str,
        key: str,
        request: bytes,
    ) -> Tap:
        """A sink to be put before the client's; call `finish` on it when the call has ended."""
        entry = Entry(
            id=call_id,
            at_us=at_us,
            door=door,
            dialect=dialect,
            tenant=tenant,
            key=key,
            request=request,
            answer=b"",
            status=0,
            is_stream=False,
            is_cut=False,
        )
        return Tap(self, entry, sink)

    def take(self, entry: Entry) -> bool:
        """Takes one call; false when there is no room for it."""
        waiting = self._taken_bytes - self._done_bytes
        if self._is_closed or (waiting and waiting + entry.weight > self._settings.max_waiting_bytes):
            self._dropped += 1
            return False
        self._taken_bytes += entry.weight
        self._inbox.put(entry)
        return True

    def state(self) -> BodiesState:
        """A snapshot."""
        clerk = self._clerk
        return BodiesState(
            waiting_bytes=self._taken_bytes - self._done_bytes,
            kept=clerk.kept,
            dropped=self._dropped + clerk.lost,
            refused=clerk.shower.refused,
            trouble=clerk.trouble,
        )

    def close(self, deadline_seconds: float = 5.0) -> bool:
        """Takes no more, and waits for what was taken; false if the deadline came first.  Blocks.  May be called twice."""
        is_first, self._is_closed = not self._is_closed, True
        if is_first:
            self._inbox.put(None)
        self._thread.join(deadline_seconds)
        return not self._thread.is_alive()

    # ------------------------------------------------------------------------------------------------- in the thread

    def _work(self) -> None:
        clerk = self._clerk
        clerk.look_after(0)
        is_open = True
        while is_open:
            entries: list[Entry] = []
            try:
                found = self._inbox.get(timeout=clerk.patience_seconds())
                while found is not None and len(entries) < BATCH:
                    entries.append(found)
                    found = self._inbox.get_nowait() if len(entries) < BATCH else found
                is_open = found is not None
            except queue.Empty:
                pass
            try:
                clerk.keep(entries)
            except Exception as error:  # noqa: BLE001  # the thread's outer edge; the error's words can quote a body
                clerk.lost += len(entries)
                clerk.trouble = type(error).__name__
            self._done_bytes += sum(entry.weight for entry in entries)
            clerk.look_after(self._dropped)
        clerk.close(self._dropped)


class _Shower:
    """Turns bodies into what may be kept of them."""

    def __init__(self, settings: BodySettings, redactor: Redactor, decoders: Decoders, readables: Readables) -> None:
        self._settings = settings
        self._redactor = redactor
        self._decoders = decoders
        self._readables = readables
        self.refused = 0
        self.reasons: dict[str, int] = {}

    def request(self, entry: Entry) -> bytes | None:
        """What is kept of a request; `None` if nothing may be."""
        make = self._readables.get(entry.dialect)
        if make is None or not entry.request:
            return self._safely(entry.request)
        return self._made(lambda: make().request(entry.request))

    def answer(self, entry: Entry) -> bytes | None:
        """What is kept of an answer."""
        make = self._readables.get(entry.dialect)
        if make is not None:
            if not entry.answer or (entry.is_cut and not entry.is_stream):
                return None
            return self._made(
                lambda: make().answer(entry.answer, is_stream=entry.is_stream, is_error=entry.status >= 400)
            )
        if entry.is_stream:
            return self._made(lambda: self._folded(entry))
        if entry.is_cut and len(entry.answer) < self._settings.max_read_bytes and not _is_json(entry.answer):
            return None  # the client left before all of it was there
        return self._safely(entry.answer)

    def _made(self, document: Callable[[], bytes]) -> bytes | None:
        """What is kept of a document that has to be made of a body first."""
        try:
            made = document()
        except Exception as error:  # noqa: BLE001  # a body that cannot be read is not kept, whatever the reason
            self._refuse(type(error).__name__)
            return None
        return self._safely(made)

    def _safely(self, body: bytes) -> bytes | None:
        settings = self._settings
        if not body:
            return None
        if len(body) > settings.max_read_bytes:
            return b'"[left out: %d bytes]"' % len(body)
        if settings.form == "full":
            return _cut(body, settings.max_kept_bytes)
        try:
            return _cut(redact_json(self._redactor, body), settings.max_kept_bytes)
        except Unreadable:
            self._refuse("not JSON")
        except Exception as error:  # noqa: BLE001  # in doubt nothing is kept, and no error's words, which can quote the body
            self._refuse(type(error).__name__)
        return None

    def _refuse(self, reason: str) -> None:
        self.refused += 1
        self.reasons[reason] = self.reasons.get(reason, 0) + 1

    def _folded(self, entry: Entry) -> bytes:
        """The answer that a stream's events make, as far as it came.  Deltas are joined before any rule looks at them."""
        parser = sse.Parser()
        decoder = self._decoders[entry.dialect]()
        folder = Folder()
        failed: Failed | None = None
        is_complete = not entry.is_cut
        try:
            for frame in [*parser.feed(entry.answer), *parser.close()]:
                for event in decoder.feed(frame):
                    folder.feed(event)
                    failed = event if isinstance(event, Failed) else failed
            for event in decoder.close():
                folder.feed(event)
        except TollhouseError:
            is_complete = False  # cut, or ended by our own error event
        answer: Json = msgspec.json.decode(msgspec.json.encode(folder.partial()))
        document: dict[str, Json] = {"complete": is_complete and failed is None, "answer": _said(answer)}
        if failed is not None:
            document["error"] = failed.message
        return msgspec.json.encode(document)


class _Clerk:
    """The thread's side.  Its counters are read by the loop while the thread writes them."""

    def __init__(
        self, settings: BodySettings, shower: _Shower, wall: Callable[[], float], monotonic: Callable[[], float]
    ) -> None:
        self.shower = shower
        self.kept = 0
        self.lost = 0
        self.trouble = ""
        self._settings = settings
        self._wall = wall
        self._monotonic = monotonic
        self._file = BodiesFile(settings.path)
        self._prune_at = 0.0
        self._is_behind = False
        """Whether there is more to prune at once."""
        self._tell_at = 0.0
        self._told = 0

    def patience_seconds(self) -> float:
        """How long to wait for the next entry."""
        return 0.0 if self._is_behind else TELL_SECONDS

    def keep(self, entries: Sequence[Entry]) -> None:
        """Writes what may be kept of these calls."""
        rows = [row for entry in entries if (row := self._row(entry)) is not None]
        if not rows:
            return
        try:
            self._file.write(rows)
        except StoreUnavailable as error:
            self.lost += len(rows)
            self.trouble = error.message
        else:
            self.kept += len(rows)
            self.trouble = ""

    def _row(self, entry: Entry) -> Kept | None:
        request, answer = self.shower.request(entry), self.shower.answer(entry)
        if request is None and answer is None:
            return None
        return Kept(
            id=entry.id,
            at_us=entry.at_us,
            door=entry.door,
            tenant=entry.tenant,
            key=entry.key,
            status=entry.status,
            form=self._settings.form,
            request=None if request is None else zlib.compress(request, 3),
            answer=None if answer is None else zlib.compress(answer, 3),
        )

    def look_after(self, dropped: int) -> None:
        """Deletes a bounded number of old bodies, and tells of what was not kept: both now and then."""
        now = self._monotonic()
        if now >= self._prune_at or self._is_behind:
            self._prune_at = now + PRUNE_SECONDS
            try:
                self._is_behind = self._file.prune(int((self._wall() - self._settings.retention_seconds) * 1e6))
            except StoreUnavailable as error:
                self._is_behind = False
                self.trouble = error.message
        if now >= self._tell_at:
            self._tell(dropped)
            self._tell_at = now + TELL_SECONDS

    def close(self, dropped: int) -> None:
        """Tells the rest and lets go of the file."""
        self._tell(dropped)
        self._file.close()

    def _tell(self, dropped: int) -> None:
        missing = dropped + self.lost + self.shower.refused
        if missing > self._told:
            log.warning(
                "bodies were not kept",
                extra={
                    "count": missing - self._told,
                    "no_room": dropped,
                    "not_written": self.lost,
                    "not_redacted": dict(self.shower.reasons),
                    "reason": self.trouble,
                },
            )
            self._told = missing


def _cut(body: bytes, limit: int) -> bytes:
    if len(body) <= limit:
        return body
    kept = body[:limit].decode("utf-8", "ignore")
    return f"{kept}…[left out: {len(body) - len(kept.encode())} more bytes]".encode()


def _said(value: Json) -> Json:
    """A document without what says nothing."""
    match value:
        case dict():
            return {name: _said(inner) for name, inner in value.items() if inner not in (None, [], {})}
        case list():
            return [_said(inner) for inner in value]
        case _:
            return value


def _is_json(body: bytes) -> bool:
    try:
        msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True
