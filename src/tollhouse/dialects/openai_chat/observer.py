"""Watches a stream that is forwarded in its own dialect.

Every event is decoded once, by a struct of the few fields that matter: that costs less than searching its bytes three times,
proves that it is JSON, and leaves nothing to guess.  Bytes that need no change are passed on as the very object that came
off the network.

An event that starts with `data: {` and ends with an empty line takes the short way.  Comments, named events, several data
lines, other line ends and `[DONE]` take the long one, with the same outcome.
"""

import re
from typing import Final

import msgspec

from tollhouse.chat.model import FinishReason
from tollhouse.chat.usage import Usage
from tollhouse.dialects.dialect import MAX_EVENT_BYTES
from tollhouse.dialects.openai_chat.counts import read_usage
from tollhouse.dialects.openai_chat.failure import failed, words_of
from tollhouse.dialects.openai_chat.finish import finish_reason
from tollhouse.dialects.openai_chat.wire import Json, XGroq, read
from tollhouse.dialects.rebuilt import Tally
from tollhouse.errors import StreamFailed, UpstreamMalformed, UpstreamTooLarge, UpstreamTruncated

DONE: Final = b"data: [DONE]\n\n"


class _Function(msgspec.Struct, gc=False):
    name: str | None = None
    arguments: str | dict[str, Json] | None = None


class _Call(msgspec.Struct, gc=False):
    function: _Function | None = None


class _Delta(msgspec.Struct, gc=False):
    content: str | list[Json] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[_Call] | None = None
    function_call: _Function | None = None


class _Choice(msgspec.Struct, gc=False):
    index: int = 0
    delta: _Delta | None = None
    finish_reason: str | None = None


class _Chunk(msgspec.Struct, gc=False):
    choices: list[_Choice] | None = None
    usage: dict[str, Json] | None = None
    error: Json = None
    x_groq: XGroq | None = None
    message: Json = None
    type: Json = None
    code: Json = None


_decoder: Final = msgspec.json.Decoder(_Chunk)
_decode: Final = _decoder.decode
_json: Final = msgspec.json.Decoder()

# A line end, and one with an empty line after it.  While more may come, a CR at the very end may be half of a CRLF.
_LINE_END: Final = re.compile(rb"\r\n|\n|\r")
_EVENT_END: Final = re.compile(rb"(?:\r\n|\n|\r(?!\n)){2,}")
_EVENT_END_SO_FAR: Final = re.compile(rb"(?:\r\n|\n|\r(?!\n|\Z)){2,}")
_FIELD: Final = re.compile(rb"(data|event|id|retry)(?::|\Z)|:")
_BOM: Final = b"\xef\xbb\xbf"


