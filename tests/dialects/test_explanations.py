"""A provider's words, on their way to people who are not its customers."""

import pytest

from tollhouse.dialects.explanations import MAX_MESSAGE_CHARACTERS, fit, on_one_line, words_of


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "The provider answered with status 502 and no explanation."),
        (b" upstream\n is  away ", "upstream is away"),
        (
            b"<html><head><title>Bad\n gateway</title>",
            "The provider answered with status 502 and a web page: Bad gateway.",
        ),
        (b"<html><title></title>", "The provider answered with status 502 and a web page."),
        (b"<title" * 10_000, "The provider answered with status 502 and a web page."),
    ],
)
def test_whatever_came_becomes_a_sentence(body: bytes, said: str):
    assert words_of(502, body) == said


def test_words_are_bounded_and_hold_no_credential():
    assert "hunter2hunter2" not in on_one_line("your key sk-hunter2hunter2 is wrong")
    assert len(fit("x " * MAX_MESSAGE_CHARACTERS)) == MAX_MESSAGE_CHARACTERS
    edge = "x" * (MAX_MESSAGE_CHARACTERS - 10) + " sk-hunter2hunter2"
    assert "hunter2" not in fit(edge)
