"""Whose what callers made at providers is: a note for each file, batch or store, with the tenant that made it.

The first note of a thing stays: whoever names it later did not make it.  A note is there for other workers before its maker
has read the end of the provider's answer.  While the database is away, notes wait in memory and are written when it is back;
until then this worker alone knows of them, and to the others such a thing is nobody's.

What is read is remembered for ids that a provider makes up and never gives twice.  A name that a caller may choose
(`files/report`) can be deleted and be another's a moment later, so of these the database is asked each time.
"""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final, NamedTuple

from tollhouse.errors import StoreUnavailable
from tollhouse.ledger.reading import Reader, Statement
from tollhouse.ledger.transaction import Transaction, transact

MAX_ID_CHARACTERS: Final = 512
"""What is longer is no name of a thing; providers' own have fewer than 100."""
MAX_NOTES: Final = 1_000_000
"""In the database.  The oldest go first, of the tenant that has most: nobody can push out another's."""
MAX_WAITING: Final = 20_000
"""Notes that wait to be written."""
MAX_REMEMBERED: Final = 20_000
"""Ids whose tenant a worker knows without asking."""
MAX_ASKED: Final = 500
"""Ids in one statement; older SQLites take no more than 999 values."""
AWAY_SECONDS: Final = 5.0
"""How long a database that failed is left alone; whoever asks meanwhile is told at once."""
TIDY_SECONDS: Final = 300.0
TIDY_NOTES: Final = 1_000
"""Deleted in one transaction."""

_INSERT: Final = (
    "INSERT INTO belongings (provider, id, tenant, kind, noted_at_us) VALUES ($1, $2, $3, $4, $5) "
    "ON CONFLICT (provider, id) DO NOTHING"
)
_ONE: Final = "SELECT tenant FROM belongings WHERE provider = $1 AND id = $2"
_DELETE: Final = "DELETE FROM belongings WHERE provider = $1 AND id = $2 AND tenant = $3"
_COUNT: Final = "SELECT count(*) FROM belongings"
_LARGEST: Final = "SELECT tenant, count(*) AS notes FROM belongings GROUP BY tenant ORDER BY notes DESC LIMIT 1"
_DELETE_OLDEST: Final = (
    "DELETE FROM belongings WHERE (provider, id) IN "
    "(SELECT provider, id FROM belongings WHERE tenant = $1 ORDER BY noted_at_us LIMIT $2)"
)

log = logging.getLogger("tollhouse.ledger")


class Note(NamedTuple):
    """That a thing at a provider is a tenant's."""

    provider: str
    """As the configuration calls it."""
    id: str
    tenant: str
    kind: str
    """The path of its collection (`vector_stores`), for people who look into the table."""
    at_us: int
    """Microseconds since the epoch."""


