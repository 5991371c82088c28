"""From canonical answers to `ExecuteResponse` and `StreamChunk`.

The protocol knows text alone.  A refusal is said as text; reasoning and whatever else an answer may hold is noted in the
receipt and left out.
"""

from collections.abc import Iterator
from typing import Final

from tollhouse.chat.events import Cited, Delta, Ended, Event, Failed, Finished, PartOpened
from tollhouse.chat.fold import failure
from tollhouse.chat.model import Part, Refusal, Response, Text
from tollhouse.chat.receipt import Receipt
from tollhouse.dialects.delimited import delimit
from tollhouse.dialects.vibectl.failure import described
from tollhouse.proto.vibectl_pb2 import ExecuteResponse, ExecuteSuccess, StreamChunk, StreamComplete

_ONE_ANSWER: Final = "this protocol has one answer"
_TEXT_ONLY: Final = "this protocol has text only"
MAX_PIECE_CHARACTERS: Final = 240
"""Longer stretches are cut at blanks: they come from providers that cannot stream and from kept answers."""


def encode_response(response: Response, receipt: Receipt) -> bytes:
    """A whole answer."""
    if len(response.choices) > 1:
        receipt.dropped("choices[1:]", _ONE_ANSWER)
    parts = response.choices[0].parts if response.choices else ()
    text = "".join(_words(part, receipt) for part in parts)
    return ExecuteResponse(success=ExecuteSuccess(response_text=text)).SerializeToString()


class ChunkEncoder:
    """Writes text as it comes, and `complete` at the end."""

    __slots__ = ("_is_text", "_receipt")

    def __init__(self, receipt: Receipt) -> None:
        self._receipt = receipt
        self._is_text = False
        """Whether the open part is said as text."""

    def encode(self, event: Event) -> bytes:
        """Whole messages behind their lengths, often none."""
        match event:
            case Delta(choice=0) if self._is_text:
                return _chunks(event.text)
            case PartOpened(choice=0):
                self._is_text = isinstance(event.part, Text | Refusal)
                return _chunks(_words(event.part, self._receipt))
            case Cited(choice=0):
                self._receipt.dropped("citations", _TEXT_ONLY)
            case PartOpened(choice=other) | Finished(choice=other) if other:
                self._receipt.dropped("choices[1:]", _ONE_ANSWER)
            case Failed():
                return delimit(StreamChunk(error=described(failure(event), "")).SerializeToString())
            case Ended():
                return delimit(StreamChunk(complete=StreamComplete()).SerializeToString())
            case _:
                pass
        return b""

    def ping(self) -> bytes:
        """Nothing: HTTP/2 keeps a connection open by itself."""
        return b""


def cut(text: str) -> Iterator[str]:
    """A text in pieces of at most `MAX_PIECE_CHARACTERS`, each but the last ending in a blank if it has one."""
    start = 0
    while len(text) - start > MAX_PIECE_CHARACTERS:
        bound = start + MAX_PIECE_CHARACTERS
        end = max(text.rfind(" ", start, bound), text.rfind("\n", start, bound)) + 1
        if end <= start:
            end = bound
        yield text[start:end]
        start = end
    if start < len(text):
        yield text[start:]


def _chunks(text: str) -> bytes:
    return b"".join(delimit(StreamChunk(text_chunk=piece).SerializeToString()) for piece in cut(text))


def _words(part: Part, receipt: Receipt) -> str:
    match part:
        case Text():
            if part.citations:
                receipt.dropped("citations", _TEXT_ONLY)
            return part.text
        case Refusal():
            return part.text
        case _:
            receipt.dropped("content", f"an answer's {type(part).__name__} part has no form in this protocol")
            return ""
