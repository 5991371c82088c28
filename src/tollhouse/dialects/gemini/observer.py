"""Watching a stream that is forwarded in its own dialect.

Every event may carry counts, a finish reason or an error, so each is looked at, with one call of the JSON decoder that skips
what it need not know.  There is no end marker: what says that a candidate is finished is held back, with what follows it, until
the provider is done sending.  Bytes are never rewritten.
"""

from collections.abc import Iterable
from itertools import pairwise
from typing import Final

import msgspec

from tollhouse.chat import sse
from tollhouse.chat.model import FinishReason
from tollhouse.chat.usage import Usage
from tollhouse.dialects.fields import NULL, UNREADABLE, describe
from tollhouse.dialects.gemini.failure import decode_failure
from tollhouse.dialects.gemini.finish import finish_of, finish_word
from tollhouse.dialects.gemini.usage import read_counts, usage_of
from tollhouse.dialects.gemini.wire import MAX_CHUNK_BYTES
from tollhouse.dialects.rebuilt import Tally
from tollhouse.dialects.unfinished import Unfinished, event_ends
from tollhouse.errors import StreamFailed, UpstreamMalformed, UpstreamTooLarge, UpstreamTruncated


class _Part(msgspec.Struct, gc=False):
    text: str | None = None
    functionCall: msgspec.Raw = NULL  # noqa: N815  # the wire's name


class _Content(msgspec.Struct, gc=False):
    parts: list[_Part] | None = None


class _Candidate(msgspec.Struct, gc=False):
    index: int = 0
    content: _Content | None = None
    finishReason: str | int | None = None  # noqa: N815


class _Feedback(msgspec.Struct, gc=False):
    blockReason: str | int | None = None  # noqa: N815


class _Chunk(msgspec.Struct, gc=False):
    candidates: list[_Candidate] | None = None
    usageMetadata: msgspec.Raw = NULL  # noqa: N815
    promptFeedback: _Feedback | None = None  # noqa: N815
    error: msgspec.Raw = NULL


_CHUNK: Final = msgspec.json.Decoder(_Chunk)

_USUAL_END: Final = b"\r\n\r\n"


