"""Signed tokens of this gateway's own and of the older tool, as a call brings them."""

import hmac
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from support.tokens import DAY, ED_KEY, NOON, OTHER, RSA_KEY, SECRET, Lab, TokenRoll, claims, raw, signed
from tollhouse.config.schema import BudgetSettings, GrantSettings, JwtSettings, LimitSettings, RateSettings, Scope
from tollhouse.config.secret import Secret
from tollhouse.errors import (
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
    Unauthenticated,
)
from tollhouse.policy.access import allow
from tollhouse.policy.identity import ANONYMOUS, Ending, Principal, Shared, SigningKey, StoredSubject
from tollhouse.policy.rules import Rules
from tollhouse.policy.tokens.verifier import configured_kid

KID = configured_kid(SECRET.encode())
NOON_US = NOON * 1_000_000
PUBLIC = ED_KEY.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
GOOD = signed(claims())


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


def test_a_token_without_a_key_id_is_checked_with_the_configured_secret(lab: Lab):
    """As the older tool makes them: HS256, no `kid`, no `aud`."""
    principal = lab.identify(GOOD)
    assert (principal.key, principal.subject, principal.token) == ("subject:ann", "ann", "t-1")
    assert principal.expires_at_us == (NOON + DAY) * 1_000_000


def test_a_token_of_the_configured_secret_may_name_it(lab: Lab):
    assert lab.identify(signed(claims(), kid=KID)).subject == "ann"


def test_the_issuer_of_the_older_tool_can_be_configured(tmp_path: Path):
    lab = Lab(tmp_path, JwtSettings(secret=Secret(SECRET), issuer="vibectl-server"))
    assert lab.identify(signed(claims(iss="vibectl-server"))).subject == "ann"
    with pytest.raises(TokenWrongIssuer):
        lab.identify(GOOD)


def test_a_former_secret_is_accepted_with_and_without_its_name(tmp_path: Path):
    lab = Lab(tmp_path, JwtSettings(secret=Secret(OTHER), former_secrets=(Secret(SECRET),)))
    for kid in (None, KID):
        assert lab.identify(signed(claims(), kid=kid)).subject == "ann"
    # A secret is not tried for a token that names another.
    with pytest.raises(TokenBadSignature):
        lab.identify(signed(claims(), OTHER, kid=KID))


def broken(text: str) -> str:
    """With one character of the signature changed."""
    head, _, signature = text.rpartition(".")
    return f"{head}.{'A' if signature[0] != 'A' else 'B'}{signature[1:]}"


def grafted() -> str:
    """The claims of one token with the signature of another."""
    other = signed(claims(sub="root")).split(".")
    mine = GOOD.split(".")
    return ".".join((mine[0], other[1], mine[2]))


