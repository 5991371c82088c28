"""Limits, budgets and the scopes that both are for."""

import pytest

from support.configs import MINIMAL, problem, problems, read
from tollhouse.config.limits import MAX_SHARED_NANO, scope_of
from tollhouse.config.schema import BudgetSettings, LimitSettings, RateSettings, Scope, ScopedRates
from tollhouse.config.secret import Secret
from tollhouse.config.show import show
from tollhouse.config.values import Given, Refused
from tollhouse.policy.counters import MAX_LIMIT_NANO

DOLLAR = 10**9
ALL = Scope("global")
MODELS = """\
auth: {open: true}
providers:
  openai: {api_key: x}
  lab: {type: openai-compatible, base_url: "http://127.0.0.1:1/v1"}
models: {fast: openai/gpt-5, default: fast}
"""


# ---------------------------------------------------------------------------------------------------------------- limits


def test_limits_are_for_all_calls_and_for_each_key_tenant_and_address():
    text = """
limits:
  requests_per_minute: 600
  tokens_per_minute: 200000
  concurrent: 200
  max_wait: 2s
  max_waiting: 5
  per_key: {requests_per_minute: 60}
  per_tenant: {tokens_per_minute: 7}
  per_ip: {concurrent: 8}
  scopes:
    - {scope: "tenant:research", requests_per_minute: 1}
    - {scope: "model:lab/our", concurrent: 2}
"""
    assert read(MODELS + text).limits == LimitSettings(
        overall=RateSettings(requests_per_minute=600, tokens_per_minute=200_000, concurrent=200),
        per_key=RateSettings(requests_per_minute=60),
        per_tenant=RateSettings(tokens_per_minute=7),
        per_ip=RateSettings(concurrent=8),
        scopes=(
            ScopedRates(scope=Scope("tenant", "research"), rates=RateSettings(requests_per_minute=1)),
            ScopedRates(scope=Scope("model", "lab/our"), rates=RateSettings(concurrent=2)),
        ),
        max_wait_seconds=2.0,
        max_waiting=5,
    )


@pytest.mark.parametrize(
    ("limits", "sentence"),
    [
        ("{requests_per_minute: 0}", "Must be a whole number from 1 to 1000000000"),
        ("{per_ip: {}}", "limits.per_ip: There is no limit here; give at least one of requests_per_minute,"),
        ("{per_key: {concurent: 1}}", "limits.per_key.concurent: There is no such key. Did you mean 'concurrent'?"),
        ("{per_keys: {concurrent: 1}}", "limits.per_keys: There is no such key. Did you mean 'per_key'?"),
        ("{max_wait: 11m}", "Must be a duration from 0 s to 600 s, not '11m'."),
        ("{scopes: [{concurrent: 1}]}", "limits.scopes[0]: The entry has no `scope`"),
        ("{scopes: [{scope: global, concurrent: 1}]}", "The limits of all calls stand at `limits` itself."),
        ("{scopes: [{scope: 'key:dev'}]}", "limits.scopes[0]: There is no limit here"),
        ("{scopes: [{scope: 'key:a', concurrent: 1}, {scope: 'key:a', concurrent: 2}]}", "at limits.scopes[0] already"),
    ],
)
def test_limits_that_say_nothing_or_the_same_twice_are_refused(limits: str, sentence: str):
    assert sentence in problem(MINIMAL + f"limits: {limits}\n")


# --------------------------------------------------------------------------------------------------------------- budgets


