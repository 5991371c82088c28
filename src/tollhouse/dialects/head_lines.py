"""Header fields of an answer, as they are written.

An answer's head says a dozen things, most of which are the same in each or are numbers.  To make a pair of bytes of each, and
in the end a line of each pair, costs a call more than reading its request does.  So whoever makes such fields may write
their lines at once; whoever only passes them on sees a sequence of fields as always.
"""

from collections.abc import Collection, Iterable, Iterator
from typing import Final, TypeAlias

import msgspec

Field: TypeAlias = tuple[bytes, bytes]
Fields: TypeAlias = Collection[Field]
"""Written or not."""

_LINE_FEED, _CARRIAGE_RETURN, _NUL = b"\n\r\0"


def write_lines(fields: Iterable[Field]) -> bytes:
    """`name: value` and a line's end for each.  Raises `ValueError` where one has a line break, or what peers take for one."""
    fields = [*fields]
    lines = [*map(b": ".join, fields), b""]
    # One look at all in place of one at each.
    said = b"".join(lines)
    if _LINE_FEED in said or _CARRIAGE_RETURN in said or _NUL in said:
        raise ValueError("a header contains a line break")
    return b"\r\n".join(lines)


class HeadLines(msgspec.Struct, frozen=True):
    """Fields that are written already.  None of them says how the answer is framed: that is the server's to say."""

    written: bytes
    """Made of what `write_lines` gave, and of lines whose values are numbers; nobody looks at it again."""

    def __len__(self) -> int:
        return self.written.count(b"\n")

    def __iter__(self) -> Iterator[Field]:
        for line in self.written.split(b"\r\n")[:-1]:
            name, _, value = line.partition(b": ")
            yield name, value

    def __contains__(self, field: object) -> bool:
        return field in [*self]


NO_LINES: Final = HeadLines(b"")
