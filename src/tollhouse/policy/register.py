"""The register of tenants, projects and keys, as whoever looks after it sees it: records, and how they are read.

Nothing here is for a call's way (that is `policy.roll`), and nothing here writes (that is `policy.registrar`).
"""

# ruff: noqa: S608 - every name that stands in a statement is our own; values are bound

from collections.abc import Callable, Sequence
from typing import Final, Literal, TypeVar

import msgspec

from tollhouse.config.values import did_you_mean
from tollhouse.errors import NotFound
from tollhouse.ledger.transaction import Row, Transaction, transact
from tollhouse.policy.terms import KeyTerms, Terms, decode

MAX_PAGE: Final = 1000
"""Records of one answer."""

T = TypeVar("T")
Kind = Literal["tenant", "project", "key"]


class Tenant(msgspec.Struct, frozen=True, kw_only=True):
    """A tenant as it is.  Times are microseconds since the epoch."""

    name: str
    terms: Terms
    balance_nano: int | None
    """What was paid in altogether, if it is prepaid."""
    created_at_us: int
    removed_at_us: int | None


class Project(msgspec.Struct, frozen=True, kw_only=True):
    """A project of a tenant as it is."""

    tenant: str
    name: str
    terms: Terms
    balance_nano: int | None
    created_at_us: int
    removed_at_us: int | None


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """A key as it is, without its secret.  Times are microseconds since the epoch."""

    name: str
    tenant: str
    project: str
    fingerprint: str
    """The first 8 hex digits of the SHA-256 of its secret."""
    terms: KeyTerms
    balance_nano: int | None
    """What was paid in altogether, if it is prepaid."""
    created_at_us: int
    expires_at_us: int | None
    revoked_at_us: int | None
    cut: bool
    """Whether its calls in flight were to be ended when it was revoked."""
    former_until_us: int | None
    """Until when the secret before the last rotation is good too."""


class TopUp(msgspec.Struct, frozen=True, kw_only=True):
    """Money that was paid in, or with a negative amount taken back."""

    kind: Kind
    name: str
    """`tenant/project` for a project."""
    amount_nano: int
    at_us: int
    actor: str
    note: str


def read(url: str, work: Callable[[Transaction], T]) -> T:
    """Runs `work` on the register as it is at one moment.  Blocks; not for a thread that runs an event loop."""
    return transact(url, work, writes=False)


def all_pages(page: Callable[[str], Sequence[T]], name: Callable[[T], str]) -> Sequence[T]:
    """Every record, in as many pages as it takes: `page` gets at most `MAX_PAGE` of those behind a name."""
    found: list[T] = []
    while True:
        records = page(name(found[-1]) if found else "")
        found += records
        if len(records) < MAX_PAGE:
            return found


def tenant(transaction: Transaction, name: str) -> Tenant:
    """A tenant, removed or not.  Raises `NotFound`."""
    rows = transaction.rows(f"SELECT {_TENANT} FROM tenants WHERE name = $1", name)
    if not rows:
        known = [one.name for one in tenants(transaction)]
        raise NotFound(
            f"There is no tenant {name[:80]!r}.{did_you_mean(name, known)}",
            hint=f"`tollhouse tenant create {name[:80]}` makes it.",
        )
    return _tenant(rows[0])


def tenants(
    transaction: Transaction, *, after: str = "", at_most: int = MAX_PAGE, removed_too: bool = False
) -> Sequence[Tenant]:
    """Tenants by name, those behind `after`."""
    rows = transaction.rows(
        f"SELECT {_TENANT} FROM tenants WHERE name > $1{_still(removed_too)} ORDER BY name LIMIT $2",
        after,
        at_most,
    )
    return [_tenant(row) for row in rows]


def all_tenants(transaction: Transaction, *, removed_too: bool = False) -> Sequence[Tenant]:
    """Every tenant by name, in as many pages as it takes."""
    return all_pages(
        lambda after: tenants(transaction, after=after, removed_too=removed_too), lambda tenant: tenant.name
    )


def project(transaction: Transaction, tenant_name: str, name: str) -> Project:
    """A project, removed or not.  Raises `NotFound`."""
    rows = transaction.rows(
        f"SELECT {_TENANT}, tenant FROM projects WHERE tenant = $1 AND name = $2",
        tenant_name,
        name,
    )
    if not rows:
        raise NotFound(
            f"The tenant {tenant_name[:80]!r} has no project {name[:80]!r}.",
            hint=f"`tollhouse project create {tenant_name[:80]}/{name[:80]}` makes it.",
        )
    return _project(rows[0])


