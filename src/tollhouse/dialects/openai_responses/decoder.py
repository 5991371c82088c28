"""A provider's stream as events.

Items may overlap on the wire: OpenRouter ends a reasoning item only after the message that follows it
(`openrouter/openrouter-responses-stream-reasoning-675343`).  Our events are those of one part at a time.  So one item is
*live* and its events go out at once; what comes for others waits for it to be done.  Reasoning does not make others wait:
it ends when something else begins, and what comes of it later becomes a part of its own.
"""

from collections import deque
from typing import Final

import msgspec

from tollhouse.chat.events import (
    Cited,
    Delta,
    Ended,
    Event,
    Failed,
    Finished,
    LogprobsReported,
    PartClosed,
    PartOpened,
    Signed,
    Started,
    UsageReported,
)
from tollhouse.chat.model import Foreign, Part, RedactedThinking, Refusal, Text, Thinking, ToolCall
from tollhouse.chat.opaque import unseal
from tollhouse.chat.sse import Frame
from tollhouse.dialects.openai_chat.failure import bare_failure
from tollhouse.dialects.openai_chat.logprobs import read_tokens
from tollhouse.dialects.openai_chat.pieces import encoded
from tollhouse.dialects.openai_chat.wire import Json, read
from tollhouse.dialects.openai_responses.counts import read_usage
from tollhouse.dialects.openai_responses.failure import failure_of
from tollhouse.dialects.openai_responses.finish import finish_of
from tollhouse.dialects.openai_responses.reading import kept, read_annotation
from tollhouse.dialects.openai_responses.response import read_call, read_output
from tollhouse.dialects.openai_responses.wire import NAME, StreamEvent
from tollhouse.errors import StreamFailed, UpstreamMalformed, UpstreamTooLarge, UpstreamTruncated

MAX_WAITING_EVENTS: Final = 200_000
"""Bound on what waits for an item that does not end."""

_decoder: Final = msgspec.json.Decoder(StreamEvent)
_BETWEEN: Final = "\n\n"
"""Stands between the paragraphs of a summary, which are parts of their own on the wire."""

_TERMINAL: Final = frozenset({"response.completed", "response.incomplete", "response.failed", "response.cancelled"})
_TEXT_DELTAS: Final = frozenset({"response.output_text.delta", "response.refusal.delta"})
_THOUGHT_DELTAS: Final = frozenset({"response.reasoning_summary_text.delta", "response.reasoning_text.delta"})
_CALL_DELTAS: Final = frozenset({"response.function_call_arguments.delta", "response.custom_tool_call_input.delta"})
_CALL_DONE: Final = frozenset({"response.function_call_arguments.done", "response.custom_tool_call_input.done"})


class _Waiting:
    """An item's events that cannot go out yet; their part numbers are given when they do."""

    __slots__ = ("events", "is_done")

    def __init__(self) -> None:
        self.events: deque[Event] = deque()
        self.is_done = False


class _Item:
    """One output item."""

    __slots__ = ("extra", "is_new", "kind", "open", "place", "said", "told")

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.open: type | None = None
        """The kind of its open part."""
        self.place: tuple[str, int] = ("", 0)
        """Which of the item's parts on the wire is open."""
        self.said = 0
        """Characters of the open part."""
        self.told = 0
        """Citations of the open part."""
        self.extra: dict[str, Json] = {}
        self.is_new = True
        """No part of it was opened yet."""


