"""Signed tokens over the admin API."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import jwt
import pytest

from support.admin import VIEWER, AdminDesk, admin_desk
from tollhouse.policy.tokens.secrets_file import SecretsFile, secrets_path

TOKENS = "/admin/v1/tokens"
FAR_US = 2_000_000_000_000_000


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[AdminDesk]:
    async with admin_desk(tmp_path) as made:
        yield made


async def test_a_token_is_issued_listed_and_revoked(desk: AdminDesk, tmp_path: Path):
    made = await desk.post(TOKENS, {"subject": "ann", "expires_at_us": FAR_US, "terms": {"models": ["fast"]}})
    assert made.status == 201
    text, token = made.json()["text"], made.json()["token"]
    secret = SecretsFile(secrets_path(desk.office.environ, tmp_path)).secret(token["kid"])
    assert secret is not None
    found = jwt.decode(text, secret, algorithms=["HS256"])
    assert (found["sub"], found["jti"], found["tollhouse"]) == ("ann", token["jti"], {"models": ["fast"]})

    assert (await desk.get(f"{TOKENS}/{token['jti']}", token=VIEWER)).json() == token
    assert (await desk.get(TOKENS)).json() == {"items": [token], "next": None}
    assert (await desk.post(f"{TOKENS}/{token['jti']}/revoke", {"cut": True})).json()["cut"] is True
    assert (await desk.get(TOKENS)).json()["items"] == []
    everything = await desk.get(f"{TOKENS}?all=true&subject=ann")
    assert everything.json()["items"][0]["revoked_at_us"] > 0
    assert text.rpartition(".")[2].encode() not in everything.body
    actions = [(record.actor, record.action, record.address) for record in await desk.audited()]
    assert actions == [("ops", f"token.{verb}", "127.0.0.1") for verb in ("create_key", "create", "revoke")]


async def test_keys_are_rotated_and_listed_without_their_secrets(desk: AdminDesk, tmp_path: Path):
    await desk.post(TOKENS, {"subject": "ann", "expires_at_us": FAR_US})
    rotated = await desk.post("/admin/v1/signing-keys/rotate", {"overlap_seconds": 60})
    assert rotated.status == 201
    listed = await desk.get("/admin/v1/signing-keys", token=VIEWER)
    kids = {key["kid"]: key["until_us"] for key in listed.json()["items"]}
    assert len(kids) == 2
    assert kids[rotated.json()["kid"]] is None
    assert [SecretsFile(secrets_path(desk.office.environ, tmp_path)).secret(kid) is not None for kid in kids] == [
        True,
        True,
    ]
    assert b"secret" not in listed.body


async def test_tokens_come_in_pieces(desk: AdminDesk):
    for name in ("a", "b", "c"):
        await desk.post(TOKENS, {"subject": name, "expires_at_us": FAR_US})
    first = (await desk.get(f"{TOKENS}?limit=2")).json()
    rest = (await desk.get(f"{TOKENS}?limit=2&after={first['next']}")).json()
    assert len(first["items"]) == 2
    assert {token["subject"] for token in (*first["items"], *rest["items"])} == {"a", "b", "c"}
    assert rest["next"] is None


async def test_what_is_wrong_is_named(desk: AdminDesk):
    expired = await desk.post(TOKENS, {"subject": "ann", "expires_at_us": 1})
    assert (expired.status, expired.json()["field"]) == (422, "expires_at_us")
    assert (await desk.post(TOKENS, {"subject": "a/b", "expires_at_us": FAR_US})).json()["field"] == "subject"
    assert (await desk.post(TOKENS, {"expires_at_us": FAR_US})).json()["field"] == "subject"
    assert (await desk.post(f"{TOKENS}/theirs/revoke")).status == 404
    assert (await desk.post(f"{TOKENS}/theirs/revoke", {"foreign": True})).status == 200
    for path in (TOKENS, f"{TOKENS}/theirs/revoke", "/admin/v1/signing-keys/rotate"):
        assert (await desk.post(path, {}, token=VIEWER)).status == 403


async def test_an_odd_secret_of_the_configuration_is_not_rotated(desk: AdminDesk):
    from tollhouse.config.schema import JwtSettings
    from tollhouse.config.secret import Secret

    jwt_settings = JwtSettings(secret=Secret("a-configured-secret-0123456789abcdef"))
    desk.config = replace(desk.config, auth=replace(desk.config.auth, jwt=jwt_settings))
    assert (await desk.post("/admin/v1/signing-keys/rotate")).status == 409


async def test_a_subject_is_made_edited_revoked_and_restored(desk: AdminDesk):
    one = "/admin/v1/subjects/one"
    name = "name=corp/ann%40example.com"
    made = await desk.post("/admin/v1/subjects", {"name": "corp/ann@example.com", "terms": {"models": ["fast"]}})
    assert made.status == 201
    assert (await desk.get(f"{one}?{name}", token=VIEWER)).json() == made.json()
    edited = await desk.ask("PATCH", f"{one}?{name}", {"models": None, "daily_nano": 5})
    assert edited.json()["terms"] == {"daily_nano": 5}
    assert (await desk.post(f"{one}/revoke?{name}", {"cut": True})).json()["revoked_at_us"] > 0
    assert (await desk.get("/admin/v1/subjects")).json()["items"] == []
    assert len((await desk.get("/admin/v1/subjects?revoked=true")).json()["items"]) == 1
    assert (await desk.post(f"{one}/restore?{name}")).json()["revoked_at_us"] is None
    assert (await desk.get("/admin/v1/subjects")).json()["items"] == [edited.json()]
    assert (await desk.get(f"{one}?name=nobody")).status == 404
    assert (await desk.post(f"{one}/revoke?{name}", {}, token=VIEWER)).status == 403
    actions = [record.action for record in await desk.audited() if record.outcome == "ok"]
    assert actions == [f"subject.{verb}" for verb in ("create", "edit", "revoke", "restore")]


async def test_budgets_of_tokens_and_subjects_are_among_all_budgets(desk: AdminDesk):
    def budget(subject: str, **terms: int) -> dict[str, object]:
        return {"subject": subject, "expires_at_us": FAR_US, "terms": terms}

    for body in (budget("ann", total_nano=9), budget("ann", total_nano=5), budget("bob", daily_nano=3)):
        assert (await desk.post(TOKENS, body)).status == 201
    await desk.post("/admin/v1/subjects", {"name": "bob", "terms": {"daily_nano": 7}})
    items = (await desk.get("/admin/v1/budgets")).json()["items"]
    found = {(item["scope"], item["period"]): item["limit_nano"] for item in items}
    assert found[("key:subject:ann", "total")] == 5
    assert found[("key:subject:bob", "day")] == 7
