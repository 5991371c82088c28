"""What a platform team watches: each thing is made to happen in a whole gateway, and read at `/metrics`."""

import asyncio
import errno
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from support.clients import CLIENTS, PROVIDERS, settings
from support.fake_provider import FakeProvider
from support.fake_replies import Answer, Cut, Failure, Stall, faulty, words
from support.peer import Peer, answering, response
from support.scrape import Scrape
from support.serving import KEY, Running, Serving
from support.valkey import Server, valkey, valkey_server
from tollhouse._version import __version__
from tollhouse.errors import ConnectFailed, StoreUnavailable
from tollhouse.server.admin.office import Office
from tollhouse.server.embedded import ModelLives
from tollhouse.server.observation import MAX_BUDGETS, House
from tollhouse.upstream.address import parse_address
from tollhouse.upstream.dialler import Dialler
from tollhouse.upstream.names import Names
from tollhouse.upstream.transport import Deadlines, Outgoing
from tollhouse.upstream.wire import WireTransport

pytestmark = pytest.mark.parametrize("server", ["own"])
"""What these tests look at does not depend on the server."""
__all__ = ["valkey", "valkey_server"]

SOON: Final = 30.0
PRICES: Final = "\nprices: {openai/*: RATES, anthropic/*: RATES, openai-compatible/*: RATES}".replace(
    "RATES", "{input: 1, output: 2}"
)
"""In dollars for a million tokens."""
COST: Final = (10 * 1 + 8 * 2) / 1e6
"""What the fake provider's usual answer costs, in dollars."""


async def ask(gateway: Running, model: str = "to-openai", *, stream: bool = False, **fields: object) -> int:
    asks = CLIENTS["openai"]
    return (await gateway.ask(asks.path, asks.question(model, stream=stream, **fields))).status


async def scrape(gateway: Running) -> Scrape:
    """What any key may see."""
    answer = await gateway.get("/metrics")
    assert answer.status == 200
    return Scrape(answer.body.decode())


def house(gateway: Running, **more: object) -> House:
    """What the admin listener of this gateway knows beside."""
    worker = gateway.worker
    office = Office(
        config=lambda: worker.config,
        config_file=gateway.ledger.parent / "tollhouse.yaml",
        environ={},
        ledger_url=worker.config.ledger.url,
        reload=worker.reload,
        providers=worker.provider_states,
        purses=worker.stores.counters.purses,
        spent=worker.stores.past.spent,
        trail=worker.stores.trail,
        loop=asyncio.get_running_loop(),
    )
    return House(office=office, **more)  # type: ignore[arg-type]


async def operators(gateway: Running, there: House | None = None) -> Scrape:
    """What the admin listener shows."""
    readings = (there or house(gateway)).readings
    text, _ = await asyncio.to_thread(gateway.worker.metrics_text, readings)
    return Scrape(text.decode())


async def until(gateway: Running, is_so: Callable[[Scrape], bool]) -> Scrape:
    async with asyncio.timeout(SOON):
        while not is_so(found := await scrape(gateway)):  # noqa: ASYNC110  # it is what a scraper does
            await asyncio.sleep(0.02)
    return found


# ----------------------------------------------------------------------------------------------------------- refused


async def test_what_was_refused_is_counted_by_why(serving: Serving, fake_provider: FakeProvider):
    gateway = await serving(
        settings(fake_provider)
        + f"\nauth: {{keys: [{{name: test, key: {KEY}, models: ['to-*', 'openai/*']}}]}}\nserver: {{max_body_bytes: 2000}}"
    )
    path = CLIENTS["openai"].path
    assert (await gateway.ask(path, b"{}", headers=[])).status == 401
    assert (await gateway.ask(path, b"{}", headers=[(b"authorization", b"Bearer th-wrong")])).status == 401
    assert await ask(gateway, user="x" * 3000) == 413
    assert await ask(gateway, "spare/second") == 403
    assert (await gateway.ask(path, b"{")).status == 400
    assert (await gateway.ask("/v1/embeddings", {"model": "spare/second", "input": "x"})).status == 403
    assert await ask(gateway) == 200
    found = (await scrape(gateway)).of("tollhouse_refused_total")
    assert found == {
        ("credential_missing",): 1,
        ("unauthenticated",): 1,
        ("body_too_large",): 1,
        ("model_not_allowed",): 2,
        ("bad_request",): 1,
    }


