"""Anthropic's Messages API, both ways: `DIALECT` speaks it, `AnthropicTraits` says how a provider's form of it differs."""

from collections.abc import Sequence
from typing import Final

from tollhouse.chat.model import Request, Response
from tollhouse.chat.opaque import holds_sealed
from tollhouse.chat.receipt import Receipt
from tollhouse.dialects.anthropic import wire
from tollhouse.dialects.anthropic.count import COUNTING, decode_count, encode_count, encode_count_request
from tollhouse.dialects.anthropic.failure import decode_error, encode_error, encode_stream_error
from tollhouse.dialects.anthropic.lane import glance, patch, peek
from tollhouse.dialects.anthropic.models import decode_models, encode_model, encode_models
from tollhouse.dialects.anthropic.observer import AnthropicObserver
from tollhouse.dialects.anthropic.outgoing import encode_request
from tollhouse.dialects.anthropic.request import decode_request
from tollhouse.dialects.anthropic.response import decode_response, encode_response
from tollhouse.dialects.anthropic.stream_decoder import AnthropicStreamDecoder
from tollhouse.dialects.anthropic.stream_encoder import AnthropicStreamEncoder
from tollhouse.dialects.anthropic.traits import AnthropicTraits
from tollhouse.dialects.dialect import (
    MAX_EVENT_BYTES,
    Dialect,
    Glance,
    ModelCard,
    Observer,
    Peek,
    StreamDecoder,
    StreamEncoder,
)
from tollhouse.dialects.head_lines import HeadLines
from tollhouse.dialects.media import in_parts_of_messages
from tollhouse.dialects.quotas import anthropic_headers
from tollhouse.errors import ProviderRefused, Quota, TollhouseError

__all__ = [
    "COUNTING",
    "DIALECT",
    "Anthropic",
    "AnthropicTraits",
    "decode_count",
    "encode_count",
    "encode_count_request",
]


class Anthropic:
    """`tollhouse.dialects.dialect.Dialect` for the Messages API; the methods are documented there.  It has no state.

    `peek`, `patch` and `decode_request` read the requests of `count_tokens` as well.
    """

    name: Final = wire.NAME
    max_event_bytes: Final = MAX_EVENT_BYTES
    may_have_media = staticmethod(in_parts_of_messages)
    holds_sealed = staticmethod(holds_sealed)

    # -- the client's side

    def peek(self, body: bytes) -> Peek:
        return peek(body)

    def decode_request(self, body: bytes) -> Request:
        return decode_request(body)

    def encode_response(self, response: Response, request: Request, receipt: Receipt) -> bytes:
        return encode_response(response, request, receipt)

    def stream_encoder(self, request: Request, receipt: Receipt) -> StreamEncoder:
        return AnthropicStreamEncoder(request, receipt)

    def encode_error(self, error: TollhouseError, request_id: str) -> bytes:
        return encode_error(error, request_id)

    def encode_stream_error(self, error: TollhouseError, request_id: str) -> bytes:
        return encode_stream_error(error, request_id)

    def encode_quotas(self, quotas: Sequence[Quota], now_seconds: float) -> HeadLines:
        return anthropic_headers(quotas, now_seconds)

    def encode_models(self, models: Sequence[ModelCard]) -> bytes:
        return encode_models(models)

    def encode_model(self, model: ModelCard) -> bytes:
        return encode_model(model)

    # -- the provider's side

    def encode_request(self, request: Request, traits: AnthropicTraits, receipt: Receipt) -> bytes:
        return encode_request(request, traits, receipt)

    def patch(
        self,
        peek: Peek,
        model: str,
        traits: AnthropicTraits,
        receipt: Receipt,
        max_output_tokens: int | None = None,
    ) -> bytes:
        return patch(peek, model, traits, receipt, max_output_tokens)

    def decode_response(self, body: bytes, traits: AnthropicTraits) -> Response:
        return decode_response(body, traits.home)

    def glance(self, body: bytes, traits: AnthropicTraits) -> Glance:  # noqa: ARG002
        return glance(body)

    def stream_decoder(self, traits: AnthropicTraits) -> StreamDecoder:
        return AnthropicStreamDecoder(traits.home)

    def observer(self, peek: Peek, traits: AnthropicTraits) -> Observer:  # noqa: ARG002
        return AnthropicObserver()

    def decode_error(self, status: int, body: bytes) -> ProviderRefused:
        return decode_error(status, body)

    def decode_models(self, body: bytes) -> tuple[str, ...]:
        return decode_models(body)


DIALECT: Final[Dialect[AnthropicTraits]] = Anthropic()
