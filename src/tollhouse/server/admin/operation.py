"""What an operation of the admin API is: one entry of a table that routing, roles and the OpenAPI document are made from.

Bodies and queries are msgspec structs that forbid unknown fields: what is not named in one cannot be set, whatever is sent.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Generic, Literal, TypeVar

import msgspec

from tollhouse.config.schema import Role
from tollhouse.server.admin.office import Office
from tollhouse.server.admin.problem import UNPROCESSABLE, Refusal

Q = TypeVar("Q")
B = TypeVar("B")
T = TypeVar("T")

MAX_PARAMETER_CHARACTERS: Final = 200
MAX_PAGE: Final = 1000

Limit = Annotated[int, msgspec.Meta(ge=1, le=MAX_PAGE, description="At most so many.")]
Moment = Annotated[int, msgspec.Meta(ge=0, le=2**53, description="Microseconds since 1970-01-01 UTC.")]
RowNumber = Annotated[int, msgspec.Meta(ge=1, le=2**53)]
Method = Literal["GET", "POST", "PATCH", "DELETE"]

_PLACE: Final = re.compile(r"\{(\w+)\}")


class Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A query or a body with nothing in it."""


class Page(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """A piece of a list."""

    items: list[T]
    next: str | None = None
    """What to send as `after` (or `before`) for the next piece; `null` at the end."""


def page_of(found: Sequence[T], limit: int, name: Callable[[T], str]) -> Page[T]:
    """The first `limit` of what was found.

    More than these, for which whoever looks asks for one more, say that there is a next piece: behind the last one's `name`.
    """
    items = list(found[:limit])
    return Page(items=items, next=name(items[-1]) if len(found) > limit else None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked(Generic[Q, B]):
    """A request that was let in, read and checked."""

    office: Office
    actor: str
    """The name of the token; empty for what needs none."""
    address: str
    request_id: str
    path: Mapping[str, str]
    query: Q
    body: B


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation(Generic[Q, B]):
    """One method of one path."""

    id: str
    """`createKey`: unique, the name that generated clients give it."""
    method: Method
    path: str
    """`/admin/v1/keys/{key}`."""
    role: Role | None
    """Who may; `None` is everybody who reaches the listener."""
    summary: str
    tag: str
    query: type[Q]
    body: type[B]
    answer: Any
    """The type of what is answered, as msgspec knows it; `None` for nothing."""
    status: int = 200
    work: Callable[[Asked[Q, B]], object]
    """Runs in a thread, and may wait for a database.  Raises `TollhouseError` or `Refusal`."""

    @property
    def places(self) -> tuple[str, ...]:
        """The names in its path."""
        return tuple(_PLACE.findall(self.path))


def read_query(kind: type[Q], pairs: list[tuple[str, str]]) -> Q:
    """The parameters of a query as a struct.  Raises `Refusal` (422) naming the parameter."""
    given: dict[str, str] = {}
    for name, value in pairs:
        if name in given:
            raise Refusal(
                UNPROCESSABLE, "invalid_parameter", f"The parameter {_shown(name)} is given twice.", field=name[:80]
            )
        if len(value) > MAX_PARAMETER_CHARACTERS or not value.isprintable():
            raise Refusal(
                UNPROCESSABLE,
                "invalid_parameter",
                f"The parameter {_shown(name)} is too long, or has characters that cannot be seen.",
                field=name[:80],
            )
        given[name] = value
    try:
        return msgspec.convert(given, kind, strict=False)
    except msgspec.ValidationError as error:
        raise _invalid(error, "invalid_parameter", "parameter") from error


def read_body(kind: type[B], data: bytes) -> B:
    """A JSON body as a struct; none at all is an empty object.  Raises `Refusal`: 400 for no JSON, 422 naming the field."""
    if b"\\u0000" in data:
        # No database and no terminal takes it, and nothing here has a use for it.
        raise Refusal(UNPROCESSABLE, "invalid_body", "The body has a text with U+0000 in it.")
    try:
        return msgspec.json.decode(data or b"{}", type=kind)
    except msgspec.ValidationError as error:
        raise _invalid(error, "invalid_body", "field") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refusal(400, "bad_request", f"The body is not JSON: {error}.") from error
    except RecursionError as error:
        raise Refusal(400, "bad_request", "The body is nested too deeply to be read.") from error


def read_place(value: str) -> str:
    """A name in a path.  Raises `Refusal` (404) for what cannot be one."""
    if len(value) > MAX_PARAMETER_CHARACTERS or not value.isprintable():
        raise Refusal(404, "not_found", "There is nothing of that name.")
    return value


_UNKNOWN: Final = re.compile(r"Object contains unknown field `(.*?)`")
_MISSING: Final = re.compile(r"Object missing required field `(.*?)`")
_PATH: Final = re.compile(r" - at `(?:key in )?\$(.*)`$", re.DOTALL)


def _invalid(error: msgspec.ValidationError, code: str, what: str) -> Refusal:
    """What msgspec says, with the field at fault apart.

    >>> _invalid(msgspec.ValidationError("Object contains unknown field `role` - at `$.terms`"), "c", "field").field
    'terms.role'
    """
    said = str(error)
    where = _PATH.search(said)
    holder = where[1].lstrip(".") if where else ""
    said = said[: where.start()] if where else said
    if unknown := _UNKNOWN.match(said):
        field, detail = _joined(holder, unknown[1]), f"There is no {what} {_shown(unknown[1])} here."
    elif missing := _MISSING.match(said):
        field, detail = _joined(holder, missing[1]), f"The {what} {_shown(missing[1])} is missing."
    else:
        field, detail = holder, f"{said}."
    return Refusal(UNPROCESSABLE, code, detail, field=field[:MAX_PARAMETER_CHARACTERS])


def _joined(holder: str, name: str) -> str:
    return f"{holder}.{name}" if holder else name


def _shown(name: str) -> str:
    return repr(name[:80])
