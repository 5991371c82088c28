"""Requests: a client's, checked for what the rest of the gateway relies on; and ours to a Tollhouse behind this one."""

from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from tollhouse.chat.embedding import EmbeddingRequest
from tollhouse.chat.model import (
    Audio,
    Document,
    Extra,
    Foreign,
    Image,
    Message,
    Part,
    RedactedThinking,
    Refusal,
    Request,
    Role,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolResult,
)
from tollhouse.dialects.dialect import Peek
from tollhouse.dialects.governed import GOVERNED, OTHER_MODELS
from tollhouse.dialects.protobuf.messages import EMBED_REQUEST, NAME, REQUEST
from tollhouse.dialects.protobuf.shapes import Fault, Plain
from tollhouse.dialects.protobuf.wire import JSON, Wire
from tollhouse.errors import BadRequest, Untranslatable

MAX_MODEL_CHARACTERS: Final = 500
MAX_CHOICES: Final = 128
MAX_PARTS: Final = 100_000
"""Of all messages together: a part that says nothing takes two bytes, and much more than that in memory."""
MAX_INPUTS: Final = 2_048
"""Texts in one call for embeddings; OpenAI's own bound."""

MAY_SAY: Final[Mapping[Role, tuple[type[Part], ...]]] = {
    "system": (Text, Foreign),
    "developer": (Text, Foreign),
    "user": (Text, Image, Document, Audio, ToolResult, Foreign),
    "assistant": (Text, Image, Document, Audio, Thinking, RedactedThinking, Refusal, ToolCall, Foreign),
    "tool": (ToolResult,),
}
"""Which parts may stand in whose turn."""

HAS_ITS_OWN_FIELD: Final = frozenset(
    {
        "model",
        "models",
        "messages",
        "system",
        "input",
        "instructions",
        "contents",
        "systemInstruction",
        "system_instruction",
        "tools",
        "functions",
        "n",
        "candidateCount",
        "max_tokens",
        "max_completion_tokens",
        "max_output_tokens",
        "maxOutputTokens",
        "generationConfig",
        "generation_config",
        "stream",
        "service_tier",
        "serviceTier",
        "temperature",
        "top_p",
        "top_k",
        "stop",
        "stop_sequences",
        "seed",
        "logprobs",
        "top_logprobs",
        "thinking",
        "reasoning",
        "reasoning_effort",
        "user",
        "prompt_cache_key",
        # Conversations and prompts that a provider keeps belong to the gateway's own account, and so to all its callers.
        "previous_response_id",
        "conversation",
        "prompt",
        "background",
    }
)
"""What a client may not say in `extra`: it would come to the provider past the field by which the gateway knows what is asked
for, who may ask for it, and what it can cost."""


_TAKEN: Final = frozenset(name.lower() for name in HAS_ITS_OWN_FIELD | GOVERNED | OTHER_MODELS) - {"stream_options"}


def peek(wire: Wire, body: bytes) -> Peek:
    """Reads the top level.  Raises `BadRequest`."""
    try:
        peeked = wire.peek(body)
        _check_top(peeked.model, peeked.max_output_tokens, peeked.choices)
    except Fault as fault:
        raise _bad(fault) from fault
    return peeked


def decode_request(wire: Wire, body: bytes) -> Request:
    """The whole request.  Raises `BadRequest`, naming the field at fault."""
    try:
        if wire is JSON:
            plain = wire.plain(REQUEST, body)
            _check_spelling(plain)
            request = REQUEST.read(plain)
            strange = {name: value for name, value in plain.items() if not REQUEST.knows(name) and value is not None}
            if strange and request.extra is None:
                # Perhaps a newer client's, perhaps a slip of the pen: the receipt says that they went nowhere.
                fields = {name: msgspec.Raw(msgspec.json.encode(value)) for name, value in strange.items()}
                request = msgspec.structs.replace(request, extra=Extra(NAME, fields))
        else:
            request = wire.unpack(REQUEST, body)
        return _checked(request)
    except Fault as fault:
        raise _bad(fault) from fault


def encode_request(wire: Wire, request: Request) -> bytes:
    """A request to a Tollhouse behind this one.  Raises `Untranslatable`."""
    try:
        return wire.pack(REQUEST, request)
    except Fault as fault:
        raise Untranslatable(f"The typed protocol cannot say this: {fault}") from fault


