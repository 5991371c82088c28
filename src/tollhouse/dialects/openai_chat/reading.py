"""Reading plain JSON with a place in hand, so that every fault can be named in the caller's own spelling."""

import base64
import binascii
import re
from collections.abc import Callable
from typing import Final

import msgspec

from tollhouse.chat.model import CacheMarker, Extra, Inline, Part, Remote, Source, Text
from tollhouse.dialects.openai_chat.pieces import encoded
from tollhouse.dialects.openai_chat.wire import NAME, Json
from tollhouse.errors import BadRequest

_DATA_URL: Final = re.compile(r"data:([\w.+-]+/[\w.+-]+)?((?:;[\w.+-]+=[^;,]*)*)(;base64)?,", re.IGNORECASE)
_URL: Final = re.compile(r"[a-z][a-z0-9+.-]*://\S", re.IGNORECASE)


def fault(path: str, what: str) -> BadRequest:
    """The error for the field at `path`; `what` goes on from its name."""
    return BadRequest(f"`{path}` {what}", param=path)


def plain(raw: msgspec.Raw, path: str) -> Json:
    """Raw JSON as plain values."""
    try:
        value: Json = msgspec.json.decode(raw)
    except msgspec.DecodeError as error:
        raise fault(path, "holds a number that is out of range.") from error
    except RecursionError as error:
        raise fault(path, "is nested too deeply.") from error
    return value


def object_at(value: Json, path: str) -> dict[str, Json]:
    """An object."""
    if isinstance(value, dict):
        return value
    raise fault(path, "must be an object.")


def list_at(value: Json, path: str) -> list[Json]:
    """An array."""
    if isinstance(value, list):
        return value
    raise fault(path, "must be an array.")


def content_at(value: Json, path: str, part_at: Callable[[Json, str], Part]) -> list[Part]:
    """A message's content: a string, or an array of parts, each read by `part_at`."""
    match value:
        case None:
            return []
        case str():
            return [Text(value)]
        case list():
            return [part_at(part, f"{path}[{index}]") for index, part in enumerate(value)]
        case _:
            raise fault(path, "must be a string or an array of parts.")


def text_at(value: Json, path: str) -> str:
    """A string, which may be empty."""
    if isinstance(value, str):
        return value
    raise fault(path, "must be a string.")


def name_at(value: Json, path: str) -> str:
    """A string that is not empty."""
    if isinstance(value, str) and value:
        return value
    raise fault(path, "is required and must be a string.")


def optional_text(value: Json, path: str) -> str | None:
    """A string or nothing."""
    return None if value is None else text_at(value, path)


def optional_flag(value: Json, path: str) -> bool | None:
    """A boolean or nothing."""
    if value is None or isinstance(value, bool):
        return value
    raise fault(path, "must be true or false.")


def optional_number(value: Json, path: str) -> float | None:
    """A number or nothing."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise fault(path, "must be a number.")
    try:
        return float(value)
    except OverflowError as error:
        raise fault(path, "is out of range.") from error


def optional_count(value: Json, path: str) -> int | None:
    """A whole number from 0 on, or nothing."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise fault(path, "must be a whole number, 0 or more.")
    return value


def optional_int(value: Json, path: str) -> int | None:
    """A whole number or nothing."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise fault(path, "must be a whole number.")
    return value


def rest_of(fields: dict[str, Json], known: frozenset[str]) -> Extra | None:
    """The fields that are neither known nor null, kept as they are."""
    if fields.keys() <= known:
        return None
    raws = {name: encoded(value) for name, value in fields.items() if name not in known and value is not None}
    return Extra(NAME, raws) if raws else None


def cache_marker(value: Json) -> CacheMarker | None:
    """Anthropic's marker, which OpenRouter and others take in OpenAI's parts too."""
    match value:
        case {"type": "ephemeral"}:
            ttl = value.get("ttl") if isinstance(value, dict) else None
            return CacheMarker(ttl if isinstance(ttl, str) else None)
        case _:
            return None


def breakpoint_at(fields: dict[str, Json]) -> CacheMarker | None:
    """OpenAI's own marker in a part, `prompt_cache_breakpoint`; its lifetime stands at the request's top, for all of them."""
    return CacheMarker() if isinstance(fields.get("prompt_cache_breakpoint"), dict) else None


def source_at(url: str, path: str) -> Source:
    """Where media come from: a `data:` URL holds them, any other is for the provider to fetch."""
    if url[:5].lower() == "data:":
        return inline_at(url, path)
    if not _URL.match(url):
        raise fault(path, "must be an http(s) URL or a data: URL with base64 (`data:image/png;base64,…`).")
    return Remote(url)


def inline_at(url: str, path: str) -> Inline:
    """The content of a `data:` URL."""
    match = _DATA_URL.match(url)
    if match is None or match[3] is None or match.end() == len(url):
        raise fault(path, "must be a data: URL with a media type and base64 (`data:image/png;base64,…`).")
    return Inline((match[1] or "application/octet-stream").lower(), url[match.end() :])


def decoded_text(data: str, path: str) -> str:
    """A text file's words, out of base64."""
    try:
        return base64.b64decode(data, validate=True).decode()
    except (binascii.Error, ValueError) as error:
        raise fault(path, "says that it is text, but is not UTF-8 in base64.") from error
