"""The JSON of the Responses API as far as we read it, and the names that both sides share.

The dialect is of OpenAI's family: errors, model lists, token counts and log-probabilities are spelled as in Chat Completions,
and are read and written by `openai_chat`.
"""

import hashlib
from typing import Final

import msgspec

from tollhouse.dialects.openai_chat.wire import Json

NAME: Final = "openai_responses"
HOME: Final = "openai"
"""The provider whose clients know this dialect: what they send unsealed is taken for its own."""

ENCRYPTED: Final = "reasoning.encrypted_content"
LOGPROBS: Final = "message.output_text.logprobs"
"""Words in `include`: for reasoning that another turn can go on with wherever it is kept, and for log-probabilities."""

MAX_NAME_CHARACTERS: Final = 64
"""OpenAI's bound on the name of a function."""


class StreamEvent(msgspec.Struct, gc=False):
    """The data of one SSE event, of whatever type."""

    type: str = ""
    output_index: int | None = None
    content_index: int | None = None
    summary_index: int | None = None
    delta: Json = None
    text: Json = None
    refusal: Json = None
    arguments: Json = None
    input: Json = None
    logprobs: list[Json] | None = None
    item: Json = None
    part: Json = None
    annotation: Json = None
    response: Json = None
    error: Json = None
    code: Json = None
    message: Json = None
    param: Json = None


def flat_name(namespace: str | None, name: str) -> str:
    """One name for a function that stands in a namespace, for dialects without them; at most 64 characters.

    A name that would be longer is cut, with a digest of the whole in place of what is missing.
    """
    if not namespace:
        return name
    flat = f"{namespace}__{name}"
    if len(flat) <= MAX_NAME_CHARACTERS:
        return flat
    return f"{flat[: MAX_NAME_CHARACTERS - 9]}_{hashlib.sha256(flat.encode()).hexdigest()[:8]}"
