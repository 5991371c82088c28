"""Usage totals are inclusive, and unknown is not zero."""

from tollhouse.chat.usage import Usage


def test_fresh_input_is_what_no_cache_touched():
    assert Usage(input_tokens=100, cache_read_tokens=60, cache_write_tokens=30).fresh_input_tokens == 10


def test_visible_output_leaves_reasoning_out():
    assert Usage(output_tokens=50, reasoning_tokens=20).visible_output_tokens == 30


def test_unknown_totals_have_unknown_parts():
    assert Usage().fresh_input_tokens is None
    assert Usage().visible_output_tokens is None
    assert Usage().is_empty
    assert not Usage(output_tokens=0).is_empty


def test_parts_over_their_total_never_go_below_zero():
    assert Usage(input_tokens=5, cache_read_tokens=9).fresh_input_tokens == 0
    assert Usage(output_tokens=5, reasoning_tokens=9).visible_output_tokens == 0