REFUSALS: list[tuple[str, str | bytes, type[Unauthenticated], str]] = [
    ("two parts", GOOD.rpartition(".")[0], TokenMalformed, "it has 2 parts"),
    ("four parts", GOOD + ".AAAA", TokenMalformed, "it has 4 parts"),
    ("encrypted", GOOD + ".AAAA.AAAA", TokenMalformed, "it is encrypted"),
    ("padding", GOOD + "=", TokenMalformed, "not base64url"),
    ("a space", GOOD[:20] + " " + GOOD[20:], TokenMalformed, "not base64url"),
    ("bytes", b"eyJ\xff.a.b", TokenMalformed, "not base64url"),
    ("a final bit", f"{GOOD[:-1]}{chr(ord(GOOD[-1]) + 1)}", TokenMalformed, "not base64url"),
    ("no base64", "abc.def.ghi", TokenMalformed, "not base64url"),
    ("no header", "abcd.efgh.ijkl", TokenMalformed, "header cannot be read"),
    ("one part", "abcdefgh", Unauthenticated, "This key is not known here"),
    ("two parts of none", "abcd.efgh", Unauthenticated, "This key is not known here"),
    ("too long", "eyJ" + "A" * 20_000, TokenMalformed, "more than 16384"),
    ("a cut header", "eyJhbGci.eyJ9.AAAA", TokenMalformed, "header cannot be read"),
    ("a header without alg", raw({"x": 1}, claims()), TokenMalformed, "header cannot be read"),
    ("a numeric kid", raw({"alg": "HS256", "kid": 7}, claims()), TokenMalformed, "header cannot be read"),
    ("crit", raw({"alg": "HS256", "crit": ["x"]}, claims()), TokenMalformed, "extensions"),
    ("b64", raw({"alg": "HS256", "b64": False}, claims()), TokenMalformed, "extensions"),
    ("no JSON claims", raw({"alg": "HS256"}, b"hello"), TokenMalformed, "claims cannot be read"),
    ("a list of claims", raw({"alg": "HS256"}, []), TokenMalformed, "claims cannot be read"),
    ("deep claims", raw({"alg": "HS256"}, b"[" * 5000), TokenMalformed, "claims cannot be read"),
    ("a numeric iss", raw({"alg": "HS256"}, claims(iss=7)), TokenMalformed, "`iss` of this token is not a text"),
    ("alg none", raw({"alg": "none"}, claims()), TokenBadSignature, "'none', and its key signs with HS256"),
    ("alg None", raw({"alg": "NONE"}, claims(), b"x"), TokenBadSignature, "'NONE'"),
    ("HS512", signed(claims(), SECRET * 2, "HS512"), TokenBadSignature, "'HS512'"),
    ("another secret", signed(claims(), OTHER), TokenBadSignature, "signature of this token is wrong"),
    ("a changed signature", broken(GOOD), TokenBadSignature, "signature of this token is wrong"),
    ("grafted claims", grafted(), TokenBadSignature, "signature of this token is wrong"),
    ("an empty signature", GOOD.rpartition(".")[0] + ".", TokenBadSignature, "signature of this token is wrong"),
    ("no iss", signed(claims(iss=None)), TokenIncomplete, "no `iss`"),
    ("no sub", signed(claims(sub=None)), TokenIncomplete, "no `sub`"),
    ("no exp", signed(claims(exp=None)), TokenIncomplete, "no `exp`"),
    ("no exp and no sub", signed(claims(exp=None, sub=None)), TokenIncomplete, "no `sub` and no `exp`"),
    ("no iat", signed(claims(iat=None)), TokenIncomplete, "no `iat`"),
    ("no jti", signed(claims(jti=None)), TokenIncomplete, "no `jti`"),
    ("another issuer", signed(claims(iss="vibectl-server")), TokenWrongIssuer, "'vibectl-server'.*'tollhouse'"),
    ("an audience", signed(claims(aud="x")), TokenWrongAudience, "another service"),
    ("an unknown key", signed(claims(), kid="0123456789ab"), TokenKeyUnknown, "'0123456789ab'.*not known"),
    ("an empty kid", signed(claims(), kid=""), TokenKeyUnknown, "not known"),
    ("expired", signed(claims(exp=NOON - 1)), TokenExpired, "expired on 2026-11-21 11:59:59 UTC.*token create ann"),
    ("expired just now", signed(claims(exp=NOON)), TokenExpired, "12:00:00 UTC"),
    ("nbf", signed(claims(nbf=NOON + 61)), TokenNotYetValid, "good from 2026-11-21 12:01:01 UTC"),
    ("a future iat", signed(claims(iat=NOON + 3600)), TokenNotYetValid, "13:00:00 UTC"),
    ("a text as exp", raw({"alg": "HS256"}, {**claims(), "exp": "tomorrow"}), TokenBadSignature, "wrong"),
]


@pytest.mark.parametrize(("token", "error", "says"), [row[1:] for row in REFUSALS], ids=[row[0] for row in REFUSALS])
def test_a_bad_token_is_refused_for_its_own_reason(
    lab: Lab, token: str | bytes, error: type[Unauthenticated], says: str
):
    for _ in range(2):  # a refusal leaves nothing behind
        with pytest.raises(error, match=says) as refused:
            lab.identify(token)
        assert type(refused.value) is error
        assert refused.value.hint
        assert refused.value.http_status == 401
        assert SECRET not in str(refused.value)


def test_every_refusal_has_a_code_of_its_own():
    errors = {row[2] for row in REFUSALS} | {TokenRevoked}
    assert len({error.code for error in errors}) == len(errors)