def projects(transaction: Transaction, *, tenant_name: str = "", removed_too: bool = False) -> Sequence[Project]:
    """Projects by tenant and name: those of one tenant, or all."""
    rows = transaction.rows(
        f"SELECT {_TENANT}, tenant FROM projects WHERE ($1 = '' OR tenant = $1){_still(removed_too)} "
        "ORDER BY tenant, name",
        tenant_name,
    )
    return [_project(row) for row in rows]


def key(transaction: Transaction, name: str) -> Key:
    """A key, revoked or not.  Raises `NotFound`."""
    rows = transaction.rows(f"SELECT {_KEY} FROM keys WHERE name = $1", name)
    if not rows:
        raise NotFound(f"There is no key {name[:80]!r} in the database.", hint="`tollhouse key list` names them.")
    return _key(rows[0])


def keys(
    transaction: Transaction,
    *,
    tenant_name: str = "",
    project_name: str = "",
    after: str = "",
    at_most: int = MAX_PAGE,
    revoked_too: bool = False,
) -> Sequence[Key]:
    """Keys by name, those behind `after`: of one tenant or project of a tenant, or all."""
    live = "" if revoked_too else " AND revoked_at_us IS NULL"
    rows = transaction.rows(
        f"SELECT {_KEY} FROM keys WHERE name > $1 AND ($2 = '' OR tenant = $2) AND ($3 = '' OR project = $3)"
        f"{live} ORDER BY name LIMIT $4",
        after,
        tenant_name,
        project_name,
        at_most,
    )
    return [_key(row) for row in rows]


def all_keys(
    transaction: Transaction, *, tenant_name: str = "", project_name: str = "", revoked_too: bool = False
) -> Sequence[Key]:
    """Every key by name, in as many pages as it takes."""
    return all_pages(
        lambda after: keys(
            transaction, tenant_name=tenant_name, project_name=project_name, after=after, revoked_too=revoked_too
        ),
        lambda key: key.name,
    )


def spent_by_key(transaction: Transaction, name: str) -> int:
    """What the calls of a key have cost since the ledger began, in nano-USD; those of unknown price are not in it."""
    rows = transaction.rows("SELECT CAST(coalesce(sum(cost_nano), 0) AS BIGINT) FROM spend_hours WHERE key = $1", name)
    return int(rows[0][0])


def top_ups(transaction: Transaction, kind: Kind, name: str) -> Sequence[TopUp]:
    """What was paid in, oldest first."""
    rows = transaction.rows(
        "SELECT kind, name, amount_nano, at_us, actor, note FROM top_ups WHERE kind = $1 AND name = $2 ORDER BY seq",
        kind,
        name,
    )
    return [msgspec.convert(dict(zip(TopUp.__struct_fields__, row, strict=True)), TopUp) for row in rows]


_TENANT: Final = "name, terms, balance_nano, created_at_us, removed_at_us"
_KEY: Final = (
    "name, tenant, project, digest, terms, balance_nano, created_at_us, expires_at_us, revoked_at_us, cut, "
    "former_until_us"
)


def _still(removed_too: bool) -> str:  # noqa: FBT001 - one place
    return "" if removed_too else " AND removed_at_us IS NULL"


def _tenant(row: Row) -> Tenant:
    name, terms, balance_nano, created_at_us, removed_at_us = row
    return Tenant(
        name=name,
        terms=decode(terms, Terms),
        balance_nano=balance_nano,
        created_at_us=created_at_us,
        removed_at_us=removed_at_us,
    )


def _project(row: Row) -> Project:
    *common, tenant_name = row
    return Project(tenant=tenant_name, **msgspec.structs.asdict(_tenant(tuple(common))))


def _key(row: Row) -> Key:
    name, tenant_name, project_name, own, terms, balance, created_at_us, expires, revoked, cut, former = row
    return Key(
        name=name,
        tenant=tenant_name,
        project=project_name,
        fingerprint=own[:4].hex(),
        terms=decode(terms, KeyTerms),
        balance_nano=balance,
        created_at_us=created_at_us,
        expires_at_us=expires,
        revoked_at_us=revoked,
        cut=bool(cut),
        former_until_us=former,
    )
