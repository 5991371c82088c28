"""Cache markers: no more than a provider takes, the most useful ones, and the longest first."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollhouse.chat.markers import Markers, Place
from tollhouse.chat.model import CacheMarker
from tollhouse.chat.receipt import Receipt

ORDER: tuple[Place, ...] = ("tools", "system", "messages", "top")
marks = st.lists(st.tuples(st.sampled_from(ORDER), st.sampled_from([None, "5m", "1h"])), max_size=12)


def settled(given: list[tuple[Place, str | None]], most: int | None, fixed: int = 0) -> tuple[list[Any], Receipt]:
    """The lifetimes that are left, in the order of the prompt: `...` where there is no marker any more."""
    markers, receipt = Markers(most), Receipt()
    blocks: list[tuple[Place, dict[str, Any]]] = []
    for place, ttl in given:
        blocks.append((place, {}))
        markers.mark(blocks[-1][1], CacheMarker(ttl), place)
    for _ in range(fixed):
        markers.count_fixed(msgspec.Raw(b'{"cache_control": {}}'))
    markers.settle(receipt)
    blocks.sort(key=lambda each: ORDER.index(each[0]))
    return [block["cache_control"].get("ttl") if block else ... for _, block in blocks], receipt


@given(marks, st.integers(0, 5), st.integers(0, 2))
def test_what_is_left_is_what_a_provider_takes(given: list[tuple[Place, str | None]], most: int, fixed: int):
    left, receipt = settled(given, most, fixed)
    kept = [ttl for ttl in left if ttl is not ...]
    assert len(kept) == min(len(given), max(0, most - fixed))
    lifetimes = [ttl == "1h" for ttl in kept]
    assert lifetimes == sorted(lifetimes, reverse=True)
    assert ("markers, as no more fit" in receipt.header()) == (len(kept) < len(given))


@given(marks)
def test_without_a_bound_nothing_changes(given: list[tuple[Place, str | None]]):
    left, receipt = settled(given, None)
    assert left == [ttl for _, ttl in sorted(given, key=lambda each: ORDER.index(each[0]))]
    assert not receipt


@pytest.mark.parametrize(
    ("given", "left"),
    [
        ("tttmmmmmm", "..t...mmm"),  # the last one of what is shared, and the last ones
        ("tsmm", "tsmm"),
        ("tssssm", "..sssm"),
        ("mmmmmm", "..mmmm"),
        ("tmmmmx", "t..mmx"),
    ],
)
def test_those_are_kept_that_cover_most(given: str, left: str):
    places: dict[str, Place] = {"t": "tools", "s": "system", "m": "messages", "x": "top"}
    kept, _ = settled([(places[letter], None) for letter in given], 4)
    assert "".join("." if ttl is ... else letter for letter, ttl in zip(given, kept, strict=True)) == left


def test_a_block_that_is_marked_twice_is_one_marker():
    receipt, markers = Receipt(), Markers(1)
    first: dict[str, object] = {}
    last: dict[str, object] = {}
    for block in (first, first, last):
        markers.mark(block, CacheMarker(), "messages")
    markers.settle(receipt)
    assert ("cache_control" in first, "cache_control" in last) == (False, True)
    assert receipt.entries == ("dropped cache_control: 1 of 2 markers, as no more fit",)
