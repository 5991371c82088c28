"""Canonical values as plain ones, and back, by tables.

A plain value is what JSON and generated protobuf classes both take: numbers, text, bytes, lists and dictionaries by field
name.  Each message of `gateway.proto` is one `Record` in `messages`: its name, the canonical struct, and a shape for each
field.  From that one table follow the writing and the reading of both wire formats.

A field that has its default is not written, and one that is not written has its default: for a required canonical field that
is the empty value of its kind, as proto3 has it.  Names that a table does not know are passed over; null means absent.

Shapes raise `Fault`, which learns on its way out where it happened.
"""

import base64
import binascii
import math
from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import Any, Final, Generic, Protocol, TypeAlias, TypeVar, cast

import msgspec

Plain: TypeAlias = "bool | int | float | str | bytes | list[Plain] | dict[str, Plain] | None"

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

REQUIRED: Final = msgspec.NODEFAULT
"""Stands for a default where there is none."""


class Fault(Exception):
    """A value that does not fit its shape."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what
        self._steps: list[str | int] = []

    def under(self, step: str | int) -> "Fault":
        """The same fault, seen from one level further out."""
        self._steps.append(step)
        return self

    @property
    def path(self) -> str:
        """Where it is: `messages[2].parts[0].text`; empty for the whole value."""
        path = ""
        for step in reversed(self._steps):
            path += f"[{step}]" if isinstance(step, int) else f".{step}" if path else step
        return path

    def __str__(self) -> str:
        return f"`{self.path}` {self.what}" if self._steps else f"It {self.what}"


class Shape(Protocol[T]):
    """How one kind of value is written and read."""

    @property
    def blank(self) -> object:
        """What absence means where the canonical model asks for a value; `REQUIRED` where it must be there."""
        ...

    def write(self, value: T) -> Plain:
        """The plain form.  Raises `Fault` for what the protocol has no room for."""
        ...

    def read(self, plain: Plain) -> T:
        """Raises `Fault`.  Never called with `None`."""
        ...


# --------------------------------------------------------------------------------------------------------------- scalars


class _Words:
    blank: Final = ""

    def write(self, value: str) -> Plain:
        return value

    def read(self, plain: Plain) -> str:
        if type(plain) is not str:
            raise Fault("must be a string.")
        return plain


class _Flag:
    blank: Final = False

    def write(self, value: bool) -> Plain:  # noqa: FBT001  # it is the value
        return value

    def read(self, plain: Plain) -> bool:
        if type(plain) is not bool:
            raise Fault("must be true or false.")
        return plain


class _Whole:
    blank: Final = 0

    def __init__(self, bits: int) -> None:
        self._least = -(1 << (bits - 1))
        self._most = (1 << (bits - 1)) - 1
        self._bits = bits

    def write(self, value: int) -> Plain:
        return self._within(value)

    def read(self, plain: Plain) -> int:
        if type(plain) is int:
            return self._within(plain)
        # JSON's mapping of protobuf writes 64-bit numbers as text, and lets 1.0 be an integer.
        if type(plain) is str and plain.removeprefix("-").isdecimal() and len(plain) <= 20:
            return self._within(int(plain))
        if type(plain) is float and plain.is_integer():
            return self._within(int(plain))
        raise Fault("must be a whole number.")

    def _within(self, value: int) -> int:
        if not self._least <= value <= self._most:
            raise Fault(f"does not fit into {self._bits} bits.")
        return value


class _Real:
    blank: Final = 0.0

    def write(self, value: float) -> Plain:
        return self._finite(float(value))

    def read(self, plain: Plain) -> float:
        if type(plain) is not float and type(plain) is not int:
            raise Fault("must be a number.")
        try:
            return self._finite(float(plain))
        except OverflowError:
            raise Fault("must be a finite number.") from None

    @staticmethod
    def _finite(value: float) -> float:
        if not math.isfinite(value):
            raise Fault("must be a finite number.")
        return value


class _JsonText:
    """JSON that we only carry: text in the protocol, raw JSON in the model.

    It is checked, because it will be put into other JSON as it is.  A JSON client may write the value itself in place of its
    text.
    """

    blank: Final = REQUIRED

    def __init__(self, *, is_object: bool) -> None:
        self._decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(dict[str, Any] if is_object else Any)
        self._kind = "a JSON object" if is_object else "JSON"
        self._is_object = is_object

    def write(self, value: msgspec.Raw) -> Plain:
        return bytes(value).decode()

    def read(self, plain: Plain) -> msgspec.Raw:
        try:
            if type(plain) is str:
                raw = plain.encode()
                self._decoder.decode(raw)
                return msgspec.Raw(raw)
            if type(plain) is dict or not self._is_object:
                return msgspec.Raw(msgspec.json.encode(plain))
        except (ValueError, OverflowError, RecursionError):
            raise Fault(f"must be the text of {self._kind}, and is not.") from None
        raise Fault(f"must be the text of {self._kind}, or the object itself.")


class _JsonFields:
    """Fields by name, each raw JSON."""

    blank: Final[Mapping[str, msgspec.Raw]] = {}

    def write(self, value: Mapping[str, msgspec.Raw]) -> Plain:
        return {name: bytes(raw).decode() for name, raw in value.items()}

    def read(self, plain: Plain) -> dict[str, msgspec.Raw]:
        fields: dict[str, msgspec.Raw] = {}
        for name, item in as_object(plain).items():
            try:
                fields[name] = JSON.read(item)
            except Fault as fault:
                raise fault.under(name) from None
        return fields


class _Octets:
    """Bytes that the model has as a tuple of numbers."""

    blank: Final = REQUIRED

    def write(self, value: tuple[int, ...]) -> Plain:
        try:
            return bytes(value)
        except (ValueError, TypeError):
            raise Fault("must be numbers from 0 to 255.") from None

    def read(self, plain: Plain) -> tuple[int, ...]:
        if type(plain) is bytes:
            return tuple(plain)
        try:
            return tuple(base64.b64decode(WORDS.read(plain), validate=True))
        except ValueError:
            raise Fault("must be base64.") from None


class _Reals:
    """Many numbers at once: a vector, whose items are not looked at one by one."""

    blank: Final[object] = ()

    def write(self, value: Sequence[float]) -> Plain:
        return list(value)

    def read(self, plain: Plain) -> tuple[float, ...]:
        try:
            numbers = msgspec.convert(plain, type=tuple[float, ...])
        except msgspec.ValidationError:
            raise Fault("must be a list of numbers.") from None
        if not all(map(math.isfinite, numbers)):
            raise Fault("must hold finite numbers only.")
        return numbers


WORDS: Final = _Words()
FLAG: Final = _Flag()
INT32: Final = _Whole(32)
INT64: Final = _Whole(64)
REAL: Final = _Real()
REALS: Final = _Reals()
JSON: Final = _JsonText(is_object=False)
JSON_OBJECT: Final = _JsonText(is_object=True)
JSON_FIELDS: Final = _JsonFields()
OCTETS: Final = _Octets()


class Word(Generic[T]):
    """An enum: the model's word in capitals on the wire, or its number.

    A value that we do not know comes from a newer peer: it becomes `unknown`, or is a fault where there is none.
    """

    def __init__(self, *words: T, blank: object = REQUIRED, unknown: T | None = None) -> None:
        """`words` from number 1 on; number 0 is absence."""
        self.blank = blank
        self._names = {word: str(word).upper() for word in words}
        self._by_name = {name: word for word, name in self._names.items()}
        self._words = words
        self._unknown = unknown

    @property
    def names(self) -> tuple[str, ...]:
        """The wire's names from number 1 on."""
        return tuple(self._by_name)

    def write(self, value: T) -> Plain:
        return self._names[value]

    def read(self, plain: Plain) -> T:
        found: T | None = None
        if type(plain) is int:
            found = self._words[plain - 1] if 0 < plain <= len(self._words) else None
        elif type(plain) is str:
            found = self._by_name.get(plain.upper())
        if found is None:
            found = self._unknown
        if found is None:
            raise Fault(f"must be one of {', '.join(self._by_name)}.")
        return found


