"""A call's bill can be made again, line by line, and gives what stands in its row."""

from functools import partial

import pytest

from support.books import BOOK, MTOK, USED, ask, keep, priced, write
from support.call_records import NOON_US, make_call
from tollhouse.chat.usage import Usage
from tollhouse.errors import CallLost, NotFound
from tollhouse.ledger.explain import Earlier, Explanation
from tollhouse.ledger.explain import explain as explain_within
from tollhouse.ledger.price_books import KeptBook, Shelf
from tollhouse.ledger.prices import Line, PriceBook, Rates
from tollhouse.ledger.rerate import Order, rerate
from tollhouse.ledger.stored_calls import Wanted
from tollhouse.ledger.transaction import transact


@pytest.fixture
def url(url: str) -> str:
    keep(url)
    return url


def explain(url: str, name: str = "a") -> Explanation:
    return transact(url, lambda transaction: explain_within(transaction, Shelf(), name), writes=False)


def test_each_line_has_tokens_price_and_amount_and_their_sum_is_the_cost(url: str):
    write(url, [priced("a")])
    found = explain(url)

    assert found.lines == (
        Line("cache_read", 400_000, MTOK, 400_000_000),
        Line("input", 600_000, 2 * MTOK, 1_200_000_000),
        Line("output", 100_000, 10 * MTOK, 1_000_000_000),
    )
    assert found.lines_nano == found.cost_nano == sum(line.nano for line in found.lines)
    assert (found.adds_up, found.basis, found.usage_source) == (True, "tokens", "reported")
    assert (found.price_version, found.priced_as) == (BOOK.version, "openai/*")


def test_a_listed_model_is_named_as_the_book_names_it(url: str):
    keep(url, PriceBook.load())
    write(url, [priced("a", prices=PriceBook.load(), provider="claude", model="claude-sonnet-4-5-20250929")])

    assert explain(url).priced_as == "anthropic/claude-sonnet-4-5"


def test_a_cost_that_is_not_its_bill_is_said_so(url: str):
    write(url, [priced("a")])
    ask(url, "UPDATE calls SET cost_nano = 1")
    found = explain(url)

    assert (found.adds_up, found.cost_nano, found.lines_nano) == (False, 1, 2_600_000_000)


@pytest.mark.parametrize(
    ("call", "adds_up", "remark"),
    [
        (make_call("a", usage=Usage(), cost_nano=0, outcome="provider_refused"), True, "The provider did no work"),
        (make_call("a", usage=Usage(), cost_nano=None), True, "No tokens were counted"),
        (make_call("a", usage=Usage(), cost_nano=0, attempts=()), True, "No provider was asked"),
        (make_call("a", usage=Usage(input_tokens=9), cost_nano=9, outcome=CallLost.code), None, "The gateway's process died"),
        (make_call("a", usage=USED, cost_nano=1), None, "Nobody kept the price book 0.2.3+20261121.796a39dd"),
        (priced("a", provider="lab", model="m"), True, "The price book has no price"),
        (priced("a", usage=Usage(input_tokens=9)), True, "The counts that the price needs are missing"),
        (priced("a", provider="ollama", model="m"), True, "It ran on the operator's own machine"),
        (make_call("a", usage=Usage(), cost_nano=9, door="passthrough"), None, "No price tells what this call"),
        (make_call("a", provider="lab", model="m", cost_nano=9, door="passthrough"), None, "No price tells what this call"),
    ],
)  # fmt: skip
def test_what_has_no_lines_is_explained_in_a_sentence(url: str, call, adds_up: bool | None, remark: str):
    if remark.startswith("Nobody"):
        ask(url, "DELETE FROM price_books")
    write(url, [call])
    found = explain(url)

    assert found.lines == ()
    assert found.adds_up is adds_up
    assert found.remark.startswith(remark)


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_what_a_call_cost_before_is_told(database: str, request: pytest.FixtureRequest):
    url: str = request.getfixturevalue("url" if database == "sqlite" else "postgres_ledger")
    keep(url)
    write(url, [priced("a")])
    versions = [BOOK.version]
    for at_us in (NOON_US + 3, NOON_US + 4):
        dollars = at_us - NOON_US
        prices = PriceBook.load({"openai/*": Rates(input=dollars * MTOK, output=0)})
        book = KeptBook(prices, {"openai": ("openai",)})
        order = Order(wanted=Wanted(), book=book, only_overrides=True, actor="cli:ann")
        rerate(url, order, now_us=partial(int, at_us), pause=lambda seconds: None)
        versions.append(prices.version)
    found = explain(url)

    assert found.earlier == (
        Earlier(1, NOON_US + 3, "cli:ann", 2_600_000_000, versions[0], 3 * MTOK),
        Earlier(2, NOON_US + 4, "cli:ann", 3 * MTOK, versions[1], 4 * MTOK),
    )
    assert (found.cost_nano, found.price_version, found.adds_up) == (4 * MTOK, versions[2], True)


def test_an_unknown_id_is_not_found(url: str):
    with pytest.raises(NotFound, match="no call 'nobody'"):
        explain(url, "nobody")
