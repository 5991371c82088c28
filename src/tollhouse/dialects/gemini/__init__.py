"""Google's Gemini API, both ways: `DIALECT` speaks it, `GeminiTraits` says how a model's form of it differs."""

from collections.abc import Sequence
from typing import Final

from tollhouse.chat.model import Request, Response
from tollhouse.chat.receipt import Receipt
from tollhouse.dialects.dialect import (
    MAX_LARGE_EVENT_BYTES,
    Dialect,
    Glance,
    ModelCard,
    Observer,
    Peek,
    StreamDecoder,
    StreamEncoder,
)
from tollhouse.dialects.gemini import wire
from tollhouse.dialects.gemini.count import COUNTING, encode_count
from tollhouse.dialects.gemini.failure import decode_error, encode_error, encode_stream_error
from tollhouse.dialects.gemini.lane import glance, patch, peek
from tollhouse.dialects.gemini.models import decode_models, encode_model, encode_models
from tollhouse.dialects.gemini.observer import GeminiObserver
from tollhouse.dialects.gemini.outgoing import encode_request
from tollhouse.dialects.gemini.request import decode_request
from tollhouse.dialects.gemini.response import decode_response, encode_response
from tollhouse.dialects.gemini.signatures import holds_sealed
from tollhouse.dialects.gemini.stream_decoder import GeminiStreamDecoder
from tollhouse.dialects.gemini.stream_encoder import GeminiStreamEncoder
from tollhouse.dialects.gemini.traits import GeminiTraits
from tollhouse.dialects.head_lines import NO_LINES, HeadLines
from tollhouse.dialects.media import in_fields
from tollhouse.errors import ProviderRefused, Quota, TollhouseError

__all__ = ["COUNTING", "DIALECT", "Gemini", "GeminiTraits", "encode_count"]


class Gemini:
    """`tollhouse.dialects.dialect.Dialect` for the Gemini API; the methods are documented there.  It has no state.

    A request's path names its model and says whether to stream; see `tollhouse.gateway.call.Call`.  Its streams are server-sent
    events on both sides; `tollhouse.dialects.gemini.array` makes the other form of them.
    """

    name: Final = wire.NAME
    max_event_bytes: Final = MAX_LARGE_EVENT_BYTES
    may_have_media = staticmethod(in_fields)
    holds_sealed = staticmethod(holds_sealed)

    # -- the client's side

    def peek(self, body: bytes) -> Peek:
        return peek(body)

    def decode_request(self, body: bytes) -> Request:
        return decode_request(body)

    def encode_response(self, response: Response, request: Request, receipt: Receipt) -> bytes:
        return encode_response(response, request, receipt)

    def stream_encoder(self, request: Request, receipt: Receipt) -> StreamEncoder:
        return GeminiStreamEncoder(request, receipt)

    def encode_error(self, error: TollhouseError, request_id: str) -> bytes:
        return encode_error(error, request_id)

    def encode_stream_error(self, error: TollhouseError, request_id: str) -> bytes:
        return encode_stream_error(error, request_id)

    def encode_quotas(self, quotas: Sequence[Quota], now_seconds: float) -> HeadLines:  # noqa: ARG002
        return NO_LINES  # Google sends no such headers

    def encode_models(self, models: Sequence[ModelCard]) -> bytes:
        return encode_models(models)

    def encode_model(self, model: ModelCard) -> bytes:
        return encode_model(model)

    # -- the provider's side

    def encode_request(self, request: Request, traits: GeminiTraits, receipt: Receipt) -> bytes:
        return encode_request(request, traits, receipt)

    def patch(
        self,
        peek: Peek,
        model: str,
        traits: GeminiTraits,
        receipt: Receipt,
        max_output_tokens: int | None = None,
    ) -> bytes:
        return patch(peek, model, traits, receipt, max_output_tokens)

    def decode_response(self, body: bytes, traits: GeminiTraits) -> Response:
        return decode_response(body, traits.home)

    def glance(self, body: bytes, traits: GeminiTraits) -> Glance:  # noqa: ARG002
        return glance(body)

    def stream_decoder(self, traits: GeminiTraits) -> StreamDecoder:
        return GeminiStreamDecoder(traits.home)

    def observer(self, peek: Peek, traits: GeminiTraits) -> Observer:  # noqa: ARG002
        return GeminiObserver()

    def decode_error(self, status: int, body: bytes) -> ProviderRefused:
        return decode_error(status, body)

    def decode_models(self, body: bytes) -> tuple[str, ...]:
        return decode_models(body)


DIALECT: Final[Dialect[GeminiTraits]] = Gemini()
