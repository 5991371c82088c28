import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.configs import EXAMPLE, KEYS, MINIMAL, OLDER_EXAMPLE, read
from tollhouse.config.section import quoted
from tollhouse.config.show import show
from tollhouse.config.tree import Items, Scalar, read_tree


@pytest.mark.parametrize("text", [EXAMPLE, OLDER_EXAMPLE], ids=["today", "older"])
def test_no_secret_is_shown(text: str):
    shown = show(read(text).places)
    assert shown.count('"***"') >= 3
    assert not any(value in shown for value in KEYS.values())


def test_every_line_with_a_value_says_where_it_came_from():
    lines = show(read(EXAMPLE).places).splitlines()
    assert "  port: 8080                                 # tollhouse.yaml:1" in lines
    assert "  admin_host: 127.0.0.1                      # default" in lines
    assert '    api_key: "***"                           # $OPENAI_API_KEY, tollhouse.yaml:5' in lines
    assert "    - anthropic/claude-sonnet-4-5            # tollhouse.yaml:10" in lines
    assert all(" # " in line or line.endswith(":") for line in lines)


def test_a_text_from_the_environment_or_a_file_is_masked_whatever_it_is_for():
    environ = {"PLACE": "postgresql://u:plaintext@db", "HOST": "plaintext.example", "PORT": "8088"}
    text = MINIMAL + 'server: {admin_host: "${HOST}", port: "${PORT}", insecure: true}\nledger: {url: "${PLACE}"}\n'
    shown = show(read(text, environ).places)
    assert "plaintext" not in shown
    assert "port: 8088" in shown
    text = MINIMAL + 'ledger: {url: "postgresql://u:${file:/run/p}@db"}\n'
    assert "plaintext" not in show(read(text, {}, {"/run/p": b"plaintext"}).places)


def test_literal_secrets_of_every_kind_are_masked():
    config = read(
        """\
auth: {keys: [{name: dev, key: th-plaintext}]}
providers:
  openai:
    api_key: sk-plaintext
    proxy: http://user:plaintext@proxy:3128
    headers: {authorization: Basic plaintext}
ledger: {url: "postgresql://user:plaintext@db/ledger"}
"""
    )
    assert "plaintext" not in show(config.places)
    assert "plaintext" not in repr(config)
    assert "proxy: http://***@proxy:3128" in show(config.places).replace('"', "")


WITHOUT_SECRETS = """\
auth: {open: true}
providers:
  local:
    models: [plain, {name: "4.5", alias: "a: b#c".., max_output_tokens: 5, prices: {input: 0.1}}, "x'\\"y"]
    deadlines: {total: 90s}
  groq: {type: local, base_url: "http://h/$${x}"}
models:
  one: local/plain
  many: [one, groq/x]
  hard: {route: [one], strict: true, deadlines: {connect: 500ms}}
  default: many
prices: {"local/*": {output: 2}}
budgets:
  - {scope: global, daily: 1.5, alert_at: [0.5, 1], mode: soft}
  - {scope: "model:a:b#c", total: 2}
limits: {concurrent: 3, max_wait: 2s, per_ip: {concurrent: 1}, scopes: [{scope: "key:x", tokens_per_minute: 5}]}
state: {url: "redis://h/1", budget_allowance: 0.5}
cache: {responses: {ttl: 10m, max_bytes: 256MiB}, coalesce: true}
logging: {calls: false, level: debug, redact: [ip, t], patterns: {t: 'a\\d+: #{2}'}, retention: 9d}
ledger: {retention: 400d, state_folder: "a b"}
server: {port: 0x50, drain_seconds: 1h, trusted_proxies: [10.0.0.0/8, "::1"]}
""".replace('alias: "a: b#c"..', 'alias: "a:b#c"')


def test_what_is_shown_loads_again_and_means_the_same():
    config = read(WITHOUT_SECRETS)
    assert read(show(config.places)) == config


def test_an_older_file_is_shown_in_todays_form_and_loads_again():
    text = "llmproxy:\n  listen_addr: '127.0.0.1:80'\n  auth: {open: true}\n  providers: {local: {models: [{name: m, alias: default}]}}\n  cost_budget: {hourly_limit: 10.0}\n"
    config = read(text, {})
    shown = show(config.places)
    assert "llmproxy" not in shown
    assert read(shown, {}) == config


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cn"]), max_size=20))
def test_any_text_is_written_so_that_it_loads_as_the_same_text(text: str):
    tree = read_tree(f"- {quoted(text)} # comment\n".encode())
    assert tree.flaws == ()
    assert isinstance(tree.root, Items)
    [scalar] = tree.root.items
    assert isinstance(scalar, Scalar)
    assert scalar.text.replace("$${", "${") == text
