"""Tokens of OIDC issuers: whose keys are fetched from a real one, which rotates them, lies and goes away."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from support.issuer import WELL_KNOWN, Issuer
from support.tokens import EC_KEY, ED_KEY, NOON, RSA_KEY, SECRET, Lab, TokenRoll, jwk, raw
from tollhouse.config.schema import BudgetSettings, GrantSettings, JwtSettings, OidcSettings, Scope
from tollhouse.config.secret import Secret
from tollhouse.errors import (
    PermissionDenied,
    StoreUnavailable,
    TokenBadSignature,
    TokenExpired,
    TokenIncomplete,
    TokenKeyUnknown,
    TokenMalformed,
    TokenNotYetValid,
    TokenRevoked,
    TokenWrongAudience,
    TokenWrongIssuer,
    TollhouseError,
)
from tollhouse.policy.identity import Principal, StoredSubject
from tollhouse.policy.tokens import jwks
from tollhouse.policy.tokens.issuer_keys import IssuerBook, IssuerKeys, Pace
from tollhouse.policy.tokens.jwks import KeySet, Unusable, read_discovery, read_keys
from tollhouse.upstream.wire import WireTransport

QUICK = Pace(refresh=0.02, unknown=0.0, retry=0.01)
NEVER = Pace(refresh=3600.0, unknown=0.0)
"""Looks once, and again only when a key is wanted."""


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    async with Issuer() as made:
        made.keys = [jwk(RSA_KEY, "r1"), jwk(EC_KEY, "e1"), jwk(ED_KEY, "o1")]
        yield made


Start = Callable[..., Any]


@pytest.fixture
async def start(issuer: Issuer, tmp_path: Path) -> AsyncIterator[Start]:
    """Makes a ring that trusts the issuer, once its keys were looked for."""
    transport = WireTransport()
    books: list[IssuerBook] = []

    async def begin(
        *, pace: Pace = NEVER, roll: TokenRoll | None = None, jwt: JwtSettings | None = None, **changes: Any
    ) -> Lab:
        settings = issuer.settings(**changes)
        book = IssuerBook(lambda: transport, pace=pace)
        books.append(book)
        keys = book.keys_of(settings)
        book.watch([settings])
        await comes_true(lambda: keys.keys is not None or bool(issuer.asked))
        await comes_true(lambda: keys.keys is not None or not keys.problem.startswith("They were not"))
        return Lab(tmp_path, jwt or JwtSettings(), roll, ((settings, keys),))

    yield begin
    for book in books:
        await book.aclose()
    await transport.aclose()


async def comes_true(fact: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not fact():  # noqa: ASYNC110  # what a task does in the background announces itself to nobody
            await asyncio.sleep(0.005)


@pytest.mark.parametrize(
    ("key", "kid", "algorithm"), [(RSA_KEY, "r1", "RS256"), (EC_KEY, "e1", "ES256"), (ED_KEY, "o1", "EdDSA")]
)
async def test_a_token_of_an_issuer_is_let_in(issuer: Issuer, start: Start, key: Any, kid: str, algorithm: str):
    lab = await start()
    token = issuer.token(key, kid, algorithm)
    principal = lab.identify(token)
    assert (principal.key, principal.subject, principal.token) == ("subject:corp/ann", "corp/ann", "")
    assert lab.identify(token) is principal
    assert issuer.asked == [WELL_KNOWN, "/keys"], "nothing is fetched on a call's way"


async def test_where_the_keys_are_can_be_configured(issuer: Issuer, start: Start):
    lab = await start(jwks_url=f"{issuer.url}/elsewhere?v=1")
    assert lab.identify(issuer.token(RSA_KEY, "r1", "RS256")).subject == "corp/ann"
    assert issuer.asked == ["/elsewhere?v=1"]


async def test_a_key_that_names_no_id_is_the_only_one_or_none(issuer: Issuer, start: Start):
    lab = await start()
    with pytest.raises(TokenKeyUnknown, match="a key that it does not name"):
        lab.identify(issuer.token(RSA_KEY, None, "RS256"))
    issuer.keys = [jwk(RSA_KEY, None)]
    other = await start()
    assert other.identify(issuer.token(RSA_KEY, None, "RS256")).subject == "corp/ann"


FOREIGN = ec.generate_private_key(ec.SECP256R1())


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"aud": "other"}, TokenWrongAudience, "meant for other, not for tollhouse"),
        ({"aud": ["a", "b"]}, TokenWrongAudience, "meant for a, b"),
        ({"aud": []}, TokenWrongAudience, "meant for nobody"),
        ({"aud": None}, TokenIncomplete, "no `aud`"),
        ({"exp": None}, TokenIncomplete, "no `exp`"),
        ({"sub": None}, TokenIncomplete, "no `sub`"),
        ({"exp": NOON}, TokenExpired, r"expired on .* Sign in again, or ask http://127"),
        ({"nbf": NOON + 99}, TokenNotYetValid, "good from"),
        ({"iss": "https://id.example"}, TokenWrongIssuer, r"'https://id\.example'.*'tollhouse' or 'http://127"),
        ({"sub": ""}, TokenMalformed, "`sub`"),
    ],
)
async def test_a_token_that_is_not_good_here_is_refused(
    issuer: Issuer, start: Start, changes: dict[str, Any], error: type[TollhouseError], says: str
):
    lab = await start()
    with pytest.raises(error, match=says) as refused:
        lab.identify(issuer.token(EC_KEY, "e1", "ES256", **changes))
    assert type(refused.value) is error


async def test_a_forged_token_is_refused(issuer: Issuer, start: Start):
    lab = await start(jwt=JwtSettings(secret=Secret(SECRET)))
    forged = [
        issuer.token(FOREIGN, "e1", "ES256"),
        issuer.token(EC_KEY, "r1", "ES256"),
        issuer.token(RSA_KEY, "r1", "PS256"),
        issuer.token(SECRET, "r1", "HS256"),
        raw({"alg": "none", "kid": "r1"}, {"iss": issuer.url, "sub": "root", "aud": "tollhouse", "exp": NOON + 9}),
    ]
    for token in forged:
        with pytest.raises(TokenBadSignature):
            lab.identify(token)
    # Our own secret signs nothing in an issuer's name, and an issuer's key nothing in ours.
    with pytest.raises(TokenKeyUnknown):
        lab.identify(issuer.token(SECRET, None, "HS256"))
    with pytest.raises(TokenKeyUnknown):
        lab.identify(issuer.token(EC_KEY, "e1", "ES256", iss="tollhouse", jti="x"))


@pytest.mark.parametrize(
    "key",
    [
        jwk(rsa.generate_private_key(public_exponent=65537, key_size=1024), "bad"),
        jwk(ec.generate_private_key(ec.SECP384R1()), "bad"),
        jwk(RSA_KEY, "bad", alg="PS256"),
        {"kty": "RSA", "kid": "bad", "n": "!", "e": "AQAB"},
    ],
)
async def test_a_weak_or_odd_key_is_not_used(issuer: Issuer, start: Start, key: dict[str, Any]):
    issuer.keys = [key]
    lab = await start()
    with pytest.raises(TokenKeyUnknown, match=r"'bad'.*is not accepted"):
        lab.identify(issuer.token(RSA_KEY, "bad", "RS256"))


# ------------------------------------------------------------------------------------------------------------ who is let in


async def test_subjects_are_called_by_a_claim_and_belong_where_claims_say(issuer: Issuer, start: Start):
    lab = await start(subject_claim="email", tenant_claim="org", project_claim="team")
    principal = lab.identify(
        issuer.token(EC_KEY, "e1", "ES256", email="ann@example.com", org="acme", team="web", jti="j")
    )
    assert (principal.subject, principal.tenant, principal.project) == ("corp/ann@example.com", "acme", "web")
    with pytest.raises(TokenIncomplete, match="no `org`"):
        lab.identify(issuer.token(EC_KEY, "e1", "ES256", email="ann@example.com"))
    with pytest.raises(TokenMalformed, match="`org` of this token is not a name"):
        lab.identify(issuer.token(EC_KEY, "e1", "ES256", email="a", org="a/b", team="x"))


async def test_only_allowed_subjects_with_the_right_claims_are_let_in(issuer: Issuer, start: Start):
    lab = await start(allowed_subjects=("*@example.com", "svc-*", "bob"), required_claims={"groups": ("llm", "ops")})

    def ask(sub: str, groups: Any = ("x", "llm")) -> Principal:
        found: Principal = lab.identify(issuer.token(EC_KEY, "e1", "ES256", sub=sub, groups=groups))
        return found

    for sub in ("ann@example.com", "svc-1", "bob"):
        assert ask(sub).subject == f"corp/{sub}"
    assert ask("bob", "ops").subject == "corp/bob"
    for sub in ("ann@example.com.evil", "bobby", "xsvc-1"):
        with pytest.raises(PermissionDenied, match="may not call here"):
            ask(sub)
    for groups in (["x"], "llm2", [], None):
        with pytest.raises(PermissionDenied, match="none of the values of `groups`"):
            ask("bob", groups)


async def test_an_issuer_s_subjects_have_its_defaults_and_not_our_claim(issuer: Issuer, start: Start):
    own = BudgetSettings(scope=Scope("key", "subject:corp/*"), period="day", limit_nano=7)
    lab = await start(defaults=GrantSettings(tenant="guests", budgets=(own,)))
    principal = lab.identify(
        issuer.token(EC_KEY, "e1", "ES256", tollhouse={"tenant": "acme", "models": ["fast"], "total_nano": 10**12})
    )
    assert principal.tenant == "guests"
    assert principal.access.shown() == []
    assert principal.budgets == (BudgetSettings(scope=Scope("key", "subject:corp/ann"), period="day", limit_nano=7),)


async def test_a_subject_of_ours_is_another_one(issuer: Issuer, start: Start):
    """Who can choose a name at an issuer must not become somebody else by it."""
    ann = StoredSubject(Principal(key="subject:ann", subject="ann", tenant="board"))
    lab = await start(roll=TokenRoll(subjects={"ann": ann}))
    assert lab.identify(issuer.token(EC_KEY, "e1", "ES256")).tenant == ""
    theirs = StoredSubject(Principal(key="subject:corp/ann", subject="corp/ann", tenant="staff"))
    lab.roll = TokenRoll(subjects={"ann": ann, "corp/ann": theirs})
    assert lab.identify(issuer.token(EC_KEY, "e1", "ES256")).tenant == "staff"


async def test_a_token_with_an_id_can_be_revoked(issuer: Issuer, start: Start):
    lab = await start()
    token = issuer.token(EC_KEY, "e1", "ES256", jti="theirs")
    lab.identify(token)
    lab.roll = TokenRoll(revoked={"theirs": 1})
    with pytest.raises(TokenRevoked):
        lab.identify(token)


# ----------------------------------------------------------------------------------------------------------- keys that change


async def test_a_new_key_is_fetched_soon_after_a_token_names_it(issuer: Issuer, start: Start):
    lab = await start()
    issuer.keys = [jwk(FOREIGN, "e2")]
    fresh, old = issuer.token(FOREIGN, "e2", "ES256"), issuer.token(EC_KEY, "e1", "ES256")
    assert lab.identify(old).subject == "corp/ann"
    with pytest.raises(TokenKeyUnknown, match="try again in a minute"):
        lab.identify(fresh)

    def is_let_in() -> bool:
        try:
            return bool(lab.identify(fresh).subject == "corp/ann")
        except TokenKeyUnknown:
            return False

    await comes_true(is_let_in)
    asked = len(issuer.asked)
    async with Issuer() as other:
        transport = WireTransport()
        book = IssuerBook(lambda: transport, pace=QUICK)
        book.watch([other.settings()])
        await comes_true(lambda: len(other.asked) > 3)  # long enough for somebody who asks without end
        await book.aclose()
        await transport.aclose()
    assert len(issuer.asked) == asked, "nothing is wanted any more"
    with pytest.raises(TokenKeyUnknown):
        lab.identify(old)


async def test_a_token_that_lies_about_its_algorithm_is_refused(issuer: Issuer, start: Start):
    lab = await start()
    claims = {"iss": issuer.url, "sub": "ann", "aud": "tollhouse", "exp": NOON + 9}
    unsigned = raw({"alg": "none", "kid": "o1"}, claims).rpartition(".")[0]
    with pytest.raises(TokenBadSignature, match="its key signs with EdDSA"):
        lab.identify(raw({"alg": "none", "kid": "o1"}, claims, ED_KEY.sign(unsigned.encode())))


async def test_the_last_keys_stay_in_use_while_the_issuer_is_away(
    issuer: Issuer, start: Start, caplog: pytest.LogCaptureFixture
):
    lab = await start(pace=QUICK)
    token = issuer.token(EC_KEY, "e1", "ES256")
    issuer.status = 503
    before = len(issuer.asked)
    await comes_true(lambda: len(issuer.asked) > before + 3)
    assert lab.identify(token).subject == "corp/ann"
    said = [record for record in caplog.records if "cannot be fetched" in record.message]
    assert len(said) == 1, "the same trouble is told once"
    issuer.status = 200
    issuer.keys = []
    issuer.body = b"<html>"
    before = len(issuer.asked)
    await comes_true(lambda: len(issuer.asked) > before + 3)
    assert lab.identify(token).subject == "corp/ann"


async def test_until_the_first_keys_came_a_token_is_not_refused_for_good(issuer: Issuer, start: Start):
    issuer.status = 500
    lab = await start(pace=QUICK)
    token = issuer.token(EC_KEY, "e1", "ES256")
    with pytest.raises(StoreUnavailable, match=r"keys of the issuer http.* are not known yet"):
        lab.identify(token)
    issuer.status = 200

    def is_let_in() -> bool:
        try:
            return bool(lab.identify(token))
        except StoreUnavailable:
            return False

    await comes_true(is_let_in)


async def test_a_reload_keeps_the_keys_of_an_issuer_that_stays(issuer: Issuer):
    transport = WireTransport()
    book = IssuerBook(lambda: transport, pace=NEVER)
    settings = issuer.settings()
    keys = book.keys_of(settings)
    book.watch([settings])
    await comes_true(lambda: keys.keys is not None)
    book.watch([issuer.settings(audience=("other",))])
    assert book.keys_of(settings) is keys
    assert book.problems() == {}
    book.watch([])
    assert book.keys_of(settings) is not keys
    await book.aclose()
    await transport.aclose()
    assert issuer.asked == [WELL_KNOWN, "/keys"]


# ------------------------------------------------------------------------------------------------------------------ decisions


@pytest.mark.parametrize(
    ("failures", "is_wanted", "after"),
    [
        (0, False, 900),
        (0, True, 60),
        (1, False, 5),
        (1, True, 5),
        (4, False, 40),
        (5, True, 60),
        (9, False, 900),
        (10_000, False, 900),
    ],
)
def test_an_issuer_is_asked_at_most_once_a_minute_for_a_key(failures: int, is_wanted: bool, after: float):
    assert Pace().next_look(100.0, failures, is_wanted=is_wanted) == 100.0 + after


ISSUER = "https://id.example/"


@pytest.mark.parametrize(
    ("document", "says"),
    [
        (b"<html>", "no discovery document"),
        (b'{"issuer": "https://id.example/"}', "no discovery document"),
        (b'{"issuer": "https://id.example", "jwks_uri": "https://x/k"}', "of the issuer 'https://id.example'"),
        (b'{"issuer": "https://id.example/", "jwks_uri": "http://x/k"}', "does not begin with https"),
        (b'{"issuer": "https://id.example/", "jwks_uri": "file:///etc/passwd"}', "does not begin with https"),
        (b'{"issuer": "https://id.example/", "jwks_uri": "http://[x"}', "does not begin with https"),
    ],
)
def test_a_document_that_could_mislead_is_not_used(document: bytes, says: str):
    with pytest.raises(Unusable, match=says):
        read_discovery(document, ISSUER)


@pytest.mark.parametrize(
    ("document", "says"),
    [
        (b"[]", "no key set"),
        (b'{"keys": [7]}', "no key set"),
        (b'{"keys": []}', "no key of a kind that signs"),
        (b'{"keys": [{"kty": "oct", "k": "AAAA", "kid": "x"}]}', "no key of a kind that signs"),
        (b'{"keys": [{"kty": "RSA", "use": "enc", "kid": "x"}]}', "no key of a kind that signs"),
        (b'{"keys": [' + b",".join([b'{"kty": "RSA"}'] * (jwks.MAX_KEYS + 1)) + b"]}", "more than 200"),
    ],
)
def test_a_key_set_without_public_keys_that_sign_is_not_used(document: bytes, says: str):
    """A shared secret (`oct`) that somebody published would let everybody sign."""
    with pytest.raises(Unusable, match=says):
        read_keys(document)


def test_an_issuer_whose_task_has_not_run_says_so(tmp_path: Path):
    settings = OidcSettings(name="corp", issuer=ISSUER, audience=("x",))
    keys = IssuerKeys(settings.issuer, None)
    lab = Lab(tmp_path, JwtSettings(), issuers=((settings, keys),))
    with pytest.raises(StoreUnavailable):
        lab.identify(raw({"alg": "RS256", "kid": "x"}, {"iss": ISSUER}))
    keys.keys = KeySet({})
    with pytest.raises(TokenKeyUnknown):
        lab.identify(raw({"alg": "RS256", "kid": "x"}, {"iss": ISSUER}))
