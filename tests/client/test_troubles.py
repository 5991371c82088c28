"""Gateways that are not there, not trusted, not ours or not well: each with its own error, and a hint that helps."""

import asyncio
import errno
import logging
import socket
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec
import pytest

import tollhouse
from support.certificates import Pki
from support.client_town import Town
from support.fake_replies import Answer, Failure
from support.peer import Peer, Script, Visit, answering, html_error, response, stalling
from tollhouse.chat.events import Delta, Ended, Finished, PartClosed, PartOpened, Started
from tollhouse.chat.model import Text
from tollhouse.client import (
    AnswerBroken,
    AsyncClient,
    AsyncStream,
    BadSettings,
    CallFailed,
    Client,
    ConnectionRefused,
    NoSuchModel,
    NotAuthenticated,
    NotSpoken,
    OverBudget,
    OverLimit,
    ProviderFailed,
    ServerBusy,
    ServerFailed,
    TimedOut,
    TlsFailed,
    Unreachable,
    VersionMismatch,
)
from tollhouse.client.translate import Scene, failure, of_status
from tollhouse.dialects.protobuf import typed
from tollhouse.errors import ConnectFailed
from tollhouse.upstream.dialler import NotReached
from tollhouse.upstream.names import Unresolved

TOKEN = "th-token-that-nobody-may-see"
CHAT = msgspec.json.encode(
    {
        "id": "x",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "ok"}, "finish_reason": "stop"}],
    }
)


def health(version: str = tollhouse.__version__) -> bytes:
    return response(msgspec.json.encode({"status": "serving", "version": version}))


def error(code: str, message: str = "No.") -> bytes:
    return msgspec.json.encode({"error": {"message": message, "type": "x", "param": None, "code": code}})


def gateway(*answers: bytes, version: str = tollhouse.__version__) -> Script:
    """A server that says its version first, and then these answers."""
    return answering(health(version), *answers)


