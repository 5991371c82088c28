"""The same-dialect lane of a request: read the top level, change what must change, keep the rest as it came."""

from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from tollhouse.chat.call_ids import Messages, refitted
from tollhouse.chat.receipt import Receipt
from tollhouse.dialects.dialect import Peek
from tollhouse.dialects.fields import read_object
from tollhouse.dialects.governed import check_governed
from tollhouse.dialects.openai_chat.tool_choice import leave_out_free_tools
from tollhouse.dialects.openai_chat.traits import OpenAIChatTraits
from tollhouse.errors import BadRequest

MAX_CHOICES: Final = 128
"""OpenAI's own bound on `n`."""
MAX_MODEL_CHARACTERS: Final = 500

_object: Final = msgspec.json.Decoder(dict[str, msgspec.Raw] | None)
_string: Final[msgspec.json.Decoder[str | None]] = msgspec.json.Decoder(str | None)
_boolean: Final = msgspec.json.Decoder(bool | None)
_integer: Final[msgspec.json.Decoder[int | None]] = msgspec.json.Decoder(int | None)
_TRUE: Final = msgspec.Raw(b"true")
_LIMITS: Final = ("max_completion_tokens", "max_tokens")
_READ: Final = frozenset({"stream", "stream_options", "n", *_LIMITS})
"""What is read beside the model; most requests that want no stream have none of it."""
_USAGE_ONLY: Final = msgspec.Raw(b'{"include_usage":true}')


def peek(body: bytes) -> Peek:
    """Reads the top level of a request.  Raises `BadRequest`."""
    fields = read_fields(body)
    if _READ.isdisjoint(fields):
        return Peek(fields, model_of(fields), stream=False, max_output_tokens=None, include_usage=False, choices=1)
    return Peek(
        fields=fields,
        model=model_of(fields),
        stream=flag_of(fields, "stream"),
        max_output_tokens=_output_limit(fields),
        include_usage=_include_usage(fields),
        choices=_choices(fields),
    )


def read_fields(body: bytes, needs: str = "`model` and `messages`") -> dict[str, msgspec.Raw]:
    """The top level of a JSON object, each value raw.  Raises `BadRequest` for what is not one.

    `needs` names the fields without which there is no request.
    """
    fields = read_object(body, needs)
    check_governed(fields)
    return fields


def patch(
    peek: Peek, model: str, traits: OpenAIChatTraits, receipt: Receipt, max_output_tokens: int | None = None
) -> bytes:
    """The client's fields with the model's name replaced and usage asked for, the rest byte for byte.

    Ids of calls that were made elsewhere are put in the provider's form.  What the model is known to refuse is
    left out and noted in `receipt`.  `max_output_tokens` replaces the client's own.
    """
    fields = dict(peek.fields)
    fields["model"] = msgspec.Raw(msgspec.json.encode(model))
    if max_output_tokens is not None:
        given = [name for name in _LIMITS if not is_null(fields.get(name))]
        for name in _LIMITS:
            fields.pop(name, None)
        for name in given or _LIMITS[-1:]:
            fields[name] = msgspec.Raw(b"%d" % max_output_tokens)
    messages = fields.get("messages")
    if messages is not None:
        fields["messages"] = refitted(messages, traits.call_ids, b'"tool_call_id"', _refit)
    if peek.stream and traits.asks_usage and not peek.include_usage:
        fields["stream_options"] = _asking_usage(fields.get("stream_options"))
    if not traits.tool_choice_free:
        leave_out_free_tools(fields, receipt)
    for name in traits.drop_fields:
        if not is_null(fields.pop(name, None)):
            receipt.dropped(name, "this model refuses it")
    for name, other in traits.rename_fields.items():
        if name in fields:
            value = fields.pop(name)
            fields.setdefault(other, value)
    return msgspec.json.encode(fields)


_calls: Final = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])


def _refit(messages: Messages, fit: Callable[[msgspec.Raw], msgspec.Raw]) -> None:
    for message in messages:
        if not is_null(message.get("tool_call_id")):
            message["tool_call_id"] = fit(message["tool_call_id"])
        if is_null(message.get("tool_calls")):
            continue
        calls = _calls.decode(message["tool_calls"])
        for call in calls:
            if not is_null(call.get("id")):
                call["id"] = fit(call["id"])
        message["tool_calls"] = msgspec.Raw(msgspec.json.encode(calls))


def is_null(raw: msgspec.Raw | None) -> bool:
    """Whether a field is absent or an explicit null; clients send both for the same thing."""
    return raw is None or bytes(raw) == b"null"


def _asking_usage(options: msgspec.Raw | None) -> msgspec.Raw:
    if options is None:
        return _USAGE_ONLY
    fields = _object.decode(options) or {}
    fields["include_usage"] = _TRUE
    return msgspec.Raw(msgspec.json.encode(fields))


def model_of(fields: Mapping[str, msgspec.Raw]) -> str:
    """The model's name; empty where there is none.  Raises `BadRequest`."""
    raw = fields.get("model")
    if raw is None:
        return ""
    try:
        model = _string.decode(raw) or ""
    except msgspec.DecodeError as error:
        raise BadRequest("`model` must be a string.", param="model") from error
    if len(model) > MAX_MODEL_CHARACTERS:
        raise BadRequest("`model` must be the name of a model.", param="model")
    return model


def flag_of(fields: Mapping[str, msgspec.Raw], name: str) -> bool:
    """A boolean field; false when absent or null.  Raises `BadRequest`."""
    raw = fields.get(name)
    if raw is None:
        return False
    try:
        return bool(_boolean.decode(raw))
    except msgspec.DecodeError as error:
        raise BadRequest(f"`{name}` must be true or false.", param=name) from error


def whole_number_of(fields: Mapping[str, msgspec.Raw], name: str) -> int | None:
    """A whole number; `None` when absent or null.  Raises `BadRequest`."""
    raw = fields.get(name)
    if raw is None:
        return None
    try:
        return _integer.decode(raw)
    except msgspec.DecodeError as error:
        raise BadRequest(f"`{name}` must be a whole number.", param=name) from error


def _output_limit(fields: Mapping[str, msgspec.Raw]) -> int | None:
    """The larger one, if both are given: a server that does not know the newer name goes by the older."""
    most: int | None = None
    for name in _LIMITS:
        if name not in fields or (limit := whole_number_of(fields, name)) is None:
            continue
        if limit < 1:
            raise BadRequest(f"`{name}` must be at least 1.", param=name)
        most = limit if most is None else max(most, limit)
    return most


def _choices(fields: Mapping[str, msgspec.Raw]) -> int:
    choices = whole_number_of(fields, "n")
    if choices is None:
        return 1
    if not 1 <= choices <= MAX_CHOICES:
        raise BadRequest(f"`n` must be between 1 and {MAX_CHOICES}.", param="n")
    return choices


def _include_usage(fields: Mapping[str, msgspec.Raw]) -> bool:
    raw = fields.get("stream_options")
    if raw is None:
        return False
    try:
        options = _object.decode(raw) or {}
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest("`stream_options` must be an object.", param="stream_options") from error
    value = options.get("include_usage")
    if value is None:
        return False
    try:
        return bool(_boolean.decode(value))
    except msgspec.DecodeError as error:
        param = "stream_options.include_usage"
        raise BadRequest(f"`{param}` must be true or false.", param=param) from error
