"""The way through a gateway in JSON: Chat Completions, which every Tollhouse speaks."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from tollhouse.chat.embedding import EmbeddingRequest
from tollhouse.chat.events import Event
from tollhouse.chat.model import Request
from tollhouse.chat.receipt import Receipt
from tollhouse.client.answer import Answer, Counted, Embedded, Marks, ModelInfo, Models, ServerInfo
from tollhouse.client.failures import CallFailed
from tollhouse.client.opening import opened_event, opened_response
from tollhouse.client.over_http import MAX_ERROR_BYTES, Asides, HttpLive, Place, Talk, request_id_of
from tollhouse.client.over_typed import settled
from tollhouse.client.settings import Settings
from tollhouse.client.translate import Scene, failure
from tollhouse.config.schema import ProviderSettings
from tollhouse.dialects.anthropic import DIALECT as ANTHROPIC
from tollhouse.dialects.anthropic import AnthropicTraits, decode_count, encode_count_request
from tollhouse.dialects.protobuf import typed
from tollhouse.dialects.protobuf.messages import SETTLEMENT
from tollhouse.dialects.protobuf.shapes import Fault
from tollhouse.errors import TollhouseError, UpstreamMalformed
from tollhouse.providers.tollhouse import COMPLETIONS, COUNT_PATH, HEALTH_PATH, LIVE_PATH, TYPE
from tollhouse.upstream.address import parse_address, target
from tollhouse.upstream.transport import Outgoing, Transport

ASK_TO_SETTLE: Final = ((b"x-tollhouse-settlement", b"event"),)
"""Asks for what a streamed call cost: see `tollhouse.server.http.settled`."""


def _settled(data: bytes, marks: Marks) -> Marks:
    try:
        return settled(marks, typed().writes.unpack(SETTLEMENT, data))
    except Fault:
        return marks  # a newer gateway's; the answer is whole without it


SETTLEMENTS: Final[Asides] = {b"tollhouse.settlement": _settled}


class _Listed(msgspec.Struct):
    id: str
    owned_by: str = ""


class _List(msgspec.Struct):
    data: list[_Listed]


class _Health(msgspec.Struct):
    version: str = ""
    status: str = ""


def place_of(settings: Settings, transport: Transport, *, protocol: str) -> Place:
    """The gateway, as HTTP calls reach it."""
    provider = COMPLETIONS.build(
        ProviderSettings(name=TYPE, type=TYPE, base_url=settings.server.base_url, api_key=settings.token)
    )
    address = parse_address(provider.base_url)
    scene = Scene(
        mode="proxy",
        where=settings.where,
        address=settings.server.base_url,
        has_token=settings.token is not None,
    )
    return Place(provider, address, transport, scene, protocol=protocol, connect_seconds=settings.connect_timeout)


class JsonDoor:
    """See `GatewayDoor`."""

    def __init__(self, place: Place) -> None:
        self._place = place

    async def whole(self, request: Request, until: float) -> Answer:
        """See `Door.whole`."""
        response, marks = await Talk(self._place, request.model, request.model).whole(request, until)
        return Answer(opened_response(response), marks)

    async def stream(self, request: Request, until: float) -> "JsonLive":
        """See `Door.stream`."""
        talk = Talk(self._place, request.model, request.model)
        return JsonLive(await talk.stream(request, until, ASK_TO_SETTLE, SETTLEMENTS))

    async def count(self, request: Request, until: float) -> Counted:
        """See `Door.count`."""
        place, receipt = self._place, Receipt()
        try:
            body = encode_count_request(request, AnthropicTraits(), receipt)
            incoming = await place.send(b"POST", COUNT_PATH, body, until)
            try:
                if incoming.status >= 300:
                    raise await place.refusal(incoming, request.model, ANTHROPIC)
                data = await incoming.read_all(MAX_ERROR_BYTES)
            finally:
                incoming.close()
            counted = decode_count(data)
        except CallFailed:
            raise
        except TollhouseError as error:
            raise failure(error, place.scene_of(request.model)) from error
        is_estimate = incoming.header(b"x-tollhouse-count") == b"estimated"
        return Counted(counted, is_estimate, place.marks(request.model, incoming.headers, receipt))

    async def embed(self, request: EmbeddingRequest, until: float) -> Embedded:
        """See `Door.embed`."""
        answer, marks = await Talk(self._place, request.model, request.model).embed(request, until)
        return Embedded(tuple(tuple(vector) for vector in answer.vectors), answer.usage, marks)

    async def models(self, until: float) -> Models:
        """See `Door.models`."""
        place = self._place
        request_id = ""
        try:
            data, headers = await place.ask(b"GET", place.provider.models_path, b"", until)
            request_id = request_id_of(headers)
            listed = msgspec.json.decode(data, type=_List).data
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            malformed = UpstreamMalformed("its list of models cannot be read")
            raise failure(malformed, place.scene, request_id=request_id) from error
        except CallFailed:
            raise
        except TollhouseError as error:
            raise failure(error, place.scene, request_id=request_id) from error
        marks = Marks(mode="proxy", protocol=place.protocol, where=place.scene.where, request_id=request_id)
        return Models(tuple(ModelInfo(id=each.id, owner=each.owned_by) for each in listed), marks)

    async def version(self, until: float) -> str:
        """The gateway's version, from what needs no token; empty if it does not say."""
        place = self._place
        try:
            incoming = await place.transport.send(_without_token(place, HEALTH_PATH), place.deadlines(until))
            try:
                body = await incoming.read_all(MAX_ERROR_BYTES)
            finally:
                incoming.close()
        except TollhouseError as error:
            raise failure(error, place.scene) from error
        try:
            return msgspec.json.decode(body, type=_Health).version
        except (msgspec.DecodeError, UnicodeDecodeError):
            return ""  # something stands before it that keeps health to itself

    async def info(self, until: float) -> ServerInfo:
        """See `GatewayDoor.info`."""
        version = await self.version(until)
        models = await self.models(until)
        aliases = aliases_of(models)
        return ServerInfo(
            name="tollhouse" if version else "unknown",
            version=version,
            protocol=self._place.protocol,
            where=self._place.scene.where,
            latency_seconds=await self.probe(until),
            models=tuple(model for model in models.models if model.id not in aliases),
            aliases=aliases,
            default_model="default" if "default" in aliases else "",
        )

    async def probe(self, until: float) -> float:
        """See `GatewayDoor.probe`."""
        place = self._place
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            incoming = await place.transport.send(_without_token(place, LIVE_PATH), place.deadlines(until))
            try:
                if incoming.status >= 300:
                    raise await place.refusal(incoming)
                await incoming.read_all(MAX_ERROR_BYTES)
            finally:
                incoming.close()
        except CallFailed:
            raise
        except TollhouseError as error:
            raise failure(error, place.scene) from error
        return loop.time() - began

    async def aclose(self) -> None:
        """See `Door.aclose`."""
        await self._place.transport.aclose()


class JsonLive:
    """A gateway's stream, with what it sealed opened again."""

    __slots__ = ("_inner",)

    def __init__(self, inner: HttpLive) -> None:
        self._inner = inner

    @property
    def marks(self) -> Marks:
        """See `Live.marks`."""
        return self._inner.marks

    async def more(self) -> Sequence[Event] | None:
        """See `Live.more`."""
        events = await self._inner.more()
        return None if events is None else [opened_event(event) for event in events]

    def close(self) -> None:
        """See `Live.close`."""
        self._inner.close()


def _without_token(place: Place, path: str) -> Outgoing:
    """Signs of life need no credential, so none is shown."""
    return Outgoing(
        address=place.address,
        method=b"GET",
        target=target(place.address, path),
        headers=[(b"accept", b"application/json")],
        body=b"",
    )


def aliases_of(models: Models) -> Mapping[str, str]:
    """Names of a list that stand for another: a provider's model is `owner/model`, an alias is not."""
    return {model.id: "" for model in models.models if not model.id.startswith(f"{model.owner}/")}
