"""Any other path of a provider, forwarded as it is: files, batches, images, sound, what was announced yesterday.

Whose call it is, what limits and budgets say of it, and a row in the ledger: all that is the same as for a conversation.  What
the call means is not known.  So a budget that has to hold refuses what could cost money when its price is not known and the
configuration does not say what to hold for it, and a key that may use certain models only gets nothing that names no model.

Nothing of the caller's decides where it goes but the path below the provider's own address: no credential, no host, no `..`.
Where a provider tells its caller an address to go on at (an upload in pieces), the caller is told the gateway's own for it.
"""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote_to_bytes, urlsplit

import msgspec

from tollhouse.chat.receipt import Receipt
from tollhouse.chat.usage import Usage
from tollhouse.dialects.anthropic import DIALECT as ANTHROPIC
from tollhouse.dialects.any_usage import Watch
from tollhouse.errors import (
    BadRequest,
    NotFound,
    PermissionDenied,
    ProviderRefused,
    UpstreamMalformed,
    UpstreamTooLarge,
)
from tollhouse.gateway.call import Call, Headers, Sink
from tollhouse.gateway.custody import Custody, Passing
from tollhouse.gateway.declaration import Declaration, declare, plain
from tollhouse.gateway.errand import Answered, Run
from tollhouse.gateway.estimate import BYTES_PER_TOKEN
from tollhouse.gateway.failures import MAX_ERROR_BYTES, refusal, without_key
from tollhouse.gateway.listings import MAX_PAGE_BYTES, MAX_PAGES, asked_size, cut, next_query
from tollhouse.gateway.pipeline import Gateway
from tollhouse.gateway.plan import RetryPolicy
from tollhouse.gateway.routing import Candidate, Route, allowed
from tollhouse.gateway.weight import DEFAULT_MAX_OUTPUT_TOKENS, worst_cost
from tollhouse.ledger.prices import ModelPrice
from tollhouse.policy.access import ANYTHING
from tollhouse.policy.admission import NO_WEIGHT, Weight
from tollhouse.policy.identity import Principal, not_allowed
from tollhouse.providers.provider import MAX_FORWARDED_BYTES, OtherPaths, Provider
from tollhouse.upstream.address import parse_address
from tollhouse.upstream.transport import Address, Incoming, Outgoing

METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE")
_FREE_METHODS: Final = frozenset({"GET", "DELETE"})
_FREE_PATHS: Final = re.compile(r"(/upload|/api)?(/v\d+[a-z]*\d*)?/(files|uploads)(/|$)")
"""What is stored for later use costs nothing by itself.  From the beginning of a path below the provider's address."""
_AT_ONCE: Final = re.compile(
    r"/(completions|embeddings|messages|responses|rerank|moderations|images/(generations|edits|variations)"
    r"|audio/(speech|transcriptions|translations)|services/aigc/(text|multimodal)-generation/generation"
    r"|services/(embeddings|rerank)/[\w-]+/[\w-]+)/?$"
    r"|:(generateContent|streamGenerateContent|embedContent|batchEmbedContents|generateAnswer|predict)$"
)
"""What is done with what the request says, while its caller waits.  Of all else (batches, training, runs of assistants) nobody
knows what it costs, whatever the price of a token: what it is about is stored elsewhere."""
_REQUEST_FIELDS: Final = frozenset(
    {
        b"accept",
        b"anthropic-beta",
        b"anthropic-version",
        b"content-type",
        b"idempotency-key",
        b"openai-beta",
        b"range",
    }
)
"""What a caller may say beyond its path and body.  Never who pays (`openai-organization`, `openai-project`)."""
_ANSWER_FIELDS: Final = frozenset(
    {
        b"accept-ranges",
        b"cache-control",
        b"content-disposition",
        b"content-range",
        b"content-type",
        b"etag",
        b"last-modified",
        b"location",
        b"retry-after",
    }
)
_VERSION: Final = re.compile(r"v\d+[a-z]*\d*")
TICKET: Final = "tollhouse_ticket"
"""The query parameter of an address that the gateway gave, which says whose it is."""
_OWN_PARAMETERS: Final = frozenset({b"key", b"access_token", b"oauth_token", TICKET.encode("ascii")})
"""Query parameters that hold the caller's own credential (Google's way, and ours)."""
_END: Final = re.compile(
    rb"\[DONE\]|message_stop|response\.(completed|failed|incomplete)|\.done\""
    rb'|"finish_?[rR]eason"\s*:\s*"(?!null")'
)
"""How the last event of a stream looks in the APIs that are known."""
_ONCE: Final = RetryPolicy(max_attempts=1)
"""Nobody knows whether a call of unknown meaning may be made twice."""


