"""Checks signed tokens on a call's way.

The claim `iss`, which nobody has vouched for yet, only decides whose keys are looked at: this gateway's own, or those of one
OIDC issuer.  A key decides its algorithm.  Only when the signature is right are the other claims read.

What was checked is kept by the token's SHA-256 until the token ends, so that a call costs a look-up, as with a key.  A new roll
of the database (something was revoked, a key was rotated, a subject changed) or new keys of an issuer make each token be looked
at once more, without its signature being computed again while its key stays what it was.
"""

import hmac
import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from tollhouse.config.schema import JwtSettings, OidcSettings
from tollhouse.errors import (
    PermissionDenied,
    StoreUnavailable,
    TokenBadSignature,
    TokenExpired,
    TokenIncomplete,
    TokenKeyUnknown,
    TokenRevoked,
    TokenWrongAudience,
    TokenWrongIssuer,
)
from tollhouse.policy.identity import Principal, Roll, wall_us
from tollhouse.policy.terms import is_name
from tollhouse.policy.tokens.claims import (
    Claims,
    check_begun,
    identifier,
    moment_us,
    read_claims,
    require,
    shown,
    subject,
    text,
    texts,
    wrong,
)
from tollhouse.policy.tokens.compact import Compact, read_compact
from tollhouse.policy.tokens.grants import Bearer, Grant, principal_of, read_grant
from tollhouse.policy.tokens.issuer_keys import IssuerKeys
from tollhouse.policy.tokens.jwks import KeySet
from tollhouse.policy.tokens.secrets_file import SecretsFile

if TYPE_CHECKING:
    from tollhouse.policy.tokens.signatures import CheckingKey

MAX_KNOWN: Final = 10_000
"""Tokens that were checked and are kept; the oldest goes."""
OWN_CLAIMS: Final = ("iss", "sub", "exp", "iat", "jti")
"""What a token of this gateway's must have."""

log = logging.getLogger("tollhouse.policy")


def configured_kid(secret: bytes) -> str:
    """The id of a secret of the configuration.  It says no more about the secret than any signature does."""
    return f"config-{hmac.digest(secret, b'tollhouse signing key', 'sha256').hex()[:12]}"


class _Signer(NamedTuple):
    """Who signed a token."""

    kid: str
    """Empty if the token names no key."""
    key: "CheckingKey"
    issuer: "_Issuer | None"
    """`None` for this gateway's own."""


class _Known(msgspec.Struct, frozen=True, gc=False):
    """A token whose signature was checked."""

    bearer: Bearer
    signer: _Signer
    principal: Principal
    until_us: int
    """Until when the principal may be handed out without another look."""
    roll: Roll
    key_set: KeySet | None
    """The issuer's keys as they were."""


