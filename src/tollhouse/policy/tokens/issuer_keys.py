"""The keys of OIDC issuers, kept up to date in the background.

Nothing is fetched on a call's way.  Each issuer has a task that fetches its keys at start, every quarter of an hour, and
soon after a token named a key that is not known: an issuer that rotates its keys publishes the new one first.  That is at
most once a minute, so that nobody can make this gateway knock at an issuer's door by sending nonsense.  When an issuer cannot
be reached, the last keys go on being used.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from tollhouse.config.schema import OidcSettings
from tollhouse.errors import ProviderError
from tollhouse.policy.tokens.jwks import MAX_ANSWER_BYTES, WELL_KNOWN, KeySet, Unusable, read_discovery, read_keys
from tollhouse.upstream.address import BadAddress, parse_address
from tollhouse.upstream.transport import Deadlines, Outgoing, Transport

DEADLINES: Final = Deadlines(connect=5.0, first_byte=10.0, between_chunks=10.0, total=15.0)

log = logging.getLogger("tollhouse.policy")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How often an issuer is asked, in seconds."""

    refresh: float = 900.0
    unknown: float = 60.0
    """The least time between two looks for a key that was not known."""
    retry: float = 5.0
    """After the first failure; each later one doubles it, up to `refresh`."""

    def next_look(self, looked_at: float, failures: int, *, is_wanted: bool) -> float:
        """When to look again, after a look that was the last of so many failures in a row.

        `is_wanted`: a token has named a key that is not known.
        """
        due = looked_at + (min(self.retry * 2 ** min(failures - 1, 20), self.refresh) if failures else self.refresh)
        return min(due, looked_at + self.unknown) if is_wanted else due


class IssuerKeys:
    """What is known of one issuer's keys.  Read on the event loop; its task replaces `keys` by one assignment."""

    def __init__(self, issuer: str, jwks_url: str | None) -> None:
        self.issuer: Final = issuer
        self.jwks_url: Final = jwks_url
        self.keys: KeySet | None = None
        """`None` until they were fetched for the first time."""
        self.problem = "They were not fetched yet."
        """Why the last look failed; empty when it did not."""
        self._wanted = asyncio.Event()

    def want(self) -> None:
        """Says that a token named a key that is not known.  Costs nothing, however often."""
        self._wanted.set()

    async def keep(self, transport: Transport, pace: Pace, *, monotonic: Callable[[], float]) -> None:
        """Fetches for ever."""
        failures = 0
        while True:
            looked_at = monotonic()
            try:
                self.keys = await self._fetch(transport)
                if self.problem and failures:
                    log.info("the keys of an issuer are fetched again", extra={"issuer": self.issuer})
                self.problem, failures = "", 0
            except (ProviderError, BadAddress, Unusable) as error:
                failures += 1
                self._tell(str(error))
            except Exception as error:  # the task's outer edge: one odd answer must not end the looking for ever
                failures += 1
                if failures == 1:
                    log.exception("the keys of an issuer could not be taken over", extra={"issuer": self.issuer})
                self._tell(f"{type(error).__name__} while they were taken over.")
            self._wanted.clear()
            while (left := self._left(pace, looked_at, failures, monotonic)) > 0:
                with suppress(TimeoutError):
                    async with asyncio.timeout(left):
                        await self._wait_for_wish()

    def _left(self, pace: Pace, looked_at: float, failures: int, monotonic: Callable[[], float]) -> float:
        return pace.next_look(looked_at, failures, is_wanted=self._wanted.is_set()) - monotonic()

    async def _wait_for_wish(self) -> None:
        """Returns when a key is wanted that was not wanted before; never, if one is wanted already."""
        if self._wanted.is_set():
            await asyncio.Event().wait()
        await self._wanted.wait()

    def _tell(self, problem: str) -> None:
        if problem != self.problem:
            log.warning(
                "the keys of an issuer cannot be fetched; the last known ones go on being used",
                extra={"issuer": self.issuer, "why": problem, "are_known": self.keys is not None},
            )
        self.problem = problem

    async def _fetch(self, transport: Transport) -> KeySet:
        url = self.jwks_url
        if url is None:
            url = read_discovery(await _get(transport, self.issuer.rstrip("/") + WELL_KNOWN), self.issuer)
        return read_keys(await _get(transport, url))


async def _get(transport: Transport, url: str) -> bytes:
    """A whole answer.  No redirect is followed: where keys are is said by the configuration and by the issuer alone."""
    place, mark, query = url.partition("?")
    address = parse_address(place)
    path = urlsplit(place).path or "/"
    incoming = await transport.send(
        Outgoing(
            address=address,
            method=b"GET",
            target=f"{path}{mark}{query}".encode("ascii", "replace"),
            headers=[(b"accept", b"application/json"), (b"user-agent", b"tollhouse")],
            body=b"",
        ),
        DEADLINES,
    )
    try:
        data = await incoming.read_all(MAX_ANSWER_BYTES)
    finally:
        incoming.close()
    if incoming.status != 200:
        raise Unusable(f"It answered {incoming.status} at {path}.")
    return data


@dataclass(slots=True)
class _Watched:
    keys: IssuerKeys
    task: asyncio.Task[None] | None = None


class IssuerBook:
    """The keys of every issuer of a configuration; outlives a reload.  `aclose` it on the loop that used it."""

    def __init__(
        self,
        transport: Callable[[], Transport],
        *,
        pace: Pace = Pace(),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._transport = transport
        self._monotonic = monotonic
        self._pace = pace
        self._watched: dict[tuple[str, str | None], _Watched] = {}

    def keys_of(self, settings: OidcSettings) -> IssuerKeys:
        """Those of one issuer; fetched once `watch` was told of it."""
        place = (settings.issuer, settings.jwks_url)
        found = self._watched.get(place)
        if found is None:
            found = self._watched[place] = _Watched(IssuerKeys(*place))
        return found.keys

    def watch(self, settings: Iterable[OidcSettings]) -> None:
        """Begins to fetch the keys of these issuers, and lets go of all others."""
        wanted = {(each.issuer, each.jwks_url): each for each in settings}
        for place in self._watched.keys() - wanted.keys():
            task = self._watched.pop(place).task
            if task is not None:
                task.cancel()
        for place, each in wanted.items():
            self.keys_of(each)
            watched = self._watched[place]
            if watched.task is None:
                watched.task = asyncio.get_running_loop().create_task(
                    watched.keys.keep(self._transport(), self._pace, monotonic=self._monotonic),
                    name=f"tollhouse-issuer-{each.name}",
                )

    def problems(self) -> Mapping[str, str]:
        """Why the keys of an issuer cannot be fetched now, by issuer."""
        return {watched.keys.issuer: watched.keys.problem for watched in self._watched.values() if watched.keys.problem}

    async def aclose(self) -> None:
        """Ends every task."""
        tasks = [watched.task for watched in self._watched.values() if watched.task is not None]
        self._watched.clear()
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task
