"""What is changed about keys and tenants reaches a gateway that runs: every worker, and the streams under way where asked."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from support.clients import CLIENTS, settings
from support.fake_provider import FakeProvider
from support.fake_replies import Answer, Stall, faulty, words
from support.processes import ledger_url, started, until, workers_of
from support.serving import Answer as Told
from support.serving import Running, Serving
from tollhouse.cli import key, tenant

GROUPS = {"key": key.command, "tenant": tenant.command}
PRICES = "\nprices: {openai/*: {input: 1, output: 2}}"
COST = 10 * 1_000 + 8 * 2_000


async def admin(folder: Path, group: str, *words: str) -> str:
    """Runs a command on the ledger of a gateway that serves, and gives what it prints on standard output."""

    def run() -> str:
        # Before what may follow `--`.
        done = CliRunner().invoke(GROUPS[group], [words[0], "--ledger", ledger_url(folder), *words[1:]])
        assert done.exit_code == 0, done.output
        return done.stdout.strip()

    return await asyncio.to_thread(run)


def bearing(secret: str) -> list[tuple[bytes, bytes]]:
    return [(b"authorization", b"Bearer " + secret.encode()), (b"content-type", b"application/json")]


async def ask(gateway: Running, secret: str, model: str = "to-openai", client: str = "openai") -> Told:
    asks = CLIENTS[client]
    return await gateway.ask(asks.path, asks.question(model), headers=bearing(secret))


def error_of(told: Told, client: str = "openai") -> str:
    error = CLIENTS[client].read_whole(told.body).error
    assert error is not None
    return error


@pytest.fixture
def server() -> str:
    return "own"


# ------------------------------------------------------------------------------------------------------ one gateway


async def test_a_key_is_good_from_when_it_is_made_until_it_is_revoked(
    serving: Serving, fake_provider: FakeProvider, tmp_path: Path
):
    gateway = await serving(settings(fake_provider))
    secret = await admin(tmp_path, "key", "create", "ci")

    async def is_let_in() -> bool:
        return (await ask(gateway, secret)).status == 200

    await until(is_let_in)
    await admin(tmp_path, "key", "revoke", "ci")

    async def is_kept_out() -> bool:
        return (await ask(gateway, secret)).status == 401

    await until(is_kept_out)
    for client in CLIENTS:
        assert "revoked" in error_of(await ask(gateway, secret, client=client), client)
    assert {row["key"] for row in gateway.rows()} == {"ci"}


@pytest.mark.parametrize("client", list(CLIENTS))
async def test_the_stream_of_a_key_that_is_cut_ends_with_an_error_and_others_go_on(
    serving: Serving, fake_provider: FakeProvider, tmp_path: Path, client: str
):
    go = asyncio.Event()
    fake_provider.default = faulty(Answer(text=words(12)), Stall(8, until=go))
    gateway = await serving(settings(fake_provider) + PRICES + "\nbudgets: {total: 1}")
    secrets = {name: await admin(tmp_path, "key", "create", name) for name in ("cut", "left", "fine")}
    asks = CLIENTS[client]
    streams: dict[str, Any] = {}
    for name, secret in secrets.items():

        async def is_open(name: str = name, secret: str = secret) -> bool:
            streams[name] = await gateway.open(
                asks.path, asks.question("to-openai", stream=True), headers=bearing(secret)
            )
            return bool(streams[name].status == 200)

        await until(is_open)
    firsts = {name: await stream.read_some() for name, stream in streams.items()}

    await admin(tmp_path, "key", "revoke", "left")
    await admin(tmp_path, "key", "revoke", "cut", "--cut")
    said = asks.read(firsts["cut"] + await streams["cut"].read_all(1 << 20))
    assert said.is_broken
    assert said.error is not None
    assert "revoked" in said.error
    assert (await ask(gateway, secrets["left"])).status == 401
    go.set()
    for name in ("left", "fine"):
        assert asks.read(firsts[name] + await streams[name].read_all(1 << 20)).is_whole, "it was not asked to be cut"

    async def is_settled() -> bool:
        states = await gateway.worker.stores.counters.purses(["global/total/ever"])
        return states[0].held_nano == 0

    await until(is_settled)
    await gateway.worker.stores.books.flush()
    outcomes = {row["key"]: row["outcome"] for row in gateway.rows()}
    assert outcomes == {"cut": "key_revoked", "left": "ok", "fine": "ok"}


async def test_a_tenants_new_limit_holds_for_the_keys_that_it_has(
    serving: Serving, fake_provider: FakeProvider, tmp_path: Path
):
    auth = "\nauth: {keys: [{name: test, key: th-test-key-0123456789, tenant: research}]}"
    gateway = await serving(settings(fake_provider) + auth)
    await admin(tmp_path, "tenant", "create", "research", "--requests-per-minute", "500")
    secret = await admin(tmp_path, "key", "create", "ci", "--tenant", "research")

    async def is_limited_to(limit: str) -> bool:
        answer = await ask(gateway, secret)
        return answer.headers.get("x-ratelimit-limit-requests") == limit

    await until(lambda: is_limited_to("500"))
    await admin(tmp_path, "tenant", "edit", "research", "--requests-per-minute", "2")
    await until(lambda: is_limited_to("2"))
    refused = [answer for answer in [await ask(gateway, secret) for _ in range(3)] if answer.status == 429]
    assert refused
    assert "'requests/tenant:research'" in error_of(refused[-1])
    configured = await ask(gateway, "th-test-key-0123456789")
    assert configured.headers["x-ratelimit-limit-requests"] == "2", "a key of the configuration has the same tenant"
    await admin(tmp_path, "tenant", "edit", "research", "--requests-per-minute", "none")

    async def is_free() -> bool:
        return (await ask(gateway, secret)).status == 200

    await until(is_free)


async def test_a_keys_new_budget_counts_what_it_spent_before(
    serving: Serving, fake_provider: FakeProvider, tmp_path: Path
):
    gateway = await serving(settings(fake_provider) + PRICES)
    secret = await admin(tmp_path, "key", "create", "ci")

    async def is_let_in() -> bool:
        return (await ask(gateway, secret)).status == 200

    await until(is_let_in)
    for _ in range(3):
        await ask(gateway, secret)
    await gateway.worker.stores.books.flush()
    spent = sum(row["cost_nano"] for row in gateway.rows())
    assert spent >= 4 * COST
    await admin(tmp_path, "key", "edit", "ci", "--total", f"{(spent + 1_000) / 1e9:.9f}")

    async def is_refused() -> bool:
        return (await ask(gateway, secret)).status == 402

    await until(is_refused)
    assert "'key:ci/total' has $0.00000" in error_of(await ask(gateway, secret))
    await admin(tmp_path, "key", "edit", "ci", "--total", "1")
    await until(is_let_in)


async def test_what_a_key_may_use_changes_under_it(serving: Serving, fake_provider: FakeProvider, tmp_path: Path):
    gateway = await serving(settings(fake_provider))
    secret = await admin(tmp_path, "key", "create", "ci", "--models", "to-openai")

    async def answers(model: str, status: int) -> bool:
        return (await ask(gateway, secret, model)).status == status

    await until(lambda: answers("to-openai", 200))
    assert await answers("to-anthropic", 403)
    await admin(tmp_path, "key", "edit", "ci", "--models", "to-anthropic")
    await until(lambda: answers("to-openai", 403))
    assert await answers("to-anthropic", 200)


# ---------------------------------------------------------------------------------------------------- several workers


async def test_every_worker_hears_of_it(tmp_path: Path, fake_provider: FakeProvider):
    go = asyncio.Event()
    asks = CLIENTS["openai"]
    async with started(tmp_path, settings(fake_provider), "--workers", "2") as process:
        secret = await admin(tmp_path, "key", "create", "ci")

        assert len(workers_of(process.child.pid)) == 2
        await until(lambda: process.all_say(200, secret))
        fake_provider.default = faulty(Answer(text=words(12)), Stall(8, until=go))
        await process.transport.aclose()
        streams = [await process.open_apart(secret) for _ in range(6)]
        firsts = [await stream.read_some() for _, stream in streams]
        await admin(tmp_path, "key", "revoke", "ci", "--cut")
        for first, (transport, stream) in zip(firsts, streams, strict=True):
            said = asks.read(first + await stream.read_all(1 << 20))
            assert said.is_broken
            await transport.aclose()
        fake_provider.default = Answer(text=words(8))
        await until(lambda: process.all_say(401, secret))
        assert [row["outcome"] for row in process.rows()].count("key_revoked") == 6
