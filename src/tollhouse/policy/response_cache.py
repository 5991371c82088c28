"""Answers that are kept and given again to an identical request.

**The key** is a SHA-256 over everything that can change an answer: the whole canonical request (unknown fields of the caller's
dialect included), the provider, its address and its own name of the model, the few headers of the caller that travel on to it,
and the scope of callers who may share an answer.  Whether a stream was asked for is left out, and so is the caller's dialect:
what is kept is the canonical answer, which is rendered for whoever asks next.  The order of keys inside a tool's schema stays
as it came, for a model reads a schema in its order; the order of the request's own unknown fields matters to nobody.

**What is kept** are complete answers that a client would be glad to get again: every choice ended by itself, with a call of a
tool, or at the output limit.  Refusals and filtered answers are not kept, for they are what people ask again about; errors, cut
streams and pauses are no answers.

**How long**: entries live for a fixed time and give way to newer ones when the store is full.  The caller has a say, in the
words of RFC 9111: `Cache-Control: no-store` keeps a call away from the cache altogether, `no-cache` asks anew and keeps the
fresh answer, `max-age=N` accepts nothing older than N seconds.

A store that fails is a miss, never an error.
"""

import hashlib
import re
import zlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final, Literal, Protocol

import msgspec

from tollhouse.chat.model import FinishReason, Request, Response
from tollhouse.policy.identity import Principal

FORMAT: Final = 1
"""The form of keys and entries.  It stands in front of every key of a store that outlives the process: another form of
`Response`, or another reading of requests, must not meet the old entries."""
MAX_ENTRY_BYTES: Final = 4 * 1024 * 1024
"""The largest answer that is kept, as JSON.  It is encoded and decoded on the event loop."""
COMPRESSED_FROM_BYTES: Final = 8 * 1024
"""Entries from this size on are compressed; below, it saves little."""
COMPRESSION_LEVEL: Final = 1
ENTRY_OVERHEAD_BYTES: Final = 336
"""What Python needs for an entry in memory besides its bytes: measured, see `tests/policy/test_response_cache_memory.py`."""
LARGEST_SHARE: Final = 8
"""One entry takes at most this part (an eighth) of a store."""
MAX_SWEPT: Final = 8
"""Expired entries that one `put` removes at most."""

ScopeKind = Literal["tenant", "key", "global"]

KEPT_FINISHES: Final[frozenset[FinishReason]] = frozenset({"stop", "stop_sequence", "tool_calls", "length"})


# ------------------------------------------------------------------------------------------------------------------ key


class Scope(msgspec.Struct, frozen=True):
    """The callers who may be given each other's answers.  Scopes of two kinds are never equal, whatever the names."""

    kind: ScopeKind
    tenant: str = ""
    project: str = ""
    key: str = ""
    subject: str = ""
    """Of a signed token: all tokens of one `sub` are one caller."""


EVERYBODY: Final = Scope("global")


def scope_of(kind: ScopeKind, principal: Principal) -> Scope:
    """The scope of a caller.  Who belongs to no tenant shares with nobody but themselves: no name is not a name in common."""
    if kind == "global":
        return EVERYBODY
    if kind == "tenant" and principal.tenant:
        return Scope("tenant", principal.tenant)
    return Scope("key", principal.tenant, principal.project, principal.key, principal.subject)


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """What would answer."""

    provider: str
    """Its configured name."""
    base_url: str
    """Its address: another configuration may give the same name to another provider."""
    model: str
    """The provider's own name of the model."""
    headers: tuple[tuple[bytes, bytes], ...] = ()
    """The caller's headers that go on to the provider, such as `anthropic-beta`."""
    strict: bool = False
    """Whether a loss in translation refuses the call; then an answer that came with one must not be given."""


class _Material(msgspec.Struct, frozen=True, array_like=True):
    version: int
    scope: Scope
    target: Target
    request: Request


_material: Final = msgspec.json.Encoder(order="deterministic")


def key_of(request: Request, target: Target, scope: Scope) -> bytes:
    """32 bytes that two calls share only if the same answer may be given to both.

    `request` is what the caller asked for.  Where the gateway itself changes what an answer is (an output limit lowered to what
    is left of a budget), it must not keep that answer under this key.
    """
    asked = msgspec.structs.replace(request, model="", stream=False, include_usage=False, echo=None)
    return hashlib.sha256(_material.encode(_Material(FORMAT, scope, target, asked))).digest()


