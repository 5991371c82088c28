"""`POST /v1/responses/input_tokens`: how long a prompt is."""

from typing import Final

import msgspec

from tollhouse.dialects.openai_chat.wire import read

COUNTED: Final = frozenset(
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


def question_of(patched: bytes) -> bytes:
    """A request that was patched for a provider as the question how long its prompt is."""
    fields = msgspec.json.decode(patched, type=dict[str, msgspec.Raw])
    return msgspec.json.encode({name: value for name, value in fields.items() if name in COUNTED})
