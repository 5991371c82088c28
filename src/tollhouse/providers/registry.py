"""Every type of provider.  A new one is a module beside this and a line here."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from tollhouse.config.schema import ProviderDefaults, ProviderSettings
from tollhouse.errors import ConfigError
from tollhouse.providers import (
    anthropic,
    compatible,
    cursor,
    deepseek,
    glm,
    google,
    groq,
    local,
    mistral,
    ollama,
    openai,
    openrouter,
    qwen,
    tollhouse,
    xai,
)
from tollhouse.providers.provider import Provider, ProviderKind

PROVIDER_TYPES: Final[Mapping[str, ProviderKind]] = MappingProxyType(
    {
        "openai": openai.KIND,
        "anthropic": anthropic.KIND,
        "google": google.KIND,
        "google-openai": google.OPENAI,
        "deepseek": deepseek.KIND,
        "qwen": qwen.KIND,
        "glm": glm.KIND,
        "groq": groq.KIND,
        "xai": xai.KIND,
        "grok": xai.KIND,
        "cursor": cursor.KIND,
        "openrouter": openrouter.KIND,
        "mistral": mistral.KIND,
        "ollama": ollama.KIND,
        "local": local.KIND,
        "tollhouse": tollhouse.KIND,
        "openai-compatible": compatible.KIND,
        "anthropic-compatible": anthropic.COMPATIBLE,
    }
)
"""By the name that a configuration gives as `type`; `grok` is another name of `xai`."""


def defaults_by_type() -> Mapping[str, ProviderDefaults]:
    """What loading a configuration must know of each type."""
    return {name: kind.defaults for name, kind in PROVIDER_TYPES.items()}


def build(settings: ProviderSettings) -> Provider:
    """The configured provider.  Opens nothing.  Raises `ConfigError` with every problem of these settings."""
    kind = PROVIDER_TYPES.get(settings.type)
    if kind is None:
        known = ", ".join(PROVIDER_TYPES)
        raise ConfigError([f"providers.{settings.name}.type: there is no type {settings.type!r}; there are {known}."])
    return kind.build(settings)
