"""A provider's frames to events.

Each frame is a whole answer with the next pieces of it.  Pieces of one kind that follow each other are one part; a function
call is whole, but on Vertex.  There is no end marker: the answer is whole when every candidate has its finish reason, and over
when the provider is done sending.
"""

from collections.abc import Iterable, Iterator
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
from tollhouse.chat.model import Opaque, RedactedThinking, Text, Thinking, ToolCall
from tollhouse.chat.opaque import thought
from tollhouse.chat.sse import Frame
from tollhouse.chat.usage import Usage
from tollhouse.dialects.fields import NULL, UNREADABLE, WireFault, describe
from tollhouse.dialects.gemini.failure import decode_failure
from tollhouse.dialects.gemini.finish import finish_of, finish_word
from tollhouse.dialects.gemini.grounding import read_citations
from tollhouse.dialects.gemini.lane import blocked
from tollhouse.dialects.gemini.logprobs import WireLogprobs, read_logprobs
from tollhouse.dialects.gemini.partial_args import Arguments, PartialArg
from tollhouse.dialects.gemini.parts import is_empty, read_part
from tollhouse.dialects.gemini.response import created_at, invented_id
from tollhouse.dialects.gemini.signatures import read_signature
from tollhouse.dialects.gemini.usage import read_counts, usage_of
from tollhouse.dialects.gemini.wire import HOME
from tollhouse.errors import UpstreamMalformed, UpstreamTruncated

# The fields have the wire's names.


class _Call(msgspec.Struct):
    id: str | None = None
    name: str | None = None
    args: msgspec.Raw = NULL
    partialArgs: list[PartialArg] | None = None  # noqa: N815
    willContinue: bool | None = None  # noqa: N815


class _Part(msgspec.Struct):
    text: str | None = None
    thought: bool | None = None
    thoughtSignature: str | None = None  # noqa: N815
    functionCall: _Call | None = None  # noqa: N815


class _Content(msgspec.Struct):
    parts: list[_Part] | None = None


class _Candidate(msgspec.Struct):
    index: int = 0
    content: _Content | None = None
    finishReason: str | int | None = None  # noqa: N815
    groundingMetadata: msgspec.Raw = NULL  # noqa: N815
    citationMetadata: msgspec.Raw = NULL  # noqa: N815
    logprobsResult: WireLogprobs | None = None  # noqa: N815


class _Feedback(msgspec.Struct):
    blockReason: str | int | None = None  # noqa: N815


class _Chunk(msgspec.Struct):
    candidates: list[_Candidate] | None = None
    usageMetadata: msgspec.Raw = NULL  # noqa: N815
    promptFeedback: _Feedback | None = None  # noqa: N815
    responseId: str | None = None  # noqa: N815
    modelVersion: str | None = None  # noqa: N815
    createTime: str | None = None  # noqa: N815
    error: msgspec.Raw = NULL


class _RawContent(msgspec.Struct):
    parts: list[msgspec.Raw] | None = None


class _RawCandidate(msgspec.Struct):
    content: _RawContent | None = None


class _RawChunk(msgspec.Struct):
    candidates: list[_RawCandidate]


_CHUNK: Final = msgspec.json.Decoder(_Chunk)
_RAW_CHUNK: Final = msgspec.json.Decoder(_RawChunk)


class _Choice:
    """One candidate as it grows."""

    __slots__ = ("arguments", "calls", "is_finished", "is_signed", "kind", "part", "texts")

    def __init__(self) -> None:
        self.part = -1
        """The number of the last part that was opened."""
        self.kind: type | None = None
        """Of the open part."""
        self.is_signed = False
        """Whether the open part has its signature: nothing may be added to what was signed."""
        self.arguments: Arguments | None = None
        """Of the open call, while they stream."""
        self.calls = 0
        self.texts: list[str] = []
        """Of the last text part, for the citations at its end."""
        self.is_finished = False


