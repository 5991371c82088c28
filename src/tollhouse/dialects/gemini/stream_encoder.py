"""Events to a client's chunks: each a whole answer with the next pieces of it, as server-sent events.

Every client of the dialect reads only lines that begin with `data:`; comments, which other dialects use to keep a connection
open, break Gemini CLI, so there are none.  A stream that does not end with a finish reason is asked for again by it, so that
every choice has one, in the last chunk together with the counts.
"""

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
    Foreign,
    Opaque,
    Part,
    Refusal,
    Request,
    Text,
    Thinking,
    TokenLogprob,
    ToolCall,
)
from tollhouse.chat.receipt import Receipt
from tollhouse.chat.usage import Usage
from tollhouse.dialects.gemini.failure import encode_stream_error
from tollhouse.dialects.gemini.finish import write_finish
from tollhouse.dialects.gemini.grounding import CitedText, joined, write_citations
from tollhouse.dialects.gemini.logprobs import write_logprobs
from tollhouse.dialects.gemini.response import gave_up, prompt_block, settle, write_call, write_part
from tollhouse.dialects.gemini.signatures import write_signature
from tollhouse.dialects.gemini.usage import usage_fields
from tollhouse.dialects.gemini.wire import Block
from tollhouse.errors import StreamFailed

_encode: Final = msgspec.json.Encoder().encode

_TEXT: Final = b'data: {"candidates":[{"content":{"parts":[{"text":'
_END: Final = b"\r\n\r\n"


class _Choice:
    """One candidate as it grows."""

    __slots__ = ("arguments", "finish", "has_calls", "logprobs", "part", "signature", "texts")

    def __init__(self) -> None:
        self.part: Part | None = None
        """The open part."""
        self.arguments: list[str] = []
        """Of the open call, which clients are given whole."""
        self.signature: Opaque | None = None
        """Of the open call."""
        self.texts: list[tuple[list[str], list[Citation]]] = []
        """The pieces of every text, and what it cites; the last one is open."""
        self.logprobs: list[TokenLogprob] = []
        self.has_calls = False
        self.finish: Finished | None = None


