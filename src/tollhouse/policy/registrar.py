"""Who may change the register of tenants, projects and keys, and how: the only code that writes it.

The command line and the admin API call these functions and no others.  Each checks what it is given against what may be
there, changes rows within one transaction, tells what it changed to whoever keeps the audit log, and returns the record as
it now is.  A secret is returned once, by `create_key` and `rotate_key`, and stored as its digest.

    issued = write(url, lambda desk: create_key(desk, NewKey(name="ci")), actor="cli:ann", audit=audit)

Every writing transaction first raises the register's revision, whose row it so locks until it ends, and stamps the rows that it
changes: that is how directories learn of a change (`policy.directory`).  Names are never given to somebody else, for they stand
in the books: what was removed or revoked stays as a row.
"""

# ruff: noqa: S608 - every name that stands in a statement is our own; values are bound

import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from tollhouse.errors import BadRequest, Conflict, NotFound
from tollhouse.ledger.transaction import Transaction, transact
from tollhouse.policy.identity import digest, wall_us
from tollhouse.policy.key_text import RANDOM_BYTES, key_text
from tollhouse.policy.register import (
    Key,
    Kind,
    Project,
    Tenant,
    TopUp,
    all_keys,
    key,
    project,
    tenant,
    top_ups,
)
from tollhouse.policy.terms import MAX_BUDGET_NANO, AnyTerms, KeyTerms, Terms, check_name, checked, encode

MAX_EXPIRY_SECONDS: Final = 20 * 366 * 86_400
MAX_OVERLAP_SECONDS: Final = 90 * 86_400
MAX_NOTE_CHARACTERS: Final = 200

T = TypeVar("T")

# --------------------------------------------------------------------------------------------------------- what may be asked


@dataclass(frozen=True, slots=True)
class Issued:
    """A key with its secret, which nobody will see again."""

    key: Key
    secret: str = field(repr=False)


