"""What a dialect of embeddings is: pure functions between one wire format's bytes and the canonical form.

Not every dialect of conversations has one, and what they have in common is little, so this stands beside
`tollhouse.dialects.dialect.Dialect`.  Errors and rate limits are said in the conversation dialect of the same family.
"""

from collections.abc import Mapping
from typing import Protocol

import msgspec

from tollhouse.chat.embedding import EmbeddingRequest, Embeddings
from tollhouse.chat.receipt import Receipt
from tollhouse.chat.usage import Usage


class EmbeddingPeek(msgspec.Struct, frozen=True):
    """A request of which only the top level was read."""

    fields: Mapping[str, msgspec.Raw]
    model: str


class EmbeddingDialect(Protocol):
    """One wire format."""

    # -- the client's side

    def peek(self, body: bytes) -> EmbeddingPeek:
        """Reads the top level of a request.  Raises `BadRequest`."""
        ...

    def decode_request(self, body: bytes) -> EmbeddingRequest:
        """Raises `BadRequest`, naming the field at fault in `param`."""
        ...

    def encode_response(self, answer: Embeddings, request: EmbeddingRequest, receipt: Receipt) -> bytes:
        """The answer for the client that sent `request`."""
        ...

    # -- the provider's side

    def encode_request(self, request: EmbeddingRequest, receipt: Receipt) -> bytes:
        """The request for a provider; notes in `receipt` what it cannot say.  `request.model` is the provider's name."""
        ...

    def patch(self, peek: EmbeddingPeek, model: str) -> bytes:
        """The same-dialect lane: the client's fields with the model's name replaced, the rest verbatim."""
        ...

    def decode_response(self, body: bytes) -> Embeddings:
        """Raises `UpstreamMalformed`."""
        ...

    def glance(self, body: bytes) -> Usage:
        """Reads the usage of an answer that is forwarded.  Raises `UpstreamMalformed` for what is no answer."""
        ...
