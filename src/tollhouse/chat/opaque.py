"""Opaque values on their way through a dialect that is not their home.

A provider signs or encrypts what its model thought, and wants it back unchanged in the next turn; to any other provider it is
noise, or a reason to refuse the call.  So a value travels with the name of its home.  In the dialect of its home it is the
bare value, which that provider's own clients know.  Everywhere else it is sealed: the same text with its home in front, which
clients carry along as they carry any signature.
"""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable
from typing import Final

import msgspec

from tollhouse.chat.model import Opaque, Part, RedactedThinking, Text, Thinking, ToolCall

SEAL: Final = "tollhouse-sealed."
"""How a sealed value begins; no provider's own does."""
MARK: Final = b'"' + SEAL.removesuffix(".").encode()
"""What is found in every JSON body that holds a sealed value, or an id with one in it; see `Dialect.holds_sealed`."""

GATEWAY: Final = "tollhouse"
"""The home of what comes from another gateway."""

_SEALED: Final = re.compile(r"tollhouse-sealed\.([a-z0-9-]{1,40})\.(.*)", re.DOTALL)


def holds_sealed(body: bytes) -> bool:
    """Whether a JSON body holds a sealed value, as it is or in an id."""
    # `in` makes an exception (bytes are no integer) each time before it looks.
    return body.find(MARK) >= 0


def seal(value: Opaque, native: str) -> str:
    """The text for a client whose dialect is at home with `native` (a provider's type)."""
    return value.value if value.home == native else f"{SEAL}{value.home}.{value.value}"


def unseal(text: str, native: str) -> Opaque:
    """The value behind a text that `seal` made, or that came from a provider of type `native` itself.

    What another gateway sealed stays as it is: it belongs to that gateway, whatever provider stands behind it.
    """
    sealed = None if native == GATEWAY else _SEALED.fullmatch(text)
    return Opaque(text, native) if sealed is None else Opaque(sealed[2], sealed[1])


def sent(value: Opaque, home: str) -> str | None:
    """The text for a provider of type `home`; `None` for a value that it did not make.

    Another gateway gets every value, sealed where it is not its own: it knows the homes behind it, as this one does.
    """
    if value.home == home:
        return value.value
    return seal(value, home) if home == GATEWAY else None


# A signature over a call or over text has no place of its own in most dialects: it rides on something that clients send back.

_CARRIER: Final = "of-the-part-before:"
_HIDDEN: Final = "redacted:"
_NOTHING: Final = Opaque("", "")
_SIGNED_ID: Final = SEAL.removesuffix(".") + "-"


def carrier(signature: Opaque) -> RedactedThinking:
    """Encrypted reasoning that stands for the signature of the part before it, in dialects that have the one only."""
    return RedactedThinking(Opaque(_CARRIER + signature.value, signature.home))


def carried(part: Part) -> Opaque | None:
    """The signature that a part carries for the one before it; `None` for a part that is itself."""
    if isinstance(part, RedactedThinking) and part.data.value.startswith(_CARRIER):
        return Opaque(part.data.value.removeprefix(_CARRIER), part.data.home)
    return None


def rejoin(parts: Iterable[Part]) -> tuple[Part, ...]:
    """The parts as they were before their signatures rode in parts of their own; a signature without its part is nothing."""
    joined: list[Part] = []
    for part in parts:
        signature = carried(part)
        if signature is None:
            joined.append(part)
            continue
        before = joined[-1] if joined else None
        if isinstance(before, Text | ToolCall | Thinking) and before.signature is None:
            joined[-1] = msgspec.structs.replace(before, signature=signature)
    return tuple(joined)


def as_signature(part: RedactedThinking) -> Opaque:
    """Encrypted reasoning as the signature of a thought without words, in dialects that have signatures only.

    `thought` tells it from one over reasoning that is not shown.
    """
    return Opaque(_HIDDEN + part.data.value, part.data.home)


def thought(text: str, signature: Opaque | None) -> Thinking | RedactedThinking:
    """What a thought was before `as_signature`."""
    if not text and signature is not None and signature.value.startswith(_HIDDEN):
        return RedactedThinking(Opaque(signature.value.removeprefix(_HIDDEN), signature.home))
    return Thinking(text, signature)


def signed_id(identity: str, signature: Opaque | None) -> str:
    """The id of a call with the call's signature in it: what every client of a dialect without opaque parts sends back.

    Letters, digits, hyphens and underscores, as ids are.  Without a signature it is the id itself, unless that is one which
    another gateway made: then `read_id` must give it back closed.
    """
    if signature is None:
        if not identity.startswith(_SIGNED_ID):
            return identity
        signature = _NOTHING
    packed = f"{signature.home}\0{identity}\0{signature.value}".encode()
    return _SIGNED_ID + urlsafe_b64encode(packed).decode().rstrip("=")


def read_id(text: str) -> tuple[str, Opaque | None]:
    """The id and the signature behind an id that `signed_id` made; any other is itself."""
    if not text.startswith(_SIGNED_ID):
        return text, None
    encoded = text.removeprefix(_SIGNED_ID)
    try:
        home, identity, value = urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).decode().split("\0", 2)
    except ValueError:  # not base64, not UTF-8, or not three
        return text, None
    signature = Opaque(value, home)
    if signature == _NOTHING:
        return (identity, None) if identity.startswith(_SIGNED_ID) else (text, None)
    return (identity, signature) if home else (text, None)
