"""The service that the tool vibectl calls: one prompt in, text out.

An answer is encoded by the dialect without what belongs to the call; here it gets the client's request id, who answered, and
the metrics of the finished record.  Errors are messages of the answer, with status OK, for the client shows them as sentences
and everything else as a dump of the RPC.  Only who may not call at all gets a status: UNAUTHENTICATED or PERMISSION_DENIED.
"""

from collections.abc import Iterable
from functools import partial
from typing import Final

from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto
from google.protobuf.message import DecodeError

from tollhouse.dialects.delimited import Splitter
from tollhouse.dialects.vibectl import DIALECT
from tollhouse.dialects.vibectl.failure import described as in_band
from tollhouse.dialects.vibectl.failure import listed
from tollhouse.errors import ModelNotAllowed, ModelNotFound, TollhouseError
from tollhouse.gateway.call import Call, Headers
from tollhouse.gateway.routing import Candidate, Router, allowed
from tollhouse.ledger.record import CallRecord
from tollhouse.policy.identity import Principal
from tollhouse.proto import vibectl_pb2 as wire
from tollhouse.server.grpc.credentials import Context
from tollhouse.server.grpc.door import Caller, RpcDoor, metadata_of, send
from tollhouse.server.grpc.service import Service, Streamed, Whole, described

DOOR: Final = "vibectl"
NAME: Final = "vibectl.llm_proxy.VibectlLLMProxy"
SERVER_NAME: Final = "tollhouse"
MAX_INT32: Final = 2**31 - 1
MAX_ECHO_CHARACTERS: Final = 256


def service(door: RpcDoor) -> Service:
    """The three methods."""
    return Service(
        name=NAME,
        methods={
            "Execute": Whole(partial(_execute, door)),
            "StreamExecute": Streamed(partial(_stream_execute, door)),
            "GetServerInfo": Whole(partial(_server_info, door)),
        },
        files=(_on_the_wire(),),
    )


# -- answers


async def _execute(door: RpcDoor, caller: Caller, request: bytes, context: Context) -> bytes:
    answer = _Answer(caller, request)
    try:
        await door.answer(caller, answer.call(request, stream=False), answer)
    except TollhouseError as error:
        answer.fail(error)
    context.set_trailing_metadata(metadata_of(caller, answer.headers))
    return answer.whole()


async def _stream_execute(door: RpcDoor, caller: Caller, request: bytes, context: Context) -> None:
    answer = _Stream(caller, request, context)
    try:
        await door.answer(caller, answer.call(request, stream=True), answer)
    except TollhouseError as error:
        await answer.fail(error)
    context.set_trailing_metadata(metadata_of(caller, answer.headers))


class _Reply:
    """What both kinds of answer have in common; a part of the gateway's `Sink`."""

    def __init__(self, caller: Caller, request: bytes) -> None:
        self.headers: Headers = ()
        self._caller = caller
        self._status = 0
        self._record: CallRecord | None = None
        self._request_id = _request_id(request) or caller.id

    def call(self, request: bytes, *, stream: bool) -> Call:
        """The call for the gateway."""
        return self._caller.call(DOOR, DIALECT, request, stream=stream, settled=self._settled)

    async def head(self, status: int, headers: Headers) -> None:
        """Keeps what the answer says of itself; it goes into the trailing metadata."""
        self._status = status
        self.headers = headers

    def _settled(self, record: CallRecord) -> None:
        self._record = record

    def _error(self, error: TollhouseError) -> wire.ExecuteError:
        return self._completed(in_band(error, self._caller.id))

    def _completed(self, error: wire.ExecuteError) -> wire.ExecuteError:
        """The error with what its reader needs and only the door knows: the models that this caller may use, the request."""
        details = error.error_details
        if error.error_code in _ABOUT_MODELS:
            names = [card.id for card in self._caller.serving.gateway.router.cards(self._caller.principal.access)]
            available = f"Available: {listed(names)}." if names else "No model is available to this caller."
            details = f"{available} {details}".strip()
        if self._caller.id not in details:
            details = f"{details} Request {self._caller.id}.".strip()
        error.error_details = details
        return error

    def _model(self) -> str:
        record = self._record
        return "" if record is None or not record.provider else f"{record.provider}/{record.model}"

    def _metrics(self) -> wire.ExecutionMetrics:
        return metrics_of(self._record) if self._record is not None else wire.ExecutionMetrics()


