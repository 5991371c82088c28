"""Encryption on the listeners: who is let in, whom a certificate names, and what happens when the files change."""

import asyncio
import json
import logging
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Self

import grpc
import grpc.aio
import pytest

from support.certificates import TODAY, Pair, Pki
from support.clients import CLIENTS, settings
from support.fake_provider import FakeProvider
from support.fake_replies import Answer, Stall, faulty, words
from support.processes import started, until
from support.serving import KEY, Running, start
from support.vibectl_client import VibectlClient, prompt
from tollhouse.config.schema import TlsSettings
from tollhouse.errors import ConfigError, ConnectFailed, ConnectionLost, ProviderError
from tollhouse.server.grpc.listener import GrpcListener
from tollhouse.server.http.asgi import App, Receive, Scope, Send
from tollhouse.server.http1.listener import Http1Listener
from tollhouse.server.listener import Place, reserve
from tollhouse.server.tls import LiveTls
from tollhouse.upstream.wire import WireSettings, WireTransport

ASKS = CLIENTS["openai"]
CONTENT = [(b"content-type", b"application/json")]
INFO = "/vibectl.llm_proxy.VibectlLLMProxy/GetServerInfo"


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    return Pki(tmp_path)


Begin = Callable[[str], Awaitable[Running]]


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Begin]:
    """Starts a gateway from a configuration's text, with HTTP and gRPC."""
    running: list[Running] = []

    async def begin(text: str) -> Running:
        made = await start(text, tmp_path, None, grpc=True)
        running.append(made)
        return made

    yield begin
    for each in running:
        await each.close()


async def trust(running: Running, pki: Pki, pair: Pair | None = None) -> None:
    """From now on the test's client trusts the authority, and shows its own certificate if it has one."""
    await running.transport.aclose()
    running.transport = WireTransport(
        WireSettings(
            ca_file=str(pki.ca),
            client_cert=None if pair is None else str(pair.cert),
            client_key=None if pair is None else str(pair.key),
        )
    )


def shown(pki: Pki, pair: Pair | None = None) -> grpc.ChannelCredentials:
    """How a gRPC client trusts the authority, and shows its own certificate if it has one."""
    return grpc.ssl_channel_credentials(
        pki.ca.read_bytes(),
        None if pair is None else pair.key.read_bytes(),
        None if pair is None else pair.cert.read_bytes(),
    )


async def info(running: Running, pki: Pki, pair: Pair | None = None, key: str | None = None) -> bytes:
    """What the gateway says of itself over gRPC."""
    async with grpc.aio.secure_channel(running.grpc, shown(pki, pair)) as channel:
        metadata = () if key is None else (("authorization", f"Bearer {key}"),)
        ask: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(INFO)
        return await ask(b"", metadata=metadata, timeout=30)


async def grpc_code(running: Running, pki: Pki, pair: Pair | None = None, key: str | None = None) -> str:
    try:
        await info(running, pki, pair, key)
    except grpc.aio.AioRpcError as error:
        return error.code().name
    return "OK"


# ------------------------------------------------------------------------------------------------------- who is let in


@pytest.mark.parametrize("http2", [False, True], ids=["own", "granian"])
async def test_a_client_that_trusts_the_authority_is_answered_and_no_other(
    gateway: Begin, pki: Pki, fake_provider: FakeProvider, http2: bool
):
    fake_provider.reply(Answer(text="well"))
    running = await gateway(settings(fake_provider) + f"\nserver: {{http2: {str(http2).lower()}, tls: {pki.tls()}}}")
    assert running.url.startswith("https://")
    with pytest.raises(ConnectFailed, match="certificate"):
        await running.get("/health")
    await trust(running, pki)
    answer = await running.ask(ASKS.path, ASKS.question("to-openai"))
    assert (answer.status, ASKS.read_whole(answer.body).text) == (200, "well")
    assert (await running.get("/health", headers=[])).status == 200


