"""`tollhouse setup`: what tools are told, and that nothing else in their files is touched."""

import json
import os
import re
import stat
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from tollhouse.cli.setup import PLACEHOLDER, command
from tollhouse.client.failures import BadSettings
from tollhouse.client.tools.merging import CannotMerge, merge_dotenv, merge_json, merge_toml, merge_yaml
from tollhouse.client.tools.plan import Gateway, OwnFile, Places
from tollhouse.client.tools.recipes import TOOLS, plan_of
from tollhouse.client.tools.writing import BACKUP, write

KEY = "th-a-key-that-nobody-should-see"
URL = "https://gateway.example.com/llm"
MINE = {"model_providers.tollhouse": {"name": "Tollhouse", "base_url": URL}}


class Person:
    """Somebody at a terminal, with a home of their own and a key in a file."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.key_file = home / "key"
        self.key_file.write_text(KEY + "\n")

    def types(self, *words: str, given: str | None = None, **environ: str) -> Result:
        unset = ("PROXY_SERVER_URL", "API_CONNECTION_MODE", "TOLLHOUSE_TOKEN", "TOLLHOUSE_KEY", "TOLLHOUSE_MODEL")
        moved = ("XDG_CONFIG_HOME", "CLAUDE_CONFIG_DIR", "CODEX_HOME", "GEMINI_CLI_HOME", "QWEN_HOME", "LLM_USER_PATH")
        empty = dict.fromkeys((*unset, *moved, "PI_CODING_AGENT_DIR", "TOLLHOUSE_PROFILE"))
        return CliRunner().invoke(command, words, input=given, env={**empty, "HOME": str(self.home), **environ})

    def writes(self, tool: str, *words: str, **environ: str) -> Result:
        return self.types(tool, "--url", URL, "--key-file", str(self.key_file), "--write", *words, **environ)

    def files(self) -> dict[str, bytes]:
        return {
            str(path.relative_to(self.home)): path.read_bytes()
            for path in sorted(self.home.rglob("*"))
            if path.is_file() and path != self.key_file
        }

    def puts(self, name: str, text: str, mode: int = 0o644) -> Path:
        path = self.home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
        return path


@pytest.fixture
def person(tmp_path: Path) -> Person:
    return Person(tmp_path)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# ------------------------------------------------------------------------------------------------------------- printing


def test_without_a_tool_all_are_listed(person: Person):
    result = person.types()

    assert result.exit_code == 0
    assert [line.split()[0] for line in result.output.splitlines()] == list(TOOLS)


@pytest.mark.parametrize("tool", TOOLS)
def test_every_tool_is_told_the_address_and_a_placeholder_for_the_key(person: Person, tool: str):
    result = person.types(tool, "--url", URL, "--model", "fast", TOLLHOUSE_KEY=KEY)

    assert result.exit_code == 0, result.output
    assert URL in result.output
    assert PLACEHOLDER in result.output
    assert KEY not in result.output
    assert person.files() == {}


@pytest.mark.parametrize("tool", TOOLS)
def test_the_key_is_printed_when_that_is_asked_for(person: Person, tool: str):
    assert KEY in person.types(tool, "--show-key", TOLLHOUSE_TOKEN=KEY).output


def test_nothing_configured_means_the_gateway_of_this_machine(person: Person):
    assert "http://127.0.0.1:8080/v1" in person.types("codex").output


def test_an_unknown_tool_is_told_the_nearest_one(person: Person):
    with pytest.raises(BadSettings, match="is 'claude' meant"):
        raise person.types("cluade").exception or AssertionError


def test_the_gateway_and_the_key_of_the_active_profile_are_used(person: Person):
    person.puts(
        ".config/tollhouse/client/config.yaml",
        "active: work\nprofiles: {work: {url: 'https://work.example.com', model: smart}}\n",
    )
    person.puts(".config/tollhouse/client/server-secrets/work", KEY, 0o600)

    assert person.types("claude", "--write").exit_code == 0
    assert json.loads((person.home / ".claude/settings.json").read_text())["env"] == {
        "ANTHROPIC_BASE_URL": "https://work.example.com",
        "ANTHROPIC_AUTH_TOKEN": KEY,
        "ANTHROPIC_MODEL": "smart",
        "ANTHROPIC_DEFAULT_HAIKU_MODEL": "smart",
    }


def test_a_profiles_key_is_not_given_to_another_gateway(person: Person):
    person.puts(".config/tollhouse/client/config.yaml", "active: w\nprofiles: {w: {url: 'https://work.example.com'}}\n")
    person.puts(".config/tollhouse/client/server-secrets/w", KEY, 0o600)

    result = person.types("claude", "--url", "https://elsewhere.example.com", "--write")

    assert isinstance(result.exception, BadSettings)
    assert not (person.home / ".claude").exists()


def test_a_key_may_come_on_standard_input(person: Person):
    person.types("curl", "--key-file", "-", "--write", given=f"{KEY}\n")

    assert f'"authorization: Bearer {KEY}"' in (person.home / ".config/tollhouse/client/env/curl.conf").read_text()


def test_plain_text_to_another_machine_is_refused(person: Person):
    assert isinstance(person.types("curl", "--url", "http://gateway.example.com").exception, BadSettings)


# -------------------------------------------------------------------------------------------------------------- writing


@pytest.mark.parametrize("tool", TOOLS)
def test_every_tool_is_written_for_its_owner_alone_and_once(person: Person, tool: str):
    first = person.writes(tool, "--model", "fast")
    files = person.files()
    second = person.writes(tool, "--model", "fast")

    assert first.exit_code == second.exit_code == 0, first.output
    assert KEY not in first.output
    assert files
    assert person.files() == files
    assert ": written" in first.output
    assert ": written" not in second.output
    with_key = [name for name, data in files.items() if KEY.encode() in data]
    assert with_key
    assert {mode_of(person.home / name) for name in with_key} == {0o600}


@pytest.mark.parametrize("tool", TOOLS)
def test_nothing_is_written_without_a_key(person: Person, tool: str):
    result = person.types(tool, "--url", URL, "--write")

    assert isinstance(result.exception, BadSettings)
    assert "--key-file" in str(result.exception)
    assert person.files() == {}


def test_json_keeps_what_is_there_with_a_backup_of_the_first_time(person: Person):
    settings = {"permissions": {"allow": ["Bash(ls)"]}, "env": {"FOO": "1", "ANTHROPIC_BASE_URL": "https://old"}}
    file = person.puts(".claude/settings.json", json.dumps(settings))
    original = file.read_text()

    person.writes("claude")
    person.writes("claude", "--model", "smart")

    written = json.loads(file.read_text())
    assert written["permissions"] == settings["permissions"]
    assert written["env"]["FOO"] == "1"
    assert written["env"]["ANTHROPIC_BASE_URL"] == URL
    assert written["env"]["ANTHROPIC_MODEL"] == "smart"
    backup = file.with_name(file.name + BACKUP)
    assert backup.read_text() == original
    assert mode_of(backup) == mode_of(file) == 0o600


def test_toml_keeps_comments_and_order(person: Person):
    file = person.puts(".codex/config.toml", '# mine\nmodel = "gpt"\n\n[tui]  # looks\ntheme = "dark"\n')
    before = file.read_text()

    person.writes("codex", "--model", "fast")

    text = file.read_text()
    assert text.startswith(before)
    assert tomllib.loads(text)["model_providers"]["tollhouse"]["base_url"] == f"{URL}/v1"
    assert mode_of(file) == 0o644
    assert KEY not in text
    profile = tomllib.loads((person.home / ".codex/tollhouse.config.toml").read_text())
    assert profile == {"model_provider": "tollhouse", "model": "fast"}


def test_a_file_of_variables_is_what_a_shell_reads(person: Person):
    key = "th-'quoted'$HOME"
    person.key_file.write_text(key)

    person.writes("openai")

    file = person.home / ".config/tollhouse/client/env/openai.sh"
    shown = subprocess.run(
        ["sh", "-c", f'. {file}; printf %s "$OPENAI_API_KEY"'], capture_output=True, text=True, check=True
    )
    assert shown.stdout == key


def test_folders_that_were_moved_are_found(person: Person, tmp_path: Path):
    for tool, variable, file in (
        ("claude", "CLAUDE_CONFIG_DIR", "settings.json"),
        ("codex", "CODEX_HOME", "config.toml"),
        ("gemini", "GEMINI_CLI_HOME", ".gemini/settings.json"),
        ("qwen", "QWEN_HOME", ".env"),
        ("pi", "PI_CODING_AGENT_DIR", "models.json"),
        ("llm", "LLM_USER_PATH", "keys.json"),
        ("opencode", "XDG_CONFIG_HOME", "opencode/opencode.json"),
        ("curl", "XDG_CONFIG_HOME", "tollhouse/client/env/curl.conf"),
    ):
        folder = tmp_path / "moved" / tool
        assert person.writes(tool, **{variable: str(folder)}).exit_code == 0
        assert (folder / file).exists(), tool


def test_a_link_stays_a_link(person: Person):
    real = person.puts("dotfiles/claude.json", "{}")
    link = person.home / ".claude/settings.json"
    link.parent.mkdir()
    link.symlink_to(real)

    person.writes("claude")

    assert link.is_symlink()
    assert json.loads(real.read_text())["env"]["ANTHROPIC_BASE_URL"] == URL


BROKEN = (
    ("claude", ".claude/settings.json", '{"env": '),
    ("claude", ".claude/settings.json", '{"env": {} // mine\n}'),
    ("claude", ".claude/settings.json", '{"env": ["a"]}'),
    ("claude", ".claude/settings.json", "[]"),
    ("codex", ".codex/config.toml", "model = \n"),
    ("codex", ".codex/config.toml", "model_providers = {mine = {name = 'x'}}\n"),
    ("codex", ".codex/config.toml", "model_providers = 1\n"),
    ("gemini", ".gemini/.env", 'KEY="begin\nend"\n'),
    ("gemini", ".gemini/settings.json", '{"security": true}'),
    ("qwen", ".qwen/settings.json", '{"model": "x"}'),
    ("llm", ".config/io.datasette.llm/extra-openai-models.yaml", "a: 1\n"),
    ("llm", ".config/io.datasette.llm/extra-openai-models.yaml", "[{model_id: a, model_name: b}]\n"),
    ("llm", ".config/io.datasette.llm/extra-openai-models.yaml", "- [\n"),
    ("llm", ".config/io.datasette.llm/extra-openai-models.yaml", "# begin: written by `tollhouse setup`\n"),
    ("llm", ".config/io.datasette.llm/keys.json", "keys"),
    ("opencode", ".config/opencode/opencode.json", '{"provider": []}'),
    ("pi", ".pi/agent/models.json", '{"providers": {"tollhouse": "x"}}'),
)


@pytest.mark.parametrize(("tool", "name", "text"), BROKEN)
def test_a_file_that_cannot_be_merged_is_left_alone_and_so_are_the_others(
    person: Person, tool: str, name: str, text: str
):
    person.puts(name, text)
    before = person.files()

    result = person.writes(tool)

    assert isinstance(result.exception, BadSettings)
    assert name in str(result.exception)
    assert KEY not in str(result.exception)
    assert person.files() == before


def test_what_is_not_text_and_what_is_too_large_is_left_alone(person: Person):
    file = person.home / ".claude/settings.json"
    file.parent.mkdir()
    for data in (b"\xff\xfe{}", b" " * (4 * 1024 * 1024 + 1)):
        file.write_bytes(data)
        assert isinstance(person.writes("claude").exception, BadSettings)
        assert file.read_bytes() == data


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_named(person: Person):
    (person.home / ".claude").mkdir(mode=0o500)

    assert re.search(r"\.claude.*cannot be written", str(person.writes("claude").exception))


def test_a_folder_in_the_place_of_a_file_is_named(person: Person):
    (person.home / ".claude/settings.json").mkdir(parents=True)

    assert re.search(r"settings\.json: This cannot be read", str(person.writes("claude").exception))


# -------------------------------------------------------------------------------------------------------------- merging


def test_our_table_is_replaced_wherever_it_stands():
    text = 'a = 1\n\n[model_providers.tollhouse]\nname = "old"\nextra = 1\n\n[other]\nb = 2\n'

    merged = tomllib.loads(merge_toml(text, MINE))

    assert merged == {"a": 1, "other": {"b": 2}, "model_providers": {"tollhouse": MINE["model_providers.tollhouse"]}}


def test_a_header_in_a_text_of_several_lines_is_no_header():
    text = 'a = """\n[model_providers.tollhouse]\n"""\nb = 1\n'

    with pytest.raises(CannotMerge):
        merge_toml(text, MINE)


def test_tables_below_ours_are_not_taken_along():
    text = '[model_providers.tollhouse]\nname = "x"\n\n[model_providers.tollhouse.http_headers]\na = "b"\n'

    with pytest.raises(CannotMerge):
        merge_toml(text, MINE)


def test_lines_of_a_dotenv_are_replaced_where_they_stand():
    text = "# mine\nexport KEY=old\nOTHER='x y'\nKEY=older\n"

    assert merge_dotenv(text, {"KEY": "new", "MORE": "m"}) == '# mine\nKEY="new"\nOTHER=\'x y\'\nMORE="m"\n'


@pytest.mark.parametrize("value", ['a"b', "a\\b", "a$b", "a\nB=c"])
def test_a_value_that_readers_of_such_files_disagree_about_is_refused(value: str):
    with pytest.raises(CannotMerge):
        merge_dotenv("", {"KEY": value})


def test_items_of_a_list_stand_between_our_comments():
    theirs = "- model_id: mine  # a comment\n  model_name: x\n"
    once = merge_yaml(theirs, "- model_id: a\n")
    twice = merge_yaml(once + "- model_id: later\n", "- model_id: b\n")

    assert once.startswith(theirs)
    assert [item["model_id"] for item in yaml.safe_load(twice)] == ["mine", "b", "later"]


def test_json_of_other_scripts_stays_as_it_is():
    assert "東京" in merge_json('{"name": "東京"}', {"a": 1})


# ---------------------------------------------------------------------------------------------------------------- plans


@pytest.mark.parametrize("tool", TOOLS)
def test_a_plan_is_the_same_whoever_asks_and_holds_the_key_in_private_files_alone(tool: str, tmp_path: Path):
    places = Places(home=tmp_path, config=tmp_path / "c", own=tmp_path / "c/tollhouse/client", environ={})
    plan = plan_of(tool, Gateway(url=URL, key=KEY, model=None), places)

    assert plan.tool == tool
    assert KEY not in plan.command
    for file in plan.files:
        write([file])
        assert (KEY in file.path.read_text()) <= file.is_private
    assert all(file.path.is_relative_to(tmp_path) for file in plan.files)
    assert any(isinstance(file, OwnFile) for file in plan.files) or plan.variables is None