class NewTenant(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A tenant to be made."""

    name: str
    terms: Terms = Terms()
    balance_nano: int | None = None
    """Makes it prepaid, with this as its first top-up."""


class NewProject(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A project to be made."""

    tenant: str
    name: str
    terms: Terms = Terms()
    balance_nano: int | None = None
    """As a tenant's."""


class NewKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A key to be made."""

    name: str
    tenant: str = ""
    project: str = ""
    terms: KeyTerms = KeyTerms()
    expires_at_us: int | None = None
    balance_nano: int | None = None
    """Makes it prepaid, with this as its first top-up."""


class Edit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Changes of terms.  What is not named stays; `None` takes a limit, a budget or a list away."""

    requests_per_minute: int | UnsetType | None = UNSET
    tokens_per_minute: int | UnsetType | None = UNSET
    concurrent: int | UnsetType | None = UNSET
    hourly_nano: int | UnsetType | None = UNSET
    daily_nano: int | UnsetType | None = UNSET
    weekly_nano: int | UnsetType | None = UNSET
    monthly_nano: int | UnsetType | None = UNSET
    total_nano: int | UnsetType | None = UNSET
    is_soft: bool | UnsetType = UNSET
    alert_at: tuple[float, ...] | UnsetType | None = UNSET
    clamp_output: bool | UnsetType = UNSET
    tags: dict[str, str | None] | UnsetType = UNSET
    """Those named are set, or with `None` taken away; others stay."""


class KeyEdit(Edit, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Changes of a key.  Its name, tenant and project cannot be changed: they stand in the books."""

    models: tuple[str, ...] | UnsetType | None = UNSET
    providers: tuple[str, ...] | UnsetType | None = UNSET
    ip_ranges: tuple[str, ...] | UnsetType | None = UNSET
    expires_at_us: int | UnsetType | None = UNSET


# ------------------------------------------------------------------------------------------------------------- transactions


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """Something that was changed, for the audit log."""

    actor: str
    at_us: int
    action: str
    """`key.create`: a noun and a verb."""
    target: str
    """`key:dev`."""
    fields: Mapping[str, object]
    """What was set, with new values.  Never a secret, nor its digest."""


class Audit(Protocol):
    """Writes changes into the audit log, within the transaction that makes them and as its last step."""

    def __call__(self, transaction: Transaction, changes: Sequence[Change]) -> None:
        """Raises to undo everything."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """One writing transaction, as the functions here need it.  `write` makes it."""

    transaction: Transaction
    actor: str
    now_us: int
    revision: int
    """The one that this transaction makes."""
    reserved: Collection[str]
    """Names of the configuration's keys."""
    random_bytes: Callable[[int], bytes]
    changes: list[Change]

    def note(self, action: str, target: str, fields: Mapping[str, object]) -> None:
        """Keeps a change for the audit log."""
        self.changes.append(
            Change(actor=self.actor, at_us=self.now_us, action=action, target=target, fields=dict(fields))
        )


def write(
    url: str,
    work: Callable[[Desk], T],
    *,
    actor: str,
    audit: Audit | None = None,
    reserved: Collection[str] = (),
    now_us: Callable[[], int] = wall_us,
    random_bytes: Callable[[int], bytes] = secrets.token_bytes,
) -> T:
    """Runs `work` in one writing transaction and audits what it changed.  Blocks; not for a thread that runs an event loop.

    `reserved` are the names of the configuration's keys, which no key of the database may have.  Raises `StoreUnavailable`, and
    what `work` raises: `BadRequest`, `NotFound`, `Conflict`; then nothing was changed.
    """

    def run(transaction: Transaction) -> T:
        # A new register gets its epoch with its first change, so that it is told from another that had as many.
        transaction.run(
            "UPDATE identity_state SET revision = revision + 1, epoch = CASE WHEN epoch = '' THEN $1 ELSE epoch END",
            random_bytes(8).hex(),
        )
        desk = Desk(
            transaction=transaction,
            actor=actor,
            now_us=now_us(),
            revision=int(transaction.rows("SELECT revision FROM identity_state")[0][0]),
            reserved=reserved,
            random_bytes=random_bytes,
            changes=[],
        )
        done = work(desk)
        if audit is not None and desk.changes:
            audit(transaction, desk.changes)
        return done

    return transact(url, run)


# ------------------------------------------------------------------------------------------------------- tenants and projects


def create_tenant(desk: Desk, new: NewTenant) -> Tenant:
    """Makes a tenant, or brings a removed one back.  Raises `Conflict` if it is there."""
    check_name(new.name, "tenant")
    _create_holder(desk, "tenant", "tenants", {"name": new.name}, new)
    return tenant(desk.transaction, new.name)


def create_project(desk: Desk, new: NewProject) -> Project:
    """Makes a project, or brings a removed one back.  Raises `Conflict` if it is there, `NotFound` for its tenant."""
    live_tenant(desk.transaction, new.tenant)
    check_name(new.name, "project")
    _create_holder(desk, "project", "projects", {"tenant": new.tenant, "name": new.name}, new)
    return project(desk.transaction, new.tenant, new.name)


def edit_tenant(desk: Desk, name: str, edit: Edit) -> Tenant:
    """Changes its terms.  Raises `NotFound`."""
    terms = edited(live_tenant(desk.transaction, name).terms, edit)
    desk.transaction.run(
        "UPDATE tenants SET terms = $1, revision = $2 WHERE name = $3", encode(terms), desk.revision, name
    )
    desk.note("tenant.edit", f"tenant:{name}", named_fields(edit))
    return tenant(desk.transaction, name)


def edit_project(desk: Desk, tenant_name: str, name: str, edit: Edit) -> Project:
    """Changes its terms.  Raises `NotFound`."""
    terms = edited(live_project(desk.transaction, tenant_name, name).terms, edit)
    desk.transaction.run(
        "UPDATE projects SET terms = $1, revision = $2 WHERE tenant = $3 AND name = $4",
        encode(terms),
        desk.revision,
        tenant_name,
        name,
    )
    desk.note("project.edit", f"project:{tenant_name}/{name}", named_fields(edit))
    return project(desk.transaction, tenant_name, name)


def remove_tenant(desk: Desk, name: str, *, revokes_keys: bool = False, cuts: bool = False) -> Tenant:
    """Removes a tenant and its projects.  Raises `NotFound`, and `Conflict` if it has keys and `revokes_keys` is not said."""
    live_tenant(desk.transaction, name)
    _empty(desk, name, "", revokes_keys=revokes_keys, cuts=cuts)
    desk.transaction.run(
        "UPDATE projects SET removed_at_us = $1, revision = $2 WHERE tenant = $3 AND removed_at_us IS NULL",
        desk.now_us,
        desk.revision,
        name,
    )
    desk.transaction.run(
        "UPDATE tenants SET removed_at_us = $1, revision = $2 WHERE name = $3", desk.now_us, desk.revision, name
    )
    desk.note("tenant.remove", f"tenant:{name}", {})
    return tenant(desk.transaction, name)


def remove_project(
    desk: Desk, tenant_name: str, name: str, *, revokes_keys: bool = False, cuts: bool = False
) -> Project:
    """Removes a project.  Raises `NotFound`, and `Conflict` if it has keys and `revokes_keys` is not said."""
    live_project(desk.transaction, tenant_name, name)
    _empty(desk, tenant_name, name, revokes_keys=revokes_keys, cuts=cuts)
    desk.transaction.run(
        "UPDATE projects SET removed_at_us = $1, revision = $2 WHERE tenant = $3 AND name = $4",
        desk.now_us,
        desk.revision,
        tenant_name,
        name,
    )
    desk.note("project.remove", f"project:{tenant_name}/{name}", {})
    return project(desk.transaction, tenant_name, name)


def live_tenant(transaction: Transaction, name: str) -> Tenant:
    """A tenant that was not removed.  Raises `NotFound`."""
    found = tenant(transaction, name)
    if found.removed_at_us is not None:
        raise NotFound(
            f"The tenant {name!r} was removed.",
            hint=f"`tollhouse tenant create {name}` brings it back.",
            param="tenant",
        )
    return found


def live_project(transaction: Transaction, tenant_name: str, name: str) -> Project:
    """A project that was not removed, of a tenant that was not.  Raises `NotFound`."""
    live_tenant(transaction, tenant_name)
    found = project(transaction, tenant_name, name)
    if found.removed_at_us is not None:
        raise NotFound(
            f"The project {tenant_name}/{name} was removed.",
            hint=f"`tollhouse project create {tenant_name}/{name}` brings it back.",
            param="project",
        )
    return found


def check_holder(transaction: Transaction, tenant_name: str, project_name: str) -> None:
    """Looks at whom something new is to belong to; empty names are nobody.  Raises `NotFound`, `BadRequest`."""
    if project_name:
        if not tenant_name:
            raise BadRequest("A project belongs to a tenant; name the tenant too.", param="tenant")
        live_project(transaction, tenant_name, project_name)
    elif tenant_name:
        live_tenant(transaction, tenant_name)


# ---------------------------------------------------------------------------------------------------------------------- keys


def create_key(desk: Desk, new: NewKey) -> Issued:
    """Makes a key.  Raises `Conflict` if its name was ever given, `NotFound` for its tenant or project, `BadRequest`."""
    check_name(new.name, "key")
    if new.name in desk.reserved:
        raise Conflict(
            f"The configuration has a key named {new.name!r} (auth.keys), and both kinds share their names.",
            hint="Choose another name.",
            param="name",
        )
    if found := desk.transaction.rows("SELECT revoked_at_us FROM keys WHERE name = $1", new.name):
        was = f"There is a key named {new.name!r}"
        if found[0][0] is not None:
            was = f"{was} already, revoked; the books name it"
        raise Conflict(f"{was}.", hint="Choose another name.", param="name")
    check_holder(desk.transaction, new.tenant, new.project)
    terms = _without_two_totals(checked(new.terms), new.balance_nano)
    check_expiry(desk, new.expires_at_us)
    secret = key_text(desk.random_bytes(RANDOM_BYTES))
    desk.transaction.run(
        "INSERT INTO keys (name, tenant, project, digest, expires_at_us, cut, terms, created_at_us, revision) "
        "VALUES ($1, $2, $3, $4, $5, 0, $6, $7, $8)",
        new.name,
        new.tenant,
        new.project,
        digest(secret.encode()),
        new.expires_at_us,
        encode(terms),
        desk.now_us,
        desk.revision,
    )
    desk.note("key.create", f"key:{new.name}", made_fields(new.tenant, new.project, new.expires_at_us, terms))
    if new.balance_nano is not None:
        _begin_balance(desk, "key", new.name, new.balance_nano)
    return Issued(key(desk.transaction, new.name), secret)


def edit_key(desk: Desk, name: str, edit: KeyEdit) -> Key:
    """Changes terms or expiry, also of one that has expired.  Raises `NotFound`, `Conflict` if revoked, `BadRequest`."""
    found = _live_key(desk.transaction, name)
    terms = _without_two_totals(edited(found.terms, edit), found.balance_nano)
    expires_at_us = edited_expiry(desk, found.expires_at_us, edit)
    desk.transaction.run(
        "UPDATE keys SET terms = $1, expires_at_us = $2, revision = $3 WHERE name = $4",
        encode(terms),
        expires_at_us,
        desk.revision,
        name,
    )
    desk.note("key.edit", f"key:{name}", named_fields(edit))
    return key(desk.transaction, name)


def revoke_key(desk: Desk, name: str, *, cuts: bool = False) -> Key:
    """Takes a key back for good; with `cuts`, its calls in flight are ended too.  Raises `NotFound`.

    May be said again of a revoked key, to cut what is still in flight.
    """
    found = key(desk.transaction, name)
    write_revocation(desk, "key", name, found, cuts=cuts)
    return key(desk.transaction, name)


def rotate_key(desk: Desk, name: str, *, overlap_seconds: float = 0.0) -> Issued:
    """Gives a key a new secret; the one before stays good for a while, and any earlier one ends at once.

    Raises `NotFound`, `Conflict` if it is revoked, `BadRequest` for an overlap of more than `MAX_OVERLAP_SECONDS`.
    """
    _live_key(desk.transaction, name)
    if not 0 <= overlap_seconds <= MAX_OVERLAP_SECONDS:
        raise BadRequest(f"An overlap is from 0 s to {MAX_OVERLAP_SECONDS // 86_400} days.", param="overlap")
    until_us = desk.now_us + int(overlap_seconds * 1_000_000) if overlap_seconds else None
    secret = key_text(desk.random_bytes(RANDOM_BYTES))
    desk.transaction.run(
        "UPDATE keys SET former_digest = digest, former_until_us = $1, revision = $2 WHERE name = $3",
        # Without an overlap too the former digest is kept: its bearer is told that it was replaced.
        desk.now_us if until_us is None else until_us,
        desk.revision,
        name,
    )
    desk.transaction.run("UPDATE keys SET digest = $1 WHERE name = $2", digest(secret.encode()), name)
    desk.note("key.rotate", f"key:{name}", {"former_until_us": until_us or desk.now_us})
    return Issued(key(desk.transaction, name), secret)


# -------------------------------------------------------------------------------------------------------------------- top-ups


def top_up(desk: Desk, kind: Kind, name: str, amount_nano: int, *, note: str = "") -> TopUp:
    """Pays into the balance of what was made prepaid; a negative amount takes back.  `name` is `tenant/project` for a project.

    Raises `NotFound`, `Conflict` if it is not prepaid or would fall below nothing, `BadRequest`.
    """
    balance_nano = _balance(desk.transaction, kind, name)
    if balance_nano is None:
        raise Conflict(
            f"The {kind} {name!r} is not prepaid.",
            hint="A balance counts all that was ever spent, so it is given when something is made: --balance.",
        )
    if amount_nano == 0 or abs(amount_nano) > MAX_BUDGET_NANO or balance_nano + amount_nano > MAX_BUDGET_NANO:
        raise BadRequest(
            f"A top-up is not nothing, and a balance at most ${MAX_BUDGET_NANO // 10**9:,}.", param="amount"
        )
    if balance_nano + amount_nano < 0:
        raise Conflict(f"Only ${balance_nano / 1e9:.2f} was paid into the {kind} {name!r}.")
    return _pay_in(desk, kind, name, amount_nano, note=note)


# ---------------------------------------------------------------------------------------------------------------------- edits


def check_expiry(desk: Desk, expires_at_us: int | None) -> None:
    """Raises `BadRequest` for a moment that is over, or further away than anything is good for."""
    if expires_at_us is not None and not desk.now_us < expires_at_us <= desk.now_us + MAX_EXPIRY_SECONDS * 1_000_000:
        raise BadRequest("A key expires in the future, within 20 years.", param="expires")


def edited(terms: AnyTerms, edit: Edit) -> AnyTerms:
    """The terms with the edit laid over them, checked."""
    named = named_fields(edit)
    named.pop("expires_at_us", None)
    tags = named.pop("tags", None)
    known = {one.name: one for one in msgspec.structs.fields(terms)}
    fresh = type(terms)()
    changed = {name: getattr(fresh, name) if value is None else value for name, value in named.items() if name in known}
    if isinstance(tags, dict):
        merged: dict[str, str | None] = {**terms.tags, **tags}
        changed["tags"] = {name: value for name, value in merged.items() if value is not None}
    return checked(msgspec.structs.replace(terms, **changed))


def named_fields(edit: Edit) -> dict[str, object]:
    """The fields that an edit names."""
    return {name: value for name, value in msgspec.structs.asdict(edit).items() if value is not UNSET}


def edited_expiry(desk: Desk, expires_at_us: int | None, edit: KeyEdit) -> int | None:
    """When it ends after the edit.  Raises `BadRequest` for a new end that has passed, or is too far away."""
    if isinstance(edit.expires_at_us, UnsetType):
        return expires_at_us
    check_expiry(desk, edit.expires_at_us)
    return edit.expires_at_us


class Revocable(Protocol):
    """A record of what can be revoked."""

    @property
    def revoked_at_us(self) -> int | None: ...

    @property
    def cut(self) -> bool: ...


def write_revocation(
    desk: Desk, kind: Literal["key", "subject", "token"], name: str, found: Revocable | None = None, *, cuts: bool
) -> None:
    """Writes down that something is revoked: since when it first was, and to be cut once that was said.

    `found` is the record as it was; without one it was not revoked.
    """
    table, column = _REVOCABLE[kind]
    desk.transaction.run(
        f"UPDATE {table} SET revoked_at_us = $1, cut = $2, revision = $3 WHERE {column} = $4",
        desk.now_us if found is None or found.revoked_at_us is None else found.revoked_at_us,
        int(cuts or (found is not None and found.cut)),
        desk.revision,
        name,
    )
    desk.note(f"{kind}.revoke", f"{kind}:{name}", {"cut": cuts})


def set_fields(terms: Terms) -> dict[str, object]:
    """The fields of terms that are not at their defaults."""
    plain = msgspec.to_builtins(terms)
    return dict(plain) if isinstance(plain, dict) else {}


def made_fields(tenant: str, project: str, expires_at_us: int | None, terms: Terms) -> dict[str, object]:
    """What the audit log hears of something new: whose it is, when it ends, what it may do; what there is of that."""
    fields = {"tenant": tenant, "project": project, "expires_at_us": expires_at_us}
    return {name: value for name, value in fields.items() if value} | set_fields(terms)


# -------------------------------------------------------------------------------------------------------------------- private

_REVOCABLE: Final = {"key": ("keys", "name"), "subject": ("subjects", "name"), "token": ("tokens", "jti")}
_WHERE: Final[Mapping[Kind, tuple[str, str]]] = {
    "tenant": ("tenants", "name = $1"),
    "project": ("projects", "tenant || '/' || name = $1"),
    "key": ("keys", "name = $1"),
}


def _live_key(transaction: Transaction, name: str) -> Key:
    found = key(transaction, name)
    if found.revoked_at_us is not None:
        raise Conflict(f"The key {name!r} is revoked, and stays so.", hint="`tollhouse key create` makes another.")
    return found


def _create_holder(desk: Desk, kind: Kind, table: str, names: Mapping[str, str], new: NewTenant | NewProject) -> None:
    where = " AND ".join(f"{column} = ${number}" for number, column in enumerate(names, 1))
    found = desk.transaction.rows(f"SELECT removed_at_us FROM {table} WHERE {where}", *names.values())
    shown = "/".join(names.values())
    if found and found[0][0] is None:
        raise Conflict(f"There is a {kind} {shown!r}.", param="name")
    terms = _without_two_totals(checked(new.terms), new.balance_nano)
    if found:
        desk.transaction.run(
            f"UPDATE {table} SET removed_at_us = NULL, balance_nano = NULL, terms = ${len(names) + 1}, "
            f"revision = ${len(names) + 2} WHERE {where}",
            *names.values(),
            encode(terms),
            desk.revision,
        )
    else:
        columns = [*names, "terms", "created_at_us", "revision"]
        places = ", ".join(f"${number}" for number in range(1, len(columns) + 1))
        desk.transaction.run(
            f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places})",
            *names.values(),
            encode(terms),
            desk.now_us,
            desk.revision,
        )
    desk.note(f"{kind}.create", f"{kind}:{shown}", set_fields(terms))
    if new.balance_nano is not None:
        _begin_balance(desk, kind, shown, new.balance_nano)


