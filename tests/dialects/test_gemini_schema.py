"""Schemas on their way to Google: what is told another way, what is dropped, and that nothing is dropped without a word."""

import json
from typing import Any

import msgspec
import pytest

from tollhouse.chat.receipt import Receipt
from tollhouse.dialects.gemini.schema import MAX_DEPTH, read_schema, write_schema

OBJECT = {"type": "object"}


def cleaned(schema: Any) -> tuple[Any, tuple[str, ...]]:
    receipt = Receipt()
    return msgspec.json.decode(write_schema(msgspec.Raw(msgspec.json.encode(schema)), "s", receipt)), receipt.entries


@pytest.mark.parametrize(
    ("schema", "told"),
    [
        ({"$schema": "https://json-schema.org/draft/2020-12/schema", **OBJECT, "examples": [{}]}, OBJECT),
        ({"const": "a"}, {"enum": ["a"]}),
        ({"type": "string", "enum": ["a", None]}, {"type": ["string", "null"], "enum": ["a"]}),
        ({"type": "integer", "exclusiveMinimum": 0}, {"type": "integer", "minimum": 1}),
        ({"type": "integer", "exclusiveMaximum": 10, "maximum": 5}, {"type": "integer", "maximum": 5}),
        ({"type": "integer", "minimum": 3, "exclusiveMinimum": True}, {"type": "integer", "minimum": 4}),
        (
            {"allOf": [{"type": "object", "required": ["a"]}, {"properties": {"a": OBJECT}}], "required": ["b"]},
            {"type": "object", "required": ["b", "a"], "properties": {"a": OBJECT}},
        ),
        (
            {"definitions": {"X": {"const": 1}}, "properties": {"x": {"$ref": "#/definitions/X", "description": "d"}}},
            {"$defs": {"X": {"enum": [1]}}, "properties": {"x": {"$ref": "#/$defs/X", "description": "d"}}},
        ),
        (
            {"properties": {"a": OBJECT, "b": {"items": {"$ref": "#/properties/a"}}}},
            {"properties": {"a": OBJECT, "b": {"items": OBJECT}}},
        ),
        (
            {"$defs": {"X": OBJECT}, "properties": {"x": {"$ref": "#/$defs/X", "title": "T"}}},
            {"$defs": {"X": OBJECT}, "properties": {"x": {"type": "object", "title": "T"}}},
        ),
        ({"$ref": "#/$defs/X", "$defs": {"X": OBJECT}}, {"$defs": {"X": OBJECT}, "type": "object"}),
        (
            {"properties": {"any": True}, "additionalProperties": False},
            {"properties": {"any": {}}, "additionalProperties": False},
        ),
        ({"additionalProperties": {"const": "v"}}, {"additionalProperties": {"enum": ["v"]}}),
        ({"type": "array", "uniqueItems": False}, {"type": "array"}),
        ({"properties": {"not": {"type": "string"}, "$schema": {"type": "string"}}}, None),
    ],
)
def test_what_means_the_same_is_told_without_a_word(schema: Any, told: Any):
    assert cleaned(schema) == (schema if told is None else told, ())


@pytest.mark.parametrize(
    ("schema", "told", "keyword"),
    [
        ({"type": "number", "exclusiveMinimum": 0}, {"type": "number", "minimum": 0}, "exclusiveMinimum"),
        ({**OBJECT, "not": {"required": ["a"]}}, OBJECT, "not"),
        ({"type": "array", "uniqueItems": True}, {"type": "array"}, "uniqueItems"),
        ({"type": "number", "multipleOf": 2}, {"type": "number"}, "multipleOf"),
        ({**OBJECT, "patternProperties": {"^x": OBJECT}}, OBJECT, "patternProperties"),
        ({**OBJECT, "if": OBJECT, "then": OBJECT}, OBJECT, "if"),
        ({"enum": [{"a": 1}, "b"]}, {}, "enum"),
        ({"const": True, "type": "boolean"}, {"type": "boolean"}, "enum"),
        ({"allOf": [{"minimum": 1}, {"minimum": 2}]}, {"minimum": 1}, "allOf"),
        ({"properties": {"x": {"$ref": "https://schemas.example/x.json"}}}, {"properties": {"x": {}}}, "$ref"),
        ({"properties": {"x": {"$ref": "#/nowhere"}}}, {"properties": {"x": {}}}, "$ref"),
        (
            {"anyOf": [OBJECT], "properties": {"x": {"$ref": f"#/anyOf/{'9' * 5_000}"}}},
            {"anyOf": [OBJECT], "properties": {"x": {}}},
            "$ref",
        ),
    ],
)
def test_what_is_lost_is_noted(schema: Any, told: Any, keyword: str):
    said, receipt = cleaned(schema)
    assert said == told
    assert any(keyword in entry for entry in receipt)


def test_a_schema_that_google_takes_stays_as_it_is_written():
    raw = msgspec.Raw(b'{ "type":"object",\n "properties":{"b":{"type":"string"},"a":{"type":"integer","minimum":1}} }')
    receipt = Receipt()
    assert write_schema(raw, "s", receipt) is raw
    assert read_schema(raw, is_json_schema=True) is raw
    assert not receipt


def test_schemas_that_refer_to_themselves_come_to_an_end():
    loop = {"properties": {"next": {"$ref": "#", "title": "again"}}, **OBJECT}
    said, receipt = cleaned(loop)
    assert said["properties"]["next"]["properties"]["next"] == {}
    assert any("without end" in entry for entry in receipt)
    # Each names the next twice, beside something that Google allows beside no reference.
    steps = {f"d{i}": {"anyOf": [{"$ref": f"#/x/d{i + 1}", "title": str(j)} for j in range(2)]} for i in range(40)}
    said, receipt = cleaned({"x": {**steps, "d40": OBJECT}, "properties": {"a": {"$ref": "#/x/d0"}}})
    assert len(msgspec.json.encode(said)) < 100_000
    assert receipt


@pytest.mark.parametrize("kind", [{}, [], ["STRING", []], True, 1.5])
def test_a_type_of_no_known_form_is_left_to_the_provider(kind: Any):
    written = msgspec.Raw(msgspec.json.encode({"properties": {"x": {"type": kind}}}))
    assert msgspec.json.decode(read_schema(written, is_json_schema=False)) == msgspec.json.decode(written)


@pytest.mark.parametrize("kind", [["boolean", "null"], [], {}, None])
def test_an_enum_without_words_is_left_out_whatever_its_type(kind: Any):
    said, receipt = cleaned({"type": kind, "enum": [True, None]})
    assert "enum" not in said
    assert any("`enum`" in entry for entry in receipt)


def test_a_bound_that_no_float_holds_is_told_in_full():
    receipt = Receipt()
    written = write_schema(msgspec.Raw(b'{"type":"integer","exclusiveMinimum":1%b}' % (b"0" * 400)), "s", receipt)
    assert (json.loads(bytes(written)), receipt.entries) == ({"type": "integer", "minimum": 10**400 + 1}, ())


def test_deep_schemas_are_cut_and_hostile_ones_passed_on():
    deep: dict[str, Any] = {"type": "string"}
    for _ in range(MAX_DEPTH + 20):
        deep = {"type": "array", "items": deep}
    said, receipt = cleaned(deep)
    assert any("nested deeper" in entry for entry in receipt)
    assert msgspec.json.encode(said).count(b"items") == MAX_DEPTH + 1
    hostile = msgspec.Raw(b'{"items":' * 50_000)
    assert write_schema(hostile, "s", Receipt()) is hostile
    assert read_schema(hostile, is_json_schema=False) is hostile
