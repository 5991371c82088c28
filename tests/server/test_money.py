"""Money never lies: one row for each call that reached a provider, there before the answer's last byte, with its exact cost."""

import asyncio
import socket
import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from support.clients import CLIENTS, KEYS, LANES, settings
from support.fake_provider import FakeProvider
from support.fake_replies import (
    Answer,
    Call,
    Cut,
    ErrorAfter,
    Failure,
    NoDone,
    Raw,
    Reply,
    Stall,
    Tokens,
    Trickle,
    faulty,
    words,
)
from support.holds import Settlement, watch_holds
from support.peer import Peer, Visit
from support.serving import Running, Serving
from tollhouse.ledger.prices import PriceBook

pytestmark = pytest.mark.parametrize("server", ["own"])
"""What these tests look at does not depend on the server."""
CLASSES = {
    "input_tokens": "input",
    "cache_read_tokens": "cache_read",
    "cache_write_tokens": "cache_write",
    "output_tokens": "output",
    "reasoning_tokens": "reasoning",
}
"""The ledger's columns and the fake's names for the same."""


def row_of(gateway: Running, request_id: str) -> dict[str, Any]:
    """The row of one call, if it is on disk at this moment."""
    with closing(sqlite3.connect(f"file:{gateway.ledger}?mode=ro", uri=True)) as connection:
        connection.row_factory = sqlite3.Row
        (row,) = connection.execute("SELECT * FROM calls WHERE id = ?", (request_id,)).fetchall()
        return dict(row)


# ----------------------------------------------------------------------------------------------------- one exact call

BILLED = Tokens(input=1000, cache_read=300, cache_write=200, output=50)
NANO = {
    # $0.15, $0.075 and $0.60 per million tokens; OpenAI has no price for writing to its cache, and never says it did.
    "openai": (1000 - 300) * 150 + 300 * 75 + 50 * 600,
    # $3, $0.30, $3.75 and $15.
    "anthropic": 500 * 3_000 + 300 * 300 + 200 * 3_750 + 50 * 15_000,
}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("lane", LANES, ids="-to-".join)
async def test_a_call_costs_what_the_price_book_says_cached_tokens_included(
    serving: Serving, fake_provider: FakeProvider, lane: tuple[str, str], stream: bool
):
    fake_provider.default = Answer(text="Toll.", tokens=BILLED)
    gateway = await serving(settings(fake_provider))
    holds = watch_holds(gateway)
    asks = CLIENTS[lane[0]]
    answer = await gateway.ask(asks.path, asks.question(f"to-{lane[1]}", stream=stream))
    row = row_of(gateway, answer.headers["x-request-id"])
    assert row["cost_nano"] == NANO[lane[1]]
    assert row["price_version"] == PriceBook.load().version
    assert (row["input_tokens"], row["output_tokens"], row["usage_source"]) == (1000, 50, "reported")
    assert row["cache_read_tokens"] == 300
    assert row["cache_write_tokens"] == (200 if lane[1] == "anthropic" else None)
    assert (row["key"], row["door"], row["requested_model"]) == ("test", asks.door, f"to-{lane[1]}")
    assert holds.settled_once() == [Settlement(NANO[lane[1]], 1000, 50)]
    assert holds.asks[0].principal.key == "test"


async def test_a_reload_changes_what_the_next_call_costs(serving: Serving, fake_provider: FakeProvider, tmp_path: Path):
    fake_provider.default = Answer(text="Toll.", tokens=Tokens(input=1000, output=50))
    gateway = await serving(settings(fake_provider) + "\nprices: {openai/*: {input: 1, output: 2}}")
    asks, file, rows = CLIENTS["openai"], tmp_path / "tollhouse.yaml", []
    for prices in ("input: 1, output: 2", "input: 3, output: 4"):
        file.write_text(file.read_text().replace("input: 1, output: 2", prices))
        gateway.worker.reload()
        answer = await gateway.ask(asks.path, asks.question("to-openai"))
        rows.append(row_of(gateway, answer.headers["x-request-id"]))
    assert [row["cost_nano"] for row in rows] == [1000 * 1_000 + 50 * 2_000, 1000 * 3_000 + 50 * 4_000]
    assert len({row["price_version"] for row in rows}) == 2


