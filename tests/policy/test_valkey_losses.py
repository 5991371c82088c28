"""What a gateway process does when a real server dies, falls silent, forgets, or is started again."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import msgspec
import pytest

from support.claims import claim_of
from support.valkey import Server, valkey, valkey_server
from tollhouse.errors import StoreUnavailable
from tollhouse.policy.counters import (
    MAX_LIMIT_NANO,
    Claim,
    Placed,
    Purse,
    PurseEmpty,
    Rate,
    Seats,
    SeatsTaken,
    Unseeded,
)
from tollhouse.policy.valkey import ValkeySettings, open_counters
from tollhouse.policy.valkey.session import PREFIX
from tollhouse.policy.valkey.store import ValkeyCounters

__all__ = ["valkey", "valkey_server"]

SOON = 20.0
ONE = Seats("one", 1)
PURSE = Purse("key:dev/total", 100)


def claim(name: str, *seats: Seats, purse: Purse | None = None, hold: int = 0, began: int = 2) -> Claim:
    return claim_of(id=name, began_at_us=began, seats=seats, purses=() if purse is None else (purse,), hold_nano=hold)


@asynccontextmanager
async def joined(server: Server, *, call_seconds: float = 10.0) -> AsyncIterator[ValkeyCounters]:
    """A process that has joined.  Its lease is long: nobody's death is tried here."""
    settings = ValkeySettings(
        url=server.url,
        connect_seconds=10.0,
        call_seconds=call_seconds,
        retry_seconds=0.02,
        beat_seconds=0.05,
        lease_seconds=60.0,
    )
    counters = await open_counters(settings)
    try:
        await counters.purses([])
        yield counters
    finally:
        await counters.aclose()


