"""What tenants make at a provider is theirs, though to the provider all of them are one."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import openai
import pytest

from support.fake_account import COLLECTIONS, GOOGLES, Account
from support.peer import Peer
from support.serving import Answer, Running, Serving

pytestmark = pytest.mark.parametrize("server", ["own"])
"""What these tests look at does not depend on the server."""

KEYS = """\
auth:
  keys:
    - {name: ann, key: th-key-of-ann, tenant: research}
    - {name: art, key: th-key-of-art, tenant: research}
    - {name: bob, key: th-key-of-bob, tenant: sales}
    - {name: cat, key: th-key-of-cat}
"""
ONE_TENANT = """\
auth:
  keys:
    - {name: ann, key: th-key-of-ann}
    - {name: bob, key: th-key-of-bob}
"""
JSON = (b"content-type", b"application/json")


@dataclass
class Town:
    """A gateway in front of one account."""

    gateway: Running
    account: Account

    async def ask(self, who: str, method: str, path: str, body: object = None, *more: tuple[bytes, bytes]) -> Answer:
        headers = [(b"authorization", f"Bearer th-key-of-{who}".encode()), *(more or [JSON])]
        return await self.gateway.ask(path, body, method=method, headers=headers)

    async def make(self, who: str, path: str, body: object = None) -> str:
        answer = await self.ask(who, "POST", path, body or {})
        assert answer.status == 200, answer.body
        said = answer.json()
        return str(said.get("id") or said["name"])

    async def seen(self, who: str, path: str) -> list[str]:
        answer = await self.ask(who, "GET", path)
        assert answer.status == 200, answer.body
        said = answer.json()
        items = next((value for value in said.values() if isinstance(value, list)), [])
        return [item.get("id") or item["name"] for item in items]


Build = Callable[..., Awaitable[Town]]


@pytest.fixture
async def build(serving: Serving) -> AsyncIterator[Build]:
    account = Account()
    async with Peer(account) as peer:

        async def begin(auth: str = KEYS, more: str = "") -> Town:
            providers = "".join(
                f"  {name}: {{api_key: sk-upstream, base_url: '{peer.url}{path}'{more}}}\n"
                for name, path in (("openai", "/v1"), ("anthropic", ""), ("google", "/v1beta"))
            )
            return Town(await serving(f"providers:\n{providers}{auth}"), account)

        yield begin


def openais(collection: str) -> str:
    return f"/{'anthropic' if collection in {'messages/batches', 'skills'} else 'openai'}/v1/{collection}"


async def test_a_thing_is_its_tenants_alone(build: Build):
    town = await build()
    for collection in COLLECTIONS:
        await hold_apart(town, openais(collection))


async def hold_apart(town: Town, path: str) -> None:
    mine = await town.make("ann", path)
    theirs = await town.make("bob", path)

    assert (await town.ask("ann", "GET", f"{path}/{mine}")).status == 200
    assert (await town.ask("art", "GET", f"{path}/{mine}")).status == 200, "one tenant, two keys"
    asked = len(town.account.asked)
    for who in ("bob", "cat"):
        for method, below in (("GET", ""), ("DELETE", ""), ("POST", ""), ("GET", "/content"), ("POST", "/cancel")):
            assert (
                await town.ask(who, method, f"{path}/{mine}{below}", {} if method == "POST" else None)
            ).status == 404
    assert len(town.account.asked) == asked, "the provider heard of none of these"
    assert await town.seen("ann", path) == [mine]
    assert await town.seen("bob", path) == [theirs]
    assert await town.seen("cat", path) == []
    assert (await town.ask("ann", "DELETE", f"{path}/{mine}")).status == 200
    assert (await town.ask("ann", "GET", f"{path}/{mine}")).status == 404


async def test_a_thing_of_googles_is_its_tenants_alone(build: Build):
    town = await build()
    for collection in GOOGLES:
        await hold_googles_apart(town, collection)


async def hold_googles_apart(town: Town, collection: str) -> None:
    path = "/google/v1beta"
    mine = await town.make("ann", f"{path}/{collection}")
    theirs = await town.make("bob", f"{path}/{collection}")
    assert mine.startswith(f"{collection}/")

    assert (await town.ask("ann", "GET", f"{path}/{mine}")).status == 200
    for method, below in (("GET", ""), ("DELETE", ""), ("PATCH", ""), ("GET", ":download"), ("POST", ":query")):
        answer = await town.ask("bob", method, f"{path}/{mine}{below}", {} if method in {"POST", "PATCH"} else None)
        assert answer.status == 404
    assert await town.seen("ann", f"{path}/{collection}") == [mine]
    assert await town.seen("bob", f"{path}/{collection}") == [theirs]
    assert (await town.ask("ann", "DELETE", f"{path}/{mine}")).status == 200
    assert (await town.ask("ann", "GET", f"{path}/{mine}")).status == 404


async def test_anothers_and_none_at_all_are_told_alike(build: Build):
    town = await build()
    await town.make("ann", "/openai/v1/files")
    said = {
        (answer.status, answer.body.replace(name.encode(), b"ID"))
        for name in ("file-1", "file-9")
        for answer in [await town.ask("bob", "GET", f"/openai/v1/files/{name}")]
    }

    assert len(said) == 1
    ((status, body),) = said
    assert (status, json.loads(body)["error"]["message"][:20]) == (404, "There is no 'ID' her")


async def test_it_is_told_in_the_callers_dialect(build: Build):
    town = await build()
    for provider, word in (
        ("openai/v1", '"type":"invalid_request_error"'),
        ("anthropic/v1", '"type":"not_found_error"'),
        ("google/v1beta", '"status":"NOT_FOUND"'),
    ):
        answer = await town.ask("bob", "GET", f"/{provider}/files/x1")
        assert answer.status == 404
        assert "There is no" in answer.json()["error"]["message"]
        assert word in answer.body.decode()


NAMING: tuple[tuple[str, object], ...] = (
    ("/openai/v1/batches", {"input_file_id": "file-1", "endpoint": "/v1/chat/completions"}),
    ("/openai/v1/fine_tuning/jobs", {"model": "gpt-4o-mini", "training_file": "file-1"}),
    ("/openai/v1/vector_stores", {"file_ids": ["file-1"]}),
    ("/openai/v1/brand/new", {"some": [{"thing": "file-1"}]}),
    ("/openai/v1/images/edits", {"model": "gpt-image-1", "images": [{"file_id": "file-1"}]}),
    ("/openai/v1/videos?reference=file-1", {}),
    ("/openai/v1/batches", b'{"input_file_id": "file-1", "input_file_id": "file-2"}'),
    ("/openai/v1/batches", b'{"input_file_id": "file-2", "input_file_id": "file-1"}'),
    ("/openai/v1/batches", b'\xef\xbb\xbf{"input_file_id": "file-1"}'),
    ("/openai/v1/batches", '{"input_file_id": "file-1"}'.encode("utf-16")),
)


async def test_what_a_request_names_must_be_the_callers(build: Build):
    town = await build()
    await town.make("ann", "/openai/v1/files")
    await town.make("bob", "/openai/v1/files")
    asked = len(town.account.asked)

    for path, body in NAMING:
        refused = await town.ask("bob", "POST", path, body, (b"content-type", b"text/plain"))
        assert refused.status in {400, 404}, (path, body)
    assert len(town.account.asked) == asked


async def test_the_owner_may_name_what_is_its_own(build: Build):
    town = await build()
    mine = await town.make("ann", "/openai/v1/files")

    for path, body in (
        ("/openai/v1/batches", {"input_file_id": mine}),
        ("/openai/v1/images/edits", {"model": "gpt-image-1", "images": [{"file_id": mine}], "size": "1024x1024"}),
    ):
        assert (await town.ask("ann", "POST", path, body)).status == 200


async def test_what_a_batch_came_to_is_its_owners(build: Build):
    town = await build()
    batch = await town.make("ann", "/openai/v1/batches")
    town.account.things["file-out"] = {"id": "file-out", "object": "files"}
    town.account.things[batch]["output_file_id"] = "file-out"

    assert (await town.ask("ann", "GET", "/openai/v1/files/file-out")).status == 404, "nobody said so yet"
    assert (await town.ask("ann", "GET", f"/openai/v1/batches/{batch}")).json()["output_file_id"] == "file-out"
    assert (await town.ask("ann", "GET", "/openai/v1/files/file-out/content")).status == 200
    assert (await town.ask("bob", "GET", "/openai/v1/files/file-out/content")).status == 404


async def test_what_a_batch_came_to_is_told_by_the_list_too(build: Build):
    town = await build()
    batch = await town.make("ann", "/openai/v1/batches")
    town.account.things["file-out"] = {"id": "file-out", "object": "files"}
    town.account.things[batch]["output_file_id"] = "file-out"

    assert await town.seen("bob", "/openai/v1/batches") == []
    assert await town.seen("ann", "/openai/v1/batches") == [batch]
    assert (await town.ask("ann", "GET", "/openai/v1/files/file-out")).status == 200


async def test_an_upload_in_parts_makes_a_file(build: Build):
    town = await build()
    upload = await town.make("ann", "/openai/v1/uploads", {"purpose": "vision"})
    done = json.dumps({"id": upload, "file": {"id": "file-whole"}}).encode()
    town.account.says[f"POST /v1/uploads/{upload}/complete"] = (200, done, "application/json")
    town.account.things["file-whole"] = {"id": "file-whole", "object": "files"}

    assert (await town.ask("bob", "POST", f"/openai/v1/uploads/{upload}/complete", {"part_ids": ["p1"]})).status == 404
    assert (await town.ask("ann", "POST", f"/openai/v1/uploads/{upload}/complete", {"part_ids": ["p1"]})).status == 200
    assert (await town.ask("ann", "GET", "/openai/v1/files/file-whole")).status == 200
    assert (await town.ask("bob", "GET", "/openai/v1/files/file-whole")).status == 404


async def test_a_thread_that_a_run_made_is_the_runs_owners(build: Build):
    town = await build()
    town.account.things["thread_new"] = {"id": "thread_new", "object": "threads"}
    events = (
        b'event: thread.created\ndata: {"id":"thread_new","object":"thread"}\n\n'
        b'event: thread.run.created\ndata: {"id":"run_1","object":"thread.run","thread_id":"thread_new"}\n\n'
        b"event: done\ndata: [DONE]\n\n"
    )
    town.account.says["POST /v1/threads/runs"] = (200, events, "text/event-stream")

    assert (await town.ask("ann", "POST", "/openai/v1/threads/runs", {"stream": True})).body == events
    assert (await town.ask("ann", "GET", "/openai/v1/threads/thread_new/messages")).status == 200
    assert (await town.ask("bob", "GET", "/openai/v1/threads/thread_new/messages")).status == 404


async def test_what_a_request_named_was_not_made_by_it(build: Build):
    """Otherwise whoever names a thing of nobody's first would have it."""
    town = await build(more=", foreign_ids: allow")
    town.account.things["file-old"] = {"id": "file-old", "object": "files"}
    vector_store = await town.make("bob", "/openai/v1/vector_stores")
    path = f"/openai/v1/vector_stores/{vector_store}/files"
    town.account.says[f"POST {path.removeprefix('/openai')}"] = (200, b'{"id":"file-old"}', "application/json")

    assert (await town.ask("bob", "POST", path, {"file_id": "file-old"})).status == 200
    assert (await town.ask("ann", "GET", "/openai/v1/files/file-old")).status == 200


