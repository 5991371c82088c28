"""Counters in Valkey keep the contract, and agree with the model, on every real server that can be had."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from hypothesis import settings

from support.counters_contract import Bench, CountersContract
from support.counters_machine import CountersMachine
from support.valkey import Server, any_valkey, any_valkey_server, valkey, valkey_server
from support.valkey_bench import ValkeyBench

__all__ = ["any_valkey", "any_valkey_server", "valkey", "valkey_server"]


@pytest.fixture
async def bench(any_valkey: Server) -> AsyncIterator[ValkeyBench]:
    bench = ValkeyBench(any_valkey)
    try:
        yield bench
    finally:
        await bench.close()


class TestValkeyCounters(CountersContract):
    """All of the contract."""


class ValkeyMachine(CountersMachine):
    server: Server

    @asynccontextmanager
    async def make_bench(self) -> AsyncIterator[Bench]:
        self.server.clear()
        bench = ValkeyBench(self.server)
        try:
            yield bench
        finally:
            await bench.close()


@pytest.fixture(autouse=True)
def machines_server(valkey: Server) -> None:
    ValkeyMachine.server = valkey


TestValkeyCountersAgainstTheModel = ValkeyMachine.TestCase
TestValkeyCountersAgainstTheModel.settings = settings(max_examples=25, stateful_step_count=40)
