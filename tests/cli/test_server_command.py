"""`tollhouse-server`, as a person types it who comes from the older program; each weakness of that one has a test here."""

import asyncio
import re
import stat
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import grpc.aio
import pytest
from click.testing import CliRunner, Result

from support.clients import CLIENTS, settings
from support.fake_provider import FakeProvider
from support.fake_replies import Answer
from support.processes import PATIENCE_SECONDS, kept_environment
from tollhouse.cli.server_command import command
from tollhouse.client import AsyncClient
from tollhouse.errors import ConfigError, Conflict
from tollhouse.upstream.address import parse_address
from tollhouse.upstream.transport import Deadlines, Outgoing
from tollhouse.upstream.wire import WireSettings, WireTransport

INFO = "/vibectl.llm_proxy.VibectlLLMProxy/GetServerInfo"
TOKEN = re.compile(r"eyJ[\w-]+\.[\w-]+\.[\w-]+\n")
ASKS = CLIENTS["openai"]

Run = Callable[..., Result]


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """XDG folders of this test, and a HOME that must stay empty."""
    (tmp_path / "home").mkdir()
    return {
        "HOME": str(tmp_path / "home"),
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "TOLLHOUSE_CONFIG": "",
    }


@pytest.fixture
def run(tmp_path: Path, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)

    def server(*arguments: str) -> Result:
        return CliRunner(env=environ).invoke(command, list(arguments), catch_exceptions=False)

    return server


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "config" / "tollhouse" / "server" / "config.yaml"


def mode(file: Path) -> int:
    return stat.S_IMODE(file.stat().st_mode)


def test_a_first_configuration_is_written_where_the_gateway_looks_for_it(run: Run, config: Path, tmp_path: Path):
    done = run("init-config")
    assert done.exit_code == 0
    assert f"Wrote {config}" in done.stdout
    assert mode(config) == 0o600
    assert mode(config.parent) == 0o700
    assert f"sqlite:///{tmp_path}/state/tollhouse/tollhouse.db" in config.read_text()
    before = config.read_bytes()
    with pytest.raises(ConfigError, match="`--force` replaces it"):
        run("init-config")
    assert config.read_bytes() == before
    run("init-config", "--force")
    assert config.read_bytes() != before
    assert not list((tmp_path / "home").iterdir())


def test_a_token_is_one_line_and_its_file_is_private(run: Run, tmp_path: Path):
    run("init-config")
    done = run("generate-token", "ann", "--expires-in", "30d")
    assert TOKEN.fullmatch(done.stdout), done.stdout
    file = tmp_path / "ann.jwt"
    done = run("generate-token", "ann", "--expires-in", "1y", "--output", str(file))
    assert done.stdout == ""
    assert TOKEN.fullmatch(file.read_text())
    assert mode(file) == 0o600
    assert not list((tmp_path / "home").iterdir())


def test_a_token_of_another_configuration_is_made_with_its_secret(run: Run, tmp_path: Path):
    import jwt

    run("init-config")
    secret = "a-secret-of-the-other-file-0123456789"
    other = tmp_path / "other.yaml"
    other.write_text(
        f"auth: {{jwt: {{secret: {secret}, issuer: other}}}}\nproviders: {{local: {{}}}}\nledger: {{url: 'sqlite:///{tmp_path}/o.db'}}\n"
    )
    token = run("generate-token", "ann", "--config", str(other)).stdout.strip()
    assert jwt.decode(token, secret, algorithms=["HS256"])["iss"] == "other"


@pytest.mark.parametrize("span", ["0d", "-1d", "soon"])
def test_a_dead_token_is_not_made(run: Run, span: str):
    run("init-config")
    done = run("generate-token", "ann", f"--expires-in={span}")
    assert done.exit_code == 2
    assert done.stdout == ""


