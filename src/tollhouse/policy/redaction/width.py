"""How much text an RE2 expression can match: so that one that would need all of a stream is refused.

Only what decides about width is read (groups, repetitions, classes, escapes); whether the expression is right is RE2's to
say, before this.  The syntax is that of https://github.com/google/re2/wiki/Syntax.
"""

import re
from typing import Final

_GROUP: Final = re.compile(r"\((?:\?P?<\w+>|\?[imsU-]*:)?")
_FLAGS: Final = re.compile(r"\(\?[imsU-]+\)")
_REPEAT: Final = re.compile(r"(?:([*+?])|\{(\d+)(?:(,)(\d*))?\})\??")
_ESCAPE: Final = re.compile(r"\\(?:x\{[0-9A-Fa-f]+\}|x[0-9A-Fa-f]{2}|[pP]\{\^?\w+\}|[pP]\w|[0-7]{1,3}|.)", re.DOTALL)
_CLASS: Final = re.compile(r"\[\^?\]?(?:\[:\^?\w+:\]|\\.|[^\]\\])*\]", re.DOTALL)


class Unbounded(ValueError):
    """A repetition without an upper end.  The message is a whole sentence."""


def widths(pattern: str) -> tuple[int, int]:
    """The fewest and the most characters that a match has.  `pattern` compiles; raises `Unbounded`."""
    reader = _Reader(pattern)
    return reader.alternatives()


class _Reader:
    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._at = 0

    def alternatives(self) -> tuple[int, int]:
        """Up to the end, or to the parenthesis that closes the group."""
        least, most = self._sequence()
        while self._peek() == "|":
            self._at += 1
            low, high = self._sequence()
            least, most = min(least, low), max(most, high)
        return least, most

    def _sequence(self) -> tuple[int, int]:
        least = most = 0
        while self._peek() not in {"", "|", ")"}:
            low, high = self._atom()
            for low_times, high_times in self._repeats():
                low, high = low * low_times, high * high_times
            least, most = least + low, most + high
        return least, most

    def _repeats(self) -> "list[tuple[int, int]]":
        found = []
        while (repeat := _REPEAT.match(self._pattern, self._at)) is not None:
            sign, first, comma, last = repeat.groups()
            if sign in {"*", "+"} or (comma and not last):
                raise Unbounded(
                    f"`{repeat[0]}` at character {self._at + 1} has no upper end; write how often at most, as in {{0,64}}."
                )
            self._at = repeat.end()
            found.append((0, 1) if sign else (int(first), int(last or first)))
        return found

    def _atom(self) -> tuple[int, int]:
        pattern, at = self._pattern, self._at
        match pattern[at]:
            case "(":
                if (flags := _FLAGS.match(pattern, at)) is not None:
                    self._at = flags.end()
                    return 0, 0
                group = _GROUP.match(pattern, at)
                self._at = at + 1 if group is None else group.end()
                inside = self.alternatives()
                self._at += 1
                return inside
            case "[":
                found = _CLASS.match(pattern, at)
                self._at = len(pattern) if found is None else found.end()
                return 1, 1
            case "\\":
                return self._escape()
            case "^" | "$":
                self._at += 1
                return 0, 0
            case _:
                self._at += 1
                return 1, 1

    def _escape(self) -> tuple[int, int]:
        pattern, at = self._pattern, self._at
        if pattern.startswith("\\Q", at):
            end = pattern.find("\\E", at)
            text = pattern[at + 2 :] if end < 0 else pattern[at + 2 : end]
            self._at = len(pattern) if end < 0 else end + 2
            return len(text), len(text)
        found = _ESCAPE.match(pattern, at)
        self._at = len(pattern) if found is None else found.end()
        return (0, 0) if pattern[at + 1 : at + 2] in set("bBAz") else (1, 1)

    def _peek(self) -> str:
        return self._pattern[self._at : self._at + 1]
