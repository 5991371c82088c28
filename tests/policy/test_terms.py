"""What may stand in terms, and what comes out of them."""

import pytest

from tollhouse.config.schema import BudgetSettings, RateSettings, Scope
from tollhouse.errors import BadRequest, StoreUnavailable
from tollhouse.policy.terms import (
    MAX_BUDGET_NANO,
    MAX_LIST,
    MAX_RATE,
    KeyTerms,
    Terms,
    budgets,
    checked,
    decode,
    encode,
    rates,
)

SCOPE = Scope("key", "ci")


@pytest.mark.parametrize(
    ("terms", "param"),
    [
        (Terms(requests_per_minute=0), "requests_per_minute"),
        (Terms(tokens_per_minute=MAX_RATE + 1), "tokens_per_minute"),
        (Terms(concurrent=-1), "concurrent"),
        (Terms(hourly_nano=-1), "hourly_nano"),
        (Terms(total_nano=MAX_BUDGET_NANO + 1), "total_nano"),
        (Terms(alert_at=(0.0,)), "alert_at"),
        (Terms(alert_at=(1.01,)), "alert_at"),
        (Terms(alert_at=(float("nan"),)), "alert_at"),
        (Terms(tags={"a b": "x"}), "tags"),
        (Terms(tags={"a": "x\ny"}), "tags"),
        (Terms(tags={f"t{n}": "" for n in range(MAX_LIST + 1)}), "tags"),
        (KeyTerms(models=("a b",)), "models"),
        (KeyTerms(models=("a*b",)), "models"),
        (KeyTerms(models=("",)), "models"),
        (KeyTerms(models=("x",) * (MAX_LIST + 1)), "models"),
        (KeyTerms(providers=("openai/*",)), "providers"),
        (KeyTerms(ip_ranges=("10.0.0.1/8",)), "ip_ranges"),
        (KeyTerms(ip_ranges=("example.org",)), "ip_ranges"),
    ],
)
def test_what_may_not_be_is_refused_by_name(terms: Terms, param: str):
    with pytest.raises(BadRequest) as caught:
        checked(terms)
    assert caught.value.param == param


def test_equal_terms_are_one_text():
    written = KeyTerms(models=("b", "a", "b"), ip_ranges=("10.0.0.7",), alert_at=(1.0, 0.5), tags={"z": "1", "a": "2"})
    other = KeyTerms(models=("a", "b"), ip_ranges=("10.0.0.7/32",), alert_at=(0.5, 1.0, 0.5), tags={"a": "2", "z": "1"})

    assert encode(checked(written)) == encode(checked(other))
    assert encode(checked(KeyTerms())) == "{}"
    assert decode(encode(checked(written)), KeyTerms) == checked(other)


@pytest.mark.parametrize("text", ['{"level":1}', '{"models":"fast"}', '{"models":["fa', ""])
def test_terms_that_cannot_be_read_whole_are_not_read_at_all(text: str):
    with pytest.raises(StoreUnavailable, match="does not know"):
        decode(text, KeyTerms)


def test_terms_become_limits_and_budgets():
    terms = Terms(requests_per_minute=60, daily_nano=5, monthly_nano=7, alert_at=(0.5,), clamp_output=True)

    assert rates(terms) == RateSettings(requests_per_minute=60)
    assert budgets(terms, SCOPE, None) == (
        BudgetSettings(scope=SCOPE, period="day", limit_nano=5, alert_at=(0.5,), clamp_output=True),
        BudgetSettings(scope=SCOPE, period="month", limit_nano=7, alert_at=(0.5,), clamp_output=True),
    )


def test_a_balance_is_a_hard_total_even_beside_soft_budgets():
    made = budgets(Terms(daily_nano=5, is_soft=True), SCOPE, 0)

    assert [(one.period, one.limit_nano, one.is_hard) for one in made] == [("day", 5, False), ("total", 0, True)]
