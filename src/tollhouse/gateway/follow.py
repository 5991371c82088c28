"""One caller's part in a flight: the answer copied to its client, errors in its own words, and a row of its own if it joined.

The leader's row is the flight's: it is written by the run, with the cost.  Who joined has a row too, at zero cost and without
tokens, for nothing was used for it; it says which provider's answer it got.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tollhouse.errors import ClientLeft, GatewayError, TollhouseError
from tollhouse.gateway.call import Call, Headers, Sink
from tollhouse.gateway.coalesce import Follower, Head, SentAway
from tollhouse.gateway.failures import ending_of, heard
from tollhouse.ledger.record import CallRecord

MICROSECONDS: Final = 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Copying:
    """What is needed to bring a flight's answer to one caller."""

    call: Call
    sink: Sink
    record: CallRecord
    """The row of a caller that joined, with who it is and marked as such; the leader's is not used."""
    write: Callable[[CallRecord], "asyncio.Future[None]"]
    """Takes a finished record, for the books and for telemetry; the future is done when the row is safe."""
    error_headers: Callable[[TollhouseError], Headers]
    """The head's fields for an error."""
    headers: Callable[[bool], Headers]
    """What the head has for this caller alone; told whether it leads."""
    monotonic: Callable[[], float]

    async def copy(self, follower: Follower) -> None:
        """Copies the answer from its start.  Raises `SentAway` before anything was sent, and what the sink raises.

        Cancel it when the client leaves.  It may be called again after `SentAway`.
        """
        row = None if follower.is_leader else _Row(self, follower)
        try:
            opened = await follower.head()
            if not isinstance(opened, Head):
                await self._refuse(opened, row)
                return
            own = (*follower.own_headers, *self.headers(follower.is_leader))
            await self.sink.head(opened.status, [*opened.headers, *own])
            if row is not None:
                row.begin(opened.status)
            await self._body(follower, row)
        except SentAway:
            raise
        except BaseException as error:
            if row is not None:
                row.abandon(_why(error))
            raise

    async def _body(self, follower: Follower, row: "_Row | None") -> None:
        more = True
        while more:
            copied = await follower.read()
            if isinstance(copied, TollhouseError):
                if row is not None:
                    await row.settle(copied)
                await self.sink.body(self.call.dialect.encode_stream_error(copied, self.call.id), more=False)
                return
            more = copied.more
            if row is not None:
                row.note_bytes()
                if not more:
                    await row.settle(None)
            await self.sink.body(copied.data, more=more)

    async def _refuse(self, error: TollhouseError, row: "_Row | None") -> None:
        if row is not None:
            row.begin(error.http_status)
            await row.settle(error)
        await self.sink.head(error.http_status, [*self.error_headers(error), *self.headers(row is None)])
        await self.sink.body(self.call.dialect.encode_error(error, self.call.id), more=False)


class _Row:
    """The row of a caller that joined; written once, whatever happens."""

    __slots__ = ("_copying", "_follower", "_is_written", "record")

    def __init__(self, copying: Copying, follower: Follower) -> None:
        self._copying = copying
        self._follower = follower
        self._is_written = False
        self.record = copying.record

    def begin(self, status: int) -> None:
        self.record.status = status

    def note_bytes(self) -> None:
        if self.record.first_byte_us is None:
            self.record.first_byte_us = self._elapsed_us()

    async def settle(self, error: TollhouseError | None) -> None:
        """Writes the row before the answer's last byte leaves."""
        waiting = self._write("ok" if error is None else error.code)
        if waiting is not None:
            await waiting

    def abandon(self, why: type[TollhouseError]) -> None:
        """Nobody is there to be told any more, and nobody waits for the row."""
        if not self.record.status:
            self.record.status = why.http_status
        waiting = self._write(why.code)
        if waiting is not None:
            waiting.add_done_callback(heard)

    def _elapsed_us(self) -> int:
        return int((self._copying.monotonic() - self._copying.call.arrived) * MICROSECONDS)

    def _write(self, outcome: str) -> "asyncio.Future[None] | None":
        if self._is_written:
            return None
        self._is_written = True
        record, shared = self.record, self._follower.record
        if shared is not None:
            record.provider, record.model = shared.provider, shared.model
            record.receipt = shared.receipt
            record.finish = shared.finish if outcome == "ok" else ""
        record.outcome = outcome
        record.cost_nano = 0
        record.duration_us = self._elapsed_us()
        settled = self._copying.call.settled
        if settled is not None:
            settled(record)
        return self._copying.write(record)


def _why(error: BaseException) -> type[TollhouseError]:
    if isinstance(error, asyncio.CancelledError):
        return ending_of(error)
    return ClientLeft if isinstance(error, ClientLeft) else GatewayError
