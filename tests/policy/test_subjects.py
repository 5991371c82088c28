"""Subjects of tokens in the database: on both kinds."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.registers import DAY_US, NOON_US, Register
from support.tokens import SECRET, signed
from tollhouse.config.schema import JwtSettings
from tollhouse.config.secret import Secret
from tollhouse.errors import BadRequest, Conflict, NotFound, TokenExpired, TokenRevoked
from tollhouse.ledger.transaction import open_reader
from tollhouse.policy.directory import Directory
from tollhouse.policy.identity import KeyRing, Principal
from tollhouse.policy.registrar import KeyEdit, NewTenant, create_tenant, remove_tenant
from tollhouse.policy.subjects import (
    NewSubject,
    all_subjects,
    create_subject,
    edit_subject,
    restore_subject,
    revoke_subject,
    subject,
)
from tollhouse.policy.terms import KeyTerms
from tollhouse.policy.tokens.secrets_file import SecretsFile
from tollhouse.policy.tokens.verifier import TokenVerifier


class Ring:
    """A ring of keys that hears of the register, and a token that ann has."""

    def __init__(self, register: Register, folder: Path) -> None:
        self.register = register
        self.cut: list[frozenset[str]] = []
        self.directory = Directory(open_reader(register.url), on_cut=self.cut.append, now_us=lambda: register.now_us)
        verifier = TokenVerifier(
            JwtSettings(secret=Secret(SECRET)), SecretsFile(folder / "none.json"), now_us=lambda: register.now_us
        )
        self.ring = KeyRing([], rolls=self.directory, tokens=verifier)
        claims = {"iss": "tollhouse", "sub": "ann", "iat": 1, "exp": NOON_US // 10**6 + 9 * 86_400, "jti": "t-1"}
        self.token = signed({**claims, "tollhouse": {"models": ["fast"]}})

    def ann(self) -> Principal:
        self.directory.refresh()
        return self.ring.identify(self.token.encode())

    def do(self, work: Callable[..., Any], *given: Any, **named: Any) -> Any:
        return self.register.do(lambda desk: work(desk, *given, **named))


@pytest.fixture
def ring(register: Register, tmp_path: Path) -> Iterator[Ring]:
    made = Ring(register, tmp_path)
    yield made
    made.directory.stop()


def test_what_the_database_says_counts_for_tokens_that_are_out_already(ring: Ring):
    assert ring.ann().access.shown() == ["fast"]
    ring.do(create_subject, NewSubject(name="ann", terms=KeyTerms(models=("slow",), daily_nano=5)))
    assert ring.ann().access.shown() == ["slow"]
    assert [(str(budget.scope), budget.limit_nano) for budget in ring.ann().budgets] == [("key:subject:ann", 5)]
    ring.do(edit_subject, "ann", KeyEdit(models=None, daily_nano=7))
    assert ring.ann().access.shown() == []
    assert [budget.limit_nano for budget in ring.ann().budgets] == [7]


def test_a_revoked_subject_is_cut_and_can_be_restored(ring: Ring):
    ring.do(create_subject, NewSubject(name="ann"))
    assert ring.ann().token == "t-1"
    revoked = ring.do(revoke_subject, "ann", cuts=True)
    assert (revoked.revoked_at_us, revoked.cut) == (NOON_US, True)
    with pytest.raises(TokenRevoked, match="tollhouse subject restore ann"):
        ring.ann()
    assert ring.cut == [frozenset({"subject:ann"})]
    ring.do(restore_subject, "ann")
    assert ring.ann().subject == "ann"
    with pytest.raises(Conflict, match="is not revoked"):
        ring.do(restore_subject, "ann")
    verbs = [change.action for change in ring.register.audited]
    assert verbs == ["subject.create", "subject.revoke", "subject.restore"]


def test_a_subject_has_an_end_that_can_be_moved(ring: Ring):
    ring.do(create_subject, NewSubject(name="ann", expires_at_us=NOON_US + DAY_US))
    assert ring.ann().expires_at_us == NOON_US + DAY_US
    ring.register.now_us += DAY_US
    with pytest.raises(TokenExpired, match="tollhouse subject edit ann"):
        ring.ann()
    ring.do(edit_subject, "ann", KeyEdit(expires_at_us=None))
    assert ring.ann().subject == "ann"


def test_a_tenant_is_not_removed_under_its_subjects(ring: Ring):
    ring.do(create_tenant, NewTenant(name="acme"))
    ring.do(create_subject, NewSubject(name="ann", tenant="acme"))
    assert ring.ann().tenant == "acme"
    with pytest.raises(Conflict, match="has subjects: ann"):
        ring.do(remove_tenant, "acme")
    ring.do(remove_tenant, "acme", revokes_keys=True)
    with pytest.raises(TokenRevoked):
        ring.ann()


def test_subjects_are_listed_by_name(sqlite_register: Register):
    for name in ("bob", "ann", "corp/ann@example.com"):
        sqlite_register.do(lambda desk, name=name: create_subject(desk, NewSubject(name=name)))  # type: ignore[misc]
    sqlite_register.do(lambda desk: revoke_subject(desk, "bob"))
    assert [one.name for one in sqlite_register.see(all_subjects)] == ["ann", "corp/ann@example.com"]
    everybody = sqlite_register.see(lambda t: all_subjects(t, revoked_too=True))
    assert [one.name for one in everybody] == ["ann", "bob", "corp/ann@example.com"]


@pytest.mark.parametrize(
    ("new", "error"),
    [
        (NewSubject(name=""), BadRequest),
        (NewSubject(name=" ann"), BadRequest),
        (NewSubject(name="x" * 129), BadRequest),
        (NewSubject(name="ann", project="x"), BadRequest),
        (NewSubject(name="ann", expires_at_us=1), BadRequest),
        (NewSubject(name="ann", terms=KeyTerms(models=("a b",))), BadRequest),
        (NewSubject(name="ann", tenant="acme"), NotFound),
    ],
)
def test_what_cannot_be_a_subject_is_refused(sqlite_register: Register, new: NewSubject, error: type[Exception]):
    with pytest.raises(error):
        sqlite_register.do(lambda desk: create_subject(desk, new))
    with pytest.raises(NotFound):
        sqlite_register.see(lambda t: subject(t, new.name))


def test_a_subject_is_made_once(sqlite_register: Register):
    sqlite_register.do(lambda desk: create_subject(desk, NewSubject(name="ann")))
    with pytest.raises(Conflict, match="There is a subject 'ann'"):
        sqlite_register.do(lambda desk: create_subject(desk, NewSubject(name="ann")))
