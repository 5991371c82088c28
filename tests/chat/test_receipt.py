"""The receipt lists each loss once, in a line that fits a header."""

from tollhouse.chat.receipt import MAX_ENTRIES, MAX_HEADER_CHARACTERS, Receipt


def test_an_empty_receipt_is_false_and_says_nothing():
    assert not Receipt()
    assert Receipt().header() == ""


def test_the_same_loss_is_noted_once():
    receipt = Receipt()
    receipt.dropped("seed", "Anthropic has no seed")
    receipt.dropped("seed", "Anthropic has no seed")
    receipt.changed("temperature", "clamped to 1")
    assert receipt.header() == "dropped seed: Anthropic has no seed; changed temperature: clamped to 1"


def test_what_stands_in_a_request_cannot_break_the_header():
    receipt = Receipt()
    receipt.dropped("a\r\nset-cookie: x\x00é", "no")
    assert receipt.header() == "dropped a??set-cookie: x??: no"


def test_a_receipt_is_bounded_in_entries_and_in_length():
    receipt = Receipt()
    for i in range(MAX_ENTRIES + 5):
        receipt.dropped(f"field{i}", "unknown")
    assert len(receipt.entries) == MAX_ENTRIES
    assert len(receipt.header()) == MAX_HEADER_CHARACTERS
    small = Receipt()
    for i in range(MAX_ENTRIES + 5):
        small.dropped(str(i), "-")
    assert small.header().endswith("; and 5 more")