@pytest.fixture
def nobody() -> str:
    """An address at which nothing listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{held.getsockname()[1]}"


def client(
    url: str,
    home: Path,
    environ: Mapping[str, str] | None = None,
    *,
    retries: int = 0,
    protocol: Literal["json", "protobuf"] = "json",
) -> AsyncClient:
    given = {"HOME": str(home), **(environ or {})}
    return AsyncClient(url, token=TOKEN, retries=retries, environ=given, protocol=protocol)


async def asked(
    url: str, home: Path, model: str = "m", *, protocol: Literal["json", "protobuf"] = "json"
) -> CallFailed:
    """The error of a call."""
    async with client(url, home, protocol=protocol) as calling:
        with pytest.raises(CallFailed) as caught:
            await calling.chat("hi", model=model)
        with pytest.raises(CallFailed):
            async with calling.stream("hi", model=model):
                pass
    assert TOKEN not in repr(caught.value) + str(caught.value)
    return caught.value


async def test_nobody_there_asks_whether_the_gateway_runs(nobody: str, tmp_path: Path):
    found = await asked(nobody, tmp_path)

    assert isinstance(found, ConnectionRefused)
    assert f"Is `tollhouse serve` running at {nobody}?" in str(found)


def test_refused_at_every_address_of_a_name_is_refused():
    no, no_way = ConnectionRefusedError(errno.ECONNREFUSED, "no"), OSError(errno.ENETUNREACH, "no way")
    refused = ConnectFailed("x")
    refused.__cause__ = NotReached([("::1", no), ("127.0.0.1", no)])
    mixed = ConnectFailed("x")
    mixed.__cause__ = NotReached([("::1", no), ("127.0.0.1", no_way)])
    unknown = ConnectFailed("x")
    unknown.__cause__ = Unresolved("name or service not known")
    scene = Scene(mode="proxy", where="gw:1", address="https://gw:1")

    assert type(failure(refused, scene)) is ConnectionRefused
    assert type(failure(mixed, scene)) is Unreachable
    assert "name of https://gw:1 is not known" in str(failure(unknown, scene))


async def test_a_connection_that_is_refused_is_tried_again_until_somebody_is_there(tmp_path: Path):
    async def dead(visit: Visit) -> None:
        visit.reset()

    async with Peer(dead, gateway(response(CHAT))) as peer, client(peer.url, tmp_path, retries=0) as calling:
        with pytest.raises(CallFailed):
            await calling.chat("hi", model="m")
        assert (await calling.chat("hi", model="m")).text == "ok"


async def test_a_busy_gateway_is_asked_again_after_the_wait_that_it_names(tmp_path: Path):
    busy = response(error("overloaded"), status=503, headers=[("retry-after", "0")])
    limited = response(error("rate_limited"), status=429, headers=[("retry-after", "0")])
    async with Peer(gateway(busy, limited, response(CHAT))) as peer, client(peer.url, tmp_path, retries=2) as calling:
        answer = await calling.chat("hi", model="m")

    assert answer.text == "ok"
    assert answer.marks.attempts == 3


async def test_a_call_that_may_have_been_begun_is_never_sent_twice(tmp_path: Path):
    async def dies_in_the_call(visit: Visit) -> None:
        await visit.request()
        await visit.send(health())
        await visit.request()
        visit.cut()

    async with Peer(dies_in_the_call) as peer, client(peer.url, tmp_path, retries=5) as calling:
        with pytest.raises(CallFailed):
            await calling.chat("hi", model="m")

    # The transport may replace a kept connection once when it closes before any byte of an answer.
    assert sum(request.target == "/v1/chat/completions" for request in peer.requests) <= 2


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (401, "invalid_api_key", NotAuthenticated),
        (402, "insufficient_quota", OverBudget),
        (404, "model_not_found", NoSuchModel),
        (404, "not_found", ServerFailed),
        (429, "rate_limited", OverLimit),
        (500, "internal_error", ServerFailed),
        (500, "api_error", ProviderFailed),
        (502, "provider_unreachable", ProviderFailed),
        (503, "draining", ServerBusy),
        (503, "provider_refused", ProviderFailed),
        (504, "provider_timeout", ProviderFailed),
    ],
)
async def test_an_error_of_the_gateway_is_its_own_type(tmp_path: Path, status: int, code: str, kind: type[CallFailed]):
    async with Peer(gateway(response(error(code), status=status, headers=[("x-request-id", "req_7")]))) as peer:
        found = await asked(peer.url, tmp_path)

    assert type(found) is kind
    assert (found.status, found.request_id) == (status, "req_7")


@pytest.mark.parametrize("protocol", ["json", "protobuf"])
@pytest.mark.parametrize(
    ("status", "code", "kind", "is_relayed"),
    [
        (402, "budget_exceeded", OverBudget, False),
        (429, "rate_limited", OverLimit, False),
        (429, "provider_refused", OverBudget, True),
        (503, "overloaded", ServerBusy, False),
        (503, "provider_refused", ProviderFailed, True),
        (400, "tls_expected", TlsFailed, False),
    ],
)
async def test_the_code_in_the_head_counts_and_not_what_the_body_calls_it(
    tmp_path: Path,
    status: int,
    code: str,
    kind: type[CallFailed],
    is_relayed: bool,
    protocol: Literal["json", "protobuf"],
):
    """A dialect has names of its own: `insufficient_quota` is a budget of the gateway's, or an account that is empty."""
    said = response(error("insufficient_quota"), status=status, headers=[("x-tollhouse-code", code)])
    async with Peer(gateway(said)) as peer:
        found = await asked(peer.url, tmp_path, protocol=protocol)

    assert type(found) is kind
    assert found.is_relayed is is_relayed


async def test_what_the_gateway_says_is_nobodys_cause(tmp_path: Path):
    """An error that is its own cause sends whoever follows causes round in circles."""
    said = response(error("unauthenticated"), status=401, headers=[("x-tollhouse-code", "unauthenticated")])
    async with Peer(gateway(*[said] * 6)) as peer, client(peer.url, tmp_path) as calling:
        for asking in (
            calling.chat("hi", model="m"),
            calling.stream("hi", model="m").open(),
            calling.embed("hi", model="m"),
            calling.count_tokens("hi", model="m"),
            calling.models(),
        ):
            with pytest.raises(NotAuthenticated) as caught:
                await asking
            assert caught.value.__cause__ is None


