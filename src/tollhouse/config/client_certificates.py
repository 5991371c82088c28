"""Reads who may call with a client certificate: the list `auth.certificates`."""

from collections.abc import Callable
from typing import Final

from tollhouse.config import values
from tollhouse.config.certificate_names import alternative_name, subject_text
from tollhouse.config.limits import Mentions, read_access, read_means
from tollhouse.config.schema import CertificateSettings, Scope, ServerSettings, frozen_map
from tollhouse.config.section import Section, Spot
from tollhouse.config.tags import read_tags
from tollhouse.config.values import Given, Reader, Refused

PREFIX: Final = "certificate:"
"""What the name of such a caller begins with; no key can be named so."""
MAX_CERTIFICATES: Final = 10_000


def read_certificates(auth: Section, server: ServerSettings, mentions: Mentions) -> tuple[CertificateSettings, ...]:
    """The list."""
    spots = auth.items("certificates")
    listed = auth.get("certificates")
    if listed is not None and listed.is_empty:
        listed.flaw("The list is empty; name a certificate in it, or remove it.")
    elif listed is not None and server.http2:
        listed.flaw("The server that speaks HTTP/2 does not say whose certificate it saw; remove `server.http2`.")
    elif listed is not None and (server.tls is None or server.tls.client_ca is None):
        listed.flaw(
            "No client is asked for its certificate; name the authority that issues them in `server.tls.client_ca`."
        )
    if len(spots) > MAX_CERTIFICATES:
        spots[MAX_CERTIFICATES].flaw(f"There can be at most {MAX_CERTIFICATES} certificates.")
    names: dict[str, str] = {}
    matches: dict[str, str] = {}
    found: list[CertificateSettings] = []
    for spot in spots[:MAX_CERTIFICATES]:
        rule = _rule(spot, mentions)
        if rule is None:
            continue
        match = f"subject {rule.subject}" if rule.subject is not None else str(rule.san)
        if rule.name in names:
            spot.flaw(f"The name {rule.name!r} is already that of {names[rule.name]}; every entry needs its own.")
        elif match in matches:
            spot.flaw(f"This is the same certificate as {matches[match]}.")
        names.setdefault(rule.name, spot.written)
        matches.setdefault(match, spot.written)
        found.append(rule)
    return tuple(found)


def _rule(spot: Spot, mentions: Mentions) -> CertificateSettings | None:
    section = spot.section()
    name = section.read_optional("name", values.name)
    section.require("name", "The certificate has no `name`; the ledger and the log call it `certificate:NAME`.")
    subject = section.read_optional("subject", _by(subject_text))
    san = section.read_optional("san", _by(alternative_name))
    section.require_any(
        ("subject", "san"), "The entry has neither a `subject` nor a `san`, so no certificate is meant."
    )
    if section.has("subject") and section.has("san"):
        spot.flaw("Give either the `subject` or the `san`; make two entries where both are meant.")
    scope = None if name is None else Scope("key", PREFIX + name)
    limits, budgets = read_means(section, scope, mentions)
    models, providers, ip_ranges = read_access(section, mentions)
    settings = CertificateSettings(
        name=name or "",
        subject=subject,
        san=san,
        tenant=section.read_optional("tenant", values.name) or "",
        project=section.read_optional("project", values.name) or "",
        limits=limits,
        budgets=budgets,
        models=models,
        providers=providers,
        ip_ranges=ip_ranges,
        tags=frozen_map(read_tags(section)),
    )
    section.close()
    return settings if name and (subject or san) else None


def _by(spell: Callable[[str], str]) -> Reader[str]:
    def read(given: Given) -> str:
        try:
            return spell(values.text(given))
        except ValueError as error:
            raise Refused(str(error)) from None

    return read