async def until(is_so: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(SOON):
        while not await is_so():  # noqa: ASYNC110 - what is waited for is on the server
            await asyncio.sleep(0.01)


async def reached(counters: ValkeyCounters) -> None:
    async def is_so() -> bool:
        return not counters.trouble

    await until(is_so)


async def lost(counters: ValkeyCounters) -> None:
    async def is_so() -> bool:
        return bool(counters.trouble)

    await until(is_so)


def standing(server: Server) -> int:
    """How many claims the server knows of."""
    epoch = server.client.hget(f"{PREFIX}:epoch", "id")
    assert isinstance(epoch, bytes)
    return server.client.zcard(f"{PREFIX}:{epoch.decode()}:began")


# ---------------------------------------------------------------------------------------------------- away and back


async def test_a_killed_server_fails_every_call_in_flight_and_then_at_once(valkey: Server):
    async with joined(valkey) as counters, asyncio.timeout(SOON):
        failures: list[StoreUnavailable] = []

        async def work(task: int) -> None:
            number = 0
            while True:
                number += 1
                try:
                    await counters.place(claim(f"{task}-{number}"))
                    await counters.settle(f"{task}-{number}", cost_nano=0, tokens=None)
                except StoreUnavailable as error:
                    failures.append(error)
                    return

        async with asyncio.TaskGroup() as group:
            for task in range(8):
                group.create_task(work(task))
            await asyncio.sleep(0.1)
            valkey.kill()
        assert len(failures) == 8
        await lost(counters)
        with pytest.raises(StoreUnavailable, match="cannot be reached"):
            counters.session.send("purses")  # not even awaited


async def test_a_silent_server_fails_calls_in_bounded_time(valkey: Server):
    async with joined(valkey, call_seconds=0.2) as counters, asyncio.timeout(SOON):
        valkey.pause()
        outcomes = await asyncio.gather(*(counters.place(claim(f"c{i}")) for i in range(300)), return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {StoreUnavailable}
        assert "does not answer in time" in str(outcomes[0])
        valkey.resume()
        await reached(counters)
        assert isinstance(await counters.place(claim("again")), Placed)


async def test_what_a_silent_server_did_not_answer_does_not_stand_when_it_wakes(valkey: Server):
    """It may read the placing before or after this process has joined again: the claim holds nothing either way."""
    async with joined(valkey, call_seconds=0.2) as counters:
        for attempt in range(3):
            valkey.pause()
            with pytest.raises(StoreUnavailable):
                await counters.place(claim(f"lost-{attempt}", ONE))
            valkey.resume()
            await reached(counters)
            following = claim(f"next-{attempt}", ONE)
            await until(partial(_answers, counters, following, Placed))
            await counters.release(following.id)
        assert await counters.is_settled_before(100)


async def _answers(counters: ValkeyCounters, wanted: Claim, kind: type) -> bool:
    try:
        return isinstance(await counters.place(wanted), kind)
    except StoreUnavailable:
        return False


async def test_a_process_can_start_before_its_server(valkey: Server):
    valkey.stop()
    counters = await open_counters(ValkeySettings(url=valkey.url, retry_seconds=0.02))
    try:
        with pytest.raises(StoreUnavailable):
            await counters.place(claim("a"))
        valkey.start()
        await reached(counters)
        assert isinstance(await counters.place(claim("a")), Placed)
    finally:
        await counters.aclose()


async def test_endings_that_failed_are_repeated_when_the_server_is_back(valkey: Server):
    async with joined(valkey, call_seconds=0.2) as counters:
        await counters.seed(PURSE, spent_nano=0, before_us=1)
        await counters.place(claim("a", ONE, purse=PURSE, hold=60))
        await counters.place(claim("b", purse=PURSE, hold=30))
        valkey.pause()
        with pytest.raises(StoreUnavailable):
            await counters.settle("a", cost_nano=25, tokens=None)
        with pytest.raises(StoreUnavailable):
            await counters.release("b")
        valkey.resume()

        async def is_settled() -> bool:
            try:
                return await counters.is_settled_before(100)
            except StoreUnavailable:
                return False

        await until(is_settled)
        [state] = await counters.purses([PURSE.name])
        assert (state.spent_nano, state.held_nano) == (25, 0)


# ---------------------------------------------------------------------------------------------------- it has forgotten


async def test_a_server_that_came_back_empty_learns_of_the_calls_that_run(valkey: Server):
    async with joined(valkey) as one, joined(valkey) as two:
        await one.seed(PURSE, spent_nano=5, before_us=1)
        await one.place(claim("a", ONE, purse=PURSE, hold=40))
        await one.place(
            claim("a", Seats("more", 1), purse=PURSE, hold=20),
        )
        await two.place(claim("b", purse=PURSE, hold=7))
        epoch = one.session.epoch
        valkey.kill()
        await lost(one)
        await lost(two)
        valkey.start()
        await reached(one)
        await reached(two)
        assert one.session.epoch == two.session.epoch != epoch
        assert standing(valkey) == 2
        assert await one.place(claim("c", purse=PURSE, hold=1)) == Unseeded((PURSE,))
        assert await two.place(claim("c", ONE)) == SeatsTaken(ONE)
        # The ledger has the rows that began before; those that run are in no row yet.
        await two.seed(PURSE, spent_nano=30, before_us=50)
        [state] = await one.purses([PURSE.name])
        assert (state.spent_nano, state.held_nano) == (30, 67)
        assert await two.place(claim("c", purse=PURSE, hold=4)) == PurseEmpty(PURSE, spent_nano=30, held_nano=67)
        await one.settle("a", cost_nano=11, tokens=None)
        assert not await two.is_settled_before(50)
        await two.release("b")
        assert await two.is_settled_before(50)
        [state] = await one.purses([PURSE.name])
        assert (state.spent_nano, state.held_nano) == (41, 0)
        assert [type(await two.place(claim(name, ONE))) for name in "xy"] == [Placed, SeatsTaken]


async def test_a_call_that_ended_while_the_server_lost_its_memory_leaves_no_trace(valkey: Server):
    async with joined(valkey) as counters:
        await counters.seed(PURSE, spent_nano=0, before_us=1)
        await counters.place(claim("a", ONE, purse=PURSE, hold=40))
        valkey.kill()
        await lost(counters)
        with pytest.raises(StoreUnavailable):
            await counters.settle("a", cost_nano=11, tokens=None)
        valkey.start()
        await until(lambda: _answers(counters, claim("b", ONE), Placed))
        await counters.release("b")
        assert standing(valkey) == 0
        await counters.seed(PURSE, spent_nano=11, before_us=50)
        await counters.seed(PURSE, spent_nano=11, before_us=50, is_confirmed=True)
        [state] = await counters.purses([PURSE.name])
        assert (state.spent_nano, state.held_nano, state.is_confirmed) == (11, 0, True)


async def test_a_server_that_came_back_with_an_old_memory_is_not_believed(valkey: Server):
    """It was restored from a snapshot, or is a replica that had not heard the last words."""
    async with joined(valkey) as counters:
        await counters.seed(PURSE, spent_nano=0, before_us=1)
        await counters.place(claim("ended since", ONE, purse=PURSE, hold=40))
        valkey.client.save()
        await counters.settle("ended since", cost_nano=30, tokens=None)
        await counters.place(claim("begun since", Seats("other", 1), purse=PURSE, hold=7))
        valkey.kill()
        await lost(counters)
        valkey.start()
        await reached(counters)
        assert await counters.place(claim("c", purse=PURSE)) == Unseeded((PURSE,))
        await counters.seed(PURSE, spent_nano=30, before_us=50)
        [state] = await counters.purses([PURSE.name])
        assert (state.spent_nano, state.held_nano) == (30, 7)
        assert isinstance(await counters.place(claim("d", ONE)), Placed)
        assert await counters.place(claim("e", Seats("other", 1))) == SeatsTaken(Seats("other", 1))


async def test_a_flushed_database_is_noticed_by_the_next_call(valkey: Server):
    async with joined(valkey) as counters:
        await counters.place(claim("a", ONE))
        valkey.client.flushall()
        assert await counters.place(claim("b", ONE)) == SeatsTaken(ONE)
        await counters.settle("a", cost_nano=0, tokens=None)
        assert isinstance(await counters.place(claim("b", ONE)), Placed)


async def test_forgotten_scripts_are_brought_again(valkey: Server):
    async with joined(valkey) as counters:
        await counters.place(claim("a", ONE))
        valkey.client.script_flush()
        assert await counters.place(claim("b", ONE)) == SeatsTaken(ONE)


async def test_a_sum_is_not_confirmed_when_an_earlier_claim_came_and_went_since_it_was_asked_for(valkey: Server):
    """Calls of a machine whose clock is late begin before the moment and are not in the sum that was read."""
    async with joined(valkey) as one, joined(valkey) as late:
        await one.seed(PURSE, spent_nano=5, before_us=100)
        assert await one.is_settled_before(100)
        sum_read_now = 5
        await late.place(claim("early", purse=PURSE, hold=30, began=90))
        await late.settle("early", cost_nano=20, tokens=None)
        await one.seed(PURSE, spent_nano=sum_read_now, before_us=100, is_confirmed=True)
        [state] = await one.purses([PURSE.name])
        assert (state.spent_nano, state.is_confirmed) == (25, False)
        assert await one.is_settled_before(100)
        await one.seed(PURSE, spent_nano=25, before_us=100, is_confirmed=True)
        [state] = await one.purses([PURSE.name])
        assert (state.spent_nano, state.is_confirmed) == (25, True)


async def test_a_sum_is_not_confirmed_while_an_earlier_claim_stands(valkey: Server):
    """Whoever tells it may have asked before that claim was registered again."""
    async with joined(valkey) as counters:
        await counters.place(claim("early", began=2))
        await counters.seed(PURSE, spent_nano=0, before_us=3)
        await counters.seed(PURSE, spent_nano=0, before_us=3, is_confirmed=True)
        [state] = await counters.purses([PURSE.name])
        assert not state.is_confirmed
        await counters.release("early")
        await counters.seed(PURSE, spent_nano=0, before_us=3, is_confirmed=True)
        [state] = await counters.purses([PURSE.name])
        assert state.is_confirmed


# ------------------------------------------------------------------------------------------------ other connections


async def test_a_connection_that_is_cut_is_replaced_without_losing_a_claim(valkey: Server):
    async with joined(valkey) as counters:
        await counters.place(claim("a", ONE))
        name = counters.session.name
        valkey.client.client_kill_filter(_type="normal", skipme=True)

        async def is_new() -> bool:
            return counters.session.name != name and not counters.trouble

        await until(is_new)
        assert await counters.place(claim("b", ONE)) == SeatsTaken(ONE)
        await counters.release("a")
        assert isinstance(await counters.place(claim("b", ONE)), Placed)


async def test_a_process_that_was_taken_for_dead_gets_back_what_was_not_handed_out(valkey: Server):
    async with joined(valkey) as late, joined(valkey) as other:
        await late.place(claim("a", Seats("a", 1)))
        await late.place(claim("b", Seats("b", 1)))
        epoch = late.session.epoch
        valkey.client.delete(f"{PREFIX}:{epoch}:mercy")

        async def has_one() -> bool:
            # Its next beat may be quicker than the question.
            valkey.client.zadd(f"{PREFIX}:{epoch}:owners", {late.session.name: 0})
            return bool(await other.orphans(1))

        [taken] = await _first(other, has_one)
        await late.settle("a", cost_nano=0, tokens=None)
        await late.settle("b", cost_nano=0, tokens=None)
        assert standing(valkey) == 1, "what was handed out is the other's to end"
        await other.release(taken)
        assert await late.is_settled_before(100)
        assert list(await other.orphans()) == []


async def _first(other: ValkeyCounters, has_one: Callable[[], Awaitable[bool]]) -> list[str]:
    before = set(other._live)
    await until(has_one)
    return [name for name in other._live if name not in before]


async def test_claims_are_nobodys_for_a_lease_after_the_server_was_away(valkey: Server):
    """All leases have run out meanwhile, and nobody has died."""
    async with joined(valkey) as one, joined(valkey) as two:
        await one.place(claim("a"))
        epoch = one.session.epoch
        valkey.client.delete(f"{PREFIX}:{epoch}:visited", f"{PREFIX}:{epoch}:mercy")
        valkey.client.zadd(f"{PREFIX}:{epoch}:owners", {one.session.name: 0})
        assert list(await two.orphans()) == []
        assert valkey.client.get(f"{PREFIX}:{epoch}:mercy") is not None


async def test_closing_leaves_standing_claims_to_others_at_once(valkey: Server):
    async with joined(valkey) as other:
        async with joined(valkey) as leaving:
            await leaving.place(claim("a"))
            valkey.client.delete(f"{PREFIX}:{leaving.session.epoch}:mercy")
        assert [orphan.id for orphan in await other.orphans()] == ["a"]


async def test_an_orphan_that_is_extended_ends_as_a_whole(valkey: Server):
    async with joined(valkey) as other:
        await other.seed(PURSE, spent_nano=0, before_us=1)
        async with joined(valkey) as leaving:
            await leaving.place(claim("a", ONE, purse=PURSE, hold=5))
            valkey.client.delete(f"{PREFIX}:{leaving.session.epoch}:mercy")
        assert [orphan.id for orphan in await other.orphans()] == ["a"]
        await other.place(claim("a", Seats("more", 1), purse=PURSE, hold=7), extends=True)
        await other.settle("a", cost_nano=9, tokens=None)
        [state] = await other.purses([PURSE.name])
        assert (state.spent_nano, state.held_nano) == (9, 0)
        assert isinstance(await other.place(claim("b", ONE, Seats("more", 1))), Placed)


# ------------------------------------------------------------------------------------------------- cancelled callers


async def test_a_placing_that_is_cancelled_holds_nothing(valkey: Server):
    """Wherever the cancellation falls: before it is sent, under way, or when the answer is there."""
    async with joined(valkey) as counters:
        loop = asyncio.get_running_loop()
        for turns in range(12):
            task = loop.create_task(counters.place(claim(f"c{turns}", ONE)))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            outcome = (await asyncio.gather(task, return_exceptions=True))[0]
            if isinstance(outcome, Placed):
                await counters.release(f"c{turns}")
            following = claim(f"n{turns}", ONE)
            await until(partial(_answers, counters, following, Placed))  # it may have been sent before the taking back
            await counters.release(following.id)
        await until(lambda: counters.is_settled_before(100))
        assert counters._live == {}


async def test_an_answer_that_arrives_as_its_caller_leaves_is_taken_back(valkey: Server):
    async with joined(valkey) as counters:
        task = asyncio.get_running_loop().create_task(counters.place(claim("a", ONE)))
        async with asyncio.timeout(SOON):
            while "a" not in counters._live:  # noqa: ASYNC110 - the turn in which the answer is heard, and its caller is not
                await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        if not task.cancelled():
            await counters.release("a")
        assert isinstance(await counters.place(claim("b", ONE)), Placed)


async def test_an_ending_that_is_cancelled_goes_on(valkey: Server):
    async with joined(valkey) as counters:
        loop = asyncio.get_running_loop()
        for turns in range(8):
            await counters.place(claim(f"c{turns}", ONE))
            task = loop.create_task(counters.release(f"c{turns}"))
            for _ in range(turns + 1):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert isinstance(await counters.place(claim(f"n{turns}", ONE)), Placed), turns
            await counters.release(f"n{turns}")


# ------------------------------------------------------------------------------------------------------- the edges


async def test_amounts_are_exact_up_to_the_largest_limit(valkey: Server):
    async with joined(valkey) as counters:
        edge = Purse("edge", MAX_LIMIT_NANO)
        await counters.seed(edge, spent_nano=MAX_LIMIT_NANO - 10_000_001, before_us=1)
        assert isinstance(await counters.place(claim("a", purse=edge, hold=10_000_000)), Placed)
        assert await counters.place(claim("b", purse=edge, hold=2)) == PurseEmpty(
            edge, spent_nano=MAX_LIMIT_NANO - 10_000_001, held_nano=10_000_000
        )
        assert isinstance(await counters.place(claim("b", purse=edge, hold=1)), Placed)
        [step] = await counters.settle("a", cost_nano=9_999_999, tokens=None)
        assert (step.before_nano, step.after_nano) == (MAX_LIMIT_NANO - 10_000_001, MAX_LIMIT_NANO - 2)
        [state] = await counters.purses(["edge"])
        assert (state.spent_nano, state.held_nano) == (MAX_LIMIT_NANO - 2, 1)


async def test_large_rates_are_exact(valkey: Server):
    async with joined(valkey) as counters:
        rate = Rate("tokens/large", 100_000_000, 99_999_999, "tokens")
        answer = await counters.place(claim_of(id="a", began_at_us=2, rates=(rate,)))
        assert isinstance(answer, Placed)
        assert answer.levels[0].remaining == 1


async def test_a_rate_refills_by_the_servers_clock(valkey: Server):
    async with joined(valkey) as counters:
        rate = Rate("requests/quick", 600, 600)
        assert isinstance(await counters.place(claim_of(id="a", began_at_us=2, rates=(rate,))), Placed)
        one_of = msgspec.structs.replace(rate, amount=1)
        await until(lambda: _answers(counters, claim_of(id="b", began_at_us=2, rates=(one_of,)), Placed))


async def test_a_server_that_evicts_is_complained_of(valkey: Server):
    async with joined(valkey) as counters:
        assert list(await counters.check()) == []
        valkey.client.config_set("maxmemory-policy", "allkeys-lru")
        [complaint] = await counters.check()
        assert "maxmemory-policy allkeys-lru" in complaint


async def test_a_full_server_refuses_and_forgets_nothing(valkey: Server):
    async with joined(valkey) as counters:
        await counters.seed(PURSE, spent_nano=0, before_us=1)
        await counters.place(claim("a", ONE, purse=PURSE, hold=10))
        valkey.client.config_set("maxmemory", 1)
        with pytest.raises(StoreUnavailable, match="OOM"):
            await counters.place(claim("b", purse=PURSE, hold=10))
        with pytest.raises(StoreUnavailable, match="OOM"):
            await counters.settle("a", cost_nano=4, tokens=None)
        valkey.client.config_set("maxmemory", 0)
        await until(lambda: counters.is_settled_before(100))
        [state] = await counters.purses([PURSE.name])
        assert (state.spent_nano, state.held_nano) == (4, 0)


def test_without_the_library_the_extra_is_named():
    program = """
import asyncio, sys
sys.modules["redis"] = None
from tollhouse.errors import NotInstalled
from tollhouse.policy.valkey import ValkeySettings, open_counters
try:
    asyncio.run(open_counters(ValkeySettings(url="redis://127.0.0.1")))
except NotInstalled as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert "tollhouse[valkey]" in done.stdout
