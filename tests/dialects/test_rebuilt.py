"""What a stream that broke off cost, counted from what was seen of it."""

import pytest

from tollhouse.chat.usage import Usage
from tollhouse.dialects.rebuilt import Tally


def tally(*texts: str, calls: int = 0) -> Tally:
    counted = Tally()
    for text in texts:
        counted.add(text)
    counted.calls = calls
    return counted


@pytest.mark.parametrize(
    ("counted", "tokens"),
    [
        (tally(), 0),
        (tally("a", "b", "c"), 3),
        (tally("a" * 400), 100),
        (tally("東京" * 20), 30),
        (tally("{}", calls=1), 15),
    ],
    ids=["nothing", "pieces", "letters", "another script", "a call"],
)
def test_tokens_are_counted_from_pieces_bytes_and_calls(counted: Tally, tokens: int):
    assert counted.tokens == tokens


def test_what_was_reported_is_no_less_than_that():
    said = Usage(input_tokens=7, output_tokens=50, reasoning_tokens=40, source="reported")
    assert tally("a").rebuilt(said) == Usage(input_tokens=7, output_tokens=50, reasoning_tokens=40, source="rebuilt")
    assert tally("a" * 400).rebuilt(said).output_tokens == 100
    assert tally().usage(said) == said
