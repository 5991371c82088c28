"""A provider's paths that are beside the API by which it is asked: Google's uploads in pieces, DashScope's own API."""

import asyncio
import io
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from google import genai

from support.peer import Peer, Visit
from support.recordings import everything
from support.serving import KEY, Running, Serving
from tollhouse.errors import BadRequest, UpstreamMalformed
from tollhouse.gateway.passthrough import session_of, target_of
from tollhouse.providers import google, qwen
from tollhouse.providers.provider import OtherPaths
from tollhouse.upstream.address import parse_address

own = pytest.mark.parametrize("server", ["own"])
"""What these tests look at does not depend on the server."""


class Google:
    """Keeps files by the resumable protocol, as `generativelanguage.googleapis.com` does (ai.google.dev/api/files)."""

    def __init__(self, session: Callable[[str], str] = lambda host: f"http://{host}/upload/v1beta/files") -> None:
        self.session = session
        self.stored = b""
        self.asked: list[tuple[str, str, dict[str, str]]] = []

    async def __call__(self, visit: Visit) -> None:
        while True:
            request = await visit.request()
            headers = dict(request.headers)
            self.asked.append((request.method, request.target, headers))
            command = headers.get("x-goog-upload-command", "")
            if command == "start":
                address = f"{self.session(headers['host'])}?upload_id=AbC-1_2&upload_protocol=resumable"
                more = [
                    ("x-goog-upload-url", address),
                    ("x-goog-upload-control-url", address),
                    ("x-goog-upload-status", "active"),
                    ("x-goog-upload-chunk-granularity", "262144"),
                    ("x-guploader-uploadid", "AbC-1_2"),
                ]
                await visit.answer(b"", headers=more)
            elif "upload" in command:
                assert int(headers["x-goog-upload-offset"]) == len(self.stored)
                self.stored += request.body
                is_last = "finalize" in command
                body = b'{"file":{"name":"files/a","uri":"https://g/v1beta/files/a","mimeType":"text/plain","state":"ACTIVE"}}'
                status = ("x-goog-upload-status", "final" if is_last else "active")
                await visit.answer(body if is_last else b"", headers=[status])
            else:
                await visit.answer(b'{"models":[]}')


def config(peer: Peer, more: str = "", *, path: str = "/v1beta") -> str:
    return f"providers: {{google: {{api_key: g-upstream-secret, base_url: '{peer.url}{path}'}}}}\n{more}"


def upload(gateway: Running, content: bytes) -> genai.types.File:
    client = genai.Client(api_key=KEY, http_options={"base_url": f"{gateway.url}/google"})
    try:
        return client.files.upload(file=io.BytesIO(content), config={"mime_type": "application/json"})
    finally:
        client.close()


START = [
    (b"x-goog-api-key", KEY.encode()),
    (b"x-goog-upload-protocol", b"resumable"),
    (b"x-goog-upload-command", b"start"),
    (b"x-goog-upload-header-content-length", b"5"),
    (b"x-goog-upload-header-content-type", b"application/json"),
    (b"content-type", b"application/json"),
]
PIECE = [
    (b"x-goog-upload-command", b"upload, finalize"),
    (b"x-goog-upload-offset", b"0"),
    (b"content-type", b"application/json"),
]


async def started(gateway: Running) -> str:
    """Begins an upload; the target of the address that is told to go on at."""
    answer = await gateway.ask("/google/upload/v1beta/files", {"file": {}}, headers=START)
    assert answer.status == 200, answer.body
    address = answer.headers["x-goog-upload-url"]
    assert address.startswith(f"{gateway.url}/google/upload/v1beta/files?")
    assert answer.headers["x-goog-upload-status"] == "active"
    assert answer.headers["x-goog-upload-chunk-granularity"] == "262144"
    return address.removeprefix(gateway.url)


