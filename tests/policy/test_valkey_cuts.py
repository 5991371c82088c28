"""Commands that were carried out, and whose answers nobody heard: nothing is done twice, and nothing is left standing."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from support.claims import claim_of
from support.cutting_proxy import CuttingProxy
from support.valkey import Server, valkey, valkey_server
from tollhouse.errors import StoreUnavailable
from tollhouse.policy.counters import Claim, Placed, Purse, Seats, SeatsTaken
from tollhouse.policy.valkey import ValkeySettings, open_counters
from tollhouse.policy.valkey.scripts import Name, load
from tollhouse.policy.valkey.session import PREFIX
from tollhouse.policy.valkey.store import ValkeyCounters

__all__ = ["valkey", "valkey_server"]

SOON = 20.0
DIGESTS = {name: script.digest for name, script in load().items()}
ONE = Seats("one", 1)
PURSE = Purse("key:dev/total", 100)


@asynccontextmanager
async def behind_proxy(server: Server) -> AsyncIterator[tuple[ValkeyCounters, CuttingProxy]]:
    async with CuttingProxy(server.port) as proxy:
        settings = ValkeySettings(
            url=f"redis://127.0.0.1:{proxy.port}",
            connect_seconds=10,
            call_seconds=10,
            retry_seconds=0.02,
            lease_seconds=60,
        )
        counters = await open_counters(settings)
        try:
            await counters.purses([])
            yield counters, proxy
        finally:
            await counters.aclose()


def claim(name: str, *seats: Seats, hold: int = 0, purse: Purse | None = None) -> Claim:
    return claim_of(id=name, began_at_us=2, seats=seats, hold_nano=hold, purses=() if purse is None else (purse,))


async def until(is_so: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(SOON):
        while True:
            try:
                if await is_so():
                    return
            except StoreUnavailable:
                pass
            await asyncio.sleep(0.01)  # it is joining again


async def answers(counters: ValkeyCounters) -> None:
    async def is_so() -> bool:
        await counters.purses([])
        return True

    await until(is_so)


async def cut(counters: ValkeyCounters, proxy: CuttingProxy, at: Name, call: Awaitable[object]) -> None:
    """The call is carried out, and fails."""
    proxy.cut_at = DIGESTS[at]
    with pytest.raises(StoreUnavailable):
        await call
    assert proxy.cuts == 1
    await answers(counters)


async def test_a_placing_whose_answer_was_lost_does_not_stand(valkey: Server):
    async with behind_proxy(valkey) as (counters, proxy):
        await counters.seed(PURSE, spent_nano=0, before_us=1)
        await cut(counters, proxy, "place", counters.place(claim("a", ONE, hold=50, purse=PURSE)))
        assert await counters.is_settled_before(100)
        [state] = await counters.purses([PURSE.name])
        assert state.held_nano == 0
        assert isinstance(await counters.place(claim("b", ONE)), Placed)


async def test_an_extension_whose_answer_was_lost_ends_with_its_claim(valkey: Server):
    async with behind_proxy(valkey) as (counters, proxy):
        await counters.seed(PURSE, spent_nano=0, before_us=1)
        await counters.place(claim("a", ONE))
        await cut(counters, proxy, "place", counters.place(claim("a", hold=50, purse=PURSE), extends=True))
        assert await counters.place(claim("b", ONE)) == SeatsTaken(ONE)
        await counters.settle("a", cost_nano=3, tokens=None)
        [state] = await counters.purses([PURSE.name])
        assert (state.spent_nano, state.held_nano) == (3, 0)


async def test_a_settlement_whose_answer_was_lost_is_not_spent_twice(valkey: Server):
    async with behind_proxy(valkey) as (counters, proxy):
        await counters.seed(PURSE, spent_nano=0, before_us=1)
        await counters.place(claim("a", ONE, hold=50, purse=PURSE))
        await cut(counters, proxy, "settle", counters.settle("a", cost_nano=20, tokens=None))
        assert await counters.is_settled_before(100)
        [state] = await counters.purses([PURSE.name])
        assert (state.spent_nano, state.held_nano) == (20, 0)
        await until(lambda: _is_empty(counters))


async def _is_empty(counters: ValkeyCounters) -> bool:
    return not counters._owed and not counters._live


async def test_orphans_that_were_handed_to_nobody_are_handed_out_again(valkey: Server):
    async with behind_proxy(valkey) as (dead, _), behind_proxy(valkey) as (counters, proxy):
        await dead.place(claim("a", ONE))
        await dead.abort()
        epoch = counters.session.epoch
        valkey.client.zadd(f"{PREFIX}:{epoch}:owners", {dead.session.name: 0})
        valkey.client.delete(f"{PREFIX}:{epoch}:mercy")
        await cut(counters, proxy, "orphans", counters.orphans())
        assert [orphan.id for orphan in await counters.orphans()] == ["a"]
        assert list(await counters.orphans()) == []
        await counters.release("a")
        assert isinstance(await counters.place(claim("b", ONE)), Placed)


@pytest.mark.parametrize("is_carried_out", [True, False], ids=["carried-out", "not-carried-out"])
@pytest.mark.parametrize("at", ["adopt", "join"])
async def test_claims_are_registered_again_once_when_the_connection_is_cut_at_that(
    valkey: Server, at: Name, is_carried_out: bool
):
    async with behind_proxy(valkey) as (counters, proxy):
        await counters.place(claim("a", ONE))
        await counters.place(claim("b", Seats("two", 2)))
        proxy.cut_at, proxy.is_carried_out = DIGESTS[at], is_carried_out
        valkey.client.flushall()
        await until(lambda: _has_joined(counters, proxy))
        await counters.seed(PURSE, spent_nano=0, before_us=1)
        assert await counters.place(claim("c", ONE)) == SeatsTaken(ONE)
        assert isinstance(await counters.place(claim("d", Seats("two", 2))), Placed)
        await counters.release("a")
        await counters.release("b")
        await counters.release("d")
        assert valkey.client.exists(f"{PREFIX}:{counters.session.epoch}:seats") == 0
        assert await counters.is_settled_before(100)


async def _has_joined(counters: ValkeyCounters, proxy: CuttingProxy) -> bool:
    await counters.purses([])
    return proxy.cuts == 1
