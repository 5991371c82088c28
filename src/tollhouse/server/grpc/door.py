"""What every gRPC service needs of the gateway: who calls, from where and until when, and a way to carry the call.

A service decodes what is its own about an RPC, hands a `Call` to `RpcDoor.answer`, and gives the answer back through a `Sink`.
"""

import asyncio
import ipaddress
import time
from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final, NoReturn
from urllib.parse import unquote

import grpc
import grpc.aio

from tollhouse.dialects.dialect import Dialect
from tollhouse.dialects.head_lines import Field
from tollhouse.dialects.protobuf.failure import trouble_of
from tollhouse.errors import ClientLeft, GatewayError, TollhouseError, Unauthenticated
from tollhouse.gateway.call import Call, Headers, Sink
from tollhouse.ledger.record import CallRecord
from tollhouse.policy.identity import Principal, check_address
from tollhouse.policy.peer_certificate import PeerCertificate
from tollhouse.server.grpc import details
from tollhouse.server.grpc.credentials import Client, Context, client_of
from tollhouse.server.http.callers import FORWARDED, caller_address
from tollhouse.server.http.exchange import new_request_id
from tollhouse.server.running_calls import RunningCalls
from tollhouse.server.serving import Serving

ANSWER_SECONDS: Final = 0.5
"""How much of the client's time is kept for telling it that there is no answer: later it hears nothing but its own clock.
Of a short time it is a quarter."""
LAST_SECONDS: Final = 1.0
"""How long a client may take for the message that was under way when its call was ended, to be told why."""
STUCK_SECONDS: Final = 60.0
"""How long it is waited for after that, to tell it at least that this is not all."""
_stuck: Final[ContextVar["asyncio.Task[None] | None"]] = ContextVar("stuck", default=None)
"""A message of this RPC that its client has not taken.  (An RPC has a task, and so a context, of its own.)"""
_HTTP_ALONE: Final = frozenset({b"content-type", b"cache-control", b"content-length"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """One RPC whose caller is known."""

    id: str
    """The request id, which the client finds in the trailing metadata as `x-request-id`."""
    serving: Serving
    """The configuration that this RPC began with."""
    principal: Principal
    address: str
    """The caller's IP address; empty on a socket of this machine."""
    headers: Sequence[Field]
    """The metadata, names in lower case."""
    arrived: float
    """Monotonic seconds."""
    arrived_at_us: int
    deadline: float | None
    """Until when an answer can still reach the client, in monotonic seconds; `None` when it waits for ever."""

    def call(
        self,
        door: str,
        dialect: Dialect[Any],
        body: bytes,
        *,
        stream: bool | None = None,
        settled: Callable[[CallRecord], None] | None = None,
    ) -> Call:
        """What this RPC asks of the gateway; `door` is its name in the ledger, and for the rest see `Call`."""
        return Call(
            id=self.id,
            door=door,
            dialect=dialect,
            body=body,
            headers=self.headers,
            principal=self.principal,
            address=self.address,
            arrived=self.arrived,
            arrived_at_us=self.arrived_at_us,
            stream=stream,
            deadline=self.deadline,
            settled=settled,
        )


class Gone(Exception):
    """Nobody takes the answer any more.  For `RpcDoor.fail`, and for nobody before it."""


class RpcDoor:
    """One for all services of a server."""

    def __init__(
        self,
        *,
        serving: Callable[[], Serving],
        running: RunningCalls,
        version: str,
        refused: Callable[[str, str, TollhouseError], None],
        unexpected: Callable[[str, BaseException], None],
        client_of: Callable[[Context], Client | None] = client_of,
    ) -> None:
        """`version` is what clients are told.

        `refused` hears of what never became a call (request id, caller's address, error), `unexpected` of our own failures.
        `client_of` tells who is connected; with `None` the RPC is refused, whatever it shows.
        """
        self.version = version
        self._serving = serving
        self._running = running
        self._refused = refused
        self._unexpected = unexpected
        self._client_of = client_of

    async def entered(self, context: Context) -> Caller:
        """Who calls.  Ends the RPC with UNAUTHENTICATED or PERMISSION_DENIED, and the reason, when it is nobody who may."""
        serving = self._serving()
        headers = _headers(context)
        arrived = time.monotonic()
        remaining: float | None = context.time_remaining()
        request_id = new_request_id()
        context.set_trailing_metadata((("x-request-id", request_id),))
        client = self._client_of(context)
        if client is None:
            # A program of this user's came to the socket behind the listener, or its connection has just ended.
            await refuse(
                context, Unauthenticated("This socket is the gateway's own.", hint="Use its port."), request_id
            )
        address = peer_address(client.peer)
        if serving.proxies is not None:
            address = caller_address(address, [value for name, value in headers if name == FORWARDED], serving.proxies)
        try:
            principal = _identify(serving, headers, client.certificate)
            check_address(principal, address)
        except TollhouseError as error:
            self._refused(request_id, address, error)
            await refuse(context, error, request_id)
        return Caller(
            id=request_id,
            serving=serving,
            principal=principal,
            address=address,
            headers=headers,
            arrived=arrived,
            arrived_at_us=time.time_ns() // 1000,
            deadline=None if remaining is None else arrived + remaining - min(ANSWER_SECONDS, remaining / 4),
        )

    async def answer(self, caller: Caller, call: Call, sink: Sink) -> None:
        """Carries a call to its end.  Cancellation escapes only when the client has left.

        Raises `Gone` when nobody takes the answer, and otherwise what the client is then to be told: `Draining`, `Overloaded`,
        and also after the answer has begun `Draining`, `KeyRevoked` and `GatewayError`.
        """
        await self.carried(caller, lambda: caller.serving.gateway.answer(call, sink))

    async def carried(self, caller: Caller, work: Callable[[], Awaitable[None]]) -> None:
        """Does work for a caller as one of the calls under way: within their bound, and ended with them.

        Raises as `answer` does.
        """
        running = self._running
        try:
            running.check_open()
            running.check_room(caller.serving.max_concurrent_calls)
        except TollhouseError as error:
            self._refused(caller.id, caller.address, error)
            raise
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("an RPC runs in a task")
        running.begin(task, caller.principal)
        try:
            await work()
        except ClientLeft as error:
            raise Gone from error
        except asyncio.CancelledError:
            ending = running.ending(task)
            if ending is None:
                raise
            task.uncancel()
            raise ending from None
        except TollhouseError:
            raise
        except Exception as error:
            self._unexpected(caller.id, error)
            raise _our_fault() from error
        finally:
            running.end(task)

    async def fail(self, context: Context, error: Exception) -> NoReturn:
        """Ends an RPC that failed, with the error's own status where it has one; of our own faults the client hears no more."""
        if isinstance(error, Gone | ClientLeft | grpc.aio.BaseError):
            await break_off(context)
        if isinstance(error, TollhouseError):
            await refuse(context, error, new_request_id())
        request_id = new_request_id()
        self._unexpected(request_id, error)
        await refuse(context, _our_fault(), request_id)


def _our_fault() -> GatewayError:
    return GatewayError("Something went wrong inside the gateway.", hint="Its log has the details.")


async def refuse(context: Context, error: TollhouseError, request_id: str) -> NoReturn:
    """Ends an RPC with the error's own gRPC status and words; the trailing metadata has its stable code, and all of it."""
    trouble = trouble_of(error, request_id)
    await context.abort(
        details.status_of(trouble),
        details.words_of(trouble),
        (("x-request-id", request_id), *details.metadata_of(trouble)),
    )


def metadata_of(caller: Caller, headers: Headers) -> tuple[tuple[str, str], ...]:
    """The trailing metadata of an answer: its request id, and what the gateway says of it that HTTP has as headers."""
    said = tuple(
        (name.decode("latin-1"), value.decode("latin-1")) for name, value in headers if name not in _HTTP_ALONE
    )
    return (("x-request-id", caller.id), *said)


async def send(context: Context, message: bytes, *, last_seconds: float = LAST_SECONDS) -> None:
    """Sends one message of a stream, and waits until the client has room for more.  Raises `ClientLeft`.

    The library takes one message or status at a time and goes on with it after its caller was cancelled.  So a cancellation
    leaves here when that message is through, or the client has had `last_seconds` to take it: only then can it be told why.
    """
    writing = asyncio.get_running_loop().create_task(_write(context, message))
    try:
        await asyncio.shield(writing)
    except asyncio.CancelledError:
        writing.add_done_callback(_heard)
        _, stuck = await asyncio.wait({writing}, timeout=last_seconds)
        if stuck:
            _stuck.set(writing)
        raise
    except (grpc.aio.InternalError, grpc.aio.UsageError) as error:
        raise ClientLeft("The client left before the end of its answer.") from error


async def break_off(context: Context) -> NoReturn:
    """Ends an RPC whose client did not take what it was sent; one that ended in good manner would be a lie.

    Waits for a client that is only slow: the library has no status for who has not taken the last message.
    """
    stuck = _stuck.get()
    if stuck is not None:
        await asyncio.wait({stuck}, timeout=STUCK_SECONDS)
    try:
        await context.abort(grpc.StatusCode.UNAVAILABLE, "The answer was broken off.")
    except grpc.aio.AbortError:
        raise
    except grpc.aio.BaseError as error:
        raise asyncio.CancelledError from error  # nobody is there


async def _write(context: Context, message: bytes) -> None:
    await context.write(message)


def _heard(written: "asyncio.Task[None]") -> None:
    """Looks at a task's error, so that asyncio does not complain that nobody did."""
    if not written.cancelled():
        written.exception()


def peer_address(peer: str) -> str:
    """The IP address in `ipv4:127.0.0.1:1234` or `ipv6:%5B::1%5D:1234`; empty for anything else (a Unix socket)."""
    kind, _, rest = peer.partition(":")
    if kind not in {"ipv4", "ipv6"}:
        return ""
    host = unquote(rest).rpartition(":")[0].strip("[]")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return ""
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)


def _headers(context: Context) -> list[tuple[bytes, bytes]]:
    metadata: Any = context.invocation_metadata() or ()
    return [
        (name.encode("latin-1"), value if isinstance(value, bytes) else value.encode("latin-1", "replace"))
        for name, value in metadata
    ]


def _identify(serving: Serving, headers: Sequence[Field], peer: PeerCertificate | None) -> Principal:
    """The principal behind the metadata entry `authorization: Bearer …`, or `x-api-key`; else behind the client certificate."""
    credential: bytes | None = None
    is_malformed = False
    for name, value in headers:
        if name == b"authorization":
            scheme, _, token = value.partition(b" ")
            if scheme.lower() == b"bearer" and token.strip():
                credential = token.strip()
                break
            is_malformed = True
        elif name == b"x-api-key" and value:
            credential = value
    try:
        return serving.keys.identify(credential, peer)
    except Unauthenticated:
        if credential is None and is_malformed:
            raise Unauthenticated(
                "The `authorization` metadata is malformed: it has to be `Bearer`, one space, and the key or token.",
                hint="Check how the client was given its credential.",
            ) from None
        raise