def decode_embedding_request(wire: Wire, body: bytes) -> EmbeddingRequest:
    """A call for embeddings.  Raises `BadRequest`."""
    try:
        request = wire.unpack(EMBED_REQUEST, body)
        _check_model(request.model)
        if not 1 <= len(request.inputs) <= MAX_INPUTS:
            raise Fault(f"must hold 1 to {MAX_INPUTS} inputs.").under("inputs")
        for index, given in enumerate(request.inputs):
            if not given:
                raise Fault("must not be empty.").under(index).under("inputs")
        if request.dimensions is not None and request.dimensions < 1:
            raise Fault("must be at least 1.").under("dimensions")
        _check_extra(request.extra)
    except Fault as fault:
        raise _bad(fault) from fault
    return request


def _bad(fault: Fault) -> BadRequest:
    what = str(fault) if fault.path else f"The request {fault.what}"
    return BadRequest(what, param=fault.path or None)


def _checked(request: Request) -> Request:
    _check_top(request.model, request.max_output_tokens, request.choices)
    if not request.messages:
        raise Fault("must hold at least one message.").under("messages")
    if sum(len(message.parts) for message in request.messages) > MAX_PARTS:
        raise Fault(f"must hold at most {MAX_PARTS:,} parts in all.").under("messages")
    for index, message in enumerate(request.messages):
        _check_message(message, index)
    _check_tools(request)
    _check_counts(request)
    _check_extra(request.extra)
    return msgspec.structs.replace(request, messages=tuple(_one_result_each(request.messages)), include_usage=True)


def _check_top(model: str, max_output_tokens: int | None, choices: int) -> None:
    _check_model(model)
    if max_output_tokens is not None and max_output_tokens < 1:
        raise Fault("must be at least 1.").under("max_output_tokens")
    if not 1 <= choices <= MAX_CHOICES:
        raise Fault(f"must be between 1 and {MAX_CHOICES}.").under("choices")


def _check_model(model: str) -> None:
    if len(model) > MAX_MODEL_CHARACTERS:
        raise Fault("must be the name of a model.").under("model")


def _check_message(message: Message, index: int) -> None:
    may_say = MAY_SAY[message.role]
    for number, part in enumerate(message.parts):
        if not isinstance(part, may_say):
            fault = Fault(f"is a {type(part).__name__}, which a turn of {message.role.upper()} cannot hold.")
            raise fault.under(number).under("parts").under(index).under("messages")
        if isinstance(part, ToolCall) and not (part.id and part.name):
            raise Fault("must have an id and a name.").under(number).under("parts").under(index).under("messages")
        if isinstance(part, ToolResult) and not part.call_id:
            raise Fault("must name its call_id.").under(number).under("parts").under(index).under("messages")
    if not message.parts and message.role == "tool":
        raise Fault("must hold a tool_result.").under("parts").under(index).under("messages")


def _check_tools(request: Request) -> None:
    for index, tool in enumerate(request.tools):
        if isinstance(tool, Tool) and not tool.name:
            raise Fault("is missing.").under("name").under("function").under(index).under("tools")
    choice = request.tool_choice
    if choice is not None and choice.mode == "named" and not choice.name:
        raise Fault("must name the tool of NAMED.").under("name").under("tool_choice")


def _check_spelling(plain: Mapping[str, Plain]) -> None:
    """Other dialects' messages have `content`; to pass over it as over any unknown name would send an empty turn."""
    messages = plain.get("messages")
    for index, message in enumerate(messages if isinstance(messages, list) else ()):
        if isinstance(message, dict) and "content" in message and not message.get("parts"):
            fault = Fault('is of another protocol; here a message has `parts`: [{"text": {"text": "…"}}].')
            raise fault.under("content").under(index).under("messages")


def _check_counts(request: Request) -> None:
    for name, count in (("top_k", request.top_k), ("top_logprobs", request.top_logprobs)):
        if count is not None and count < 0:
            raise Fault("must not be negative.").under(name)
    reasoning = request.reasoning
    if reasoning is not None and reasoning.budget_tokens is not None and reasoning.budget_tokens < 0:
        raise Fault("must not be negative.").under("budget_tokens").under("reasoning")


def _check_extra(extra: Extra | None) -> None:
    if extra is None:
        return
    for name in extra.fields:
        # In any case, as some servers read it; see `dialects.governed`.
        if name.lower() in _TAKEN and extra.dialect != NAME:
            raise (
                Fault("cannot be said here: the gateway has to know of it.").under(name).under("fields").under("extra")
            )


def _one_result_each(messages: tuple[Message, ...]) -> Iterator[Message]:
    """The turns of tools with one result each, as the canonical form has them."""
    for message in messages:
        if message.role != "tool" or len(message.parts) == 1:
            yield message
        else:
            for part in message.parts:
                yield msgspec.structs.replace(message, parts=(part,))
