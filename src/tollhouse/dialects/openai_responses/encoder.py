"""Events as a client's stream.

The form is strict, and clients hold us to it: `response.created` comes first, an item is announced before anything is said in
it and given whole when it is done, and the last event repeats everything.  Sequence numbers run on without a gap, and the
answer's id is the same in all events.  A whole answer is what the last event of its stream repeats; so there is one writer.

All that does not change from delta to delta is printed once.
"""

from collections.abc import Mapping
from typing import Final, assert_never

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
from tollhouse.chat.fold import failure, unfold
from tollhouse.chat.model import (
    Audio,
    Document,
    Foreign,
    Image,
    Opaque,
    Part,
    RedactedThinking,
    Refusal,
    Request,
    Response,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
)
from tollhouse.chat.opaque import seal
from tollhouse.chat.receipt import Receipt
from tollhouse.chat.usage import Usage
from tollhouse.dialects.openai_chat.encoder import PING
from tollhouse.dialects.openai_chat.failure import error_object
from tollhouse.dialects.openai_chat.logprobs import written_tokens
from tollhouse.dialects.openai_chat.pieces import service_tier
from tollhouse.dialects.openai_chat.wire import Json
from tollhouse.dialects.openai_responses.counts import write_usage
from tollhouse.dialects.openai_responses.failure import gave_up
from tollhouse.dialects.openai_responses.finish import status_of
from tollhouse.dialects.openai_responses.names import Named, names_of
from tollhouse.dialects.openai_responses.pieces import Fields, carried, custom_input, own, write_annotation
from tollhouse.dialects.openai_responses.wire import HOME, NAME
from tollhouse.errors import StreamFailed

_encode: Final = msgspec.json.Encoder().encode

FRAME: Final[Mapping[str, object]] = {
    "background": False,
    "error": None,
    "incomplete_details": None,
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "model": None,
    "output": [],
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "prompt_cache_key": None,
    "reasoning": {"effort": None, "summary": None},
    "safety_identifier": None,
    "service_tier": None,
    "store": True,
    "temperature": None,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": None,
    "truncation": "disabled",
    "usage": None,
    "user": None,
}
"""What a response says when the request was silent on it."""


class _Item:
    """The open item of the output."""

    __slots__ = ("annotations", "content", "fields", "head", "id", "logprobs", "part", "pieces", "tail")

    def __init__(self, identity: str, fields: Fields) -> None:
        self.id = identity
        self.fields = fields
        self.content: list[Fields] = []
        """The finished parts of a message."""
        self.part: Part | None = None
        """The part that grows now, of those that we were told of."""
        self.pieces: list[str] = []
        """Its text."""
        self.annotations: list[object] = []
        self.logprobs: list[Json] = []
        self.head = b""
        """What stands before the text of a delta; empty while the text is only gathered."""
        self.tail = b""
        """What stands after it; takes the event's number."""


