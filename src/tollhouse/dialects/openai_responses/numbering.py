"""The end of a stream that broke outside the encoder, as the next events of that stream.

Every event of a stream has a number, the answer has one id in all of them, and the last event repeats what is finished.  An
encoder knows all that.  But a provider that falls silent, or a gateway that has to stop, ends a stream that may have been
forwarded, or written by an encoder that is out of reach; so what goes to the client is looked at on its way, as little as will
do, and the end is made to fit.
"""

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from tollhouse.chat import sse
from tollhouse.dialects.dialect import MAX_LARGE_EVENT_BYTES
from tollhouse.dialects.fields import NULL, UNREADABLE
from tollhouse.dialects.openai_responses.encoder import FRAME
from tollhouse.dialects.openai_responses.failure import BROKEN, encode_event

_NUMBER: Final = b'"sequence_number":'
_DONE: Final = b'"response.output_item.done"'


class _Event(msgspec.Struct):
    type: str = ""
    sequence_number: int = -1
    response: dict[str, msgspec.Raw] | None = None
    item: msgspec.Raw = NULL


class _End(msgspec.Struct):
    error: msgspec.Raw = NULL
    response: dict[str, msgspec.Raw] | None = None


_EVENT: Final = msgspec.json.Decoder(_Event)
_END: Final = msgspec.json.Decoder(_End)


class Numbering:
    """Passes a stream's bytes on as they are, but for an end that `encode_stream_error` wrote.  Feed it whole events."""

    __slots__ = ("_done", "_done_bytes", "_first", "_last")

    media_type: Final = None
    """It stays what it is."""

    def __init__(self) -> None:
        self._first = b""
        """Where the response is announced."""
        self._last = b""
        """The last piece with a number in it."""
        self._done: list[bytes] = []
        """The pieces in which items were finished."""
        self._done_bytes = 0

    def feed(self, data: bytes) -> bytes:
        """The bytes for the client."""
        if data.startswith(BROKEN):
            return self._ended(data)
        if _NUMBER in data:
            self._last = data
            self._first = self._first or data
            if _DONE in data and self._done_bytes < MAX_LARGE_EVENT_BYTES:
                self._done.append(data)
                self._done_bytes += len(data)
        return data

    def close(self) -> bytes:
        """Nothing comes after the end."""
        return b""

    def _ended(self, data: bytes) -> bytes:
        told, failed = (_END.decode(frame.data) for frame in sse.Parser().feed(data))
        number = max((event.sequence_number for event in _events(self._last)), default=-1) + 1
        mine = failed.response or {}
        announced = next((event.response for event in _events(self._first) if event.response is not None), None)
        if announced is None:
            response: dict[str, object] = {**FRAME, "created_at": 0, **mine}
        else:
            response = {**announced, "status": mine["status"], "error": mine["error"]}
        out = b""
        if not self._last:
            begun = {**response, "status": "in_progress", "error": None}
            out = _numbered("response.created", number, {"response": begun})
            number += 1
        response["output"] = [
            event.item
            for data in self._done
            for event in _events(data)
            if event.type == "response.output_item.done" and event.item != NULL
        ]
        return (
            out
            + _numbered("error", number, {"error": told.error})
            + _numbered("response.failed", number + 1, {"response": response})
        )


def _events(data: bytes) -> Iterable[_Event]:
    for frame in sse.Parser(max_event_bytes=len(data) + 1).feed(data):
        try:
            yield _EVENT.decode(frame.data)
        except UNREADABLE:
            continue  # forwarded as it came, and nothing to learn from


def _numbered(kind: str, number: int, fields: Mapping[str, object]) -> bytes:
    return encode_event(kind, {"type": kind, "sequence_number": number, **fields})
