"""The dialect's JSON as it stands on the wire, and how it is read without losing what we do not know.

An object is read field by field (`Fields`): each known field is taken with its type, what is left over afterwards is what only
Anthropic understands, still as raw bytes.  That is slower than one typed struct for everything, but it keeps unknown
fields verbatim, takes explicit nulls for absent fields, and knows the exact path of a fault, in Anthropic's own spelling
(`messages.2.content.0.source`).
"""

from collections.abc import Mapping
from typing import Final, TypeVar

import msgspec

from tollhouse.chat.model import Extra, FinishReason
from tollhouse.chat.usage import Usage

NAME: Final = "anthropic"

Value = TypeVar("Value")

# The annotations are for mypy, which cannot infer a decoder's type from a union.
TEXT: Final["msgspec.json.Decoder[str | None]"] = msgspec.json.Decoder(str | None)
FLAG: Final["msgspec.json.Decoder[bool | None]"] = msgspec.json.Decoder(bool | None)
COUNT: Final["msgspec.json.Decoder[int | None]"] = msgspec.json.Decoder(int | None)
NUMBER: Final["msgspec.json.Decoder[float | None]"] = msgspec.json.Decoder(float | None)
ARRAY: Final["msgspec.json.Decoder[list[msgspec.Raw] | None]"] = msgspec.json.Decoder(list[msgspec.Raw] | None)
TEXTS: Final["msgspec.json.Decoder[list[str] | None]"] = msgspec.json.Decoder(list[str] | None)
_CONTENT: Final["msgspec.json.Decoder[str | list[msgspec.Raw] | None]"] = msgspec.json.Decoder(
    str | list[msgspec.Raw] | None
)
OBJECT: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])

_WANTED: Final[Mapping[object, str]] = {
    TEXT: "a string",
    FLAG: "true or false",
    COUNT: "a whole number",
    NUMBER: "a number",
    ARRAY: "an array",
    TEXTS: "an array of strings",
}

# What broken JSON, a wrong type, bytes that are not UTF-8 and hostile nesting raise.
UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class WireFault(Exception):
    """A value that is not what the dialect says.  The edges turn it into `BadRequest` or `UpstreamMalformed`."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}" if path else problem)
        self.path = path


class Fields:
    """One JSON object; each field is taken once, and `rest` gives what nobody took.  `left` is what is still there."""

    __slots__ = ("left", "path")

    def __init__(self, raw: msgspec.Raw | bytes, path: str) -> None:
        self.path = path
        try:
            self.left = OBJECT.decode(raw)
        except UNREADABLE as error:
            raise WireFault(path, f"Input should be an object. ({describe(error)})") from error

    def at(self, name: str | int) -> str:
        """The path of a field."""
        return f"{self.path}.{name}" if self.path else str(name)

    def raw(self, name: str) -> msgspec.Raw | None:
        """A field as it stands; `None` when absent or null."""
        value = self.left.pop(name, None)
        return None if value is None or value == NULL else value

    def take(self, name: str, decoder: "msgspec.json.Decoder[Value | None]") -> Value | None:
        """A field of `decoder`'s type; `None` when absent or null."""
        value = self.left.pop(name, None)
        if value is None:
            return None
        try:
            return decoder.decode(value)
        except UNREADABLE as error:
            wanted = _WANTED.get(decoder, "another type")
            raise WireFault(self.at(name), f"Input should be {wanted}. ({describe(error)})") from error

    def text(self, name: str) -> str:
        """A string that must be there."""
        value = self.take(name, TEXT)
        if value is None:
            raise WireFault(self.at(name), "Field required: give a string.")
        return value

    def text_or_array(self, name: str) -> str | list[msgspec.Raw] | None:
        """Content: a string, or blocks."""
        value = self.left.pop(name, None)
        if value is None:
            return None
        try:
            return _CONTENT.decode(value)
        except UNREADABLE as error:
            raise WireFault(self.at(name), f"Input should be a string or an array. ({describe(error)})") from error

    def object(self, name: str) -> "Fields | None":
        """An object; `None` when absent or null."""
        value = self.raw(name)
        return None if value is None else Fields(value, self.at(name))

    def put_back(self, name: str, rest: "Fields") -> None:
        """Keeps what `rest`, the object of a field, has left over under that field's name."""
        if rest.left:
            self.left[name] = msgspec.Raw(msgspec.json.encode(rest.left))

    def keep(self, name: str, raw: msgspec.Raw) -> None:
        """Counts a field that was taken as not understood after all."""
        self.left[name] = raw

    def rest(self) -> Extra | None:
        """What only Anthropic understands."""
        return Extra(NAME, self.left) if self.left else None


NULL: Final = msgspec.Raw(b"null")


def describe(error: Exception) -> str:
    """What went wrong with a piece of JSON, without any of its content."""
    match error:
        case UnicodeDecodeError():
            return "it is not UTF-8"
        case RecursionError():
            return "it is nested too deeply"
        case _:
            # msgspec names types and byte positions; of the values it quotes enum members only, which we never ask for.
            return str(error)[:200]


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
    fields: dict[str, object] = {
        "input_tokens": usage.fresh_input_tokens or 0,
        "cache_creation_input_tokens": usage.cache_write_tokens or 0,
        "cache_read_input_tokens": usage.cache_read_tokens or 0,
    }
    if usage.cache_write_1h_tokens is not None:
        hour = usage.cache_write_1h_tokens
        fields["cache_creation"] = {
            "ephemeral_5m_input_tokens": max(0, (usage.cache_write_tokens or 0) - hour),
            "ephemeral_1h_input_tokens": hour,
        }
    fields["output_tokens"] = usage.output_tokens or 0
    if usage.reasoning_tokens is not None:
        fields["output_tokens_details"] = {"thinking_tokens": usage.reasoning_tokens}
    return fields


# ------------------------------------------------------------------------------------------------------ stream events


def sse(event: str, fields: object) -> bytes:
    """One event with its name, which the official SDK and others insist on."""
    data = msgspec.json.encode(fields)
    if b"\n" in data:  # a provider's own raw JSON, printed over several lines; an event's data is one
        data = msgspec.json.format(data, indent=-1)
    return b"event: %b\ndata: %b\n\n" % (event.encode(), data)


PING: Final = b'event: ping\ndata: {"type": "ping"}\n\n'
MESSAGE_STOP: Final = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