# -------------------------------------------------------------------------------------------------------------- lists


async def test_the_sdk_walks_through_its_own_among_many(build: Build):
    """Of a page that has nothing of the caller's, a client would think that it is the last."""
    town = await build()
    mine = []
    for number in range(10):
        made = await town.make("ann" if number in {0, 5, 6, 9} else "bob", "/openai/v1/files")
        mine += [made] if made in {"file-1", "file-6", "file-7", "file-10"} else []

    async with openai.AsyncOpenAI(api_key="th-key-of-ann", base_url=f"{town.gateway.url}/openai/v1") as client:
        assert [file.id async for file in await client.files.list(limit=2)] == mine
        assert [file.id async for file in await client.files.list()] == mine
        first = await client.files.list(limit=1)
        assert ([file.id for file in first.data], first.has_more) == (["file-1"], True)
        async for file in await client.files.list(limit=1):
            await client.files.delete(file.id)
    assert await town.seen("ann", "/openai/v1/files") == []
    assert len(town.account.things) == 6


async def test_a_page_of_anthropics_is_walked_both_ways(build: Build):
    town = await build()
    path = "/anthropic/v1/messages/batches"
    names = [await town.make("ann" if number in {0, 1, 6} else "bob", path) for number in range(8)]

    first = (await town.ask("ann", "GET", f"{path}?limit=2")).json()
    assert [first[field] for field in ("first_id", "last_id", "has_more")] == [names[0], names[1], True]
    second = (await town.ask("ann", "GET", f"{path}?limit=2&after_id={names[1]}")).json()
    assert ([item["id"] for item in second["data"]], second["has_more"]) == ([names[6]], False)
    back = (await town.ask("ann", "GET", f"{path}?limit=2&before_id={names[6]}")).json()
    assert [item["id"] for item in back["data"]] == names[:2]


