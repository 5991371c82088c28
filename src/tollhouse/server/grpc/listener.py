"""The gRPC server of one worker.

It runs on the worker's own event loop beside the HTTP listener.  All workers of a gateway listen on the same port; that nobody
else does is made sure by `server.listener.reserve` before any of them starts.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Final

import grpc
import grpc.aio

from tollhouse.errors import BadRequest, GatewayError
from tollhouse.server.grpc.credentials import Context
from tollhouse.server.grpc.door import RpcDoor
from tollhouse.server.grpc.introspection import Introspection
from tollhouse.server.grpc.relay import TlsRelay
from tollhouse.server.grpc.service import Method, Service, Streamed
from tollhouse.server.http.bodies import BODY_SECONDS
from tollhouse.server.listener import Place

LEAST_PING_SECONDS: Final = 10
"""How often a client may ask whether the connection still stands, also while it makes no calls."""
ASK_SECONDS: Final = 60
LOST_SECONDS: Final = 20
"""After how much silence a client is asked whether it is there, and how long it may take; then its calls are cancelled."""
IDLE_SECONDS: Final = 1800
"""How long a connection without calls is kept; clients open another when they need one."""
MAX_CONNECTIONS: Final = 16_384
MAX_STREAMS: Final = 1_000
"""RPCs at a time on one connection.  How many calls are answered at a time is `server.max_concurrent_calls`."""
NO_COMPRESSION: Final = 1
"""The set that has only `identity` in it: how large a compressed message becomes is not bounded by the library."""
STOP_SECONDS: Final = 1.0
"""How long those who make no calls may take to hear of the end."""

ServiceOf = Callable[[RpcDoor], Service]


class GrpcListener:
    """The `Server` of gRPC: start, wait, stop."""

    def __init__(
        self,
        place: Place,
        door: RpcDoor,
        services: Sequence[ServiceOf],
        *,
        credentials: grpc.ServerCredentials | None = None,
        relay: TlsRelay | None = None,
        max_message_bytes: int,
        max_concurrent_rpcs: int,
    ) -> None:
        """Nothing listens until `start`.  Without `credentials` it speaks plain text; with a `relay`, to that alone.

        RPCs over `max_concurrent_rpcs`, whatever they ask for, are refused by the library.
        """
        loop = asyncio.get_running_loop()
        self._place = place
        self._tasks: set[asyncio.Task[Any]] = set()
        self._stopping: asyncio.Task[None] | None = None
        self._stopped: asyncio.Future[None] = loop.create_future()
        made = [service(door) for service in services]
        self._introspection = Introspection(made)
        self._door = door
        server = self._server = grpc.aio.server(
            options=_options(max_message_bytes), maximum_concurrent_rpcs=max_concurrent_rpcs
        )
        for service in made:
            server.add_generic_rpc_handlers(
                (
                    grpc.method_handlers_generic_handler(
                        service.name, {name: self._handler(method) for name, method in service.methods.items()}
                    ),
                )
            )
        self._introspection.add_to(server)
        self._credentials = credentials
        self._relay = relay

    async def start(self) -> None:
        """Begins to listen.  Raises `GatewayError` when the port cannot be had after all."""
        address, relay = self._place.address, self._relay
        try:
            if relay is not None:
                self._server.add_insecure_port(relay.open())
            elif self._credentials is None:
                self._server.add_insecure_port(address)
            else:
                self._server.add_secure_port(address, self._credentials)
            await self._server.start()
            if relay is not None:
                await relay.start()
        except (RuntimeError, OSError) as error:
            if relay is not None:
                relay.close()
            raise GatewayError(
                f"The gRPC listener cannot listen on {address}: something else listens there already.",
                hint="Stop it, or change `server.grpc_port`.",
            ) from error

    async def wait(self) -> None:
        """Returns when `stop` was called and every call has ended."""
        await asyncio.shield(self._stopped)

    async def stop(self, limit_seconds: float) -> bool:
        """Stops accepting and lets calls end; false if some were still running after the limit.

        Called a second time, it waits for as long again and then breaks off what is left.
        """
        is_last = self._stopping is not None
        if self._stopping is None:
            self._introspection.close()
            if self._relay is not None:
                self._relay.stop_listening()
            # The grace is for calls; whoever only asks what there is would use all of it.
            grace = 2 * limit_seconds + 60
            self._stopping = asyncio.get_running_loop().create_task(self._server.stop(grace))
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=limit_seconds)
        if self._tasks and not is_last:
            return False
        await asyncio.wait({self._stopping}, timeout=STOP_SECONDS)
        await self._server.stop(None)  # breaks off what is left
        if self._relay is not None:
            self._relay.close()
        if not self._stopped.done():
            self._stopped.set_result(None)
        return True

    def _handler(self, method: Method) -> "grpc.RpcMethodHandler[Any, Any]":
        """To the library a request is a stream, of which one message is read, and that only once the caller is known.

        Otherwise it would take in the whole message of anybody at all.
        """
        received: Any = self._received(method)
        if isinstance(method, Streamed):
            return grpc.stream_stream_rpc_method_handler(received)
        return grpc.stream_unary_rpc_method_handler(received)

    def _received(self, method: Method) -> "Callable[[AsyncIterator[bytes], Context], Awaitable[bytes | None]]":
        async def received(requests: AsyncIterator[bytes], context: Context) -> bytes | None:
            task = asyncio.current_task()
            if task is not None:  # which a drain waits for
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            try:
                caller = await self._door.entered(context)
                answer = await method.answer(caller, await _only(requests), context)
            except grpc.aio.AbortError:
                raise  # the status is sent
            except Exception as error:  # noqa: BLE001  # the outer edge of an RPC: it is logged and this RPC ends
                await self._door.fail(context, error)
            else:
                return answer

        return received


async def _only(requests: AsyncIterator[bytes]) -> bytes:
    """The one message of a request.  Raises `BadRequest` when there is none, or none in time."""
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await anext(requests)
    except TimeoutError as error:
        raise BadRequest(f"The request did not arrive within {BODY_SECONDS:.0f} s.") from error
    except StopAsyncIteration as error:  # or it was over the bound, and the library has refused it already
        raise BadRequest("The RPC has no request.") from error


def _options(max_message_bytes: int) -> list[tuple[str, int]]:
    return [
        ("grpc.so_reuseport", 1),
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.compression_enabled_algorithms_bitset", NO_COMPRESSION),
        ("grpc.max_concurrent_streams", MAX_STREAMS),
        ("grpc.max_allowed_incoming_connections", MAX_CONNECTIONS),
        # The published client pings every 30 s, also when idle; by default a server ends such a connection as abusive.
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", LEAST_PING_SECONDS * 1000),
        ("grpc.keepalive_time_ms", ASK_SECONDS * 1000),
        ("grpc.keepalive_timeout_ms", LOST_SECONDS * 1000),
        ("grpc.max_connection_idle_ms", IDLE_SECONDS * 1000),
    ]
