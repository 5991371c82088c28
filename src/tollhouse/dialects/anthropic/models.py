"""Model lists: `{"data": [{"type": "model", "id", "display_name", "created_at"}], "has_more", "first_id", "last_id"}`."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

import msgspec

from tollhouse.dialects.dialect import ModelCard
from tollhouse.dialects.fields import UNREADABLE, describe
from tollhouse.errors import UpstreamMalformed

_LAST_SECOND: Final = 253_402_300_799
"""The end of the year 9999, where dates end."""


def encode_models(models: Sequence[ModelCard]) -> bytes:
    """The whole list as one page."""
    return msgspec.json.encode(
        {
            "data": [_fields(model) for model in models],
            "has_more": False,
            "first_id": models[0].id if models else None,
            "last_id": models[-1].id if models else None,
        }
    )


def encode_model(model: ModelCard) -> bytes:
    """One model."""
    return msgspec.json.encode(_fields(model))


def _fields(model: ModelCard) -> dict[str, object]:
    # The reference says of `created_at`: an epoch value if the date is unknown.
    created = datetime.fromtimestamp(min(max(model.created, 0), _LAST_SECOND), UTC)
    fields: dict[str, object] = {
        "type": "model",
        "id": model.id,
        "display_name": model.display_name or model.id,
        "created_at": created.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    if model.context_tokens is not None:
        fields["max_input_tokens"] = model.context_tokens
    if model.max_output_tokens is not None:
        fields["max_tokens"] = model.max_output_tokens
    return fields


class _Listed(msgspec.Struct):
    id: str


class _List(msgspec.Struct):
    data: list[_Listed]


def decode_models(body: bytes) -> tuple[str, ...]:
    """The names in a list, in its order.  Raises `UpstreamMalformed`."""
    try:
        return tuple(model.id for model in msgspec.json.decode(body, type=_List).data)
    except UNREADABLE as error:
        raise UpstreamMalformed(f"The model list is not what Anthropic sends: {describe(error)}.") from error
