"""Schemas, in the three spellings in which Gemini's clients write them and in the one that is sent to Google.

`parameters` and `responseSchema` hold Google's own `Schema`: types in capitals, `nullable`, counts as text.
`parametersJsonSchema` and `responseJsonSchema` hold JSON Schema, in which some clients write the types in capitals all the
same.  Read, all of them become plain JSON Schema.

Written, a schema always goes into the `…JsonSchema` fields, without what Google refuses there or does not look at.  What it
knows is listed at ai.google.dev/api/generate-content under `responseJsonSchema`, and under `Schema` (November 2026).
"""

import re
from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

import msgspec

from tollhouse.chat.receipt import Receipt
from tollhouse.dialects.fields import UNREADABLE
from tollhouse.dialects.gemini.wire import camel, encoded

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

MAX_DEPTH: Final = 64
"""Deeper schemas are cut off there."""
MAX_WRITTEN_OUT: Final = 200
"""References of one schema that are replaced by what they refer to; one may hold several of the next, and so on."""

_TYPES: Final = frozenset({"STRING", "NUMBER", "INTEGER", "BOOLEAN", "ARRAY", "OBJECT", "NULL"})
_TYPE_NUMBERS: Final[Mapping[int, str]] = {
    1: "string",
    2: "number",
    3: "integer",
    4: "boolean",
    5: "array",
    6: "object",
    7: "null",
}
_COUNTS: Final = frozenset(
    {"minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties", "minimum", "maximum"}
)

# Keywords whose value is a schema, a list of schemas, or schemas by name.
_ONE: Final = frozenset({"items", "additionalProperties", "contains", "not", "if", "then", "else", "propertyNames"})
_MANY: Final = frozenset({"anyOf", "oneOf", "allOf", "prefixItems"})
_NAMED: Final = frozenset({"properties", "$defs", "definitions", "patternProperties", "dependentSchemas"})


# ------------------------------------------------------------------------------------------------------------- reading


def read_schema(raw: msgspec.Raw, *, is_json_schema: bool) -> msgspec.Raw:
    """Plain JSON Schema; `is_json_schema` says which of the spellings it is in.  Left verbatim where nothing has to change."""
    if is_json_schema and not any(b'"%b"' % name.encode() in bytes(raw) for name in _TYPES):
        return raw
    try:
        value: Json = msgspec.json.decode(raw)
        return encoded(_lowered(value, 0) if is_json_schema else _from_openapi(value, 0))
    except UNREADABLE:
        return raw


def _lowered(value: Json, depth: int) -> Json:
    """JSON Schema with its types in small letters."""
    if not isinstance(value, dict):
        return value
    lowered = _mapped(value, _lowered, depth)
    kind = lowered.get("type")
    if isinstance(kind, str) and kind in _TYPES:
        lowered["type"] = kind.lower()
    elif isinstance(kind, list):
        lowered["type"] = [each.lower() if isinstance(each, str) and each in _TYPES else each for each in kind]
    return lowered


def _from_openapi(value: Json, depth: int) -> Json:
    """Google's `Schema` as JSON Schema."""
    if not isinstance(value, dict):
        return value
    spelled: dict[str, Json] = {camel(name): inner for name, inner in value.items() if inner is not None}
    schema = _mapped(spelled, _from_openapi, depth)
    kind = schema.get("type")
    if isinstance(kind, int) and not isinstance(kind, bool):
        kind = _TYPE_NUMBERS.get(kind)
    if isinstance(kind, str):
        kind = kind.lower()
        schema["type"] = kind
    if kind is None or kind == "type_unspecified":
        schema.pop("type", None)
    for name in _COUNTS & schema.keys():
        schema[name] = _number(schema[name])
    if schema.get("format") == "enum":
        del schema["format"]
    if "example" in schema:
        schema["examples"] = [schema.pop("example")]
    schema.pop("propertyOrdering", None)
    if schema.pop("nullable", False) is True:
        _allow_null(schema)
    return schema


def _allow_null(schema: dict[str, Json]) -> None:
    kind, choices = schema.get("type"), schema.get("enum")
    if isinstance(kind, str):
        schema["type"] = [kind, "null"]
        if isinstance(choices, list) and None not in choices:
            schema["enum"] = [*choices, None]
    elif isinstance(options := schema.get("anyOf"), list):
        schema["anyOf"] = [*options, {"type": "null"}]


def _number(value: Json) -> Json:
    if not isinstance(value, str):
        return value
    try:
        return int(value)
    except ValueError:
        return value


