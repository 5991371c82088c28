"""Signed tokens at a gateway that runs: let in, held to their budgets, and taken back in every worker."""

import asyncio
import json
import stat
from pathlib import Path
from typing import Any

import jwt
import pytest
from click.testing import CliRunner

from support.clients import CLIENTS, settings
from support.fake_provider import FakeProvider
from support.fake_replies import Answer, Stall, faulty, words
from support.issuer import Issuer
from support.postgres import postgres, postgres_ledger, postgres_session
from support.processes import serving as process_serving
from support.processes import started, until, workers_of
from support.serving import Answer as Told
from support.serving import Running, Serving
from support.tokens import EC_KEY, RSA_KEY, SECRET, jwk, signed
from tollhouse.cli import tenant, token
from tollhouse.config.folders import server_folder
from tollhouse.policy.register import read
from tollhouse.policy.tokens.issuing import signing_keys

__all__ = ["postgres", "postgres_ledger", "postgres_session"]

PRICES = "\nprices: {openai/*: {input: 1, output: 2}}"
EDDSA = "\nauth: {jwt: {algorithm: EdDSA}}"
FAR = 4_000_000_000
"""A moment in 2096, in seconds."""


@pytest.fixture
def server() -> str:
    return "own"


async def admin(place: Path, *words: str, group: Any = token.command, folder: str = "") -> str:
    """Runs `tollhouse token …` on the ledger of a gateway that serves, and gives what it prints on standard output.

    `folder` is a machine's: where it keeps its secrets.
    """

    def run() -> str:
        where = ["--config", str(place / "tollhouse.yaml")]
        environ = {"XDG_CONFIG_HOME": str(place / folder / ".config")}
        done = CliRunner().invoke(group, [words[0], *where, *words[1:]], env=environ)
        assert done.exit_code == 0, done.output + repr(done.exception)
        return done.stdout.strip()

    return await asyncio.to_thread(run)


def bearing(secret: str) -> list[tuple[bytes, bytes]]:
    return [(b"authorization", b"Bearer " + secret.encode()), (b"content-type", b"application/json")]


async def ask(gateway: Running, secret: str, model: str = "to-openai", client: str = "openai") -> Told:
    asks = CLIENTS[client]
    return await gateway.ask(asks.path, asks.question(model), headers=bearing(secret))


def refusal(told: Told) -> str:
    """The message of a 401; OpenAI's dialect has one code for all of them."""
    assert told.status == 401
    message: str = told.json()["error"]["message"]
    return message


def id_of(text: str) -> str:
    return str(jwt.decode(text, options={"verify_signature": False})["jti"])


async def test_a_token_is_good_from_when_it_is_issued_until_it_is_revoked(
    serving: Serving, fake_provider: FakeProvider, tmp_path: Path
):
    gateway = await serving(settings(fake_provider) + EDDSA)
    text = await admin(tmp_path, "create", "ann", "--expires-in", "1y", "--models", "to-openai")

    async def says(status: int) -> bool:
        return (await ask(gateway, text)).status == status

    await until(lambda: says(200))
    assert (await ask(gateway, text, "to-anthropic")).status == 403
    await admin(tmp_path, "revoke", id_of(text))
    await until(lambda: says(401))
    for client in CLIENTS:
        told = await ask(gateway, text, client=client)
        assert "This token of 'ann' was revoked on" in told.json()["error"]["message"]
    assert {row["key"] for row in gateway.rows()} == {"subject:ann"}


async def test_a_token_s_budget_is_a_hard_one(serving: Serving, fake_provider: FakeProvider, tmp_path: Path):
    gateway = await serving(settings(fake_provider) + PRICES + EDDSA)
    poor = await admin(tmp_path, "create", "ann", "--budget", "0.00001")
    rich = await admin(tmp_path, "create", "bob", "--budget", "1")

    async def is_known(text: str) -> bool:
        return (await ask(gateway, text)).status in {200, 402}

    await until(lambda: is_known(poor))
    await until(lambda: is_known(rich))
    told = await ask(gateway, poor)
    assert told.status == 402
    assert "'key:subject:ann/total'" in told.json()["error"]["message"]
    assert (await ask(gateway, rich)).status == 200


