"""The typed service `tollhouse.v1.Gateway`: the whole conversation, in the messages of `gateway.proto`.

The dialect makes whole messages; here they get the settlement, and become RPCs.  A call that never began ends its RPC with the
error's status, and with `tollhouse.v1.Error` among the status details.  A stream that breaks
says so in an event, is settled, and then ends with that status too: a clean end would make a cut answer look whole to whoever
does not read every event.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, NoReturn, TypeVar

from tollhouse.dialects.delimited import Splitter
from tollhouse.dialects.protobuf import typed
from tollhouse.dialects.protobuf.dialect import listed
from tollhouse.dialects.protobuf.failure import trouble_of
from tollhouse.dialects.protobuf.messages import (
    EMBEDDINGS,
    FAILURE,
    MODELS,
    RESPONSE,
    SERVER_INFO,
    TOKEN_COUNT,
)
from tollhouse.dialects.protobuf.reports import Models, Settlement, TokenCount, Trouble
from tollhouse.dialects.protobuf.wire import MessageShape
from tollhouse.errors import TollhouseError
from tollhouse.gateway.call import Headers
from tollhouse.gateway.count import count_tokens
from tollhouse.gateway.embed import embed
from tollhouse.ledger.record import CallRecord
from tollhouse.proto.v1 import gateway_pb2
from tollhouse.server.grpc import details
from tollhouse.server.grpc.credentials import Context
from tollhouse.server.grpc.door import Caller, RpcDoor, metadata_of, send
from tollhouse.server.grpc.service import Service, Streamed, Whole, described
from tollhouse.server.http.typed import CHAT, COUNT, EMBED
from tollhouse.server.settlement import server_info, settlement_of

NAME: Final = "tollhouse.v1.Gateway"

_DIALECT: Final = typed("protobuf")
T = TypeVar("T")


def service(door: RpcDoor) -> Service:
    """The six methods."""
    return Service(
        name=NAME,
        methods={
            "Chat": Whole(partial(_chat, door)),
            "StreamChat": Streamed(partial(_stream_chat, door)),
            "CountTokens": Whole(partial(_count, door)),
            "Embed": Whole(partial(_embed, door)),
            "ListModels": Whole(partial(_models, door)),
            "GetServerInfo": Whole(partial(_server_info, door)),
        },
        files=(described(gateway_pb2.DESCRIPTOR),),
    )


# -- answers


async def _chat(door: RpcDoor, caller: Caller, request: bytes, context: Context) -> bytes:
    answer = _Answer(caller)
    try:
        await door.answer(caller, caller.call(CHAT, _DIALECT, request, stream=False, settled=answer.settle), answer)
    except TollhouseError as error:
        await _refuse(context, caller, trouble_of(error, caller.id))
    body = b"".join(answer.pieces)
    if answer.status != 200:
        await _refuse(context, caller, _DIALECT.writes.unpack(FAILURE, body).error, answer.headers)
    context.set_trailing_metadata(metadata_of(caller, answer.headers))
    settlement = answer.settlement()
    return body if settlement is None else _DIALECT.settle(RESPONSE, body, settlement)


async def _stream_chat(door: RpcDoor, caller: Caller, request: bytes, context: Context) -> None:
    answer = _Stream(caller, context)
    try:
        await door.answer(caller, caller.call(CHAT, _DIALECT, request, stream=True, settled=answer.settle), answer)
    except TollhouseError as error:
        trouble = trouble_of(error, caller.id)
        if answer.status == 200:
            await answer.send_framed(_DIALECT.writes.say(trouble))
        await _refuse(context, caller, trouble, answer.headers)
    if answer.status != 200:
        failed = _DIALECT.writes.unpack(FAILURE, b"".join(answer.pieces)).error
        await _refuse(context, caller, failed, answer.headers)
    if answer.trouble is not None:
        await _refuse(context, caller, answer.trouble, answer.headers)
    context.set_trailing_metadata(metadata_of(caller, answer.headers))


class _Answer:
    """Gathers an answer; a gateway's `Sink`."""

    def __init__(self, caller: Caller) -> None:
        self.headers: Headers = ()
        self.status = 0
        self.pieces: list[bytes] = []
        self._caller = caller
        self._record: CallRecord | None = None

    def settle(self, record: CallRecord) -> None:
        """Hears of the finished record, before the last of the answer comes."""
        self._record = record

    def settlement(self) -> Settlement | None:
        """What became of the call, once it is known."""
        shows = self._caller.serving.gateway.shows_receipts
        return None if self._record is None else settlement_of(self._record, shows_receipts=shows)

    async def head(self, status: int, headers: Headers) -> None:
        """Keeps what the answer says of itself; it goes into the trailing metadata."""
        self.status = status
        self.headers = headers

    async def body(self, data: bytes, *, more: bool) -> None:
        """Takes a piece."""
        del more
        self.pieces.append(data)