def _mapped(schema: dict[str, Json], change: "Callable[[Json, int], Json]", depth: int) -> dict[str, Json]:
    """A copy with `change` made to each schema right inside it."""
    if depth >= MAX_DEPTH:
        return dict(schema)
    mapped: dict[str, Json] = {}
    for name, value in schema.items():
        if name in _ONE:
            mapped[name] = change(value, depth + 1)
        elif name in _MANY and isinstance(value, list):
            mapped[name] = [change(each, depth + 1) for each in value]
        elif name in _NAMED and isinstance(value, dict):
            mapped[name] = {key: change(each, depth + 1) for key, each in value.items()}
        else:
            mapped[name] = value
    return mapped


# ------------------------------------------------------------------------------------------------------------- writing

_KNOWN: Final = frozenset(
    {
        "$id",
        "$defs",
        "$ref",
        "$anchor",
        "type",
        "format",
        "title",
        "description",
        "enum",
        "items",
        "prefixItems",
        "minItems",
        "maxItems",
        "minimum",
        "maximum",
        "anyOf",
        "oneOf",
        "properties",
        "additionalProperties",
        "required",
        "propertyOrdering",
        "default",
        "pattern",
        "minLength",
        "maxLength",
        "minProperties",
        "maxProperties",
    }
)
_SAYS_NOTHING: Final = frozenset(
    {"$schema", "$comment", "examples", "example", "deprecated", "readOnly", "writeOnly", "contentMediaType"}
)
_INDEX: Final = re.compile(r"[0-9]{1,6}")
"""A place in an array, in a reference; of thousands of digits, Python makes no number."""
_BESIDE_REF: Final = frozenset({"$ref", "description", "default"})
"""All that may stand beside a reference; Google refuses anything else there."""


def write_schema(raw: msgspec.Raw, path: str, receipt: Receipt) -> msgspec.Raw:
    """A JSON Schema as Google takes it.  What it cannot be told is noted, at most once for each keyword."""
    try:
        value: Json = msgspec.json.decode(raw)
    except UNREADABLE:
        return raw  # the provider says it best
    if not isinstance(value, dict):
        return raw
    cleaned = _Cleaner(value, path, receipt).clean(value, 0)
    return raw if cleaned == value else encoded(cleaned)