# ------------------------------------------------------------------------------------------------------------ compounds


class Many(Generic[T]):
    """A repeated field."""

    blank: Final[object] = ()

    def __init__(self, shape: Shape[T]) -> None:
        self.of = shape

    def write(self, value: tuple[T, ...]) -> Plain:
        write = self.of.write
        return [write(item) for item in value]

    def read(self, plain: Plain) -> tuple[T, ...]:
        if type(plain) is not list:
            raise Fault("must be a list.")
        if None in plain:
            raise Fault("must not be null.").under(plain.index(None))
        read = self.of.read
        items: list[T] = []
        try:
            for item in plain:
                items.append(read(item))  # noqa: PERF401  # its length says where a fault is
        except Fault as fault:
            raise fault.under(len(items)) from None
        return tuple(items)


class Record(Generic[T]):
    """A message and the canonical struct that it stands for."""

    blank: Final = REQUIRED

    def __init__(self, message: str, struct: type[T], /, **shapes: Shape[Any]) -> None:
        """`message` is its name in `gateway.proto`; fields have the same names there and in `struct`."""
        self.message = message
        self.shapes: Mapping[str, Shape[Any]] = shapes
        self._struct = struct
        defaults = {
            field.encode_name: cast("Any", field.default) for field in msgspec.structs.fields(cast("Any", struct))
        }
        absent = {
            name: shape.blank if defaults[name] is msgspec.NODEFAULT else defaults[name]
            for name, shape in shapes.items()
        }
        self._required = frozenset(name for name, value in absent.items() if value is REQUIRED)
        self._blanks = {
            name: value
            for name, value in absent.items()
            if defaults[name] is msgspec.NODEFAULT and value is not REQUIRED
        }
        self._written = tuple((name, absent[name], shape.write) for name, shape in shapes.items())
        self._values = _getter(tuple(shapes))
        self._reads = {
            spelling: (name, shape.read) for name, shape in shapes.items() for spelling in (name, camel(name))
        }

    @property
    def struct(self) -> type[T]:
        """The canonical type."""
        return self._struct

    def knows(self, name: str) -> bool:
        """Whether there is a field of that name, in either spelling."""
        return name in self._reads

    def write(self, value: T) -> dict[str, Plain]:
        plain: dict[str, Plain] = {}
        for (name, absent, write), item in zip(self._written, self._values(value), strict=True):
            if item == absent:
                continue
            try:
                plain[name] = write(item)
            except Fault as fault:
                raise fault.under(name) from None
        return plain

    def read(self, plain: Plain) -> T:
        if type(plain) is not dict:
            raise Fault("must be an object.")
        values = self._blanks.copy()
        reads = self._reads
        for name, item in plain.items():
            field = reads.get(name)
            if field is None or item is None:
                continue
            try:
                values[field[0]] = field[1](item)
            except Fault as fault:
                raise fault.under(name) from None
        for name in self._required:
            if name not in values:
                raise Fault("is missing.").under(name)
        return self._struct(**values)


