"""Look-ups: off the loop, shared, kept for a while, and bounded.  The resolver is a function of the test's choice."""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Awaitable

import pytest

from support.towns import Directory, SilentDirectory, comes_true
from tollhouse.upstream.names import (
    KEPT_SECONDS,
    MAX_ADDRESSES,
    MAX_KEPT_NAMES,
    MAX_LOOK_UPS,
    MAX_NAMES_ASKED,
    Answer,
    Names,
    Unresolved,
    resolve_by_system,
)

HOST = "api.example"
ONE, OTHER = ("192.0.2.1",), ("192.0.2.2",)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def silent() -> AsyncIterator[SilentDirectory]:
    """A resolver that hangs; released when the test is over, so that its threads end."""
    directory = SilentDirectory(ONE)
    yield directory
    directory.release()


async def failing(asking: Awaitable[Answer]) -> str:
    """Why a look-up failed."""
    with pytest.raises(Unresolved) as caught:
        await asking
    return str(caught.value)


def test_the_system_gives_each_address_once():
    assert resolve_by_system("127.0.0.1") == ("127.0.0.1",)
    assert {"127.0.0.1", "::1"}.issuperset(resolve_by_system("localhost"))


async def test_an_answer_is_kept_until_it_is_too_old():
    clock = Clock()
    names = Names(directory := Directory(ONE, OTHER), clock=clock)
    first = await names.ask(HOST)
    clock.now += KEPT_SECONDS - 0.01
    assert names.kept(HOST) is first
    clock.now += 0.01
    assert names.kept(HOST) is None
    assert (await names.ask(HOST)).addresses == OTHER
    assert directory.asked == [HOST, HOST]


async def test_a_failure_is_not_kept():
    names = Names(Directory(socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"), ONE))
    with pytest.raises(Unresolved, match=r"^temporary failure in name resolution$"):
        await names.ask(HOST)
    assert names.kept(HOST) is None
    assert (await names.ask(HOST)).addresses == ONE


async def test_callers_who_need_one_name_share_one_look_up(silent: SilentDirectory):
    names = Names(silent)
    async with asyncio.TaskGroup() as group:
        callers = [group.create_task(names.ask(HOST)) for _ in range(20)]
        await comes_true(lambda: silent.asked == [HOST])
        silent.release()
    assert len({id(caller.result()) for caller in callers}) == 1
    assert silent.asked == [HOST]


async def test_callers_of_a_name_that_fails_each_get_an_error_of_their_own():
    names = Names(Directory(OSError("no such name")))
    outcomes = await asyncio.gather(names.ask(HOST), names.ask(HOST), return_exceptions=True)
    assert [str(outcome) for outcome in outcomes] == ["no such name"] * 2
    assert outcomes[0] is not outcomes[1]


async def test_a_caller_who_leaves_takes_nothing_from_the_others(silent: SilentDirectory):
    names = Names(silent)
    async with asyncio.TaskGroup() as group:
        leaving, staying = group.create_task(names.ask(HOST)), group.create_task(names.ask(HOST))
        await comes_true(lambda: silent.asked == [HOST])
        leaving.cancel()
        await asyncio.wait([leaving])
        silent.release()
    assert leaving.cancelled()
    assert staying.result().addresses == ONE


async def test_an_answer_that_nobody_waits_for_any_more_is_kept(silent: SilentDirectory):
    names = Names(silent)
    async with asyncio.TaskGroup() as group:
        leaving = group.create_task(names.ask(HOST))
        await comes_true(lambda: silent.asked == [HOST])
        leaving.cancel()
    silent.release()
    await comes_true(lambda: names.kept(HOST) is not None)
    assert names.under_way == 0


async def test_dropping_an_answer_leaves_a_newer_one():
    names = Names(Directory(ONE, OTHER))
    first = await names.ask(HOST)
    names.drop(first)
    assert names.kept(HOST) is None
    second = await names.ask(HOST)
    names.drop(first)
    assert names.kept(HOST) is second


async def test_silent_names_hold_up_neither_the_default_executor_nor_names_beyond_the_bound(silent: SilentDirectory):
    names = Names(silent)
    async with asyncio.TaskGroup() as group:
        for number in range(MAX_LOOK_UPS + 3):
            group.create_task(names.ask(f"{number}.example"))
        await comes_true(lambda: len(silent.asked) == MAX_LOOK_UPS)
        assert await asyncio.get_running_loop().run_in_executor(None, threading.active_count) > MAX_LOOK_UPS
        assert len(silent.asked) == MAX_LOOK_UPS
        assert names.under_way == MAX_LOOK_UPS + 3
        silent.release()
    assert len(silent.asked) == MAX_LOOK_UPS + 3
    assert names.under_way == 0


async def test_look_ups_run_in_threads_of_their_own():
    names = Names(directory := Directory(ONE))
    await names.ask(HOST)
    assert directory.threads == {"tollhouse-name"}


async def test_names_under_way_are_bounded(silent: SilentDirectory):
    names = Names(silent)
    async with asyncio.TaskGroup() as group:
        for number in range(MAX_NAMES_ASKED):
            group.create_task(names.ask(f"{number}.example"))
        await comes_true(lambda: names.under_way == MAX_NAMES_ASKED)
        with pytest.raises(Unresolved, match="names are being looked up already"):
            await names.ask(HOST)
        silent.release()


async def test_kept_answers_and_their_addresses_are_bounded():
    many = tuple(f"192.0.2.{number}" for number in range(MAX_ADDRESSES + 1))
    names = Names(Directory(many))
    for number in range(MAX_KEPT_NAMES + 1):
        await names.ask(f"{number}.example")
    assert names.kept("0.example") is None
    kept = names.kept(f"{MAX_KEPT_NAMES}.example")
    assert isinstance(kept, Answer)
    assert kept.addresses == many[:MAX_ADDRESSES]
    assert names.kept("1.example") is not None


@pytest.mark.parametrize(
    ("resolve", "why"),
    [
        (Directory(()), "it has no address"),
        (int, "the resolver failed with ValueError"),
    ],
    ids=["empty", "broken"],
)
async def test_a_resolver_that_gives_nothing_of_use_is_a_failure(resolve, why: str):
    with pytest.raises(Unresolved, match=f"^{why}$"):
        await Names(resolve).ask(HOST)


async def test_closing_ends_those_who_wait_and_hears_of_no_thread_any_more(silent: SilentDirectory):
    names = Names(silent)
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(failing(names.ask(HOST)))
        await comes_true(lambda: silent.asked == [HOST])
        names.close()
    assert waiting.result() == "the names are closed"
    silent.release()
    await comes_true(lambda: not any(thread.name == "tollhouse-name" for thread in threading.enumerate()))
    await asyncio.sleep(0)  # the thread's last word
    assert names.kept(HOST) is None
    with pytest.raises(Unresolved, match="closed"):
        await names.ask(HOST)


def test_a_loop_that_is_closed_before_its_look_up_ends_is_not_missed():
    """A thread hangs on while the process ends; nothing may be raised in it (pytest makes that an error)."""
    silent = SilentDirectory()

    async def leave() -> None:
        async with asyncio.TaskGroup() as group:
            asking = group.create_task(Names(silent).ask(HOST))
            await comes_true(lambda: silent.asked == [HOST])
            asking.cancel()

    asyncio.run(leave())
    silent.release()
    for thread in threading.enumerate():
        if thread.name == "tollhouse-name":
            thread.join()
