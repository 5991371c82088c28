"""Whom a client certificate names."""

import ssl
from pathlib import Path

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from support.certificates import TODAY, Pki
from tollhouse.config.schema import CertificateSettings, RateSettings, Scope, ScopedRates
from tollhouse.errors import CertificateUnknown, CredentialMissing, StoreUnavailable, Unauthenticated
from tollhouse.policy.access import allow
from tollhouse.policy.certificates import CertificateRules
from tollhouse.policy.identity import ANONYMOUS, EMPTY_ROLL, EmptyRoll, KeyRing, Principal, Shared, StoredKey, digest
from tollhouse.policy.peer_certificate import PeerCertificate, read_peer

CI = PeerCertificate("CN=ci", ("dns:ci.example.com",))
RULES = CertificateRules(
    [
        CertificateSettings(name="mesh", san="uri:spiffe://example.com/mesh", tenant="acme"),
        CertificateSettings(name="builder", subject="CN=ci", models=("fast",), limits=RateSettings(concurrent=2)),
        CertificateSettings(name="host", san="dns:ci.example.com"),
    ]
)
DEV = StoredKey(digest(b"th-secret-secret"), Principal(key="dev"))


def ring(*, is_open: bool = False, rolls: EmptyRoll = EMPTY_ROLL) -> KeyRing:
    return KeyRing([DEV], is_open=is_open, rolls=rolls, certificates=RULES)


def name_of(peer: PeerCertificate) -> str | None:
    found = RULES.find(peer, EMPTY_ROLL)
    return None if found is None else found.key


def test_the_first_rule_of_the_file_that_names_a_certificate_counts():
    assert name_of(CI) == "certificate:builder"
    assert name_of(PeerCertificate("CN=other", CI.names)) == "certificate:host"
    assert name_of(PeerCertificate("CN=ci", ("dns:ci.example.com", "uri:spiffe://example.com/mesh"))) == (
        "certificate:mesh"
    )


@pytest.mark.parametrize(
    "peer",
    [
        PeerCertificate(""),
        PeerCertificate("CN=ci,O=Example"),
        PeerCertificate("CN=CI"),
        PeerCertificate("dns:ci.example.com"),
        PeerCertificate("", ("CN=ci", "dns:x.ci.example.com", "uri:spiffe://example.com/mesh/below")),
    ],
)
def test_nearly_the_same_is_not_the_same(peer: PeerCertificate):
    assert name_of(peer) is None


def test_a_rule_gives_what_a_key_would():
    principal = RULES.find(CI, EMPTY_ROLL)
    assert principal == Principal(key="certificate:builder", access=allow(("fast",)), limits=RateSettings(concurrent=2))


class SharedRoll(EmptyRoll):
    """A database in which every tenant has limits."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared

    def shared(self, tenant: str, project: str) -> Shared:
        return self._shared if tenant == "acme" else EMPTY_ROLL.shared(tenant, project)


def test_the_limits_of_its_tenant_in_the_database_count_too():
    shared = Shared(limits=(ScopedRates(scope=Scope("tenant", "acme"), rates=RateSettings(concurrent=1)),))
    mesh = PeerCertificate("", ("uri:spiffe://example.com/mesh",))
    found = RULES.find(mesh, SharedRoll(shared))
    assert found is not None
    assert found.shared == shared
    with pytest.raises(StoreUnavailable):
        ring(rolls=SharedRoll(msgspec.structs.replace(shared, is_unreadable=True))).identify(None, mesh)


def test_a_credential_goes_before_a_certificate():
    assert ring().identify(b"th-secret-secret", CI).key == "dev"
    assert ring().identify(None, CI).key == "certificate:builder"
    with pytest.raises(Unauthenticated, match="not known here"):
        ring().identify(b"th-wrong-secret-x", CI)


def test_a_certificate_without_a_rule_is_refused_by_its_names():
    with pytest.raises(CertificateUnknown, match=r"CN=x \(dns:y\) is good, but no rule says who that is"):
        ring().identify(None, PeerCertificate("CN=x", ("dns:y",)))


def test_where_nobody_is_known_by_a_certificate_a_key_is_asked_for():
    with pytest.raises(CredentialMissing):
        KeyRing([DEV]).identify(None, CI)
    with pytest.raises(CredentialMissing):
        ring().identify(None)


def test_an_open_gateway_knows_whom_a_rule_names_and_lets_in_the_others():
    assert ring(is_open=True).identify(None, CI).key == "certificate:builder"
    assert ring(is_open=True).identify(None, PeerCertificate("CN=x")) == ANONYMOUS


def test_the_names_of_a_certificate_are_read(tmp_path: Path):
    pair = Pki(tmp_path).client("ci", "uri:spiffe://example.com/mesh", "dns:CI.example.com", "ip:10.0.0.1")
    peer = read_peer(pair.cert.read_text())
    assert peer == PeerCertificate("CN=ci", ("uri:spiffe://example.com/mesh", "dns:ci.example.com", "ip:10.0.0.1"))
    assert str(peer) == "CN=ci (uri:spiffe://example.com/mesh, dns:ci.example.com, ip:10.0.0.1)"


def test_of_many_names_some_are_shown():
    assert str(PeerCertificate("", tuple(f"dns:{letter}" for letter in "abcdefg"))) == (
        "no subject (dns:a, dns:b, dns:c, dns:d, dns:e, …)"
    )


@pytest.mark.parametrize("pem", ["", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "ü"])
def test_what_cannot_be_parsed_names_nobody(pem: str):
    assert read_peer(pem) == PeerCertificate("")


def test_a_certificate_with_an_extension_twice_names_nobody():
    """One that no careful authority signs; it must not break the connection that shows it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ci")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
        .not_valid_before(TODAY).not_valid_after(TODAY)
    )  # fmt: skip
    for oid in ("1.2.3.4", "1.2.3.5"):
        builder = builder.add_extension(
            x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), b"\x05\x00"), critical=False
        )
    der = builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)
    twice = der.replace(b"\x06\x03\x2a\x03\x05", b"\x06\x03\x2a\x03\x04")
    assert twice != der
    assert read_peer(ssl.DER_cert_to_PEM_cert(der)).subject == "CN=ci"
    assert read_peer(ssl.DER_cert_to_PEM_cert(twice)) == PeerCertificate("")