async def test_a_page_of_googles_goes_on_at_its_token(build: Build):
    town = await build()
    path = "/google/v1beta/cachedContents"
    names = [await town.make("ann" if number == 5 else "bob", path) for number in range(7)]

    page = (await town.ask("ann", "GET", path)).json()
    assert [item["name"] for item in page["cachedContents"]] == [names[5]]
    rest = (await town.ask("ann", "GET", f"{path}?pageToken={page['nextPageToken']}")).json()
    assert rest == {"cachedContents": []}
    assert (await town.ask("cat", "GET", path)).json() == {"cachedContents": []}


ODD_LISTS = (
    b"not json",
    b'"text"',
    b'{"data": {"file-1": {}}}',
    b'{"data": [{"object": "without an id"}]}',
    b'{"data": ["file-1"]}',
    b'{"data": [], "other": [{"id": "file-1"}]}',
    b'{"credits": 7}',
    b"[" * 100_000,
)


async def test_a_list_in_a_form_that_nobody_knows_is_refused(build: Build):
    town = await build()
    for said in ODD_LISTS:
        town.account.says["GET /v1/widgets"] = (200, said, "application/json")
        answer = await town.ask("ann", "GET", "/openai/v1/widgets")
        assert (answer.status, said[:20] in answer.body) == (403, False), said