class TokenVerifier:
    """Knows this gateway's tokens and those of its OIDC issuers.  A reload makes a new one.  For one thread."""

    def __init__(
        self,
        settings: JwtSettings,
        secrets: SecretsFile,
        issuers: Iterable[tuple[OidcSettings, IssuerKeys]] = (),
        *,
        max_known: int = MAX_KNOWN,
        now_us: Callable[[], int] = wall_us,
    ) -> None:
        self._max_known = max_known
        self._settings = settings
        self._secrets = secrets
        self._issuers = {each.issuer: _Issuer(each, keys) for each, keys in issuers}
        self._now_us = now_us
        configured = [*([] if settings.secret is None else [settings.secret]), *settings.former_secrets]
        self._configured = {configured_kid(secret): secret for each in configured if (secret := each.reveal().encode())}
        self._checking: dict[tuple[str, bytes], CheckingKey] = {}
        self._known: dict[bytes, _Known] = {}
        self._missed: set[str] = set()

    def identify(self, credential: bytes, digest: bytes, roll: Roll) -> Principal:
        """The principal of a token, whose SHA-256 is `digest`.

        Raises one of the branches of `Unauthenticated` that begin with `Token`, `PermissionDenied` for a subject that the
        configuration does not let in, and `StoreUnavailable` while it cannot be known.
        """
        now_us = self._now_us()
        known = self._known.get(digest)
        if known is None:
            known = self._check(credential, roll, now_us)
            if len(self._known) >= self._max_known:
                del self._known[next(iter(self._known))]
        elif (
            known.roll is roll
            and now_us < known.until_us
            and (known.signer.issuer is None or known.signer.issuer.keys.keys is known.key_set)
        ):
            return known.principal
        else:
            del self._known[digest]
            known = self._check_again(known, credential, roll, now_us)
        self._known[digest] = known
        return known.principal

    def _check(self, credential: bytes, roll: Roll, now_us: int) -> _Known:
        compact = read_compact(credential)
        claims = read_claims(compact.payload)
        name = text(claims, "iss")
        if not name:
            require(claims, ("iss",))
        if name == self._settings.issuer:
            signer = self._own_signer(compact, roll, now_us)
            return self._know(self._own_bearer(claims, now_us), signer, roll, now_us)
        issuer = self._issuers.get(name)
        if issuer is None:
            raise TokenWrongIssuer(
                f"This token was issued by {name[:200]!r}, whose tokens are not accepted here.",
                hint=f"Use one that was issued by {' or '.join(map(repr, [self._settings.issuer, *self._issuers]))}.",
            )
        signer = issuer.signer(compact)
        return self._know(issuer.bearer(claims, now_us), signer, roll, now_us)

    def _check_again(self, known: _Known, credential: bytes, roll: Roll, now_us: int) -> _Known:
        """After something has changed."""
        kid, key, issuer = known.signer
        current = self._own_key(kid, roll, now_us) if issuer is None else issuer.key(kid or None)
        if current is not key or now_us >= known.bearer.expires_at_us:
            return self._check(credential, roll, now_us)
        return self._know(known.bearer, known.signer, roll, now_us, before=known.principal)

    def _know(
        self,
        bearer: Bearer,
        signer: _Signer,
        roll: Roll,
        now_us: int,
        *,
        before: Principal | None = None,
    ) -> _Known:
        revoked_at_us = roll.token_revoked_at(bearer.token) if bearer.token else None
        if revoked_at_us is not None:
            raise TokenRevoked(
                f"This token of {bearer.subject!r} was revoked on {shown(revoked_at_us)}.",
                hint=f"Ask whoever runs this gateway for another; this one's id is {bearer.token}.",
            )
        kid, _, issuer = signer
        principal, until_us = principal_of(bearer, roll, now_us)
        if issuer is None and (signing := roll.signing_key(kid)) is not None and signing.until_us is not None:
            until_us = min(until_us, signing.until_us)
        return _Known(
            bearer=bearer,
            signer=signer,
            # What was worked out for a principal is kept by its identity (`policy.rules`).
            principal=before if before == principal and before is not None else principal,
            until_us=until_us,
            roll=roll,
            key_set=None if issuer is None else issuer.keys.keys,
        )

    # -- this gateway's own

    def _own_signer(self, compact: Compact, roll: Roll, now_us: int) -> _Signer:
        kid = compact.header.kid
        if kid is None and not self._configured:
            raise TokenKeyUnknown(
                "This token does not say which key signed it (`kid`), and no secret is configured to check it with.",
                hint="Whoever runs this gateway can give the secret of the older tool: auth.jwt.secret.",
            )
        # Without a name the secrets of the configuration are tried, and nothing else.
        kids = [kid] if kid is not None else list(self._configured)
        keys = [(each, self._own_key(each, roll, now_us)) for each in kids]
        for each, key in keys:
            if key.algorithm == compact.header.alg and key.has_signed(compact.signed, compact.signature):
                return _Signer(each, key, None)
        raise _bad_signature(compact, keys[0][1])

    def _own_key(self, kid: str, roll: Roll, now_us: int) -> "CheckingKey":
        secret = self._configured.get(kid)
        if secret is not None:
            return self._of_secret(kid, secret)
        signing = roll.signing_key(kid)
        if signing is None:
            raise TokenKeyUnknown(
                f"This token was signed with the key {kid[:80]!r}, which is not known here.",
                hint="Use a token that this gateway issued; `tollhouse token keys` lists the keys that it knows.",
            )
        if signing.until_us is not None and now_us >= signing.until_us:
            raise TokenExpired(
                f"The key that signed this token was replaced, and its tokens were good until {shown(signing.until_us)}.",
                hint="Whoever runs this gateway can issue another: tollhouse token create.",
            )
        if signing.public_key is not None and signing.algorithm == "EdDSA":
            return self._of_public_key(kid, signing.public_key)
        secret = self._secrets.secret(kid) if signing.algorithm == "HS256" else None
        if secret is None:
            if kid not in self._missed:
                self._missed.add(kid)
                log.error(
                    "a token came whose signing key this machine does not have; copy the file from the machine that made it",
                    extra={"kid": kid, "file": str(self._secrets.path)},
                )
            raise StoreUnavailable(
                "The key that signed this token is on another machine of this gateway only.",
                hint="Whoever runs this gateway has to copy its signing keys to this machine too.",
            )
        return self._of_secret(kid, secret)

    def _of_secret(self, kid: str, secret: bytes) -> "CheckingKey":
        found = self._checking.get((kid, secret))
        if found is None:
            from tollhouse.policy.tokens import signatures

            found = self._checking[kid, secret] = signatures.of_secret(secret)
        return found

    def _of_public_key(self, kid: str, public_key: bytes) -> "CheckingKey":
        found = self._checking.get((kid, public_key))
        if found is None:
            from tollhouse.policy.tokens import signatures

            try:
                found = self._checking[kid, public_key] = signatures.of_public_key(public_key)
            except signatures.UnusableKey as error:
                raise StoreUnavailable(f"The signing key {kid!r} in the database is damaged.") from error
        return found

    def _own_bearer(self, claims: Claims, now_us: int) -> Bearer:
        require(claims, OWN_CLAIMS)
        if texts(claims, "aud"):
            raise TokenWrongAudience(
                "This token is meant for another service (`aud`); tokens of this gateway name none.",
                hint="Use a token that `tollhouse token create` made.",
            )
        who = subject(claims)
        if "/" in who:
            raise wrong("sub", "has a `/`, which stands in the names of other issuers' subjects")
        token = identifier(claims, "jti")
        expires_at_us = moment_us(claims, "exp") or 0
        if now_us >= expires_at_us:
            raise TokenExpired(
                f"This token of {who!r} expired on {shown(expires_at_us)}.",
                hint=f"Whoever runs this gateway can issue another: tollhouse token create {who} --expires-in 30d.",
            )
        check_begun(claims, now_us)
        return Bearer(who, token, read_grant(claims), self._settings.defaults, expires_at_us)


