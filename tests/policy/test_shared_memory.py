"""Counters in shared memory: the contract, and what is theirs alone."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.counters_contract import CountersContract
from support.shared_counters import SharedBench


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[SharedBench]:
    made = SharedBench(tmp_path)
    yield made
    await made.aclose()


class TestSharedCounters(CountersContract):
    """All of the contract."""
