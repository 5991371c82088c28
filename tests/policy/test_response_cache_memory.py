"""Entries in memory: bounded by bytes that are counted truly, least recently used first, and no longer than they live."""

import gc
import tracemalloc
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollhouse.policy.response_cache import ENTRY_OVERHEAD_BYTES, LARGEST_SHARE, MAX_SWEPT, MemoryAnswers

TTL = 100.0


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def name(number: int) -> bytes:
    return number.to_bytes(32, "big")


def size(entry: bytes) -> int:
    return 32 + len(entry) + ENTRY_OVERHEAD_BYTES


async def test_the_least_recently_used_goes_first():
    one = MemoryAnswers(max_bytes=10 * size(b"x" * 20), ttl_seconds=TTL, monotonic=Clock())
    for number in range(10):
        await one.put(name(number), b"x" * 20)
    assert await one.get(name(0)) is not None
    await one.put(name(10), b"x" * 20)
    assert [number for number in range(11) if await one.get(name(number)) is None] == [1]


async def test_an_entry_ends_with_its_time():
    clock = Clock()
    one = MemoryAnswers(max_bytes=100_000, ttl_seconds=TTL, monotonic=clock)
    await one.put(name(1), b"x")
    clock.now = TTL - 0.1
    assert await one.get(name(1)) == b"x"
    clock.now = TTL
    assert await one.get(name(1)) is None
    assert (len(one), one.size_bytes) == (0, 0)


async def test_being_read_does_not_make_an_entry_live_longer():
    clock = Clock()
    one = MemoryAnswers(max_bytes=100_000, ttl_seconds=TTL, monotonic=clock)
    await one.put(name(1), b"x")
    for clock.now in range(0, 100, 10):
        assert await one.get(name(1)) == b"x"
    clock.now = TTL
    assert await one.get(name(1)) is None


async def test_being_put_again_does():
    clock = Clock()
    one = MemoryAnswers(max_bytes=100_000, ttl_seconds=TTL, monotonic=clock)
    await one.put(name(1), b"x")
    clock.now = 60
    await one.put(name(1), b"y")
    clock.now = 120
    assert await one.get(name(1)) == b"y"
    assert one.size_bytes == size(b"y")


async def test_expired_entries_make_room_a_few_at_a_time():
    """No call pays for all that expired together, and no living entry goes while there are expired ones to take."""
    clock = Clock()
    one = MemoryAnswers(max_bytes=1_000_000, ttl_seconds=TTL, monotonic=clock)
    for number in range(100):
        await one.put(name(number), b"x")
    clock.now = TTL
    for turn in range(1, 5):
        await one.put(name(100 + turn), b"y")
        assert len(one) == 100 - turn * MAX_SWEPT + turn


async def test_one_entry_takes_at_most_its_share():
    one = MemoryAnswers(max_bytes=80_000, ttl_seconds=TTL, monotonic=Clock())
    await one.put(name(1), b"small")
    largest = 80_000 // LARGEST_SHARE - size(b"")
    await one.put(name(2), b"x" * largest)
    await one.put(name(3), b"x" * (largest + 1))
    assert [await one.get(name(number)) is not None for number in (1, 2, 3)] == [True, True, False]


async def test_an_entry_that_has_grown_too_large_leaves_no_older_one_behind():
    one = MemoryAnswers(max_bytes=80_000, ttl_seconds=TTL, monotonic=Clock())
    await one.put(name(1), b"old")
    await one.put(name(1), b"x" * 80_000)
    assert await one.get(name(1)) is None
    assert one.size_bytes == 0


async def test_closing_forgets_everything():
    one = MemoryAnswers(max_bytes=80_000, ttl_seconds=TTL, monotonic=Clock())
    await one.put(name(1), b"x")
    await one.aclose()
    await one.aclose()
    assert await one.get(name(1)) is None
    assert one.size_bytes == 0


Step = tuple[str, int, int]
steps = st.lists(
    st.tuples(st.sampled_from(["get", "put", "wait"]), st.integers(0, 12), st.integers(0, 400)), max_size=60
)


@given(steps)
async def test_it_behaves_like_a_list_that_is_searched(script: Sequence[Step]):
    """The model is slow and obvious: a list in the order of use, a sum over it, a search."""
    clock = Clock()
    bound = 8 * size(b"x" * 200)
    one = MemoryAnswers(max_bytes=bound, ttl_seconds=TTL, monotonic=clock)
    model: list[tuple[int, bytes, float]] = []
    for word, number, amount in script:
        known = next((item for item in model if item[0] == number), None)
        if word == "wait":
            clock.now += amount / 8
        elif word == "get":
            got = await one.get(name(number))
            if known is not None and known[2] > clock.now:
                assert got == known[1]
                model.remove(known)
                model.append(known)
            else:
                assert got is None
                model = [item for item in model if item is not known]
        else:
            entry = b"x" * amount
            await one.put(name(number), entry)
            model = [item for item in model if item is not known]
            if size(entry) <= bound // LARGEST_SHARE:
                expired = sorted((item for item in model if item[2] <= clock.now), key=lambda item: item[2])[:MAX_SWEPT]
                model = [item for item in model if item not in expired]
                while sum(size(item[1]) for item in model) + size(entry) > bound:
                    model.pop(0)
                model.append((number, entry, clock.now + TTL))
        assert one.size_bytes == sum(size(item[1]) for item in model) <= bound
        assert len(one) == len(model)


@pytest.mark.parametrize("count", [100, 1400, 5000, 11_000])
@pytest.mark.parametrize("length", [50, 1500])
async def test_sizes_are_counted_truly(count: int, length: int):
    """What it says it holds is at least what Python gave it, and not much more; also just after a table has grown."""
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        one = MemoryAnswers(max_bytes=1 << 40, ttl_seconds=TTL, monotonic=Clock())
        for number in range(count):
            await one.put(name(number), number.to_bytes(4, "big") * (length // 4))
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert taken <= one.size_bytes <= 1.5 * taken
