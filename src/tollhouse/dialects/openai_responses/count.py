"""`POST /v1/responses/input_tokens`: how long a prompt is."""

from typing import Final

import msgspec

from tollhouse.chat.model import Request
from tollhouse.chat.receipt import Receipt
from tollhouse.dialects.counting import CountingDialect
from tollhouse.dialects.dialect import Peek
from tollhouse.dialects.openai_chat.wire import read
from tollhouse.dialects.openai_responses.encode_request import encode_request
from tollhouse.dialects.openai_responses.peek import patch
from tollhouse.dialects.openai_responses.traits import ResponsesTraits

_COUNTED: Final = frozenset(
    {
        "input",
        "instructions",
        "model",
        "parallel_tool_calls",
        "personality",
        "reasoning",
        "text",
        "tool_choice",
        "tools",
        "truncation",
    }
)
"""The fields that the endpoint takes (platform.openai.com, "Get input token counts"); others are about the answer."""


class _Count(msgspec.Struct):
    input_tokens: int
    object: str = "response.input_tokens"


_decoder: Final = msgspec.json.Decoder(_Count)


def decode_count(body: bytes) -> int:
    """The provider's count.  Raises `UpstreamMalformed`."""
    return read(body, _decoder, _Count, "a token count").input_tokens


def encode_count(input_tokens: int) -> bytes:
    """The answer for a client (`openai/openai-responses-aux-json-json-schema-037139`)."""
    return msgspec.json.encode({"object": "response.input_tokens", "input_tokens": input_tokens})


class ResponsesCounting:
    """`tollhouse.dialects.counting.CountingDialect` for the endpoint."""

    def encode_request(self, request: Request, traits: ResponsesTraits, receipt: Receipt) -> bytes:
        """A request as the question how many tokens its prompt has."""
        return _question_of(encode_request(request, traits, receipt))

    def patch(self, peek: Peek, model: str, traits: ResponsesTraits, receipt: Receipt) -> bytes:
        """The client's question with the model's name replaced."""
        return _question_of(patch(peek, model, traits, receipt))

    def decode_count(self, body: bytes) -> int:
        """See `decode_count`."""
        return decode_count(body)


COUNTING: Final[CountingDialect[ResponsesTraits]] = ResponsesCounting()


def _question_of(body: bytes) -> bytes:
    fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    return msgspec.json.encode({name: value for name, value in fields.items() if name in _COUNTED})