class GeminiStreamDecoder:
    """`tollhouse.dialects.dialect.StreamDecoder` for this dialect."""

    __slots__ = ("_choices", "_has_ended", "_has_started", "_home", "_id", "_reported", "_usage")

    def __init__(self, home: str = HOME) -> None:
        """`home` is the provider's type."""
        self._home = home
        self._choices: dict[int, _Choice] = {}
        self._has_started = False
        self._has_ended = False
        self._id = ""
        self._usage = NULL
        """The newest counts."""
        self._reported: Usage | None = None

    def feed(self, frame: Frame) -> Iterable[Event]:
        """The events of one frame.  Raises `UpstreamMalformed`."""
        if self._has_ended or frame.data == b"[DONE]":  # some compatible servers add OpenAI's marker
            return ()
        if frame.event == b"error":
            return self._fail(frame.data)
        try:
            chunk = _CHUNK.decode(frame.data)
            if chunk.error != NULL:
                return self._fail(frame.data)
            return list(self._read(chunk, frame.data))
        except WireFault as fault:
            raise UpstreamMalformed(f"A streamed event is not what Gemini sends: {fault}.") from fault
        except UNREADABLE as error:
            raise UpstreamMalformed(f"A streamed event is not what Gemini sends: {describe(error)}.") from error

    def close(self) -> Iterable[Event]:
        """Finish reasons are what makes an answer whole; see `StreamDecoder.close`."""
        if self._has_ended:
            return ()
        if not self._choices or not all(choice.is_finished for choice in self._choices.values()):
            raise UpstreamTruncated("The provider's stream stopped before its end.")
        self._has_ended = True
        return (*self._report(), Ended())

    def _read(self, chunk: _Chunk, data: bytes) -> Iterator[Event]:
        if not self._has_started:
            self._has_started = True
            self._id = chunk.responseId or ""
            counts = read_counts(chunk.usageMetadata)
            usage = usage_of(counts)
            yield Started(
                id=self._id,
                model=chunk.modelVersion or "",
                created=created_at(chunk.createTime),
                service_tier=None if counts is None else counts.serviceTier,
                usage=None if usage.is_empty else usage,
            )
        # Counts repeat in every chunk, growing, and the prompt's may be put right at the end
        # (`gemini/gemini-generate-stream-image-input-d51315`); only the last ones count.
        if chunk.usageMetadata != NULL:
            self._usage = chunk.usageMetadata
        for place, candidate in enumerate(chunk.candidates or ()):
            yield from self._candidate(candidate, place, data)
        if chunk.promptFeedback is not None and chunk.promptFeedback.blockReason and not self._choices:
            self._choices[0] = choice = _Choice()
            choice.is_finished = True
            yield Finished("content_filter", blocked(chunk.promptFeedback.blockReason))
        if self._choices and all(choice.is_finished for choice in self._choices.values()):
            yield from self._report()

    def _report(self) -> tuple[Event, ...]:
        """The counts, if they have not been told yet."""
        usage = usage_of(read_counts(self._usage))
        if usage.is_empty or usage == self._reported:
            return ()
        self._reported = usage
        return (UsageReported(usage),)

    def _candidate(self, candidate: _Candidate, place: int, data: bytes) -> Iterator[Event]:
        number = candidate.index
        choice = self._choices.get(number)
        if choice is None:
            choice = self._choices[number] = _Choice()
        parts = (candidate.content.parts if candidate.content is not None else None) or ()
        if choice.is_finished:
            if any(part.text or part.functionCall is not None for part in parts):
                # An answer whose rest is left out would look whole.
                raise UpstreamMalformed("The provider's stream went on after its finish.")
            return
        for index, part in enumerate(parts):
            if part.functionCall is not None:
                yield from self._call(choice, number, part, part.functionCall)
            elif part.text is not None:
                yield from self._text(choice, number, part, part.text)
            else:
                yield from self._other(choice, number, _raw_part(data, place, index))
        tokens = read_logprobs(candidate.logprobsResult)
        if tokens is not None:
            yield LogprobsReported(tokens, number)
        if candidate.groundingMetadata != NULL or candidate.citationMetadata != NULL:
            yield from self._cite(choice, number, candidate)
        if candidate.finishReason is not None:
            word = finish_word(candidate.finishReason)
            if word == "FINISH_REASON_UNSPECIFIED":
                return
            yield from self._close_open(choice, number)
            choice.is_finished = True
            reason, detail = finish_of(word, has_calls=bool(choice.calls))
            yield Finished(reason, detail, number)

    # -- parts

    def _text(self, choice: _Choice, number: int, part: _Part, text: str) -> Iterator[Event]:
        signature = read_signature(part.thoughtSignature, self._home)
        kind: type = Thinking if part.thought else Text
        if kind is Thinking and not text and signature is not None:
            whole = thought(text, signature)
            if isinstance(whole, RedactedThinking):
                yield from self._open(choice, number, whole)
                yield from self._close_open(choice, number)
                return
        if not text and signature is None:
            return
        if choice.kind is not kind or choice.is_signed:
            yield from self._open(choice, number, kind(""))
        if text:
            if kind is Text:
                choice.texts.append(text)
            yield Delta(choice.part, text, number)
        if signature is not None:
            yield from self._sign(choice, number, signature)

    def _call(self, choice: _Choice, number: int, part: _Part, call: _Call) -> Iterator[Event]:
        signature = read_signature(part.thoughtSignature, self._home)
        if call.name:
            identity = call.id or invented_id(self._id, number, choice.calls)
            choice.calls += 1
            yield from self._open(choice, number, ToolCall(identity, call.name, "", signature=signature))
            choice.is_signed = signature is not None
            if call.willContinue or call.partialArgs:
                choice.arguments = Arguments()
        elif choice.kind is not ToolCall:
            return  # the end of a call that ended already
        if signature is not None:
            yield from self._sign(choice, number, signature)
        for piece in call.partialArgs or ():
            if choice.arguments is not None:
                choice.arguments.add(piece)
        if call.args != NULL:
            choice.arguments = None
            yield Delta(choice.part, bytes(call.args).decode(), number)
        if not call.willContinue:
            yield from self._close_open(choice, number)

    def _other(self, choice: _Choice, number: int, raw: msgspec.Raw) -> Iterator[Event]:
        """A part that is neither text nor a call: a picture, code that Google ran, what comes next."""
        part = read_part(raw, "parts", self._home)
        if not is_empty(part):
            yield from self._open(choice, number, part)
            yield from self._close_open(choice, number)

    def _cite(self, choice: _Choice, number: int, candidate: _Candidate) -> Iterator[Event]:
        citations = read_citations(candidate.groundingMetadata, candidate.citationMetadata, "".join(choice.texts))
        if citations and choice.kind is not Text:
            yield from self._open(choice, number, Text(""))
        for citation in citations:
            yield Cited(choice.part, citation, number)

    def _open(self, choice: _Choice, number: int, part: object) -> Iterator[Event]:
        yield from self._close_open(choice, number)
        choice.part += 1
        choice.kind = type(part)
        choice.is_signed = False
        if isinstance(part, Text):
            choice.texts = []
        yield PartOpened(choice.part, part, number)  # type: ignore[arg-type]  # a part by its makers' word

    def _sign(self, choice: _Choice, number: int, signature: Opaque) -> Iterator[Event]:
        if not choice.is_signed:
            choice.is_signed = True
            yield Signed(choice.part, signature, number)

    def _close_open(self, choice: _Choice, number: int) -> Iterator[Event]:
        if choice.kind is None:
            return
        if choice.arguments is not None:
            yield Delta(choice.part, choice.arguments.text(), number)
            choice.arguments = None
        choice.kind = None
        yield PartClosed(choice.part, number)

    def _fail(self, data: bytes) -> Iterable[Event]:
        self._has_ended = True
        error = decode_failure(data)
        return (Failed(message=error.message, kind=error.kind, provider_code=error.provider_code, status=error.status),)


def _raw_part(data: bytes, place: int, index: int) -> msgspec.Raw:
    content = _RAW_CHUNK.decode(data).candidates[place].content
    parts = content.parts if content is not None else None
    return (parts or [])[index]