class ResponsesDecoder:
    """See `tollhouse.dialects.dialect.StreamDecoder`."""

    __slots__ = (
        "_has_calls",
        "_has_refusal",
        "_home",
        "_is_over",
        "_is_started",
        "_items",
        "_live",
        "_most",
        "_order",
        "_part",
        "_queued",
        "_waiting",
    )

    def __init__(self, *, home: str, max_waiting_events: int = MAX_WAITING_EVENTS) -> None:
        """`home` is the provider's type, where its encrypted reasoning is at home."""
        self._home = home
        self._most = max_waiting_events
        self._items: dict[int, _Item] = {}
        self._waiting: dict[int, _Waiting] = {}
        self._order: deque[int] = deque()
        """Items that wait to be live."""
        self._queued = 0
        self._live: int | None = None
        self._part = -1
        self._is_started = False
        self._is_over = False
        self._has_calls = False
        self._has_refusal = False

    def feed(self, frame: Frame) -> list[Event]:
        """The events of one frame.  Raises `UpstreamMalformed`."""
        if self._is_over or frame.data == b"[DONE]" or not frame.data.strip():
            return []
        if frame.is_bare:
            return self._end_with(bare_failure(frame.data))
        wire = read(frame.data, _decoder, StreamEvent, "a stream event")
        kind = wire.type or frame.event.decode("utf-8", "replace")
        out: list[Event] = []
        self._read(kind, wire, out)
        return out

    def close(self) -> list[Event]:
        """The peer is done sending.  A stream without its last event is cut."""
        if not self._is_over:
            raise UpstreamTruncated("The provider's stream stopped before its answer was finished.")
        return []

    def _end_with(self, error: StreamFailed) -> list[Event]:
        self._is_over = True
        return [_failed(error.message, error.kind, error.provider_code, error.status)]

    def _read(self, kind: str, wire: StreamEvent, out: list[Event]) -> None:
        if kind == "error" or (not kind and wire.error is not None):
            error = failure_of(
                {"error": wire.error} if wire.error is not None else {"message": wire.message, "code": wire.code}
            )
            out += self._end_with(error)
            return
        if not self._is_started:
            self._start(wire.response, out)
        if kind in _TERMINAL:
            self._end(kind, wire.response, out)
            return
        index = wire.output_index
        if index is None:
            return  # `response.in_progress` and whatever else is not about the output
        self._about_item(kind, wire, index, out)

    def _start(self, response: Json, out: list[Event]) -> None:
        self._is_started = True
        fields = response if isinstance(response, dict) else {}
        created = fields.get("created_at")
        out.append(
            Started(
                id=_text(fields.get("id")) or "",
                model=_text(fields.get("model")) or "",
                created=int(created) if isinstance(created, int | float) and created else None,
                service_tier=_text(fields.get("service_tier")),
            )
        )

    # -- one item

    def _about_item(self, kind: str, wire: StreamEvent, index: int, out: list[Event]) -> None:
        if kind == "response.output_item.added":
            self._add(index, wire.item, out)
            return
        item = self._items.get(index)
        if item is None:
            if kind != "response.output_item.done":
                raise UpstreamMalformed(f"The provider's stream says something of output item {index} before it began.")
            self._add(index, wire.item, out)
            item = self._items[index]
        if kind in _TEXT_DELTAS:
            self._text(item, index, kind, wire, out)
        elif kind in _THOUGHT_DELTAS:
            self._thought(item, index, kind, wire, out)
        elif kind in _CALL_DELTAS:
            self._grow(item, index, wire.delta, out)
        elif kind == "response.content_part.added":
            self._part_added(item, index, wire, out)
        elif kind == "response.output_text.annotation.added":
            if item.open is Text and isinstance(wire.annotation, dict):
                item.told += 1
                self._say(index, Cited(0, read_annotation(wire.annotation)), out)
        elif kind == "response.content_part.done":
            self._part_done(item, index, wire, out)
        elif kind in _CALL_DONE:
            self._late(item, index, wire.arguments if wire.input is None else wire.input, out)
        elif kind == "response.output_item.done":
            self._done(item, index, wire.item, out)
        # Others repeat what was said, or tell how a provider's own tool is getting on.

    def _add(self, index: int, value: Json, out: list[Event]) -> None:
        fields = value if isinstance(value, dict) else {}
        kind = _text(fields.get("type")) or ""
        if index in self._items:
            raise UpstreamMalformed(f"The provider's stream begins output item {index} twice.")
        item = self._items[index] = _Item(kind)
        item.extra = fields
        if kind in {"function_call", "custom_tool_call"}:
            self._has_calls = True
            call = read_call(fields)
            self._open(item, index, call, ("call", 0), out)
            item.said = len(call.arguments)

    def _text(self, item: _Item, index: int, kind: str, wire: StreamEvent, out: list[Event]) -> None:
        place = ("content", wire.content_index or 0)
        if item.open is None or item.place != place:
            part: Part = Text("", extra=kept(item.extra, ("phase",)))
            self._open(item, index, Refusal("") if kind == "response.refusal.delta" else part, place, out)
        self._grow(item, index, wire.delta, out)
        if wire.logprobs and (tokens := read_tokens(wire.logprobs)):
            self._say(index, LogprobsReported(tokens), out)

    def _thought(self, item: _Item, index: int, kind: str, wire: StreamEvent, out: list[Event]) -> None:
        is_summary = kind == "response.reasoning_summary_text.delta"
        place = ("summary", wire.summary_index or 0) if is_summary else ("content", wire.content_index or 0)
        if item.open is None:
            self._open(item, index, Thinking(""), place, out)
        elif item.place != place:
            item.place = place
            if item.said:
                self._grow(item, index, _BETWEEN, out)
        self._grow(item, index, wire.delta, out)

    def _grow(self, item: _Item, index: int, delta: Json, out: list[Event]) -> None:
        if item.open is None or not isinstance(delta, str):
            return
        item.said += len(delta)
        if delta:
            self._say(index, Delta(0, delta), out)

    def _late(self, item: _Item, index: int, whole: Json, out: list[Event]) -> None:
        """What is only said when it is done; some servers stream no pieces."""
        if not item.said:
            self._grow(item, index, whole, out)

    def _part_added(self, item: _Item, index: int, wire: StreamEvent, out: list[Event]) -> None:
        fields = wire.part if isinstance(wire.part, dict) else {}
        place = ("content", wire.content_index or 0)
        match fields.get("type"):
            case "output_text":
                self._open(item, index, Text("", extra=kept(item.extra, ("phase",))), place, out)
                self._late(item, index, fields.get("text"), out)
            case "refusal":
                self._open(item, index, Refusal(""), place, out)
                self._late(item, index, fields.get("refusal"), out)
            case _:
                pass  # reasoning opens with its first word

    def _part_done(self, item: _Item, index: int, wire: StreamEvent, out: list[Event]) -> None:
        fields = wire.part if isinstance(wire.part, dict) else {}
        if item.place != ("content", wire.content_index or 0) or item.open not in {Text, Refusal}:
            return
        self._late(item, index, fields.get("refusal" if item.open is Refusal else "text"), out)
        annotations = fields.get("annotations")
        for annotation in (annotations if isinstance(annotations, list) else [])[item.told :]:
            if isinstance(annotation, dict):
                self._say(index, Cited(0, read_annotation(annotation)), out)
        self._close(item, index, out)

    def _done(self, item: _Item, index: int, value: Json, out: list[Event]) -> None:
        fields = value if isinstance(value, dict) else {}
        match item.kind:
            case "function_call" | "custom_tool_call":
                whole = read_call(fields or item.extra)
                self._late(item, index, whole.arguments, out)
            case "reasoning":
                self._reasoning_done(item, index, fields, out)
            case "message" if item.is_new and fields:
                self._whole(index, fields, out)
            case "message":
                pass
            case _:
                self._open(item, index, Foreign(NAME, item.kind, encoded(fields or item.extra)), ("item", 0), out)
        self._close(item, index, out)
        self._let_go(index, out)

    def _reasoning_done(self, item: _Item, index: int, fields: dict[str, Json], out: list[Event]) -> None:
        if item.is_new and fields:
            self._whole(index, {**fields, "encrypted_content": None}, out)
        sealed = _text(fields.get("encrypted_content"))
        if not sealed:
            return
        value = unseal(sealed, self._home)
        if item.open is Thinking:
            self._say(index, Signed(0, value), out)
        else:
            self._open(item, index, RedactedThinking(value), ("item", 0), out)

    def _whole(self, index: int, fields: dict[str, Json], out: list[Event]) -> None:
        """An item of which nothing was streamed."""
        item = self._items[index]
        found = read_output([fields], self._home)
        for part in found.parts:
            match part:
                case Text():
                    self._open(item, index, msgspec.structs.replace(part, text="", citations=()), ("item", 0), out)
                    self._grow(item, index, part.text, out)
                    for citation in part.citations:
                        self._say(index, Cited(0, citation), out)
                case Thinking() | Refusal():
                    self._open(item, index, type(part)(""), ("item", 0), out)
                    self._grow(item, index, part.text, out)
                case ToolCall():
                    self._has_calls = True
                    self._open(item, index, msgspec.structs.replace(part, arguments=""), ("item", 0), out)
                    self._grow(item, index, part.arguments, out)
                case _:
                    self._open(item, index, part, ("item", 0), out)
        if found.logprobs:
            self._say(index, LogprobsReported(tuple(found.logprobs)), out)

    # -- one part at a time

    def _open(self, item: _Item, index: int, part: Part, place: tuple[str, int], out: list[Event]) -> None:
        self._close(item, index, out)
        item.open, item.place, item.said, item.told, item.is_new = type(part), place, 0, 0, False
        self._has_refusal |= isinstance(part, Refusal)
        self._say(index, PartOpened(0, part), out)

    def _close(self, item: _Item, index: int, out: list[Event]) -> None:
        if item.open is not None:
            item.open = None
            self._say(index, PartClosed(0), out)

    def _say(self, index: int, event: Event, out: list[Event]) -> None:
        """Sends an event out if its item is live, else keeps it."""
        if self._live is None or (self._live != index and not self._order and self._interrupt(self._live, out)):
            self._live = index
        if self._live == index:
            self._send(event, out)
            return
        waiting = self._waiting.get(index)
        if waiting is None:
            waiting = self._waiting[index] = _Waiting()
            self._order.append(index)
        self._queued += 1
        if self._queued > self._most:
            raise UpstreamTooLarge("The provider's stream begins item after item and ends none of them.")
        waiting.events.append(event)

    def _interrupt(self, live: int, out: list[Event]) -> bool:
        """Ends live reasoning for another item's sake; whether that is what was live."""
        item = self._items[live]
        if item.kind != "reasoning":
            return False
        if item.open is not None:
            item.open = None
            self._send(PartClosed(0), out)
        return True

    def _send(self, event: Event, out: list[Event]) -> None:
        match event:
            case PartOpened():
                self._part += 1
                out.append(PartOpened(self._part, event.part))
            case Delta():
                out.append(Delta(self._part, event.text))
            case Cited():
                out.append(Cited(self._part, event.citation))
            case Signed():
                out.append(Signed(self._part, event.signature))
            case PartClosed():
                out.append(PartClosed(self._part))
            case _:
                out.append(event)

    def _let_go(self, index: int, out: list[Event]) -> None:
        """An item is done: those that waited for it have their turn."""
        waiting = self._waiting.get(index)
        if waiting is not None:
            waiting.is_done = True
        if self._live != index:
            return
        self._live = None
        while self._order:
            following = self._order.popleft()
            waiting = self._waiting.pop(following)
            self._queued -= len(waiting.events)
            for event in waiting.events:
                self._send(event, out)
            if not waiting.is_done:
                self._live = following
                break

    # -- the end

    def _end(self, kind: str, response: Json, out: list[Event]) -> None:
        self._is_over = True
        fields = response if isinstance(response, dict) else {}
        status = _text(fields.get("status")) or kind.removeprefix("response.")
        usage = read_usage(fields.get("usage"))
        if kind == "response.failed" or status in {"failed", "cancelled"}:
            error = failure_of(fields)
            if not usage.is_empty:
                out.append(UsageReported(usage))
            out.append(_failed(error.message, error.kind, error.provider_code, error.status))
            return
        output = fields.get("output")
        if not self._items and isinstance(output, list):
            for index, value in enumerate(output):  # a server that streams nothing but the end
                self._add(index, value, out)
                self._done(self._items[index], index, value, out)
        for index, item in self._items.items():
            self._close(item, index, out)
            self._let_go(index, out)
        details = fields.get("incomplete_details")
        why = _text(details.get("reason")) if isinstance(details, dict) else None
        reason, detail = finish_of(status, why, has_calls=self._has_calls, has_refusal=self._has_refusal)
        out.append(Finished(reason, detail))
        if not usage.is_empty:
            out.append(UsageReported(usage))
        out.append(Ended())


def _failed(message: str, kind: str | None, code: str | None, status: int | None) -> Failed:
    return Failed(message=message, kind=kind, provider_code=code, status=status)


def _text(value: Json) -> str | None:
    return value if isinstance(value, str) else None
