"""A small OIDC issuer on 127.0.0.1: it publishes the keys that it has now, and counts who asks.

async with Issuer() as issuer:
    issuer.keys = [jwk(RSA_KEY, "r1")]
    settings = issuer.settings()
"""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from support.peer import OnPeer, Peer, Visit
from support.tokens import NOON, signed
from tollhouse.config.schema import OidcSettings

WELL_KNOWN = "/.well-known/openid-configuration"


class Issuer(OnPeer):
    """The server.  What it answers may be changed at any time."""

    def __init__(self) -> None:
        self._peer = Peer(self._play)
        self.keys: list[dict[str, Any]] = []
        self.status = 200
        self.discovery: Callable[[], Any] = lambda: {"issuer": self.url, "jwks_uri": f"{self.url}/keys"}
        self.body: bytes | None = None
        """In place of the key set."""

    @property
    def url(self) -> str:
        """Its name and address."""
        return self._peer.url

    @property
    def asked(self) -> list[str]:
        """The paths of all requests so far."""
        return [request.target for request in self._peer.requests]

    def settings(self, **changes: Any) -> OidcSettings:
        """How a configuration names it."""
        return replace(OidcSettings(name="corp", issuer=self.url, audience=("tollhouse",)), **changes)

    def token(self, key: Any, kid: str | None, algorithm: str, **changes: Any) -> str:
        """A token of it; `None` takes a claim away."""
        claims = {"iss": self.url, "sub": "ann", "aud": "tollhouse", "iat": NOON, "exp": NOON + 3600, **changes}
        return signed({name: value for name, value in claims.items() if value is not None}, key, algorithm, kid)

    async def _play(self, visit: Visit) -> None:
        while True:
            request = await visit.request()
            body = json.dumps(self.discovery() if request.target == WELL_KNOWN else {"keys": self.keys}).encode()
            if request.target != WELL_KNOWN and self.body is not None:
                body = self.body
            await visit.answer(body, status=self.status)