async def test_a_stream_over_tls_is_whole(gateway: Begin, pki: Pki, fake_provider: FakeProvider):
    text = words(400)
    fake_provider.reply(Answer(text=text))
    running = await gateway(settings(fake_provider) + f"\nserver: {{tls: {pki.tls()}}}")
    await trust(running, pki)
    answer = await running.ask(ASKS.path, ASKS.question("to-openai", stream=True))
    said = ASKS.read(answer.body)
    assert said.is_whole
    assert said.text == text


async def test_a_client_that_leaves_ends_its_call(gateway: Begin, pki: Pki, fake_provider: FakeProvider):
    fake_provider.reply(faulty(Answer(text=words(50)), Stall(5)))
    running = await gateway(settings(fake_provider) + f"\nserver: {{tls: {pki.tls()}}}")
    await trust(running, pki)
    stream = await running.open(ASKS.path, ASKS.question("to-openai", stream=True))
    await stream.read_some()
    await running.transport.aclose()
    async with asyncio.timeout(20):
        call = await fake_provider.call(0)
        await call.client_left.wait()


@pytest.mark.parametrize("http2", [False, True], ids=["own", "granian"])
@pytest.mark.parametrize(
    ("option", "is_spoken"), [("-tls1_1", False), ("-tls1_2", True), ("-tls1_3", True)], ids=["1.1", "1.2", "1.3"]
)
async def test_tls_from_1_2_on_is_spoken(
    gateway: Begin, pki: Pki, fake_provider: FakeProvider, option: str, is_spoken: bool, http2: bool
):
    running = await gateway(settings(fake_provider) + f"\nserver: {{http2: {str(http2).lower()}, tls: {pki.tls()}}}")
    said = await asyncio.to_thread(openssl_client, running, pki, option, "-cipher", "DEFAULT@SECLEVEL=0")
    assert ("no peer certificate available" not in said) is is_spoken, said


async def test_the_server_names_the_protocol_and_sends_the_whole_chain(
    gateway: Begin, pki: Pki, fake_provider: FakeProvider
):
    running = await gateway(settings(fake_provider) + f"\nserver: {{tls: {pki.tls()}}}")
    said = await asyncio.to_thread(openssl_client, running, pki, "-alpn", "h2,http/1.1", "-showcerts")
    assert "ALPN protocol: http/1.1" in said
    assert said.count("BEGIN CERTIFICATE") == 2


def openssl_client(running: Running, pki: Pki, *options: str) -> str:
    """What openssl says of a connection."""
    place = running.url.removeprefix("https://")
    command = ("openssl", "s_client", "-connect", place, "-CAfile", str(pki.ca), "-verify_ip", "127.0.0.1", *options)
    done = subprocess.run(command, input="", capture_output=True, text=True, timeout=30, check=False)
    return done.stdout


@pytest.mark.parametrize("http2", [False, True], ids=["own", "granian"])
async def test_a_required_certificate_must_be_of_the_authority(
    gateway: Begin, pki: Pki, tmp_path: Path, fake_provider: FakeProvider, http2: bool
):
    """Also with a good key: the certificate is looked at first."""
    fake_provider.reply(Answer(text="well"))
    (tmp_path / "other").mkdir()
    stranger = Pki(tmp_path / "other", "Another").client("ci")
    old = pki.write("old", pki.issue("old", now=TODAY - timedelta(days=20)))
    tls = pki.tls(client_ca=f"'{pki.ca}'")
    running = await gateway(settings(fake_provider) + f"\nserver: {{http2: {str(http2).lower()}, tls: {tls}}}")

    for pair in (None, stranger, old, pki.server("web")):
        await trust(running, pki, pair)
        with pytest.raises(ProviderError) as refused:
            await running.ask(ASKS.path, ASKS.question("to-openai"))
        assert isinstance(refused.value, ConnectFailed | ConnectionLost)
        if not http2:
            assert await grpc_code(running, pki, pair, KEY) == "UNAVAILABLE"

    good = pki.client("good")
    await trust(running, pki, good)
    assert (await running.ask(ASKS.path, ASKS.question("to-openai"))).status == 200
    assert await grpc_code(running, pki, good, KEY) == "OK"
    assert await grpc_code(running, pki, good) == "UNAUTHENTICATED"
    assert len(fake_provider.calls) == 1


