"""`tollhouse config`: check the configuration, show what is in effect, write a first one."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

import click

from tollhouse.config.folders import write_file
from tollhouse.config.load import FILE_NAME, candidates, find, load
from tollhouse.config.schema import Config, ProviderDefaults
from tollhouse.config.show import show as show_places
from tollhouse.config.starter import EMBEDDED_MODEL, new_key, starter
from tollhouse.errors import ConfigError

config_option = click.option(
    "--config",
    "path",
    type=click.Path(dir_okay=False),
    help="The file; else $TOLLHOUSE_CONFIG, ./tollhouse.yaml, then the XDG configuration folder.",
)


def provider_defaults() -> Mapping[str, ProviderDefaults]:
    """What loading must know of every type of provider that this installation has."""
    from tollhouse.providers.registry import defaults_by_type

    return defaults_by_type()


def find_config(explicit: str | None) -> Path:
    """The configuration file that a command uses.  Raises `ConfigError` when there is none anywhere."""
    cwd, home = Path.cwd(), Path.home()
    path = find(explicit, os.environ, cwd, home)
    if path is None:
        places = " and ".join(str(place) for place in candidates(os.environ, cwd, home))
        raise ConfigError(
            [
                f"There is no configuration: looked at {places}. `tollhouse config init` writes one, `--config` names one."
            ]
        )
    return path


@click.group()
def command() -> None:
    """Check, show or write the configuration."""


@command.command()
@config_option
@click.pass_obj
def check(provider_types: Mapping[str, ProviderDefaults] | None, path: str | None) -> None:
    """Say whether the configuration can be used; list everything that is wrong."""
    file = find_config(path)
    try:
        config = _load(file, provider_types)
        warnings = _rehearsed(config)
    except ConfigError as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
        count = len(error.problems)
        print(f"{file}: {count} problem{'s' if count > 1 else ''}", file=sys.stderr)
        sys.exit(1)
    for warning in [*config.warnings, *warnings]:
        print(f"warning: {warning}", file=sys.stderr)
    print(f"{file}: ok ({_counts(config)})")


@command.command()
@config_option
@click.pass_obj
def show(provider_types: Mapping[str, ProviderDefaults] | None, path: str | None) -> None:
    """Print the configuration in effect, secrets masked, and where each value came from."""
    file = find_config(path)
    config = _load(file, provider_types)
    for warning in config.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    print(f"# {file}")
    print(show_places(config.places), end="")


@command.command()
@click.option(
    "--config", "path", type=click.Path(dir_okay=False), default=FILE_NAME, show_default=True, help="The file."
)
@click.option("--force", is_flag=True, help="Replace a file that is there.")
@click.pass_obj
def init(provider_types: Mapping[str, ProviderDefaults] | None, path: str, force: bool) -> None:
    """Write a first configuration with a fresh key, which is printed this once."""
    types = provider_defaults() if provider_types is None else provider_types
    key = new_key()
    file = Path(path)
    text = starter(key, os.environ, types)
    try:
        write_file(file, text.encode(), replace=force)
    except FileExistsError:
        raise ConfigError([f"{file}: The file exists already; `--force` replaces it."]) from None
    except OSError as error:
        raise ConfigError([f"{file}: The file cannot be written: {error.strerror or error}."]) from error
    print(f"Wrote {file}. Its one key, which is not kept anywhere, is:\n\n  {key}\n")
    pull = "tollhouse local pull && " if EMBEDDED_MODEL in text else ""
    print(f"Give it to clients as their API key. Next:\n\n  {pull}tollhouse serve")


def _load(file: Path, provider_types: Mapping[str, ProviderDefaults] | None) -> Config:
    """Loads with the given types of providers, or with those that are installed."""
    return load(file, os.environ, provider_defaults() if provider_types is None else provider_types)


def _rehearsed(config: Config) -> tuple[str, ...]:
    """Warnings about what loads.  Raises `ConfigError` for what the gateway would not start with all the same."""
    from tollhouse.server.rehearsal import rehearse

    return rehearse(config, os.environ)


def _counts(config: Config) -> str:
    counted = (
        (len(config.auth.keys), "key"),
        (len(config.providers), "provider"),
        (len(config.aliases), "alias"),
    )
    words = [f"{count} {noun if count == 1 else _plural(noun)}" for count, noun in counted]
    return ", ".join([*words, *(["open to all on this machine"] if config.auth.open else [])])


def _plural(noun: str) -> str:
    return noun + ("es" if noun.endswith("s") else "s")
