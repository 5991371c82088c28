"""Events as a client's stream.

All that does not change from chunk to chunk is printed once; a delta is two cached byte strings around its text.
Reasoning goes out as `reasoning_content`, the field that most clients read; its signature and what is encrypted go out as
`reasoning_details`, which clients that know OpenRouter send back.
"""

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
from tollhouse.chat.fold import failure
from tollhouse.chat.model import (
    Audio,
    Document,
    Foreign,
    Image,
    RedactedThinking,
    Refusal,
    Request,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
)
from tollhouse.chat.opaque import carrier, signed_id
from tollhouse.chat.receipt import Receipt
from tollhouse.chat.usage import Usage
from tollhouse.dialects.openai_chat.counts import write_usage
from tollhouse.dialects.openai_chat.failure import encode_stream_error
from tollhouse.dialects.openai_chat.finish import finish_word
from tollhouse.dialects.openai_chat.logprobs import write_logprobs
from tollhouse.dialects.openai_chat.observer import DONE
from tollhouse.dialects.openai_chat.pieces import (
    decoded,
    encrypted_detail,
    service_tier,
    signed_detail,
    write_annotation,
)
from tollhouse.dialects.openai_chat.wire import NAME, Json

PING: Final = b": ping\n\n"
"""A comment: every client that was tried ignores it."""

_encode: Final = msgspec.json.Encoder().encode


class _Choice:
    """One answer on its way out."""

    __slots__ = ("before", "calls", "characters", "has_refusal", "is_unargued", "part_start", "thoughts")

    def __init__(self) -> None:
        self.before = (b"", b"")
        """What stands before and after a delta of the open part."""
        self.calls = 0
        self.is_unargued = False
        """The last call has had no arguments so far."""
        self.characters = 0
        """Of text so far, and where the open part began: citations are placed in the whole text."""
        self.part_start = 0
        self.thoughts = 0
        self.has_refusal = False


