"""Who a client's certificate says that it is."""

from functools import lru_cache
from typing import Final

import msgspec

MAX_REMEMBERED: Final = 4096
"""Certificates whose names are kept parsed; each call of a connection asks for the same one."""
MAX_SHOWN: Final = 5


class PeerCertificate(msgspec.Struct, frozen=True, gc=False):
    """The names in a client certificate that the listener has verified."""

    subject: str
    """As RFC 4514 has it; empty where it has none."""
    names: tuple[str, ...] = ()
    """Its alternative names: `dns:…`, `ip:…`, `email:…`, `uri:…`."""

    def __str__(self) -> str:
        """How a person is told which certificate is meant."""
        shown = [*self.names[:MAX_SHOWN], *(["…"] if len(self.names) > MAX_SHOWN else [])]
        names = f" ({', '.join(shown)})" if shown else ""
        return f"{self.subject or 'no subject'}{names}"


@lru_cache(MAX_REMEMBERED)
def read_peer(pem: str) -> PeerCertificate:
    """The names of a certificate in PEM.  One that cannot be parsed has none, so that no rule is meant."""
    from cryptography import x509

    from tollhouse.config.certificate_names import names_in, unreadable

    try:
        certificate = x509.load_pem_x509_certificate(pem.encode())
        return PeerCertificate(certificate.subject.rfc4514_string(), names_in(certificate))
    except unreadable():
        return PeerCertificate("")
