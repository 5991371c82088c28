"""The file of secrets that sign."""

import stat
from pathlib import Path

import pytest

from tollhouse.errors import StoreUnavailable
from tollhouse.policy.tokens.secrets_file import SecretsFile, secrets_path

NONE: frozenset[str] = frozenset()
SECRET = bytes(range(32))


@pytest.fixture
def file(tmp_path: Path) -> SecretsFile:
    made = SecretsFile(tmp_path / "a" / "b" / "signing-keys.json")
    made.add("k1", "HS256", SECRET, drop=NONE)
    return made


def test_it_lies_in_the_configuration_folder(tmp_path: Path):
    below = "tollhouse/server/client-secrets/signing-keys.json"
    assert secrets_path({"XDG_CONFIG_HOME": "/etc/xdg"}, tmp_path) == Path("/etc/xdg") / below
    assert secrets_path({"XDG_CONFIG_HOME": "relative"}, tmp_path) == tmp_path / ".config" / below


def test_what_is_added_is_its_owner_s_alone(file: SecretsFile):
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.path.parent.stat().st_mode) == 0o700
    assert [path.name for path in file.path.parent.iterdir()] == ["signing-keys.json"]


def test_another_process_finds_it_without_being_told(file: SecretsFile):
    other = SecretsFile(file.path)
    assert other.secret("k1") == SECRET
    assert other.secret("k2") is None
    file.add("k2", "EdDSA", SECRET[::-1], drop=NONE)
    assert other.secret("k2") == SECRET[::-1]
    file.add("k3", "HS256", SECRET, drop=frozenset({"k1", "unknown"}))
    assert [SecretsFile(file.path).secret(kid) is None for kid in ("k1", "k2", "k3")] == [True, False, False]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_file_that_others_can_read_is_not_used_nor_added_to(
    file: SecretsFile, mode: int, caplog: pytest.LogCaptureFixture
):
    file.path.chmod(mode)
    other = SecretsFile(file.path)
    for _ in range(3):
        assert other.secret("k1") is None
    assert len(caplog.records) == 1
    with pytest.raises(StoreUnavailable, match=r"chmod 600"):
        other.add("k2", "HS256", SECRET, drop=NONE)


def test_a_damaged_file_is_not_used_and_not_quoted(file: SecretsFile, caplog: pytest.LogCaptureFixture):
    file.path.write_text('{"keys": [{"kid": "k1", "secret": "very-secret"')
    other = SecretsFile(file.path)
    assert other.secret("k1") is None
    with pytest.raises(StoreUnavailable, match="damaged"):
        other.add("k2", "HS256", SECRET, drop=NONE)
    assert "very-secret" not in caplog.text


def test_no_file_is_no_secret(tmp_path: Path):
    assert SecretsFile(tmp_path / "none.json").secret("k1") is None


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path):
    (tmp_path / "a").write_text("a file")
    with pytest.raises(StoreUnavailable, match=r"cannot be written.*XDG_CONFIG_HOME"):
        SecretsFile(tmp_path / "a" / "keys.json").add("k1", "HS256", SECRET, drop=NONE)


def test_a_secret_is_not_printed(file: SecretsFile):
    assert repr(SECRET) not in repr(vars(file))