_FREE_VERBS: Final = re.compile(r"(/count_tokens|:countTokens)/?$")
_WITHOUT_OUTPUT: Final = re.compile(
    r"(/(embeddings|rerank|moderations|services/(embeddings|rerank)/[\w-]+/[\w-]+)/?|:(embedContent|batchEmbedContents))$"
)
_UPLOADS: Final = "/upload/"
_UPLOAD_COMMAND: Final = b"x-goog-upload-command"
_UPLOAD_PROTOCOL: Final = b"x-goog-upload-protocol"
_UPLOAD_OFFSET: Final = b"x-goog-upload-offset"


class Request(msgspec.Struct, frozen=True):
    """What is forwarded."""

    method: str
    provider: str
    path: str
    """Below the provider's name, percent-encoded as it came; begins with a slash."""
    query: bytes
    address_of: Callable[[str], str]
    """Where the caller reaches a target below the provider's name, which is a path and a query without credentials."""


async def pass_through(gateway: Gateway, call: Call, request: Request, sink: Sink) -> None:
    """Carries a call to its end.  Raises as a call does; if that is in the middle of an answer, nobody may end it cleanly."""
    provider = gateway.router.providers.get(request.provider)
    if provider is None or not provider.passthrough:
        raise NotFound(
            f"The paths of provider {request.provider[:100]!r} cannot be used here.",
            hint="Whoever runs this gateway can allow it: providers.NAME.passthrough.",
        )
    if gateway.masks is not None and call.body:
        raise PermissionDenied(
            "Only what has no body is passed through here: what is to be masked in others cannot be told.",
            hint="It is `logging.redact_upstream` that asks for masks. Conversations and embeddings have paths of their own.",
        )
    given = _given(call.headers, call.principal, provider)
    said = _declared(call, request, given)
    candidate = gateway.router.one(provider.name, said.model)
    route = _allowed(Route(name=candidate.name, candidates=(candidate,)), call, said.model)
    errand = _Forwarding(gateway, call, request, sink, said, given, is_free=_is_free(request, candidate.address.path))
    if gateway.ownership is not None:
        what = _passing(request, said, given, candidate.address.path)
        errand.custody = await Custody.take(gateway.ownership, provider, call, what)
    outcome = await Run(gateway, call, errand, route, model=candidate.name, lane="passed", retry=_ONCE).go()
    await sink.body(outcome.answer, more=False)


def target_of(base_path: str, path: str, query: bytes, other: OtherPaths | None = None) -> bytes:
    """The upstream request target for a path below `base_path`, the path of the provider's own address.

    `other` says which paths are beside that address and not below it.  A client that was told `…/openai/v1` and one that
    was told `…/openai` mean the same, also where the provider's own address ends in more than `/v1`.  Raises `BadRequest` for a
    path that could leave the provider's address.
    """
    meant = plain(path)
    segments = meant.split("/")
    if "\\" in meant or any(segment.partition(";")[0] in {".", ".."} for segment in segments):
        raise BadRequest("The path has dots or backslashes that would leave it: write it plainly.")
    if "" in segments[1:-1]:
        raise BadRequest("The path has an empty part (`//`), which some servers take for none: write it plainly.")
    if not path.isascii() or any(character <= " " or character in "#\x7f" for character in path):
        raise BadRequest("The path has characters that must be percent-encoded.")
    whole = _below(base_path, path, other)
    kept = kept_query(query)
    return whole.encode("ascii") + (b"?" + kept if kept else b"")