@own
async def test_googles_sdk_stores_a_file_in_pieces(serving: Serving):
    """It sends no key with the pieces: what the address says is all that it sends there."""
    script = Google()
    content = b'{"not": "the JSON that it seems"\n' * 300_000
    async with Peer(script) as peer:
        gateway = await serving(config(peer, "budgets: [{scope: global, daily: 1}]"))
        stored = await asyncio.to_thread(upload, gateway, content)
        assert stored.name == "files/a"
    assert script.stored == content
    (_, target, first), *pieces = script.asked
    assert target == "/upload/v1/files"
    assert first["x-goog-upload-header-content-length"] == str(len(content))
    assert len(pieces) > 1
    assert {target for _, target, _ in pieces} == {"/upload/v1beta/files?upload_id=AbC-1_2&upload_protocol=resumable"}
    for _, target, headers in script.asked:
        assert headers["x-goog-api-key"] == "g-upstream-secret"
        assert KEY not in f"{target}{headers}"
    assert [(row["door"], row["key"], row["cost_nano"]) for row in gateway.rows()] == [
        ("passthrough", "test", 0)
    ] * len(script.asked)


@own
@pytest.mark.parametrize(
    ("protocol", "kind", "body"),
    [
        (b"multipart", b"multipart/related; boundary=x", b"--x\r\n\r\n{}\r\n--x\r\n\r\nhello\r\n--x--"),
        (b"raw", b"application/json", b'{"one": 1}\n{"two": 2}\n'),
    ],
)
async def test_a_file_in_one_piece_is_not_read_for_a_model(serving: Serving, protocol: bytes, kind: bytes, body: bytes):
    script = Google()
    async with Peer(script) as peer:
        gateway = await serving(config(peer))
        headers = [(b"x-goog-api-key", KEY.encode()), (b"x-goog-upload-protocol", protocol), (b"content-type", kind)]
        assert (await gateway.ask("/google/upload/v1beta/files", body, headers=headers)).status == 200
    ((_, target, sent),) = script.asked
    assert (target, sent["x-goog-upload-protocol"]) == ("/upload/v1beta/files", protocol.decode())


@own
async def test_a_ticket_opens_one_upload_and_nothing_else(serving: Serving):
    script = Google()
    async with Peer(script) as peer:
        gateway = await serving(config(peer))
        target = await started(gateway)
        assert KEY not in target
        ticket = parse_qs(urlsplit(target).query)["tollhouse_ticket"][0]
        for other in (
            target.replace("AbC", "XyZ"),
            target.replace("tollhouse_ticket=", "tollhouse_ticket=A"),
            f"/google/v1beta/files?tollhouse_ticket={ticket}",
            f"/google/v1beta/models?tollhouse_ticket={ticket}",
            target.partition("&tollhouse_ticket")[0],
        ):
            assert (await gateway.ask(other, b"hello", headers=PIECE)).status == 401
        assert len(script.asked) == 1
        assert (await gateway.ask(target, b"hello", headers=PIECE)).status == 200
        assert script.stored == b"hello"


@own
@pytest.mark.parametrize(("proxies", "scheme"), [("['127.0.0.0/8']", "https"), ("['192.0.2.0/24']", "http")])
async def test_behind_a_proxy_that_ends_tls_the_address_is_the_callers(serving: Serving, proxies: str, scheme: str):
    """Told http://, a client would send its file and its ticket in plain text, or find nobody there."""
    async with Peer(Google()) as peer:
        gateway = await serving(config(peer, f"server: {{trusted_proxies: {proxies}}}"))
        headers = [*START, (b"x-forwarded-proto", b"https")]
        answer = await gateway.ask("/google/upload/v1beta/files", {"file": {}}, headers=headers)
    assert answer.headers["x-goog-upload-url"].startswith(
        f"{gateway.url.replace('http', scheme)}/google/upload/v1beta/files?"
    )


@own
async def test_a_key_that_is_sent_with_a_piece_comes_before_the_ticket(serving: Serving):
    script = Google()
    async with Peer(script) as peer:
        gateway = await serving(config(peer))
        target = await started(gateway)
        wrong = await gateway.ask(target, b"hello", headers=[*PIECE, (b"x-goog-api-key", b"th-wrong")])
        assert wrong.status == 401
        own_key = [*PIECE, (b"x-goog-api-key", KEY.encode())]
        assert (await gateway.ask(target.partition("&tollhouse")[0], b"hello", headers=own_key)).status == 200