class OpenAIChatEncoder:
    """See `tollhouse.dialects.dialect.StreamEncoder`."""

    __slots__ = ("_choices", "_includes_usage", "_legacy", "_open_kind", "_prefix", "_receipt", "_suffix", "_usage")

    def __init__(self, request: Request, receipt: Receipt) -> None:
        self._receipt = receipt
        self._legacy = request.legacy_functions
        self._includes_usage = request.include_usage
        self._choices: dict[int, _Choice] = {}
        self._open_kind: dict[int, type] = {}
        self._usage = Usage()
        self._prefix = b""
        self._suffix = b""
        self._start(Started(id="", model=request.model))

    def encode(self, event: Event) -> bytes:
        """Bytes for the client, often empty."""
        if event.__class__ is Delta:
            choice = self._choices[event.choice]
            head, tail = choice.before
            if not head:
                return b""
            kind = self._open_kind[event.choice]
            if kind is Text:
                choice.characters += len(event.text)
            elif choice.is_unargued and event.text:
                choice.is_unargued = False
            return head + _encode(event.text) + tail
        match event:
            case Delta():
                raise AssertionError("handled above")
            case Started():
                self._start(event)
                return b""
            case PartOpened():
                return self._opened(event)
            case PartClosed():
                self._open_kind.pop(event.choice, None)
                return b""
            case Signed():
                return self._signed(event)
            case Cited():
                return self._cited(event)
            case LogprobsReported():
                of_refusal = self._open_kind.get(event.choice) is Refusal
                logprobs = write_logprobs(event.tokens, of_refusal=of_refusal)
                return self._role(event.choice) + self._chunk(event.choice, {"content": ""}, logprobs=logprobs)
            case Finished():
                return self._finished(event)
            case UsageReported():
                self._usage = event.usage
                return b""
            case Pinged():
                return PING
            case Failed():
                return encode_stream_error(failure(event), "")
            case Ended():
                return self._ended()
            case _:
                assert_never(event)

    def ping(self) -> bytes:
        """A comment."""
        return PING

    # -- the frame around everything

    def _start(self, event: Started) -> None:
        head: dict[str, Json] = {
            "id": event.id or "chatcmpl-unnamed",
            "object": "chat.completion.chunk",
            "created": event.created or 0,
            "model": event.model,
        }
        if event.service_tier is not None:
            head["service_tier"] = service_tier(event.service_tier)
        if event.usage is not None:
            self._usage = event.usage
        self._prefix = b"data: " + _encode(head)[:-1] + b',"choices":['
        self._suffix = b'],"usage":null}\n\n' if self._includes_usage else b"]}\n\n"

    def _chunk(self, choice: int, delta: Json, *, logprobs: Json = None, finish: str | None = None) -> bytes:
        wire: Json = {"index": choice, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
        return self._prefix + _encode(wire) + self._suffix

    def _delta(self, choice: int, delta: Json) -> bytes:
        return self._role(choice) + self._chunk(choice, delta)

    def _role(self, choice: int) -> bytes:
        """The chunk that opens a choice, right before the first of it: until then another provider may still take over."""
        if choice in self._choices:
            return b""
        self._choices[choice] = _Choice()
        return self._chunk(choice, {"role": "assistant", "content": "", "refusal": None})

    def _around(self, choice: int, head: bytes, tail: bytes = b"") -> tuple[bytes, bytes]:
        return (
            self._prefix + b'{"index":%d,"delta":{' % choice + head,
            tail + b'},"logprobs":null,"finish_reason":null}' + self._suffix,
        )

    # -- parts

    def _opened(self, event: PartOpened) -> bytes:
        number, part = event.choice, event.part
        out = self._role(number)
        choice = self._choices[number]
        if choice.is_unargued:
            out += self._empty_arguments(number, choice)
        self._open_kind[number] = part.__class__
        choice.before = (b"", b"")
        path = f"choices[{number}].message"
        match part:
            case Text():
                choice.before = self._around(number, b'"content":')
                choice.part_start = choice.characters
                choice.characters += len(part.text)
                if part.text:
                    out += self._chunk(number, {"content": part.text})
                for citation in part.citations:
                    out += self._cited(Cited(event.index, citation, number))
                if part.signature is not None:
                    out += self._signed(Signed(event.index, part.signature, number))
            case Thinking():
                choice.thoughts += 1
                choice.before = self._around(number, b'"reasoning_content":')
                if part.text:
                    out += self._chunk(number, {"reasoning_content": part.text})
                if part.signature is not None:
                    out += self.encode(Signed(event.index, part.signature, number))
            case RedactedThinking():
                choice.thoughts += 1
                out += self._chunk(number, {"reasoning_details": [encrypted_detail(part.data, choice.thoughts - 1)]})
            case Refusal():
                choice.has_refusal = True
                choice.before = self._around(number, b'"refusal":')
                if part.text:
                    out += self._chunk(number, {"refusal": part.text})
            case ToolCall():
                out += self._call(number, choice, part)
            case Foreign():
                if part.dialect == NAME and part.kind == "audio":
                    out += self._chunk(number, {"audio": decoded(part.raw)})
                else:
                    self._receipt.dropped(f"{path}.content", f"a {part.kind} part has no form in OpenAI chat")
            case Image() | Audio() | Document() | ToolResult():
                kind = part.__class__.__name__.lower()
                self._receipt.dropped(f"{path}.content", f"an answer's {kind} part has no form in OpenAI chat")
            case _:
                assert_never(part)
        return out

    def _call(self, number: int, choice: _Choice, part: ToolCall) -> bytes:
        place = choice.calls
        choice.calls += 1
        choice.is_unargued = not part.arguments and not part.custom
        if self._legacy and place == 0:
            choice.before = self._around(number, b'"function_call":{"arguments":', b"}")
            return self._chunk(number, {"function_call": {"name": part.name, "arguments": part.arguments}})
        if self._legacy:
            self._receipt.dropped(
                f"choices[{number}].message.function_call", "the old form holds one call; ask with `tools` for more"
            )
            choice.is_unargued = False
            return b""
        kind, field = ("custom", "input") if part.custom else ("function", "arguments")
        choice.before = self._around(
            number, b'"tool_calls":[{"index":%d,"%s":{"%s":' % (place, kind.encode(), field.encode()), b"}}]"
        )
        call: dict[str, Json] = {
            "index": place,
            "id": signed_id(part.id, part.signature),
            "type": kind,
            kind: {"name": part.name, field: part.arguments},
        }
        if part.extra is not None and part.extra.dialect == NAME:
            call.update({name: decoded(raw) for name, raw in part.extra.fields.items()})
        return self._chunk(number, {"tool_calls": [call]})

    def _signed(self, event: Signed) -> bytes:
        choice = self._choices[event.choice]
        kind = self._open_kind.get(event.choice)
        if kind is ToolCall:
            self._receipt.dropped("signature", "it came after the id of its call, the one place that it could ride in")
            return b""
        if kind is Thinking:
            if choice.thoughts > 1:
                self._receipt.changed(
                    f"choices[{event.choice}].message.reasoning_details",
                    "of several signed thoughts in a streamed turn only the last comes back",
                )
            detail = signed_detail("", event.signature, choice.thoughts - 1)
        else:
            choice.thoughts += 1
            detail = encrypted_detail(carrier(event.signature).data, choice.thoughts - 1)
        return self._delta(event.choice, {"reasoning_details": [detail]})

    def _cited(self, event: Cited) -> bytes:
        choice = self._choices[event.choice]
        annotation = write_annotation(event.citation, choice.part_start, choice.characters)
        if annotation is None:
            self._receipt.dropped(
                f"choices[{event.choice}].message.annotations", "OpenAI chat can cite only what has an address"
            )
            return b""
        return self._chunk(event.choice, {"annotations": [annotation]})

    # -- the end

    def _finished(self, event: Finished) -> bytes:
        out = self._role(event.choice)
        choice = self._choices[event.choice]
        if choice.is_unargued and event.reason not in {"length", "content_filter"}:
            out += self._empty_arguments(event.choice, choice)
        if event.reason == "pause":
            self._receipt.changed(
                f"choices[{event.choice}].finish_reason", "the provider paused its turn, said as `stop`"
            )
        word = finish_word(
            event.reason, event.detail, is_legacy=self._legacy and choice.calls > 0, has_refusal=choice.has_refusal
        )
        return out + self._chunk(event.choice, {}, finish=word)

    def _empty_arguments(self, number: int, choice: _Choice) -> bytes:
        """Anthropic streams nothing for a call without arguments; clients here parse what they get.

        Only when something follows it: a call that a limit cut off must not look whole.
        """
        choice.is_unargued = False
        if self._legacy:
            return self._chunk(number, {"function_call": {"arguments": "{}"}})
        piece: Json = {"index": choice.calls - 1, "function": {"arguments": "{}"}}
        return self._chunk(number, {"tool_calls": [piece]})

    def _ended(self) -> bytes:
        if not self._includes_usage or self._usage.is_empty:
            return DONE
        return self._prefix + b'],"usage":' + _encode(write_usage(self._usage)) + b"}\n\n" + DONE
