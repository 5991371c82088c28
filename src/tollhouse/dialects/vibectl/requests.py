"""From an `ExecuteRequest` to the canonical request."""

import re
from collections.abc import Iterable
from typing import Final

import msgspec
from google.protobuf.message import DecodeError

from tollhouse.chat.model import JsonSchema, Message, Request, Text
from tollhouse.errors import BadRequest
from tollhouse.proto.vibectl_pb2 import ExecuteRequest

MAX_REQUEST_ID_CHARACTERS: Final = 256
"""The id is sent back with every message of an answer."""
MAX_SCHEMA_NAME_CHARACTERS: Final = 64
_NOT_IN_A_NAME: Final = re.compile(r"[^A-Za-z0-9_-]+")


class _Titled(msgspec.Struct):
    title: object = None


def read(body: bytes) -> ExecuteRequest:
    """The message.  Raises `BadRequest`."""
    try:
        return ExecuteRequest.FromString(body)
    except DecodeError as error:
        raise BadRequest("The request is not an ExecuteRequest message.") from error


def decode(body: bytes) -> Request:
    """Fragments are pieces of one text each, as blank lines part paragraphs; those of the system stay a system prompt.

    Raises `BadRequest` for an empty prompt, a schema that is no JSON object, and an endless request id.
    """
    sent = read(body)
    if len(sent.request_id) > MAX_REQUEST_ID_CHARACTERS:
        raise BadRequest(f"A request_id has at most {MAX_REQUEST_ID_CHARACTERS} characters.", param="request_id")
    system, prompt = _joined(sent.system_fragments), _joined(sent.user_fragments)
    if not prompt:
        raise BadRequest("The prompt is empty: user_fragments holds no text.", param="user_fragments")
    messages = [Message("user", (Text(prompt),))]
    if system:
        messages.insert(0, Message("system", (Text(system),)))
    return Request(model=sent.model_name, messages=tuple(messages), response_format=_format(sent.response_model_schema))


def _joined(fragments: Iterable[str]) -> str:
    return "\n\n".join(fragment for fragment in fragments if fragment.strip())


def _format(schema: str) -> JsonSchema | None:
    if not schema.strip():
        return None
    raw = schema.encode()
    try:
        titled = msgspec.json.decode(raw, type=_Titled)
    except msgspec.DecodeError as error:
        raise BadRequest(
            f"The response_model_schema is not a JSON schema: {error}.", param="response_model_schema"
        ) from error
    title = titled.title if isinstance(titled.title, str) else ""
    name = _NOT_IN_A_NAME.sub("_", title)[:MAX_SCHEMA_NAME_CHARACTERS].strip("_")
    return JsonSchema(schema=msgspec.Raw(raw), name=name or "answer")
