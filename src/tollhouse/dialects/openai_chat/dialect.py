"""The dialect as the gateway sees it: each method is a module's function."""

from collections.abc import Sequence
from typing import Final

from tollhouse.chat.model import Request, Response
from tollhouse.chat.opaque import holds_sealed
from tollhouse.chat.receipt import Receipt
from tollhouse.dialects.dialect import MAX_EVENT_BYTES, Glance, ModelCard, Peek
from tollhouse.dialects.head_lines import HeadLines
from tollhouse.dialects.media import in_parts_of_messages
from tollhouse.dialects.openai_chat import failure
from tollhouse.dialects.openai_chat import models as lists
from tollhouse.dialects.openai_chat.decode_request import decode_request as read_request
from tollhouse.dialects.openai_chat.decoder import OpenAIChatDecoder
from tollhouse.dialects.openai_chat.encode_request import encode_request as write_request
from tollhouse.dialects.openai_chat.encoder import OpenAIChatEncoder
from tollhouse.dialects.openai_chat.glance import glance as glance_at
from tollhouse.dialects.openai_chat.observer import OpenAIChatObserver
from tollhouse.dialects.openai_chat.peek import patch as patch_request
from tollhouse.dialects.openai_chat.peek import peek as peek_at
from tollhouse.dialects.openai_chat.response import decode_response as read_response
from tollhouse.dialects.openai_chat.response import encode_response as write_response
from tollhouse.dialects.openai_chat.traits import OpenAIChatTraits
from tollhouse.dialects.openai_chat.wire import NAME
from tollhouse.dialects.quotas import openai_headers
from tollhouse.errors import ProviderRefused, Quota, TollhouseError


class OpenAIChat:
    """See `tollhouse.dialects.dialect.Dialect`."""

    name: Final = NAME
    max_event_bytes: Final = MAX_EVENT_BYTES
    may_have_media = staticmethod(in_parts_of_messages)
    holds_sealed = staticmethod(holds_sealed)

    # -- the client's side

    def peek(self, body: bytes) -> Peek:
        """Reads the top level of a request."""
        return peek_at(body)

    def decode_request(self, body: bytes) -> Request:
        """A client's request in full."""
        return read_request(body)

    def encode_response(self, response: Response, request: Request, receipt: Receipt) -> bytes:
        """A whole answer for the client that sent `request`."""
        return write_response(response, request, receipt)

    def stream_encoder(self, request: Request, receipt: Receipt) -> OpenAIChatEncoder:
        """An encoder for one answer to the client that sent `request`."""
        return OpenAIChatEncoder(request, receipt)

    def encode_error(self, error: TollhouseError, request_id: str) -> bytes:
        """The JSON body for an error."""
        return failure.encode_error(error, request_id)

    def encode_stream_error(self, error: TollhouseError, request_id: str) -> bytes:
        """The error event that ends a broken stream."""
        return failure.encode_stream_error(error, request_id)

    def encode_quotas(self, quotas: Sequence[Quota], now_seconds: float) -> HeadLines:
        """The `x-ratelimit-…` headers."""
        return openai_headers(quotas, now_seconds)

    def encode_models(self, models: Sequence[ModelCard]) -> bytes:
        """A model list."""
        return lists.encode_models(models)

    def encode_model(self, model: ModelCard) -> bytes:
        """One model."""
        return lists.encode_model(model)

    # -- the provider's side

    def encode_request(self, request: Request, traits: OpenAIChatTraits, receipt: Receipt) -> bytes:
        """The request for a provider; notes in `receipt` what it cannot say."""
        return write_request(request, traits, receipt)

    def patch(
        self,
        peek: Peek,
        model: str,
        traits: OpenAIChatTraits,
        receipt: Receipt,
        max_output_tokens: int | None = None,
    ) -> bytes:
        """The same-dialect lane's request."""
        return patch_request(peek, model, traits, receipt, max_output_tokens)

    def glance(self, body: bytes, traits: OpenAIChatTraits) -> Glance:
        """Reads usage and finish of a whole answer that is forwarded."""
        return glance_at(body, traits)

    def decode_response(self, body: bytes, traits: OpenAIChatTraits) -> Response:
        """A provider's whole answer."""
        return read_response(body, traits)

    def stream_decoder(self, traits: OpenAIChatTraits) -> OpenAIChatDecoder:
        """A decoder for one stream."""
        return OpenAIChatDecoder(reasoning_outside_output=traits.reasoning_outside_output, home=traits.home)

    def observer(self, peek: Peek, traits: OpenAIChatTraits) -> OpenAIChatObserver:
        """An observer for one stream that is forwarded to the client that sent `peek`."""
        return OpenAIChatObserver(
            strips_usage=traits.asks_usage and not peek.include_usage,
            reasoning_outside_output=traits.reasoning_outside_output,
        )

    def decode_error(self, status: int, body: bytes) -> ProviderRefused:
        """Whatever came with an error status."""
        return failure.decode_error(status, body)

    def decode_models(self, body: bytes) -> tuple[str, ...]:
        """The names in a provider's model list."""
        return lists.decode_models(body)


DIALECT: Final = OpenAIChat()
"""The one instance: it has no state."""
