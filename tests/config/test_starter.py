import hashlib
import re

import pytest

from support.configs import KEYS, TYPES, read
from tollhouse.config.starter import new_key, starter
from tollhouse.local.catalogue import DEFAULT_MODEL


@pytest.mark.parametrize("environ", [{}, KEYS, {"GROQ_API_KEY": "gsk-x"}, {"GROQ_API_KEY": ""}])
def test_the_first_file_loads_and_knows_its_key(environ: dict[str, str]):
    key = new_key()
    config = read(starter(key, environ, TYPES), environ)
    assert [stored.digest for stored in config.auth.keys] == [hashlib.sha256(key.encode()).digest()]
    assert config.warnings == ()


def test_it_has_the_providers_whose_keys_are_in_the_environment():
    assert list(read(starter(new_key(), KEYS, TYPES), KEYS).providers) == ["openai", "anthropic", "glm", "groq"]


def test_a_type_with_two_names_is_listed_once():
    types = {**TYPES, "grok": TYPES["xai"]}
    assert list(read(starter(new_key(), {"XAI_API_KEY": "x"}, types), {"XAI_API_KEY": "x"}).providers) == ["xai"]


def test_without_any_provider_key_the_embedded_model_answers():
    local = read(starter(new_key(), {}, TYPES), {}).providers["local"]
    assert (local.type, [model.name for model in local.models]) == ("local", [DEFAULT_MODEL])


@pytest.mark.parametrize(
    ("environ", "default"),
    [
        ({}, f"local/{DEFAULT_MODEL}"),
        (KEYS, "openai/gpt-4o-mini"),
        ({"ANTHROPIC_API_KEY": "sk-ant-x"}, "anthropic/claude-sonnet-4-5"),
        ({"GROQ_API_KEY": "gsk-x"}, None),
    ],
)
def test_whoever_names_no_model_is_answered_where_one_is_known(environ: dict[str, str], default: str | None):
    text = starter(new_key(), environ, TYPES)
    assert read(text, environ).default_model == default
    assert ("NAME-OF-A-MODEL" in text) is (default is None)


def test_no_secret_stands_in_it():
    key = new_key()
    text = starter(key, KEYS, TYPES)
    assert key not in text
    assert not any(value in text for value in KEYS.values())


def test_what_is_commented_out_loads_too():
    environ = {**KEYS, "TOLLHOUSE_ADMIN_TOKEN": "a-token-that-is-long-enough-for-an-admin"}
    text = re.sub(
        r"^# ((models|limits|budgets|admin|cache|state|logging):|  (\w+:|-) .+)",
        r"\1",
        starter(new_key(), KEYS, TYPES),
        flags=re.MULTILINE,
    )
    text = re.sub(r"^  # (fast|smart): ", r"  \1: ", text, flags=re.MULTILINE)
    config = read(text, environ)
    assert config.default_model == "openai/gpt-4o-mini"
    assert list(config.aliases) == ["fast", "smart"]
    assert config.limits.per_key.requests_per_minute == 120
    assert [(token.name, token.role) for token in config.admin.tokens] == [("ops", "admin")]
    assert config.cache.responses is not None
    assert config.cache.coalesce
    assert config.state.url is not None
    assert config.logging.bodies == "off"
    assert [(str(budget.scope), budget.period, budget.is_hard) for budget in config.budgets] == [
        ("global", "day", True),
        ("global", "month", True),
        ("key:default", "day", False),
    ]
    assert config.warnings == ()


def test_keys_are_long_random_and_recognizable():
    keys = {new_key() for _ in range(100)}
    assert len(keys) == 100
    assert all(re.fullmatch(r"th-[A-Za-z0-9_-]{43}", key) for key in keys)
