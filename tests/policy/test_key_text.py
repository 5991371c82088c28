"""The text of a key, and how a damaged one is told from an unknown one."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollhouse.config.starter import new_key
from tollhouse.policy.key_text import KEY_CHARACTERS, is_damaged, is_whole, key_text

KEY = key_text(bytes(range(32)))
DIGITS = string.digits + string.ascii_letters


def test_a_key_has_one_form():
    assert KEY == "th-003aUlTJC7tjlCTQj2uNU3MFagCXG9LRKRcwGkBIDlf0HGcun"
    assert len(KEY) == KEY_CHARACTERS
    assert KEY.startswith("th-")
    assert set(KEY[3:]) <= set(DIGITS)


@pytest.mark.parametrize("number", [0, 31, 33])
def test_a_key_is_made_of_32_bytes(number: int):
    with pytest.raises(ValueError, match="32 random bytes"):
        key_text(bytes(number))


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
def test_other_bytes_make_another_key(first: bytes, second: bytes):
    assert (key_text(first) == key_text(second)) == (first == second)


@given(st.binary(min_size=32, max_size=32))
def test_a_whole_key_is_not_damaged(random_bytes: bytes):
    key = key_text(random_bytes)
    assert len(key) == KEY_CHARACTERS
    assert not is_damaged(key.encode())
    assert is_whole(key.encode())


@given(st.binary(min_size=32, max_size=32), st.integers(3, KEY_CHARACTERS - 1), st.sampled_from(DIGITS))
def test_one_changed_character_damages_it(random_bytes: bytes, place: int, letter: str):
    """A CRC finds every change of up to 32 bits in a row, and one character is 8."""
    key = key_text(random_bytes)
    changed = key[:place] + letter + key[place + 1 :]
    assert is_damaged(changed.encode()) == (changed != key)
    assert is_whole(changed.encode()) == (changed == key)


@given(st.binary(min_size=32, max_size=32), st.integers(3, KEY_CHARACTERS - 1))
def test_a_missing_or_doubled_character_damages_it(random_bytes: bytes, place: int):
    key = key_text(random_bytes)
    assert is_damaged((key[:place] + key[place + 1 :]).encode())
    assert is_damaged((key[:place] + key[place] + key[place:]).encode())


@pytest.mark.parametrize(
    "other",
    [
        b"",
        b"th-",
        b"sk-ant-api03-" + b"x" * 95,
        b"sk-proj-" + b"a" * 44,
        b"\xff" * 52,
        b"th-secret-secret",
        KEY.encode() * 2,
    ],
)
def test_what_is_no_issued_key_is_not_called_a_damaged_one(other: bytes):
    assert not is_damaged(other)
    assert not is_whole(other)


def test_a_key_of_the_first_configuration_is_not_called_a_damaged_one():
    """Those have no checksum; should one be unknown, it is only that."""
    assert not any(is_damaged(new_key().encode()) for _ in range(200))