class _Answer(_Reply):
    """A whole answer, gathered until its record is there."""

    def __init__(self, caller: Caller, request: bytes) -> None:
        super().__init__(caller, request)
        self._pieces: list[bytes] = []
        self._failure: wire.ExecuteError | None = None

    async def body(self, data: bytes, *, more: bool) -> None:
        """Takes a piece."""
        del more
        self._pieces.append(data)

    def fail(self, error: TollhouseError) -> None:
        """The gateway ended the call: whatever there was of an answer is given up."""
        self._failure = self._error(error)

    def whole(self) -> bytes:
        """The message for the client."""
        body = b"".join(self._pieces)
        if self._failure is None and self._status != 200:
            self._failure = self._completed(wire.ExecuteError.FromString(body))
        if self._failure is not None:
            response = wire.ExecuteResponse(error=self._failure)
        else:
            response = wire.ExecuteResponse.FromString(body)
            response.success.actual_model_used = self._model()
            response.success.metrics.CopyFrom(self._metrics())
        response.request_id = self._request_id
        return response.SerializeToString()


class _Stream(_Reply):
    """A streamed answer: text chunks, `complete`, `final_metrics`; or an error after whatever was sent."""

    def __init__(self, caller: Caller, request: bytes, context: Context) -> None:
        super().__init__(caller, request)
        self._context = context
        self._splitter = Splitter()
        self._failure = b""
        # The id is the first field of every message, so its bytes before those of the rest are the whole message's.
        self._prefix = wire.StreamChunk(request_id=self._request_id).SerializeToString()

    async def body(self, data: bytes, *, more: bool) -> None:
        """Sends a piece's messages; the last piece's are completed by what the record says."""
        if self._status != 200:
            self._failure += data
            if not more:
                await self._send(wire.StreamChunk(error=self._completed(wire.ExecuteError.FromString(self._failure))))
            return
        messages = self._splitter.feed(data)
        for message in messages[:-1] if not more else messages:
            await send(self._context, self._prefix + message)
        if not more:
            await self._end(messages[-1] if messages else b"")

    async def fail(self, error: TollhouseError) -> None:
        """The gateway ended the call."""
        await self._send(wire.StreamChunk(error=self._error(error)))

    async def _end(self, message: bytes) -> None:
        last = wire.StreamChunk.FromString(message)
        match last.WhichOneof("chunk_type"):
            case "complete":
                last.complete.actual_model_used = self._model()
                await self._send(last)
                await self._send(wire.StreamChunk(final_metrics=self._metrics()))
            case "error":
                self._completed(last.error)
                await self._send(last)
            case _:
                await self._send(last)

    async def _send(self, chunk: wire.StreamChunk) -> None:
        await send(self._context, self._prefix + chunk.SerializeToString())


_ABOUT_MODELS: Final = frozenset(
    {ModelNotFound.code.upper(), ModelNotAllowed.code.upper(), "NO_MODEL"},
)


def metrics_of(record: CallRecord) -> wire.ExecutionMetrics:
    """What a finished call used.  What nobody knows is left out: no price is not a price of nothing."""
    usage = record.usage
    metrics = wire.ExecutionMetrics(
        duration_ms=record.duration_us // 1000,
        retry_count=max(0, len(record.attempts) - 1),
        timestamp=(record.started_at_us + record.duration_us) // 1_000_000,
    )
    if usage.input_tokens is not None:
        metrics.input_tokens = min(usage.input_tokens, MAX_INT32)
    if usage.output_tokens is not None:
        metrics.output_tokens = min(usage.output_tokens, MAX_INT32)
    if usage.input_tokens is not None and usage.output_tokens is not None:
        metrics.total_tokens = min(usage.input_tokens + usage.output_tokens, MAX_INT32)
    if record.cost_nano is not None:
        metrics.cost_usd = record.cost_nano / 1e9
    return metrics


