"""`${…}` in the values of a configuration.

Expansion works on one scalar after the YAML was parsed, never on the file's text, so that a variable's content can be
a value and never syntax.  Three forms, and no others:

- `${NAME}`: the environment variable; unset is an error.
- `${NAME:-text}`: the same, or `text` where the variable is unset or empty, as in a POSIX shell.
- `${file:/absolute/path}`: a file's content without its last line break.

`$${` stands for a literal `${`; any other `$` stands for itself.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Final

MAX_SECRET_FILE_BYTES: Final = 65_536

_OPENING: Final = re.compile(r"\$\$\{|\$\{")
_VARIABLE: Final = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.DOTALL)

FileReader = Callable[[str], bytes]
"""Gives a file's content, at most `MAX_SECRET_FILE_BYTES` + 1 of it; raises `OSError`."""


@dataclass(frozen=True, slots=True)
class Expansion:
    """A scalar's text after expansion."""

    text: str
    sources: tuple[str, ...] = ()
    """The places that gave text: `$X`, `file /run/secrets/x`.  Such text may be secret."""
    references: tuple[str, ...] = ()
    """Every reference as it was written, without its default: `${X}`.  Empty for plain text."""
    defaulted: tuple[str, ...] = ()
    """The variables that were unset or empty and whose default was taken."""
    unset: tuple[str, ...] = ()
    """The variables that are not set and have no default.  `text` is then of no use."""
    flaws: tuple[str, ...] = ()
    """Whole sentences about references that cannot be read."""


def expand(text: str, environ: Mapping[str, str], read_file: FileReader) -> Expansion:
    """Expands every reference of one scalar.  Never raises for its content; see `Expansion`."""
    if "${" not in text:
        return Expansion(text)
    out: list[str] = []
    sources: list[str] = []
    references: list[str] = []
    defaulted: list[str] = []
    unset: list[str] = []
    flaws: list[str] = []
    position = 0
    while (opening := _OPENING.search(text, position)) is not None:
        out.append(text[position : opening.start()])
        position = opening.end()
        if opening.group() == "$${":
            out.append("${")
            continue
        end = text.find("}", position)
        if end < 0:
            flaws.append("A `${` has no closing `}`; write `$${` for a literal `${`.")
            break
        inside, position = text[position:end], end + 1
        if inside.startswith("file:"):
            references.append("${" + inside + "}")
            path = inside.removeprefix("file:")
            content, flaw = _content(path, read_file)
            out.append(content)
            sources.append(f"file {path}")
            flaws.extend(flaw)
            continue
        parts = _VARIABLE.fullmatch(inside)
        if parts is None or "${" in (parts[2] or ""):
            flaws.append(
                "A reference is written ${NAME}, ${NAME:-default} or ${file:/path}, without another one inside;"
                " write `$${` for a literal `${`."
            )
            continue
        name, default = parts[1], parts[2]
        references.append("${" + name + "}")
        value = environ.get(name)
        if value or (value is not None and default is None):
            out.append(value)
            sources.append(f"${name}")
        elif default is not None:
            out.append(default)
            defaulted.append(name)
        else:
            unset.append(name)
    out.append(text[position:])
    return Expansion("".join(out), *map(tuple, (sources, references, defaulted, unset, flaws)))


def _content(path: str, read_file: FileReader) -> tuple[str, list[str]]:
    """A secret file's text, and what is wrong with it; the text itself never stands in a sentence."""
    if not PurePath(path).is_absolute():
        return "", [f"The path in ${{file:{path}}} must be absolute."]
    try:
        data = read_file(path)
    except OSError as error:
        return "", [f"The file {path} cannot be read: {error.strerror or type(error).__name__}."]
    if len(data) > MAX_SECRET_FILE_BYTES:
        return "", [f"The file {path} is larger than {MAX_SECRET_FILE_BYTES // 1024} KiB."]
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return "", [f"The file {path} is not UTF-8 text."]
    return text.removesuffix("\r\n") if text.endswith("\r\n") else text.removesuffix("\n"), []
