"""Prints a configuration as it is in effect: YAML with every value, and a comment that says where it came from.

The places that were recorded while reading are all that is needed: they stand in the order of the schema, and secrets are
masked in them already.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from tollhouse.config.places import Place, Places, Segment
from tollhouse.config.section import quoted

COMMENT_COLUMN: Final = 44


@dataclass(slots=True)
class _Branch:
    """A value, or what is below a mapping or a list."""

    place: Place | None = None
    below: dict[Segment, "_Branch"] = field(default_factory=dict)


def show(places: Places) -> str:
    """The whole configuration as YAML text, ending with a line break.

    Without masked values it loads again and means the same; an older file comes out in today's form.
    """
    trunk = _Branch()
    for place in places:
        if place.shown is None:
            continue
        branch = trunk
        for segment in place.segments:
            branch = branch.below.setdefault(segment, _Branch())
        branch.place = place
    return "".join(f"{line}\n" for line in _mapping(trunk.below, ""))


def _mapping(entries: Mapping[Segment, _Branch], indent: str) -> Iterator[str]:
    for key, branch in entries.items():
        if branch.place is not None:
            yield _leaf(f"{indent}{quoted(str(key))}: ", branch.place)
        else:
            yield f"{indent}{quoted(str(key))}:"
            yield from _inside(branch.below, indent + "  ")


def _inside(entries: Mapping[Segment, _Branch], indent: str) -> Iterator[str]:
    if any(isinstance(key, str) for key in entries):
        yield from _mapping(entries, indent)
        return
    for branch in entries.values():
        if branch.place is not None:
            yield _leaf(f"{indent}- ", branch.place)
        else:
            for number, line in enumerate(_inside(branch.below, indent + "  ")):
                yield f"{indent}- {line.removeprefix(indent + '  ')}" if number == 0 else line


def _leaf(start: str, place: Place) -> str:
    return f"{f'{start}{place.shown}':<{COMMENT_COLUMN}} # {place.origin}"
