"""What a server says of itself: `grpc.health.v1.Health` and server reflection.

Both are open to anyone who can reach the port, as `/health` is over HTTP: they tell which protocols are spoken, and nothing of
models, callers or providers.
"""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any, Final

import grpc
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health, health_pb2
from grpc_health.v1 import health_pb2_grpc as health_stubs
from grpc_reflection.v1alpha import reflection, reflection_pb2
from grpc_reflection.v1alpha import reflection_pb2_grpc as reflection_stubs

from tollhouse.server.grpc.service import Service, described

_SERVING: Final = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING: Final = health_pb2.HealthCheckResponse.NOT_SERVING
REFLECTION: Final = "grpc.reflection.v1.ServerReflection"
"""The name under which newer tools ask first; the messages are those of `v1alpha`, under other names."""


class Introspection:
    """Both services of one server."""

    def __init__(self, services: Sequence[Service]) -> None:
        """`services` are those that are told of."""
        self._names = tuple(service.name for service in services)
        self._files = tuple(file for service in services for file in service.files)
        self._health = _Health(self._names)

    def add_to(self, server: grpc.aio.Server) -> None:
        """Registers them."""
        health_stubs.add_HealthServicer_to_server(self._health, server)
        names = (*self._names, health.SERVICE_NAME, reflection.SERVICE_NAME, REFLECTION)
        servicer = reflection.aio.ReflectionServicer(names, _pool(self._files))
        reflection_stubs.add_ServerReflectionServicer_to_server(servicer, server)  # type: ignore[no-untyped-call]
        server.add_generic_rpc_handlers(
            (
                grpc.method_handlers_generic_handler(
                    REFLECTION,
                    {
                        "ServerReflectionInfo": grpc.stream_stream_rpc_method_handler(
                            servicer.ServerReflectionInfo,
                            request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
                            response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
                        )
                    },
                ),
            )
        )

    def close(self) -> None:
        """Tells whoever watches that this server takes no more calls, and ends their RPCs."""
        self._health.closed.set()


class _Health(health_stubs.HealthServicer):
    """`grpc.health.v1.Health` of a server whose services are all ready from its start to its end.

    Whoever watches through the library's own servicer holds up the end of the server, or is cut off before the word is out.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._names = frozenset(names) | {""}
        self.closed = asyncio.Event()

    async def Check(self, request: health_pb2.HealthCheckRequest, context: Any) -> health_pb2.HealthCheckResponse:  # noqa: N802
        if request.service not in self._names:
            await context.abort(grpc.StatusCode.NOT_FOUND, "There is no such service here.")
        return health_pb2.HealthCheckResponse(status=_NOT_SERVING if self.closed.is_set() else _SERVING)

    async def Watch(self, request: health_pb2.HealthCheckRequest, context: Any) -> None:  # noqa: N802
        is_known = request.service in self._names
        if not self.closed.is_set():
            status = _SERVING if is_known else health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
            await context.write(health_pb2.HealthCheckResponse(status=status))
            await self.closed.wait()
        if is_known:
            await context.write(health_pb2.HealthCheckResponse(status=_NOT_SERVING))


def _pool(files: Sequence[FileDescriptorProto]) -> DescriptorPool:
    """A pool of its own: under the names on the wire other code in this process may have registered its own messages."""
    pool = DescriptorPool()
    seen: set[str] = set()
    alpha = described(reflection_pb2.DESCRIPTOR)
    for file in (*files, described(health_pb2.DESCRIPTOR), alpha, _grown_up(alpha)):
        if file.name not in seen:
            seen.add(file.name)
            pool.Add(file)
    return pool


def _grown_up(alpha: FileDescriptorProto) -> FileDescriptorProto:
    """The description of `grpc.reflection.v1`, which the library does not have: that of `v1alpha` under its own name."""
    file = FileDescriptorProto(name="grpc/reflection/v1/reflection.proto", syntax=alpha.syntax)
    file.message_type.extend(alpha.message_type)
    file.service.extend(alpha.service)
    file.package = REFLECTION.rpartition(".")[0]

    def renamed(type_name: str) -> str:
        return type_name.replace(f".{alpha.package}.", f".{file.package}.")

    for message in file.message_type:
        for field in message.field:
            if field.type_name:
                field.type_name = renamed(field.type_name)
    for method in file.service[0].method:
        method.input_type, method.output_type = renamed(method.input_type), renamed(method.output_type)
    return file