class OneOf(Generic[T]):
    """A message with one field of several: a union of canonical types."""

    blank: Final = REQUIRED

    def __init__(
        self,
        message: str,
        members: Mapping[str, tuple[type, Shape[Any]]],
        unknown: Callable[[str, Plain], T] | None = None,
    ) -> None:
        """`unknown` makes a value of a kind that only a newer peer knows, from its name (or nothing) and content."""
        self.message = message
        self.members = members
        self._unknown = unknown
        self._writes = {struct: (name, shape.write) for name, (struct, shape) in members.items()}
        self._reads = {
            spelling: (name, shape.read) for name, (_, shape) in members.items() for spelling in (name, camel(name))
        }

    def write(self, value: T) -> dict[str, Plain]:
        name, write = self._writes[type(value)]
        try:
            return {name: write(value)}
        except Fault as fault:
            raise fault.under(name) from None

    def read(self, plain: Plain) -> T:
        found: tuple[str, Callable[[Plain], T]] | None = None
        content: Plain = None
        strange: tuple[str, Plain] = ("", {})
        for key, item in as_object(plain).items():
            member = self._reads.get(key)
            if item is None:
                continue
            if member is None:
                strange = (key, item)
                continue
            if found is not None:
                raise Fault(f"must have one of {found[0]} and {member[0]}, not both.")
            found, content = member, item
        if found is None:
            if self._unknown is None:
                raise Fault(f"must have one of {', '.join(self.members)}.")
            return self._unknown(*strange)
        try:
            return found[1](content)
        except Fault as fault:
            raise fault.under(found[0]) from None


