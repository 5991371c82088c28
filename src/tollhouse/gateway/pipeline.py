"""The way of a conversation: route → admit → attempt → relay → settle.

One object has the wired parts, one short-lived `_Run` carries one call through them.  Both lanes go this way; what
differs between them is only who turns bytes into bytes (`dialects.Observer` or `gateway.translator.Translator`).

Three rules hold on every path out of here, the exceptional ones included:

- the ledger row exists before the last byte of the answer leaves, and is written exactly once;
- the client gets a complete answer or an error in its own dialect, never a clean end of a cut answer;
- the upstream exchange is closed, and the hold is settled.
"""

import asyncio
from collections.abc import Coroutine, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, Final, Protocol

import msgspec

from tollhouse.chat import receipt as receipts
from tollhouse.chat.events import Event
from tollhouse.chat.fold import unfold
from tollhouse.chat.model import FinishReason, Request, Response
from tollhouse.chat.receipt import Receipt
from tollhouse.chat.usage import Usage
from tollhouse.dialects.dialect import Peek
from tollhouse.dialects.head_lines import Field, HeadLines, write_lines
from tollhouse.errors import (
    BadRequest,
    BudgetExceeded,
    GatewayError,
    NoPrice,
    ProviderError,
    RateLimited,
    TollhouseError,
    Untranslatable,
    UpstreamMalformed,
    retry_after,
)
from tollhouse.gateway import estimate
from tollhouse.gateway import sharing as shared
from tollhouse.gateway.by_products import ByProducts, may_make
from tollhouse.gateway.call import MAX_NOTED_CHARACTERS, Call, Headers, Sink, note_route
from tollhouse.gateway.coalesce import Flight
from tollhouse.gateway.failures import (
    JSON_HEAD,
    Ending,
    ending_of,
    error_headers,
    for_the_operator,
    is_about_the_candidate,
    refusal,
)
from tollhouse.gateway.parts import Parts
from tollhouse.gateway.plan import Plan
from tollhouse.gateway.replay import Recorder, read_whole
from tollhouse.gateway.routing import Candidate, Route, allowed
from tollhouse.gateway.sharing import SSE_HEAD, Asked, Keeper, Sharing
from tollhouse.gateway.translator import Translator
from tollhouse.gateway.under_way import UnderWay
from tollhouse.gateway.weight import worst_cost
from tollhouse.ledger.prices import total_nano
from tollhouse.policy.admission import Weight
from tollhouse.policy.redaction.masking import Unmasker, mask
from tollhouse.telemetry.bodies import BodyStore
from tollhouse.upstream.failure import Verdict, verdict
from tollhouse.upstream.transport import Deadlines, Incoming, Outgoing

MAX_ANSWER_BYTES: Final = 64 * 1024 * 1024
LEAST_CLAMPED_TOKENS: Final = 16
"""An answer that a budget would have to be cut shorter than this is refused instead."""
COST_HEADER: Final = b"x-tollhouse-cost-nano-usd"
"""What a whole answer cost, for clients whose dialect has no place for it.  A stream's head leaves before that is known; one
that several calls share has a price for each of them."""
_COST_LINE: Final = COST_HEADER + b": %d\r\n"
DRAIN_SECONDS: Final = 0.25
"""How long a finished stream's connection may take to show its end, to be used again."""
HOLD_SECONDS: Final = 10.0
"""How long what a provider says before its answer (a role, a comment) is held back, so that another may still take over."""
MAX_HELD_BYTES: Final = 64 * 1024
MAX_REMEMBERED_LINES: Final = 2_000
"""Bound on first lines of heads that are kept; clients may invent models' names without end."""


