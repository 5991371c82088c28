"""Who may do what on the admin listener: every operation with every credential, and what browsers send."""

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from support.admin import ADMIN, CALLER, CONFIG, TOKENS, VIEWER, AdminDesk, Reply, admin_desk
from tollhouse.config.schema import AdminTokenSettings
from tollhouse.server.admin.access import Admins, bearer, check_origin
from tollhouse.server.admin.operation import Operation
from tollhouse.server.admin.operations import OPERATIONS
from tollhouse.server.admin.problem import Refusal

OPEN = ("/admin/v1/openapi.json",)
ROLES = {
    "viewer": {
        "GET /admin/v1/tenants", "GET /admin/v1/tenants/{tenant}",
        "GET /admin/v1/projects", "GET /admin/v1/projects/{tenant}/{project}",
        "GET /admin/v1/keys", "GET /admin/v1/keys/{key}", "GET /admin/v1/topups",
        "GET /admin/v1/tokens", "GET /admin/v1/tokens/{jti}", "GET /admin/v1/signing-keys",
        "GET /admin/v1/subjects", "GET /admin/v1/subjects/one",
        "GET /admin/v1/usage", "GET /admin/v1/calls", "GET /admin/v1/budgets",
        "GET /admin/v1/audit", "GET /admin/v1/config", "GET /admin/v1/providers",
    },
    "admin": {
        "POST /admin/v1/tenants", "PATCH /admin/v1/tenants/{tenant}", "DELETE /admin/v1/tenants/{tenant}",
        "POST /admin/v1/tenants/{tenant}/topup",
        "POST /admin/v1/projects", "PATCH /admin/v1/projects/{tenant}/{project}",
        "DELETE /admin/v1/projects/{tenant}/{project}", "POST /admin/v1/projects/{tenant}/{project}/topup",
        "POST /admin/v1/keys", "PATCH /admin/v1/keys/{key}", "POST /admin/v1/keys/{key}/revoke",
        "POST /admin/v1/keys/{key}/rotate", "POST /admin/v1/keys/{key}/topup",
        "POST /admin/v1/tokens", "POST /admin/v1/tokens/{jti}/revoke", "POST /admin/v1/signing-keys/rotate",
        "POST /admin/v1/subjects", "PATCH /admin/v1/subjects/one", "POST /admin/v1/subjects/one/revoke",
        "POST /admin/v1/subjects/one/restore",
        "POST /admin/v1/reload",
    },
}  # fmt: skip
"""Written down a second time: who changes who may do something has to say so here."""


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[AdminDesk]:
    async with admin_desk(tmp_path) as made:
        yield made


def named(operation: Operation[Any, Any]) -> str:
    return f"{operation.method} {operation.path}"


def filled(operation: Operation[Any, Any]) -> str:
    """Its path, about things that are there."""
    path = operation.path
    for name in operation.places:
        path = path.replace(f"{{{name}}}", "x")
    return path


QUERIES = {
    "listTopUps": b"kind=key&name=x",
    "showSubject": b"name=x",
    "editSubject": b"name=x",
    "revokeSubject": b"name=x",
    "restoreSubject": b"name=gone",
}
BODIES = {
    "createTenant": {"name": "y"},
    "createProject": {"tenant": "x", "name": "y"},
    "createKey": {"name": "y"},
    "topUpTenant": {"amount_nano": 1},
    "topUpProject": {"amount_nano": 1},
    "topUpKey": {"amount_nano": 1},
    "editTenant": {"concurrent": 3},
    "editProject": {"concurrent": 3},
    "editKey": {"concurrent": 3},
    "issueToken": {"subject": "y", "expires_at_us": 2_000_000_000_000_000},
    "revokeToken": {"cut": True},
    "createSubject": {"name": "y"},
    "editSubject": {"concurrent": 3},
}
"""What operations need to succeed; the others do without."""


async def furnish(desk: AdminDesk) -> None:
    for path, body in (
        ("tenants", {"name": "x", "balance_nano": 9}),
        ("projects", {"tenant": "x", "name": "x", "balance_nano": 9}),
        ("keys", {"name": "x", "balance_nano": 9}),
        ("subjects", {"name": "x"}),
        ("subjects", {"name": "gone"}),
    ):
        assert (await desk.post(f"/admin/v1/{path}", body)).status == 201
    assert (await desk.post("/admin/v1/tokens/x/revoke", {"foreign": True})).status == 200
    assert (await desk.post("/admin/v1/subjects/one/revoke?name=gone")).status == 200