class Belongings:
    """The notes of one ledger, for a serving process.  All its methods belong to one event loop."""

    def __init__(
        self, url: str, *, max_notes: int = MAX_NOTES, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """Connects to nothing yet."""
        self._url = url
        self._max_notes = max_notes
        self._monotonic = monotonic
        self._reader = Reader(url)
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="tollhouse-belongings")
        self._waiting: dict[tuple[str, str], Note] = {}
        """Not yet in the database."""
        self._written: list[asyncio.Future[None]] = []
        """Of those who wait for what waits."""
        self._writing: asyncio.Task[None] | None = None
        self._remembered: OrderedDict[tuple[str, str], str] = OrderedDict()
        self._away_until = 0.0
        self._tidy_at = 0.0

    def note(self, notes: Iterable[Note]) -> "asyncio.Future[None]":
        """Takes notes; the future is done when other workers can see them, and fails with `StoreUnavailable`.

        This worker goes by them at once, and writes them later where the database is away.  The future may be left alone.
        """
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        written.add_done_callback(_heard)
        for note in notes:
            place = note.provider, note.id
            if place in self._waiting or self._remembered.get(place) == note.tenant or not _is_id(note.id):
                continue
            if len(self._waiting) >= MAX_WAITING:
                log.error("too many notes wait; a thing at a provider is nobody's", extra={"provider": note.provider})
                written.set_exception(StoreUnavailable("Too many notes wait to be written."))
                return written
            self._waiting[place] = note
        if not self._waiting:
            written.set_result(None)
        elif self._monotonic() < self._away_until:
            written.set_exception(StoreUnavailable("The ledger could not be used a moment ago."))
        else:
            self._written.append(written)
            self._write_soon()
        return written

    async def owners(self, provider: str, ids: Iterable[str]) -> Mapping[str, str]:
        """The tenants of those ids of which there is a note.  Raises `StoreUnavailable`."""
        found: dict[str, str] = {}
        unknown: list[str] = []
        for each in dict.fromkeys(ids):
            place = provider, each
            waiting = self._waiting.get(place)
            if (tenant := self._remembered.get(place)) is not None:
                self._remembered.move_to_end(place)
                found[each] = tenant
            elif _is_id(each):
                # One that waits may be another's in the database, where the first one stays.
                unknown.append(each)
                if waiting is not None:
                    found[each] = waiting.tenant
        if unknown and not await self._read(provider, unknown, found) and not found.keys() >= set(unknown):
            raise StoreUnavailable("Whose things at providers are cannot be looked up: the ledger is away.")
        return found

    async def forget(self, provider: str, thing: str, tenant: str) -> None:
        """Takes back the note that a thing is the tenant's, as far as there is one.  Raises `StoreUnavailable`."""
        self._waiting.pop((provider, thing), None)
        self._remembered.pop((provider, thing), None)

        def work(transaction: Transaction) -> None:
            transaction.run(_DELETE, provider, thing, tenant)

        await asyncio.get_running_loop().run_in_executor(self._writer, partial(transact, self._url, work))

    async def tidy(self) -> None:
        """Writes what still waits, and forgets the oldest of too much.  Does nothing most of the time it is called."""
        now = self._monotonic()
        if self._waiting and now >= self._away_until:
            self._write_soon()
        if now < self._tidy_at:
            return
        self._tidy_at = now + TIDY_SECONDS
        loop, look = asyncio.get_running_loop(), partial(transact, self._url, _count, writes=False)
        step = partial(transact, self._url, _drop_oldest)
        while await loop.run_in_executor(self._writer, look) > self._max_notes:
            await loop.run_in_executor(self._writer, step)

    async def aclose(self) -> None:
        """Writes what waits, as far as the database is there, and lets go of it."""
        if self._waiting:
            self._write_soon()
        if self._writing is not None:
            await self._writing
        if self._waiting:
            log.error("notes of whose a thing is are lost", extra={"notes": len(self._waiting)})
        self._writer.shutdown(wait=False)
        await self._reader.aclose()

    async def _read(self, provider: str, ids: Sequence[str], found: dict[str, str]) -> bool:
        """Adds what the database says to `found`; whether it could be asked."""
        if self._monotonic() < self._away_until:
            return False
        questions = [
            Statement(
                f"SELECT id, tenant FROM belongings WHERE provider = ? AND id IN ({', '.join('?' * len(some))})",  # noqa: S608
                (provider, *some),
            )
            for some in (ids[start : start + MAX_ASKED] for start in range(0, len(ids), MAX_ASKED))
        ]
        try:
            answers = await self._reader.read(questions)
        except StoreUnavailable as error:
            self._is_away(error)
            return False
        for thing, tenant in (row for answer in answers for row in answer):
            found[thing] = tenant
            self._remember(provider, thing, tenant)
        return True

    def _remember(self, provider: str, thing: str, tenant: str) -> None:
        if "/" in thing:
            return
        self._remembered[provider, thing] = tenant
        if len(self._remembered) > MAX_REMEMBERED:
            self._remembered.popitem(last=False)

    def _is_away(self, error: StoreUnavailable) -> None:
        self._away_until = self._monotonic() + AWAY_SECONDS
        log.warning("whose things at providers are cannot be looked up or noted", extra={"why": str(error)})

    def _write_soon(self) -> None:
        if self._writing is None:
            self._writing = asyncio.get_running_loop().create_task(self._write_all())

    async def _write_all(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                batch = list(self._waiting.values())
                told, self._written = self._written, []
                try:
                    insert = partial(transact, self._url, partial(_insert, batch))
                    tenants = await loop.run_in_executor(self._writer, insert)
                except StoreUnavailable as error:
                    self._is_away(error)
                    told += self._written
                    self._written = []
                    for each in told:
                        each.set_exception(StoreUnavailable(error.message))
                    return
                for note, tenant in zip(batch, tenants, strict=True):
                    self._waiting.pop((note.provider, note.id), None)
                    self._remember(note.provider, note.id, tenant)
                for each in told:
                    each.set_result(None)
            # Those who noted once more what was just being written: nothing of theirs waits any longer.
            told, self._written = self._written, []
            for each in told:
                each.set_result(None)
        finally:
            self._writing = None


def _is_id(text: str) -> bool:
    # PostgreSQL takes no NUL, and neither database half of a pair.
    return 0 < len(text) <= MAX_ID_CHARACTERS and text.isprintable()


def _insert(batch: Sequence[Note], transaction: Transaction) -> list[str]:
    """Writes the notes; whose each thing is then, which may have been noted before."""
    tenants = []
    for note in batch:
        transaction.run(_INSERT, *note)
        ((tenant,),) = transaction.rows(_ONE, note.provider, note.id)
        tenants.append(tenant)
    return tenants


def _count(transaction: Transaction) -> int:
    ((notes,),) = transaction.rows(_COUNT)
    return int(notes)


def _drop_oldest(transaction: Transaction) -> None:
    for tenant, _ in transaction.rows(_LARGEST):
        transaction.run(_DELETE_OLDEST, tenant, TIDY_NOTES)


def _heard(written: "asyncio.Future[None]") -> None:
    """Looks at the error of notes that nobody waits for, so that asyncio does not complain that nobody did."""
    if not written.cancelled():
        written.exception()
