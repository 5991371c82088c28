"""Whatever does not add up is found, and what does is not complained of."""

from pathlib import Path

import pytest

from support.books import BOOK, MTOK, USED, ask, keep, priced, stored_totals, write
from support.call_records import NOON_US, make_call
from tollhouse.chat.usage import Usage
from tollhouse.errors import CallLost
from tollhouse.ledger.address import journal_name
from tollhouse.ledger.hours import HOUR_US
from tollhouse.ledger.journal import Journal
from tollhouse.ledger.price_books import Shelf
from tollhouse.ledger.prices import PriceBook, Rates
from tollhouse.ledger.rows import row_of
from tollhouse.ledger.verify import MAX_FINDINGS, Check, Purse, Question, Verdict, verify

HOUR = 3600
REBUILT = Usage(input_tokens=1_000_000, output_tokens=0, source="rebuilt")


@pytest.fixture
def url(url: str) -> str:
    """Calls of three hours, of every kind that a gateway writes."""
    return _filled(url)


@pytest.fixture
def any_url(any_url: str) -> str:
    """The same in both databases."""
    return _filled(any_url)


def _filled(address: str) -> str:
    keep(address)
    write(
        address,
        [
            priced("a"),
            priced("b", key="ci", usage=REBUILT),
            priced("c", at=HOUR, provider="claude", model="opus"),
            make_call("refused", at=HOUR, usage=Usage(), cost_nano=0, outcome="provider_refused"),
            make_call("silent", at=HOUR, usage=Usage(), cost_nano=None),
            make_call("shared", at=2 * HOUR, usage=Usage(), cost_nano=0, attempts=()),
            make_call("lost", at=2 * HOUR, usage=Usage(input_tokens=5), cost_nano=MTOK, outcome=CallLost.code),
        ],
    )
    return address


def check(url: str, **question: object) -> Verdict:
    return verify(url, Shelf(), Question(**question))  # type: ignore[arg-type] # each test gives what it asks


def said(verdict: Verdict, check: Check) -> list[str]:
    assert verdict.found.keys() == {check}
    return [finding.message for finding in verdict.findings]


def test_a_sound_ledger_adds_up(any_url: str):
    verdict = check(any_url)

    assert verdict.adds_up
    assert (verdict.calls, verdict.hours, verdict.pruned_hours) == (7, 3, 0)
    assert (verdict.checked_bills, verdict.unchecked_bills, verdict.lost_calls) == (6, {}, 1)
    assert verdict.unknown_cost_calls == 1
    assert verdict.cost_nano == 2_600_000_000 + 2_000_000_000 + 4_500_000_000 + MTOK
    shares = {source: (share.calls, share.cost_nano) for source, share in verdict.by_source.items()}
    assert shares == {
        "reported": (2, 7_100_000_000),
        "rebuilt": (1, 2_000_000_000),
        "none": (4, MTOK),
    }


def test_an_empty_ledger_adds_up(url: str):
    ask(url, "DELETE FROM calls")
    ask(url, f"DELETE FROM {stored_totals(url)}")

    assert check(url).adds_up


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        (
            "UPDATE {totals} SET cost_nano = cost_nano + 1 WHERE key = 'ci'",
            (
                "2026-11-21 12:00, tenant=acme project=web key=ci alias=fast provider=openai model=gpt-4o-mini-2024-07-18: "
                "cost_nano is 2,000,000,001 in the totals and 2,000,000,000 in the rows."
            ),
        ),
        (
            "UPDATE {totals} SET cache_read_tokens = 0 WHERE key = 'ci'",
            (
                "2026-11-21 12:00, tenant=acme project=web key=ci alias=fast provider=openai model=gpt-4o-mini-2024-07-18: "
                "cache_read_tokens is 0 in the totals and not said in the rows."
            ),
        ),
        (
            "DELETE FROM {totals} WHERE key = 'ci'",
            (
                "2026-11-21 12:00, tenant=acme project=web key=ci alias=fast provider=openai model=gpt-4o-mini-2024-07-18: "
                "1 call for $2.000000000, and there are no totals."
            ),
        ),
        (
            "DELETE FROM calls WHERE id = 'c'",
            (
                "2026-11-21 13:00, tenant=acme project=web key=dev alias=fast provider=claude model=opus: "
                "the totals say 1 call for $4.500000000, and there are no rows."
            ),
        ),
    ],
)
def test_totals_and_rows_that_differ_are_found_in_both_directions(url: str, statement: str, message: str):
    ask(url, statement.format(totals=stored_totals(url)))

    assert said(check(url), "totals") == [message]


