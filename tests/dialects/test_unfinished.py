"""An event that has no end yet."""

import pytest

from tollhouse.dialects.unfinished import Unfinished, event_ends
from tollhouse.errors import UpstreamTooLarge


def test_it_is_put_together_when_an_end_may_have_come():
    event = Unfinished(100)
    assert not event
    event.keep(b"data: 1")
    assert event
    assert event.joined(b"2\n") == b""
    assert event.joined(b"data: 3") == b""
    assert event.joined(b"\n\nx") == b"data: 12\ndata: 3\n\nx"
    assert not event


@pytest.mark.parametrize("end", [b"\n\n", b"\r\r", b"\r\n\r\n"])
def test_an_end_may_come_in_pieces(end: bytes):
    for at in range(1, len(end)):
        event = Unfinished(100)
        event.keep(b"data: 1" + end[:at])
        assert event.joined(end[at:]) == b"data: 1" + end


def test_two_line_ends_count_when_it_is_clear_that_no_third_belongs_to_them():
    event = Unfinished(100)
    event.keep(b"data: 1\r\r")
    assert event.joined(b"data: 2") == b"data: 1\r\rdata: 2"


def test_it_has_a_bound():
    event = Unfinished(10)
    event.keep(b"x" * 10)
    with pytest.raises(UpstreamTooLarge):
        event.joined(b"x")


@pytest.mark.parametrize(
    ("data", "ends"),
    [
        (b"", []),
        (b"data: 1\n", []),
        (b"data: 1\n\ndata: 2\n\n", [9, 18]),
        (b"data: 1\r\n\r\ndata: 2\n\n", [11, 20]),
        (b"data: 1\r\rdata: 2\r\r", [9]),
        (b"data: 1\n\n\n\n", [9, 11]),
        (b"data: 1\n\n\n", [9]),
    ],
)
def test_events_end_with_an_empty_line(data: bytes, ends: list[int]):
    assert [*event_ends(data)] == ends
