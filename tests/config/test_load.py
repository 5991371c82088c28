from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.configs import EXAMPLE, KEYS, MINIMAL, OLDER_EXAMPLE, TYPES, problems, read
from tollhouse.config.load import Change, diff, find, load, parse
from tollhouse.config.schema import Target
from tollhouse.config.tree import Entry, Items, Node, Table, read_tree
from tollhouse.errors import ConfigError

# ---------------------------------------------------------------------------------------------------------- the example


def test_the_example_loads_as_it_is_written():
    config = read(EXAMPLE)
    assert (config.server.host, config.server.port, config.server.admin_port) == ("127.0.0.1", 8080, 9090)
    assert config.server.workers == 1
    assert [key.name for key in config.auth.keys] == ["dev"]
    assert not config.auth.open
    assert {name: provider.type for name, provider in config.providers.items()} == {
        "openai": "openai",
        "anthropic": "anthropic",
        "lab": "openai-compatible",
    }
    keys = [provider.api_key for provider in config.providers.values()]
    assert [key and key.reveal() for key in keys] == [KEYS["OPENAI_API_KEY"], KEYS["ANTHROPIC_API_KEY"], "x"]
    assert [provider.base_url for provider in config.providers.values()] == [
        None,
        "https://api.anthropic.com",
        "http://127.0.0.1:9100/v1",
    ]
    assert {name: alias.targets for name, alias in config.aliases.items()} == {
        "fast": (Target("openai", "gpt-4o-mini"),),
        "smart": (Target("anthropic", "claude-sonnet-4-5"), Target("openai", "gpt-4o")),
    }
    assert config.default_model == "fast"
    assert config.ledger.url == "sqlite:///tollhouse.db"
    assert config.warnings == ()


def test_the_example_without_its_variables_names_each_of_them():
    found = problems(EXAMPLE, {})
    assert [line.split(": ")[0] for line in found] == [
        "tollhouse.yaml:3:27",
        "tollhouse.yaml:5:21",
        "tollhouse.yaml:6:24",
    ]
    assert all(
        name in line for name, line in zip(("TOLLHOUSE_KEY", "OPENAI_API_KEY", "ANTHROPIC_API_KEY"), found, strict=True)
    )


@pytest.mark.parametrize("text", [EXAMPLE, OLDER_EXAMPLE], ids=["today", "older"])
def test_no_plaintext_is_left_where_it_could_be_printed(text: str):
    config = read(text)
    printed = repr(config) + str(config) + str(dict(config.providers)) + "".join(repr(place) for place in config.places)
    assert not any(value in printed for value in KEYS.values())


# --------------------------------------------------------------------------------------------------------- broken names

FULL = """\
server: {host: 127.0.0.1, port: 8080}
auth:
  open: false
  keys:
    - name: dev
      key: th-some-plaintext
      tenant: acme
      limits: {concurrent: 3}
      budget: {daily: 5, mode: hard, alert_at: [0.5], clamp_output: true}
      models: [fast]
      ip_ranges: [10.0.0.0/8]
providers:
  openai:
    type: openai
    api_key: sk-plaintext
    base_url: https://api.example.com/v1
    models:
      - name: gpt-5
        alias: best
        max_output_tokens: 100
        prices: {input: 1, output: 2}
    deadlines: {total: 30s, connect: 1s}
models:
  fast: {route: [openai/x], strict: true, deadlines: {first_byte: 2}}
ledger: {url: "sqlite:///x.db"}
prices: {openai/x: {input: 0.5, cache_read: 0.1}}
state: {url: "redis://127.0.0.1:6379", when_lost: closed}
logging: {level: debug, format: text, calls: off, bodies: full, redact_upstream: true}
cache: {responses: {ttl: 10m, max_bytes: 1MiB}, coalesce: true}
limits: {requests_per_minute: 5, concurrent: 2, max_wait: 1s, per_tenant: {concurrent: 1}, scopes: [{scope: "tenant:a", concurrent: 1}]}
budgets: [{scope: global, daily: 5, total: 100, webhook: "https://h/x"}]
deadlines: {connect: 1, first_byte: 2, between_chunks: 3, total: 4}
retry: {max_attempts: 2, backoff_base: 1}
"""

NAMED_BY_THE_OPERATOR = {("providers",), ("models",), ("prices",)}
"""Mappings whose keys are the operator's own names."""


def schema_keys(node: Node, path: tuple[str, ...] = ()) -> list[Entry]:
    if isinstance(node, Items):
        return [entry for item in node.items for entry in schema_keys(item, path)]
    if not isinstance(node, Table):
        return []
    own = [] if path in NAMED_BY_THE_OPERATOR else list(node.entries)
    return own + [found for entry in node.entries for found in schema_keys(entry.value, (*path, entry.key))]


