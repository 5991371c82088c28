"""Which rates, seats and purses a call must pass."""

from collections.abc import Iterable

import msgspec
import pytest

from support.claims import claim_of
from tollhouse.config.schema import BudgetSettings, LimitSettings, Period, RateSettings, Scope, ScopedRates
from tollhouse.errors import GatewayError
from tollhouse.policy.admission import Ask, Weight
from tollhouse.policy.counters import MAX_CLAIM_PARTS, MAX_LIMIT_NANO, Claim, Rate
from tollhouse.policy.identity import Principal, Shared
from tollhouse.policy.rules import IP_PARTS, MAX_REMEMBERED, Rules, is_upstream, neighbourhood, scope_of
from tollhouse.policy.windows import window

NOON_US = 1_795_262_400_000_000
"""21 November 2026, 12:00 UTC."""
HOUR_US = 3_600_000_000
WHOLE = Principal(key="dev", tenant="research", project="search")
WEIGHT = Weight(likely_tokens=700, most_input_tokens=600, most_output_tokens=400, worst_nano=5_000)


def budget(scope: str, nano: int, period: Period = "day", *, hard: bool = True, **more: object) -> BudgetSettings:
    kind, _, name = scope.partition(":")
    made = BudgetSettings(
        scope=Scope(kind, name),  # type: ignore[arg-type]  # the tests write no other kinds
        period=period,
        limit_nano=nano,
        is_hard=hard,
        **more,  # type: ignore[arg-type]  # as above
    )
    assert str(made.scope) == scope
    return made


def scoped(scope: str, rates: RateSettings) -> ScopedRates:
    kind, _, name = scope.partition(":")
    return ScopedRates(scope=Scope(kind, name), rates=rates)  # type: ignore[arg-type]  # as above


def ask(principal: Principal = WHOLE, *, address: str = "", began_at_us: int = NOON_US) -> Ask:
    return Ask(
        id="req_1",
        began_at_us=began_at_us,
        principal=principal,
        address=address,
        alias="smart",
        target="openai/gpt-4o",
        weigh=lambda: WEIGHT,
        note=b"note",
    )


def claim(rules: Rules, principal: Principal = WHOLE, *, address: str = "", weight: Weight = WEIGHT) -> Claim:
    bound = rules.bound(principal, "smart", "openai/gpt-4o", NOON_US)
    return bound.claim(ask(principal, address=address), weight)


def names(parts: Iterable[object]) -> set[str]:
    return {str(msgspec.structs.asdict(part)["name"]) for part in parts}  # type: ignore[arg-type]  # all are structs


ONE = RateSettings(requests_per_minute=1)
PERIODS: tuple[Period, ...] = ("hour", "day", "week", "month", "total")


# ------------------------------------------------------------------------------------------------------- which scopes


@pytest.mark.parametrize(
    ("scope", "is_meant"),
    [
        ("global", True),
        ("tenant:research", True),
        ("tenant:other", False),
        ("project:research/search", True),
        ("project:research/other", False),
        ("project:other/search", False),
        ("key:dev", True),
        ("key:research", False),
        ("provider:openai", True),
        ("provider:anthropic", False),
        ("model:smart", True),
        ("model:openai/gpt-4o", True),
        ("model:gpt-4o", False),
        ("model:openai", False),
    ],
)
def test_a_call_belongs_to_these_scopes_and_no_others(scope: str, is_meant: bool):
    made = claim(Rules(LimitSettings(scopes=(scoped(scope, ONE),)), [budget(scope, 10)]))
    assert names(made.parts.rates) == ({f"requests/{scope}"} if is_meant else set())
    assert names(made.parts.purses) == ({f"{scope}/day/2026-11-21"} if is_meant else set())


def test_who_has_no_tenant_is_in_no_tenants_scope():
    rules = Rules(
        LimitSettings(per_tenant=ONE, scopes=(scoped("tenant:research", ONE),)), [budget("project:/search", 1)]
    )
    assert claim(rules, Principal(key="dev")) == claim_of(
        id="req_1", began_at_us=NOON_US, tokens=WEIGHT.likely_tokens, hold_nano=WEIGHT.worst_nano or 0, note=b"note"
    )
    lost = Principal(key="dev", project="search")
    assert claim(rules, lost).parts.purses == (), "a project without a tenant is none"


