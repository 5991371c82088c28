"""The same-dialect lane of a request: read the top level, change what must change, keep the rest as it came."""

from collections.abc import Mapping
from typing import Final

import msgspec

from tollhouse.chat.receipt import Receipt
from tollhouse.dialects.dialect import Peek
from tollhouse.dialects.openai_chat.peek import flag_of, is_null, model_of, read_fields, whole_number_of
from tollhouse.dialects.openai_responses.traits import ResponsesTraits
from tollhouse.errors import BadRequest

NEEDS: Final = "`model` and `input`"
AT_ONCE: Final = "answered at once: the gateway runs nothing in the background"
_LIMIT: Final = "max_output_tokens"
_TRUE: Final = msgspec.Raw(b"true")


def peek(body: bytes) -> Peek:
    """Reads the top level of a request.  Raises `BadRequest`."""
    fields = read_fields(body, NEEDS)
    limit = whole_number_of(fields, _LIMIT)
    if limit is not None and limit < 1:
        raise BadRequest(f"`{_LIMIT}` must be at least 1.", param=_LIMIT)
    return Peek(
        fields=fields,
        model=model_of(fields),
        stream=flag_of(fields, "stream"),
        max_output_tokens=limit,
        include_usage=True,
        choices=1,
    )


def patch(
    peek: Peek, model: str, traits: ResponsesTraits, receipt: Receipt, max_output_tokens: int | None = None
) -> bytes:
    """The client's fields with the model's name replaced, the rest byte for byte.

    What an earlier answer's id stands for is in `input` already (`history`), and such ids mean something to the gateway
    alone.  What the model is known to refuse is left out and noted in `receipt`.
    """
    refuse_kept_elsewhere(peek.fields)
    fields = dict(peek.fields)
    fields["model"] = msgspec.Raw(msgspec.json.encode(model))
    fields.pop("previous_response_id", None)
    if fields.pop("background", None) == _TRUE:
        receipt.changed("background", AT_ONCE)
    if max_output_tokens is not None:
        fields[_LIMIT] = msgspec.Raw(b"%d" % max_output_tokens)
    for name in traits.drop_fields:
        if not is_null(fields.pop(name, None)):
            receipt.dropped(name, "this model refuses it")
    return msgspec.json.encode(fields)


def refuse_kept_elsewhere(fields: Mapping[str, msgspec.Raw]) -> None:
    """Raises `BadRequest` for a conversation that a provider keeps under an id.

    The provider's account is the gateway's, so such an id would open one tenant's conversation to another.
    """
    if not is_null(fields.get("conversation")):
        raise BadRequest(
            "`conversation` names a conversation that is kept at a provider; this gateway passes no such ids on.",
            hint="Go on with `previous_response_id`, or send the conversation in `input`.",
            param="conversation",
        )
