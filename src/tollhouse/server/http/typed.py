"""The door of the typed protocol: the same messages as JSON or as protobuf, as the headers of a request say.

A request is in the form that `Content-Type` names; its answer is in the form that `Accept` likes best, and in that of the
request where it does not care.  Streams are server-sent events in JSON, and messages behind their lengths in protobuf.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final

import msgspec

from tollhouse.chat import receipt as receipts
from tollhouse.dialects.protobuf import Form, Typed, has_protobuf, typed
from tollhouse.dialects.protobuf.messages import (
    EMBEDDINGS,
    FAILURE,
    RESPONSE,
    SERVER_INFO,
    TOKEN_COUNT,
)
from tollhouse.dialects.protobuf.reports import Settlement, TokenCount
from tollhouse.errors import NotAcceptable, UnsupportedMediaType
from tollhouse.gateway.call import Call, Headers
from tollhouse.gateway.count import count_tokens
from tollhouse.gateway.embed import embed
from tollhouse.gateway.pipeline import Gateway
from tollhouse.gateway.sharing import SSE_HEAD
from tollhouse.ledger.record import CallRecord
from tollhouse.server.http.exchange import JSON, Exchange
from tollhouse.server.http.front import Door, Front, Route
from tollhouse.server.http.negotiation import form_of_answer, form_of_request
from tollhouse.server.settlement import JSON_NAMES, PROTOBUF_NAMES, server_info, settlement_of

CHAT: Final = "tollhouse"
COUNT: Final = "tollhouse_count_tokens"
EMBED: Final = "tollhouse_embeddings"
_EVENTS: Final = SSE_HEAD[0][1]

Forms = Mapping[Form, Sequence[str]]


def door(front: Front) -> Door:
    """`/v1/chat`, the counting below it, `/v1/embed` and `/v1/server`."""
    forms: Forms = {"json": JSON_NAMES}
    if has_protobuf():
        forms = {**forms, "protobuf": PROTOBUF_NAMES}

    async def chat(exchange: Exchange) -> None:
        _negotiate(exchange, forms)
        await front.carry(exchange, CHAT, _answer)

    async def count(exchange: Exchange) -> None:
        _negotiate(exchange, forms)
        await front.carry(exchange, COUNT, _count)

    async def vectors(exchange: Exchange) -> None:
        _negotiate(exchange, forms)
        await front.carry(exchange, EMBED, _embed)

    async def server(exchange: Exchange) -> None:
        dialect = _speak(exchange, "json", form_of_answer(exchange.headers, forms, "json"))
        principal = front.identify(exchange)
        await exchange.reply(200, dialect.writes.pack(SERVER_INFO, server_info(front.serving, principal)))

    dialect = typed()
    return Door(
        routes={
            "/v1/chat": Route(dialect, {"POST": chat}),
            "/v1/chat/count_tokens": Route(dialect, {"POST": count}),
            "/v1/embed": Route(dialect, {"POST": vectors}),
            "/v1/server": Route(dialect, {"GET": server, "HEAD": server}),
        }
    )


def answer_in_protobuf(exchange: Exchange) -> bool:
    """Makes the exchange speak protobuf where its client asks for that, on a path whose JSON is another dialect's."""
    with suppress(NotAcceptable):
        if has_protobuf() and form_of_answer(exchange.headers, _BOTH, "json") == "protobuf":
            _speak(exchange, "protobuf", "protobuf")
            return True
    return False


_BOTH: Final[Forms] = {"json": JSON_NAMES, "protobuf": PROTOBUF_NAMES}


def _negotiate(exchange: Exchange, forms: Forms) -> None:
    headers = exchange.headers
    try:
        reads = form_of_request(headers, forms)
    except UnsupportedMediaType:
        with suppress(NotAcceptable):  # then it hears so in JSON
            _speak(exchange, "json", form_of_answer(headers, forms, "json"))
        raise
    _speak(exchange, reads, form_of_answer(headers, forms, reads))


def _speak(exchange: Exchange, reads: Form, writes: Form) -> Typed:
    dialect = typed(reads, writes)
    exchange.dialect = dialect
    if writes != "json":
        exchange.media_types = {JSON: dialect.writes.media_type, _EVENTS: dialect.writes.stream_media_type}
    return dialect


async def _answer(gateway: Gateway, call: Call, exchange: Exchange) -> None:
    answer = _Answer(exchange, _dialect(call), shows_receipts=gateway.shows_receipts)
    await gateway.answer(msgspec.structs.replace(call, settled=answer.settle), answer)


async def _count(gateway: Gateway, call: Call, exchange: Exchange) -> None:
    counted = await count_tokens(gateway, call)
    said = TokenCount(counted.input_tokens, counted.is_estimate)
    await exchange.reply(200, _dialect(call).writes.pack(TOKEN_COUNT, said))


async def _embed(gateway: Gateway, call: Call, exchange: Exchange) -> None:
    dialect = _dialect(call)
    outcome = await embed(gateway, call, dialect.embeddings)
    settlement = settlement_of(outcome.record, shows_receipts=gateway.shows_receipts)
    data = dialect.settle(EMBEDDINGS, outcome.answer, settlement)
    headers = [
        (b"content-type", JSON),
        (b"content-length", b"%d" % len(data)),
        (b"x-tollhouse-model", outcome.candidate.label),
        *dialect.encode_quotas(outcome.hold.quotas, gateway.wall()),
    ]
    if settlement.receipt:
        headers.append((receipts.HEADER.encode(), settlement.receipt.encode("ascii", "replace")))
    await exchange.head(200, headers)
    await exchange.body(data, more=False)


def _dialect(call: Call) -> Typed:
    if not isinstance(call.dialect, Typed):
        raise TypeError("the typed door speaks the typed protocol")
    return call.dialect


class _Answer:
    """The gateway's sink: the exchange, with the settlement put in at the very end."""

    __slots__ = ("_dialect", "_exchange", "_pieces", "_record", "_shows_receipts", "_status", "_streams")

    def __init__(self, exchange: Exchange, dialect: Typed, *, shows_receipts: bool) -> None:
        self._exchange = exchange
        self._dialect = dialect
        self._shows_receipts = shows_receipts
        self._record: CallRecord | None = None
        self._status = 0
        self._streams = False
        self._pieces: list[bytes] = []
        """Of a whole answer; the settlement goes into it, not behind it."""

    def settle(self, record: CallRecord) -> None:
        """Hears of the finished record, before the last of the answer comes."""
        self._record = record

    async def head(self, status: int, headers: Headers) -> None:
        """Begins the answer."""
        self._status = status
        self._streams = any(value == _EVENTS for name, value in headers if name == b"content-type")
        await self._exchange.head(status, headers)

    async def body(self, data: bytes, *, more: bool) -> None:
        """Passes a piece on; completes the last."""
        if self._streams:
            if not more and self._record is not None:
                data += self._dialect.say_settled(self._settlement(self._record))
            await self._exchange.body(data, more=more)
            return
        self._pieces.append(data)
        if more:
            return
        data = b"".join(self._pieces)
        if self._record is not None:
            settlement = self._settlement(self._record)
            if self._status == 200:
                data = self._dialect.settle(RESPONSE, data, settlement)
            else:
                data = self._dialect.settle(FAILURE, data, settlement)
        await self._exchange.body(data, more=False)

    def _settlement(self, record: CallRecord) -> Settlement:
        return settlement_of(record, shows_receipts=self._shows_receipts)