async def test_models_and_errors_are_shown_as_they_are(build: Build):
    town = await build()
    town.account.says["GET /v1/models"] = (200, b'{"data":[{"id":"gpt-9"}]}', "application/json")
    town.account.says["GET /v1/batches"] = (429, b'{"error":{"message":"slow down"}}', "application/json")

    assert await town.seen("ann", "/openai/v1/models") == ["gpt-9"]
    assert (await town.ask("ann", "GET", "/openai/v1/batches")).status == 429


async def test_a_list_without_end_ends(build: Build):
    town = await build()
    page = b'{"object":"list","data":[{"id":"file-1"}],"has_more":true}'
    town.account.says["GET /v1/files"] = (200, page, "application/json")

    assert (await town.ask("ann", "GET", "/openai/v1/files")).status == 502


# --------------------------------------------------------------------------------------------- what nobody noted, and modes


async def test_one_tenant_is_let_to_everything(build: Build):
    town = await build(ONE_TENANT)
    town.account.things["file-old"] = {"id": "file-old", "object": "files"}
    mine = await town.make("ann", "/openai/v1/files")

    assert await town.seen("bob", "/openai/v1/files") == ["file-old", mine]
    for name in ("file-old", mine):
        assert (await town.ask("bob", "GET", f"/openai/v1/files/{name}")).status == 200
    assert (await town.ask("bob", "GET", "/openai/v1/organization/costs")).status == 200
    assert (await town.ask("bob", "DELETE", f"/openai/v1/files/{mine}")).status == 200


async def test_what_one_tenant_made_is_its_own_when_there_are_more(build: Build, serving: Serving):
    before = await build(ONE_TENANT)
    mine = await before.make("ann", "/openai/v1/files")
    town = await build()

    assert (await town.ask("cat", "GET", f"/openai/v1/files/{mine}")).status == 200, "a key without a tenant"
    assert (await town.ask("ann", "GET", f"/openai/v1/files/{mine}")).status == 404


@pytest.mark.parametrize(
    ("auth", "more", "status"),
    [
        (KEYS, "", 404),
        (KEYS, ", foreign_ids: refuse", 404),
        (KEYS, ", foreign_ids: allow", 200),
        (ONE_TENANT, "", 200),
        (ONE_TENANT, ", foreign_ids: refuse", 404),
        (ONE_TENANT, ", foreign_ids: allow", 200),
    ],
)
async def test_what_nobody_noted_is_for_the_configuration_to_say(build: Build, auth: str, more: str, status: int):
    town = await build(auth, more)
    town.account.things["file-old"] = {"id": "file-old", "object": "files"}
    mine = await town.make("ann", "/openai/v1/files")

    assert (await town.ask("ann", "GET", "/openai/v1/files/file-old")).status == status
    assert (await town.ask("ann", "POST", "/openai/v1/batches", {"input_file_id": "file-old"})).status == status
    assert await town.seen("ann", "/openai/v1/files") == (["file-old", mine] if status == 200 else [mine])
    if auth is KEYS:
        assert (await town.ask("bob", "GET", f"/openai/v1/files/{mine}")).status == 404


