"""The translation lane of a stream: a provider's bytes in, the client's bytes out.

It keeps the `Observer` contract, so that the relay is the same loop for both lanes: the stream's last bytes are held back
until `close`, an error that the provider reports becomes `failure`, and usage can be asked for at any moment.
"""

from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from tollhouse.chat import sse
from tollhouse.chat.events import (
    Delta,
    Ended,
    Event,
    Failed,
    Finished,
    PartOpened,
    Started,
    UsageReported,
)
from tollhouse.chat.fold import failure
from tollhouse.chat.model import FinishReason, ToolCall
from tollhouse.chat.usage import Usage
from tollhouse.dialects.dialect import MAX_EVENT_BYTES, StreamDecoder, StreamEncoder
from tollhouse.dialects.rebuilt import Tally
from tollhouse.errors import StreamFailed, UpstreamTooLarge

MAX_STREAM_BYTES: Final = 256 * 1024 * 1024
"""Bound on a provider's stream: dialects whose last event repeats the whole answer keep all of it until then."""


class Translator:
    """Decodes, watches and encodes one stream."""

    __slots__ = (
        "_created",
        "_decoder",
        "_encoder",
        "_is_reported",
        "_last",
        "_left_bytes",
        "_parser",
        "_restore",
        "_tally",
        "_usage",
        "failure",
        "finish",
        "has_content",
        "is_final",
    )

    def __init__(
        self,
        decoder: StreamDecoder,
        encoder: StreamEncoder,
        *,
        created: int,
        restore: "Callable[[Iterable[Event]], Iterable[Event]] | None" = None,
        max_event_bytes: int = MAX_EVENT_BYTES,
        max_stream_bytes: int = MAX_STREAM_BYTES,
    ) -> None:
        """`created` is the wall clock in seconds, for dialects whose answers carry it and providers that do not say it.

        `restore` puts back what the provider was not shown.
        """
        self._restore = restore
        self._left_bytes = max_stream_bytes
        self._parser = sse.Parser(max_event_bytes=max_event_bytes)
        self._decoder = decoder
        self._encoder = encoder
        self._created = created
        self._usage: Usage | None = None
        self._is_reported = False
        """Whether `_usage` is more than what a stream's first event knew: of the output that is next to nothing."""
        self._tally = Tally()
        self._last = b""
        self.finish: FinishReason | None = None
        self.failure: StreamFailed | None = None
        self.is_final = False
        self.has_content = False

    def feed(self, data: bytes) -> bytes:
        """Takes one network read; gives the client's bytes for it.  Raises `UpstreamTooLarge` for a stream without an end."""
        self._left_bytes -= len(data)
        if self._left_bytes < 0:
            raise UpstreamTooLarge("The provider's stream is longer than any answer may be.")
        out: list[bytes] = []
        for frame in self._parser.feed(data):
            self._translate(self._decoder.feed(frame), out)
            if self.is_final:
                break  # whatever follows is not part of the answer
        return b"".join(out)

    def feed_events(self, events: Iterable[Event]) -> bytes:
        """Takes events that come from elsewhere: a provider that answered a streamed request with a whole body."""
        out: list[bytes] = []
        self._translate(events, out)
        return b"".join(out)

    def close(self) -> bytes:
        """The provider is done sending: the stream's last bytes.  Raises `UpstreamTruncated` if the answer is cut."""
        out: list[bytes] = []
        if not self.is_final:
            for frame in self._parser.close():
                self._translate(self._decoder.feed(frame), out)
        if not self.is_final:
            self._translate(self._decoder.close(), out)
        if self.failure is not None:
            raise self.failure
        out.append(self._last)
        return b"".join(out)

    def usage(self) -> Usage:
        """The reported usage, or one rebuilt from what was seen (of its output only)."""
        reported = self._usage
        if (
            reported is not None
            and self._is_reported
            and reported.output_tokens is not None
            and self.finish is not None
        ):
            return reported
        if reported is None and not self.has_content:
            return Usage()
        return self._tally.rebuilt(reported or Usage())

    def _translate(self, events: Iterable[Event], out: list[bytes]) -> None:
        encode = self._encoder.encode
        for event in events if self._restore is None else self._restore(events):
            kind = type(event)
            if kind is Delta:
                self._tally.add(event.text)  # type: ignore[union-attr]  # `kind is` narrows for us, not for mypy
                self.has_content = True
                out.append(encode(event))
                continue
            match event:
                case Started():
                    if event.usage is not None:
                        self._usage = event.usage
                    if event.created is None:
                        event = msgspec.structs.replace(event, created=self._created)  # noqa: PLW2901
                case PartOpened():
                    self.has_content = True
                    self._tally.calls += isinstance(event.part, ToolCall)
                case Finished():
                    if event.choice == 0 or self.finish is None:
                        self.finish = event.reason
                case UsageReported():
                    self._usage = event.usage
                    self._is_reported = True
                case Failed():
                    self.failure = failure(event)
                    self.is_final = True
                    out.append(encode(event))
                    return
                case Ended():
                    self.is_final = True
                    self._last = encode(event)
                    return
                case _:
                    pass
            out.append(encode(event))
