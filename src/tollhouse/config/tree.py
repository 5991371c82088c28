"""From the bytes of a YAML file to a tree of nodes that know where they stand.

PyYAML speaks YAML 1.1, where `no` is false and `12:30:45` is a number; its resolver and constructor are therefore not used.
Its parser (libyaml's when the wheel has it) only gives events, and this module builds the tree from them: mappings, lists
and scalars whose text is kept as it was written.  What kind of value a plain scalar is follows the core schema of
YAML 1.2.2, section 10.3 (https://yaml.org/spec/1.2.2/#103-core-schema), and is decided where the schema wants a value.

What a configuration does not need is refused rather than interpreted: tags, several documents, merge keys, duplicate keys,
and aliases that repeat more than a bounded number of nodes.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol, TypeAlias

import yaml

MAX_FILE_BYTES: Final = 1_048_576
MAX_NODES: Final = 100_000
"""Nodes of one file, those that aliases repeat counted each time."""
MAX_DEPTH: Final = 32

CoreKind = Literal["null", "boolean", "integer", "number", "string"]

_CORE: Final[tuple[tuple[CoreKind, re.Pattern[str]], ...]] = (
    ("null", re.compile(r"null|Null|NULL|~|")),
    ("boolean", re.compile(r"true|True|TRUE|false|False|FALSE")),
    ("integer", re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")),
    (
        "number",
        re.compile(
            r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?(?:\.inf|\.Inf|\.INF)|\.nan|\.NaN|\.NAN"
        ),
    ),
)

Parser: TypeAlias = "type[yaml.CSafeLoader | yaml.SafeLoader]"
"""One of PyYAML's parsers; only its events are used."""

PURE_PARSER: Final[Parser] = yaml.SafeLoader
FASTEST_PARSER: Final[Parser] = getattr(yaml, "CSafeLoader", PURE_PARSER)
"""libyaml where PyYAML was built with it (8 times faster), else the pure one."""


def core_kind(text: str) -> CoreKind:
    """What YAML 1.2 takes a plain (unquoted) scalar for."""
    return next((kind for kind, pattern in _CORE if pattern.fullmatch(text)), "string")


@dataclass(frozen=True, slots=True)
class Mark:
    """A position, counted from 1."""

    line: int
    column: int


START: Final = Mark(1, 1)


@dataclass(frozen=True, slots=True)
class Scalar:
    """A single value, still as text."""

    text: str
    mark: Mark
    is_plain: bool = False
    """Written without quotes, so that `core_kind` applies."""
    written: str | None = None
    """The path as the file has it, where a translation from an older form moved the node; else `None`."""


@dataclass(frozen=True, slots=True)
class Items:
    """A list."""

    items: tuple["Node", ...]
    mark: Mark
    written: str | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """One `key: value`."""

    key: str
    mark: Mark
    """Where the key stands."""
    value: "Node"


@dataclass(frozen=True, slots=True)
class Table:
    """A mapping, in the order of the file; keys are unique."""

    entries: tuple[Entry, ...]
    mark: Mark
    written: str | None = None

    def get(self, key: str) -> Entry | None:
        """The entry of that key."""
        return next((entry for entry in self.entries if entry.key == key), None)


Node: TypeAlias = Scalar | Items | Table

KIND_NAMES: Final = {Scalar: "a single value", Items: "a list", Table: "a mapping"}


@dataclass(frozen=True, slots=True)
class Flaw:
    """Something that makes the file unusable, and where."""

    mark: Mark
    sentence: str


@dataclass(frozen=True, slots=True)
class Tree:
    """A file that was read.  `root` is `None` when it could not be, or when it is empty."""

    root: Node | None
    flaws: tuple[Flaw, ...] = ()


def read_tree(data: bytes, parser: Parser = FASTEST_PARSER) -> Tree:
    """Reads one YAML document.  Never raises for what the file says: all that is wrong is in `flaws`."""
    if len(data) > MAX_FILE_BYTES:
        return Tree(None, (Flaw(START, f"The file is larger than {MAX_FILE_BYTES // 1_048_576} MiB."),))
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return Tree(None, (Flaw(Mark(line, 1), "This line is not UTF-8; save the file in that encoding."),))
    builder = _Builder()
    try:
        for event in _events(text, parser):
            builder.take(event)
    except _Unreadable as unreadable:
        builder.flaws.append(unreadable.flaw)
        return Tree(None, tuple(builder.flaws))
    return Tree(builder.root, tuple(builder.flaws))


class _Unreadable(Exception):
    def __init__(self, mark: Mark, sentence: str) -> None:
        super().__init__(sentence)
        self.flaw = Flaw(mark, sentence)


def _events(text: str, parser: Parser) -> Iterator[yaml.Event]:
    try:
        yield from yaml.parse(text, Loader=parser)
    except yaml.MarkedYAMLError as error:
        # Problem and context are the parser's own fixed phrases; its snippet of the file, which could show a secret, is
        # left out.
        mark = _mark(error.problem_mark or error.context_mark)
        reason = " ".join(part for part in (error.context, error.problem) if part)
        raise _Unreadable(mark, f"This is not YAML: {reason}.{_advice(text, mark)}") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise _Unreadable(Mark(line, 1), "This line holds a character that YAML does not allow.") from None


def _advice(text: str, mark: Mark) -> str:
    """What to do about the two mistakes behind most of the errors in hand-written files."""
    line = next(iter(text.splitlines()[mark.line - 1 : mark.line]), "")
    if line[: len(line) - len(line.lstrip())].count("\t"):
        return " Indent with spaces, not with tabs."
    if "${" in line:
        return ' Inside braces or brackets, write a reference in quotes: "${NAME}".'
    return ""


