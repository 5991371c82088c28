"""A provider's stream as events.

Providers agree on little (`facts` are the recordings named below): a role in every chunk or once, text in two fields, tool
calls whole or in pieces with ids that repeat, go empty or go missing, a finish that comes twice or together with the last
call, usage anywhere.  Two rules make one grammar out of it:

- A part stays open until something of another kind comes.  A piece for a tool call that was already closed is an error:
  arguments that land in the wrong call would be run.
- A finish waits for the next chunk before it counts, as more calls may follow it (`glm-chat-stream-tool-call-3cd78f`).
"""

from collections.abc import Iterable
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
    Pinged,
    Signed,
    Started,
    UsageReported,
)
from tollhouse.chat.model import (
    Citation,
    FinishReason,
    Foreign,
    Opaque,
    Part,
    RedactedThinking,
    Refusal,
    Text,
    Thinking,
    ToolCall,
)
from tollhouse.chat.sse import Frame
from tollhouse.chat.usage import Usage
from tollhouse.dialects.openai_chat.counts import read_usage
from tollhouse.dialects.openai_chat.failure import bare_failure, failed, words_of
from tollhouse.dialects.openai_chat.finish import finish_reason
from tollhouse.dialects.openai_chat.logprobs import read_logprobs
from tollhouse.dialects.openai_chat.pieces import (
    arguments_text,
    encoded,
    invented_id,
    kept,
    read_annotations,
    read_details,
    read_sources,
)
from tollhouse.dialects.openai_chat.wire import (
    NAME,
    Chunk,
    ChunkChoice,
    FunctionPiece,
    Json,
    ToolPiece,
    read,
)
from tollhouse.dialects.openai_chat.wire import Delta as WireDelta
from tollhouse.errors import StreamFailed, UpstreamMalformed, UpstreamTruncated

MAX_CHOICES: Final = 128
MAX_CALLS: Final = 1_000
"""Calls in one answer; more is a broken provider."""

_decoder: Final = msgspec.json.Decoder(Chunk)
_json: Final = msgspec.json.Decoder()
_LEGACY: Final = -1
"""The place of the old `function_call` among the calls of a choice."""


class _Choice:
    """One answer as it grows."""

    __slots__ = (
        "call",
        "calls",
        "encrypted",
        "has_refusal",
        "index",
        "is_finished",
        "kind",
        "part",
        "pending",
        "waiting",
    )

    def __init__(self, index: int) -> None:
        self.index = index
        self.part = -1
        """The number of the part that is open, or was last."""
        self.kind: type[Part] | None = None
        """What is open."""
        self.calls: dict[int, str] = {}
        """Calls by their place on the wire, with their ids."""
        self.call: int | None = None
        """The place of the open call."""
        self.waiting: tuple[int, str | None, str] | None = None
        """A call whose name has not come yet: place, id, arguments so far."""
        self.encrypted: list[Opaque] = []
        self.has_refusal = False
        self.pending: str | None = None
        self.is_finished = False


