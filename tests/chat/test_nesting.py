"""How deeply JSON is nested is found out without taking it apart."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollhouse.chat.nesting import MAX_LEVELS, is_too_deep


def nested(levels: int, inside: bytes = b"1") -> bytes:
    """Objects and arrays in turn."""
    opened = [b'{"a" : ' if level % 2 else b"[ " for level in range(levels)]
    closed = [b" }" if level % 2 else b" ]" for level in reversed(range(levels))]
    return b"".join([*opened, inside, *closed])


@pytest.mark.parametrize("levels", [0, 1, MAX_LEVELS - 1, MAX_LEVELS])
def test_the_bound_itself_is_not_too_deep(levels: int):
    assert not is_too_deep(nested(levels))
    assert not is_too_deep(nested(levels, b'"' + b"x" * 1000 + b'"'))


@pytest.mark.parametrize("levels", [MAX_LEVELS + 1, 1000, 200_000])
def test_one_level_more_is(levels: int):
    assert is_too_deep(nested(levels))
    assert is_too_deep(b"[1," * 3 + nested(levels))  # cut off
    assert is_too_deep(b'{"before":[[],[],{}],"deep":' + nested(levels) + b',"after":[]}')


def test_brackets_beside_each_other_do_not_add_up():
    assert not is_too_deep(b"[" + b"[],{}," * 1000 + b"[]]")


def test_brackets_in_strings_do_not_count():
    opening = json.dumps({"a": '{["\\' * 500, '\\"[': "["}).encode()
    assert not is_too_deep(opening)
    closing = b"[" * MAX_LEVELS + b'"]]]",' * 3 + json.dumps('}]\\"' * 500).encode() + b",[1]" + b"]" * MAX_LEVELS
    assert is_too_deep(closing)


VALUES = st.recursive(
    st.text(alphabet='a"\\[]{} \n\u00e9', max_size=12) | st.integers() | st.none(),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(alphabet='"\\[{}]', max_size=3), inner, max_size=4)
    ),
)


def levels_of(value: object) -> int:
    match value:
        case dict():
            return 1 + max(map(levels_of, value.values()), default=0)
        case list():
            return 1 + max(map(levels_of, value), default=0)
        case _:
            return 0


@given(VALUES, st.booleans())
def test_it_counts_as_one_does_who_takes_it_apart(value: object, ascii_only: bool):
    around = MAX_LEVELS - levels_of(value)
    text = json.dumps(value, ensure_ascii=ascii_only).encode()
    assert not is_too_deep(nested(around, text))
    assert is_too_deep(nested(around + 1, text))


@given(st.text(alphabet='"\\[]{}:, a', max_size=400).map(str.encode))
def test_what_is_no_json_never_fails(text: bytes):
    is_too_deep(b"[" * MAX_LEVELS + text * 4)
