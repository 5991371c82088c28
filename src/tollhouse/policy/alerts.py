"""Tells that a budget has passed one of the fractions at which somebody wants to hear of it: in the log, and by webhook.

The webhook is a POST of JSON; the address comes from the configuration alone.  It is tried a few times and then given up with
a line in the log.  Nothing here is waited for by a call, and what waits is bounded.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final
from urllib.parse import urlsplit

import msgspec

from tollhouse.errors import ProviderError
from tollhouse.ledger.moments import moment_at
from tollhouse.policy.gate import Crossing
from tollhouse.upstream.address import BadAddress, parse_address
from tollhouse.upstream.transport import Deadlines, Outgoing, Transport

MAX_WAITING: Final = 1_000
"""Alerts that may wait for their webhook; of more, the newest are only logged."""
TRIES: Final = 4
FIRST_WAIT_SECONDS: Final = 0.5
DEADLINES: Final = Deadlines(connect=5.0, first_byte=10.0, between_chunks=5.0, total=15.0)
MAX_ANSWER_BYTES: Final = 65_536
CLOSE_SECONDS: Final = 3.0
"""How long alerts that wait may still be posted when the gateway ends."""

log = logging.getLogger("tollhouse.budgets")


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """The body of a webhook."""

    event: str = "budget_alert"
    budget: str
    """`tenant:research/month`."""
    scope: str
    period: str
    window: str
    """`2026-11`, `2026-W47`, `2026-11-21T15`, `ever`."""
    fraction: float
    """Which of the fractions was passed."""
    spent_nano: int
    limit_nano: int
    spent_dollars: str
    limit_dollars: str
    hard: bool
    """Whether calls are refused once the limit is reached."""
    resets_at: str | None
    """RFC 3339; `null` when never."""


def alert_of(crossing: Crossing) -> Alert:
    """What is told of a crossing."""
    budget = crossing.budget
    settings, purse = budget.settings, budget.purse
    ends = purse.ends_at_us
    return Alert(
        budget=budget.name,
        scope=str(settings.scope),
        period=settings.period,
        window=purse.name.removesuffix("/soft").rpartition("/")[2],
        fraction=crossing.fraction,
        spent_nano=crossing.spent_nano,
        limit_nano=settings.limit_nano,
        spent_dollars=_dollars(crossing.spent_nano),
        limit_dollars=_dollars(settings.limit_nano),
        hard=settings.is_hard,
        resets_at=None if ends is None else f"{moment_at(ends):%Y-%m-%dT%H:%M:%SZ}",
    )


class Alerts:
    """Logs alerts and posts them.  Belongs to one loop; `aclose` it there."""

    def __init__(
        self,
        transport: Transport,
        *,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        close_seconds: float = CLOSE_SECONDS,
    ) -> None:
        """`transport` is not closed by this object."""
        self._transport = transport
        self._sleep = sleep
        self._close_seconds = close_seconds
        self._waiting: asyncio.Queue[tuple[Alert, str]] = asyncio.Queue(MAX_WAITING)
        self.lost = 0
        """Alerts that no webhook took."""
        self._posting = asyncio.get_running_loop().create_task(self._post_all(), name="tollhouse-alerts")

    def crossed(self, crossing: Crossing) -> None:
        """Tells of a crossing; returns at once."""
        alert = alert_of(crossing)
        log.warning(
            "a budget has passed a mark",
            extra={
                "budget": alert.budget,
                "window": alert.window,
                "fraction": alert.fraction,
                "spent_dollars": alert.spent_dollars,
                "limit_dollars": alert.limit_dollars,
            },
        )
        webhook = crossing.budget.settings.webhook
        if webhook is None:
            return
        try:
            self._waiting.put_nowait((alert, webhook.reveal()))
        except asyncio.QueueFull:
            self.lost += 1
            log.warning("an alert was not posted: too many wait", extra={"budget": alert.budget})

    async def aclose(self) -> None:
        """Posts what waits, for a few seconds, and ends."""
        try:
            async with asyncio.timeout(self._close_seconds):
                await self._waiting.join()
        except TimeoutError:
            self.lost += self._waiting.qsize()
            log.warning("alerts were not posted before the end", extra={"alerts": self._waiting.qsize()})
        self._posting.cancel()
        with suppress(asyncio.CancelledError):
            await self._posting

    async def _post_all(self) -> None:
        while True:
            alert, webhook = await self._waiting.get()
            try:
                await self._post(alert, webhook)
            except Exception as error:  # noqa: BLE001  # the task's outer edge: one bad webhook must not silence the others
                self.lost += 1
                log.warning("an alert was not posted", extra={"budget": alert.budget, "why": type(error).__name__})
            finally:
                self._waiting.task_done()

    async def _post(self, alert: Alert, webhook: str) -> None:
        # The address may hold a token, so no message has it.
        body = msgspec.json.encode(alert)
        why = ""
        for attempt in range(TRIES):
            if attempt:
                await self._sleep(FIRST_WAIT_SECONDS * 4 ** (attempt - 1))
            try:
                status = await self._send(webhook, body)
            except BadAddress:
                why = "its address is none"
                break
            except ProviderError as error:
                why = error.code
                continue
            if status < 300:
                return
            why = f"status {status}"
            if status < 500 and status not in {408, 425, 429}:
                break
        self.lost += 1
        log.warning("an alert was not posted", extra={"budget": alert.budget, "why": why})

    async def _send(self, webhook: str, body: bytes) -> int:
        place, mark, query = webhook.partition("?")
        address = parse_address(place)
        path = urlsplit(place).path or "/"  # as it was written: `parse_address` takes the slash from its end
        incoming = await self._transport.send(
            Outgoing(
                address=address,
                method=b"POST",
                target=f"{path}{mark}{query}".encode("ascii"),
                headers=[(b"content-type", b"application/json"), (b"user-agent", b"tollhouse")],
                body=body,
            ),
            DEADLINES,
        )
        try:
            await incoming.read_all(MAX_ANSWER_BYTES)
        except ProviderError:
            pass  # the status says enough
        finally:
            incoming.close()
        return incoming.status


def _dollars(nano: int) -> str:
    """Exact, without trailing zeros beyond cents: `12.50`, `0.000125`."""
    whole, rest = divmod(nano, 1_000_000_000)
    digits = f"{rest:09}".rstrip("0").ljust(2, "0")
    return f"{whole}.{digits}"
