"""The roll: all keys of the database at one moment, made for being looked up.

A roll never changes.  What changed in the database since comes as a `Delta`, out of which and of the roll before a new one is
made.  So whoever holds a roll, or a principal of it, sees one state, and cannot bring an old one back.
"""

import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

import msgspec

from tollhouse.config.schema import RateSettings, Scope, ScopedRates
from tollhouse.policy.access import Access, Networks, allow, networks
from tollhouse.policy.identity import (
    NOTHING_SHARED,
    Ending,
    Principal,
    Shared,
    SigningKey,
    StoredKey,
    StoredSubject,
)
from tollhouse.policy.terms import KeyTerms, Terms, budgets, rates

MAX_UNREADABLE: Final = 20
"""Names of rows that could not be read, as a state lists them."""

_TERMS: Final = msgspec.json.Decoder(Terms)
_KEY_TERMS: Final = msgspec.json.Decoder(KeyTerms)


class HolderRow(NamedTuple):
    """A tenant, or with `project` a project."""

    tenant: str
    project: str
    terms: str
    balance_nano: int | None
    removed_at_us: int | None
    revision: int


class KeyRow(NamedTuple):
    """A key."""

    name: str
    tenant: str
    project: str
    digest: bytes
    former_digest: bytes | None
    former_until_us: int | None
    expires_at_us: int | None
    revoked_at_us: int | None
    cut: int
    terms: str
    balance_nano: int | None
    revision: int


class SubjectRow(NamedTuple):
    """The subject of signed tokens."""

    name: str
    tenant: str
    project: str
    expires_at_us: int | None
    revoked_at_us: int | None
    cut: int
    terms: str
    balance_nano: int | None
    revision: int


class TokenRow(NamedTuple):
    """A token that was revoked."""

    jti: str
    expires_at_us: int | None
    """`None` where nobody knew."""
    revoked_at_us: int
    cut: int
    revision: int


class SigningKeyRow(NamedTuple):
    """A key that signs, or signed, tokens."""

    kid: str
    algorithm: str
    public_key: bytes | None
    until_us: int | None
    revision: int


class Mark(NamedTuple):
    """How far a register was read."""

    epoch: str
    """Chosen at random with a register's first change; empty before."""
    revision: int


@dataclass(frozen=True, slots=True)
class Delta:
    """What a register holds, or what of it changed since an earlier mark."""

    mark: Mark
    is_whole: bool
    holders: Iterable[HolderRow]
    subjects: Iterable[SubjectRow]
    keys: Iterable[KeyRow]
    """May be read once only."""
    tokens: Iterable[TokenRow] = ()
    """Those that were revoked and would be good otherwise."""
    signing_keys: Iterable[SigningKeyRow] = ()


@dataclass(frozen=True, slots=True)
class Roll:
    """Keys by digest, subjects by name, and what tenants and projects share.  Make one with `advance`, from `EMPTY`."""

    mark: Mark
    unreadable: tuple[str, ...]
    """Keys, tenants and subjects whose rows this version cannot read: closed.  At most `MAX_UNREADABLE`."""
    _keys: Mapping[bytes, StoredKey]
    _digests: Mapping[str, bytes]
    """By the key's name."""
    _former_digests: Mapping[str, bytes]
    _subjects: Mapping[str, StoredSubject]
    _own: Mapping[tuple[str, str], Shared]
    """What each tenant (with an empty project) and each project has itself."""
    _revoked: Mapping[str, TokenRow] = field(default_factory=dict)
    """By the token's id."""
    _signing_keys: Mapping[str, SigningKey] = field(default_factory=dict)

    def __len__(self) -> int:
        """How many keys it knows, those that have ended included."""
        return len(self._digests)

    def key(self, digest: bytes) -> StoredKey | None:
        """The key whose secret, or whose former secret, has this digest."""
        return self._keys.get(digest)

    def subject(self, name: str) -> StoredSubject | None:
        """The subject of this name."""
        return self._subjects.get(name)

    def shared(self, tenant: str, project: str) -> Shared:
        """What a tenant's and a project's keys share."""
        of_tenant = self._own.get((tenant, ""), NOTHING_SHARED)
        of_project = self._own.get((tenant, project), NOTHING_SHARED) if project else NOTHING_SHARED
        if of_project is NOTHING_SHARED:
            return of_tenant
        if of_tenant is NOTHING_SHARED:
            return of_project
        return Shared(
            of_project.limits + of_tenant.limits,
            of_project.budgets + of_tenant.budgets,
            of_project.is_unreadable or of_tenant.is_unreadable,
        )

    def signing_key(self, kid: str) -> SigningKey | None:
        """The key of this id that signs, or signed, tokens."""
        return self._signing_keys.get(kid)

    def token_revoked_at(self, jti: str) -> int | None:
        """When the token of this id was revoked, in microseconds since the epoch; `None` if it was not."""
        found = self._revoked.get(jti)
        return None if found is None else found.revoked_at_us

    def tenants(self) -> Iterator[str]:
        """Every tenant of the database, and the tenant of each key and of each subject, again for each."""
        for tenant, project in self._own:
            if not project:
                yield tenant
        for key in self._keys.values():
            yield key.principal.tenant
        for subject in self._subjects.values():
            yield subject.principal.tenant

    def knows(self, name: str) -> bool:
        """Whether there is a key of this name."""
        return name in self._digests


