"""Kept answers in Valkey or Redis, for the workers of all machines.

The store is bounded by bytes like the one in memory.  A script keeps an index of the entries by their expiry beside them and
drops the oldest when a new one does not fit: the server's own eviction would take counters and holds as well.  Reading an entry
does not move it in that order, so a hit costs one GET.

Nobody waits for this store longer than `TIMEOUT_SECONDS`, and after a failure it is left alone for `REST_SECONDS`: what cannot
be reached is a miss.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final

import redis.asyncio
from redis.exceptions import RedisError

from tollhouse.policy.response_cache import FORMAT, LARGEST_SHARE

TIMEOUT_SECONDS: Final = 0.1
REST_SECONDS: Final = 1.0
KEY_PREFIX: Final = b"tollhouse:{answers}:%d:" % FORMAT
"""The braces put all of it on one node of a cluster, where the script needs it."""
ENTRY_OVERHEAD_BYTES: Final = 640
"""What the server needs for an entry, its line in the index and its size, besides the bytes: measured, see the tests."""

# KEYS: the entry, the index (a sorted set by expiry, in server milliseconds), the sizes (a hash; `total` is their sum).
# ARGV: the entry's bytes, what they count as, the bound on the total, the time to live in milliseconds.
_PUT: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local entry, index, sizes = KEYS[1], KEYS[2], KEYS[3]
local size, bound, ttl = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local total = tonumber(redis.call('HGET', sizes, 'total') or 0)
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
redis.call('PEXPIRE', index, ttl)
redis.call('PEXPIRE', sizes, ttl)
return total + size
"""


class ValkeyAnswers:
    """See `tollhouse.policy.response_cache.AnswerStore`."""

    def __init__(
        self,
        client: "redis.asyncio.Redis",
        *,
        max_bytes: int,
        ttl_seconds: float,
        monotonic: Callable[[], float],
        failed: Callable[[Exception], None] = lambda _: None,
    ) -> None:
        """Owns `client`, which must give bytes back as bytes (`decode_responses=False`).

        `failed` hears why the store is left alone, at most once in `REST_SECONDS`.
        """
        self._client = client
        self._max_bytes = max_bytes
        self._ttl_ms = max(1, int(ttl_seconds * 1000))
        self._monotonic = monotonic
        self._failed = failed
        self._resumes_at = 0.0
        self._put = client.register_script(_PUT)

    @property
    def is_resting(self) -> bool:
        """Whether the store failed a moment ago and is not asked."""
        return self._monotonic() < self._resumes_at

    async def get(self, key: bytes) -> bytes | None:
        """The entry of a key; `None` too when the store cannot be reached in time."""
        if self.is_resting:
            return None
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                entry: Any = await self._client.get(KEY_PREFIX + key.hex().encode())
        except (RedisError, OSError, TimeoutError) as error:
            self._rest(error)
            return None
        return entry if isinstance(entry, bytes) else None

    async def put(self, key: bytes, entry: bytes) -> None:
        """Keeps an entry, unless it alone would take more than its share or the store cannot be reached in time."""
        size = len(entry) + ENTRY_OVERHEAD_BYTES
        if size > self._max_bytes // LARGEST_SHARE or self.is_resting:
            return
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                await self._put(
                    keys=[KEY_PREFIX + key.hex().encode(), KEY_PREFIX + b"index", KEY_PREFIX + b"sizes"],
                    args=[entry, size, self._max_bytes, self._ttl_ms],
                )
        except (RedisError, OSError, TimeoutError) as error:
            self._rest(error)

    async def aclose(self) -> None:
        """Closes the connections.  The entries stay until they expire."""
        await self._client.aclose()

    def _rest(self, error: Exception) -> None:
        if not self.is_resting:
            self._resumes_at = self._monotonic() + REST_SECONDS
            self._failed(error)