class ResponsesEncoder:
    """See `tollhouse.dialects.dialect.StreamEncoder`."""

    __slots__ = (
        "_finish",
        "_frame",
        "_has_refusal",
        "_holds",
        "_id",
        "_item",
        "_items",
        "_logprobs",
        "_names",
        "_number",
        "_pending",
        "_receipt",
        "_request",
        "_signature",
        "_usage",
        "response",
    )

    def __init__(self, request: Request, receipt: Receipt, identity: str) -> None:
        """`identity` tells this answer from all others; the ids of the response and its items are made of it."""
        self._request = request
        self._receipt = receipt
        self._id = identity
        self._names = names_of(request)
        self._frame: Fields = {}
        self._number = 0
        """Of the next event."""
        self._items: list[object] = []
        """The finished ones."""
        self._item: _Item | None = None
        self._holds = request.logprobs
        """Whether a delta waits for its log-probabilities, which are reported after it."""
        self._pending: str | None = None
        self._logprobs: list[Json] = []
        """Those that go out with the next delta."""
        self._signature: Opaque | None = None
        """Of the part that is open, where this dialect has no place for it."""
        self._finish = Finished("other")
        self._has_refusal = False
        self._usage = Usage()
        self.response = b""
        """The whole answer, once it ended."""
        self._start(Started(id="", model=request.model))

    def encode(self, event: Event) -> bytes:
        """Bytes for the client, often empty."""
        if event.__class__ is Delta:
            return b"" if event.choice else self._grow(event.text)
        if isinstance(event, LogprobsReported) and not event.choice:
            self._logprobs += written_tokens(event.tokens)
            return self._flush()
        return self._flush() + self._other(event) if self._pending is not None else self._other(event)

    def _other(self, event: Event) -> bytes:
        if isinstance(event, PartOpened | Signed | Cited | PartClosed | LogprobsReported | Finished) and event.choice:
            self._receipt.dropped("choices[1:]", "a response holds one answer")
            return b""
        match event:
            case Delta() | LogprobsReported():
                raise AssertionError("handled before")
            case PartOpened():
                return self._open(event.part)
            case PartClosed():
                return self._close_part()
            case Signed():
                self._signature = event.signature
                return b""
            case Cited():
                return self._cite(event)
            case Finished():
                self._finish = event
                return self._close_item(is_cut=event.reason in {"length", "context_exceeded", "content_filter"})
            case UsageReported():
                self._usage = event.usage
                return b""
            case Started():
                self._start(event)
                return self._lifecycle("response.created") + self._lifecycle("response.in_progress")
            case Pinged():
                return PING
            case Failed():
                return self._fail(failure(event))
            case Ended():
                return self._end()
            case _:
                assert_never(event)

    def ping(self) -> bytes:
        """A comment."""
        return PING

    # -- the frame around everything

    def _start(self, event: Started) -> None:
        request = self._request
        if event.usage is not None:
            self._usage = event.usage
        echo = request.echo.fields if request.echo is not None and request.echo.dialect == NAME else {}
        self._frame = {
            "id": f"resp_{self._id}",
            "object": "response",
            "created_at": event.created or 0,
            "status": "in_progress",
            **FRAME,
            **echo,
            "model": event.model or request.model,
        }
        if event.service_tier is not None:
            self._frame["service_tier"] = service_tier(event.service_tier)

    def _event(self, kind: str, fields: Fields) -> bytes:
        data = _encode({"type": kind, "sequence_number": self._number, **fields})
        if b"\n" in data:  # raw JSON, printed over several lines; an event's data is one
            data = msgspec.json.format(data, indent=-1)
        self._number += 1
        return b"event: %b\ndata: %b\n\n" % (kind.encode(), data)

    def _lifecycle(self, kind: str) -> bytes:
        return self._event(kind, {"response": self._frame})

    def _place(self) -> Fields:
        """Where the open item stands."""
        return {"item_id": self._item.id if self._item else "", "output_index": len(self._items)}

    def _new_id(self, prefix: str) -> str:
        return f"{prefix}_{self._id}{len(self._items):04x}"

    # -- parts

    def _open(self, part: Part) -> bytes:
        is_call = self._item is not None and isinstance(self._item.part, ToolCall)
        out = self._close_item() if is_call else b""
        self._signature = None
        return out + self._opened(part)

    def _opened(self, part: Part) -> bytes:
        match part:
            case Text():
                out = self._open_text(part, "output_text", "text", part.text)
                for citation in part.citations:
                    out += self._cite(Cited(0, citation))
                self._signature = part.signature
                return out
            case Refusal():
                self._has_refusal = True
                return self._open_text(part, "refusal", "refusal", part.text)
            case Thinking():
                self._signature = part.signature
                return self._open_thinking(part)
            case RedactedThinking():
                return self._close_item() + self._carry(seal(part.data, HOME))
            case ToolCall():
                self._signature = part.signature
                return self._open_call(part)
            case Foreign() if part.dialect == NAME:
                return self._close_item() + self._whole(part.raw)
            case Foreign():
                self._receipt.dropped("output", f"a {part.kind[:40]} part has no form in a response")
            case Image() | Audio() | Document() | ToolResult():
                kind = part.__class__.__name__.lower()
                self._receipt.dropped("output", f"an answer's {kind} part has no form in a response")
            case _:
                assert_never(part)
        return self._close_item()

    def _announce(self, prefix: str, fields: Fields, whole: Fields) -> tuple[_Item, bytes]:
        """Begins an item: `fields` as it is announced, `whole` the fields that it is made of."""
        identity = self._new_id(prefix)
        item = self._item = _Item(identity, {"id": identity, **whole})
        announced = {"output_index": len(self._items), "item": {"id": identity, **whole, **fields}}
        return item, self._event("response.output_item.added", announced)

    def _open_text(self, part: Text | Refusal, kind: str, field: str, text: str) -> bytes:
        out = b""
        item = self._item
        phase = own(part.extra, "phase") if isinstance(part, Text) else None
        if item is None or item.fields["type"] != "message" or item.fields.get("phase") != phase:
            out = self._close_item()
            whole: Fields = {"type": "message", "role": "assistant"}
            if phase is not None:
                whole["phase"] = phase
            item, begun = self._announce("msg", {"status": "in_progress", "content": []}, whole)
            out += begun
        item.part = part
        item.pieces = []
        index = len(item.content)
        empty: Fields = {"type": kind, field: ""}
        if kind == "output_text":
            empty = {"type": kind, "text": "", "annotations": [], "logprobs": []}
        out += self._event("response.content_part.added", {**self._place(), "content_index": index, "part": empty})
        after = b',"logprobs":[]' if field == "text" else b""
        self._deltas(item, f"response.{kind}.delta", {"content_index": index}, after)
        return out + self._begun(text)

    def _open_thinking(self, part: Thinking) -> bytes:
        out = self._close_item()
        item, begun = self._announce("rs", {"summary": []}, {"type": "reasoning"})
        item.part = part
        empty: Fields = {"type": "summary_text", "text": ""}
        out += begun + self._event(
            "response.reasoning_summary_part.added", {**self._place(), "summary_index": 0, "part": empty}
        )
        self._deltas(item, "response.reasoning_summary_text.delta", {"summary_index": 0})
        return out + self._begun(part.text)

    def _open_call(self, part: ToolCall) -> bytes:
        named = self._names.get(part.name) or Named(part.name)
        is_custom = part.custom or named.is_custom
        kind, field, prefix = (
            ("custom_tool_call", "input", "ctc") if is_custom else ("function_call", "arguments", "fc")
        )
        whole: Fields = {"type": kind, "call_id": part.id, "name": named.name}
        namespace = named.namespace or own(part.extra, "namespace")
        if namespace is not None:
            whole["namespace"] = namespace
        out = self._close_item()
        item, begun = self._announce(prefix, {"status": "in_progress", field: ""}, whole)
        out += begun
        item.part = part
        if is_custom and not part.custom:
            # The provider was offered a function with one string; its JSON can only be read when it is whole.
            item.pieces = [part.arguments] if part.arguments else []
            return out
        self._deltas(item, f"response.{kind}_{field}.delta", {})
        return out + self._begun(part.arguments)

    def _deltas(self, item: _Item, kind: str, where: Fields, after: bytes = b"") -> None:
        """Prepares what stands around the text of the open part's deltas."""
        fields = _encode({**self._place(), **where})
        name = kind.encode()
        item.head = b'event: %b\ndata: {"type":"%b",%b,"delta":' % (name, name, fields[1:-1])
        item.tail = after + b',"sequence_number":%d}\n\n'

    def _begun(self, text: str) -> bytes:
        return self._grow(text) if text else b""

    def _grow(self, text: str) -> bytes:
        item = self._item
        if item is None:
            return b""
        item.pieces.append(text)
        if not item.head:
            return b""
        if self._holds and isinstance(item.part, Text):
            out = self._flush()
            if not self._logprobs:
                self._pending = text
                return out
            return out + self._with_logprobs(item, text)
        number = self._number
        self._number = number + 1
        return item.head + _encode(text) + item.tail % number

    def _flush(self) -> bytes:
        """The delta that waited for its log-probabilities, with those that came."""
        text, self._pending = self._pending, None
        return b"" if text is None or self._item is None else self._with_logprobs(self._item, text)

    def _with_logprobs(self, item: _Item, text: str) -> bytes:
        """A delta with the log-probabilities of its tokens; they are repeated when the text is done."""
        told, self._logprobs = self._logprobs, []
        item.logprobs += told
        number = self._number
        self._number = number + 1
        return item.head + _encode(text) + b',"logprobs":' + _encode(told) + b',"sequence_number":%d}\n\n' % number

    def _cite(self, event: Cited) -> bytes:
        item = self._item
        if item is None or not isinstance(item.part, Text):
            return b""
        annotation = write_annotation(event.citation, sum(map(len, item.pieces)))
        if annotation is None:
            self._receipt.dropped("output.annotations", "a response can cite only what has an address")
            return b""
        item.annotations.append(annotation)
        return self._event(
            "response.output_text.annotation.added",
            {
                **self._place(),
                "content_index": len(item.content),
                "annotation_index": len(item.annotations) - 1,
                "annotation": annotation,
            },
        )

    # -- what is done

    def _close_part(self) -> bytes:
        item = self._item
        if item is None or item.part is None:
            return b""
        part = item.part
        if isinstance(part, ToolCall):
            return b""  # whether it is whole is known when something follows it
        item.part = None
        text = "".join(item.pieces)
        item.head = b""
        match part:
            case Text() | Refusal():
                out = self._text_done(item, part, text)
                signature, self._signature = self._signature, None
                if signature is None:
                    return out
                return out + self._close_item() + self._carry(carried(signature))
            case Thinking():
                return self._thinking_done(item, text)
            case _:
                return b""

    def _text_done(self, item: _Item, part: Text | Refusal, text: str) -> bytes:
        where: Fields = {**self._place(), "content_index": len(item.content)}
        if isinstance(part, Refusal):
            whole: Fields = {"type": "refusal", "refusal": text}
            out = self._event("response.refusal.done", {**where, "refusal": text})
        else:
            logprobs = [*item.logprobs, *self._logprobs]
            self._logprobs = []
            whole = {"type": "output_text", "text": text, "annotations": item.annotations, "logprobs": logprobs}
            item.annotations, item.logprobs = [], []
            out = self._event("response.output_text.done", {**where, "text": text, "logprobs": logprobs})
        item.content.append(whole)
        return out + self._event("response.content_part.done", {**where, "part": whole})

    def _thinking_done(self, item: _Item, text: str) -> bytes:
        summary: Fields = {"type": "summary_text", "text": text}
        where: Fields = {**self._place(), "summary_index": 0}
        out = self._event("response.reasoning_summary_text.done", {**where, "text": text})
        out += self._event("response.reasoning_summary_part.done", {**where, "part": summary})
        item.fields["summary"] = [summary]
        if self._signature is not None:
            item.fields["encrypted_content"] = seal(self._signature, HOME)
            self._signature = None
        return out + self._item_done(item)

    def _call_done(self, item: _Item, part: ToolCall, *, is_cut: bool) -> bytes:
        text = "".join(item.pieces)
        out = b""
        if item.fields["type"] == "custom_tool_call":
            kind, field = "custom_tool_call_input", "input"
            if not part.custom:
                text = custom_input(text)
                out = self._late_delta(item, kind, text)
        else:
            kind, field = "function_call_arguments", "arguments"
            if not text and not is_cut:
                # Anthropic streams nothing for a call without arguments; clients here parse what they get.
                text = "{}"
                out = self._late_delta(item, kind, text)
        item.fields[field] = text
        item.fields["status"] = "incomplete" if is_cut else "completed"
        out += self._event(f"response.{kind}.done", {**self._place(), field: text})
        signature, self._signature = self._signature, None
        out += self._item_done(item)
        return out if signature is None else out + self._carry(carried(signature))

    def _late_delta(self, item: _Item, kind: str, text: str) -> bytes:
        if not text:
            return b""
        self._deltas(item, f"response.{kind}.delta", {})
        number = self._number
        self._number = number + 1
        return item.head + _encode(text) + item.tail % number

    def _close_item(self, *, is_cut: bool = False) -> bytes:
        """Ends the open item; only messages and calls stay open beyond their parts."""
        item = self._item
        if item is None:
            return b""
        if isinstance(item.part, ToolCall):
            return self._call_done(item, item.part, is_cut=is_cut)
        out = self._close_part()
        if self._item is None:  # it was a part that is an item of its own
            return out
        item.fields["status"] = "incomplete" if is_cut else "completed"
        item.fields["content"] = item.content
        return out + self._item_done(item)

    def _item_done(self, item: _Item) -> bytes:
        out = self._event("response.output_item.done", {"output_index": len(self._items), "item": item.fields})
        self._items.append(item.fields)
        self._item = None
        return out

    def _carry(self, sealed: str) -> bytes:
        """A reasoning item of which the client sees nothing."""
        whole: Fields = {"id": self._new_id("rs"), "type": "reasoning", "summary": [], "encrypted_content": sealed}
        return self._whole(whole)

    def _whole(self, item: object) -> bytes:
        where = {"output_index": len(self._items)}
        out = self._event("response.output_item.added", {**where, "item": item})
        out += self._event("response.output_item.done", {**where, "item": item})
        self._items.append(item)
        return out

    # -- the end

    def _end(self) -> bytes:
        reason = self._finish.reason
        if reason == "error":
            return self._fail(gave_up())
        out = self._close_item()
        status, why = status_of(reason, has_refusal=self._has_refusal)
        if reason == "pause":
            self._receipt.changed("status", "the provider paused its turn, said as `completed`")
        self._frame["status"] = status
        self._frame["incomplete_details"] = None if why is None else {"reason": why}
        self._frame["output"] = self._items
        self._frame["usage"] = None if self._usage.is_empty else write_usage(self._usage)
        if self._logprobs:
            self._receipt.dropped("logprobs", "they are told with the text that they belong to, and none followed")
        self.response = _encode(self._frame)
        return out + self._lifecycle(f"response.{status}")

    def _fail(self, error: StreamFailed) -> bytes:
        """The error, and the response that failed of it: some clients look for one, some for the other."""
        told = error_object(error, "")
        out = b"" if self._number else self._lifecycle("response.created")
        out += self._event("error", {"error": told})
        self._frame["status"] = "failed"
        self._frame["error"] = {"code": told["code"] or "server_error", "message": told["message"]}
        self._frame["output"] = self._items
        self._frame["usage"] = None if self._usage.is_empty else write_usage(self._usage)
        self.response = _encode(self._frame)
        return out + self._lifecycle("response.failed")


def encode_response(response: Response, request: Request, receipt: Receipt, identity: str) -> bytes:
    """A whole answer: what the last event of its stream repeats.  Raises `StreamFailed` if the provider gave up."""
    if response.choices and response.choices[0].finish == "error":
        raise gave_up()
    encoder = ResponsesEncoder(request, receipt, identity)
    for event in unfold(response):
        encoder.encode(event)
    return encoder.response
