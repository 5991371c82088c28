"""Who calls: from a credential to a principal.

Credentials are looked up by their full SHA-256 digest and compared in constant time; plaintext is never kept.  Random keys
of 32 bytes need no slow hash.  Every way to fail stays apart (no credential, a damaged one, an unknown one, one that has ended)
so that a person knows what to do, and none falls through to an identity.

A `KeyRing` holds the keys of the configuration and asks a `Roll` for those of the database.  Both are immutable, and so is
what they hand out: a change makes new ones, and a call in flight can never write an old one back.  There may be many
thousands, so the collector does not look at them (`gc=False`): nothing that they hold can lead back to them.
"""

import hashlib
import hmac
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Literal, Protocol

import msgspec

from tollhouse.config.schema import BudgetSettings, CertificateSettings, KeySettings, RateSettings, ScopedRates
from tollhouse.errors import (
    AddressNotAllowed,
    CertificateUnknown,
    CredentialMissing,
    KeyDamaged,
    KeyExpired,
    KeyRevoked,
    ModelNotAllowed,
    StoreUnavailable,
    TokenIncomplete,
    TokenKeyUnknown,
    TokenMalformed,
    TokenWrongIssuer,
    Unauthenticated,
)
from tollhouse.ledger.moments import moment_at
from tollhouse.policy.access import ANYTHING, Access, Networks, allow, networks
from tollhouse.policy.key_text import is_damaged, is_whole
from tollhouse.policy.peer_certificate import PeerCertificate

NO_RATES: Final = RateSettings()


class Shared(msgspec.Struct, frozen=True, gc=False):
    """What a key shares with all keys of its project and tenant, as the database has it."""

    limits: tuple[ScopedRates, ...] = ()
    budgets: tuple[BudgetSettings, ...] = ()
    is_unreadable: bool = False
    """Whether this version cannot read what they are; then none of these keys is let in."""


NOTHING_SHARED: Final = Shared()


class Principal(msgspec.Struct, frozen=True, gc=False):
    """Who is behind a call: the names that stand in the ledger, and what they may do.  Never the credential.

    Made once a key, not once a call.
    """

    key: str
    """A key's name; `subject:NAME` for the subject of a signed token, which no key can be named."""
    tenant: str = ""
    project: str = ""
    subject: str = ""
    """The subject of a signed token: its `sub`, or `ISSUER/SUB` for one of an OIDC issuer."""
    token: str = ""
    """The `jti` of a signed token, if it has one."""
    access: Access = ANYTHING
    networks: Networks | None = None
    """Where it may call from; `None` is anywhere."""
    limits: RateSettings = NO_RATES
    """Its own."""
    budgets: tuple[BudgetSettings, ...] = ()
    """Its own, scoped to its key."""
    shared: Shared = NOTHING_SHARED
    """Those of its project and its tenant, where the database has any."""
    tags: tuple[tuple[str, str], ...] = ()
    expires_at_us: int | None = None


ANONYMOUS = Principal(key="anonymous")


class Ending(msgspec.Struct, frozen=True, gc=False):
    """When a credential ends, and why."""

    kind: Literal["expired", "replaced", "revoked"]
    at_us: int
    """Microseconds since the epoch.  A revoked one has ended whatever this says: clocks of two machines differ."""

    def has_come(self, now_us: int) -> bool:
        """Whether it has ended."""
        return now_us >= self.at_us or self.kind == "revoked"


class StoredKey(msgspec.Struct, frozen=True, gc=False):
    """A key as it is kept: the SHA-256 digest of its plaintext, who it is, and when it ends."""

    digest: bytes
    principal: Principal
    ending: Ending | None = None

    def __repr__(self) -> str:
        """Without the digest: a short key could be guessed from it."""
        return f"StoredKey({self.principal.key!r})"


class StoredSubject(msgspec.Struct, frozen=True, gc=False):
    """The subject of signed tokens, as it is kept."""

    principal: Principal
    ending: Ending | None = None


class SigningKey(msgspec.Struct, frozen=True, gc=False):
    """A key that signs tokens, as the database has it: without its secret."""

    kid: str
    algorithm: Literal["HS256", "EdDSA"]
    public_key: bytes | None
    """The 32 bytes of an Ed25519 key's public half; `None` for HS256."""
    until_us: int | None
    """Until when its tokens are accepted; `None` is as long as they say."""


class Roll(Protocol):
    """The keys of the database, at one moment."""

    def key(self, digest: bytes) -> StoredKey | None:
        """The key whose secret, or whose former secret, has this digest."""
        ...

    def subject(self, name: str) -> StoredSubject | None:
        """The subject of this name."""
        ...

    def shared(self, tenant: str, project: str) -> Shared:
        """What a tenant's and a project's keys share."""
        ...

    def signing_key(self, kid: str) -> SigningKey | None:
        """The key of this id that signs, or signed, tokens."""
        ...

    def token_revoked_at(self, jti: str) -> int | None:
        """When the token of this id was revoked, in microseconds since the epoch; `None` if it was not."""
        ...