def test_each_amount_of_an_entry_is_a_budget_of_its_own():
    text = """
budgets:
  - {scope: global, hourly: 10.0, daily: 100.0}
  - {scope: "tenant:research", monthly: 500.0, alert_at: [0.5, 0.9], webhook: "https://hooks.example.org/x"}
  - {scope: "project:research/search", total: 0, clamp_output: true}
  - {scope: "key:ci", weekly: 0.5, mode: soft}
"""
    assert read(MINIMAL + text).budgets == (
        BudgetSettings(scope=ALL, period="hour", limit_nano=10 * DOLLAR),
        BudgetSettings(scope=ALL, period="day", limit_nano=100 * DOLLAR),
        BudgetSettings(
            scope=Scope("tenant", "research"),
            period="month",
            limit_nano=500 * DOLLAR,
            alert_at=(0.5, 0.9),
            webhook=Secret("https://hooks.example.org/x"),
        ),
        BudgetSettings(scope=Scope("project", "research/search"), period="total", limit_nano=0, clamp_output=True),
        BudgetSettings(scope=Scope("key", "ci"), period="week", limit_nano=DOLLAR // 2, is_hard=False, alert_at=(1.0,)),
    )


def test_a_mapping_of_amounts_is_a_budget_of_all_calls():
    assert read(MINIMAL + "budgets: {daily: 5, mode: soft, alert_at: [1]}\n").budgets == (
        BudgetSettings(scope=ALL, period="day", limit_nano=5 * DOLLAR, is_hard=False, alert_at=(1.0,)),
    )


def test_a_webhook_that_is_not_told_when_to_be_called_is_called_when_the_budget_is_used_up():
    (budget,) = read(MINIMAL + "budgets: {daily: 5, webhook: 'https://h/x'}\n").budgets
    assert budget.alert_at == (1.0,)


@pytest.mark.parametrize(
    ("budgets", "sentence"),
    [
        ("[{scope: global}]", "budgets[0]: There is no amount here; give at least one of hourly, daily, weekly,"),
        ("{mode: soft}", "budgets: There is no amount here"),
        (
            "[{daily: 1}]",
            "budgets[0]: The entry has no `scope`, which says whose calls it is about: global, tenant:NAME",
        ),
        ("[{scope: global, dayly: 1}]", "budgets[0].dayly: There is no such key. Did you mean 'daily'?"),
        ("[{scope: global, daily: 1, mode: hart}]", "Must be one of hard, soft, not 'hart'. Did you mean 'hard'?"),
        ("[{scope: global, daily: 1, alert_at: [50]}]", "alert_at[0]: Must be a fraction such as 0.5 for a half"),
        ("[{scope: global, daily: 1, alert_at: [0]}]", "alert_at[0]: Must be a fraction"),
        ("[{scope: global, daily: 1, alert_at: 0.5}]", "budgets[0].alert_at: Must be a list, not a single value."),
        ("[{scope: global, daily: 1, alert_at: [0.5, 0.5]}]", "Must be more than the one before it, which is 0.5."),
        ("[{scope: global, daily: 1, alert_at: [0.9, 0.5]}]", "Must be more than the one before it, which is 0.9."),
        ("[{scope: global, daily: 1, mode: soft, clamp_output: true}]", "A soft budget refuses nothing"),
        ("[{scope: global, daily: 1}, {scope: global, daily: 2}]", "budgets[1].daily: 'global' has this budget at"),
        ("[{scope: global, daily: -1}]", "budgets[0].daily: Must be an amount in US dollars"),
        ("[daily]", "budgets[0]: Must be a mapping"),
        ("daily", "budgets: Must be a mapping"),
    ],
)
def test_a_budget_that_could_be_misread_is_refused(budgets: str, sentence: str):
    assert sentence in problem(MINIMAL + f"budgets: {budgets}\n")


def test_a_webhook_is_never_shown():
    text = "budgets: [{scope: global, daily: 1, webhook: 'https://hooks.example.org/T0/plaintext'}]\n"
    config = read(MINIMAL + text)
    assert "plaintext" not in show(config.places) + repr(config)
    bad = problem(MINIMAL + text.replace("https", "ftp"))
    assert "plaintext" not in bad
    assert bad.endswith("webhook: The address must begin with https:// or http://.")


def test_all_that_is_wrong_with_a_budget_is_told_at_once():
    found = problems(MINIMAL + "budgets: [{scope: tennant:a, daily: x, alert_at: [2], webhook: y, zzz: 1}]\n")
    assert len(found) == 5


def test_an_amount_that_a_shared_store_cannot_count_exactly_is_refused_with_one():
    """Lua's numbers are doubles: see `policy/counters.py`."""
    assert MAX_SHARED_NANO == MAX_LIMIT_NANO
    text = MINIMAL + "budgets: {daily: 9000001, total: 9000000}\n"
    assert len(read(text).budgets) == 2
    assert "budgets.daily: Must be at most 9,000,000 dollars while `state.url` is set" in problem(
        text + "state: {url: 'redis://127.0.0.1'}\n"
    )


def test_the_bound_of_a_shared_store_holds_for_a_key_s_budget_too():
    text = MINIMAL.replace("{open: true}", "{keys: [{name: dev, key: th-12345678, budget: {daily: 9000001}}]}")
    assert "auth.keys[0].budget.daily: Must be at most" in problem(text + "state: {url: 'redis://127.0.0.1'}\n")


# ---------------------------------------------------------------------------------------------------------------- scopes


@pytest.mark.parametrize(
    ("text", "scope"),
    [
        ("global", ALL),
        ("tenant:research", Scope("tenant", "research")),
        ("project:research/search", Scope("project", "research/search")),
        ("key:dev", Scope("key", "dev")),
        ("provider:openai", Scope("provider", "openai")),
        ("model:smart", Scope("model", "smart")),
        ("model:lab/llama:8b", Scope("model", "lab/llama:8b")),
    ],
)
def test_a_scope_is_a_kind_and_a_name(text: str, scope: Scope):
    assert scope_of(Given(text, is_plain=True)) == scope
    assert str(scope) == text


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("tenat:a", "Did you mean 'tenant'?"),
        ("Global", "Did you mean 'global'?"),
        ("global:x", "Must be a scope, one of global, tenant:NAME"),
        ("ip:127.0.0.1", "Must be a scope"),
        ("research", "Must be a scope"),
        ("tenant", "is written tenant:NAME, and 'tenant' is not."),
        ("tenant:", "is written tenant:NAME"),
        ("tenant: a", "is written tenant:NAME"),
        ("key:a/b", "is written key:NAME"),
        ("project:search", "is written project:TENANT/NAME"),
        ("project:a/", "is written project:TENANT/NAME"),
        ("project:a/b/c", "is written project:TENANT/NAME"),
        ("model:", "is written model:NAME"),
        ("model:gpt-*", "is written model:NAME"),
    ],
)
def test_what_is_no_scope_is_refused(text: str, sentence: str):
    with pytest.raises(Refused) as caught:
        scope_of(Given(text))
    assert sentence in caught.value.sentence


