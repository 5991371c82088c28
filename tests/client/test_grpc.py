"""gRPC from the client's side: the older tool's protocol, TLS, and statuses as the same errors as over HTTP."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tollhouse
from support.certificates import Pki
from support.client_town import MODELS, Town
from support.fake_replies import Answer, Cut, Failure, faulty, words
from support.serving import KEY
from tollhouse.chat.model import Message, Text, Tool
from tollhouse.client import (
    AnswerBroken,
    AsyncClient,
    CallFailed,
    Client,
    ConnectionRefused,
    NoSuchModel,
    NotAuthenticated,
    NotSpoken,
    OverLimit,
    ProviderFailed,
    ServerFailed,
    TimedOut,
    TlsFailed,
    Unreachable,
    image,
    over_vibectl,
)
from tollhouse.client.over_grpc import TroubleReader, _field, no_trouble, of_rpc
from tollhouse.client.translate import Scene
from tollhouse.dialects.protobuf import typed
from tollhouse.proto import vibectl_pb2

TEXT = words(8)


def reach(town: Town, scheme: str = "tollhouse+insecure", token: str | None = KEY) -> dict[str, str]:
    environ = {**town.bare_environ(), "PROXY_SERVER_URL": f"{scheme}://127.0.0.1:{town.grpc_port}"}
    return environ if token is None else {**environ, "TOLLHOUSE_TOKEN": token}


@pytest.fixture
def older(town: Town) -> Iterator[Client]:
    """A client that takes the gateway for a server of the older tool."""
    with tollhouse.Client(environ=reach(town, "vibectl-server-insecure"), retries=0) as client:
        yield client


# ------------------------------------------------------------------------------------------------- the older protocol


def test_the_older_protocol_carries_a_prompt_and_its_answer(town: Town, older: Client):
    with town.saying(Answer(text=TEXT)) as fake:
        answer = older.chat("What stood there?", model="any-openai", system="Be brief.")
        with older.stream("What stood there?", model="any-anthropic") as stream:
            texts = list(stream)

        assert (answer.text, answer.model, answer.marks.protocol) == (TEXT, f"openai/{MODELS['openai']}", "vibectl")
        assert (answer.usage.input_tokens, answer.usage.output_tokens, answer.cost_nano) == (10, 8, 6300)
        assert len(texts) > 1
        assert "".join(texts) == stream.answer.text == TEXT
        assert (stream.answer.model, stream.usage.output_tokens) == (f"anthropic/{MODELS['anthropic']}", 8)
        assert [message["role"] for message in fake.calls[0].json["messages"]] == ["system", "user"]


def test_a_call_without_a_model_is_the_servers_default(town: Town, older: Client):
    with town.saying(Answer(text="ok")):
        assert older.chat("hi").model == "openai/gpt-4o-mini"


def test_what_the_older_protocol_has_no_room_for_is_in_the_receipt(town: Town, older: Client):
    turns = [
        Message("user", (Text("One?"),)),
        Message("assistant", (Text("Two."),)),
        image(b"x", "image/png", "Three?"),
    ]
    with town.saying(Answer(text="ok")) as fake:
        answer = older.chat(turns, model="any-openai", temperature=0.5, tools=[Tool(name="f")])

        assert fake.calls[0].json["messages"][0]["content"] == "User: One?\n\nAssistant: Two.\n\nUser: Three?"
    for lost in ("changed messages", "dropped temperature", "dropped tools", "dropped messages[2].parts[1]"):
        assert lost in answer.receipt


def test_a_schema_goes_along(town: Town, older: Client):
    with town.saying(Answer(text='{"n":1}')) as fake:
        older.chat("n?", model="any-openai", schema={"type": "object", "properties": {}})

        assert fake.calls[0].json["response_format"]["type"] == "json_schema"


def test_the_older_protocols_errors_are_the_same_types(town: Town, older: Client):
    with pytest.raises(NoSuchModel) as unknown:
        older.chat("hi", model="nope")
    for status in (429, 500):
        with town.saying(Failure(status=status)), pytest.raises(ProviderFailed):
            older.chat("hi", model="any-openai")
    with town.saying(faulty(Answer(text=TEXT), Cut(3))), older.stream("hi", model="any-openai") as stream:
        with pytest.raises(CallFailed):
            list(stream)
        assert TEXT.startswith(stream.partial.text)
    with pytest.raises(NotSpoken):
        older.embed("hi")

    assert unknown.value.model == "nope"


def test_models_and_limits_are_told_over_either_protocol(town: Town, older: Client):
    with tollhouse.Client(environ=reach(town)) as client:
        info, same = client.server_info(), older.server_info()

    assert (info.name, info.version, info.protocol) == ("tollhouse", tollhouse.__version__, "grpc")
    assert "any-openai" in info.aliases
    assert "openai/gpt-4o-mini" in [model.id for model in info.models]
    assert info.limits["bytes a request"] > 0
    assert (same.name, same.protocol) == ("tollhouse", "vibectl")
    assert {"any-openai", "openai/gpt-4o-mini"} <= {*same.aliases, *(model.id for model in same.models)}


# -------------------------------------------------------------------------------------------------------------- trouble


@pytest.mark.parametrize("scheme", ["tollhouse+insecure", "vibectl-server-insecure"])
def test_a_missing_and_a_wrong_token_are_told_apart(town: Town, scheme: str):
    without, wrong = reach(town, scheme, token=None), reach(town, scheme, token="wrong-token")
    with tollhouse.Client(environ=without) as client, pytest.raises(NotAuthenticated, match="TOLLHOUSE_TOKEN"):
        client.chat("hi", model="any-openai")
    with tollhouse.Client(environ=wrong) as client, pytest.raises(NotAuthenticated) as caught:
        client.chat("hi", model="any-openai")

    assert "wrong-token" not in str(caught.value)


def test_nobody_there_asks_whether_the_gateway_runs(town: Town):
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        environ = {**town.bare_environ(), "PROXY_SERVER_URL": f"tollhouse+insecure://127.0.0.1:{held.getsockname()[1]}"}
        with tollhouse.Client(environ=environ, retries=1) as client, pytest.raises(ConnectionRefused) as caught:
            client.chat("hi", model="any-openai")

    assert "Is `tollhouse serve` running" in str(caught.value)
    assert caught.value.attempts == 2


def test_the_http_port_is_not_spoken_to_in_grpc(town: Town):
    environ = {**town.bare_environ(), "PROXY_SERVER_URL": town.gateway.url.replace("http", "tollhouse+insecure")}
    with tollhouse.Client(environ=environ, retries=0) as client, pytest.raises(ServerFailed) as caught:
        client.chat("hi", model="any-openai")

    assert "server.grpc_port" in str(caught.value)


async def test_a_private_authority_is_refused_with_how_to_trust_it_and_then_trusted(tmp_path: Path):
    pki = Pki(tmp_path)
    pair = pki.server()
    server = grpc.aio.server()
    port = server.add_secure_port(
        "127.0.0.1:0", grpc.ssl_server_credentials([(pair.key.read_bytes(), pair.cert.read_bytes())])
    )
    await server.start()
    url, environ = f"tollhouse://127.0.0.1:{port}", {"HOME": str(tmp_path)}
    try:
        async with AsyncClient(url, environ=environ, retries=0) as client:
            with pytest.raises(TlsFailed) as refused:
                await client.chat("hi", model="m")
        async with AsyncClient(url, environ={**environ, "TOLLHOUSE_CA_BUNDLE": str(pki.ca)}, retries=0) as client:
            with pytest.raises(NotSpoken, match="vibectl-server://"):  # there is no such service, but there is trust
                await client.chat("hi", model="m")
    finally:
        await server.stop(None)

    assert "--ca-bundle" in str(refused.value)


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
async def test_an_ipv6_address_is_dialled_with_its_brackets(tmp_path: Path):
    server = grpc.aio.server()
    port = server.add_insecure_port("[::1]:0")
    await server.start()
    environ = {"HOME": str(tmp_path)}
    try:
        for scheme in ("tollhouse+insecure", "vibectl-server-insecure"):
            async with AsyncClient(f"{scheme}://[::1]:{port}", environ=environ, retries=0) as client:
                with pytest.raises(NotSpoken):  # nothing is served there, but somebody answers
                    await client.chat("hi", model="m")
        async with AsyncClient(f"http://[::1]:{port}", environ=environ, retries=0) as client:
            with pytest.raises(CallFailed) as caught:
                await client.chat("hi", model="m")
    finally:
        await server.stop(None)

    assert not isinstance(caught.value, Unreachable)


@given(st.binary(max_size=200), st.integers(1, 20))
def test_what_a_server_says_of_an_error_cannot_break_its_reader(details: bytes, number: int):
    read = TroubleReader(typed("protobuf"))

    assert read(()) is None
    read((("grpc-status-details-bin", details),))
    assert _field(details, number) is None or isinstance(_field(details, number), bytes)


@dataclass(frozen=True)
class Ended:
    """A status as the library gives it."""

    name: str
    words: str

    def code(self) -> Any:
        return grpc.StatusCode[self.name]

    def details(self) -> str:
        return self.words

    def trailing_metadata(self) -> tuple[()]:
        return ()


FAILED = "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:9: "
SSL = (
    FAILED + "Tls handshake failed (TSI_PROTOCOL_FAILURE): SSL_ERROR_SSL: error:1000007d:SSL routines:OPENSSL_internal:"
)


@pytest.mark.parametrize(
    ("name", "words", "kind", "says"),
    [
        ("UNAVAILABLE", FAILED + "Failed to connect to remote host: Connection refused", ConnectionRefused, "running"),
        ("UNAVAILABLE", FAILED + "Failed to connect to remote host: No route to host", Unreachable, "network"),
        ("UNAVAILABLE", "errors resolving gw:9: [field:hostname lookup error]", Unreachable, "not known"),
        (
            "UNAVAILABLE",
            SSL + "CERTIFICATE_VERIFY_FAILED: self signed certificate in certificate chain",
            TlsFailed,
            "ca_bundle",
        ),
        ("UNAVAILABLE", SSL + "CERTIFICATE_VERIFY_FAILED: certificate has expired: OK", TlsFailed, "ran out"),
        ("UNAVAILABLE", FAILED + "UNAUTHENTICATED: Hostname Verification Check failed.", TlsFailed, "another name"),
        ("UNAVAILABLE", SSL + "WRONG_VERSION_NUMBER: x", TlsFailed, "does not speak TLS"),
        ("UNAVAILABLE", SSL + "TLSV13_ALERT_CERTIFICATE_REQUIRED", TlsFailed, "client_cert"),
        ("UNAVAILABLE", FAILED + "Socket closed", Unreachable, "client_cert"),
        (
            "UNAVAILABLE",
            FAILED + "Cannot check peer: missing selected ALPN property.",
            ServerFailed,
            "does not speak gRPC",
        ),
        ("UNAVAILABLE", "Socket closed", AnswerBroken, "broke"),
        ("UNAVAILABLE", "recvmsg: Connection reset by peer", AnswerBroken, "broke"),
        ("DEADLINE_EXCEEDED", "Deadline Exceeded", TimedOut, "timeout"),
        ("UNIMPLEMENTED", "Method not found!", NotSpoken, "vibectl-server://"),
        ("UNAUTHENTICATED", "Invalid token", NotAuthenticated, "Invalid token"),
        ("RESOURCE_EXHAUSTED", "Slow down", OverLimit, "Slow down"),
        ("INTERNAL", "x", CallFailed, "x"),
        ("UNKNOWN", "Unexpected", ServerFailed, "UNKNOWN"),
        ("CANCELLED", "x", ServerFailed, "gave the call up"),
    ],
)
def test_a_status_is_the_error_that_it_would_be_over_http(name: str, words: str, kind: type[CallFailed], says: str):
    found = of_rpc(Ended(name, words), Scene(mode="proxy", where="gw:9", address="tollhouse://gw:9"), no_trouble)

    assert isinstance(found, kind)
    assert says in str(found)


def test_the_older_servers_words_for_an_unknown_model_are_understood():
    said = vibectl_pb2.ExecuteError(error_code="EXECUTION_FAILED", error_message="'Unknown model: nope'")

    found = over_vibectl.failed(
        said, Scene(mode="proxy", where="gw:9", address="vibectl-server://gw:9", model="nope"), ""
    )

    assert isinstance(found, NoSuchModel)
    assert "has no model 'nope'" in str(found)


# ------------------------------------------------------------------------------------------- the older tool's own server


@dataclass(frozen=True)
class OlderServer:
    """`vibectl-server`, with a token for us."""

    url: str
    token: str
    ca: str


_INSTALLED = Path(__file__).parents[2] / ".venv-vibectl" / "bin" / "vibectl"


def older_server() -> Path:
    """The program, from where `make vibectl` puts it; skips the test where it is not, or lacks a model to answer with."""
    program = Path(os.environ.get("TOLLHOUSE_VIBECTL") or _INSTALLED).with_name("vibectl-server")
    if not program.exists():
        pytest.skip(
            "vibectl-server is not installed; `make vibectl` installs it, or TOLLHOUSE_VIBECTL says where it is"
        )
    if not list(program.parent.parent.glob("lib/python*/site-packages/llm_echo*")):
        pytest.skip(
            "vibectl-server has no model to answer with: llm-echo is not installed beside it; see `make vibectl`"
        )
    return program


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OlderServer]:
    program, home = older_server(), tmp_path_factory.mktemp("older")
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
    environ: Mapping[str, str] = {"HOME": str(home), "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "COLUMNS": "1000"}

    def run(*words: str) -> None:
        subprocess.run([program, *words], env=environ, check=True, capture_output=True, timeout=120)

    run("init-config")
    for key, value in (
        ("jwt.enabled", "true"),
        ("server.host", "127.0.0.1"),
        ("server.port", str(port)),
        ("server.default_model", "echo"),
    ):
        run("config", "set", key, value)
    run("generate-token", "ourclient", "--expires-in", "30d", "--output", str(home / "client.jwt"))
    token = (home / "client.jwt").read_text().strip()
    run("ca", "init")
    words = ("serve-ca", "--hostname", "localhost", "--san", "127.0.0.1")
    child = subprocess.Popen([program, *words], env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        server = OlderServer(
            f"vibectl-server://localhost:{port}", token, str(home / ".config/vibectl/server/ca/ca-bundle.crt")
        )
        with client_of(server, retries=20) as client:
            client.models(timeout=60)  # it takes some seconds to start
        yield server
    finally:
        child.kill()
        child.wait()
        shutil.rmtree(home, ignore_errors=True)


def client_of(server: OlderServer, *, retries: int = 0, token: str | None = None) -> Client:
    environ = {
        "HOME": "/nonexistent",
        "PROXY_SERVER_URL": server.url,
        "TOLLHOUSE_TOKEN": token or server.token,
        "TOLLHOUSE_CA_BUNDLE": server.ca,
    }
    return tollhouse.Client(environ=environ, retries=retries)


EXACT = '{"raw": "EXACT ANSWER"}'
"""What the model `echo` answers with its value; anything else it answers with the whole prompt in JSON."""


def test_the_published_server_answers_us(published: OlderServer):
    with client_of(published) as client:
        answer = client.chat(EXACT)
        with client.stream(EXACT, model="echo") as stream:
            streamed = "".join(stream)
        glued = client.chat("What stood there?", system="Be brief.", model="echo").text

    assert answer.text == streamed == "EXACT ANSWER"
    assert (answer.marks.mode, answer.marks.protocol, answer.finish) == ("proxy", "vibectl", "stop")
    assert answer.usage.output_tokens is not None
    assert "Be brief." in glued
    assert "What stood there?" in glued


def test_the_published_server_says_who_it_is(published: OlderServer):
    with client_of(published) as client:
        info = client.server_info()

    assert (info.name, info.version, info.protocol) == ("vibectl-llm-proxy", "0.11.6", "vibectl")
    assert "echo" in [model.id for model in info.models]
    assert info.default_model == "echo"


def test_the_published_servers_refusals_are_our_errors(published: OlderServer):
    with client_of(published, token="not.a.token") as client, pytest.raises(NotAuthenticated):
        client.chat(EXACT, model="echo")
    with client_of(published) as client, pytest.raises(NoSuchModel) as unknown:
        client.chat(EXACT, model="ech")
    assert unknown.value.nearest == ("echo",)
    environ = {"HOME": "/nonexistent", "PROXY_SERVER_URL": published.url, "TOLLHOUSE_TOKEN": published.token}
    with tollhouse.Client(environ=environ, retries=0) as client, pytest.raises(TlsFailed, match="--ca-bundle"):
        client.chat(EXACT, model="echo")
