"""What is said of certificates before anything listens, and where plain text is refused."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from support.certificates import TODAY, Pki
from support.configs import MINIMAL, problem, problems, read
from tollhouse.config.certificates import SOON, examine
from tollhouse.config.schema import CertificateSettings, RateSettings, TlsSettings


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    return Pki(tmp_path)


def with_tls(text: str) -> str:
    return MINIMAL + f"server: {{tls: {text}}}\n"


# ------------------------------------------------------------------------------------------------------------ the files


def test_a_pair_that_fits_is_taken(pki: Pki):
    config = read(with_tls(pki.tls(client_ca=f"'{pki.ca}'", client_auth="optional")))
    pair = pki.folder / "server.crt"
    assert config.server.tls == TlsSettings(
        cert=str(pair), key=str(pair.with_suffix(".key")), client_ca=str(pki.ca), client_auth="optional"
    )
    assert "expires in" in config.warnings[0]  # the test's certificates are good for ten days
    assert read(with_tls(pki.tls(client_ca=f"'{pki.ca}'"))).server.tls == TlsSettings(
        cert=str(pair), key=str(pair.with_suffix(".key")), client_ca=str(pki.ca), client_auth="required"
    )
    assert read(MINIMAL).server.tls is None


@pytest.mark.parametrize("which", ["cert", "key", "client_ca"])
def test_a_missing_file_is_named_at_its_place(pki: Pki, which: str):
    server = pki.server()
    files = {"cert": str(server.cert), "key": str(server.key), "client_ca": str(pki.ca), which: "/nowhere/x.pem"}
    text = MINIMAL + "server:\n  tls:\n" + "".join(f"    {name}: {file}\n" for name, file in files.items())
    line = 5 + list(files).index(which)
    assert problem(text).startswith(f"tollhouse.yaml:{line}:")
    assert f"server.tls.{which}: The file /nowhere/x.pem cannot be read: No such file or directory." in problem(text)


def test_a_file_that_may_not_be_read_is_named(pki: Pki, tmp_path: Path):
    """A folder cannot be read either, also by root, who runs some of these tests."""
    assert "cannot be read: Is a directory" in problem(with_tls(f"{{cert: '{pki.server().cert}', key: '{tmp_path}'}}"))


def test_a_key_of_another_certificate_is_told(pki: Pki):
    message = problem(with_tls(f"{{cert: '{pki.server('one').cert}', key: '{pki.server('two').key}'}}"))
    assert "server.tls.key: The key does not belong to the certificate (CN and names: 'CN=one')" in message


def test_a_chain_in_the_wrong_order_is_told(pki: Pki):
    pair = pki.server()
    leaf, ca = pair.cert.read_text().split("-----END CERTIFICATE-----\n")[:2]
    end = "-----END CERTIFICATE-----\n"
    pair.cert.write_text(ca + end + leaf + end)
    assert "number 2 in the file; it must be the first" in "\n".join(problems(with_tls(pki_text(pair.cert, pair.key))))


def pki_text(cert: Path, key: Path) -> str:
    return f"{{cert: '{cert}', key: '{key}'}}"


def test_a_broken_chain_is_a_warning(pki: Pki, tmp_path: Path):
    (tmp_path / "other").mkdir()
    other = Pki(tmp_path / "other", "Another")
    pair = pki.server()
    leaf = pair.cert.read_text().partition("-----END CERTIFICATE-----\n")
    pair.cert.write_text(leaf[0] + leaf[1] + other.ca.read_text())
    warnings = read(with_tls(pki_text(pair.cert, pair.key))).warnings
    assert any("The chain is broken: 'CN=server' was issued by 'CN=Test authority'" in each for each in warnings)


def test_an_expired_certificate_is_refused_with_its_date(pki: Pki):
    message = problem(with_tls(pki.tls(pki.expired_server())))
    ended = TODAY - timedelta(days=10)
    assert f"server.tls.cert: The certificate ('CN=old') expired on {ended:%Y-%m-%d %H:%M} UTC; renew it." in message


def test_one_that_is_not_good_yet_asks_after_the_clock(pki: Pki):
    pair = pki.server(now=TODAY + timedelta(days=2))
    assert "is this machine's clock right?" in problem(with_tls(pki.tls(pair)))


def test_a_client_certificate_cannot_serve(pki: Pki):
    pair = pki.client("ci", "dns:localhost")
    assert "is not for servers, as its extended key usage says" in problem(with_tls(pki.tls(pair)))


def test_a_certificate_without_names_is_a_warning(pki: Pki):
    pair = pki.server(hosts=())
    assert any("no alternative names" in each for each in read(with_tls(pki.tls(pair))).warnings)


def test_a_key_that_everybody_can_read_is_a_warning(pki: Pki):
    pair = pki.server()
    pair.key.chmod(0o644)
    warnings = read(with_tls(pki_text(pair.cert, pair.key))).warnings
    assert any(
        f"server.tls.key: Everybody on this machine can read the key: chmod 600 {pair.key}" in each for each in warnings
    )
    pair.key.chmod(0o640)
    assert not any("can read the key" in each for each in read(with_tls(pki_text(pair.cert, pair.key))).warnings)


def test_an_encrypted_key_is_told_with_the_way_out(pki: Pki):
    pair = pki.server()
    key = ec.generate_private_key(ec.SECP256R1())
    pair.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")))
    message = problem(with_tls(pki_text(pair.cert, pair.key)))
    assert "server.tls.key: The key is encrypted, and nobody is there to type its password: openssl pkey" in message


@pytest.mark.parametrize(
    "content", [b"", b"garbage", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_what_is_no_certificate_and_no_key_is_told(pki: Pki, content: bytes):
    pair = pki.server()
    pair.cert.write_bytes(content)
    pair.key.write_bytes(content)
    found = problems(with_tls(pki_text(pair.cert, pair.key)))
    assert [line.partition(": The file holds ")[2] for line in found] == [
        "no certificate in PEM (-----BEGIN CERTIFICATE-----).",
        "no private key in PEM.",
    ]


def test_files_that_were_exchanged_are_told(pki: Pki):
    pair = pki.server()
    found = problems(with_tls(pki_text(pair.key, pair.cert)))
    assert "no certificate in PEM (-----BEGIN CERTIFICATE-----), but a private key." in found[0]
    assert "no private key" in found[1]


def test_a_certificate_in_der_is_told(pki: Pki):
    from cryptography import x509

    pair = pki.server()
    pair.cert.write_bytes(x509.load_pem_x509_certificate(pair.cert.read_bytes()).public_bytes(Encoding.DER))
    assert "openssl x509 -inform der" in problem(with_tls(pki_text(pair.cert, pair.key)))


def test_an_authority_of_clients_is_an_authority(pki: Pki):
    message = problem(with_tls(pki.tls(client_ca=f"'{pki.client('ci').cert}'")))
    assert "server.tls.client_ca: The certificate 'CN=ci' is not that of an authority (CA:TRUE)." in message


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("{key: x}", "server.tls: There is no `cert`"),
        ("{cert: x}", "server.tls: There is no `key`"),
        ("x", "server.tls: Must be a mapping"),
        ("{cert: x, key: y, crl: z}", "server.tls.crl: There is no such key."),
    ],
)
def test_half_a_section_is_refused(text: str, what: str):
    assert any(what in line for line in problems(with_tls(text)))


def test_clients_can_be_asked_only_with_an_authority(pki: Pki):
    assert (
        "server.tls.client_auth: Clients' certificates are checked against `client_ca`, which is missing."
        in problem(with_tls(pki.tls(client_auth="required")))
    )
    assert "Must be one of required, optional" in problem(
        with_tls(pki.tls(client_ca=f"'{pki.ca}'", client_auth="maybe"))
    )


def test_the_server_of_http2_asks_all_clients_or_none(pki: Pki):
    tls = pki.tls(client_ca=f"'{pki.ca}'", client_auth="optional")
    assert "server.http2: " in problem(MINIMAL + f"server: {{http2: true, tls: {tls}}}\n")


def test_the_material_is_the_files_content(pki: Pki):
    pair = pki.server()
    material, flaws = examine(TlsSettings(cert=str(pair.cert), key=str(pair.key)), TODAY - SOON)
    assert not [flaw for flaw in flaws if "expires in" in flaw.sentence]
    assert material is None  # before its time
    material, _ = examine(TlsSettings(cert=str(pair.cert), key=str(pair.key)), datetime.now(UTC))
    assert material is not None
    assert (material.chain, material.key) == (pair.cert.read_bytes(), pair.key.read_bytes())
    assert (material.subject, material.names) == ("CN=server", ("dns:localhost", "ip:127.0.0.1"))
    assert material.key.decode() not in repr(material)


# ----------------------------------------------------------------------------------------------------------- plain text

KEYS = "auth: {keys: [{name: a, key: th-plaintext}]}\nproviders: {local: {}}\n"


@pytest.mark.parametrize("host", ["0.0.0.0", '"::"', "10.0.0.1", "gateway.example.com"])
def test_plain_text_does_not_leave_the_machine_unless_that_is_said(host: str, pki: Pki):
    message = problem(KEYS + f"server: {{host: {host}}}\n")
    assert message.startswith("tollhouse.yaml:3:16: server.host: The gateway would speak plain text on ")
    assert "set `server.tls`" in message
    assert "`server.insecure: true`" in message
    assert read(KEYS + f"server: {{host: {host}, insecure: true}}\n").server.insecure
    assert read(KEYS + f"server: {{host: {host}, tls: {pki.tls()}}}\n").server.tls is not None


def test_the_admin_listener_is_held_to_the_same(pki: Pki):
    assert "set `admin.tls`" in problem(KEYS + "server: {admin_host: 0.0.0.0}\n")
    assert "set `admin.tls`" in problem(KEYS + f"server: {{admin_host: 0.0.0.0, tls: {pki.tls()}}}\n")
    assert read(KEYS + f"server: {{admin_host: 0.0.0.0}}\nadmin: {{tls: {pki.tls()}}}\n").admin.tls is not None


def test_a_certificate_that_is_refused_is_one_problem():
    [first, second] = problems(KEYS + "server: {host: 0.0.0.0, tls: {cert: /no/c, key: /no/k}}\n")
    assert "server.tls.cert" in first
    assert "server.tls.key" in second


def test_a_gateway_is_reached_some_way():
    assert "nobody could call" in problem(KEYS + "server: {http: false, grpc_port: none}\n")
    assert not read(KEYS + "server: {http: false}\n").server.http


# ---------------------------------------------------------------------------------------------------- client certificates


def certificates(pki: Pki, *entries: str) -> str:
    auth = "auth:\n  certificates:\n" + "".join(f"    - {entry}\n" for entry in entries)
    tls = pki.tls(client_ca=f"'{pki.ca}'")
    return auth + f"providers: {{local: {{}}}}\nserver: {{tls: {tls}}}\n"


def test_callers_are_known_by_a_subject_or_a_name(pki: Pki):
    config = read(
        certificates(
            pki,
            "{name: builder, subject: 'CN=ci,O=Example', tenant: acme, limits: {concurrent: 2}, budget: {daily: 5}}",
            "{name: mesh, san: 'SPIFFE://example.com/ci', models: [local/x], ip_ranges: [10.0.0.0/8], tags: {a: b}}",
            "{name: host, san: CI.example.com}",
        )
    )
    builder, mesh, host = config.auth.certificates
    assert (builder.subject, builder.tenant, builder.limits) == ("CN=ci,O=Example", "acme", RateSettings(concurrent=2))
    assert [(str(each.scope), each.limit_nano) for each in config.budgets] == [("key:certificate:builder", 5 * 10**9)]
    assert (mesh.san, mesh.models, mesh.ip_ranges, dict(mesh.tags)) == (
        "uri:SPIFFE://example.com/ci",
        ("local/x",),
        ("10.0.0.0/8",),
        {"a": "b"},
    )
    assert host == CertificateSettings(name="host", san="dns:ci.example.com")


@pytest.mark.parametrize(
    ("entries", "what"),
    [
        (["{subject: CN=a}"], "certificates[0]: The certificate has no `name`"),
        (["{name: a}"], "certificates[0]: The entry has neither a `subject` nor a `san`"),
        (["{name: a, subject: CN=a, san: b}"], "Give either the `subject` or the `san`"),
        (["{name: a, subject: a}"], "certificates[0].subject: Must be a subject such as CN=build,O=Example"),
        (["{name: a, subject: 'CN = a'}"], "openssl x509 -noout -subject -nameopt RFC2253"),
        (["{name: a, san: 'ip:1.2.3'}"], "certificates[0].san: '1.2.3' is no IP address."),
        (["{name: a, san: 'a b'}"], "certificates[0].san: Must be an alternative name such as dns:"),
        (["{name: a, subject: CN=a}", "{name: a, subject: CN=b}"], "The name 'a' is already that of"),
        (["{name: a, subject: CN=a}", "{name: b, subject: CN=a}"], "This is the same certificate as"),
        (["{name: a, san: x.y}", "{name: b, san: 'dns:X.y.'}"], "This is the same certificate as"),
        (["{name: a, subject: CN=a, modles: [x]}"], "Did you mean 'models'?"),
    ],
)
def test_a_rule_that_means_nobody_or_two_is_refused(pki: Pki, entries: list[str], what: str):
    assert what in problem(certificates(pki, *entries))


def test_rules_need_an_authority_and_a_server_that_tells(pki: Pki):
    text = certificates(pki, "{name: a, subject: CN=a}")
    without = text.replace(f", client_ca: '{pki.ca}'", "")
    assert "auth.certificates: No client is asked for its certificate" in problem(without)
    assert "remove `server.http2`" in problem(text.replace("server: {", "server: {http2: true, "))


def test_an_empty_list_is_refused(pki: Pki):
    text = certificates(pki).replace("certificates:\n", "certificates: []\n")
    assert "auth.certificates: The list is empty" in problem(text)