def _empty(desk: Desk, tenant_name: str, project_name: str, *, revokes_keys: bool, cuts: bool) -> None:
    """Revokes the live keys of a tenant or project that is to be removed, if that was said."""
    found = all_keys(desk.transaction, tenant_name=tenant_name, project_name=project_name)
    if found and not revokes_keys:
        raise _not_empty(tenant_name, project_name, f"keys: {_first_of([one.name for one in found])}")
    for one in found:
        write_revocation(desk, "key", one.name, one, cuts=cuts)
    _empty_of_tokens(desk, tenant_name, project_name, revokes=revokes_keys, cuts=cuts)
    _empty_of_subjects(desk, tenant_name, project_name, revokes=revokes_keys, cuts=cuts)


def _empty_of_tokens(desk: Desk, tenant_name: str, project_name: str, *, revokes: bool, cuts: bool) -> None:
    """The same for signed tokens."""
    good = [
        jti
        for (jti,) in desk.transaction.rows(
            "SELECT jti FROM tokens WHERE tenant = $1 AND ($2 = '' OR project = $2) AND revoked_at_us IS NULL "
            "AND expires_at_us > $3",
            tenant_name,
            project_name,
            desk.now_us,
        )
    ]
    if good and not revokes:
        raise _not_empty(tenant_name, project_name, f"{len(good)} signed {'token' if len(good) == 1 else 'tokens'}")
    for jti in good:
        write_revocation(desk, "token", jti, cuts=cuts)


