"""Watches a stream that is forwarded in its own dialect.

Nearly all of a stream is `response.output_text.delta` in one fixed form (`mostly_deltas`).
"""

from typing import Final, Literal

import msgspec

from tollhouse.chat import sse
from tollhouse.chat.usage import Usage
from tollhouse.dialects.dialect import MAX_LARGE_EVENT_BYTES
from tollhouse.dialects.fields import UNREADABLE
from tollhouse.dialects.mostly_deltas import MostlyDeltas
from tollhouse.dialects.openai_chat.failure import bare_failure
from tollhouse.dialects.openai_chat.wire import Json, read
from tollhouse.dialects.openai_responses.counts import read_usage
from tollhouse.dialects.openai_responses.failure import failure_of
from tollhouse.dialects.openai_responses.finish import finish_of
from tollhouse.errors import UpstreamMalformed, UpstreamTruncated


class _PlainDelta(msgspec.Struct, gc=False):
    type: Literal["response.output_text.delta"]
    delta: str


class _Item(msgspec.Struct, gc=False):
    type: str = ""


class _Why(msgspec.Struct, gc=False):
    reason: str | None = None


class _Response(msgspec.Struct, gc=False):
    status: str | None = None
    usage: Json = None
    incomplete_details: _Why | None = None
    error: Json = None


class _Event(msgspec.Struct, gc=False):
    type: str = ""
    delta: Json = None
    item: _Item | None = None
    response: _Response | None = None
    error: Json = None
    code: Json = None
    message: Json = None


MAX_RESPONSE_BYTES: Final = MAX_LARGE_EVENT_BYTES
"""Bound on one event: the last repeats the whole answer, pictures that the model drew included."""

_HEAD: Final = b"event: response.output_text.delta\ndata: "
_PLAIN: Final = msgspec.json.Decoder(_PlainDelta)
_EVENT: Final = msgspec.json.Decoder(_Event)
_ENDS: Final = frozenset({"response.completed", "response.incomplete", "response.failed", "response.cancelled"})
_CALLS: Final = frozenset({"function_call", "custom_tool_call"})


class ResponsesObserver(MostlyDeltas):
    """See `tollhouse.dialects.dialect.Observer`."""

    __slots__ = ("_has_calls", "_has_refusal", "_is_ended", "_usage")

    MAX_EVENT_BYTES = MAX_RESPONSE_BYTES
    MAX_END_BYTES = MAX_RESPONSE_BYTES + MAX_EVENT_BYTES

    def __init__(self) -> None:
        super().__init__()
        self._has_calls = False
        self._has_refusal = False
        self._is_ended = False
        """Whether a response ended well."""
        self._usage = Usage()

    def close(self) -> bytes:
        """The held-back end; see `Observer.close`.  Nothing can stand in for a missing one: it repeats the whole answer."""
        if self.failure is not None:
            return b""
        if not self.is_final and self._unfinished:
            # The last event counts without its blank line.
            piece = self._unfinished.take().rstrip(b"\r\n") + b"\n\n"
            self._see(piece)
            self._held = piece
        if not self._is_ended:
            raise UpstreamTruncated("The provider's stream stopped before its answer was finished.")
        self.is_final = True
        return self._held

    def usage(self) -> Usage:
        """As reported with the end; of a stream that broke off, the output counted from its events."""
        if self._is_ended and self._usage.output_tokens is not None:
            return self._usage
        return self._tally.usage(self._usage)

    def _are_plain_deltas(self, events: bytes) -> bool:
        if not events.startswith(_HEAD):
            return False
        try:
            deltas = _PLAIN.decode_lines(events.replace(_HEAD, b""))
        except UNREADABLE:
            return False
        if len(deltas) != events.count(b"\n\n"):
            return False
        for each in deltas:
            self._tally.add(each.delta)
        self.has_content = True
        return True

    def _see(self, event: bytes) -> None:
        for frame in sse.Parser(max_event_bytes=MAX_RESPONSE_BYTES).feed(event):
            if frame.data.strip() != b"[DONE]":  # OpenRouter adds the end mark of the older dialect
                self._see_frame(frame)

    def _see_frame(self, frame: sse.Frame) -> None:
        if frame.is_bare:
            raise bare_failure(frame.data)  # not an event that a client could read
        event = read(frame.data, _EVENT, _Event, "a stream event")
        kind = event.type or frame.event.decode("utf-8", "replace")
        if kind in _ENDS:
            self._end(kind, event.response or _Response())
        elif kind == "error" or (not kind and event.error is not None):
            # OpenAI follows up with the response that failed (`openai/openai-responses-stream-error-in-stream-501de1`),
            # which is where some clients look; both are passed on.
            self.failure = failure_of(
                {"error": event.error} if event.error is not None else {"message": event.message, "code": event.code}
            )
        elif not kind:
            raise UpstreamMalformed("The provider sent an event without a type where a response was due.")
        elif isinstance(event.delta, str):
            self._tally.add(event.delta)
            self.has_content = True
            self._has_refusal |= kind == "response.refusal.delta"
        elif event.item is not None and kind == "response.output_item.added":
            if event.item.type in _CALLS:
                self._has_calls = True
                self._tally.calls += 1
            # Reasoning that is not shown yet is no answer yet.
            self.has_content |= event.item.type != "reasoning"
        elif event.item is not None and kind == "response.output_item.done":
            self.has_content = True

    def _end(self, kind: str, response: _Response) -> None:
        self.is_final = True
        self._usage = read_usage(response.usage)
        if kind in {"response.failed", "response.cancelled"}:
            self.failure = self.failure or failure_of({"error": response.error})
            return
        self._is_ended = True
        why = None if response.incomplete_details is None else response.incomplete_details.reason
        self.finish, _ = finish_of(
            response.status or kind.removeprefix("response."),
            why,
            has_calls=self._has_calls,
            has_refusal=self._has_refusal,
        )
