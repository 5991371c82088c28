"""Tenants, projects and keys over the network: the same functions that the command line calls."""

from typing import Annotated, Any, Final

import msgspec

from tollhouse.policy import register, registrar
from tollhouse.policy.register import Key, Kind, Project, Tenant, TopUp
from tollhouse.policy.registrar import MAX_OVERLAP_SECONDS, Edit, Issued, KeyEdit, NewKey, NewProject, NewTenant
from tollhouse.server.admin.desk import at_desk, looked_up
from tollhouse.server.admin.operation import MAX_PAGE, Asked, Limit, Nothing, Operation, Page, page_of


class ManyTenants(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which tenants are wanted."""

    after: str = ""
    """Those whose names come behind this one."""
    limit: Limit = 100
    removed: bool = False
    """Those that were removed too."""


class ManyProjects(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which projects are wanted."""

    tenant: str = ""
    removed: bool = False


class ManyKeys(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which keys are wanted."""

    tenant: str = ""
    project: str = ""
    after: str = ""
    """Those whose names come behind this one."""
    limit: Limit = 100
    revoked: bool = False
    """Those that were revoked too."""


class ManyTopUps(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whose top-ups are wanted."""

    kind: Kind
    name: str
    """`tenant/project` for a project."""


class Removal(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a tenant or a project is removed."""

    revoke_keys: bool = False
    """Its keys with it; otherwise it must have none."""
    cut: bool = False
    """End the keys' calls in flight too."""


class Revocation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a key is revoked."""

    cut: bool = False
    """End its calls in flight too."""


class Rotation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a key gets a new secret."""

    overlap_seconds: Annotated[float, msgspec.Meta(ge=0, le=MAX_OVERLAP_SECONDS)] = 0.0
    """How long the secret before stays good."""


class Payment(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Money paid in, or with a negative amount taken back."""

    amount_nano: int
    note: str = ""


class IssuedKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key with its secret, which is shown this once."""

    key: Key
    secret: str


def _issued(issued: Issued) -> IssuedKey:
    return IssuedKey(key=issued.key, secret=issued.secret)


# -------------------------------------------------------------------------------------------------------------------- tenants


def _list_tenants(asked: Asked[ManyTenants, Nothing]) -> Page[Tenant]:
    query = asked.query
    found = looked_up(
        asked,
        lambda open_: register.tenants(open_, after=query.after, at_most=query.limit + 1, removed_too=query.removed),
    )
    return page_of(found, query.limit, lambda tenant: tenant.name)


def _create_tenant(asked: Asked[Nothing, NewTenant]) -> Tenant:
    return at_desk(asked, lambda desk: registrar.create_tenant(desk, asked.body))


def _show_tenant(asked: Asked[Nothing, Nothing]) -> Tenant:
    return looked_up(asked, lambda open_: register.tenant(open_, asked.path["tenant"]))


def _edit_tenant(asked: Asked[Nothing, Edit]) -> Tenant:
    return at_desk(asked, lambda desk: registrar.edit_tenant(desk, asked.path["tenant"], asked.body))


def _remove_tenant(asked: Asked[Removal, Nothing]) -> Tenant:
    query = asked.query
    return at_desk(
        asked,
        lambda desk: registrar.remove_tenant(
            desk, asked.path["tenant"], revokes_keys=query.revoke_keys, cuts=query.cut
        ),
    )


def _top_up_tenant(asked: Asked[Nothing, Payment]) -> TopUp:
    return _pay(asked, "tenant", asked.path["tenant"])


# ------------------------------------------------------------------------------------------------------------------- projects


def _list_projects(asked: Asked[ManyProjects, Nothing]) -> Page[Project]:
    query = asked.query
    found = looked_up(
        asked,
        lambda open_: register.projects(open_, tenant_name=query.tenant, removed_too=query.removed),
    )
    return Page(items=list(found))


def _create_project(asked: Asked[Nothing, NewProject]) -> Project:
    return at_desk(asked, lambda desk: registrar.create_project(desk, asked.body))


def _show_project(asked: Asked[Nothing, Nothing]) -> Project:
    return looked_up(asked, lambda open_: register.project(open_, asked.path["tenant"], asked.path["project"]))


def _edit_project(asked: Asked[Nothing, Edit]) -> Project:
    path = asked.path
    return at_desk(asked, lambda desk: registrar.edit_project(desk, path["tenant"], path["project"], asked.body))


def _remove_project(asked: Asked[Removal, Nothing]) -> Project:
    path, query = asked.path, asked.query
    return at_desk(
        asked,
        lambda desk: registrar.remove_project(
            desk, path["tenant"], path["project"], revokes_keys=query.revoke_keys, cuts=query.cut
        ),
    )


def _top_up_project(asked: Asked[Nothing, Payment]) -> TopUp:
    return _pay(asked, "project", f"{asked.path['tenant']}/{asked.path['project']}")


# ----------------------------------------------------------------------------------------------------------------------- keys


def _list_keys(asked: Asked[ManyKeys, Nothing]) -> Page[Key]:
    query = asked.query
    found = looked_up(
        asked,
        lambda open_: register.keys(
            open_,
            tenant_name=query.tenant,
            project_name=query.project,
            after=query.after,
            at_most=query.limit + 1,
            revoked_too=query.revoked,
        ),
    )
    return page_of(found, query.limit, lambda key: key.name)


def _create_key(asked: Asked[Nothing, NewKey]) -> IssuedKey:
    return _issued(at_desk(asked, lambda desk: registrar.create_key(desk, asked.body)))


def _show_key(asked: Asked[Nothing, Nothing]) -> Key:
    return looked_up(asked, lambda open_: register.key(open_, asked.path["key"]))


def _edit_key(asked: Asked[Nothing, KeyEdit]) -> Key:
    return at_desk(asked, lambda desk: registrar.edit_key(desk, asked.path["key"], asked.body))


def _revoke_key(asked: Asked[Nothing, Revocation]) -> Key:
    return at_desk(asked, lambda desk: registrar.revoke_key(desk, asked.path["key"], cuts=asked.body.cut))


def _rotate_key(asked: Asked[Nothing, Rotation]) -> IssuedKey:
    overlap = asked.body.overlap_seconds
    return _issued(at_desk(asked, lambda desk: registrar.rotate_key(desk, asked.path["key"], overlap_seconds=overlap)))


def _top_up_key(asked: Asked[Nothing, Payment]) -> TopUp:
    return _pay(asked, "key", asked.path["key"])


# -------------------------------------------------------------------------------------------------------------------- top-ups


def _pay(asked: Asked[Nothing, Payment], kind: Kind, name: str) -> TopUp:
    body = asked.body
    return at_desk(asked, lambda desk: registrar.top_up(desk, kind, name, body.amount_nano, note=body.note))


def _list_top_ups(asked: Asked[ManyTopUps, Nothing]) -> Page[TopUp]:
    query = asked.query
    found = looked_up(asked, lambda open_: register.top_ups(open_, query.kind, query.name))
    return Page(items=list(found[-MAX_PAGE:]))


_TENANTS: Final = "/admin/v1/tenants"
_PROJECTS: Final = "/admin/v1/projects"
_KEYS: Final = "/admin/v1/keys"

REGISTER_OPERATIONS: Final[tuple[Operation[Any, Any], ...]] = (
    Operation(
        id="listTenants",
        method="GET",
        path=_TENANTS,
        role="viewer",
        summary="Tenants by name",
        tag="tenants",
        query=ManyTenants,
        body=Nothing,
        answer=Page[Tenant],
        work=_list_tenants,
    ),
    Operation(
        id="createTenant",
        method="POST",
        path=_TENANTS,
        role="admin",
        summary="Make a tenant, or bring a removed one back",
        tag="tenants",
        query=Nothing,
        body=NewTenant,
        answer=Tenant,
        status=201,
        work=_create_tenant,
    ),
    Operation(
        id="showTenant",
        method="GET",
        path=f"{_TENANTS}/{{tenant}}",
        role="viewer",
        summary="A tenant, removed or not",
        tag="tenants",
        query=Nothing,
        body=Nothing,
        answer=Tenant,
        work=_show_tenant,
    ),
    Operation(
        id="editTenant",
        method="PATCH",
        path=f"{_TENANTS}/{{tenant}}",
        role="admin",
        summary="Change its terms: what is not named stays, `null` takes away",
        tag="tenants",
        query=Nothing,
        body=Edit,
        answer=Tenant,
        work=_edit_tenant,
    ),
    Operation(
        id="removeTenant",
        method="DELETE",
        path=f"{_TENANTS}/{{tenant}}",
        role="admin",
        summary="Remove a tenant and its projects",
        tag="tenants",
        query=Removal,
        body=Nothing,
        answer=Tenant,
        work=_remove_tenant,
    ),
    Operation(
        id="topUpTenant",
        method="POST",
        path=f"{_TENANTS}/{{tenant}}/topup",
        role="admin",
        summary="Pay into a prepaid tenant's balance",
        tag="tenants",
        query=Nothing,
        body=Payment,
        answer=TopUp,
        work=_top_up_tenant,
    ),
    Operation(
        id="listProjects",
        method="GET",
        path=_PROJECTS,
        role="viewer",
        summary="Projects by tenant and name",
        tag="projects",
        query=ManyProjects,
        body=Nothing,
        answer=Page[Project],
        work=_list_projects,
    ),
    Operation(
        id="createProject",
        method="POST",
        path=_PROJECTS,
        role="admin",
        summary="Make a project of a tenant, or bring a removed one back",
        tag="projects",
        query=Nothing,
        body=NewProject,
        answer=Project,
        status=201,
        work=_create_project,
    ),
    Operation(
        id="showProject",
        method="GET",
        path=f"{_PROJECTS}/{{tenant}}/{{project}}",
        role="viewer",
        summary="A project, removed or not",
        tag="projects",
        query=Nothing,
        body=Nothing,
        answer=Project,
        work=_show_project,
    ),
    Operation(
        id="editProject",
        method="PATCH",
        path=f"{_PROJECTS}/{{tenant}}/{{project}}",
        role="admin",
        summary="Change its terms: what is not named stays, `null` takes away",
        tag="projects",
        query=Nothing,
        body=Edit,
        answer=Project,
        work=_edit_project,
    ),
    Operation(
        id="removeProject",
        method="DELETE",
        path=f"{_PROJECTS}/{{tenant}}/{{project}}",
        role="admin",
        summary="Remove a project",
        tag="projects",
        query=Removal,
        body=Nothing,
        answer=Project,
        work=_remove_project,
    ),
    Operation(
        id="topUpProject",
        method="POST",
        path=f"{_PROJECTS}/{{tenant}}/{{project}}/topup",
        role="admin",
        summary="Pay into a prepaid project's balance",
        tag="projects",
        query=Nothing,
        body=Payment,
        answer=TopUp,
        work=_top_up_project,
    ),
    Operation(
        id="listKeys",
        method="GET",
        path=_KEYS,
        role="viewer",
        summary="Keys of the database by name; those of the configuration stand there",
        tag="keys",
        query=ManyKeys,
        body=Nothing,
        answer=Page[Key],
        work=_list_keys,
    ),
    Operation(
        id="createKey",
        method="POST",
        path=_KEYS,
        role="admin",
        summary="Make a key; its secret is in this answer and nowhere else",
        tag="keys",
        query=Nothing,
        body=NewKey,
        answer=IssuedKey,
        status=201,
        work=_create_key,
    ),
    Operation(
        id="showKey",
        method="GET",
        path=f"{_KEYS}/{{key}}",
        role="viewer",
        summary="A key, revoked or not, without its secret",
        tag="keys",
        query=Nothing,
        body=Nothing,
        answer=Key,
        work=_show_key,
    ),
    Operation(
        id="editKey",
        method="PATCH",
        path=f"{_KEYS}/{{key}}",
        role="admin",
        summary="Change its terms or expiry: what is not named stays, `null` takes away",
        tag="keys",
        query=Nothing,
        body=KeyEdit,
        answer=Key,
        work=_edit_key,
    ),
    Operation(
        id="revokeKey",
        method="POST",
        path=f"{_KEYS}/{{key}}/revoke",
        role="admin",
        summary="Take a key back for good",
        tag="keys",
        query=Nothing,
        body=Revocation,
        answer=Key,
        work=_revoke_key,
    ),
    Operation(
        id="rotateKey",
        method="POST",
        path=f"{_KEYS}/{{key}}/rotate",
        role="admin",
        summary="Give a key a new secret, which is in this answer and nowhere else",
        tag="keys",
        query=Nothing,
        body=Rotation,
        answer=IssuedKey,
        work=_rotate_key,
    ),
    Operation(
        id="topUpKey",
        method="POST",
        path=f"{_KEYS}/{{key}}/topup",
        role="admin",
        summary="Pay into a prepaid key's balance",
        tag="keys",
        query=Nothing,
        body=Payment,
        answer=TopUp,
        work=_top_up_key,
    ),
    Operation(
        id="listTopUps",
        method="GET",
        path="/admin/v1/topups",
        role="viewer",
        summary="What was paid in, oldest first",
        tag="keys",
        query=ManyTopUps,
        body=Nothing,
        answer=Page[TopUp],
        work=_list_top_ups,
    ),
)
