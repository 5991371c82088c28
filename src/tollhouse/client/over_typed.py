"""The way through a gateway in its own typed protocol, whatever its messages travel over.

A *line* carries messages: HTTP (`over_protobuf`) or gRPC (`over_grpc`).  What they say is the same, and is read here: answers,
streams with their settlement at the end, errors with their hints.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, Protocol, TypeAlias, TypeVar

from tollhouse.chat.embedding import EmbeddingRequest
from tollhouse.chat.events import Event
from tollhouse.chat.grammar import Grammar, GrammarFault
from tollhouse.chat.model import Request
from tollhouse.chat.receipt import Receipt
from tollhouse.client.answer import Answer, Counted, Embedded, Marks, ModelInfo, Models, ServerInfo
from tollhouse.client.failures import AnswerBroken, CallFailed, ServerFailed
from tollhouse.client.messages import MessageLive, Messages
from tollhouse.client.translate import RELAYED, Scene, of_status, said_by_the_provider
from tollhouse.dialects.protobuf import Typed
from tollhouse.dialects.protobuf.failure import event_of
from tollhouse.dialects.protobuf.messages import EMBEDDINGS, RESPONSE, SERVER_INFO, SETTLEMENT, TOKEN_COUNT, Unknown
from tollhouse.dialects.protobuf.reports import Listed, Settlement, Trouble
from tollhouse.dialects.protobuf.request import encode_request
from tollhouse.dialects.protobuf.shapes import Fault
from tollhouse.dialects.protobuf.wire import MessageShape

Method: TypeAlias = Literal["Chat", "CountTokens", "Embed", "GetServerInfo"]
T = TypeVar("T")


class Line(Protocol):
    """What carries the messages.  `until` is loop time; errors are `CallFailed`."""

    @property
    def protocol(self) -> str:
        """`protobuf` or `grpc`."""
        ...

    def scene(self, model: str) -> Scene:
        """What an error of a call is about."""
        ...

    async def ask(self, method: Method, message: bytes, model: str, until: float) -> bytes:
        """One message for another."""
        ...

    async def stream(self, message: bytes, model: str, until: float) -> Messages:
        """One message for many."""
        ...

    async def version(self, until: float) -> str:
        """The gateway's version; empty where it is not said."""
        ...

    async def probe(self, until: float) -> float:
        """The seconds that a sign of life takes."""
        ...

    async def aclose(self) -> None:
        """Closes every connection."""
        ...


class TypedDoor:
    """See `GatewayDoor`."""

    def __init__(self, line: Line, dialect: Typed) -> None:
        """`dialect` reads and writes one form."""
        self._line = line
        self._dialect = dialect

    async def whole(self, request: Request, until: float) -> Answer:
        """See `Door.whole`."""
        line = self._line
        data = await line.ask("Chat", self._packed(request), request.model, until)
        response = self._read(RESPONSE, data, request.model)
        if not response.choices:  # as no bytes at all would be read
            raise _unreadable(line.scene(request.model), "there is no answer in it.")
        return Answer(response, self._marks(request.model, self._settlement(RESPONSE, data)))

    async def stream(self, request: Request, until: float) -> MessageLive:
        """See `Door.stream`."""
        messages = await self._line.stream(self._packed(request), request.model, until)
        marks, scene = self._marks(request.model, None), self._line.scene(request.model)
        return MessageLive(messages, TypedReader(self._dialect, marks, scene))

    async def count(self, request: Request, until: float) -> Counted:
        """See `Door.count`."""
        data = await self._line.ask("CountTokens", self._packed(request), request.model, until)
        counted = self._read(TOKEN_COUNT, data, request.model)
        return Counted(counted.input_tokens, counted.is_estimate, self._marks(request.model, None))

    async def embed(self, request: EmbeddingRequest, until: float) -> Embedded:
        """See `Door.embed`."""
        message = self._dialect.embeddings.encode_request(request, Receipt())
        data = await self._line.ask("Embed", message, request.model, until)
        answer = self._read(EMBEDDINGS, data, request.model)
        marks = self._marks(request.model, self._settlement(EMBEDDINGS, data))
        return Embedded(tuple(tuple(vector) for vector in answer.vectors), answer.usage, marks)

    async def models(self, until: float) -> Models:
        """See `Door.models`."""
        data = await self._line.ask("GetServerInfo", b"", "", until)
        return Models(_infos(self._read(SERVER_INFO, data, "").models), self._marks("", None))

    async def info(self, until: float) -> ServerInfo:
        """See `GatewayDoor.info`."""
        data = await self._line.ask("GetServerInfo", b"", "", until)
        said = self._read(SERVER_INFO, data, "")
        models = _infos(said.models)
        aliases = {model.id: "" for model in models if not model.id.startswith(f"{model.owner}/")}
        limits = said.limits
        counts = {
            "requests a minute": limits.requests_per_minute,
            "tokens a minute": limits.tokens_per_minute,
            "calls at a time": limits.concurrent,
            "bytes a request": limits.request_bytes or None,
            "seconds a call": int(limits.call_seconds) or None,
        }
        return ServerInfo(
            name=said.name,
            version=said.version,
            protocol=self._line.protocol,
            where=self._line.scene("").where,
            latency_seconds=await self._line.probe(until),
            models=tuple(model for model in models if model.id not in aliases),
            aliases=aliases,
            default_model=said.default_model,
            limits={name: count for name, count in counts.items() if count is not None},
        )

    async def version(self, until: float) -> str:
        """See `GatewayDoor.version`."""
        return await self._line.version(until)

    async def probe(self, until: float) -> float:
        """See `GatewayDoor.probe`."""
        return await self._line.probe(until)

    async def aclose(self) -> None:
        """See `Door.aclose`."""
        await self._line.aclose()

    def _packed(self, request: Request) -> bytes:
        return encode_request(self._dialect.writes, request)

    def _read(self, shape: MessageShape[T], data: bytes, model: str) -> T:
        try:
            return self._dialect.writes.unpack(shape, data)
        except Fault as fault:
            raise _unreadable(self._line.scene(model), fault) from fault

    def _settlement(self, shape: MessageShape[T], data: bytes) -> Settlement | None:
        """It travels in a field of its own, which is no part of the answer."""
        plain = self._dialect.writes.plain(shape, data).get("settlement")
        return None if plain is None else SETTLEMENT.read(plain)

    def _marks(self, requested_model: str, settlement: Settlement | None) -> Marks:
        scene = self._line.scene(requested_model)
        marks = Marks(mode="proxy", protocol=self._line.protocol, where=scene.where, requested_model=requested_model)
        return marks if settlement is None else settled(marks, settlement)


