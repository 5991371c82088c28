"""Which signed tokens a file accepts."""

import pytest

from support.configs import problem, read
from tollhouse.config.schema import BudgetSettings, GrantSettings, JwtSettings, OidcSettings, RateSettings, Scope
from tollhouse.config.secret import Secret

PROVIDERS = "providers: {openai: {api_key: x}, local: {}}\nmodels: {fast: openai/gpt-5}\n"
SECRET = "0123456789abcdef0123456789abcdef"
CORP = "name: corp, issuer: 'https://id.example.com/', audience: tollhouse"


def with_auth(more: str) -> str:
    return f"auth: {{{more}}}\n{PROVIDERS}"


def test_signed_tokens_are_enough_to_let_somebody_in():
    auth = read(with_auth("jwt: {}")).auth
    assert auth.jwt == JwtSettings()
    assert (auth.keys, auth.oidc, auth.open) == ((), (), False)


def test_a_file_that_says_nothing_of_tokens_has_none():
    assert read(with_auth("open: true")).auth.jwt is None


def test_tokens_of_our_own_take_every_setting():
    jwt = read(
        with_auth(
            f"jwt: {{secret: {SECRET}, former_secrets: [{SECRET[::-1]}], issuer: vibectl-server, defaults: {{tenant: acme,"
            " project: x, models: [fast, 'openai/*'], providers: [openai], ip_ranges: [10.0.0.0/8],"
            " limits: {concurrent: 2}, budget: {daily: 5}}}"
        )
    ).auth.jwt
    assert jwt == JwtSettings(
        secret=Secret(SECRET),
        former_secrets=(Secret(SECRET[::-1]),),
        issuer="vibectl-server",
        defaults=GrantSettings(
            tenant="acme",
            project="x",
            limits=RateSettings(concurrent=2),
            budgets=(BudgetSettings(scope=Scope("key", "subject:*"), period="day", limit_nano=5 * 10**9),),
            models=("fast", "openai/*"),
            providers=("openai",),
            ip_ranges=("10.0.0.0/8",),
        ),
    )


def test_an_issuer_takes_every_setting():
    (issuer,) = read(
        with_auth(
            "oidc: [{name: corp, issuer: 'https://id.example.com/', audience: [a, b], jwks_url: 'https://id.example.com/keys',"
            " subject_claim: email, tenant_claim: org, project_claim: team, allowed_subjects: ['*@example.com', ann],"
            " required_claims: {groups: [llm, ops], hd: example.com}, defaults: {budget: {monthly: 10}}}]"
        )
    ).auth.oidc
    assert issuer == OidcSettings(
        name="corp",
        issuer="https://id.example.com/",
        audience=("a", "b"),
        jwks_url="https://id.example.com/keys",
        subject_claim="email",
        tenant_claim="org",
        project_claim="team",
        allowed_subjects=("*@example.com", "ann"),
        required_claims={"groups": ("llm", "ops"), "hd": ("example.com",)},
        defaults=GrantSettings(
            budgets=(BudgetSettings(scope=Scope("key", "subject:corp/*"), period="month", limit_nano=10 * 10**9),)
        ),
    )


def test_an_issuer_on_this_machine_may_do_without_tls():
    (issuer,) = read(with_auth("oidc: [{name: lab, issuer: 'http://127.0.0.1:8080', audience: x}]")).auth.oidc
    assert issuer.issuer == "http://127.0.0.1:8080"


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ("jwt: {secret: short}", "auth.jwt.secret: A secret that signs tokens needs at least 32 characters."),
        (f"jwt: {{secret: {SECRET}, algorithm: EdDSA}}", "auth.jwt.algorithm: A `secret` signs with HS256"),
        (f"jwt: {{secret: {SECRET}, former_secrets: [{SECRET}]}}", "former_secrets[0]: This secret stands here twice."),
        ("jwt: {algorithm: RS256}", "Must be one of HS256, EdDSA, not 'RS256'."),
        ("jwt: {secrets: x}", "There is no such key. Did you mean 'secret'?"),
        ("jwt: {defaults: {models: [fats]}}", "There is no alias 'fats'. Did you mean 'fast'?"),
        ("jwt: {defaults: {project: x}}", "A project belongs to a tenant"),
        ("oidc: []", "auth.oidc: The list is empty"),
        ("oidc: [{name: corp, issuer: 'https://x'}]", "auth.oidc[0]: The entry has no `audience`"),
        ("oidc: [{issuer: 'https://x', audience: a}]", "The issuer has no `name`"),
        ("oidc: [{name: corp, audience: a}]", "The entry has no `issuer`"),
        ("oidc: [{name: corp, issuer: 'http://id.example.com', audience: a}]", "must begin with https://"),
        (
            f"oidc: [{{{CORP}, jwks_url: 'http://x/keys'}}]",
            "auth.oidc[0].jwks_url: The address must begin with https://",
        ),
        (f"oidc: [{{{CORP}}}, {{{CORP}}}]", "auth.oidc[1]: The name 'corp' is already that of auth.oidc[0]."),
        (f"oidc: [{{{CORP}}}, {{{CORP.replace('corp', 'b')}}}]", "are accepted by auth.oidc[0] already"),
        (f"oidc: [{{{CORP}, audience: []}}]", "audience"),
        (f"oidc: [{{{CORP}, required_claims: {{groups: []}}}}]", "The list is empty, so no token would do"),
        (f"oidc: [{{{CORP}, allowed_subjects: ['a*b']}}]", "A `*` stands at the beginning or at the end"),
        ("{}", "or write `jwt: {}` to let in signed tokens"),
    ],
)
def test_what_cannot_be_meant_is_refused(more: str, sentence: str):
    text = with_auth(more) if more != "{}" else f"auth: {{}}\n{PROVIDERS}"
    assert sentence in problem(text)


def test_no_secret_is_shown():
    config = read(with_auth(f"jwt: {{secret: {SECRET}}}"))
    assert SECRET not in repr(config)