@pytest.mark.parametrize("lane", LANES, ids="-to-".join)
async def test_a_model_without_a_price_costs_not_nothing_but_nobody_knows_what(
    serving: Serving, fake_provider: FakeProvider, lane: tuple[str, str]
):
    gateway = await serving(settings(fake_provider))
    asks = CLIENTS[lane[0]]
    answer = await gateway.ask(asks.path, asks.question(f"{lane[1]}/never-heard-of"))
    row = row_of(gateway, answer.headers["x-request-id"])
    assert (row["cost_nano"], row["input_tokens"], row["output_tokens"]) == (None, 10, 8)


@pytest.mark.parametrize("client", list(CLIENTS))
async def test_an_answer_without_a_word_on_usage_is_not_free(
    serving: Serving, fake_provider: FakeProvider, client: str
):
    fake_provider.default = Raw(
        body=b'{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":'
        b'{"role":"assistant","content":"Toll houses"},"finish_reason":"stop"}]}'
    )
    gateway = await serving(settings(fake_provider))
    asks = CLIENTS[client]
    answer = await gateway.ask(asks.path, asks.question("to-openai"))
    assert answer.status == 200
    row = row_of(gateway, answer.headers["x-request-id"])
    assert row["usage_source"] == "estimated"
    assert min(row["input_tokens"], row["output_tokens"], row["cost_nano"]) > 0


async def test_a_token_count_that_a_provider_made_has_its_row_and_an_estimate_has_none(
    serving: Serving, fake_provider: FakeProvider
):
    gateway = await serving(settings(fake_provider))
    asks = CLIENTS["anthropic"]
    counted = await gateway.ask("/v1/messages/count_tokens", asks.question("to-anthropic"))
    assert (counted.status, counted.json()) == (200, {"input_tokens": 10})
    row = row_of(gateway, counted.headers["x-request-id"])
    assert (row["door"], row["outcome"], row["cost_nano"]) == ("anthropic_count_tokens", "ok", 0)
    estimated = await gateway.ask("/v1/messages/count_tokens", asks.question("to-openai"))
    assert estimated.json()["input_tokens"] > 0
    assert (counted.headers.get("x-tollhouse-count"), estimated.headers["x-tollhouse-count"]) == (None, "estimated")
    assert len(gateway.rows()) == 1


async def refuses_to_count(visit: Visit) -> None:
    await visit.request()
    body = b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}'
    await visit.answer(body, status=529)


async def never_counts(visit: Visit) -> None:
    await visit.request()
    await visit.wait(visit.client_closed)


def counting_at(url: str) -> str:
    return f"providers: {{an: {{type: anthropic-compatible, base_url: '{url}', api_key: x}}}}"


async def test_a_token_count_that_a_provider_refuses_is_an_error_with_its_row(serving: Serving):
    async with Peer(refuses_to_count) as peer:
        gateway = await serving(counting_at(peer.url))
        asks = CLIENTS["anthropic"]
        answer = await gateway.ask("/v1/messages/count_tokens", asks.question("an/m"))
        assert (answer.status, asks.read_whole(answer.body).error) == (529, "Overloaded")
        row = row_of(gateway, answer.headers["x-request-id"])
        assert (row["outcome"], row["status"], row["cost_nano"]) == ("provider_refused", 529, 0)


async def test_a_token_count_whose_client_leaves_is_not_written_down_as_good(serving: Serving):
    async with Peer(never_counts) as peer:
        gateway = await serving(counting_at(peer.url))
        asks = CLIENTS["anthropic"]
        async with asyncio.TaskGroup() as group:
            asking = group.create_task(gateway.open("/v1/messages/count_tokens", asks.question("an/m")))
            visit = await peer.visit(0)
            asking.cancel()
        async with asyncio.timeout(10):
            await visit.client_closed.wait()
            while not gateway.rows():  # noqa: ASYNC110  # it is on disk that the row appears
                await asyncio.sleep(0.01)
        (row,) = gateway.rows()
        assert (row["outcome"], row["status"], row["cost_nano"]) == ("client_left", 499, 0)


