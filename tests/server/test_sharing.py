"""Kept answers and shared calls, through the whole gateway."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from support.clients import CLIENTS, LANES, settings
from support.fake_provider import FakeProvider
from support.fake_replies import Answer, Call, Cut, ErrorAfter, Failure, Faulty, Stall, faulty, words
from support.serving import KEY, Running, Serving
from support.serving import Answer as Got
from support.valkey import Server, valkey, valkey_server
from tollhouse.errors import ProviderError
from tollhouse.gateway.coalesce import Coalescer

pytestmark = pytest.mark.parametrize("server", ["own"])

SOON: Final = 30.0
__all__ = ["valkey", "valkey_server"]

OTHER = "th-other-key-0123456789"
TWO_TENANTS = f"""
auth:
  keys:
    - {{name: test, key: {KEY}, tenant: research}}
    - {{name: colleague, key: th-colleague-0123456789, tenant: research}}
    - {{name: other, key: {OTHER}, tenant: sales}}
"""
CACHE = "\ncache: {responses: {ttl: 10m}}\n"
COALESCE = "\ncache: {coalesce: true}\n"


def key(text: str) -> list[tuple[bytes, bytes]]:
    return [(b"authorization", b"Bearer " + text.encode()), (b"content-type", b"application/json")]


def asking(text: str, **fields: Any) -> dict[str, Any]:
    return {"model": "to-openai", "messages": [{"role": "user", "content": text}], **fields}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("lane", LANES, ids="-to-".join)
async def test_the_second_identical_call_is_a_hit_in_either_form(
    serving: Serving, fake_provider: FakeProvider, lane, stream
):
    fake_provider.default = Answer(text="Toll.", calls=(Call("add", '{"a":1}'),))
    gateway = await serving(settings(fake_provider) + CACHE)
    asks = CLIENTS[lane[0]]
    first = await gateway.ask(asks.path, asks.question(f"to-{lane[1]}", stream=stream))
    again = await gateway.ask(asks.path, asks.question(f"to-{lane[1]}", stream=stream))
    other = await gateway.ask(asks.path, asks.question(f"to-{lane[1]}", stream=not stream))
    assert [one.status for one in (first, again, other)] == [200, 200, 200]
    assert [one.headers["x-tollhouse-cache"] for one in (first, again, other)] == ["miss", "hit", "hit"]
    assert "age" not in first.headers
    assert again.headers["age"] == "0"
    assert len(fake_provider.calls) == 1
    assert (b"data:" in again.body) == stream
    assert (b"data:" in other.body) != stream
    assert again.headers["content-type"] == first.headers["content-type"]
    for one in (again, other):
        assert b"Toll." in one.body
        assert b"add" in one.body
    rows = gateway.rows()
    assert [row["lane"] for row in rows] == ["same" if lane[0] == lane[1] else "translated", "hit", "hit"]
    assert [row["cost_nano"] for row in rows[1:]] == [0, 0]
    assert [row["input_tokens"] for row in rows[1:]] == [None, None]
    assert rows[0]["cost_nano"]
    assert rows[1]["id"] == again.headers["x-request-id"]


async def test_a_tenant_is_never_given_another_tenants_answer(serving: Serving, fake_provider: FakeProvider):
    gateway = await serving(settings(fake_provider) + CACHE + TWO_TENANTS)
    words_ = []
    for who in (KEY, OTHER, "th-colleague-0123456789"):
        got = await gateway.ask("/v1/chat/completions", asking("Hello"), headers=key(who))
        words_.append(got.headers["x-tollhouse-cache"])
    assert words_ == ["miss", "miss", "hit"]


async def test_an_anthropic_client_is_given_what_an_openai_client_caused(serving: Serving, fake_provider: FakeProvider):
    gateway = await serving(settings(fake_provider) + CACHE)
    await gateway.ask("/v1/chat/completions", asking("Hello", max_tokens=100))
    got = await gateway.ask("/v1/messages", asking("Hello", max_tokens=100))
    assert got.headers["x-tollhouse-cache"] == "hit"
    assert got.json()["type"] == "message"


@pytest.mark.parametrize(
    ("says", "expected"),
    [
        (b"no-store", ["off", "off"]),
        (b"no-cache", ["miss", "miss"]),
        (b"max-age=0", ["miss", "miss"]),
        (b"max-age=60", ["miss", "hit"]),
    ],
)
async def test_the_caller_has_a_say(serving: Serving, fake_provider: FakeProvider, says, expected):
    gateway = await serving(settings(fake_provider) + CACHE)
    got = [
        await gateway.ask("/v1/chat/completions", asking("Hello"), headers=[*key(KEY), (b"cache-control", says)])
        for _ in range(2)
    ]
    assert [one.headers["x-tollhouse-cache"] for one in got] == expected
    plain = await gateway.ask("/v1/chat/completions", asking("Hello"))
    assert plain.headers["x-tollhouse-cache"] == ("miss" if says == b"no-store" else "hit")


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(
    "reply",
    [
        Failure(status=400),
        faulty(Answer(text=words(40)), Cut(3)),
        faulty(Answer(text=words(40)), ErrorAfter(3, Failure(status=500))),
        Answer(text="", refusal="No."),
    ],
    ids=["error", "cut", "broken", "refusal"],
)
async def test_what_did_not_come_whole_is_not_kept(serving: Serving, fake_provider: FakeProvider, reply, stream):
    fake_provider.default = reply
    if not stream and isinstance(reply, Faulty):
        fake_provider.default = faulty(Answer(text=words(40)), Cut("in_head"))
    gateway = await serving(settings(fake_provider) + CACHE)
    for _ in range(2):
        try:
            got = await gateway.ask("/v1/chat/completions", asking("Hello", stream=stream))
        except ProviderError:
            continue  # the answer was cut for the client too
        assert got.headers.get("x-tollhouse-cache") != "hit"
    assert gateway.rows()[-1]["lane"] != "hit"


async def test_kept_answers_outlive_a_reload(serving: Serving, fake_provider: FakeProvider):
    gateway = await serving(settings(fake_provider) + CACHE)
    await gateway.ask("/v1/chat/completions", asking("Hello"))
    gateway.worker.reload()
    assert (await gateway.ask("/v1/chat/completions", asking("Hello"))).headers["x-tollhouse-cache"] == "hit"


async def test_two_gateways_share_what_is_kept_in_valkey(serving: Serving, fake_provider: FakeProvider, valkey: Server):
    text = (
        settings(fake_provider)
        + f"\nstate: {{url: '{valkey.url}'}}\ncache: {{responses: {{ttl: 10m, shared: true}}}}\n"
    )
    one, two = await serving(text), await serving(text)
    said = [
        (await each.ask("/v1/chat/completions", asking("Hello"))).headers["x-tollhouse-cache"] for each in (one, two)
    ]
    assert said == ["miss", "hit"]
    assert len(fake_provider.calls) == 1
    valkey.kill()
    gone = await two.ask("/v1/chat/completions", asking("Hello"))
    assert (gone.status, gone.headers["x-tollhouse-cache"]) == (200, "miss")


async def test_an_answer_that_a_budget_cut_short_is_nobody_elses(serving: Serving, fake_provider: FakeProvider):
    budget = "\nbudgets: [{scope: 'key:test', daily: 0.0005, clamp_output: true}]\n"
    gateway = await serving(settings(fake_provider) + TWO_TENANTS + CACHE + budget)
    short = await gateway.ask("/v1/chat/completions", asking("Hello", max_tokens=10_000))
    assert fake_provider.calls[0].json["max_tokens"] < 10_000
    assert short.status == 200
    other = await gateway.ask(
        "/v1/chat/completions", asking("Hello", max_tokens=10_000), headers=key("th-colleague-0123456789")
    )
    assert other.headers["x-tollhouse-cache"] == "miss"
    assert fake_provider.calls[1].json["max_tokens"] == 10_000


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_what_a_provider_was_not_shown_is_in_a_kept_answer_of_whom_it_belongs_to(
    serving: Serving, fake_provider: FakeProvider, tmp_path: Path, stream: bool
):
    """Two prompts may look the same to the provider; their answers are not the same."""
    fake_provider.default = Answer(text="I wrote to [EMAIL_1].")
    gateway = await serving(
        settings(fake_provider) + CACHE + f"\nlogging: {{redact_upstream: true, calls: '{tmp_path / 'calls.log'}'}}"
    )
    said = []
    for address in ("ann@example.com", "bob@example.com", "ann@example.com"):
        got = await gateway.ask("/v1/chat/completions", asking(f"Write to {address}.", stream=stream))
        assert address.encode() in got.body
        said.append(got.headers["x-tollhouse-cache"])
    assert said == ["miss", "miss", "hit"]


async def test_without_the_setting_nothing_is_said(serving: Serving, fake_provider: FakeProvider):
    gateway = await serving(settings(fake_provider))
    for _ in range(2):
        got = await gateway.ask("/v1/chat/completions", asking("Hello"))
        assert "x-tollhouse-cache" not in got.headers
    assert len(fake_provider.calls) == 2


# ------------------------------------------------------------------------------------------------------------ coalescing


def flights(gateway: Running) -> Coalescer:
    coalescer = gateway.worker._engine.coalescer
    assert coalescer is not None
    return coalescer


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(SOON):
        while not is_so():  # noqa: ASYNC110  # what is waited for happens in another part of the program
            await asyncio.sleep(0.001)


def followers(gateway: Running) -> int:
    return sum(len(flight._followers) for flight in flights(gateway)._flights.values())


async def callers(gateway: Running, fake: FakeProvider, count: int, body: dict[str, Any]) -> list["asyncio.Task[Got]"]:
    """Callers who have all joined."""
    loop = asyncio.get_running_loop()
    tasks = [loop.create_task(gateway.ask("/v1/chat/completions", body)) for _ in range(count)]
    await fake.call(0)
    await until(lambda: followers(gateway) == count)
    return tasks


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("at", ["before_head", 3])
async def test_identical_calls_share_one_upstream_call_and_one_charge(
    serving: Serving, fake_provider: FakeProvider, stream, at
):
    go_on = asyncio.Event()
    fake_provider.default = faulty(Answer(text=words(30)), Stall(at, until=go_on))
    gateway = await serving(settings(fake_provider) + COALESCE)
    tasks = await callers(gateway, fake_provider, 4, asking("Hello", stream=stream))
    go_on.set()
    got = await asyncio.gather(*tasks)
    assert len(fake_provider.calls) == 1
    assert len({one.body for one in got}) == 1
    assert [one.status for one in got] == [200] * 4
    rows = gateway.rows()
    assert sorted(row["lane"] for row in rows) == ["same", "shared", "shared", "shared"]
    assert sum(row["cost_nano"] for row in rows) == next(row["cost_nano"] for row in rows if row["lane"] == "same") > 0
    assert sorted(one.headers.get("x-tollhouse-cache", "") for one in got) == ["", "shared", "shared", "shared"]
    assert len({one.headers["x-request-id"] for one in got}) == 4


async def test_who_leaves_does_not_cut_the_others(serving: Serving, fake_provider: FakeProvider):
    go_on = asyncio.Event()
    fake_provider.default = faulty(Answer(text=words(30)), Stall(3, until=go_on))
    gateway = await serving(settings(fake_provider) + COALESCE)
    body = asking("Hello", stream=True)
    first = await gateway.open("/v1/chat/completions", body)
    second = await gateway.open("/v1/chat/completions", body)
    first.close()
    await until(lambda: followers(gateway) == 1)
    assert not fake_provider.calls[0].left_early
    go_on.set()
    data = await second.read_all(1 << 20)
    assert data.endswith(b"data: [DONE]\n\n")
    assert fake_provider.calls[0].is_complete
    assert [row["outcome"] for row in gateway.rows()] == ["ok", "ok"]


async def test_the_last_to_leave_takes_the_call_along(serving: Serving, fake_provider: FakeProvider):
    fake_provider.default = faulty(Answer(text=words(30)), Stall(3, until=asyncio.Event()))
    gateway = await serving(settings(fake_provider) + COALESCE)
    body = asking("Hello", stream=True)
    for one in [await gateway.open("/v1/chat/completions", body) for _ in range(2)]:
        one.close()
    call = await fake_provider.call(0)
    await call.client_left.wait()
    await until(lambda: len(gateway.rows()) == 2)
    assert [row["outcome"] for row in gateway.rows()] == ["client_left"] * 2
    assert len(fake_provider.calls) == 1
    assert len(flights(gateway)) == 0


async def test_an_error_is_said_to_each_in_its_own_name(serving: Serving, fake_provider: FakeProvider):
    go_on = asyncio.Event()
    fake_provider.default = faulty(Failure(status=400), Stall("before_head", until=go_on))
    gateway = await serving(settings(fake_provider) + COALESCE)
    tasks = await callers(gateway, fake_provider, 3, asking("Hello"))
    go_on.set()
    got = await asyncio.gather(*tasks)
    assert [one.status for one in got] == [400] * 3
    assert len({one.body for one in got}) in {1, 3}
    assert len(fake_provider.calls) == 1
    for one in got:
        others = {each.headers["x-request-id"] for each in got} - {one.headers["x-request-id"]}
        assert not any(each.encode() in one.body for each in others)


async def test_a_shutdown_ends_shared_calls_with_an_error_and_settles_them(
    serving: Serving, fake_provider: FakeProvider
):
    fake_provider.default = faulty(Answer(text=words(30)), Stall(3, until=asyncio.Event()))
    gateway = await serving(settings(fake_provider) + COALESCE + "server: {drain_seconds: 0}\n")
    body = asking("Hello", stream=True)
    opened = [await gateway.open("/v1/chat/completions", body) for _ in range(2)]
    gateway.worker.drain()
    for one in opened:
        assert b"draining" in await one.read_all(1 << 20)
    await gateway.worker.wait()
    await until(lambda: len(gateway.rows()) == 2)
    assert sorted((row["lane"], row["outcome"]) for row in gateway.rows()) == [
        ("same", "draining"),
        ("shared", "draining"),
    ]