def _request_id(request: bytes) -> str:
    """The client's own id; empty where there is none, or none that is sent back."""
    try:
        sent = wire.ExecuteRequest.FromString(request).request_id
    except DecodeError:
        return ""
    return sent if len(sent) <= MAX_ECHO_CHARACTERS else ""


# -- the server


async def _server_info(door: RpcDoor, caller: Caller, request: bytes, context: Context) -> bytes:
    del request, context  # an empty message
    serving, principal = caller.serving, caller.principal
    listing = _Listing(serving.gateway.router, principal)
    rates = serving.rates_of(principal)
    return wire.GetServerInfoResponse(
        available_models=listing.models(),
        default_model=listing.default(),
        limits=wire.ServerLimits(
            max_requests_per_minute=_bounded(rates.requests_per_minute),
            # The tool shows a limit that is not said as 0, which would mean that nothing is let in.
            max_concurrent_requests=_bounded(rates.concurrent or serving.max_concurrent_calls),
            max_input_length=_bounded(serving.max_body_bytes),
            request_timeout_seconds=_bounded(int(serving.gateway.retry.total)),
        ),
        server_version=door.version,
        model_aliases=listing.aliases(),
        server_name=SERVER_NAME,
    ).SerializeToString()


class _Listing:
    """The models that a caller may use.

    The client refuses a name that is not listed and sends what the listed name stands for.  So the gateway's aliases are listed
    as models, whose routes would be lost otherwise, and as aliases too, for whoever wants to know what is behind them.
    """

    def __init__(self, router: Router, principal: Principal) -> None:
        self._router = router
        self._first: dict[str, Candidate] = {}
        """By listed name, who answers first."""
        for card in router.cards(principal.access):
            self._first[card.id] = allowed(router.resolve(card.id), principal).candidates[0]

    def models(self) -> Iterable[wire.ModelInfo]:
        """One for each name."""
        aliases = self.aliases()
        for name, candidate in self._first.items():
            provider = candidate.provider
            yield wire.ModelInfo(
                model_id=name,
                display_name=name if name == candidate.name else f"{name} ({candidate.name})",
                provider=provider.name,
                supports_streaming=True,
                max_context_length=_bounded(provider.model(candidate.model).context_tokens),
                aliases=[alias for alias, target in aliases.items() if target == name],
            )

    def aliases(self) -> dict[str, str]:
        """Other names, each with a listed one: the gateway's aliases, and names of models that one provider alone has."""
        names = {
            name: candidate.name
            for name, candidate in self._first.items()
            if name != candidate.name and candidate.name in self._first
        }
        owners: dict[str, set[str]] = {}
        for candidate in self._first.values():
            owners.setdefault(candidate.model, set()).add(candidate.name)
        for model, targets in owners.items():
            if len(targets) == 1 and model not in self._first and targets <= self._first.keys():
                names[model] = next(iter(targets))
        return names

    def default(self) -> str:
        """What a request without a model gets; empty where there is none, or none for this caller."""
        name = self._router.default_name()
        return name if name in self._first else ""


def _bounded(number: int | None) -> int | None:
    return None if number is None else min(number, MAX_INT32)


def _on_the_wire() -> FileDescriptorProto:
    """The description under the names that stand in the path, so that tools can find the service that they call."""
    file = described(wire.DESCRIPTOR)
    ours = f".{file.package}."
    file.package, _, name = NAME.rpartition(".")
    file.name = "llm_proxy.proto"
    for message in _all_messages(file.message_type):
        for field in (field for field in message.field if field.type_name):
            field.type_name = field.type_name.replace(ours, f".{file.package}.")
    for one in file.service:
        one.name = name
        for method in one.method:
            method.input_type = method.input_type.replace(ours, f".{file.package}.")
            method.output_type = method.output_type.replace(ours, f".{file.package}.")
    return file


def _all_messages(messages: Iterable[DescriptorProto]) -> Iterable[DescriptorProto]:
    for message in messages:
        yield message
        yield from _all_messages(message.nested_type)
