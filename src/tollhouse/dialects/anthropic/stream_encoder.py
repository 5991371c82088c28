"""Events to a client's frames.

The end of an answer carries stop reason and usage in one event; other dialects report them apart and the usage last, so the
encoder keeps both until the stream ends.
"""

from collections.abc import Mapping
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
    FinishReason,
    Foreign,
    Opaque,
    Part,
    RedactedThinking,
    Refusal,
    Request,
    Text,
    Thinking,
    ToolCall,
)
from tollhouse.chat.opaque import carrier, seal
from tollhouse.chat.receipt import Receipt
from tollhouse.chat.usage import Usage
from tollhouse.dialects.anthropic.blocks import (
    EMPTY_OBJECT,
    Block,
    merge_extra,
    part_name,
    write_citation,
    write_redacted,
)
from tollhouse.dialects.anthropic.failure import encode_stream_error
from tollhouse.dialects.anthropic.response import custom_input, gave_up, settle_finish, stop_reason, usage_with_tier
from tollhouse.dialects.anthropic.wire import (
    MESSAGE_STOP,
    NAME,
    PING,
    sse,
    usage_fields,
)
from tollhouse.errors import StreamFailed

_DELTA: Final = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":{"type":"%b","%b":'

# The kind of delta that grows each kind of part, and the name of its text.
_WRITES: Final[Mapping[type, tuple[bytes, bytes]]] = {
    Text: (b"text_delta", b"text"),
    Refusal: (b"text_delta", b"text"),
    Thinking: (b"thinking_delta", b"thinking"),
    ToolCall: (b"input_json_delta", b"partial_json"),
    Foreign: (b"input_json_delta", b"partial_json"),
}

_encode: Final = msgspec.json.Encoder().encode


