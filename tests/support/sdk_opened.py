"""Opaque values as a client of a foreign dialect holds them, opened: the bare value that the provider made.

Written from what `docs/translation.md` says of the form, and not with the gateway's code: a value is sealed as
`tollhouse-sealed.<home>.<value>`; a signature over a call may ride in the call's id, which then is `tollhouse-sealed-` and
base64 of home, id and value; Gemini's field holds the sealed text in base64.
"""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Final

_SEALED: Final = re.compile(r"tollhouse-sealed\.[a-z0-9-]+\.(?:of-the-part-before:|redacted:)?(.*)", re.DOTALL)
_SIGNED_ID: Final = "tollhouse-sealed-"
_IN_BASE64: Final = urlsafe_b64encode(_SIGNED_ID.encode())[:20].decode()


def opened(text: str) -> str:
    """The bare value behind a sealed one; any other is itself.  In base64's usual alphabet: Google's SDK prints the other."""
    if text[:20] == _IN_BASE64:
        text = _decoded(text)
    found = _SEALED.fullmatch(text)
    return (text if found is None else found[1]).replace("-", "+").replace("_", "/")


def opened_id(text: str) -> tuple[str, tuple[str, ...]]:
    """The id of a call, and the signature in it if there is one."""
    if not text.startswith(_SIGNED_ID):
        return text, ()
    _, identity, value = _decoded(text.removeprefix(_SIGNED_ID)).split("\0", 2)
    return identity, (opened(value),) if value else ()


def _decoded(text: str) -> str:
    return urlsafe_b64decode(text.replace("+", "-").replace("/", "_") + "=" * (-len(text) % 4)).decode()