def test_everybody_has_the_limit_of_all_keys_but_who_has_one_of_its_own():
    limits = LimitSettings(
        per_key=RateSettings(requests_per_minute=10, concurrent=2),
        per_tenant=RateSettings(tokens_per_minute=100),
        scopes=(scoped("key:known", RateSettings(requests_per_minute=99)),),
    )
    rules = Rules(limits)
    common = claim(rules, Principal(key="dev", tenant="research"))
    assert [(rate.name, rate.per_minute) for rate in common.parts.rates] == [
        ("requests/key:dev", 10),
        ("tokens/tenant:research", 100),
    ]
    assert names(common.parts.seats) == {"concurrent/key:dev"}
    own = claim(rules, Principal(key="own", limits=RateSettings(requests_per_minute=50)))
    assert [(rate.name, rate.per_minute) for rate in own.parts.rates] == [("requests/key:own", 50)]
    assert own.parts.seats == ()
    known = claim(rules, Principal(key="known"))
    assert [(rate.name, rate.per_minute) for rate in known.parts.rates] == [("requests/key:known", 99)]
    shared = Shared(limits=(scoped("tenant:research", RateSettings(tokens_per_minute=7)),))
    tenant = claim(rules, Principal(key="dev", tenant="research", shared=shared))
    assert [(rate.name, rate.per_minute) for rate in tenant.parts.rates if rate.counts == "tokens"] == [
        ("tokens/tenant:research", 7)
    ]


def test_another_keys_own_limit_does_not_free_this_one_of_the_common_limit():
    rules = Rules(LimitSettings(per_key=ONE, scopes=(scoped("key:other", RateSettings(concurrent=5)),)))
    assert names(claim(rules).parts.rates) == {"requests/key:dev"}


def test_a_client_is_told_the_strictest_of_what_every_call_of_its_must_pass():
    rules = Rules(
        LimitSettings(
            overall=RateSettings(requests_per_minute=600, concurrent=9),
            per_key=RateSettings(requests_per_minute=60),
            per_ip=RateSettings(concurrent=5),
            scopes=(
                scoped("tenant:research", RateSettings(requests_per_minute=50, tokens_per_minute=1_000)),
                scoped("model:smart", RateSettings(requests_per_minute=1)),
                scoped("tenant:other", RateSettings(requests_per_minute=2)),
            ),
        )
    )
    told = rules.rates_of(msgspec.structs.replace(WHOLE, limits=RateSettings(requests_per_minute=70)))
    assert told == RateSettings(requests_per_minute=50, tokens_per_minute=1_000, concurrent=5)
    assert Rules(LimitSettings()).rates_of(WHOLE).is_empty


@pytest.mark.parametrize("turned", [False, True])
def test_where_two_settings_limit_the_same_the_stricter_one_counts(turned: bool):
    loose = RateSettings(requests_per_minute=10, tokens_per_minute=5, concurrent=9)
    tight = RateSettings(requests_per_minute=4, tokens_per_minute=50, concurrent=3)
    first, second = (tight, loose) if turned else (loose, tight)
    shared = Shared(
        limits=(scoped("tenant:research", first),), budgets=(budget("tenant:research", 70 if turned else 30),)
    )
    rules = Rules(
        LimitSettings(scopes=(scoped("tenant:research", second),)),
        [budget("tenant:research", 30 if turned else 70)],
    )
    made = claim(rules, msgspec.structs.replace(WHOLE, shared=shared))
    assert {rate.name: rate.per_minute for rate in made.parts.rates} == {
        "requests/tenant:research": 4,
        "tokens/tenant:research": 5,
    }
    assert [seats.limit for seats in made.parts.seats] == [3]
    assert [purse.limit_nano for purse in made.parts.purses] == [30]


def test_a_soft_budget_beside_a_hard_one_is_a_purse_of_its_own_and_refuses_nothing():
    rules = Rules(LimitSettings(), [budget("global", 50), budget("global", 20, hard=False)])
    made = claim(rules)
    assert {purse.name: purse.limit_nano for purse in made.parts.purses} == {
        "global/day/2026-11-21": 50,
        "global/day/2026-11-21/soft": None,
    }
    bound = rules.bound(WHOLE, "smart", "openai/gpt-4o", NOON_US)
    assert bound.hard == "global/day"
    assert [each.alert_at for each in bound.budgets.values()] == [(), (1.0,)]


