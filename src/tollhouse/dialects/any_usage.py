"""Token counts in an answer of unknown form, for what is passed through.

Images, speech, batches: each API has an answer of its own, but the token counts in it are written in one of few ways.  Here
they are looked for at the few places where they stand, in a whole JSON answer or in the events of a stream, without knowing
more of the rest.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from tollhouse.chat import sse
from tollhouse.chat.usage import Usage
from tollhouse.dialects.anthropic.wire import WireUsage, usage_of
from tollhouse.dialects.dialect import MAX_LARGE_EVENT_BYTES
from tollhouse.dialects.fields import UNREADABLE
from tollhouse.dialects.gemini.usage import read_counts
from tollhouse.dialects.gemini.usage import usage_of as googles_usage_of
from tollhouse.dialects.openai_chat.counts import read_usage
from tollhouse.errors import UpstreamMalformed, UpstreamTooLarge

MAX_BODY_BYTES: Final = 64 * 1024 * 1024
"""Of a longer answer the usage is not read.  Ten drawn pictures in base64, with the usage after them, are some 40 MB."""
_PLACES: Final = ("", "response", "message")
"""Where `usage` stands: at the top, in a `response` (Responses' events), in a `message` (Anthropic's first event)."""

_objects: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_anthropic: Final = msgspec.json.Decoder(WireUsage)


def usage_in(body: bytes) -> Usage:
    """The usage in a JSON answer; empty where there is none, or where it is not JSON."""
    try:
        fields = _objects.decode(body)
    except UNREADABLE:
        return Usage()
    for place in _PLACES:
        inner = fields if not place else _object(fields.get(place))
        if (usage := _usage(inner)) is not None:
            return usage
    return Usage()


class Watch:
    """Looks at an answer going by.  It changes nothing and never fails: what cannot be read has no usage."""

    __slots__ = ("_body", "_is_over", "_parser", "_usage")

    def __init__(self, *, is_stream: bool) -> None:
        """`is_stream` says that the answer is made of server-sent events."""
        self._parser = sse.Parser(max_event_bytes=MAX_LARGE_EVENT_BYTES) if is_stream else None
        self._body = bytearray()
        self._is_over = False
        self._usage = Usage()

    def feed(self, data: bytes) -> None:
        """Takes one network read."""
        if self._is_over:
            return
        if self._parser is None:
            self._body += data
            if len(self._body) > MAX_BODY_BYTES:
                self._is_over = True
                self._body.clear()
            return
        try:
            for frame in self._parser.feed(data):
                if b"sage" in frame.data:  # `usage`, `usageMetadata`
                    self._take(usage_in(frame.data))
        except (UpstreamMalformed, UpstreamTooLarge):
            self._is_over = True

    def usage(self) -> Usage:
        """What was seen of it so far."""
        if self._parser is None and self._body:
            self._take(usage_in(bytes(self._body)))
            self._body.clear()
        return self._usage

    def _take(self, usage: Usage) -> None:
        """The last report holds; what only an earlier one said (Anthropic's first event) stays."""
        if usage.is_empty:
            return
        before = self._usage
        self._usage = msgspec.structs.replace(
            usage,
            input_tokens=usage.input_tokens or before.input_tokens,
            cache_read_tokens=usage.cache_read_tokens or before.cache_read_tokens,
            cache_write_tokens=usage.cache_write_tokens or before.cache_write_tokens,
            cache_write_1h_tokens=usage.cache_write_1h_tokens or before.cache_write_1h_tokens,
        )


def _usage(fields: Mapping[str, msgspec.Raw]) -> Usage | None:
    raw = fields.get("usageMetadata")
    if raw is not None:
        return googles_usage_of(read_counts(raw))
    raw = fields.get("usage")
    if raw is None:
        return None
    said = _object(raw)
    try:
        if "cache_read_input_tokens" in said or "cache_creation_input_tokens" in said:
            return usage_of(_anthropic.decode(raw))
        counts = msgspec.json.decode(raw)
    except UNREADABLE:
        return None
    return read_usage(counts, reasoning_outside_output=False) if isinstance(counts, dict) else None


def _object(raw: msgspec.Raw | None) -> dict[str, msgspec.Raw]:
    if raw is None:
        return {}
    try:
        return _objects.decode(raw)
    except UNREADABLE:
        return {}
