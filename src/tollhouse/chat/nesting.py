"""How deeply JSON from outside may be nested.

What is only carried (a field that nobody here knows, a conversation for a provider of the client's own dialect) is bounded by
the decoder that skips it: `msgspec` raises `RecursionError` where the interpreter says that the C stack is used up.  That is
after some 990 levels in Python 3.11, less what stands on the stack already, 1,500 in 3.12, 10,000 in 3.13, and in 3.14 what the
stack's size has room for.  Python's own functions may call each other 1,000 deep in all of them: that a document could be
decoded says nothing about whether a function that calls itself for each level gets through it.

So what is taken apart that way may be nested `MAX_LEVELS` deep, whatever the interpreter has room for.
"""

from itertools import accumulate
from typing import Final

MAX_LEVELS: Final = 200
"""Arrays and objects inside of each other.  A function may need two or three frames for each, on top of a server's hundred."""

_OPENS, _CLOSES = b"[{", b"]}"
_STEPS: Final = bytes.maketrans(_OPENS + _CLOSES, b"\x01\x01\xff\xff")
_NO_STEPS: Final = bytes(set(range(256)) - set(_OPENS + _CLOSES))


def is_too_deep(document: bytes) -> bool:
    """Whether JSON text is nested more than `MAX_LEVELS` deep.  Takes time in proportion to its length, and never fails."""
    if len(document) <= 2 * MAX_LEVELS or document.count(b"{") + document.count(b"[") <= MAX_LEVELS:
        return False  # nearly all documents
    # Without what is escaped, every second piece between quotes is outside of the strings.
    outside = document.replace(rb"\\", b"").replace(rb"\"", b"").split(b'"')[::2]
    steps = b"".join(outside).translate(_STEPS, _NO_STEPS)
    return max(accumulate(memoryview(steps).cast("b")), default=0) > MAX_LEVELS