async def test_an_optional_certificate_may_be_missing_but_not_bad(
    gateway: Begin, pki: Pki, tmp_path: Path, fake_provider: FakeProvider
):
    fake_provider.reply(Answer(text="well"), Answer(text="well"))
    (tmp_path / "other").mkdir()
    tls = pki.tls(client_ca=f"'{pki.ca}'", client_auth="optional")
    running = await gateway(settings(fake_provider) + f"\nserver: {{tls: {tls}}}")
    for pair in (None, pki.client("ci")):
        await trust(running, pki, pair)
        assert (await running.ask(ASKS.path, ASKS.question("to-openai"))).status == 200
    strange = Pki(tmp_path / "other", "Another").client("ci")
    await trust(running, pki, strange)
    with pytest.raises(ProviderError):
        await running.ask(ASKS.path, ASKS.question("to-openai"))
    assert await grpc_code(running, pki, None, KEY) == "OK"
    assert await grpc_code(running, pki, pki.client("ci"), KEY) == "OK"
    assert await grpc_code(running, pki, None) == "UNAUTHENTICATED"
    assert await grpc_code(running, pki, strange, KEY) == "UNAVAILABLE"


# ------------------------------------------------------------------------------------------------- whom it names

RULES = """
auth:
  keys: [{name: test, key: th-test-key-0123456789}]
  certificates:
    - {name: builder, subject: "CN=ci", tenant: acme, project: build, models: [to-openai]}
    - {name: mesh, san: "spiffe://example.com/mesh", limits: {requests_per_minute: 1}}
"""


@dataclass
class Known:
    """A gateway that knows two clients by their certificates."""

    running: Running
    pki: Pki
    provider: FakeProvider
    pairs: dict[str, Pair] = field(default_factory=dict)

    async def ask(self, who: str | None, model: str = "to-openai", *, key: str | None = None) -> tuple[int, str]:
        """The status, and the error's message if there is one."""
        await trust(self.running, self.pki, None if who is None else self.pairs[who])
        headers = [*CONTENT, *([(b"x-api-key", key.encode())] if key else [])]
        answer = await self.running.ask(ASKS.path, ASKS.question(model), headers=headers)
        return answer.status, answer.json()["error"]["message"] if answer.status >= 400 else ""


@pytest.fixture
async def known(gateway: Begin, pki: Pki, fake_provider: FakeProvider) -> Known:
    fake_provider.default = Answer(text="well")
    tls = pki.tls(client_ca=f"'{pki.ca}'", client_auth="optional")
    running = await gateway(settings(fake_provider) + RULES + f"\nserver: {{tls: {tls}}}")
    pairs = {
        "ci": pki.client("ci"),
        "mesh": pki.client("anything", "uri:spiffe://example.com/mesh"),
        "nobody": pki.client("ci2", "uri:spiffe://example.com/mesh/below", "dns:ci"),
    }
    return Known(running, pki, fake_provider, pairs)


async def test_a_certificate_that_a_rule_names_is_enough(known: Known):
    assert await known.ask("ci") == (200, "")
    assert await known.ask("mesh") == (200, "")
    assert [(row["key"], row["tenant"], row["project"]) for row in known.running.rows()] == [
        ("certificate:builder", "acme", "build"),
        ("certificate:mesh", "", ""),
    ]


