"""How the gRPC listener proves who it is, and learns whose certificate a client shows."""

from collections.abc import Iterable, Mapping

import grpc

from tollhouse.config.certificates import Material
from tollhouse.policy.peer_certificate import PeerCertificate, read_peer
from tollhouse.server.tls import LiveTls


def server_credentials(tls: LiveTls | None) -> grpc.ServerCredentials | None:
    """The credentials of the listener, which follow its certificate as it changes; `None` for plain text.

    gRPC asks for client certificates either always or never (`grpc.dynamic_ssl_server_credentials`, grpcio 1.85): where they
    are optional, its callers are not asked.
    """
    if tls is None:
        return None
    is_asking = tls.settings.client_ca is not None and tls.settings.client_auth == "required"
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


def peer_of(auth_context: Mapping[str, Iterable[bytes]]) -> PeerCertificate | None:
    """The verified client certificate of an RPC, out of its `context.auth_context()`."""
    found = next(iter(auth_context.get("x509_pem_cert", ())), None)
    return None if found is None else read_peer(found.decode("ascii", "replace"))


def _configuration(material: Material, *, is_asking: bool) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(material.key, material.chain)], root_certificates=material.client_ca if is_asking else None
    )
