"""Counters on a real server whose scripts are given a clock that stands still until it is moved."""

from support.counters_contract import START_US
from support.valkey import Server
from support.valkey_child import CLOCK_KEY, HAND_CLOCK
from tollhouse.policy.counters import Counters
from tollhouse.policy.valkey import ValkeySettings
from tollhouse.policy.valkey.scripts import load
from tollhouse.policy.valkey.session import PREFIX
from tollhouse.policy.valkey.store import ValkeyCounters

PATIENT = 5.0
LEASE_US = 60_000_000


class ValkeyBench:
    """Several processes' views of one server."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._scripts = load(HAND_CLOCK)
        self._opened: list[ValkeyCounters] = []
        server.client.set(CLOCK_KEY, START_US)

    async def open(self) -> Counters:
        settings = ValkeySettings(
            url=self._server.url, connect_seconds=PATIENT, call_seconds=PATIENT, lease_seconds=LEASE_US / 1e6
        )
        counters = ValkeyCounters.start(settings, self._scripts)
        self._opened.append(counters)
        await counters.purses([])  # it has joined
        return counters

    async def kill(self, counters: Counters) -> None:
        assert isinstance(counters, ValkeyCounters)
        await counters.abort()
        if counters in self._opened:
            self._opened.remove(counters)
        client, epoch = self._server.client, counters.session.epoch
        # As if the seconds had gone by in which its lease runs out, and all others renew theirs.
        client.zadd(f"{PREFIX}:{epoch}:owners", {counters.session.name: 0})
        client.delete(f"{PREFIX}:{epoch}:mercy")

    def advance(self, seconds: float) -> None:
        now = self._server.client.incrby(CLOCK_KEY, round(seconds * 1_000_000))
        for counters in self._opened:
            # Meanwhile the living have renewed their leases.
            owners = f"{PREFIX}:{counters.session.epoch}"
            self._server.client.zadd(f"{owners}:owners", {counters.session.name: now + LEASE_US}, xx=True)
            self._server.client.set(f"{owners}:visited", now)

    async def close(self) -> None:
        for counters in self._opened:
            await counters.aclose()