async def test_another_worker_knows_at_once(build: Build):
    town, other = await build(), await build()
    mine = await town.make("ann", "/openai/v1/files")

    assert (await other.ask("ann", "GET", f"/openai/v1/files/{mine}")).status == 200
    assert (await other.ask("bob", "GET", f"/openai/v1/files/{mine}")).status == 404


# ------------------------------------------------------------------------------------------------------ what goes wrong


ODD_ANSWERS = (
    (b"<html>", "application/json"),
    (b"[1, 2]", "application/json"),
    (b'{"id": 7, "name": null, "file": []}', "application/json"),
    (b'{"id": "%b"}' % (b"x" * 10_000), "application/json"),
    (b"RIFF", "audio/wav"),
    (b"", "application/json"),
    (b"[" * 100_000, "application/json"),
    (b'data: {"id"\n\ndata: \xff\n\n', "text/event-stream"),
)


async def test_an_answer_that_makes_no_sense_is_given_on_as_it_is(build: Build):
    town = await build()
    for said, kind in ODD_ANSWERS:
        town.account.says["POST /v1/files"] = (200, said, kind)
        assert (await town.ask("ann", "POST", "/openai/v1/files", {})).body == said
    assert (await town.ask("ann", "GET", f"/openai/v1/files/{'x' * 10_000}")).status in {404, 414, 431}


async def test_a_thing_is_not_lost_to_its_maker_with_the_database(build: Build):
    town = await build()
    known = await town.make("ann", "/openai/v1/files")
    assert (await town.ask("ann", "GET", f"/openai/v1/files/{known}")).status == 200
    ledger = town.gateway.ledger
    ledger.rename(ledger.with_suffix(".away"))
    made = await town.make("ann", "/openai/v1/files")

    for name in (known, made):
        assert (await town.ask("ann", "GET", f"/openai/v1/files/{name}")).status == 200
        assert (await town.ask("bob", "GET", f"/openai/v1/files/{name}")).status == 404
    assert (await town.ask("bob", "GET", "/openai/v1/files/file-9")).status == 503, "nobody knows whose it is"
    assert (await town.ask("ann", "POST", "/openai/v1/images/generations", {"size": "1024x1024"})).status == 200
    ledger.with_suffix(".away").rename(ledger)


# ------------------------------------------------------------------------------------------------------- conversations


def chat(name: str) -> dict[str, Any]:
    part = {"type": "file", "file": {"file_id": name}}
    return {"model": "openai/gpt-4o-mini", "messages": [{"role": "user", "content": [part]}]}


def message(name: str) -> dict[str, Any]:
    part = {"type": "document", "source": {"type": "file", "file_id": name}}
    content = [{"role": "user", "content": [part]}]
    return {"model": "anthropic/claude-sonnet-4-5", "max_tokens": 9, "messages": content}


def response(name: str) -> dict[str, Any]:
    part = {"type": "input_file", "file_id": name}
    return {"model": "openai/gpt-4o-mini", "store": False, "input": [{"role": "user", "content": [part]}]}


def searched(name: str) -> dict[str, Any]:
    tools = [{"type": "file_search", "vector_store_ids": [name]}]
    return {"model": "openai/gpt-4o-mini", "store": False, "input": "Hi", "tools": tools}


def generated(name: str) -> dict[str, Any]:
    part = {
        "fileData": {"fileUri": f"https://generativelanguage.googleapis.com/v1beta/{name}", "mimeType": "text/plain"}
    }
    return {"contents": [{"role": "user", "parts": [part]}]}


GEMINI = "/google/v1beta/models/gemini-2.5-flash"
CHAT_ANSWER = {
    "id": "c",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}],
}
MESSAGE_ANSWER = {"id": "m", "type": "message", "role": "assistant", "content": [], "stop_reason": "end_turn"}
RESPONSE_ANSWER = {"id": "resp_1", "object": "response", "status": "completed", "output": []}
GEMINI_ANSWER = {"candidates": [{"content": {"parts": [{"text": "Hi"}]}, "finishReason": "STOP"}]}


