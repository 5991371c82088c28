"""The pool's bookkeeping, without sockets: slots are conserved whatever the order of events."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from tollhouse.upstream.pool import Pool


class Held:
    """A connection as far as the pool is concerned."""

    def __init__(self) -> None:
        self.closed = False


def test_idle_connections_come_back_last_in_first_out():
    pool: Pool[Held] = Pool(3)
    assert [pool.take_slot() for _ in range(4)] == [True, True, True, False]
    a, b, c = Held(), Held(), Held()
    for held in (a, b, c):
        pool.release(held)
    pool.forget_idle(b)
    assert [pool.take_idle(), pool.take_idle(), pool.take_idle()] == [c, a, None]


async def test_the_first_in_line_is_served_first():
    pool: Pool[Held] = Pool(1)
    assert pool.take_slot()
    a = Held()
    async with asyncio.TaskGroup() as group:
        first, second = group.create_task(pool.wait()), group.create_task(pool.wait())
        await asyncio.sleep(0)
        pool.release(a)
        await asyncio.sleep(0)
        assert (first.done(), second.done()) == (True, False)
        pool.vacate()
    assert (first.result(), second.result(), pool.open_slots) == (a, None, 1)


async def test_what_was_handed_to_a_cancelled_waiter_goes_to_the_next():
    """Handed over and cancelled in the same turn of the loop: neither a connection nor a slot may be lost."""
    for handed in (Held(), None):
        pool: Pool[Held] = Pool(1)
        assert pool.take_slot()
        async with asyncio.TaskGroup() as group:
            first, second = group.create_task(pool.wait()), group.create_task(pool.wait())
            await asyncio.sleep(0)
            if handed is None:
                pool.vacate()
            else:
                pool.release(handed)
            first.cancel()
        assert first.cancelled()
        assert second.result() == handed
        assert pool.waiting == 0


async def test_a_connection_that_died_on_its_way_to_a_cancelled_waiter_is_not_kept():
    """It vacated its slot when it closed; as an idle one it would swallow the next request."""
    pool: Pool[Held] = Pool(1)
    assert pool.take_slot()
    async with asyncio.TaskGroup() as group:
        waiter = group.create_task(pool.wait())
        await asyncio.sleep(0)
        held = Held()
        pool.release(held)
        held.closed = True
        pool.vacate()
        waiter.cancel()
    assert (pool.take_idle(), pool.open_slots) == (None, 0)


@given(st.lists(st.sampled_from(["take", "wait", "release", "vacate", "cancel", "turn"]), max_size=40))
def test_slots_are_conserved(steps: list[str]):
    """Taken slots = connections that somebody holds + idle ones + those handed over and not yet seen."""

    async def run() -> None:
        pool: Pool[Held] = Pool(2)
        held: list[Held] = []
        waiting: list[asyncio.Task[Held | None]] = []
        async with asyncio.TaskGroup() as group:
            for step in steps:
                if step == "take":
                    idle = pool.take_idle()
                    if idle is not None:
                        held.append(idle)
                    elif pool.take_slot():
                        held.append(Held())
                elif step == "wait" and pool.open_slots == 2 and not pool.idle_connections:
                    waiting.append(group.create_task(pool.wait()))
                elif step == "release" and held:
                    pool.release(held.pop())
                elif step == "vacate" and held:
                    held.pop()
                    pool.vacate()
                elif step == "cancel" and waiting:
                    waiting[0].cancel()
                await asyncio.sleep(0)
                for task in [task for task in waiting if task.done()]:
                    waiting.remove(task)
                    if not task.cancelled():
                        held.append(task.result() or Held())
                assert pool.open_slots == len(held) + pool.idle_connections
                assert pool.open_slots <= 2
            for task in waiting:
                task.cancel()

    with asyncio.Runner() as runner:
        runner.run(run())