class GeminiStreamEncoder:
    """`tollhouse.dialects.dialect.StreamEncoder` for this dialect."""

    __slots__ = ("_choices", "_id", "_model", "_receipt", "_tail", "_usage")

    def __init__(self, request: Request, receipt: Receipt) -> None:
        self._model = request.model
        self._id = ""
        self._receipt = receipt
        self._choices: dict[int, _Choice] = {}
        self._tail = b""
        """How every chunk ends."""
        self._usage = Usage()

    def encode(self, event: Event) -> bytes:
        """Bytes for the client.  Those for `Ended` hold finish reasons and counts, as others tell them late."""
        match event:
            case Delta():
                return self._delta(event)
            case PartOpened():
                return self._open(event)
            case PartClosed():
                return self._close(event.choice)
            case Signed():
                return self._sign(event)
            case Cited():
                self._choice(event.choice).texts[-1][1].append(event.citation)
                return b""
            case LogprobsReported():
                self._choice(event.choice).logprobs += event.tokens
                return b""
            case Finished():
                self._choice(event.choice).finish = event
                return b""
            case UsageReported():
                self._usage = event.usage
                return b""
            case Started():
                self._start(event)
                return b""
            case Ended():
                return self._end()
            case Failed():
                return self._fail(
                    StreamFailed(event.message, kind=event.kind, provider_code=event.provider_code, status=event.status)
                )
            case Pinged():
                return b""

    def ping(self) -> bytes:
        """Nothing: there is nothing that every client of the dialect passes over."""
        return b""

    def _start(self, event: Started) -> None:
        self._id = event.id
        self._model = event.model or self._model
        if event.usage is not None:
            self._usage = event.usage
        identity = b',"modelVersion":%b,"responseId":%b}' % (_encode(self._model), _encode(self._id))
        self._tail = identity + _END

    def _choice(self, number: int) -> _Choice:
        choice = self._choices.get(number)
        if choice is None:
            choice = self._choices[number] = _Choice()
        return choice

    def _delta(self, event: Delta) -> bytes:
        choice = self._choice(event.choice)
        match choice.part:
            case Text() | Refusal():
                choice.texts[-1][0].append(event.text)
                return self._said(event.text, event.choice)
            case Thinking():
                return self._said(event.text, event.choice, is_thought=True)
            case ToolCall():
                choice.arguments.append(event.text)
            case Foreign():
                self._receipt.dropped(
                    "content", "the streamed input of a server-side tool has no form in Gemini's dialect"
                )
            case _:
                pass
        return b""

    def _said(self, text: str, number: int, *, is_thought: bool = False) -> bytes:
        if not text:
            return b""
        thought = b',"thought":true' if is_thought else b""
        return b'%b%b%b}],"role":"model"},"index":%d}]%b' % (_TEXT, _encode(text), thought, number, self._tail)

    def _open(self, event: PartOpened) -> bytes:
        choice, part = self._choice(event.choice), event.part
        choice.part = part
        match part:
            case Text():
                choice.texts.append(([part.text], list(part.citations)))
                signed = (
                    b"" if part.signature is None else self._sign(Signed(event.index, part.signature, event.choice))
                )
                return self._said(part.text, event.choice) + signed
            case Refusal():
                choice.texts.append(([part.text], []))
                return self._said(part.text, event.choice)
            case Thinking():
                signed = (
                    b"" if part.signature is None else self._sign(Signed(event.index, part.signature, event.choice))
                )
                return self._said(part.text, event.choice, is_thought=True) + signed
            case ToolCall():
                choice.has_calls = True
                choice.arguments = [part.arguments]
                choice.signature = part.signature
                return b""
            case _:
                written = write_part(part, self._receipt)
                return b"" if written is None else self._chunk(written, event.choice)

    def _sign(self, event: Signed) -> bytes:
        choice = self._choice(event.choice)
        match choice.part:
            case ToolCall():
                choice.signature = event.signature
                return b""
            case Thinking():
                block: Block = {"text": "", "thought": True}
            case _:
                block = {"text": ""}
        # As Google itself does at the end of a streamed text (`gemini/gemini-generate-stream-image-input-d51315`).
        block["thoughtSignature"] = write_signature(event.signature)
        return self._chunk(block, event.choice)

    def _close(self, number: int) -> bytes:
        choice = self._choice(number)
        part, choice.part = choice.part, None
        if not isinstance(part, ToolCall):
            return b""
        whole = msgspec.structs.replace(part, arguments="".join(choice.arguments), signature=choice.signature)
        return self._chunk(write_call(whole, self._receipt), number)

    def _chunk(self, part: object, number: int) -> bytes:
        content = {"content": {"parts": [part], "role": "model"}, "index": number}
        return b'data: {"candidates":%b%b' % (_one_line(_encode([content])), self._tail)

    def _end(self) -> bytes:
        fields: Block = {}
        candidates: list[Block] = []
        for number, choice in sorted(self._choices.items()):
            finish = choice.finish or Finished("other")
            reason = prompt_block(finish.detail)
            if reason is not None:
                fields["promptFeedback"] = {"blockReason": reason}
                continue
            calls = (ToolCall("", "", ""),) if choice.has_calls else ()
            written = write_finish(settle(finish.reason, calls), finish.detail, self._receipt)
            if written is None:
                return self._fail(gave_up())
            candidates.append(_finished(choice, number, *written))
        if candidates:
            fields["candidates"] = candidates
        fields["usageMetadata"] = usage_fields(self._usage)
        fields["modelVersion"] = self._model
        fields["responseId"] = self._id
        return b"data: %b%b" % (_encode(fields), _END)

    def _fail(self, error: StreamFailed) -> bytes:
        return encode_stream_error(error, "")


def _finished(choice: _Choice, number: int, word: str, message: str | None) -> Block:
    # Google's own last chunks have a text, if an empty one (`gemini/gemini-generate-stream-tool-call-9b8c79`).
    candidate: Block = {
        "content": {"parts": [{"text": ""}], "role": "model"},
        "finishReason": word,
        "index": number,
    }
    if message is not None:
        candidate["finishMessage"] = message
    if choice.logprobs:
        candidate["logprobsResult"] = write_logprobs(choice.logprobs)
    if any(citations for _, citations in choice.texts):
        text = joined(CitedText("".join(pieces), citations) for pieces, citations in choice.texts)
        candidate["groundingMetadata"] = write_citations([text])
    return candidate


def _one_line(data: bytes) -> bytes:
    """JSON without line ends, which would end an event: a provider's own raw JSON may have been printed over several lines."""
    return msgspec.json.format(data, indent=-1) if b"\n" in data or b"\r" in data else data
