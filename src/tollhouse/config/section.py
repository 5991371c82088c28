"""Walks the node tree beside the schema and collects all that is wrong, with the place of each.

A `Section` is one mapping being read: whatever key the schema asks for becomes known, and `close` refuses the rest.  A
`Spot` is one node and its path.  Nothing here raises for what a file says; a value that cannot be used is reported and its
default taken, so that reading goes on to the next problem.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from tollhouse.config.expand import Expansion, FileReader, expand
from tollhouse.config.places import Place, Segment, path_of
from tollhouse.config.secret import MASK, Secret
from tollhouse.config.tree import KIND_NAMES, START, Entry, Items, Mark, Node, Scalar, Table, core_kind
from tollhouse.config.values import Given, Reader, Refused, nearest

T = TypeVar("T")

MAX_PROBLEMS: Final = 100
"""More are counted, not listed: nobody reads them, and looking for the nearest name costs time."""

_BARE: Final = re.compile(r"[A-Za-z0-9_./+-][A-Za-z0-9_./@:+-]*")

_UNPRINTABLE: Final = re.compile("[\x7f-\x9f\u2028\u2029\ufeff]")

Advice = Callable[[str], str]
"""From the name of an unset variable to the sentence that says what to do."""


class Collector:
    """What one reading of a file finds: problems, warnings and places."""

    def __init__(self, file: str, environ: Mapping[str, str], read_file: FileReader) -> None:
        self.file = file
        self.environ = environ
        self.places: dict[tuple[Segment, ...], Place] = {}
        self._read_file = read_file
        self._problems: list[tuple[Mark, str]] = []
        self._warnings: list[tuple[Mark, str]] = []
        self._unlisted = 0

    @property
    def is_full(self) -> bool:
        """Whether further problems are only counted."""
        return len(self._problems) >= MAX_PROBLEMS

    def flaw(self, mark: Mark, path: str, sentence: str) -> None:
        """Adds a problem.  `path` is as the file has it; empty for the file as a whole."""
        if self.is_full:
            self._unlisted += 1
        else:
            self._problems.append((mark, self._line(mark, path, sentence)))

    def warn(self, mark: Mark, path: str, sentence: str) -> None:
        """Adds a warning, in the same form."""
        if len(self._warnings) < MAX_PROBLEMS:
            self._warnings.append((mark, self._line(mark, path, sentence)))

    def record(self, place: Place) -> None:
        """Remembers where a value came from."""
        self.places[place.segments] = place

    def expand(self, text: str) -> Expansion:
        """Expands `${…}` with this reading's environment."""
        return expand(text, self.environ, self._read_file)

    def problems(self) -> tuple[str, ...]:
        """All problems in the order of the file, each once."""
        lines = list(dict.fromkeys(line for _, line in sorted(self._problems, key=_position)))
        if self._unlisted:
            lines.append(f"{self.file}: and {self._unlisted} more problems.")
        return tuple(lines)

    def warnings(self) -> tuple[str, ...]:
        """All warnings in the order of the file."""
        return tuple(line for _, line in sorted(self._warnings, key=_position))

    def _line(self, mark: Mark, path: str, sentence: str) -> str:
        return f"{self.file}:{mark.line}:{mark.column}: {f'{path}: ' if path else ''}{sentence}"