def full_keys() -> list[Entry]:
    root = read_tree(FULL.encode()).root
    assert root is not None
    return schema_keys(root)


def test_the_full_file_loads():
    assert read(FULL, {}).limits.overall.concurrent == 2
    assert len(full_keys()) == 78


@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.sampled_from(full_keys()), st.text("abcdefghijklmnopqrstuvwxyz_", min_size=1, max_size=12))
def test_renaming_any_key_is_refused_with_its_line_and_path(entry: Entry, name: str):
    """No key is silently ignored: whatever a key is renamed to, the file no longer loads, and the line is named."""
    known = {other.key for other in full_keys()} | {"admin_host", "admin_port", "workers", "key_sha256", "project"}
    known |= {"context_tokens", "headers", "proxy", "options", "tokens_per_minute", "hourly", "weekly", "monthly"}
    known |= {"backoff_cap", "cache_write", "input_audio", "output_audio", "reasoning", "request", "receipts"}
    if name in known:
        name = "no_" + name
    lines = FULL.splitlines()
    line = lines[entry.mark.line - 1]
    start = entry.mark.column - 1
    lines[entry.mark.line - 1] = line[:start] + name + line[start + len(entry.key) :]
    found = problems("\n".join(lines), {})
    place = f"tollhouse.yaml:{entry.mark.line}:{entry.mark.column}: "
    assert any(problem.startswith(place) and f"{name}: There is no such key." in problem for problem in found), found


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, len(FULL) - 1), st.sampled_from(" \n:,[]{}&*!#'\"-$x0")), min_size=1, max_size=6)
)
def test_a_damaged_file_is_refused_in_words_or_loads(edits: list[tuple[int, str]]):
    """Never a traceback, and never a secret in a message."""
    text = list(FULL)
    for position, character in edits:
        text[position] = character
    message = ""
    try:
        read("".join(text), {})
    except ConfigError as error:
        message = str(error)
    assert "plaintext" not in message


@pytest.mark.parametrize("form", ["*{}", "!{}", "!!{}", "&a {} *{}", "|{}", "@{}", "[{}", "{{{}", "'{}"])
def test_a_secret_that_yaml_takes_for_something_else_is_not_told(form: str):
    """Without quotes, one that begins with an asterisk is an alias, and one with an exclamation mark a tag."""
    with pytest.raises(ConfigError) as refused:
        read("auth: {open: true}\nproviders:\n  openai:\n    api_key: " + form.format(*["s3cret-text"] * 2) + "\n", {})
    assert "s3cret" not in str(refused.value)


# ----------------------------------------------------------------------------------------------------------------- find


def test_the_option_goes_before_the_variable_and_the_variable_before_the_folders(tmp_path: Path):
    home, cwd = tmp_path / "home", tmp_path / "cwd"
    xdg = home / ".config" / "tollhouse" / "server" / "config.yaml"
    xdg.parent.mkdir(parents=True)
    cwd.mkdir()
    assert find(None, {}, cwd, home) is None
    xdg.write_text(MINIMAL)
    assert find(None, {}, cwd, home) == xdg
    (cwd / "tollhouse.yaml").write_text(MINIMAL)
    assert find(None, {}, cwd, home) == cwd / "tollhouse.yaml"
    environ = {"TOLLHOUSE_CONFIG": "/etc/tollhouse.yaml"}
    assert find(None, environ, cwd, home) == Path("/etc/tollhouse.yaml")
    assert find("mine.yaml", environ, cwd, home) == cwd / "mine.yaml"


def test_the_xdg_variable_moves_the_folder_and_a_relative_one_is_ignored(tmp_path: Path):
    place = tmp_path / "xdg" / "tollhouse" / "server" / "config.yaml"
    place.parent.mkdir(parents=True)
    place.write_text(MINIMAL)
    assert find(None, {"XDG_CONFIG_HOME": str(tmp_path / "xdg")}, tmp_path, tmp_path) == place
    assert find(None, {"XDG_CONFIG_HOME": "xdg"}, tmp_path, tmp_path) is None


def test_an_empty_variable_is_no_name_of_a_file(tmp_path: Path):
    assert find(None, {"TOLLHOUSE_CONFIG": ""}, tmp_path, tmp_path) is None


# ----------------------------------------------------------------------------------------------------------------- load


def test_a_file_is_loaded_and_named_in_its_problems(tmp_path: Path):
    path = tmp_path / "my.yaml"
    path.write_text(EXAMPLE)
    assert load(path, KEYS, TYPES) == read(EXAMPLE)
    path.write_text(EXAMPLE.replace("admin_port", "admin_prot"))
    with pytest.raises(ConfigError) as caught:
        load(path, KEYS, TYPES)
    assert caught.value.problems == (
        f"{path}:1:39: server.admin_prot: There is no such key. Did you mean 'admin_port'?",
    )


