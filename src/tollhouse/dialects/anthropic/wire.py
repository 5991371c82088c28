"""The dialect's JSON as it stands on the wire: its fields, its words for why an answer ended, its counts.

Paths are in Anthropic's own spelling (`messages.2.content.0.source`), and so are the words for a fault.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from tollhouse.chat.model import FinishReason
from tollhouse.chat.usage import Usage
from tollhouse.dialects import fields

NAME: Final = "anthropic"

_CONTENT: Final["msgspec.json.Decoder[str | list[msgspec.Raw] | None]"] = msgspec.json.Decoder(
    str | list[msgspec.Raw] | None
)


class Fields(fields.Fields):
    """One JSON object of this dialect."""

    __slots__ = ()

    DIALECT = NAME
    MUST_BE = "Input should be"
    REQUIRED = "Field required: give"

    def text_or_array(self, name: str) -> str | list[msgspec.Raw] | None:
        """Content: a string, or blocks."""
        value = self.left.pop(name, None)
        if value is None:
            return None
        try:
            return _CONTENT.decode(value)
        except fields.UNREADABLE as error:
            raise self.fault(self.at(name), "a string or an array", value, error) from error


# ------------------------------------------------------------------------------------------------------- stop reasons

FINISH: Final[Mapping[str, FinishReason]] = {
    "end_turn": "stop",
    "max_tokens": "length",
    "stop_sequence": "stop_sequence",
    "tool_use": "tool_calls",
    "pause_turn": "pause",
    "refusal": "refusal",
    "model_context_window_exceeded": "context_exceeded",
}

STOP_REASON: Final[Mapping[FinishReason, str]] = {
    **{finish: word for word, finish in FINISH.items()},
    "content_filter": "refusal",
    "other": "end_turn",
}
"""Every reason but `error`, which no stop reason may hide."""


def finish_of(word: str) -> FinishReason:
    """What a stop reason means; `other` for one that we do not know."""
    return FINISH.get(word, "other")


# -------------------------------------------------------------------------------------------------------------- usage

_Count = int | float | None


class WireCacheCreation(msgspec.Struct):
    """Cache writes by lifetime."""

    ephemeral_5m_input_tokens: _Count = None
    ephemeral_1h_input_tokens: _Count = None


class WireOutputDetails(msgspec.Struct):
    """Seen from newer models (`anthropic/anthropic-messages-stream-reasoning-fef81c`)."""

    thinking_tokens: _Count = None


class WireUsage(msgspec.Struct):
    """`usage`: its `input_tokens` leaves out what was read from the cache or written to it."""

    input_tokens: _Count = None
    cache_creation_input_tokens: _Count = None
    cache_read_input_tokens: _Count = None
    cache_creation: WireCacheCreation | None = None
    output_tokens: _Count = None
    output_tokens_details: WireOutputDetails | None = None
    service_tier: str | None = None

    @property
    def prompt_tokens(self) -> int | None:
        """The whole prompt; `None` when nothing is said of it."""
        parts = (self.input_tokens, self.cache_creation_input_tokens, self.cache_read_input_tokens)
        return None if parts == (None, None, None) else sum(_whole(part) or 0 for part in parts)


def _whole(count: _Count) -> int | None:
    return None if count is None else max(0, int(count))


def usage_of(first: WireUsage | None, last: WireUsage | None = None) -> Usage:
    """The counts of `message_start` and of `message_delta` as one.

    The second report is cumulative and the later word; older models give only its `output_tokens`
    (`anthropic/anthropic-messages-stream-tool-call-dfbe08`), and some compatible providers fill its input counts with zeros,
    which no prompt can be.
    """
    first = first or WireUsage()
    last = last or WireUsage()
    prompt = last if last.prompt_tokens else first
    output = last.output_tokens if last.output_tokens is not None else first.output_tokens
    details = last.output_tokens_details or first.output_tokens_details
    lifetimes = prompt.cache_creation or first.cache_creation
    cache_write = _whole(prompt.cache_creation_input_tokens)
    cache_write_1h = _whole(lifetimes.ephemeral_1h_input_tokens) if lifetimes else None
    if cache_write is not None and cache_write_1h is not None:
        cache_write_1h = min(cache_write, cache_write_1h)
    usage = Usage(
        input_tokens=prompt.prompt_tokens,
        cache_read_tokens=_whole(prompt.cache_read_input_tokens),
        cache_write_tokens=cache_write,
        cache_write_1h_tokens=cache_write_1h,
        output_tokens=_whole(output),
        reasoning_tokens=_whole(details.thinking_tokens) if details else None,
    )
    return usage if usage.is_empty else msgspec.structs.replace(usage, source="reported")


def usage_fields(usage: Usage) -> dict[str, object]:
    """`usage` for a client.  The dialect has no word for "not known", so missing totals are 0."""
    counts: dict[str, object] = {
        "input_tokens": usage.fresh_input_tokens or 0,
        "cache_creation_input_tokens": usage.cache_write_tokens or 0,
        "cache_read_input_tokens": usage.cache_read_tokens or 0,
    }
    if usage.cache_write_1h_tokens is not None:
        hour = usage.cache_write_1h_tokens
        counts["cache_creation"] = {
            "ephemeral_5m_input_tokens": max(0, (usage.cache_write_tokens or 0) - hour),
            "ephemeral_1h_input_tokens": hour,
        }
    counts["output_tokens"] = usage.output_tokens or 0
    if usage.reasoning_tokens is not None:
        counts["output_tokens_details"] = {"thinking_tokens": usage.reasoning_tokens}
    return counts


# ------------------------------------------------------------------------------------------------------ stream events


def sse(event: str, said: object) -> bytes:
    """One event with its name, which the official SDK and others insist on."""
    data = msgspec.json.encode(said)
    if b"\n" in data:  # a provider's own raw JSON, printed over several lines; an event's data is one
        data = msgspec.json.format(data, indent=-1)
    return b"event: %b\ndata: %b\n\n" % (event.encode(), data)


PING: Final = b'event: ping\ndata: {"type": "ping"}\n\n'
MESSAGE_STOP: Final = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
