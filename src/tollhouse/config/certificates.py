"""Certificates and their keys in files: reading them, and saying what is wrong with them before a client meets it.

OpenSSL says of most mistakes only `KEY_VALUES_MISMATCH` or `NO_START_LINE`; a person needs the file, the fault and the way out.
"""

import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from tollhouse.config.certificate_names import names_in, unreadable
from tollhouse.config.schema import TlsSettings

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

MAX_PEM_BYTES: Final = 1_048_576
"""A system's whole list of authorities has a quarter of it."""
MAX_CERTIFICATES: Final = 1000
SOON: Final = timedelta(days=14)
"""How long before its end a certificate is worth a warning."""

Which = Literal["cert", "key", "client_ca"]


@dataclass(frozen=True, slots=True)
class Flaw:
    """Something wrong with one of the files."""

    which: Which
    sentence: str
    is_fatal: bool = True
    """Whether nothing can be served with it; else it deserves a look."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """The content of a listener's files, found to fit each other.  All of it PEM."""

    chain: bytes
    key: bytes = field(repr=False)
    client_ca: bytes | None
    subject: str
    names: tuple[str, ...]
    """The certificate's alternative names."""
    not_after: datetime


def examine(settings: TlsSettings, now: datetime) -> tuple[Material | None, Sequence[Flaw]]:
    """Reads the files and judges them.  There is no material when one of the flaws is fatal.

    Blocks for as long as the files take to read.
    """
    flaws: list[Flaw] = []
    chain = _read(settings.cert, "cert", flaws)
    key = _read(settings.key, "key", flaws)
    authorities = None if settings.client_ca is None else _read(settings.client_ca, "client_ca", flaws)
    certificates = [] if chain is None else _certificates(chain, "cert", flaws)
    private = None if key is None else _private_key(key, settings.key, flaws)
    if private is not None and _is_open_to_all(settings.key):
        flaws.append(
            Flaw("key", f"Everybody on this machine can read the key: chmod 600 {settings.key}", is_fatal=False)
        )
    if certificates:
        flaws += _flaws_of_chain(certificates, now)
        if private is not None:
            flaws += _mismatch(certificates, private)
    if authorities is not None:
        flaws += _flaws_of_authorities(_certificates(authorities, "client_ca", flaws), now)
    if chain is None or key is None or not certificates or any(flaw.is_fatal for flaw in flaws):
        return None, flaws
    leaf = certificates[0]
    material = Material(
        chain=chain,
        key=key,
        client_ca=authorities,
        subject=leaf.subject.rfc4514_string(),
        names=names_in(leaf),
        not_after=leaf.not_valid_after_utc,
    )
    return material, flaws


def _read(path: str, which: Which, flaws: list[Flaw]) -> bytes | None:
    try:
        with Path(path).open("rb") as file:
            data = file.read(MAX_PEM_BYTES + 1)
    except OSError as error:
        reason = error.strerror or str(error)
        flaws.append(Flaw(which, f"The file {path} cannot be read: {reason}."))
        return None
    if len(data) > MAX_PEM_BYTES:
        flaws.append(Flaw(which, f"The file {path} is larger than 1 MiB."))
        return None
    return data


def _is_open_to_all(path: str) -> bool:
    try:
        return bool(Path(path).stat().st_mode & stat.S_IROTH)
    except OSError:
        return False


def _certificates(data: bytes, which: Which, flaws: list[Flaw]) -> "list[x509.Certificate]":
    from cryptography import x509

    try:
        found = x509.load_pem_x509_certificates(data)
        for each in found:
            _ = each.extensions, each.subject, each.public_key()  # parsed when they are first looked at
    except unreadable():
        form = "; it is in DER: convert it with `openssl x509 -inform der`" if data.startswith(b"\x30") else ""
        if b"PRIVATE KEY-----" in data and b"-----BEGIN CERTIFICATE-----" not in data:
            form = ", but a private key"
        flaws.append(Flaw(which, f"The file holds no certificate in PEM (-----BEGIN CERTIFICATE-----){form}."))
        return []
    if len(found) > MAX_CERTIFICATES:
        flaws.append(Flaw(which, f"The file holds more than {MAX_CERTIFICATES} certificates."))
        return []
    return found


