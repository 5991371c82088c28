"""Which way leads through the gateway: what was said, or what it turns out to speak."""

import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from tollhouse.chat.embedding import EmbeddingRequest
from tollhouse.chat.model import Request
from tollhouse.client.answer import Answer, Counted, Embedded, Models, ServerInfo
from tollhouse.client.doors import GatewayDoor, Live
from tollhouse.client.failures import NotSpoken
from tollhouse.client.over_http import Place
from tollhouse.client.over_json import JsonDoor, place_of
from tollhouse.client.settings import Settings
from tollhouse.dialects.protobuf import has_protobuf
from tollhouse.extras import GRPC
from tollhouse.upstream.transport import Transport

log = logging.getLogger("tollhouse.client")

T = TypeVar("T")


def gateway_door(settings: Settings, transport: Callable[[], Transport]) -> GatewayDoor:
    """The way that the settings ask for.  Opens nothing.  `transport` makes the one for HTTP, if it comes to that.

    Raises `NotSpoken` for what this installation lacks.
    """
    if settings.speaks_grpc:
        return _grpc(settings)
    if settings.protocol == "protobuf":
        return _typed(place_of(settings, transport(), protocol="protobuf"))
    plain = JsonDoor(place_of(settings, transport(), protocol="json"))
    if settings.protocol == "json" or not has_protobuf():
        return plain
    return AutoDoor(_typed(place_of(settings, transport(), protocol="protobuf")), plain)


def _typed(place: Place) -> GatewayDoor:
    from tollhouse.client.over_protobuf import HttpLine
    from tollhouse.client.over_typed import TypedDoor
    from tollhouse.dialects.protobuf import typed

    if not has_protobuf():
        raise NotSpoken("Protobuf is not installed here.", hint=f"{GRPC.command}, or say `json`.")
    dialect = typed("protobuf")
    return TypedDoor(HttpLine(place, dialect), dialect)


def _grpc(settings: Settings) -> GatewayDoor:
    if not has_protobuf():
        raise NotSpoken("gRPC is not installed here.", hint=GRPC.command)
    from tollhouse.client.over_grpc import Channel, GrpcLine

    channel = Channel(settings)
    if settings.server.is_vibectl:
        from tollhouse.client.over_vibectl import VibectlDoor

        return VibectlDoor(channel)
    from tollhouse.client.over_typed import TypedDoor
    from tollhouse.dialects.protobuf import typed

    dialect = typed("protobuf")
    return TypedDoor(GrpcLine(channel, dialect), dialect)


class AutoDoor:
    """Asks in protobuf first, and settles on what the server speaks, for as long as the client lives.

    Asking for the other form costs nothing but time: a server that does not speak one has not begun the call.
    """

    __slots__ = ("_other", "_spoken", "_typed")

    def __init__(self, typed: GatewayDoor, other: GatewayDoor) -> None:
        self._typed = typed
        self._other = other
        self._spoken: GatewayDoor | None = None

    async def whole(self, request: Request, until: float) -> Answer:
        """See `Door.whole`."""
        return await self._ask(lambda door: door.whole(request, until))

    async def stream(self, request: Request, until: float) -> Live:
        """See `Door.stream`."""
        return await self._ask(lambda door: door.stream(request, until))

    async def count(self, request: Request, until: float) -> Counted:
        """See `Door.count`."""
        return await self._ask(lambda door: door.count(request, until))

    async def embed(self, request: EmbeddingRequest, until: float) -> Embedded:
        """See `Door.embed`."""
        return await self._ask(lambda door: door.embed(request, until))

    async def models(self, until: float) -> Models:
        """See `Door.models`."""
        return await self._ask(lambda door: door.models(until))

    async def info(self, until: float) -> ServerInfo:
        """See `GatewayDoor.info`."""
        return await self._ask(lambda door: door.info(until))

    async def version(self, until: float) -> str:
        """See `GatewayDoor.version`."""
        return await self._other.version(until)

    async def probe(self, until: float) -> float:
        """See `GatewayDoor.probe`."""
        return await self._other.probe(until)

    async def aclose(self) -> None:
        """See `Door.aclose`."""
        await self._other.aclose()

    async def _ask(self, asked: Callable[[GatewayDoor], Awaitable[T]]) -> T:
        if self._spoken is not None:
            return await asked(self._spoken)
        try:
            answer = await asked(self._typed)
        except NotSpoken as error:
            log.info("the gateway does not speak protobuf, so it is spoken to in JSON", extra={"where": error.where})
            self._spoken = self._other
            return await asked(self._other)
        self._spoken = self._typed
        return answer