async def test_a_token_count_that_reached_nobody_has_no_row(serving: Serving):
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        gateway = await serving(counting_at(f"http://127.0.0.1:{held.getsockname()[1]}"))
        answer = await gateway.ask("/v1/messages/count_tokens", CLIENTS["anthropic"].question("an/m"))
    assert answer.status == 502
    assert gateway.rows() == []


# ------------------------------------------------------------------------------------------------------ a mixed run


@dataclass(frozen=True)
class Kind:
    """A sort of call: what the provider does with it, and what its row must say."""

    reply: Reply
    outcome: str = "ok"
    source: str = "reported"
    leaves: bool = False
    streams_only: bool = False


TALLY = Tokens(input=120, cache_read=30, output=17, reasoning=5)
KINDS = {
    "plain": Kind(Answer(text=words(6))),
    "counted": Kind(Answer(text=words(4), thinking=words(3), tokens=TALLY)),
    "tools": Kind(Answer(calls=(Call("add", '{"a": 1, "b": [2, 3]}'), Call("now")), tokens=TALLY)),
    "unmarked": Kind(faulty(Answer(text=words(5), tokens=TALLY), NoDone()), streams_only=True),
    "trickled": Kind(faulty(Answer(text=words(5), tokens=TALLY), Trickle())),
    "refused": Kind(Failure(status=400), outcome="provider_refused", source="none"),
    "busy": Kind(Failure(status=429), outcome="provider_refused", source="none"),
    "cut": Kind(
        faulty(Answer(text=words(9)), Cut(6)), outcome="provider_truncated", source="rebuilt", streams_only=True
    ),
    "failing": Kind(
        faulty(Answer(text=words(9)), ErrorAfter(6)),
        outcome="provider_stream_error",
        source="rebuilt",
        streams_only=True,
    ),
    "left": Kind(
        faulty(Answer(text=words(9)), Stall(6)), outcome="client_left", source="rebuilt", leaves=True, streams_only=True
    ),
}
RATES = "{input: 1, cache_read: 0.25, output: 2}"
"""Dollars per million tokens: 1,000, 250 and 2,000 nano-USD a token."""


async def one_call(gateway: Running, lane: tuple[str, str], kind: str, stream: bool) -> str:
    """Makes a call and gives its id; its row must be there when its last byte is."""
    asks = CLIENTS[lane[0]]
    incoming = await gateway.open(asks.path, asks.question(f"{lane[1]}/{kind}", stream=stream))
    request_id = (incoming.header(b"x-request-id") or b"").decode()
    if KINDS[kind].leaves:
        await incoming.read_some()
        incoming.close()
        return request_id
    await incoming.read_all(1 << 20)
    row_of(gateway, request_id)
    return request_id