async def test_a_gateway_that_drains_says_so_and_counts_whom_it_turns_away(
    serving: Serving, fake_provider: FakeProvider
):
    gateway = await serving(settings(fake_provider))
    assert (await scrape(gateway)).value("tollhouse_draining") == 0
    gateway.worker.running.is_draining = True
    assert await ask(gateway) == 503
    found = await operators(gateway)
    assert found.value("tollhouse_draining") == 1
    assert found.value("tollhouse_refused_total", code="draining") == 1


async def test_limits_say_which_kind_had_no_room(serving: Serving, fake_provider: FakeProvider):
    gateway = await serving(settings(fake_provider) + "\nlimits: {per_key: {requests_per_minute: 1}}")
    assert [await ask(gateway) for _ in range(3)] == [200, 429, 429]
    assert (await gateway.ask("/v1/embeddings", {"model": "spare/second", "input": "x"})).status == 429
    found = await scrape(gateway)
    assert found.of("tollhouse_limited_total") == {("requests", "key"): 3}
    assert found.of("tollhouse_refused_total") == {("rate_limited",): 3}


async def test_who_waits_is_counted_while_it_waits_and_over_a_reload(serving: Serving, fake_provider: FakeProvider):
    go = asyncio.Event()
    fake_provider.reply(faulty(Answer(text=words(6)), Stall("before_head", until=go)))
    gateway = await serving(settings(fake_provider) + "\nlimits: {concurrent: 1, max_wait: 60s, max_waiting: 1}")
    async with asyncio.TaskGroup() as group:
        first = group.create_task(ask(gateway))
        await fake_provider.call(0)
        second = group.create_task(ask(gateway))
        await until(gateway, lambda found: found.value("tollhouse_calls_waiting") == 1)
        assert await ask(gateway) == 429, "and no more wait than may"
        found = await scrape(gateway)
        assert found.of("tollhouse_limited_total") == {("concurrent", "global"): 1}
        assert found.value("tollhouse_calls_in_flight") == 2
        gateway.worker.reload()
        assert (await scrape(gateway)).value("tollhouse_calls_waiting") == 1
        go.set()
    assert [first.result(), second.result()] == [200, 200]
    found = await scrape(gateway)
    assert found.value("tollhouse_calls_waiting") == 0
    assert (found.value("tollhouse_call_waits_total") or 0) >= 1
    assert (found.value("tollhouse_call_wait_seconds_total") or 0) > 0


# ----------------------------------------------------------------------------------------------------------- providers


async def test_a_provider_that_fails_shows_in_its_state_and_in_what_was_tried_instead(
    serving: Serving, fake_provider: FakeProvider
):
    fake_provider.reply_to(PROVIDERS["openai"], Failure(status=500))
    fake_provider.reply_to("second", Answer(text="Second here."))
    gateway = await serving(
        settings(fake_provider, pair=f"[openai/{PROVIDERS['openai']}, spare/second]")
        + "\nretry: {max_attempts: 2, backoff_base: 1ms}"
    )
    assert [await ask(gateway, "pair") for _ in range(5)] == [200] * 5
    assert await ask(gateway) == 500
    found = await scrape(gateway)
    assert found.value("tollhouse_provider_state", provider="openai", state="down") == 1
    assert found.value("tollhouse_provider_state", provider="openai", state="healthy") == 0
    assert found.value("tollhouse_provider_state", provider="spare", state="healthy") == 1
    assert found.value("tollhouse_provider_state", provider="anthropic", state="unknown") == 1
    assert found.value("tollhouse_provider_consecutive_faults", provider="openai") == 7
    assert found.of("tollhouse_provider_last_success_timestamp_seconds").keys() == {("spare",)}
    assert found.value("tollhouse_fallbacks_total", provider="spare", failed="openai") == 5
    assert found.of("tollhouse_retries_total") == {("openai",): 1}
    assert found.value("tollhouse_attempts_total", provider="openai", outcome="provider_refused") == 7


