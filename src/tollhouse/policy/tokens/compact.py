"""The compact form of a signed token (RFC 7515, section 7.1): three pieces of base64url, read strictly.

Nothing is believed here.  The header says which key to check with and how; what it says of the algorithm is only compared with
what the key allows.
"""

import binascii
import re
from typing import Final, NamedTuple

import msgspec

from tollhouse.errors import TokenMalformed

MAX_TOKEN_BYTES: Final = 16_384
"""A whole head of a request may have 64 KiB; tokens of directories with many groups come close to 8."""

_PIECE: Final = re.compile(rb"[A-Za-z0-9_-]*")


class Header(msgspec.Struct, frozen=True):
    """What a token's header says, as far as it matters."""

    alg: str
    kid: str | None = None
    crit: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    b64: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class Compact(NamedTuple):
    """A token in its pieces."""

    header: Header
    payload: bytes
    signed: bytes
    """What the signature is of."""
    signature: bytes


_HEADER: Final = msgspec.json.Decoder(Header)


def read_compact(token: bytes) -> Compact:
    """The pieces of a token.  Raises `TokenMalformed`."""
    if len(token) > MAX_TOKEN_BYTES:
        raise _malformed(f"it has more than {MAX_TOKEN_BYTES} characters")
    pieces = token.split(b".")
    if len(pieces) == 5:
        raise _malformed(
            "it is encrypted (five parts), and only signed ones are understood", hint="Ask for a signed token."
        )
    if len(pieces) != 3:
        raise _malformed(f"it has {len(pieces)} parts between its dots in place of three")
    header, payload, signature = (_decoded(piece) for piece in pieces)
    try:
        read = _HEADER.decode(header)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _malformed("its header cannot be read") from error
    if read.crit is not msgspec.UNSET or read.b64 is not msgspec.UNSET:
        raise _malformed("its header asks for extensions that are not understood", hint="Ask for a plain signed token.")
    return Compact(read, payload, token[: len(pieces[0]) + 1 + len(pieces[1])], signature)


def write_piece(data: bytes) -> bytes:
    """Bytes in base64url without padding."""
    return binascii.b2a_base64(data, newline=False).translate(_TO_URL).rstrip(b"=")


_TO_URL: Final = bytes.maketrans(b"+/", b"-_")
_FROM_URL: Final = bytes.maketrans(b"-_", b"+/")


def _decoded(piece: bytes) -> bytes:
    """The bytes of a piece; only the one spelling that `write_piece` gives is taken, so that a token has one form."""
    if _PIECE.fullmatch(piece):
        try:
            data = binascii.a2b_base64(piece.translate(_FROM_URL) + b"=" * (-len(piece) % 4))
        except binascii.Error:
            pass
        else:
            if write_piece(data) == piece:
                return data
    raise _malformed("one of its parts is not base64url")


def _malformed(why: str, *, hint: str | None = None) -> TokenMalformed:
    return TokenMalformed(
        f"This token is damaged: {why}.",
        hint=hint or "Copy the whole token again: three parts with dots between them, without spaces or line breaks.",
    )