async def test_what_the_gateway_has_tried_to_the_end_is_not_tried_again(tmp_path: Path):
    refused = response(
        error("rate_limit_exceeded"),
        status=429,
        headers=[("retry-after", "0"), ("x-tollhouse-code", "provider_refused")],
    )
    async with Peer(gateway(refused, response(CHAT))) as peer, client(peer.url, tmp_path, retries=5) as calling:
        with pytest.raises(OverLimit) as caught:
            await calling.chat("hi", model="m")

    assert caught.value.attempts == 1
    assert caught.value.server_code == "rate_limit_exceeded"


async def test_a_gateway_without_a_default_is_said_to_have_none_and_what_it_has(tmp_path: Path):
    unknown = response(error("model_not_found", "Model 'default' does not exist here."), status=404)
    listed = response(msgspec.json.encode({"data": [{"id": "lab/small", "owned_by": "lab"}]}))
    async with Peer(gateway(unknown, listed)) as peer, client(peer.url, tmp_path) as calling:
        with pytest.raises(NoSuchModel) as caught:
            await calling.chat("hi")

    assert str(caught.value).startswith(
        "No model was named, and the gateway has none for such calls. Name one: `model="
    )
    assert str(caught.value).endswith("It has lab/small.")


def test_suggestions_are_read_off_the_gateways_sentence():
    scene = Scene(mode="proxy", where="gw", model="fsat")
    found = of_status(
        404, "Model 'fsat' does not exist here. Did you mean 'fast' or 'vast'?", scene, code="model_not_found"
    )

    assert isinstance(found, NoSuchModel)
    assert (found.model, found.nearest) == ("fsat", ("fast", "vast"))


async def test_a_token_that_is_not_known_says_how_to_get_one_and_a_missing_one_how_to_give_it(
    town: Town, tmp_path: Path
):
    wrong = await asked(town.gateway.url, tmp_path, "any-openai")
    async with AsyncClient(town.gateway.url, environ={"HOME": str(tmp_path)}) as calling:
        with pytest.raises(NotAuthenticated) as missing:
            await calling.chat("hi", model="any-openai")

    assert isinstance(wrong, NotAuthenticated)
    assert "whoever runs it" in str(wrong)
    assert "TOLLHOUSE_TOKEN" in str(missing.value)


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        (html_error(502), ProviderFailed),
        (html_error(404), ServerFailed),
        (answering(response(b"<html>hi</html>", content_type="text/html")), ServerFailed),
        (answering(response(b'{"hello":1}')), ServerFailed),
        (answering(b"SSH-2.0-OpenSSH_9.6\r\n\r\n"), ServerFailed),
    ],
    ids=["bad gateway", "not found", "page", "other JSON", "no HTTP"],
)
async def test_something_else_at_the_address_is_said_to_be_no_tollhouse(
    tmp_path: Path, script: Script, kind: type[CallFailed]
):
    async with Peer(script) as peer:
        found = await asked(peer.url, tmp_path)

    assert isinstance(found, kind)
    assert "127.0.0.1" in str(found) or "page" in str(found)


@pytest.mark.parametrize(
    ("version", "side"), [("1.0.0", "client"), ("0.1.9", None), ("0.9.0", None), ("x", None), ("", None)]
)
async def test_versions_that_are_too_far_apart_say_which_side_to_upgrade(
    tmp_path: Path, version: str, side: str | None
):
    async with (
        Peer(gateway(response(CHAT), version=version)) as peer,
        client(peer.url, tmp_path) as calling,
    ):
        if side is None:
            assert (await calling.chat("hi", model="m")).text == "ok"
        else:
            with pytest.raises(VersionMismatch) as caught:
                await calling.chat("hi", model="m")
            assert f"Upgrade the {side}" in str(caught.value)
            assert version in str(caught.value)
            assert tollhouse.__version__ in str(caught.value)
            assert [request.target for request in peer.requests] == ["/health"]


