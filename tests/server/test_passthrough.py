"""Any other path of a provider: forwarded as it is, under the same identity, limits and ledger."""

import gzip
from typing import Any

import openai
import pytest

from support.fake_provider import FakeProvider
from support.peer import Peer, Visit
from support.serving import KEY, Serving
from tollhouse.errors import BadRequest, ConnectionLost, UpstreamTruncated
from tollhouse.gateway.passthrough import target_of

own = pytest.mark.parametrize("server", ["own"])
"""What these tests look at does not depend on the server."""


def said(body: bytes, kind: str = "application/json", status: str = "200 OK", more: str = "") -> bytes:
    return (
        f"HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\nset-cookie: a=b\r\n{more}\r\n".encode()
        + body
    )


class Scripted:
    """A provider that answers every request with the same bytes and remembers what it was asked."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []

    async def __call__(self, visit: Visit) -> None:
        while True:
            request = await visit.request()
            headers = {name.lower(): value for name, value in request.headers}
            self.asked.append((request.method, request.target, headers, request.body))
            await visit.send(self.answer)


def config(peer: Peer, more: str = "", provider: str = "") -> str:
    return f"providers: {{openai: {{api_key: sk-upstream-secret, base_url: '{peer.url}/v1'{provider}}}}}\n{more}"


IMAGE = b'{"created":1,"data":[{"b64_json":"AAAA"}],"usage":{"input_tokens":10,"output_tokens":4,"total_tokens":14}}'


@own
async def test_a_path_goes_to_the_provider_as_it_came(serving: Serving):
    script = Scripted(said(IMAGE))
    async with Peer(script) as peer:
        gateway = await serving(config(peer))
        body = b'{"model": "gpt-image-1",  "prompt": "a cat"}'
        answer = await gateway.ask("/openai/v1/images/generations?x=1&key=th-secret", body)
        assert (answer.status, answer.body) == (200, IMAGE)
        assert "set-cookie" not in answer.headers
        ((method, target, headers, sent),) = script.asked
        assert (method, target, sent) == ("POST", "/v1/images/generations?x=1", body)
        assert headers["authorization"] == "Bearer sk-upstream-secret"
        assert KEY not in str(headers)
        (row,) = gateway.rows()
        assert (row["door"], row["lane"], row["provider"], row["model"]) == (
            "passthrough",
            "passed",
            "openai",
            "gpt-image-1",
        )
        assert (row["input_tokens"], row["output_tokens"], row["usage_source"]) == (10, 4, "reported")
        assert row["cost_nano"] == 10 * 5_000 + 4 * 40_000


@own
async def test_the_sdk_stores_a_file_and_gets_it_back(serving: Serving):
    stored = b'{"id":"file-1","object":"file","bytes":3,"created_at":1,"filename":"a.jsonl","purpose":"batch","status":"processed"}'
    script = Scripted(said(stored))
    async with Peer(script) as peer:
        gateway = await serving(config(peer))
        async with openai.AsyncOpenAI(api_key=KEY, base_url=f"{gateway.url}/openai/v1") as client:
            assert (await client.files.create(file=("a.jsonl", b"{}\n"), purpose="batch")).id == "file-1"
            assert (await client.files.retrieve("file-1")).filename == "a.jsonl"
            await client.files.delete("file-1")
        assert [asked[:2] for asked in script.asked] == [
            ("POST", "/v1/files"),
            ("GET", "/v1/files/file-1"),
            ("DELETE", "/v1/files/file-1"),
        ]
        assert script.asked[0][2]["content-type"].startswith("multipart/form-data; boundary=")
        assert b"{}\n" in script.asked[0][3]
        assert [(row["cost_nano"], row["outcome"]) for row in gateway.rows()] == [(0, "ok")] * 3


@own
async def test_a_model_is_found_in_a_form(serving: Serving):
    usage = b'{"text":"hi","usage":{"type":"tokens","input_tokens":7,"output_tokens":2,"total_tokens":9}}'
    script = Scripted(said(usage))
    async with Peer(script) as peer:
        gateway = await serving(config(peer))
        async with openai.AsyncOpenAI(api_key=KEY, base_url=f"{gateway.url}/openai/v1") as client:
            heard = await client.audio.transcriptions.create(file=("a.wav", b"RIFF"), model="gpt-4o-transcribe")
        assert heard.text == "hi"
        (row,) = gateway.rows()
        assert (row["model"], row["input_tokens"], row["output_tokens"]) == ("gpt-4o-transcribe", 7, 2)


@own
async def test_a_stream_is_read_for_its_usage(serving: Serving):
    stream = (
        b'event: response.created\ndata: {"type":"response.created","response":{"usage":null}}\n\n'
        b'event: response.completed\ndata: {"type":"response.completed","response":{"usage":'
        b'{"input_tokens":5,"input_tokens_details":{"cached_tokens":2},"output_tokens":3,"total_tokens":8}}}\n\n'
    )
    async with Peer(Scripted(said(stream, "text/event-stream"))) as peer:
        gateway = await serving(config(peer))
        answer = await gateway.ask("/openai/v1/something/new", {"model": "gpt-4o-mini", "stream": True})
        assert answer.body == stream
        (row,) = gateway.rows()
        assert (row["input_tokens"], row["cache_read_tokens"], row["output_tokens"]) == (5, 2, 3)
        assert row["cost_nano"]


@own
async def test_a_providers_error_is_passed_on_without_the_gateways_key(serving: Serving):
    error = b'{"error":{"message":"No such file, dear sk-upstream-secret","type":"invalid_request_error"}}'
    script = Scripted(said(error, status="404 Not Found"))
    async with Peer(script) as peer:
        gateway = await serving(config(peer))
        answer = await gateway.get("/openai/v1/files/none")
        assert (answer.status, b"dear ***" in answer.body) == (404, True)
        script.answer = said(b'{"error":{"message":"Incorrect API key provided: sk-up***"}}', status="401 Unauthorized")
        answer = await gateway.get("/openai/v1/files/none")
        assert answer.status == 502
        assert b"sk-up" not in answer.body
        assert [(row["outcome"], row["cost_nano"]) for row in gateway.rows()] == [("provider_refused", 0)] * 2


@own
async def test_what_costs_nobody_knows_what_is_refused_under_a_budget(serving: Serving):
    script = Scripted(said(b"RIFF", "audio/wav"))
    async with Peer(script) as peer:
        gateway = await serving(config(peer, "budgets: [{scope: global, daily: 1}]"))
        refused = await gateway.ask("/openai/v1/audio/speech", {"model": "no-price", "input": "hi", "voice": "a"})
        assert refused.status in {400, 402, 403}
        assert not script.asked
        assert (await gateway.get("/openai/v1/batches")).status == 200, "looking costs nothing"


@own
async def test_what_says_no_usage_has_no_known_cost(serving: Serving):
    async with Peer(Scripted(said(b"RIFF", "audio/wav"))) as peer:
        gateway = await serving(config(peer))
        answer = await gateway.ask("/openai/v1/audio/speech", {"model": "tts-1", "input": "hi", "voice": "a"})
        assert (answer.status, answer.body, answer.headers["content-type"]) == (200, b"RIFF", "audio/wav")
        (row,) = gateway.rows()
        assert (row["cost_nano"], row["usage_source"]) == (None, "none")


@own
@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/openai/v1/images/generations", {"model": "gpt-image-1", "prompt": "a"}, 403),
        ("/openai/v1/images/generations", {"model": "gpt-4o-mini", "prompt": "a"}, 200),
        ("/openai/v1/batches", {"input_file_id": "f"}, 403),
    ],
)
async def test_a_key_for_certain_models_gets_nothing_else(
    serving: Serving, path: str, body: dict[str, Any], status: int
):
    auth = f"auth: {{keys: [{{name: test, key: {KEY}, models: ['openai/gpt-4o-mini']}}]}}"
    script = Scripted(said(IMAGE))
    async with Peer(script) as peer:
        gateway = await serving(config(peer, auth))
        assert (await gateway.ask(path, body)).status == status
        assert len(script.asked) == (status == 200)


@own
@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/openai/v1/../admin", 400),
        ("/openai/v1/%2e%2e/admin", 400),
        ("/openai/v1/x%5c..%5cy", 400),
        ("/other/v1/files", 404),
        ("/openai", 404),
    ],
)
async def test_a_path_cannot_leave_its_provider(serving: Serving, path: str, status: int):
    script = Scripted(said(b"{}"))
    async with Peer(script) as peer:
        gateway = await serving(config(peer))
        assert (await gateway.get(path)).status == status
        assert not script.asked


@own
async def test_a_provider_can_be_closed_to_it(serving: Serving):
    script = Scripted(said(b"{}"))
    async with Peer(script) as peer:
        gateway = await serving(config(peer, provider=", passthrough: false"))
        answer = await gateway.get("/openai/v1/files")
        assert answer.status == 404
        assert "passthrough" in answer.json()["error"]["message"]
        assert not script.asked


@own
async def test_nobody_passes_without_a_key(serving: Serving):
    script = Scripted(said(b"{}"))
    async with Peer(script) as peer:
        gateway = await serving(config(peer))
        assert (await gateway.get("/openai/v1/files", headers=[])).status == 401
        assert not script.asked


@own
async def test_a_chat_under_a_providers_name_is_a_conversation(serving: Serving, fake_provider: FakeProvider):
    gateway = await serving(
        f"""
