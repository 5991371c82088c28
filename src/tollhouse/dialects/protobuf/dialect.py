"""`Dialect` for the typed protocol, in either form, and in one form out of the other."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final, Literal, TypeVar

from tollhouse.chat.model import Request, Response
from tollhouse.chat.opaque import holds_sealed
from tollhouse.chat.receipt import Receipt
from tollhouse.dialects.dialect import MAX_EVENT_BYTES, Glance, ModelCard, Observer, Peek, StreamDecoder, StreamEncoder
from tollhouse.dialects.embedding import EmbeddingDialect
from tollhouse.dialects.head_lines import HeadLines
from tollhouse.dialects.media import in_named_parts
from tollhouse.dialects.protobuf import request as requests
from tollhouse.dialects.protobuf.embedding import TypedEmbeddings
from tollhouse.dialects.protobuf.failure import decode_error, trouble_of
from tollhouse.dialects.protobuf.messages import FAILURE, LISTED, MODELS, RESPONSE
from tollhouse.dialects.protobuf.reports import Failure, Listed, Models, Settlement
from tollhouse.dialects.protobuf.shapes import Fault
from tollhouse.dialects.protobuf.stream import TypedObserver, TypedStreamDecoder, TypedStreamEncoder
from tollhouse.dialects.protobuf.wire import JSON, MessageShape, Wire
from tollhouse.dialects.quotas import openai_headers
from tollhouse.errors import NotInstalled, ProviderRefused, Quota, TollhouseError, UpstreamMalformed
from tollhouse.extras import GRPC, is_installed

_T = TypeVar("_T")
Form = Literal["json", "protobuf"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TypedTraits:
    """How a provider's form of the protocol differs: it does not."""

    home: str = "tollhouse"
    """Opaque values name their own homes here, so this is only a name."""


class Typed:
    """The typed protocol; the methods are documented at `Dialect`.  It has no state."""

    def __init__(self, reads: Wire, writes: Wire) -> None:
        """`reads` is how requests come, `writes` how answers go; for a provider they are the same."""
        self.reads: Final = reads
        self.writes: Final = writes
        self.name: Final = name_of(reads.name, writes.name)
        self.max_event_bytes: Final = MAX_EVENT_BYTES
        self.embeddings: Final[EmbeddingDialect] = TypedEmbeddings(reads, writes)
        """The same forms, of calls for vectors."""

    # -- the client's side

    def peek(self, body: bytes) -> Peek:
        return requests.peek(self.reads, body)

    def may_have_media(self, body: bytes) -> bool:
        # The binary form has no names to look for, and is read in any case: providers are asked in JSON.
        return self.reads is not JSON or in_named_parts(body)

    holds_sealed = staticmethod(holds_sealed)

    def decode_request(self, body: bytes) -> Request:
        return requests.decode_request(self.reads, body)

    def encode_response(self, response: Response, request: Request, receipt: Receipt) -> bytes:  # noqa: ARG002
        return self._written(RESPONSE, response)

    def stream_encoder(self, request: Request, receipt: Receipt) -> StreamEncoder:  # noqa: ARG002
        return TypedStreamEncoder(self.writes)

    def encode_error(self, error: TollhouseError, request_id: str) -> bytes:
        return self.writes.pack(FAILURE, Failure(trouble_of(error, request_id)))

    def encode_stream_error(self, error: TollhouseError, request_id: str) -> bytes:
        return self.writes.say(trouble_of(error, request_id))

    def encode_quotas(self, quotas: Sequence[Quota], now_seconds: float) -> HeadLines:
        return openai_headers(quotas, now_seconds)

    def encode_models(self, models: Sequence[ModelCard]) -> bytes:
        return self.writes.pack(MODELS, Models(tuple(map(listed, models))))

    def encode_model(self, model: ModelCard) -> bytes:
        return self.writes.pack(LISTED, listed(model))

    # -- the provider's side

    def encode_request(self, request: Request, traits: TypedTraits, receipt: Receipt) -> bytes:  # noqa: ARG002
        return requests.encode_request(self.reads, request)

    def patch(
        self,
        peek: Peek,
        model: str,
        traits: TypedTraits,  # noqa: ARG002
        receipt: Receipt,  # noqa: ARG002
        max_output_tokens: int | None = None,
    ) -> bytes:
        return self.reads.patch(peek, model, max_output_tokens)

    def decode_response(self, body: bytes, traits: TypedTraits) -> Response:  # noqa: ARG002
        return self._read(RESPONSE, body)

    def glance(self, body: bytes, traits: TypedTraits) -> Glance:  # noqa: ARG002
        response = self._read(RESPONSE, body)
        return Glance(usage=response.usage, finish=response.choices[0].finish if response.choices else None)

    def stream_decoder(self, traits: TypedTraits) -> StreamDecoder:  # noqa: ARG002
        return TypedStreamDecoder(self.writes)

    def observer(self, peek: Peek, traits: TypedTraits) -> Observer:  # noqa: ARG002
        return TypedObserver(self.writes)

    def decode_error(self, status: int, body: bytes) -> ProviderRefused:
        return decode_error(self.writes, status, body)

    def decode_models(self, body: bytes) -> tuple[str, ...]:
        return tuple(model.id for model in self._read(MODELS, body).models)

    # -- beyond `Dialect`

    def settle(self, shape: MessageShape[_T], body: bytes, settlement: Settlement) -> bytes:
        """A whole answer (or error) with its settlement put in."""
        return self.writes.settled(shape, body, settlement)

    def say_settled(self, settlement: Settlement) -> bytes:
        """The last event of a stream."""
        return self.writes.say(settlement)

    def _written(self, shape: MessageShape[_T], value: _T) -> bytes:
        try:
            return self.writes.pack(shape, value)
        except Fault as fault:
            raise UpstreamMalformed(f"The provider said what the typed protocol has no room for: {fault}") from fault

    def _read(self, shape: MessageShape[_T], body: bytes) -> _T:
        try:
            return self.writes.unpack(shape, body)
        except Fault as fault:
            raise UpstreamMalformed(f"The answer is not of the typed protocol: {fault}") from fault


def name_of(reads: str, writes: str) -> str:
    """The dialect's name, by the names of its forms."""
    return f"tollhouse_{reads}" if reads == writes else f"tollhouse_{reads}_{writes}"


def listed(model: ModelCard) -> Listed:
    """One line of a model list, as it travels."""
    return Listed(
        id=model.id,
        owner=model.owner,
        created=model.created,
        display_name=model.display_name,
        context_tokens=model.context_tokens,
        max_output_tokens=model.max_output_tokens,
    )


def has_protobuf() -> bool:
    """Whether the binary form can be spoken in this environment.  Imports nothing but the name's parents."""
    return is_installed("google.protobuf")


@cache
def wire(form: Form) -> Wire:
    """One form.  Raises `NotInstalled` where the binary one lacks its library."""
    if form == "json":
        return JSON
    if not has_protobuf():
        raise NotInstalled("Protobuf is not installed here.", hint=f"Install the extra: {GRPC.command}.")
    from tollhouse.dialects.protobuf.binary import BINARY  # a library that most environments lack

    return BINARY


def typed(reads: Form = "json", writes: Form | None = None) -> Typed:
    """The dialect that reads requests in one form and writes answers in another (or in the same): one object for each pair.

    Raises `NotInstalled`.
    """
    return _typed(reads, writes or reads)


@cache
def _typed(reads: Form, writes: Form) -> Typed:
    # However they are asked for: who speaks the same dialect is told by the object.
    return Typed(wire(reads), wire(writes))