class _Position(Protocol):
    """What the marks of both parsers have; they count from 0."""

    line: int
    column: int


@dataclass(slots=True)
class _Open:
    """A mapping or list whose end has not come yet."""

    is_table: bool
    mark: Mark
    anchor: str | None
    size: int = 1
    entries: list[Entry] = field(default_factory=list)
    items: list[Node] = field(default_factory=list)
    seen: dict[str, Mark] = field(default_factory=dict)
    key: tuple[str, Mark] | None = None


class _Builder:
    """Turns events into the tree, iteratively, so that depth is bounded by a number and not by the interpreter."""

    def __init__(self) -> None:
        self.root: Node | None = None
        self.flaws: list[Flaw] = []
        self._stack: list[_Open] = []
        self._anchors: dict[str, tuple[Node, int]] = {}
        self._nodes = 0
        self._documents = 0

    def take(self, event: yaml.Event) -> None:
        match event:
            case yaml.DocumentStartEvent():
                self._start_document(event)
            case yaml.ScalarEvent():
                mark = _mark(event.start_mark)
                self._refuse_tag(event.tag, mark)
                scalar = Scalar(event.value, mark, is_plain=not event.style)
                self._place(scalar, 1, event.anchor)
            case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                self._open(event)
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                self._close()
            case yaml.AliasEvent():
                self._repeat(event.anchor or "", _mark(event.start_mark))
            case _:
                pass  # stream and document ends carry nothing

    def _start_document(self, event: yaml.DocumentStartEvent) -> None:
        mark = _mark(event.start_mark)
        self._documents += 1
        if self._documents > 1:
            raise _Unreadable(
                mark, "A second document begins here; a configuration is one document, without `---` in it."
            )
        if event.version and tuple(event.version) != (1, 2):
            self.flaws.append(Flaw(mark, "The file is read as YAML 1.2; remove the %YAML line or write `%YAML 1.2`."))

    def _open(self, event: yaml.MappingStartEvent | yaml.SequenceStartEvent) -> None:
        mark = _mark(event.start_mark)
        self._refuse_tag(event.tag, mark)
        if len(self._stack) >= MAX_DEPTH:
            raise _Unreadable(mark, f"This is nested deeper than {MAX_DEPTH} levels.")
        if self._stack and self._stack[-1].is_table and self._stack[-1].key is None:
            raise _Unreadable(mark, "A key must be a single word, not a mapping or a list.")
        self._stack.append(_Open(isinstance(event, yaml.MappingStartEvent), mark, event.anchor))
        if event.anchor is not None:
            self._anchors.pop(event.anchor, None)

    def _close(self) -> None:
        done = self._stack.pop()
        node: Node = Table(tuple(done.entries), done.mark) if done.is_table else Items(tuple(done.items), done.mark)
        self._place(node, done.size, done.anchor)

    def _repeat(self, anchor: str, mark: Mark) -> None:
        found = self._anchors.get(anchor)
        if found is None:
            # What it says is not quoted: it may be a secret that begins with an asterisk.
            is_inside = any(outer.anchor == anchor for outer in self._stack)
            raise _Unreadable(
                mark,
                "This alias stands inside itself."
                if is_inside
                else "This alias has no anchor before it; a value that begins with `*` belongs in quotes.",
            )
        self._place(found[0], found[1], None, mark)

    def _place(self, node: Node, size: int, anchor: str | None, mark: Mark | None = None) -> None:
        """Puts a finished node where it belongs.  `mark` is the alias that repeats it, if one does."""
        here = mark or node.mark
        # A collection's inside was counted as it came; only what is new here is added.
        self._nodes += size if mark is not None else 1
        if self._nodes > MAX_NODES:
            raise _Unreadable(
                here, f"There are more than {MAX_NODES:,} values up to here, those that aliases repeat included."
            )
        if anchor is not None:
            self._anchors[anchor] = (node, size)
        if not self._stack:
            self.root = node
            return
        parent = self._stack[-1]
        parent.size += size
        if not parent.is_table:
            parent.items.append(node)
        elif parent.key is None:
            parent.key = self._key(node, here)
        else:
            self._add_entry(parent, parent.key, node)
            parent.key = None

    def _key(self, node: Node, mark: Mark) -> tuple[str, Mark]:
        if not isinstance(node, Scalar):
            raise _Unreadable(mark, "A key must be a single word, not a mapping or a list.")
        if node.is_plain and node.text == "<<":
            self.flaws.append(Flaw(mark, "Merge keys (<<) are not part of YAML 1.2; write the keys out."))
        elif not node.text:
            self.flaws.append(Flaw(mark, "A key is empty."))
        return node.text, mark

    def _add_entry(self, table: _Open, key: tuple[str, Mark], value: Node) -> None:
        name, mark = key
        first = table.seen.setdefault(name, mark)
        if first is not mark:
            self.flaws.append(Flaw(mark, f"The key {name[:100]!r} was already given on line {first.line}."))
        elif name and name != "<<":
            table.entries.append(Entry(name, mark, value))

    def _refuse_tag(self, tag: str | None, mark: Mark) -> None:
        if tag is not None:
            self.flaws.append(
                Flaw(mark, "Tags are not used here; remove it, or put a value that begins with `!` in quotes.")
            )


def _mark(mark: _Position | None) -> Mark:
    return START if mark is None else Mark(mark.line + 1, mark.column + 1)
