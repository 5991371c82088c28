"""A private certificate authority: makes the certificates that a gateway and its callers show each other.

One authority signs servers and clients directly, so a chain has two links and nobody can forget one of them.  What it makes
passes the strictest readers that were met: Python 3.13 checks chains with `VERIFY_X509_STRICT`, which asks for the extensions
of RFC 5280, section 4.2.1 (key identifiers, critical basic constraints and key usage); Go wants names in the alternative
names; rustls takes keys as PKCS#8 only.  Keys are ECDSA P-256, which all of them know.

Nothing here reads or writes files, and the time is an argument.
"""

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tollhouse.config.certificate_names import alternative_name

MAX_COMMON_NAME: Final = 64
"""Characters; RFC 5280, appendix A.1, `ub-common-name`."""
MAX_HOST: Final = 253
_HOST: Final = re.compile(
    r"(\*\.)?[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?)*\.?"
)
BACKDATED: Final = timedelta(hours=1)
"""How far a certificate reaches back, for clocks that are late."""


class BadAuthority(ValueError):
    """The authority's files are not a pair of a certificate and its key that can sign."""


@dataclass(frozen=True, slots=True)
class Issued:
    """A new certificate and its key, as files have them."""

    chain: bytes
    """PEM: the certificate, followed by the authority's own where another one signed it."""
    key: bytes = field(repr=False)
    """PEM, PKCS#8, without a password."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a certificate is to say."""

    common_name: str
    names: tuple[str, ...] = ()
    """Alternative names: `dns:…`, `ip:…`, `email:…`, `uri:…`."""
    is_server: bool
    """For a server; else for a client."""
    days: int


class Authority:
    """Signs with one key."""

    __slots__ = ("_certificate", "_key", "pem")

    def __init__(self, certificate: bytes, key: bytes) -> None:
        """Takes PEM.  Raises `BadAuthority`."""
        try:
            self._certificate = x509.load_pem_x509_certificate(certificate)
            loaded = load_pem_private_key(key, None)
        except (ValueError, TypeError) as error:
            raise BadAuthority("The authority's certificate or key cannot be read.") from error
        if not isinstance(loaded, ec.EllipticCurvePrivateKey):
            raise BadAuthority("The authority's key is not one for ECDSA, as `tollhouse cert init` makes them.")
        if loaded.public_key() != self._certificate.public_key():
            raise BadAuthority("The authority's key does not belong to its certificate.")
        self._key = loaded
        self.pem = self._certificate.public_bytes(Encoding.PEM)

    @property
    def not_after(self) -> datetime:
        """When it ends, and with it everything that it signed."""
        return self._certificate.not_valid_after_utc

    def issue(self, request: Request, now: datetime, *, key: bytes | None = None) -> Issued:
        """Makes a certificate, and a key for it unless one is handed over.  It never outlives the authority.

        Raises `ValueError` for names that a certificate cannot hold.
        """
        private = _new_key() if key is None else _loaded(key)
        begins = now - BACKDATED
        ends = min(now + timedelta(days=request.days), self.not_after)
        issuer_id = self._certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        usage = ExtendedKeyUsageOID.SERVER_AUTH if request.is_server else ExtendedKeyUsageOID.CLIENT_AUTH
        builder = (
            _builder(_subject(request.common_name), self._certificate.subject, private, begins, ends)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer_id),
                critical=False,
            )
        )
        if request.names:
            names = [general_name(each) for each in request.names]
            # RFC 5280, section 4.2.1.6: critical where there is no subject.
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=not request.common_name)
        certificate = builder.sign(self._key, hashes.SHA256())
        return Issued(certificate.public_bytes(Encoding.PEM) + self.pem, _pem(private))


def make_authority(common_name: str, *, now: datetime, days: int) -> Issued:
    """A new authority, which may sign certificates of servers and clients but no further authorities."""
    private = _new_key()
    name = _subject(common_name)
    certificate = (
        _builder(name, name, private, now - BACKDATED, now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .sign(private, hashes.SHA256())
    )
    return Issued(certificate.public_bytes(Encoding.PEM), _pem(private))


def request_like(chain: bytes) -> Request:
    """The request that would make a certificate again as it is, for as many days.  Raises `ValueError`."""
    from tollhouse.config.certificate_names import names_in

    certificate = x509.load_pem_x509_certificate(chain)
    common_names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    lifetime = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    return Request(
        common_name=str(common_names[0].value) if common_names else "",
        names=names_in(certificate),
        is_server=ExtendedKeyUsageOID.SERVER_AUTH in usages,
        days=max(1, (lifetime - BACKDATED).days),
    )


def host_name(host: str) -> str:
    """A host or an IP address as an alternative name.  Raises `ValueError` for what is neither."""
    bare = host.strip().removeprefix("[").removesuffix("]")
    try:
        return f"ip:{ipaddress.ip_address(bare)}"
    except ValueError:
        pass
    if not bare.isascii():
        bare = bare.encode("idna").decode("ascii")
    if len(bare) > MAX_HOST or not _HOST.fullmatch(bare):
        raise ValueError("It is neither the name of a host nor an IP address.")
    return alternative_name(f"dns:{bare}")


def general_name(text: str) -> x509.GeneralName:
    """An alternative name as certificates have it.  Raises `ValueError`."""
    kind, _, value = alternative_name(text).partition(":")
    match kind:
        case "ip":
            return x509.IPAddress(ipaddress.ip_address(value))
        case "email":
            return x509.RFC822Name(value)
        case "uri":
            return x509.UniformResourceIdentifier(value)
        case _:
            return x509.DNSName(value)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    private: ec.EllipticCurvePrivateKey,
    begins: datetime,
    ends: datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(private.public_key()), critical=False)
    )


def _subject(common_name: str) -> x509.Name:
    if len(common_name) > MAX_COMMON_NAME:
        raise ValueError(f"The name {common_name[:80]!r} is longer than {MAX_COMMON_NAME} characters.")
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)] if common_name else [])


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def _loaded(key: bytes) -> ec.EllipticCurvePrivateKey:
    loaded = load_pem_private_key(key, None)
    if not isinstance(loaded, ec.EllipticCurvePrivateKey):
        raise BadAuthority("The key is not one for ECDSA, as `tollhouse cert init` makes them.")
    return loaded


def _pem(private: ec.EllipticCurvePrivateKey) -> bytes:
    return private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def common_name_of(names: Sequence[str]) -> str:
    """A common name out of alternative names: the first host that fits, or none."""
    for each in names:
        kind, _, value = each.partition(":")
        if kind in {"dns", "ip"} and len(value) <= MAX_COMMON_NAME:
            return value
    return ""