def _empty_of_subjects(desk: Desk, tenant_name: str, project_name: str, *, revokes: bool, cuts: bool) -> None:
    """The same for subjects of signed tokens."""
    live = [
        name
        for (name,) in desk.transaction.rows(
            "SELECT name FROM subjects WHERE tenant = $1 AND ($2 = '' OR project = $2) AND revoked_at_us IS NULL "
            "ORDER BY name",
            tenant_name,
            project_name,
        )
    ]
    if live and not revokes:
        raise _not_empty(tenant_name, project_name, f"subjects: {_first_of(live)}")
    for name in live:
        write_revocation(desk, "subject", name, cuts=cuts)


def _not_empty(tenant_name: str, project_name: str, what: str) -> Conflict:
    whose = f"project {tenant_name}/{project_name}" if project_name else f"tenant {tenant_name!r}"
    return Conflict(f"The {whose} has {what}.", hint="Revoke them first, or with it: --revoke-keys.")


def _first_of(names: Sequence[str]) -> str:
    return ", ".join(names[:10]) + (", …" if len(names) > 10 else "")


def _begin_balance(desk: Desk, kind: Kind, name: str, amount_nano: int) -> None:
    if not 0 < amount_nano <= MAX_BUDGET_NANO:
        raise BadRequest(f"A balance is above nothing and at most ${MAX_BUDGET_NANO // 10**9:,}.", param="balance")
    _pay_in(desk, kind, name, amount_nano, note="")


