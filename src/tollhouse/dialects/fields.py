"""JSON objects read field by field, for the dialects that are read without losing what we do not know.

Each known field is taken with its type; what is left over afterwards is what only the dialect's own company understands, still
as raw bytes.  That is slower than one typed struct for everything, but it keeps unknown fields verbatim, takes explicit nulls
for absent fields, and knows the exact path of a fault.  How a path is spelled and in which words a fault is told is each
dialect's own: it has a `Fields` of its own.
"""

from collections.abc import Mapping
from typing import ClassVar, Final, Self, TypeVar

import msgspec

from tollhouse.chat.model import Extra
from tollhouse.errors import BadRequest

Value = TypeVar("Value")

# The annotations are for mypy, which cannot infer a decoder's type from a union.
TEXT: Final["msgspec.json.Decoder[str | None]"] = msgspec.json.Decoder(str | None)
FLAG: Final["msgspec.json.Decoder[bool | None]"] = msgspec.json.Decoder(bool | None)
COUNT: Final["msgspec.json.Decoder[int | None]"] = msgspec.json.Decoder(int | None)
# Old clients of Google's write whole numbers as floats (`topK: 2.0` in `gemini/gemini-generate-json-misc-60e2cd`), protobuf as
# text.
LAX_COUNT: Final["msgspec.json.Decoder[int | None]"] = msgspec.json.Decoder(int | None, strict=False)
NUMBER: Final["msgspec.json.Decoder[float | None]"] = msgspec.json.Decoder(float | None)
ARRAY: Final["msgspec.json.Decoder[list[msgspec.Raw] | None]"] = msgspec.json.Decoder(list[msgspec.Raw] | None)
TEXTS: Final["msgspec.json.Decoder[list[str] | None]"] = msgspec.json.Decoder(list[str] | None)
OBJECT: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])

_WANTED: Final[Mapping[object, str]] = {
    TEXT: "a string",
    FLAG: "true or false",
    COUNT: "a whole number",
    LAX_COUNT: "a whole number",
    NUMBER: "a number",
    ARRAY: "an array",
    TEXTS: "an array of strings",
}
_KINDS: Final = {
    "{": "an object",
    "[": "an array",
    '"': "a string",
    "t": "true",
    "f": "false",
    "n": "null",
}
"""Kinds of JSON values, by how they begin; numbers begin in many ways."""

# What broken JSON, a wrong type, bytes that are not UTF-8 and hostile nesting raise.
UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

NULL: Final = msgspec.Raw(b"null")


class WireFault(Exception):
    """A value that is not what the dialect says.  The edges turn it into `BadRequest` or `UpstreamMalformed`."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}" if path else problem)
        self.path = path


def bad_request(fault: WireFault) -> BadRequest:
    """The caller's error for a fault in the caller's body."""
    return BadRequest(str(fault), param=fault.path or None)


def describe(error: Exception) -> str:
    """What went wrong with a piece of JSON, without any of its content: for what a provider sent."""
    match error:
        case UnicodeDecodeError():
            return "it is not UTF-8"
        case RecursionError():
            return "it is nested too deeply"
        case _:
            # msgspec names types and byte positions; of the values it quotes enum members only, which we never ask for.
            return str(error)[:200]


def read_object(body: bytes, needs: str) -> dict[str, msgspec.Raw]:
    """The top level of a request, each value raw.  Raises `BadRequest` for what is no JSON object.

    `needs` names the fields without which there is no request.
    """
    if not body.strip():
        raise BadRequest(f"The request has no body: send a JSON object with {needs}.")
    try:
        # Raw values are not checked for UTF-8 by the JSON reader, and no provider should meet them first.
        if not body.isascii():
            str(body, "utf-8")
        return OBJECT.decode(body)
    except UnicodeDecodeError as error:
        raise BadRequest(f"The request is not UTF-8 (byte {error.start}): encode the JSON body as UTF-8.") from error
    except msgspec.ValidationError as error:
        raise BadRequest(f"The request is JSON but not an object: send an object with {needs}.") from error
    except msgspec.DecodeError as error:
        raise BadRequest(f"The request is not valid JSON: {_reason(error)}.") from error
    except RecursionError as error:
        raise BadRequest("The request is nested too deeply to be read: flatten it.") from error


def _reason(error: msgspec.DecodeError) -> str:
    if "truncated" in str(error):
        # msgspec's word for half an escaped surrogate pair too.
        return "it breaks off in the middle of a value, or holds half of an escaped surrogate pair"
    return str(error).removeprefix("JSON is malformed: ")


class Fields:
    """One JSON object; each field is taken once, and `rest` gives what nobody took.  `left` is what is still there."""

    __slots__ = ("left", "path")

    DIALECT: ClassVar[str]
    """Whose leftovers they are."""
    MUST_BE: ClassVar[str]
    """How a fault begins, before what is wanted."""
    REQUIRED: ClassVar[str]
    """How it begins where there is nothing."""

    def __init__(self, raw: msgspec.Raw | bytes, path: str) -> None:
        self.path = path
        try:
            self.left = OBJECT.decode(raw)
        except UNREADABLE as error:
            raise self.fault(path, "an object", raw, error) from error

    @classmethod
    def fault(cls, path: str, wanted: str, raw: msgspec.Raw | bytes, error: Exception) -> WireFault:
        """What is wrong with `raw`, which stands at `path` and is not `wanted`."""
        match error:
            case UnicodeDecodeError():
                return WireFault(path, "This is not UTF-8.")
            case RecursionError():
                return WireFault(path, "This is nested too deeply.")
        kind = _KINDS.get(bytes(raw).lstrip()[:1].decode("latin-1"), "a number")
        # An array whose items are wrong is still an array, and what has a fraction or too many digits still a number.
        is_said = wanted.startswith(kind) or (kind == "a number" and wanted.endswith("number"))
        return WireFault(path, f"{cls.MUST_BE} {wanted}{'' if is_said else f', not {kind}'}.")

    @classmethod
    def read(cls, path: str, raw: msgspec.Raw, decoder: "msgspec.json.Decoder[Value | None]") -> Value | None:
        """A value of `decoder`'s type, which stands at `path`; `None` for null."""
        try:
            return decoder.decode(raw)
        except UNREADABLE as error:
            raise cls.fault(path, _WANTED[decoder], raw, error) from error

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
            raise self.fault(self.at(name), _WANTED[decoder], value, error) from error

    def text(self, name: str) -> str:
        """A string that must be there."""
        value = self.take(name, TEXT)
        if value is None:
            raise WireFault(self.at(name), f"{self.REQUIRED} a string.")
        return value

    def object(self, name: str) -> Self | None:
        """An object; `None` when absent or null."""
        value = self.raw(name)
        return None if value is None else type(self)(value, self.at(name))

    def put_back(self, name: str, rest: "Fields") -> None:
        """Keeps what `rest`, the object of a field, has left over under that field's name."""
        if left := rest.said():
            self.left[name] = msgspec.Raw(msgspec.json.encode(left))

    def keep(self, name: str, raw: msgspec.Raw) -> None:
        """Counts a field that was taken as not understood after all."""
        self.left[name] = raw

    def said(self) -> dict[str, msgspec.Raw]:
        """What is left over and says something."""
        return self.left

    def rest(self) -> Extra | None:
        """What only this dialect understands."""
        left = self.said()
        return Extra(self.DIALECT, left) if left else None
