"""Parts, which requests and answers share: `{"text"}`, `{"inlineData"}`, `{"functionCall"}`, …, each with its metadata.

What is read here is kept whole: metadata that only Gemini knows goes into a part's `extra`, and parts that only Gemini knows
(code execution, server-side tools, video) stay as they are.
"""

import binascii
import mimetypes
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from tollhouse.chat.model import (
    Audio,
    Document,
    Extra,
    Foreign,
    Image,
    Inline,
    Opaque,
    Part,
    RedactedThinking,
    Refusal,
    Remote,
    Source,
    StoredFile,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
)
from tollhouse.chat.opaque import thought
from tollhouse.dialects.fields import FLAG, NULL, OBJECT, TEXT, UNREADABLE
from tollhouse.dialects.gemini.signatures import read_signature
from tollhouse.dialects.gemini.wire import HOME, NAME, Block, Fields, encoded

EMPTY_OBJECT: Final = msgspec.Raw(b"{}")

_DATA: Final = (
    "functionCall",
    "functionResponse",
    "inlineData",
    "fileData",
    "text",
    "executableCode",
    "codeExecutionResult",
    "toolCall",
    "toolResponse",
)
"""The fields of which a part has one (ai.google.dev/api/caching#Part)."""

_EMPTY: Final = "empty"
_FILES_API: Final = "generativelanguage.googleapis.com/"

_AUDIO_FORMATS: Final[Mapping[str, str]] = {
    "mpeg": "mp3",
    "mp3": "mp3",
    "x-wav": "wav",
    "wav": "wav",
    "wave": "wav",
    "x-aiff": "aiff",
    "x-flac": "flac",
    "mp4": "m4a",
}

# ------------------------------------------------------------------------------------------------------------- reading


def read_part(raw: msgspec.Raw, path: str, home: str = HOME) -> Part:
    """A part.  Raises `WireFault`; a kind that we do not know is no fault.

    `home` is the type of the provider that made its signature.  A function call without an id has the empty one, and so has
    a function's response: see `tollhouse.dialects.gemini.contents`.
    """
    part = Fields(raw, path)
    kind = next((name for name in _DATA if part.left.get(name, NULL) != NULL), None)
    if kind is None:
        kind = next(iter(part.left), _EMPTY)
        return Foreign(NAME, kind, raw)
    is_thought = part.take("thought", FLAG) is True
    read = _READERS.get(kind)
    if read is None or (is_thought and kind != "text"):
        return Foreign(NAME, kind, raw)
    signature = read_signature(part.take("thoughtSignature", TEXT), home)
    if is_thought:
        text = part.text("text")
        found: Part = thought(text, signature)
        extra = part.rest()
        if extra is not None and isinstance(found, Thinking):
            return Thinking(text, signature, extra)
        return found
    return read(part, signature) or Foreign(NAME, kind, raw)


def _read_text(part: Fields, signature: Opaque | None) -> Part:
    return Text(part.text("text"), signature=signature, extra=part.rest())


def _read_call(part: Fields, signature: Opaque | None) -> Part:
    call = Fields(part.raw("functionCall") or EMPTY_OBJECT, part.at("functionCall"))
    arguments = call.raw("args")
    identity, name = call.take("id", TEXT) or "", call.text("name")
    part.put_back("functionCall", call)
    text = "{}" if arguments is None else bytes(arguments).decode()
    return ToolCall(identity, name, text, signature=signature, extra=part.rest())


def _read_response(part: Fields, _: Opaque | None) -> Part:
    """A function's response.  Its id may be missing and its name stands in the call as well, so the name goes to `extra`."""
    answer = Fields(part.raw("functionResponse") or EMPTY_OBJECT, part.at("functionResponse"))
    identity, name = answer.take("id", TEXT) or "", answer.take("name", TEXT) or ""
    text, is_error = _response_text(answer.raw("response"))
    content: list[Text | Image | Document | Foreign] = [] if text is None else [Text(text)]
    for path, raw in answer.items("parts"):
        inner = read_part(raw, path)
        content.append(inner if isinstance(inner, Text | Image | Document | Foreign) else Foreign(NAME, "part", raw))
    part.put_back("functionResponse", answer)
    rest = part.rest()
    fields = {**(rest.fields if rest is not None else {}), RESPONSE_NAME: encoded(name)}
    return ToolResult(identity, tuple(content), is_error=is_error, extra=Extra(NAME, fields))


RESPONSE_NAME: Final = "functionResponse.name"
"""Where a result just read carries its function's name, until it is matched with its call."""

_PLAIN_KEYS: Final = frozenset({"output", "result", "error"})
"""The keys under which the documentation has functions answer (ai.google.dev/api/caching#FunctionResponse)."""


