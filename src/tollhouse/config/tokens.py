"""Reads which signed tokens are accepted: the sections `auth.jwt` and `auth.oidc`."""

from typing import Final, Literal

from tollhouse.config import values
from tollhouse.config.limits import Mentions, read_access, read_means, read_names
from tollhouse.config.schema import GrantSettings, JwtSettings, OidcSettings, Scope, frozen_map
from tollhouse.config.secret import Secret
from tollhouse.config.section import Section, Spot
from tollhouse.config.tree import Items
from tollhouse.config.values import Given, Reader, Refused

MAX_ISSUERS: Final = 50
MAX_FORMER_SECRETS: Final = 5
"""Each is tried for every new token that names no key."""
ANY_SUBJECT: Final = "subject:*"
"""The key that defaults are written down for; every subject gets a copy of its own."""


def read_jwt(section: Section, mentions: Mentions) -> JwtSettings:
    """The section `auth.jwt`."""
    defaults = JwtSettings()
    algorithms: Reader[Literal["HS256", "EdDSA"]] = values.choice("HS256", "EdDSA")
    secret = section.read_optional("secret", values.signing_secret)
    settings = JwtSettings(
        secret=secret,
        former_secrets=_former_secrets(section, secret),
        issuer=section.read("issuer", _short_text, defaults.issuer),
        algorithm=section.read("algorithm", algorithms, defaults.algorithm),
        defaults=_grant(section, ANY_SUBJECT, mentions),
    )
    if secret is not None and (spot := section.get("algorithm")) is not None and settings.algorithm != "HS256":
        spot.flaw("A `secret` signs with HS256; remove one of the two.")
    section.close()
    return settings


def read_oidc(auth: Section, mentions: Mentions, jwt: JwtSettings | None) -> tuple[OidcSettings, ...]:
    """The list `auth.oidc`."""
    spots = auth.items("oidc")
    if (listed := auth.get("oidc")) is not None and listed.is_empty:
        listed.flaw("The list is empty; name an issuer in it, or remove it.")
    if len(spots) > MAX_ISSUERS:
        spots[MAX_ISSUERS].flaw(f"There can be at most {MAX_ISSUERS} issuers.")
    own = (jwt or JwtSettings()).issuer
    names: dict[str, str] = {}
    issuers = {own: "auth.jwt"}
    found: list[OidcSettings] = []
    for spot in spots[:MAX_ISSUERS]:
        issuer = _issuer(spot, mentions)
        if issuer is None:
            continue
        if issuer.name in names:
            spot.flaw(f"The name {issuer.name!r} is already that of {names[issuer.name]}.")
        elif issuer.issuer in issuers:
            spot.flaw(f"Tokens of this issuer are accepted by {issuers[issuer.issuer]} already.")
        names.setdefault(issuer.name, spot.written)
        issuers.setdefault(issuer.issuer, spot.written)
        found.append(issuer)
    return tuple(found)


def _issuer(spot: Spot, mentions: Mentions) -> OidcSettings | None:
    defaults = OidcSettings(name="", issuer="", audience=())
    section = spot.section()
    name = section.read_optional("name", values.name)
    section.require("name", "The issuer has no `name`, which its subjects are called by: `subject:NAME/SUB`.")
    issuer = section.read_optional("issuer", values.issuer_url)
    section.require("issuer", "The entry has no `issuer`: its address, as in the claim `iss` of its tokens.")
    audience = _one_or_more(section, "audience")
    section.require("audience", "The entry has no `audience`: what its tokens must be meant for (their claim `aud`).")
    settings = OidcSettings(
        name=name or "",
        issuer=issuer or "",
        audience=audience,
        jwks_url=section.read_optional("jwks_url", values.issuer_url),
        subject_claim=section.read("subject_claim", _short_text, defaults.subject_claim),
        tenant_claim=section.read_optional("tenant_claim", _short_text),
        project_claim=section.read_optional("project_claim", _short_text),
        allowed_subjects=read_names(section, "allowed_subjects", _subject_pattern),
        required_claims=frozen_map(_required(section)),
        defaults=_grant(section, f"subject:{name or ''}/*", mentions),
    )
    section.close()
    return settings if name and issuer and audience else None


def _grant(outer: Section, whose: str, mentions: Mentions) -> GrantSettings:
    """The section `defaults`."""
    if not outer.has("defaults"):
        return GrantSettings()
    section = outer.section("defaults")
    limits, budgets = read_means(section, Scope("key", whose), mentions)
    models, providers, ip_ranges = read_access(section, mentions)
    tenant = section.read_optional("tenant", values.name) or ""
    project = section.read_optional("project", values.name) or ""
    if project and not tenant and (spot := section.get("project")) is not None:
        spot.flaw("A project belongs to a tenant; name the tenant too.")
    grant = GrantSettings(
        tenant=tenant,
        project=project,
        limits=limits,
        budgets=budgets,
        models=models,
        providers=providers,
        ip_ranges=ip_ranges,
    )
    section.close()
    return grant


def _former_secrets(section: Section, secret: Secret | None) -> tuple[Secret, ...]:
    spots = section.items("former_secrets")
    found: list[Secret] = []
    for spot in spots[:MAX_FORMER_SECRETS]:
        former = spot.read(values.signing_secret)
        if former is None:
            continue
        if former == secret or former in found:
            spot.flaw("This secret stands here twice.")
        found.append(former)
    if len(spots) > MAX_FORMER_SECRETS:
        spots[MAX_FORMER_SECRETS].flaw(f"There can be at most {MAX_FORMER_SECRETS} former secrets.")
    return tuple(found)


def _required(section: Section) -> dict[str, tuple[str, ...]]:
    claims: dict[str, tuple[str, ...]] = {}
    for entry, spot in section.members("required_claims"):
        try:
            _short_text(Given(entry.key))
        except Refused as refused:
            section.spot.collector.flaw(entry.mark, spot.written, refused.sentence)
        claims[entry.key] = _texts(spot)
    return claims


def _one_or_more(section: Section, key: str) -> tuple[str, ...]:
    spot = section.get(key)
    return () if spot is None else _texts(spot)


def _texts(spot: Spot) -> tuple[str, ...]:
    """One text, or a list of some."""
    if not isinstance(spot.node, Items):
        value = spot.read(_short_text)
        return () if value is None else (value,)
    read = [value for item in spot.items() if (value := item.read(_short_text)) is not None]
    if spot.is_empty:
        spot.flaw("The list is empty, so no token would do; name something in it.")
    return tuple(read)


def _short_text(given: Given) -> str:
    value = values.text(given)
    if len(value) > 200:
        raise Refused("Must be at most 200 characters.")
    return value


def _subject_pattern(given: Given) -> str:
    value = _short_text(given)
    if "*" in value[1:-1] or not value.strip("*"):
        raise Refused("A `*` stands at the beginning or at the end of a subject: `*@example.com`, `service-*`.")
    return value
