"""How names in certificates are written: in the configuration, in errors, and in what the rules are compared with.

A subject is written as RFC 4514 has it (`CN=build,O=Example`), which is what `openssl x509 -noout -subject -nameopt RFC2253`
prints.  An alternative name is its kind and its value: `dns:ci.example.com`, `ip:10.0.0.7`, `email:ci@example.com`,
`uri:spiffe://example.com/ci`.  There is one spelling of each, so that comparing texts is enough.
"""

import ipaddress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cryptography import x509

KINDS: Final = ("dns", "ip", "email", "uri")
MAX_NAMES: Final = 1000
"""Alternative names of one certificate that are looked at."""


def unreadable() -> tuple[type[Exception], ...]:
    """The errors that reading a certificate may raise."""
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm

    return (
        ValueError,
        x509.InvalidVersion,
        x509.DuplicateExtension,
        x509.UnsupportedGeneralNameType,
        UnsupportedAlgorithm,
    )


def subject_text(text: str) -> str:
    """A subject in its one spelling.  Raises `ValueError` with a sentence for what is none."""
    from cryptography import x509

    try:
        name = x509.Name.from_rfc4514_string(text)
    except ValueError:
        name = x509.Name([])
    if not list(name):
        raise ValueError(
            "Must be a subject such as CN=build,O=Example; "
            "`openssl x509 -noout -subject -nameopt RFC2253 -in FILE` prints that of a certificate."
        )
    return name.rfc4514_string()


def alternative_name(text: str) -> str:
    """An alternative name in its one spelling; the kind may be left out where the value says it.

    Raises `ValueError` with a sentence.
    """
    kind, colon, value = text.partition(":")
    if not colon or kind.lower() not in KINDS or value.startswith("//"):
        kind, value = _kind_of(text), text
    kind = kind.lower()
    value = value.strip()
    if kind == "ip":
        try:
            return f"ip:{ipaddress.ip_address(value)}"
        except ValueError:
            raise ValueError(f"{value[:80]!r} is no IP address.") from None
    if not value or not value.isascii() or not value.isprintable() or " " in value:
        raise ValueError(
            "Must be an alternative name such as dns:ci.example.com, ip:10.0.0.7, email:ci@example.com or "
            "uri:spiffe://example.com/ci, in ASCII."
        )
    # Names of hosts know no case (RFC 4343); what stands before an @, and a URI's path, do.
    return f"{kind}:{value.lower().rstrip('.') if kind == 'dns' else value}"


def _kind_of(value: str) -> str:
    if "://" in value:
        return "uri"
    if "@" in value:
        return "email"
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return "dns"
    return "ip"


def names_in(certificate: "x509.Certificate") -> tuple[str, ...]:
    """The alternative names of a certificate, in its order.  Kinds that have no spelling here are left out.

    Raises one of `unreadable()` for extensions that cannot be parsed.
    """
    from cryptography import x509

    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    names: dict[str, None] = {}
    for each in list(extension)[:MAX_NAMES]:
        match each:
            case x509.DNSName():
                names[f"dns:{each.value.lower().rstrip('.')}"] = None
            case x509.IPAddress():
                names[f"ip:{each.value}"] = None
            case x509.RFC822Name():
                names[f"email:{each.value}"] = None
            case x509.UniformResourceIdentifier():
                names[f"uri:{each.value}"] = None
            case _:
                pass
    return tuple(names)