@dataclass(frozen=True, slots=True)
class Spot:
    """One node, with the path that leads to it."""

    collector: Collector
    node: Node
    segments: tuple[Segment, ...]
    """In today's form of the file."""
    written: str
    """The path as the file has it."""
    mark: Mark
    """Where a message points: the value, or the key of a mapping or a list."""

    def flaw(self, sentence: str) -> None:
        """Reports a problem here."""
        self.collector.flaw(self.mark, self.written, sentence)

    def warn(self, sentence: str) -> None:
        """Reports a warning here."""
        self.collector.warn(self.mark, self.written, sentence)

    def read(
        self, reader: Reader[T], *, advice: Advice | None = None, show: Callable[[T], str] | None = None
    ) -> T | None:
        """The value, or `None` after a report.  `show` makes the text for dumps where the value itself must not be seen."""
        if not isinstance(self.node, Scalar):
            self.flaw(f"Must be a single value, not {KIND_NAMES[type(self.node)]}.")
            return None
        expansion = self.collector.expand(self.node.text)
        for name in expansion.unset:
            self.flaw(f"The environment variable {name} is not set. {(advice or _unset)(name)}")
        for sentence in expansion.flaws:
            self.flaw(sentence)
        if expansion.unset or expansion.flaws:
            return None
        given = Given(
            expansion.text,
            is_plain=self.node.is_plain,
            references=expansion.references,
            sources=expansion.sources,
            is_defaulted=bool(expansion.defaulted),
        )
        try:
            value = reader(given)
        except Refused as refused:
            self.flaw(refused.sentence)
            return None
        source = ", ".join(expansion.sources) or "file"
        self.record(source, _shown(value, given) if show is None or given.sources else quoted(show(value)))
        return value

    def record(self, source: str, shown: str | None, *, is_written: bool = True) -> None:
        """Remembers a value that was found here, or whose place this would be."""
        self.collector.record(
            Place(
                segments=self.segments,
                file=self.collector.file,
                line=self.mark.line,
                column=self.mark.column,
                source=source,
                written=self.written,
                shown=shown,
                is_written=is_written,
            )
        )

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing here: `key:`, `{}` or `[]`."""
        match self.node:
            case Table(entries=()) | Items(items=()):
                return True
            case _:
                return is_null(self.node)

    @property
    def has_references(self) -> bool:
        """Whether the value is written with `${…}`."""
        return isinstance(self.node, Scalar) and "${" in self.node.text

    def speak_of(self, value: str) -> str:
        """How a sentence names a value that was read here: what a reference stands for is not repeated."""
        return repr(self.node.text if isinstance(self.node, Scalar) and self.has_references else value)

    def section(self) -> "Section":
        """The mapping that must be here; nothing at all (`ollama:`) is an empty one."""
        if isinstance(self.node, Table):
            return Section(self, self.node.entries)
        if not is_null(self.node):
            self.flaw(f"Must be a mapping (`key: value`), not {KIND_NAMES[type(self.node)]}.")
            return Section(self, (), is_broken=True)
        return Section(self, ())

    def members(self) -> list[tuple[Entry, "Spot"]]:
        """The entries of a mapping whose keys are the operator's own names."""
        if isinstance(self.node, Table):
            self.record("file", None)
            return [(entry, self._child(entry.key, entry.value, entry.mark)) for entry in self.node.entries]
        if not is_null(self.node):
            self.flaw(f"Must be a mapping of names, not {KIND_NAMES[type(self.node)]}.")
        return []

    def items(self) -> list["Spot"]:
        """The items of a list."""
        if isinstance(self.node, Items):
            self.record("file", None)
            return [self._child(index, item, item.mark) for index, item in enumerate(self.node.items)]
        self.flaw(f"Must be a list, not {KIND_NAMES[type(self.node)]}.")
        return []

    def _child(self, segment: Segment, node: Node, key_mark: Mark) -> "Spot":
        written = node.written or (
            f"{self.written}{'.' if self.written and isinstance(segment, str) else ''}{path_of(segment)}"
        )
        mark = node.mark if isinstance(node, Scalar) and not is_null(node) else key_mark
        return Spot(self.collector, node, (*self.segments, segment), written, mark)

    def at_key(self, entry: Entry) -> "Spot":
        """The entry's spot in this mapping."""
        return self._child(entry.key, entry.value, entry.mark)