def test_totals_of_an_hour_that_never_had_calls_are_found(any_url: str):
    ask(any_url, f"UPDATE {stored_totals(any_url)} SET hour_us = hour_us + {100 * HOUR_US} WHERE key = 'ci'")

    assert len(said(check(any_url), "totals")) == 2


def test_rows_that_were_pruned_are_not_missed(any_url: str):
    ask(any_url, f"DELETE FROM calls WHERE started_at_us < {NOON_US + HOUR_US}")
    verdict = check(any_url, pruned_before_us=NOON_US + HOUR_US)

    assert verdict.adds_up
    assert (verdict.hours, verdict.pruned_hours) == (2, 1)


def test_old_hours_whose_rows_are_all_there_are_compared(url: str):
    verdict = check(url, pruned_before_us=NOON_US + 100 * HOUR_US)

    assert (verdict.hours, verdict.pruned_hours) == (3, 0)


def test_rows_that_are_gone_without_a_retention_are_missed(url: str):
    ask(url, f"DELETE FROM calls WHERE started_at_us < {NOON_US + HOUR_US}")

    assert said(check(url), "totals") == [
        (
            "1 hour from 2026-11-21 12:00 to 2026-11-21 12:00 has totals and no rows, and no row is older. "
            "If they were pruned, `--retention` says so."
        )
    ]


def test_a_pruned_hour_cannot_have_more_rows_than_totals(url: str):
    ask(url, f"UPDATE {stored_totals(url)} SET calls = 0 WHERE key = 'ci'")

    assert said(check(url, pruned_before_us=NOON_US + HOUR_US), "totals")[0].endswith(
        "the rows say more than the totals."
    )


def test_only_hours_since_a_moment_are_looked_at(url: str):
    ask(url, f"UPDATE {stored_totals(url)} SET cost_nano = cost_nano + 1 WHERE key = 'ci'")
    verdict = check(url, since_us=NOON_US + HOUR_US + 5)

    assert verdict.adds_up
    assert verdict.calls == 5


def test_a_cost_that_is_not_the_bill_is_found(url: str):
    ask(url, "UPDATE calls SET cost_nano = 2600000001 WHERE id = 'a'")

    assert said(check(url), "bills") == [f"Call a costs $2.600000001; by {BOOK.version} it is $2.600000000."]


def test_a_cost_that_should_be_known_is_found(url: str):
    ask(url, "UPDATE calls SET cost_nano = NULL WHERE id = 'a'")

    assert said(check(url), "bills") == [f"Call a costs not known; by {BOOK.version} it is $2.600000000."]


def test_counts_that_were_changed_are_found_by_the_bill(any_url: str):
    stored_totals(any_url)
    ask(any_url, "UPDATE calls SET output_tokens = 100001 WHERE id = 'a'")

    assert check(any_url).found == {"totals": 1, "bills": 1}


@pytest.mark.parametrize(
    ("name", "why"), [("refused", "without any counts"), ("shared", "though no provider was asked")]
)
def test_a_cost_out_of_nothing_is_found(url: str, name: str, why: str):
    ask(url, f"UPDATE calls SET cost_nano = 5 WHERE id = '{name}'")

    assert said(check(url), "bills") == [f"Call {name} costs $0.000000005 {why}."]


def test_calls_whose_prices_nobody_kept_are_counted_apart(url: str):
    others = PriceBook.load({"openai/*": Rates(input=1, output=1)})
    write(url, [priced("x", prices=others), priced("y", prices=others)])
    verdict = check(url)

    assert verdict.adds_up
    assert verdict.unchecked_bills == {others.version: 2}