class AnthropicStreamEncoder:
    """`tollhouse.dialects.dialect.StreamEncoder` for this dialect."""

    __slots__ = (
        "_carried",
        "_custom",
        "_finish",
        "_has_calls",
        "_has_refusal",
        "_index",
        "_model",
        "_part",
        "_prefix",
        "_receipt",
        "_signed",
        "_usage",
    )

    def __init__(self, request: Request, receipt: Receipt) -> None:
        self._model = request.model
        self._receipt = receipt
        self._index = -1
        """Of the last block that was opened."""
        self._part: Part | None = None
        """The open part, if the client sees it."""
        self._prefix: bytes | None = None
        """What comes before a delta's text, while such deltas may come."""
        self._custom: list[str] | None = None
        """The text of a free-form call, which can only be sent when it is whole."""
        self._signed = False
        self._carried: Opaque | None = None
        """The signature of the open part, where that has no place for one: a block of its own follows it."""
        self._has_calls = False
        self._has_refusal = False
        self._finish: Finished | None = None
        self._usage = Usage()

    def encode(self, event: Event) -> bytes:
        """Bytes for the client.  Those for `Ended` hold stop reason, usage and the end, as others tell them late."""
        if type(event) is Delta:
            prefix = self._prefix
            if prefix is not None and event.choice == 0:
                return prefix + _encode(event.text) + b"}}\n\n"
            return self._unsent(event)
        match event:
            case PartOpened(choice=0):
                return self._open(event.part)
            case PartClosed(choice=0):
                return self._close()
            case Signed(choice=0) if isinstance(self._part, Thinking):
                return self._sign(event.signature)
            case Signed(choice=0):
                self._carried = event.signature
                return b""
            case Cited(choice=0):
                return self._cite(event)
            case Finished(choice=0):
                self._finish = event
                return b""
            case UsageReported():
                self._usage = event.usage
                return b""
            case Started():
                return self._start(event)
            case Ended():
                return self._end()
            case Failed():
                return self._fail(
                    StreamFailed(event.message, kind=event.kind, provider_code=event.provider_code, status=event.status)
                )
            case Pinged():
                return PING
            case LogprobsReported():
                self._receipt.dropped("logprobs", "Anthropic's dialect has none")
                return b""
            case _:
                self._receipt.dropped("choices[1:]", "Anthropic's dialect has one answer")
                return b""

    def ping(self) -> bytes:
        """Anthropic's own way to keep a connection open; the SDKs pass over it."""
        return PING

    def _start(self, event: Started) -> bytes:
        if event.usage is not None:
            self._usage = event.usage
        return sse(
            "message_start",
            {
                "type": "message_start",
                "message": {
                    "id": event.id,
                    "type": "message",
                    "role": "assistant",
                    "model": event.model or self._model,
                    "content": (),
                    "stop_reason": None,
                    "stop_sequence": None,
                    # Clients insist on it, though most providers tell it only at the end.
                    "usage": usage_with_tier(self._usage, event.service_tier),
                },
            },
        )

    def _open(self, part: Part) -> bytes:
        block = self._shape(part)
        if block is None:
            self._receipt.dropped("content", f"{part_name(part)} has no place in an answer of Anthropic's dialect")
            return b""
        self._index += 1
        self._carried = part.signature if isinstance(part, Text | ToolCall) else None
        self._part = part
        self._signed = False
        out = sse("content_block_start", {"type": "content_block_start", "index": self._index, "content_block": block})
        if isinstance(part, ToolCall) and part.custom:
            self._custom = [part.arguments]
            return out
        writes = _WRITES.get(type(part))
        if writes is None:
            return out
        self._prefix = prefix = _DELTA % (self._index, *writes)
        match part:
            case Text():
                out += self._begun(prefix, part.text)
                for citation in part.citations:
                    out += self._cite(Cited(0, citation))
            case Refusal():
                out += self._begun(prefix, part.text)
            case Thinking():
                out += self._begun(prefix, part.text)
                if part.signature is not None:
                    out += self._sign(part.signature)
            case ToolCall():
                out += self._begun(prefix, part.arguments)
            case _:
                pass
        return out

    def _begun(self, prefix: bytes, text: str) -> bytes:
        # Anthropic's own blocks begin empty, and some clients count on that.
        return prefix + _encode(text) + b"}}\n\n" if text else b""

    def _shape(self, part: Part) -> object | None:
        """The empty block that a part begins with; `None` if the client's dialect has no such part."""
        match part:
            case Text():
                block: Block = {"type": "text", "text": ""}
                merge_extra(block, part.extra)
            case Refusal():
                self._has_refusal = True
                block = {"type": "text", "text": ""}
            case Thinking():
                block = {"type": "thinking", "thinking": "", "signature": ""}
                merge_extra(block, part.extra)
            case RedactedThinking():
                block = write_redacted(part)
            case ToolCall():
                self._has_calls = True
                block = {"type": "tool_use", "id": part.id, "name": part.name, "input": EMPTY_OBJECT}
                merge_extra(block, part.extra)
            case Foreign() if part.dialect == NAME:
                return part.raw
            case _:
                return None
        return block

    def _close(self) -> bytes:
        part, self._part = self._part, None
        self._prefix = None
        if part is None:
            return b""
        out = b""
        if self._custom is not None:
            whole = _encode(custom_input("".join(self._custom))).decode()
            out = _DELTA % (self._index, *_WRITES[ToolCall]) + _encode(whole) + b"}}\n\n"
            self._custom = None
        elif isinstance(part, Thinking) and not self._signed:
            # Clients keep a thinking block for the next turn only once its signature came.
            out = self._sign(None)
        out += b'event: content_block_stop\ndata: {"type":"content_block_stop","index":%d}\n\n' % self._index
        signature, self._carried = self._carried, None
        return out if signature is None else out + self._open(carrier(signature)) + self._close()

    def _sign(self, signature: Opaque | None) -> bytes:
        self._signed = True
        text = "" if signature is None else seal(signature, NAME)
        return _DELTA % (self._index, b"signature_delta", b"signature") + _encode(text) + b"}}\n\n"

    def _cite(self, event: Cited) -> bytes:
        written = write_citation(event.citation)
        if written is None:
            self._receipt.dropped("citations", "a citation without an address has no form in Anthropic's dialect")
        if written is None or self._part is None:
            return b""
        return _DELTA % (self._index, b"citations_delta", b"citation") + _encode(written) + b"}}\n\n"

    def _unsent(self, event: Delta) -> bytes:
        if event.choice != 0:
            self._receipt.dropped("choices[1:]", "Anthropic's dialect has one answer")
        elif self._custom is not None:
            self._custom.append(event.text)
        return b""

    def _end(self) -> bytes:
        finish, detail = (self._finish.reason, self._finish.detail) if self._finish else ("other", None)
        if finish == "error":
            return self._fail(gave_up())
        reason: FinishReason = settle_finish(finish, has_calls=self._has_calls, has_refusal=self._has_refusal)
        delta = {
            "stop_reason": stop_reason(reason, detail, self._receipt),
            "stop_sequence": detail if reason == "stop_sequence" else None,
        }
        return (
            sse("message_delta", {"type": "message_delta", "delta": delta, "usage": usage_fields(self._usage)})
            + MESSAGE_STOP
        )

    def _fail(self, error: StreamFailed) -> bytes:
        return encode_stream_error(error, None)
