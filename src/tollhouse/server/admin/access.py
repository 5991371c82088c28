"""Who may do what on the admin listener, and from where a browser may speak to it.  Decisions only; no I/O.

Tokens travel in `Authorization: Bearer`, never in a cookie, so a browser adds none by itself.  What a foreign page could still
do is to reach a listener on loopback through a name of its own that resolves to 127.0.0.1 (DNS rebinding) and read what needs
no token.  `check_origin` refuses that: the host must be an address, `localhost` or a configured name, and a request that a
browser says comes from another site is refused whatever it asks for.
"""

import hashlib
import hmac
import ipaddress
from collections.abc import Collection, Iterable
from typing import Final
from urllib.parse import urlsplit

from tollhouse.config.schema import AdminTokenSettings, Role
from tollhouse.server.admin.problem import Refusal
from tollhouse.server.http.asgi import Headers

RANKS: Final[dict[Role, int]] = {"viewer": 1, "admin": 2}
"""A role may do what those of lower rank may."""
TURN_ON: Final = (
    "Give the configuration an admin token and reload it: "
    'admin: {tokens: [{name: ops, token: "${TOLLHOUSE_ADMIN_TOKEN}", role: admin}]}'
)
_CHALLENGE: Final = ("www-authenticate", 'Bearer realm="tollhouse admin"')


class Admins:
    """The credentials of the admin API.  Immutable; a reload makes a new one."""

    __slots__ = ("_tokens",)

    def __init__(self, tokens: Iterable[AdminTokenSettings]) -> None:
        self._tokens = tuple(tokens)

    @property
    def is_empty(self) -> bool:
        """Whether nobody may administer."""
        return not self._tokens

    def identify(self, credential: bytes | None) -> AdminTokenSettings:
        """Whose credential it is.  Raises `Refusal`: 403 when there are no tokens at all, 401 for none or an unknown one.

        Every token is compared, in constant time, whether an earlier one was the right one or not.
        """
        if not self._tokens:
            raise Refusal(403, "admin_off", "The admin API is off: no admin token is configured.", hint=TURN_ON)
        presented = hashlib.sha256(credential or b"").digest()
        found = [token for token in self._tokens if hmac.compare_digest(token.digest, presented)]
        if credential and found:
            return found[0]
        raise Refusal(
            401,
            "unauthenticated",
            "This admin token is not known here." if credential else "This request carries no admin token.",
            hint="Send an admin token as `Authorization: Bearer <token>`; a caller's key is none.",
            headers=[_CHALLENGE],
        )


def check_role(token: AdminTokenSettings, needed: Role) -> None:
    """Raises `Refusal` (403) when the token's role does not allow what needs `needed`."""
    if RANKS[token.role] < RANKS[needed]:
        raise Refusal(
            403,
            "permission_denied",
            f"The token {token.name!r} is a {token.role}'s; this needs the role {needed!r}.",
            hint="Use a token with that role.",
        )


def bearer(headers: Headers) -> bytes | None:
    """The credential of a request."""
    for name, value in headers:
        if name == b"authorization":
            scheme, _, credential = value.partition(b" ")
            if scheme.lower() == b"bearer" and credential.strip():
                return credential.strip()
    return None


def check_origin(headers: Headers, *, names: Collection[str], checks_host: bool) -> None:
    """Raises `Refusal` for a host that is not ours (421) and for what a browser sends for another site (403).

    `names` are the hosts that are ours beside addresses and `localhost`.  `checks_host` is off for a listener that machines of
    a network reach under names that nobody configured.
    """
    hosts = _values(headers, b"host") or [""]
    if checks_host and not all(_is_ours(host, names) for host in hosts):
        raise Refusal(
            421,
            "wrong_host",
            f"The admin listener is not reached under the name {hosts[0][:100]!r}.",
            hint="Use its IP address or localhost, or add the name to admin.hosts in the configuration.",
        )
    is_foreign = any(site not in {"none", "same-origin"} for site in _values(headers, b"sec-fetch-site"))
    if is_foreign or any(_netloc(origin) != hosts[0].lower() for origin in _values(headers, b"origin")):
        raise Refusal(
            403,
            "cross_site",
            "A browser sent this for another site.",
            hint="Open the page from the admin listener itself.",
        )


def _values(headers: Headers, wanted: bytes) -> list[str]:
    return [value.decode("latin-1").strip() for name, value in headers if name == wanted]


def _netloc(origin: str) -> str:
    """`host:port` of an origin; something that no host is for `null` and for what is none."""
    try:
        return urlsplit(origin).netloc.lower() or "null"
    except ValueError:
        return "null"


def _is_ours(host: str, names: Collection[str]) -> bool:
    """Whether `Host` (with or without a port) names this machine in a way that no foreign DNS server decides."""
    try:
        name = (urlsplit(f"//{host}").hostname or "").removesuffix(".")
    except ValueError:
        return False
    if name == "localhost" or name.endswith(".localhost") or name in names:
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