class Tokens(Protocol):
    """Who knows signed tokens; `tollhouse.policy.tokens.verifier`."""

    def identify(self, credential: bytes, digest: bytes, roll: Roll) -> Principal:
        """The principal of a token, whose SHA-256 is `digest`; raises `Unauthenticated`, `StoreUnavailable`."""
        ...


class Rolls(Protocol):
    """Where the newest roll is found; a directory replaces it by one assignment."""

    @property
    def roll(self) -> Roll:
        """The newest."""
        ...


class Certificates(Protocol):
    """Who is behind a client certificate."""

    def find(self, peer: PeerCertificate, roll: Roll) -> Principal | None:
        """The principal, with what its tenant and project share in the roll; `None` if nobody is known by it."""
        ...


class EmptyRoll:
    """A database without keys."""

    __slots__ = ()

    @property
    def roll(self) -> Roll:
        """Itself."""
        return self

    def key(self, digest: bytes) -> StoredKey | None:
        """None."""
        del digest
        return None

    def subject(self, name: str) -> StoredSubject | None:
        """None."""
        del name
        return None

    def shared(self, tenant: str, project: str) -> Shared:
        """Nothing."""
        del tenant, project
        return NOTHING_SHARED

    def signing_key(self, kid: str) -> SigningKey | None:
        """None."""
        del kid
        return None

    def token_revoked_at(self, jti: str) -> int | None:
        """Never."""
        del jti
        return None


EMPTY_ROLL: Final = EmptyRoll()

TOKEN_START: Final = b"eyJ"
"""How a signed token begins: `{"` in base64, the start of its header (RFC 7515, section 3.1)."""
TOKEN_DOTS: Final = 2
"""Between the three parts of one, whatever it begins with: a key has none."""
NOT_OURS: Final = (TokenMalformed, TokenIncomplete, TokenWrongIssuer, TokenKeyUnknown)
"""What is said of a token that nobody here has vouched for."""


def digest(credential: bytes) -> bytes:
    """The form in which a credential is stored and looked up: 32 bytes."""
    return hashlib.sha256(credential).digest()


def wall_us() -> int:
    """The time of day in microseconds since the epoch."""
    return time.time_ns() // 1000


def stored_key(settings: KeySettings) -> StoredKey:
    """A key of the configuration.  Raises `ValueError` for an address range that is none, which loading does not let in."""
    return StoredKey(settings.digest, configured_principal(settings.name, settings))


def configured_principal(name: str, settings: KeySettings | CertificateSettings) -> Principal:
    """A caller of the configuration, by its name in the books.  Raises as `stored_key` does."""
    return Principal(
        key=name,
        tenant=settings.tenant,
        project=settings.project,
        access=allow(settings.models, settings.providers),
        networks=networks(settings.ip_ranges),
        limits=settings.limits,
        budgets=settings.budgets,
        tags=tuple(settings.tags.items()),
    )


class KeyRing:
    """The keys that may call: those of a configuration, and beside them those of the newest roll.

    Immutable to whoever uses it; a reload makes a new one.
    """

    __slots__ = (
        "_certificates",
        "_is_open",
        "_joined",
        "_joined_for",
        "_keys",
        "_names",
        "_now_us",
        "_rolls",
        "_tokens",
    )

    def __init__(
        self,
        keys: Iterable[StoredKey],
        *,
        is_open: bool = False,
        rolls: Rolls = EMPTY_ROLL,
        tokens: Tokens | None = None,
        certificates: Certificates | None = None,
        now_us: Callable[[], int] = wall_us,
    ) -> None:
        """`tokens` knows signed tokens, `certificates` the callers who show one; without either nobody is known by them."""
        self._certificates = certificates
        self._tokens = tokens
        self._keys = {key.digest: key for key in keys}
        self._names = frozenset(key.principal.key for key in self._keys.values())
        self._is_open = is_open
        self._rolls = rolls
        self._now_us = now_us
        self._joined = self._keys
        self._joined_for: Roll = EMPTY_ROLL

    def identify(self, credential: bytes | None, peer: PeerCertificate | None = None) -> Principal:
        """The principal of a credential, or of a verified client certificate where there is none; raises `Unauthenticated`.

        An open ring lets anyone in as `ANONYMOUS`, but for a key or a token that it knows to have ended.
        """
        if credential:
            presented = digest(credential)
            roll = self._rolls.roll
            if roll is not self._joined_for:
                self._join(roll)
            configured = self._joined.get(presented)
            key = configured or roll.key(presented)
            if key is not None and hmac.compare_digest(key.digest, presented):
                if key.ending is not None and key.ending.has_come(self._now_us()):
                    raise _ended(key.principal.key, key.ending)
                principal = key.principal
                if configured is None and principal.key in self._names:
                    raise _two_of_one_name(principal.key)
                if principal.shared is not NOTHING_SHARED:
                    check_readable(principal)
                return principal
            if self._tokens is not None and _looks_like_a_token(credential):
                try:
                    return self._tokens.identify(credential, presented, roll)
                except NOT_OURS:
                    if not self._is_open:
                        raise
        elif peer is not None and self._certificates is not None:
            found = self._certificates.find(peer, self._rolls.roll)
            if found is not None:
                check_readable(found)
                return found
        if self._is_open:
            return ANONYMOUS
        if not credential:
            if peer is not None and self._certificates is not None:
                raise CertificateUnknown(
                    f"The client certificate of {peer} is good, but no rule says who that is.",
                    hint="Send a key as well, or ask whoever runs this gateway for an entry under `auth.certificates`.",
                )
            raise CredentialMissing(
                "This call carries no key.",
                hint="Send your Tollhouse key or token in `Authorization` (after `Bearer`), `x-api-key` or `x-goog-api-key`.",
            )
        if is_damaged(credential):
            raise KeyDamaged(
                "This key is damaged: a character of it is missing, added or changed.",
                hint="Copy the whole key again, from `th-` to its end: 52 characters.",
            )
        ours = "Use a key that this gateway issued, not a provider's; whoever runs it can tell you yours."
        raise Unauthenticated(
            "This key is not known here.",
            # Workers ask the database a few times a second what is new.
            hint="If it was made just now, try again in a second. " + ours if is_whole(credential) else ours,
        )

    def _join(self, roll: Roll) -> None:
        """Gives the configuration's keys what their tenants have in the database.  Doing it twice at once does no harm."""
        joined = {}
        for presented, key in self._keys.items():
            shared = roll.shared(key.principal.tenant, key.principal.project)
            principal = (
                key.principal if shared is NOTHING_SHARED else msgspec.structs.replace(key.principal, shared=shared)
            )
            joined[presented] = msgspec.structs.replace(key, principal=principal)
        self._joined = joined
        self._joined_for = roll


