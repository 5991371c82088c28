"""The dialect's JSON as it stands on the wire, and how it is read without losing what we do not know.

Google's servers read JSON as protobuf does: a field is spelled `inlineData` or `inline_data`, null means absent, an enum is
its name in any case or its number, and a list of one may be written without its brackets.  Clients use all of these
(`gemini/gemini-generate-json-document-input-6c83d0`, `…-misc-60e2cd`, `…-text-85cb48`, `…-text-1db8b5`), so requests are
read the same way here.  What nobody took of an object is what only Gemini understands, still as raw bytes.
"""

import re
from collections.abc import Mapping
from typing import Final, TypeVar

import msgspec

from tollhouse.chat.model import Extra
from tollhouse.dialects.dialect import MAX_LARGE_EVENT_BYTES

NAME: Final = "gemini"
HOME: Final = "google"
"""The provider type whose opaque values stand bare in this dialect."""

MAX_CHUNK_BYTES: Final = MAX_LARGE_EVENT_BYTES
"""Bound on one streamed chunk: a picture comes in one."""

Value = TypeVar("Value")
Block = dict[str, object]

TEXT: Final["msgspec.json.Decoder[str | None]"] = msgspec.json.Decoder(str | None)
FLAG: Final["msgspec.json.Decoder[bool | None]"] = msgspec.json.Decoder(bool | None)
NUMBER: Final["msgspec.json.Decoder[float | None]"] = msgspec.json.Decoder(float | None)
ENUM: Final["msgspec.json.Decoder[str | int]"] = msgspec.json.Decoder(str | int)
# Old clients write whole numbers as floats (`topK: 2.0` in `gemini/gemini-generate-json-misc-60e2cd`), protobuf as text.
COUNT: Final["msgspec.json.Decoder[int | None]"] = msgspec.json.Decoder(int | None, strict=False)
TEXTS: Final["msgspec.json.Decoder[list[str] | None]"] = msgspec.json.Decoder(list[str] | None)
ARRAY: Final["msgspec.json.Decoder[list[msgspec.Raw] | None]"] = msgspec.json.Decoder(list[msgspec.Raw] | None)
OBJECT: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])

_WANTED: Final[Mapping[object, str]] = {
    TEXT: "a string",
    FLAG: "true or false",
    NUMBER: "a number",
    COUNT: "a whole number",
    TEXTS: "an array of strings",
    ARRAY: "an array",
}

# What broken JSON, a wrong type, bytes that are not UTF-8 and hostile nesting raise.
UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

NULL: Final = msgspec.Raw(b"null")

_UNDERSCORE: Final = re.compile(r"(?<=[a-z0-9])_([a-z0-9])")


class WireFault(Exception):
    """A value that is not what the dialect says.  The edges turn it into `BadRequest` or `UpstreamMalformed`."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}" if path else problem)
        self.path = path


def camel(name: str) -> str:
    """A field's name in its usual spelling."""
    return _UNDERSCORE.sub(lambda found: found[1].upper(), name) if "_" in name else name


class Fields:
    """One JSON object; each field is taken once.  `left` is what nobody took, its names in their usual spelling."""

    __slots__ = ("left", "path")

    def __init__(self, raw: msgspec.Raw | bytes, path: str) -> None:
        self.path = path
        try:
            self.left = {camel(name): value for name, value in OBJECT.decode(raw).items()}
        except UNREADABLE as error:
            raise WireFault(path, f"This must be an object ({describe(error)}).") from error

    def at(self, name: str) -> str:
        """The path of a field."""
        return f"{self.path}.{name}" if self.path else name

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
            wanted = _WANTED.get(decoder, "of another type")
            raise WireFault(self.at(name), f"This must be {wanted} ({describe(error)}).") from error

    def text(self, name: str) -> str:
        """A string that must be there."""
        value = self.take(name, TEXT)
        if value is None:
            raise WireFault(self.at(name), "This must be given: a string.")
        return value

    def enum(self, name: str, numbers: Mapping[int, str]) -> str | None:
        """An enum's value by its name in capitals; numbers are looked up, and stay what they are where nobody knows them."""
        value = self.enum_value(name)
        if value is None:
            return None
        return numbers.get(value, str(value)) if isinstance(value, int) else value.upper()

    def enum_value(self, name: str) -> str | int | None:
        """An enum's value as it stands."""
        raw = self.raw(name)
        if raw is None:
            return None
        try:
            return ENUM.decode(raw)
        except UNREADABLE as error:
            raise WireFault(self.at(name), f"This must be the name of an enum's value ({describe(error)}).") from error

    def items(self, name: str) -> list[tuple[str, msgspec.Raw]]:
        """The items of an array with their paths; a single object stands for an array of one."""
        value = self.raw(name)
        if value is None:
            return []
        if bytes(value).startswith(b"{"):
            return [(self.at(name), value)]
        try:
            items = ARRAY.decode(value) or []
        except UNREADABLE as error:
            raise WireFault(self.at(name), f"This must be an array ({describe(error)}).") from error
        return [(f"{self.at(name)}[{index}]", item) for index, item in enumerate(items) if item != NULL]

    def object(self, name: str) -> "Fields | None":
        """An object; `None` when absent or null."""
        value = self.raw(name)
        return None if value is None else Fields(value, self.at(name))

    def put_back(self, name: str, rest: "Fields") -> None:
        """Keeps what `rest`, the object of a field, has left over under that field's name."""
        left = {key: raw for key, raw in rest.left.items() if raw != NULL}
        if left:
            self.left[name] = msgspec.Raw(msgspec.json.encode(left))

    def keep(self, name: str, raw: msgspec.Raw) -> None:
        """Counts a field that was taken as not understood after all."""
        self.left[name] = raw

    def rest(self) -> Extra | None:
        """What only Gemini understands; nulls say nothing."""
        left = {name: raw for name, raw in self.left.items() if raw != NULL}
        return Extra(NAME, left) if left else None


def merge_extra(fields: Block, extra: Extra | None) -> None:
    """Gives back what only Gemini understands; leftovers of an object that we did understand go back inside it."""
    if extra is None or extra.dialect != NAME:
        return
    for name, raw in extra.fields.items():
        present = fields.get(name)
        if isinstance(present, dict):
            fields[name] = {**present, **OBJECT.decode(raw)}
        elif name not in fields:
            fields[name] = raw


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


def encoded(value: object) -> msgspec.Raw:
    """A value as raw JSON."""
    return msgspec.Raw(msgspec.json.encode(value))
