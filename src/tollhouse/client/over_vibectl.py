"""The way through a server of the older tool, `vibectl-server`: one prompt in, text out.

Its protocol has room for texts and a schema.  What else a request says is left out, and the receipt lists it.
"""

import uuid
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from google.protobuf.message import DecodeError

from tollhouse.chat.embedding import EmbeddingRequest
from tollhouse.chat.events import Delta, Ended, Event, Finished, PartClosed, PartOpened, Started, UsageReported
from tollhouse.chat.model import Choice, JsonObject, JsonSchema, Message, Request, Response, Text, ToolResult
from tollhouse.chat.receipt import Receipt
from tollhouse.chat.usage import Usage
from tollhouse.client.answer import Answer, Counted, Embedded, Marks, ModelInfo, Models, ServerInfo
from tollhouse.client.failures import (
    BadCall,
    CallFailed,
    NoSuchModel,
    NotSpoken,
    OverBudget,
    OverLimit,
    ProviderFailed,
    ServerBusy,
    ServerFailed,
)
from tollhouse.client.messages import MessageLive
from tollhouse.client.over_grpc import Channel, no_trouble
from tollhouse.client.translate import Scene
from tollhouse.gateway.estimate import input_tokens
from tollhouse.proto import vibectl_pb2 as wire

SERVICE: Final = "/vibectl.llm_proxy.VibectlLLMProxy"
DEFAULT_MODEL: Final = "default"
"""What this client says of a call that leaves the model to the server; the protocol then has no name at all."""
UNSAID: Final = ("max_output_tokens", "temperature", "top_p", "top_k", "stop", "seed", "tools", "reasoning", "user")

_KINDS: Final[dict[str, type[CallFailed]]] = {
    "INVALID_REQUEST": BadCall,
    "RATE_LIMITED": OverLimit,
    "BUDGET_EXCEEDED": OverBudget,
    "NO_PRICE": OverBudget,
    "DRAINING": ServerBusy,
    "OVERLOADED": ServerBusy,
    "INTERNAL_ERROR": ServerFailed,
}
"""By the code of an `ExecuteError`; all others are the provider's."""