def kept_query(query: bytes) -> bytes:
    """What is forwarded of a query: all but a credential of the caller's.  Raises `BadRequest` for what may not be."""
    pairs = [(unquote_to_bytes(pair.partition(b"=")[0]).lower(), pair) for pair in query.split(b"&") if pair]
    if any(name.startswith(b"$") for name, _ in pairs):
        # With `$httpMethod` and its like, Google takes a GET for another request
        # (https://cloud.google.com/apis/docs/system-parameters).
        raise BadRequest("Parameters that begin with `$` are not passed on.")
    kept = b"&".join(pair for name, pair in pairs if name not in _OWN_PARAMETERS)
    if any(byte <= 0x20 or byte >= 0x7F or byte == 0x23 for byte in kept):
        raise BadRequest("The query has characters that must be percent-encoded.")
    return kept


def _below(base_path: str, path: str, other: OtherPaths | None) -> str:
    if path.startswith(f"{base_path}/"):
        return path
    versions = [segment for segment in base_path.split("/") if _VERSION.fullmatch(segment)]
    # Clients have `/v1` at the end of every address, Groq has `/openai/v1` there, Google `/v1beta` and GLM `/api/paas/v4`.
    for version in ("v1", versions[-1]) if versions else ():
        if path.startswith(f"/{version}/"):
            return base_path + path.removeprefix(f"/{version}")
    if other is not None and other.at_root.match(path) and (root := other.root_of(base_path)) is not None:
        return root + path
    return base_path + path


def session_of(value: bytes, address: Address, other: OtherPaths) -> str:
    """Of an address that the provider told to go on at: the target below the provider's name that leads there.

    Raises `UpstreamMalformed` for one at which the gateway may not ask: only the configuration says where it may.
    """
    elsewhere = UpstreamMalformed("The provider told an address to go on at that is not below its own.")
    try:
        parts = urlsplit(value.decode("ascii"))
        there = parse_address(f"{parts.scheme}://{parts.netloc}")
        query = kept_query(parts.query.encode("ascii"))
        path = parts.path.removeprefix(other.root_of(address.path) or "")
        target = target_of(address.path, path, query, other)
    except (ValueError, BadRequest) as error:
        raise elsewhere from error
    whole = parts.path.encode("ascii") + (b"?" + query if query else b"")
    if (there.scheme, there.host, there.port) != (address.scheme, address.host, address.port) or target != whole:
        raise elsewhere
    return path + (f"?{query.decode('ascii')}" if query else "")


