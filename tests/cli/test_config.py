import re
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from support.configs import EXAMPLE, KEYS, MINIMAL, OLDER_EXAMPLE, TYPES, read
from tollhouse.cli.config import command
from tollhouse.errors import ConfigError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, which is also the home, with none of the variables that configurations use."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in (
        "XDG_CONFIG_HOME",
        "TOLLHOUSE_CONFIG",
        *KEYS,
        *filter(None, (kind.key_variable for kind in TYPES.values())),
    ):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def run(*arguments: str, **environ: str) -> Result:
    return CliRunner().invoke(command, arguments, obj=TYPES, env=environ)


def test_check_says_ok_with_counts(folder: Path):
    (folder / "tollhouse.yaml").write_text(EXAMPLE)
    result = run("check", **KEYS)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f"{folder}/tollhouse.yaml: ok (1 key, 3 providers, 2 aliases)\n"


def test_check_prints_warnings_and_stays_ok(folder: Path):
    (folder / "old.yaml").write_text(OLDER_EXAMPLE)
    result = run(
        "check", "--config", "old.yaml", **{name: value for name, value in KEYS.items() if name != "TOLLHOUSE_KEY"}
    )
    assert result.exit_code == 0
    assert "ok (0 keys, 5 providers, 1 alias)" in result.stdout
    assert result.stderr.startswith("warning: ")


def test_check_refuses_a_pattern_that_the_gateway_would_not_start_with(folder: Path):
    (folder / "tollhouse.yaml").write_text(MINIMAL + "logging: {patterns: {badge: 'B-[0-9]+'}}\n")
    result = run("check")
    assert (result.exit_code, result.stdout) == (1, "")
    assert re.search(r"logging\.patterns\.badge.*no upper end", result.stderr)
    assert result.stderr.endswith(": 1 problem\n")


def test_check_prints_every_problem_and_fails(folder: Path):
    (folder / "tollhouse.yaml").write_text(MINIMAL + "server: {prot: 1}\nlgo: {}\n")
    result = run("check")
    assert (result.exit_code, result.stdout) == (1, "")
    lines = result.stderr.splitlines()
    assert lines[0].startswith(f"{folder}/tollhouse.yaml:3:10: server.prot: ")
    assert lines[1].startswith(f"{folder}/tollhouse.yaml:4:1: lgo: ")
    assert lines[2:] == [f"{folder}/tollhouse.yaml: 2 problems"]


def test_without_any_file_the_commands_say_where_they_looked(folder: Path):
    result = run("check")
    assert isinstance(result.exception, ConfigError)
    assert f"{folder}/tollhouse.yaml and {folder}/.config/tollhouse/server/config.yaml" in str(result.exception)


def test_the_file_named_by_the_variable_is_used(folder: Path):
    (folder / "other.yaml").write_text(MINIMAL)
    result = run("check", TOLLHOUSE_CONFIG="other.yaml")
    assert result.stdout.startswith(f"{folder}/other.yaml: ok")


def test_show_prints_yaml_with_origins_and_masks(folder: Path):
    (folder / "tollhouse.yaml").write_text(EXAMPLE)
    result = run("show", **KEYS)
    assert result.exit_code == 0
    assert "  port: 8080 " in result.stdout
    head, *lines = result.stdout.splitlines()
    assert head == f"# {folder}/tollhouse.yaml"
    assert lines[1].endswith(" # tollhouse.yaml:1")
    assert not any(str(folder) in line for line in lines)
    assert not any(value in result.output for value in KEYS.values())


def test_show_of_a_file_with_problems_fails_with_all_of_them(folder: Path):
    (folder / "tollhouse.yaml").write_text(EXAMPLE)
    result = run("show")
    assert isinstance(result.exception, ConfigError)
    assert len(result.exception.problems) == 3


@pytest.mark.parametrize("environ", [{}, dict(KEYS)], ids=["no keys", "all keys"])
def test_init_writes_a_private_file_that_passes_check(folder: Path, environ: dict[str, str]):
    result = run("init", **environ)
    assert result.exit_code == 0, result.output
    file = folder / "tollhouse.yaml"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert run("check", **environ).exit_code == 0
    [key] = re.findall(r"th-[A-Za-z0-9_-]{43}", result.stdout)
    assert key not in file.read_text()
    assert [path.name for path in folder.iterdir()] == ["tollhouse.yaml"]


def test_init_refuses_to_replace_a_file_unless_told_to(folder: Path):
    file = folder / "mine.yaml"
    file.write_text("precious")
    file.chmod(0o644)
    refused = run("init", "--config", "mine.yaml")
    assert isinstance(refused.exception, ConfigError)
    assert "--force" in str(refused.exception)
    assert file.read_text() == "precious"
    assert run("init", "--config", "mine.yaml", "--force").exit_code == 0
    assert read(file.read_text(), {}).auth.keys
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_init_into_a_folder_that_is_not_there_is_refused_in_words(folder: Path):
    result = run("init", "--config", "nowhere/tollhouse.yaml")
    assert isinstance(result.exception, ConfigError)
    assert "cannot be written: No such file or directory" in str(result.exception)