class Via(Generic[T]):
    """A value that stands on the wire as another one."""

    def __init__(self, shape: Shape[Any], out: Callable[[T], Any], into: Callable[[Any], T]) -> None:
        self.blank = shape.blank
        self.of = shape
        self._out = out
        self._into = into

    def write(self, value: T) -> Plain:
        return self.of.write(self._out(value))

    def read(self, plain: Plain) -> T:
        return self._into(self.of.read(plain))


class Wrapped(Generic[T]):
    """A message with one field, which is all that there is to it."""

    blank: Final = REQUIRED

    def __init__(self, message: str, name: str, shape: Shape[T]) -> None:
        self.message = message
        self.name = name
        self.of = shape

    def write(self, value: T) -> Plain:
        written = self.of.write(value)
        return {self.name: written} if written else {}

    def read(self, plain: Plain) -> T:
        item = as_object(plain).get(self.name)
        if item is None:
            if self.of.blank is REQUIRED:
                raise Fault("is missing.").under(self.name)
            return cast("T", self.of.blank)
        try:
            return self.of.read(item)
        except Fault as fault:
            raise fault.under(self.name) from None


class WithMedia(Generic[T]):
    """A record whose `data` is base64 in the model and bytes in the protocol.

    The model keeps base64 as it came and does not look at it.  What is not canonical base64 would not come back as it was, so
    it goes as `text`; the text of a `text/plain` document goes there too, for that is no base64 at all.
    """

    blank: Final = REQUIRED

    def __init__(self, record: Record[T]) -> None:
        self.of = record
        self.message = record.message

    def write(self, value: T) -> Plain:
        plain = self.of.write(value)
        data = plain.pop("data", "")
        octets = None if plain.get("media_type") == _PLAIN_TEXT else _canonical(cast("str", data))
        if octets is None:
            plain["text"] = data
        else:
            plain["data"] = octets
        return plain

    def read(self, plain: Plain) -> T:
        fields = dict(as_object(plain))
        text, data = fields.pop("text", None), fields.pop("data", None)
        if text is not None and data is not None:
            raise Fault("must have one of data and text, not both.")
        if data is not None and (fields.get("media_type") or fields.get("mediaType")) == _PLAIN_TEXT:
            fields["data"] = _decoded_text(data)
        elif isinstance(data, bytes):
            fields["data"] = base64.b64encode(data).decode("ascii")
        else:
            fields["data"] = text if data is None else data
        return self.of.read(fields)


_PLAIN_TEXT: Final = "text/plain"


def _canonical(data: str) -> bytes | None:
    """The bytes of base64 that would be written just like that."""
    try:
        octets = binascii.a2b_base64(data, strict_mode=True)
    except ValueError:
        return None
    # Bits that do not count may be set all the same.
    tail = binascii.b2a_base64(octets[len(octets) // 3 * 3 :], newline=False).decode("ascii") if octets else ""
    return octets if data.endswith(tail) and len(data) == -(-len(octets) // 3) * 4 else None


def _decoded_text(data: Plain) -> str:
    try:
        octets = data if isinstance(data, bytes) else base64.b64decode(WORDS.read(data), validate=True)
        return octets.decode()
    except ValueError:
        raise Fault("must be UTF-8 text.").under("data") from None


def as_object(plain: Plain) -> dict[str, Plain]:
    """A plain value that must be an object."""
    if type(plain) is not dict:
        raise Fault("must be an object.")
    return plain


def camel(name: str) -> str:
    """The other spelling of a field, which proto3's JSON mapping writes by default."""
    first, *others = name.split("_")
    return first + "".join(word.capitalize() for word in others)


def _getter(names: tuple[str, ...]) -> Callable[[Any], tuple[Any, ...]]:
    """All those attributes at once, in C."""
    if not names:
        return lambda _: ()
    if len(names) == 1:
        single = attrgetter(names[0])
        return lambda value: (single(value),)
    return cast("Callable[[Any], tuple[Any, ...]]", attrgetter(*names))