async def test_what_a_rule_allows_and_limits_holds(known: Known):
    status, message = await known.ask("ci", "to-anthropic")
    assert status == 403
    assert "'certificate:builder' may not use the model" in message
    assert await known.ask("mesh") == (200, "")
    assert (await known.ask("mesh"))[0] == 429


async def test_a_certificate_that_no_rule_names_is_told_what_it_is(known: Known):
    status, message = await known.ask("nobody")
    assert status == 401
    assert "CN=ci2 (uri:spiffe://example.com/mesh/below, dns:ci) is good, but no rule says who that is" in message
    assert "auth.certificates" in message


async def test_a_credential_goes_before_the_certificate_good_or_bad(known: Known):
    assert await known.ask("ci", "to-anthropic", key=KEY) == (200, "")
    assert await known.ask("nobody", key=KEY) == (200, "")
    assert [row["key"] for row in known.running.rows()] == ["test", "test"]
    assert (await known.ask("ci", key="th-some-wrong-key"))[0] == 401


async def test_without_a_certificate_a_credential_is_asked_for(known: Known):
    status, message = await known.ask(None)
    assert status == 401
    assert "carries no key" in message
    assert await known.ask(None, key=KEY) == (200, "")


@pytest.mark.parametrize("mode", ["required", "optional"])
async def test_a_certificate_names_its_caller_over_grpc_too(
    gateway: Begin, pki: Pki, fake_provider: FakeProvider, mode: str
):
    tls = pki.tls(client_ca=f"'{pki.ca}'", client_auth=mode)
    running = await gateway(settings(fake_provider) + RULES + f"\nserver: {{tls: {tls}}}")
    assert await grpc_code(running, pki, pki.client("ci")) == "OK"
    with pytest.raises(grpc.aio.AioRpcError, match="no rule says who that is") as refused:
        await info(running, pki, pki.client("stranger"))
    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED


ADDRESSES = """
auth:
  keys: [{name: test, key: th-test-key-0123456789, ip_ranges: [127.0.0.2/32]}]
  certificates: [{name: builder, subject: "CN=ci", ip_ranges: [127.0.0.1/32]}]
"""


async def test_where_certificates_are_optional_a_call_over_grpc_is_one_like_any_other(
    gateway: Begin, pki: Pki, fake_provider: FakeProvider
):
    """The caller's own address counts, a long stream is whole, and whoever comes to the socket in between is nobody."""
    text = words(3000)
    fake_provider.reply(Answer(text=text))
    tls = pki.tls(client_ca=f"'{pki.ca}'", client_auth="optional")
    running = await gateway(settings(fake_provider) + ADDRESSES + f"\nserver: {{tls: {tls}}}")
    async with grpc.aio.secure_channel(running.grpc, shown(pki, pki.client("ci"))) as channel:
        client = VibectlClient(channel)
        assert (await client.stream(prompt(), ())).text == text
        assert running.rows()[0]["key"] == "certificate:builder"
        with pytest.raises(grpc.aio.AioRpcError, match=r"127\.0\.0\.1") as refused:
            await client.execute(prompt())
        assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
    listener = running.worker._grpc
    assert isinstance(listener, GrpcListener)
    assert listener._relay is not None
    async with grpc.aio.insecure_channel(f"unix:{listener._relay._inner}") as channel:
        with pytest.raises(grpc.aio.AioRpcError, match="the gateway's own") as refused:
            await VibectlClient(channel).execute(prompt())
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED


# ---------------------------------------------------------------------------------------------------- the files change


