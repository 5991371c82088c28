"""The listener itself: what it says of itself, what it puts up with, and what it does not take in."""

import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

from support.certificates import Pki
from support.clients import settings
from support.fake_provider import FakeProvider
from support.serving import Running, Serving
from support.vibectl_client import BEARER, VibectlClient, calling, prompt
from tollhouse.config.schema import TlsSettings
from tollhouse.errors import GatewayError
from tollhouse.server.grpc.listener import GrpcListener
from tollhouse.server.grpc.relay import TlsRelay
from tollhouse.server.grpc.vibectl import NAME
from tollhouse.server.listener import Place
from tollhouse.server.tls import LiveTls


def health_of(client: VibectlClient) -> Any:
    """The stub; its methods are made at run time."""
    return health_pb2_grpc.HealthStub(client.channel)


SERVING = health_pb2.HealthCheckResponse.SERVING


async def reflected(
    gateway: Running, request: reflection_pb2.ServerReflectionRequest, version: str
) -> reflection_pb2.ServerReflectionResponse:
    async with calling(gateway) as client:
        ask: grpc.aio.StreamStreamMultiCallable[
            reflection_pb2.ServerReflectionRequest, reflection_pb2.ServerReflectionResponse
        ] = client.channel.stream_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )
        async for response in ask(iter([request]), timeout=60):
            return response
    raise AssertionError("no answer")


@pytest.mark.parametrize("service", ["", NAME])
async def test_health_is_told_to_anybody(serving: Serving, fake_provider: FakeProvider, service: str):
    gateway = await serving(settings(fake_provider))
    async with calling(gateway) as client:
        stub = health_of(client)
        assert (await stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=60)).status == SERVING


async def test_who_watches_the_health_hears_of_a_drain_and_does_not_hold_it_up(
    serving: Serving, fake_provider: FakeProvider
):
    gateway = await serving(settings(fake_provider))
    async with calling(gateway) as client:
        watch = health_of(client).Watch(health_pb2.HealthCheckRequest(), timeout=60)
        heard = [(await watch.read()).status]
        gateway.worker.drain()
        heard.append((await watch.read()).status)
        await gateway.worker.wait()
    assert heard == [SERVING, health_pb2.HealthCheckResponse.NOT_SERVING]


async def test_the_health_of_what_is_not_here_is_unknown(serving: Serving, fake_provider: FakeProvider):
    gateway = await serving(settings(fake_provider))
    wanted = health_pb2.HealthCheckRequest(service="nothing.Nothing")
    async with calling(gateway) as client:
        watch = health_of(client).Watch(wanted, timeout=60)
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await health_of(client).Check(wanted, timeout=60)
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_reflection_lists_the_services_and_describes_each(
    serving: Serving, fake_provider: FakeProvider, version: str
):
    gateway = await serving(settings(fake_provider))
    response = await reflected(gateway, reflection_pb2.ServerReflectionRequest(list_services=""), version)
    names = {service.name for service in response.list_services_response.service}
    assert {NAME, "grpc.health.v1.Health", f"grpc.reflection.{version}.ServerReflection"} <= names
    for name in names:
        told = await reflected(gateway, reflection_pb2.ServerReflectionRequest(file_containing_symbol=name), version)
        files = map(FileDescriptorProto.FromString, told.file_descriptor_response.file_descriptor_proto)
        assert name in {f"{file.package}.{service.name}" for file in files for service in file.service}


async def test_reflection_describes_the_service_under_the_name_that_is_called(
    serving: Serving, fake_provider: FakeProvider
):
    gateway = await serving(settings(fake_provider))
    response = await reflected(gateway, reflection_pb2.ServerReflectionRequest(file_containing_symbol=NAME), "v1")
    file = FileDescriptorProto.FromString(response.file_descriptor_response.file_descriptor_proto[0])
    service = file.service[0]
    assert f"{file.package}.{service.name}" == NAME
    assert {method.name: method.input_type for method in service.method} == {
        "Execute": ".vibectl.llm_proxy.ExecuteRequest",
        "StreamExecute": ".vibectl.llm_proxy.ExecuteRequest",
        "GetServerInfo": ".vibectl.llm_proxy.GetServerInfoRequest",
    }
    assert "tollhouse" not in str(file)


async def test_a_message_over_the_bound_is_refused_before_it_is_read(serving: Serving, fake_provider: FakeProvider):
    gateway = await serving(f"server: {{max_body_bytes: 100KiB}}\n{settings(fake_provider)}")
    async with calling(gateway) as client:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await client.execute(prompt(user=["x" * 110_000]))
        assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert (await client.execute(prompt(user=["x" * 90_000]))).success.response_text


async def test_a_message_over_the_library_s_own_bound_is_taken(serving: Serving, fake_provider: FakeProvider):
    gateway = await serving(settings(fake_provider))
    async with calling(gateway) as client:
        assert (await client.execute(prompt(user=["word " * 1_000_000]))).success.response_text


async def test_compressed_messages_are_refused(serving: Serving, fake_provider: FakeProvider):
    """What a small message becomes would not be bounded by anything."""
    gateway = await serving(settings(fake_provider))
    async with grpc.aio.insecure_channel(gateway.grpc, compression=grpc.Compression.Gzip) as channel:
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(f"/{NAME}/Execute")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(prompt(user=["x" * 100_000]).SerializeToString(), metadata=BEARER, timeout=60)
    assert caught.value.code() in {grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.INTERNAL}
    assert not fake_provider.calls


@pytest.fixture
def nothing_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A folder for temporary files, short enough for a socket, that is empty afterwards."""
    folder = Path(tempfile.mkdtemp())
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    yield
    folder.rmdir()


@pytest.mark.usefixtures("nothing_left")
async def test_a_port_that_is_taken_after_all_leaves_nothing_behind(tmp_path: Path):
    """As where a stranger takes it between the look at it and the start."""
    pair = Pki(tmp_path).server()
    tls = LiveTls(TlsSettings(cert=str(pair.cert), key=str(pair.key)), "test")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        place = Place("127.0.0.1", taken.getsockname()[1])
        door: Any = None  # nobody gets as far
        relay = TlsRelay(place, tls, max_connections=1)
        listener = GrpcListener(place, door, (), relay=relay, max_message_bytes=1000, max_concurrent_rpcs=1)
        with pytest.raises(GatewayError, match="something else listens there already"):
            await listener.start()
        await listener.stop(1)
