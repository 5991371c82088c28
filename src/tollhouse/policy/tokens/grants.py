"""What a token's bearer may do: what the database says of its subject, else what the token says, within configured bounds."""

from dataclasses import replace
from typing import Final

import msgspec

from tollhouse.config.schema import GrantSettings, RateSettings, Scope
from tollhouse.errors import BadRequest, TokenExpired, TokenMalformed, TokenRevoked
from tollhouse.policy.access import allow, both, networks, overlap
from tollhouse.policy.identity import Ending, Principal, Roll, check_readable
from tollhouse.policy.terms import KeyTerms, budgets, check_name, checked, rates
from tollhouse.policy.tokens.claims import Claims, shown

CLAIM: Final = "tollhouse"
"""Our own claim.  Only tokens that were signed with a key of this gateway are asked for it."""


class Grant(KeyTerms, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What the claim says: a key's terms, and whom the subject belongs to."""

    tenant: str = ""
    project: str = ""


NO_GRANT: Final = Grant()


class Bearer(msgspec.Struct, frozen=True, gc=False):
    """Who a token that was checked is for."""

    subject: str
    """As the database and the books call it."""
    token: str
    """Its `jti`, if it has one."""
    grant: Grant
    defaults: GrantSettings
    expires_at_us: int


def read_grant(claims: Claims) -> Grant:
    """What a token of our own says.  Raises `TokenMalformed`, also for what a newer version may understand: it is closed."""
    said = claims.get(CLAIM)
    if said is None:
        return NO_GRANT
    try:
        return check_grant(msgspec.convert(said, Grant))
    except (msgspec.ValidationError, BadRequest) as error:
        raise TokenMalformed(
            f"The claim `{CLAIM}` of this token cannot be used: {str(error)[:200].rstrip('.')}.",
            hint="Ask whoever issued it for another.",
        ) from error


def check_grant(grant: Grant) -> Grant:
    """The grant with its lists in order.  Raises `BadRequest` naming the field."""
    for name, what in ((grant.tenant, "tenant"), (grant.project, "project")):
        if name:
            check_name(name, what)
    if grant.project and not grant.tenant:
        raise BadRequest("A project belongs to a tenant; name the tenant too.", param="tenant")
    return checked(grant)


def write_grant(grant: Grant) -> dict[str, object]:
    """The claim of a grant, without what is at its default."""
    plain = msgspec.to_builtins(grant)
    return plain if isinstance(plain, dict) else {}


def principal_of(bearer: Bearer, roll: Roll, now_us: int) -> tuple[Principal, int]:
    """Who it is now, and until when nothing but a new roll can change that, in microseconds since the epoch.

    Raises `TokenRevoked` and `TokenExpired` for a subject that has ended, `StoreUnavailable` for one whose terms cannot be
    read.
    """
    stored = roll.subject(bearer.subject)
    if stored is not None:
        if stored.ending is not None and stored.ending.has_come(now_us):
            raise _ended(bearer.subject, stored.ending)
        check_readable(stored.principal)
        until_us = bearer.expires_at_us if stored.ending is None else min(stored.ending.at_us, bearer.expires_at_us)
        return msgspec.structs.replace(stored.principal, token=bearer.token), until_us
    made = _made(bearer, roll)
    check_readable(made)
    return made, bearer.expires_at_us


def _made(bearer: Bearer, roll: Roll) -> Principal:
    grant, defaults = bearer.grant, bearer.defaults
    scope = Scope("key", f"subject:{bearer.subject}")
    tenant, project = grant.tenant, grant.project
    if not tenant:
        tenant, project = defaults.tenant, defaults.project
    return Principal(
        key=scope.name,
        subject=bearer.subject,
        token=bearer.token,
        tenant=tenant,
        project=project,
        access=both(allow(grant.models, grant.providers), allow(defaults.models, defaults.providers)),
        networks=overlap(networks(grant.ip_ranges), networks(defaults.ip_ranges)),
        limits=_stricter(rates(grant), defaults.limits),
        # Where both have a budget of the same window, the rules take the smaller one.
        budgets=(*budgets(grant, scope, None), *(replace(budget, scope=scope) for budget in defaults.budgets)),
        shared=roll.shared(tenant, project),
        tags=tuple(grant.tags.items()),
        expires_at_us=bearer.expires_at_us,
    )


def _stricter(one: RateSettings, other: RateSettings) -> RateSettings:
    return RateSettings(
        requests_per_minute=_lower(one.requests_per_minute, other.requests_per_minute),
        tokens_per_minute=_lower(one.tokens_per_minute, other.tokens_per_minute),
        concurrent=_lower(one.concurrent, other.concurrent),
    )


def _lower(one: int | None, other: int | None) -> int | None:
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)


def _ended(subject: str, ending: Ending) -> TokenRevoked | TokenExpired:
    if ending.kind == "revoked":
        return TokenRevoked(
            f"The subject {subject!r} was revoked on {shown(ending.at_us)}, and all its tokens with it.",
            hint=f"Whoever runs this gateway can let it in again: tollhouse subject restore {subject}.",
        )
    return TokenExpired(
        f"The time of the subject {subject!r} ended on {shown(ending.at_us)}.",
        hint=f"Whoever runs this gateway can extend it: tollhouse subject edit {subject} --expires-in 30d.",
    )
