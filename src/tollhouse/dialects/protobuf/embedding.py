"""`EmbeddingDialect` for the typed protocol."""

from typing import Final

import msgspec

from tollhouse.chat.embedding import EmbeddingRequest, Embeddings
from tollhouse.chat.receipt import Receipt
from tollhouse.chat.usage import Usage
from tollhouse.dialects.embedding import EmbeddingPeek
from tollhouse.dialects.protobuf.messages import EMBED_REQUEST, EMBEDDINGS
from tollhouse.dialects.protobuf.request import decode_embedding_request
from tollhouse.dialects.protobuf.shapes import Fault
from tollhouse.dialects.protobuf.wire import Wire
from tollhouse.errors import Untranslatable, UpstreamMalformed


class TypedEmbeddingPeek(EmbeddingPeek, frozen=True):
    """A request that was read in full: there is little more in it than its top level."""

    request: EmbeddingRequest


class TypedEmbeddings:
    """The methods are documented at `EmbeddingDialect`.  It has no state."""

    def __init__(self, reads: Wire, writes: Wire) -> None:
        """`reads` is how requests come, `writes` how answers go; for a provider they are the same."""
        self._reads: Final = reads
        self._writes: Final = writes

    def peek(self, body: bytes) -> EmbeddingPeek:
        request = decode_embedding_request(self._reads, body)
        return TypedEmbeddingPeek(fields={}, model=request.model, request=request)

    def decode_request(self, body: bytes) -> EmbeddingRequest:
        return decode_embedding_request(self._reads, body)

    def encode_response(self, answer: Embeddings, request: EmbeddingRequest, receipt: Receipt) -> bytes:  # noqa: ARG002
        try:
            return self._writes.pack(EMBEDDINGS, answer)
        except Fault as fault:
            raise UpstreamMalformed(f"The provider said what the typed protocol has no room for: {fault}") from fault

    def encode_request(self, request: EmbeddingRequest, receipt: Receipt) -> bytes:  # noqa: ARG002
        try:
            return self._reads.pack(EMBED_REQUEST, request)
        except Fault as fault:
            raise Untranslatable(f"The typed protocol cannot say this: {fault}") from fault

    def patch(self, peek: EmbeddingPeek, model: str) -> bytes:
        if not isinstance(peek, TypedEmbeddingPeek):
            raise TypeError("a typed request is patched by what was peeked at in it")
        return self.encode_request(msgspec.structs.replace(peek.request, model=model), Receipt())

    def decode_response(self, body: bytes) -> Embeddings:
        try:
            return self._writes.unpack(EMBEDDINGS, body)
        except Fault as fault:
            raise UpstreamMalformed(f"The answer is not of the typed protocol: {fault}") from fault

    def glance(self, body: bytes) -> Usage:
        return self.decode_response(body).usage
