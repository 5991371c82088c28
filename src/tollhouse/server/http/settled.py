"""What a streamed call cost, told behind its end to clients that ask for it.

A stream's head leaves before that is known, and Chat Completions has no place for it.  So a client that sends the header
`x-tollhouse-settlement` gets one more event behind `[DONE]`, where others no longer read: `event: tollhouse.settlement`, with
the settlement of the typed protocol as its data.
"""

from typing import Final

import msgspec

from tollhouse.dialects.protobuf import typed
from tollhouse.dialects.protobuf.messages import SETTLEMENT
from tollhouse.gateway.call import Call, Headers
from tollhouse.gateway.pipeline import Gateway
from tollhouse.ledger.record import CallRecord
from tollhouse.server.http.exchange import Exchange
from tollhouse.server.settlement import settlement_of

ASKS: Final = b"x-tollhouse-settlement"
EVENT: Final = b"tollhouse.settlement"


async def answer_and_settle(gateway: Gateway, call: Call, exchange: Exchange) -> None:
    """The work of a door whose client asks for the settlement."""
    sink = _Settling(exchange, shows_receipts=gateway.shows_receipts)
    await gateway.answer(msgspec.structs.replace(call, settled=sink.settle), sink)


class _Settling:
    """The gateway's sink: the exchange, with one more event behind a stream."""

    __slots__ = ("_exchange", "_record", "_shows_receipts")

    def __init__(self, exchange: Exchange, *, shows_receipts: bool) -> None:
        self._exchange = exchange
        self._shows_receipts = shows_receipts
        self._record: CallRecord | None = None

    def settle(self, record: CallRecord) -> None:
        """Hears of the finished record, before the last of the answer comes."""
        self._record = record

    async def head(self, status: int, headers: Headers) -> None:
        """Begins the answer."""
        await self._exchange.head(status, headers)

    async def body(self, data: bytes, *, more: bool) -> None:
        """Passes a piece on; completes the last of a stream."""
        if not more and self._record is not None and self._exchange.is_events:
            said = typed().writes.pack(SETTLEMENT, settlement_of(self._record, shows_receipts=self._shows_receipts))
            data += b"event: %b\ndata: %b\n\n" % (EVENT, said)
        await self._exchange.body(data, more=more)
