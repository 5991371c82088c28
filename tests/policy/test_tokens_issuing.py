"""Tokens that are issued, listed, revoked, and whose keys are rotated: on both databases."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jwt
import pytest

from support.registers import DAY_US, HOUR_US, NOON_US, Register
from tollhouse.config.schema import JwtSettings
from tollhouse.config.secret import Secret
from tollhouse.errors import BadRequest, Conflict, NotFound, StoreUnavailable, TokenExpired, TokenRevoked
from tollhouse.ledger.transaction import open_reader
from tollhouse.policy.directory import Directory
from tollhouse.policy.identity import KeyRing
from tollhouse.policy.registrar import (
    Desk,
    NewKey,
    NewProject,
    NewTenant,
    create_key,
    create_project,
    create_tenant,
    remove_tenant,
)
from tollhouse.policy.terms import KeyTerms
from tollhouse.policy.tokens import issuing
from tollhouse.policy.tokens.issuing import (
    IssuedToken,
    Mint,
    NewToken,
    issue_token,
    make_first_key,
    revoke_token,
    rotate_signing_key,
    signing_keys,
)
from tollhouse.policy.tokens.secrets_file import SecretsFile
from tollhouse.policy.tokens.verifier import TokenVerifier, configured_kid

SECRET = "a-configured-secret-0123456789abcdef"


class Gateway:
    """A machine: its file of secrets, its settings, and a ring of keys that hears of the register."""

    def __init__(self, register: Register, folder: Path, settings: JwtSettings | None = None) -> None:
        self.register = register
        self.mint = Mint(settings or JwtSettings(), SecretsFile(folder / "keys" / "signing-keys.json"))
        self.cut: list[frozenset[str]] = []
        self.directory = Directory(open_reader(register.url), on_cut=self.cut.append, now_us=lambda: register.now_us)
        verifier = TokenVerifier(self.mint.settings, self.mint.secrets, now_us=lambda: register.now_us)
        self.ring = KeyRing([], rolls=self.directory, tokens=verifier, now_us=lambda: register.now_us)

    def issue(self, subject: str = "ann", *, days: float = 30, **fields: Any) -> IssuedToken:
        new = NewToken(subject=subject, expires_at_us=self.register.now_us + int(days * DAY_US), **fields)
        return self.register.do(lambda desk: issue_token(desk, self.mint, new))

    def identify(self, text: str) -> Any:
        self.directory.refresh()
        return self.ring.identify(text.encode())


@pytest.fixture
def gateway(register: Register, tmp_path: Path) -> Any:
    made = Gateway(register, tmp_path)
    yield made
    made.directory.stop()


def unverified(text: str) -> tuple[dict[str, Any], dict[str, Any]]:
    return jwt.get_unverified_header(text), jwt.decode(text, options={"verify_signature": False})


def test_a_token_is_issued_let_in_listed_and_revoked(gateway: Gateway):
    issued = gateway.issue(terms=KeyTerms(models=("fast",), total_nano=5), days=1)

    header, claims = unverified(issued.text)
    record = issued.record
    assert header == {"alg": "HS256", "typ": "JWT", "kid": record.kid}
    assert claims == {
        "iss": "tollhouse", "sub": "ann", "iat": NOON_US // 10**6, "exp": (NOON_US + DAY_US) // 10**6,
        "jti": record.jti, "tollhouse": {"models": ["fast"], "total_nano": 5},
    }  # fmt: skip
    principal = gateway.identify(issued.text)
    assert (principal.key, principal.token, principal.access.shown()) == ("subject:ann", record.jti, ["fast"])
    assert gateway.register.see(lambda t: issuing.all_tokens(t, good_at_us=NOON_US)) == [record]
    assert (record.terms.models, record.actor, record.expires_at_us) == (("fast",), "cli:ann", NOON_US + DAY_US)

    gateway.register.now_us += HOUR_US
    revoked = gateway.register.do(lambda desk: revoke_token(desk, record.jti))
    assert revoked.revoked_at_us == NOON_US + HOUR_US
    with pytest.raises(TokenRevoked, match="13:00:00 UTC"):
        gateway.identify(issued.text)
    assert gateway.register.see(lambda t: issuing.all_tokens(t, good_at_us=NOON_US)) == []
    assert gateway.register.see(issuing.all_tokens) == [revoked]
    assert [(change.action, change.target) for change in gateway.register.audited] == [
        ("token.create_key", f"signing-key:{record.kid}"),
        ("token.create", f"token:{record.jti}"),
        ("token.revoke", f"token:{record.jti}"),
    ]
    assert gateway.cut == []


def test_a_cut_is_told_once_to_who_watches(gateway: Gateway):
    issued = gateway.issue()
    gateway.identify(issued.text)
    gateway.register.do(lambda desk: revoke_token(desk, issued.record.jti, cuts=True))
    gateway.directory.refresh()
    gateway.register.do(lambda desk: create_key(desk, NewKey(name="k")))
    gateway.directory.refresh()
    assert gateway.cut == [frozenset({f"token:{issued.record.jti}"})]


def test_no_secret_is_in_the_database(gateway: Gateway):
    issued = gateway.issue()
    secret = gateway.mint.secrets.secret(issued.record.kid)
    assert secret is not None
    assert len(secret) == 32
    rows = gateway.register.see(lambda t: [*t.rows("SELECT * FROM tokens"), *t.rows("SELECT * FROM signing_keys")])
    kept = repr(rows)
    assert issued.text.rpartition(".")[2] not in kept
    assert repr(secret) not in kept
    assert all(secret != value for row in rows for value in row)
    assert issued.text not in repr(issued)


def test_a_token_of_the_older_tool_is_revoked_by_its_id(register: Register, tmp_path: Path):
    gateway = Gateway(register, tmp_path, JwtSettings(secret=Secret(SECRET), issuer="vibectl-server"))
    claims = {"iss": "vibectl-server", "sub": "old", "iat": 1, "exp": NOON_US // 10**6 + 9, "jti": "their-id"}
    text = jwt.encode(claims, SECRET, algorithm="HS256")
    assert gateway.identify(text).subject == "old"
    with pytest.raises(NotFound, match="No token with the id 'their-id' was issued here"):
        register.do(lambda desk: revoke_token(desk, "their-id"))
    record = register.do(lambda desk: revoke_token(desk, "their-id", is_foreign=True))
    assert (record.subject, record.expires_at_us, record.revoked_at_us) == ("", None, NOON_US)
    with pytest.raises(TokenRevoked):
        gateway.identify(text)
    gateway.directory.stop()


def test_a_configured_secret_signs_and_is_not_rotated_here(register: Register, tmp_path: Path):
    gateway = Gateway(register, tmp_path, JwtSettings(secret=Secret(SECRET), issuer="here"))
    issued = gateway.issue()
    assert issued.record.kid == configured_kid(SECRET.encode())
    assert jwt.decode(issued.text, SECRET, algorithms=["HS256"], options={"verify_exp": False})["iss"] == "here"
    assert not gateway.mint.secrets.path.exists()
    with pytest.raises(Conflict, match=r"auth\.jwt\.secret.*former_secrets"):
        register.do(lambda desk: rotate_signing_key(desk, gateway.mint, overlap_seconds=0))
    gateway.directory.stop()


# ------------------------------------------------------------------------------------------------------------------ rotation


def rotate(gateway: Gateway, overlap_us: int) -> str:
    return gateway.register.do(
        lambda desk: rotate_signing_key(desk, gateway.mint, overlap_seconds=overlap_us / 1e6)
    ).kid


def test_tokens_of_the_key_before_are_good_for_the_overlap(gateway: Gateway):
    old = gateway.issue()
    gateway.register.now_us += 1000
    rotate(gateway, DAY_US - 1000)
    new = gateway.issue("bob")

    assert new.record.kid != old.record.kid
    assert [gateway.identify(text).subject for text in (old.text, new.text)] == ["ann", "bob"]
    listed = gateway.register.see(lambda t: issuing.all_tokens(t, good_at_us=NOON_US))
    assert [token.key_until_us for token in listed] == [NOON_US + DAY_US, None]
    gateway.register.now_us = NOON_US + DAY_US
    with pytest.raises(TokenExpired, match="was replaced"):
        gateway.identify(old.text)
    assert gateway.identify(new.text).subject == "bob"
    assert [t.subject for t in gateway.register.see(lambda t: issuing.all_tokens(t, good_at_us=NOON_US + DAY_US))] == [
        "bob"
    ]


def test_a_second_rotation_makes_no_overlap_longer(gateway: Gateway):
    first = gateway.issue()
    rotate(gateway, HOUR_US)
    rotate(gateway, DAY_US)
    gateway.register.now_us += HOUR_US
    with pytest.raises(TokenExpired):
        gateway.identify(first.text)


def test_a_rotation_without_overlap_ends_every_token_at_once(gateway: Gateway):
    old = gateway.issue()
    gateway.identify(old.text)
    rotate(gateway, 0)
    with pytest.raises(TokenExpired):
        gateway.identify(old.text)


def test_secrets_of_keys_that_ended_leave_the_file(gateway: Gateway):
    first = gateway.issue().record.kid
    second = rotate(gateway, HOUR_US)
    assert gateway.mint.secrets.secret(first) is not None
    gateway.register.now_us += HOUR_US
    third = rotate(gateway, HOUR_US)
    again = SecretsFile(gateway.mint.secrets.path)
    assert [again.secret(kid) is not None for kid in (first, second, third)] == [False, True, True]


def test_an_overlap_has_an_end(gateway: Gateway):
    with pytest.raises(BadRequest, match="An overlap is from 0 s to 732 days"):
        rotate(gateway, -1)
    with pytest.raises(BadRequest):
        rotate(gateway, 733 * DAY_US)


# ------------------------------------------------------------------------------------------------------- several machines


def test_a_machine_without_the_secret_says_where_it_is(register: Register, tmp_path: Path):
    here, there = Gateway(register, tmp_path / "here"), Gateway(register, tmp_path / "there")
    issued = here.issue()
    with pytest.raises(StoreUnavailable, match="on another machine"):
        there.identify(issued.text)
    with pytest.raises(Conflict, match="was made on another machine"):
        there.issue()
    for gateway in (here, there):
        gateway.directory.stop()


def test_machines_check_each_other_s_ed25519_tokens(register: Register, tmp_path: Path):
    settings = JwtSettings(algorithm="EdDSA")
    here, there = (Gateway(register, tmp_path / name, settings) for name in ("here", "there"))
    mine, theirs = here.issue(), there.issue("bob")
    assert unverified(mine.text)[0]["alg"] == "EdDSA"
    assert mine.record.kid != theirs.record.kid, "each signs with a key of its own"
    for gateway in (here, there):
        assert [gateway.identify(text).subject for text in (mine.text, theirs.text)] == ["ann", "bob"]
    here.register.do(lambda desk: revoke_token(desk, mine.record.jti))
    with pytest.raises(TokenRevoked):
        there.identify(mine.text)
    for gateway in (here, there):
        gateway.directory.stop()


def test_the_first_key_is_made_once(register: Register, tmp_path: Path):
    mint = Mint(JwtSettings(), SecretsFile(tmp_path / "keys.json"))
    kid = make_first_key(register.url, mint, actor="gateway")
    revision = register.mark()
    assert make_first_key(register.url, mint, actor="gateway") is None
    assert register.mark() == revision, "a start that has nothing to do changes nothing"
    assert [key.kid for key in register.see(signing_keys)] == [kid]
    configured = Mint(JwtSettings(secret=Secret(SECRET)), SecretsFile(tmp_path / "none.json"))
    assert make_first_key(register.url, configured, actor="gateway") is None


def test_a_start_without_the_database_knows_revoked_tokens_from_the_copy(sqlite_register: Register, tmp_path: Path):
    gateway = Gateway(sqlite_register, tmp_path)
    good, gone = gateway.issue(), gateway.issue("bob")
    sqlite_register.do(lambda desk: revoke_token(desk, gone.record.jti))
    copy = tmp_path / "copy.keys"
    first = Directory(open_reader(sqlite_register.url), copy=copy, now_us=lambda: NOON_US)
    first.start()
    first.stop()
    second = Directory(open_reader(f"sqlite:///{tmp_path / 'gone.db'}"), copy=copy, now_us=lambda: NOON_US)
    second.start()
    verifier = TokenVerifier(JwtSettings(), gateway.mint.secrets, now_us=lambda: NOON_US)
    ring = KeyRing([], rolls=second, tokens=verifier)
    assert ring.identify(good.text.encode()).subject == "ann"
    with pytest.raises(TokenRevoked):
        ring.identify(gone.text.encode())
    second.stop()


# ------------------------------------------------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda g: g.issue(days=0), BadRequest, "expires in the future"),
        (lambda g: g.issue(days=-1), BadRequest, "expires in the future"),
        (lambda g: g.issue(days=9999), BadRequest, "within 20 years"),
        (lambda g: g.issue(""), BadRequest, "A subject is a name"),
        (lambda g: g.issue("corp/ann"), BadRequest, "A subject is a name"),
        (lambda g: g.issue("a\nb"), BadRequest, "A subject is a name"),
        (lambda g: g.issue(tenant="acme"), NotFound, "no tenant 'acme'"),
        (lambda g: g.issue(project="x"), BadRequest, "name the tenant too"),
        (lambda g: g.issue(terms=KeyTerms(models=("a b",))), BadRequest, "in models"),
        (lambda g: g.register.do(lambda desk: revoke_token(desk, "", is_foreign=True)), BadRequest, "An id is of 1"),
        (lambda g: g.register.see(lambda t: issuing.token(t, "x")), NotFound, "No token with the id 'x'"),
    ],
)
def test_what_cannot_be_issued_is_refused_and_nothing_is_left(
    sqlite_register: Register, tmp_path: Path, make: Callable[[Gateway], object], error: type[Exception], says: str
):
    gateway = Gateway(sqlite_register, tmp_path)
    with pytest.raises(error, match=says):
        make(gateway)
    assert sqlite_register.see(issuing.all_tokens) == []


def test_a_subject_of_the_database_takes_no_terms_from_a_token(sqlite_register: Register, tmp_path: Path):
    gateway = Gateway(sqlite_register, tmp_path)
    insert = (
        "INSERT INTO subjects (name, tenant, project, cut, terms, created_at_us, revision, revoked_at_us) "
        "VALUES ($1, '', '', 0, '{\"models\":[\"slow\"]}', 0, $2, $3)"
    )
    for name, revoked in (("ann", None), ("bob", NOON_US)):
        sqlite_register.do(partial(_run, insert, name, revoked))
    with pytest.raises(Conflict, match="stands in the database"):
        gateway.issue(terms=KeyTerms(models=("fast",)))
    with pytest.raises(Conflict, match="'bob' is revoked"):
        gateway.issue("bob")
    assert gateway.identify(gateway.issue().text).access.shown() == ["slow"]
    gateway.directory.stop()


def _run(insert: str, name: str, revoked_at_us: int | None, desk: Desk) -> None:
    desk.transaction.run(insert, name, desk.revision, revoked_at_us)


def test_a_tenant_is_not_removed_under_its_tokens(register: Register, tmp_path: Path):
    gateway = Gateway(register, tmp_path)
    register.do(lambda desk: create_tenant(desk, NewTenant(name="acme")))
    register.do(lambda desk: create_project(desk, NewProject(tenant="acme", name="x")))
    issued = gateway.issue(tenant="acme", project="x")
    with pytest.raises(Conflict, match="has 1 signed token"):
        register.do(lambda desk: remove_tenant(desk, "acme"))
    register.do(lambda desk: remove_tenant(desk, "acme", revokes_keys=True))
    with pytest.raises(TokenRevoked):
        gateway.identify(issued.text)
    gateway.directory.stop()


def test_tokens_are_listed_in_their_order_and_in_pieces(sqlite_register: Register, tmp_path: Path):
    gateway = Gateway(sqlite_register, tmp_path)
    for name in ("c", "a", "b", "a"):
        gateway.register.now_us += 1_000_000
        gateway.issue(name)
    assert [token.subject for token in sqlite_register.see(issuing.all_tokens)] == ["c", "a", "b", "a"]
    assert [t.subject for t in sqlite_register.see(lambda t: issuing.all_tokens(t, subject_name="a"))] == ["a", "a"]
    first = sqlite_register.see(lambda t: issuing.tokens(t, at_most=2))
    rest = sqlite_register.see(lambda t: issuing.tokens(t, after=first[-1].jti))
    assert [token.subject for token in (*first, *rest)] == ["c", "a", "b", "a"]
