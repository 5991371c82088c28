"""What a call that is passed through has to do with whose things are: before it goes, and before its answer's last byte.

Before: what it names must be the caller's.  After: what was made is noted, what was deleted is forgotten, and of a list only
the caller's own is given on.  Where nobody asks whose a thing is, only the notes remain, and most calls make nothing.
"""

import re
from collections.abc import Set as AbstractSet
from typing import Final

import msgspec

from tollhouse.chat import sse
from tollhouse.errors import (
    BadRequest,
    MethodNotAllowed,
    NotFound,
    PermissionDenied,
    StoreUnavailable,
    UpstreamMalformed,
    UpstreamTooLarge,
)
from tollhouse.gateway import creations
from tollhouse.gateway.call import Call
from tollhouse.gateway.declaration import FormField, plain
from tollhouse.gateway.listings import Page, read_page
from tollhouse.gateway.ownership import Ownership, names_paths, read_beside, unreadable
from tollhouse.gateway.references import Named, in_fields, in_json, in_path, in_query, may_name
from tollhouse.providers.provider import Provider

MAX_EVENT_BYTES: Final = 1024 * 1024
MAX_EVENTS: Final = 64
"""Of a stream; the first ones say what was made."""
MAX_VALUE_BYTES: Final = 64 * 1024
"""Of a field of a form; a longer one is no id and holds none."""

_OPEN: Final = frozenset({"health", "tags", "version", "voices"})
"""Lists that are the same for everybody, beside those of models."""
_LOOKS_LIKE_JSON: Final = re.compile(rb"[\s\0\xef\xbb\xbf\xff\xfe]*[{\[]")
_BATCH: Final = re.compile(r":(async)?batch\w*/?$", re.IGNORECASE)
"""Google's `:batchGenerateContent` and `:asyncBatchEmbedContent`."""
_READ: Final = "#read"
"""What stands behind the name of a file of which every line was looked at."""


class _Purpose(msgspec.Struct):
    purpose: str = ""


_purpose: Final = msgspec.json.Decoder(_Purpose)


class Passing(msgspec.Struct, frozen=True, kw_only=True):
    """The request, as far as it matters here."""

    method: str
    path: str
    """Below the provider's own address or beside it; percent-encoded."""
    query: bytes
    body: bytes
    fields: tuple[FormField, ...]
    """Where the body is a form."""
    is_content: bool
    """Whether the body is what somebody stores, and asks for nothing itself."""
    is_whole_content: bool
    """Whether it is all of it."""
    is_at_once: bool
    """Whether it is of a kind that makes nothing."""


