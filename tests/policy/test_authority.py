"""What the private authority makes, as openssl and Python's strictest checks see it."""

import ipaddress
import ssl
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from hypothesis import given, settings
from hypothesis import strategies as st

from support.certificates import TODAY, Pki
from tollhouse.config.certificate_names import alternative_name, names_in
from tollhouse.policy.authority import (
    Authority,
    BadAuthority,
    Request,
    general_name,
    host_name,
    make_authority,
    request_like,
)

ISSUED = make_authority("Test authority", now=TODAY, days=30)
AUTHORITY = Authority(ISSUED.chain, ISSUED.key)
KEY = ISSUED.key
"""Any key will do where only names matter."""


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    return Pki(tmp_path)


def verified(pki: Pki, cert: Path, purpose: str) -> str:
    """What `openssl verify` says."""
    done = subprocess.run(
        ("openssl", "verify", "-x509_strict", "-purpose", purpose, "-CAfile", str(pki.ca), str(cert)),
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    return done.stdout + done.stderr


def test_openssl_takes_each_certificate_for_its_purpose_and_no_other(pki: Pki):
    server, client = pki.server("gw").cert, pki.client("ci").cert
    assert verified(pki, server, "sslserver") == f"{server}: OK\n"
    assert verified(pki, client, "sslclient") == f"{client}: OK\n"
    assert "OK" not in verified(pki, server, "sslclient")
    assert "OK" not in verified(pki, client, "sslserver")


def test_openssl_reads_the_key_as_pkcs8(pki: Pki):
    key = pki.server("gw").key
    assert key.read_text().startswith("-----BEGIN PRIVATE KEY-----")
    done = subprocess.run(
        ("openssl", "pkey", "-in", str(key), "-noout", "-check"),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.stdout == "Key is valid\n"


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "::1", "gw.example.com", "bücher.example"])
def test_a_strict_python_client_agrees_with_a_server(pki: Pki, host: str):
    pair = pki.server("gw", hosts=(host,))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pair.cert, pair.key)
    shake_hands(server, pki.client_context(), host)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(server, pki.client_context(), "other.example.com")


def shake_hands(server: ssl.SSLContext, client: ssl.SSLContext, host: str) -> None:
    """A whole handshake in memory."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [
        client.wrap_bio(to_client, to_server, server_hostname=host),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    left = set(sides)
    for _ in range(10):
        for side in sides:
            if side in left:
                try:
                    side.do_handshake()
                except ssl.SSLWantReadError:
                    continue
                left.discard(side)
        if not left:
            return
    raise AssertionError("no end")


def test_the_authority_may_not_make_authorities():
    certificate = x509.load_pem_x509_certificate(ISSUED.chain)
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    assert (constraints.critical, constraints.value.ca, constraints.value.path_length) == (True, True, 0)
    assert (usage.key_cert_sign, usage.digital_signature) == (True, False)


def test_the_chain_is_whole():
    issued = AUTHORITY.issue(Request(common_name="gw", names=("dns:gw",), is_server=True, days=5), TODAY)
    chain = x509.load_pem_x509_certificates(issued.chain)
    assert [each.subject.rfc4514_string() for each in chain] == ["CN=gw", "CN=Test authority"]
    assert chain[1] == x509.load_pem_x509_certificate(ISSUED.chain)


def test_nothing_outlives_the_authority():
    issued = AUTHORITY.issue(Request(common_name="gw", is_server=True, days=500), TODAY)
    assert x509.load_pem_x509_certificate(issued.chain).not_valid_after_utc == AUTHORITY.not_after
    assert abs(AUTHORITY.not_after - TODAY - timedelta(days=30)) < timedelta(seconds=1)


def test_a_server_without_a_common_name_has_critical_names():
    """RFC 5280, section 4.2.1.6."""
    issued = AUTHORITY.issue(Request(common_name="", names=("ip:10.0.0.1",), is_server=True, days=5), TODAY)
    certificate = x509.load_pem_x509_certificate(issued.chain)
    assert certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).critical


def test_a_certificate_is_made_again_as_it_was_with_its_key():
    request = Request(common_name="gw", names=("dns:gw", "ip:10.0.0.1", "uri:spiffe://a/b"), is_server=True, days=7)
    first = AUTHORITY.issue(request, TODAY)
    assert request_like(first.chain) == request
    again = AUTHORITY.issue(request_like(first.chain), TODAY + timedelta(days=3), key=first.key)
    assert again.key == first.key
    old, new = (x509.load_pem_x509_certificate(issued.chain) for issued in (first, again))
    assert new.public_key() == old.public_key()
    assert new.serial_number != old.serial_number
    assert new.not_valid_after_utc - old.not_valid_after_utc == timedelta(days=3)


def test_an_authority_needs_a_pair_that_fits():
    other = make_authority("Other", now=TODAY, days=1)
    for certificate, key, why in (
        (ISSUED.chain, other.key, "does not belong"),
        (b"x", ISSUED.key, "cannot be read"),
        (ISSUED.chain, b"x", "cannot be read"),
    ):
        with pytest.raises(BadAuthority, match=why):
            Authority(certificate, key)


@pytest.mark.parametrize("name", ["x" * 65, "ü" * 65])
def test_a_name_that_is_too_long_is_refused(name: str):
    with pytest.raises(ValueError, match="longer than 64"):
        AUTHORITY.issue(Request(common_name=name, is_server=False, days=1), TODAY)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("gw.Example.com", "dns:gw.example.com"),
        ("gw.example.com.", "dns:gw.example.com"),
        ("10.0.0.1", "ip:10.0.0.1"),
        ("[::1]", "ip:::1"),
        ("0:0::1", "ip:::1"),
        ("bücher.example", "dns:xn--bcher-kva.example"),
    ],
)
def test_a_host_is_a_name_or_an_address(text: str, name: str):
    assert host_name(text) == name


@settings(max_examples=60, deadline=None)
@given(
    st.one_of(
        st.ip_addresses().map(lambda address: f"ip:{address}"),
        st.from_regex(r"dns:[a-z][a-z0-9-]{0,20}(\.[a-z]{1,5}){0,3}", fullmatch=True),
        st.from_regex(r"uri:[a-z]{1,8}://[a-z.]{1,20}/[!-~]{0,20}", fullmatch=True),
        st.from_regex(r"email:[a-z.]{1,10}@[a-z]{1,10}\.example", fullmatch=True),
    )
)
def test_a_name_comes_back_from_a_certificate_as_it_was_written(name: str):
    """Rules are compared with it as text."""
    spelled = alternative_name(name)
    assert alternative_name(spelled) == spelled
    issued = AUTHORITY.issue(Request(common_name="x", names=(spelled,), is_server=False, days=1), TODAY, key=KEY)
    assert names_in(x509.load_pem_x509_certificate(issued.chain)) == (spelled,)


def test_addresses_are_addresses():
    assert general_name("ip:10.0.0.1") == x509.IPAddress(ipaddress.ip_address("10.0.0.1"))