class StreamWatch(Protocol):
    """What the relay needs of either lane; `Observer` and `Translator` both are one."""

    @property
    def finish(self) -> FinishReason | None: ...
    @property
    def failure(self) -> TollhouseError | None: ...
    @property
    def is_final(self) -> bool: ...
    @property
    def has_content(self) -> bool: ...
    def feed(self, data: bytes) -> bytes: ...
    def close(self) -> bytes: ...
    def usage(self) -> Usage: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway(Parts):
    """Answers calls."""

    bodies: BodyStore | None
    """Where prompts and answers are kept, if they are."""
    sharing: Sharing | None = None
    """Kept answers and calls that are made once for several callers; `None` costs nothing."""

    def answer(self, call: Call, sink: Sink) -> Coroutine[Any, Any, None]:
        """Carries one call to its end.  Cancel it when the client leaves: what was used is still settled.

        Cancel it with the message `Draining.code` when the gateway itself ends the call, or `KeyRevoked.code` or
        `TokenRevoked.code` when the credential was taken back; telling the client is then the front door's part.
        """
        if self.bodies is not None:
            return self._tapped(call, sink, self.bodies)
        return _Run(self, call, sink).go() if self.sharing is None else self._shared(call, sink, self.sharing)

    async def _tapped(self, call: Call, sink: Sink, bodies: BodyStore) -> None:
        principal = call.principal
        tap = bodies.tap(
            sink,
            call_id=call.id,
            at_us=call.arrived_at_us,
            door=call.door,
            dialect=call.dialect.name,
            tenant=principal.tenant,
            key=principal.key,
            request=call.body,
        )
        try:
            await (_Run(self, call, tap).go() if self.sharing is None else self._shared(call, tap, self.sharing))
        finally:
            tap.finish()

    def _shared(self, call: Call, sink: Sink, sharing: Sharing) -> Coroutine[Any, Any, None]:
        return shared.answer(
            sharing,
            self,
            call,
            sink,
            route=lambda model: allowed(self.router.resolve(model), call.principal).asked_in(call.dialect),
            carry=lambda *carried: _Run(self, *carried).go(),
        )


