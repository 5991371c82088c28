"""Thought signatures: opaque values in a field that holds bytes, so they are base64 on the wire.

Google's own are that already.  A value of another home is sealed as everywhere (`tollhouse.chat.opaque`) and then encoded,
because the SDKs decode the field before they send it back, in base64's other alphabet.
"""

import binascii
from base64 import b64decode, urlsafe_b64encode
from typing import Final

from tollhouse.chat import opaque
from tollhouse.chat.model import Opaque, RedactedThinking
from tollhouse.chat.opaque import SEAL, as_signature, seal, unseal
from tollhouse.dialects.gemini.wire import HOME

SKIP: Final = "skip_thought_signature_validator"
"""What Google's documentation gives for a function call that Gemini did not make
(ai.google.dev/gemini-api/docs/thought-signatures, "FAQ", November 2026)."""

_MARK: Final = urlsafe_b64encode(SEAL.encode())[: len(SEAL) // 3 * 4]
"""How a sealed value begins in base64; the last characters of the seal depend on what follows it."""
_QUOTED_MARK: Final = b'"' + _MARK

_NO_SIGNATURE: Final = frozenset({"", SKIP})


def holds_sealed(body: bytes) -> bool:
    """Whether a JSON body holds a sealed value: an id that has one, or a signature, which is in base64."""
    return opaque.holds_sealed(body) or body.find(_QUOTED_MARK) >= 0


def read_signature(text: str | None, home: str = HOME) -> Opaque | None:
    """The value behind a `thoughtSignature`; `home` made it unless it is sealed.  The documented placeholder is none."""
    if text is None or text in _NO_SIGNATURE:
        return None
    if text.encode().startswith(_MARK):
        try:
            # Both alphabets, with or without padding.
            raw = b64decode(text.replace("-", "+").replace("_", "/") + "=" * (-len(text) % 4))
            return unseal(raw.decode(), home)
        except (binascii.Error, UnicodeDecodeError):
            pass
    return Opaque(text, home)


def write_signature(value: Opaque) -> str:
    """A `thoughtSignature` for a client."""
    return value.value if value.home == HOME else _encoded(seal(value, HOME))


def write_redacted(part: RedactedThinking) -> str:
    """Encrypted reasoning as the signature of a thought without words; sealed in any case, as Google makes none."""
    return _encoded(seal(as_signature(part), ""))


def _encoded(sealed: str) -> str:
    return urlsafe_b64encode(sealed.encode()).decode()
