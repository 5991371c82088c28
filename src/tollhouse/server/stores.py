"""What a worker keeps outside itself: the ledger, the counters, the register of keys.

All of it outlives a reload.  What is away when a worker starts is waited for in the background: a gateway serves from what it
knows, and says what it misses.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Self

from tollhouse.config.schema import Config, Scope
from tollhouse.errors import StoreUnavailable
from tollhouse.ledger.address import state_folder
from tollhouse.ledger.belongings import Belongings
from tollhouse.ledger.books_state import BooksWatch
from tollhouse.ledger.kept_responses import KeepingBounds, ResponseShelf
from tollhouse.ledger.reading import Reader
from tollhouse.ledger.record import CallRecord
from tollhouse.ledger.spending import SpendReader
from tollhouse.ledger.writer import LedgerWriter, WriterSettings
from tollhouse.policy.admission import Admission
from tollhouse.policy.alerts import Alerts
from tollhouse.policy.counters import Counters
from tollhouse.policy.directory import Directory, open_directory
from tollhouse.policy.outage import OutlivingCounters
from tollhouse.policy.recovery import Recovery
from tollhouse.policy.settling import SettlesNow, SettlesSoon
from tollhouse.policy.valkey import ValkeySettings, open_counters
from tollhouse.server.counting import join_counters
from tollhouse.telemetry.audit import Trail
from tollhouse.upstream.wire import WireTransport

HOUSEKEEPING_SECONDS: Final = 1.0

log = logging.getLogger("tollhouse.server")


class Past:
    """What the ledger knows: `gate.Spent` and `recovery.Rows`."""

    def __init__(self, reader: SpendReader, books: LedgerWriter) -> None:
        self._reader = reader
        self._books = books

    async def spent(self, scope: Scope, from_us: int, before_us: int) -> int:
        """See `SpendReader.spent`."""
        return await self._reader.spent(scope, from_us, before_us)

    async def costs_of(self, ids: Iterable[str]) -> Mapping[str, int]:
        """See `SpendReader.costs_of`."""
        return await self._reader.costs_of(ids)

    @property
    def is_complete(self) -> bool:
        """Whether no row of this process waits in a journal."""
        return self._books.state().status == "ok"


@dataclass(slots=True, kw_only=True)
class Stores:
    """The parts.  `open` makes them, `aclose` ends them in the right order."""

    books: LedgerWriter
    past: Past
    counters: Counters
    settler: SettlesNow | SettlesSoon
    directory: Directory
    alerts: Alerts
    trail: Trail
    """The audit log."""
    ratings: BooksWatch
    """Whether calls were rated again."""
    responses: ResponseShelf
    """Answers that clients may go on from."""
    belongings: Belongings
    """Whose what is stored at providers is."""
    folder: Path
    """Where this machine keeps its state."""
    outage: OutlivingCounters | None
    """The counters again, where several machines share them."""
    _stack: AsyncExitStack

    @classmethod
    async def open(
        cls, config: Config, environ: Mapping[str, str], *, on_cut: Callable[[frozenset[str]], None]
    ) -> Self:
        """Opens everything.  Raises `ConfigError` for what cannot be used at all.

        `on_cut` is told, on the loop, the names of keys whose calls in flight are to be ended.
        """
        loop = asyncio.get_running_loop()
        url = config.ledger.url
        folder = state_folder(url, config.ledger.state_folder, environ)
        async with AsyncExitStack() as stack:
            transport = WireTransport()
            stack.push_async_callback(transport.aclose)
            alerts = Alerts(transport)
            stack.push_async_callback(alerts.aclose)
            watched = Reader(url)
            stack.push_async_callback(watched.aclose)
            responses = ResponseShelf(url)
            stack.push_async_callback(responses.aclose)
            belongings = Belongings(url)
            stack.push_async_callback(belongings.aclose)
            trail = Trail.of(url)
            stack.push_async_callback(trail.aclose)
            counters = join_counters(url, folder)
            stack.push_async_callback(counters.aclose)
            outage: OutlivingCounters | None = None
            if config.state.url is None:
                settler: SettlesNow | SettlesSoon = SettlesNow(counters, defer=loop.call_soon)
            else:
                shared = await open_counters(ValkeySettings(url=config.state.url))
                # `past` is made below; a task of its own asks for it, and that runs at the next `await` at the earliest.
                outage = OutlivingCounters.start(
                    shared, counters, config.state, is_ledger_complete=lambda: past.is_complete
                )
                stack.push_async_callback(outage.aclose)
                settler = SettlesSoon(outage)
            stack.push_async_callback(settler.aclose)
            reader = SpendReader(url, folder)
            stack.push_async_callback(reader.aclose)
            books = LedgerWriter.start(
                WriterSettings(url=url, journal_directory=folder, retention_seconds=config.ledger.retention_seconds),
                loop,
            )
            stack.push_async_callback(books.aclose)
            past = Past(reader, books)
            directory = open_directory(url, folder, on_cut=partial(_hand_over, loop, on_cut))
            stack.push_async_callback(loop.run_in_executor, None, directory.stop)
            await loop.run_in_executor(None, directory.start)
            return cls(
                books=books,
                past=past,
                counters=outage or counters,
                settler=settler,
                directory=directory,
                alerts=alerts,
                trail=trail,
                ratings=BooksWatch(watched),
                responses=responses,
                belongings=belongings,
                folder=folder,
                outage=outage,
                _stack=stack.pop_all(),
            )

    async def keep_house(
        self,
        admission: Callable[[], Admission],
        finished: Callable[[CallRecord], None],
        bounds: Callable[[], KeepingBounds],
    ) -> None:
        """Goes on for ever: makes budgets certain, writes down the calls of processes that died, forgets old answers."""
        recovery = Recovery(self.counters, self.past, self.books)

        told: set[str] = set()

        async def tell() -> None:
            complaints = self.complaints()
            for name in complaints.keys() - told:
                log.warning("a store is down; calls go on without it", extra={"store": name, "why": complaints[name]})
            for name in told - complaints.keys():
                log.info("a store is back", extra={"store": name})
            told.clear()
            told.update(complaints)

        async def read_again() -> None:
            if await self.ratings.has_changed():
                await admission().forget_sums()

        async def tidy() -> None:
            await self.responses.tidy(bounds(), time.time_ns() // 1000)

        while True:
            for work in (
                admission().check,
                partial(recovery.recover, finished),
                read_again,
                tidy,
                self.belongings.tidy,
                tell,
            ):
                try:
                    await work()
                except StoreUnavailable as error:  # `complaints` says so already
                    log.debug("the counters are looked after later", extra={"why": str(error)})
                except Exception:
                    log.exception("housekeeping failed; it is tried again")
            await asyncio.sleep(HOUSEKEEPING_SECONDS)

    def states(self) -> Mapping[str, str]:
        """How each store is, in a word that anybody may see: `ok` or `down`."""
        missing = self.complaints()
        names = ("ledger", "keys") if self.outage is None else ("ledger", "keys", "state")
        return {name: "down" if name in missing else "ok" for name in names}

    def complaints(self) -> Mapping[str, str]:
        """What is away, by its name, and why; empty when all is well."""
        found = {}
        ledger = self.books.state()
        if ledger.reason:
            found["ledger"] = ledger.reason
        if self.outage is not None and (lost := self.outage.state()).status != "ok":
            found["state"] = lost.reason
        if problem := self.directory.state().problem:
            found["keys"] = problem
        return found

    async def aclose(self) -> None:
        """Writes what is left, settles what is settled, and lets go of everything."""
        await self._stack.aclose()


def _hand_over(
    loop: asyncio.AbstractEventLoop, on_cut: Callable[[frozenset[str]], None], names: frozenset[str]
) -> None:
    """From the directory's thread to the loop."""
    loop.call_soon_threadsafe(on_cut, names)
