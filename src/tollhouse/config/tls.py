"""Reads the sections `tls`, and judges where plain text may be spoken."""

from datetime import UTC, datetime
from typing import Final, Literal

from tollhouse.config import values
from tollhouse.config.certificates import examine
from tollhouse.config.schema import ServerSettings, TlsSettings
from tollhouse.config.section import Section
from tollhouse.config.values import Reader

Listener = Literal["gateway", "admin listener"]

HOW_TO_ENCRYPT: Final = (
    "(`tollhouse cert init` makes a certificate), listen on 127.0.0.1, "
    "or say `server.insecure: true` where something else encrypts"
)


def read_tls(outer: Section) -> TlsSettings | None:
    """The section `tls` below `server` or `admin`, if it has one; its files are read, and what is wrong with them reported."""
    if not outer.has("tls"):
        return None
    section = outer.section("tls")
    modes: Reader[Literal["required", "optional"]] = values.choice("required", "optional")
    cert = section.read_optional("cert", values.text)
    key = section.read_optional("key", values.text)
    section.require("cert", "There is no `cert`: the PEM file of the certificate and its issuers.")
    section.require("key", "There is no `key`: the PEM file of the certificate's private key.")
    client_ca = section.read_optional("client_ca", values.text)
    client_auth = section.read_optional("client_auth", modes)
    if (spot := section.get("client_auth")) is not None and not section.has("client_ca"):
        spot.flaw("Clients' certificates are checked against `client_ca`, which is missing.")
    elif client_ca is not None and client_auth is None and not section.has("client_auth"):
        section.note_default("client_auth", "required")
    section.close()
    if cert is None or key is None:
        return None
    settings = TlsSettings(cert=cert, key=key, client_ca=client_ca, client_auth=client_auth or "required")
    _, flaws = examine(settings, datetime.now(UTC))
    for flaw in flaws:
        place = section.get(flaw.which) or section.spot
        if flaw.is_fatal:
            place.flaw(flaw.sentence)
        else:
            place.warn(flaw.sentence)
    return settings


def plain_text_problem(listener: Listener, shown: str) -> str:
    """Why a listener without TLS must not be where other machines can reach it.  `shown` is its address, fit to be seen."""
    where = "server.tls" if listener == "gateway" else "admin.tls"
    return (
        f"The {listener} would speak plain text on {shown}, where other machines can reach it; "
        f"set `{where}` {HOW_TO_ENCRYPT}."
    )


def check_plain_text(server_section: Section, server: ServerSettings, admin_section: Section) -> None:
    """Reports listeners that would speak plain text where others can listen."""
    wanted: tuple[tuple[Listener, str, str, Section], ...] = (
        ("gateway", "host", server.host, server_section),
        ("admin listener", "admin_host", server.admin_host, admin_section),
    )
    for listener, key, host, section in wanted:
        spot = server_section.get(key)
        if spot is None or server.insecure or values.is_loopback(host):
            continue
        # A `tls` that was refused is meant as encryption all the same: one mistake is one problem.
        if not section.has("tls"):
            spot.flaw(plain_text_problem(listener, spot.speak_of(host)))