def hand_signed(payload: Any) -> str:
    """Signed with the secret, whatever the claims are: PyJWT would refuse some of them."""
    return jwt.api_jws.PyJWS().encode(json.dumps(payload).encode(), SECRET, algorithm="HS256")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"exp": "tomorrow"}, "`exp` of this token is not a number"),
        ({"exp": True}, "`exp` of this token is not a number"),
        ({"exp": 10**30}, "`exp` of this token is not a moment"),
        ({"iat": [1]}, "`iat` of this token is not a number"),
        ({"sub": 7}, "`sub` of this token is not a text"),
        ({"sub": ""}, "`sub` of this token is not a name"),
        ({"sub": " ann"}, "`sub` of this token is not a name"),
        ({"sub": "a\nb"}, "`sub` of this token is not a name"),
        ({"sub": "x" * 129}, "`sub` of this token is not a name"),
        ({"sub": "corp/ann"}, "`sub` of this token has a `/`"),
        ({"jti": "x" * 201}, "`jti` of this token is longer"),
        ({"aud": 7}, "`aud` of this token is neither"),
        ({"tollhouse": 7}, "`tollhouse` of this token cannot be used"),
        ({"tollhouse": {"models": "fast"}}, "`tollhouse` of this token cannot be used"),
        ({"tollhouse": {"is_admin": True}}, "`tollhouse` of this token cannot be used.*is_admin"),
        ({"tollhouse": {"total_nano": -1}}, "`tollhouse` of this token cannot be used"),
        ({"tollhouse": {"ip_ranges": ["everywhere"]}}, "`tollhouse` of this token cannot be used"),
        ({"tollhouse": {"project": "x"}}, "A project belongs to a tenant"),
        ({"tollhouse": {"tenant": "a/b"}}, "is not a name for a tenant"),
    ],
)
def test_a_claim_of_a_wrong_kind_is_named(lab: Lab, change: dict[str, Any], says: str):
    with pytest.raises(TokenMalformed, match=says):
        lab.identify(hand_signed({**claims(), **change}))


def test_a_fraction_of_a_second_counts(lab: Lab):
    lab.now_us = NOON_US + 400_000
    assert lab.identify(hand_signed(claims(exp=NOON + 0.5))).subject == "ann"
    lab.now_us += 200_000
    with pytest.raises(TokenExpired):
        lab.identify(hand_signed(claims(exp=NOON + 0.5)))


def test_clocks_may_differ_by_a_minute_at_a_tokens_beginning(lab: Lab):
    assert lab.identify(signed(claims(iat=NOON + 59, nbf=NOON + 59))).subject == "ann"


def test_without_a_secret_a_token_has_to_name_its_key(tmp_path: Path):
    with pytest.raises(TokenKeyUnknown, match=r"does not say which key signed it.*auth\.jwt\.secret"):
        Lab(tmp_path, JwtSettings()).identify(GOOD)


# ------------------------------------------------------------------------------------------------- keys of the database


def stored(kid: str, public_key: bytes | None = None, until_us: int | None = None) -> SigningKey:
    return SigningKey(kid, "HS256" if public_key is None else "EdDSA", public_key, until_us)


def test_a_key_of_the_database_signs_with_the_secret_of_this_machine(tmp_path: Path):
    lab = Lab(tmp_path, JwtSettings(), TokenRoll({"k1": stored("k1")}))
    lab.secrets.add("k1", "HS256", OTHER.encode(), drop=frozenset())
    assert lab.identify(signed(claims(), OTHER, kid="k1")).subject == "ann"
    with pytest.raises(TokenBadSignature):
        lab.identify(signed(claims(), SECRET, kid="k1"))


def test_a_secret_in_the_file_alone_signs_nothing(tmp_path: Path):
    """Another gateway of the same user may have made it, for its own database."""
    lab = Lab(tmp_path, JwtSettings())
    lab.secrets.add("k1", "HS256", OTHER.encode(), drop=frozenset())
    with pytest.raises(TokenKeyUnknown):
        lab.identify(signed(claims(), OTHER, kid="k1"))