def test_certificates_are_made_once_and_the_authority_stays(run: Run, config: Path, tmp_path: Path):
    certs = config.parent / "certs"
    done = run("generate-certs", "--hostname", "gw.example.com")
    assert f'cert: "{certs / "server.crt"}"' in done.stdout
    assert "--ca-bundle" in done.stderr
    authority = (certs / "ca.crt").read_bytes()
    with pytest.raises(Conflict, match="is there already"):
        run("generate-certs")
    run("generate-certs", "--force")
    run("generate-certs", "--cert-file", str(tmp_path / "c.pem"), "--key-file", str(tmp_path / "k.pem"))
    assert (certs / "ca.crt").read_bytes() == authority
    assert mode(tmp_path / "k.pem") == 0o600
    assert run("generate-certs", "--cert-file", "c.pem").exit_code == 2


@pytest.mark.parametrize("gone", ["serve-insecure", "serve-ca", "serve-custom", "serve-acme", "ca", "config"])
def test_commands_of_the_older_program_are_answered_with_what_does_their_work(run: Run, gone: str):
    done = run(gone)
    assert done.exit_code == 2
    assert f"There is no command {gone!r} here. " in done.stderr


def test_the_program_is_installed_under_its_name():
    import importlib
    import tomllib

    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    module, _, name = project["scripts"]["tollhouse-server"].partition(":")
    assert callable(getattr(importlib.import_module(module), name))


def test_help_names_every_command(run: Run):
    text = run("--help").stdout
    assert all(name in text for name in ("serve", "generate-token", "generate-certs", "init-config"))


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("--no-http", "--http-port", "1"), "exclude each other"),
        (("--cert-file", "x"), "belong together"),
        (("--client-ca", "x"), "belong together"),
        (("--enable-metrics",), "No such option"),
        (("--port", "0"), "not in the range"),
    ],
)
def test_options_that_make_no_sense_are_refused(run: Run, arguments: tuple[str, ...], what: str):
    done = run("serve", *arguments)
    assert done.exit_code == 2
    assert what in done.stderr


def test_without_a_configuration_the_way_on_is_named(run: Run, config: Path):
    with pytest.raises(ConfigError) as refused:
        run("serve")
    assert str(config) in str(refused.value)
    assert "`tollhouse-server init-config`" in str(refused.value)


# ------------------------------------------------------------------------------------------------------------- it serves


@dataclass
class Server:
    """A running `tollhouse-server serve`."""

    process: asyncio.subprocess.Process
    lines: list[str] = field(default_factory=list)

    def said(self, what: str) -> str:
        """What stands behind a word at the beginning of a line."""
        return next(line.removeprefix(what).strip() for line in self.lines if line.startswith(what))

    @property
    def grpc(self) -> str:
        return self.said("gRPC").split()[0]

    @property
    def http(self) -> str:
        return self.said("HTTP").split()[0]


