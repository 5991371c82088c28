"""Reads usage and finish of a whole answer that is forwarded untouched."""

from typing import Final

import msgspec

from tollhouse.dialects.dialect import Glance
from tollhouse.dialects.openai_chat.counts import read_raw_usage
from tollhouse.dialects.openai_chat.failure import failed, words_of
from tollhouse.dialects.openai_chat.finish import finish_reason
from tollhouse.dialects.openai_chat.traits import OpenAIChatTraits
from tollhouse.dialects.openai_chat.wire import Json, read
from tollhouse.errors import UpstreamMalformed

_NULL: Final = msgspec.Raw(b"null")


class _Choice(msgspec.Struct, gc=False):
    index: int = 0
    finish_reason: str | None = None


class _Answer(msgspec.Struct, gc=False):
    choices: list[_Choice] | None = None
    usage: msgspec.Raw = _NULL
    error: Json = None


_decoder: Final = msgspec.json.Decoder(_Answer)
_json: Final = msgspec.json.Decoder()


def glance(body: bytes, traits: OpenAIChatTraits) -> Glance:
    """Usage, finish, and the error in disguise if it is one.  Raises `UpstreamMalformed`."""
    answer = read(body, _decoder, _Answer, "an answer")
    usage = read_raw_usage(answer.usage, reasoning_outside_output=traits.reasoning_outside_output)
    if answer.error is not None:
        return Glance(usage, None, failed(_json.decode(body)))
    if not answer.choices:
        if answer.choices is None and words_of(_json.decode(body)) is not None:
            return Glance(usage, None, failed(_json.decode(body)))
        raise UpstreamMalformed("The provider's answer has no `choices`.")
    choices = answer.choices
    first = choices[0] if len(choices) == 1 else min(choices, key=lambda choice: choice.index)
    return Glance(usage, finish_reason(first.finish_reason) if first.finish_reason else None)