class _Cleaner:
    """One schema on its way out."""

    __slots__ = ("_path", "_receipt", "_root", "_written_out")

    def __init__(self, root: dict[str, Json], path: str, receipt: Receipt) -> None:
        self._root = root
        self._path = path
        self._receipt = receipt
        self._written_out = 0

    def clean(self, value: Json, depth: int, inside: tuple[str, ...] = ()) -> Json:
        if isinstance(value, bool):
            # As the schema of a value: anything, or nothing at all, which Google cannot be told.
            return {}
        if not isinstance(value, dict):
            return value
        if depth > MAX_DEPTH:
            self._note("nesting", f"what is nested deeper than {MAX_DEPTH} levels")
            return {}
        schema = self._merged(value)
        if isinstance(reference := schema.get("$ref"), str):
            return self._reference(schema, reference, depth, inside)
        self._constants(schema)
        self._bounds(schema)
        cleaned: dict[str, Json] = {}
        for name, inner in schema.items():
            key = "$defs" if name == "definitions" else name
            if key not in _KNOWN:
                if key not in _SAYS_NOTHING and inner not in (False, None, [], {}):
                    self._note(name, f"`{name[:40]}`")
            elif key == "additionalProperties" and isinstance(inner, bool):
                cleaned[key] = inner
            elif key in _ONE:
                cleaned[key] = self.clean(inner, depth + 1, inside)
            elif key in _MANY and isinstance(inner, list):
                cleaned[key] = [self.clean(each, depth + 1, inside) for each in inner]
            elif key in _NAMED and isinstance(inner, dict):
                present = cleaned.get(key)
                cleaned[key] = {
                    **(present if isinstance(present, dict) else {}),
                    **{each: self.clean(schema, depth + 1, inside) for each, schema in inner.items()},
                }
            else:
                cleaned[key] = inner
        return cleaned

    def _merged(self, value: dict[str, Json]) -> dict[str, Json]:
        """The schema with the members of `allOf` made part of it, which is the same unless they contradict each other."""
        members = value.get("allOf")
        if not isinstance(members, list):
            return dict(value)
        merged = {name: inner for name, inner in value.items() if name != "allOf"}
        for member in members:
            if not isinstance(member, dict):
                continue
            target = self._target(reference) if isinstance(reference := member.get("$ref"), str) else member
            for name, inner in (target or {}).items():
                present = merged.get(name)
                if name in {"properties", "$defs"} and isinstance(present, dict) and isinstance(inner, dict):
                    merged[name] = {**present, **inner}
                elif name == "required" and isinstance(present, list) and isinstance(inner, list):
                    merged[name] = [*present, *(each for each in inner if each not in present)]
                elif name not in merged:
                    merged[name] = inner
                elif present != inner and name not in {"title", "description"}:
                    self._note("allOf", "members of `allOf` that say different things")
        return merged

    def _reference(self, schema: dict[str, Json], reference: str, depth: int, inside: tuple[str, ...]) -> Json:
        beside = schema.keys() - _BESIDE_REF - _SAYS_NOTHING
        own = reference.replace("#/definitions/", "#/$defs/")
        is_defined = own.startswith("#/$defs/") and self._target(reference) is not None
        if is_defined and not beside:
            return {**{name: schema[name] for name in _BESIDE_REF & schema.keys()}, "$ref": own}
        if is_defined and beside <= {"$defs", "definitions"}:
            # The root itself refers to one of its definitions.
            definitions = {name: schema[name] for name in beside}
            cleaned = self.clean(definitions, depth + 1, inside)
            target = self._target(reference)
            if isinstance(cleaned, dict) and isinstance(body := self.clean(target, depth + 1, inside), dict):
                return {**cleaned, **body}
        target = self._target(reference)
        self._written_out += 1
        if target is None or reference in inside or self._written_out > MAX_WRITTEN_OUT:
            self._note("$ref", "a reference that cannot be resolved, or not without end")
            return {name: schema[name] for name in ("description",) if name in schema}
        written_out = {**target, **{name: inner for name, inner in schema.items() if name != "$ref"}}
        return self.clean(written_out, depth + 1, (*inside, reference))

    def _target(self, reference: str) -> dict[str, Json] | None:
        """What a reference into this schema means; `None` for others, and for none."""
        if not reference.startswith("#"):
            return None
        place: Json = self._root
        for step in reference[1:].split("/")[1:]:
            name = step.replace("~1", "/").replace("~0", "~")
            if isinstance(place, dict):
                place = place.get(name)
            elif isinstance(place, list) and _INDEX.fullmatch(name) and int(name) < len(place):
                place = place[int(name)]
            else:
                return None
        return place if isinstance(place, dict) else None

    def _constants(self, schema: dict[str, Json]) -> None:
        """`const` as an `enum` of one; of an enum's values only text and numbers are known."""
        if "const" in schema:
            schema.setdefault("enum", [schema["const"]])
            del schema["const"]
        choices = schema.get("enum")
        if not isinstance(choices, list):
            return
        known: list[Json] = [
            each for each in choices if isinstance(each, str | int | float) and not isinstance(each, bool)
        ]
        if len(known) == len(choices):
            return
        kind = schema.get("type")
        if known and all(each is None for each in choices if each not in known):
            schema["enum"] = known
            if isinstance(kind, str) and kind != "null":
                schema["type"] = [kind, "null"]
            return
        del schema["enum"]
        if kind != "null" and (kind != "boolean" or len(choices) == 1):
            self._note("enum", "an `enum` of other values than text and numbers")

    def _bounds(self, schema: dict[str, Json]) -> None:
        """Bounds that exclude themselves: one further for whole numbers, else the bound itself."""
        for name, plain, step in (("exclusiveMinimum", "minimum", 1), ("exclusiveMaximum", "maximum", -1)):
            bound = schema.pop(name, None)
            if isinstance(bound, bool):  # JSON Schema before draft 6: says it of `minimum`
                bound = schema.get(plain) if bound else None
            if not isinstance(bound, int | float) or isinstance(bound, bool):
                continue
            if schema.get("type") == "integer" and (isinstance(bound, int) or bound.is_integer()):
                bound = int(bound) + step
            else:
                self._receipt.changed(self._path, f"`{name}` is told as `{plain}`, which allows the bound itself")
            before = schema.get(plain)
            if not isinstance(before, int | float) or (bound > before if step > 0 else bound < before):
                schema[plain] = bound

    def _note(self, keyword: str, what: str) -> None:
        self._receipt.dropped(f"{self._path}.{keyword[:40]}", f"Gemini's schemas do not have {what}")
