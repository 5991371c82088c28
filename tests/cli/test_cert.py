"""`tollhouse cert`, as a person types it; what it writes is checked with openssl."""

import os
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from support.certificates import TODAY, Pki
from support.configs import MINIMAL, read
from tollhouse.cli.cert import command
from tollhouse.cli.cert_folder import CertFolder
from tollhouse.config.certificates import examine
from tollhouse.config.schema import TlsSettings
from tollhouse.errors import ConfigError, Conflict

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def cert(*arguments: str) -> Result:
        environ = {"XDG_CONFIG_HOME": str(tmp_path)}
        return CliRunner(env=environ).invoke(command, list(arguments), catch_exceptions=False)

    return cert


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "tollhouse" / "server" / "certs"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_one_command_makes_what_a_gateway_and_its_clients_need(run: Run, folder: Path):
    done = run("init", "--host", "gw.example.com", "--san", "uri:spiffe://example.com/gw")
    assert done.exit_code == 0
    config = read(MINIMAL + done.stdout.replace("server:\n", "server:\n  host: 0.0.0.0\n").replace("0.0.0.0", "::1"))
    assert config.server.tls == TlsSettings(cert=str(folder / "server.crt"), key=str(folder / "server.key"))
    material, flaws = examine(config.server.tls, datetime.now(UTC))
    assert not flaws
    assert material is not None
    assert material.names == (
        "dns:gw.example.com", "dns:localhost", "ip:127.0.0.1", "ip:::1", "uri:spiffe://example.com/gw",
    )  # fmt: skip
    verify = ("openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-verify_hostname", "gw.example.com")
    checked = subprocess.run(
        (*verify, "-CAfile", folder / "ca.crt", folder / "server.crt"),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert checked.stdout == f"{folder / 'server.crt'}: OK\n"


def test_keys_are_for_their_owner_alone(run: Run, folder: Path):
    run("init")
    run("client", "ci")
    modes = {str(file.relative_to(folder)): file.stat().st_mode & 0o777 for file in folder.rglob("*")}
    assert {name: mode for name, mode in modes.items() if name.endswith(".key")} == {
        "ca.key": 0o600, "server.key": 0o600, "clients/ci.key": 0o600,
    }  # fmt: skip
    assert modes["clients"] == folder.stat().st_mode & 0o777 == 0o700


def test_without_a_host_the_machine_is_called_by_its_own_name(run: Run):
    import socket

    assert f"dns:{socket.gethostname().lower()}" in run("init").stderr


def test_nothing_is_overwritten_unasked(run: Run, folder: Path):
    run("init")
    run("client", "ci")
    before = contents(folder)
    with pytest.raises(ConfigError, match=r"holds the pair of the authority already.*`--force`"):
        run("init")
    with pytest.raises(Conflict, match=r"ci\.crt is there already"):
        run("client", "ci")
    assert contents(folder) == before
    assert run("client", "ci", "--force").exit_code == 0
    assert run("init", "--force").exit_code == 0
    after = contents(folder)
    assert before.keys() == after.keys()
    assert all(before[name] != after[name] for name in before)


def test_a_client_is_told_to_the_gateway_by_what_is_printed(run: Run, folder: Path):
    init = run("init")
    done = run("client", "ci", "--san", "dns:ci.example.com")
    server, _, auth = done.stdout.partition("auth:\n")
    tls = init.stdout + server.partition("tls:\n")[2]
    config = read(f"auth:\n{auth}providers: {{local: {{}}}}\n{tls}")
    [rule] = config.auth.certificates
    assert (rule.name, rule.subject) == ("ci", "CN=ci")
    assert config.server.tls is not None
    assert config.server.tls.client_ca == str(folder / "ca.crt")


def test_the_state_of_each_is_shown_and_status_1_asks_for_a_hand(run: Run, folder: Path):
    run("init", "--days", "60")
    run("client", "ci", "--days", "20")
    good = run("status", "--days", "5")
    assert good.exit_code == 0
    assert [line.split()[0] for line in good.stdout.splitlines()[2:]] == ["authority", "server", "client"]
    soon = run("status")
    assert soon.exit_code == 1
    assert "ends soon" in soon.stdout
    assert "tollhouse cert renew" in soon.stderr
    (folder / "server.key").unlink()
    (folder / "clients" / "ci.key").chmod(0o644)
    run("client", "other")
    (folder / "clients" / "other.crt").write_text("garbage")
    broken = run("status", "--days", "5")
    assert broken.exit_code == 1
    assert "client other: One of the files is not a certificate, or not a key." in broken.stderr
    assert "server.key does not exist" in broken.stderr
    assert "chmod 600" in broken.stderr


def test_a_certificate_of_a_former_authority_is_told(run: Run):
    run("init")
    run("client", "ci")
    run("init", "--force")
    done = run("status")
    assert done.exit_code == 1
    assert "client ci: It was signed by another authority" in done.stderr


def test_without_certificates_status_and_renew_say_how_to_make_some(run: Run):
    for arguments in (("status",), ("renew",), ("client", "ci")):
        with pytest.raises(ConfigError, match="`tollhouse cert init` makes"):
            run(*arguments)


def test_what_ends_soon_is_renewed_and_keeps_its_key(run: Run, folder: Path):
    run("init")
    run("client", "ci", "--days", "20")
    before = contents(folder)
    assert run("renew").stdout == f"Renewed {folder / 'clients' / 'ci.crt'}.\n"
    after = contents(folder)
    assert [name for name in before if before[name] != after[name]] == ["clients/ci.crt"]
    assert run("renew", "server", "--new-key").exit_code == 0
    last = contents(folder)
    assert {name for name in before if last[name] != after[name]} == {"server.crt", "server.key"}
    assert run("renew", "--days", "5").stdout == "Nothing ends soon.\n"
    assert run("status", "--days", "5").exit_code == 0
    with pytest.raises(ConfigError, match="no certificate of the client nobody"):
        run("renew", "nobody")


def test_states_by_time(tmp_path: Path):
    pki = Pki(tmp_path)
    files = CertFolder(tmp_path, now=TODAY)
    (tmp_path / "ca.crt").write_bytes(pki.ca.read_bytes())
    pair = pki.server("server")
    pair.key.chmod(0o600)

    def state(days: float) -> str:
        at = CertFolder(tmp_path, now=TODAY + timedelta(days=days))
        return at.standing(files.server, soon=timedelta(days=3)).state

    assert [state(days) for days in (-1, 0, 6.9, 7.1, 9.9, 10.1)] == [
        "not yet good", "good", "good", "ends soon", "ends soon", "ended",
    ]  # fmt: skip


@pytest.mark.parametrize("host", ["a b", "", "x" * 300 + ".example", "-"])
def test_a_host_that_cannot_be_is_refused(run: Run, folder: Path, host: str):
    with pytest.raises(ConfigError, match="cannot stand in a certificate"):
        run("init", "--host", host)
    assert not folder.exists()


@pytest.mark.parametrize("name", ["../x", "a/b", "", "x" * 65, ".x"])
def test_a_client_is_called_by_a_name_and_no_path(run: Run, name: str):
    run("init")
    with pytest.raises(ConfigError, match="is not a client's name"):
        run("client", name)


def test_another_folder_may_be_named(run: Run, tmp_path: Path, folder: Path):
    assert run("init", "--folder", str(tmp_path / "here")).exit_code == 0
    assert (tmp_path / "here" / "server.key").exists()
    assert not folder.exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_that_cannot_be_made_is_told(run: Run, tmp_path: Path):
    (tmp_path / "ro").mkdir(mode=0o500)
    with pytest.raises(ConfigError, match="cannot be made"):
        run("init", "--folder", str(tmp_path / "ro" / "x"))
