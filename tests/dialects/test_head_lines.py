"""Header fields that are written, and the fields that they are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollhouse.dialects.head_lines import NO_LINES, HeadLines, write_lines

NAMES = st.from_regex(rb"[a-z-]{1,20}", fullmatch=True)
VALUES = st.binary(max_size=30).filter(lambda value: not set(value) & set(b"\r\n\0"))


@given(st.lists(st.tuples(NAMES, VALUES)))
def test_what_is_written_is_read_as_the_same_fields(fields: list[tuple[bytes, bytes]]):
    lines = HeadLines(write_lines(fields))
    assert [*lines] == fields
    assert len(lines) == len(fields)
    assert all(field in lines for field in fields)


@pytest.mark.parametrize("mark", [b"\r", b"\n", b"\0", b"\r\n"])
@pytest.mark.parametrize("field", [(b"x-a%b", b"1"), (b"x-a", b"1%b"), (b"x-a", b"1%bx-b: 2")])
def test_a_line_break_in_a_field_is_refused(field: tuple[bytes, bytes], mark: bytes):
    broken = (field[0].replace(b"%b", mark), field[1].replace(b"%b", mark))
    with pytest.raises(ValueError, match="line break"):
        write_lines([(b"x-b", b"2"), broken])


def test_no_lines_are_no_fields():
    assert [*NO_LINES] == []
    assert not NO_LINES