async def test_a_stream_that_was_cut_is_counted_for_its_provider(serving: Serving, fake_provider: FakeProvider):
    fake_provider.default = faulty(Answer(text=words(20)), Cut(4))
    gateway = await serving(settings(fake_provider))
    assert await ask(gateway, stream=True) == 200
    found = await scrape(gateway)
    assert found.of("tollhouse_streams_cut_total") == {("provider_truncated", "openai"): 1}
    assert found.of("tollhouse_refused_total") == {}


async def test_connections_are_counted_by_provider_and_its_name_was_looked_up(
    serving: Serving, fake_provider: FakeProvider
):
    go = asyncio.Event()
    fake_provider.reply(faulty(Answer(text=words(6)), Stall(3, until=go)))
    text = settings(fake_provider).replace("127.0.0.1", "localhost")
    gateway = await serving(text + "\nretry: {max_attempts: 1}")
    asks = CLIENTS["openai"]
    stream = await gateway.open(asks.path, asks.question("to-openai", stream=True))
    found = await scrape(gateway)
    name, state = "tollhouse_upstream_connections", "busy"
    assert found.value(name, provider="openai", state=state) == 1
    assert found.value("tollhouse_upstream_connection_waiters", provider="openai") == 0
    assert found.of(name).keys() == {("openai", "busy"), ("openai", "idle")}, (
        "one place, named by the first that is there"
    )
    go.set()
    await stream.read_all(1 << 20)
    found = await until(gateway, lambda found: found.value(name, provider="openai", state="idle") == 1)
    assert found.value(name, provider="openai", state=state) == 0
    assert found.of("tollhouse_name_lookups_total") == {("ok",): 1, ("failed",): 0}
    assert found.value("tollhouse_name_lookups_in_flight") == 0


async def test_a_name_that_is_not_found_is_counted_with_what_is_no_provider_of_the_configuration(
    serving: Serving, fake_provider: FakeProvider
):
    def resolve(host: str) -> tuple[str, ...]:
        if host == "nobody.example":
            raise OSError(errno.ENOENT, "no such host")
        return ("127.0.0.1",)

    gateway = await serving(settings(fake_provider))
    transport = WireTransport(dialler=Dialler(Names(resolve)))
    gateway.worker._engine.transports["a proxy"] = transport  # the gateway closes it, too
    address = parse_address(fake_provider.url)
    for host in ("nobody.example", "moved.example"):
        asked = Outgoing(address=replace(address, host=host), method=b"GET", target=b"/", headers=[], body=b"")
        with suppress(ConnectFailed):
            (await transport.send(asked, Deadlines())).close()
    found = await scrape(gateway)
    assert found.of("tollhouse_name_lookups_total") == {("failed",): 1, ("ok",): 1}
    assert {provider for provider, _ in found.of("tollhouse_upstream_connections")} == {"other"}


# -------------------------------------------------------------------------------------------------------------- money


async def test_budgets_of_the_configuration_show_what_is_spent_and_held_on_the_admin_listener_alone(
    serving: Serving, fake_provider: FakeProvider
):
    go = asyncio.Event()
    gateway = await serving(
        settings(fake_provider)
        + PRICES
        + f"\nauth: {{keys: [{{name: test, key: {KEY}, tenant: research, budget: {{daily: 3}}}}]}}"
        + "\nbudgets: [{scope: global, total: 5}, {scope: 'tenant:research', monthly: 2, mode: soft},"
        + " {scope: 'tenant:sales', monthly: 1}, {scope: 'key:test', weekly: 4}]"
    )
    assert await ask(gateway, max_tokens=100) == 200
    fake_provider.default = faulty(Answer(text=words(6)), Stall("before_head", until=go))
    async with asyncio.TaskGroup() as group:
        group.create_task(ask(gateway, max_tokens=100))
        await fake_provider.call(1)
        found = await operators(gateway)
        public = await scrape(gateway)
        go.set()
    assert found.of("tollhouse_budget_limit_usd") == {
        ("global/total", "hard"): 5,
        ("tenant:research/month", "soft"): 2,
        ("tenant:sales/month", "hard"): 1,
    }, "and none of a key"
    assert found.value("tollhouse_budget_spent_usd", budget="global/total", kind="hard") == pytest.approx(COST)
    assert found.value("tollhouse_budget_spent_usd", budget="tenant:research/month", kind="soft") == pytest.approx(COST)
    assert (found.value("tollhouse_budget_held_usd", budget="global/total", kind="hard") or 0) >= 100 * 2 / 1e6
    assert found.value("tollhouse_budget_spent_usd", budget="tenant:sales/month", kind="hard") == 0
    assert not any(name.startswith("tollhouse_budget") for name, _ in public.samples)


