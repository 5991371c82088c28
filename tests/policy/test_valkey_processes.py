"""Several gateway processes on one real server: limits are exact, and what a killed process held comes back."""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from support.claims import claim_of
from support.counters_contract import START_US
from support.valkey import Server, valkey, valkey_server
from support.valkey_child import CLOCK_KEY, PURSE, RATE, SEATS, hurried
from tollhouse.policy.counters import Orphan, Placed, SeatsTaken
from tollhouse.policy.valkey.store import ValkeyCounters

__all__ = ["valkey", "valkey_server"]

CHILD = Path(__file__).parents[1] / "support" / "valkey_child.py"
SOON = 20.0


@asynccontextmanager
async def child(server: Server, part: str, count: int) -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(CHILD),
        *(server.url, part, str(count)),
        stdin=PIPE,
        stdout=PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(CHILD.parents[1]), os.environ.get("PYTHONPATH", "")])},
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def line(process: Process) -> str:
    assert process.stdout is not None
    async with asyncio.timeout(SOON):
        return (await process.stdout.readline()).decode().strip()


async def begin(*processes: Process) -> None:
    for process in processes:
        assert await line(process) == "ready"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(b"go\n")


async def placed(process: Process) -> list[str]:
    found = []
    while (said := await line(process)) != "done":
        assert said, "the child has ended"
        found.append(said)
    return found


@asynccontextmanager
async def process_here(server: Server) -> AsyncIterator[ValkeyCounters]:
    counters = ValkeyCounters.start(hurried(server.url))
    try:
        yield counters
    finally:
        await counters.aclose()


@pytest.mark.parametrize("part", ["rate", "seats", "purse"])
async def test_two_gateways_with_four_tasks_each_let_exactly_n_through(valkey: Server, part: str):
    valkey.client.set(CLOCK_KEY, START_US)
    async with AsyncExitStack() as stack:
        observer = await stack.enter_async_context(process_here(valkey))
        await observer.seed(PURSE, spent_nano=0, before_us=1)
        one, two = [await stack.enter_async_context(child(valkey, part, 150)) for _ in range(2)]
        await begin(one, two)
        ids = [*await placed(one), *await placed(two)]
        assert len(ids) == len(set(ids)) == RATE.per_minute == SEATS.limit == 100
        if part == "purse":
            [state] = await observer.purses([PURSE.name])
            assert (state.spent_nano, state.held_nano) == (PURSE.limit_nano, 0)


async def test_what_a_killed_process_held_is_handed_out_once_each_and_comes_back(valkey: Server):
    """Killed in the middle of its work, with calls on their way."""
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(process_here(valkey))
        two = await stack.enter_async_context(process_here(valkey))
        await one.seed(PURSE, spent_nano=0, before_us=1)
        victim = await stack.enter_async_context(child(valkey, "all", 1_000_000))
        await begin(victim)
        acknowledged = [await line(victim) for _ in range(40)]
        victim.kill()
        await victim.wait()

        found: list[Orphan] = []
        async with asyncio.timeout(SOON):
            while not await one.is_settled_before(START_US):
                for asker in (one, two):
                    orphans = await asker.orphans(7)
                    found += orphans
                    for orphan in orphans:
                        await asker.release(orphan.id)
                await asyncio.sleep(0.02)

        ids = [orphan.id for orphan in found]
        assert len(ids) == len(set(ids))
        assert set(ids) >= {name for name in acknowledged if int(name.partition("-")[2]) % 2 == 0}
        assert {orphan.note for orphan in found} == {orphan.id.encode() for orphan in found}
        assert {orphan.hold_nano for orphan in found} == {10}
        [state] = await one.purses([PURSE.name])
        assert state.held_nano == 0
        answers = [
            await two.place(claim_of(id=f"after-{i}", began_at_us=1, seats=(SEATS,))) for i in range(SEATS.limit + 1)
        ]
        assert [type(answer) for answer in answers] == [Placed] * SEATS.limit + [SeatsTaken]


async def test_every_key_is_ours_and_expires(valkey: Server):
    async with process_here(valkey) as counters:
        await counters.seed(PURSE, spent_nano=0, before_us=1)
        claim = claim_of(id="a", began_at_us=1, rates=(RATE,), seats=(SEATS,), purses=(PURSE,), hold_nano=1)
        await counters.place(claim)

        keys = valkey.client.keys("*")
        assert len(keys) > 5
        assert all(str(key).startswith("b'tollhouse:{counters}:") for key in keys)
        async with asyncio.timeout(SOON):
            while any(valkey.client.ttl(key) < 0 for key in valkey.client.keys("*")):  # noqa: ASYNC110 - until the next beat
                await asyncio.sleep(0.02)
