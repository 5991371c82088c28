"""Reading a client's items: what is ours of them, and what only this dialect knows."""

from collections.abc import Iterable
from typing import Final

from tollhouse.chat.model import (
    Audio,
    CacheMarker,
    Citation,
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
    StoredFile,
    Text,
    Thinking,
)
from tollhouse.chat.opaque import unseal
from tollhouse.dialects.openai_chat import reading
from tollhouse.dialects.openai_chat.pieces import encoded
from tollhouse.dialects.openai_chat.reading import (
    decoded_text,
    fault,
    inline_at,
    name_at,
    object_at,
    optional_text,
    source_at,
    text_at,
)
from tollhouse.dialects.openai_chat.wire import Json
from tollhouse.dialects.openai_responses.wire import HOME, NAME


def kept(fields: dict[str, Json], names: Iterable[str]) -> Extra | None:
    """Those of the named fields that are there and not null, as they are."""
    raws = {name: encoded(value) for name in names if (value := fields.get(name)) is not None}
    return Extra(NAME, raws) if raws else None


def others(fields: dict[str, Json], known: frozenset[str]) -> Extra | None:
    """The fields that are neither known nor null, as they are."""
    return None if fields.keys() <= known else kept(fields, fields.keys() - known)


# ---------------------------------------------------------------------------------------------------------------- parts

_TEXT: Final = frozenset({"type", "text", "annotations", "logprobs", "prompt_cache_breakpoint"})
_IMAGE: Final = frozenset({"type", "image_url", "file_id", "detail", "prompt_cache_breakpoint"})
_FILE: Final = frozenset({"type", "file_data", "file_id", "file_url", "filename", "prompt_cache_breakpoint"})
_AUDIO: Final = frozenset({"type", "input_audio"})


def content_at(value: Json, path: str) -> list[Part]:
    """A message's content: a string or an array of parts."""
    return reading.content_at(value, path, _part)


def _part(value: Json, path: str) -> Part:
    if isinstance(value, str):
        return Text(value)
    fields = object_at(value, path)
    kind = name_at(fields.get("type"), f"{path}.type")
    match kind:
        # Some clients write `text` as in Chat Completions; OpenAI takes only the first two.
        case "input_text" | "output_text" | "text" | "summary_text" | "reasoning_text":
            return Text(
                text_at(fields.get("text"), f"{path}.text"),
                cache=_marker(fields),
                citations=read_annotations(fields.get("annotations")),
                extra=others(fields, _TEXT),
            )
        case "refusal":
            return Refusal(text_at(fields.get("refusal"), f"{path}.refusal"))
        case "input_image":
            return _image(fields, path)
        case "input_file":
            return _file(fields, path)
        case "input_audio":
            inner = object_at(fields.get("input_audio"), f"{path}.input_audio")
            data = name_at(inner.get("data"), f"{path}.input_audio.data")
            form = name_at(inner.get("format"), f"{path}.input_audio.format")
            return Audio(data, form, others(fields, _AUDIO))
        case _:
            return Foreign(NAME, kind, encoded(value))


def _marker(fields: dict[str, Json]) -> CacheMarker | None:
    """`prompt_cache_breakpoint`; its lifetime stands at the request's top, for all of them."""
    return CacheMarker() if isinstance(fields.get("prompt_cache_breakpoint"), dict) else None


def _image(fields: dict[str, Json], path: str) -> Part:
    detail = optional_text(fields.get("detail"), f"{path}.detail")
    url = fields.get("image_url")
    if isinstance(url, dict):  # as in Chat Completions
        detail = detail or optional_text(url.get("detail"), f"{path}.image_url.detail")
        url = url.get("url")
    rest = others(fields, _IMAGE)
    if url is not None:
        return Image(source_at(name_at(url, f"{path}.image_url"), f"{path}.image_url"), detail, _marker(fields), rest)
    file_id = optional_text(fields.get("file_id"), f"{path}.file_id")
    if not file_id:
        raise fault(path, "must have `image_url` or `file_id`.")
    return Image(StoredFile(file_id, NAME), detail, _marker(fields), rest)