def test_a_key_of_another_machine_is_said_to_be_elsewhere(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    lab = Lab(tmp_path, JwtSettings(), TokenRoll({"k1": stored("k1")}))
    for _ in range(3):
        with pytest.raises(StoreUnavailable, match="on another machine"):
            lab.identify(signed(claims(), OTHER, kid="k1"))
    assert len(caplog.records) == 1
    lab.secrets.add("k1", "HS256", OTHER.encode(), drop=frozenset())
    assert lab.identify(signed(claims(), OTHER, kid="k1")).subject == "ann"


def test_every_machine_checks_an_ed25519_key(tmp_path: Path):
    lab = Lab(tmp_path, JwtSettings(), TokenRoll({"k1": stored("k1", PUBLIC)}))
    assert lab.identify(signed(claims(), ED_KEY, "EdDSA", "k1")).subject == "ann"


@pytest.mark.parametrize(
    "token",
    [
        signed(claims(), SECRET, "HS256", "k1"),
        raw({"alg": "none", "kid": "k1"}, claims()),
        signed(claims(), RSA_KEY, "RS256", "k1"),
    ],
)
def test_a_key_cannot_be_used_with_another_algorithm(tmp_path: Path, token: str):
    lab = Lab(tmp_path, JwtSettings(), TokenRoll({"k1": stored("k1", PUBLIC)}))
    with pytest.raises(TokenBadSignature, match="its key signs with EdDSA"):
        lab.identify(token)


def test_a_public_key_is_no_hmac_secret(tmp_path: Path):
    """The classic confusion of algorithms."""
    lab = Lab(tmp_path, JwtSettings(), TokenRoll({"k1": stored("k1", PUBLIC)}))
    unsigned = raw({"alg": "HS256", "kid": "k1"}, claims()).rpartition(".")[0]
    forged = raw({"alg": "HS256", "kid": "k1"}, claims(), hmac.digest(PUBLIC, unsigned.encode(), "sha256"))
    with pytest.raises(TokenBadSignature, match="'HS256', and its key signs with EdDSA"):
        lab.identify(forged)


def test_a_token_that_lies_about_its_algorithm_is_refused_though_its_signature_is_right(lab: Lab):
    for said in ("none", "RS256", "hs256", ""):
        unsigned = raw({"alg": said, "kid": KID}, claims()).rpartition(".")[0]
        signature = hmac.digest(SECRET.encode(), unsigned.encode(), "sha256")
        with pytest.raises(TokenBadSignature, match="its key signs with HS256"):
            lab.identify(raw({"alg": said, "kid": KID}, claims(), signature))


def test_a_rotated_key_is_good_until_the_overlap_ends(tmp_path: Path):
    lab = Lab(tmp_path, JwtSettings(), TokenRoll({"k1": stored("k1", PUBLIC, NOON_US + 5)}))
    token = signed(claims(), ED_KEY, "EdDSA", "k1")
    assert lab.identify(token).subject == "ann"
    lab.now_us += 5
    for _ in range(2):
        with pytest.raises(TokenExpired, match=r"was replaced, and its tokens were good until 2026-11-21 12:00:00 UTC"):
            lab.identify(token)


# ------------------------------------------------------------------------------------------------------- what is remembered


def test_a_token_is_checked_once_and_ends_all_the_same(lab: Lab):
    first = lab.identify(GOOD)
    assert lab.identify(GOOD) is first
    lab.now_us += DAY * 1_000_000
    for _ in range(2):
        with pytest.raises(TokenExpired):
            lab.identify(GOOD)


def test_a_revoked_token_is_refused_by_the_next_call_and_others_go_on(lab: Lab):
    other = signed(claims(jti="t-2"))
    kept = lab.identify(other)
    lab.identify(GOOD)
    lab.roll = TokenRoll(revoked={"t-1": NOON_US})
    for _ in range(2):
        with pytest.raises(TokenRevoked, match=r"'ann' was revoked on 2026-11-21 12:00:00 UTC.*t-1"):
            lab.identify(GOOD)
    assert lab.identify(other) is kept, "what was worked out for it is kept by its identity"


def test_a_key_that_is_rotated_ends_the_tokens_that_were_checked_with_it(tmp_path: Path):
    lab = Lab(tmp_path, JwtSettings(), TokenRoll({"k1": stored("k1", PUBLIC)}))
    token = signed(claims(), ED_KEY, "EdDSA", "k1")
    lab.identify(token)
    lab.roll = TokenRoll({"k1": stored("k1", PUBLIC, NOON_US)})
    with pytest.raises(TokenExpired):
        lab.identify(token)
    lab.roll = TokenRoll({})
    with pytest.raises(TokenKeyUnknown):
        lab.identify(token)


def test_a_key_that_is_another_one_now_is_checked_again(tmp_path: Path):
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    other = Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    lab = Lab(tmp_path, JwtSettings(), TokenRoll({"k1": stored("k1", PUBLIC)}))
    token = signed(claims(), ED_KEY, "EdDSA", "k1")
    lab.identify(token)
    lab.roll = TokenRoll({"k1": stored("k1", other)})
    with pytest.raises(TokenBadSignature):
        lab.identify(token)


def test_what_is_remembered_is_bounded(tmp_path: Path):
    lab = Lab(tmp_path, max_known=3)
    tokens = [signed(claims(jti=f"t-{number}")) for number in range(5)]
    for token in tokens:
        lab.identify(token)
    assert len(lab.verifier._known) == 3
    assert lab.identify(tokens[-1]).token == "t-4"


# ------------------------------------------------------------------------------------------------------------ what it may do


def grant(**fields: Any) -> str:
    return signed(claims(tollhouse=fields))


def test_a_token_says_what_its_bearer_may_do(lab: Lab):
    principal = lab.identify(
        grant(
            tenant="acme", project="x", models=["fast"], providers=["openai"], ip_ranges=["10.0.0.0/8"],
            requests_per_minute=60, total_nano=5, tags={"team": "web"},
        )
    )  # fmt: skip
    assert (principal.tenant, principal.project) == ("acme", "x")
    assert principal.access == allow(["fast"], ["openai"])
    assert principal.networks is not None
    assert principal.networks.contain("10.1.2.3")
    assert not principal.networks.contain("192.0.2.1")
    assert principal.limits == RateSettings(requests_per_minute=60)
    assert principal.budgets == (
        BudgetSettings(scope=Scope("key", "subject:ann"), period="total", limit_nano=5, is_hard=True),
    )
    assert principal.tags == (("team", "web"),)


@pytest.fixture
def bounded(tmp_path: Path) -> Lab:
    own = Scope("key", "subject:*")
    return Lab(
        tmp_path,
        JwtSettings(
            secret=Secret(SECRET),
            defaults=GrantSettings(
                tenant="house",
                project="guests",
                limits=RateSettings(requests_per_minute=10, concurrent=2),
                budgets=(BudgetSettings(scope=own, period="total", limit_nano=100),),
                models=("fast", "openai/*"),
                ip_ranges=("10.0.0.0/8",),
            ),
        ),
    )


def test_the_configuration_bounds_what_a_token_says(bounded: Lab):
    principal = bounded.identify(
        grant(
            tenant="acme", models=["openai/gpt-5", "slow"], total_nano=500, daily_nano=7, requests_per_minute=60,
            ip_ranges=["10.1.0.0/16", "192.0.2.0/24"],
        )
    )  # fmt: skip
    access = principal.access
    assert access.may_use("x", "openai/gpt-5")
    assert not access.may_use("slow", "lab/slow"), "the configuration does not allow it"
    assert not access.may_use("fast", "lab/fast"), "the token does not"
    assert principal.limits == RateSettings(requests_per_minute=10, concurrent=2)
    assert (principal.tenant, principal.project) == ("acme", "")
    assert principal.networks is not None
    assert [principal.networks.contain(ip) for ip in ("10.1.0.1", "10.2.0.1", "192.0.2.1")] == [True, False, False]
    bound = Rules(LimitSettings()).bound(principal, "x", "openai/gpt-5", NOON_US)
    assert {name: budget.settings.limit_nano for name, budget in bound.budgets.items()} == {
        "key:subject:ann/total/ever": 100,
        "key:subject:ann/day/2026-11-21": 7,
    }


def test_a_token_that_says_nothing_gets_the_defaults(bounded: Lab):
    principal = bounded.identify(GOOD)
    assert (principal.tenant, principal.project) == ("house", "guests")
    assert principal.budgets == (BudgetSettings(scope=Scope("key", "subject:ann"), period="total", limit_nano=100),)
    assert principal.access.shown() == ["fast", "openai/*"]


def test_a_token_shares_what_its_tenant_has(tmp_path: Path):
    shares = Shared(budgets=(BudgetSettings(scope=Scope("tenant", "acme"), period="day", limit_nano=9),))
    lab = Lab(tmp_path, roll=TokenRoll(shares=shares))
    assert lab.identify(grant(tenant="acme")).shared is shares
    lab.roll = TokenRoll(shares=Shared(is_unreadable=True))
    with pytest.raises(StoreUnavailable, match="written by a newer version"):
        lab.identify(grant(tenant="acme"))


def test_the_database_says_what_a_subject_may_do_whatever_the_token_says(tmp_path: Path):
    ann = Principal(key="subject:ann", subject="ann", tenant="acme", access=allow(["slow"]))
    lab = Lab(tmp_path, roll=TokenRoll(subjects={"ann": StoredSubject(ann)}))
    principal = lab.identify(grant(tenant="other", models=["fast"]))
    assert (principal.tenant, principal.access, principal.token) == ("acme", allow(["slow"]), "t-1")


@pytest.mark.parametrize(
    ("ending", "error", "says"),
    [
        (Ending("revoked", NOON_US + 1), TokenRevoked, "'ann' was revoked"),
        (Ending("expired", NOON_US), TokenExpired, "subject 'ann' ended"),
    ],
)
def test_a_subject_that_ended_ends_its_tokens(lab: Lab, ending: Ending, error: type[Unauthenticated], says: str):
    lab.identify(GOOD)
    ann = Principal(key="subject:ann", subject="ann")
    lab.roll = TokenRoll(subjects={"ann": StoredSubject(ann, ending)})
    with pytest.raises(error, match=says):
        lab.identify(GOOD)


def test_a_subject_ends_while_its_token_is_remembered(tmp_path: Path):
    ann = StoredSubject(Principal(key="subject:ann", subject="ann"), Ending("expired", NOON_US + 5))
    lab = Lab(tmp_path, roll=TokenRoll(subjects={"ann": ann}))
    lab.identify(GOOD)
    lab.now_us += 5
    with pytest.raises(TokenExpired):
        lab.identify(GOOD)


# ------------------------------------------------------------------------------------------------------------- open gateways


@pytest.mark.parametrize(
    "token",
    [signed(claims(iss="https://else.example")), "eyJhbGciOi", signed(claims(), kid="x"), signed(claims(sub=None))],
)
def test_an_open_ring_takes_a_stranger_s_token_for_none(tmp_path: Path, token: str):
    assert Lab(tmp_path, is_open=True).identify(token) is ANONYMOUS


@pytest.mark.parametrize("token", [signed(claims(exp=NOON)), broken(GOOD), signed(claims(jti="gone"))])
def test_an_open_ring_refuses_a_token_that_has_ended(tmp_path: Path, token: str):
    lab = Lab(tmp_path, roll=TokenRoll(revoked={"gone": 1}), is_open=True)
    with pytest.raises(Unauthenticated):
        lab.identify(token)


def test_no_library_is_loaded_before_the_first_token():
    """An opaque key's way must not pay for tokens, and neither must a start."""
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from tollhouse.config.schema import JwtSettings\n"
        "from tollhouse.config.secret import Secret\n"
        "from tollhouse.errors import Unauthenticated\n"
        "from tollhouse.policy.identity import KeyRing\n"
        "from tollhouse.policy.tokens.secrets_file import SecretsFile\n"
        "from tollhouse.policy.tokens.verifier import TokenVerifier\n"
        f"verifier = TokenVerifier(JwtSettings(secret=Secret({SECRET!r})), SecretsFile(Path('/nowhere')))\n"
        "ring = KeyRing([], tokens=verifier)\n"
        "def ask(credential):\n"
        "    try:\n"
        "        ring.identify(credential)\n"
        "    except Unauthenticated:\n"
        "        pass\n"
        "ask(b'th-some-key')\n"
        "assert not {'jwt', 'cryptography'} & sys.modules.keys(), 'loaded too early'\n"
        f"ask({GOOD.encode()!r})\n"
        "assert 'jwt' in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_damaged_signing_key_is_our_fault(tmp_path: Path):
    lab = Lab(tmp_path, JwtSettings(), TokenRoll({"k1": stored("k1", b"short")}))
    with pytest.raises(StoreUnavailable, match="damaged"):
        lab.identify(signed(claims(), ED_KEY, "EdDSA", "k1"))


def test_what_came_is_never_shown(lab: Lab):
    assert GOOD not in repr(lab.identify(GOOD))
