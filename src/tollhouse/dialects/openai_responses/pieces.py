"""What requests, streams and whole answers have in common."""

from collections.abc import Mapping
from typing import Final

import msgspec

from tollhouse.chat.model import Citation, Extra, Opaque
from tollhouse.chat.opaque import carrier, seal
from tollhouse.dialects.openai_chat.pieces import decoded
from tollhouse.dialects.openai_chat.wire import Json
from tollhouse.dialects.openai_responses.wire import HOME, NAME

Fields = dict[str, object]
"""Plain JSON with raw JSON in it."""

_input: Final = msgspec.json.Decoder(dict[str, object])


def custom_input(arguments: str) -> str:
    """The text of a free-form call that a provider made as a call with one string; anything else stays as it is."""
    try:
        value = _input.decode(arguments).get("input")
    except (msgspec.DecodeError, RecursionError):
        return arguments
    return value if isinstance(value, str) else arguments


def carried(signature: Opaque) -> str:
    """The signature of a call or a text, for a reasoning item behind it: this dialect has no other place for it."""
    return seal(carrier(signature).data, HOME)


def own(extra: Extra | None, name: str) -> msgspec.Raw | None:
    """A field that only this dialect knows, if it is there."""
    return extra.fields.get(name) if extra is not None and extra.dialect == NAME else None


def write_annotation(citation: Citation, length: int) -> object | None:
    """A citation as an annotation of a text that is `length` characters long so far.

    `None` for a citation of something that has no address: there is no form for it.
    """
    if citation.extra is not None and citation.extra.dialect == NAME:
        return citation.extra.fields
    if citation.url is None:
        return None
    return {
        "type": "url_citation",
        "url": citation.url,
        "title": citation.title or citation.url,
        "start_index": 0 if citation.start is None else citation.start,
        "end_index": length if citation.end is None else citation.end,
    }


def mapping(raw: msgspec.Raw) -> Mapping[str, Json]:
    """A raw object's fields; none of what is no object."""
    value = decoded(raw)
    return value if isinstance(value, dict) else {}
