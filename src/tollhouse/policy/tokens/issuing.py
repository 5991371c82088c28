"""Who may make and revoke signed tokens and the keys that sign them: like `policy.registrar`, and with its desks.

    mint = Mint(settings, SecretsFile(secrets_path(os.environ, Path.home())))
    issued = write(url, lambda desk: issue_token(desk, mint, NewToken(subject="ann", expires_at_us=…)), actor=…, audit=…)

A token is returned once and not kept: its row has what whoever looks after it needs to know.  A new signing key's secret is in
the file before the database knows of the key, so there is never a key that nobody can sign with.
"""

# ruff: noqa: S608 - every name that stands in a statement is our own; values are bound

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal
from uuid import UUID

import msgspec

from tollhouse.config.schema import JwtSettings
from tollhouse.errors import BadRequest, Conflict, NotFound, TokenMalformed
from tollhouse.ledger.transaction import Row, Transaction
from tollhouse.policy.register import MAX_PAGE, all_pages, read
from tollhouse.policy.registrar import MAX_EXPIRY_SECONDS, Audit, Desk, check_holder, write, write_revocation
from tollhouse.policy.terms import KeyTerms, decode, encode
from tollhouse.policy.tokens.claims import MAX_ID_CHARACTERS, subject
from tollhouse.policy.tokens.compact import write_piece
from tollhouse.policy.tokens.grants import CLAIM, Grant, check_grant, write_grant
from tollhouse.policy.tokens.secrets_file import SecretsFile
from tollhouse.policy.tokens.verifier import configured_kid

MAX_OVERLAP_SECONDS: Final = 2 * 366 * 86_400
KID_BYTES: Final = 6
SECRET_BYTES: Final = 32

Algorithm = Literal["HS256", "EdDSA"]


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """A token as it is, without its signature.  Times are microseconds since the epoch."""

    jti: str
    subject: str
    """Empty for a token that was not issued here."""
    tenant: str
    project: str
    kid: str
    """Which key signed it."""
    terms: KeyTerms
    """What it says that its bearer may do."""
    issued_at_us: int
    """When it was revoked, for one that was not issued here."""
    expires_at_us: int | None
    """`None` for a token that was not issued here."""
    key_until_us: int | None
    """Until when its key's tokens are accepted, where that was rotated; the earlier of both moments is its end."""
    revoked_at_us: int | None
    cut: bool
    """Whether its calls in flight were to be ended when it was revoked."""
    actor: str
    """Who issued it, or revoked one that was not issued here."""


class SigningKeyRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A key that signs, or signed, tokens: never its secret."""

    kid: str
    algorithm: str
    created_at_us: int
    until_us: int | None
    """Until when its tokens are accepted; `null` is as long as they say."""


class NewToken(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A token to be issued."""

    subject: str
    expires_at_us: int
    tenant: str = ""
    project: str = ""
    terms: KeyTerms = KeyTerms()


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A token, which nobody will see again."""

    record: Token
    text: str = field(repr=False)
    """Three pieces of base64url with dots between them: what its bearer sends."""


@dataclass(frozen=True, slots=True)
class Mint:
    """What tokens are made with on this machine."""

    settings: JwtSettings
    secrets: SecretsFile


# --------------------------------------------------------------------------------------------------------------------- tokens


def issue_token(desk: Desk, mint: Mint, new: NewToken) -> IssuedToken:
    """Issues a token, and makes a signing key if there is none.

    Raises `BadRequest`, `NotFound` for its tenant or project, `Conflict` for a subject that the database has otherwise or for a
    signing key of another machine, `StoreUnavailable` when a new key cannot be written down.
    """
    check_subject(new.subject)
    grant = check_grant(Grant(tenant=new.tenant, project=new.project, **msgspec.structs.asdict(new.terms)))
    check_holder(desk.transaction, grant.tenant, grant.project)
    _check_stored(desk, new.subject, grant)
    now, ends = desk.now_us // 1_000_000, new.expires_at_us // 1_000_000
    if not now < ends <= now + MAX_EXPIRY_SECONDS:
        raise BadRequest("A token expires in the future, within 20 years.", param="expires")
    signer = _signer(desk, mint)
    jti = _new_jti(desk)
    claims: dict[str, object] = {"iss": mint.settings.issuer, "sub": new.subject, "iat": now, "exp": ends, "jti": jti}
    if grant != Grant():
        claims[CLAIM] = write_grant(grant)
    desk.transaction.run(
        "INSERT INTO tokens (jti, subject, tenant, project, kid, issued_at_us, expires_at_us, cut, terms, actor, revision) "
        "VALUES ($1, $2, $3, $4, $5, $6, $7, 0, $8, $9, $10)",
        jti,
        new.subject,
        grant.tenant,
        grant.project,
        signer.kid,
        now * 1_000_000,
        ends * 1_000_000,
        encode(_terms(grant)),
        desk.actor,
        desk.revision,
    )
    desk.note(
        "token.create",
        f"token:{jti}",
        {"subject": new.subject, "expires_at_us": ends * 1_000_000, "kid": signer.kid, **write_grant(grant)},
    )
    return IssuedToken(token(desk.transaction, jti), signer.sign(claims))


def revoke_token(desk: Desk, jti: str, *, cuts: bool = False, is_foreign: bool = False) -> Token:
    """Takes a token back for good; with `cuts`, its calls in flight are ended too.  May be said again, to cut what is left.

    Raises `NotFound` for a token that was not issued here, unless `is_foreign` says that this is known.
    """
    found = _find(desk.transaction, jti)
    if found is None:
        if not is_foreign:
            raise NotFound(
                f"No token with the id {jti[:80]!r} was issued here.",
                hint="`tollhouse token list` has the ids; --foreign revokes a token of the older tool or of an OIDC issuer.",
            )
        if not jti or len(jti) > MAX_ID_CHARACTERS or not jti.isprintable():
            raise BadRequest(f"An id is of 1 to {MAX_ID_CHARACTERS} characters that can be printed.", param="jti")
        desk.transaction.run(
            "INSERT INTO tokens (jti, subject, tenant, project, kid, issued_at_us, revoked_at_us, cut, terms, actor, "
            "revision) VALUES ($1, '', '', '', '', $2, $2, $3, '{}', $4, $5)",
            jti,
            desk.now_us,
            int(cuts),
            desk.actor,
            desk.revision,
        )
        desk.note("token.revoke", f"token:{jti}", {"cut": cuts})
    else:
        write_revocation(desk, "token", jti, found, cuts=cuts)
    return token(desk.transaction, jti)


def token(transaction: Transaction, jti: str) -> Token:
    """A token, revoked or not.  Raises `NotFound`."""
    found = _find(transaction, jti)
    if found is None:
        raise NotFound(
            f"No token with the id {jti[:80]!r} was issued or revoked here.", hint="`tollhouse token list` has the ids."
        )
    return found


def tokens(
    transaction: Transaction,
    *,
    subject_name: str = "",
    after: str = "",
    at_most: int = MAX_PAGE,
    good_at_us: int | None = None,
) -> Sequence[Token]:
    """Tokens in the order in which they were issued, those behind the id `after`: of one subject, or all.

    With `good_at_us` only those that are good at that moment: not revoked, not expired, and of a key that is accepted.
    """
    good = (
        f" AND revoked_at_us IS NULL AND expires_at_us > $4 AND coalesce({_KEY_UNTIL}, $4 + 1) > $4"
        if good_at_us is not None
        else ""
    )
    rows = transaction.rows(
        f"SELECT {_COLUMNS} FROM tokens WHERE jti > $1 AND ($2 = '' OR subject = $2){good} ORDER BY jti LIMIT $3",
        after,
        subject_name,
        at_most,
        *([] if good_at_us is None else [good_at_us]),
    )
    return [_token(row) for row in rows]


def all_tokens(transaction: Transaction, *, subject_name: str = "", good_at_us: int | None = None) -> Sequence[Token]:
    """Every token, in as many pages as it takes."""
    return all_pages(
        lambda after: tokens(transaction, subject_name=subject_name, after=after, good_at_us=good_at_us),
        lambda token: token.jti,
    )


def check_subject(name: str) -> None:
    """Raises `BadRequest` for a subject that cannot stand in the books, or could be taken for one of an OIDC issuer."""
    try:
        subject({"sub": name})
    except TokenMalformed:
        name = "/"
    if "/" in name:
        raise BadRequest(
            "A subject is a name of at most 128 bytes that can be printed, without a `/` and without spaces around it.",
            param="subject",
        )


# --------------------------------------------------------------------------------------------------------------- signing keys


def rotate_signing_key(desk: Desk, mint: Mint, *, overlap_seconds: float) -> SigningKeyRecord:
    """Makes a new key, which signs from now on; tokens of the keys before are accepted for the overlap and no longer.

    Raises `Conflict` where the secret is the configuration's, `BadRequest` for an overlap of more than `MAX_OVERLAP_SECONDS`.
    """
    if mint.settings.secret is not None:
        raise Conflict(
            "The configuration has the secret (auth.jwt.secret), and only it can replace it.",
            hint="Write the new one there, move the old one to auth.jwt.former_secrets while its tokens are still to be"
            " accepted, and reload.",
        )
    if not 0 <= overlap_seconds <= MAX_OVERLAP_SECONDS:
        raise BadRequest(f"An overlap is from 0 s to {MAX_OVERLAP_SECONDS // 86_400} days.", param="overlap")
    until_us = desk.now_us + int(overlap_seconds * 1_000_000)
    desk.transaction.run(
        "UPDATE signing_keys SET until_us = $1, revision = $2 WHERE until_us IS NULL OR until_us > $1",
        until_us,
        desk.revision,
    )
    desk.note("token.rotate_secret", "signing-key", {"former_until_us": until_us})
    made = _make_key(desk, mint)
    return next(key for key in signing_keys(desk.transaction) if key.kid == made.kid)


def signing_keys(transaction: Transaction) -> Sequence[SigningKeyRecord]:
    """All keys, the newest first."""
    rows = transaction.rows(
        "SELECT kid, algorithm, created_at_us, until_us FROM signing_keys ORDER BY created_at_us DESC, kid"
    )
    return [SigningKeyRecord(kid=kid, algorithm=alg, created_at_us=at, until_us=until) for kid, alg, at, until in rows]


def make_first_key(url: str, mint: Mint, *, actor: str, audit: Audit | None = None) -> str | None:
    """Makes a signing key where there is none that is still accepted, and returns its id.  Blocks.

    Raises `StoreUnavailable` when the database or the file cannot be used.
    """
    if mint.settings.secret is not None or read(url, _has_key):
        return None

    def work(desk: Desk) -> str | None:
        # Another process may have been quicker; the transaction's lock tells.
        return None if _has_key(desk.transaction) else _make_key(desk, mint).kid

    return write(url, work, actor=actor, audit=audit)


# -------------------------------------------------------------------------------------------------------------------- private

_KEY_UNTIL: Final = "(SELECT until_us FROM signing_keys WHERE signing_keys.kid = tokens.kid)"
_COLUMNS: Final = (
    f"jti, subject, tenant, project, kid, terms, issued_at_us, expires_at_us, {_KEY_UNTIL}, revoked_at_us, cut, actor"
)


@dataclass(frozen=True, slots=True)
class _Signer:
    kid: str
    algorithm: Algorithm
    secret: bytes = field(repr=False)

    def sign(self, claims: dict[str, object]) -> str:
        from tollhouse.policy.tokens.signatures import sign_with_private_key, sign_with_secret

        header = {"alg": self.algorithm, "kid": self.kid, "typ": "JWT"}
        signed = b".".join(write_piece(msgspec.json.encode(part)) for part in (header, claims))
        sign = sign_with_secret if self.algorithm == "HS256" else sign_with_private_key
        return b".".join((signed, write_piece(sign(self.secret, signed)))).decode()


def _signer(desk: Desk, mint: Mint) -> _Signer:
    """The key that signs on this machine; made if there is none."""
    settings = mint.settings
    if settings.secret is not None:
        secret = settings.secret.reveal().encode()
        return _Signer(configured_kid(secret), "HS256", secret)
    live = [
        key for key in signing_keys(desk.transaction) if key.until_us is None and key.algorithm == settings.algorithm
    ]
    for key in live:
        kept = mint.secrets.secret(key.kid)
        if kept is not None:
            return _Signer(key.kid, settings.algorithm, kept)
    if live and settings.algorithm == "HS256":
        raise Conflict(
            f"The signing key {live[0].kid} was made on another machine, or by another user: it is not in {mint.secrets.path}.",
            hint="Copy that file here, work there, set auth.jwt.algorithm to EdDSA, or `tollhouse token rotate-secret`.",
        )
    return _make_key(desk, mint)


def _make_key(desk: Desk, mint: Mint) -> _Signer:
    algorithm = mint.settings.algorithm
    made = _Signer(desk.random_bytes(KID_BYTES).hex(), algorithm, desk.random_bytes(SECRET_BYTES))
    public_key = None
    if algorithm == "EdDSA":
        from tollhouse.policy.tokens.signatures import public_key_of

        public_key = public_key_of(made.secret)
    ended = frozenset(
        key.kid for key in signing_keys(desk.transaction) if key.until_us is not None and key.until_us <= desk.now_us
    )
    mint.secrets.add(made.kid, algorithm, made.secret, drop=ended)
    desk.transaction.run(
        "INSERT INTO signing_keys (kid, algorithm, public_key, created_at_us, revision) VALUES ($1, $2, $3, $4, $5)",
        made.kid,
        algorithm,
        public_key,
        desk.now_us,
        desk.revision,
    )
    desk.note("token.create_key", f"signing-key:{made.kid}", {"algorithm": algorithm})
    return made


def _has_key(transaction: Transaction) -> bool:
    return bool(transaction.rows("SELECT 1 FROM signing_keys WHERE until_us IS NULL LIMIT 1"))


def _check_stored(desk: Desk, name: str, grant: Grant) -> None:
    """What the database says of a subject counts, so a token must not seem to say otherwise."""
    rows = desk.transaction.rows("SELECT revoked_at_us FROM subjects WHERE name = $1", name)
    if not rows:
        return
    if rows[0][0] is not None:
        raise Conflict(
            f"The subject {name!r} is revoked, and so would be its tokens.",
            hint=f"`tollhouse subject restore {name}` lets it in again.",
        )
    if grant != Grant():
        raise Conflict(
            f"The subject {name!r} stands in the database, and what that says counts for all its tokens.",
            hint=f"Leave the terms out, or change the subject: tollhouse subject edit {name}.",
        )


def _new_jti(desk: Desk) -> str:
    """A UUID of version 7 (RFC 9562, section 5.7): in the order of time, as the list of tokens is."""
    number = (desk.now_us // 1000) << 80 | int.from_bytes(desk.random_bytes(10))
    number = number & ~(0xF << 76) | 0x7 << 76
    return str(UUID(int=number & ~(0x3 << 62) | 0x2 << 62))


def _terms(grant: Grant) -> KeyTerms:
    return KeyTerms(**{name: getattr(grant, name) for name in KeyTerms.__struct_fields__})


def _find(transaction: Transaction, jti: str) -> Token | None:
    rows = transaction.rows(f"SELECT {_COLUMNS} FROM tokens WHERE jti = $1", jti)
    return _token(rows[0]) if rows else None


def _token(row: Row) -> Token:
    jti, name, tenant, project, kid, terms, issued, expires, key_until, revoked, cut, actor = row
    return Token(
        jti=jti,
        subject=name,
        tenant=tenant,
        project=project,
        kid=kid,
        terms=decode(terms, KeyTerms),
        issued_at_us=issued,
        expires_at_us=expires,
        key_until_us=key_until,
        revoked_at_us=revoked,
        cut=bool(cut),
        actor=actor,
    )
