import hashlib

import pytest

from support.configs import KEYS, OLDER_EXAMPLE, problem, problems, read
from tollhouse.config.schema import BudgetSettings, Config, RateSettings, Scope, Target

WITHOUT_KEY = {name: value for name, value in KEYS.items() if name != "TOLLHOUSE_KEY"}


def listening_on(address: str) -> Config:
    return read(OLDER_EXAMPLE.replace('":8080"', address), {**KEYS, "HOST": "10.0.0.1", "PORT": "81"})


def test_the_older_example_loads_as_it_is_written():
    config = read(OLDER_EXAMPLE)
    assert (config.server.host, config.server.port) == ("0.0.0.0", 8080)
    assert config.logging.level == "info"
    assert [(provider.name, provider.type) for provider in config.providers.values()] == [
        ("anthropic", "anthropic"),
        ("openai", "openai"),
        ("glm", "glm"),
        ("groq", "groq"),
        ("grok", "xai"),
    ]
    keys = {name: provider.api_key for name, provider in config.providers.items()}
    assert {name: key.reveal() for name, key in keys.items() if key} == {
        name: KEYS[f"{name.upper()}_API_KEY"] for name in config.providers
    }
    assert config.providers["openai"].base_url == "https://api.openai.com/v1"
    assert config.aliases["default"].targets == (Target("anthropic", "claude-sonnet-4"),)
    assert config.default_model == "default"
    assert config.limits.overall == RateSettings(requests_per_minute=100, tokens_per_minute=100_000)
    assert config.budgets == (
        BudgetSettings(scope=Scope("global"), period="hour", limit_nano=10 * 10**9),
        BudgetSettings(scope=Scope("global"), period="day", limit_nano=100 * 10**9),
    )


def test_the_key_of_callers_is_taken_from_the_environment():
    config = read(OLDER_EXAMPLE)
    [key] = config.auth.keys
    assert (key.name, key.digest) == ("default", hashlib.sha256(KEYS["TOLLHOUSE_KEY"].encode()).digest())


def test_plain_text_on_every_interface_is_what_it_has_always_meant_and_is_warned_of():
    config = read(OLDER_EXAMPLE)
    assert config.server.insecure
    [warning] = config.warnings
    assert warning.startswith("tollhouse.yaml:2:16: llmproxy.listen_addr: Other machines can reach the gateway here")
    assert listening_on('"127.0.0.1:80"').warnings == listening_on('"[::1]:80"').warnings == ()


def test_without_any_key_it_loads_and_stays_closed_with_a_warning():
    config = read(OLDER_EXAMPLE, WITHOUT_KEY)
    assert config.auth.keys == ()
    assert not config.auth.open
    [closed] = [warning for warning in config.warnings if "every call will be refused" in warning]
    assert closed


def test_an_auth_section_is_taken_and_goes_before_the_environment():
    config = read(OLDER_EXAMPLE + "  auth: {keys: [{name: mine, key: th-other-key}]}\n")
    assert [key.name for key in config.auth.keys] == ["mine"]


def test_open_is_refused_there_too_where_others_reach_the_gateway():
    assert "llmproxy.auth.open" in problem(OLDER_EXAMPLE + "  auth: {open: true}\n")


def test_a_bad_key_in_the_environment_is_named():
    message = problem(OLDER_EXAMPLE, {**KEYS, "TOLLHOUSE_KEY": "short"})
    assert "TOLLHOUSE_KEY" in message
    assert "short" not in message


@pytest.mark.parametrize(
    ("address", "host", "port"),
    [
        ('":80"', "0.0.0.0", 80),
        ('"127.0.0.1:80"', "127.0.0.1", 80),
        ("localhost:80", "localhost", 80),
        ('"[::1]:80"', "::1", 80),
        ('"${HOST}:${PORT}"', "10.0.0.1", 81),
        ('":${NOTHING:-82}"', "0.0.0.0", 82),
    ],
)
def test_a_listen_address_is_a_host_and_a_port(address: str, host: str, port: int):
    server = listening_on(address).server
    assert (server.host, server.port) == (host, port)