providers:
  groq: {{api_key: a, base_url: '{fake_provider.base_url("groq")}'}}
  anthropic: {{api_key: b, base_url: '{fake_provider.base_url("anthropic")}'}}
"""
    )
    question = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 10}
    assert (await gateway.ask("/groq/openai/v1/chat/completions", question)).status == 200
    answer = await gateway.ask("/groq/v1/messages", question)
    assert answer.json()["type"] == "message"
    assert [(row["door"], row["provider"], row["model"]) for row in gateway.rows()] == [
        ("openai_chat", "groq", "m"),
        ("anthropic", "groq", "m"),
    ]


@pytest.mark.parametrize(
    ("base", "path", "query", "target"),
    [
        ("/v1", "/v1/files", b"", b"/v1/files"),
        ("/v1", "/files", b"", b"/v1/files"),
        ("/openai/v1", "/files", b"a=1&b=2", b"/openai/v1/files?a=1&b=2"),
        ("/openai/v1", "/v1/files", b"", b"/openai/v1/files"),
        ("/openai/v1", "/openai/v1/files", b"", b"/openai/v1/files"),
        ("/v1beta", "/v1/files", b"", b"/v1beta/files"),
        ("/v1beta", "/v1beta/files", b"", b"/v1beta/files"),
        ("/v1beta/openai", "/v1/files", b"", b"/v1beta/openai/files"),
        ("/api/paas/v4", "/v4/images/generations", b"", b"/api/paas/v4/images/generations"),
        ("/api/paas/v4", "/v1/images/generations", b"", b"/api/paas/v4/images/generations"),
        ("/anthropic", "/v1/files", b"", b"/anthropic/v1/files"),
        ("", "/v1beta/files", b"key=secret&alt=sse", b"/v1beta/files?alt=sse"),
        ("", "/v1beta/files", b"%6bey=secret&alt=sse", b"/v1beta/files?alt=sse"),
        ("", "/v1/models/a%20b", b"access_token=x", b"/v1/models/a%20b"),
    ],
)
def test_the_target_is_below_the_providers_address(base: str, path: str, query: bytes, target: bytes):
    assert target_of(base, path, query) == target


@pytest.mark.parametrize(
    "path",
    [
        "/a/./b",
        "/..",
        "/%2E%2e/x",
        "/%252e%252e/x",
        "/%25252525252e/x",
        "/a%2f..%2fb",
        "/..;/a",
        "/a//b",
        "//a",
        "/a#/files",
        "/a b",
        "/\x7f",
        "/é",
        "/a\\b",
        "/a%5cb",
    ],
)
def test_a_path_that_could_leave_it_is_refused(path: str):
    with pytest.raises(BadRequest):
        target_of("/v1", path, b"")


ONLY_MINI = f"auth: {{keys: [{{name: test, key: {KEY}, models: ['openai/gpt-4o-mini']}}]}}"


@own
async def test_a_call_that_names_two_models_goes_nowhere(serving: Serving):
    """Which of them counts for access and budgets, and which for the provider, need not be the same."""
    script = Scripted(said(IMAGE))
    async with Peer(script) as peer:
        gateway = await serving(config(peer, ONLY_MINI))
        body = {"model": "gpt-4o-mini"}
        assert (await gateway.ask("/openai/v1/models/gpt-image-1:predict", body)).status == 400
        assert not script.asked
        twice = b'{"model":"gpt-image-1","model":"gpt-4o-mini"}'
        assert (await gateway.ask("/openai/v1/images/generations", twice)).status == 200
        ((_, _, _, sent),) = script.asked
        assert sent == b'{"model":"gpt-4o-mini"}', "only what was read is sent"


@own
@pytest.mark.parametrize("name", ["a\r\nset-cookie: b=c", "a\x00", "m" * 600])
async def test_a_model_has_a_printable_name_also_here(serving: Serving, name: str):
    script = Scripted(said(IMAGE))
    async with Peer(script) as peer:
        gateway = await serving(config(peer))
        assert (await gateway.ask("/openai/v1/images/generations", {"model": name})).status == 404
        assert not script.asked


HARD = "budgets: [{scope: global, daily: 0.01}]"
"""16,000 tokens of what gpt-4o-mini writes cost $0.0096."""


@own
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("completions", {"model": "gpt-4o", "max_tokens": -1_000_000_000}),
        ("completions", {"model": "gpt-4o-mini", "max_output_tokens": 1, "max_tokens": 17_000}),
        ("completions", {"model": "gpt-4o-mini", "max_tokens": 1_000, "n": 20}),
        ("completions", {"model": "gpt-4o-mini", "max_tokens": 1_000, "best_of": 20}),
        ("completions", {"model": "gpt-4o-mini", "max_tokens": 1_000, "prompt": ["a"] * 20}),
        ("batches", {"model": "gpt-4o-mini", "max_tokens": 1, "input_file_id": "f"}),
        ("fine_tuning/jobs", {"model": "gpt-4o-mini", "max_tokens": 1, "training_file": "f"}),
        ("images/generations/files", {"model": "no-price"}),
        ("images%2Fgenerations/files", {"model": "no-price"}),
    ],
)
async def test_a_budget_holds_the_worst_of_what_is_passed_through(serving: Serving, path: str, body: dict[str, Any]):
    """17,000 tokens of output cost more than $0.01; of what is done later nobody knows the price."""
    script = Scripted(said(IMAGE))
    async with Peer(script) as peer:
        gateway = await serving(config(peer, HARD))
        answer = await gateway.ask(f"/openai/v1/{path}", body)
        assert answer.status in {400, 402, 403}, answer.body
        assert not script.asked


@own
async def test_a_completion_with_a_bound_is_held_by_its_bound(serving: Serving):
    script = Scripted(said(IMAGE))
    async with Peer(script) as peer:
        gateway = await serving(config(peer, HARD))
        body = {"model": "gpt-4o-mini", "max_tokens": 16_000, "prompt": [1, 2, 3]}
        assert (await gateway.ask("/openai/v1/completions", body)).status == 200
        (row,) = gateway.rows()
        assert (row["input_tokens"], row["output_tokens"]) == (10, 4)


@own
async def test_answers_that_say_no_usage_use_a_budget_up_all_the_same(serving: Serving):
    script = Scripted(said(b'{"choices":[{"text":"' + b"a" * 4000 + b'"}]}'))
    async with Peer(script) as peer:
        gateway = await serving(config(peer, HARD))
        body = {"model": "gpt-4o-mini", "prompt": "hi", "max_tokens": 2_000}
        assert (await gateway.ask("/openai/v1/completions", body)).status == 200
        (row,) = gateway.rows()
        assert (row["usage_source"], row["output_tokens"]) == (
            "estimated",
            len(script.answer.partition(b"\r\n\r\n")[2]) // 4,
        )
        assert row["cost_nano"] > 0


@own
async def test_what_others_have_stored_is_not_reached_by_an_odd_path(serving: Serving):
    """Some servers take `//` for `/`, and answers are kept by the gateway alone."""
    script = Scripted(said(b"{}"))
    async with Peer(script) as peer:
        gateway = await serving(config(peer))
        for target in ("/openai//responses/resp_1", "/openai/v1//responses/resp_1", "/openai/v1%2fresponses/resp_1"):
            assert (await gateway.get(target)).status in {400, 404}
        assert not script.asked


@own
async def test_one_callers_idempotency_key_is_not_anothers(serving: Serving):
    """The provider knows one account only, and would hand out the other's answer."""
    other = "th-other-key-0123456789"
    auth = f"auth: {{keys: [{{name: one, key: {KEY}}}, {{name: two, key: {other}}}]}}"
    script = Scripted(said(IMAGE))
    async with Peer(script) as peer:
        gateway = await serving(config(peer, auth))
        for key in (KEY, KEY, other):
            headers = [(b"authorization", b"Bearer " + key.encode()), (b"idempotency-key", b"chosen-by-hand")]
            await gateway.ask("/openai/v1/images/generations", {"model": "gpt-image-1"}, headers=headers)
        first, again, theirs = (headers["idempotency-key"] for _, _, headers, _ in script.asked)
        assert first == again
        assert len({first, theirs, "chosen-by-hand"}) == 3


