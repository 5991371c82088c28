"""Signed tokens as somebody else's library makes them, and a roll that knows keys, subjects and revocations."""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from tollhouse.config.schema import JwtSettings, OidcSettings
from tollhouse.config.secret import Secret
from tollhouse.policy.identity import NOTHING_SHARED, KeyRing, Principal, Shared, SigningKey, StoredKey, StoredSubject
from tollhouse.policy.tokens.issuer_keys import IssuerKeys
from tollhouse.policy.tokens.secrets_file import SecretsFile
from tollhouse.policy.tokens.verifier import TokenVerifier

NOON = 1_795_262_400
"""21 November 2026, 12:00 UTC, in seconds."""
SECRET = "the-older-tools-secret-0123456789abcdef"
OTHER = "another-secret-0123456789abcdef-0123456"
DAY = 86_400

RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
ED_KEY = ed25519.Ed25519PrivateKey.generate()


@dataclass
class TokenRoll:
    """A roll of a few, which is also where it is found."""

    signing_keys: Mapping[str, SigningKey] = field(default_factory=dict)
    subjects: Mapping[str, StoredSubject] = field(default_factory=dict)
    revoked: Mapping[str, int] = field(default_factory=dict)
    shares: Shared = NOTHING_SHARED

    @property
    def roll(self) -> "TokenRoll":
        return self

    def key(self, digest: bytes) -> StoredKey | None:
        return None

    def subject(self, name: str) -> StoredSubject | None:
        return self.subjects.get(name)

    def shared(self, tenant: str, project: str) -> Shared:
        return self.shares if tenant else NOTHING_SHARED

    def signing_key(self, kid: str) -> SigningKey | None:
        return self.signing_keys.get(kid)

    def token_revoked_at(self, jti: str) -> int | None:
        return self.revoked.get(jti)


class Lab:
    """A ring of keys with a clock and a roll that a test moves."""

    def __init__(
        self,
        folder: Path,
        settings: JwtSettings | None = None,
        roll: TokenRoll | None = None,
        issuers: tuple[tuple[OidcSettings, IssuerKeys], ...] = (),
        *,
        is_open: bool = False,
        max_known: int = 10_000,
    ) -> None:
        self.now_us = NOON * 1_000_000
        self.roll = roll or TokenRoll()
        self.secrets = SecretsFile(folder / "signing-keys.json")
        self.verifier = TokenVerifier(
            settings or JwtSettings(secret=Secret(SECRET)),
            self.secrets,
            issuers,
            max_known=max_known,
            now_us=lambda: self.now_us,
        )
        self.ring = KeyRing([], is_open=is_open, rolls=self, tokens=self.verifier, now_us=lambda: self.now_us)

    def identify(self, token: str | bytes) -> Principal:
        return self.ring.identify(token.encode() if isinstance(token, str) else token)


def claims(**changes: Any) -> dict[str, Any]:
    """Good claims of a token of our own; `None` takes one away."""
    good = {"iss": "tollhouse", "sub": "ann", "iat": NOON, "exp": NOON + DAY, "jti": "t-1", **changes}
    return {name: value for name, value in good.items() if value is not None}


def signed(payload: Mapping[str, Any], key: Any = SECRET, algorithm: str = "HS256", kid: str | None = None) -> str:
    """A token as PyJWT makes it."""
    headers = None if kid is None else {"kid": kid}
    return jwt.encode(dict(payload), key, algorithm=algorithm, headers=headers)


def raw(header: Any, payload: Any, signature: bytes = b"") -> str:
    """A token whose pieces are whatever a test wants."""
    pieces = (part if isinstance(part, bytes) else json.dumps(part).encode() for part in (header, payload))
    return ".".join(base64.urlsafe_b64encode(piece).rstrip(b"=").decode() for piece in (*pieces, signature))


def jwk(key: Any, kid: str | None, **more: Any) -> dict[str, Any]:
    """The public half of a private key, as an issuer publishes it."""
    public = key.public_key()
    write = {rsa.RSAPrivateKey: RSAAlgorithm, ec.EllipticCurvePrivateKey: ECAlgorithm}
    algorithm = next((found for kind, found in write.items() if isinstance(key, kind)), OKPAlgorithm)
    found = algorithm.to_jwk(public, as_dict=True)  # type: ignore[attr-defined]  # each has it, their base has not
    return {**found, "use": "sig", **({} if kid is None else {"kid": kid}), **more}