class _Stream(_Answer):
    """Sends the events of an answer as they come."""

    def __init__(self, caller: Caller, context: Context) -> None:
        super().__init__(caller)
        self._context = context
        self._splitter = Splitter()
        self.trouble: Trouble | None = None
        """How the stream broke, if it did."""

    async def body(self, data: bytes, *, more: bool) -> None:
        """Sends a piece's events, and after the last the settlement."""
        if self.status != 200:
            self.pieces.append(data)
            return
        await self.send_framed(data, is_last=not more)
        settlement = None if more else self.settlement()
        if settlement is not None:
            await self.send_framed(_DIALECT.say_settled(settlement))

    async def send_framed(self, data: bytes, *, is_last: bool = False) -> None:
        """Sends events that stand behind their lengths.  Raises `ClientLeft`."""
        messages = self._splitter.feed(data)
        for message in messages:
            await send(self._context, message)
        if is_last and messages:
            said = _DIALECT.writes.hear(messages[-1])
            self.trouble = said if isinstance(said, Trouble) else None


# -- other methods


async def _count(door: RpcDoor, caller: Caller, request: bytes, context: Context) -> bytes:
    call = caller.call(COUNT, _DIALECT, request, stream=False)

    async def work() -> bytes:
        counted = await count_tokens(caller.serving.gateway, call)
        return _packed(TOKEN_COUNT, TokenCount(counted.input_tokens, counted.is_estimate))

    return await _carried(door, caller, context, work)


async def _embed(door: RpcDoor, caller: Caller, request: bytes, context: Context) -> bytes:
    gateway = caller.serving.gateway
    call = caller.call(EMBED, _DIALECT, request)

    async def work() -> bytes:
        outcome = await embed(gateway, call, _DIALECT.embeddings)
        settlement = settlement_of(outcome.record, shows_receipts=gateway.shows_receipts)
        return _DIALECT.settle(EMBEDDINGS, outcome.answer, settlement)

    return await _carried(door, caller, context, work)


async def _models(door: RpcDoor, caller: Caller, request: bytes, context: Context) -> bytes:
    del door, request, context  # an empty message
    cards = caller.serving.gateway.router.cards(caller.principal.access)
    return _packed(MODELS, Models(tuple(map(listed, cards))))


async def _server_info(door: RpcDoor, caller: Caller, request: bytes, context: Context) -> bytes:
    del door, request, context  # an empty message
    return _packed(SERVER_INFO, server_info(caller.serving, caller.principal))


def _packed(shape: MessageShape[T], value: T) -> bytes:
    return _DIALECT.writes.pack(shape, value)


async def _carried(door: RpcDoor, caller: Caller, context: Context, work: Callable[[], Awaitable[bytes]]) -> bytes:
    """Does work that has one answer; an error ends the RPC."""
    answer = b""

    async def do() -> None:
        nonlocal answer
        answer = await work()

    try:
        await door.carried(caller, do)
    except TollhouseError as error:
        await _refuse(context, caller, trouble_of(error, caller.id))
    return answer


# -- errors


async def _refuse(context: Context, caller: Caller, trouble: Trouble, headers: Headers = ()) -> NoReturn:
    """Ends an RPC with the status of an error, and the error itself in the details."""
    await context.abort(
        details.status_of(trouble),
        details.words_of(trouble),
        (*metadata_of(caller, headers), *details.metadata_of(trouble)),
    )