# ----------------------------------------------------------------------------------------------------- the caller's say


class Directives(msgspec.Struct, frozen=True):
    """What a caller's `Cache-Control` says."""

    reads: bool = True
    """Whether a kept answer will do."""
    keeps: bool = True
    """Whether the answer may be kept."""
    max_age_seconds: int | None = None
    """How old a kept answer may be."""

    @property
    def shares(self) -> bool:
        """Whether the answer of a call that is under way already will do."""
        return self.reads and self.keeps and self.max_age_seconds != 0


SILENT: Final = Directives()
_MAX_AGE_DIGITS: Final = re.compile(r"[0-9]{1,10}")


def directives_of(headers: Sequence[tuple[bytes, bytes]]) -> Directives:
    """Reads the request's `cache-control` fields (names in lower case; RFC 9111 §5.2.1).  Unknown directives say nothing.

    An age that is no number is taken for 0: whoever limits the age wants a fresh answer rather than any.
    """
    values = [value for name, value in headers if name == b"cache-control"]
    if not values:
        return SILENT
    reads = keeps = True
    max_age: int | None = None
    for directive in b",".join(values).decode("latin-1").lower().split(","):
        name, _, argument = directive.strip().partition("=")
        match name.rstrip():
            case "no-store":
                reads = keeps = False
            case "no-cache":
                reads = False
            case "max-age":
                digits = argument.strip().strip('"')
                age = int(digits) if _MAX_AGE_DIGITS.fullmatch(digits) else 0
                max_age = age if max_age is None else min(age, max_age)
    return Directives(reads, keeps, max_age)


# -------------------------------------------------------------------------------------------------------------- entries


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """An answer as it is kept."""

    response: Response
    kept_at: float
    """Wall clock, seconds since the epoch."""
    lost: str = ""
    """What the request lost on its way to the provider: `Receipt.header()`."""


class Hit(msgspec.Struct, frozen=True, kw_only=True):
    """An answer that need not be asked for."""

    response: Response
    age_seconds: int
    """For the header `age`."""
    lost: str = ""
    """As in `Kept`: the caller of a hit has to know it too."""


def may_be_kept(response: Response) -> bool:
    """Whether an answer is complete and of a kind that is worth giving again."""
    return bool(response.choices) and all(choice.finish in KEPT_FINISHES for choice in response.choices)


_kept: Final = msgspec.json.Decoder(Kept)
_PLAIN: Final = b"{"
_DEFLATED: Final = b"z"


def pack(kept: Kept) -> bytes | None:
    """The bytes of an entry, without a blank between tokens; `None` if it is too large or holds what JSON cannot say."""
    try:
        # What is carried as it came may have line breaks between its tokens, which would tear an event of a stream apart
        # (`anthropic/anthropic-messages-json-emoji-fd1487`).
        plain = msgspec.json.format(msgspec.json.encode(kept), indent=-1)
    except (UnicodeEncodeError, msgspec.DecodeError, RecursionError):
        return None
    if len(plain) > MAX_ENTRY_BYTES:
        return None
    if len(plain) < COMPRESSED_FROM_BYTES:
        return plain
    return _DEFLATED + zlib.compress(plain, COMPRESSION_LEVEL)


