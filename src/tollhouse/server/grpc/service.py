"""One protocol over gRPC: its name on the wire, its methods, and its description for reflection."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from google.protobuf.descriptor_pb2 import FileDescriptorProto

from tollhouse.server.grpc.credentials import Context
from tollhouse.server.grpc.door import Caller


@dataclass(frozen=True, slots=True)
class Whole:
    """A method with one answer.  It is called with who calls, the request's bytes and the RPC."""

    answer: Callable[[Caller, bytes, Context], Awaitable[bytes]]


@dataclass(frozen=True, slots=True)
class Streamed:
    """A method that sends its answer message by message (`door.send`)."""

    answer: Callable[[Caller, bytes, Context], Awaitable[None]]


Method = Whole | Streamed


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What a server needs to offer one service."""

    name: str
    """With its package, as it stands in the path: `vibectl.llm_proxy.VibectlLLMProxy`."""
    methods: Mapping[str, Method]
    """By name.  All take one request; each service knows its own messages."""
    files: tuple[FileDescriptorProto, ...]
    """What describes it, each file after those that it imports."""


class Generated(Protocol):
    """A generated module's `DESCRIPTOR`."""

    @property
    def serialized_pb(self) -> bytes:
        """The description on the wire."""
        ...


def described(file: Generated) -> FileDescriptorProto:
    """The description of a generated file, as `Service.files` wants it."""
    return FileDescriptorProto.FromString(file.serialized_pb)
