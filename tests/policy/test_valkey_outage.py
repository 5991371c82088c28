"""Two machines under load while their real shared store dies, or falls silent, and comes back: nobody waits, and nothing is lost."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from support.claims import claim_of
from support.valkey import Server, valkey, valkey_server
from tollhouse.config.schema import StateSettings
from tollhouse.errors import StoreUnavailable
from tollhouse.policy.counters import Placed, Purse, PurseEmpty, Seats, Unseeded
from tollhouse.policy.outage import OutlivingCounters
from tollhouse.policy.shared_memory import SharedCounters
from tollhouse.policy.valkey import ValkeySettings, open_counters

__all__ = ["valkey", "valkey_server"]

SOON = 30.0
COST = 10
LIMIT = 100_000_000
ALLOWANCE = 400
PURSE = Purse("global/total", LIMIT)
SEATS = Seats("concurrent/global", 100)


def now_us() -> int:
    return time.time_ns() // 1000


class World:
    """A ledger that never fails, and gateways that do with it what the real ones do."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, int]] = []
        self.outcomes: list[type] = []
        self.longest_wait = 0.0
        self.number = 0
        self.is_over = False

    def spent(self, before_us: int) -> int:
        return sum(cost for began, cost in self.rows if began < before_us)

    async def call(self, gateway: OutlivingCounters) -> None:
        self.number += 1
        claim = claim_of(
            id=f"call-{self.number}", began_at_us=now_us(), seats=(SEATS,), purses=(PURSE,), hold_nano=COST + 5
        )
        began = time.monotonic()
        answer = await gateway.place(claim)
        while isinstance(answer, Unseeded):
            await gateway.seed(PURSE, spent_nano=self.spent(claim.began_at_us), before_us=claim.began_at_us)
            answer = await gateway.place(claim)
        self.longest_wait = max(self.longest_wait, time.monotonic() - began)
        self.outcomes.append(type(answer))
        if isinstance(answer, Placed):
            await asyncio.sleep(0.002)  # the provider answers
            self.rows.append((claim.began_at_us, COST))
            await gateway.settle(claim.id, cost_nano=COST, tokens=None)
        else:
            await asyncio.sleep(0.002)

    async def confirm(self, gateway: OutlivingCounters) -> None:
        for state in await gateway.purses([PURSE.name]):
            before = state.seeded_before_us
            if not state.is_confirmed and await gateway.is_settled_before(before):
                spent = self.spent(before)
                await gateway.seed(PURSE, spent_nano=spent, before_us=before, is_confirmed=True)

    async def callers(self, gateway: OutlivingCounters) -> None:
        while not self.is_over:
            await self.call(gateway)

    async def checks(self, gateway: OutlivingCounters) -> None:
        while not self.is_over:
            with suppress(StoreUnavailable):
                await self.confirm(gateway)
            await asyncio.sleep(0.02)


@asynccontextmanager
async def machine(server: Server, folder: Path, name: str) -> AsyncIterator[OutlivingCounters]:
    shared = await open_counters(
        ValkeySettings(url=server.url, connect_seconds=1.0, call_seconds=0.5, retry_seconds=0.1, beat_seconds=0.1)
    )
    here = SharedCounters.open(folder / name, processes=1, meters=4096, purses=512)
    settings = StateSettings(url=server.url, budget_allowance_nano=ALLOWANCE)
    gateway = OutlivingCounters.start(shared, here, settings, probe_seconds=0.1)
    try:
        yield gateway
    finally:
        await gateway.aclose()


async def until(is_so: Callable[[], bool | Awaitable[bool]]) -> None:
    async with asyncio.timeout(SOON):
        while True:
            outcome = is_so()
            if outcome if isinstance(outcome, bool) else await outcome:
                return
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("way", ["killed", "silent"])
async def test_an_outage_under_load_is_bounded_and_afterwards_the_store_knows_what_the_ledger_knows(
    valkey: Server, tmp_path: Path, way: str
):
    async with machine(valkey, tmp_path, "one") as one, machine(valkey, tmp_path, "two") as two:
        gateways = [one, two]
        world = World()

        async def more(calls: int) -> None:
            goal = len(world.outcomes) + calls
            await until(lambda: len(world.outcomes) >= goal)

        async with asyncio.TaskGroup() as group:
            for gateway in gateways:
                group.create_task(world.checks(gateway))
                for _ in range(4):
                    group.create_task(world.callers(gateway))
            await more(200)
            await until(lambda: all(gateway._known[PURSE.name].is_seen for gateway in gateways))
            assert {gateway.state().status for gateway in gateways} == {"ok"}

            if way == "killed":
                valkey.kill()
            else:
                valkey.pause()
            await until(lambda: all(gateway.state().status == "lost" for gateway in gateways))
            spent_before = world.spent(now_us())
            await until(lambda: PurseEmpty in world.outcomes)
            await more(100)
            # Each machine its allowance; calls that were under way when the store was lost were held there already.
            assert world.spent(now_us()) - spent_before <= 2 * ALLOWANCE + 8 * COST

            if way == "killed":
                valkey.start()
            else:
                valkey.resume()
            await until(lambda: all(gateway.state().status == "ok" for gateway in gateways))
            before = world.outcomes.count(Placed)
            await until(lambda: world.outcomes.count(Placed) > before + 100)
            world.is_over = True

        assert set(world.outcomes) <= {Placed, PurseEmpty}
        assert world.longest_wait < 5.0, "nobody waits for a store that is away"
        await until(lambda: all(g.state().owed_endings == g.state().unsure_purses == 0 for g in gateways))
        world.is_over = False
        await world.call(one)

        async def is_confirmed() -> bool:
            await world.confirm(two)
            return all(state.is_confirmed for state in await one.purses([PURSE.name]))

        await until(is_confirmed)
        [state] = await two.purses([PURSE.name])
        assert (state.spent_nano, state.held_nano) == (world.spent(now_us()), 0)
        assert await two.is_settled_before(now_us())
        assert state.spent_nano < LIMIT, "the limit was not what stopped them"


async def test_closed_limits_answer_503_while_a_killed_store_is_away(valkey: Server, tmp_path: Path):
    shared = await open_counters(ValkeySettings(url=valkey.url, retry_seconds=0.05))
    here = SharedCounters.open(tmp_path, processes=1, meters=4096, purses=512)
    settings = StateSettings(url=valkey.url, when_lost="closed")
    gateway = OutlivingCounters.start(shared, here, settings, probe_seconds=0.05)
    try:
        assert isinstance(await gateway.place(claim_of(id="a", began_at_us=1, seats=(SEATS,))), Placed)
        valkey.kill()
        with pytest.raises(StoreUnavailable) as refused:
            await gateway.place(claim_of(id="b", began_at_us=1, seats=(SEATS,)))
        assert refused.value.http_status == 503
        valkey.start()
        await until(lambda: gateway.state().status == "ok")
        assert isinstance(await gateway.place(claim_of(id="b", began_at_us=1, seats=(SEATS,))), Placed)
    finally:
        await gateway.aclose()