async def test_a_token_has_its_tenant_s_limits(serving: Serving, fake_provider: FakeProvider, tmp_path: Path):
    gateway = await serving(settings(fake_provider) + EDDSA)
    await admin(tmp_path, "create", "acme", "--requests-per-minute", "77", group=tenant.command)
    text = await admin(tmp_path, "create", "ann", "--tenant", "acme")

    async def is_limited() -> bool:
        return (await ask(gateway, text)).headers.get("x-ratelimit-limit-requests") == "77"

    await until(is_limited)


@pytest.mark.parametrize("client", list(CLIENTS))
async def test_the_stream_of_a_token_that_is_cut_ends_with_an_error_and_another_of_its_subject_goes_on(
    serving: Serving, fake_provider: FakeProvider, tmp_path: Path, client: str
):
    go = asyncio.Event()
    fake_provider.default = faulty(Answer(text=words(12)), Stall(8, until=go))
    gateway = await serving(settings(fake_provider) + EDDSA)
    texts = [await admin(tmp_path, "create", "ann") for _ in range(2)]
    asks = CLIENTS[client]
    streams: list[Any] = []
    for text in texts:

        async def is_open(text: str = text) -> bool:
            stream = await gateway.open(asks.path, asks.question("to-openai", stream=True), headers=bearing(text))
            if stream.status == 200:
                streams.append(stream)
            return bool(stream.status == 200)

        await until(is_open)
    firsts = [await stream.read_some() for stream in streams]
    await admin(tmp_path, "revoke", id_of(texts[0]), "--cut")
    said = asks.read(firsts[0] + await streams[0].read_all(1 << 20))
    assert said.is_broken
    assert said.error == "The token of 'ann' was revoked while this answer was under way."
    go.set()
    assert asks.read(firsts[1] + await streams[1].read_all(1 << 20)).is_whole

    async def are_settled() -> bool:
        await gateway.worker.stores.books.flush()
        return sorted(row["outcome"] for row in gateway.rows()) == ["ok", "token_revoked"]

    await until(are_settled)


async def test_tokens_of_the_older_tool_are_let_in_by_its_secret(serving: Serving, fake_provider: FakeProvider):
    """As it makes them: HS256, its own issuer, no `kid`."""
    auth = f"\nauth: {{jwt: {{secret: {SECRET}, issuer: vibectl-server}}}}"
    gateway = await serving(settings(fake_provider) + auth)
    good = {"sub": "old", "iss": "vibectl-server", "iat": 1, "exp": FAR, "jti": "b6f2"}
    assert (await ask(gateway, signed(good))).status == 200
    refused = {
        "expired on 1970-01-01": signed({**good, "exp": 2}),
        "has no `exp` and no `iat` and no `jti`": jwt.encode(
            {"sub": "old", "iss": good["iss"]}, SECRET, algorithm="HS256"
        ),
        "issued by 'tollhouse', whose tokens are not accepted": signed({**good, "iss": "tollhouse"}),
        "signature of this token is wrong": signed(good, SECRET[::-1]),
        "token is damaged": signed(good).replace(".", " "),
        "signed with the key 'x', which is not known": signed(good, kid="x"),
    }
    for says, text in refused.items():
        assert says in refusal(await ask(gateway, text))
    assert "carries no key" in refusal(await gateway.ask("/v1/chat/completions", {}, headers=[]))


async def test_an_issuer_and_its_reload(serving: Serving, fake_provider: FakeProvider, tmp_path: Path):
    async with Issuer() as issuer:
        issuer.keys = [jwk(RSA_KEY, "r1")]
        entry = f"name: corp, issuer: '{issuer.url}', audience: tollhouse"
        gateway = await serving(settings(fake_provider) + f"\nauth: {{oidc: [{{{entry}}}]}}")
        text = issuer.token(RSA_KEY, "r1", "RS256", iat=1, exp=FAR)

        async def says(status: int) -> bool:
            return (await ask(gateway, text)).status == status

        await until(lambda: says(200))
        assert (await ask(gateway, issuer.token(EC_KEY, "r1", "ES256", iat=1, exp=FAR))).status == 401
        file = tmp_path / "tollhouse.yaml"
        kept = file.read_text()
        file.write_text(kept.replace("audience: tollhouse", "audience: other"))
        gateway.worker.reload()
        assert "meant for tollhouse, not for other" in refusal(await ask(gateway, text))
        file.write_text(kept)
        gateway.worker.reload()
        assert (await ask(gateway, text)).status == 200
        assert issuer.asked.count("/keys") == 1, "a reload keeps the keys of an issuer"