async def test_a_budget_that_nobody_met_since_the_start_shows_what_the_ledger_has(
    serving: Serving, fake_provider: FakeProvider
):
    gateway = await serving(settings(fake_provider) + PRICES)
    assert await ask(gateway) == 200
    file = gateway.ledger.parent / "tollhouse.yaml"
    file.write_text(file.read_text() + "\nbudgets: [{scope: 'tenant:nobody', total: 1}, {scope: global, total: 4}]\n")
    gateway.worker.reload()
    found = await operators(gateway)
    assert found.value("tollhouse_budget_spent_usd", budget="global/total", kind="hard") == pytest.approx(COST)
    assert found.value("tollhouse_budget_held_usd", budget="global/total", kind="hard") == 0


async def test_a_refused_call_leaves_a_budget_as_it_is(serving: Serving, fake_provider: FakeProvider):
    gateway = await serving(settings(fake_provider) + PRICES + "\nbudgets: [{scope: global, total: 0.0001}]")
    assert await ask(gateway, max_tokens=100_000) == 402
    found = await operators(gateway)
    assert found.value("tollhouse_refused_total", code="budget_exceeded") == 1
    assert found.value("tollhouse_budget_spent_usd", budget="global/total", kind="hard") == 0
    assert found.value("tollhouse_budget_held_usd", budget="global/total", kind="hard") == 0


async def test_the_number_of_budgets_that_are_shown_is_bounded(serving: Serving, fake_provider: FakeProvider):
    many = ", ".join(f"{{scope: 'tenant:t{number}', total: 1}}" for number in range(MAX_BUDGETS + 5))
    gateway = await serving(settings(fake_provider) + f"\nbudgets: [{many}]")
    found = await operators(gateway)
    for what in ("limit", "spent", "held"):
        assert len(found.of(f"tollhouse_budget_{what}_usd")) == MAX_BUDGETS


async def test_without_counters_a_budget_still_has_its_limit(serving: Serving, fake_provider: FakeProvider):
    gateway = await serving(settings(fake_provider) + "\nbudgets: [{scope: global, total: 1}]")
    there = house(gateway)

    async def away(_names: object) -> None:
        raise StoreUnavailable("The store of counters is away.")

    blind = replace(there, office=replace(there.office, purses=away))  # type: ignore[arg-type]
    found = await operators(gateway, blind)
    assert found.value("tollhouse_budget_limit_usd", budget="global/total", kind="hard") == 1
    assert found.of("tollhouse_budget_spent_usd") == {}


# ------------------------------------------------------------------------------------------------------------ sharing


async def test_what_kept_answers_did_is_counted_and_what_they_take(serving: Serving, fake_provider: FakeProvider):
    gateway = await serving(settings(fake_provider) + "\ncache: {responses: {ttl: 10m}}")
    assert [await ask(gateway) for _ in range(3)] == [200] * 3
    asks = CLIENTS["openai"]
    headers = [(b"authorization", b"Bearer " + KEY.encode()), (b"cache-control", b"no-store")]
    assert (await gateway.ask(asks.path, asks.question("to-openai"), headers=headers)).status == 200
    found = await scrape(gateway)
    assert found.of("tollhouse_cache_answers_total") == {("hit",): 2, ("miss",): 1, ("off",): 1}
    assert found.value("tollhouse_cache_entries") == 1
    assert (found.value("tollhouse_cache_bytes") or 0) > 100
    assert found.of("tollhouse_coalesced_calls_total") == {}
    gateway.worker.reload()
    assert (await scrape(gateway)).value("tollhouse_cache_answers_total", result="hit") == 2