class _Run(UnderWay):
    """One conversation under way."""

    __slots__ = (
        "_asked",
        "_begun",
        "_candidate",
        "_cap",
        "_failure",
        "_flight",
        "_incoming",
        "_is_settled",
        "_keeper",
        "_recorder",
        "_request",
        "_sink",
        "_values",
        "_watch",
    )

    def __init__(
        self, gateway: Parts, call: Call, sink: Sink, asked: Asked | None = None, keeper: Keeper | None = None
    ) -> None:
        """`asked` is what was read of the call before, if anything was; `keeper` keeps its answer."""
        super().__init__(gateway, call)
        self._sink = sink
        self._asked = asked
        self._keeper = keeper
        self._flight = sink if isinstance(sink, Flight) else None
        """The sink, where others share the answer."""
        if self._flight is not None:
            self._flight.record = self._record
        self._recorder: Recorder | None = None
        self._cap: int | None = None
        """Output tokens for each choice that a budget has left, where it would rather have a shorter answer than none."""
        self._request: Request | None = None
        self._values: Mapping[str, str] = {}
        """What stands behind the placeholders that the provider sees."""
        self._candidate: Candidate | None = None
        """The one that the latest attempt went to."""
        self._incoming: Incoming | None = None
        self._watch: StreamWatch | None = None
        self._begun = False
        """Whether the response head went to the client."""
        self._failure: ProviderError | None = None
        """How the last attempt failed, while the next has not begun."""
        self._is_settled = False

    async def go(self) -> None:
        try:
            peek = self._call.peek() if self._asked is None else self._asked.peek
            await self._attempts(self._route(peek), peek)
        except TollhouseError as error:
            await self._fail(error)
        except asyncio.CancelledError as error:
            self._leave(ending_of(error))
            raise
        except Exception as error:  # noqa: BLE001  # the outer edge of a call: it is logged and this call ends
            self._gateway.unexpected(self._call.id, error)
            await self._fail(GatewayError("Something went wrong inside the gateway.", hint="Its log has the details."))
        finally:
            if self._incoming is not None:
                self._incoming.close()

    # -- before the provider

    def _route(self, peek: Peek) -> Route:
        call, record = self._call, self._record
        record.requested_model = peek.model[:MAX_NOTED_CHARACTERS]
        record.streamed = peek.stream
        if self._asked is None:
            route = allowed(self._gateway.router.resolve(peek.model), call.principal).asked_in(call.dialect)
        else:
            route = self._asked.route
        if route.name != record.requested_model:
            note_route(record, peek.model, route.name)
        return route

    async def _attempts(self, route: Route, peek: Peek) -> None:
        gateway = self._gateway
        began = self._began = gateway.monotonic()
        plan: Plan | None = None  # made for the few calls that need a second attempt
        candidate = route.candidates[0]
        deadlines = candidate.deadlines
        if self._call.deadline is not None:
            deadlines = self._within(deadlines, deadlines.total)
        while True:
            try:
                await self._attempt(candidate, route, peek, deadlines)
            except (Untranslatable, RateLimited, BudgetExceeded, NoPrice) as error:
                # Another candidate's dialect may be able to say it, or its provider's own limits may have room.
                if not is_about_the_candidate(error):
                    raise
                plan = plan or self._plan(route, began)
                following = plan.after(Verdict.NEXT_CANDIDATE, None, gateway.monotonic())
                if following is None:
                    raise
            except ProviderError as error:
                self._failed(candidate, error)
                self._failure = error
                if self._begun:
                    raise
                self._drop()
                plan = plan or self._plan(route, began)
                following = plan.after(verdict(error), retry_after(error), gateway.monotonic())
                if following is None:
                    raise
            else:
                return
            if following.wait_seconds:
                await asyncio.sleep(following.wait_seconds)
            self._began = gateway.monotonic()
            candidate = route.candidates[plan.current]
            left = plan.remaining(self._began)
            deadlines = self._within(candidate.deadlines, left)

    def _plan(self, route: Route, began: float) -> Plan:
        return Plan(len(route.candidates), self._gateway.retry, now=began, random=self._gateway.random)

    # -- one attempt

    async def _attempt(self, candidate: Candidate, route: Route, peek: Peek, deadlines: Deadlines) -> None:
        gateway, call, record = self._gateway, self._call, self._record
        provider = candidate.provider
        record.provider, record.model = provider.name, candidate.model
        speaks_alike = provider.dialect is call.dialect
        is_same = (
            speaks_alike
            and not self._hides()
            and not call.dialect.holds_sealed(call.body)
            and not route.has_to_seal(candidate)
        )
        record.lane = "same" if is_same else "translated"
        record.price_version = gateway.prices.version
        weigh = partial(self._weigh, candidate, peek)
        # Those of a candidate that was tried before stay with it; the receipt is of the one that answers.
        receipt = Receipt() if self._receipt.losses else self._receipt
        try:
            try:
                await self._place(route, candidate, weigh, len(call.body) // estimate.BYTES_PER_TOKEN)
            except BudgetExceeded as error:
                await self._place_less(route, candidate, peek, error)
            if is_same:
                body = call.dialect.patch(peek, candidate.model, candidate.traits, receipt, self._cap)
            else:
                request = msgspec.structs.replace(self._decoded(), model=candidate.model)
                if self._cap is not None:
                    request = msgspec.structs.replace(request, max_output_tokens=self._cap)
                body = provider.dialect.encode_request(request, candidate.traits, receipt)
            if route.strict and receipt.losses:
                raise Untranslatable(
                    f"Model {route.name!r} is strict, and {provider.name!r} cannot express: {receipt.header()}.",
                    lost=receipt.entries,
                )
            ownership = gateway.ownership
            if ownership is not None and (
                provider.foreign_ids is not None or ownership.are_several(call.principal.tenant)
            ):
                await ownership.permit_conversation(provider, call.principal, body, self._decoded)
                if may_make(body):
                    self._sink = ByProducts(ownership, provider, call, self._sink)
        except (TollhouseError, asyncio.CancelledError):
            if self._former is not None and receipt is self._receipt:
                self._receipt = Receipt()
            self._turn_back()
            raise
        self._candidate, self._receipt = candidate, receipt
        if self._cap is not None:
            receipt.changed("max_tokens", f"lowered to {self._cap}, for which a budget has enough left")
        self._is_attempting = True
        self._failure = None
        outgoing = Outgoing(
            address=candidate.address,
            method=b"POST",
            target=candidate.stream_target if peek.stream else candidate.target,
            headers=provider.headers(gateway.wall(), call.headers, same_dialect=speaks_alike),
            body=body,
        )
        if record.trace is not None:
            outgoing = self._traced(outgoing, candidate)
        incoming = self._incoming = await candidate.transport.send(outgoing, deadlines)
        if incoming.status >= 300:
            raise await refusal(incoming, candidate, gateway.wall())
        if peek.stream:
            await self._stream(incoming, candidate, peek)
        else:
            await self._whole(incoming, candidate)

    async def _place_less(self, route: Route, candidate: Candidate, peek: Peek, error: BudgetExceeded) -> None:
        """Makes room for a shorter answer than was asked for, if `error` is of a budget that would rather have that."""
        cap: int | None = None
        while True:
            affordable = self._affordable(candidate, peek, error) if error.may_clamp else 0
            if affordable < LEAST_CLAMPED_TOKENS or (cap is not None and affordable >= cap):
                raise error
            cap = affordable
            try:
                weigh = partial(self._weigh, candidate, peek, cap)
                await self._place(route, candidate, weigh, len(self._call.body) // estimate.BYTES_PER_TOKEN)
                break
            except BudgetExceeded as another:
                error = another  # of which there is less left still
        self._cap = cap
        # A shorter answer than was asked for is nobody else's.
        self._keeper = None
        if self._flight is not None:
            self._flight.close()

    def _weigh(self, candidate: Candidate, peek: Peek, cap: int | None = None) -> Weight:
        return self._gateway.scales.weigh(
            candidate.name,
            candidate.price,
            body=self._call.body,
            may_have_media=self._call.dialect.may_have_media(self._call.body),
            decoded=self._decoded,
            max_output_tokens=cap or self._cap or peek.max_output_tokens,
            model_output_tokens=candidate.max_output_tokens,
            choices=peek.choices,
            at_us=self._record.started_at_us,
        )

    def _affordable(self, candidate: Candidate, peek: Peek, error: BudgetExceeded) -> int:
        """How many output tokens a choice may have for what a budget has left."""
        weight, at_us = self._weigh(candidate, peek), self._record.started_at_us
        prompt = worst_cost(candidate.price, weight.most_input_tokens, 0, at_us)
        both = worst_cost(candidate.price, weight.most_input_tokens, 1_000_000, at_us)
        if prompt is None or both is None or prompt > error.left_nano:
            return 0
        million = both - prompt
        if not million:
            return weight.most_output_tokens // peek.choices
        return (error.left_nano - prompt) * 1_000_000 // million // peek.choices

    # -- a whole answer

    async def _whole(self, incoming: Incoming, candidate: Candidate) -> None:
        call, record, dialect = self._call, self._record, candidate.provider.dialect
        body = answered = await incoming.read_all(MAX_ANSWER_BYTES)
        lost = "" if self._keeper is None else self._lost()
        glance = dialect.glance(body, candidate.traits)
        if glance.error is not None:
            raise glance.error
        if record.lane == "translated":
            response = dialect.decode_response(body, candidate.traits)
            if response.created is None:
                response = msgspec.structs.replace(response, created=int(self._gateway.wall()))
            if self._values:
                response = Unmasker(self._values).response(response)
            body = call.dialect.encode_response(response, self._decoded(), self._receipt)
        record.finish = glance.finish or ""
        record.status = 200
        record.first_byte_us = self._elapsed_us()
        self._went_well(candidate, incoming)
        if self._keeper is not None:
            await self._keep(self._keeper, candidate, read_whole(answered, dialect, candidate.traits), lost)
        usage = glance.usage if _is_said(glance.usage) else self._whole_usage(glance.usage, len(answered))
        await self._until_safe(self._settle(usage))
        await self._sink.head(200, self._begin((JSON_HEAD,), candidate))
        await self._sink.body(body, more=False)

    # -- a stream

    async def _stream(self, incoming: Incoming, candidate: Candidate, peek: Peek) -> None:
        sink = self._sink
        lost = self._lost()
        if _is_event_stream(incoming):
            if self._keeper is not None:
                self._recorder = Recorder(
                    candidate.provider.dialect.stream_decoder(candidate.traits),
                    max_event_bytes=candidate.provider.dialect.max_event_bytes,
                )
            watch = self._watch = self._watcher(candidate, peek)
            out, is_open = await self._first(incoming, watch)
        else:
            translator = watch = self._watch = self._translator(candidate)
            out = translator.feed_events(await self._unstreamed(incoming, candidate)) + translator.close()
            is_open = False
            self._record.first_byte_us = self._elapsed_us()
        self._record.status = 200
        await sink.head(200, self._begin(SSE_HEAD, candidate))
        recorder = self._recorder
        while is_open:
            if out:
                await sink.body(out, more=True)
            data = await incoming.read_some()
            if recorder is not None:
                recorder.feed(data)
            out = watch.feed(data) if data else b""
            if self._record.first_byte_us is None and watch.has_content:
                self._record.first_byte_us = self._elapsed_us()
            if not data or watch.is_final:
                is_open = False
                if watch.failure is None:
                    out += watch.close()
        if watch.failure is not None:
            await self._broken(candidate, watch.failure, out)
            return
        self._record.finish = watch.finish or ""
        self._went_well(candidate, incoming)
        if self._keeper is not None and self._recorder is not None:
            await self._keep(self._keeper, candidate, self._recorder.close(), lost)
        usage = watch.usage()
        await self._until_safe(self._settle(usage if _is_said(usage) else self._used()))
        await sink.body(out, more=False)
        await _drain(incoming)

    async def _keep(self, keeper: Keeper, candidate: Candidate, response: Response | None, lost: str) -> None:
        """Keeps an answer as its client saw it: with what stands behind the placeholders."""
        if response is not None and self._values:
            response = Unmasker(self._values).response(response)
        await keeper.keep(candidate, response, lost)

    def _lost(self) -> str:
        """What the request lost on its way to the provider; the answer's losses are each client's own."""
        return self._receipt.header() if self._keeper is not None else ""

    def _watcher(self, candidate: Candidate, peek: Peek) -> StreamWatch:
        if self._record.lane == "same":
            return self._call.dialect.observer(peek, candidate.traits)
        return self._translator(candidate)

    def _translator(self, candidate: Candidate) -> Translator:
        return Translator(
            candidate.provider.dialect.stream_decoder(candidate.traits),
            self._call.dialect.stream_encoder(self._decoded(), self._receipt),
            created=int(self._gateway.wall()),
            restore=Unmasker(self._values).events if self._values else None,
            max_event_bytes=candidate.provider.dialect.max_event_bytes,
        )

    async def _first(self, incoming: Incoming, watch: StreamWatch) -> tuple[bytes, bool]:
        """The first bytes for the client, and whether more may come.

        They are held until there is something of the answer among them: providers say who they are and that they are at it
        before they fail (`openrouter/openrouter-chat-stream-error-in-stream-322572`), and until the client has seen a byte
        another candidate can take over.  One that goes on like that is passed on after `HOLD_SECONDS`, as a sign of life.
        """
        monotonic = self._gateway.monotonic
        release_at = monotonic() + HOLD_SECONDS
        out = b""
        is_open = True
        while (
            is_open and not watch.has_content and (not out or (len(out) < MAX_HELD_BYTES and monotonic() < release_at))
        ):
            data = await incoming.read_some()
            if self._recorder is not None:
                self._recorder.feed(data)
            if data:
                out += watch.feed(data)
            is_open = bool(data) and not watch.is_final
        if not is_open and watch.failure is None:
            out += watch.close()
        if watch.has_content:
            self._record.first_byte_us = self._elapsed_us()
        elif watch.failure is not None:
            raise watch.failure
        return out, is_open

    async def _unstreamed(self, incoming: Incoming, candidate: Candidate) -> Iterator[Event]:
        """A 200 that is no event stream: an error page, an error in disguise, or a provider that does not stream."""
        provider = candidate.provider
        body = await incoming.read_all(MAX_ANSWER_BYTES)
        if not body.lstrip().startswith(b"{"):
            kind = (incoming.header(b"content-type") or b"no content type").decode("latin-1")[:80]
            raise UpstreamMalformed(
                f"Provider {provider.name!r} answered a stream with {kind}, which is neither events nor JSON.",
                provider=provider.name,
            )
        return unfold(provider.dialect.decode_response(body, candidate.traits))

    async def _broken(self, candidate: Candidate, error: TollhouseError, out: bytes) -> None:
        """The provider reported an error inside its stream: its event (already in the client's dialect) is the last."""
        self._failed(candidate, error)
        self._record.outcome = error.code
        await self._until_safe(self._settle(self._used()))
        await self._sink.body(out, more=False)

    # -- the ways out

    def _begin(self, given: tuple[Field, ...], candidate: Candidate) -> Headers:
        """What the head of an answer says.  From here on the client has seen it."""
        record, hold = self._record, self._hold
        lines = _first_lines(given, candidate.label)
        if hold is not None and (quotas := hold.quotas):
            left = self._call.dialect.encode_quotas(quotas, self._gateway.wall())
            if self._flight is None:
                lines += left.written
            else:
                self._flight.leader_headers = left
        if self._receipt.losses and self._gateway.shows_receipts:
            lines += write_lines([(receipts.HEADER.encode(), self._receipt.header().encode("ascii"))])
        if self._is_settled and record.cost_nano is not None and self._flight is None:
            lines += _COST_LINE % record.cost_nano
        self._begun = True
        return HeadLines(lines)

    async def _fail(self, error: TollhouseError) -> None:
        """Ends the call with an error in the client's dialect, as a body or, after the head, as the stream's last event."""
        record, dialect = self._record, self._call.dialect
        record.outcome = error.code
        if not isinstance(error, BadRequest):  # which may quote the request
            record.message = for_the_operator(error)
        if not self._begun:
            record.status = error.http_status
        if self._is_attempting and self._incoming is not None:
            # Our own failure in the middle of a provider's answer: the call has reached it all the same.
            self._may_be_billed = True
            self._note_attempt(error.code, self._incoming.status)
        await self._until_safe(self._settle(self._used_after_failure()))
        if self._flight is not None:
            self._flight.fail(error)
            return
        if self._begun:
            await self._sink.body(dialect.encode_stream_error(error, self._call.id), more=False)
            return
        self._begun = True
        headers = error_headers(error)
        if isinstance(error, RateLimited):
            headers += dialect.encode_quotas(error.quotas, self._gateway.wall())
        await self._sink.head(error.http_status, headers)
        await self._sink.body(dialect.encode_error(error, self._call.id), more=False)

    def _leave(self, why: Ending) -> None:
        """The client is gone, or the gateway is ending the call: nobody to tell, but everything to settle."""
        record = self._record
        record.outcome = why.code
        if not self._begun:
            record.status = why.http_status
        if self._is_attempting:
            self._note_attempt(why.code, None if self._incoming is None else self._incoming.status)
        if self._failure is not None:
            usage = self._used_after_failure()
        else:
            usage = self._used() if self._watch is not None else self._used_unheard()
        self._give_back_when_safe(self._settle(usage))

    def _went_well(self, candidate: Candidate, incoming: Incoming) -> None:
        self._gateway.health.note(candidate.provider.name, None, now_seconds=self._gateway.wall())
        self._note_attempt("ok", incoming.status)

    def _failed(self, candidate: Candidate, error: TollhouseError) -> None:
        status = None if self._incoming is None else self._incoming.status
        if isinstance(error, ProviderError):
            status = status or error.status
        self._note_failure(candidate, error, status)

    def _drop(self) -> None:
        """Forgets a failed attempt's exchange, so that the next starts clean."""
        if self._incoming is not None:
            self._incoming.close()
            self._incoming = None
        self._watch = None
        self._recorder = None

    # -- settlement

    def _used(self) -> Usage:
        """What a broken or abandoned stream used: reported if it got that far, else its output rebuilt, its input guessed."""
        usage = self._watch.usage() if self._watch is not None else Usage()
        if usage.input_tokens is not None:
            return usage
        guess = self._used_unheard()
        return msgspec.structs.replace(
            guess, output_tokens=usage.output_tokens or 0, source="rebuilt" if usage.output_tokens else "estimated"
        )

    def _whole_usage(self, said: Usage, answer_bytes: int) -> Usage:
        """What a whole answer used of which its provider does not say all, as its size suggests.

        An answer of which nothing is known would cost a hard budget nothing, and could be asked for without end.
        """
        guess = self._used_unheard()
        return Usage(
            input_tokens=guess.input_tokens if said.input_tokens is None else said.input_tokens,
            output_tokens=answer_bytes // estimate.BYTES_PER_TOKEN
            if said.output_tokens is None
            else said.output_tokens,
            source="estimated",
        )

    def _used_unheard(self) -> Usage:
        """What a call used that was sent but about which nothing was heard."""
        if not self._has_reached:
            return Usage()
        try:
            return estimate.unreported(self._decoded())
        except TollhouseError:
            # The same-dialect lane forwards what only the provider may be able to read; then sizes are all we know.
            return Usage(
                input_tokens=len(self._call.body) // estimate.BYTES_PER_TOKEN, output_tokens=0, source="estimated"
            )

    def _used_after_failure(self) -> Usage:
        if self._watch is not None and self._begun:
            return self._used()
        return self._used_unheard() if self._may_be_billed else Usage()

    def _settle(self, usage: Usage) -> "asyncio.Future[None] | None":
        """Prices the call and hands its record over, once; see `_hand_over`."""
        if self._is_settled:
            return None
        self._is_settled = True
        candidate = self._candidate
        if self._has_reached and candidate is not None:
            self._record.cost_nano = self._cost(candidate, usage)
            self._gateway.scales.learn(candidate.name, len(self._call.body), usage)
        return self._hand_over(usage)

    def _cost(self, candidate: Candidate, usage: Usage) -> int | None:
        record = self._record
        if usage.is_empty:
            # Refused before any work was done: known to be free.  Answered without a word on usage: not known.
            return None if record.outcome == "ok" else 0
        return total_nano(candidate.price, usage, record.started_at_us)

    def _decoded(self) -> Request:
        if self._request is None:
            request = self._call.decode() if self._asked is None else self._asked.request
            if not request.model:
                request = msgspec.structs.replace(request, model=self._record.requested_model)  # the route's
            if self._gateway.masks is not None:
                masked = mask(self._gateway.masks, request)
                request, self._values = masked.request, masked.values
                if masked.values:
                    self._gateway.masked()
            self._request = request
        return self._request

    def _hides(self) -> bool:
        """Whether the provider must not see the prompt as it is; then it cannot be forwarded byte for byte."""
        return self._gateway.masks is not None and self._decoded() is not None and bool(self._values)


def _is_said(usage: Usage) -> bool:
    return usage.input_tokens is not None and usage.output_tokens is not None


@lru_cache(maxsize=MAX_REMEMBERED_LINES)
def _first_lines(given: tuple[Field, ...], label: bytes) -> bytes:
    """What heads have in common of a kind of answer by one candidate."""
    return write_lines([*given, (b"x-tollhouse-model", label)])


def _is_event_stream(incoming: Incoming) -> bool:
    kind = incoming.header(b"content-type")
    return kind is None or kind.lstrip().lower().startswith(b"text/event-stream")


async def _drain(incoming: Incoming) -> None:
    """Reads the end of the framing, so that the connection can be used again; gives up soon."""
    try:
        async with asyncio.timeout(DRAIN_SECONDS):
            while await incoming.read_some():
                pass
    except (ProviderError, TimeoutError):
        incoming.close()
