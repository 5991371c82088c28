"""One protocol over gRPC: its name on the wire, its methods, and its description for reflection."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import grpc
from google.protobuf.descriptor_pb2 import FileDescriptorProto


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What a server needs to offer one service."""

    name: str
    """With its package, as it stands in the path: `vibectl.llm_proxy.VibectlLLMProxy`."""
    methods: Mapping[str, "grpc.RpcMethodHandler[Any, Any]"]
    """By the method's name.  Handlers take and give bytes; each service knows its own messages."""
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
