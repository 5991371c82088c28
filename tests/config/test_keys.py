"""What a key in the file can carry."""

import pytest

from support.configs import problem, read
from tollhouse.config.schema import BudgetSettings, KeySettings, RateSettings, Scope

PROVIDERS = "providers: {openai: {api_key: x}, local: {}}\nmodels: {fast: openai/gpt-5}\n"


def with_key(more: str) -> str:
    return f"auth: {{keys: [{{name: dev, key: th-12345678, {more}}}]}}\n{PROVIDERS}"


def only_key(more: str) -> KeySettings:
    (key,) = read(with_key(more)).auth.keys
    return key


def test_a_key_has_no_bounds_unless_it_is_given_some():
    (key,) = read(f"auth: {{keys: [{{name: dev, key: th-12345678}}]}}\n{PROVIDERS}").auth.keys
    assert key.limits.is_empty
    assert (key.budgets, key.models, key.providers, key.ip_ranges, key.tags) == ((), (), (), (), {})


def test_a_key_has_limits_of_its_own():
    assert only_key("limits: {requests_per_minute: 60, concurrent: 2}").limits == RateSettings(
        requests_per_minute=60, concurrent=2
    )


def test_a_key_s_budget_is_scoped_to_it_and_is_among_all_budgets():
    config = read(with_key("budget: {daily: 5.0, monthly: 50, mode: soft, alert_at: [0.8]}") + "budgets: {daily: 9}\n")
    scope = Scope("key", "dev")
    own = (
        BudgetSettings(scope=scope, period="day", limit_nano=5 * 10**9, is_hard=False, alert_at=(0.8,)),
        BudgetSettings(scope=scope, period="month", limit_nano=50 * 10**9, is_hard=False, alert_at=(0.8,)),
    )
    assert config.auth.keys[0].budgets == own
    assert config.budgets == (BudgetSettings(scope=Scope("global"), period="day", limit_nano=9 * 10**9), *own)


def test_a_key_may_be_kept_to_models_providers_and_networks():
    key = only_key(
        "models: [fast, openai/gpt-5, 'openai/*', 'fa*'], providers: [openai], ip_ranges: [10.0.0.0/8, '::1']"
    )
    assert key.models == ("fast", "openai/gpt-5", "openai/*", "fa*")
    assert key.providers == ("openai",)
    assert key.ip_ranges == ("10.0.0.0/8", "::1/128")


def test_a_key_has_notes():
    assert only_key("tags: {team: search, cost_centre: '42'}").tags == {"team": "search", "cost_centre": "42"}


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ("limits: {}", "auth.keys[0].limits: There is no limit here"),
        ("limits: {concurrent: 1, per_key: 1}", "auth.keys[0].limits.per_key: There is no such key."),
        ("budget: {}", "auth.keys[0].budget: There is no amount here"),
        ("budget: {scope: global, daily: 1}", "auth.keys[0].budget.scope: There is no such key."),
        ("budgets: {daily: 1}", "auth.keys[0].budgets: There is no such key. Did you mean 'budget'?"),
        ("models: []", "auth.keys[0].models: The list is empty; name what is allowed, or remove it to allow all."),
        ("providers: []", "auth.keys[0].providers: The list is empty"),
        ("ip_ranges: []", "auth.keys[0].ip_ranges: The list is empty"),
        ("models: fast", "auth.keys[0].models: Must be a list, not a single value."),
        ("models: [fats]", "auth.keys[0].models[0]: There is no alias 'fats'. Did you mean 'fast'?"),
        ("models: ['fats*']", "auth.keys[0].models[0]: No alias and no provider begins like 'fats*'."),
        ("models: [fast, fast]", "auth.keys[0].models[1]: 'fast' is in this list already."),
        ("providers: [opnai]", "auth.keys[0].providers[0]: There is no provider 'opnai'. Did you mean 'openai'?"),
        ("ip_ranges: [10.0.0.1/8]", "has bits below its mask; write 10.0.0.0/8 for the network"),
        ("tags: {'a b': c}", "is not a name"),
        ("tags: {a: 5}", "auth.keys[0].tags.a: Must be a text, and YAML reads '5' as an integer; put it in quotes."),
        ("tags: [a]", "auth.keys[0].tags: Must be a mapping of names, not a list."),
    ],
)
def test_what_a_key_cannot_mean_is_refused(more: str, sentence: str):
    assert sentence in problem(with_key(more))


@pytest.mark.parametrize("pattern", ["*", "openai/*", "openai/gpt-*", "open*", "f*"])
def test_a_star_stands_for_the_rest_of_a_name(pattern: str):
    assert only_key(f"models: ['{pattern}']").models == (pattern,)


def test_a_key_s_limits_stand_in_one_place():
    text = with_key("limits: {concurrent: 1}") + "limits: {scopes: [{scope: 'key:dev', concurrent: 2}]}\n"
    assert "limits.scopes[0]: 'key:dev' has limits at auth.keys[0].limits already" in problem(text)


def test_a_key_s_budget_stands_in_one_place():
    text = with_key("budget: {daily: 1}") + "budgets: [{scope: 'key:dev', daily: 2, monthly: 3}]\n"
    assert "budgets[0].daily: 'key:dev' has this budget at auth.keys[0].budget.daily already" in problem(text)


def test_a_key_has_at_most_fifty_tags():
    tags = ", ".join(f"t{number}: x" for number in range(51))
    assert "auth.keys[0].tags.t50: A key can have at most 50 tags." in problem(with_key(f"tags: {{{tags}}}"))