class Custody:
    """One call's.  Make it with `take`."""

    __slots__ = (
        "_answer",
        "_call",
        "_events",
        "_is_read",
        "_left",
        "_made",
        "_named",
        "_ownership",
        "_paths",
        "_provider",
        "_what",
        "is_guarded",
    )

    def __init__(
        self, ownership: Ownership, provider: Provider, call: Call, what: Passing, named: Named, *, is_guarded: bool
    ) -> None:
        self._ownership = ownership
        self._provider = provider
        self._call = call
        self._what = what
        self._named = named
        self._paths = names_paths(provider)
        self._answer: bytearray | None = None
        self._events: sse.Parser | None = None
        self._left = MAX_EVENTS
        self._made: list[str] = []
        self._is_read = False
        self.is_guarded: Final = is_guarded

    @classmethod
    async def take(cls, ownership: Ownership, provider: Provider, call: Call, what: Passing) -> "Custody":
        """Raises `NotFound` for what the caller may not name, and as `Ownership.permit` does."""
        named = in_path(plain(what.path), as_paths=names_paths(provider), method=what.method)
        is_guarded = ownership.guards(provider, call.principal)
        custody = cls(ownership, provider, call, what, named, is_guarded=is_guarded)
        if is_guarded:
            await custody._permit()
        return custody

    @property
    def is_listing(self) -> bool:
        """Whether the answer is a page of which the caller may see its own."""
        named = self._named
        return (
            self.is_guarded
            and self._what.method == "GET"
            and named.thing is None
            and not named.is_model
            and named.kind.partition("/")[0] not in _OPEN
        )

    async def _permit(self) -> None:
        what, named = self._what, self._named
        if what.method in {"DELETE", "PATCH", "PUT"} and named.thing is None and not what.is_content:
            raise MethodNotAllowed(what.method, allowed=["GET", "POST"])
        named = named.and_also(in_query(what.query, as_paths=self._paths))
        if what.body and not what.is_content:
            named = named.and_also(await self._in_body())
        self._named = named
        await self._ownership.permit(self._provider, self._call.principal, named, is_at_once=what.is_at_once)
        if what.is_whole_content:
            self._is_read = await self._is_permitted(what.body)
        elif what.method == "POST" and what.body:
            await self._check_batch()

    async def _in_body(self) -> Named:
        """What the body names.  Raises `BadRequest` for one that nobody can read."""
        what = self._what
        if what.fields:
            return await self._in_form()
        if not _LOOKS_LIKE_JSON.match(what.body):
            return Named()
        named = await read_beside(in_json, what.body, as_paths=self._paths)
        return await read_beside(_in_lines, what.body, as_paths=self._paths) if named is None else named

    async def _in_form(self) -> Named:
        what = self._what
        values = [each for each in what.fields if not each.is_file and len(each.value) <= MAX_VALUE_BYTES]
        pairs = [(each.name, each.value.decode("utf-8", "replace")) for each in values]
        named = in_fields(pairs, as_paths=self._paths)
        for each in values:
            if _LOOKS_LIKE_JSON.match(each.value):
                inner = in_json(each.value, as_paths=self._paths, field=each.name.partition("[")[0])
                named = named.and_also(inner or Named())
        if self._named.kind == "files" and dict(pairs).get("purpose", "batch") == "batch":
            for each in what.fields:
                if each.is_file and _LOOKS_LIKE_JSON.match(each.value):
                    named = named.and_also(await read_beside(_in_lines, each.value, as_paths=self._paths))
        return named

    async def _is_permitted(self, content: bytes) -> bool:
        """Whether the caller might do itself what these lines say."""
        try:
            named = await read_beside(_in_lines, content, as_paths=self._paths)
            await self._ownership.permit(self._provider, self._call.principal, named)
        except (NotFound, BadRequest, StoreUnavailable):
            return False
        return True

    async def _check_batch(self) -> None:
        """A batch is carried out as the account.  So a file from which it is read must have been looked at."""
        what, named = self._what, self._named
        if named.kind == "uploads" and named.thing is None and _purpose_of(what.body) == "batch":
            raise PermissionDenied(
                "A batch's file cannot be uploaded in parts here: whose things it names is read when it comes.",
                hint="Upload it at once, to /files.",
            )
        if self._paths and _BATCH.search(plain(what.path)):
            files = [each for each in named.references if each.startswith("files/")]
            read = [f"{each}{_READ}" for each in files]
            own = await self._ownership.own(self._provider, self._call.principal, [*files, *read])
            if any(each in own and f"{each}{_READ}" not in own for each in files):
                raise PermissionDenied(
                    "A batch cannot be read from this file: it came in pieces, or names what is not yours.",
                    hint="Upload it in one piece, or send the requests in the batch itself (`inlinedRequests`).",
                )

    # -- its answer

    def begin(self, kind: bytes) -> None:
        """An answer of success begins, of this content type."""
        what, named = self._what, self._named
        makes = (what.method == "POST" and not what.is_at_once) or (what.method == "PUT" and what.is_content)
        tells = named.thing is not None and creations.has_outcome(named)
        if not (makes or tells):
            return
        if kind.lstrip().lower().startswith(b"text/event-stream"):
            self._events = sse.Parser(max_event_bytes=MAX_EVENT_BYTES)
        elif b"json" in kind.lower():
            self._answer = bytearray()

    def feed(self, data: bytes) -> None:
        """A piece of it."""
        if self._answer is not None:
            self._answer += data
            if len(self._answer) > creations.MAX_ANSWER_BYTES:
                self._answer = None
        elif self._events is not None:
            try:
                for frame in self._events.feed(data):
                    self._left -= 1
                    if b"_id" in frame.data or b"interaction" in frame.data:
                        self._made += creations.made_by_event(frame.data, self._named, as_paths=self._paths)
            except (UpstreamMalformed, UpstreamTooLarge):
                self._left = 0
            if self._left <= 0:
                self._events = None

    async def session(self, target: str) -> None:
        """The caller is told where to go on with an upload, which is the caller's alone."""
        ids = in_query(target.partition("?")[2].encode("ascii"), as_paths=self._paths).references
        await self._ownership.note(self._provider, self._call, "upload", ids)

    async def end(self) -> None:
        """All of the answer came, and its last byte has not left.  Fails never."""
        what, named = self._what, self._named
        if self._answer is not None:
            answer = bytes(self._answer)
            if what.method != "GET":
                self._made += creations.made(answer, named, as_paths=self._paths)
            if named.thing is not None and creations.has_outcome(named) and await self._is_own(named.thing):
                self._made += creations.outcome(answer, named)
        if self._is_read:
            self._made += [f"{each}{_READ}" for each in self._made if each.startswith("files/")]
        await self._ownership.note(self._provider, self._call, named.kind, self._made)
        if what.method == "DELETE" and named.is_thing and named.thing is not None:
            await self._ownership.forget(self._provider, self._call, named.thing)

    async def _is_own(self, thing: str) -> bool:
        """Whether it is the caller's, and not just nobody's."""
        if not self.is_guarded:
            return True
        try:
            return thing in await self._ownership.own(self._provider, self._call.principal, [thing])
        except StoreUnavailable:
            return False

    # -- lists

    def page(self, body: bytes) -> Page:
        """A page of a list.  Raises `PermissionDenied` for one in a form that is not known."""
        page = read_page(body, self._named.kind, as_paths=self._paths)
        if page is None:
            raise PermissionDenied(
                "What is shown here is the whole account's, and it cannot be told what of it is yours.",
                hint="It can be had where the gateway has one tenant only.",
            )
        return page

    async def visible(self, page: Page) -> AbstractSet[str]:
        """Those of a page's ids that the caller may see.  Raises `StoreUnavailable`."""
        ownership, principal = self._ownership, self._call.principal
        visible = await ownership.visible(self._provider, principal, page.ids)
        if visible and creations.has_outcome(self._named):
            own = await ownership.own(self._provider, principal, visible)
            items = (item for item, name in zip(page.items, page.ids, strict=True) if name in own)
            made = [each for item in items for each in creations.outcome(item, self._named)]
            await ownership.note(self._provider, self._call, self._named.kind, made)
        return visible


def _in_lines(content: bytes, *, as_paths: bool) -> Named:
    """What a file names that is carried out line by line.  Raises `BadRequest` where a line cannot be read."""
    named = Named()
    if b"\0" in content:  # in UTF-16, say, in which nothing would be found
        raise unreadable()
    for line in content.splitlines():
        if may_name(line):
            found = in_json(line, as_paths=as_paths)
            if found is None:
                raise unreadable()
            named = named.and_also(found)
    return named


def _purpose_of(body: bytes) -> str:
    try:
        return _purpose.decode(body).purpose
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