def test_a_scope_from_the_environment_is_not_repeated():
    text = "budgets: [{scope: '${X}', daily: 1}]\n"
    found = problem(MINIMAL + text, {"X": "tenant:/secret"})
    assert "secret" not in found
    assert "the value of ${X}" in found
    assert "'***'" in show(read(MINIMAL + text, {"X": "tenant:a"}).places).replace('"', "'")


@pytest.mark.parametrize(
    "where", ["budgets: [{scope: %s, daily: 1}]", "limits: {scopes: [{scope: %s, concurrent: 1}]}"]
)
@pytest.mark.parametrize(
    ("scope", "sentence"),
    [
        ("provider:opnai", "There is no provider 'opnai'. Did you mean 'openai'? Those of this file are openai, lab."),
        ("model:fats", "There is no alias 'fats'. Did you mean 'fast'? A provider's model is written provider/model."),
        ("model:gpt-5", "There is no alias 'gpt-5'."),
        ("model:opnai/gpt-5", "There is no alias and no provider for 'opnai/gpt-5'. Did you mean 'openai'?"),
        ("model:lab/", "There is no alias 'lab/'."),
        ("model:default", "'default' stands for 'fast' here; name that."),
    ],
)
def test_a_scope_names_a_provider_or_a_model_that_there_is(where: str, scope: str, sentence: str):
    assert sentence in problem(MODELS + where % repr(scope) + "\n")


def test_a_scope_may_name_what_is_configured_and_what_a_database_may_know():
    scopes = ["provider:lab", "model:fast", "model:lab/anything", "tenant:unknown", "key:unknown"]
    listed = ", ".join(f"{{scope: '{scope}', daily: 1}}" for scope in scopes)
    assert [str(budget.scope) for budget in read(MODELS + f"budgets: [{listed}]\n").budgets] == scopes


def test_an_alias_that_is_wrong_is_one_problem_and_not_two():
    text = MODELS.replace("fast: openai/gpt-5", "fast: opnai/gpt-5") + "budgets: [{scope: 'model:fast', daily: 1}]\n"
    assert "No provider of that name" in problem(text)
