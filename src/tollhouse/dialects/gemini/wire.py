"""The dialect's JSON as it stands on the wire, and how it is read without losing what we do not know.

Google's servers read JSON as protobuf does: a field is spelled `inlineData` or `inline_data`, null means absent, an enum is
its name in any case or its number, and a list of one may be written without its brackets.  Clients use all of these
(`gemini/gemini-generate-json-document-input-6c83d0`, `…-misc-60e2cd`, `…-text-85cb48`, `…-text-1db8b5`), so requests are
read the same way here.  What nobody took of an object is what only Gemini understands, still as raw bytes.
"""

import re
from collections.abc import Mapping
from typing import Final

import msgspec

from tollhouse.chat.model import Extra
from tollhouse.dialects import fields
from tollhouse.dialects.dialect import MAX_LARGE_EVENT_BYTES

NAME: Final = "gemini"
HOME: Final = "google"
"""The provider type whose opaque values stand bare in this dialect."""

MAX_CHUNK_BYTES: Final = MAX_LARGE_EVENT_BYTES
"""Bound on one streamed chunk: a picture comes in one."""

Block = dict[str, object]

ENUM: Final["msgspec.json.Decoder[str | int]"] = msgspec.json.Decoder(str | int)

_UNDERSCORE: Final = re.compile(r"(?<=[a-z0-9])_([a-z0-9])")


def camel(name: str) -> str:
    """A field's name in its usual spelling."""
    return _UNDERSCORE.sub(lambda found: found[1].upper(), name) if "_" in name else name


class Fields(fields.Fields):
    """One JSON object of this dialect; the names in `left` are in their usual spelling."""

    __slots__ = ()

    DIALECT = NAME
    MUST_BE = "This must be"
    REQUIRED = "This must be given:"

    def __init__(self, raw: msgspec.Raw | bytes, path: str) -> None:
        super().__init__(raw, path)
        self.left = {camel(name): value for name, value in self.left.items()}

    def said(self) -> dict[str, msgspec.Raw]:
        """What is left over; nulls say nothing."""
        return {name: raw for name, raw in self.left.items() if raw != fields.NULL}

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
        except fields.UNREADABLE as error:
            raise self.fault(self.at(name), "the name of an enum's value", raw, error) from error

    def items(self, name: str) -> list[tuple[str, msgspec.Raw]]:
        """The items of an array with their paths; a single object stands for an array of one."""
        value = self.raw(name)
        if value is None:
            return []
        if bytes(value).startswith(b"{"):
            return [(self.at(name), value)]
        try:
            items = fields.ARRAY.decode(value) or []
        except fields.UNREADABLE as error:
            raise self.fault(self.at(name), "an array", value, error) from error
        return [(f"{self.at(name)}[{index}]", item) for index, item in enumerate(items) if item != fields.NULL]


def merge_extra(body: Block, extra: Extra | None) -> None:
    """Gives back what only Gemini understands; leftovers of an object that we did understand go back inside it."""
    if extra is None or extra.dialect != NAME:
        return
    for name, raw in extra.fields.items():
        present = body.get(name)
        if isinstance(present, dict):
            body[name] = {**present, **fields.OBJECT.decode(raw)}
        elif name not in body:
            body[name] = raw


def encoded(value: object) -> msgspec.Raw:
    """A value as raw JSON."""
    return msgspec.Raw(msgspec.json.encode(value))
