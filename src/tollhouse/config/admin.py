"""Reads who may administer: the section `admin`."""

import hashlib
from collections.abc import Iterable
from typing import Final

from tollhouse.config import values
from tollhouse.config.keys import read_digest
from tollhouse.config.schema import AdminSettings, AdminTokenSettings, KeySettings, Role
from tollhouse.config.section import Section, Spot
from tollhouse.config.tls import read_tls
from tollhouse.config.values import Given, Refused

MIN_TOKEN_CHARACTERS: Final = 16
MAX_TOKENS: Final = 100
GOOD_ONES: Final = "`python -c \"import secrets; print('tha-' + secrets.token_urlsafe(32))\"` makes a good one"
TAKEN: Final = frozenset({"gateway", "cli"})
"""Names that the audit log gives to others."""


def read_admin(section: Section, keys: Iterable[KeySettings]) -> AdminSettings:
    """The section `admin`.  No token may be one of the callers' `keys`."""
    callers = {key.digest: key.name for key in keys}
    tokens: dict[str, AdminTokenSettings] = {}
    seen: dict[bytes, str] = {}
    spots = section.items("tokens")
    if (listed := section.get("tokens")) is not None and listed.is_empty:
        listed.flaw("The list is empty; name a token in it, or remove it.")
    if len(spots) > MAX_TOKENS:
        spots[MAX_TOKENS].flaw(f"There can be at most {MAX_TOKENS} admin tokens.")
    for spot in spots[:MAX_TOKENS]:
        token = _token(spot)
        if token is None:
            continue
        if token.name in tokens:
            spot.flaw(f"The name {token.name!r} is already that of another admin token; every token needs its own.")
        elif token.digest in seen:
            spot.flaw(f"This is the same token as that of {seen[token.digest]!r}; every name needs a token of its own.")
        elif token.digest in callers:
            spot.flaw(
                f"This is the caller's key {callers[token.digest]!r} too; a key that calls must not administer. "
                f"{GOOD_ONES}."
            )
        tokens.setdefault(token.name, token)
        seen.setdefault(token.digest, token.name)
    hosts = tuple(dict.fromkeys(host for spot in section.items("hosts") if (host := spot.read(_host)) is not None))
    tls = read_tls(section)
    section.close()
    return AdminSettings(tokens=tuple(tokens.values()), tls=tls, hosts=hosts)


def _token(spot: Spot) -> AdminTokenSettings | None:
    section = spot.section()
    name = section.read_optional("name", _name)
    digest = read_digest(section, "token", _token_digest)
    section.require("name", "The token has no `name`; the name is what the audit log calls it.")
    roles: tuple[Role, ...] = ("admin", "viewer")
    role = section.read_optional("role", values.choice(*roles))
    section.require("role", "The token has no `role`: `admin` may change things, `viewer` may look.")
    section.close()
    if name is None or digest is None or role is None:
        return None
    return AdminTokenSettings(name=name, digest=digest, role=role)


def _name(given: Given) -> str:
    name = values.name(given)
    if name in TAKEN:
        raise Refused(f"The audit log calls something else {name!r}; choose another name.")
    return name


def _token_digest(given: Given) -> bytes:
    """SHA-256 of an admin token, which is checked and then forgotten."""
    token = values.secret(given).reveal()
    if len(token) < MIN_TOKEN_CHARACTERS:
        what = f"; {given} has fewer" if given.references else ""
        raise Refused(f"An admin token needs at least {MIN_TOKEN_CHARACTERS} characters{what}. {GOOD_ONES}.")
    return hashlib.sha256(token.encode()).digest()


def _host(given: Given) -> str:
    """A name as browsers and proxies send it in `Host`, without a port; in lower case."""
    return values.host(given).lower()
