"""Signatures: the only code that knows PyJWT and cryptography.  Import it when there is a token; it takes a tenth of a second.

A key that checks has exactly one algorithm, which its kind decides and no token can change.  So `none`, and an RSA key taken
for an HMAC secret, are not refused by a list that somebody might get wrong: there is no way to say them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, HMACAlgorithm, OKPAlgorithm, RSAAlgorithm
from jwt.exceptions import InvalidKeyError

MIN_RSA_BITS: Final = 2048
"""RFC 7518, section 3.3."""
SECRET_BYTES: Final = 32

_HS256: Final = HMACAlgorithm(HMACAlgorithm.SHA256)
_EDDSA: Final = OKPAlgorithm()
_RS256: Final = RSAAlgorithm(RSAAlgorithm.SHA256)
_ES256: Final = ECAlgorithm(ECAlgorithm.SHA256)


class UnusableKey(Exception):
    """A key that no signature is checked with; the sentence says why."""


@dataclass(frozen=True, slots=True)
class CheckingKey:
    """A key, ready to check signatures."""

    algorithm: Literal["HS256", "EdDSA", "RS256", "ES256"]
    _check: Callable[[bytes, bytes], bool]

    def has_signed(self, signed: bytes, signature: bytes) -> bool:
        """Whether this signature is this key's, of these bytes."""
        try:
            return self._check(signed, signature)
        except (InvalidSignature, ValueError, TypeError):
            return False  # the libraries' ways to say that it cannot even be a signature


def of_secret(secret: bytes) -> CheckingKey:
    """An HMAC secret's."""
    return CheckingKey("HS256", lambda signed, signature: _HS256.verify(signed, secret, signature))


def of_public_key(public_key: bytes) -> CheckingKey:
    """That of the 32 bytes of an Ed25519 public key.  Raises `UnusableKey`."""
    try:
        key = ed25519.Ed25519PublicKey.from_public_bytes(public_key)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise UnusableKey("It is no Ed25519 key.") from error
    return CheckingKey("EdDSA", lambda signed, signature: _EDDSA.verify(signed, key, signature))


def of_jwk(jwk: Mapping[str, Any]) -> CheckingKey:
    """That of a public key of an issuer's (RFC 7517).  Its kind decides the algorithm.  Raises `UnusableKey`."""
    key = _of_kind(jwk)
    if jwk.get("alg", key.algorithm) != key.algorithm:
        raise UnusableKey("It is for another algorithm than RS256, ES256 and EdDSA.")
    return key


def sign_with_secret(secret: bytes, signed: bytes) -> bytes:
    """The HS256 signature of these bytes."""
    return _HS256.sign(signed, secret)


def sign_with_private_key(private_key: bytes, signed: bytes) -> bytes:
    """The EdDSA signature of these bytes, by the 32 bytes of an Ed25519 private key."""
    return _EDDSA.sign(signed, ed25519.Ed25519PrivateKey.from_private_bytes(private_key))


def public_key_of(private_key: bytes) -> bytes:
    """The public half of an Ed25519 private key."""
    key = ed25519.Ed25519PrivateKey.from_private_bytes(private_key)
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def _of_kind(jwk: Mapping[str, Any]) -> CheckingKey:
    try:
        match jwk.get("kty"), jwk.get("crv"):
            case "RSA", _:
                return _of_rsa(RSAAlgorithm.from_jwk(dict(jwk)))
            case "EC", "P-256":
                return _of_ec(ECAlgorithm.from_jwk(dict(jwk)))
            case "OKP", "Ed25519":
                return _of_okp(OKPAlgorithm.from_jwk(dict(jwk)))
    except (InvalidKeyError, ValueError, TypeError, KeyError, UnsupportedAlgorithm) as error:
        raise UnusableKey(f"The key cannot be read ({type(error).__name__}).") from error
    raise UnusableKey("Its kind is none of RSA, EC with P-256 and OKP with Ed25519.")


def _of_rsa(key: object) -> CheckingKey:
    if not isinstance(key, rsa.RSAPublicKey):
        raise UnusableKey("It is a private key.")
    if key.key_size < MIN_RSA_BITS:
        raise UnusableKey(f"It has {key.key_size} bits, fewer than {MIN_RSA_BITS}.")
    return CheckingKey("RS256", lambda signed, signature: _RS256.verify(signed, key, signature))


def _of_ec(key: object) -> CheckingKey:
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise UnusableKey("It is a private key.")
    return CheckingKey("ES256", lambda signed, signature: _ES256.verify(signed, key, signature))


def _of_okp(key: object) -> CheckingKey:
    if not isinstance(key, ed25519.Ed25519PublicKey):
        raise UnusableKey("It is a private key.")
    return CheckingKey("EdDSA", lambda signed, signature: _EDDSA.verify(signed, key, signature))
