"""Model lists: `{"models": [{"name": "models/…", "displayName", "inputTokenLimit", …}]}`."""

from collections.abc import Sequence
from typing import Final

import msgspec

from tollhouse.dialects.dialect import ModelCard
from tollhouse.dialects.fields import UNREADABLE, describe
from tollhouse.dialects.gemini.lane import resource_name
from tollhouse.dialects.gemini.wire import Block
from tollhouse.errors import UpstreamMalformed

_METHODS: Final = ("generateContent", "countTokens")


def encode_models(models: Sequence[ModelCard]) -> bytes:
    """The whole list as one page."""
    return msgspec.json.encode({"models": [_fields(model) for model in models]})


def encode_model(model: ModelCard) -> bytes:
    """One model."""
    return msgspec.json.encode(_fields(model))


def _fields(model: ModelCard) -> Block:
    fields: Block = {
        "name": resource_name(model.id),
        "version": "001",
        "displayName": model.display_name or model.id,
        "supportedGenerationMethods": _METHODS,
    }
    if model.context_tokens is not None:
        fields["inputTokenLimit"] = model.context_tokens
    if model.max_output_tokens is not None:
        fields["outputTokenLimit"] = model.max_output_tokens
    return fields


class _Listed(msgspec.Struct):
    name: str


class _List(msgspec.Struct):
    models: list[_Listed] = []


def decode_models(body: bytes) -> tuple[str, ...]:
    """The names in a list, in its order, without their collection.  Raises `UpstreamMalformed`."""
    try:
        return tuple(model.name.removeprefix("models/") for model in msgspec.json.decode(body, type=_List).models)
    except UNREADABLE as error:
        raise UpstreamMalformed(f"The model list is not what Google sends: {describe(error)}.") from error
