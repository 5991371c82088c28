"""What is read of the gateway's parts when somebody scrapes `/metrics`, or when a worker writes its report.

Each function looks at one part and puts down what it is.  They change nothing and wait for nothing; all but `House` may be
called on the event loop and from another thread.  What a worker has for itself goes into its report; what the gateway has
once is read by the process that answers the scrape, so that it is not added up.
"""

import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tollhouse._version import __version__
from tollhouse.config.schema import Config
from tollhouse.errors import ConfigError, StoreUnavailable
from tollhouse.ledger.address import journal_name, state_folder
from tollhouse.ledger.journal import waiting_bytes
from tollhouse.policy.response_cache import MemoryAnswers
from tollhouse.policy.rules import in_windows
from tollhouse.policy.waits import Waits
from tollhouse.providers.provider import Provider
from tollhouse.server.admin.office import Office
from tollhouse.server.embedded import ModelLives
from tollhouse.server.stores import Stores
from tollhouse.server.wiring import Engine
from tollhouse.telemetry import logs, readings
from tollhouse.telemetry.bodies import BodyStore
from tollhouse.telemetry.outlet import Outlet
from tollhouse.telemetry.readings import Readings
from tollhouse.upstream.address import parse_address
from tollhouse.upstream.health import ProviderHealth
from tollhouse.upstream.transport import Transport
from tollhouse.upstream.wire import WireTransport

MAX_BUDGETS: Final = 100
"""Budgets of the configuration that are shown: the first ones.  Those of keys are not, for there may be thousands."""
OTHER: Final = "other"
"""Connections to what is no provider of the configuration any more, and to issuers of tokens."""
NANO: Final = 1e9
_PYTHON: Final = ".".join(map(str, sys.version_info[:3]))


# ------------------------------------------------------------------------------------------------------- a worker's own


def note_process(to: Readings) -> None:
    """The process that this runs in, which answers calls."""
    to.put(readings.WORKERS, 1)
    to.put(readings.CPU, time.process_time())
    resident = resident_bytes()
    if resident is not None:
        to.put(readings.MEMORY, resident)
    to.put(readings.BUILD, 1, __version__, _PYTHON)


def resident_bytes() -> int | None:
    """This process's resident memory; `None` where the system does not tell (proc(5): the second number of `statm`)."""
    try:
        pages = Path("/proc/self/statm").read_bytes().split()[1]
    except (OSError, IndexError):
        return None
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def note_stores(to: Readings, stores: Stores) -> None:
    """The ledger, the register of keys, the counters."""
    to.put_all(readings.STORE_UP, [((name,), float(state == "ok")) for name, state in stores.states().items()])
    ledger = stores.books.state()
    for fate, rows in (
        ("written", ledger.written_rows),
        ("journaled", ledger.journaled_rows),
        ("replayed", ledger.replayed_rows),
        ("failed", ledger.failed_rows),
    ):
        to.put(readings.LEDGER_ROWS, rows, fate)
    to.put(readings.LEDGER_QUEUED, ledger.queued_rows)
    if stores.outage is not None:
        to.put(readings.OWED, stores.outage.state().owed_endings)


def note_waits(to: Readings, waits: Waits) -> None:
    """What limits do to calls."""
    to.put(readings.WAITING, waits.now)
    to.put(readings.WAITED, waits.began)
    to.put(readings.WAITED_SECONDS, waits.seconds)
    to.put_all(readings.LIMITED, dict(waits.limited).items())


def note_sharing(to: Readings, engine: Engine) -> None:
    """Kept answers and shared calls, where there are such."""
    if engine.answers is not None:
        shares, (_, answers) = engine.shares, engine.answers
        to.put(readings.CACHE_ANSWERS, shares.hits, "hit")
        to.put(readings.CACHE_ANSWERS, shares.misses, "miss")
        to.put(readings.CACHE_ANSWERS, shares.off, "off")
        if isinstance(answers, MemoryAnswers):
            to.put(readings.CACHE_BYTES, answers.size_bytes)
            to.put(readings.CACHE_ENTRIES, len(answers))
        else:
            to.put(readings.STORE_UP, float(not answers.is_away), "cache")
    if engine.coalescer is not None:
        to.put(readings.COALESCED, engine.coalescer.joined)
        to.put(readings.FLIGHTS, len(engine.coalescer))


def places_of(providers: Iterable[Provider]) -> Mapping[str, str]:
    """Which provider stands for the connections to a place: of several at one, the first."""
    names: dict[str, str] = {}
    for provider in providers:
        names.setdefault(parse_address(provider.base_url).where, provider.name)
    return names


