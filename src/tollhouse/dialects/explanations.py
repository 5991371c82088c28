"""What a provider writes of an error, fit to be passed on.

People read it who are not its customers, and logs keep it: so it is bounded, whatever looks like a credential is masked, and of
a web page only the title is said.
"""

import re
from typing import Final

from tollhouse.dialects.masking import without_credentials

MAX_MESSAGE_CHARACTERS: Final = 2_000
MAX_NAME_CHARACTERS: Final = 100
"""Of an error's type, code and parameter."""

BROKE_OFF: Final = "The provider broke off with an error that it did not explain."
GAVE_UP: Final = "The provider gave up in the middle of its answer."
"""Of an answer that its provider broke off with a finish reason instead of an error."""

_TITLE: Final = re.compile(r"<title[^<>]{0,300}>([^<]{1,300})", re.IGNORECASE)


def fit(text: str) -> str:
    """A text within its bound, without what looks like a credential."""
    # Cut first, so that masking never runs over megabytes; the margin keeps a credential at the edge in one piece.
    masked = without_credentials(text[: 2 * MAX_MESSAGE_CHARACTERS])
    return masked if len(masked) <= MAX_MESSAGE_CHARACTERS else masked[: MAX_MESSAGE_CHARACTERS - 1] + "…"


def on_one_line(text: str) -> str:
    """The same, on one line."""
    return fit(" ".join(text[: 2 * MAX_MESSAGE_CHARACTERS].split()))


def title_of(page: str) -> str | None:
    """The title of a web page, as it stands there."""
    found = _TITLE.search(page)
    return None if found is None else found[1]


def words_of(status: int, body: bytes) -> str:
    """An error's body that is no JSON of any known shape: a page, plain words, nothing."""
    text = body[: 8 * MAX_MESSAGE_CHARACTERS].decode("utf-8", "replace").strip()
    if not text:
        return nothing_of(status)
    if text.startswith("<"):
        title = on_one_line(title_of(text) or "")
        return f"The provider answered with status {status} and a web page{f': {title}' if title else ''}."
    return on_one_line(text)


def nothing_of(status: int) -> str:
    """What is said for an error that says nothing."""
    return f"The provider answered with status {status} and no explanation."