def test_many_findings_are_counted_and_some_are_told(url: str):
    write(url, [priced(f"x{number}") for number in range(MAX_FINDINGS + 20)])
    ask(url, "UPDATE calls SET cost_nano = 1 WHERE id LIKE 'x%'")
    verdict = check(url)

    assert verdict.found == {"bills": MAX_FINDINGS + 20}
    assert len(verdict.findings) == MAX_FINDINGS


def test_a_request_id_that_stands_twice_is_found(tmp_path: Path, request: pytest.FixtureRequest):
    url: str = request.getfixturevalue("postgres_ledger")
    write(url, [priced("a"), priced("b")])
    ask(url, "ALTER TABLE calls DROP CONSTRAINT calls_id")
    assert [finding.message for finding in check(url).findings] == [
        "Nothing keeps request ids unique: the index `calls_id` is missing."
    ]

    ask(url, "UPDATE calls SET id = 'a'")
    assert "Call a stands 2 times." in said(check(url), "duplicates")


def test_calls_that_wait_in_a_journal_are_found(any_url: str, tmp_path: Path):
    journal = Journal(tmp_path, journal_name(any_url), max_bytes=10**6)
    journal.append([row_of(priced("a")), row_of(priced("waiting"))])
    verdict = check(any_url, journals=tmp_path)

    assert verdict.waiting_calls == 1
    assert said(verdict, "journals")[0].startswith("1 call in the journals of ")
    journal.close()


def test_a_damaged_journal_is_found(url: str, tmp_path: Path):
    (tmp_path / f"{journal_name(url)}.journal-1-00.damaged").write_bytes(b"x\n")

    assert "has lines that could not be read" in said(check(url, journals=tmp_path), "journals")[0]


def test_budgets_must_hold_nothing_and_have_spent_what_the_ledger_says(url: str):
    good = Purse("global/day/2026-11-21", 5, 0, 5)
    assert check(url, purses=[good]).purses == 1
    verdict = check(
        url, purses=[good, Purse("key:dev/day/2026-11-21", 5, 2, 5), Purse("key:ci/day/2026-11-21", 4, 0, 5)]
    )

    assert verdict.found == {"holds": 1, "spending": 1}
    assert [finding.message for finding in verdict.findings] == [
        "Budget key:dev/day/2026-11-21 has $0.000000002 held, though nothing is under way.",
        "Budget key:ci/day/2026-11-21 has spent $0.000000004 by the counters and $0.000000005 by the ledger.",
    ]


def test_a_bill_of_either_type_is_right_where_a_name_stood_for_two(url: str):
    prices = PriceBook.load({"anthropic/*": Rates(input=MTOK, output=0), "deepseek/*": Rates(input=2 * MTOK, output=0)})
    keep(url, prices, {"main": "anthropic"})
    keep(url, prices, {"main": "deepseek"})
    for name, dollars in (("one", 1), ("two", 2), ("three", 3)):
        call = make_call(name, provider="main", model="m", usage=USED, cost_nano=dollars * MTOK)
        call.price_version = prices.version
        write(url, [call])

    assert said(check(url), "bills") == [
        f"Call three costs $3.000000000; by {prices.version} it is $1.000000000 or $2.000000000."
    ]


def test_what_no_price_tells_of_another_path_may_cost_what_was_held(url: str):
    write(
        url,
        [
            make_call("batch", usage=Usage(), cost_nano=MTOK, door="passthrough"),
            make_call("image", provider="new", model="none", cost_nano=MTOK, door="passthrough"),
        ],
    )
    verdict = check(url)

    assert verdict.adds_up
    assert verdict.flat_calls == 1


def test_what_a_price_tells_of_another_path_costs_that(url: str):
    write(url, [priced("image", door="passthrough")])
    ask(url, "UPDATE calls SET cost_nano = cost_nano + 1 WHERE id = 'image'")

    assert "bills" in check(url).found