@own
@pytest.mark.parametrize(
    "session",
    [
        lambda _: "http://169.254.169.254/upload/v1beta/files",
        lambda host: f"https://{host}/upload/v1beta/files",
        lambda host: f"http://{host.partition(':')[0]}:1/upload/v1beta/files",
        lambda host: f"http://user@{host}/upload/v1beta/files",
        lambda host: f"http://{host}/admin",
        lambda host: f"http://{host}/upload/../admin",
        lambda _: "nonsense",
    ],
)
async def test_an_address_elsewhere_is_never_told_nor_asked(serving: Serving, session: Callable[[str], str]):
    script = Google(session)
    async with Peer(script) as peer:
        gateway = await serving(config(peer))
        answer = await gateway.ask("/google/upload/v1beta/files", {"file": {}}, headers=START)
        assert answer.status == 502
        assert "x-goog-upload-url" not in answer.headers
        (row,) = gateway.rows()
        assert row["outcome"] == "provider_malformed"


@own
async def test_a_key_in_the_query_opens_googles_other_paths_and_goes_no_further(serving: Serving):
    script = Google(lambda host: f"http://{host}/upload/v1beta/files")
    async with Peer(script) as peer:
        gateway = await serving(config(peer))
        answer = await gateway.get(f"/google/v1beta/cachedContents?key={KEY}&pageSize=5", headers=[])
        assert answer.status == 200
        assert (await gateway.get("/google/v1beta/cachedContents?key=th-wrong", headers=[])).status == 401
        assert (await gateway.get("/google/v1beta/cachedContents", headers=[])).status == 401
        begun = await gateway.ask(f"/google/upload/v1beta/files?key={KEY}", {"file": {}}, headers=START[1:])
        assert KEY not in begun.headers["x-goog-upload-url"]
    assert [target for _, target, _ in script.asked] == ["/v1beta/cachedContents?pageSize=5", "/upload/v1beta/files"]
    assert all(KEY not in str(headers) for _, _, headers in script.asked)
    assert KEY not in (gateway.ledger.parent / "calls.log").read_text()


@own
@pytest.mark.parametrize("path", ["/upload/v1beta/files", "/v1beta/cachedContents"])
async def test_who_asks_for_files_at_the_wrong_place_is_told_the_right_one(serving: Serving, path: str):
    script = Google()
    async with Peer(script) as peer:
        gateway = await serving(config(peer))
        answer = await gateway.ask(path, {"file": {}}, headers=START)
        assert answer.status == 404
        assert "`…/google`" in answer.json()["error"]["message"]


@own
async def test_a_key_in_the_query_is_googles_way_alone(serving: Serving):
    script = Google()
    async with Peer(script) as peer:
        gateway = await serving(f"providers: {{openai: {{api_key: a, base_url: '{peer.url}/v1'}}}}")
        assert (await gateway.get(f"/openai/v1/files?key={KEY}", headers=[])).status == 401
        assert not script.asked


GOOGLE, QWEN = google.KIND.other_paths, qwen.KIND.other_paths


@pytest.mark.parametrize(
    ("other", "base", "path", "target"),
    [
        (GOOGLE, "/v1beta", "/upload/v1beta/files", "/upload/v1beta/files"),
        (GOOGLE, "/v1beta", "/download/v1beta/files/a:download", "/download/v1beta/files/a:download"),
        (GOOGLE, "/v1beta", "/v1/files", "/v1beta/files"),
        (GOOGLE, "/v1beta", "/v1alpha/authTokens", "/v1alpha/authTokens"),
        (GOOGLE, "/v1", "/v1beta/files", "/v1beta/files"),
        (GOOGLE, "/gemini/v1beta", "/upload/v1beta/files", "/gemini/upload/v1beta/files"),
        (GOOGLE, "/gemini", "/upload/v1beta/files", "/gemini/upload/v1beta/files"),
        (GOOGLE, "/v1beta", "/uploads", "/v1beta/uploads"),
        (QWEN, "/compatible-mode/v1", "/api/v1/tasks/a", "/api/v1/tasks/a"),
        (QWEN, "/compatible-mode/v1", "/v1/files", "/compatible-mode/v1/files"),
        (QWEN, "/compatible-mode/v1", "/compatible-mode/v1/files", "/compatible-mode/v1/files"),
        (QWEN, "/corp/compatible-mode/v1", "/api/v1/tasks/a", "/corp/api/v1/tasks/a"),
        (QWEN, "/corp/v1", "/api/v1/tasks/a", "/corp/v1/api/v1/tasks/a"),
        (QWEN, "/compatible-mode/v1", "/other/api/v1/tasks/a", "/compatible-mode/v1/other/api/v1/tasks/a"),
    ],
)
def test_paths_beside_an_address_are_below_its_root(other: OtherPaths, base: str, path: str, target: str):
    """Of an address that is not of the provider's own form nobody knows the root, and nothing goes beside it."""
    assert target_of(base, path, b"", other) == target.encode()