@dataclass(slots=True)
class _Forwarding:
    """`tollhouse.gateway.errand.Errand` for one call."""

    gateway: Gateway
    call: Call
    what: Request
    sink: Sink
    said: Declaration
    given: dict[bytes, bytes]
    """The caller's headers that are passed on."""
    is_free: bool
    is_flat: bool = field(default=False, init=False)
    """Whether it is held by the configuration's word, and not by a price."""
    watch: Watch | None = field(default=None, init=False)
    answered_bytes: int = field(default=0, init=False)
    custody: Custody | None = field(default=None, init=False)

    def request(self, candidate: Candidate, receipt: Receipt) -> Outgoing:
        del receipt
        return self._asking(candidate, self.what.query)

    def _asking(self, candidate: Candidate, query: bytes) -> Outgoing:
        address, provider = candidate.address, candidate.provider
        own = dict(provider.headers(self.gateway.wall()))
        if not self.call.body:
            own.pop(b"content-type", None)
        return Outgoing(
            address=address,
            method=self.what.method.encode("ascii"),
            target=target_of(address.path, self.what.path, query, provider.other_paths),
            headers=[*{**own, **self.given, **dict(provider.authenticate(self.gateway.wall()))}.items()],
            body=self.said.body,
        )

    def weigh(self, candidate: Candidate, price: ModelPrice | None) -> Weight:
        if self.is_free:
            return NO_WEIGHT
        # No tokenizer makes more tokens of a text than it has bytes.
        most_input, most_output = len(self.call.body), self._most_output(candidate)
        worst = None
        if _AT_ONCE.search(plain(self.what.path)):
            worst = worst_cost(price, most_input, most_output, self.call.arrived_at_us)
        flat = candidate.provider.passthrough_hold_nano
        # A picture or a sound in a form has far fewer tokens than bytes.
        self.is_flat = worst is None or (flat is not None and self._is_form and flat < worst)
        if self.is_flat:
            worst = flat
        return Weight(most_input // BYTES_PER_TOKEN, most_input, most_output, worst)

    def flat_nano(self, candidate: Candidate) -> int | None:
        return candidate.provider.passthrough_hold_nano if self.is_flat else None

    @property
    def _is_form(self) -> bool:
        return self.given.get(b"content-type", b"").lstrip().lower().startswith(b"multipart/")

    def _most_output(self, candidate: Candidate) -> int:
        if _WITHOUT_OUTPUT.search(plain(self.what.path)):
            return 0
        most = self.said.max_output_tokens or candidate.max_output_tokens or DEFAULT_MAX_OUTPUT_TOKENS
        return most * self.said.answers

    def likely(self) -> Usage:
        seen = Usage() if self.watch is None else self.watch.usage()
        if not seen.is_empty or not self.said.model or self.is_flat:
            return seen
        written = 0 if _WITHOUT_OUTPUT.search(plain(self.what.path)) else self.answered_bytes // BYTES_PER_TOKEN
        return Usage(input_tokens=len(self.call.body) // BYTES_PER_TOKEN, output_tokens=written, source="estimated")

    async def read(self, incoming: Incoming, candidate: Candidate) -> Answered[bytes]:
        if incoming.status == 401:  # of the gateway's own key, which the caller can do nothing about
            raise await refusal(incoming, candidate, self.gateway.wall())
        if incoming.status >= 400:
            return await self._refused(incoming, candidate)
        if self.custody is not None and self.custody.is_listing:
            return await self._listed(self.custody, incoming, candidate)
        kind = incoming.header(b"content-type") or b""
        custody = self.custody
        if custody is not None:
            custody.begin(kind)
        is_stream = kind.lstrip().lower().startswith(b"text/event-stream")
        watch = self.watch = Watch(is_stream=is_stream) if is_stream or b"json" in kind.lower() else None
        # The row is written before the last byte leaves, so the last piece is held back; of a stream, what looks like its end.
        held = await incoming.read_some()
        began_at = self.gateway.monotonic()
        await self._begin(incoming, candidate)
        while held:
            self.answered_bytes += len(held)
            if watch is not None:
                watch.feed(held)
            if custody is not None:
                custody.feed(held)
            if is_stream and not _END.search(held):
                await self.sink.body(held, more=True)
                held = b""
            following = await incoming.read_some()
            if not following:
                break
            if held:
                await self.sink.body(held, more=True)
            held = following
        if custody is not None:
            await custody.end()
        usage = Usage() if watch is None else watch.usage()
        return Answered(held, usage, incoming.status, began_at=began_at)

    async def _listed(self, custody: Custody, incoming: Incoming, candidate: Candidate) -> Answered[bytes]:
        """A page with what is the caller's; where nothing on one is, the next one that has something."""
        query, given = self.what.query, incoming
        for _ in range(MAX_PAGES):
            try:
                if given.status >= 400:
                    return await self._refused(given, candidate)
                page = custody.page(await given.read_all(MAX_PAGE_BYTES))
                visible = await custody.visible(page)
                following = next_query(page, query, has_after_id=candidate.provider.dialect is ANTHROPIC)
                if visible or following is None:
                    await self._begin(given, candidate)
                    return Answered(cut(page, visible, asked_size(self.what.query)), Usage(), given.status)
            finally:
                given.close()
            query = following
            given = await candidate.transport.send(self._asking(candidate, query), candidate.deadlines)
        given.close()
        raise UpstreamTooLarge(f"There is nothing of yours on the first {MAX_PAGES} pages of this list.")

    async def _refused(self, incoming: Incoming, candidate: Candidate) -> Answered[bytes]:
        """A provider's own error: passed on as it is, for only its own client can read it."""
        body = await incoming.read_all(MAX_ERROR_BYTES)
        error: ProviderRefused = candidate.provider.dialect.decode_error(incoming.status, body)
        error.provider = candidate.provider.name
        body = without_key(body.decode("latin-1"), candidate.provider.authenticate(self.gateway.wall())).encode(
            "latin-1"
        )
        await self._begin(incoming, candidate)
        return Answered(body, Usage(), incoming.status, error)

    async def _begin(self, incoming: Incoming, candidate: Candidate) -> None:
        other, kept = candidate.provider.other_paths, []
        for name, value in incoming.headers:
            if name in _ANSWER_FIELDS or (other is not None and name in other.answer_headers):
                kept.append((name, value))
            elif other is not None and name in other.session_headers:
                session = session_of(value, candidate.address, other)
                if self.custody is not None:
                    await self.custody.session(session)
                kept.append((name, self.what.address_of(session).encode("ascii")))
        await self.sink.head(incoming.status, [*kept, (b"x-tollhouse-model", candidate.label.removesuffix(b"/"))])


def _given(headers: Headers, principal: Principal, provider: Provider) -> dict[bytes, bytes]:
    """The headers of a caller's that are passed on."""
    other = provider.other_paths
    fields = _REQUEST_FIELDS if other is None else _REQUEST_FIELDS | other.request_headers
    given = {name: value for name, value in headers if name in fields and len(value) <= MAX_FORWARDED_BYTES}
    if (chosen := given.get(b"idempotency-key")) is not None:
        # To the provider all callers are one, and who chose another's key would be given the other's answer.
        whose = f"{principal.tenant}\n{principal.project}\n{principal.key}\n".encode()
        given[b"idempotency-key"] = hashlib.sha256(whose + chosen).hexdigest().encode("ascii")
    return given


def _passing(request: Request, said: Declaration, given: dict[bytes, bytes], base_path: str) -> Passing:
    is_content, command = _is_content(request, given), given.get(_UPLOAD_COMMAND, b"")
    return Passing(
        method=request.method,
        path=request.path.removeprefix(base_path),
        query=request.query,
        body=said.body,
        fields=said.fields,
        is_content=is_content,
        is_whole_content=is_content
        and (
            given.get(_UPLOAD_PROTOCOL) == b"raw"
            or (b"upload" in command and b"finalize" in command and given.get(_UPLOAD_OFFSET) == b"0")
        ),
        is_at_once=bool(_AT_ONCE.search(plain(request.path)) or _FREE_VERBS.search(plain(request.path))),
    )


def _is_content(request: Request, given: dict[bytes, bytes]) -> bool:
    """Whether the body is a piece of a file."""
    return request.path.startswith(_UPLOADS) and (
        b"upload" in given.get(_UPLOAD_COMMAND, b"") or given.get(_UPLOAD_PROTOCOL) in {b"raw", b"multipart"}
    )


def _declared(call: Call, request: Request, given: dict[bytes, bytes]) -> Declaration:
    """What the request says of itself; a piece of a file says nothing, whatever it looks like."""
    if _is_content(request, given):
        return Declaration("", call.body)
    kind = given.get(b"content-type", b"").decode("latin-1")
    return declare(request.provider, request.path, request.query, kind, call.body)


def _is_free(request: Request, base_path: str) -> bool:
    path = plain(request.path)
    below = path.removeprefix(base_path)
    return request.method in _FREE_METHODS or bool(_FREE_PATHS.match(below) or _FREE_VERBS.search(path))


def _allowed(route: Route, call: Call, model: str) -> Route:
    access = call.principal.access
    if access is ANYTHING:
        return route
    if model:
        return allowed(route, call.principal)
    # Whoever may use certain models only gets nothing of which the model is not known.
    if not access.may_use("", route.candidates[0].name):
        raise not_allowed(call.principal, "(none named)")
    return route
