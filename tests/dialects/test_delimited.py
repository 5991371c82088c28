"""Messages behind their lengths."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollhouse.dialects.delimited import Splitter, delimit, varint


@given(st.lists(st.binary(max_size=300), max_size=8), st.lists(st.integers(1, 64), min_size=1, max_size=40))
def test_messages_come_back_wherever_the_bytes_were_cut(messages: list[bytes], cuts: list[int]):
    data = b"".join(map(delimit, messages))
    splitter = Splitter()
    found: list[bytes] = []
    at = turn = 0
    while at < len(data):
        step = cuts[turn % len(cuts)]
        found += splitter.feed(data[at : at + step])
        at, turn = at + step, turn + 1
    assert found == messages


@pytest.mark.parametrize(
    ("number", "written"),
    [(0, b"\x00"), (127, b"\x7f"), (128, b"\x80\x01"), (300, b"\xac\x02"), (1 << 21, b"\x80\x80\x80\x01")],
)
def test_lengths_are_written_as_protobuf_writes_them(number: int, written: bytes):
    assert varint(number) == written


def test_a_cut_message_is_not_given():
    splitter = Splitter()
    assert splitter.feed(delimit(b"whole") + delimit(b"cut off")[:-1]) == [b"whole"]
    assert splitter.feed(b"") == []
    assert splitter.feed(b"f" + delimit(b"next")) == [b"cut off", b"next"]


def test_a_long_message_in_many_pieces_is_put_together_once():
    """Copied at each piece it would take minutes of the event loop, which a hostile peer could ask for."""
    splitter, data = Splitter(), delimit(bytes(4_000_000))
    found = [message for at in range(0, len(data), 32) for message in splitter.feed(data[at : at + 32])]
    assert found == [bytes(4_000_000)]


@pytest.mark.parametrize("data", [b"\xff" * 6, varint(1 << 20)])
def test_a_length_over_the_bound_is_refused_before_anything_is_kept(data: bytes):
    with pytest.raises(ValueError, match="message"):
        Splitter(max_message_bytes=1000).feed(data)
