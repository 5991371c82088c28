"""How a request shows that it may be made: functions from the wall clock to header fields.

The clock is an argument because some credentials live for minutes and are minted again (`tollhouse.providers.glm`).
"""

import re
from collections.abc import Callable
from typing import Final, TypeAlias

Authenticate: TypeAlias = Callable[[float], tuple[tuple[bytes, bytes], ...]]
"""From wall-clock seconds since the epoch to header fields with lower-case names."""

_KEY: Final = re.compile(r"[\x21-\x7e]+")


def checked(key: str) -> bytes:
    """A key's bytes.  Raises `ValueError`, never repeating the key, if it could not stand in a header."""
    if not _KEY.fullmatch(key):
        raise ValueError("the key has blanks, line breaks or characters outside ASCII; was it copied whole and alone?")
    return key.encode("ascii")


def bearer(key: str) -> Authenticate:
    """`Authorization: Bearer <key>` (RFC 6750)."""
    return _always((b"authorization", b"Bearer " + checked(key)))


def x_api_key(key: str) -> Authenticate:
    """`x-api-key: <key>`, as Anthropic wants it."""
    return _always((b"x-api-key", checked(key)))


def x_goog_api_key(key: str) -> Authenticate:
    """`x-goog-api-key: <key>`, as Google wants it.  Never in the address, where logs would have it."""
    return _always((b"x-goog-api-key", checked(key)))


def anonymous() -> Authenticate:
    """No credential at all."""
    return _always()


def _always(*fields: tuple[bytes, bytes]) -> Authenticate:
    def authenticate(now: float) -> tuple[tuple[bytes, bytes], ...]:
        del now
        return fields

    return authenticate
