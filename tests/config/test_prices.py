"""A file of prices is checked like the configuration's own section."""

from pathlib import Path

import pytest

from tollhouse.config.prices import parse_price_file
from tollhouse.config.tree import MAX_FILE_BYTES
from tollhouse.errors import ConfigError

OWNERS = {"openai", "lab"}


def parse(text: str | bytes) -> dict[str, dict[str, int]]:
    data = text.encode() if isinstance(text, str) else text
    settings = parse_price_file(Path("prices.yaml"), data, OWNERS)
    return {name: dict(rates) for name, rates in settings.overrides.items()}


def test_dollars_per_million_become_nano_dollars():
    assert parse("prices:\n  openai/gpt-5.2: {input: 1.5, output: 12}\n  lab/*: {request: 0.000000001}\n") == {
        "openai/gpt-5.2": {"input": 1_500_000_000, "output": 12_000_000_000},
        "lab/*": {"request": 1},
    }


def test_all_problems_are_told_at_once_with_their_places():
    with pytest.raises(ConfigError) as caught:
        parse("prices:\n  opnai/*: {input: 1}\n  lab: {input: 1}\n  lab/m: {inptu: 1, output: -1}\nserver: {}\n")

    assert [problem.partition(": ")[0] for problem in caught.value.problems] == [
        "prices.yaml:2:3",
        "prices.yaml:3:3",
        "prices.yaml:4:11",
        "prices.yaml:4:29",
        "prices.yaml:5:1",
    ]


@pytest.mark.parametrize("text", ["prices:", "prices: {}", "{}", "# nothing"])
def test_a_file_without_prices_is_none(text: str):
    with pytest.raises(ConfigError, match="There are no prices here; write them under `prices`"):
        parse(text)


def test_files_cannot_be_read_through_a_price_file():
    with pytest.raises(ConfigError):
        parse("prices: {lab/*: {input: '${file:/etc/hostname}'}}")


def test_a_file_has_a_bound():
    with pytest.raises(ConfigError, match="longer than"):
        parse(b"#" * (MAX_FILE_BYTES + 1))
