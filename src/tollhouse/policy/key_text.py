"""The text of a key: `th-`, 32 random bytes, and a checksum.

The checksum tells a key that was cut or mistyped from one that is not known, without asking anything; it protects nothing, for
anybody can compute it.  Letters and digits only, so that a double click selects the whole key: 43 base-62 digits hold 256 bits,
6 more hold the CRC-32 of what stands before them.  Keys that stand in a configuration may have any other form.
"""

import re
import zlib
from typing import Final

PREFIX: Final = "th-"
RANDOM_BYTES: Final = 32
KEY_CHARACTERS: Final = 52

_DIGITS: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_BODY_DIGITS: Final = 43
_CHECK_DIGITS: Final = 6
_ISSUED: Final = re.compile(rb"th-[0-9A-Za-z]{49}")
_ALMOST: Final = re.compile(rb"th-[0-9A-Za-z]{47,52}")
"""What is a character or so away from an issued key.  Keys that `config init` writes are shorter."""


def key_text(random_bytes: bytes) -> str:
    """The key that these 32 bytes make.  Raises `ValueError` for any other number of bytes."""
    if len(random_bytes) != RANDOM_BYTES:
        raise ValueError(f"a key is made of {RANDOM_BYTES} random bytes, not {len(random_bytes)}")
    body = PREFIX + _base62(int.from_bytes(random_bytes), _BODY_DIGITS)
    return body + _check(body.encode())


def is_damaged(credential: bytes) -> bool:
    """Whether it looks like an issued key and cannot be one: a character is missing, added or changed."""
    if _ALMOST.fullmatch(credential) is None:
        return False
    return (
        _ISSUED.fullmatch(credential) is None
        or credential[-_CHECK_DIGITS:] != _check(credential[:-_CHECK_DIGITS]).encode()
    )


def is_whole(credential: bytes) -> bool:
    """Whether it has the form of an issued key, checksum included."""
    return _ISSUED.fullmatch(credential) is not None and not is_damaged(credential)


def _check(body: bytes) -> str:
    return _base62(zlib.crc32(body), _CHECK_DIGITS)


def _base62(number: int, digits: int) -> str:
    text = ""
    for _ in range(digits):
        number, digit = divmod(number, 62)
        text = _DIGITS[digit] + text
    return text
