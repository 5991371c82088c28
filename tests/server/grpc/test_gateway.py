"""The typed service over gRPC, against a client made from the generated code."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.message import Message

from support.clients import settings
from support.fake_provider import FakeProvider
from support.fake_replies import Answer, Cut, ErrorAfter, Failure, Stall, faulty
from support.serving import KEY, Running, Serving
from support.typed_client import Streamed, question
from tollhouse.dialects.protobuf.reports import Trouble
from tollhouse.errors import TollhouseError
from tollhouse.proto.v1 import gateway_pb2 as wire
from tollhouse.server.grpc.details import status_of
from tollhouse.server.grpc.gateway import NAME, service

BEARER = (("authorization", f"Bearer {KEY}"),)
DEADLINE_SECONDS = 60.0
_METHODS = wire.DESCRIPTOR.services_by_name["Gateway"].methods_by_name


@dataclass
class Client:
    channel: grpc.aio.Channel

    async def call(self, method: str, request: Message, metadata: Sequence[tuple[str, str]] = BEARER) -> Any:
        return await self.rpc(method)(request, metadata=metadata, timeout=DEADLINE_SECONDS)

    async def stream(self, request: wire.ChatRequest) -> Streamed:
        streamed: list[wire.ChatEvent] = []
        await self.gather("StreamChat", request, streamed)
        return Streamed(streamed)

    async def gather(
        self, method: str, request: Message, into: list[Any], metadata: Sequence[tuple[str, str]] = BEARER
    ) -> None:
        """Calls either kind of method; what comes before an error is kept."""
        if not _METHODS[method].server_streaming:
            into.append(await self.call(method, request, metadata))
            return
        async for event in self.rpc(method)(request, metadata=metadata, timeout=DEADLINE_SECONDS):
            into.append(event)  # what came before an error is wanted

    def rpc(self, method: str) -> Any:
        described = _METHODS[method]
        make = self.channel.unary_stream if described.server_streaming else self.channel.unary_unary
        return make(
            f"/{NAME}/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=getattr(wire, described.output_type.name).FromString,
        )


@asynccontextmanager
async def calling(gateway: Running) -> AsyncIterator[Client]:
    async with grpc.aio.insecure_channel(gateway.grpc) as channel:
        yield Client(channel)


def error_in(failed: grpc.aio.AioRpcError) -> wire.Error:
    """The error in `google.rpc.Status`, read with a message class of the test's own."""
    details = dict(failed.trailing_metadata() or ())["grpc-status-details-bin"]
    assert isinstance(details, bytes)
    status = _status_class()()
    status.ParseFromString(details)
    assert status.code == failed.code().value[0]
    assert status.message == failed.details()
    (detail,) = status.details
    assert detail.type_url == "type.googleapis.com/tollhouse.v1.Error"
    return wire.Error.FromString(detail.value)


def _status_class() -> Any:
    from google.protobuf import any_pb2, descriptor_pool, message_factory

    file = FileDescriptorProto(
        name="status_of_the_test.proto",
        package="status_of_the_test",
        syntax="proto3",
        dependency=[any_pb2.DESCRIPTOR.name],
    )
    message = file.message_type.add(name="Status")
    message.field.add(name="code", number=1, type="TYPE_INT32", label="LABEL_OPTIONAL")
    message.field.add(name="message", number=2, type="TYPE_STRING", label="LABEL_OPTIONAL")
    message.field.add(
        name="details", number=3, type="TYPE_MESSAGE", label="LABEL_REPEATED", type_name=".google.protobuf.Any"
    )
    pool = descriptor_pool.Default()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("status_of_the_test.Status"))


# ------------------------------------------------------------------------------------------------------------ answers