# ------------------------------------------------------------------------------------------- several workers and machines


async def test_machines_that_share_a_database_let_in_and_refuse_each_other_s_tokens(
    serving: Serving, fake_provider: FakeProvider, tmp_path: Path, postgres_ledger: str
):
    def machine(name: str) -> str:
        ledger = f"{{url: '{postgres_ledger}', state_folder: '{tmp_path / name}'}}"
        return f"{settings(fake_provider)}{EDDSA}\nledger: {ledger}"

    gateways = [await serving(machine(name)) for name in ("here", "there")]
    texts = [await admin(tmp_path, "create", "ann", folder=name) for name in ("here", "there")]
    assert len({jwt.get_unverified_header(text)["kid"] for text in texts}) == 2

    async def all_say(statuses: list[int]) -> bool:
        """Both gateways, of each token."""
        told = [[(await ask(gateway, text)).status for text in texts] for gateway in gateways]
        return told == [statuses, statuses]

    await until(lambda: all_say([200, 200]))
    await admin(tmp_path, "revoke", id_of(texts[0]))
    await until(lambda: all_say([401, 200]))


async def test_a_start_makes_a_secret_and_every_worker_hears_of_its_tokens(tmp_path: Path, fake_provider: FakeProvider):
    asks = CLIENTS["openai"]
    text = settings(fake_provider) + "\nauth: {jwt: {}}"
    async with started(tmp_path, text, "--workers", "2") as process:
        await process.says("a key was made that signs tokens")
        kept = server_folder({}, tmp_path) / "client-secrets" / "signing-keys.json"
        assert stat.S_IMODE(kept.stat().st_mode) == 0o600
        assert stat.S_IMODE(kept.parent.stat().st_mode) == 0o700
        issued = await admin(tmp_path, "create", "ann")
        assert len(json.loads(kept.read_text())["keys"]) == 1, "the first token needs no second key"

        assert len(workers_of(process.child.pid)) == 2
        await until(lambda: process.all_say(200, issued))
        go = asyncio.Event()
        fake_provider.default = faulty(Answer(text=words(12)), Stall(8, until=go))
        streams = [await process.open_apart(issued) for _ in range(6)]
        firsts = [await stream.read_some() for _, stream in streams]
        await admin(tmp_path, "revoke", "--subject", "ann", "--cut")
        for first, (transport, stream) in zip(firsts, streams, strict=True):
            assert asks.read(first + await stream.read_all(1 << 20)).is_broken
            await transport.aclose()
        fake_provider.default = Answer(text=words(8))
        await until(lambda: process.all_say(401, issued))
        assert [row["outcome"] for row in process.rows()].count("token_revoked") == 6
        said = "\n".join(process.lines)
        assert issued not in said
        assert json.loads(kept.read_text())["keys"][0]["secret"] not in said


async def test_a_start_makes_a_secret_for_a_ledger_in_postgresql(tmp_path: Path, postgres_ledger: str):
    file = tmp_path / "tollhouse.yaml"
    file.write_text(
        "auth: {jwt: {}}\nproviders: {lab: {type: openai-compatible, base_url: 'http://127.0.0.1:9/v1', api_key: x}}\n"
        "models: {fast: lab/m}\nserver: {port: 0, admin_port: 0, grpc_port: 0}\n"
        f"ledger: {{url: '{postgres_ledger}', state_folder: '{tmp_path / 'state'}'}}\n"
    )
    async with process_serving(tmp_path, "--config", str(file)) as process:
        assert "signing-keys.json" in await process.says("a key was made that signs tokens")
        await process.says("answers at")
    (key,) = await asyncio.to_thread(read, postgres_ledger, signing_keys)
    assert (key.algorithm, key.until_us) == ("HS256", None)