# ------------------------------------------------------------------------------------------------------------------- roles


def test_the_roles_of_the_operations_are_those_that_were_decided():
    found = {role: {named(operation) for operation in OPERATIONS if operation.role == role} for role in ROLES}

    assert found == ROLES
    assert not [operation for operation in OPERATIONS if operation.role is None]


async def ask(desk: AdminDesk, operation: Operation[Any, Any], who: str) -> Reply:
    return await desk.ask(
        operation.method,
        filled(operation),
        BODIES.get(operation.id, {}),
        token=TOKENS[who],
        query=QUERIES.get(operation.id, b""),
    )


@pytest.mark.parametrize("operation", OPERATIONS, ids=named)
async def test_every_operation_lets_in_whom_it_should_and_nobody_else(desk: AdminDesk, operation: Operation[Any, Any]):
    await furnish(desk)
    before = await state_of(desk)
    refused = {"nobody": 401, "unknown": 401, "caller": 401, **({"viewer": 403} if operation.role == "admin" else {})}
    answers = {who: await ask(desk, operation, who) for who in refused}

    assert {who: answer.status for who, answer in answers.items()} == refused
    assert {answer.code for answer in answers.values() if answer.status == 401} == {"unauthenticated"}
    assert all("www-authenticate" in answer.headers for answer in answers.values() if answer.status == 401)
    assert await state_of(desk) == before
    assert desk.reloads == 0

    for who in TOKENS.keys() - refused.keys():
        assert (await ask(desk, operation, who)).status == operation.status
    changes = operation.method != "GET" and operation.id != "reload"
    assert (await state_of(desk) != before) is changes

    records = {record.request_id: record for record in await desk.audited() if record.outcome == "refused"}
    assert len(records) == len(refused)
    for who, answer in answers.items():
        record = records[answer.headers["x-request-id"]]
        said = (record.actor, record.action, record.object, record.address)
        if who == "viewer":
            assert said == ("eyes", "admin.refuse", f"{operation.method} {filled(operation)}", "127.0.0.1")
        else:
            assert said == ("gateway", "auth.fail", "admin", "127.0.0.1")
        assert answer.json()["request_id"] == record.request_id


async def state_of(desk: AdminDesk) -> list[bytes]:
    """All that operations can change, but for the audit log."""
    what = ("keys", "tenants", "projects", "tokens?all=true", "signing-keys", "subjects?revoked=true")
    return [(await desk.get(f"/admin/v1/{each}")).body for each in what]


async def test_without_an_admin_token_in_the_configuration_every_operation_is_off(tmp_path: Path):
    text = CONFIG[: CONFIG.index("admin:")] + CONFIG[CONFIG.index("providers:") :]
    async with admin_desk(tmp_path, text) as desk:
        for operation in OPERATIONS:
            for token in (None, ADMIN, CALLER, ""):
                answer = await desk.ask(operation.method, filled(operation), {}, token=token)
                assert (answer.status, answer.code) == (403, "admin_off")
                assert "admin: {tokens:" in answer.json()["hint"]
        assert (await desk.get("/metrics", token=None)).status == 200


async def test_health_metrics_and_the_description_need_no_token(desk: AdminDesk):
    for path in ("/", "/health", "/health/live", "/health/ready", "/metrics", *OPEN):
        for token in (None, "nonsense"):
            assert (await desk.get(path, token=token)).status == 200


async def test_a_reload_changes_who_may(desk: AdminDesk):
    assert (await desk.get("/admin/v1/keys", token=VIEWER)).status == 200
    desk.file.write_text(CONFIG.replace("eyes, token: tha-viewer-token", "eyes, token: tha-another-token"))
    desk.reload()

    assert (await desk.get("/admin/v1/keys", token=VIEWER)).status == 401
    assert (await desk.get("/admin/v1/keys", token=VIEWER.replace("viewer", "another"))).status == 200


# ------------------------------------------------------------------------------------------------------------- credentials


def token(name: str, plaintext: str) -> AdminTokenSettings:
    return AdminTokenSettings(name=name, digest=hashlib.sha256(plaintext.encode()).digest(), role="viewer")


def test_a_token_is_known_wherever_it_stands_in_the_list():
    admins = Admins([token("a", "one"), token("b", "two"), token("c", "three")])

    assert [admins.identify(one).name for one in (b"one", b"two", b"three")] == ["a", "b", "c"]


