"""Tickets: a caller's credential, sealed into an address that the gateway gives to that caller.

Some clients go on at an address that a provider told them (Google's uploads in pieces) and send there what the address says
and nothing else: no key.  The gateway gives such an address of its own, with a ticket in its query.  It opens for that one
address and for a day, and what is in it is judged like a credential that was sent: a key that was revoked meanwhile is revoked.

Sealed by AES-GCM under a secret that all workers and all machines of one configuration have; nothing is remembered.
"""

import base64
import binascii
import hashlib
import hmac
import os
from typing import Final

LIFETIME_SECONDS: Final = 86_400
MAX_CREDENTIAL_BYTES: Final = 4_096
"""A longer one makes no ticket: the address would be too long for what stands in between."""
_NONCE_BYTES: Final = 12
_TIME_BYTES: Final = 6


class NoTicket(ValueError):
    """What was shown is no ticket for this address, or it has ended."""


def seal(credential: bytes, *, secret: bytes, address: bytes, now_seconds: float) -> str:
    """A ticket for `address`, for a query.  `now_seconds` is wall clock.  Raises `ValueError` for a credential too long."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # costly, and few callers upload

    if len(credential) > MAX_CREDENTIAL_BYTES:
        raise ValueError("the credential is too long for a ticket")
    until = (int(now_seconds) + LIFETIME_SECONDS).to_bytes(_TIME_BYTES, "big")
    nonce = os.urandom(_NONCE_BYTES)
    sealed = AESGCM(_key(secret)).encrypt(nonce, credential, until + address)
    return base64.urlsafe_b64encode(until + nonce + sealed).rstrip(b"=").decode("ascii")


def unseal(ticket: bytes, *, secret: bytes, address: bytes, now_seconds: float) -> bytes:
    """The credential.  Raises `NoTicket`."""
    from cryptography.exceptions import InvalidTag  # as above
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    if len(ticket) > 2 * MAX_CREDENTIAL_BYTES:
        raise NoTicket("it is too long")
    try:
        raw = base64.urlsafe_b64decode(ticket + b"=" * (-len(ticket) % 4))
        until, nonce, sealed = raw[:_TIME_BYTES], raw[_TIME_BYTES:][:_NONCE_BYTES], raw[_TIME_BYTES + _NONCE_BYTES :]
        credential = AESGCM(_key(secret)).decrypt(nonce, sealed, until + address)
    except (binascii.Error, ValueError, InvalidTag) as error:
        raise NoTicket("it was not made here, or not for this address") from error
    if int.from_bytes(until, "big") <= now_seconds:
        raise NoTicket("it has ended")
    return credential


def _key(secret: bytes) -> bytes:
    return hmac.digest(secret, b"tollhouse ticket", hashlib.sha256)