def _file(fields: dict[str, Json], path: str) -> Part:
    title = optional_text(fields.get("filename"), f"{path}.filename")
    marker, rest = _marker(fields), others(fields, _FILE)
    data = optional_text(fields.get("file_data"), f"{path}.file_data")
    if data:
        place = f"{path}.file_data"
        source = inline_at(data, place) if data[:5].lower() == "data:" else Inline("application/pdf", data)
        if source.media_type == "text/plain":
            source = Inline("text/plain", decoded_text(source.data, place))
        return Document(source, title, cache=marker, extra=rest)
    url = optional_text(fields.get("file_url"), f"{path}.file_url")
    if url:
        return Document(Remote(url), title, cache=marker, extra=rest)
    file_id = optional_text(fields.get("file_id"), f"{path}.file_id")
    if file_id:
        return Document(StoredFile(file_id, NAME), title, cache=marker, extra=rest)
    raise fault(path, "must have `file_data`, `file_url` or `file_id`.")


def read_annotations(value: Json) -> tuple[Citation, ...]:
    """`url_citation`s as citations; of others (files) only the original form is kept."""
    entries = value if isinstance(value, list) else ()
    return tuple(read_annotation(entry) for entry in entries if isinstance(entry, dict))


def read_annotation(entry: dict[str, Json]) -> Citation:
    """One annotation."""
    extra = kept(entry, entry)
    if entry.get("type") != "url_citation":
        return Citation(extra=extra)
    return Citation(
        url=_string(entry.get("url")),
        title=_string(entry.get("title")),
        start=_place(entry.get("start_index")),
        end=_place(entry.get("end_index")),
        extra=extra,
    )


def _string(value: Json) -> str | None:
    return value if isinstance(value, str) else None


def _place(value: Json) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


# ------------------------------------------------------------------------------------------------------------ reasoning


class Reasoned:
    """A reasoning item: its words, and what only its provider can read."""

    __slots__ = ("encrypted", "text")

    def __init__(self, fields: dict[str, Json], path: str, home: str = HOME) -> None:
        """`home` is the provider to which an unsealed value belongs."""
        shown = [
            part.text
            for name in ("content", "summary")
            for part in content_at(fields.get(name), f"{path}.{name}")
            if isinstance(part, Text) and part.text
        ]
        self.text = "\n\n".join(shown)
        sealed = optional_text(fields.get("encrypted_content"), f"{path}.encrypted_content")
        self.encrypted: Opaque | None = unseal(sealed, home) if sealed else None

    @property
    def part(self) -> Thinking | RedactedThinking | None:
        """The item as a part; `None` if it says nothing: an id alone means something only to whom made it."""
        if self.text:
            return Thinking(self.text, self.encrypted)
        return None if self.encrypted is None else RedactedThinking(self.encrypted)


def output_at(value: Json, path: str) -> tuple[Text | Image | Document | Foreign, ...]:
    """What a tool answered: a string or parts."""
    if isinstance(value, dict):  # some clients send the object that the tool gave back
        return (Text(encoded_text(value)),)
    parts = content_at(value, path) if value is not None else []
    content = tuple(part for part in parts if isinstance(part, Text | Image | Document | Foreign))
    if len(content) != len(parts):
        raise fault(path, "must be text, images or files: a tool's answer cannot hold this kind of part.")
    return tuple(part for part in content if not (isinstance(part, Text) and not part.text))


def encoded_text(value: Json) -> str:
    """JSON as text."""
    return bytes(encoded(value)).decode()


def items_at(value: Json) -> list[Json]:
    """`input`: a string is one message of the user's."""
    if isinstance(value, str):
        return [{"type": "message", "role": "user", "content": value}]
    if value is None:
        raise fault("input", "is required: the conversation so far.")
    if not isinstance(value, list):
        raise fault("input", "must be a text or an array of items.")
    return value