def test_an_empty_credential_is_none_even_if_its_digest_is_configured():
    for credential in (None, b""):
        with pytest.raises(Refusal) as refused:
            Admins([token("a", "")]).identify(credential)
        assert refused.value.status == 401


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (b"Bearer abc", b"abc"),
        (b"bearer   abc ", b"abc"),
        (b"Basic abc", None),
        (b"Bearer", None),
        (b"Bearer  ", None),
        (b"abc", None),
    ],
)
def test_a_token_is_a_bearers(value: bytes, found: bytes | None):
    assert bearer([(b"x-api-key", b"no"), (b"authorization", value)]) == found


# ---------------------------------------------------------------------------------------------------------------- browsers


@pytest.mark.parametrize(
    ("host", "is_ours"),
    [
        ("127.0.0.1:9090", True),
        ("127.0.0.1", True),
        ("[::1]:9090", True),
        ("10.1.2.3:9090", True),
        ("localhost:9090", True),
        ("LOCALHOST.", True),
        ("tollhouse.localhost", True),
        ("admin.example.org:9090", True),
        ("example.org", False),
        ("localhost.example.org", False),
        ("127.0.0.1.example.org", False),
        ("evil.org:9090", False),
        ("", False),
        ("user@127.0.0.1", True),
        ("[::1", False),
        ("999.1.1.1", False),
    ],
)
def test_the_host_must_be_one_that_no_foreign_name_server_decides(host: str, is_ours: bool):
    def check() -> None:
        check_origin([(b"host", host.encode())], names={"admin.example.org"}, checks_host=True)

    if is_ours:
        check()
    else:
        with pytest.raises(Refusal) as refused:
            check()
        assert refused.value.status == 421
        check_origin([(b"host", host.encode())], names=(), checks_host=False)


@pytest.mark.parametrize(
    ("headers", "is_allowed"),
    [
        ({}, True),
        ({"sec-fetch-site": "same-origin"}, True),
        ({"sec-fetch-site": "none"}, True),
        ({"sec-fetch-site": "cross-site"}, False),
        ({"sec-fetch-site": "same-site"}, False),
        ({"origin": "http://127.0.0.1:9090"}, True),
        ({"origin": "http://127.0.0.1:8080"}, False),
        ({"origin": "https://evil.org"}, False),
        ({"origin": "null"}, False),
        ({"origin": "http://[broken"}, False),
    ],
)
def test_what_a_browser_sends_for_another_site_is_refused(headers: dict[str, str], is_allowed: bool):
    fields = [(name.encode(), value.encode()) for name, value in ({"host": "127.0.0.1:9090"} | headers).items()]
    if is_allowed:
        check_origin(fields, names=(), checks_host=True)
    else:
        with pytest.raises(Refusal) as refused:
            check_origin(fields, names=(), checks_host=False)
        assert (refused.value.status, refused.value.code) == (403, "cross_site")


async def test_another_site_reads_nothing_with_a_token_and_without(desk: AdminDesk):
    for path in ("/metrics", "/health", "/admin/v1/keys", "/admin/v1/openapi.json", "/nothing"):
        answer = await desk.ask("GET", path, headers={"origin": "https://evil.org"})
        assert (answer.status, answer.code) == (403, "cross_site")


async def test_a_foreign_host_reads_nothing_on_loopback(desk: AdminDesk):
    for path in ("/metrics", "/health", "/admin/v1/openapi.json", "/admin/v1/keys"):
        answer = await desk.ask("GET", path, headers={"host": "evil.org"})
        assert (answer.status, answer.code) == (421, "wrong_host")


async def test_a_listener_of_a_network_answers_to_any_name_until_names_are_configured(tmp_path: Path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    text = CONFIG.replace("admin_host: 127.0.0.1", "admin_host: 0.0.0.0, insecure: true")
    async with admin_desk(tmp_path / "a", text) as desk:
        assert (await desk.ask("GET", "/health", headers={"host": "tollhouse:9090"})).status == 200
    named_text = text.replace("admin:\n", "admin:\n  hosts: [tollhouse]\n")
    async with admin_desk(tmp_path / "b", named_text) as desk:
        assert (await desk.ask("GET", "/health", headers={"host": "tollhouse:9090"})).status == 200
        assert (await desk.ask("GET", "/health", headers={"host": "other:9090"})).status == 421
