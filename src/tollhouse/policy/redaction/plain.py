"""Text as the rules see it: one byte a character, without what only looks different.

People and programs write the same card number with full-width digits, with no-break spaces, or with zero-width characters
inside.  Here such characters become what they stand for, the invisible ones go, and every other character outside ASCII
becomes one of two marks (a letter, something else).  What is left has one byte a character, so that offsets need no
conversion and every rule is a search in bytes.

Each character is treated for itself, whatever stands beside it; so a text cut into pieces gives the same bytes.
"""

import re
import unicodedata
from functools import cache
from typing import Final

LETTER: Final = 0x80
"""Stands for any letter or digit outside ASCII that has no ASCII form."""
OTHER: Final = 0x3F
"""Stands for anything else outside ASCII: the question mark that `encode("ascii", "replace")` writes."""

# Soft hyphen, joiners, marks of direction, word joiners, variation selectors, byte-order mark, tags.
_INVISIBLE_SET: Final = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\U000e0000-\U000e0fff"
)
INVISIBLE: Final = re.compile(f"[{_INVISIBLE_SET}]")
_CELLS: Final = re.compile(f"[{_INVISIBLE_SET}]*[^{_INVISIBLE_SET}]", re.DOTALL)
_ASCII: Final = bytes(range(0x80))
_BEYOND: Final = re.compile(r"[^\x00-\x7f]+")

_DASHES: Final = "\u2010\u2011\u2012\u2013\u2014\u2015\u2212\u2043\ufe58\ufe63\uff0d"
_DOTS: Final = "\u00b7\u2024\u2027\u3002\uff0e\uff61"
PAST_DIGITS: Final = 0x1FC00
"""No decimal digit stands here or later (Unicode 17); a test looks."""
_LOOKALIKES: Final = ((0x80, 0x0300), (0x2000, 0x3100), (0xFE00, 0x10000), (0x1D400, 0x1D800), (0x1F100, 0x1F130))
"""Where characters stand whose compatibility form is one of ASCII: super- and subscripts, circled, full-width, mathematical."""


@cache
def _folds() -> "_Folding":
    """Characters outside ASCII that stand for one of ASCII."""
    table = {
        code: str(digit)
        for code in range(0x80, PAST_DIGITS)
        if (digit := unicodedata.decimal(chr(code), None)) is not None
    }
    for start, stop in _LOOKALIKES:
        for code in range(start, stop):
            form = unicodedata.normalize("NFKC", chr(code))
            if code not in table and len(form) == 1 and form.isascii():
                table[code] = form
    table |= {code: " " for code in range(0x80, 0x10000) if chr(code).isspace()}
    table |= dict.fromkeys(map(ord, _DASHES), "-")
    folding = _Folding(table | dict.fromkeys(map(ord, _DOTS), "."))
    folding.looked_like = frozenset(map(chr, folding))
    return folding


class _Folding(dict[int, str]):
    """What `str.translate` asks for the form of each character; those without one stay as they are."""

    looked_like: frozenset[str] = frozenset()

    def __missing__(self, code: int) -> str:
        return _remembered(self, code, chr(code))


class _Marking(dict[int, str]):
    """What `str.translate` asks for the mark of each character."""

    def __missing__(self, code: int) -> str:
        return _remembered(self, code, chr(LETTER if chr(code).isalnum() else OTHER))


def _remembered(table: dict[int, str], code: int, form: str) -> str:
    if code < 0x10000:  # those in daily use; all others together would take a hundred megabytes
        table[code] = form
    return form


@cache
def _marks() -> _Marking:
    return _Marking()


def prepare() -> None:
    """Makes the tables, which takes some milliseconds, before the first text needs them."""
    _folds()


def folded(visible: str) -> str:
    """The text with lookalikes written in ASCII; as long as it was."""
    if visible.isascii():
        return visible
    folds = _folds()
    if folds.looked_like.isdisjoint(_beyond(visible)):
        return visible
    return _BEYOND.sub(lambda run: run[0].translate(folds), visible)


def marked(text: str) -> bytes:
    """A folded text as one byte a character."""
    if text.isascii() or not any(map(str.isalnum, set(_beyond(text)))):
        return text.encode("ascii", "replace")
    marks = _marks()
    return _BEYOND.sub(lambda run: run[0].translate(marks), text).encode("latin-1")


def _beyond(text: str) -> str:
    """The characters outside ASCII.  Six times faster than a search for them, and most text has few."""
    return text.encode("utf-8", "surrogatepass").translate(None, _ASCII).decode("utf-8", "surrogatepass")


def cells(text: str) -> tuple[str | list[str], str]:
    """A text cut where the rules see a character: invisible ones go with the visible one after them.

    The second part is what has no visible one after it.  Without any invisible ones, the text itself is the sequence.
    """
    if not _has_invisible(text):
        return text, ""
    found = _CELLS.findall(text)
    return found, text[sum(map(len, found)) :]


def visible(text: str) -> str:
    """A text without its invisible characters."""
    return INVISIBLE.sub("", text) if _has_invisible(text) else text


def _has_invisible(text: str) -> bool:
    return not text.isascii() and INVISIBLE.search(_beyond(text)) is not None