@pytest.mark.parametrize("path", ["/api/../admin", "/api/%2e%2e/admin", "/api//v1", "/api/..;/v1"])
def test_no_path_leaves_the_root(path: str):
    with pytest.raises(BadRequest):
        target_of("/compatible-mode/v1", path, b"", QWEN)


def test_a_session_is_known_below_a_prefix_and_without_the_gateways_key():
    assert GOOGLE is not None
    address = parse_address("https://proxy.example/gemini/v1beta")
    told = b"https://proxy.example:443/gemini/upload/v1beta/files?key=g-upstream-secret&upload_id=1"
    assert session_of(told, address, GOOGLE) == "/upload/v1beta/files?upload_id=1"
    with pytest.raises(UpstreamMalformed):
        session_of(told.replace(b"/gemini", b"/other"), address, GOOGLE)


class DashScope:
    """Answers with a recorded stream of the native API."""

    def __init__(self) -> None:
        self.recording = everything()["qwen/qwen-native-stream-misc-3440c8"]
        self.asked: list[tuple[str, dict[str, str], bytes]] = []

    async def __call__(self, visit: Visit) -> None:
        while True:
            request = await visit.request()
            self.asked.append((request.target, dict(request.headers), request.body))
            await visit.answer(
                self.recording.response.body, content_type=self.recording.response.headers["content-type"]
            )


PRICE = "prices: {qwen/qwen-max: {input: 1.6, output: 6.4}}"
NATIVE = "/api/v1/services/aigc/text-generation/generation"


async def ask_dashscope(gateway: Running, body: Any) -> Any:
    headers = [
        (b"authorization", b"Bearer " + KEY.encode()),
        (b"content-type", b"application/json"),
        (b"x-dashscope-sse", b"enable"),
        (b"x-dashscope-workspace", b"of-another"),
    ]
    return await gateway.ask(f"/qwen{NATIVE}", body, headers=headers)


@own
async def test_dashscopes_own_api_is_forwarded_as_it_is(serving: Serving):
    script = DashScope()
    async with Peer(script) as peer:
        gateway = await serving(
            f"providers: {{qwen: {{api_key: q-upstream-secret, base_url: '{peer.url}/compatible-mode/v1'}}}}\n{PRICE}"
        )
        answer = await ask_dashscope(gateway, script.recording.request.json)
        assert answer.body == script.recording.response.body
    ((target, headers, _),) = script.asked
    assert (target, headers["x-dashscope-sse"]) == (NATIVE, "enable")
    assert headers["authorization"] == "Bearer q-upstream-secret"
    assert "x-dashscope-workspace" not in headers, "who pays is not the caller's to say"
    (row,) = gateway.rows()
    assert (row["provider"], row["model"], row["usage_source"]) == ("qwen", "qwen-max", "reported")
    assert row["input_tokens"] == 47
    assert row["cost_nano"] > 0


@own
@pytest.mark.parametrize(
    ("parameters", "status"), [({"max_tokens": 100}, 200), ({"max_tokens": 100, "n": 4000}, 402), ({}, 402)]
)
async def test_a_budget_holds_what_dashscopes_parameters_allow(
    serving: Serving, parameters: dict[str, int], status: int
):
    script = DashScope()
    async with Peer(script) as peer:
        gateway = await serving(
            f"providers: {{qwen: {{api_key: a, base_url: '{peer.url}/compatible-mode/v1'}}}}\n"
            f"budgets: [{{scope: global, daily: 0.01}}]\n{PRICE}"
        )
        body = {"model": "qwen-max", "input": {"prompt": "hi"}, "parameters": parameters}
        assert (await ask_dashscope(gateway, body)).status == status
        assert len(script.asked) == (status == 200)