class Listening:
    """A listener on its own, whose certificate a test changes."""

    def __init__(self, pki: Pki, pair: Pair, app: App | None = None, **others: str) -> None:
        self.pki = pki
        self.pair = pair
        settings = TlsSettings(cert=str(pair.cert), key=str(pair.key), **others)  # type: ignore[arg-type]  # one of them is a Literal
        # A clock that stands still: what is told once a moment is told once.
        self.tls = LiveTls(settings, "server.tls", monotonic=lambda: 0.0)
        self.place, held = reserve(Place("127.0.0.1", 0), "gateway")
        self.listener = Http1Listener(app or _hello, self.place, tls=self.tls)
        self._held = held

    async def __aenter__(self) -> Self:
        await self.listener.start()
        self._held.close()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.listener.stop(5)

    def look(self) -> list[bool]:
        """Two looks: a change is taken over once it is settled."""
        return [self.tls.look(), self.tls.look()]

    async def connect(self, pair: Pair | None = None) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("localhost", self.place.port, ssl=self.pki.client_context(pair))

    async def served(self) -> str:
        """The common name that a new connection is shown."""
        _, writer = await self.connect()
        name = common_name(writer)
        writer.close()
        return name


async def _hello(scope: Scope, receive: Receive, send: Send) -> None:
    del receive
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(scope["extensions"]["tls"]["client_cert_name"]).encode()})