def _response_text(raw: msgspec.Raw | None) -> tuple[str | None, bool]:
    """What a function said, and whether that is an error: the text itself where it is just that, else its JSON."""
    if raw is None:
        return None, False
    try:
        fields = OBJECT.decode(raw)
        only = next(iter(fields.items())) if len(fields) == 1 else None
        if only is None or only[0] not in _PLAIN_KEYS:
            return bytes(raw).decode(), False
        key, value = only
        said = msgspec.json.decode(value)
    except UNREADABLE:
        return bytes(raw).decode("utf-8", "replace"), False
    if key != "error" and not isinstance(said, str):
        return bytes(raw).decode(), False
    return said if isinstance(said, str) else bytes(value).decode(), key == "error"


def _read_inline(part: Fields, signature: Opaque | None) -> Part | None:
    blob = Fields(part.raw("inlineData") or EMPTY_OBJECT, part.at("inlineData"))
    media_type, data = (blob.take("mimeType", TEXT) or "").lower(), blob.take("data", TEXT) or ""
    title = blob.take("displayName", TEXT)
    part.put_back("inlineData", blob)
    if signature is not None:
        return None  # a picture of the model's own; it goes back as it came
    kind, _, subtype = media_type.partition("/")
    match kind:
        case "image":
            return Image(Inline(media_type, data), extra=part.rest())
        case "audio":
            return Audio(data, _AUDIO_FORMATS.get(subtype.partition(";")[0], subtype), extra=part.rest())
        case "text":
            text = _plain(data)
            return None if text is None else Document(Inline("text/plain", text), title=title, extra=part.rest())
        case "application":
            return Document(Inline(media_type, data), title=title, extra=part.rest())
        case _:
            return None


def _plain(data: str) -> str | None:
    try:
        return b64decode(data.replace("-", "+").replace("_", "/")).decode()
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return None


def _read_file(part: Fields, signature: Opaque | None) -> Part | None:
    file = Fields(part.raw("fileData") or EMPTY_OBJECT, part.at("fileData"))
    url, media_type = file.text("fileUri"), (file.take("mimeType", TEXT) or "").lower()
    title = file.take("displayName", TEXT)
    if signature is not None:
        return None
    if media_type:
        file.keep("mimeType", encoded(media_type))
    part.put_back("fileData", file)
    is_remote = url.startswith(("https://", "http://")) and _FILES_API not in url
    source: Source = Remote(url) if is_remote else StoredFile(url, NAME)
    match media_type.partition("/")[0]:
        case "image":
            return Image(source, extra=part.rest())
        case "application" | "text":
            return Document(source, title=title, extra=part.rest())
        case _:
            return None


_READERS: Final[Mapping[str, Callable[[Fields, Opaque | None], Part | None]]] = {
    "text": _read_text,
    "functionCall": _read_call,
    "functionResponse": _read_response,
    "inlineData": _read_inline,
    "fileData": _read_file,
}
"""A reader gives `None` for a part of its kind that no other dialect has; such a part is kept whole."""


def read_parts(owner: Fields, home: str = HOME) -> tuple[Part, ...]:
    """The parts of a content."""
    return tuple(read_part(raw, path, home) for path, raw in owner.items("parts"))


def is_empty(part: Part) -> bool:
    """Whether a part of an answer is `{}`, which says nothing and which clients do not expect."""
    return isinstance(part, Foreign) and part.kind == _EMPTY


def part_name(part: Part) -> str:
    """What to call a part in a receipt."""
    match part:
        case Foreign(dialect=dialect, kind=kind):
            return kind[:40] if dialect == NAME else f"{kind[:40]} of another dialect"
        case RedactedThinking():
            return "encrypted reasoning"
        case ToolResult():
            return "a tool's result"
        case Refusal():
            return "a refusal"
        case _:
            return type(part).__name__.lower()


# ------------------------------------------------------------------------------------------------------------- writing


def inline_data(media_type: str, data: str) -> Block:
    """A blob in base64."""
    return {"inlineData": {"mimeType": media_type, "data": data}}


def plain_text_data(text: str) -> Block:
    """A text document as a blob."""
    return inline_data("text/plain", b64encode(text.encode()).decode())


def audio_data(part: Audio) -> Block:
    """A sound recording."""
    kind = {"mp3": "mp3", "m4a": "mp4"}.get(part.format, part.format)
    return inline_data(f"audio/{kind}", part.data)


def file_data(url: str, fallback: str) -> Block:
    """A file by its address, with the type that its name suggests; Google wants one."""
    guessed, _ = mimetypes.guess_type(url.partition("?")[0])
    return {"fileData": {"mimeType": guessed or fallback, "fileUri": url}}


def arguments_object(arguments: str) -> msgspec.Raw | None:
    """A call's arguments as `args`, which must be an object; `None` if they are not one (cut off by a length limit)."""
    if not arguments.strip():
        return EMPTY_OBJECT
    try:
        OBJECT.decode(arguments)
    except UNREADABLE:
        return None
    return msgspec.Raw(arguments.encode())


def call_arguments(call: ToolCall) -> tuple[object, bool]:
    """A call's `args`, and whether they are the call's own: what is no JSON object is given as `{"_raw": text}`."""
    if call.custom:
        return {"input": call.arguments}, True
    arguments = arguments_object(call.arguments)
    return ({"_raw": call.arguments}, False) if arguments is None else (arguments, True)