@asynccontextmanager
async def served(environ: dict[str, str], folder: Path, *arguments: str) -> AsyncIterator[Server]:
    """The program with these arguments, once it has said where it listens."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tollhouse.cli.server_command", "serve", "--admin-port", "0", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        cwd=folder,
        env={**kept_environment(), **environ},
    )
    server = Server(process)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while server.lines[-1:] != ["ready"]:
                line = await process.stdout.readline()
                assert line, server.lines
                server.lines.append(line.decode().rstrip())
        yield server
        process.terminate()
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def free_port() -> str:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


async def info(channel: grpc.aio.Channel, token: str | None) -> grpc.StatusCode:
    ask: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(INFO)
    metadata = () if token is None else (("authorization", f"Bearer {token}"),)
    try:
        await ask(b"", metadata=metadata, timeout=60)
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


async def test_what_it_says_first_is_true(
    run: Run, environ: dict[str, str], tmp_path: Path, fake_provider: FakeProvider
):
    """Auth that is required is required, limits hold, TLS is spoken, and no secret is shown."""
    fake_provider.default = Answer(text="well")
    run("generate-certs", "--hostname", "gw.example.com")
    certs = tmp_path / "config" / "tollhouse" / "server" / "certs"
    file = tmp_path / "f.yaml"
    file.write_text(
        f"{settings(fake_provider)}\nauth: {{open: true, jwt: {{}}}}\nledger: {{url: 'sqlite:///{tmp_path}/l.db'}}\n"
    )
    token = run("generate-token", "ann", "--config", str(file)).stdout.strip()
    port = free_port()
    async with served(
        environ, tmp_path, "--config", str(file), "--require-auth", "--port", port, "--http-port", "0",
        "--max-rpm", "2", "--workers", "2", "--model", "to-openai", "--log-level", "error",
        "--cert-file", str(certs / "server.crt"), "--key-file", str(certs / "server.key"),
    ) as server:  # fmt: skip
        text = "\n".join(server.lines)
        assert server.grpc == f"127.0.0.1:{port}"
        assert server.http.startswith("https://127.0.0.1:")
        assert server.said("authentication").startswith("required: ")
        assert server.said("limits") == "2 calls a minute"
        assert token not in text
        addresses = re.findall(r"\S+://\S+", text.partition("connect with")[2])
        assert addresses == [f"vibectl-server://127.0.0.1:{port}", f"tollhouse://127.0.0.1:{port}", server.http]
        for address in addresses:
            async with AsyncClient(
                address, token=token, ca_bundle=str(certs / "ca.crt"), environ={"HOME": str(tmp_path)}
            ) as client:
                assert (await client.server_info()).name == "tollhouse"

        credentials = grpc.ssl_channel_credentials((certs / "ca.crt").read_bytes())
        async with grpc.aio.secure_channel(server.grpc, credentials) as channel:
            assert await info(channel, None) is grpc.StatusCode.UNAUTHENTICATED
            assert await info(channel, "wrong") is grpc.StatusCode.UNAUTHENTICATED
            assert await info(channel, token) is grpc.StatusCode.OK
        transport = WireTransport(WireSettings(ca_file=str(certs / "ca.crt")))
        statuses = [await chat(transport, server.http, bearer) for bearer in (None, token, token, token)]
        await transport.aclose()
    assert statuses == [401, 200, 200, 429]


async def chat(transport: WireTransport, url: str, bearer: str | None) -> int:
    import msgspec

    headers = [(b"content-type", b"application/json")]
    if bearer is not None:
        headers.append((b"authorization", b"Bearer " + bearer.encode()))
    incoming = await transport.send(
        Outgoing(
            address=parse_address(url),
            method=b"POST",
            target=ASKS.path.encode(),
            headers=headers,
            body=msgspec.json.encode(ASKS.question("default")),
        ),
        Deadlines(),
    )
    await incoming.read_all(1 << 20)
    return incoming.status


async def test_grpc_alone_in_plain_text_on_this_machine(
    environ: dict[str, str], tmp_path: Path, fake_provider: FakeProvider
):
    file = tmp_path / "f.yaml"
    file.write_text(f"{settings(fake_provider)}\nauth: {{open: true}}\nledger: {{url: 'sqlite:///{tmp_path}/l.db'}}\n")
    async with served(
        {**environ, "TOLLHOUSE_CONFIG": str(file)}, tmp_path, "--port", free_port(), "--no-http", "--log-level", "ERROR"
    ) as server:
        assert not any(line.startswith("HTTP") for line in server.lines)
        assert server.said("gRPC").endswith("plain text, this machine only")
        assert server.said("authentication").startswith("NONE: ")
        assert server.said("connect with") == f"vibectl-server-insecure://{server.grpc}"
        async with grpc.aio.insecure_channel(server.grpc) as channel:
            assert await info(channel, None) is grpc.StatusCode.OK


def test_another_machine_is_not_let_in_without_encryption(run: Run, tmp_path: Path):
    (tmp_path / "tollhouse.yaml").write_text("auth: {open: true}\nproviders: {local: {}}\n")
    with pytest.raises(ConfigError, match=r"would speak plain text on 0\.0\.0\.0"):
        run("serve", "--host", "0.0.0.0")
    with pytest.raises(ConfigError, match=r"`auth\.open`"):
        run("serve", "--host", "0.0.0.0", "--insecure")
    assert not list((tmp_path / "home").iterdir())
