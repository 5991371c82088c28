"""Counters in shared memory against the naive model."""

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from hypothesis import settings

from support.counters_contract import Bench
from support.counters_machine import CountersMachine
from support.shared_counters import SharedBench


class SharedMachine(CountersMachine):
    @asynccontextmanager
    async def make_bench(self) -> AsyncIterator[Bench]:
        with tempfile.TemporaryDirectory() as folder:
            bench = SharedBench(Path(folder), meters=128, purses=16)
            yield bench
            await bench.aclose()


TestSharedCountersAgainstTheModel = SharedMachine.TestCase
TestSharedCountersAgainstTheModel.settings = settings(max_examples=60, stateful_step_count=40)
