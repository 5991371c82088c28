"""Any other path of a provider, forwarded as it is: files, batches, images, sound, what was announced yesterday.

Whose call it is, what limits and budgets say of it, and a row in the ledger: all that is the same as for a conversation.  What
the call means is not known.  So a budget that has to hold refuses what could cost money when its price is not known, and a key
that may use certain models only gets nothing that names no model.

Nothing of the caller's decides where it goes but the path below the provider's own address: no credential, no host, no `..`.
"""

import re
from dataclasses import dataclass, field
from typing import Final

import msgspec

from tollhouse.chat.receipt import Receipt
from tollhouse.chat.usage import Usage
from tollhouse.dialects.any_usage import Watch
from tollhouse.errors import BadRequest, NotFound, ProviderRefused
from tollhouse.gateway.call import Call, Sink
from tollhouse.gateway.errand import Answered, Run
from tollhouse.gateway.estimate import BYTES_PER_TOKEN
from tollhouse.gateway.failures import MAX_ERROR_BYTES, refusal
from tollhouse.gateway.pipeline import Gateway
from tollhouse.gateway.plan import RetryPolicy
from tollhouse.gateway.routing import Candidate, Route, allowed
from tollhouse.gateway.weight import DEFAULT_MAX_OUTPUT_TOKENS, worst_cost
from tollhouse.ledger.prices import ModelPrice
from tollhouse.policy.access import ANYTHING
from tollhouse.policy.admission import NO_WEIGHT, Weight
from tollhouse.policy.identity import not_allowed
from tollhouse.providers.provider import MAX_FORWARDED_BYTES
from tollhouse.upstream.transport import Incoming, Outgoing

METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE")
_FREE_METHODS: Final = frozenset({"GET", "DELETE"})
_FREE_PATHS: Final = re.compile(r"(^|/)(files|uploads)(/|$)")
"""What is stored for later use costs nothing by itself."""
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
        b"content-encoding",
        b"content-range",
        b"content-type",
        b"etag",
        b"last-modified",
        b"location",
        b"retry-after",
    }
)
_OWN_PARAMETERS: Final = frozenset({b"key", b"access_token"})
"""Query parameters that hold the caller's own credential (Google's way)."""
_PATH_MODEL: Final = re.compile(r"/models/([^/:]+)")
_FORM_MODEL: Final = re.compile(rb'name="model"(?:\r\n[^\r\n]+)*\r\n\r\n([^\r\n]{1,200})\r\n')
_END: Final = re.compile(rb"\[DONE\]|message_stop|response\.(completed|failed|incomplete)|\.done\"")
"""How the last event of a stream looks in the APIs that are known."""
_ONCE: Final = RetryPolicy(max_attempts=1)
"""Nobody knows whether a call of unknown meaning may be made twice."""


class _Body(msgspec.Struct):
    model: str = ""
    stream: bool = False
    max_tokens: int | None = None
    max_output_tokens: int | None = None
    max_completion_tokens: int | None = None


_bodies: Final = msgspec.json.Decoder(_Body)


class Request(msgspec.Struct, frozen=True):
    """What is forwarded."""

    method: str
    provider: str
    path: str
    """Below the provider's name, percent-encoded as it came; begins with a slash."""
    query: bytes


async def pass_through(gateway: Gateway, call: Call, request: Request, sink: Sink) -> None:
    """Carries a call to its end.  Raises as a call does; if that is in the middle of an answer, nobody may end it cleanly."""
    provider = gateway.router.providers.get(request.provider)
    if provider is None or not provider.passthrough:
        raise NotFound(
            f"The paths of provider {request.provider[:100]!r} cannot be used here.",
            hint="Whoever runs this gateway can allow it: providers.NAME.passthrough.",
        )
    said = _said(call.body, request)
    model = said.model.removeprefix(f"{provider.name}/")
    candidate = gateway.router.one(provider.name, model)
    route = _allowed(Route(name=candidate.name, candidates=(candidate,)), call, model)
    errand = _Forwarding(gateway, call, request, sink, said)
    outcome = await Run(gateway, call, errand, route, model=candidate.name, lane="passed", retry=_ONCE).go()
    await sink.body(outcome.answer, more=False)


def target_of(base_path: str, path: str, query: bytes) -> bytes:
    """The upstream request target for a path below `base_path`, the path of the provider's own address.

    A client that was told `…/openai/v1` and one that was told `…/openai` mean the same.  Raises `BadRequest` for a path that
    could leave the provider's address.
    """
    plain = path.lower().replace("%2e", ".").replace("%2f", "/").replace("%5c", "\\")
    if "\\" in plain or any(segment in {".", ".."} for segment in plain.split("/")):
        raise BadRequest("The path has dots or backslashes that would leave it: write it plainly.")
    if not path.isascii() or any(character <= " " or character == "\x7f" for character in path):
        raise BadRequest("The path has characters that must be percent-encoded.")
    whole = path if path.startswith(f"{base_path}/") else base_path + path
    kept = b"&".join(pair for pair in query.split(b"&") if pair and pair.partition(b"=")[0] not in _OWN_PARAMETERS)
    if any(byte <= 0x20 or byte >= 0x7F for byte in kept):
        raise BadRequest("The query has characters that must be percent-encoded.")
    return whole.encode("ascii") + (b"?" + kept if kept else b"")


