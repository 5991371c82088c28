"""gRPC as the client uses it: one channel to a gateway, whole messages as bytes, and its statuses as our errors.

The channel multiplexes calls over one connection and makes it anew when it is lost; the library's own retries are off, for it
cannot know which calls are safe to send twice.  gRPC's core has threads, which do not survive a fork: fork before the first
call, or use another protocol.
"""

import asyncio
import os
import re
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from tollhouse.client.failures import (
    AnswerBroken,
    BadSettings,
    CallFailed,
    ClientClosed,
    ConnectionRefused,
    NotForThisLoop,
    NotSpoken,
    ServerFailed,
    TimedOut,
    TlsFailed,
    Unreachable,
)
from tollhouse.client.over_typed import Method, of_trouble
from tollhouse.client.settings import Settings
from tollhouse.client.translate import Scene, certificate_refused, of_status
from tollhouse.dialects.protobuf import Typed
from tollhouse.dialects.protobuf.messages import SERVER_INFO, TROUBLE
from tollhouse.dialects.protobuf.reports import Trouble
from tollhouse.dialects.protobuf.shapes import Fault
from tollhouse.extras import GRPC
from tollhouse.upstream.transport import Address
from tollhouse.upstream.wire import load_tls

if TYPE_CHECKING:
    import grpc.aio

SERVICE: Final = "tollhouse.v1.Gateway"
HEALTH: Final = "/grpc.health.v1.Health/Check"
DETAILS: Final = "grpc-status-details-bin"
MAX_MESSAGE_BYTES: Final = 64 * 1024 * 1024
KEEPALIVE_SECONDS: Final = 60.0
"""How often a connection with calls on it is asked whether it lives."""

_used_in: Final[set[int]] = set()
"""The process in which gRPC was first used; a set because it is noted once.  In a forked child it is another one."""

Metadata: TypeAlias = Sequence[tuple[str, str | bytes]]