@own
async def test_counting_under_a_providers_name_costs_nothing(serving: Serving, fake_provider: FakeProvider):
    gateway = await serving(
        f"providers: {{anthropic: {{api_key: b, base_url: '{fake_provider.base_url('anthropic')}'}}}}"
    )
    question = {"model": "claude-sonnet-4-5", "messages": [{"role": "user", "content": "Hi"}]}
    answer = await gateway.ask("/anthropic/v1/messages/count_tokens", question)
    assert answer.status == 200
    (row,) = gateway.rows()
    assert (row["door"], row["cost_nano"]) == ("anthropic_count_tokens", 0)


@pytest.mark.parametrize("query", [b"$httpMethod=POST", b"a=1&%24req=abc", b"a b", b"a#b"])
def test_a_query_that_means_another_request_is_refused(query: bytes):
    with pytest.raises(BadRequest):
        target_of("/v1", "/models/x:predict", query)


class Stalling:
    """A provider that begins a long answer and goes silent."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    async def __call__(self, visit: Visit) -> None:
        await visit.request()
        head = f"HTTP/1.1 200 OK\r\ncontent-type: {self.kind}\r\ncontent-length: 10000000\r\n\r\n"
        await visit.send(head.encode() + b"data: 1\n\n" * 50_000)  # more than is held back
        await visit.stall()


@own
@pytest.mark.parametrize("kind", ["audio/wav", "application/json"])
async def test_a_sound_that_is_cut_never_looks_whole(serving: Serving, kind: str):
    async with Peer(Stalling(kind)) as peer:
        gateway = await serving(config(peer))
        incoming = await gateway.open("/openai/v1/audio/speech", {"model": "tts-1"})
        gateway.worker.running.cut()
        with pytest.raises((UpstreamTruncated, ConnectionLost)):
            await incoming.read_all(10_000_000)
        incoming.close()


@own
async def test_events_that_are_cut_end_in_an_error(serving: Serving):
    async with Peer(Stalling("text/event-stream")) as peer:
        gateway = await serving(config(peer))
        incoming = await gateway.open("/openai/v1/something/new", {"model": "gpt-4o-mini", "stream": True})
        gateway.worker.running.cut()
        assert b"error" in await incoming.read_all(10_000_000)


@own
async def test_nothing_that_should_be_masked_is_passed_through(serving: Serving):
    """What a body means is not known, so nothing in it can be masked."""
    script = Scripted(said(IMAGE))
    async with Peer(script) as peer:
        gateway = await serving(config(peer, "logging: {redact_upstream: true, redact: [email]}"))
        body = {"model": "gpt-image-1", "prompt": "a portrait of ann@example.com"}
        refused = await gateway.ask("/openai/v1/images/generations", body)
        assert (refused.status, script.asked) == (403, [])
        assert "redact_upstream" in refused.json()["error"]["message"]
        assert (await gateway.get("/openai/v1/files")).status == 200


@own
async def test_what_a_provider_compressed_unasked_arrives_plain(serving: Serving):
    """The coding is undone on the way, so the answer must not say that it is coded."""
    script = Scripted(said(gzip.compress(IMAGE), more="content-encoding: gzip\r\n"))
    async with Peer(script) as peer:
        gateway = await serving(config(peer))
        answer = await gateway.ask("/openai/v1/images/generations", {"model": "gpt-image-1"})
        assert answer.body == IMAGE
        assert "content-encoding" not in answer.headers


FLAT = ", passthrough_hold: 0.004"
FORM = (
    b'--x\r\ncontent-disposition: form-data; name="model"\r\n\r\ngpt-4o-mini\r\n'
    b'--x\r\ncontent-disposition: form-data; name="file"; filename="a.png"\r\n\r\n'
    + b"\x00" * 300_000
    + b"\r\n--x--\r\n"
)


@own
async def test_what_no_price_tells_is_held_and_charged_by_the_configurations_word(serving: Serving):
    """Two of $0.004 fit into $0.01, and a third one does not: not even in the ledger's sums of a process that began anew."""
    script = Scripted(said(b'{"id":"batch_1","status":"validating"}'))
    async with Peer(script) as peer:
        gateway = await serving(config(peer, HARD, provider=FLAT))
        answers = [await gateway.ask("/openai/v1/batches", {"input_file_id": "f"}) for _ in range(3)]
        assert [answer.status for answer in answers] == [200, 200, 402]
        assert (await gateway.get("/openai/v1/batches/batch_1")).status == 200, "looking costs nothing"
        assert [(row["cost_nano"], row["usage_source"]) for row in gateway.rows()] == [
            (4_000_000, "none"),
            (4_000_000, "none"),
            (0, "none"),
        ]


