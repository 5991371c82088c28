"""One connection to the store: the only module that knows redis-py.

Its client, pool and pipelines are not used, only its connection, which knows addresses, TLS and credentials: a command through
the client takes four times the CPU of one that is written together with others and read from hiredis.
"""

import asyncio
import ssl
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, TypeAlias
from urllib.parse import unquote, urlsplit

import hiredis
import msgspec
from redis.asyncio.connection import Connection, SSLConnection
from redis.exceptions import RedisError, ResponseError

from tollhouse.errors import ConfigError, StoreUnavailable

DEFAULT_PORT: Final = 6379
SLOW_SECONDS: Final = 0.05
"""A timer that fires so much too late shows that this process itself was not running."""
MAX_EXTENSIONS: Final = 4

Reply: TypeAlias = Any
"""What the server answered: bytes, int, or a list of them."""


class Address(msgspec.Struct, frozen=True):
    """Where a store is."""

    host: str
    port: int
    database: int
    is_tls: bool
    username: str | None
    password: str | None

    def __repr__(self) -> str:
        """Without credentials."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'rediss' if self.is_tls else 'redis'}://{host}:{self.port}/{self.database}"

    __str__ = __repr__


def address_of(url: str) -> Address:
    """Reads an address.  Raises `ConfigError`, which never shows the address's credentials."""
    try:
        parts = urlsplit(url)
        port = parts.port or DEFAULT_PORT
    except ValueError as error:
        raise ConfigError(["`state.url` is not an address: its host or port cannot be read."]) from error
    if parts.scheme not in {"redis", "rediss", "valkey", "valkeys"}:
        raise ConfigError(["`state.url` must begin with redis://, rediss://, valkey:// or valkeys://."])
    if not parts.hostname or parts.query or parts.fragment:
        raise ConfigError(["`state.url` must look like redis://[user:password@]host[:port][/database]."])
    database = parts.path.strip("/") or "0"
    if not (database.isascii() and database.isdigit()):
        raise ConfigError(["The database in `state.url` must be a number, like the 0 in redis://127.0.0.1:6379/0."])
    return Address(
        host=unquote(parts.hostname),
        port=port,
        database=int(database),
        is_tls=parts.scheme in {"rediss", "valkeys"},
        username=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password else None,
    )


class Cut(StoreUnavailable):
    """The connection broke, as against a server that is silent or not there: another connection may work at once."""


class Refused(msgspec.Struct, frozen=True):
    """The server's error to one command; the connection is fit for others."""

    kind: str
    """Its first word: `NOSCRIPT`, `JOIN`, `OOM`, `READONLY`, `MOVED`, …"""
    text: str


class Wire:
    """An open connection."""

    def __init__(self, connection: Connection, address: Address) -> None:
        """Use `connect`."""
        self._connection = connection
        self._address = address

    @classmethod
    async def connect(cls, address: Address, *, timeout_seconds: float) -> "Wire":
        """Opens a connection and presents the credentials.  Raises `StoreUnavailable`."""
        # `None` for the read time-out: `exchange` has a deadline of its own.  RESP2 has all that is needed, on every server.
        kind: type[Connection] = SSLConnection if address.is_tls else Connection
        options: dict[str, Any] = {"ssl_cert_reqs": "required", "ssl_check_hostname": True} if address.is_tls else {}
        connection = kind(
            host=address.host,
            port=address.port,
            db=address.database,
            username=address.username,
            password=address.password,
            socket_timeout=None,
            socket_connect_timeout=timeout_seconds,
            protocol=2,
            **options,
        )
        try:
            async with Patience(timeout_seconds):
                await connection.connect()  # type: ignore[no-untyped-call]  # redis-py is typed in parts
        except BaseException as error:
            await _let_go(connection)
            if isinstance(error, (RedisError, OSError, TimeoutError, ssl.SSLError)):
                raise _unavailable(address, error) from error
            raise
        return cls(connection, address)

    async def exchange(self, commands: Sequence[bytes], *, timeout_seconds: float) -> list[Reply | Refused]:
        """Sends packed commands together and reads their replies, in order.

        Raises `StoreUnavailable`, or `Cut`, when the connection is of no use any more; commands may have been carried out.
        """
        connection = self._connection
        replies: list[Reply | Refused] = []
        try:
            async with Patience(timeout_seconds):
                await connection.send_packed_command(commands, check_health=False)
                for _ in commands:
                    try:
                        replies.append(await connection.read_response())
                    except ResponseError as error:
                        replies.append(_refused(error))
        except TimeoutError as error:
            raise _unavailable(self._address, error) from error
        except (RedisError, OSError) as error:
            raise Cut(str(_unavailable(self._address, error))) from error
        return replies

    async def aclose(self) -> None:
        """Closes the connection without waiting for the other side."""
        await _let_go(self._connection)


def pack(*words: str | bytes | int) -> bytes:
    """A command as it is sent."""
    packed: bytes = hiredis.pack_command(words)  # type: ignore[arg-type]  # its stub allows for one word only
    return packed


class Patience:
    """A time limit that does not count the time in which this process itself stood still.

    After a long pause (a stopped process, a machine that was asleep or too busy) all timers are due before a single byte was
    read: the replies may lie in the socket.  They are given the time again, at most `MAX_EXTENSIONS` times.
    """

    __slots__ = ("_due", "_extensions", "_handle", "_loop", "_scope", "_seconds")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._extensions = 0

    async def __aenter__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._scope = asyncio.timeout(None)
        await self._scope.__aenter__()
        self._wait()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._handle.cancel()
        await self._scope.__aexit__(kind, error, trace)

    def _wait(self) -> None:
        self._due = self._loop.time() + self._seconds
        self._handle = self._loop.call_at(self._due, self._ring)

    def _ring(self) -> None:
        if self._loop.time() - self._due > SLOW_SECONDS and self._extensions < MAX_EXTENSIONS:
            self._extensions += 1
            self._wait()
        else:
            self._scope.reschedule(self._loop.time())


async def _let_go(connection: Connection) -> None:
    with suppress(RedisError, OSError):  # it is gone either way
        await connection.disconnect(nowait=True)


def _refused(error: ResponseError) -> Refused:
    # redis-py cuts the first word off the errors that it has classes for.
    text = str(error)
    kind = _KINDS.get(type(error).__name__) or text.partition(" ")[0]
    return Refused(kind, text)


_KINDS: Final = {
    "NoScriptError": "NOSCRIPT",
    "ReadOnlyError": "READONLY",
    "OutOfMemoryError": "OOM",
    "NoPermissionError": "NOPERM",
    "MovedError": "MOVED",
    "ClusterDownError": "CLUSTERDOWN",
    "MasterDownError": "MASTERDOWN",
}


def _unavailable(address: Address, error: BaseException) -> StoreUnavailable:
    why = "it does not answer in time" if isinstance(error, TimeoutError) or "imeout" in type(error).__name__ else error
    return StoreUnavailable(f"The shared store {address} cannot be reached: {why}.")