def _pay_in(desk: Desk, kind: Kind, name: str, amount_nano: int, *, note: str) -> TopUp:
    if len(note) > MAX_NOTE_CHARACTERS or not note.isprintable():
        raise BadRequest(f"A note is one line of at most {MAX_NOTE_CHARACTERS} characters.", param="note")
    paid = TopUp(kind=kind, name=name, amount_nano=amount_nano, at_us=desk.now_us, actor=desk.actor, note=note)
    desk.transaction.run(
        "INSERT INTO top_ups (kind, name, amount_nano, at_us, actor, note) VALUES ($1, $2, $3, $4, $5, $6)",
        *msgspec.structs.astuple(paid),
    )
    # All that was ever paid in, also before a removed tenant came back: what it has spent is counted so too.
    paid_in = sum(one.amount_nano for one in top_ups(desk.transaction, kind, name))
    table, where = _WHERE[kind]
    desk.transaction.run(
        f"UPDATE {table} SET balance_nano = $2, revision = $3 WHERE {where}",
        name,
        paid_in,
        desk.revision,
    )
    desk.note(f"{kind}.topup", f"{kind}:{name}", {"amount_nano": amount_nano, "note": note})
    return paid


def _balance(transaction: Transaction, kind: Kind, name: str) -> int | None:
    if kind == "tenant":
        return live_tenant(transaction, name).balance_nano
    if kind == "project":
        return live_project(transaction, *name.partition("/")[::2]).balance_nano
    return _live_key(transaction, name).balance_nano


def _without_two_totals(terms: AnyTerms, balance_nano: int | None) -> AnyTerms:
    if balance_nano is not None and terms.total_nano is not None:
        raise BadRequest("A prepaid balance is a total budget already; leave one of them out.", param="total")
    return terms