def unpack(entry: bytes) -> Kept | None:
    """The answer in an entry; `None` for bytes that hold none, whoever wrote them."""
    try:
        if entry[:1] == _DEFLATED:
            inflater = zlib.decompressobj()
            entry = inflater.decompress(memoryview(entry)[1:], MAX_ENTRY_BYTES)
            if not inflater.eof:
                return None
        return _kept.decode(entry)
    except (zlib.error, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


# --------------------------------------------------------------------------------------------------------------- stores


class AnswerStore(Protocol):
    """Keeps entries for a fixed time and within a bound of bytes.  It raises nothing: what it cannot reach is not there."""

    @property
    def is_away(self) -> bool:
        """Whether it could not be reached when it was last asked."""
        ...

    async def get(self, key: bytes) -> bytes | None:
        """The entry of a key, if it is there and has not expired."""
        ...

    async def put(self, key: bytes, entry: bytes) -> None:
        """Keeps an entry, in place of an older one of that key."""
        ...

    async def aclose(self) -> None:
        """Lets go of the store.  Harmless twice."""
        ...


class MemoryAnswers:
    """Entries in this process; the least recently used goes first.  No operation takes longer when there are more of them."""

    __slots__ = ("_ages", "_bytes", "_entries", "_max_bytes", "_monotonic", "_ttl")

    def __init__(self, *, max_bytes: int, ttl_seconds: float, monotonic: Callable[[], float]) -> None:
        self._max_bytes = max_bytes
        self._ttl = ttl_seconds
        self._monotonic = monotonic
        self._bytes = 0
        self._entries: OrderedDict[bytes, bytes] = OrderedDict()
        """In the order of use."""
        self._ages: OrderedDict[bytes, float] = OrderedDict()
        """When each expires, in the order of arrival, which with one time to live for all is the order of expiry."""

    @property
    def is_away(self) -> bool:
        """It can always be reached."""
        return False

    @property
    def size_bytes(self) -> int:
        """What all entries take, Python's overhead included."""
        return self._bytes

    def __len__(self) -> int:
        return len(self._entries)

    async def get(self, key: bytes) -> bytes | None:
        """The entry of a key, which by that becomes the most recently used."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if self._ages[key] <= self._monotonic():
            self._remove(key)
            return None
        self._entries.move_to_end(key)
        return entry

    async def put(self, key: bytes, entry: bytes) -> None:
        """Keeps an entry, unless it alone would take more than its share of the store."""
        if key in self._entries:
            self._remove(key)
        size = _size(key, entry)
        if size > self._max_bytes // LARGEST_SHARE:
            return
        now = self._monotonic()
        self._sweep(now)
        while self._bytes + size > self._max_bytes:
            self._remove(next(iter(self._entries)))
        self._entries[key] = entry
        self._ages[key] = now + self._ttl
        self._bytes += size

    async def aclose(self) -> None:
        """Forgets everything."""
        self._entries.clear()
        self._ages.clear()
        self._bytes = 0

    def _sweep(self, now: float) -> None:
        """Removes expired entries, oldest first, and few at a time, so that no call pays for all of them."""
        for _ in range(min(MAX_SWEPT, len(self._ages))):
            key = next(iter(self._ages))
            if self._ages[key] > now:
                return
            self._remove(key)

    def _remove(self, key: bytes) -> None:
        self._bytes -= _size(key, self._entries.pop(key))
        del self._ages[key]


def _size(key: bytes, entry: bytes) -> int:
    return len(key) + len(entry) + ENTRY_OVERHEAD_BYTES


# ---------------------------------------------------------------------------------------------------------------- cache


class ResponseCache:
    """Finds and keeps answers."""

    __slots__ = ("_scope", "_store", "_ttl", "_wall")

    def __init__(self, store: AnswerStore, *, ttl_seconds: float, scope: ScopeKind, wall: Callable[[], float]) -> None:
        self._store = store
        self._ttl = ttl_seconds
        self._scope = scope
        self._wall = wall

    def key(self, request: Request, target: Target, principal: Principal) -> bytes:
        """See `key_of`; the scope is the configured one."""
        return key_of(request, target, scope_of(self._scope, principal))

    async def find(self, key: bytes, directives: Directives) -> Hit | None:
        """A kept answer that the caller accepts."""
        # RFC 9111 §4.2 would let an answer of this very second pass for `max-age=0`; whoever says it wants a call of their own.
        if not directives.reads or directives.max_age_seconds == 0:
            return None
        entry = await self._store.get(key)
        kept = None if entry is None else unpack(entry)
        if kept is None:
            return None
        # A shared store's other writers have clocks of their own, and perhaps another time to live.
        age = max(0, int(self._wall() - kept.kept_at))
        if age >= self._ttl or (directives.max_age_seconds is not None and age > directives.max_age_seconds):
            return None
        return Hit(response=kept.response, age_seconds=age, lost=kept.lost)

    async def keep(self, key: bytes, response: Response, *, lost: str = "") -> bool:
        """Keeps an answer, if it is one to be kept; says whether it was handed to the store.

        The caller has seen to `Directives.keeps` and that the answer came whole.  `lost` is as in `Kept`.
        """
        if not may_be_kept(response):
            return False
        now = self._wall()
        if response.created is None:
            response = msgspec.structs.replace(response, created=int(now))
        entry = pack(Kept(response=response, kept_at=now, lost=lost))
        if entry is None:
            return False
        await self._store.put(key, entry)
        return True

    async def aclose(self) -> None:
        """Closes the store."""
        await self._store.aclose()
