"""`POST /v1/messages/count_tokens`: how long a prompt is, by the provider's own count."""

from typing import Final

import msgspec

from tollhouse.chat.model import Request
from tollhouse.chat.receipt import Receipt
from tollhouse.dialects.anthropic.lane import patch
from tollhouse.dialects.anthropic.outgoing import compose
from tollhouse.dialects.anthropic.traits import AnthropicTraits
from tollhouse.dialects.counting import CountingDialect
from tollhouse.dialects.dialect import Peek
from tollhouse.dialects.fields import UNREADABLE, describe
from tollhouse.errors import UpstreamMalformed

COUNTED: Final = frozenset(
    {
        "cache_control",
        "context_management",
        "mcp_servers",
        "messages",
        "model",
        "output_config",
        "output_format",
        "speed",
        "system",
        "thinking",
        "tool_choice",
        "tools",
    }
)
"""The fields that the endpoint takes (Messages API reference, "Count tokens"); others are about the answer."""


def encode_count_request(request: Request, traits: AnthropicTraits, receipt: Receipt) -> bytes:
    """A request as the question how many tokens its prompt has."""
    fields = compose(request, traits, receipt)
    return msgspec.json.encode({name: value for name, value in fields.items() if name in COUNTED})


class _Count(msgspec.Struct):
    input_tokens: int


def decode_count(body: bytes) -> int:
    """The provider's count.  Raises `UpstreamMalformed`."""
    try:
        return msgspec.json.decode(body, type=_Count).input_tokens
    except UNREADABLE as error:
        raise UpstreamMalformed(f"The token count is not what Anthropic sends: {describe(error)}.") from error


def encode_count(input_tokens: int) -> bytes:
    """The answer for a client."""
    return msgspec.json.encode(_Count(input_tokens))


class AnthropicCounting:
    """`tollhouse.dialects.counting.CountingDialect` for the endpoint."""

    def encode_request(self, request: Request, traits: AnthropicTraits, receipt: Receipt) -> bytes:
        """See `encode_count_request`."""
        return encode_count_request(request, traits, receipt)

    def patch(self, peek: Peek, model: str, traits: AnthropicTraits, receipt: Receipt) -> bytes:
        """The client's question with the model's name replaced."""
        return patch(peek, model, traits, receipt)

    def decode_count(self, body: bytes) -> int:
        """See `decode_count`."""
        return decode_count(body)


COUNTING: Final[CountingDialect[AnthropicTraits]] = AnthropicCounting()
