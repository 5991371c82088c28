"""A client of the vibectl protocol, with what the published one sends and a look at everything that comes back."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import grpc
import grpc.aio

from support.serving import KEY, Running
from tollhouse.proto import vibectl_pb2 as wire

PATH = "/vibectl.llm_proxy.VibectlLLMProxy/"
DEADLINE_SECONDS = 60.0
Metadata = Sequence[tuple[str, str]]
BEARER: Metadata = (("authorization", f"Bearer {KEY}"),)


@dataclass
class Streamed:
    """What came of one streamed answer, in order."""

    chunks: list[wire.StreamChunk] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(chunk.text_chunk for chunk in self.chunks)

    @property
    def kinds(self) -> list[str]:
        """The kinds of the messages, each run of one kind once."""
        kinds = [chunk.WhichOneof("chunk_type") or "nothing" for chunk in self.chunks]
        return [kind for i, kind in enumerate(kinds) if i == 0 or kinds[i - 1] != kind]

    @property
    def error(self) -> wire.ExecuteError:
        return self.chunks[-1].error

    @property
    def metrics(self) -> wire.ExecutionMetrics:
        return self.chunks[-1].final_metrics

    @property
    def model(self) -> str:
        return next(c.complete.actual_model_used for c in self.chunks if c.HasField("complete"))


def prompt(
    model: str | None = "to-openai", *, user: Sequence[str] = ("Hello",), system: Sequence[str] = (), **more: str
) -> wire.ExecuteRequest:
    """A request as the client makes it."""
    request = wire.ExecuteRequest(user_fragments=user, system_fragments=system, request_id="client-request-1", **more)
    if model is not None:
        request.model_name = model
    return request


class VibectlClient:
    """One channel."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel
        self.execute_rpc = channel.unary_unary(
            PATH + "Execute",
            request_serializer=wire.ExecuteRequest.SerializeToString,
            response_deserializer=wire.ExecuteResponse.FromString,
        )
        self.stream_rpc = channel.unary_stream(
            PATH + "StreamExecute",
            request_serializer=wire.ExecuteRequest.SerializeToString,
            response_deserializer=wire.StreamChunk.FromString,
        )
        self.info_rpc = channel.unary_unary(
            PATH + "GetServerInfo",
            request_serializer=wire.GetServerInfoRequest.SerializeToString,
            response_deserializer=wire.GetServerInfoResponse.FromString,
        )

    async def execute(self, request: wire.ExecuteRequest, metadata: Metadata = BEARER) -> wire.ExecuteResponse:
        return await self.execute_rpc(request, metadata=metadata, timeout=DEADLINE_SECONDS)

    async def stream(self, request: wire.ExecuteRequest, metadata: Metadata = BEARER) -> Streamed:
        streamed = Streamed()
        async for chunk in self.stream_rpc(request, metadata=metadata, timeout=DEADLINE_SECONDS):
            streamed.chunks.append(chunk)
        return streamed

    async def info(self, metadata: Metadata = BEARER) -> wire.GetServerInfoResponse:
        return await self.info_rpc(wire.GetServerInfoRequest(), metadata=metadata, timeout=DEADLINE_SECONDS)


@asynccontextmanager
async def calling(gateway: Running, *options: tuple[str, int]) -> AsyncIterator[VibectlClient]:
    """A client of a gateway."""
    async with grpc.aio.insecure_channel(gateway.grpc, options=options) as channel:
        yield VibectlClient(channel)