def _private_key(data: bytes, path: str, flaws: list[Flaw]) -> "PrivateKeyTypes | None":
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        return load_pem_private_key(data, None)
    except TypeError:
        sentence = f"The key is encrypted, and nobody is there to type its password: openssl pkey -in {path} -out KEY"
    except UnsupportedAlgorithm:
        sentence = "The key is of a kind that cannot be used here; make one for ECDSA (P-256) or RSA (2048 bits)."
    except ValueError:
        sentence = "The file holds no private key in PEM."
    flaws.append(Flaw("key", sentence))
    return None


def _mismatch(certificates: "Sequence[x509.Certificate]", private: "PrivateKeyTypes") -> Iterator[Flaw]:
    public = private.public_key()
    matching = [index for index, each in enumerate(certificates) if each.public_key() == public]
    if 0 in matching:
        return
    if matching:
        yield Flaw("cert", f"The certificate of the key is number {matching[0] + 1} in the file; it must be the first.")
    else:
        yield Flaw(
            "key",
            f"The key does not belong to the certificate (CN and names: {_called(certificates[0])}); "
            "one of the two files is of another pair.",
        )


def _flaws_of_chain(certificates: "Sequence[x509.Certificate]", now: datetime) -> Iterator[Flaw]:
    from cryptography import x509
    from cryptography.x509.oid import ExtendedKeyUsageOID

    leaf = certificates[0]
    for each in certificates:
        yield from _flaws_of_age(
            "cert", each, now, what="The certificate" if each is leaf else "An issuer's certificate"
        )
    try:
        usages = list(leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    except x509.ExtensionNotFound:
        usages = []
    if usages and not {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE} & set(usages):
        yield Flaw("cert", f"The certificate ({_called(leaf)}) is not for servers, as its extended key usage says.")
    if not names_in(leaf):
        yield Flaw("cert", "The certificate has no alternative names, so clients refuse it.", is_fatal=False)
    for below, above in pairwise(certificates):
        if below.issuer != above.subject:
            yield Flaw(
                "cert",
                f"The chain is broken: {_called(below)} was issued by {below.issuer.rfc4514_string()!r}, and "
                f"{_called(above)} comes next.",
                is_fatal=False,
            )


def _flaws_of_age(which: Which, certificate: "x509.Certificate", now: datetime, *, what: str) -> Iterator[Flaw]:
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now >= ends:
        yield Flaw(which, f"{what} ({_called(certificate)}) expired on {ends:%Y-%m-%d %H:%M} UTC; renew it.")
    elif now < begins:
        yield Flaw(
            which,
            f"{what} ({_called(certificate)}) is not valid before {begins:%Y-%m-%d %H:%M} UTC; is this machine's clock right?",
        )
    elif now >= ends - SOON:
        days = (ends - now).days
        yield Flaw(
            which,
            f"{what} ({_called(certificate)}) expires in {days} day{'' if days == 1 else 's'}, on {ends:%Y-%m-%d %H:%M} UTC.",
            is_fatal=False,
        )


def _flaws_of_authorities(certificates: "Sequence[x509.Certificate]", now: datetime) -> Iterator[Flaw]:
    from cryptography import x509

    for each in certificates:
        try:
            is_authority = each.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        except x509.ExtensionNotFound:
            is_authority = False
        if not is_authority:
            yield Flaw("client_ca", f"The certificate {_called(each)} is not that of an authority (CA:TRUE).")
    ages = [list(_flaws_of_age("client_ca", each, now, what="The authority's certificate")) for each in certificates]
    is_any_good = any(not any(flaw.is_fatal for flaw in flaws) for flaws in ages)
    for flaws in ages:
        # Of several authorities, one that has ended locks out only those whom it once named.
        yield from (Flaw(flaw.which, flaw.sentence, is_fatal=flaw.is_fatal and not is_any_good) for flaw in flaws)


def _called(certificate: "x509.Certificate") -> str:
    subject = certificate.subject.rfc4514_string()
    return repr((subject or next(iter(names_in(certificate)), "no name"))[:200])
