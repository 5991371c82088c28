"""What one tool needs to know, as values: files, variables and a command.  Nothing here touches a disk."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

Json: TypeAlias = bool | int | str | Sequence["Json"] | Mapping[str, "Json"] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """What every tool is told."""

    url: str
    """Its HTTP address, without a slash at its end."""
    key: str
    """A key of the gateway in plain text, or what stands in its place where a plan is only shown."""
    model: str | None = None
    """What the tool shall ask for; without it the tool's own choice, where it has one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where a person's files are."""

    home: Path
    config: Path
    """`$XDG_CONFIG_HOME`, else `~/.config`."""
    own: Path
    """The client's own folder below it, `tollhouse/client`."""
    environ: Mapping[str, str]
    """For the variables with which a tool's own folder is moved."""

    def moved(self, variable: str, *default: str) -> Path:
        """The folder that the variable names, else that one below home."""
        named = self.environ.get(variable, "")
        return Path(named) if Path(named).is_absolute() else self.home.joinpath(*default)


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonFile:
    """Entries that are merged into a JSON file: objects by their keys, everything else replaced."""

    path: Path
    entries: Mapping[str, Json]
    is_private: bool = False
    """Whether a key is in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TomlTables:
    """Tables of a TOML file that are ours whole; the rest of the file stays byte for byte."""

    path: Path
    tables: Mapping[str, Mapping[str, str]]
    """By dotted name, such as `model_providers.tollhouse`."""
    is_private: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DotEnv:
    """Lines `NAME="value"` of a file that a tool reads by itself; lines of other names stay."""

    path: Path
    variables: Mapping[str, str]
    is_private: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class YamlBlock:
    """Items of a YAML list, in a block between two comments of ours."""

    path: Path
    text: str
    is_private: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnFile:
    """A file that is ours alone, and written whole."""

    path: Path
    text: str
    is_private: bool = False


SettingsFile: TypeAlias = JsonFile | TomlTables | DotEnv | YamlBlock | OwnFile


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A piece of a program."""

    language: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How one tool is set up."""

    tool: str
    title: str
    """The tool's own name."""
    command: str
    """What a person types afterwards."""
    files: tuple[SettingsFile, ...] = ()
    variables: Mapping[str, str] | None = None
    """What must be in the environment, because the tool reads it nowhere else."""
    samples: tuple[Sample, ...] = ()
    notes: tuple[str, ...] = ()
    """Whole sentences."""