@pytest.mark.parametrize(
    ("path", "ask", "makes", "upstream", "answer"),
    [
        ("/v1/chat/completions", chat, "/openai/v1/files", "/v1/chat/completions", CHAT_ANSWER),
        ("/v1/messages", message, "/anthropic/v1/files", "/v1/messages", MESSAGE_ANSWER),
        ("/v1/responses", response, "/openai/v1/files", "/v1/responses", RESPONSE_ANSWER),
        ("/v1/responses", searched, "/openai/v1/vector_stores", "/v1/responses", RESPONSE_ANSWER),
        (
            f"{GEMINI}:generateContent",
            generated,
            "/google/v1beta/files",
            "/v1beta/models/gemini-2.5-flash:generateContent",
            GEMINI_ANSWER,
        ),
        (
            f"{GEMINI}:countTokens",
            generated,
            "/google/v1beta/files",
            "/v1beta/models/gemini-2.5-flash:countTokens",
            {"totalTokens": 3},
        ),
    ],
    ids=["chat", "messages", "responses", "search", "gemini", "count"],
)
async def test_a_conversation_is_held_to_it_too(
    build: Build,
    path: str,
    ask: Callable[[str], dict[str, Any]],
    makes: str,
    upstream: str,
    answer: dict[str, Any],
):
    town = await build()
    town.account.says[f"POST {upstream}"] = (200, json.dumps(answer).encode(), "application/json")
    mine = await town.make("ann", makes)
    asked = len(town.account.asked)

    for who, name in (("bob", mine), ("ann", "files/none-9"), ("cat", "files/none-9")):
        refused = await town.ask(who, "POST", path, ask(name))
        assert (refused.status, b"There is no" in refused.body) == (404, True), refused.body
    assert len(town.account.asked) == asked
    assert (await town.ask("ann", "POST", path, ask(mine))).status == 200
    assert [row["outcome"] for row in town.gateway.rows()] == ["ok", "ok"], "what never went out has no row"


RUN = {"type": "code_execution_20250825", "name": "code_execution"}
RAN = {
    "type": "bash_code_execution_tool_result",
    "tool_use_id": "srvtoolu_1",
    "content": {
        "type": "bash_code_execution_result",
        "content": [{"type": "bash_code_execution_output", "file_id": "file_out"}],
    },
}


@pytest.mark.parametrize("stream", [False, True])
async def test_what_code_made_in_a_conversation_is_its_callers(build: Build, stream: bool):
    """The next turn goes on in the same container, and its files are fetched through the provider's other paths."""
    town = await build()
    town.account.things["file_out"] = {"id": "file_out", "object": "files"}
    ends = {"stop_reason": "end_turn", "container": {"id": "container_1", "expires_at": "2026-11-22T02:00:00Z"}}
    whole = {**MESSAGE_ANSWER, **ends, "content": [RAN], "usage": {"input_tokens": 1, "output_tokens": 1}}
    events: list[dict[str, Any]] = [
        {
            "type": "message_start",
            "message": {**MESSAGE_ANSWER, "stop_reason": None, "usage": {"input_tokens": 1, "output_tokens": 1}},
        },
        {"type": "content_block_start", "index": 0, "content_block": RAN},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": ends, "usage": {"output_tokens": 1}},
        {"type": "message_stop"},
    ]
    streamed = b"".join(b"event: %b\ndata: %b\n\n" % (str(e["type"]).encode(), json.dumps(e).encode()) for e in events)
    said = (200, streamed, "text/event-stream") if stream else (200, json.dumps(whole).encode(), "application/json")
    town.account.says["POST /v1/messages"] = said
    ask: dict[str, Any] = {"model": "anthropic/claude-sonnet-4-5", "max_tokens": 9, "stream": stream, "tools": [RUN]}
    ask["messages"] = [{"role": "user", "content": "Draw a graph."}]

    assert (await town.ask("ann", "POST", "/v1/messages", ask)).status == 200
    for who, status in (("ann", 200), ("bob", 404)):
        assert (await town.ask(who, "POST", "/v1/messages", {**ask, "container": "container_1"})).status == status
        assert (await town.ask(who, "GET", "/anthropic/v1/files/file_out/content")).status == status


