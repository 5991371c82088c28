"""What a request of unknown meaning says of itself: which model it wants, and how much it may have written.

Access, prices and budgets go by what is read here, and the provider goes by what it reads itself.  Two readers can take one
text in two ways: a field that stands twice, or in two spellings, a model in the path and another one in the body.  So what can
be read in two ways is refused, or only what was read is sent.  What cannot be read at all names no model, and is treated so.
"""

import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import parse_qsl, unquote

import msgspec

from tollhouse.dialects.governed import check_governed
from tollhouse.errors import BadRequest

MAX_PARTS: Final = 256
"""Parts of a form that are looked at; one with more is refused."""
MAX_UNQUOTINGS: Final = 4
"""How often a path may have been percent-encoded on top of itself."""
_PATH_MODEL: Final = re.compile(r"/models/([^/:]+)")
_OBJECT: Final = re.compile(rb"\s*\{")
_BOUNDARY: Final = re.compile(r'boundary="?([^\s";,]{1,70})"?')
_PART_NAME: Final = re.compile(rb'(?i)[;\s]name(?:\s*=\s*"([^"\\\r\n]*)")?')
"""The name of a part, or an empty match for one that is not written plainly."""
_FILE_NAME: Final = re.compile(rb"(?i)[;\s]filename\*?\s*=")
_CAPS: Final = ("max_tokens", "max_completion_tokens")
"""What completions of all providers go by."""
_COMPLETIONS: Final = re.compile(r"completions/?$")
_DASHSCOPE: Final = re.compile(r"services/aigc/(text|multimodal)-generation/generation/?$")
_LEAST_ESCAPE: Final = b"\\u00"
"""How a letter of ASCII begins that is spelled by its number."""

_objects: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_text: Final = msgspec.json.Decoder(str | None)
_number: Final = msgspec.json.Decoder(int)
_list: Final = msgspec.json.Decoder(list[msgspec.Raw])


class FormField(msgspec.Struct, frozen=True):
    """A field of a form."""

    name: str
    """In lower case."""
    value: bytes
    is_file: bool = False


class Declaration(msgspec.Struct, frozen=True):
    """A request as it was read."""

    model: str
    """As the provider calls it; empty where none is named."""
    body: bytes
    """What is sent."""
    max_output_tokens: int | None = None
    """For one answer, where the path is one that heeds it."""
    answers: int = 1
    """How many are asked for at once."""
    fields: tuple[FormField, ...] = ()
    """Where the body is a form."""


def declare(provider: str, path: str, query: bytes, content_type: str, body: bytes) -> Declaration:
    """Reads a request for `provider`; `path` is percent-encoded.  Raises `BadRequest` for what could be read in two ways."""
    fields = _json(body, content_type)
    form = tuple(_form(body, content_type))
    in_path = _PATH_MODEL.findall(plain(path))
    in_body = [each.value.decode("utf-8", "replace") for each in form if each.name == "model"]
    in_body += [value for name, value in _parameters(query.decode("latin-1")) if name == "model"]
    if fields is not None and (named := _model(fields)):
        in_body.append(named)
    names = {name.removeprefix(f"{provider}/") for name in (*in_path, *in_body)}
    if in_path:
        # Google's bodies call a model `models/NAME`, and its paths call it the same.
        names -= {f"models/{name}" for name in in_path}
    if len(names) > 1:
        raise BadRequest("The request names several models, and it cannot be known which one is meant.", param="model")
    model = names.pop() if names else ""
    if fields is None:
        return Declaration(model, body, fields=form)
    if "model" in fields and _model(fields) == f"{provider}/{model}":
        body = msgspec.json.encode({**fields, "model": model})
    elif body.count(b'"model"') > 1 or _LEAST_ESCAPE in body:
        body = msgspec.json.encode(fields)
    # DashScope has such fields in `parameters`, and so do Google's predictions.
    inner, place = _fields_in(fields.get("parameters")), plain(path)
    heeded = fields if _COMPLETIONS.search(place) else inner if _DASHSCOPE.search(place) else {}
    caps = [cap for name in _CAPS if (cap := _whole(heeded, name))]
    return Declaration(model, body, max(caps, default=None), max(_answers(fields), _answers(inner)), form)


