"""Tollhouses behind this one: a sign of life from each, every so often, beside what calls show of them.

A provider is asked nothing while nobody calls it; another gateway can be, for a sign of life costs it nothing and needs no key.
Routing does not ask here: a call that fails goes on to the next candidate by itself.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from tollhouse.config.schema import Config
from tollhouse.errors import ConfigError, ProviderError, TollhouseError
from tollhouse.providers.provider import Provider
from tollhouse.providers.registry import build
from tollhouse.providers.tollhouse import LIVE_PATH, TYPE
from tollhouse.telemetry import logs
from tollhouse.upstream.address import BadAddress, parse_address, target
from tollhouse.upstream.availability import Availability, Change, Report, State
from tollhouse.upstream.transport import Address, Deadlines, Outgoing, Transport

INTERVAL_SECONDS: Final = 30.0
PROBE_SECONDS: Final = 10.0
"""A sign of life that takes longer is none."""
MAX_LIVE_BYTES: Final = 64 * 1024

log = logs.get("server")


@dataclass(frozen=True, slots=True)
class _Peer:
    """One of them."""

    provider: Provider
    address: Address
    transport: Transport
    availability: Availability


class Chained:
    """All of them.  `watch` takes over a configuration; `aclose` ends it.  Belongs to one event loop."""

    def __init__(
        self,
        transport: Callable[[str | None], Transport],
        *,
        monotonic: Callable[[], float] = time.monotonic,
        interval_seconds: float = INTERVAL_SECONDS,
    ) -> None:
        """`transport` gives the one that goes through a proxy, or through none."""
        self._transport = transport
        self._monotonic = monotonic
        self._interval = interval_seconds
        self._peers: dict[str, _Peer] = {}
        self._task: asyncio.Task[None] | None = None

    def watch(self, config: Config) -> None:
        """Looks after the Tollhouses of this configuration from now on; what is known of those that stay is kept."""
        peers: dict[str, _Peer] = {}
        for name, settings in config.providers.items():
            if settings.type != TYPE:
                continue
            try:
                provider = build(settings)
                address = parse_address(provider.base_url)
            except (ConfigError, BadAddress):
                continue  # the configuration was refused for that already
            known = self._peers.get(name)
            same = known is not None and known.address == address
            availability = known.availability if known is not None and same else Availability(self._monotonic())
            peers[name] = _Peer(provider, address, self._transport(settings.proxy), availability)
        self._peers = peers
        if peers and (self._task is None or self._task.done()):
            self._task = asyncio.get_running_loop().create_task(self._run())

    def reports(self) -> Mapping[str, Report]:
        """How each is, by the name of its provider."""
        now = self._monotonic()
        return {name: peer.availability.report(now) for name, peer in self._peers.items()}

    def states(self) -> Mapping[str, str]:
        """The same in a word."""
        return {name: peer.availability.state.value for name, peer in self._peers.items()}

    async def look(self) -> None:
        """One look at each, all at the same time."""
        async with asyncio.TaskGroup() as group:
            for name, peer in self._peers.items():
                group.create_task(self._ask(name, peer))

    async def aclose(self) -> None:
        """Looks no longer.  Idempotent."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait({task})

    async def _run(self) -> None:
        while self._peers:
            await self.look()
            await asyncio.sleep(self._interval)

    async def _ask(self, name: str, peer: _Peer) -> None:
        began = self._monotonic()
        try:
            await _live(peer)
        except TollhouseError as error:
            change = peer.availability.missed(self._monotonic(), error.code)
        else:
            now = self._monotonic()
            change = peer.availability.answered(now, now - began)
        if change is not None:
            _tell(name, change)


async def _live(peer: _Peer) -> None:
    """Raises `ProviderError` if there is no sign of life."""
    request = Outgoing(
        address=peer.address,
        method=b"GET",
        target=target(peer.address, LIVE_PATH),
        headers=[(b"accept", b"application/json")],  # no credential: it needs none
        body=b"",
    )
    deadlines = Deadlines(
        connect=PROBE_SECONDS, first_byte=PROBE_SECONDS, between_chunks=PROBE_SECONDS, total=PROBE_SECONDS
    )
    incoming = await peer.transport.send(request, deadlines)
    try:
        await incoming.read_all(MAX_LIVE_BYTES)
    finally:
        incoming.close()
    if incoming.status >= 300:
        raise ProviderError(f"It answered {incoming.status}.", provider=peer.provider.name, status=incoming.status)


def _tell(name: str, change: Change) -> None:
    told = {
        "provider": name,
        "from": change.before.value,
        "to": change.now.value,
        "cause": change.cause,
        "lasted_seconds": round(change.seconds_in_state, 1),
    }
    if change.now is State.UP:
        log.info("the Tollhouse behind this one is up", extra=told)
    else:
        log.warning("the Tollhouse behind this one is %s", change.now.value, extra=told)