class Section:
    """One mapping of the schema while it is read."""

    def __init__(self, spot: Spot, entries: Iterable[Entry], *, is_broken: bool = False) -> None:
        self.spot = spot
        self._entries = {entry.key: entry for entry in entries}
        self._known: list[str] = []
        self._outdated: set[str] = set()
        self._missing: list[tuple[tuple[str, ...], str]] = []
        self._is_broken = is_broken
        spot.record("file", None)

    def has(self, key: str) -> bool:
        """Whether the file has this key."""
        self._know(key)
        return key in self._entries

    def get(self, key: str) -> Spot | None:
        """The spot of a key, if the file has it."""
        self._know(key)
        entry = self._entries.get(key)
        return None if entry is None else self.spot.at_key(entry)

    def read(
        self,
        key: str,
        reader: Reader[T],
        default: T,
        *,
        advice: Advice | None = None,
        show: Callable[[T], str] | None = None,
    ) -> T:
        """The value of a key, or the default when it is missing or was reported."""
        spot = self.get(key)
        if spot is None:
            self.note_default(key, default)
            return default
        value = spot.read(reader, advice=advice, show=show)
        return default if value is None else value

    def read_optional(
        self, key: str, reader: Reader[T], *, advice: Advice | None = None, show: Callable[[T], str] | None = None
    ) -> T | None:
        """The value of a key, or `None` when it is missing or was reported."""
        spot = self.get(key)
        return None if spot is None else spot.read(reader, advice=advice, show=show)

    def section(self, key: str) -> "Section":
        """A mapping inside this one; a missing one is empty, so that its defaults are found."""
        spot = self.get(key)
        if spot is not None:
            return spot.section()
        here = self.spot
        empty = Table((), here.mark)
        return Section(here.at_key(Entry(key, here.mark, empty)), ())

    def section_once_named(self, key: str, older: str) -> "Section":
        """A mapping inside this one that had another name before; that one is still taken, with a warning."""
        entry = self._entries.get(older)
        if entry is None:
            return self.section(key)
        spot = self.spot.at_key(entry)
        self._outdated.add(older)
        if self.has(key):
            spot.flaw(f"This is the older name of `{key}`, which the file has too; move what is here there.")
            return self.section(key)
        spot.warn(f"This is the older name of `{key}`; rename it.")
        renamed = replace(entry, key=key, value=replace(entry.value, written=spot.written))
        return self.spot.at_key(renamed).section()

    def members(self, key: str) -> list[tuple[Entry, Spot]]:
        """The named entries below a key; none when it is missing."""
        spot = self.get(key)
        return [] if spot is None else spot.members()

    def items(self, key: str) -> list[Spot]:
        """The items of the list below a key; none when it is missing."""
        spot = self.get(key)
        return [] if spot is None else spot.items()

    def note_default(self, key: str, value: object, *, source: str = "default") -> None:
        """Remembers that a missing key has this value all the same, and why."""
        self._know(key)
        here = self.spot
        missing = here.at_key(Entry(key, here.mark, Scalar("", here.mark)))
        missing.record(source, None if value is None else _shown_default(value), is_written=False)

    def require(self, key: str, sentence: str) -> None:
        """Reports a missing key when the section is closed, unless a misspelt one in its place is reported already."""
        self.require_any((key,), sentence)

    def require_any(self, keys: Iterable[str], sentence: str) -> None:
        """The same where one of several keys must be there."""
        known = tuple(keys)
        for key in known:
            self._know(key)
        self._missing.append((known, sentence))

    def close(self) -> None:
        """Refuses the keys that nobody asked for, each with the nearest right one."""
        misspelt = set()
        for key, entry in self._entries.items():
            if key in self._known or key in self._outdated:
                continue
            meant = None if self.spot.collector.is_full else nearest(key, self._known)
            misspelt.add(meant)
            child = self.spot.at_key(entry)
            suggestion = f" Did you mean {meant!r}?" if meant else f" The keys here are {', '.join(self._known)}."
            self.spot.collector.flaw(entry.mark, child.written, f"There is no such key.{suggestion}")
        for keys, sentence in self._missing:
            if not self._is_broken and not any(key in self._entries or key in misspelt for key in keys):
                self.spot.flaw(sentence)

    def _know(self, key: str) -> None:
        if key not in self._known:
            self._known.append(key)


def root_spot(collector: Collector, node: Node | None) -> Spot:
    """The whole file; an empty file is an empty mapping."""
    root = Table((), START) if node is None else node
    return Spot(collector, root, (), root.written or "", root.mark)


def is_null(node: Node) -> bool:
    """Whether YAML 1.2 has nothing here: `key:`, `~` or `null`."""
    return isinstance(node, Scalar) and node.is_plain and core_kind(node.text) == "null"


def quoted(text: str) -> str:
    """A text as a YAML scalar that loads as the same text; quotes only where they are needed."""
    escaped = text.replace("${", "$${")
    if _BARE.fullmatch(escaped) and core_kind(escaped) == "string" and not escaped.endswith(":") and escaped != "-":
        return escaped
    # JSON is YAML, but for a few characters that YAML does not take, or takes for line breaks, without an escape.
    return _UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(escaped, ensure_ascii=False))


def _shown(value: object, given: Given) -> str:
    """A value for dumps.  A text that came from the environment or a file is masked, whatever it is for."""
    if isinstance(value, Secret | bytes) or (given.sources and not isinstance(value, int | float)):
        return quoted(MASK)
    return given.text if isinstance(value, int | float) else quoted(str(value))


def _shown_default(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case float():
            return f"{value:g}"
        case str():
            return quoted(value)
        case Secret():
            return quoted(MASK)
        case tuple():
            return f"[{', '.join(_shown_default(each) for each in value)}]"
        case _:
            return str(value)


def _unset(name: str) -> str:
    return f"Set it, or write ${{{name}:-text}} to give it a default."


def _position(problem: tuple[Mark, str]) -> tuple[int, int]:
    return problem[0].line, problem[0].column