@own
async def test_what_an_answer_tells_is_charged_and_not_the_configurations_word(serving: Serving):
    script = Scripted(said(b'{"object":"list","usage":{"input_tokens":10,"output_tokens":4}}'))
    async with Peer(script) as peer:
        gateway = await serving(config(peer, HARD, provider=FLAT))
        assert (await gateway.ask("/openai/v1/something/new", {"model": "gpt-4o-mini"})).status == 200
        (row,) = gateway.rows()
        assert 0 < row["cost_nano"] < 4_000_000
        assert row["usage_source"] == "reported"


@own
async def test_a_call_that_was_refused_costs_nothing_of_what_was_held(serving: Serving):
    script = Scripted(said(b'{"error":{"message":"no such file"}}', status="400 Bad Request"))
    async with Peer(script) as peer:
        gateway = await serving(config(peer, HARD, provider=FLAT))
        for _ in range(4):
            assert (await gateway.ask("/openai/v1/batches", {"input_file_id": "f"})).status == 400
        assert {row["cost_nano"] for row in gateway.rows()} == {0}


@own
@pytest.mark.parametrize(("provider", "status"), [("", 402), (FLAT, 200)])
async def test_a_form_with_a_picture_is_held_by_the_configurations_word(serving: Serving, provider: str, status: int):
    """As many tokens as it has bytes are more than $0.01; no picture has as many."""
    script = Scripted(said(b'{"created":1,"data":[]}'))
    async with Peer(script) as peer:
        gateway = await serving(config(peer, HARD, provider=provider))
        headers = [
            (b"authorization", b"Bearer " + KEY.encode()),
            (b"content-type", b"multipart/form-data; boundary=x"),
        ]
        answer = await gateway.ask("/openai/v1/images/edits", FORM, headers=headers)
        assert answer.status == status, answer.body
        assert [row["cost_nano"] for row in gateway.rows()] == [4_000_000] * (status == 200)


@own
async def test_without_a_budget_the_configurations_word_is_no_cost(serving: Serving):
    """It is what a budget is charged with; what the call did cost is still not known."""
    script = Scripted(said(b'{"id":"batch_1"}'))
    async with Peer(script) as peer:
        gateway = await serving(config(peer, provider=FLAT))
        assert (await gateway.ask("/openai/v1/batches", {"input_file_id": "f"})).status == 200
        (row,) = gateway.rows()
        assert row["cost_nano"] is None


async def swallow(visit: Visit) -> None:
    """Takes a request and hangs up."""
    await visit.request()
    visit.cut()


@own
async def test_what_its_provider_took_and_never_answered_is_charged_with_what_was_held(serving: Serving):
    """It may have begun the work; the budget must not be there a second time."""
    async with Peer(swallow) as peer:
        gateway = await serving(config(peer, HARD, provider=FLAT))
        answers = [await gateway.ask("/openai/v1/batches", {"input_file_id": "f"}) for _ in range(3)]
        assert [answer.status for answer in answers] == [502, 502, 402]
        assert [row["cost_nano"] for row in gateway.rows()] == [4_000_000] * 2