async def test_a_mixed_run_of_two_hundred_calls_is_billed_to_the_token(serving: Serving, fake_provider: FakeProvider):
    for name, kind in KINDS.items():
        fake_provider.reply_to(name, kind.reply)
    gateway = await serving(
        settings(fake_provider) + f"\nprices: {{openai/*: {RATES}, anthropic/*: {RATES}}}\nretry: {{max_attempts: 1}}"
    )
    holds = watch_holds(gateway)
    plan = [
        (lane, name, stream)
        for lane, (name, kind), stream in product(LANES, KINDS.items(), (False, True))
        if stream or not kind.streams_only
    ] * 4
    assert len(plan) >= 200
    gate = asyncio.Semaphore(20)

    async def run(lane: tuple[str, str], kind: str, stream: bool) -> str:
        async with gate:
            return await one_call(gateway, lane, kind, stream)

    async with asyncio.TaskGroup() as group:
        running = [group.create_task(run(*step)) for step in plan]
    for call in fake_provider.calls:
        if call.model == "left":
            await call.client_left.wait()
    await gateway.worker.stores.books.flush()

    rows = gateway.rows()
    assert Counter(row["id"] for row in rows) == Counter(task.result() for task in running), "one row each"
    assert len(fake_provider.calls) == len(plan)
    for name, kind in KINDS.items():
        mine = [row for row in rows if row["model"] == name]
        assert {(row["outcome"], row["usage_source"]) for row in mine} == {(kind.outcome, kind.source)}, name
        if kind.source == "rebuilt":
            assert all(0 < row["output_tokens"] <= 9 and row["cost_nano"] > 0 for row in mine), name
            continue
        for provider, key in KEYS.items():
            billed = fake_provider.totals(model=name, key=key)
            written = [row for row in mine if row["provider"] == provider]
            # Anthropic counts what was thought with what was said, and does not say it apart.
            expected = replace(billed.tokens, reasoning=0) if provider == "anthropic" else billed.tokens
            assert (len(written), totals(written)) == (billed.calls, expected), (name, provider)
            assert sum(row["cost_nano"] for row in written) == nano(billed.tokens), (name, provider)
    settled = holds.settled_once()
    assert sum(each.cost_nano or 0 for each in settled) == sum(row["cost_nano"] for row in rows)


def totals(rows: Iterable[Mapping[str, Any]]) -> Tokens:
    """The ledger's token counts, added up."""
    sums = dict.fromkeys(CLASSES.values(), 0)
    for row in rows:
        for column, name in CLASSES.items():
            sums[name] += row[column] or 0
    return Tokens(**sums)


def nano(tokens: Tokens) -> int:
    return (tokens.input - tokens.cache_read) * 1_000 + tokens.cache_read * 250 + tokens.output * 2_000


# ----------------------------------------------------------------------------------------------- without its database


async def test_calls_go_on_while_the_ledger_is_locked_and_their_rows_are_replayed_once(
    serving: Serving, fake_provider: FakeProvider
):
    gateway = await serving(settings(fake_provider))
    asks = CLIENTS["openai"]
    with closing(sqlite3.connect(gateway.ledger, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        answers = [await gateway.ask(asks.path, asks.question("to-openai", stream=n == 1)) for n in range(3)]
        assert [answer.status for answer in answers] == [200, 200, 200]
        assert gateway.rows() == []
        health = (await gateway.get("/health")).json()
        assert health["ledger"] == "degraded"
        assert gateway.worker.stores.books.state().journaled_rows == 3
        other.execute("ROLLBACK")
    async with asyncio.timeout(20):
        while len(gateway.rows()) < 3:  # noqa: ASYNC110  # it is on disk that the rows appear
            await asyncio.sleep(0.02)
    assert [row["id"] for row in gateway.rows()] == [answer.headers["x-request-id"] for answer in answers]


async def test_calls_go_on_when_the_ledgers_file_is_gone(serving: Serving, fake_provider: FakeProvider):
    gateway = await serving(settings(fake_provider))
    asks = CLIENTS["openai"]
    assert (await gateway.ask(asks.path, asks.question("to-openai"))).status == 200
    for file in (f for f in gateway.ledger.parent.glob("ledger.db*") if f.is_file()):
        file.unlink()
    answers = [await gateway.ask(asks.path, asks.question("to-openai", stream=True)) for _ in range(3)]
    assert [answer.status for answer in answers] == [200, 200, 200]
    assert all(asks.read(answer.body).is_whole for answer in answers)
    state = gateway.worker.stores.books.state()
    assert state.failed_rows == 0
    written = {row["id"] for row in gateway.rows()} if gateway.ledger.exists() else set()
    journaled = b"".join(file.read_bytes() for file in gateway.ledger.parent.glob("*journal*")).decode()
    for answer in answers:
        request_id = answer.headers["x-request-id"]
        assert request_id in written or request_id in journaled
