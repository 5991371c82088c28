"""What may be done to tenants, projects and keys, on real databases of both kinds."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from support.registers import DAY_US, DOLLAR, HOUR_US, NOON_US, Register
from tollhouse.errors import BadRequest, Conflict, NotFound, StoreUnavailable
from tollhouse.ledger.transaction import Transaction, open_reader
from tollhouse.policy.identity import digest
from tollhouse.policy.register import (
    Key,
    all_keys,
    all_tenants,
    key,
    keys,
    project,
    projects,
    read,
    spent_by_key,
    tenant,
    tenants,
    top_ups,
)
from tollhouse.policy.registrar import (
    Change,
    Edit,
    KeyEdit,
    NewKey,
    NewProject,
    NewTenant,
    create_key,
    create_project,
    create_tenant,
    edit_key,
    edit_project,
    edit_tenant,
    remove_project,
    remove_tenant,
    revoke_key,
    rotate_key,
    top_up,
    write,
)
from tollhouse.policy.terms import KeyTerms, Terms

FULL = KeyTerms(
    requests_per_minute=60,
    tokens_per_minute=100_000,
    concurrent=4,
    daily_nano=5 * DOLLAR,
    alert_at=(0.5, 0.9),
    tags={"team": "x"},
    models=("fast", "openai/*"),
    providers=("openai",),
    ip_ranges=("10.0.0.0/8", "2001:db8::/32"),
)


# ---------------------------------------------------------------------------------------------------------------------- keys


def test_a_new_key_is_shown_once_and_kept_as_its_digest(register: Register):
    issued = register.do(lambda desk: create_key(desk, NewKey(name="ci")))

    assert issued.secret.startswith("th-")
    assert issued.secret not in repr(issued)
    assert register.see(lambda t: t.rows("SELECT digest FROM keys")) == [(digest(issued.secret.encode()),)]
    assert issued.key == register.see(lambda t: key(t, "ci"))
    assert issued.key.fingerprint == digest(issued.secret.encode()).hex()[:8]


def test_no_table_holds_a_secret(register: Register):
    issued = register.do(lambda desk: create_key(desk, NewKey(name="ci")))
    again = register.do(lambda desk: rotate_key(desk, "ci", overlap_seconds=60))
    register.do(lambda desk: revoke_key(desk, "ci"))

    rows = register.see(lambda t: [t.rows(f"SELECT * FROM {table}") for table in ("keys", "top_ups", "identity_state")])
    for secret in (issued.secret, again.secret):
        assert secret not in repr(rows)
        assert secret not in repr(register.audited)
        assert digest(secret.encode()).hex() not in repr(register.audited)


def test_a_key_carries_what_it_was_given(register: Register):
    register.do(lambda desk: create_tenant(desk, NewTenant(name="research")))
    register.do(lambda desk: create_project(desk, NewProject(tenant="research", name="paper")))
    new = NewKey(name="ci", tenant="research", project="paper", terms=FULL, expires_at_us=NOON_US + DAY_US)

    made = register.do(lambda desk: create_key(desk, new)).key

    assert (made.tenant, made.project, made.terms, made.expires_at_us) == ("research", "paper", FULL, NOON_US + DAY_US)
    assert (made.created_at_us, made.revoked_at_us, made.balance_nano) == (NOON_US, None, None)


@pytest.mark.parametrize("name", ["", "a b", "-x", "x" * 65, "a'; DROP TABLE keys; --", "a/b", "subject:x"])
def test_a_name_is_a_name(sqlite_register: Register, name: str):
    with pytest.raises(BadRequest, match="not a name for a key"):
        sqlite_register.do(lambda desk: create_key(desk, NewKey(name=name)))


def test_a_name_is_given_once_and_for_all(register: Register):
    register.do(lambda desk: create_key(desk, NewKey(name="ci")))
    with pytest.raises(Conflict, match=r"There is a key named 'ci'\. Choose"):
        register.do(lambda desk: create_key(desk, NewKey(name="ci")))

    register.do(lambda desk: revoke_key(desk, "ci"))
    with pytest.raises(Conflict, match="the books name it"):
        register.do(lambda desk: create_key(desk, NewKey(name="ci")))


def test_keys_of_the_configuration_and_of_the_database_share_their_names(register: Register):
    with pytest.raises(Conflict, match=r"The configuration has a key named 'dev'"):
        register.do(lambda desk: create_key(desk, NewKey(name="dev")), reserved=["dev"])


def test_a_tenant_or_project_that_is_not_there_is_named_with_the_nearest(register: Register):
    register.do(lambda desk: create_tenant(desk, NewTenant(name="research")))
    with pytest.raises(NotFound, match=r"no tenant 'reserch'\. Did you mean 'research'"):
        register.do(lambda desk: create_key(desk, NewKey(name="ci", tenant="reserch")))
    with pytest.raises(NotFound, match="has no project 'paper'"):
        register.do(lambda desk: create_key(desk, NewKey(name="ci", tenant="research", project="paper")))
    with pytest.raises(BadRequest, match="name the tenant too"):
        register.do(lambda desk: create_key(desk, NewKey(name="ci", project="paper")))


@pytest.mark.parametrize("at_us", [NOON_US, NOON_US - 1, NOON_US + 21 * 366 * DAY_US])
def test_a_key_expires_in_the_future(sqlite_register: Register, at_us: int):
    with pytest.raises(BadRequest, match="expires in the future"):
        sqlite_register.do(lambda desk: create_key(desk, NewKey(name="ci", expires_at_us=at_us)))


def test_an_edit_changes_what_it_names_and_nothing_else(register: Register):
    register.do(lambda desk: create_key(desk, NewKey(name="ci", terms=FULL, expires_at_us=NOON_US + DAY_US)))
    edit = KeyEdit(concurrent=None, daily_nano=7 * DOLLAR, models=None, tags={"team": None, "who": "ann"})

    edited = register.do(lambda desk: edit_key(desk, "ci", edit))

    wanted = msgspec.structs.replace(FULL, concurrent=None, daily_nano=7 * DOLLAR, models=(), tags={"who": "ann"})
    assert (edited.terms, edited.expires_at_us) == (wanted, NOON_US + DAY_US)
    assert register.audited[-1].fields == {
        "concurrent": None,
        "daily_nano": 7 * DOLLAR,
        "models": None,
        "tags": {"team": None, "who": "ann"},
    }


def test_an_expired_key_can_be_renewed(register: Register):
    register.do(lambda desk: create_key(desk, NewKey(name="ci", expires_at_us=NOON_US + HOUR_US)))
    register.now_us += 2 * HOUR_US

    renewed = register.do(lambda desk: edit_key(desk, "ci", KeyEdit(expires_at_us=register.now_us + HOUR_US)))
    assert renewed.expires_at_us == NOON_US + 3 * HOUR_US
    forever = register.do(lambda desk: edit_key(desk, "ci", KeyEdit(expires_at_us=None)))
    assert forever.expires_at_us is None


def test_a_body_from_outside_sets_only_what_may_be_set():
    """The admin API decodes bodies into these records: a field that is not theirs is refused, not ignored."""
    for kind in (NewKey, KeyEdit, NewTenant, NewProject, Edit):
        for body in (b'{"name":"x","digest":"aa"}', b'{"name":"x","balance":1}', b'{"name":"x","revision":1}'):
            with pytest.raises(msgspec.ValidationError):
                msgspec.json.decode(body, type=kind)


def test_revoking_is_for_good(register: Register):
    register.do(lambda desk: create_key(desk, NewKey(name="ci")))
    register.now_us += HOUR_US

    assert register.do(lambda desk: revoke_key(desk, "ci")).revoked_at_us == NOON_US + HOUR_US
    register.now_us += HOUR_US
    again = register.do(lambda desk: revoke_key(desk, "ci", cuts=True))
    assert (again.revoked_at_us, again.cut) == (NOON_US + HOUR_US, True)
    assert register.do(lambda desk: revoke_key(desk, "ci")).cut

    with pytest.raises(Conflict, match="is revoked"):
        register.do(lambda desk: edit_key(desk, "ci", KeyEdit(concurrent=1)))
    with pytest.raises(Conflict, match="is revoked"):
        register.do(lambda desk: rotate_key(desk, "ci"))
    with pytest.raises(NotFound, match="no key 'other'"):
        register.do(lambda desk: revoke_key(desk, "other"))


def test_rotating_keeps_the_former_secret_for_the_overlap(register: Register):
    first = register.do(lambda desk: create_key(desk, NewKey(name="ci", terms=FULL)))
    second = register.do(lambda desk: rotate_key(desk, "ci", overlap_seconds=3600))

    assert second.secret != first.secret
    assert (second.key.terms, second.key.former_until_us) == (FULL, NOON_US + HOUR_US)
    rows = register.see(lambda t: t.rows("SELECT digest, former_digest FROM keys"))
    assert rows == [(digest(second.secret.encode()), digest(first.secret.encode()))]
    with pytest.raises(BadRequest, match="90 days"):
        register.do(lambda desk: rotate_key(desk, "ci", overlap_seconds=91 * 86_400))


def test_keys_are_listed_by_name_in_pages(register: Register):
    register.do(lambda desk: create_tenant(desk, NewTenant(name="research")))
    new = [NewKey(name=name, tenant="research" if name in "ab" else "") for name in "dbac"]
    register.do(lambda desk: [create_key(desk, one) for one in new])
    register.do(lambda desk: revoke_key(desk, "c"))

    def names(found: Sequence[Key]) -> list[str]:
        return [one.name for one in found]

    assert names(register.see(lambda t: keys(t, at_most=2))) == ["a", "b"]
    assert names(register.see(lambda t: keys(t, after="b"))) == ["d"]
    assert names(register.see(lambda t: all_keys(t, revoked_too=True))) == ["a", "b", "c", "d"]
    assert names(register.see(lambda t: all_keys(t, tenant_name="research"))) == ["a", "b"]


# ------------------------------------------------------------------------------------------------------- tenants and projects


def test_tenants_and_projects_carry_limits_and_budgets(register: Register):
    terms = Terms(requests_per_minute=600, monthly_nano=500 * DOLLAR, alert_at=(0.9, 0.5, 0.5))
    register.do(lambda desk: create_tenant(desk, NewTenant(name="research", terms=terms)))
    register.do(
        lambda desk: create_project(desk, NewProject(tenant="research", name="paper", terms=Terms(concurrent=2)))
    )

    assert register.see(lambda t: tenant(t, "research")).terms == msgspec.structs.replace(terms, alert_at=(0.5, 0.9))
    assert register.see(lambda t: project(t, "research", "paper")).terms == Terms(concurrent=2)

    register.do(lambda desk: edit_tenant(desk, "research", Edit(requests_per_minute=None, is_soft=True)))
    register.do(lambda desk: edit_project(desk, "research", "paper", Edit(concurrent=3)))
    assert register.see(lambda t: tenant(t, "research")).terms == Terms(
        monthly_nano=500 * DOLLAR, alert_at=(0.5, 0.9), is_soft=True
    )
    assert [one.terms.concurrent for one in register.see(lambda t: projects(t, tenant_name="research"))] == [3]
    with pytest.raises(Conflict, match="There is a tenant 'research'"):
        register.do(lambda desk: create_tenant(desk, NewTenant(name="research")))


def test_a_tenant_with_keys_is_removed_only_with_them(register: Register):
    register.do(lambda desk: create_tenant(desk, NewTenant(name="research")))
    register.do(lambda desk: create_project(desk, NewProject(tenant="research", name="paper")))
    register.do(lambda desk: create_key(desk, NewKey(name="ci", tenant="research", project="paper")))
    before = register.mark()

    with pytest.raises(Conflict, match=r"tenant 'research' has keys: ci\."):
        register.do(lambda desk: remove_tenant(desk, "research"))
    with pytest.raises(Conflict, match=r"project research/paper has keys: ci\."):
        register.do(lambda desk: remove_project(desk, "research", "paper"))
    assert register.mark() == before

    register.do(lambda desk: remove_tenant(desk, "research", revokes_keys=True, cuts=True))
    assert register.see(lambda t: key(t, "ci")).cut
    assert register.see(lambda t: (tenants(t), projects(t), keys(t))) == ([], [], [])
    assert [one.name for one in register.see(lambda t: all_tenants(t, removed_too=True))] == ["research"]
    with pytest.raises(NotFound, match="was removed"):
        register.do(lambda desk: create_key(desk, NewKey(name="other", tenant="research")))
    with pytest.raises(NotFound, match="was removed"):
        register.do(lambda desk: edit_project(desk, "research", "paper", Edit(concurrent=1)))


def test_a_removed_tenant_comes_back_without_what_it_had(register: Register):
    register.do(lambda desk: create_tenant(desk, NewTenant(name="research", terms=Terms(concurrent=1))))
    register.do(lambda desk: remove_tenant(desk, "research"))

    back = register.do(lambda desk: create_tenant(desk, NewTenant(name="research", terms=Terms(daily_nano=1))))
    assert (back.removed_at_us, back.terms) == (None, Terms(daily_nano=1))


# -------------------------------------------------------------------------------------------------------------------- top-ups


def test_a_balance_is_the_sum_of_what_was_paid_in(register: Register):
    new = NewKey(name="ci", balance_nano=20 * DOLLAR)
    assert register.do(lambda desk: create_key(desk, new)).key.balance_nano == 20 * DOLLAR

    register.now_us += HOUR_US
    register.do(lambda desk: top_up(desk, "key", "ci", 10 * DOLLAR, note="invoice 7"))
    register.do(lambda desk: top_up(desk, "key", "ci", -5 * DOLLAR))

    assert register.see(lambda t: key(t, "ci")).balance_nano == 25 * DOLLAR
    paid = register.see(lambda t: top_ups(t, "key", "ci"))
    assert [(one.amount_nano // DOLLAR, one.at_us, one.actor, one.note) for one in paid] == [
        (20, NOON_US, "cli:ann", ""),
        (10, NOON_US + HOUR_US, "cli:ann", "invoice 7"),
        (-5, NOON_US + HOUR_US, "cli:ann", ""),
    ]
    with pytest.raises(Conflict, match=r"Only \$25\.00 was paid"):
        register.do(lambda desk: top_up(desk, "key", "ci", -26 * DOLLAR))


def test_tenants_and_projects_are_prepaid_too(register: Register):
    register.do(lambda desk: create_tenant(desk, NewTenant(name="research", balance_nano=DOLLAR)))
    register.do(lambda desk: create_project(desk, NewProject(tenant="research", name="paper", balance_nano=DOLLAR)))
    register.do(lambda desk: top_up(desk, "tenant", "research", 2 * DOLLAR))
    register.do(lambda desk: top_up(desk, "project", "research/paper", 3 * DOLLAR))

    assert register.see(lambda t: tenant(t, "research")).balance_nano == 3 * DOLLAR
    assert register.see(lambda t: project(t, "research", "paper")).balance_nano == 4 * DOLLAR


def test_what_is_not_prepaid_takes_no_money(register: Register):
    register.do(lambda desk: create_key(desk, NewKey(name="ci")))
    with pytest.raises(Conflict, match="is not prepaid"):
        register.do(lambda desk: top_up(desk, "key", "ci", DOLLAR))
    with pytest.raises(NotFound):
        register.do(lambda desk: top_up(desk, "key", "other", DOLLAR))


@pytest.mark.parametrize("amount", [0, 10**16, -(10**16)])
def test_a_top_up_is_an_amount(sqlite_register: Register, amount: int):
    sqlite_register.do(lambda desk: create_key(desk, NewKey(name="ci", balance_nano=DOLLAR)))
    with pytest.raises(BadRequest, match="top-up is not nothing"):
        sqlite_register.do(lambda desk: top_up(desk, "key", "ci", amount))


def test_a_balance_and_a_total_are_the_same_budget(register: Register):
    """Both count all that was ever spent, so one purse would have two limits."""
    with pytest.raises(BadRequest, match="leave one of them out"):
        register.do(
            lambda desk: create_key(desk, NewKey(name="ci", balance_nano=DOLLAR, terms=KeyTerms(total_nano=DOLLAR)))
        )
    register.do(lambda desk: create_key(desk, NewKey(name="ci", balance_nano=DOLLAR)))
    with pytest.raises(BadRequest, match="leave one of them out"):
        register.do(lambda desk: edit_key(desk, "ci", KeyEdit(total_nano=DOLLAR)))


def test_what_a_key_spent_is_a_number(register: Register):
    assert register.see(lambda t: spent_by_key(t, "ci")) == 0


# --------------------------------------------------------------------------------------------------------------- transactions


def test_every_transaction_raises_the_revision_and_the_first_names_the_epoch(register: Register):
    assert register.mark() == ("", 0)
    register.do(lambda desk: create_key(desk, NewKey(name="a")))
    epoch, revision = register.mark()
    register.do(lambda desk: (create_key(desk, NewKey(name="b")), create_key(desk, NewKey(name="c"))))

    assert len(epoch) == 16
    assert (revision, register.mark()) == (1, (epoch, 2))
    assert register.see(lambda t: t.rows("SELECT name, revision FROM keys ORDER BY name")) == [
        ("a", 1),
        ("b", 2),
        ("c", 2),
    ]


def test_a_transaction_that_fails_changes_nothing(register: Register):
    with pytest.raises(NotFound):
        register.do(lambda desk: (create_key(desk, NewKey(name="a")), revoke_key(desk, "nobody")))

    assert register.mark() == ("", 0)
    assert register.see(all_keys) == []
    assert register.audited == []


def test_what_cannot_be_audited_does_not_happen(register: Register):
    def refuse(transaction: Transaction, changes: Sequence[Change]) -> None:
        raise StoreUnavailable("The audit log cannot be written.")

    with pytest.raises(StoreUnavailable, match="audit log"):
        write(register.url, lambda desk: create_key(desk, NewKey(name="a")), actor="x", audit=refuse)
    assert register.see(all_keys) == []


def test_changes_are_audited_in_their_order(register: Register):
    register.do(lambda desk: create_tenant(desk, NewTenant(name="research")))
    register.do(lambda desk: create_key(desk, NewKey(name="ci", tenant="research", balance_nano=DOLLAR)))
    register.do(lambda desk: remove_tenant(desk, "research", revokes_keys=True))

    assert [(one.actor, one.action, one.target) for one in register.audited] == [
        ("cli:ann", "tenant.create", "tenant:research"),
        ("cli:ann", "key.create", "key:ci"),
        ("cli:ann", "key.topup", "key:ci"),
        ("cli:ann", "key.revoke", "key:ci"),
        ("cli:ann", "tenant.remove", "tenant:research"),
    ]


def test_a_reader_sees_one_moment_whatever_is_written_meanwhile(register: Register):
    """Else the tenants of a roll could be older than its keys."""

    def look(transaction: Transaction) -> tuple[int, int]:
        before = len(all_keys(transaction))
        register.do(lambda desk: create_key(desk, NewKey(name=f"k{desk.revision}")))
        return before, len(all_keys(transaction))

    assert register.see(look) == (0, 0)
    reader = open_reader(register.url)
    assert reader.read(look) == (1, 1)
    reader.close()


def test_a_ledger_that_cannot_be_used_is_said_without_its_password(tmp_path: Path):
    for url, words in (
        (f"sqlite:///{tmp_path / 'none.db'}", "unable to open"),
        ("postgresql://ann:hunter2@127.0.0.1:1/none", "cannot be used"),
    ):
        with pytest.raises(StoreUnavailable, match=words) as caught:
            read(url, all_keys)
        assert "hunter2" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_terms_of_a_newer_version_are_not_guessed(register: Register):
    register.do(lambda desk: create_key(desk, NewKey(name="ci")))
    register.do(lambda desk: desk.transaction.run("UPDATE keys SET terms = $1", '{"per_fortnight": 3}'))

    with pytest.raises(StoreUnavailable, match="does not know"):
        register.see(lambda t: key(t, "ci"))