class VibectlDoor:
    """See `GatewayDoor`."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    async def whole(self, request: Request, until: float) -> Answer:
        """See `Door.whole`."""
        channel, scene, receipt = self._channel, self._channel.scene(request.model), Receipt()
        sent = written(request, receipt)
        data = await channel.ask(f"{SERVICE}/Execute", sent.SerializeToString(), until, scene, no_trouble)
        try:
            said = wire.ExecuteResponse.FromString(data)
        except DecodeError as error:
            raise _unreadable(scene) from error
        match said.WhichOneof("result"):
            case "error":
                raise failed(said.error, scene, said.request_id)
            case "success":
                success = said.success
            case _:
                raise _unreadable(scene)
        usage, cost = metrics(success.metrics if success.HasField("metrics") else None)
        response = Response(
            id=said.request_id,
            model=success.actual_model_used or request.model,
            choices=(Choice(parts=(Text(success.response_text),), finish="stop"),),
            usage=usage,
        )
        marks = self._marks(request.model, said.request_id, receipt, success.actual_model_used)
        return Answer(response, replace(marks, cost_nano=cost))

    async def stream(self, request: Request, until: float) -> MessageLive:
        """See `Door.stream`."""
        scene, receipt = self._channel.scene(request.model), Receipt()
        sent = written(request, receipt)
        messages = self._channel.stream(f"{SERVICE}/StreamExecute", sent.SerializeToString(), until, scene, no_trouble)
        return MessageLive(messages, VibectlReader(self._marks(request.model, sent.request_id, receipt, ""), scene))

    async def count(self, request: Request, until: float) -> Counted:
        """An estimate: the protocol cannot ask."""
        del until
        return Counted(input_tokens(request), is_estimate=True, marks=self._marks(request.model, "", Receipt(), ""))

    async def embed(self, request: EmbeddingRequest, until: float) -> Embedded:
        """Never: the protocol has no embeddings."""
        del request, until
        raise NotSpoken(
            "The older tool's protocol has no embeddings.",
            hint="Ask a Tollhouse at its tollhouse:// or https:// address.",
            where=self._channel.scene_of_all.where,
        )

    async def models(self, until: float) -> Models:
        """See `Door.models`."""
        return Models(_infos(await self._server(until)), self._marks("", "", Receipt(), ""))

    async def info(self, until: float) -> ServerInfo:
        """See `GatewayDoor.info`."""
        said = await self._server(until)
        aliases = dict(said.model_aliases) | {
            alias: model.model_id for model in said.available_models for alias in model.aliases
        }
        limits = said.limits
        counts = {
            "requests a minute": limits.max_requests_per_minute,
            "calls at a time": limits.max_concurrent_requests,
            "bytes a prompt": limits.max_input_length,
            "seconds a call": limits.request_timeout_seconds,
        }
        return ServerInfo(
            name=said.server_name or "unknown",
            version=said.server_version,
            protocol="vibectl",
            where=self._channel.scene_of_all.where,
            latency_seconds=await self._channel.probe(until),
            models=_infos(said),
            aliases=dict(sorted(aliases.items())),  # they come in any order, and in another one each time
            default_model=said.default_model,
            limits={name: count for name, count in counts.items() if count},
        )

    async def version(self, until: float) -> str:
        """Nothing: it is the version of another program, and says nothing of what we understand."""
        del until
        return ""

    async def probe(self, until: float) -> float:
        """See `GatewayDoor.probe`."""
        return await self._channel.probe(until)

    async def aclose(self) -> None:
        """See `Door.aclose`."""
        await self._channel.aclose()

    async def _server(self, until: float) -> wire.GetServerInfoResponse:
        scene = self._channel.scene_of_all
        data = await self._channel.ask(f"{SERVICE}/GetServerInfo", b"", until, scene, no_trouble)
        try:
            return wire.GetServerInfoResponse.FromString(data)
        except DecodeError as error:
            raise _unreadable(scene) from error

    def _marks(self, requested: str, request_id: str, receipt: Receipt, model: str) -> Marks:
        return Marks(
            mode="proxy",
            protocol="vibectl",
            where=self._channel.scene_of_all.where,
            requested_model=requested,
            model=model,
            request_id=request_id,
            receipt=receipt.header(),
        )


class VibectlReader:
    """See `Reader`: text, as canonical events."""

    __slots__ = ("_cost", "_has_started", "_scene", "_usage", "marks")

    def __init__(self, marks: Marks, scene: Scene) -> None:
        self._scene = scene
        self._has_started = False
        self._usage = Usage()
        self._cost: int | None = None
        self.marks = marks

    def take(self, messages: Sequence[bytes], events: list[Event]) -> None:
        """See `Reader.take`."""
        for message in messages:
            self._take(message, events)

    def end(self) -> list[Event]:
        """See `Reader.end`.  The status was OK, and nothing else ends a stream of this protocol."""
        self.marks = replace(self.marks, cost_nano=self._cost)
        usage = [] if self._usage.is_empty else [UsageReported(self._usage)]
        return [*self._begin(), PartClosed(0), Finished("stop"), *usage, Ended()]

    def _take(self, message: bytes, events: list[Event]) -> None:
        try:
            chunk = wire.StreamChunk.FromString(message)
        except DecodeError as error:
            raise _unreadable(self._scene) from error
        match chunk.WhichOneof("chunk_type"):
            case "text_chunk" if chunk.text_chunk:
                events += [*self._begin(), Delta(0, chunk.text_chunk)]
            case "error":
                raise failed(chunk.error, self._scene, chunk.request_id)
            case "complete":
                self.marks = replace(self.marks, model=chunk.complete.actual_model_used)
            case "final_metrics":
                self._usage, self._cost = metrics(chunk.final_metrics)
            case _:
                pass

    def _begin(self) -> list[Event]:
        if self._has_started:
            return []
        self._has_started = True
        return [Started(id=self.marks.request_id, model=self.marks.requested_model), PartOpened(0, Text(""))]


def written(request: Request, receipt: Receipt) -> wire.ExecuteRequest:
    """The request as the protocol has it; notes in `receipt` what it has no room for."""
    system: list[str] = []
    turns: list[tuple[str, str]] = []
    for index, message in enumerate(request.messages):
        text = _text(message, f"messages[{index}]", receipt)
        if message.role in {"system", "developer"}:
            system.append(text)
        elif text:
            turns.append((message.role, text))
    if len(turns) == 1:
        user = [turns[0][1]]
    else:
        receipt.changed("messages", "earlier turns are said as text")
        user = [f"{role.capitalize()}: {text}" for role, text in turns]
    for name in UNSAID:
        if getattr(request, name) not in {None, ()}:
            receipt.dropped(name, "the older tool's protocol has no such field")
    schema: str | None = None
    match request.response_format:
        case JsonSchema(schema=raw):
            schema = bytes(raw).decode()
        case JsonObject():
            schema = '{"type":"object"}'
        case None:
            pass
    return wire.ExecuteRequest(
        system_fragments=system,
        user_fragments=user,
        model_name=None if request.model in {"", DEFAULT_MODEL} else request.model,
        response_model_schema=schema,
        request_id=str(uuid.uuid4()),
    )


def _text(message: Message, path: str, receipt: Receipt) -> str:
    texts: list[str] = []
    for number, part in enumerate(message.parts):
        match part:
            case Text():
                texts.append(part.text)
            case ToolResult(content=content):
                texts += [each.text for each in content if isinstance(each, Text)]
            case _:
                receipt.dropped(f"{path}.parts[{number}]", "the older tool's protocol carries text alone")
    return "\n\n".join(text for text in texts if text)


def metrics(said: wire.ExecutionMetrics | None) -> tuple[Usage, int | None]:
    """Counts and cost, as far as they were said."""
    if said is None:
        return Usage(), None
    usage = Usage(
        input_tokens=said.input_tokens if said.HasField("input_tokens") else None,
        output_tokens=said.output_tokens if said.HasField("output_tokens") else None,
    )
    cost = round(said.cost_usd * 1e9) if said.HasField("cost_usd") else None
    return usage if usage.is_empty else Usage(
        input_tokens=usage.input_tokens, output_tokens=usage.output_tokens, source="reported"
    ), cost


def failed(error: wire.ExecuteError, scene: Scene, request_id: str) -> CallFailed:
    """The client's error for one that came in an answer."""
    code, hint, message = error.error_code, error.error_details or None, error.error_message
    # The older server passes on what its library raised: a `KeyError`, with its quotation marks.
    is_unknown = code == "EXECUTION_FAILED" and message.strip("'\"").startswith("Unknown model: ")
    if is_unknown:
        message = f"{scene.address or scene.where} has no model {scene.model!r}."
    if is_unknown or code in {"MODEL_NOT_FOUND", "NO_MODEL", "MODEL_NOT_ALLOWED"}:
        return NoSuchModel(
            message,
            model=scene.model,
            hint=hint,
            where=scene.where,
            server_code=code.lower(),
            request_id=request_id,
        )
    kind = _KINDS.get(code, ProviderFailed)
    return kind(
        error.error_message or f"The server answered {code}.",
        hint=hint,
        where=scene.where,
        server_code=code.lower(),
        request_id=request_id,
    )


def _infos(said: wire.GetServerInfoResponse) -> tuple[ModelInfo, ...]:
    return tuple(
        ModelInfo(
            id=model.model_id,
            owner=model.provider,
            context_tokens=model.max_context_length if model.HasField("max_context_length") else None,
        )
        for model in said.available_models
    )


def _unreadable(scene: Scene) -> ServerFailed:
    return ServerFailed(
        f"What {scene.address or scene.where} answered is not of the older tool's protocol.", where=scene.where
    )