class Channel:
    """A channel that is opened with the first call, on the loop that makes it."""

    def __init__(self, settings: Settings) -> None:
        """Opens nothing.  Raises `NotSpoken` without the library, and `ConfigError` for certificates that cannot be used."""
        try:
            import grpc.aio
        except ImportError as error:
            raise NotSpoken("gRPC is not installed here.", hint=GRPC.command) from error
        self._grpc = grpc
        self._settings = settings
        self._credentials = _credentials(settings) if settings.server.is_tls else None
        self._channel: grpc.aio.Channel | None = None
        token = settings.token
        self._metadata = () if token is None else (("authorization", f"Bearer {token.reveal()}"),)
        # The library retries for ever by itself, with waits of its own; a call in the meantime fails at once.
        reconnect = max(100, int(settings.connect_timeout * 1000))
        self._options = (
            ("grpc.enable_retries", 0),
            ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
            ("grpc.max_send_message_length", -1),
            ("grpc.keepalive_time_ms", int(KEEPALIVE_SECONDS * 1000)),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.min_reconnect_backoff_ms", reconnect),
            ("grpc.max_reconnect_backoff_ms", max(reconnect, 2000)),
            ("grpc.primary_user_agent", "tollhouse-client"),
            # The library reads the same variables by itself, but not that this machine is reached without a proxy.
            ("grpc.enable_http_proxy", int(_has_proxy(settings))),
        )
        self.scene_of_all = Scene(
            mode="proxy", where=settings.where, address=str(settings.server), has_token=token is not None
        )

    def scene(self, model: str) -> Scene:
        """What an error of a call is about."""
        return replace(self.scene_of_all, model=model)

    async def ask(self, path: str, message: bytes, until: float, scene: Scene, read_trouble: "TroubleReader") -> bytes:
        """One message for another.  Raises `CallFailed`."""
        call: Any = self._open().unary_unary(path)
        try:
            answer: bytes = await call(message, timeout=_left(until), metadata=self._metadata)
        except self._grpc.aio.AioRpcError as error:
            raise of_rpc(error, scene, read_trouble) from error
        except asyncio.CancelledError:
            raise
        except self._grpc.aio.UsageError as error:
            raise ClientClosed("The client was closed during the call.") from error
        return answer

    def stream(
        self, path: str, message: bytes, until: float, scene: Scene, read_trouble: "TroubleReader"
    ) -> "RpcMessages":
        """One message for many."""
        call: Any = self._open().unary_stream(path)
        return RpcMessages(
            call(message, timeout=_left(until), metadata=self._metadata), self._grpc, scene, read_trouble
        )

    async def probe(self, until: float) -> float:
        """The seconds until anything answers: health, or word that there is no such service."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        call: Any = self._open().unary_unary(HEALTH)
        try:
            await call(b"", timeout=_left(until))
        except self._grpc.aio.AioRpcError as error:
            if error.code() in {self._grpc.StatusCode.UNAVAILABLE, self._grpc.StatusCode.DEADLINE_EXCEEDED}:
                raise of_rpc(error, self.scene_of_all, no_trouble) from error
        return loop.time() - began

    async def aclose(self) -> None:
        """Ends every call and the connection.  Idempotent."""
        channel, self._channel = self._channel, None
        if channel is not None:
            await channel.close()

    def _open(self) -> "grpc.aio.Channel":
        if self._channel is None:
            check_process(_used_in, os.getpid())
            aio, where = self._grpc.aio, self._settings.where
            if self._credentials is None:
                self._channel = aio.insecure_channel(where, options=self._options)
            else:
                self._channel = aio.secure_channel(where, self._credentials, options=self._options)
        return self._channel


def check_process(used_in: set[int], pid: int) -> None:
    """Notes where gRPC is used.  Raises `NotForThisLoop` in a child of that process, where calls would hang."""
    if used_in and pid not in used_in:
        raise NotForThisLoop(
            "gRPC does not survive a fork, and was used in this process before it.",
            hint="Fork before the first call over it, or say `protocol=protobuf` with the gateway's https:// address.",
        )
    used_in.add(pid)


def _has_proxy(settings: Settings) -> bool:
    server = settings.server
    port = server.port_for(grpc=True)
    address = Address(scheme="https", host=server.host, port=port, path="", authority=b"")
    return settings.proxies.route(address) is not None


def _left(until: float) -> float:
    return max(0.001, until - asyncio.get_running_loop().time())


def _credentials(settings: Settings) -> "grpc.ChannelCredentials":
    import grpc

    load_tls(settings.ca_bundle, settings.client_cert, settings.client_key)  # says what is wrong with the files
    paths = ssl.get_default_verify_paths()
    # gRPC would trust a list of its own; a person expects what the machine trusts.
    trusted = settings.ca_bundle or paths.cafile or paths.openssl_cafile
    try:
        roots = Path(trusted).read_bytes() if Path(trusted).is_file() else None
        chain = None if settings.client_cert is None else Path(settings.client_cert).read_bytes()
        key = None if chain is None else Path(settings.client_key or settings.client_cert or "").read_bytes()
    except OSError as error:
        raise BadSettings([f"{error.filename}: This cannot be read: {error.strerror or error}."]) from error
    return grpc.ssl_channel_credentials(roots, key, chain)


class RpcMessages:
    """See `Messages`."""

    __slots__ = ("_call", "_grpc", "_has_some", "_read_trouble", "_scene")

    def __init__(self, call: Any, grpc: Any, scene: Scene, read_trouble: "TroubleReader") -> None:
        self._call = call
        self._grpc = grpc
        self._scene = scene
        self._read_trouble = read_trouble
        self._has_some = False

    async def some(self) -> Sequence[bytes] | None:
        """See `Messages.some`."""
        try:
            message = await self._call.read()
        except self._grpc.aio.AioRpcError as error:
            raise of_rpc(error, self._scene, self._read_trouble, begun=self._has_some) from error
        if message is self._grpc.aio.EOF:
            return None
        self._has_some = True
        return (message,)

    def close(self) -> None:
        """See `Messages.close`."""
        self._call.cancel()


# --------------------------------------------------------------------------------------------------------------- errors

_HTTP_STATUSES: Final[Mapping[str, int]] = {
    "INVALID_ARGUMENT": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "FAILED_PRECONDITION": 409,
    "RESOURCE_EXHAUSTED": 429,
    "INTERNAL": 500,
}
"""What a status without details comes down to."""

_UNSENT: Final = re.compile(r"failed to connect|errors resolving|resolution failed", re.IGNORECASE)
"""What the library says when there was no connection; all else may have happened in the middle of a call."""
_VERIFY: Final = re.compile(r"CERTIFICATE_VERIFY_FAILED:? ?([a-z][a-z ,.'-]*)?")


def of_rpc(error: Any, scene: Scene, read_trouble: "TroubleReader", *, begun: bool = False) -> CallFailed:
    """The client's error for the status that an RPC ended with."""
    name: str = error.code().name
    words = " ".join((error.details() or "").split())[:1000]
    trouble = read_trouble(error.trailing_metadata() or ())
    if trouble is not None:
        return of_trouble(trouble, _HTTP_STATUSES.get(name, 500), scene)
    place = scene.address or scene.where
    match name:
        case "UNAVAILABLE" if begun or not _UNSENT.search(words):
            return AnswerBroken(f"The connection to {place} broke.", where=scene.where)
        case "UNAVAILABLE":
            return _unconnected(words, scene, place)
        case "DEADLINE_EXCEEDED":
            return TimedOut(
                f"{place} did not answer in time.",
                phase="total",
                hint="A longer `timeout` may help.",
                where=scene.where,
            )
        case "UNIMPLEMENTED":
            return NotSpoken(
                f"{place} speaks gRPC, but not this service.",
                hint="Is it the older tool's server? Its addresses begin with vibectl-server://. A Tollhouse's begin with "
                "tollhouse:// or https://.",
                where=scene.where,
            )
        case "CANCELLED":
            return ServerFailed(f"{place} gave the call up.", where=scene.where)
        case _ if name in _HTTP_STATUSES:
            return of_status(_HTTP_STATUSES[name], words or f"{place} answered {name}.", scene, code=name.lower())
        case _:
            return ServerFailed(f"{place} answered {name}: {words}", where=scene.where)