@dataclass(slots=True)
class _Forwarding:
    """`tollhouse.gateway.errand.Errand` for one call."""

    gateway: Gateway
    call: Call
    what: Request
    sink: Sink
    said: _Body
    watch: Watch | None = field(default=None, init=False)

    def request(self, candidate: Candidate, receipt: Receipt) -> Outgoing:
        del receipt
        address, provider = candidate.address, candidate.provider
        given = {
            name: value
            for name, value in self.call.headers
            if name in _REQUEST_FIELDS and len(value) <= MAX_FORWARDED_BYTES
        }
        own = dict(provider.headers(self.gateway.wall()))
        if not self.call.body:
            own.pop(b"content-type", None)
        return Outgoing(
            address=address,
            method=self.what.method.encode("ascii"),
            target=target_of(address.path, self.what.path, self.what.query),
            headers=[*{**own, **given, **dict(provider.authenticate(self.gateway.wall()))}.items()],
            body=self._body(candidate),
        )

    def _body(self, candidate: Candidate) -> bytes:
        """The body as it came, but for a model that was named `provider/model`."""
        name = self.said.model
        if name == candidate.model or not name:
            return self.call.body
        try:
            fields = msgspec.json.decode(self.call.body, type=dict[str, msgspec.Raw])
        except (msgspec.DecodeError, RecursionError):
            return self.call.body
        if "model" not in fields:
            return self.call.body
        return msgspec.json.encode({**fields, "model": candidate.model})

    def weigh(self, candidate: Candidate, price: ModelPrice | None) -> Weight:
        if self.is_free:
            return NO_WEIGHT
        said = self.said
        most_input = len(self.call.body)
        most_output = (
            said.max_output_tokens
            or said.max_completion_tokens
            or said.max_tokens
            or candidate.max_output_tokens
            or DEFAULT_MAX_OUTPUT_TOKENS
        )
        worst = worst_cost(price, most_input, most_output, self.call.arrived_at_us)
        return Weight(most_input // BYTES_PER_TOKEN, most_input, most_output, worst)

    @property
    def is_free(self) -> bool:
        return self.what.method in _FREE_METHODS or _FREE_PATHS.search(self.what.path) is not None

    def likely(self) -> Usage:
        seen = Usage() if self.watch is None else self.watch.usage()
        if not seen.is_empty or not self.said.model:
            return seen
        return Usage(input_tokens=len(self.call.body) // BYTES_PER_TOKEN, output_tokens=0, source="estimated")

    async def read(self, incoming: Incoming, candidate: Candidate) -> Answered[bytes]:
        if incoming.status == 401:  # of the gateway's own key, which the caller can do nothing about
            raise await refusal(incoming, candidate, self.gateway.wall())
        if incoming.status >= 400:
            return await self._refused(incoming, candidate)
        kind = incoming.header(b"content-type") or b""
        is_stream = kind.lstrip().lower().startswith(b"text/event-stream")
        watch = self.watch = Watch(is_stream=is_stream) if is_stream or b"json" in kind.lower() else None
        # The row is written before the last byte leaves, so the last piece is held back; of a stream, what looks like its end.
        held = await incoming.read_some()
        await self._begin(incoming, candidate)
        while held:
            if watch is not None:
                watch.feed(held)
            if is_stream and not _END.search(held):
                await self.sink.body(held, more=True)
                held = b""
            following = await incoming.read_some()
            if not following:
                break
            if held:
                await self.sink.body(held, more=True)
            held = following
        return Answered(held, Usage() if watch is None else watch.usage(), incoming.status)

    async def _refused(self, incoming: Incoming, candidate: Candidate) -> Answered[bytes]:
        """A provider's own error: passed on as it is, for only its own client can read it."""
        body = await incoming.read_all(MAX_ERROR_BYTES)
        error: ProviderRefused = candidate.provider.dialect.decode_error(incoming.status, body)
        error.provider = candidate.provider.name
        for _, value in candidate.provider.authenticate(self.gateway.wall()):
            secret = value.rpartition(b" ")[2]
            if len(secret) > 3:
                body = body.replace(secret, b"***")
        await self._begin(incoming, candidate)
        return Answered(body, Usage(), incoming.status, error)

    async def _begin(self, incoming: Incoming, candidate: Candidate) -> None:
        kept = [(name, value) for name, value in incoming.headers if name in _ANSWER_FIELDS]
        await self.sink.head(incoming.status, [*kept, (b"x-tollhouse-model", candidate.label.removesuffix(b"/"))])


def _said(body: bytes, request: Request) -> _Body:
    """What a request says of itself, as far as it can be understood."""
    if body[:1] == b"{":
        try:
            said = _bodies.decode(body)
        except (msgspec.DecodeError, RecursionError):
            said = _Body()
    else:
        found = _FORM_MODEL.search(body)
        said = _Body(model=found[1].decode("utf-8", "replace")) if found else _Body()
    if not said.model and (named := _PATH_MODEL.search(request.path)):
        said = _Body(model=named[1])
    return said


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