class GeminiObserver:
    """`tollhouse.dialects.dialect.Observer` for this dialect."""

    __slots__ = (
        "_called",
        "_held",
        "_open",
        "_reported",
        "_tally",
        "_unfinished",
        "failure",
        "finish",
        "has_content",
        "is_final",
    )

    def __init__(self) -> None:
        self.finish: FinishReason | None = None
        self.failure: StreamFailed | None = None
        self.is_final = False
        self.has_content = False
        self._open: dict[int, bool] = {}
        """By candidate, whether it is still going on."""
        self._called = False
        self._reported = NULL
        """The newest counts."""
        self._tally = Tally()
        self._unfinished = Unfinished(MAX_CHUNK_BYTES)
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """Takes one network read; gives its whole events and keeps an unfinished one.  See `Observer.feed`."""
        if self.is_final:
            return b""  # after an error
        buffer = self._unfinished.joined(data) if self._unfinished else data
        if buffer.startswith(b"data: ") and buffer.find(b"\r") == len(buffer) - 4 and buffer.endswith(_USUAL_END):
            # Mostly a read is one event.
            self._see_data(buffer[6:-4])
            return self._passed(buffer)
        *events, tail = buffer.split(_USUAL_END)
        if all(event.startswith(b"data: ") and b"\n" not in event and b"\r" not in event for event in events):
            out = self._take(event + _USUAL_END for event in events)
            if b"\n" not in tail:
                self._unfinished.keep(tail)
                return out
            buffer = tail
        else:
            out = b""
        ends = [*event_ends(buffer)]
        self._unfinished.keep(buffer[ends[-1] :] if ends else buffer)
        if self.failure is not None:
            return out
        return out + self._take(buffer[start:end] for start, end in pairwise([0, *ends]))

    def _take(self, events: Iterable[bytes]) -> bytes:
        """Looks at whole events; gives what may go to the client."""
        out: list[bytes] = []
        for event in events:
            self._see(event)
            out.append(self._passed(event))
            if self.failure is not None:
                break
        return b"".join(out)

    def _passed(self, event: bytes) -> bytes:
        """What may go to the client now that this event was looked at."""
        if self.failure is None and self._is_over:
            self._hold(event)
            return b""
        if not self._held:
            return event
        held, self._held = self._held, b""
        return held + event

    def close(self) -> bytes:
        """The held-back end; see `Observer.close`.  Finish reasons are what makes an answer whole."""
        if self._has_failed():
            return b""
        rest = self._unfinished.take()
        if rest.strip():
            # The last event counts without its blank line too.
            try:
                self._see(rest + b"\r\n\r\n")
            except UpstreamMalformed:
                rest = b""
            else:
                if not rest.endswith((b"\n\n", b"\r\r")):
                    rest = rest.rstrip(b"\r\n") + b"\r\n\r\n"
            if self._has_failed():
                return self._held + rest
        if not self._is_over:
            raise UpstreamTruncated("The provider's stream stopped before its end.")
        self.is_final = True
        return self._held + rest

    def usage(self) -> Usage:
        """As reported, once the answer is whole; else the prompt as reported and the output counted from its text."""
        reported = usage_of(read_counts(self._reported))
        if self._is_over and reported.output_tokens is not None:
            return reported
        if reported.is_empty and not self.has_content:
            return Usage()
        return self._tally.rebuilt(reported)

    def _has_failed(self) -> bool:
        return self.failure is not None

    @property
    def _is_over(self) -> bool:
        return bool(self._open) and not any(self._open.values())

    def _hold(self, event: bytes) -> None:
        self._held += event
        if len(self._held) > MAX_CHUNK_BYTES:
            raise UpstreamTooLarge(f"More than {MAX_CHUNK_BYTES} bytes follow the end of the stream.")

    def _see(self, event: bytes) -> None:
        """Looks at one whole event, in its usual form or in any other."""
        body = event.rstrip(b"\r\n")
        if body.startswith(b"data: ") and b"\n" not in body and b"\r" not in body:
            self._see_data(body[6:])
            return
        for frame in sse.Parser(max_event_bytes=MAX_CHUNK_BYTES).feed(event):
            if frame.is_bare:
                raise decode_failure(frame.data)
            if frame.event == b"error":
                self._fail(frame.data)
            else:
                self._see_data(frame.data)

    def _see_data(self, data: bytes) -> None:
        if data == b"[DONE]":  # some compatible servers add OpenAI's marker
            return
        try:
            chunk = _CHUNK.decode(data)
        except UNREADABLE as error:
            raise UpstreamMalformed(f"A streamed event is not what Gemini sends: {describe(error)}.") from error
        if chunk.error != NULL:
            self._fail(data)
            return
        if chunk.usageMetadata != NULL:
            self._reported = chunk.usageMetadata
        for candidate in chunk.candidates or ():
            self._see_candidate(candidate)
        if chunk.promptFeedback is not None and chunk.promptFeedback.blockReason and not self._open:
            self._open[0] = False
            self.has_content = True
            self.finish = "content_filter"

    def _see_candidate(self, candidate: _Candidate) -> None:
        self._open.setdefault(candidate.index, True)
        parts = (candidate.content.parts if candidate.content is not None else None) or ()
        for part in parts:
            self.has_content = True
            if part.functionCall != NULL:
                self._called = True
                self._tally.add_json(part.functionCall)  # its name and what is around it included
            elif part.text:
                self._tally.add(part.text)
        if candidate.finishReason is None:
            return
        self._open[candidate.index] = False
        self.has_content = True
        if self.finish is None:
            self.finish = finish_of(finish_word(candidate.finishReason), has_calls=self._called)[0]

    def _fail(self, data: bytes) -> None:
        self.failure = decode_failure(data)
        self.is_final = True