def test_a_secret_file_is_read_from_the_disk(tmp_path: Path):
    (tmp_path / "key").write_text("sk-on-disk\n")
    path = tmp_path / "c.yaml"
    path.write_text(f'auth: {{open: true}}\nproviders: {{openai: {{api_key: "${{file:{tmp_path}/key}}"}}}}\n')
    key = load(path, {}, TYPES).providers["openai"].api_key
    assert key is not None
    assert key.reveal() == "sk-on-disk"


@pytest.mark.parametrize("name", ["nothing.yaml", "."])
def test_a_file_that_cannot_be_read_is_refused_in_words(tmp_path: Path, name: str):
    with pytest.raises(ConfigError, match=r"The configuration cannot be read: "):
        load(tmp_path / name, {}, TYPES)


def test_a_file_that_is_too_large_is_refused(tmp_path: Path):
    path = tmp_path / "c.yaml"
    path.write_bytes(b"#" * 2_000_000)
    with pytest.raises(ConfigError, match="larger than 1 MiB"):
        load(path, {}, TYPES)


def test_bytes_and_text_mean_the_same():
    assert parse(MINIMAL.encode(), environ={}, provider_types=TYPES) == parse(MINIMAL, environ={}, provider_types=TYPES)


@pytest.mark.parametrize("text", ["", "word", "[]", "- a", "# nothing"])
def test_a_file_that_holds_no_configuration_is_refused(text: str):
    assert problems(text)


# ----------------------------------------------------------------------------------------------------------------- diff


def test_a_configuration_does_not_differ_from_itself_read_again():
    assert diff(read(EXAMPLE), read("# moved by a line\n" + EXAMPLE)) == ()


@pytest.mark.parametrize(
    ("old", "new", "path", "needs_restart"),
    [
        ("port: 8080", "port: 8081", "server.port", True),
        ("tollhouse.db", "other.db", "ledger.url", True),
        ("default: fast", "default: smart", "models.default", False),
        ("openai/gpt-4o-mini", "openai/gpt-5", "models.fast.targets", False),
        ("api_key: x", "api_key: y", "providers.lab.api_key", False),
        ("9100/v1", "9100/v2", "providers.lab.base_url", False),
        ("name: dev", "name: ops", "auth.keys", False),
        ("ledger:", "budgets: {daily: 1}\nledger:", "budgets", False),
        ("ledger:", "state: {url: 'redis://h'}\nledger:", "state.url", True),
        ('tollhouse.db"', 'tollhouse.db", retention: 9d', "ledger.retention", True),
        ("workers: 1", "workers: 1, trusted_proxies: [10.0.0.0/8]", "server.trusted_proxies", True),
        ("ledger:", "limits: {concurrent: 1}\nledger:", "limits.concurrent", False),
        ("ledger:", "limits: {max_wait: 1s}\nledger:", "limits.max_wait", False),
        ("ledger:", "limits: {per_ip: {concurrent: 1}}\nledger:", "limits.per_ip.concurrent", False),
        ("ledger:", "cache: {responses: {ttl: 1m}}\nledger:", "cache.responses", False),
        ("ledger:", "cache: {coalesce: true}\nledger:", "cache.coalesce", False),
        ("ledger:", "logging: {bodies: full}\nledger:", "logging.bodies", False),
        ("ledger:", "logging: {retention: 9d}\nledger:", "logging.retention", False),
        ("ledger:", "logging: {redact: []}\nledger:", "logging.redact", False),
        ("ledger:", "logging: {bodies_path: x}\nledger:", "logging.bodies_path", True),
        ("name: dev", "name: dev, budget: {daily: 1}", "auth.keys", False),
        ("ledger:", "prices: {lab/x: {input: 1}}\nledger:", "prices.lab/x", False),
        ("ledger:", "logging: {level: debug}\nledger:", "logging.level", True),
        ("ledger:", "telemetry: {traces: {endpoint: 'http://h:4318'}}\nledger:", "telemetry.traces", True),
    ],
)
def test_a_change_is_named_by_its_path(old: str, new: str, path: str, needs_restart: bool):
    assert diff(read(EXAMPLE), read(EXAMPLE.replace(old, new))) == (Change(path, needs_restart=needs_restart),)


def test_what_was_added_and_what_was_removed_are_changes():
    more = EXAMPLE.replace("models:\n", "  groq: {}\nmodels:\n  extra: groq/x\n")
    paths = [change.path for change in diff(read(EXAMPLE), read(more))]
    assert paths == ["providers.groq", "models.extra"]
    assert [change.path for change in diff(read(more), read(EXAMPLE))] == paths
