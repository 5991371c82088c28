"""Reads who may call: the section `auth` and the keys in it."""

from typing import Final

from tollhouse.config import values
from tollhouse.config.client_certificates import read_certificates
from tollhouse.config.limits import Mentions, read_access, read_means
from tollhouse.config.schema import AuthSettings, KeySettings, Scope, ServerSettings, frozen_map
from tollhouse.config.section import Section, Spot
from tollhouse.config.tags import read_tags
from tollhouse.config.tokens import read_jwt, read_oidc
from tollhouse.config.values import Reader

CLOSED: Final = (
    "Nobody could call: the gateway is closed by default. List keys under `auth.keys`, each with a `name` and a `key` ("
    f"{values.HOW_TO_MAKE_A_KEY}), or write `jwt: {{}}` to let in signed tokens (`tollhouse token create`), or `open: true`"
    " while `server.host` is a loopback address."
)


def read_auth(
    section: Section, server: ServerSettings, mentions: Mentions, *, may_be_without_keys: bool
) -> AuthSettings:
    """The section `auth`.  `may_be_without_keys`: nobody being able to call is a warning instead of a problem."""
    seen_names: dict[str, str] = {}
    seen_digests: dict[bytes, str] = {}
    keys: list[KeySettings] = []
    items = section.items("keys")
    if (listed := section.get("keys")) is not None and listed.is_empty:
        listed.flaw("The list is empty; name a key in it, or remove it.")
    for spot in items:
        key = _key(spot, mentions)
        if key is None:
            continue
        if key.name in seen_names:
            spot.flaw(f"The name {key.name!r} is already that of {seen_names[key.name]}; every key needs its own.")
        elif key.digest in seen_digests:
            spot.flaw(f"This is the same key as {seen_digests[key.digest]}; every name needs a key of its own.")
        seen_names.setdefault(key.name, spot.written)
        seen_digests.setdefault(key.digest, spot.written)
        keys.append(key)
    jwt = read_jwt(section.section("jwt"), mentions) if section.has("jwt") else None
    oidc = read_oidc(section, mentions, jwt)
    certificates = read_certificates(section, server, mentions)
    is_open = section.read("open", values.boolean, default=False)
    if is_open and not values.is_loopback(server.host) and (spot_of_open := section.get("open")) is not None:
        spot_of_open.flaw(
            f"Calls without a key are allowed on a loopback address only, and `server.host` is {server.host};"
            " remove `open: true` and list keys, or listen on 127.0.0.1."
        )
    if not items and not is_open and not any(section.has(other) for other in ("jwt", "oidc", "certificates")):
        if may_be_without_keys and not section.has("keys"):
            section.spot.warn(
                "There are no keys, so every call will be refused; set TOLLHOUSE_KEY, or add an `auth` section with keys."
            )
        else:
            section.require("keys", CLOSED)
    section.close()
    return AuthSettings(keys=tuple(keys), jwt=jwt, oidc=oidc, certificates=certificates, open=is_open)


def read_digest(section: Section, key: str, reader: Reader[bytes]) -> bytes | None:
    """The digest of a credential, which stands there itself or, below `{key}_sha256`, as its digest."""
    digest = section.read_optional(key, reader)
    if section.has(f"{key}_sha256"):
        if section.has(key):
            section.spot.flaw(f"Give either the `{key}` or its `{key}_sha256`.")
        return section.read_optional(f"{key}_sha256", values.hex_digest)
    section.require(key, f"The entry has no `{key}`, and no `{key}_sha256` in its place.")
    return digest


def _key(spot: Spot, mentions: Mentions) -> KeySettings | None:
    section = spot.section()
    name = section.read_optional("name", values.name)
    digest = read_digest(section, "key", values.key_digest)
    section.require("name", "The key has no `name`; the name is what the ledger and the log call it.")
    tenant = section.read_optional("tenant", values.name)
    project = section.read_optional("project", values.name)
    scope = None if name is None else Scope("key", name)
    limits, budgets = read_means(section, scope, mentions)
    models, providers, ip_ranges = read_access(section, mentions)
    tags = read_tags(section)
    section.close()
    if name is None or digest is None:
        return None
    return KeySettings(
        name=name,
        digest=digest,
        tenant=tenant or "",
        project=project or "",
        limits=limits,
        budgets=budgets,
        models=models,
        providers=providers,
        ip_ranges=ip_ranges,
        tags=frozen_map(tags),
    )
