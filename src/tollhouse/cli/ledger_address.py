"""Which ledger a command is about."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from tollhouse.errors import ConfigError
from tollhouse.ledger import store

if TYPE_CHECKING:
    from tollhouse.config.schema import Config


def ledger_url(config_file: str | None, url: str | None) -> str:
    """The address that was given, else the configuration's, else the default.

    Raises `ConfigError` for a configuration that does not load.
    """
    if url is not None:
        return url
    config = configuration(config_file)
    return store.DEFAULT_URL if config is None else config.ledger.url


def configuration(config_file: str | None) -> "Config | None":
    """The configuration that a gateway would start with here; `None` if there is none.  Raises `ConfigError`."""
    from tollhouse.config.load import find, load

    path = find(config_file, os.environ, Path.cwd(), Path.home())
    if path is None:
        return None

    from tollhouse.providers.registry import defaults_by_type

    try:
        return load(path, os.environ, defaults_by_type())
    except ConfigError as error:
        raise ConfigError(
            [*error.problems, "To leave the configuration aside, name the ledger: --ledger URL."]
        ) from error