async def test_one_tenants_conversations_are_not_asked_about(build: Build):
    town = await build(ONE_TENANT)
    town.account.says["POST /v1/chat/completions"] = (200, json.dumps(CHAT_ANSWER).encode(), "application/json")

    assert (await town.ask("ann", "POST", "/v1/chat/completions", chat("file-made-elsewhere"))).status == 200


# ----------------------------------------------------------------------------------------------------- batches' files


def form(purpose: str, content: bytes) -> tuple[bytes, tuple[bytes, bytes]]:
    parts = [b'name="purpose"\r\n\r\n' + purpose.encode(), b'name="file"; filename="b.jsonl"\r\n\r\n' + content]
    body = b"".join(b"--edge\r\nContent-Disposition: form-data; " + part + b"\r\n" for part in parts) + b"--edge--\r\n"
    return body, (b"content-type", b"multipart/form-data; boundary=edge")


async def test_a_file_that_is_carried_out_is_read_when_it_comes(build: Build):
    """A batch is run as the account: what its lines name, nobody would ask about later."""
    town = await build()
    mine = await town.make("ann", "/openai/v1/files")
    line = json.dumps({"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": chat(mine)}).encode()

    for who, purpose, content, status in (
        ("bob", "batch", line + b"\n" + line, 404),
        ("ann", "batch", line + b"\n" + line, 200),
        ("bob", "assistants", line, 200),
        ("bob", "batch", line.replace(b"}", b"", 1), 400),
    ):
        assert (await town.ask(who, "POST", "/openai/v1/files", *form(purpose, content))).status == status
    assert (await town.ask("bob", "POST", "/openai/v1/uploads", {"purpose": "batch"})).status == 403


def piece(command: bytes, offset: int = 0) -> list[tuple[bytes, bytes]]:
    return [JSON, (b"x-goog-upload-command", command), (b"x-goog-upload-offset", str(offset).encode())]


async def upload(town: Town, who: str, *pieces: bytes) -> Answer:
    """Stores a file at Google's in pieces; the last answer."""
    start = [(b"x-goog-upload-protocol", b"resumable"), *piece(b"start")]
    begun = await town.ask(who, "POST", "/google/upload/v1beta/files", {"file": {}}, *start)
    target = begun.headers["x-goog-upload-url"].removeprefix(town.gateway.url).partition("&tollhouse_ticket")[0]
    offset = 0
    for number, content in enumerate(pieces):
        is_last = number == len(pieces) - 1
        command = piece(b"upload, finalize" if is_last else b"upload", offset)
        if is_last:
            stranger = await town.ask("bob" if who == "ann" else "ann", "POST", target, content, *command)
            assert stranger.status == 404, "an upload is its tenant's too"
        answer = await town.ask(who, "POST", target, content, *command)
        offset += len(content)
    return answer


async def test_a_file_sent_in_pieces_is_its_senders(build: Build):
    town = await build()
    name = (await upload(town, "ann", b"one", b"two")).json()["file"]["name"]

    assert (await town.ask("ann", "GET", f"/google/v1beta/{name}")).status == 200
    assert (await town.ask("bob", "GET", f"/google/v1beta/{name}")).status == 404
    assert await town.seen("ann", "/google/v1beta/files") == [name]
    assert await town.seen("bob", "/google/v1beta/files") == []


async def test_a_batch_of_googles_is_read_from_files_that_were_looked_at(build: Build):
    town = await build()
    mine = (await upload(town, "ann", b"plain")).json()["file"]["name"]
    line = json.dumps({"key": "1", "request": generated(mine)}).encode()
    path = "/google/v1beta/models/gemini-2.5-flash:batchGenerateContent"

    for who, pieces, status in (
        ("ann", [line], 200),
        ("bob", [line], 403),
        ("bob", [line.decode().encode("utf-16")], 403),
        ("bob", [b'{"request": {}}'], 200),
        ("bob", [line[:9], line[9:]], 403),
    ):
        name = (await upload(town, who, *pieces)).json()["file"]["name"]
        batch = await town.ask(who, "POST", path, {"batch": {"inputConfig": {"fileName": name}}})
        assert batch.status == status, batch.body
        if status == 200:
            batch_name = batch.json()["name"]
            assert (await town.ask(who, "GET", f"/google/v1beta/{batch_name}")).status == 200
            assert (await town.ask("cat", "GET", f"/google/v1beta/{batch_name}")).status == 404
    assert (await town.ask("bob", "POST", path, {"batch": {"inputConfig": {"fileName": mine}}})).status == 404