def test_budgets_of_configuration_key_and_tenant_are_all_held():
    principal = msgspec.structs.replace(
        WHOLE,
        budgets=(budget("key:dev", 3, "week"),),
        shared=Shared(budgets=(budget("project:research/search", 2, "total"),)),
    )
    made = claim(Rules(LimitSettings(), [budget("global", 1, "hour")]), principal)
    assert names(made.parts.purses) == {
        "global/hour/2026-11-21T12",
        "key:dev/week/2026-W47",
        "project:research/search/total/ever",
    }
    assert made.hold_nano == WEIGHT.worst_nano


# ----------------------------------------------------------------------------------------------------------- amounts


def test_a_call_takes_one_request_and_its_tokens_but_never_more_than_could_ever_fit():
    rules = Rules(LimitSettings(overall=RateSettings(requests_per_minute=5, tokens_per_minute=600)))
    heavy = claim(rules)
    assert [heavy.takes(rate) for rate in heavy.parts.rates] == [1, 600]
    light = claim(rules, weight=msgspec.structs.replace(WEIGHT, likely_tokens=20))
    assert [light.takes(rate) for rate in light.parts.rates] == [1, 20]


def test_a_call_without_a_price_holds_nothing_and_one_beyond_counting_holds_all_that_can_be_counted():
    rules = Rules(LimitSettings(), [budget("global", 1, hard=False)])
    assert claim(rules, weight=msgspec.structs.replace(WEIGHT, worst_nano=None)).hold_nano == 0
    endless = msgspec.structs.replace(WEIGHT, worst_nano=10**30)
    assert claim(rules, weight=endless).hold_nano == MAX_LIMIT_NANO, "so that it is refused, and not broken by"


def test_the_weight_is_asked_for_only_where_it_matters():
    def needs(limits: LimitSettings, *budgets: BudgetSettings) -> bool:
        return Rules(limits, budgets).bound(WHOLE, "smart", "openai/gpt-4o", NOON_US).needs_weight

    assert not needs(LimitSettings(overall=RateSettings(requests_per_minute=1, concurrent=1)))
    assert not needs(LimitSettings(per_ip=ONE))
    assert not needs(LimitSettings(), budget("tenant:other", 1))
    assert needs(LimitSettings(per_key=RateSettings(tokens_per_minute=1)))
    assert needs(LimitSettings(per_ip=RateSettings(tokens_per_minute=1)))
    assert needs(LimitSettings(), budget("key:dev", 1, hard=False))


# --------------------------------------------------------------------------------------------------------- addresses

PER_IP = Rules(LimitSettings(per_ip=RateSettings(requests_per_minute=2, tokens_per_minute=500, concurrent=3)))


def test_an_address_has_its_own_rates_and_seats():
    made = claim(PER_IP, address="192.0.2.7")
    assert made.parts.rates == (
        Rate("requests/ip:192.0.2.7", 2, 1, "requests"),
        Rate("tokens/ip:192.0.2.7", 500, 500, "tokens"),
    )
    assert [(seats.name, seats.limit) for seats in made.parts.seats] == [("concurrent/ip:192.0.2.7", 3)]
    assert len(made.parts.rates) + len(made.parts.seats) == IP_PARTS


def test_a_caller_without_an_address_is_not_counted_by_it():
    assert claim(PER_IP).parts.rates == ()
    assert claim(PER_IP).parts.seats == ()


