"""A client's `contents` as messages.

Gemini's function calls need no ids: a response belongs to the call of its name, in order.  Clients leave ids out, in the call,
in the response or in both, or make up their own.  Other dialects go by ids alone, so here each call gets one that stays the
same as the conversation grows, and each response the id of its call.

A streamed answer comes back in the pieces in which it came; here it is one message, and its words are one part.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from tollhouse.chat.model import Extra, Message, Part, Role, Text, Thinking, ToolCall, ToolResult
from tollhouse.dialects.fields import TEXT, WireFault
from tollhouse.dialects.gemini.parts import RESPONSE_NAME, read_parts
from tollhouse.dialects.gemini.wire import Fields

_ROLES: Final[dict[str, Role]] = {"user": "user", "model": "assistant", "function": "user", "tool": "user"}


def read_contents(fields: Fields) -> tuple[Message, ...]:
    """The turns.  Raises `WireFault`."""
    turns = fields.items("contents")
    if not turns:
        raise WireFault("contents", "This must be given: at least one content.")
    reader = _Reader()
    messages: list[Message] = []
    for index, (path, raw) in enumerate(turns):
        message = reader.read(Fields(raw, path), index)
        last = messages[-1] if messages else None
        if last is not None and last.role == message.role == "assistant" and message.extra is None:
            messages[-1] = Message("assistant", (*last.parts, *message.parts), extra=last.extra)
        else:
            messages.append(message)
    return tuple(
        Message(message.role, _in_one_piece(message.parts), extra=message.extra)
        if message.role == "assistant"
        else message
        for message in messages
    )


def _in_one_piece(parts: Sequence[Part]) -> tuple[Part, ...]:
    """A model's words as they were before they were streamed: clients keep a part, or a content, for each chunk.

    A signature stands where the words end that it is over, often beside no more words.
    """
    whole: list[Part] = []
    for part in parts:
        match (whole[-1] if whole else None), part:
            case Text(begun, signature=None, extra=None), Text(rest, signature=signature, extra=None):
                whole[-1] = Text(begun + rest, signature=signature)
            case Thinking(begun, None, None), Thinking(rest, signature, None):
                whole[-1] = Thinking(begun + rest, signature)
            case before, Text("", signature=None, extra=None) if before is not None:
                pass  # with which Google's streams end
            case _:
                whole.append(part)
    return tuple(whole)


def read_system(fields: Fields) -> tuple[Message, ...]:
    """`systemInstruction`, where it says something."""
    content = fields.object("systemInstruction")
    if content is None:
        return ()
    parts = tuple(part for part in read_parts(content) if getattr(part, "text", None) != "")
    return (Message("system", parts),) if parts else ()


class _Reader:
    """Reads turn by turn, with the calls of the last model's turn that wait for their responses."""

    __slots__ = ("_is_models", "_waiting")

    def __init__(self) -> None:
        self._is_models = False
        """Whether the turn before was the model's."""
        self._waiting: list[ToolCall] = []

    def read(self, turn: Fields, index: int) -> Message:
        word = turn.take("role", TEXT) or "user"
        role = _ROLES.get(word)
        if role is None:
            raise WireFault(turn.at("role"), "Please use a valid role: user, model.")
        parts = read_parts(turn)
        if role == "assistant":
            named = _with_ids(parts, index)
            if not self._is_models:
                self._waiting = []
            self._waiting += (part for part in named if isinstance(part, ToolCall))
        else:
            named = tuple(
                self._matched(part, index, number) if isinstance(part, ToolResult) else part
                for number, part in enumerate(parts)
            )
        self._is_models = role == "assistant"
        return Message(role, named, extra=turn.rest())

    def _matched(self, result: ToolResult, index: int, number: int) -> ToolResult:
        name, extra = _function(result)
        waiting = self._waiting
        found = next((call for call in waiting if result.call_id and call.id == result.call_id), None)
        found = found or next((call for call in waiting if call.name == name), None)
        if found is None and not result.call_id:
            found = waiting[0] if waiting else None
        if found is not None:
            waiting.remove(found)
            identity = found.id
        else:
            identity = result.call_id or f"call_{index}_{number}"
        return msgspec.structs.replace(result, call_id=identity, extra=extra)


def _with_ids(parts: Sequence[Part], index: int) -> tuple[Part, ...]:
    return tuple(
        msgspec.structs.replace(part, id=f"call_{index}_{number}")
        if isinstance(part, ToolCall) and not part.id
        else part
        for number, part in enumerate(parts)
    )


def _function(result: ToolResult) -> tuple[str, Extra | None]:
    """The name of the function that a result just read is from, and what else is kept of it."""
    extra = result.extra
    if extra is None:
        return "", None
    left = {name: raw for name, raw in extra.fields.items() if name != RESPONSE_NAME}
    raw = extra.fields.get(RESPONSE_NAME)
    name = "" if raw is None else msgspec.json.decode(raw, type=str)
    return name, Extra(extra.dialect, left) if left else None