@pytest.mark.parametrize("address", ['"8080"', '"::1:80"', '"host:"', '"host:http"', "[80]", '"${ADDRESS}"', '""'])
def test_another_listen_address_is_refused_at_its_place(address: str):
    message = problem(OLDER_EXAMPLE.replace('":8080"', address))
    assert message.startswith("tollhouse.yaml:2:")
    assert "llmproxy.listen_addr: Must be" in message


@pytest.mark.parametrize("address", ['":99999"', '"1.2.3:80"'])
def test_a_listen_address_out_of_range_is_refused_under_the_name_that_it_has_in_the_file(address: str):
    assert problem(OLDER_EXAMPLE.replace('":8080"', address)).startswith(
        "tollhouse.yaml:2:16: llmproxy.listen_addr: Must be"
    )


def test_the_level_warn_means_warning():
    assert read(OLDER_EXAMPLE.replace('"info"', "warn")).logging.level == "warning"


@pytest.mark.parametrize(
    ("right", "wrong", "path"),
    [
        ("listen_addr", "listen_adr", "llmproxy.listen_adr"),
        ("log_level", "loglevel", "llmproxy.loglevel"),
        ("rate_limits", "rate_limit", "llmproxy.rate_limit"),
        ("tokens_per_minute", "token_per_minute", "llmproxy.rate_limits.token_per_minute"),
        ("daily_limit", "daly_limit", "llmproxy.cost_budget.daly_limit"),
        ("alias", "alais", "llmproxy.providers.anthropic.models[0].alais"),
        ("base_url", "base_ulr", "llmproxy.providers.openai.base_ulr"),
    ],
)
def test_an_unknown_key_is_refused_with_its_place_and_the_nearest(right: str, wrong: str, path: str):
    text = OLDER_EXAMPLE.replace(right, wrong)
    [(line, column)] = [(n, found.index(wrong) + 1) for n, found in enumerate(text.splitlines(), 1) if wrong in found]
    message = problem(text)
    assert message.startswith(f"tollhouse.yaml:{line}:{column}: {path}: There is no such key.")
    assert f"Did you mean {right!r}?" in message


def test_a_wrong_value_is_refused_under_the_name_that_it_has_in_the_file():
    found = problems(OLDER_EXAMPLE.replace("100000}", "lots}").replace("10.0", "-1").replace('"info"', "loud"))
    assert [line.split(": ")[1] for line in found] == [
        "llmproxy.log_level",
        "llmproxy.rate_limits.tokens_per_minute",
        "llmproxy.cost_budget.hourly_limit",
    ]


@pytest.mark.parametrize("value", ["word", "[{scope: global, daily: 1}]"])
@pytest.mark.parametrize("key", ["rate_limits", "cost_budget", "providers"])
def test_a_section_of_the_wrong_kind_is_refused(key: str, value: str):
    lines = [
        line for line in OLDER_EXAMPLE.splitlines() if key not in line and (key != "providers" or "    " not in line)
    ]
    assert any(
        f"llmproxy.{key}: Must be a mapping" in line for line in problems("\n".join([*lines, f"  {key}: {value}\n"]))
    )


def test_nothing_may_stand_beside_it():
    assert "server: A file with `llmproxy` at its top has nothing beside it." in problem(
        OLDER_EXAMPLE + "server: {port: 1}\n"
    )


@pytest.mark.parametrize("body", ["word", "[]", ""])
def test_an_older_file_with_nothing_in_it_is_refused(body: str):
    assert problems(f"llmproxy: {body}\n", WITHOUT_KEY)


def test_grok_is_the_type_xai_unless_it_says_otherwise():
    text = OLDER_EXAMPLE.replace("grok: {", "grok: {type: openai-compatible, base_url: https://x.example, ")
    assert read(text).providers["grok"].type == "openai-compatible"