class _Issuer:
    """One OIDC issuer."""

    def __init__(self, settings: OidcSettings, keys: IssuerKeys) -> None:
        self.settings: Final = settings
        self.keys: Final = keys
        self._checking: tuple[KeySet | None, dict[str | None, CheckingKey]] = (None, {})

    def signer(self, compact: Compact) -> _Signer:
        """Checks the signature."""
        key = self.key(compact.header.kid)
        if key.algorithm != compact.header.alg or not key.has_signed(compact.signed, compact.signature):
            raise _bad_signature(compact, key)
        return _Signer(compact.header.kid or "", key, self)

    def key(self, kid: str | None) -> "CheckingKey":
        """The key of this id."""
        key_set, checking = self._checking
        if self.keys.keys is None:
            self.keys.want()
            raise StoreUnavailable(
                f"The keys of the issuer {self.settings.issuer} are not known yet.", hint="Try again in a moment."
            )
        if self.keys.keys is not key_set:
            key_set, checking = self._checking = self.keys.keys, {}
        found = checking.get(kid)
        if found is None:
            found = checking[kid] = self._prepared(key_set, kid)
        return found

    def _prepared(self, key_set: KeySet, kid: str | None) -> "CheckingKey":
        from tollhouse.policy.tokens import signatures

        jwk = key_set.find(kid)
        named = "a key that it does not name" if kid is None else f"the key {kid[:80]!r}"
        if jwk is None:
            self.keys.want()
            raise TokenKeyUnknown(
                f"This token was signed with {named}, which {self.settings.issuer} does not publish.",
                hint="If the issuer has just changed its keys, try again in a minute; else sign in again.",
            )
        try:
            key = signatures.of_jwk(jwk)
        except signatures.UnusableKey as error:
            raise TokenKeyUnknown(
                f"This token was signed with {named} of {self.settings.issuer}, which is not accepted: {error}",
                hint="Ask whoever runs the issuer to sign with RS256, ES256 or EdDSA.",
            ) from error
        return key

    def bearer(self, claims: Claims, now_us: int) -> Bearer:
        """Who a token is for whose signature is right."""
        settings = self.settings
        require(claims, ("iss", "exp", "aud", settings.subject_claim))
        audience = texts(claims, "aud")
        if not set(audience).intersection(settings.audience):
            raise TokenWrongAudience(
                f"This token is meant for {', '.join(audience)[:200] or 'nobody'}, not for {' or '.join(settings.audience)}.",
                hint="Ask the issuer for a token with that audience.",
            )
        expires_at_us = moment_us(claims, "exp") or 0
        if now_us >= expires_at_us:
            raise TokenExpired(
                f"This token expired on {shown(expires_at_us)}.",
                hint=f"Sign in again, or ask {settings.issuer} for another.",
            )
        check_begun(claims, now_us)
        who = subject(claims, settings.subject_claim)
        self._admit(who, claims)
        return Bearer(
            f"{settings.name}/{who}", identifier(claims, "jti"), self._grant(claims), settings.defaults, expires_at_us
        )

    def _admit(self, who: str, claims: Claims) -> None:
        allowed = self.settings.allowed_subjects
        if allowed and not any(_matches(who, pattern) for pattern in allowed):
            raise PermissionDenied(
                f"The subject {who!r} of {self.settings.issuer} may not call here.",
                hint="Whoever runs this gateway can add it to allowed_subjects.",
            )
        for name, values in self.settings.required_claims.items():
            if not set(texts(claims, name)).intersection(values):
                raise PermissionDenied(
                    f"The subject {who!r} of {self.settings.issuer} has none of the values of `{name}` that are let in here.",
                    hint="Ask whoever runs the issuer, or this gateway.",
                )

    def _grant(self, claims: Claims) -> Grant:
        tenant, project = (_place(claims, name) for name in (self.settings.tenant_claim, self.settings.project_claim))
        if project and not tenant:
            tenant = self.settings.defaults.tenant
        return Grant(tenant=tenant, project=project)


