"""The keys of an OIDC issuer, as it publishes them: the discovery document and the JSON Web Key Set (RFC 7517).

Only the issuer that the configuration names is asked, and what it answers is bounded; no token has a say in where to look.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from tollhouse.config.values import is_loopback

MAX_ANSWER_BYTES: Final = 512 * 1024
MAX_KEYS: Final = 200
WELL_KNOWN: Final = "/.well-known/openid-configuration"
"""OpenID Connect Discovery 1.0, section 4.  It is appended to the issuer, whose final slash is taken away first."""

Jwk = Mapping[str, Any]
"""A key as it was published; `signatures.of_jwk` makes something of it."""


class Unusable(Exception):
    """What an issuer published cannot be used; the sentence says why."""


class _Discovery(msgspec.Struct, frozen=True):
    issuer: str
    jwks_uri: str


class _Set(msgspec.Struct, frozen=True):
    keys: list[dict[str, Any]]


class KeySet(msgspec.Struct, frozen=True):
    """The keys of an issuer that sign."""

    by_id: dict[str, Jwk]
    nameless: tuple[Jwk, ...] = ()
    """Those without a `kid`."""

    def find(self, kid: str | None) -> Jwk | None:
        """The key that a token names; for one that names none, the only key that there is."""
        if kid is not None:
            return self.by_id.get(kid)
        alone: Sequence[Jwk] = (*self.by_id.values(), *self.nameless)
        return alone[0] if len(alone) == 1 else None


def read_discovery(data: bytes, issuer: str) -> str:
    """The address of an issuer's keys.  Raises `Unusable`, also if the document is of another issuer."""
    try:
        found = msgspec.json.decode(data, type=_Discovery)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Unusable("What stands at its well-known address is no discovery document.") from error
    if found.issuer != issuer:
        raise Unusable(f"Its discovery document is of the issuer {found.issuer[:200]!r}.")
    check_place(found.jwks_uri)
    return found.jwks_uri


def check_place(url: str) -> None:
    """Raises `Unusable` for an address of keys that others could answer in the issuer's place."""
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(parts.hostname or "")):
        raise Unusable("The address of its keys does not begin with https://.")


def read_keys(data: bytes) -> KeySet:
    """The keys of a set that can sign.  Raises `Unusable` if it is none, or has none."""
    try:
        found = msgspec.json.decode(data, type=_Set)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Unusable("What stands at the address of its keys is no key set.") from error
    if len(found.keys) > MAX_KEYS:
        raise Unusable(f"It has {len(found.keys)} keys, and more than {MAX_KEYS} are not looked at.")
    signing = [key for key in found.keys if key.get("use", "sig") == "sig" and key.get("kty") in {"RSA", "EC", "OKP"}]
    if not signing:
        raise Unusable("It has no key of a kind that signs: RSA, EC or OKP.")
    return KeySet(
        {kid: key for key in signing if isinstance(kid := key.get("kid"), str)},
        tuple(key for key in signing if not isinstance(key.get("kid"), str)),
    )