def settled(marks: Marks, settlement: Settlement) -> Marks:
    """The marks with what the ledger has of the call."""
    return replace(
        marks,
        request_id=settlement.request_id,
        cost_nano=settlement.cost_nano_usd,
        model=f"{settlement.provider}/{settlement.model}" if settlement.provider else settlement.model,
        receipt=settlement.receipt,
        cache=settlement.cache,
    )


class TypedReader:
    """See `Reader`."""

    __slots__ = ("_dialect", "_grammar", "_scene", "marks")

    def __init__(self, dialect: Typed, marks: Marks, scene: Scene) -> None:
        self._dialect = dialect
        self._scene = scene
        self._grammar = Grammar()
        self.marks = marks

    def take(self, messages: Sequence[bytes], events: list[Event]) -> None:
        """See `Reader.take`."""
        for message in messages:
            try:
                said = self._dialect.writes.hear(message)
                match said:
                    case Settlement():
                        self.marks = settled(self.marks, said)
                    case Unknown():
                        pass
                    case _:
                        event = event_of(said) if isinstance(said, Trouble) else said
                        if not self._grammar.is_complete:
                            self._grammar.accept(event)
                            events.append(event)
            except (Fault, GrammarFault) as fault:
                raise _unreadable(self._scene, fault) from fault

    def end(self) -> list[Event]:
        """See `Reader.end`."""
        raise AnswerBroken(
            f"The stream of {self._scene.where} stopped before its end.",
            hint="What came before it stands.",
            where=self._scene.where,
            request_id=self.marks.request_id,
        )


def of_trouble(trouble: Trouble, status: int, scene: Scene) -> CallFailed:
    """The client's error for one of the gateway's."""
    code, message = trouble.code, trouble.message
    is_relayed = code in RELAYED
    if is_relayed:
        code, message = trouble.provider_code or trouble.kind or code, said_by_the_provider(message)
    found = of_status(
        trouble.status or status,
        message,
        scene,
        code=code,
        param=trouble.param or None,
        hint=trouble.hint or None,
        retry_after_seconds=trouble.retry_after_seconds,
        request_id=trouble.request_id,
        nearest=trouble.suggestions,
    )
    found.is_relayed = is_relayed
    return found


def _infos(listed: Sequence[Listed]) -> tuple[ModelInfo, ...]:
    return tuple(
        ModelInfo(
            id=each.id,
            owner=each.owner,
            context_tokens=each.context_tokens,
            max_output_tokens=each.max_output_tokens,
        )
        for each in listed
    )


def _unreadable(scene: Scene, fault: Exception | str) -> ServerFailed:
    return ServerFailed(
        f"What {scene.address or scene.where} answered is not of the typed protocol: {fault}",
        hint="Is it the right address, and does nothing stand between that changes answers?",
        where=scene.where,
    )