@pytest.mark.parametrize(
    ("address", "caller"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("2001:DB8:1:2:ffff::9", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("::1", "::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("unix", "unix"),
        ("192.0.2.07", "192.0.2.07"),
    ],
)
def test_who_counts_as_one_caller(address: str, caller: str):
    assert neighbourhood(address) == caller
    assert names(claim(PER_IP, address=address).parts.seats) == {f"concurrent/ip:{caller}"}


# ------------------------------------------------------------------------------------------------------------ bounds


def test_as_many_parts_as_fit_are_checked_and_one_more_is_refused_rather_than_left_unchecked():
    scopes = ("global", "key:dev", "tenant:research", "model:smart", "provider:openai")
    all_of_them = [
        budget(scope, 1, period, hard=hard) for scope in scopes for period in PERIODS for hard in (True, False)
    ]
    per_ip = LimitSettings(per_ip=RateSettings(requests_per_minute=1, tokens_per_minute=1, concurrent=1))
    fitting = MAX_CLAIM_PARTS - IP_PARTS
    made = claim(Rules(per_ip, all_of_them[:fitting]), address="192.0.2.7")
    assert len(made.parts.rates) + len(made.parts.seats) + len(made.parts.purses) == MAX_CLAIM_PARTS
    with pytest.raises(GatewayError, match="'dev'") as refused:
        claim(Rules(per_ip, all_of_them[: fitting + 1]))
    assert refused.value.http_status == 500


# ------------------------------------------------------------------------------------------------------------ memory


def test_what_was_worked_out_is_remembered_until_a_window_ends():
    rules = Rules(LimitSettings(), [budget("global", 1, "hour"), budget("key:dev", 1, "day")])
    first = rules.bound(WHOLE, "smart", "openai/gpt-4o", NOON_US)
    assert first.until_us == NOON_US + HOUR_US
    assert rules.bound(WHOLE, "smart", "openai/gpt-4o", NOON_US + HOUR_US - 1) is first
    after = rules.bound(WHOLE, "smart", "openai/gpt-4o", NOON_US + HOUR_US)
    assert names(after.parts.purses) == {"global/hour/2026-11-21T13", "key:dev/day/2026-11-21"}
    assert rules.bound(WHOLE, "smart", "openai/gpt-4o", NOON_US + HOUR_US) is after


def test_a_call_that_began_in_the_window_before_is_counted_there_though_a_later_one_was_seen():
    """It fails over after midnight, say, when others have opened the new window."""
    rules = Rules(LimitSettings(), [budget("global", 1, "hour"), budget("key:dev", 1, "day")])
    rules.bound(WHOLE, "smart", "openai/gpt-4o", NOON_US)
    before = rules.bound(WHOLE, "smart", "openai/gpt-4o", NOON_US - 1)
    assert names(before.parts.purses) == {"global/hour/2026-11-21T11", "key:dev/day/2026-11-21"}
    assert before.budgets["global/hour/2026-11-21T11"].from_us == window("hour", NOON_US - 1).from_us


def test_without_budgets_it_is_remembered_for_ever():
    rules = Rules(LimitSettings(overall=ONE))
    first = rules.bound(WHOLE, "smart", "openai/gpt-4o", NOON_US)
    assert rules.bound(WHOLE, "smart", "openai/gpt-4o", NOON_US * 100) is first


def test_alias_and_target_are_told_apart():
    rules = Rules(LimitSettings(), [budget("model:smart", 1), budget("provider:openai", 1)])
    found = {
        (alias, target): names(rules.bound(WHOLE, alias, target, NOON_US).parts.purses)
        for alias in ("smart", "quick")
        for target in ("openai/gpt-4o", "anthropic/claude")
    }
    smart, openai = "model:smart/day/2026-11-21", "provider:openai/day/2026-11-21"
    assert found == {
        ("smart", "openai/gpt-4o"): {smart, openai},
        ("smart", "anthropic/claude"): {smart},
        ("quick", "openai/gpt-4o"): {openai},
        ("quick", "anthropic/claude"): set(),
    }


def test_a_new_principal_of_the_same_name_is_never_taken_for_the_old_one():
    """An edited key is another object; the old one is gone, and its place in memory may be the new one's."""
    rules = Rules(LimitSettings())
    for allowed in range(1, 300):
        made = Principal(key="dev", limits=RateSettings(requests_per_minute=allowed))
        (rate,) = claim(rules, made).parts.rates
        assert rate.per_minute == allowed
        del made, rate


def test_what_is_remembered_is_bounded():
    rules = Rules(LimitSettings(overall=ONE))
    for number in range(MAX_REMEMBERED + 10):
        rules.bound(WHOLE, f"openai/invented-{number}", "openai/gpt-4o", NOON_US)
    assert len(rules._bound) <= MAX_REMEMBERED


# --------------------------------------------------------------------------------------------------- names taken apart


@pytest.mark.parametrize(
    ("name", "scope", "upstream"),
    [
        ("requests/global", "global", False),
        ("tokens/key:dev", "key:dev", False),
        ("concurrent/provider:openai", "provider:openai", True),
        ("requests/model:openai/gpt-4o", "model:openai/gpt-4o", True),
        ("requests/project:research/search", "project:research/search", False),
        ("requests/ip:2001:db8::/64", "ip:2001:db8::/64", False),
    ],
)
def test_a_parts_name_says_whose_it_is_and_whether_another_candidate_may_pass(name: str, scope: str, upstream: bool):
    assert scope_of(name) == scope
    assert is_upstream(scope) is upstream