async def test_an_answer_comes_with_what_it_cost(serving: Serving, fake_provider: FakeProvider):
    gateway = await serving(settings(fake_provider))
    fake_provider.reply(Answer(text="A tollhouse."))
    async with calling(gateway) as client:
        response = await client.call("Chat", question())
    assert response.choices[0].parts[0].text.text == "A tollhouse."
    (row,) = gateway.rows()
    assert (row["door"], row["streamed"]) == ("tollhouse", 0)
    assert response.settlement.request_id == row["id"]
    assert response.settlement.cost_nano_usd == row["cost_nano"] > 0


@pytest.mark.parametrize("model", ["to-openai", "to-anthropic"])
async def test_a_stream_ends_with_its_settlement(serving: Serving, fake_provider: FakeProvider, model: str):
    gateway = await serving(settings(fake_provider))
    fake_provider.reply(Answer(text="A toll house stood there."))
    async with calling(gateway) as client:
        streamed = await client.stream(question(model))
    assert streamed.text == "A toll house stood there."
    assert streamed.kinds[0] == "started"
    assert streamed.kinds[-2:] == ["ended", "settled"]
    assert "finished" in streamed.kinds
    (row,) = gateway.rows()
    assert (row["streamed"], row["id"]) == (1, streamed.settlement.request_id)


async def test_the_method_and_not_the_message_says_whether_to_stream(serving: Serving, fake_provider: FakeProvider):
    gateway = await serving(settings(fake_provider))
    async with calling(gateway) as client:
        response = await client.call("Chat", question(stream=True))
        streamed = await client.stream(question(stream=False))
    assert response.choices[0].parts[0].text.text == streamed.text
    assert [(await fake_provider.call(n)).json.get("stream", False) for n in range(2)] == [False, True]


# ------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize("method", ["Chat", "StreamChat", "CountTokens"])
async def test_a_call_that_never_began_ends_with_its_status_and_the_error(
    serving: Serving, fake_provider: FakeProvider, method: str
):
    gateway = await serving(settings(fake_provider))
    async with calling(gateway) as client:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await client.gather(method, question("to-opnai"), [])
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    error = error_in(caught.value)
    assert (error.code, error.param) == ("model_not_found", "model")
    assert "to-openai" in error.suggestions
    metadata = dict(caught.value.trailing_metadata() or ())
    assert metadata["x-request-id"] == error.request_id
    assert metadata["x-tollhouse-code"] == "model_not_found"


async def test_a_full_limit_says_when_to_come_again(serving: Serving, fake_provider: FakeProvider):
    gateway = await serving(
        settings(fake_provider) + f"\nauth: {{keys: [{{name: test, key: {KEY}, limits: {{requests_per_minute: 1}}}}]}}"
    )
    async with calling(gateway) as client:
        await client.call("Chat", question())
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await client.call("Chat", question())
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert error_in(caught.value).retry_after_seconds > 0


@pytest.mark.parametrize("fault", [Cut(2), ErrorAfter(2, Failure(status=500))], ids=["cut", "error in the stream"])
async def test_a_broken_stream_says_so_is_settled_and_does_not_end_well(
    serving: Serving, fake_provider: FakeProvider, fault: Cut | ErrorAfter
):
    gateway = await serving(settings(fake_provider))
    fake_provider.reply(faulty(Answer(text="one two three four five six"), fault))
    events: list[wire.ChatEvent] = []
    async with calling(gateway) as client:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await client.gather("StreamChat", question(), events)
    streamed = Streamed(events)
    assert streamed.kinds[-2:] == ["failed", "settled"]
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert error_in(caught.value).code == streamed.events[-2].failed.code
    (row,) = gateway.rows()
    assert row["outcome"] == streamed.settlement.outcome


async def test_what_is_not_a_message_is_an_invalid_argument(serving: Serving, fake_provider: FakeProvider):
    gateway = await serving(settings(fake_provider))
    async with calling(gateway) as client:
        raw: Any = client.channel.unary_unary(f"/{NAME}/Chat")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await raw(b"\xff\xff\xff", metadata=BEARER, timeout=DEADLINE_SECONDS)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_nobody_calls_without_a_key(serving: Serving, fake_provider: FakeProvider):
    gateway = await serving(settings(fake_provider))
    async with calling(gateway) as client:
        for method in _METHODS.values():
            request = getattr(wire, method.input_type.name)()
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await client.gather(method.name, request, [], metadata=())
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
            assert error_in(caught.value).status == 401
    assert not fake_provider.calls