def plain(path: str) -> str:
    """A path without percent-encoding, however often it was put on.  Raises `BadRequest` where there is no end of it."""
    for _ in range(MAX_UNQUOTINGS):
        before, path = path, unquote(path, "latin-1")
        if path == before:
            return path
    raise BadRequest("The path is percent-encoded on top of itself: write it plainly.")


def _json(body: bytes, content_type: str) -> dict[str, msgspec.Raw] | None:
    """The fields of a JSON object, whatever the request says that it is; `None` where it is none."""
    kind = _media_type(content_type)
    if _OBJECT.match(body) is None:
        return None
    try:
        fields = _objects.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        if kind == "application/json" or kind.endswith("+json"):
            raise BadRequest("The body is not the JSON that the request says it is.") from error
        return None
    check_governed(fields)
    return fields


def _media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _model(fields: dict[str, msgspec.Raw]) -> str:
    raw = fields.get("model")
    if raw is None:
        return ""
    try:
        return _text.decode(raw) or ""
    except msgspec.DecodeError as error:
        raise BadRequest("`model` must be a string.", param="model") from error


def _form(body: bytes, content_type: str) -> Iterable[FormField]:
    """The fields of a form."""
    kind = _media_type(content_type)
    if kind == "application/x-www-form-urlencoded":
        return [FormField(name, value.encode()) for name, value in _parameters(body.decode("latin-1"))]
    return _parts(body, content_type) if kind.startswith("multipart/") else ()


def _parts(body: bytes, content_type: str) -> Iterable[FormField]:
    """The fields of a `multipart/form-data` (RFC 7578).  Strict: each part has one name, which is written plainly."""
    boundaries = _BOUNDARY.findall(content_type)
    edge = b"--" + boundaries[0].encode("latin-1") if len(boundaries) == 1 else b""
    first, *parts = (b"\r\n" + body).split(b"\r\n" + edge, MAX_PARTS + 1) if edge else [b"?"]
    if first or not parts or len(parts) > MAX_PARTS:
        raise BadRequest(
            f"The form cannot be read: it has one boundary, begins with it, and has up to {MAX_PARTS} parts."
        )
    found = []
    for part in parts:
        if part.startswith(b"--"):
            break  # the end
        head, _, value = part.partition(b"\r\n\r\n")
        names = _PART_NAME.findall(head)
        if len(names) != 1 or not names[0] or b"\n" in head.replace(b"\r\n", b""):
            raise BadRequest('The form cannot be read: each of its parts has one name, written `name="…"`.')
        name = names[0].decode("latin-1").lower()
        found.append(FormField(name, value, _FILE_NAME.search(head) is not None))
    return found


def _parameters(text: str) -> Iterable[tuple[str, str]]:
    try:
        return [(name.lower(), value) for name, value in parse_qsl(text, max_num_fields=MAX_PARTS)]
    except ValueError as error:
        raise BadRequest(f"There are more than {MAX_PARTS} parameters.") from error


def _whole(fields: dict[str, msgspec.Raw], name: str) -> int | None:
    """A positive whole number; `None` for anything else, which no provider would heed."""
    raw = fields.get(name)
    try:
        number = 0 if raw is None else _number.decode(raw)
    except msgspec.DecodeError:
        return None
    return number if number > 0 else None


def _fields_in(raw: msgspec.Raw | None) -> dict[str, msgspec.Raw]:
    """Those of an object; none of anything else."""
    try:
        return {} if raw is None else _objects.decode(raw)
    except msgspec.DecodeError:
        return {}


def _answers(fields: dict[str, msgspec.Raw]) -> int:
    """Each of several prompts is answered so many times (OpenAI's completions); of `best_of` not all are shown."""
    times = max(_whole(fields, name) or 1 for name in ("n", "best_of", "sampleCount"))
    try:
        prompts = _list.decode(fields.get("prompt") or b"[]")
    except msgspec.DecodeError:
        return times
    # A list of numbers is one prompt, as tokens.
    return times * max(1, sum(bytes(prompt)[:1] in b'"[' for prompt in prompts))
