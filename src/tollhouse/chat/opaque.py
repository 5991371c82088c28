"""Opaque values on their way through a dialect that is not their home.

A provider signs or encrypts what its model thought, and wants it back unchanged in the next turn; to any other provider it is
noise, or a reason to refuse the call.  So a value travels with the name of its home.  In the dialect of its home it is the
bare value, which that provider's own clients know.  Everywhere else it is sealed: the same text with its home in front, which
clients carry along as they carry any signature.
"""

import re
from typing import Final

from tollhouse.chat.model import Opaque

SEAL: Final = "tollhouse-sealed."
"""How a sealed value begins; no provider's own does."""
MARK: Final = b'"' + SEAL.encode()
"""What is found in every JSON body that holds a sealed value at the beginning of a string."""

_SEALED: Final = re.compile(r"tollhouse-sealed\.([a-z0-9-]{1,40})\.(.*)", re.DOTALL)


def seal(value: Opaque, native: str) -> str:
    """The text for a client whose dialect is at home with `native` (a provider's type)."""
    return value.value if value.home == native else f"{SEAL}{value.home}.{value.value}"


def unseal(text: str, native: str) -> Opaque:
    """The value behind a text that `seal` made, or that came from a provider of type `native` itself."""
    sealed = _SEALED.fullmatch(text)
    return Opaque(text, native) if sealed is None else Opaque(sealed[2], sealed[1])