async def test_a_deadline_that_the_client_set_is_not_said_to_be_the_gateways(
    serving: Serving, fake_provider: FakeProvider
):
    gateway = await serving(settings(fake_provider))
    fake_provider.default = faulty(Answer(text="Never."), Stall("before_head"))
    async with calling(gateway) as client:
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await client.rpc("Chat")(question(), metadata=BEARER, timeout=0.8)
    assert failed.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert "The client gave it no more time" in (failed.value.details() or "")


async def test_a_client_that_leaves_ends_the_providers_work(serving: Serving, fake_provider: FakeProvider):
    gateway = await serving(settings(fake_provider))
    never = asyncio.Event()
    fake_provider.reply(faulty(Answer(text="one two three four"), Stall(2, until=never)))
    async with calling(gateway) as client:
        rpc = client.rpc("StreamChat")(question(), metadata=BEARER, timeout=DEADLINE_SECONDS)
        assert (await rpc.read()).WhichOneof("event") == "started"
        rpc.cancel()
        call = await fake_provider.call(0)
        await call.client_left.wait()


@pytest.mark.parametrize(
    ("code", "status", "named"),
    [
        ("provider_refused", 429, "RESOURCE_EXHAUSTED"),
        ("provider_refused", 400, "INVALID_ARGUMENT"),
        ("provider_refused", 502, "UNAVAILABLE"),
        ("provider_stream_error", 504, "DEADLINE_EXCEEDED"),
        ("bad_request", 400, "INVALID_ARGUMENT"),
        ("budget_exceeded", 402, "RESOURCE_EXHAUSTED"),
        ("internal_error", 500, "INTERNAL"),
        ("what only a newer part of us knows", 500, "INTERNAL"),
    ],
)
def test_every_error_has_a_status_that_says_whether_to_try_again(code: str, status: int, named: str):
    assert status_of(Trouble(code=code, message="", status=status)) is grpc.StatusCode[named]


def test_every_class_of_error_has_its_own_status():
    def every(kind: type[TollhouseError]) -> list[type[TollhouseError]]:
        return [kind, *(deeper for narrower in kind.__subclasses__() for deeper in every(narrower))]

    by_code: dict[str, set[str]] = {}
    for kind in every(TollhouseError):
        by_code.setdefault(kind.code, set()).add(kind.grpc_status)
    for code, named in by_code.items():
        if code not in {"provider_refused", "provider_stream_error"}:
            assert status_of(Trouble(code=code, message="", status=0)).name in named


# ------------------------------------------------------------------------------------------------------ other methods


async def test_the_other_methods_answer(serving: Serving, fake_provider: FakeProvider):
    gateway = await serving(settings(fake_provider))
    async with calling(gateway) as client:
        count = await client.call("CountTokens", question())
        assert (count.is_estimate, count.input_tokens > 3) == (True, True)
        request = wire.EmbedRequest(model="openai/text-embedding-3-small")
        request.inputs.add().text = "one two"
        made = await client.call("Embed", request)
        assert made.vectors[0].values[0] == 7.0
        assert made.settlement.cost_nano_usd == gateway.rows()[0]["cost_nano"]
        models = await client.call("ListModels", wire.ListModelsRequest())
        assert "to-openai" in [model.id for model in models.models]
        info = await client.call("GetServerInfo", wire.GetServerInfoRequest())
        assert (info.name, info.protocols, info.models) == ("tollhouse", ["v1"], models.models)


async def test_every_method_of_the_protocol_is_offered():
    class Door:
        """Nobody calls it."""

    assert set(service(Door()).methods) == set(_METHODS)  # type: ignore[arg-type]  # only handed on