async def test_calls_that_join_another_are_counted(serving: Serving, fake_provider: FakeProvider):
    go = asyncio.Event()
    fake_provider.default = faulty(Answer(text=words(6)), Stall("before_head", until=go))
    gateway = await serving(settings(fake_provider) + "\ncache: {coalesce: true}")
    async with asyncio.TaskGroup() as group:
        callers = [group.create_task(ask(gateway)) for _ in range(3)]
        found = await until(gateway, lambda found: found.value("tollhouse_coalesced_calls_total") == 2)
        assert found.value("tollhouse_shared_calls_in_flight") == 1
        go.set()
    assert [caller.result() for caller in callers] == [200] * 3
    found = await until(gateway, lambda found: found.value("tollhouse_shared_calls_in_flight") == 0)
    assert found.of("tollhouse_cache_answers_total") == {}


# -------------------------------------------------------------------------------------------------------------- stores


async def test_a_ledger_that_takes_no_rows_shows_with_what_waits_for_it(serving: Serving, fake_provider: FakeProvider):
    gateway = await serving(settings(fake_provider))
    with closing(sqlite3.connect(gateway.ledger, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert await ask(gateway) == 200
        found = await scrape(gateway)
        assert found.of("tollhouse_store_up") == {("ledger",): 0, ("keys",): 1}
        assert found.value("tollhouse_ledger_rows_total", fate="journaled") == 1
        assert (found.value("tollhouse_ledger_journal_bytes") or 0) > 100
        other.execute("ROLLBACK")
    found = await until(gateway, lambda found: found.value("tollhouse_store_up", store="ledger") == 1)
    found = await until(gateway, lambda found: found.value("tollhouse_ledger_journal_bytes") == 0)
    assert found.value("tollhouse_ledger_rows_total", fate="replayed") == 1
    assert found.value("tollhouse_ledger_rows_total", fate="failed") == 0
    assert found.value("tollhouse_ledger_queued_rows") == 0


async def test_a_valkey_that_is_stopped_shows_as_counters_and_as_kept_answers(
    serving: Serving, fake_provider: FakeProvider, valkey: Server
):
    gateway = await serving(
        settings(fake_provider)
        + PRICES
        + f"\nstate: {{url: '{valkey.url}'}}\ncache: {{responses: {{ttl: 10m, shared: true}}}}\nbudgets: {{total: 5}}"
    )
    up = {("ledger",): 1, ("keys",): 1, ("state",): 1, ("cache",): 1}
    async with asyncio.timeout(SOON):
        # On a busy machine an answer may be later than what is kept is waited for; then it is looked for again a second later.
        while await ask(gateway) == 200 and (found := await scrape(gateway)).of("tollhouse_store_up") != up:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    assert found.of("tollhouse_store_up") == up
    assert found.value("tollhouse_state_owed_settlements") == 0
    assert found.of("tollhouse_cache_bytes") == {}, "it is not in this process"
    valkey.kill()
    assert await ask(gateway, user="another") == 200
    found = await scrape(gateway)
    assert found.of("tollhouse_store_up") == {("ledger",): 1, ("keys",): 1, ("state",): 0, ("cache",): 0}


# --------------------------------------------------------------------------------------------------------------- losses


async def test_an_alert_that_no_webhook_took_is_counted(serving: Serving, fake_provider: FakeProvider):
    async with Peer(answering(response(b"{}", status=404))) as peer:
        budget = f"[{{scope: global, total: {2 * COST:.9f}, mode: soft, alert_at: [0.4], webhook: '{peer.url}/x'}}]"
        gateway = await serving(settings(fake_provider) + PRICES + f"\nbudgets: {budget}")
        assert await ask(gateway) == 200
        found = await until(gateway, lambda found: found.value("tollhouse_lost_total", what="alerts") == 1)
    assert found.of("tollhouse_lost_total").keys() == {("alerts",), ("audit",), ("calls_log",), ("log",)}


@pytest.mark.skipif(sys.platform != "linux", reason="there is no /dev/full")
async def test_lines_that_a_log_did_not_take_are_counted(serving: Serving, fake_provider: FakeProvider):
    gateway = await serving(settings(fake_provider) + "\nlogging: {calls: /dev/full}")
    assert await ask(gateway) == 200
    await until(gateway, lambda found: found.value("tollhouse_lost_total", what="calls_log") == 1)


async def test_prompts_of_which_something_was_masked_are_counted(
    serving: Serving, fake_provider: FakeProvider, tmp_path: Path
):
    gateway = await serving(
        settings(fake_provider) + f"\nlogging: {{redact_upstream: true, calls: '{tmp_path / 'calls.log'}'}}"
    )
    for text in ("Who am I?", "I am bob@example.com"):
        assert await ask(gateway, messages=[{"role": "user", "content": text}]) == 200
        answer = await gateway.ask("/v1/embeddings", {"model": "spare/second", "input": text})
        assert answer.status == 200
    assert (await scrape(gateway)).value("tollhouse_prompts_masked_total") == 2


# ------------------------------------------------------------------------------------------------------ the gateway itself


async def test_the_process_says_what_it_is_and_what_it_takes(serving: Serving, fake_provider: FakeProvider):
    gateway = await serving(settings(fake_provider) + "\nserver: {max_concurrent_calls: 77}")
    found = await until(gateway, lambda found: found.value("tollhouse_event_loop_lag_seconds_count") != 0)
    assert found.value("tollhouse_workers") == 1
    assert found.value("tollhouse_calls_in_flight_limit") == 77
    assert (found.value("tollhouse_workers_cpu_seconds_total") or 0) > 0
    assert (found.value("tollhouse_workers_resident_memory_bytes") or 0) > 10_000_000
    ((_, version),) = found.of("tollhouse_build_info")
    assert version == __version__


async def test_a_configuration_that_is_refused_shows_until_a_good_one_is_read(
    serving: Serving, fake_provider: FakeProvider
):
    gateway = await serving(settings(fake_provider))
    name = "tollhouse_config_last_reload_success"
    before = await scrape(gateway)
    assert before.value(f"{name}ful") == 1
    file = gateway.ledger.parent / "tollhouse.yaml"
    good = file.read_text()
    file.write_text(good + "\nnonsense: 1")
    gateway.worker.reload()
    refused = await scrape(gateway)
    assert refused.value(f"{name}ful") == 0
    assert refused.value(f"{name}_timestamp_seconds") == before.value(f"{name}_timestamp_seconds")
    file.write_text(good)
    gateway.worker.reload()
    after = await scrape(gateway)
    assert after.value(f"{name}ful") == 1
    assert (after.value(f"{name}_timestamp_seconds") or 0) > (before.value(f"{name}_timestamp_seconds") or 0)


async def test_what_a_supervisor_could_not_read_shows_though_no_worker_heard_of_it(
    serving: Serving, fake_provider: FakeProvider
):
    gateway = await serving(settings(fake_provider))
    found = await operators(gateway, house(gateway, was_reload_good=lambda: False, restarts=lambda: 3))
    assert found.value("tollhouse_config_last_reload_successful") == 0
    assert found.value("tollhouse_worker_restarts_total") == 3


async def test_embedded_models_show_their_state_and_how_often_they_died(serving: Serving, fake_provider: FakeProvider):
    gateway = await serving(settings(fake_provider))
    lives = ModelLives()
    for state in ("starting", "ready", "waiting", "starting", "ready"):
        lives.note("mine", state)
    found = await operators(gateway, house(gateway, models=lives))
    name = "tollhouse_local_model_state"
    assert {state for (_, state), value in found.of(name).items() if value} == {"ready"}
    assert len(found.of(name)) == 6
    assert found.value("tollhouse_local_model_deaths_total", provider="mine") == 1


async def test_no_sample_names_who_called_or_what_was_said(serving: Serving, fake_provider: FakeProvider):
    gateway = await serving(
        settings(fake_provider)
        + f"\nauth: {{keys: [{{name: the-key, key: {KEY}, tenant: the-tenant, project: the-project}}]}}"
        + "\nlimits: {per_key: {requests_per_minute: 1}}"
    )
    assert [await ask(gateway, user="the-user") for _ in range(2)] == [200, 429]
    assert await ask(gateway, "the-invention") == 404
    text = (await asyncio.to_thread(gateway.worker.metrics_text, house(gateway).readings))[0].decode()
    for word in ("the-", KEY, "127.0.0.1", "roads met", str(gateway.ledger.parent)):
        assert word not in "\n".join(line for line in text.splitlines() if not line.startswith("#"))