async def test_a_silent_gateway_is_given_up_in_time(tmp_path: Path):
    async with Peer(stalling()) as peer, client(peer.url, tmp_path) as calling:
        with pytest.raises(TimedOut) as caught:
            await calling.chat("hi", model="m", timeout=0.05)

    assert "timeout" in str(caught.value)


async def test_a_cancelled_call_leaves_at_once_and_frees_its_place(tmp_path: Path):
    began = asyncio.Event()

    async def silent(visit: Visit) -> None:
        await visit.request()
        await visit.send(health())
        await visit.request()
        began.set()
        await visit.stall()

    async with Peer(silent, answering(response(CHAT))) as peer, client(peer.url, tmp_path) as calling:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(calling.chat("hi", model="m"))
            await began.wait()
            task.cancel()
            await (await peer.visit()).client_closed.wait()
        assert (await calling.chat("hi", model="m")).text == "ok"


@pytest.mark.parametrize(
    "unspoken",
    [
        response(error("unsupported_media_type"), status=415),
        response(error("not_found"), status=404),
        response(error("method_not_allowed"), status=405),
        response(b"<html>nothing here</html>", status=404, content_type="text/html"),
        response(CHAT),
    ],
    ids=["415", "404", "405", "page", "JSON all the same"],
)
async def test_a_server_without_protobuf_is_spoken_to_in_json_and_that_is_remembered(tmp_path: Path, unspoken: bytes):
    environ = {"HOME": str(tmp_path)}
    async with Peer(gateway(unspoken, response(CHAT))) as peer, AsyncClient(peer.url, environ=environ) as calling:
        answers = [await calling.chat("hi", model="m") for _ in range(3)]

    assert [answer.marks.protocol for answer in answers] == ["json"] * 3
    assert [answer.marks.attempts for answer in answers] == [1, 1, 1]
    assert [request.target for request in peer.requests] == ["/health", "/v1/chat", *["/v1/chat/completions"] * 3]


PROTOBUF = "application/x-protobuf"


@pytest.mark.parametrize(
    "body", [b"\xff\xff\xff", b"\x0a", b"{}", b"\x00" * 40, b""], ids=["bad tag", "cut", "JSON", "zeros", "nothing"]
)
async def test_garbage_in_place_of_protobuf_is_no_answer(tmp_path: Path, body: bytes):
    async with (
        Peer(gateway(response(body, content_type=PROTOBUF))) as peer,
        AsyncClient(peer.url, environ={"HOME": str(tmp_path)}) as calling,
    ):
        with pytest.raises(ServerFailed, match="not of the typed protocol"):
            await calling.chat("hi", model="m")
        with pytest.raises((ServerFailed, AnswerBroken)):
            await calling.stream("hi", model="m").finished()


async def test_a_stream_of_protobuf_that_is_cut_is_an_error(tmp_path: Path):
    wire = typed("protobuf").writes
    said = [
        wire.say(Started(id="x", model="m")),
        wire.say(PartOpened(0, Text(""))),
        wire.say(Delta(0, "Toll")),
        wire.say(Delta(0, " houses")),
    ]
    whole = b"".join([*said, *(wire.say(event) for event in (PartClosed(0), Finished("stop"), Ended()))])
    for cut in range(len(said[0]), len(whole)):
        body = response(whole[:cut], content_type=f"{PROTOBUF}; delimited=true")
        async with (
            Peer(gateway(body)) as peer,
            AsyncClient(peer.url, environ={"HOME": str(tmp_path)}, retries=0) as calling,
        ):
            with pytest.raises(AnswerBroken):
                await calling.stream("hi", model="m").finished()
    async with (
        Peer(gateway(response(whole, content_type=PROTOBUF))) as peer,
        AsyncClient(peer.url, environ={"HOME": str(tmp_path)}) as calling,
    ):
        # Without the settlement that a gateway adds, the answer is whole all the same.
        assert (await calling.stream("hi", model="m").finished()).text == "Toll houses"


async def test_protobuf_alone_is_an_error_where_it_is_not_spoken(tmp_path: Path):
    async with (
        Peer(gateway(response(error("not_found"), status=404))) as peer,
        AsyncClient(peer.url, environ={"HOME": str(tmp_path)}, protocol="protobuf") as calling,
    ):
        with pytest.raises(NotSpoken, match="PROXY_PROTOCOL=json"):
            await calling.chat("hi", model="m")


