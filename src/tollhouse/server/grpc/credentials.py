"""How the gRPC listener proves who it is, and learns whose certificate a client shows."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import grpc
import grpc.aio

from tollhouse.config.certificates import Material
from tollhouse.policy.peer_certificate import PeerCertificate, read_peer
from tollhouse.server.tls import LiveTls

Context = grpc.aio.ServicerContext[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Client:
    """Who is at the other end of a connection."""

    peer: str
    """Its address as gRPC spells it: `ipv4:127.0.0.1:1234`."""
    certificate: PeerCertificate | None = None


def asks_optionally(tls: LiveTls | None) -> bool:
    """Whether clients may show a certificate but need not, which gRPC cannot do by itself: see `server.grpc.relay`."""
    return tls is not None and tls.settings.client_ca is not None and tls.settings.client_auth == "optional"


def server_credentials(tls: LiveTls | None) -> grpc.ServerCredentials | None:
    """The credentials of a listener that asks every client for a certificate, or none; `None` for plain text.

    They follow its certificate as it changes.
    """
    if tls is None:
        return None
    is_asking = tls.settings.client_ca is not None
    taken = [tls.material]

    def newest() -> grpc.ServerCertificateConfiguration | None:
        """Called in a thread of the library at each new connection."""
        material = tls.material
        if material is taken[0]:
            return None
        taken[0] = material
        return _configuration(material, is_asking=is_asking)

    return grpc.dynamic_ssl_server_credentials(
        _configuration(taken[0], is_asking=is_asking),
        newest,  # type: ignore[arg-type]  # the stubs do not know of `None`, which means "no change"
        require_client_authentication=is_asking,
    )


def client_of(context: Context) -> Client:
    """Who sends an RPC to a server that clients connect to directly; the certificate is verified."""
    told: Mapping[str, Iterable[bytes]] = context.auth_context()
    found = next(iter(told.get("x509_pem_cert", ())), None)
    return Client(context.peer(), None if found is None else read_peer(found.decode("ascii", "replace")))


def _configuration(material: Material, *, is_asking: bool) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(material.key, material.chain)], root_certificates=material.client_ca if is_asking else None
    )