def _place(claims: Claims, name: str | None) -> str:
    """The tenant or the project that a claim names; empty if none is to be looked for."""
    if name is None:
        return ""
    value = text(claims, name)
    if not value:
        raise TokenIncomplete(
            f"This token has no `{name}`, which says whom its subject belongs to.",
            hint="Ask whoever runs the issuer for tokens that have it.",
        )
    if not is_name(value):
        raise wrong(name, "is not a name of 1 to 64 letters, digits, `_`, `.`, `@` and `-`")
    return value


def _matches(who: str, pattern: str) -> bool:
    if pattern.startswith("*") and pattern.endswith("*"):
        return pattern.strip("*") in who
    if pattern.startswith("*"):
        return who.endswith(pattern[1:])
    return who.startswith(pattern[:-1]) if pattern.endswith("*") else who == pattern


def _bad_signature(compact: Compact, key: "CheckingKey") -> TokenBadSignature:
    if compact.header.alg != key.algorithm:
        return TokenBadSignature(
            f"This token says that it is signed with {compact.header.alg[:20]!r}, and its key signs with {key.algorithm}.",
            hint="Use the token as it was issued.",
        )
    return TokenBadSignature(
        "The signature of this token is wrong: it was changed, cut, or signed with another secret.",
        hint="Copy the whole token again, or ask for another.",
    )
