"""What the admin API does and says: registers, books, the gateway itself, and requests that are not right."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from support.admin import ADMIN, CONFIG, VIEWER, AdminDesk, admin_desk
from support.call_records import NOON_US, make_call
from support.postgres import postgres, postgres_session, postgres_url
from tollhouse.config.schema import LimitSettings
from tollhouse.ledger.audit_store import open_audit
from tollhouse.ledger.postgres import PostgresStorage
from tollhouse.ledger.rows import row_of
from tollhouse.ledger.sqlite import SqliteStorage
from tollhouse.ledger.store import sqlite_path
from tollhouse.policy.counters import PurseState
from tollhouse.policy.identity import Principal, digest
from tollhouse.policy.register import read
from tollhouse.policy.rules import Rules
from tollhouse.policy.windows import window
from tollhouse.server.admin.api import MAX_BODY_BYTES, MAX_IN_FLIGHT, THREADS
from tollhouse.server.admin.book_operations import ManyCalls, find_calls, purse_name
from tollhouse.upstream.health import ProviderHealth

__all__ = ["postgres", "postgres_session", "postgres_url"]


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[AdminDesk]:
    async with admin_desk(tmp_path) as made:
        yield made


# ---------------------------------------------------------------------------------------------------------------- registers


async def test_a_key_is_made_shown_edited_rotated_and_revoked(desk: AdminDesk):
    made = await desk.post("/admin/v1/keys", {"name": "ci", "terms": {"models": ["fast"], "tags": {"team": "web"}}})
    assert made.status == 201
    secret, key = made.json()["secret"], made.json()["key"]
    assert key["fingerprint"] == digest(secret.encode()).hex()[:8]
    assert (key["name"], key["terms"]) == ("ci", {"models": ["fast"], "tags": {"team": "web"}})

    shown = await desk.get("/admin/v1/keys/ci", token=VIEWER)
    assert shown.json() == key
    edited = await desk.ask("PATCH", "/admin/v1/keys/ci", {"requests_per_minute": 60, "models": None})
    assert edited.json()["terms"] == {"requests_per_minute": 60, "tags": {"team": "web"}}
    rotated = await desk.post("/admin/v1/keys/ci/rotate", {"overlap_seconds": 3600})
    assert rotated.json()["secret"] != secret
    assert rotated.json()["key"]["former_until_us"] > 0
    revoked = await desk.post("/admin/v1/keys/ci/revoke", {"cut": True})
    assert revoked.json()["revoked_at_us"] > 0
    assert revoked.json()["cut"] is True
    assert (await desk.ask("PATCH", "/admin/v1/keys/ci", {"concurrent": 1})).status == 409

    for answer in (shown, edited, revoked, await desk.get("/admin/v1/keys?revoked=true")):
        assert b"secret" not in answer.body
    actions = [(record.actor, record.action, record.address) for record in await desk.audited()]
    assert actions == [("ops", f"key.{verb}", "127.0.0.1") for verb in ("create", "edit", "rotate", "revoke")]


async def test_no_secret_and_no_digest_is_in_the_audit_log(desk: AdminDesk):
    secrets = [
        (await desk.post("/admin/v1/keys", {"name": "ci"})).json()["secret"],
        (await desk.post("/admin/v1/keys/ci/rotate")).json()["secret"],
    ]
    text = (await desk.get("/admin/v1/audit")).body.decode()

    assert '"key.rotate"' in text
    for secret in (*secrets, ADMIN, VIEWER):
        assert secret not in text
        assert digest(secret.encode()).hex() not in text


async def test_keys_come_in_pieces_by_name(desk: AdminDesk):
    for name in ("c", "a", "e", "b", "d"):
        await desk.post("/admin/v1/keys", {"name": name})
    await desk.post("/admin/v1/keys/b/revoke")

    names, after = [], ""
    while True:
        page = (await desk.get(f"/admin/v1/keys?limit=2&after={after}")).json()
        names.append([key["name"] for key in page["items"]])
        after = page["next"]
        if after is None:
            break
    assert names == [["a", "c"], ["d", "e"]]
    assert len((await desk.get("/admin/v1/keys?revoked=true")).json()["items"]) == 5


async def test_a_tenant_with_a_project_and_a_balance(desk: AdminDesk):
    assert (await desk.post("/admin/v1/tenants", {"name": "research", "balance_nano": 5 * 10**9})).status == 201
    assert (await desk.post("/admin/v1/projects", {"tenant": "research", "name": "vision"})).status == 201
    paid = await desk.post("/admin/v1/tenants/research/topup", {"amount_nano": 10**9, "note": "invoice 7"})
    assert (paid.json()["actor"], paid.json()["amount_nano"], paid.json()["note"]) == ("ops", 10**9, "invoice 7")
    assert (await desk.get("/admin/v1/tenants/research")).json()["balance_nano"] == 6 * 10**9
    topups = (await desk.get("/admin/v1/topups?kind=tenant&name=research")).json()["items"]
    assert [one["amount_nano"] for one in topups] == [5 * 10**9, 10**9]

    made = await desk.post("/admin/v1/keys", {"name": "k", "tenant": "research", "project": "vision"})
    assert made.status == 201
    assert (await desk.get("/admin/v1/keys?tenant=research")).json()["items"][0]["name"] == "k"
    assert (await desk.ask("DELETE", "/admin/v1/tenants/research")).status == 409
    gone = await desk.ask("DELETE", "/admin/v1/tenants/research?revoke_keys=true")
    assert gone.json()["removed_at_us"] > 0
    assert (await desk.get("/admin/v1/keys/k")).json()["revoked_at_us"] > 0


async def test_what_is_not_there_or_there_already_is_said_so(desk: AdminDesk):
    missing = await desk.get("/admin/v1/keys/nobody")
    assert (missing.status, missing.code) == (404, "not_found")
    await desk.post("/admin/v1/keys", {"name": "ci"})
    twice = await desk.post("/admin/v1/keys", {"name": "ci"})
    assert (twice.status, twice.code, twice.json()["field"]) == (409, "conflict", "name")
    configured = await desk.post("/admin/v1/keys", {"name": "dev"})
    assert configured.status == 409
    assert "auth.keys" in configured.json()["detail"]


# ------------------------------------------------------------------------------------------------------------------- bodies


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/admin/v1/keys", {"name": "a", "role": "admin"}, "role"),
        ("/admin/v1/keys", {"name": "a", "digest": "00" * 32}, "digest"),
        ("/admin/v1/keys", {"name": "a", "secret": "th-x"}, "secret"),
        ("/admin/v1/keys", {"name": "a", "created_at_us": 1}, "created_at_us"),
        ("/admin/v1/keys", {"name": "a", "revision": 1}, "revision"),
        ("/admin/v1/keys", {"name": "a", "terms": {"is_admin": True}}, "terms.is_admin"),
        ("/admin/v1/keys", {"name": "a", "terms": {"requests_per_minute": "9"}}, "terms.requests_per_minute"),
        ("/admin/v1/keys", {"terms": {}}, "name"),
        ("/admin/v1/keys", {"name": "a", "terms": {"requests_per_minute": 0}}, "requests_per_minute"),
        ("/admin/v1/keys", {"name": "no name"}, "name"),
        ("/admin/v1/keys", {"name": "a", "balance_nano": -1}, "balance_nano"),
        ("/admin/v1/keys", {"name": "a", "expires_at_us": 1}, "expires_at_us"),
        ("/admin/v1/keys", [], ""),
        ("/admin/v1/tenants", {"name": "a", "removed_at_us": None}, "removed_at_us"),
        ("/admin/v1/projects", {"name": "a"}, "tenant"),
        ("/admin/v1/keys/x/rotate", {"overlap_seconds": -1}, "overlap_seconds"),
        ("/admin/v1/keys/x/revoke", {"cut": "yes"}, "cut"),
        ("/admin/v1/reload", {"file": "/etc/passwd"}, "file"),
    ],
)
async def test_a_field_that_is_unknown_missing_or_wrong_is_named(desk: AdminDesk, path: str, body: object, field: str):
    answer = await desk.post(path, body)

    assert answer.status == 422
    assert answer.json().get("field", "") == field
    assert answer.code
    assert (await desk.get("/admin/v1/keys")).json()["items"] == []


@pytest.mark.parametrize(
    "what", ["name", "tenant", "project", "digest", "created_at_us", "fingerprint", "balance_nano"]
)
async def test_an_edit_cannot_set_what_stands_in_the_books(desk: AdminDesk, what: str):
    await desk.post("/admin/v1/keys", {"name": "ci"})
    answer = await desk.ask("PATCH", "/admin/v1/keys/ci", {what: "x"})

    assert (answer.status, answer.json()["field"]) == (422, what)


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"{", {}, 400),
        (b'{"name": "\xff"}', {}, 400),
        (b'{"name": "a"}', {"content-type": "text/plain"}, 415),
        (b'{"name": "a"}', {"content-type": ""}, 415),
        (b'{"name": "a"}', {"content-type": "application/json; charset=utf-8"}, 201),
        (b'{"name": "a"}', {"content-encoding": "gzip"}, 415),
        (b'{"name": "a", "tenant": "\\u0000"}', {}, 422),
        (b'{"name": "' + b"a" * MAX_BODY_BYTES + b'"}', {}, 413),
    ],
)
async def test_a_body_is_bounded_json(desk: AdminDesk, body: bytes, headers: Mapping[str, str], status: int):
    answer = await desk.ask("POST", "/admin/v1/keys", body, headers=headers)

    assert answer.status == status
    assert status == 201 or answer.code


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("colour=red", "colour"),
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=many", "limit"),
        ("limit=1&limit=2", "limit"),
        ("revoked=perhaps", "revoked"),
        ("after=%00", "after"),
        (f"after={'x' * 300}", "after"),
    ],
)
async def test_a_parameter_that_is_unknown_or_wrong_is_named(desk: AdminDesk, query: str, field: str):
    answer = await desk.get(f"/admin/v1/keys?{query}")

    assert (answer.status, answer.code, answer.json()["field"]) == (422, "invalid_parameter", field)


# -------------------------------------------------------------------------------------------------------------------- routes


async def test_other_paths_and_methods_are_problems_too(desk: AdminDesk):
    nothing = await desk.get("/admin/v1/nothing")
    assert (nothing.status, nothing.code) == (404, "not_found")
    assert (await desk.get("/admin/v1/keys/")).status == 404
    wrong = await desk.ask("PUT", "/admin/v1/keys/ci", {})
    assert (wrong.status, wrong.code, wrong.headers["allow"]) == (405, "method_not_allowed", "GET, PATCH")
    assert (await desk.ask("OPTIONS", "/admin/v1/keys", headers={"origin": ""})).status == 405


async def test_head_is_get_without_its_body(desk: AdminDesk):
    whole, head = await desk.get("/admin/v1/keys"), await desk.ask("HEAD", "/admin/v1/keys")

    assert (head.status, head.body) == (200, b"")
    assert head.headers["content-length"] == whole.headers["content-length"]
    assert (await desk.ask("HEAD", "/health")).body == b""


async def test_answers_are_not_cached_and_carry_their_request_id(desk: AdminDesk):
    answer = await desk.get("/admin/v1/keys")

    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-request-id"].startswith("adm_")
    assert answer.headers["content-type"] == "application/json"


async def test_more_requests_than_may_wait_are_refused_and_the_others_answered(desk: AdminDesk):
    """All of them wait for counters that do not answer yet, most of them for a thread."""
    await desk.get("/admin/v1/keys")
    desk.may_answer.clear()
    async with asyncio.TaskGroup() as group:
        waiting = [group.create_task(desk.get("/admin/v1/budgets")) for _ in range(MAX_IN_FLIGHT)]
        for _ in range(THREADS):
            await desk.purses_asked.acquire()
        refused = await desk.get("/admin/v1/keys")
        desk.may_answer.set()

    assert (refused.status, refused.code) == (503, "overloaded")
    assert {task.result().status for task in waiting} == {200}
    assert (await desk.get("/admin/v1/keys")).status == 200


async def test_a_ledger_that_is_away_is_a_problem_and_not_a_fault(desk: AdminDesk):
    for file in sqlite_path(desk.url).parent.glob("t.db*"):
        file.unlink()
    answer = await desk.get("/admin/v1/keys")

    assert (answer.status, answer.code) == (503, "store_unavailable")
    assert (await desk.get("/health")).status == 200


# --------------------------------------------------------------------------------------------------------------------- books


@pytest.fixture
def calls(desk: AdminDesk) -> None:
    storage = SqliteStorage(sqlite_path(desk.url), busy_timeout_ms=1000)
    storage.open()
    storage.insert(
        [row_of(make_call(f"req_{number}", at=number, key="dev" if number % 2 else "ci")) for number in range(10)]
    )
    storage.close()


@pytest.mark.usefixtures("calls")
async def test_calls_are_listed_newest_first_in_pieces(desk: AdminDesk):
    first = (await desk.get("/admin/v1/calls?limit=4")).json()
    assert [call["id"] for call in first["items"]] == ["req_9", "req_8", "req_7", "req_6"]
    second = (await desk.get(f"/admin/v1/calls?limit=7&before={first['next']}")).json()
    assert [call["id"] for call in second["items"]] == [f"req_{number}" for number in range(5, -1, -1)]
    assert second["next"] is None
    assert isinstance(first["items"][0]["streamed"], bool)


@pytest.mark.usefixtures("calls")
async def test_calls_are_filtered(desk: AdminDesk):
    async def found(query: str) -> list[str]:
        return [call["id"] for call in (await desk.get(f"/admin/v1/calls?{query}")).json()["items"]]

    assert await found("key=ci") == ["req_8", "req_6", "req_4", "req_2", "req_0"]
    assert await found("key=ci&limit=2") == ["req_8", "req_6"]
    assert await found("id=req_3") == ["req_3"]
    assert await found("key=nobody") == []
    assert await found(f"since_us={NOON_US + 8_000_000}") == ["req_9", "req_8"]


@pytest.mark.usefixtures("calls")
def test_a_search_for_what_is_rare_goes_on_where_it_stopped(desk: AdminDesk):
    ids: list[str] = []
    pieces = 0
    before: int | None = None
    while pieces == 0 or before is not None:
        page = read(desk.url, partial(find_calls, query=ManyCalls(id="req_1", before=before), scan_rows=3))
        ids += [call.id for call in page.items]
        before = None if page.next is None else int(page.next)
        pieces += 1
    assert (ids, pieces) == (["req_1"], 4)


@pytest.mark.usefixtures("calls")
async def test_usage_adds_up(desk: AdminDesk):
    report = (await desk.get("/admin/v1/usage?by=key")).json()

    assert {group["name"]: group["totals"]["calls"] for group in report["groups"]} == {"ci": 5, "dev": 5}
    assert report["total"]["calls"] == 10
    assert report["by"] == "key"


async def test_budgets_show_what_is_spent_held_and_left(desk: AdminDesk):
    await desk.post("/admin/v1/tenants", {"name": "t", "terms": {"monthly_nano": 100, "is_soft": True}})
    await desk.post("/admin/v1/keys", {"name": "k", "tenant": "t", "terms": {"daily_nano": 50}, "balance_nano": 70})
    before = await desk.get("/admin/v1/budgets")
    names = {(one["scope"], one["period"]): one for one in before.json()["items"]}
    assert set(names) == {("global", "day"), ("tenant:t", "month"), ("key:k", "day"), ("key:k", "total")}
    assert (names["global", "day"]["spent_nano"], names["global", "day"]["source"]) == (7, "ledger")
    assert names["key:k", "total"]["resets_at_us"] is None
    assert names["tenant:t", "month"]["is_hard"] is False

    today = window("day", names["global", "day"]["from_us"])
    desk.states[f"key:k/day/{today.label}"] = PurseState(
        name=f"key:k/day/{today.label}", spent_nano=20, held_nano=5, seeded_before_us=0, is_confirmed=True
    )
    after = {(one["scope"], one["period"]): one for one in (await desk.get("/admin/v1/budgets")).json()["items"]}
    shown = after["key:k", "day"]
    assert (shown["spent_nano"], shown["held_nano"], shown["left_nano"]) == (20, 5, 25)
    assert (shown["source"], shown["resets_at_us"]) == ("counters", today.ends_at_us)


async def test_the_purses_that_are_shown_are_those_that_calls_pass(desk: AdminDesk):
    settings = desk.config.budgets
    now_us = NOON_US
    bound = Rules(LimitSettings(), settings).bound(Principal(key="dev"), "fast", "lab/m", now_us)

    assert [purse_name(each, window(each.period, now_us)) for each in settings] == [*bound.budgets]


async def test_budgets_of_keys_come_in_pieces(desk: AdminDesk):
    for name in ("a", "b", "c"):
        await desk.post("/admin/v1/keys", {"name": name, "terms": {"daily_nano": 1}})
    first = (await desk.get("/admin/v1/budgets?limit=2")).json()
    second = (await desk.get(f"/admin/v1/budgets?limit=2&after={first['next']}")).json()

    assert [one["scope"] for one in first["items"]] == ["global", "key:a", "key:b"]
    assert ([one["scope"] for one in second["items"]], second["next"]) == (["key:c"], None)


async def test_all_of_it_works_on_postgresql(tmp_path: Path, postgres_url: str):
    async with admin_desk(tmp_path, url=postgres_url) as desk:
        storage = PostgresStorage(postgres_url)
        await asyncio.to_thread(storage.open)
        await asyncio.to_thread(storage.insert, [row_of(make_call("req_1", key="ci"))])
        await asyncio.to_thread(storage.close)
        made = await desk.post("/admin/v1/keys", {"name": "ci", "terms": {"daily_nano": 5}})
        assert made.status == 201
        assert (await desk.post("/admin/v1/keys", {"name": "ci"})).status == 409
        assert (await desk.post("/admin/v1/keys/ci/revoke")).json()["revoked_at_us"] > 0
        assert (await desk.get("/admin/v1/calls?key=ci")).json()["items"][0]["id"] == "req_1"
        assert (await desk.get("/admin/v1/usage?by=key")).json()["total"]["calls"] == 1
        assert (await desk.get("/admin/v1/budgets")).json()["items"][0]["scope"] == "global"
        records = (await desk.get("/admin/v1/audit?action=key")).json()["items"]
        assert [record["action"] for record in records] == ["key.revoke", "key.create"]


# ------------------------------------------------------------------------------------------------------------------- gateway


async def test_the_configuration_is_shown_with_its_secrets_masked(desk: AdminDesk):
    answer = await desk.get("/admin/v1/config", token=VIEWER)

    text = answer.json()["yaml"]
    assert "name: ops" in text
    for secret in ("sk-of-the-lab", ADMIN, VIEWER, "th-callers-key", digest(ADMIN.encode()).hex()):
        assert secret not in answer.body.decode()


async def test_a_reload_swaps_the_configuration_and_says_what_changed(desk: AdminDesk):
    desk.file.write_text(CONFIG.replace("daily: 10", "daily: 20").replace("server: {", "server: {port: 9999, "))
    answer = await desk.post("/admin/v1/reload")
    assert answer.status == 200
    assert "budgets" in answer.json()["changed"]
    assert answer.json()["needs_restart"] == ["server.port"]
    await desk.get("/health")
    assert desk.reloads == 1
    (record,) = await desk.audited()
    assert (record.actor, record.action) == ("ops", "config.reload")
    assert "budgets" in record.changes


async def test_a_configuration_that_does_not_load_is_refused_with_every_problem(desk: AdminDesk):
    desk.file.write_text(CONFIG + "colour: red\nlimits: {requests_per_minute: -1}\n")
    answer = await desk.post("/admin/v1/reload")

    assert (answer.status, answer.code) == (422, "bad_config")
    assert len(answer.json()["problems"]) == 2
    assert desk.reloads == 0
    (record,) = await desk.audited()
    assert (record.actor, record.action, record.outcome) == ("ops", "config.reload", "failed")
    assert (record.object, record.request_id) == (str(desk.file), answer.headers["x-request-id"])
    assert record.changes == '{"code":"bad_config","problems":2}'


async def test_a_pattern_that_the_gateway_could_not_use_is_refused_too(desk: AdminDesk):
    desk.file.write_text(CONFIG + "logging: {patterns: {badge: 'B-[0-9]+'}}\n")
    answer = await desk.post("/admin/v1/reload")

    assert (answer.status, answer.code) == (422, "bad_config")
    assert desk.reloads == 0


async def test_providers_are_shown_with_their_health(desk: AdminDesk):
    assert (await desk.get("/admin/v1/providers")).json()["items"] == [
        {
            "name": "lab",
            "type": "openai-compatible",
            "state": "unknown",
            "consecutive_faults": 0,
            "last_error": None,
            "last_success_at_seconds": None,
        }
    ]
    desk.health.append(
        ProviderHealth(provider="lab", state="down", consecutive_faults=5, last_error="provider_timeout")
    )
    (shown,) = (await desk.get("/admin/v1/providers")).json()["items"]
    assert (shown["state"], shown["last_error"]) == ("down", "provider_timeout")


async def test_the_audit_log_is_read_in_pieces_and_filtered(desk: AdminDesk):
    for name in ("a", "b", "c"):
        await desk.post("/admin/v1/keys", {"name": name})
    await desk.post("/admin/v1/tenants", {"name": "t"})
    first = (await desk.get("/admin/v1/audit?limit=2", token=VIEWER)).json()
    second = (await desk.get(f"/admin/v1/audit?before={first['next']}")).json()
    assert [one["object"] for one in (*first["items"], *second["items"])] == ["tenant:t", "key:c", "key:b", "key:a"]
    assert second["next"] is None
    assert second["items"][0]["previous"] == second["items"][1]["hash"]
    assert len((await desk.get("/admin/v1/audit?action=key")).json()["items"]) == 3
    assert (await desk.get("/admin/v1/audit?actor=nobody")).json()["items"] == []

    log = open_audit(desk.url)
    assert log.verify().records == 4
    log.close()


async def test_what_cannot_be_recorded_is_not_done(desk: AdminDesk):
    with closing(sqlite3.connect(sqlite_path(desk.url))) as connection:
        connection.execute("CREATE TRIGGER no_more BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'no'); END")
    answer = await desk.post("/admin/v1/keys", {"name": "ci"})

    assert (answer.status, answer.code) == (503, "store_unavailable")
    assert (await desk.get("/admin/v1/keys")).json()["items"] == []
