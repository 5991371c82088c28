"""What the gRPC server offers, and how it is wired: the only module of this package that a worker imports."""

from collections.abc import Callable
from typing import Final

from tollhouse._version import __version__
from tollhouse.config.schema import Config
from tollhouse.errors import TollhouseError
from tollhouse.server.grpc import gateway, vibectl
from tollhouse.server.grpc.credentials import asks_optionally, client_of, server_credentials
from tollhouse.server.grpc.door import RpcDoor
from tollhouse.server.grpc.listener import MAX_CONNECTIONS, GrpcListener, ServiceOf
from tollhouse.server.grpc.relay import TlsRelay
from tollhouse.server.listener import Place
from tollhouse.server.running_calls import RunningCalls
from tollhouse.server.serving import Serving
from tollhouse.server.tls import LiveTls

SERVICES: Final[tuple[ServiceOf, ...]] = (gateway.service, vibectl.service)
"""The protocols; each entry makes its service from the door that all share."""

SIDE_RPCS: Final = 1_000
"""RPCs at a time beside the calls: of those who watch the gateway's health, ask what it offers, or are being told no."""


def listener(
    place: Place,
    config: Config,
    *,
    tls: LiveTls | None,
    serving: Callable[[], Serving],
    running: RunningCalls,
    refused: Callable[[str, str, TollhouseError], None],
    unexpected: Callable[[str, BaseException], None],
) -> GrpcListener:
    """The server of one worker, which does not listen yet; for the arguments see `RpcDoor`."""
    relay = TlsRelay(place, tls, max_connections=MAX_CONNECTIONS) if tls is not None and asks_optionally(tls) else None
    return GrpcListener(
        place,
        RpcDoor(
            serving=serving,
            running=running,
            version=config.server.advertised_version or __version__,
            refused=refused,
            unexpected=unexpected,
            client_of=client_of if relay is None else relay.client_of,
        ),
        SERVICES,
        credentials=server_credentials(tls) if relay is None else None,
        relay=relay,
        max_message_bytes=config.server.max_body_bytes,
        max_concurrent_rpcs=config.server.max_concurrent_calls + SIDE_RPCS,
    )