def check_readable(principal: Principal) -> None:
    """Raises `StoreUnavailable` when it is not known what the principal's tenant allows."""
    if principal.shared.is_unreadable:
        raise StoreUnavailable(
            f"What the tenant {principal.tenant!r} may spend was written by a newer version of this gateway, which cannot "
            "read it.",
            hint="Whoever runs this gateway has to upgrade it.",
        )


def check_address(principal: Principal, address: str) -> None:
    """Raises `AddressNotAllowed` when the principal may not call from this IP address."""
    if principal.networks is None or principal.networks.contain(address):
        return
    raise AddressNotAllowed(
        f"The key {principal.key!r} may not be used from {address[:60] or 'this address'}.",
        hint="Whoever runs this gateway can widen the key's address ranges.",
    )


def may_use(principal: Principal, alias: str, target: str) -> bool:
    """Whether a call that names `alias` may be answered by `target` (`provider/model`)."""
    return principal.access is ANYTHING or principal.access.may_use(alias, target)


def allowed_targets(principal: Principal, alias: str, targets: Sequence[str]) -> Sequence[str]:
    """Those of a route's targets that the principal may use, in order.  Raises `ModelNotAllowed` when none is left."""
    access = principal.access
    if access is ANYTHING:
        return targets
    left = [target for target in targets if access.may_use(alias, target)]
    if left or not targets:
        return left
    raise not_allowed(principal, alias)


def not_allowed(principal: Principal, alias: str) -> ModelNotAllowed:
    """The refusal of a model, naming what may be used instead."""
    access = principal.access
    shown = access.shown()
    only = [*([f"the models {', '.join(shown)}"] if shown else [])]
    if providers := access.shown_providers():
        only.append(f"the providers {', '.join(providers)}")
    return ModelNotAllowed(
        f"The key {principal.key!r} may not use the model {alias[:200]!r}; it may use {' of '.join(only)}.",
        allowed=shown,
        hint="GET /v1/models lists what this key can use.",
    )


def _looks_like_a_token(credential: bytes) -> bool:
    """Whether it is told, where it is none, what is wrong with it as a token, and not that no such key is known."""
    return credential.startswith(TOKEN_START) or credential.count(b".") == TOKEN_DOTS


def _ended(name: str, ending: Ending) -> Unauthenticated:
    when = f"{moment_at(ending.at_us):%Y-%m-%d %H:%M:%S} UTC"
    match ending.kind:
        case "expired":
            return KeyExpired(
                f"The key {name!r} expired on {when}.",
                hint=f"Whoever runs this gateway can renew it: tollhouse key edit {name} --expires-in 30d.",
            )
        case "replaced":
            return KeyExpired(
                f"This secret of the key {name!r} was replaced by a new one, and was good until {when}.",
                hint="Use the new secret; whoever runs this gateway has it, or can make another.",
            )
        case "revoked":
            return KeyRevoked(
                f"The key {name!r} was revoked on {when}.", hint="Ask whoever runs this gateway for another key."
            )


def _two_of_one_name(name: str) -> Unauthenticated:
    return Unauthenticated(
        f"The configuration and the database both have a key named {name!r}, and the configuration's is the one that counts.",
        hint="Whoever runs this gateway can rename the key in auth.keys, or revoke the other with `tollhouse key revoke`.",
    )