def _unconnected(words: str, scene: Scene, place: str) -> CallFailed:
    """Why there was no connection, out of the library's sentence."""
    verify = _VERIFY.search(words)
    if verify is not None:
        return certificate_refused(verify[1] or "it cannot be verified", scene)
    if "Hostname Verification" in words:
        return certificate_refused("hostname mismatch", scene)
    if "WRONG_VERSION_NUMBER" in words:
        return TlsFailed(
            f"{place} does not speak TLS at that port.",
            hint="Is it a plain one? Then the address begins with tollhouse+insecure:// or vibectl-server-insecure://.",
            where=scene.where,
        )
    if "handshake failed" in words.lower() or "certificate" in words.lower():
        return TlsFailed(
            f"The TLS handshake with {place} failed.",
            hint="Does it want a client certificate? Give `client_cert` and `client_key`.",
            where=scene.where,
        )
    if "Socket closed" in words:  # a connection stood, and the other side ended it before a word was said
        return Unreachable(
            f"{place} closed the connection at once.",
            hint="Does it speak TLS? Then the address begins with tollhouse:// or vibectl-server://."
            if scene.is_plain
            else "Does it want a client certificate? Give `client_cert` and `client_key`.",
            where=scene.where,
        )
    if "http1.x" in words or "HTTP/2" in words or "ALPN" in words:
        return ServerFailed(
            f"{place} does not speak gRPC at that port.",
            hint="A Tollhouse has its gRPC at `server.grpc_port` (50051); for its HTTP port, write https:// or http://.",
            where=scene.where,
        )
    if "refused" in words.lower():
        return ConnectionRefused(
            f"Nothing listens at {place}: the connection was refused.",
            hint=f"Is `tollhouse serve` running at {place}, with `server.grpc_port`?",
            where=scene.where,
        )
    if "lookup" in words or "resolv" in words:
        return Unreachable(
            f"The name of {place} is not known.",
            hint="Is it spelled right, and is this machine on the network?",
            where=scene.where,
        )
    return Unreachable(f"There is no connection to {place}.", hint="Is this machine on the network?", where=scene.where)


class TroubleReader:
    """Finds the gateway's own error in the metadata that a status comes with."""

    def __init__(self, dialect: Typed) -> None:
        self._dialect = dialect

    def __call__(self, metadata: Metadata) -> Trouble | None:
        """`None` if there is none."""
        details = next((value for key, value in metadata if key == DETAILS), None)
        if not isinstance(details, bytes):
            return None
        any_detail = _field(details, 3)
        packed = None if any_detail is None else _field(any_detail, 2)
        if packed is None:
            return None
        try:
            return self._dialect.writes.unpack(TROUBLE, packed)
        except Fault:
            return None


class _NoTrouble(TroubleReader):
    def __init__(self) -> None:
        pass

    def __call__(self, metadata: Metadata) -> Trouble | None:
        del metadata
        return None


no_trouble: Final = _NoTrouble()
"""For servers that say nothing beside a status."""


def _field(message: bytes, number: int) -> bytes | None:
    """A field of bytes in a protobuf message (`google.rpc.Status`, `google.protobuf.Any`), whose classes need not be here."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        if tag & 7 == 0:
            _, at = _varint(message, at)
            continue
        if tag & 7 != 2:
            return None
        size, at = _varint(message, at)
        if tag >> 3 == number:
            return message[at : at + size]
        at += size
    return None


def _varint(data: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while at < len(data):
        byte = data[at]
        number |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            break
    return number, at


class GrpcLine:
    """See `over_typed.Line`."""

    protocol: Final = "grpc"

    def __init__(self, channel: Channel, dialect: Typed) -> None:
        self._channel = channel
        self._dialect = dialect
        self._read_trouble = TroubleReader(dialect)

    def scene(self, model: str) -> Scene:
        """See `Line.scene`."""
        return self._channel.scene(model)

    async def ask(self, method: Method, message: bytes, model: str, until: float) -> bytes:
        """See `Line.ask`."""
        path = f"/{SERVICE}/{method}"
        return await self._channel.ask(path, message, until, self.scene(model), self._read_trouble)

    async def stream(self, message: bytes, model: str, until: float) -> RpcMessages:
        """See `Line.stream`."""
        return self._channel.stream(f"/{SERVICE}/StreamChat", message, until, self.scene(model), self._read_trouble)

    async def version(self, until: float) -> str:
        """See `Line.version`."""
        data = await self.ask("GetServerInfo", b"", "", until)
        try:
            return self._dialect.writes.unpack(SERVER_INFO, data).version
        except Fault:
            return ""

    async def probe(self, until: float) -> float:
        """See `Line.probe`."""
        return await self._channel.probe(until)

    async def aclose(self) -> None:
        """See `Line.aclose`."""
        await self._channel.aclose()
