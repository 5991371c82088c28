"""Kept answers in Valkey or Redis, for the workers of all machines.

The store is bounded by bytes like the one in memory.  A script keeps an index of the entries by their expiry beside them and
drops the oldest when a new one does not fit: the server's own eviction would take counters and holds as well.  Reading an entry
does not move it in that order, so a hit costs one GET.

Entries can be large, and limits must not wait for them; so they have connections of their own, `MAX_WIRES` at most.  Nobody
waits for this store longer than `TIMEOUT_SECONDS` for a connection and as long again for a reply, and after a failure it is
left alone for `REST_SECONDS`: what cannot be reached is a miss.
"""

import asyncio
import hashlib
from collections.abc import Callable
from typing import Final

import msgspec

from tollhouse.errors import StoreUnavailable
from tollhouse.policy.response_cache import FORMAT, LARGEST_SHARE
from tollhouse.policy.valkey.wire import Address, Refused, Reply, Wire, address_of, pack

TIMEOUT_SECONDS: Final = 0.1
REST_SECONDS: Final = 1.0
MAX_WIRES: Final = 4
KEY_PREFIX: Final = b"tollhouse:{answers}:%d:" % FORMAT
"""The braces put all of it on one node of a cluster, where the script needs it."""
ENTRY_OVERHEAD_BYTES: Final = 640
"""What the server needs for an entry, its line in the index and its size, besides the bytes: measured, see the tests."""

# KEYS: the entry, the index (a sorted set by expiry, in server milliseconds), the sizes (a hash; `total` is their sum).
# ARGV: the entry's bytes, what they count as, the bound on the total, the time to live in milliseconds.
_PUT: Final = b"""
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local entry, index, sizes = KEYS[1], KEYS[2], KEYS[3]
local size, bound, ttl = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
-- The first call is one that a server without memory refuses; it lets a script that has written go on writing.
local total = redis.call('HINCRBY', sizes, 'total', 0)
local function drop(key)
  total = total - tonumber(redis.call('HGET', sizes, key) or 0)
  redis.call('HDEL', sizes, key)
  redis.call('ZREM', index, key)
  redis.call('UNLINK', key)
end
for _, key in ipairs(redis.call('ZRANGEBYSCORE', index, '-inf', now, 'LIMIT', 0, 64)) do drop(key) end
drop(entry)
while total + size > bound do
  local oldest = redis.call('ZRANGE', index, 0, 0)[1]
  if not oldest then break end
  drop(oldest)
end
redis.call('SET', entry, ARGV[1], 'PX', ttl)
redis.call('ZADD', index, now + ttl, entry)
redis.call('HSET', sizes, entry, size, 'total', total + size)
for _, key in ipairs({index, sizes}) do
  if redis.call('PTTL', key) < ttl then redis.call('PEXPIRE', key, ttl) end
end
return total + size
"""
# SHA-1 is how the protocol names a script (https://valkey.io/commands/evalsha/), not a protection.
_PUT_DIGEST: Final = hashlib.sha1(_PUT, usedforsecurity=False).hexdigest()


class ValkeyAnswers:
    """See `tollhouse.policy.response_cache.AnswerStore`."""

    def __init__(
        self,
        url: str,
        *,
        max_bytes: int,
        ttl_seconds: float,
        monotonic: Callable[[], float],
        failed: Callable[[StoreUnavailable], None] = lambda _: None,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> None:
        """Connects when it is first used.  Raises `ConfigError` for an address that is none.

        `failed` hears why the store is left alone, at most once in `REST_SECONDS`.
        """
        self._address = address_of(url)
        self._max_bytes = max_bytes
        self._ttl_ms = max(1, int(ttl_seconds * 1000))
        self._monotonic = monotonic
        self._failed = failed
        self._timeout = timeout_seconds
        self._resumes_at: float | None = None
        self._is_away = False
        self._free = asyncio.Semaphore(MAX_WIRES)
        self._idle: list[Wire] = []
        self._is_closed = False

    @property
    def is_away(self) -> bool:
        """Whether it could not be reached, or refused, when it was last asked."""
        return self._is_away

    @property
    def is_resting(self) -> bool:
        """Whether the store failed a moment ago and is not asked."""
        return self._resumes_at is not None and self._monotonic() < self._resumes_at

    async def get(self, key: bytes) -> bytes | None:
        """The entry of a key; `None` too when the store cannot be reached in time."""
        reply = await self._ask(pack("GET", _name(key)))
        return reply if isinstance(reply, bytes) else None

    async def put(self, key: bytes, entry: bytes) -> None:
        """Keeps an entry, unless it alone would take more than its share or the store cannot be reached in time."""
        size = len(entry) + ENTRY_OVERHEAD_BYTES
        if size > self._max_bytes // LARGEST_SHARE:
            return
        keys = (3, _name(key), KEY_PREFIX + b"index", KEY_PREFIX + b"sizes")
        values = (entry, size, self._max_bytes, self._ttl_ms)
        await self._ask(pack("EVALSHA", _PUT_DIGEST, *keys, *values), or_else=pack("EVAL", _PUT, *keys, *values))

    async def aclose(self) -> None:
        """Closes the connections.  The entries stay until they expire."""
        self._is_closed = True
        while self._idle:
            await self._idle.pop().aclose()

    async def _ask(self, command: bytes, *, or_else: bytes | None = None) -> Reply:
        """The reply to a command, or to the other one where the server does not know the script; `None` if there is none."""
        async with self._free:
            if self.is_resting or self._is_closed:
                return None
            try:
                reply = await self._asked(command, or_else)
            except StoreUnavailable as error:
                self._is_away = True
                self._rest(error)
                return None
            self._is_away = False
            return reply

    async def _asked(self, command: bytes, or_else: bytes | None) -> Reply:
        wire = self._idle.pop() if self._idle else await self._connected()
        is_usable = False
        try:
            reply = await self._exchanged(wire, command)
            if isinstance(reply, Refused) and reply.kind == "NOSCRIPT" and or_else is not None:
                reply = await self._exchanged(wire, or_else)
            if isinstance(reply, Refused) and reply.kind == "MOVED":
                self._address = _elsewhere(reply, self._address)
            is_usable = not isinstance(reply, Refused)
        finally:
            # A wire that was given up while a reply was under way would hand that to the next who asks.
            if is_usable and not self._is_closed:
                self._idle.append(wire)
            else:
                await wire.aclose()
        if isinstance(reply, Refused):
            raise StoreUnavailable(f"The shared store {self._address} refuses: {reply.kind} {reply.text}.")
        return reply

    async def _connected(self) -> Wire:
        return await Wire.connect(self._address, timeout_seconds=self._timeout)

    async def _exchanged(self, wire: Wire, command: bytes) -> Reply | Refused:
        [reply] = await wire.exchange([command], timeout_seconds=self._timeout)
        return reply

    def _rest(self, error: StoreUnavailable) -> None:
        if not self.is_resting:
            self._resumes_at = self._monotonic() + REST_SECONDS
            self._failed(error)


def _name(key: bytes) -> bytes:
    return KEY_PREFIX + key.hex().encode()


def _elsewhere(reply: Refused, address: Address) -> Address:
    """Where a node of a cluster says that the keys are (https://valkey.io/topics/cluster-spec/, "MOVED redirection")."""
    host, _, port = reply.text.rpartition(" ")[2].rpartition(":")
    return msgspec.structs.replace(address, host=host or address.host, port=int(port)) if port.isdigit() else address
