"""The SSE parser gives the same frames however the network cuts the bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollhouse.chat.sse import Frame, Parser
from tollhouse.errors import UpstreamTooLarge


def parse(*pieces: bytes) -> list[Frame]:
    parser = Parser()
    return [frame for piece in pieces for frame in parser.feed(piece)] + parser.close()


def test_a_frame_is_its_event_name_and_its_data():
    assert parse(b"event: ping\ndata: {}\n\n") == [Frame(b"{}", b"ping")]


def test_several_data_lines_are_one_frame_joined_with_line_feeds():
    assert parse(b"data: a\ndata:\ndata: c\n\n") == [Frame(b"a\n\nc")]


def test_only_the_first_blank_after_the_colon_is_dropped():
    assert parse(b"data:  a \n\ndata:b\n\n") == [Frame(b" a "), Frame(b"b")]


def test_comments_ids_retries_and_unknown_fields_make_no_frame():
    assert parse(b": hello\n\nid: 7\nretry: 10\nfoo: bar\nnocolon\n\ndata: x\n\n") == [Frame(b"x")]


def test_an_event_name_without_data_is_forgotten_at_the_blank_line():
    assert parse(b"event: lost\n\ndata: x\n\n") == [Frame(b"x")]


def test_all_three_line_ends_mean_the_same():
    lines = b"event: a\ndata: 1\n\ndata: 2\n\n"
    for end in (b"\n", b"\r\n", b"\r"):
        assert parse(lines.replace(b"\n", end)) == [Frame(b"1", b"a"), Frame(b"2")]


def test_a_cr_and_an_lf_in_two_reads_are_one_line_end():
    assert parse(b"data: a\r", b"\ndata: b\r\n\r", b"\ndata: c\n\n") == [Frame(b"a\nb"), Frame(b"c")]


def test_the_last_event_counts_without_its_blank_line():
    assert parse(b"data: a\n\ndata: b") == [Frame(b"a"), Frame(b"b")]


def test_a_byte_order_mark_is_dropped_even_in_pieces():
    assert parse(b"\xef", b"\xbb", b"\xbfdata: a\n\n") == [Frame(b"a")]


BARE = b'{"error": {"code": 503}}'


@pytest.mark.parametrize(
    "error", [BARE, b'[{\n  "error": {\n    "code": 503\n  }\n}\n]', b'{"error":\n{"code": 503}\n}']
)
@pytest.mark.parametrize("after", [b"", b"\n", b"\n\n", b"\n\ndata: [DONE]\n\n"])
def test_lines_of_bare_json_are_an_error(error: bytes, after: bytes):
    found = parse(b"data: a\n\n" + error + after)
    assert found[:2] == [Frame(b"a"), Frame(error, b"error", is_bare=True)]
    assert found[2:] == [Frame(b"[DONE]")] * after.endswith(b"]\n\n")


@pytest.mark.parametrize("block", [b"data: [DONE]\n" + BARE, BARE + b"\ndata: [DONE]", b"event: x\n" + BARE])
def test_bare_json_among_an_events_lines_comes_before_the_event(block: bytes):
    """Else the end that the event may be would hide it."""
    found = parse(block + b"\n\n")
    assert found[0] == Frame(BARE, b"error", is_bare=True)
    assert [frame.data for frame in found[1:]] == [b"[DONE]"] * (b"DONE" in block)


def test_bare_json_has_the_bound_of_an_event():
    parser = Parser(max_event_bytes=64)
    with pytest.raises(UpstreamTooLarge):
        parser.feed(b"{\n" + b' "a": 1,\n' * 30)


@pytest.mark.parametrize("line", [b"data: " + b"x" * 100, b"y" * 200, b"data: xxxx\n" * 30])
def test_an_event_over_its_bound_is_refused(line: bytes):
    parser = Parser(max_event_bytes=64)
    with pytest.raises(UpstreamTooLarge):
        parser.feed(line)


def test_the_bound_holds_for_a_line_that_comes_in_many_reads():
    parser = Parser(max_event_bytes=64)
    parser.feed(b"data: ")
    parser.feed(b"x" * 50)
    with pytest.raises(UpstreamTooLarge):
        parser.feed(b"x" * 50)


def test_the_bound_is_for_each_event_not_for_the_stream():
    parser = Parser(max_event_bytes=64)
    assert len(parser.feed(b"data: xxxxxxxx\n\n" * 1000)) == 1000


LINE = st.sampled_from(
    [
        b"data: x",
        b"data:",
        b"data: \xc3\xa9\xf0\x9f\x98\x80",
        b"event: e",
        b": c",
        b"",
        b"",
        b"id: 1",
        b"data",
        b"\xef\xbb\xbf",
        b"{",
        b'  "error": 1',
        b"}]",
    ]
)
ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])


@given(
    lines=st.lists(LINE, max_size=12),
    end=ENDS,
    cuts=st.lists(st.integers(0, 200), max_size=8),
)
def test_cutting_the_bytes_anywhere_gives_the_same_frames(lines: list[bytes], end: bytes, cuts: list[int]):
    whole = end.join(lines)
    places = sorted({min(cut, len(whole)) for cut in cuts})
    pieces = [whole[a:b] for a, b in zip([0, *places], [*places, len(whole)], strict=True)]
    assert parse(*pieces) == parse(whole)
