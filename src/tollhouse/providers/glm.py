"""GLM by ZhipuAI (z.ai; in China bigmodel.cn)."""

import hmac
import re
import threading
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from typing import Final

import msgspec

from tollhouse.providers.credentials import Authenticate, bearer, checked

TOKEN_SECONDS: Final = 30 * 60
RENEW_SECONDS: Final = 5 * 60
"""A token is minted anew when it has less than this left, so that a slow connection or a clock that is off does no harm."""

_ID_AND_SECRET: Final = re.compile(r"[^.]+\.[^.]+")


class _Minted:
    """An `id.secret` key, turned into short-lived JWTs.  The latest one is kept until it is about to expire."""

    __slots__ = ("_fields", "_id", "_lock", "_renew_at", "_secret", "_valid_from")

    def __init__(self, key: str) -> None:
        self._id, _, self._secret = key.partition(".")
        self._fields: tuple[tuple[bytes, bytes], ...] = ()
        self._valid_from = 0.0
        self._renew_at = 0.0
        self._lock = threading.Lock()

    def __call__(self, now: float) -> tuple[tuple[bytes, bytes], ...]:
        with self._lock:
            # A clock that was set back must not leave us with a token from the future.
            if not self._valid_from <= now < self._renew_at:
                self._fields = ((b"authorization", b"Bearer " + self._mint(now)),)
                self._valid_from, self._renew_at = now, now + TOKEN_SECONDS - RENEW_SECONDS
            return self._fields

    def _mint(self, now: float) -> bytes:
        milliseconds = int(now * 1000)
        # `exp` and `timestamp` are milliseconds, against RFC 7519, and `sign_type` must be there
        # (docs.bigmodel.cn, "HTTP API calls", JWT authentication; read October 2026).
        claims = {"api_key": self._id, "exp": milliseconds + TOKEN_SECONDS * 1000, "timestamp": milliseconds}
        signed = _part({"alg": "HS256", "sign_type": "SIGN"}) + b"." + _part(claims)
        # PyJWT would warn at each token: ZhipuAI's secrets have 16 characters, which RFC 7518 finds too short.
        digest = hmac.digest(self._secret.encode("ascii"), signed, "sha256")
        return signed + b"." + urlsafe_b64encode(digest).rstrip(b"=")


def _part(claims: Mapping[str, object]) -> bytes:
    return urlsafe_b64encode(msgspec.json.encode(claims)).rstrip(b"=")


def authenticate(key: str) -> Authenticate:
    """A key of the form `id.secret` is minted into JWTs; any other (a JWT made elsewhere included) is a bearer key."""
    checked(key)
    return _Minted(key) if _ID_AND_SECRET.fullmatch(key) else bearer(key)