# ------------------------------------------------------------------------------------------------------------------ TLS


async def test_a_private_authority_is_refused_with_how_to_trust_it_and_then_trusted(tmp_path: Path):
    pki = Pki(tmp_path)
    async with Peer(gateway(response(CHAT)), tls=server_context(pki)) as peer:
        found = await asked(peer.url, tmp_path)
        async with client(peer.url, tmp_path, {"TOLLHOUSE_CA_BUNDLE": str(pki.ca)}) as calling:
            assert (await calling.chat("hi", model="m")).text == "ok"

    assert isinstance(found, TlsFailed)
    assert "--ca-bundle" in str(found)
    assert "TOLLHOUSE_CA_BUNDLE" in str(found)


async def test_an_expired_certificate_and_one_of_another_name_say_so(tmp_path: Path):
    pki = Pki(tmp_path)
    wrong = pki.server("wrong", hosts=("gateway.example",))
    for pair, says in ((pki.expired_server(), "ran out"), (wrong, "another name")):
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(pair.cert, pair.key)
        async with (
            Peer(gateway(response(CHAT)), tls=context) as peer,
            client(peer.url, tmp_path, {"TOLLHOUSE_CA_BUNDLE": str(pki.ca)}) as calling,
        ):
            with pytest.raises(TlsFailed) as caught:
                await calling.chat("hi", model="m")
        assert says in str(caught.value)


async def test_a_plain_server_is_not_spoken_to_as_if_it_had_tls(tmp_path: Path):
    async def plain(visit: Visit) -> None:
        await visit.reader.read(1)
        await visit.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with Peer(plain) as peer:
        found = await asked(peer.url.replace("http:", "https:"), tmp_path)

    assert isinstance(found, TlsFailed)
    assert "does not speak TLS" in str(found)


async def test_a_listener_for_tls_that_is_spoken_to_in_plain_text_is_named_as_one(tmp_path: Path):
    async with Peer(gateway(response(CHAT)), tls=server_context(Pki(tmp_path))) as peer:
        found = await asked(peer.url.replace("https:", "http:"), tmp_path)

    assert "https://" in str(found)


async def test_a_client_certificate_is_shown_to_who_wants_it(tmp_path: Path):
    pki = Pki(tmp_path)
    context = server_context(pki)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(pki.ca)
    pair = pki.client("ci")
    trusted = {"TOLLHOUSE_CA_BUNDLE": str(pki.ca)}
    async with Peer(gateway(response(CHAT)), tls=context) as peer:
        async with client(peer.url, tmp_path, trusted) as calling:
            with pytest.raises(CallFailed, match="client_cert"):
                await calling.chat("hi", model="m")
        shown = {"TOLLHOUSE_CLIENT_CERT": str(pair.cert), "TOLLHOUSE_CLIENT_KEY": str(pair.key)}
        async with client(peer.url, tmp_path, {**trusted, **shown}) as calling:
            assert (await calling.chat("hi", model="m")).text == "ok"


def test_files_that_hold_no_certificates_are_refused_before_anything_is_asked(tmp_path: Path):
    broken = tmp_path / "broken.pem"
    broken.write_text("nothing")

    with pytest.raises(BadSettings, match="authorities"):
        client("https://gw", tmp_path, {"TOLLHOUSE_CA_BUNDLE": str(broken)})
    with pytest.raises(BadSettings, match="client certificate"):
        client("https://gw", tmp_path, {"TOLLHOUSE_CLIENT_CERT": str(broken)})


def server_context(pki: Pki) -> ssl.SSLContext:
    pair = pki.server()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pair.cert, pair.key)
    return context


