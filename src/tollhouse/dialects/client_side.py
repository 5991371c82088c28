"""For dialects that only clients speak: the half of `Dialect` that no provider will ever ask for."""

from typing import Any, Final, NoReturn

from tollhouse.chat.model import Request, Response
from tollhouse.chat.opaque import holds_sealed
from tollhouse.chat.receipt import Receipt
from tollhouse.dialects.dialect import MAX_EVENT_BYTES, Glance, Observer, Peek, StreamDecoder
from tollhouse.dialects.media import in_typed_parts
from tollhouse.errors import ProviderRefused


class ClientSide:
    """A dialect that no provider speaks.  What is called on a provider's dialect alone raises `NotImplementedError`."""

    name = ""
    max_event_bytes: Final = MAX_EVENT_BYTES
    may_have_media = staticmethod(in_typed_parts)
    holds_sealed = staticmethod(holds_sealed)

    def encode_request(self, request: Request, traits: Any, receipt: Receipt) -> bytes:
        """Never called."""
        del request, traits, receipt
        self._refuse()

    def patch(
        self, peek: Peek, model: str, traits: Any, receipt: Receipt, max_output_tokens: int | None = None
    ) -> bytes:
        """Never called."""
        del peek, model, traits, receipt, max_output_tokens
        self._refuse()

    def decode_response(self, body: bytes, traits: Any) -> Response:
        """Never called."""
        del body, traits
        self._refuse()

    def glance(self, body: bytes, traits: Any) -> Glance:
        """Never called."""
        del body, traits
        self._refuse()

    def stream_decoder(self, traits: Any) -> StreamDecoder:
        """Never called."""
        del traits
        self._refuse()

    def observer(self, peek: Peek, traits: Any) -> Observer:
        """Never called."""
        del peek, traits
        self._refuse()

    def decode_error(self, status: int, body: bytes) -> ProviderRefused:
        """Never called."""
        del status, body
        self._refuse()

    def decode_models(self, body: bytes) -> tuple[str, ...]:
        """Never called."""
        del body
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise NotImplementedError(f"no provider speaks {self.name}")
