"""What a dialect of token counts is: how a provider is asked how long a prompt is, without being asked for an answer.

Few providers can be asked, so this stands beside `tollhouse.dialects.dialect.Dialect`.
"""

from typing import Protocol, TypeVar

from tollhouse.chat.model import Request
from tollhouse.chat.receipt import Receipt
from tollhouse.dialects.dialect import Peek

TraitsT_contra = TypeVar("TraitsT_contra", contravariant=True)


class CountingDialect(Protocol[TraitsT_contra]):
    """One wire format, on the provider's side."""

    def encode_request(self, request: Request, traits: TraitsT_contra, receipt: Receipt) -> bytes:
        """The question how long the prompt of `request` is; `request.model` is the provider's name."""
        ...

    def patch(self, peek: Peek, model: str, traits: TraitsT_contra, receipt: Receipt) -> bytes:
        """The same question of a client of the same dialect, for another model."""
        ...

    def decode_count(self, body: bytes) -> int:
        """The provider's count.  Raises `UpstreamMalformed`."""
        ...
