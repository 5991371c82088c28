"""Where each value of a configuration came from, for messages and for `tollhouse config show`."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePath
from typing import Final

Segment = str | int
"""A key of a mapping, or the index of a list's item."""

_PLAIN_NAME: Final = re.compile(r"[A-Za-z0-9_/-]+")


def path_of(*segments: Segment) -> str:
    """Writes a path as people read it: `auth.keys[0].name`, `models."gpt-4.1"`."""
    text = ""
    for segment in segments:
        if isinstance(segment, int):
            text += f"[{segment}]"
            continue
        name = segment if _PLAIN_NAME.fullmatch(segment) else '"' + segment.replace('"', '\\"') + '"'
        text += f".{name}" if text else name
    return text


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One value's origin.  `line` and `column` count from 1."""

    segments: tuple[Segment, ...]
    """The path in today's form of the file, also when the file is in an older one."""
    file: str
    line: int
    column: int
    source: str
    """`file`, `default`, `$NAME`, `/run/secrets/x`, …"""
    written: str
    """The path as the file has it."""
    shown: str | None = None
    """The value as YAML, masked if it must be; `None` for a mapping or a list."""
    is_written: bool = True
    """Whether the file has the value; else the line is that of the mapping that lacks it."""

    @property
    def path(self) -> str:
        """The path in today's form: `server.port`."""
        return path_of(*self.segments)

    @property
    def origin(self) -> str:
        """Where the value came from, in a few words: `tollhouse.yaml:3`, `$X, tollhouse.yaml:5`; without the file's folder."""
        if not self.is_written:
            return self.source
        where = f"{PurePath(self.file).name}:{self.line}"
        return where if self.source == "file" else f"{self.source}, {where}"


class Places:
    """All places of one configuration, in the order of the schema."""

    __slots__ = ("_by_path", "_file")

    def __init__(self, file: str = "tollhouse.yaml", places: Iterable[Place] = ()) -> None:
        self._file = file
        self._by_path = {place.path: place for place in places}

    def __iter__(self) -> Iterator[Place]:
        return iter(self._by_path.values())

    def get(self, path: str) -> Place | None:
        """The place of a path such as `server.port`; see `path_of`."""
        return self._by_path.get(path)

    def problem(self, path: str, sentence: str) -> str:
        """A line for `ConfigError`: `file:line:col: path: sentence`.

        A path that the file does not have is shown at its nearest ancestor that it has.
        """
        place = self._nearest(path)
        if place is None:
            return f"{self._file}:1:1: {path}: {sentence}"
        return f"{place.file}:{place.line}:{place.column}: {path}: {sentence}"

    def _nearest(self, path: str) -> Place | None:
        while path:
            place = self._by_path.get(path)
            if place is not None:
                return place
            path = path[: max(path.rfind("."), path.rfind("["), 0)]
        return None