class OpenAIChatDecoder:
    """See `tollhouse.dialects.dialect.StreamDecoder`."""

    __slots__ = ("_choices", "_home", "_id", "_is_over", "_outside", "_pending", "_sources", "_started", "_usage")

    def __init__(self, *, reasoning_outside_output: bool, home: str) -> None:
        self._outside = reasoning_outside_output
        self._home = home
        self._choices: dict[int, _Choice] = {}
        self._started = False
        self._is_over = False
        self._pending = False
        self._id = ""
        self._usage = Usage()
        self._sources: tuple[Citation, ...] = ()

    def feed(self, frame: Frame) -> Iterable[Event]:
        """The events of one frame."""
        if self._is_over:
            return ()
        data = frame.data
        if frame.event or not data.startswith(b"{"):
            return self._uncommon(frame)
        chunk = read(data, _decoder, Chunk, "a stream event")
        choices = chunk.choices
        if choices and len(choices) == 1 and not self._pending and chunk.usage is None and chunk.error is None:
            # The common chunk: more of what is open, and nothing else.
            wire = choices[0]
            choice = self._choices.get(wire.index)
            delta = wire.delta
            if (
                choice is not None
                and delta is not None
                and wire.finish_reason is None
                and wire.logprobs is None
                and delta.tool_calls is None
                and delta.refusal is None
                and delta.annotations is None
                and delta.reasoning_details is None
                and delta.audio is None
                and delta.function_call is None
                and chunk.citations is None
                and chunk.search_results is None
            ):
                content = delta.content
                reasoning = delta.reasoning_content or delta.reasoning
                if choice.kind is Text and content and not reasoning and content.__class__ is str:
                    return (Delta(choice.part, content, choice.index),)
                if choice.kind is Thinking and reasoning and not content:
                    return (Delta(choice.part, reasoning, choice.index),)
        return self._chunk(chunk, data)

    def close(self) -> Iterable[Event]:
        """The peer is done sending; some end without their end marker (`cerebras-chat-stream-tool-call-15de93`)."""
        return () if self._is_over else self._end()

    # -- frames

    def _uncommon(self, frame: Frame) -> Iterable[Event]:
        data = frame.data
        if data.strip() == b"[DONE]":
            return self._end()
        if frame.is_bare:
            return self._end_with(bare_failure(data))
        if frame.event == b"error":
            return self._fail(read(data, _json, dict, "an error event"))
        return self._chunk(read(data, _decoder, Chunk, "a stream event"), data)

    def _chunk(self, chunk: Chunk, data: bytes) -> Iterable[Event]:
        if chunk.error is not None:
            return self._fail(read(data, _json, dict, "an error event"))
        if chunk.choices is None and chunk.usage is None:
            value: Json = _json.decode(data)
            if words_of(value) is not None:
                return self._fail(value)
        if not self._started and not chunk.choices and not chunk.id and chunk.usage is None:
            # Azure's verdict on the prompt comes first, with an empty id and model.
            return ()
        events: list[Event] = []
        if not self._started:
            self._start(chunk, events)
        waiting = [choice for choice in self._choices.values() if choice.pending] if self._pending else ()
        self._pending = False
        if chunk.citations or chunk.search_results:
            self._sources = read_sources(chunk.citations, chunk.search_results)
        for wire in chunk.choices or ():
            self._feed_choice(wire, events)
        for choice in waiting:
            if choice.pending is not None:
                failure = self._finish(choice, events)
                if failure is not None:
                    return [*events, failure]
        self._pending = any(choice.pending for choice in self._choices.values())
        fields = chunk.usage or (chunk.x_groq.usage if chunk.x_groq is not None else None)
        if fields:
            usage = read_usage(fields, reasoning_outside_output=self._outside)
            if not usage.is_empty and usage != self._usage:
                self._usage = usage
                events.append(UsageReported(usage))
        return events or (Pinged(),)

    def _start(self, chunk: Chunk, events: list[Event]) -> None:
        self._started = True
        self._id = chunk.id or ""
        events.append(
            Started(
                id=self._id,
                model=chunk.model or "",
                created=int(chunk.created) if chunk.created else None,
                service_tier=chunk.service_tier,
            )
        )

    def _fail(self, value: Json) -> Iterable[Event]:
        return self._end_with(failed(value))

    def _end_with(self, error: StreamFailed) -> Iterable[Event]:
        self._is_over = True
        return (Failed(message=error.message, kind=error.kind, provider_code=error.provider_code, status=error.status),)

    def _end(self) -> Iterable[Event]:
        self._is_over = True
        events: list[Event] = []
        for choice in self._choices.values():
            if choice.pending is not None:
                failure = self._finish(choice, events)
                if failure is not None:
                    return [*events, failure]
        if not self._choices or not all(choice.is_finished for choice in self._choices.values()):
            raise UpstreamTruncated("The provider's stream stopped before its answer was finished.")
        events.append(Ended())
        return events

    # -- one choice

    def _feed_choice(self, wire: ChunkChoice, events: list[Event]) -> None:
        choice = self._choices.get(wire.index)
        if choice is None:
            if not 0 <= wire.index < MAX_CHOICES:
                raise UpstreamMalformed(f"The provider's stream has a choice numbered {wire.index}.")
            choice = self._choices[wire.index] = _Choice(wire.index)
        tokens = read_logprobs(wire.logprobs)
        if tokens:
            events.append(LogprobsReported(tokens, choice.index))
        if wire.delta is not None:
            before = len(events)
            self._feed_delta(choice, wire.delta, events)
            if len(events) > before:
                if choice.is_finished:
                    raise UpstreamMalformed("The provider's stream went on after its finish.")
                choice.pending = None
        if wire.finish_reason and not choice.is_finished:
            choice.pending = wire.finish_reason

    def _feed_delta(self, choice: _Choice, delta: WireDelta, events: list[Event]) -> None:
        opaque = read_details(delta.reasoning_details, self._home)
        reasoning = delta.reasoning_content or delta.reasoning or opaque.text
        if reasoning:
            self._text(choice, Thinking, reasoning, events)
        if opaque.signature is not None:
            self._open(choice, Thinking(""), events)
            events.append(Signed(choice.part, opaque.signature, choice.index))
        if opaque.encrypted:
            choice.encrypted.extend(opaque.encrypted)
            if choice.kind is not ToolCall:
                self._flush_encrypted(choice, events)
        if delta.content:
            self._content(choice, delta.content, events)
        if delta.refusal:
            choice.has_refusal = True
            self._text(choice, Refusal, delta.refusal, events)
        for piece in delta.tool_calls or ():
            self._call(choice, piece, events)
        if delta.function_call is not None:
            function = delta.function_call
            self._call(choice, ToolPiece(index=_LEGACY, function=function), events)
        for citation in read_annotations(delta.annotations):
            self._open(choice, Text(""), events)
            events.append(Cited(choice.part, citation, choice.index))
        if delta.audio is not None:
            self._whole(choice, Foreign(NAME, "audio", encoded(delta.audio)), events)

    def _content(self, choice: _Choice, content: str | list[Json], events: list[Event]) -> None:
        if isinstance(content, str):
            self._text(choice, Text, content, events)
            return
        for part in content:
            match part:
                case {"type": "text", "text": str(text)}:
                    if text:
                        self._text(choice, Text, text, events)
                case {"type": "thinking", "thinking": list(inner)}:
                    for piece in inner:
                        match piece:
                            case {"text": str(text)} if text:
                                self._text(choice, Thinking, text, events)
                            case _:
                                pass
                case {"type": str(kind)}:
                    self._whole(choice, Foreign(NAME, kind, encoded(part)), events)
                case _:
                    raise UpstreamMalformed("The provider's stream has a content part without a type.")

    # -- calls

    def _call(self, choice: _Choice, piece: ToolPiece, events: list[Event]) -> None:
        function = piece.function or FunctionPiece()
        name, text, is_custom = function.name, arguments_text(function), False
        if piece.custom is not None:
            name, text, is_custom = piece.custom.name, piece.custom.input or "", True
        place = self._place(choice, piece, name)
        if place in choice.calls:
            if not text:
                return
            if choice.waiting is not None and choice.waiting[0] == place:
                pass
            elif choice.call != place or choice.kind is not ToolCall:
                raise UpstreamMalformed("The provider's stream has a piece for a tool call that was over.")
            else:
                events.append(Delta(choice.part, text, choice.index))
                return
        if not name:
            # Some servers send the id first; a part needs its name.
            _, call_id, before = choice.waiting or (place, None, "")
            choice.waiting = (place, piece.id or call_id, before + text)
            choice.calls.setdefault(place, piece.id or "")
            return
        if choice.waiting is not None and choice.waiting[0] == place:
            _, call_id, before = choice.waiting
            choice.waiting = None
            text = before + text
        else:
            call_id = None
        self._open_call(choice, place, piece, piece.id or call_id, name, is_custom=is_custom, events=events)
        if text:
            events.append(Delta(choice.part, text, choice.index))

    def _open_call(
        self,
        choice: _Choice,
        place: int,
        piece: ToolPiece,
        call_id: str | None,
        name: str,
        *,
        is_custom: bool,
        events: list[Event],
    ) -> None:
        if len(choice.calls) > MAX_CALLS:
            raise UpstreamMalformed(f"The provider's stream has more than {MAX_CALLS} tool calls.")
        number = len([known for known in choice.calls if known != place])
        call_id = call_id or invented_id(self._id, choice.index, number)
        choice.calls[place] = call_id
        choice.call = place
        self._close_part(choice, events)
        extra = None if piece.extra_content is None else kept({"extra_content": piece.extra_content})
        self._open_new(choice, ToolCall(call_id, name, "", custom=is_custom, extra=extra), events)

    @staticmethod
    def _place(choice: _Choice, piece: ToolPiece, name: str | None) -> int:
        """Which call a piece belongs to."""
        place = piece.index
        if place is None:
            place = choice.call if choice.call is not None else 0
        is_another = bool(piece.id) and choice.calls.get(place, piece.id) not in {piece.id, ""}
        if (is_another and name) or (piece.index is None and name and not piece.id and place in choice.calls):
            # Google's compatible endpoint numbers every parallel call 0; others do not number them at all.
            same = (known for known, known_id in choice.calls.items() if piece.id and known_id == piece.id)
            return next(same, max(choice.calls, default=-1) + 1)
        return place

    # -- parts

    def _text(self, choice: _Choice, kind: type[Text | Thinking | Refusal], text: str, events: list[Event]) -> None:
        self._open(choice, kind(""), events)
        events.append(Delta(choice.part, text, choice.index))

    def _open(self, choice: _Choice, part: Text | Thinking | Refusal, events: list[Event]) -> None:
        """Sees to it that a part of this kind is open."""
        if choice.kind is not part.__class__:
            self._close_part(choice, events)
            self._open_new(choice, part, events)

    def _open_new(self, choice: _Choice, part: Part, events: list[Event]) -> None:
        choice.part += 1
        choice.kind = part.__class__
        events.append(PartOpened(choice.part, part, choice.index))

    def _close_part(self, choice: _Choice, events: list[Event]) -> None:
        if choice.kind is not None:
            events.append(PartClosed(choice.part, choice.index))
            choice.kind = None

    def _whole(self, choice: _Choice, part: Part, events: list[Event]) -> None:
        self._close_part(choice, events)
        self._open_new(choice, part, events)
        self._close_part(choice, events)

    def _flush_encrypted(self, choice: _Choice, events: list[Event]) -> None:
        for data in choice.encrypted:
            self._whole(choice, RedactedThinking(data), events)
        choice.encrypted.clear()

    def _finish(self, choice: _Choice, events: list[Event]) -> Failed | None:
        """Ends a choice; a reason that means failure is returned as such, for a cut answer must never look whole."""
        word, choice.pending = choice.pending or "", None
        reason: FinishReason = finish_reason(word)
        if reason == "error":
            self._is_over = True
            return Failed(message=f"The provider gave up in mid-answer ({word[:50]}).", provider_code=word[:50])
        if choice.waiting is not None:
            raise UpstreamMalformed("The provider's stream has a tool call without a name.")
        if self._sources and choice.kind is Text:
            events.extend(Cited(choice.part, citation, choice.index) for citation in self._sources)
        self._close_part(choice, events)
        self._flush_encrypted(choice, events)
        choice.is_finished = True
        events.append(
            Finished(
                settled(reason, has_calls=bool(choice.calls), has_refusal=choice.has_refusal),
                word if reason == "other" else None,
                choice.index,
            )
        )
        return None


def settled(reason: FinishReason, *, has_calls: bool, has_refusal: bool) -> FinishReason:
    """The reason with what the answer holds taken into account.

    OpenAI says `stop` after a refusal (`openai-chat-stream-refusal-e8ad18`) and after a call that was forced by name
    (platform.openai.com, "Function calling"); what the client has to do next is another thing in each case.
    """
    if reason == "stop":
        return "tool_calls" if has_calls else "refusal" if has_refusal else "stop"
    return reason
