"""Finding a configuration file, reading it, and telling two of them apart."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Final

from tollhouse.config.build import build
from tollhouse.config.expand import MAX_SECRET_FILE_BYTES, FileReader
from tollhouse.config.folders import server_folder
from tollhouse.config.older import is_older, modernize
from tollhouse.config.places import path_of
from tollhouse.config.schema import Config, ProviderDefaults
from tollhouse.config.section import Collector
from tollhouse.config.tree import MAX_FILE_BYTES, read_tree
from tollhouse.errors import ConfigError

FILE_VARIABLE: Final = "TOLLHOUSE_CONFIG"
FILE_NAME: Final = "tollhouse.yaml"
NEEDS_RESTART: Final = (
    "server.",
    "admin.tls",
    "ledger.",
    "state.",
    "logging.level",
    "logging.format",
    "logging.calls",
    "logging.bodies_path",
    "telemetry.",
)
"""How paths begin that a running gateway cannot change: its listeners, its processes, its stores, where its lines go."""

_NAMES: Final = {"aliases": "models", "default_model": "models.default"}
"""Where a record's field has another name than the file's section."""
UNITS: Final = {
    "retention_seconds": "retention",
    "ttl_seconds": "ttl",
    "max_wait_seconds": "max_wait",
    "timeout_seconds": "timeout",
}
"""The same of keys whose values carry their unit."""


def candidates(environ: Mapping[str, str], cwd: Path, home: Path) -> tuple[Path, ...]:
    """Where a configuration is looked for when nobody names one, in this order."""
    return cwd / FILE_NAME, server_folder(environ, home) / "config.yaml"


def find(explicit: str | None, environ: Mapping[str, str], cwd: Path, home: Path) -> Path | None:
    """The file to load: `--config`, `$TOLLHOUSE_CONFIG`, `./tollhouse.yaml`, then the XDG configuration folder.

    A file that was named is returned whether it exists or not, so that loading it says so.
    """
    named = explicit or environ.get(FILE_VARIABLE)
    if named:
        return cwd / named
    return next((path for path in candidates(environ, cwd, home) if path.is_file()), None)


def read_secret_file(path: str) -> bytes:
    """The content of a `${file:…}`, bounded.  Raises `OSError`."""
    with Path(path).open("rb") as file:
        return file.read(MAX_SECRET_FILE_BYTES + 1)


def load(
    path: Path | str,
    environ: Mapping[str, str],
    provider_types: Mapping[str, ProviderDefaults],
    *,
    read_file: FileReader = read_secret_file,
) -> Config:
    """Reads and checks a file.  Raises `ConfigError` with every problem at once."""
    try:
        with Path(path).open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError([f"{path}: The configuration cannot be read: {error.strerror or error}."]) from error
    return parse(data, file=str(path), environ=environ, provider_types=provider_types, read_file=read_file)


def parse(
    data: bytes | str,
    *,
    environ: Mapping[str, str],
    provider_types: Mapping[str, ProviderDefaults],
    file: str = FILE_NAME,
    read_file: FileReader = read_secret_file,
) -> Config:
    """Checks a configuration's text.  `file` is its name in messages.  Raises `ConfigError` with every problem at once."""
    tree = read_tree(data.encode() if isinstance(data, str) else data)
    collector = Collector(file, environ, read_file)
    for flaw in tree.flaws:
        collector.flaw(flaw.mark, "", flaw.sentence)
    if tree.root is None and tree.flaws:
        raise ConfigError(collector.problems())
    if is_older(tree.root):
        return build(collector, modernize(collector, tree.root), provider_types, may_be_without_keys=True)
    return build(collector, tree.root, provider_types)


@dataclass(frozen=True, slots=True)
class Change:
    """One value that differs between two configurations."""

    path: str
    """In today's form: `models.fast.targets`."""
    needs_restart: bool
    """A reload does not take it over."""


def diff(old: Config, new: Config) -> tuple[Change, ...]:
    """What changed, in the order of the schema.  Says where, never what: values may be secret."""
    return tuple(
        Change(path, needs_restart=path.startswith(NEEDS_RESTART))
        for path in _differences(_without_keys_budgets(old), _without_keys_budgets(new), ())
    )


def _without_keys_budgets(config: Config) -> Config:
    """The budgets of keys stand at their keys too, and are compared there."""
    own = [budget for caller in config.auth.callers for budget in caller.budgets]
    return replace(config, budgets=tuple(budget for budget in config.budgets if budget not in own))


def _differences(old: object, new: object, path: tuple[str, ...]) -> Iterator[str]:
    if is_dataclass(old) and is_dataclass(new) and type(old) is type(new):
        for field in fields(old):
            if field.compare:
                here = (*path, UNITS.get(field.name, field.name.removesuffix("_nano")))
                yield from _differences(getattr(old, field.name), getattr(new, field.name), here)
    elif isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in dict.fromkeys((*old, *new)):
            if name in old and name in new:
                yield from _differences(old[name], new[name], (*path, name))
            else:
                yield _path(*path, name)
    elif old != new:
        yield _path(*path)


def _path(first: str, *rest: str) -> str:
    if first == "prices":
        rest = rest[1:]  # the records say prices.overrides, the file only prices
    elif first == "limits" and rest[:1] == ("overall",):
        rest = rest[1:]
    return ".".join(part for part in (_NAMES.get(first, first), path_of(*rest)) if part)
