"""Who calls: from a credential to a principal.

Credentials are looked up by their full SHA-256 digest and compared in constant time; plaintext is never kept.  Random keys
of 32 bytes need no slow hash.  Two ways to fail stay apart (no credential, unknown credential) so that a person knows what
to do, and neither falls through to an identity.
"""

import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass

from tollhouse.errors import Unauthenticated


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is behind a call: the names that stand in the ledger, never the credential."""

    key: str
    tenant: str = ""
    project: str = ""


ANONYMOUS = Principal(key="anonymous")


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A key as it is kept: its name and the SHA-256 digest of its plaintext."""

    digest: bytes
    principal: Principal


def digest(credential: bytes) -> bytes:
    """The form in which a credential is stored and looked up: 32 bytes."""
    return hashlib.sha256(credential).digest()


class KeyRing:
    """The keys that may call.  Immutable; a reload makes a new one."""

    __slots__ = ("_is_open", "_keys")

    def __init__(self, keys: Iterable[StoredKey], *, is_open: bool = False) -> None:
        self._keys = {key.digest: key for key in keys}
        self._is_open = is_open

    def identify(self, credential: bytes | None) -> Principal:
        """The principal of a credential; raises `Unauthenticated`.  An open ring lets anyone in as `ANONYMOUS`."""
        if credential:
            presented = digest(credential)
            key = self._keys.get(presented)
            if key is not None and hmac.compare_digest(key.digest, presented):
                return key.principal
        if self._is_open:
            return ANONYMOUS
        if not credential:
            raise Unauthenticated(
                "This call carries no key.",
                hint="Send your Tollhouse key as `Authorization: Bearer <key>`, `x-api-key` or `x-goog-api-key`.",
            )
        raise Unauthenticated(
            "This key is not known here.",
            hint="Use a key that this gateway issued, not a provider's; whoever runs it can tell you yours.",
        )
