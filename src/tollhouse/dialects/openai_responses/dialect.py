"""The dialect as the gateway sees it: each method is a module's function."""

import os
from collections.abc import Callable, Sequence
from typing import Final

from tollhouse.chat.model import Request, Response
from tollhouse.chat.opaque import holds_sealed
from tollhouse.chat.receipt import Receipt
from tollhouse.dialects.dialect import MAX_LARGE_EVENT_BYTES, Glance, ModelCard, Peek
from tollhouse.dialects.head_lines import HeadLines
from tollhouse.dialects.media import in_typed_parts
from tollhouse.dialects.openai_chat import failure as family
from tollhouse.dialects.openai_chat import models as lists
from tollhouse.dialects.openai_responses import failure
from tollhouse.dialects.openai_responses.decode_request import decode_request as read_request
from tollhouse.dialects.openai_responses.decoder import ResponsesDecoder
from tollhouse.dialects.openai_responses.encode_request import encode_request as write_request
from tollhouse.dialects.openai_responses.encoder import ResponsesEncoder
from tollhouse.dialects.openai_responses.encoder import encode_response as write_response
from tollhouse.dialects.openai_responses.observer import ResponsesObserver
from tollhouse.dialects.openai_responses.peek import patch as patch_request
from tollhouse.dialects.openai_responses.peek import peek as peek_at
from tollhouse.dialects.openai_responses.response import decode_response as read_response
from tollhouse.dialects.openai_responses.response import glance as glance_at
from tollhouse.dialects.openai_responses.traits import ResponsesTraits
from tollhouse.dialects.openai_responses.wire import NAME
from tollhouse.dialects.quotas import openai_headers
from tollhouse.errors import ProviderRefused, Quota, TollhouseError


def random_identity() -> str:
    """192 random bits in hexadecimal: an id is all that it takes to ask for a kept response, within its tenant."""
    return os.urandom(24).hex()


class OpenAIResponses:
    """See `tollhouse.dialects.dialect.Dialect`."""

    name: Final = NAME
    max_event_bytes: Final = MAX_LARGE_EVENT_BYTES
    may_have_media = staticmethod(in_typed_parts)
    holds_sealed = staticmethod(holds_sealed)

    def __init__(self, *, new_identity: Callable[[], str]) -> None:
        """`new_identity` makes what tells one answer from all others.

        A provider's own id would not do: some servers number their answers from 1 again after each start.
        """
        self._new_identity = new_identity

    # -- the client's side

    def peek(self, body: bytes) -> Peek:
        """Reads the top level of a request."""
        return peek_at(body)

    def decode_request(self, body: bytes) -> Request:
        """A client's request in full."""
        return read_request(body)

    def encode_response(self, response: Response, request: Request, receipt: Receipt) -> bytes:
        """A whole answer for the client that sent `request`."""
        return write_response(response, request, receipt, self._new_identity())

    def stream_encoder(self, request: Request, receipt: Receipt) -> ResponsesEncoder:
        """An encoder for one answer to the client that sent `request`."""
        return ResponsesEncoder(request, receipt, self._new_identity())

    def encode_error(self, error: TollhouseError, request_id: str) -> bytes:
        """The JSON body for an error."""
        return family.encode_error(error, request_id)

    def encode_stream_error(self, error: TollhouseError, request_id: str) -> bytes:
        """The events that end a broken stream."""
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

    def encode_request(self, request: Request, traits: ResponsesTraits, receipt: Receipt) -> bytes:
        """The request for a provider; notes in `receipt` what it cannot say."""
        return write_request(request, traits, receipt)

    def patch(
        self,
        peek: Peek,
        model: str,
        traits: ResponsesTraits,
        receipt: Receipt,
        max_output_tokens: int | None = None,
    ) -> bytes:
        """The same-dialect lane's request."""
        return patch_request(peek, model, traits, receipt, max_output_tokens)

    def glance(self, body: bytes, traits: ResponsesTraits) -> Glance:  # noqa: ARG002
        """Reads usage and finish of a whole answer that is forwarded."""
        return glance_at(body)

    def decode_response(self, body: bytes, traits: ResponsesTraits) -> Response:
        """A provider's whole answer."""
        return read_response(body, traits)

    def stream_decoder(self, traits: ResponsesTraits) -> ResponsesDecoder:
        """A decoder for one stream."""
        return ResponsesDecoder(home=traits.home)

    def observer(self, peek: Peek, traits: ResponsesTraits) -> ResponsesObserver:  # noqa: ARG002
        """An observer for one stream that is forwarded to the client that sent `peek`."""
        return ResponsesObserver()

    def decode_error(self, status: int, body: bytes) -> ProviderRefused:
        """Whatever came with an error status."""
        return family.decode_error(status, body)

    def decode_models(self, body: bytes) -> tuple[str, ...]:
        """The names in a provider's model list."""
        return lists.decode_models(body)


DIALECT: Final = OpenAIResponses(new_identity=random_identity)
"""OpenAI's own, and every client's."""
ELSEWHERE: Final = OpenAIResponses(new_identity=random_identity)
"""That of other providers.  It is not the client's, so requests are translated: what such a provider encrypts must not pass for
OpenAI's when it comes back, nor OpenAI's go there."""