class OpenAIChatObserver:
    """See `tollhouse.dialects.dialect.Observer`."""

    __slots__ = (
        "_finished",
        "_held",
        "_opened",
        "_outside",
        "_rest",
        "_strips_usage",
        "_tally",
        "_usage",
        "failure",
        "finish",
        "has_content",
        "is_final",
    )

    def __init__(self, *, strips_usage: bool, reasoning_outside_output: bool) -> None:
        """`strips_usage`: the usage chunk was asked for by us, and the client must not see it."""
        self._strips_usage = strips_usage
        self._outside = reasoning_outside_output
        self._rest = b""
        self._held = b""
        self._opened: set[int] = set()
        self._finished: set[int] = set()
        self._usage: dict[str, Json] | None = None
        self._tally = Tally()
        self.finish: FinishReason | None = None
        self.failure: StreamFailed | None = None
        self.is_final = False
        self.has_content = False

    def feed(self, data: bytes) -> bytes:
        """Takes one network read; gives the whole events in it, less what the client must not see."""
        if self._held or self.failure is not None:
            return b""
        if self._rest:
            data = self._rest + data
        start = forwarded = 0
        pieces: list[bytes] | None = None
        while (end := data.find(b"\n\n", start)) >= 0:
            if data.startswith(b"data: {", start):
                try:
                    chunk = _decode(data[start + 6 : end])
                except (ValueError, RecursionError):
                    keep = self._odd(data[start : end + 2])
                else:
                    # Nine events in ten end here: one choice, already open, some text, nothing else.
                    if self.has_content and chunk.usage is None and chunk.error is None and chunk.choices:
                        choice = chunk.choices[0]
                        if choice.finish_reason is None and choice.delta is not None and choice.index in self._opened:
                            delta = choice.delta
                            text = delta.content or delta.reasoning_content or delta.reasoning
                            if text and text.__class__ is str and len(chunk.choices) == 1:
                                self._tally.add(text)
                                start = end + 2
                                continue
                    keep = self._watch(chunk)
            else:
                keep = self._odd(data[start : end + 2])
            if keep is not True:
                pieces = pieces or []
                pieces.append(data[forwarded:start])
                if keep is not False:
                    pieces.append(keep)
                forwarded = end + 2
            start = end + 2
            if self.is_final:
                data = data[:start]
                break
        self._rest = data[start:]
        if self._rest and b"\r" in self._rest and not self.is_final:
            return self._with_other_line_ends(data[forwarded:start], pieces)
        if len(self._rest) > MAX_EVENT_BYTES:
            raise UpstreamTooLarge(f"One streamed event is larger than {MAX_EVENT_BYTES} bytes.")
        if pieces is not None:
            pieces.append(data[forwarded:start])
            return b"".join(pieces)
        return data[:start] if self._rest else data

    def close(self) -> bytes:
        """The provider is done sending: the end marker, after a last event that lacked its empty line."""
        out = b""
        if self._rest and not self.is_final:
            # The last event counts without its empty line (`gemini/gemini-chat-stream-text-5acf78`).
            rest, self._rest = self._rest, b""
            keep = self._odd(rest.rstrip(b"\r\n") + b"\n\n")
            out = b"" if keep is False else rest.rstrip(b"\r\n") + b"\n\n" if keep is True else keep
        if self.failure is not None:
            raise self.failure
        if not self._opened or self._opened != self._finished:
            raise UpstreamTruncated("The provider's stream stopped before its answer was finished.")
        self.is_final = True
        return out + (self._held or DONE)

    def usage(self) -> Usage:
        """What was reported; of a stream that broke off, the output counted from its chunks."""
        reported = read_usage(self._usage, reasoning_outside_output=self._outside)
        if self._opened and self._opened == self._finished and reported.output_tokens is not None:
            return reported
        return self._tally.usage(reported)

    # -- one event

    def _watch(self, chunk: _Chunk) -> bool:
        """Takes note of a chunk; says whether the client may see it."""
        if chunk.usage:
            self._usage = chunk.usage
        elif chunk.x_groq is not None and chunk.x_groq.usage:
            self._usage = chunk.x_groq.usage
        if chunk.error is not None:
            self.failure = failed({"error": chunk.error, "code": chunk.code})
            self.is_final = True
            return True
        choices = chunk.choices
        if choices is None and chunk.message is not None:
            # An error without its `error`: `{"object": "error", "message": …}` of Mistral and vLLM.
            self.failure = failed({"message": chunk.message, "type": chunk.type, "code": chunk.code})
            self.is_final = True
            return True
        if not choices:
            return not (self._strips_usage and choices is not None and chunk.usage is not None)
        for choice in choices:
            self._opened.add(choice.index)
            delta = choice.delta
            if delta is not None:
                text = delta.content or delta.reasoning_content or delta.reasoning
                if text and text.__class__ is str:
                    self._tally.add(text)
                    self.has_content = True
                elif text or delta.tool_calls or delta.refusal or delta.function_call:
                    self._count_other(delta)
                    self.has_content = True
            if choice.finish_reason:
                self._finished.add(choice.index)
                if self.finish is None or choice.index == 0:
                    self.finish = finish_reason(choice.finish_reason)
        return True

    def _count_other(self, delta: _Delta) -> None:
        for call in delta.tool_calls or ():
            if call.function is not None:
                self._count_arguments(call.function)
        if delta.function_call is not None:
            self._count_arguments(delta.function_call)
        if delta.refusal:
            self._tally.add(delta.refusal)
        if isinstance(delta.content, list):
            self._tally.add_parts(delta.content)

    def _count_arguments(self, function: _Function) -> None:
        if function.name:
            self._tally.calls += 1
        if isinstance(function.arguments, str):
            self._tally.add(function.arguments)

    # -- the long way

    def _odd(self, block: bytes) -> bool | bytes:
        """Events in an uncommon form: whether to forward them all, or else what of them to forward.

        `block` ends with an empty line; it holds several events only where line ends are mixed.
        """
        kept: list[bytes] = []
        start = 0
        whole = True
        for end in _EVENT_END.finditer(block):
            event = block[start : end.end()]
            start = end.end()
            if self._one(event):
                kept.append(event)
            else:
                whole = False
            if self.is_final:
                whole = whole and start == len(block)
                break
        return True if whole else b"".join(kept) if kept else False

    def _one(self, event: bytes) -> bool:
        name = b""
        lines: list[bytes] = []
        for line in _LINE_END.split(event.removeprefix(_BOM)):
            if not line:
                continue
            field = _FIELD.match(line)
            if field is None:
                raise self._not_events(event)
            if field[1] == b"data":
                lines.append(line[5:].removeprefix(b" "))
            elif field[1] == b"event":
                name = line[6:].removeprefix(b" ")
        if not lines:
            return True
        data = b"\n".join(lines)
        if data.strip() == b"[DONE]":
            self.is_final = True
            self._held = event
            return False
        if name == b"error":
            self.failure = failed(read(data, _json, dict, "an error event"))
            self.is_final = True
            return True
        return self._watch(read(data, _decoder, _Chunk, "a stream event"))

    def _with_other_line_ends(self, before: bytes, pieces: list[bytes] | None) -> bytes:
        """A stream whose lines end in CRLF or CR: the events up to the last empty line."""
        out = [*(pieces or ()), before]
        end = None
        for end in _EVENT_END_SO_FAR.finditer(self._rest):  # noqa: B007  # the last one is what is wanted
            pass
        if end is not None:
            block, self._rest = self._rest[: end.end()], self._rest[end.end() :]
            keep = self._odd(block)
            out.append(b"" if keep is False else block if keep is True else keep)
        if len(self._rest) > MAX_EVENT_BYTES:
            raise UpstreamTooLarge(f"One streamed event is larger than {MAX_EVENT_BYTES} bytes.")
        return b"".join(out)

    def _not_events(self, event: bytes) -> StreamFailed | UpstreamMalformed:
        """What came instead of events; some say a JSON error under an event stream's content type."""
        try:
            value: Json = _json.decode(event)
        except (ValueError, RecursionError):
            return UpstreamMalformed("The provider sent something that is not an event stream.")
        if words_of(value) is None:
            return UpstreamMalformed("The provider sent plain JSON where an event stream was due.")
        return failed(value)