def note_connections(to: Readings, transports: Iterable[Transport], places: Mapping[str, str]) -> None:
    """The connections to providers that were called, and the look-ups of names.  `places` is `places_of` them."""
    busy: Counter[str] = Counter()
    idle: Counter[str] = Counter()
    waiting: Counter[str] = Counter()
    found = failed = under_way = 0
    for transport in transports:
        if not isinstance(transport, WireTransport):
            continue
        for origin in transport.pools():
            name = places.get(origin.where, OTHER)
            busy[name] += origin.open - origin.idle
            idle[name] += origin.idle
            waiting[name] += origin.waiting
        found += transport.names.found
        failed += transport.names.failed
        under_way += transport.names.under_way
    for name in busy:
        to.put(readings.CONNECTIONS, busy[name], name, "busy")
        to.put(readings.CONNECTIONS, idle[name], name, "idle")
        to.put(readings.CONNECTIONS_WAITED_FOR, waiting[name], name)
    to.put(readings.LOOK_UPS, found, "ok")
    to.put(readings.LOOK_UPS, failed, "failed")
    to.put(readings.LOOKING_UP, under_way)


def note_losses(
    to: Readings, stores: Stores, *, calls_log: Outlet | None, bodies: BodyStore | None, lost_spans: int | None
) -> None:
    """What was lost on its way out of this process; what is not there loses nothing, and is not named."""
    to.put(readings.LOST, logs.lost_lines(), "log")
    to.put(readings.LOST, stores.alerts.lost, "alerts")
    to.put(readings.LOST, stores.trail.state().dropped, "audit")
    if calls_log is not None:
        to.put(readings.LOST, calls_log.state().dropped_lines, "calls_log")
    if lost_spans is not None:
        to.put(readings.LOST, lost_spans, "spans")
    if bodies is not None:
        state = bodies.state()
        to.put(readings.LOST, state.dropped, "bodies")
        to.put(readings.BODIES_REFUSED, state.refused)


# ----------------------------------------------------------------------------------------------- what the gateway has once


def note_providers(to: Readings, providers: Sequence[ProviderHealth]) -> None:
    """How the providers are, in the opinion of the whole gateway."""
    for health in providers:
        for state in readings.PROVIDER_STATES:
            to.put(readings.PROVIDER_STATE, float(state == health.state), health.provider, state)
        to.put(readings.PROVIDER_FAULTS, health.consecutive_faults, health.provider)
        if health.last_success_at_seconds is not None:
            to.put(readings.PROVIDER_SUCCESS, health.last_success_at_seconds, health.provider)


def note_journals(to: Readings, config: Config, environ: Mapping[str, str]) -> None:
    """What waits on this machine for the ledger.  `config` is the one that the process began with."""
    url = config.ledger.url
    folder = state_folder(url, config.ledger.state_folder, environ)
    with suppress(OSError):
        to.put(readings.JOURNAL_BYTES, waiting_bytes(folder, journal_name(url)))


@dataclass(frozen=True, slots=True, kw_only=True)
class House:
    """What only the process knows that a person started, and only its admin listener shows: money, and other processes."""

    office: Office
    models: ModelLives = field(default_factory=ModelLives)
    restarts: Callable[[], int] = lambda: 0
    """How often workers were started again."""
    was_reload_good: Callable[[], bool] = lambda: True
    """Whether the configuration file was good when this process last read it."""

    def readings(self) -> Readings:
        """For a thread: the counters and the ledger are asked on the event loop, for some seconds at most."""
        found = Readings()
        for provider, now in dict(self.models.states).items():
            for state in readings.MODEL_STATES:
                found.put(readings.MODEL_STATE, float(state == now), provider, state)
            found.put(readings.MODEL_DEATHS, self.models.deaths.get(provider, 0), provider)
        found.put(readings.WORKER_RESTARTS, self.restarts())
        found.put(readings.RELOADED, float(self.was_reload_good()))
        self._note_budgets(found)
        return found

    def _note_budgets(self, to: Readings) -> None:
        office = self.office
        now_us = time.time_ns() // 1000
        settings = [each for each in office.config().budgets if each.scope.kind != "key"]
        budgets = {budget.purse.name: budget for budget in in_windows(settings, now_us)[:MAX_BUDGETS]}
        if not budgets:
            return
        labels = {
            name: (budget.name, "hard" if budget.settings.is_hard else "soft") for name, budget in budgets.items()
        }
        for name, budget in budgets.items():
            to.put(readings.BUDGET_LIMIT, budget.settings.limit_nano / NANO, *labels[name])
        try:
            states = office.wait_for(lambda: office.purses(list(budgets)))
        except (StoreUnavailable, ConfigError):
            return  # the limit is known all the same, and `tollhouse_store_up` says why nothing else is
        for state in states:
            to.put(readings.BUDGET_SPENT, state.spent_nano / NANO, *labels[state.name])
            to.put(readings.BUDGET_HELD, state.held_nano / NANO, *labels[state.name])
        idle = budgets.keys() - {state.name for state in states}

        async def look() -> list[tuple[str, int]]:
            # Nobody has called under them in this window, or since the start: then only the ledger knows.
            return [
                (name, await office.spent(budget.settings.scope, budget.from_us, now_us + 1))
                for name, budget in budgets.items()
                if name in idle
            ]

        with suppress(StoreUnavailable, ConfigError):
            for name, spent_nano in office.wait_for(look) if idle else ():
                to.put(readings.BUDGET_SPENT, spent_nano / NANO, *labels[name])
                to.put(readings.BUDGET_HELD, 0, *labels[name])
