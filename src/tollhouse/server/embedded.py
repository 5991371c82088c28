"""Starts the embedded models that the configuration names, before anything that needs them."""

from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from tollhouse.config.schema import Config, ProviderSettings
from tollhouse.config.secret import Secret
from tollhouse.errors import ConfigError
from tollhouse.server.wiring import LocalAddress

if TYPE_CHECKING:
    from tollhouse.local.settings import LocalSettings


async def start_local(config: Config, environ: Mapping[str, str], stack: AsyncExitStack) -> dict[str, LocalAddress]:
    """Starts one process for each provider of type `local` that has no `base_url` of its own; they end with `stack`.

    Raises `NotInstalled`, or `LocalModelUnavailable` with what to do (mostly: `tollhouse local pull`).
    """
    wanted = [s for s in config.providers.values() if s.type == "local" and s.base_url is None]
    if not wanted:
        return {}
    from tollhouse.local.runner import LocalModel

    running: dict[str, LocalAddress] = {}
    for provider in wanted:
        model = LocalModel(_settings(config, provider, environ), environ=environ)
        stack.push_async_callback(model.stop)
        await model.start()
        running[provider.name] = LocalAddress(model.base_url, Secret(model.api_key))
    return running


def _settings(config: Config, provider: ProviderSettings, environ: Mapping[str, str]) -> "LocalSettings":
    from tollhouse.local.catalogue import DEFAULT_MODEL
    from tollhouse.local.settings import LocalSettings
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
    options = provider.options
    name = provider.models[0].name if provider.models else DEFAULT_MODEL
    path = options.get("path")
    stored = ModelStore.of_person(environ).find(str(Path(str(path)).expanduser()) if path else name)
    defaults = LocalSettings(model_path=stored.path)
    return LocalSettings(
        model_path=stored.path,
        name=name,
        slots=int(options.get("slots", defaults.slots)),
        context_tokens=int(options.get("context_tokens", defaults.context_tokens)),
        threads=int(options.get("threads", defaults.threads)),
    )
