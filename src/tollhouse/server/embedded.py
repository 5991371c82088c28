"""Starts the embedded models that the configuration names, before anything that needs them."""

from collections.abc import Mapping
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from tollhouse.config.schema import Config, ProviderSettings
from tollhouse.config.secret import Secret
from tollhouse.errors import ConfigError
from tollhouse.server.wiring import LocalAddress

if TYPE_CHECKING:
    from tollhouse.local.settings import LocalSettings


class ModelLives:
    """How the processes of the embedded models are, by the name of their provider."""

    def __init__(self) -> None:
        self.states: dict[str, str] = {}
        self.deaths: dict[str, int] = {}

    def note(self, provider: str, state: str) -> None:
        """A process has come to a state of `local.lifecycle`, of which `waiting` is only entered by its death."""
        self.states[provider] = state
        self.deaths[provider] = self.deaths.get(provider, 0) + (state == "waiting")


async def start_local(
    config: Config, environ: Mapping[str, str], stack: AsyncExitStack, lives: ModelLives | None = None
) -> dict[str, LocalAddress]:
    """Starts one process for each provider of type `local` that has no `base_url` of its own; they end with `stack`.

    `lives` is told how they are, from now on.
    Raises `ConfigError`, `NotInstalled`, or `LocalModelUnavailable` with what to do (mostly: `tollhouse local pull`).
    """
    wanted = [s for s in config.providers.values() if s.type == "local" and s.base_url is None]
    if not wanted:
        return {}
    from tollhouse.local.runner import LocalModel

    lives = lives or ModelLives()
    running: dict[str, LocalAddress] = {}
    for provider in wanted:
        model = LocalModel(
            local_settings(config, provider, environ), environ=environ, on_state=partial(lives.note, provider.name)
        )
        stack.push_async_callback(model.stop)
        await model.start()
        running[provider.name] = LocalAddress(model.base_url, Secret(model.api_key), model.supports_tools)
    return running


def local_settings(config: Config, provider: ProviderSettings, environ: Mapping[str, str]) -> "LocalSettings":
    """How the model of a provider of type `local` is run.

    Raises `ConfigError` for options that make no sense, and `LocalModelUnavailable` for a model that is not there.
    """
    from tollhouse.local.settings import DEFAULT_SLOTS, settings_for
    from tollhouse.local.store import ModelStore

    if len(provider.models) > 1:
        raise ConfigError(
            [
                config.places.problem(
                    f"providers.{provider.name}.models",
                    "One provider of type local runs one model; give each further model a provider of its own.",
                )
            ]
        )
    path = provider.options.get("path")
    name = provider.models[0].name
    settings = settings_for(
        ModelStore.of_person(environ).find(str(path) if path else name),
        slots=_count(config, provider, "slots", least=1) or DEFAULT_SLOTS,
        context_tokens=_count(config, provider, "context_tokens", least=1),
        threads=_count(config, provider, "threads", least=0) or 0,
    )
    return msgspec.structs.replace(settings, name=name)


def _count(config: Config, provider: ProviderSettings, option: str, *, least: int) -> int | None:
    """A numeric option; `None` if it is not given.  Raises `ConfigError` with its place."""
    value = provider.options.get(option)
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool) and value >= least:
        return value
    path = f"providers.{provider.name}.options.{option}"
    raise ConfigError([config.places.problem(path, f"{value!r} is not a whole number from {least} up.")])
