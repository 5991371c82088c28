"""Answers on their way into the cache, and out of it.

A `Recorder` listens to a provider's stream beside the relay, in either lane, and has the canonical answer at its end.
`replay` says a kept answer again in the words of whoever asks, as a stream when a stream was asked for.
"""

from collections.abc import Iterable
from typing import Any, Final

from tollhouse.chat import sse
from tollhouse.chat.events import Ended, Event, Failed
from tollhouse.chat.fold import Folder, unfold
from tollhouse.chat.model import Request, Response
from tollhouse.chat.receipt import Receipt
from tollhouse.dialects.dialect import MAX_EVENT_BYTES, Dialect, StreamDecoder
from tollhouse.errors import ProviderError

MAX_RECORDED_BYTES: Final = 32 * 1024 * 1024
"""Bound on the stream that is listened to.  A stream is about ten times as long as the answer in it."""

_UNREADABLE: Final = (ProviderError, ValueError)
"""What decoders and the folder raise for a stream that the same-dialect lane forwards all the same."""


class Recorder:
    """Gathers the answer of one stream.  It never raises: what it cannot make out is simply not kept."""

    __slots__ = ("_decoder", "_folder", "_is_over", "_left", "_parser")

    def __init__(
        self, decoder: StreamDecoder, *, max_bytes: int = MAX_RECORDED_BYTES, max_event_bytes: int = MAX_EVENT_BYTES
    ) -> None:
        """`decoder` is the provider's."""
        self._parser = sse.Parser(max_event_bytes=max_event_bytes)
        self._decoder = decoder
        self._folder: Folder | None = Folder()
        self._left = max_bytes
        self._is_over = False

    def feed(self, data: bytes) -> None:
        """Takes one network read, as the relay got it."""
        self._left -= len(data)
        if self._left < 0:
            self._folder = None
        if self._folder is None or self._is_over:
            return
        try:
            for frame in self._parser.feed(data):
                self._take(self._decoder.feed(frame))
        except _UNREADABLE:
            self._folder = None

    def close(self) -> Response | None:
        """The provider is done sending: the answer, or `None` where it was cut, broken, too long or an error."""
        if self._folder is None:
            return None
        try:
            if not self._is_over:
                for frame in self._parser.close():
                    self._take(self._decoder.feed(frame))
            if not self._is_over:
                self._take(self._decoder.close())
            return self._folder.response()
        except _UNREADABLE:
            return None
        finally:
            self._folder = None

    def _take(self, events: Iterable[Event]) -> None:
        if self._folder is None:
            return
        for event in events:
            if self._is_over:
                return  # whatever follows is not part of the answer
            self._folder.feed(event)
            self._is_over = isinstance(event, Ended | Failed)


def read_whole(body: bytes, dialect: Dialect[Any], traits: Any) -> Response | None:
    """The answer in a whole body of a provider's; `None` for what only its client may be able to read."""
    try:
        return dialect.decode_response(body, traits)
    except _UNREADABLE:
        return None


def replay(response: Response, request: Request, dialect: Dialect[Any], receipt: Receipt) -> bytes:
    """The whole body of an answer for the client that sent `request`: JSON, or the events of a stream to their end.

    `receipt` notes what the client's dialect cannot say of it.
    """
    if not request.stream:
        return dialect.encode_response(response, request, receipt)
    encoder = dialect.stream_encoder(request, receipt)
    return b"".join([encoder.encode(event) for event in unfold(response)])