async def test_a_proxy_of_the_environment_is_gone_through_but_not_to_this_machine(tmp_path: Path):
    async with Peer(gateway(response(CHAT))) as peer:
        environ = {"HTTP_PROXY": peer.url, "TOLLHOUSE_INSECURE": "1"}
        async with client("http://gw.example:8080", tmp_path, environ) as calling:
            assert (await calling.chat("hi", model="m")).text == "ok"
        assert peer.requests[1].target == "http://gw.example:8080/v1/chat/completions"
    async with (
        Peer(gateway(response(CHAT))) as peer,
        client(peer.url, tmp_path, {"HTTP_PROXY": "http://127.0.0.1:9"}) as calling,
    ):
        assert (await calling.chat("hi", model="m")).text == "ok"


# --------------------------------------------------------------------------------------------------- around the gateway


def test_providers_are_not_asked_directly_unless_that_was_said(town: Town, nobody: str):
    environ = {**town.direct_environ(), "PROXY_SERVER_URL": nobody}
    with Client(environ=environ, retries=0) as calling, town.saying(Answer(text="direct")) as fake:
        with pytest.raises(ConnectionRefused):
            calling.chat("hi", model="openai/gpt-4o-mini")
        assert not fake.calls


def test_a_dead_gateway_is_gone_around_where_that_was_said_and_it_is_logged_and_marked(
    town: Town, nobody: str, caplog: pytest.LogCaptureFixture
):
    environ = {**town.direct_environ(), "PROXY_SERVER_URL": nobody}
    with (
        caplog.at_level(logging.WARNING, "tollhouse.client"),
        Client(environ=environ, fallback_to_direct=True, retries=0) as calling,
        town.saying(Answer(text="direct")),
    ):
        answer = calling.chat("hi", model="openai/gpt-4o-mini")
        with calling.stream("hi", model="openai/gpt-4o-mini") as stream:
            streamed = stream.finished()

    for each in (answer, streamed):
        assert each.text == "direct"
        assert each.marks.mode == "direct"
        assert each.marks.fell_back_to_direct
        assert each.marks.fallback_cause == "connection_refused"
    assert [record.message for record in caplog.records] == [
        "the gateway is down, so the provider is asked directly"
    ] * 2


async def test_nothing_goes_around_the_gateway_once_content_was_delivered(town: Town, tmp_path: Path):
    chunk = b'data: {"id":"x","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":%b}]}\n\n'
    head = (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    said = chunk % b'{"role":"assistant","content":"Toll"}'

    async def breaks(visit: Visit) -> None:
        await visit.request()
        await visit.send(health())
        await visit.request()
        await visit.send(head + b"%x\r\n%b\r\n" % (len(said), said))

    async def read(stream: AsyncStream) -> None:
        async for text in stream:
            texts.append(text)  # what came before the error is kept

    texts: list[str] = []
    async with Peer(breaks) as peer:
        environ = {**town.direct_environ(), "PROXY_SERVER_URL": peer.url, "PROXY_PROTOCOL": "json"}
        with town.saying(Answer(text="direct")) as fake:
            async with AsyncClient(environ=environ, fallback_to_direct=True, retries=3) as calling:
                with pytest.raises(AnswerBroken):
                    await read(calling.stream("hi", model="openai/gpt-4o-mini"))
            assert not fake.calls

    assert texts == ["Toll"]


async def test_more_calls_than_connections_wait_in_line(tmp_path: Path):
    async with (
        Peer(answering(response(CHAT))) as peer,
        AsyncClient(
            peer.url, protocol="json", connections=5, check_version=False, environ={"HOME": str(tmp_path)}
        ) as calling,
        asyncio.TaskGroup() as group,
    ):
        tasks = [group.create_task(calling.chat("hi", model="m")) for _ in range(40)]

    assert {task.result().text for task in tasks} == {"ok"}
    assert len(peer.visits) <= 5


def test_a_gateway_that_lives_is_never_gone_around(town: Town):
    environ = {**town.direct_environ(), **town.proxy_environ()}
    with Client(environ=environ, fallback_to_direct=True, retries=0) as calling:
        with town.saying(Answer(text="ok")):
            answer = calling.chat("hi", model="openai/gpt-4o-mini")
        with town.saying(Failure(status=500)), pytest.raises(ProviderFailed):
            calling.chat("hi", model="openai/gpt-4o-mini")

    assert (answer.marks.mode, answer.marks.fell_back_to_direct) == ("proxy", False)