def common_name(writer: asyncio.StreamWriter) -> str:
    return str(dict(item for (item,) in writer.get_extra_info("peercert")["subject"])["commonName"])


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    writer.write(b"GET / HTTP/1.1\r\nhost: h\r\n\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.partition(b"content-length: ")[2].partition(b"\r")[0])
    return await reader.readexactly(length)


async def test_an_app_is_told_of_the_encryption_as_asgi_has_it(pki: Pki):
    """https://asgi.readthedocs.io/en/latest/specs/tls.html"""
    scopes: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scopes.append(scope)
        await _hello(scope, receive, send)

    client = pki.client("ci", "dns:ci.example.com")
    async with Listening(pki, pki.server("one"), app=app, client_ca=str(pki.ca), client_auth="optional") as listening:
        for pair in (client, None):
            reader, writer = await listening.connect(pair)
            await ask(reader, writer)
            writer.close()
    known, unknown = (scope["extensions"]["tls"] for scope in scopes)
    assert scopes[0]["scheme"] == "https"
    assert known == {
        "server_cert": _leaf(listening.pair.cert),
        "client_cert_chain": [_leaf(client.cert)],
        "client_cert_name": "CN=ci",
        "client_cert_error": None,
        "tls_version": 0x0304,
        "cipher_suite": known["cipher_suite"],
    }
    assert known["cipher_suite"] in {0x1301, 0x1302, 0x1303}
    assert (unknown["client_cert_chain"], unknown["client_cert_name"]) == ([], None)


async def test_a_new_certificate_is_served_to_new_connections_and_old_ones_go_on(pki: Pki):
    async with Listening(pki, pki.server("one")) as listening:
        reader, writer = await listening.connect()
        assert (common_name(writer), await ask(reader, writer)) == ("one", b"None")
        two = pki.server("two")
        listening.pair.cert.write_bytes(two.cert.read_bytes())
        listening.pair.key.write_bytes(two.key.read_bytes())
        assert listening.look() == [False, True]
        assert await listening.served() == "two"
        assert await ask(reader, writer) == b"None"
        assert listening.look() == [False, False]
        writer.close()


async def test_a_change_that_is_half_done_waits_for_the_other_half(pki: Pki, caplog: pytest.LogCaptureFixture):
    async with Listening(pki, pki.server("one")) as listening:
        two = pki.server("two")
        listening.pair.cert.write_bytes(two.cert.read_bytes())
        assert not listening.tls.look()
        listening.pair.key.write_bytes(two.key.read_bytes())
        assert listening.look() == [False, True]
        assert await listening.served() == "two"
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.parametrize("broken", ["mismatch", "garbage", "missing", "expired"])
async def test_a_broken_pair_leaves_the_old_one_serving_and_is_told_once(
    pki: Pki, caplog: pytest.LogCaptureFixture, broken: str
):
    async with Listening(pki, pki.server("one")) as listening:
        good = listening.pair.cert.read_bytes()
        match broken:
            case "mismatch":
                listening.pair.cert.write_bytes(pki.server("two").cert.read_bytes())
            case "garbage":
                listening.pair.cert.write_bytes(b"garbage")
            case "missing":
                listening.pair.cert.unlink()
            case _:
                old = pki.expired_server()
                listening.pair.cert.write_bytes(old.cert.read_bytes())
                listening.pair.key.write_bytes(old.key.read_bytes())
        assert [listening.look(), listening.look()] == [[False, False], [False, False]]
        assert await listening.served() == "one"
        errors = [record for record in caplog.records if record.levelno == logging.ERROR]
        assert [record.getMessage() for record in errors] == [
            "the new certificate cannot be used, the old one goes on serving"
        ]
        if broken != "expired":
            listening.pair.cert.write_bytes(good)
            assert listening.look() == [False, True]


async def test_a_link_that_is_swapped_is_a_change(pki: Pki, tmp_path: Path):
    """As Kubernetes mounts secrets: `tls.crt` leads to `..data/tls.crt`, and `..data` to a folder that is replaced."""
    for name in ("one", "two"):
        pair = pki.server(name)
        (tmp_path / f"..{name}").mkdir()
        pair.cert.rename(tmp_path / f"..{name}" / "tls.crt")
        pair.key.rename(tmp_path / f"..{name}" / "tls.key")
    (tmp_path / "..data").symlink_to("..one")
    for file in ("tls.crt", "tls.key"):
        (tmp_path / file).symlink_to(f"..data/{file}")
    async with Listening(pki, Pair(tmp_path / "tls.crt", tmp_path / "tls.key")) as listening:
        assert await listening.served() == "one"
        (tmp_path / "..data_tmp").symlink_to("..two")
        (tmp_path / "..data_tmp").rename(tmp_path / "..data")
        assert listening.look() == [False, True]
        assert await listening.served() == "two"


async def test_another_authority_of_clients_counts_for_new_connections(pki: Pki, tmp_path: Path):
    (tmp_path / "other").mkdir()
    other = Pki(tmp_path / "other", "Another")
    authorities = tmp_path / "clients.pem"
    authorities.write_bytes(pki.ca.read_bytes())
    async with Listening(pki, pki.server("one"), client_ca=str(authorities)) as listening:
        first = await listening.connect(pki.client("ci"))
        assert await ask(*first) == b"CN=ci"
        authorities.write_bytes(other.ca.read_bytes())
        assert listening.look() == [False, True]
        second = await listening.connect(other.client("ci"))
        assert await ask(*second) == b"CN=ci"
        third = await listening.connect(pki.client("ci"))  # in TLS 1.3 a client hears of its refusal afterwards
        with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
            await ask(*third)
        assert await ask(*first) == b"CN=ci"
        for _, writer in (first, second, third):
            writer.close()


@pytest.mark.parametrize("asking", [{}, {"client_auth": "optional"}], ids=["none asked", "optional"])
async def test_grpc_serves_the_new_certificate_too(
    gateway: Begin, pki: Pki, tmp_path: Path, fake_provider: FakeProvider, asking: dict[str, str]
):
    pair = pki.server("one")
    asked = {"client_ca": f"'{pki.ca}'", **asking} if asking else {}
    running = await gateway(settings(fake_provider) + f"\nserver: {{tls: {pki.tls(pair, **asked)}}}")
    (tmp_path / "other").mkdir()
    other = Pki(tmp_path / "other", "Another")
    assert await grpc_code(running, pki, key=KEY) == "OK"
    assert await grpc_code(running, other, key=KEY) == "UNAVAILABLE"
    replacement = other.server("two")
    replacement.key.replace(pair.key)
    replacement.cert.replace(pair.cert)

    async def is_served() -> bool:
        return await grpc_code(running, other, key=KEY) == "OK"

    await until(is_served)
    assert await grpc_code(running, pki, key=KEY) == "UNAVAILABLE"


async def test_granian_serves_the_new_certificate_too_and_lets_streams_end(
    gateway: Begin, pki: Pki, tmp_path: Path, fake_provider: FakeProvider
):
    go = asyncio.Event()
    fake_provider.reply(faulty(Answer(text=words(12)), Stall(5, until=go)))
    pair = pki.server("one")
    running = await gateway(settings(fake_provider) + f"\nserver: {{http2: true, tls: {pki.tls(pair)}}}")
    await trust(running, pki)
    stream = await running.open(ASKS.path, ASKS.question("to-openai", stream=True))
    body = await stream.read_some()
    former = running.transport
    running.transport = WireTransport()
    (tmp_path / "other").mkdir()
    other = Pki(tmp_path / "other", "Another")
    replacement = other.server("two")
    replacement.key.replace(pair.key)
    replacement.cert.replace(pair.cert)
    await trust(running, other)

    async def is_served() -> bool:
        try:
            return (await running.get("/health/live")).status == 200
        except ProviderError:
            return False

    await until(is_served)
    go.set()
    said = ASKS.read(body + await stream.read_all(1 << 20))
    assert said.is_whole
    await former.aclose()


def test_the_log_is_reminded_before_a_certificate_ends(pki: Pki, caplog: pytest.LogCaptureFixture):
    pair = pki.server("one")  # good for ten days
    clock = [0.0]
    tls = LiveTls(
        TlsSettings(cert=str(pair.cert), key=str(pair.key)),
        "server.tls",
        now=lambda: TODAY + timedelta(seconds=clock[0]),
        monotonic=lambda: clock[0],
    )
    for days in (0, 0.5, 1.2, 11):
        clock[0] = days * 86_400
        tls.look()
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == [
        "the certificate is about to end",
        "the certificate is about to end",
        "the certificate has ended, and clients refuse it",
    ]


def test_files_that_cannot_be_used_are_named_at_the_start(pki: Pki):
    with pytest.raises(ConfigError, match=r"server\.tls: cert: .* expired on"):
        LiveTls(TlsSettings(cert=str(pki.expired_server().cert), key=str(pki.expired_server("b").key)), "server.tls")


async def test_a_failed_handshake_is_told_in_the_log_once_a_moment(pki: Pki, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO, "tollhouse.server")
    async with Listening(pki, pki.server("one"), client_ca=str(pki.ca)) as listening:
        for _ in range(3):
            reader, writer = await asyncio.open_connection("127.0.0.1", listening.place.port)
            writer.write(b"GET / HTTP/1.1\r\nhost: h\r\n\r\n")
            await reader.readuntil(b"\r\n\r\n")
            writer.close()
    told = [record for record in caplog.records if "could not agree" in record.getMessage()]
    assert [vars(record)["why"] for record in told] == ["it spoke plain HTTP"]


async def test_plain_http_on_the_port_of_tls_is_answered_with_a_sentence(pki: Pki, caplog: pytest.LogCaptureFixture):
    """Also when the client sends the rest of its request first: a reset would take the answer with it."""
    caplog.set_level(logging.INFO)
    async with Listening(pki, pki.server("one")) as listening:
        for rest in (b"", bytes(300_000)):
            reader, writer = await asyncio.open_connection("127.0.0.1", listening.place.port)
            writer.write(b"POST / HTTP/1.1\r\nhost: h\r\ncontent-length: %d\r\n\r\n" % len(rest))
            head = await reader.readuntil(b"\r\n\r\n")
            writer.write(rest)
            await writer.drain()
            assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
            body = await reader.readexactly(int(head.partition(b"content-length: ")[2].partition(b"\r")[0]))
            assert b"\r\nx-tollhouse-code: tls_expected\r\n" in head
            assert "use https://" in json.loads(body)["error"]["message"]
            writer.write_eof()
            assert await reader.read() == b""
            writer.close()
        assert await listening.served() == "one"
    assert "it spoke plain HTTP" in [getattr(record, "why", "") for record in caplog.records]


async def test_who_goes_on_speaking_plain_http_is_cut_off(pki: Pki):
    async with Listening(pki, pki.server("one")) as listening:
        reader, writer = await asyncio.open_connection("127.0.0.1", listening.place.port)
        writer.write(b"POST / HTTP/1.1\r\n\r\n")
        assert (await reader.read(4096)).startswith(b"HTTP/1.1 400")
        sent = 0
        with suppress(ConnectionError):
            while sent < 64 << 20:
                writer.write(bytes(1 << 20))
                await writer.drain()
                sent += 1 << 20
        assert sent < 64 << 20
        writer.close()


async def test_tls_on_a_port_of_plain_text_is_told_in_the_log(pki: Pki, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO)
    place, held = reserve(Place("127.0.0.1", 0), "gateway")
    listener = Http1Listener(_hello, place)
    await listener.start()
    held.close()
    with pytest.raises(ssl.SSLError):
        await asyncio.open_connection("localhost", place.port, ssl=pki.client_context())
    reader, writer = await asyncio.open_connection("127.0.0.1", place.port)
    writer.write(bytes.fromhex("160301"))
    assert b"400 Bad Request" in await reader.readuntil(b"\r\n\r\n")
    assert b"This port speaks plain HTTP" in await reader.read()
    writer.close()
    await listener.stop(5)
    told = [getattr(record, "why", "") for record in caplog.records]
    assert told == ["it spoke TLS to a port of plain text"]  # and not all of many


# ----------------------------------------------------------------------------------------------------- a whole process


async def test_a_gateway_that_runs_serves_what_was_renewed_on_every_listener(
    tmp_path: Path, pki: Pki, fake_provider: FakeProvider
):
    """With two workers, each of which watches for itself; the admin listener is the supervisor's."""
    pair = pki.server("one")
    admin_pair = pki.server("admin")
    text = settings(fake_provider) + (f"\nserver: {{tls: {pki.tls(pair)}}}\nadmin: {{tls: {pki.tls(admin_pair)}}}")
    async with started(tmp_path, text, "--workers", "2") as process:
        assert process.url.startswith("https://")
        assert process.admin.startswith("https://")
        process.transport = WireTransport(WireSettings(ca_file=str(pki.ca), idle_seconds=0.001))
        assert await process.chat("to-openai") == 200
        assert (await process.get("/health/live", at=process.admin))[0] == 200
        for name, old in (("two", pair), ("admin-two", admin_pair)):
            new = pki.server(name)
            new.key.replace(old.key)
            new.cert.replace(old.cert)

        def names() -> set[str]:
            """What eight connections are shown: the kernel spreads them over the workers."""
            found = set()
            for url in (process.url, process.admin) * 4:
                port = int(url.rpartition(":")[2])
                found.add(ssl.get_server_certificate(("127.0.0.1", port)))
            return found

        expected = {_leaf(pair.cert), _leaf(admin_pair.cert)}

        async def is_served() -> bool:
            return await asyncio.to_thread(names) == expected

        await until(is_served)
        assert await process.chat("to-openai") == 200


def _leaf(file: Path) -> str:
    return file.read_text().partition("-----END CERTIFICATE-----")[0] + "-----END CERTIFICATE-----\n"


async def test_a_gateway_on_every_address_needs_a_certificate(tmp_path: Path, fake_provider: FakeProvider):
    from support.processes import serving, written

    file = written(tmp_path, settings(fake_provider))
    async with serving(tmp_path, "--config", str(file), "--host", "0.0.0.0", "--port", "0") as process:
        assert await process.ends() == 1
        await process.is_silent.wait()
    [line] = process.lines
    assert "would speak plain text on 0.0.0.0" in line
    assert "tollhouse cert init" in line