EMPTY: Final = Roll(Mark("", 0), (), {}, {}, {}, {}, {})


class Advanced(NamedTuple):
    """A new roll, and what its making saw."""

    roll: Roll
    cut: frozenset[str]
    """Whose calls in flight are to be ended: keys that were revoked since the roll before, `subject:NAME`, `token:JTI`."""
    touches_known: bool
    """Whether anything that was known already has changed, and not only new keys came."""


def advance(before: Roll, delta: Delta) -> Advanced:
    """Makes the roll that follows on one.  Takes some 10 ms for 100,000 keys, and longer only if all of them are new."""
    return _Making(EMPTY if delta.is_whole else before, before.mark).done(delta)


class _Grant(NamedTuple):
    """What keys of equal terms have in common."""

    terms: KeyTerms
    access: Access
    networks: Networks | None
    limits: RateSettings
    tags: tuple[tuple[str, str], ...]


class _Making:
    """One roll being made.  Equal terms are read once, and what they say is shared."""

    def __init__(self, base: Roll, seen: Mark) -> None:
        self._base = base
        self._seen = seen
        self._keys = dict(base._keys)  # noqa: SLF001 - a roll's maker
        self._digests = dict(base._digests)  # noqa: SLF001
        self._formers = dict(base._former_digests)  # noqa: SLF001
        self._subjects = dict(base._subjects)  # noqa: SLF001
        self._own = dict(base._own)  # noqa: SLF001
        self._revoked = dict(base._revoked)  # noqa: SLF001
        self._signing_keys = dict(base._signing_keys)  # noqa: SLF001
        self._grants: dict[str, _Grant] = {}
        self._shared: dict[tuple[str, str], Shared] = {}
        self._unreadable: list[str] = []
        self._read: set[str] = set()
        """Those of the base's unreadable ones whose rows came again."""
        self._cut: set[str] = set()
        self._touches_known = False

    def done(self, delta: Delta) -> Advanced:
        changed = {self._hold(row) for row in delta.holders}
        self._tenancy = Roll(delta.mark, (), {}, {}, {}, {}, self._own)
        if changed and not delta.is_whole:
            self._share_anew(changed)
        for token in delta.tokens:
            self._add_token(token, delta.mark)
        for signing_key in delta.signing_keys:
            self._add_signing_key(signing_key)
        for subject in delta.subjects:
            self._add_subject(subject, delta.mark)
        for key in delta.keys:
            self._add_key(key, delta.mark)
        still = (name for name in self._base.unreadable if name not in self._read)
        unreadable = (*self._unreadable, *still)[:MAX_UNREADABLE]
        roll = Roll(
            delta.mark,
            unreadable,
            self._keys,
            self._digests,
            self._formers,
            self._subjects,
            self._own,
            self._revoked,
            self._signing_keys,
        )
        return Advanced(roll, frozenset(self._cut), self._touches_known or bool(changed))

    def _hold(self, row: HolderRow) -> str:
        place = (row.tenant, row.project)
        scope = Scope("project", f"{row.tenant}/{row.project}") if row.project else Scope("tenant", row.tenant)
        self._own.pop(place, None)
        self._note_read(str(scope))
        if row.removed_at_us is not None:
            return row.tenant
        try:
            terms = _TERMS.decode(row.terms)
        except msgspec.DecodeError:
            self._unreadable.append(str(scope))
            self._own[place] = Shared(is_unreadable=True)
            return row.tenant
        limits, money = rates(terms), budgets(terms, scope, row.balance_nano)
        if not money and limits.is_empty:
            self._own[place] = NOTHING_SHARED
        else:
            self._own[place] = Shared(() if limits.is_empty else (ScopedRates(scope=scope, rates=limits),), money)
        return row.tenant

    def _note_read(self, name: str) -> None:
        if name in self._base.unreadable:
            self._read.add(name)

    def _add_key(self, row: KeyRow, mark: Mark) -> None:
        self._note_read(f"key:{row.name}")
        for digests in (self._digests, self._formers):
            known = digests.pop(row.name, None)
            if known is not None:
                self._touches_known = True
                self._keys.pop(known, None)
        self._note_cut(row.name, row, mark)
        grant = self._grant(f"key:{row.name}", row.terms)
        if grant is None:
            return
        principal = self._principal(grant, Scope("key", row.name), row)
        ending = _ending(row.revoked_at_us, row.expires_at_us)
        self._digests[row.name] = row.digest
        self._keys[row.digest] = StoredKey(row.digest, principal, ending)
        if row.former_digest is not None and row.former_until_us is not None:
            replaced = Ending("replaced", row.former_until_us)
            if ending is not None and (ending.kind == "revoked" or ending.at_us <= row.former_until_us):
                replaced = ending
            self._formers[row.name] = row.former_digest
            self._keys[row.former_digest] = StoredKey(row.former_digest, principal, replaced)

    def _note_cut(self, name: str, row: KeyRow | SubjectRow | TokenRow, mark: Mark) -> None:
        is_new = mark.epoch != self._seen.epoch or row.revision > self._seen.revision
        if row.cut and row.revoked_at_us is not None and is_new:
            self._cut.add(name)

    def _add_token(self, row: TokenRow, mark: Mark) -> None:
        self._touches_known = True
        self._note_cut(f"token:{row.jti}", row, mark)
        self._revoked[row.jti] = row

    def _add_signing_key(self, row: SigningKeyRow) -> None:
        self._touches_known = True
        self._note_read(f"signing-key:{row.kid}")
        self._signing_keys.pop(row.kid, None)
        try:
            algorithm = msgspec.convert(row.algorithm, Literal["HS256", "EdDSA"])
        except msgspec.ValidationError:
            self._unreadable.append(f"signing-key:{row.kid}")
            return
        self._signing_keys[row.kid] = SigningKey(row.kid, algorithm, row.public_key, row.until_us)

    def _add_subject(self, row: SubjectRow, mark: Mark) -> None:
        if self._subjects.pop(row.name, None) is not None:
            self._touches_known = True
        self._note_cut(f"subject:{row.name}", row, mark)
        self._note_read(f"subject:{row.name}")
        grant = self._grant(f"subject:{row.name}", row.terms)
        if grant is not None:
            principal = self._principal(grant, Scope("key", f"subject:{row.name}"), row)
            self._subjects[row.name] = StoredSubject(principal, _ending(row.revoked_at_us, row.expires_at_us))

    def _principal(self, grant: _Grant, scope: Scope, row: KeyRow | SubjectRow) -> Principal:
        return Principal(
            key=scope.name,
            subject=row.name if isinstance(row, SubjectRow) else "",
            tenant=sys.intern(row.tenant),
            project=sys.intern(row.project),
            access=grant.access,
            networks=grant.networks,
            limits=grant.limits,
            budgets=budgets(grant.terms, scope, row.balance_nano),
            shared=self._shared_of(row.tenant, row.project),
            tags=grant.tags,
            expires_at_us=row.expires_at_us,
        )

    def _grant(self, whose: str, text: str) -> _Grant | None:
        found = self._grants.get(text)
        if found is None:
            try:
                terms = _KEY_TERMS.decode(text)
                found = _Grant(
                    terms,
                    allow(terms.models, terms.providers),
                    networks(terms.ip_ranges),
                    rates(terms),
                    tuple(terms.tags.items()),
                )
            except (msgspec.DecodeError, ValueError):
                self._unreadable.append(whose)
                return None
            self._grants[text] = found
        return found

    def _shared_of(self, tenant: str, project: str) -> Shared:
        if not tenant:
            return NOTHING_SHARED
        found = self._shared.get((tenant, project))
        if found is None:
            found = self._shared[tenant, project] = self._tenancy.shared(tenant, project)
        return found

    def _share_anew(self, tenants: set[str]) -> None:
        """Gives every key of these tenants what is shared now."""
        for digest, key in self._keys.items():
            if key.principal.tenant in tenants:
                shared = self._shared_of(key.principal.tenant, key.principal.project)
                principal = msgspec.structs.replace(key.principal, shared=shared)
                self._keys[digest] = msgspec.structs.replace(key, principal=principal)
        for name, subject in self._subjects.items():
            if subject.principal.tenant in tenants:
                shared = self._shared_of(subject.principal.tenant, subject.principal.project)
                principal = msgspec.structs.replace(subject.principal, shared=shared)
                self._subjects[name] = msgspec.structs.replace(subject, principal=principal)


def _ending(revoked_at_us: int | None, expires_at_us: int | None) -> Ending | None:
    if revoked_at_us is not None:
        return Ending("revoked", revoked_at_us)
    return None if expires_at_us is None else Ending("expired", expires_at_us)
