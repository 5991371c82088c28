"""Configurations that tests share, and a short way to read one."""

from collections.abc import Mapping
from types import MappingProxyType

import pytest

from tollhouse.config.load import parse
from tollhouse.config.schema import Config, ProviderDefaults
from tollhouse.errors import ConfigError

TYPES: Mapping[str, ProviderDefaults] = MappingProxyType(
    {
        "openai": ProviderDefaults(key_variable="OPENAI_API_KEY"),
        "anthropic": ProviderDefaults(key_variable="ANTHROPIC_API_KEY"),
        "glm": ProviderDefaults(key_variable="GLM_API_KEY", options=("token_seconds", "mint")),
        "groq": ProviderDefaults(key_variable="GROQ_API_KEY"),
        "xai": ProviderDefaults(key_variable="XAI_API_KEY"),
        "openai-compatible": ProviderDefaults(needs_key=False, needs_base_url=True),
        "local": ProviderDefaults(needs_key=False, own_model="smollm2-135m-instruct"),
    }
)

KEYS: Mapping[str, str] = MappingProxyType(
    {
        "TOLLHOUSE_KEY": "th-key-of-the-callers",
        "OPENAI_API_KEY": "sk-openai-plaintext",
        "ANTHROPIC_API_KEY": "sk-anthropic-plaintext",
        "GLM_API_KEY": "glm-id.glm-secret-plaintext",
        "GROQ_API_KEY": "gsk-plaintext",
        "GROK_API_KEY": "xai-plaintext",
    }
)
"""An environment in which both examples load."""

EXAMPLE = """\
server: {host: 127.0.0.1, port: 8080, admin_port: 9090, workers: 1}
auth:
  keys: [{name: dev, key: "${TOLLHOUSE_KEY}"}]     # or `open: true`, allowed on loopback only
providers:
  openai: {api_key: "${OPENAI_API_KEY}"}
  anthropic: {api_key: "${ANTHROPIC_API_KEY}", base_url: https://api.anthropic.com}
  lab: {type: openai-compatible, base_url: http://127.0.0.1:9100/v1, api_key: x}
models:
  fast: openai/gpt-4o-mini                          # alias
  smart: [anthropic/claude-sonnet-4-5, openai/gpt-4o]   # tried in this order
  default: fast
ledger: {url: "sqlite:///tollhouse.db"}
"""

OLDER_EXAMPLE = """\
llmproxy:
  listen_addr: ":8080"
  log_level: "info"
  providers:
    anthropic: {api_key: "${ANTHROPIC_API_KEY}", models: [{name: "claude-sonnet-4", alias: "default"}]}
    openai: {api_key: "${OPENAI_API_KEY}", base_url: "https://api.openai.com/v1"}
    glm: {api_key: "${GLM_API_KEY}"}
    groq: {api_key: "${GROQ_API_KEY}"}
    grok: {api_key: "${GROK_API_KEY}"}
  rate_limits: {requests_per_minute: 100, tokens_per_minute: 100000}
  cost_budget: {hourly_limit: 10.0, daily_limit: 100.0}
"""

MINIMAL = """\
auth: {open: true}
providers: {local: {}}
"""
"""The least that loads; tests append to it."""


def read(text: str, environ: Mapping[str, str] = KEYS, files: Mapping[str, bytes] | None = None) -> Config:
    """Parses with the test's types of providers; `files` are those that `${file:…}` can see."""

    def read_file(path: str) -> bytes:
        if path not in (files or {}):
            raise FileNotFoundError(2, "No such file or directory", path)
        return (files or {})[path]

    return parse(text, environ=environ, provider_types=TYPES, read_file=read_file)


def problems(text: str, environ: Mapping[str, str] = KEYS, files: Mapping[str, bytes] | None = None) -> list[str]:
    """The problems of a text that must not load."""
    with pytest.raises(ConfigError) as caught:
        read(text, environ, files)
    return list(caught.value.problems)


def problem(text: str, environ: Mapping[str, str] = KEYS, files: Mapping[str, bytes] | None = None) -> str:
    """The one problem of a text that has exactly one."""
    found = problems(text, environ, files)
    assert len(found) == 1, found
    return found[0]
